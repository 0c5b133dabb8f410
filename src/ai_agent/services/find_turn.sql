-- The turn that was stored under a key in the last 24 hours; no row when there is none.
--
-- :user_id, the owner; :key; :fingerprint, a digest that distinguishes requests with the key. `shown` is the turn's
-- messages as the API shows them, or NULL if they were deleted. As a rule the messages have the key's time, so the
-- first subselect finds them through the primary key. If their time differs, which store_turn_1 explains, the second
-- one finds them by their ids and reads the whole conversation.
SELECT
    fingerprint = :fingerprint AS is_same,
    conversation_id,
    coalesce(
        (
            SELECT convert_to(json_agg(row_to_json(shown) ORDER BY shown.id)::text, 'UTF8')
            FROM (
                SELECT id, role, content, metadata, created_at
                FROM messages
                WHERE conversation_id = known.conversation_id
                    AND user_id = :user_id
                    AND created_at = known.created_at
                    AND id BETWEEN known.first_message_id AND known.last_message_id
            ) AS shown
        ),
        (
            SELECT convert_to(json_agg(row_to_json(shown) ORDER BY shown.id)::text, 'UTF8')
            FROM (
                SELECT id, role, content, metadata, created_at
                FROM messages
                WHERE conversation_id = known.conversation_id
                    AND user_id = :user_id
                    AND id BETWEEN known.first_message_id AND known.last_message_id
            ) AS shown
        )
    ) AS shown
FROM idempotency_keys AS known
WHERE user_id = :user_id AND key = :key AND created_at > clock_timestamp() - interval '24 hours'
