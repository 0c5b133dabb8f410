-- A conversation with its newest messages before a position, oldest first, as the JSON that the API sends.
--
-- :user_id, the owner; :conversation_id; :limit, the most messages; :max_bytes, the most JSON of more than one message;
-- :at and :id, the position before which the messages stand. There is no row when the conversation is not the user's.
--
-- The length of JSON is known only once it is made: a control character takes six bytes in it, and the number 1e300
-- takes 301. The query reads batches of 3, 6, 12 and then 20 messages until the page is full: small ones first, so that
-- a page of long messages makes little JSON in vain. It reads one message more than the page shows, to learn whether
-- more follow.
WITH RECURSIVE batch AS (
    SELECT
        CAST(:at AS timestamptz) AS last_at,
        CAST(:id AS bigint) AS last_id,
        CAST(0 AS bigint) AS before,
        CAST(0 AS bigint) AS amount,
        CAST(0 AS bigint) AS bytes,
        CAST(NULL AS text[]) AS messages,
        CAST(NULL AS timestamptz[]) AS times,
        CAST(NULL AS bigint[]) AS ids
    UNION ALL
    SELECT
        next.times[next.amount],
        next.ids[next.amount],
        batch.before + batch.amount,
        next.amount,
        batch.bytes + next.bytes,
        next.messages,
        next.times,
        next.ids
    FROM batch
    CROSS JOIN LATERAL (
        SELECT
            count(*) AS amount,
            sum(octet_length(message) + 2) AS bytes,
            array_agg(message) AS messages,
            array_agg(created_at) AS times,
            array_agg(id) AS ids
        FROM (
            SELECT
                created_at,
                id,
                row_to_json((SELECT shown FROM (SELECT id, role, content, metadata, created_at) AS shown))::text
                    AS message
            FROM messages
            WHERE conversation_id = :conversation_id AND user_id = :user_id
                AND (created_at, id) < (batch.last_at, batch.last_id)
            ORDER BY created_at DESC, id DESC
            LIMIT least(20, greatest(3, 2 * batch.amount), :limit + 1 - batch.before - batch.amount)
        ) AS newest
    ) AS next
    WHERE batch.before + batch.amount <= :limit AND batch.bytes <= :max_bytes AND next.amount > 0
), page AS (
    SELECT
        created_at,
        id,
        message,
        before + place AS position,
        before + place = 1
            OR before + place <= :limit
            AND sum(octet_length(message) + 2) OVER (ORDER BY before, place) <= :max_bytes AS fits
    FROM batch
    CROSS JOIN ROWS FROM (unnest(messages), unnest(times), unnest(ids))
        WITH ORDINALITY AS read (message, created_at, id, place)
)
SELECT
    convert_to(
        row_to_json((SELECT shown FROM (SELECT id, title, created_at, updated_at, messages) AS shown))::text,
        'UTF8'
    ) AS body,
    to_json(last_at) #>> '{}' AS last_at,
    last_id,
    more
FROM conversations
CROSS JOIN LATERAL (
    SELECT
        CAST(
            '[' || coalesce(string_agg(message, ', ' ORDER BY position DESC) FILTER (WHERE fits), '') || ']' AS json
        ) AS messages,
        (array_agg(created_at ORDER BY position DESC) FILTER (WHERE fits))[1] AS last_at,
        (array_agg(id ORDER BY position DESC) FILTER (WHERE fits))[1] AS last_id,
        count(*) FILTER (WHERE NOT fits) > 0 AS more
    FROM page
) AS history
WHERE id = :conversation_id AND user_id = :user_id
