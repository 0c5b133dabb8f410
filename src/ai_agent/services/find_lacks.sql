-- The most important thing that the service needs and the database lacks; no row when nothing is missing.
--
-- :needed, JSON: [{"name": table, "ours": boolean, "columns": [...], "privileges": [...]}, ...], where each
-- privilege is {"privilege": name, "columns": [...], or null for the whole table}; :function, the signature
-- of the function that stores turns. Names are looked up on the search path, like those in other statements.
WITH needed AS (
    SELECT name, ours, columns, privileges, to_regclass(quote_ident(name)) AS oid, ordinality AS place
    FROM ROWS FROM (
        json_to_recordset(CAST(:needed AS json)) AS (name text, ours boolean, columns json, privileges json)
    ) WITH ORDINALITY
), columns AS (
    SELECT needed.name AS table_name, needed.ours, needed.oid, needed.place, wanted.name, attnum
    FROM needed
    CROSS JOIN json_array_elements_text(columns) WITH ORDINALITY AS wanted (name, place)
    LEFT JOIN pg_attribute ON attrelid = needed.oid AND attname = wanted.name AND attnum > 0 AND NOT attisdropped
    WHERE needed.oid IS NOT NULL
), function AS (
    SELECT to_regprocedure(CAST(:function AS text)) AS oid
), hidden AS (
    -- The schemas that do have a missing table. Outside of the search_path, one of our names counts only with our
    -- revision beside it, because another program may use the same name.
    SELECT needed.name AS table_name, nspname, pg_namespace.oid, path.entry IS NOT NULL AS is_on_path
    FROM needed
    JOIN pg_class AS found ON relname = needed.name AND relkind IN ('r', 'p', 'v', 'm', 'f')
    JOIN pg_namespace ON pg_namespace.oid = relnamespace
    LEFT JOIN unnest(string_to_array(current_setting('search_path'), ',')) AS path (entry)
        ON nspname = replace(btrim(entry, ' "'), '$user', current_user)
    WHERE needed.oid IS NULL
        AND (
            NOT ours
            OR path.entry IS NOT NULL
            OR EXISTS (
                SELECT FROM pg_class
                WHERE relname = 'ai_agent_alembic_version' AND relnamespace = found.relnamespace
            )
        )
), lacks AS (
    SELECT 1 AS rank, 0 AS place, 'encoding' AS kind, current_setting('server_encoding') AS name, '' AS privilege
    WHERE current_setting('server_encoding') <> 'UTF8'
    UNION ALL
    SELECT 1, 2, 'schema', current_setting('search_path'), ''
    WHERE current_schema() IS NULL
    UNION ALL
    SELECT 1, 1, 'privilege', 'SCHEMA ' || quote_ident(nspname), 'USAGE'
    FROM hidden
    WHERE is_on_path AND NOT has_schema_privilege(oid, 'USAGE')
    UNION ALL
    SELECT 2, place, CASE WHEN ours THEN 'table' ELSE 'better-auth table' END, name, ''
    FROM needed
    WHERE oid IS NULL
    UNION ALL
    SELECT 3, place, CASE WHEN ours THEN 'column' ELSE 'better-auth column' END, table_name || '.' || name, ''
    FROM columns
    WHERE attnum IS NULL
    UNION ALL
    SELECT 4, 0, 'function', split_part(:function, '(', 1), ''
    FROM function
    WHERE oid IS NULL
    UNION ALL
    SELECT 5, place, 'privilege', quote_ident(needed.name), wanted.privilege
    FROM needed
    CROSS JOIN json_to_recordset(privileges) AS wanted (privilege text, columns json)
    WHERE oid IS NOT NULL
        AND CASE
            WHEN wanted.columns IS NULL THEN NOT has_table_privilege(oid, wanted.privilege)
            ELSE EXISTS (
                SELECT FROM json_array_elements_text(wanted.columns) AS used (name)
                JOIN columns ON columns.oid = needed.oid AND columns.name = used.name AND attnum IS NOT NULL
                WHERE NOT has_column_privilege(needed.oid, attnum, wanted.privilege)
            )
        END
    UNION ALL
    SELECT 5, place, 'privilege', 'SEQUENCE ' || sequence, 'USAGE'
    FROM columns
    CROSS JOIN LATERAL pg_get_serial_sequence(CAST(oid AS text), name) AS sequence
    WHERE ours AND attnum IS NOT NULL AND NOT has_sequence_privilege(sequence, 'USAGE, UPDATE')
    UNION ALL
    SELECT 5, 99, 'privilege', 'FUNCTION ' || CAST(CAST(oid AS regprocedure) AS text), 'EXECUTE'
    FROM function
    WHERE oid IS NOT NULL AND NOT has_function_privilege(oid, 'EXECUTE')
    UNION ALL
    SELECT 6, place, 'policy', name, ''
    FROM needed
    WHERE oid IS NOT NULL AND row_security_active(oid)
    UNION ALL
    SELECT 6, place, 'filling', quote_ident(needed.name) || '.' || quote_ident(attname), ''
    FROM needed
    CROSS JOIN json_to_recordset(privileges) AS wanted (privilege text, columns jsonb)
    JOIN pg_attribute ON attrelid = needed.oid AND attnum > 0 AND NOT attisdropped
    WHERE wanted.privilege = 'INSERT'
        AND NOT wanted.columns ? CAST(attname AS text)
        AND attnotnull
        AND NOT atthasdef
        AND attidentity = ''
        AND NOT EXISTS (
            SELECT FROM pg_trigger
            WHERE tgrelid = needed.oid AND tgtype & 7 = 7 -- For each row, before an INSERT.
        )
    UNION ALL
    SELECT 6, place, 'index', name, ''
    FROM needed
    JOIN pg_class ON pg_class.oid = needed.oid AND relkind IN ('r', 'p')
    WHERE name = 'idempotency_keys'
        AND NOT EXISTS (
            -- ON CONFLICT takes no other kind of index.
            SELECT FROM pg_index
            WHERE indrelid = needed.oid AND indisunique AND indimmediate AND indisvalid AND indpred IS NULL
                AND indnkeyatts = 2
                AND ARRAY(
                    SELECT CAST(attname AS text)
                    FROM pg_attribute
                    WHERE attrelid = needed.oid AND attnum IN (indkey[0], indkey[1])
                    ORDER BY attname
                ) = ARRAY['key', 'user_id']
        )
    UNION ALL
    SELECT 6, 99, 'replica', '', ''
    WHERE current_setting('session_replication_role') = 'replica'
    UNION ALL
    SELECT 7, 0, CASE WHEN pg_is_in_recovery() THEN 'standby' ELSE 'read-only' END, '', ''
    WHERE current_setting('transaction_read_only') = 'on'
    UNION ALL
    SELECT 7, 1, 'isolation', current_setting('transaction_isolation'), ''
    WHERE current_setting('transaction_isolation') <> 'read committed'
    UNION ALL
    SELECT 7, 2, 'foreign key', name, ''
    FROM needed
    JOIN pg_class ON pg_class.oid = needed.oid AND relkind IN ('r', 'p')
    WHERE name = 'messages'
        AND NOT EXISTS (
            SELECT FROM pg_constraint
            WHERE conrelid = needed.oid AND contype = 'f' AND confdeltype = 'c'
                AND confrelid = to_regclass('conversations')
        )
)
SELECT
    kind,
    name,
    privilege,
    quote_ident(current_user) AS role,
    to_regclass('session') IS NOT NULL AS has_session,
    CASE
        WHEN kind IN ('table', 'better-auth table') THEN (
            SELECT quote_ident(min(nspname)) FROM hidden WHERE table_name = name AND NOT is_on_path
        )
    END AS elsewhere
FROM lacks
ORDER BY rank, place, name
LIMIT 1
