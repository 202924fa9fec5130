-- Who may do what with the history. Roles belong to the whole server, so all of them may be there already: made by an
-- administrator, or by another database of the same server that is migrated at this moment. None is given a login
-- here: `gridtide migrate` does that where it is told a password.
--
-- A later migration that adds a table for the recorder grants it INSERT itself. Default privileges can't: to them a
-- view is a table as well, and through a simple view one can insert.

DO $$
DECLARE
    role record;
BEGIN
    FOR role IN
        SELECT * FROM (VALUES
            ('gridtide_owner', 'Gridtide: may read, add, change and delete all rows of the history'),
            ('gridtide_recorder', 'Gridtide: adds rows to the history and reads none of them'),
            ('gridtide_analyst', 'Gridtide: reads the history')
        ) AS needed (name, description)
    LOOP
        CONTINUE WHEN to_regrole(role.name) IS NOT NULL;
        BEGIN
            EXECUTE format('CREATE ROLE %I NOLOGIN', role.name);
            EXECUTE format('COMMENT ON ROLE %I IS %L', role.name, role.description);
            IF role.name = 'gridtide_analyst' THEN
                -- Against mistakes, not against malice: what the role may do is granted below.
                ALTER ROLE gridtide_analyst SET default_transaction_read_only = on;
                ALTER ROLE gridtide_analyst SET statement_timeout = '60s';
                -- The views are large queries over few rows: compiling them takes longer than running them.
                ALTER ROLE gridtide_analyst SET jit = off;
            END IF;
        EXCEPTION
            WHEN duplicate_object OR unique_violation THEN
                NULL; -- Another database was faster; what it has set holds.
            WHEN insufficient_privilege THEN
                RAISE EXCEPTION USING
                    ERRCODE = 'insufficient_privilege',
                    MESSAGE = format(
                        '%1$I may not create the role %2$I: let it (ALTER ROLE %1$I CREATEROLE), or have an '
                        'administrator make it first (CREATE ROLE %2$I)',
                        current_user,
                        role.name
                    );
        END;
    END LOOP;
END
$$;

GRANT USAGE ON SCHEMA gridtide TO gridtide_owner, gridtide_recorder, gridtide_analyst;

GRANT SELECT, INSERT, UPDATE, DELETE, TRUNCATE ON ALL TABLES IN SCHEMA gridtide TO gridtide_owner;
GRANT SELECT ON ALL TABLES IN SCHEMA gridtide TO gridtide_analyst;
GRANT EXECUTE ON ALL ROUTINES IN SCHEMA gridtide TO gridtide_owner, gridtide_analyst;

-- What whoever migrates adds later.
ALTER DEFAULT PRIVILEGES IN SCHEMA gridtide
GRANT SELECT, INSERT, UPDATE, DELETE, TRUNCATE ON TABLES TO gridtide_owner;
ALTER DEFAULT PRIVILEGES IN SCHEMA gridtide GRANT SELECT ON TABLES TO gridtide_analyst;
ALTER DEFAULT PRIVILEGES IN SCHEMA gridtide GRANT EXECUTE ON ROUTINES TO gridtide_owner, gridtide_analyst;

GRANT INSERT ON
gridtide.gpu_telemetry,
gridtide.inference_requests,
gridtide.grid_signals,
gridtide.site_power,
gridtide.site_load,
gridtide.site_class_load,
gridtide.site_forecasts,
gridtide.fleet_plans,
gridtide.site_commands,
gridtide.command_acks,
gridtide.site_heartbeats,
gridtide.clock_anchors,
gridtide.dead_letters,
gridtide.sites,
gridtide.service_classes
TO gridtide_recorder;
-- It writes a description only where the newest one says something else, and asks at the start whether the tables are
-- those that it knows.
GRANT SELECT ON gridtide.sites, gridtide.service_classes, gridtide.migrations TO gridtide_recorder;
