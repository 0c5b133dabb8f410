-- Stores a turn whole or not at all: the messages of one request, in a new conversation or in one of the caller's.
--
-- It returns one row. `outcome` is one of
--   stored      the turn is stored;
--   replayed    an earlier request stored the turn under the same key, less than 24 hours ago;
--   not_found   the conversation is not the caller's, or what the key had stored was deleted;
--   key_reused  the key came with another request.
-- The last three store nothing. `stored_in` is the conversation's id, `stored` the turn's messages as a JSON array in
-- UTF-8, and `opened`, for a turn without messages, the conversation as it was opened.
--
-- Every statement names the caller, so that each touches one partition of a table that is partitioned by user.
CREATE FUNCTION store_turn_1(
    caller text,
    target bigint,           -- The conversation; NULL opens a new one.
    new_title text,          -- The title of a new one; NULL stands for a title with its time.
    new_messages json,       -- [{"role": text, "content": text, "metadata": object or null}, ...]
    sent_key text,           -- The idempotency key, or NULL.
    sent_fingerprint bytea,  -- A digest that distinguishes requests with this key.
    OUT outcome text,
    OUT stored_in bigint,
    OUT opened bytea,
    OUT stored bytea
)
LANGUAGE plpgsql
AS $$
DECLARE
    -- The clock's time after any wait for a lock. It is not `now()`, because turns may have been stored since then.
    claimed_at timestamptz;
    -- The same time, moved on if necessary, so that it is later than the time of the turn before.
    turn_at timestamptz;
    known record;
    message record;
    expired record;
    first_id bigint;
    last_id bigint;
