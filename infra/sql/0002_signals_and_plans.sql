-- What the grid said, what was foreseen, and what was decided.

CREATE TABLE gridtide.grid_signals (
    published_at timestamptz NOT NULL,
    fleet_id text NOT NULL,
    signal_id text NOT NULL,
    run_id text NOT NULL,
    schema_version smallint NOT NULL,
    kind text NOT NULL,
    source text NOT NULL,
    starts_at timestamptz NOT NULL,
    ends_at timestamptz NOT NULL,
    market text,
    settlement_point text,
    price_usd_per_mwh double precision,
    intensity_grams_co2_per_kwh double precision,
    site_ids text[],
    reduction_ratio double precision,
    target_power_watts double precision,
    ramp_seconds double precision,
    cancelled boolean,
    PRIMARY KEY (published_at, fleet_id, signal_id, run_id)
);
COMMENT ON TABLE gridtide.grid_signals IS
    'Prices, carbon intensity, events and emergencies from topic grid.signals.v1. The latest published_at of a '
    'signal_id holds; columns that a kind does not have are null.';
COMMENT ON COLUMN gridtide.grid_signals.published_at IS 'when the source said so, UTC';
COMMENT ON COLUMN gridtide.grid_signals.fleet_id IS 'fleet that the signal concerns';
COMMENT ON COLUMN gridtide.grid_signals.signal_id IS 'names the signal across its revisions';
COMMENT ON COLUMN gridtide.grid_signals.run_id IS '`live`, or the name of the replay or demo that made the record';
COMMENT ON COLUMN gridtide.grid_signals.schema_version IS 'version of the record''s contract';
COMMENT ON COLUMN gridtide.grid_signals.kind IS 'price, carbon, event or emergency';
COMMENT ON COLUMN gridtide.grid_signals.source IS 'market or utility that said so';
COMMENT ON COLUMN gridtide.grid_signals.starts_at IS 'start of the interval spoken of, UTC';
COMMENT ON COLUMN gridtide.grid_signals.ends_at IS 'end of the interval spoken of, UTC';
COMMENT ON COLUMN gridtide.grid_signals.market IS 'real-time or day-ahead; prices only';
COMMENT ON COLUMN gridtide.grid_signals.settlement_point IS 'settlement point; prices and carbon only';
COMMENT ON COLUMN gridtide.grid_signals.price_usd_per_mwh IS 'energy price, USD/MWh, may be negative; prices only';
COMMENT ON COLUMN gridtide.grid_signals.intensity_grams_co2_per_kwh IS
    'carbon intensity of the grid, g CO2/kWh; carbon only';
COMMENT ON COLUMN gridtide.grid_signals.site_ids IS 'sites meant, empty for every site of the fleet; events only';
COMMENT ON COLUMN gridtide.grid_signals.reduction_ratio IS
    'reduction from the baseline meter power, ratio 0-1; events only, or target_power_watts';
COMMENT ON COLUMN gridtide.grid_signals.target_power_watts IS
    'meter power of the sites together to stay below, W; events only, or reduction_ratio';
COMMENT ON COLUMN gridtide.grid_signals.ramp_seconds IS
    'time allowed from starts_at to reach the target, s; events only';
COMMENT ON COLUMN gridtide.grid_signals.cancelled IS 'whether this revision withdraws the event; events only';

CREATE TABLE gridtide.site_forecasts (
    issued_at timestamptz NOT NULL,
    site_id text NOT NULL,
    run_id text NOT NULL,
    schema_version smallint NOT NULL,
    fleet_id text NOT NULL,
    model text NOT NULL,
    history_steps bigint NOT NULL,
    horizons jsonb NOT NULL,
    spikes jsonb NOT NULL,
    flags text[] NOT NULL,
    PRIMARY KEY (issued_at, site_id, run_id)
);
COMMENT ON TABLE gridtide.site_forecasts IS
    'Load ahead as quantiles, and spikes, from topic site.forecasts.v1: one row a site and issue.';
