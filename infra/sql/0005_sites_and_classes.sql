-- What the fleet file said and since when, so that views know a site's settlement point and PUE; the load of each
-- service class as rows of its own, so that it can be summed; and which run the views show.

CREATE TABLE gridtide.sites (
    known_from timestamptz NOT NULL,
    site_id text NOT NULL,
    run_id text NOT NULL,
    fleet_id text NOT NULL,
    settlement_point text NOT NULL,
    pue double precision NOT NULL,
    gpus bigint NOT NULL,
    import_limit_watts double precision NOT NULL,
    minimum_on_watts double precision NOT NULL,
    failsafe_watts double precision NOT NULL,
    ramp_down_watts_per_second double precision NOT NULL,
    ramp_up_watts_per_second double precision NOT NULL,
    in_service boolean NOT NULL,
    PRIMARY KEY (known_from, site_id, run_id)
);
COMMENT ON TABLE gridtide.sites IS
    'Sites as the fleet file describes them: a row when a site is new, one whenever its description has changed, and '
    'one when it is no longer there.';
COMMENT ON COLUMN gridtide.sites.known_from IS 'since when the recorder knows it so, UTC';
COMMENT ON COLUMN gridtide.sites.site_id IS 'site, one data centre';
COMMENT ON COLUMN gridtide.sites.run_id IS '`live`, or the name of the replay or demo';
COMMENT ON COLUMN gridtide.sites.fleet_id IS 'fleet that the site belongs to';
COMMENT ON COLUMN gridtide.sites.settlement_point IS 'where its energy is priced';
COMMENT ON COLUMN gridtide.sites.pue IS 'power usage effectiveness: meter power over IT power, ratio >= 1';
COMMENT ON COLUMN gridtide.sites.gpus IS 'GPUs of the site, count';
COMMENT ON COLUMN gridtide.sites.import_limit_watts IS 'most that it may draw at the meter, W';
COMMENT ON COLUMN gridtide.sites.minimum_on_watts IS 'least meter power with all on, W';
COMMENT ON COLUMN gridtide.sites.failsafe_watts IS 'meter power that it holds when it has lost its planner, W';
COMMENT ON COLUMN gridtide.sites.ramp_down_watts_per_second IS 'how fast its meter power may fall, W/s';
COMMENT ON COLUMN gridtide.sites.ramp_up_watts_per_second IS 'how fast its meter power may rise, W/s';
COMMENT ON COLUMN gridtide.sites.in_service IS 'whether the fleet file still has it';

CREATE TABLE gridtide.service_classes (
    known_from timestamptz NOT NULL,
    service_class text NOT NULL,
    run_id text NOT NULL,
    flex smallint NOT NULL,
    ttft_objective_seconds double precision NOT NULL,
    itl_objective_seconds double precision NOT NULL,
    PRIMARY KEY (known_from, service_class, run_id)
);
COMMENT ON TABLE gridtide.service_classes IS
    'Service classes as the fleet file describes them: a row when one is new, and one whenever it has changed.';
COMMENT ON COLUMN gridtide.service_classes.known_from IS 'since when the recorder knows it so, UTC';
COMMENT ON COLUMN gridtide.service_classes.service_class IS 'name of the service class';
COMMENT ON COLUMN gridtide.service_classes.run_id IS '`live`, or the name of the replay or demo';
COMMENT ON COLUMN gridtide.service_classes.flex IS
    'Flex 0-3: 0, 10, 25, 50 % slower is allowed; Flex 0 is untouched outside an emergency';
COMMENT ON COLUMN gridtide.service_classes.ttft_objective_seconds IS 'time to first token that is promised, s';
COMMENT ON COLUMN gridtide.service_classes.itl_objective_seconds IS 'time between two tokens that is promised, s';

CREATE TABLE gridtide.site_class_load (
    window_start timestamptz NOT NULL,
    site_id text NOT NULL,
    service_class text NOT NULL,
    run_id text NOT NULL,
    fleet_id text NOT NULL,
    window_end timestamptz NOT NULL,
    requests_per_second double precision NOT NULL,
    prompt_tokens_per_second double precision NOT NULL,
    tokens_arrived_per_second double precision NOT NULL,
    tokens_served_per_second double precision NOT NULL,
    tokens_queued bigint NOT NULL,
    ttft_seconds_counts bigint[] NOT NULL,
    ttft_seconds_p50 double precision,
    ttft_seconds_p99 double precision,
    PRIMARY KEY (window_start, site_id, service_class, run_id)
);
COMMENT ON TABLE gridtide.site_class_load IS
    'Inference load of one service class at a site over one window: the parts of site_load. Tokens are generated '
    'tokens unless prompt is said.';
