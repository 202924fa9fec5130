-- Where TimescaleDB is installed in this database the tables become hypertables; elsewhere they stay plain tables,
-- and everything works the same. Nothing is installed here: that takes a superuser and a preloaded library, and
-- belongs to who runs the server. No indexes beside the primary keys, which have the time first.

DO $$
DECLARE
    -- The extension's functions need not lie on our search path.
    extension_schema CONSTANT text := (
        SELECT nspname FROM pg_extension JOIN pg_namespace ON pg_namespace.oid = extnamespace
        WHERE extname = 'timescaledb'
    );
    hypertable record;
BEGIN
    IF extension_schema IS NULL THEN
        RETURN;
    END IF;
    -- A chunk a day where the volume is, a week elsewhere. The few rows of clock_anchors need no chunks.
    FOR hypertable IN
        SELECT * FROM (VALUES
            ('gpu_telemetry', 'observed_at', INTERVAL '1 day'),
            ('inference_requests', 'observed_at', INTERVAL '1 day'),
            ('grid_signals', 'published_at', INTERVAL '7 days'),
            ('site_power', 'window_start', INTERVAL '7 days'),
            ('site_load', 'window_start', INTERVAL '7 days'),
            ('site_forecasts', 'issued_at', INTERVAL '7 days'),
            ('fleet_plans', 'issued_at', INTERVAL '7 days'),
            ('site_commands', 'issued_at', INTERVAL '7 days'),
            ('command_acks', 'observed_at', INTERVAL '7 days'),
            ('site_heartbeats', 'observed_at', INTERVAL '7 days'),
            ('dead_letters', 'arrived_at', INTERVAL '7 days')
        ) AS chosen (table_name, time_column, chunk_interval)
    LOOP
        EXECUTE format(
            'SELECT %1$I.create_hypertable(%2$L::regclass, %1$I.by_range(%3$L, %4$L::interval),'
            ' create_default_indexes => false)',
            extension_schema,
            'gridtide.' || hypertable.table_name,
            hypertable.time_column,
            hypertable.chunk_interval
        );
    END LOOP;
END
$$;
