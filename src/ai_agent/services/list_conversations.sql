-- A page of a user's conversations, the most recently used first, as the JSON that the API sends.
--
-- :user_id, the owner; :limit, the most rows; :at and :id, the position that the page follows.
--
-- Times leave as JSON, which is ISO 8601 whatever the role's DateStyle is.
--
-- The query reads one row more than the page shows, to learn whether more follow. Its LIMIT is in a subselect, which
-- hides the number from the planner, so that it reads the index in order. If it knew the number, it would sort the
-- whole list for a page that is nearly as long.
WITH page AS (
    SELECT *, row_number() OVER (ORDER BY updated_at DESC, id DESC) AS position
    FROM conversations
    WHERE user_id = :user_id AND (updated_at, id) < (:at, :id)
    ORDER BY updated_at DESC, id DESC
    LIMIT (SELECT :limit + 1)
)
SELECT
    convert_to(
        coalesce(
            json_agg(
                row_to_json((SELECT shown FROM (SELECT id, title, created_at, updated_at) AS shown))
                ORDER BY position
            ) FILTER (WHERE position <= :limit),
            '[]'
        )::text,
        'UTF8'
    ) AS body,
    to_json(max(updated_at) FILTER (WHERE position = :limit)) #>> '{}' AS last_at,
    max(id) FILTER (WHERE position = :limit) AS last_id,
    count(*) > :limit AS more
FROM page
