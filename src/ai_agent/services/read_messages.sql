-- A conversation with its newest messages before a position, oldest first, as the JSON that the API sends.
--
-- :user_id, the owner; :conversation_id; :limit, the most messages; :max_bytes, the most JSON of more than one message;
-- :at and :id, the position before which the messages stand. There is no row where the conversation is not the user's.
--
-- The stored sizes, which are known without reading long texts, keep JSON from being made of much more than a page. The
-- JSON is longer, as a control character takes six bytes in it, so its own size decides where the page ends.
-- list_conversations.sql says why the LIMIT is in a subselect.
WITH newest AS (
    SELECT
        *,
        row_number() OVER newest_first AS position,
        sum(octet_length(content) + coalesce(octet_length(metadata::text), 0)) OVER newest_first AS bytes
    FROM messages
    WHERE conversation_id = :conversation_id AND user_id = :user_id AND (created_at, id) < (:at, :id)
    WINDOW newest_first AS (ORDER BY created_at DESC, id DESC)
    ORDER BY created_at DESC, id DESC
    LIMIT (SELECT :limit + 1)
), shown AS MATERIALIZED (
    SELECT
        created_at,
        id,
        position,
        CASE
            WHEN position = 1 OR bytes <= :max_bytes
            THEN row_to_json((SELECT shown FROM (SELECT id, role, content, metadata, created_at) AS shown))
        END AS message
    FROM newest
), page AS (
    SELECT
        *,
        position = 1
            OR position <= :limit
            AND message IS NOT NULL
            AND sum(octet_length(message::text) + 2) OVER (ORDER BY position) <= :max_bytes AS fits
    FROM shown
)
SELECT
    convert_to(
        row_to_json((SELECT shown FROM (SELECT id, title, created_at, updated_at, messages) AS shown))::text,
        'UTF8'
    ) AS body,
    last_at,
    last_id,
    more
FROM conversations
CROSS JOIN LATERAL (
    SELECT
        coalesce(json_agg(message ORDER BY position DESC) FILTER (WHERE fits), '[]') AS messages,
        (array_agg(created_at ORDER BY position DESC) FILTER (WHERE fits))[1] AS last_at,
        (array_agg(id ORDER BY position DESC) FILTER (WHERE fits))[1] AS last_id,
        count(*) FILTER (WHERE NOT fits) > 0 AS more
    FROM page
) AS history
WHERE id = :conversation_id AND user_id = :user_id
