-- What was measured, and what it came to per site and window.
-- Column names are the field names of the records; units stand in the names. Times are UTC, with the time first in
-- every primary key: that is what is asked for, and what makes appending cheap.
-- The schema gridtide is made by infra/migrate.py, which applies these files in order, each in a transaction.

CREATE TABLE gridtide.gpu_telemetry (
    observed_at timestamptz NOT NULL,
    site_id text NOT NULL,
    source text NOT NULL,
    sequence bigint NOT NULL,
    run_id text NOT NULL,
    schema_version smallint NOT NULL,
    pool_id text NOT NULL,
    interval_seconds double precision NOT NULL,
    first_gpu bigint NOT NULL,
    power_watts double precision[] NOT NULL,
    energy_joules double precision[] NOT NULL,
    utilization_ratio double precision[] NOT NULL,
    memory_used_ratio double precision[] NOT NULL,
    temperature_celsius double precision[] NOT NULL,
    meter_power_watts double precision,
    PRIMARY KEY (observed_at, site_id, source, sequence, run_id)
);
COMMENT ON TABLE gridtide.gpu_telemetry IS
    'Frames of GPU readings from topic gpu.telemetry.v1: one row a frame, one place per GPU in each array, null '
    'where nothing was read.';
COMMENT ON COLUMN gridtide.gpu_telemetry.observed_at IS 'instant of the readings, UTC';
COMMENT ON COLUMN gridtide.gpu_telemetry.site_id IS 'site, one data centre';
COMMENT ON COLUMN gridtide.gpu_telemetry.source IS 'collector that made the frame';
COMMENT ON COLUMN gridtide.gpu_telemetry.sequence IS 'rises by one with each frame of a source';
COMMENT ON COLUMN gridtide.gpu_telemetry.run_id IS '`live`, or the name of the replay or demo that made the record';
COMMENT ON COLUMN gridtide.gpu_telemetry.schema_version IS 'version of the record''s contract';
COMMENT ON COLUMN gridtide.gpu_telemetry.pool_id IS 'pool of GPUs of one model at the site';
COMMENT ON COLUMN gridtide.gpu_telemetry.interval_seconds IS 'time between two frames of the source, s';
COMMENT ON COLUMN gridtide.gpu_telemetry.first_gpu IS 'index in the pool of the first GPU of the arrays';
COMMENT ON COLUMN gridtide.gpu_telemetry.power_watts IS 'power draw per GPU as read, W';
COMMENT ON COLUMN gridtide.gpu_telemetry.energy_joules IS 'cumulative energy counter per GPU as read, J';
COMMENT ON COLUMN gridtide.gpu_telemetry.utilization_ratio IS 'utilization per GPU as read, ratio 0-1';
COMMENT ON COLUMN gridtide.gpu_telemetry.memory_used_ratio IS 'memory in use per GPU as read, ratio 0-1';
COMMENT ON COLUMN gridtide.gpu_telemetry.temperature_celsius IS 'temperature per GPU as read, degrees Celsius';
COMMENT ON COLUMN gridtide.gpu_telemetry.meter_power_watts IS
    'the site''s meter at this instant, cooling included, W; null in frames that do not carry it';

CREATE TABLE gridtide.inference_requests (
    observed_at timestamptz NOT NULL,
    site_id text NOT NULL,
    source text NOT NULL,
    sequence bigint NOT NULL,
    run_id text NOT NULL,
    schema_version smallint NOT NULL,
    interval_seconds double precision NOT NULL,
    classes jsonb NOT NULL,
    PRIMARY KEY (observed_at, site_id, source, sequence, run_id)
);
COMMENT ON TABLE gridtide.inference_requests IS
    'Inference load by service class from topic inference.requests.v1: one row an interval of one source.';
COMMENT ON COLUMN gridtide.inference_requests.observed_at IS 'end of the interval, UTC';
COMMENT ON COLUMN gridtide.inference_requests.site_id IS 'site, one data centre';
COMMENT ON COLUMN gridtide.inference_requests.source IS 'inference server or gateway that counted';
COMMENT ON COLUMN gridtide.inference_requests.sequence IS 'rises by one with each record of a source';
COMMENT ON COLUMN gridtide.inference_requests.run_id IS
    '`live`, or the name of the replay or demo that made the record';
COMMENT ON COLUMN gridtide.inference_requests.schema_version IS 'version of the record''s contract';
COMMENT ON COLUMN gridtide.inference_requests.interval_seconds IS 'length of the interval, s';
COMMENT ON COLUMN gridtide.inference_requests.classes IS
    'per service class: requests, prompt_tokens and tokens (counts), ttft_seconds_counts (requests by time to first '
    'token, in fixed buckets)';

CREATE TABLE gridtide.site_power (
    window_start timestamptz NOT NULL,
    site_id text NOT NULL,
    kind text NOT NULL,
    run_id text NOT NULL,
    schema_version smallint NOT NULL,
    fleet_id text NOT NULL,
    window_end timestamptz NOT NULL,
    records bigint NOT NULL,
    duplicates bigint NOT NULL,
    it_power_watts double precision NOT NULL,
    it_energy_joules double precision NOT NULL,
    meter_power_watts double precision,
    utilization_ratio double precision,
    temperature_celsius_max double precision,
    gpu_samples bigint NOT NULL,
    masked_values bigint NOT NULL,
    gpus_reporting bigint NOT NULL,
    reporting_ratio double precision NOT NULL,
    PRIMARY KEY (window_start, site_id, kind, run_id)
);
COMMENT ON TABLE gridtide.site_power IS
    'Power of a site over one window from topic site.state.v1, kind power. IT power is the GPUs'', meter power '
    'includes cooling and losses.';