COMMENT ON COLUMN gridtide.site_class_load.window_start IS 'start of the window, UTC, included';
COMMENT ON COLUMN gridtide.site_class_load.site_id IS 'site, one data centre';
COMMENT ON COLUMN gridtide.site_class_load.service_class IS 'name of the service class';
COMMENT ON COLUMN gridtide.site_class_load.run_id IS '`live`, or the name of the replay or demo that made the record';
COMMENT ON COLUMN gridtide.site_class_load.fleet_id IS 'fleet that the site belongs to';
COMMENT ON COLUMN gridtide.site_class_load.window_end IS 'end of the window, UTC, excluded';
COMMENT ON COLUMN gridtide.site_class_load.requests_per_second IS 'requests arriving, 1/s';
COMMENT ON COLUMN gridtide.site_class_load.prompt_tokens_per_second IS 'prompt tokens arriving, 1/s';
COMMENT ON COLUMN gridtide.site_class_load.tokens_arrived_per_second IS
    'tokens that the arriving requests want generated, 1/s';
COMMENT ON COLUMN gridtide.site_class_load.tokens_served_per_second IS 'tokens generated, 1/s';
COMMENT ON COLUMN gridtide.site_class_load.tokens_queued IS 'tokens waiting at the end of the window, count';
COMMENT ON COLUMN gridtide.site_class_load.ttft_seconds_counts IS
    'requests served by time to first token, counts in the buckets whose upper bounds are '
    'gridtide.latency_bounds_seconds(); the last one is open. Counts add up over time and sites, percentiles do not';
COMMENT ON COLUMN gridtide.site_class_load.ttft_seconds_p50 IS
    'median time to first token, s; null where nothing was served';
COMMENT ON COLUMN gridtide.site_class_load.ttft_seconds_p99 IS
    '99th percentile of the time to first token, s; null where nothing was served';

INSERT INTO gridtide.site_class_load
SELECT
    load.window_start,
    load.site_id,
    class.service_class,
    load.run_id,
    load.fleet_id,
    load.window_end,
    class.requests_per_second,
    class.prompt_tokens_per_second,
    class.tokens_arrived_per_second,
    class.tokens_served_per_second,
    class.tokens_queued,
    class.ttft_seconds_counts,
    class.ttft_seconds_p50,
    class.ttft_seconds_p99
FROM gridtide.site_load AS load
CROSS JOIN LATERAL jsonb_to_recordset(load.classes) AS class (
    service_class text,
    requests_per_second double precision,
    prompt_tokens_per_second double precision,
    tokens_arrived_per_second double precision,
    tokens_served_per_second double precision,
    tokens_queued bigint,
    ttft_seconds_counts bigint[],
    ttft_seconds_p50 double precision,
    ttft_seconds_p99 double precision
);
ALTER TABLE gridtide.site_load DROP COLUMN classes;

DO $$
DECLARE
    extension_schema CONSTANT text := (
        SELECT nspname FROM pg_extension JOIN pg_namespace ON pg_namespace.oid = extnamespace
        WHERE extname = 'timescaledb'
    );
BEGIN
    IF extension_schema IS NOT NULL THEN
        EXECUTE format(
            'SELECT %1$I.create_hypertable(''gridtide.site_class_load''::regclass,'
            ' %1$I.by_range(''window_start'', INTERVAL ''7 days''),'
            ' create_default_indexes => false, migrate_data => true)',
            extension_schema
        );
    END IF;
END
$$;

CREATE FUNCTION gridtide.latency_bounds_seconds() RETURNS double precision []
LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN (
    SELECT array_agg(round((10 ^ (step / 6.0 - 2))::numeric, 6)::double precision ORDER BY step)
    FROM generate_series(0, 24) AS steps (step)
);
COMMENT ON FUNCTION gridtide.latency_bounds_seconds() IS
    'Upper bounds of the latency buckets, s: six a decade from 10 ms to 100 s. One more bucket is open above.';

