-- What the forecasts say of each service class, and how good they were, scored as the load came. Needs 0004, 0010.

-- An earlier recorder, still at work, leaves the column out.
ALTER TABLE gridtide.site_forecasts ADD COLUMN classes jsonb NOT NULL DEFAULT '[]';
COMMENT ON COLUMN gridtide.site_forecasts.classes IS
    'per service class: service_class, horizons and spikes as of the site, without power; the quantiles of classes do '
    'not add up to the site''s';
COMMENT ON COLUMN gridtide.site_forecasts.horizons IS
    'per horizon: horizon_seconds (s), tokens_per_second, requests_per_second, prefill_tokens_per_second (1/s) and '
    'power_watts (W, at the meter), one value per quantile level 0.05 0.1 0.25 0.5 0.75 0.9 0.95; null where not '
    'forecast';

CREATE TABLE gridtide.forecast_scores (
    scored_at timestamptz NOT NULL,
    site_id text NOT NULL,
    horizon_seconds bigint NOT NULL,
    run_id text NOT NULL,
    schema_version smallint NOT NULL,
    fleet_id text NOT NULL,
    issued_at timestamptz NOT NULL,
    model text NOT NULL,
    tokens_per_second double precision NOT NULL,
    forecast_tokens_per_second double precision NOT NULL,
    lower_tokens_per_second double precision NOT NULL,
    upper_tokens_per_second double precision NOT NULL,
    persistence_tokens_per_second double precision NOT NULL,
    pinball_loss_tokens_per_second double precision NOT NULL,
    wmape_ratio double precision,
    persistence_wmape_ratio double precision,
    coverage_ratio double precision NOT NULL,
    is_drifting boolean NOT NULL,
    PRIMARY KEY (scored_at, site_id, horizon_seconds, run_id)
);
COMMENT ON TABLE gridtide.forecast_scores IS
    'How good each forecast of a site''s load was, from topic site.forecast-scores.v1: one row a site, horizon and '
    'step. Ratios and is_drifting cover about a day of scores: weights halve every eight hours.';
COMMENT ON COLUMN gridtide.forecast_scores.scored_at IS 'end of the step that was forecast, UTC';
COMMENT ON COLUMN gridtide.forecast_scores.site_id IS 'site, one data centre';
COMMENT ON COLUMN gridtide.forecast_scores.horizon_seconds IS
    'from the issue to the end of the step that was forecast, s';
COMMENT ON COLUMN gridtide.forecast_scores.run_id IS '`live`, or the name of the replay or demo that made the record';
COMMENT ON COLUMN gridtide.forecast_scores.schema_version IS 'version of the record''s contract';
COMMENT ON COLUMN gridtide.forecast_scores.fleet_id IS 'fleet that the site belongs to';
COMMENT ON COLUMN gridtide.forecast_scores.issued_at IS 'when the forecast was issued, UTC';
COMMENT ON COLUMN gridtide.forecast_scores.model IS 'name and version of the model that made it';
COMMENT ON COLUMN gridtide.forecast_scores.tokens_per_second IS
    'load that came, mean over the step: tokens wanted by arriving requests, 1/s';
COMMENT ON COLUMN gridtide.forecast_scores.forecast_tokens_per_second IS 'median of the forecast, 1/s';
COMMENT ON COLUMN gridtide.forecast_scores.lower_tokens_per_second IS '5 % quantile of the forecast, 1/s';
COMMENT ON COLUMN gridtide.forecast_scores.upper_tokens_per_second IS '95 % quantile of the forecast, 1/s';
COMMENT ON COLUMN gridtide.forecast_scores.persistence_tokens_per_second IS
    'load of the last step before the issue, 1/s';
COMMENT ON COLUMN gridtide.forecast_scores.pinball_loss_tokens_per_second IS
    'quantile loss (Koenker and Bassett 1978), mean over the levels 0.05 to 0.95, 1/s';
COMMENT ON COLUMN gridtide.forecast_scores.wmape_ratio IS
    'absolute errors of the median, summed, by the load that came, summed: ratio; null where no load came';
COMMENT ON COLUMN gridtide.forecast_scores.persistence_wmape_ratio IS
    'the same for the last step before the issue taken as the forecast: ratio';
COMMENT ON COLUMN gridtide.forecast_scores.coverage_ratio IS
    'part of the loads that lay within the 5 % and 95 % quantiles, ratio 0-1: 0.9 is right';
COMMENT ON COLUMN gridtide.forecast_scores.is_drifting IS
    'whether the model was worse than persistence, or its coverage off, by more than chance does';

GRANT INSERT ON gridtide.forecast_scores TO gridtide_recorder;

-- As in 0004: a hypertable where TimescaleDB is, a plain table elsewhere.
DO $$
DECLARE
    extension_schema CONSTANT text := (
        SELECT nspname FROM pg_extension JOIN pg_namespace ON pg_namespace.oid = extnamespace
        WHERE extname = 'timescaledb'
    );
BEGIN
    IF extension_schema IS NULL THEN
        RETURN;
    END IF;
    EXECUTE format(
        'SELECT %1$I.create_hypertable(''gridtide.forecast_scores''::regclass,'
        ' %1$I.by_range(''scored_at'', INTERVAL ''7 days''), create_default_indexes => false)',
        extension_schema
    );
END
$$;