BEGIN
    LOOP
        -- Under read committed each statement sees what was committed before it, so whoever loses a race for the key
        -- finds the winner's turn here in the next round. ORDER BY and BETWEEN make the planner use the primary key.
        -- Without them, it may take the other index of a table without statistics, and read all of the caller's keys.
        SELECT fingerprint, conversation_id, first_message_id, last_message_id, created_at
        INTO known
        FROM idempotency_keys
        WHERE user_id = caller
            AND key BETWEEN sent_key AND sent_key
            AND created_at > clock_timestamp() - interval '24 hours'
        ORDER BY key
        LIMIT 1;
        IF FOUND THEN
            IF known.fingerprint <> sent_fingerprint THEN
                outcome := 'key_reused';
                RETURN;
            END IF;
            outcome := 'replayed';
            stored_in := known.conversation_id;
            turn_at := known.created_at;
            first_id := known.first_message_id;
            last_id := known.last_message_id;
            EXIT;
        END IF;

        -- Only one turn at a time holds the conversation, and each gets a later time than the one before, even if the
        -- server's clock was set back. The upper bound is the latest time that every client can read and that no driver
        -- mistakes for infinity.
        IF target IS NULL THEN
            claimed_at := clock_timestamp();
            turn_at := claimed_at;
            INSERT INTO conversations (user_id, title, created_at, updated_at)
            VALUES (
                caller,
                coalesce(new_title, 'Chat - ' || to_char(turn_at AT TIME ZONE 'UTC', 'YYYY-MM-DD HH24:MI')),
                turn_at,
                turn_at
            )
            RETURNING id INTO stored_in;
        ELSE
            SELECT id, updated_at INTO stored_in, turn_at
            FROM conversations
            WHERE id = target AND user_id = caller
            FOR NO KEY UPDATE;
            IF NOT FOUND THEN
                outcome := 'not_found';
                RETURN;
            END IF;
            claimed_at := clock_timestamp();
            turn_at := least(
                greatest(claimed_at, turn_at + interval '1 microsecond'), timestamptz '9999-12-31 23:59:59.999998+00'
            );
        END IF;

        outcome := 'stored';
        EXIT WHEN sent_key IS NULL;
        -- This waits for any turn that is claiming the same key. A key that is younger than 24 hours stays as it is. A
        -- key's time is the clock's rather than the turn's, because it expires by the clock.
        INSERT INTO idempotency_keys AS old (user_id, key, fingerprint, conversation_id, created_at)
        VALUES (caller, sent_key, sent_fingerprint, stored_in, claimed_at)
        ON CONFLICT (user_id, key) DO UPDATE
        SET fingerprint = excluded.fingerprint,
            conversation_id = excluded.conversation_id,
            first_message_id = NULL,
            last_message_id = NULL,
            created_at = excluded.created_at
        -- Somebody may have set a key's time to -infinity, which PostgreSQL 15 cannot subtract from another time.
        WHERE old.created_at AT TIME ZONE 'UTC' <= excluded.created_at AT TIME ZONE 'UTC' - interval '24 hours';
        EXIT WHEN FOUND;
        IF target IS NULL THEN
            DELETE FROM conversations WHERE id = stored_in AND user_id = caller;
        END IF;
    END LOOP;

    IF outcome = 'stored' THEN
        FOR message IN
            SELECT role, content, metadata
            FROM json_to_recordset(new_messages) AS sent (role text, content text, metadata jsonb)
        LOOP
            INSERT INTO messages (conversation_id, user_id, role, content, metadata, created_at)
            VALUES (stored_in, caller, message.role, message.content, message.metadata, turn_at)
            RETURNING id INTO last_id;
            first_id := coalesce(first_id, last_id);
        END LOOP;
        IF target IS NOT NULL THEN
            UPDATE conversations SET updated_at = turn_at WHERE id = stored_in AND user_id = caller;
        END IF;
        IF sent_key IS NOT NULL THEN
            -- This never inserts. Unlike an UPDATE, it always finds the row through the primary key.
            INSERT INTO idempotency_keys
                (user_id, key, fingerprint, conversation_id, first_message_id, last_message_id, created_at)
            VALUES (caller, sent_key, sent_fingerprint, stored_in, first_id, last_id, claimed_at)
            ON CONFLICT (user_id, key) DO UPDATE
            SET first_message_id = excluded.first_message_id, last_message_id = excluded.last_message_id;
            -- Each new key deletes up to ten of the caller's expired ones, so no job has to.
            FOR expired IN
                SELECT key
                FROM idempotency_keys
                WHERE user_id = caller AND created_at <= claimed_at - interval '24 hours'
                ORDER BY created_at
                LIMIT 10
                FOR UPDATE SKIP LOCKED
            LOOP
                DELETE FROM idempotency_keys WHERE user_id = caller AND key = expired.key;
            END LOOP;
        END IF;
    END IF;

    -- A stored turn and a replayed one are both read back, so that both are shown as the tables hold them.
    IF first_id IS NULL THEN
        SELECT convert_to(row_to_json(shown)::text, 'UTF8')
        INTO opened
        FROM (
            SELECT
                id,
                coalesce(new_title, 'Chat - ' || to_char(created_at AT TIME ZONE 'UTC', 'YYYY-MM-DD HH24:MI')) AS title,
                created_at,
                created_at AS updated_at
            FROM conversations
            WHERE id = stored_in AND user_id = caller
        ) AS shown;
    ELSE
        SELECT convert_to(json_agg(row_to_json(shown) ORDER BY shown.id)::text, 'UTF8')
        INTO stored
        FROM (
            SELECT id, role, content, metadata, created_at
            FROM messages
            WHERE conversation_id = stored_in
                AND user_id = caller
                AND created_at = turn_at
                AND id BETWEEN first_id AND last_id
        ) AS shown;
        IF stored IS NULL THEN
            -- The messages' time differs from the key's, because the turn's time was moved on or somebody changed one
            -- of the two. Their ids still find them, at the cost of reading the whole conversation.
            SELECT convert_to(json_agg(row_to_json(shown) ORDER BY shown.id)::text, 'UTF8')
            INTO stored
            FROM (
                SELECT id, role, content, metadata, created_at
                FROM messages
                WHERE conversation_id = stored_in AND user_id = caller AND id BETWEEN first_id AND last_id
            ) AS shown;
        END IF;
    END IF;
    IF opened IS NULL AND stored IS NULL THEN
        outcome := 'not_found';
    END IF;
END;
$$
