-- What TimescaleDB's community edition does in the background: keeps the aggregates up to date, packs old rows into
-- the columnstore, deletes the oldest. Elsewhere there are no such policies: all is kept, as it was written.
-- docs/how-to/history-retention.md says how to look at these and change them.

DO $$
DECLARE
    extension_schema CONSTANT text := (
        SELECT nspname FROM pg_extension JOIN pg_namespace ON pg_namespace.oid = extnamespace
        WHERE extname = 'timescaledb'
    );
    refresh record;
    kept record;
BEGIN
    IF extension_schema IS NULL OR current_setting('timescaledb.license', true) IS DISTINCT FROM 'timescale' THEN
        RETURN;
    END IF;

    -- A refresh reads only what has changed since the last one, so that looking far back costs next to nothing. A
    -- state can be late by what the bus keeps: 6 hours of telemetry while aggregate is down, then a day of states
    -- while the recorder is. Three days is more than twice that; each longer bucket looks back a day further, as it
    -- must still see what the shorter one has just mended. All of it lies far within what is kept below: a refresh of
    -- buckets whose rows are gone would empty them. The newest buckets are left to the real-time part of the view, as
    -- rows still come in for them. The first run is an interval from now, and that of the others below half a day or
    -- a day: who wants something else has time to say so before anything is deleted.
    FOR refresh IN
        SELECT view_name, chosen.*
        FROM timescaledb_information.continuous_aggregates
        INNER JOIN (VALUES
            ('_1m', INTERVAL '3 days', INTERVAL '1 minute', INTERVAL '5 minutes', INTERVAL '7 days'),
            ('_5m', INTERVAL '4 days', INTERVAL '5 minutes', INTERVAL '15 minutes', INTERVAL '30 days'),
            ('_1h', INTERVAL '5 days', INTERVAL '1 hour', INTERVAL '1 hour', NULL)
        ) AS chosen (suffix, start_offset, end_offset, every, columnstore_after) ON right(view_name, 3) = suffix
        WHERE view_schema = 'gridtide'
    LOOP
        EXECUTE format(
            'SELECT %I.add_continuous_aggregate_policy(%L::regclass, start_offset => %L::interval,'
            ' end_offset => %L::interval, schedule_interval => %5$L::interval,'
            ' initial_start => now() + %5$L::interval)',
            extension_schema,
            'gridtide.' || refresh.view_name,
            refresh.start_offset,
            refresh.end_offset,
            refresh.every
        );
        -- The hours are few enough to stay as they are.
        IF refresh.columnstore_after IS NOT NULL THEN
            EXECUTE format(
                'ALTER MATERIALIZED VIEW gridtide.%I SET (timescaledb.enable_columnstore,'
                ' timescaledb.segmentby = ''site_id'', timescaledb.orderby = ''bucket_start'')',
                refresh.view_name
            );
            EXECUTE format(
                'CALL %I.add_columnstore_policy(%L::regclass, after => %L::interval,'
                ' initial_start => now() + INTERVAL ''12 hours'')',
                extension_schema,
                'gridtide.' || refresh.view_name,
                refresh.columnstore_after
            );
        END IF;
    END LOOP;

    -- Into the columnstore a chunk goes when its newest row can be of this age: later than rows can be late, as
    -- writing into it is slow. What is derived is kept longer than what it was derived from, the aggregates and the
    -- tables not named here for ever: signals, plans and commands are evidence, and few.
    FOR kept IN
        SELECT chosen.*
        FROM timescaledb_information.hypertables
        INNER JOIN (VALUES
            ('gpu_telemetry', 'observed_at', INTERVAL '1 day', INTERVAL '14 days'),
            ('inference_requests', 'observed_at', INTERVAL '1 day', INTERVAL '90 days'),
            ('site_power', 'window_start', INTERVAL '7 days', INTERVAL '400 days'),
            ('site_load', 'window_start', INTERVAL '7 days', INTERVAL '400 days'),
            ('site_class_load', 'window_start', INTERVAL '7 days', INTERVAL '400 days'),
            ('site_heartbeats', 'observed_at', INTERVAL '7 days', INTERVAL '400 days'),
            ('site_forecasts', 'issued_at', INTERVAL '30 days', NULL)
        ) AS chosen (table_name, time_column, columnstore_after, kept_for) ON hypertable_name = table_name
        WHERE hypertable_schema = 'gridtide'
    LOOP
        EXECUTE format(
            'ALTER TABLE gridtide.%I SET (timescaledb.enable_columnstore,'
            ' timescaledb.segmentby = ''site_id'', timescaledb.orderby = %L)',
            kept.table_name,
            kept.time_column
        );
        EXECUTE format(
            'CALL %I.add_columnstore_policy(%L::regclass, after => %L::interval,'
            ' initial_start => now() + INTERVAL ''12 hours'')',
            extension_schema,
            'gridtide.' || kept.table_name,
            kept.columnstore_after
        );
        IF kept.kept_for IS NOT NULL THEN
            EXECUTE format(
                'SELECT %I.add_retention_policy(%L::regclass, drop_after => %L::interval,'
                ' initial_start => now() + INTERVAL ''1 day'')',
                extension_schema,
                'gridtide.' || kept.table_name,
                kept.kept_for
            );
        END IF;
    END LOOP;
END
$$;
