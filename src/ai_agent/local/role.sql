-- Makes the service's role the owner of the trial's database and of everything that the superuser made in it. In data
-- of version 0.1 that is everything, because that version's service was the superuser.

DO $$
DECLARE
    object record;
BEGIN
    IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = 'ai_agent') THEN
        CREATE ROLE ai_agent LOGIN;
    END IF;
    EXECUTE format('ALTER DATABASE %I OWNER TO ai_agent', current_database());
    ALTER SCHEMA public OWNER TO ai_agent;

    FOR object IN
        SELECT oid::regclass AS name FROM pg_class
        WHERE relnamespace = 'public'::regnamespace AND relowner = current_user::regrole
            AND relkind IN ('r', 'p', 'v', 'm', 'f')
    LOOP
        EXECUTE format('ALTER TABLE %s OWNER TO ai_agent', object.name);  -- Its indexes and sequences go with it.
    END LOOP;

    FOR object IN
        SELECT oid::regclass AS name FROM pg_class
        WHERE relnamespace = 'public'::regnamespace AND relowner = current_user::regrole AND relkind = 'S'
    LOOP
        EXECUTE format('ALTER SEQUENCE %s OWNER TO ai_agent', object.name);
    END LOOP;

    FOR object IN
        SELECT oid::regprocedure AS name FROM pg_proc
        WHERE pronamespace = 'public'::regnamespace AND proowner = current_user::regrole
    LOOP
        EXECUTE format('ALTER ROUTINE %s OWNER TO ai_agent', object.name);
    END LOOP;
END
$$;