-- Schema schemas/latency.py has the same rule in Python; a test holds the two together.
CREATE FUNCTION gridtide.quantile_seconds(counts bigint [], quantile_ratio double precision) RETURNS double precision
LANGUAGE sql IMMUTABLE PARALLEL SAFE STRICT
RETURN (
    WITH buckets AS (
        SELECT
            place,
            bucket.count,
            sum(bucket.count) OVER (ORDER BY place) AS up_to,
            sum(bucket.count) OVER () AS total,
            bounds.list
        FROM unnest(counts) WITH ORDINALITY AS bucket (count, place)
        CROSS JOIN (SELECT gridtide.latency_bounds_seconds() AS list) AS bounds
    )
    SELECT
        CASE
            WHEN place > cardinality(list) THEN list[cardinality(list)]
            ELSE
                coalesce(list[place - 1], 0)
                + (list[place] - coalesce(list[place - 1], 0))
                * greatest(0, quantile_ratio * total - (up_to - buckets.count)) / buckets.count
        END
    FROM buckets
    WHERE buckets.count > 0 AND up_to >= quantile_ratio * total
    ORDER BY place
    LIMIT 1
);
COMMENT ON FUNCTION gridtide.quantile_seconds(bigint [], double precision) IS
    'The latency in seconds below which a share (0-1) of the counted requests lie, linear inside a bucket; null where '
    'nothing was counted. Sum the counts first: quantile_seconds(sum of ttft_seconds_counts, 0.99).';

CREATE FUNCTION gridtide.asked_run() RETURNS text
LANGUAGE sql STABLE PARALLEL SAFE
RETURN coalesce(nullif(current_setting('gridtide.run_id', true), ''), 'live');
COMMENT ON FUNCTION gridtide.asked_run() IS
    'The run that the views show: live, or what the session asked for with SET gridtide.run_id = ''demo''.';

CREATE VIEW gridtide.site_spans AS
SELECT
    site_id,
    run_id,
    fleet_id,
    settlement_point,
    pue,
    gpus,
    import_limit_watts,
    minimum_on_watts,
    failsafe_watts,
    ramp_down_watts_per_second,
    ramp_up_watts_per_second,
    holds_from,
    holds_until
FROM (
    SELECT
        *,
        CASE
            WHEN row_number() OVER described = 1 THEN '-infinity'::timestamptz
            ELSE known_from
        END AS holds_from,
        coalesce(lead(known_from) OVER described, 'infinity'::timestamptz) AS holds_until
    FROM gridtide.sites
    WINDOW described AS (PARTITION BY run_id, site_id ORDER BY known_from)
) AS span
WHERE in_service;
COMMENT ON VIEW gridtide.site_spans IS
    'Sites with the time for which each description holds: from holds_from (included; the first one from ever) to '
    'holds_until (excluded). None for the time in which a site was not in the fleet file. All runs.';
COMMENT ON COLUMN gridtide.site_spans.site_id IS 'site, one data centre';
COMMENT ON COLUMN gridtide.site_spans.run_id IS '`live`, or the name of the replay or demo';
COMMENT ON COLUMN gridtide.site_spans.fleet_id IS 'fleet that the site belongs to';
COMMENT ON COLUMN gridtide.site_spans.settlement_point IS 'where its energy is priced';
COMMENT ON COLUMN gridtide.site_spans.pue IS 'power usage effectiveness: meter power over IT power, ratio >= 1';
COMMENT ON COLUMN gridtide.site_spans.gpus IS 'GPUs of the site, count';
COMMENT ON COLUMN gridtide.site_spans.import_limit_watts IS 'most that it may draw at the meter, W';
COMMENT ON COLUMN gridtide.site_spans.minimum_on_watts IS 'least meter power with all on, W';
COMMENT ON COLUMN gridtide.site_spans.failsafe_watts IS 'meter power that it holds when it has lost its planner, W';
COMMENT ON COLUMN gridtide.site_spans.ramp_down_watts_per_second IS 'how fast its meter power may fall, W/s';
COMMENT ON COLUMN gridtide.site_spans.ramp_up_watts_per_second IS 'how fast its meter power may rise, W/s';
COMMENT ON COLUMN gridtide.site_spans.holds_from IS 'start of the description''s time, UTC, included';
COMMENT ON COLUMN gridtide.site_spans.holds_until IS 'end of the description''s time, UTC, excluded';