COMMENT ON COLUMN gridtide.site_forecasts.issued_at IS 'end of the last closed step that the forecast rests on, UTC';
COMMENT ON COLUMN gridtide.site_forecasts.site_id IS 'site, one data centre';
COMMENT ON COLUMN gridtide.site_forecasts.run_id IS '`live`, or the name of the replay or demo that made the record';
COMMENT ON COLUMN gridtide.site_forecasts.schema_version IS 'version of the record''s contract';
COMMENT ON COLUMN gridtide.site_forecasts.fleet_id IS 'fleet that the site belongs to';
COMMENT ON COLUMN gridtide.site_forecasts.model IS 'name and version of the model that made it';
COMMENT ON COLUMN gridtide.site_forecasts.history_steps IS 'closed steps that it rests on, count';
COMMENT ON COLUMN gridtide.site_forecasts.horizons IS
    'per horizon: horizon_seconds (s) and tokens_per_second (1/s), one value per quantile level 0.05 0.1 0.25 0.5 '
    '0.75 0.9 0.95';
COMMENT ON COLUMN gridtide.site_forecasts.spikes IS
    'per span: within_seconds (s), threshold_tokens_per_second (1/s), probability_ratio (0-1)';
COMMENT ON COLUMN gridtide.site_forecasts.flags IS 'what is out of the ordinary, such as cold-start';

CREATE TABLE gridtide.fleet_plans (
    issued_at timestamptz NOT NULL,
    fleet_id text NOT NULL,
    epoch bigint NOT NULL,
    revision bigint NOT NULL,
    owner text NOT NULL,
    kind text NOT NULL,
    run_id text NOT NULL,
    schema_version smallint NOT NULL,
    sequence bigint NOT NULL,
    mode text NOT NULL,
    explanation text NOT NULL,
    throttles jsonb NOT NULL,
    shifts jsonb NOT NULL,
    baselines jsonb NOT NULL,
    dwells jsonb NOT NULL,
    rejected jsonb NOT NULL,
    inputs jsonb,
    PRIMARY KEY (issued_at, fleet_id, epoch, revision, owner, kind, run_id)
);
COMMENT ON TABLE gridtide.fleet_plans IS
    'Decisions about a fleet, and claims to plan for it, from topic fleet.plans.v1.';
COMMENT ON COLUMN gridtide.fleet_plans.issued_at IS 'when the plan was made, UTC';
COMMENT ON COLUMN gridtide.fleet_plans.fleet_id IS 'fleet, the planning domain';
COMMENT ON COLUMN gridtide.fleet_plans.epoch IS 'rises with each owner of the fleet';
COMMENT ON COLUMN gridtide.fleet_plans.revision IS 'rises with each plan of the epoch';
COMMENT ON COLUMN gridtide.fleet_plans.owner IS 'worker that plans';
COMMENT ON COLUMN gridtide.fleet_plans.kind IS 'plan, or claim: who plans from now on';
COMMENT ON COLUMN gridtide.fleet_plans.run_id IS '`live`, or the name of the replay or demo that made the record';
COMMENT ON COLUMN gridtide.fleet_plans.schema_version IS 'version of the record''s contract';
COMMENT ON COLUMN gridtide.fleet_plans.sequence IS 'highest command sequence that the plan''s commands use';
COMMENT ON COLUMN gridtide.fleet_plans.mode IS 'normal, hold, price-blind or rule-based';
COMMENT ON COLUMN gridtide.fleet_plans.explanation IS 'why, for people';
COMMENT ON COLUMN gridtide.fleet_plans.throttles IS
    'power targets in force or to come: powers in W, ramps in W/s, times in UTC';
COMMENT ON COLUMN gridtide.fleet_plans.shifts IS
    'traffic moving between sites: share_ratio (0-1), reserved_power_watts (W), phase, times in UTC';
COMMENT ON COLUMN gridtide.fleet_plans.baselines IS 'per signal and site: meter power before an event was heard of, W';
COMMENT ON COLUMN gridtide.fleet_plans.dwells IS
    'per site: since when (UTC) the price has stood on its side of the strike price';
COMMENT ON COLUMN gridtide.fleet_plans.rejected IS 'alternatives considered, and why each was not taken';
COMMENT ON COLUMN gridtide.fleet_plans.inputs IS 'what the plan rests on, as known then; times in UTC; null in claims';