COMMENT ON COLUMN gridtide.site_power.window_start IS 'start of the window, UTC, included';
COMMENT ON COLUMN gridtide.site_power.site_id IS 'site, one data centre';
COMMENT ON COLUMN gridtide.site_power.kind IS
    'always power: part of the natural key that both kinds of site state share';
COMMENT ON COLUMN gridtide.site_power.run_id IS '`live`, or the name of the replay or demo that made the record';
COMMENT ON COLUMN gridtide.site_power.schema_version IS 'version of the record''s contract';
COMMENT ON COLUMN gridtide.site_power.fleet_id IS 'fleet that the site belongs to';
COMMENT ON COLUMN gridtide.site_power.window_end IS 'end of the window, UTC, excluded';
COMMENT ON COLUMN gridtide.site_power.records IS 'distinct source records in the window, count';
COMMENT ON COLUMN gridtide.site_power.duplicates IS
    'source records dropped because they were already in the window, count';
COMMENT ON COLUMN gridtide.site_power.it_power_watts IS
    'mean IT power, masked readings replaced by their pool''s mean, W';
COMMENT ON COLUMN gridtide.site_power.it_energy_joules IS 'IT energy over the window, J';
COMMENT ON COLUMN gridtide.site_power.meter_power_watts IS
    'mean of the meter''s readings, W; null where there were none';
COMMENT ON COLUMN gridtide.site_power.utilization_ratio IS
    'mean GPU utilization, ratio 0-1; null where nothing was read';
COMMENT ON COLUMN gridtide.site_power.temperature_celsius_max IS
    'hottest GPU, degrees Celsius; null where nothing was read';
COMMENT ON COLUMN gridtide.site_power.gpu_samples IS 'readings of one GPU at one instant, count';
COMMENT ON COLUMN gridtide.site_power.masked_values IS 'readings that were null or implausible, count';
COMMENT ON COLUMN gridtide.site_power.gpus_reporting IS 'GPUs heard of in the window, count';
COMMENT ON COLUMN gridtide.site_power.reporting_ratio IS 'GPUs heard of, of those in the fleet file, ratio 0-1';

CREATE TABLE gridtide.site_load (
    window_start timestamptz NOT NULL,
    site_id text NOT NULL,
    kind text NOT NULL,
    run_id text NOT NULL,
    schema_version smallint NOT NULL,
    fleet_id text NOT NULL,
    window_end timestamptz NOT NULL,
    records bigint NOT NULL,
    duplicates bigint NOT NULL,
    requests_per_second double precision NOT NULL,
    tokens_arrived_per_second double precision NOT NULL,
    tokens_served_per_second double precision NOT NULL,
    tokens_queued bigint NOT NULL,
    covered_ratio double precision NOT NULL,
    classes jsonb NOT NULL,
    PRIMARY KEY (window_start, site_id, kind, run_id)
);
COMMENT ON TABLE gridtide.site_load IS
    'Inference load of a site over one window from topic site.state.v1, kind load. Totals are the sums of the '
    'classes; tokens are generated tokens.';
COMMENT ON COLUMN gridtide.site_load.window_start IS 'start of the window, UTC, included';
COMMENT ON COLUMN gridtide.site_load.site_id IS 'site, one data centre';
COMMENT ON COLUMN gridtide.site_load.kind IS 'always load: part of the natural key that both kinds of site state share';
COMMENT ON COLUMN gridtide.site_load.run_id IS '`live`, or the name of the replay or demo that made the record';
COMMENT ON COLUMN gridtide.site_load.schema_version IS 'version of the record''s contract';
COMMENT ON COLUMN gridtide.site_load.fleet_id IS 'fleet that the site belongs to';
COMMENT ON COLUMN gridtide.site_load.window_end IS 'end of the window, UTC, excluded';
COMMENT ON COLUMN gridtide.site_load.records IS 'distinct source records in the window, count';
COMMENT ON COLUMN gridtide.site_load.duplicates IS
    'source records dropped because they were already in the window, count';
COMMENT ON COLUMN gridtide.site_load.requests_per_second IS 'requests arriving, 1/s';
COMMENT ON COLUMN gridtide.site_load.tokens_arrived_per_second IS
    'tokens that the arriving requests want generated, 1/s';
COMMENT ON COLUMN gridtide.site_load.tokens_served_per_second IS 'tokens generated, 1/s';
COMMENT ON COLUMN gridtide.site_load.tokens_queued IS 'tokens waiting at the end of the window, count';
COMMENT ON COLUMN gridtide.site_load.covered_ratio IS
    'part of the window that the records'' intervals cover, ratio 0-1';
COMMENT ON COLUMN gridtide.site_load.classes IS
    'per service class: rates (1/s), tokens_queued (count), time to first token as counts per bucket and as '
    'quantiles (s)';
