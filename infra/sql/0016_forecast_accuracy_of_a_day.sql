-- forecast_accuracy looks a day further ahead, as forecasts do. Needs 0014.

CREATE OR REPLACE VIEW gridtide.forecast_accuracy AS
SELECT
    gridtide.asked_run() AS run_id,
    held.fleet_id,
    held.site_id,
    held.model,
    held.horizon_seconds,
    days.issued_day,
    held.forecasts,
    held.wmape_ratio,
    held.persistence_wmape_ratio,
    held.bias_ratio,
    held.pinball_loss_tokens_per_second,
    held.coverage_ratio,
    held.width_tokens_per_second,
    held.load_tokens_per_second
FROM (
    SELECT generate_series(
        date_trunc('day', min(issued_at), 'UTC'), date_trunc('day', max(issued_at), 'UTC'), INTERVAL '24 hours'
    ) AS issued_day
    FROM gridtide.site_forecasts
) AS days
CROSS JOIN LATERAL (
    WITH steps AS MATERIALIZED (
        SELECT
            load.site_id,
            load.step_start + gridtide.forecast_step() AS ends_at,
            sum(load.tokens_arrived_per_second * load.seconds)
            / nullif(sum(load.seconds * load.covered_ratio), 0) AS tokens_per_second,
            sum(load.seconds * load.covered_ratio)
            >= 0.5 * extract(EPOCH FROM gridtide.forecast_step()) AS is_observed
        FROM (
            SELECT
                site_load.*,
                date_bin(gridtide.forecast_step(), site_load.window_start, '1970-01-01 00:00+00') AS step_start,
                extract(EPOCH FROM site_load.window_end - site_load.window_start)::double precision AS seconds
            FROM gridtide.site_load
        ) AS load
        WHERE
            load.run_id = gridtide.asked_run()
            AND load.window_start >= days.issued_day - gridtide.forecast_step()
            AND load.window_start < days.issued_day + INTERVAL '48 hours'
        GROUP BY load.site_id, load.step_start
    ),

    -- Materialised so that both joins are by equal columns.
    foreseen AS MATERIALIZED (
        SELECT
            forecast.fleet_id,
            forecast.site_id,
            forecast.model,
            forecast.issued_at,
            horizon.horizon_seconds,
            horizon.tokens_per_second,
            forecast.issued_at + horizon.horizon_seconds * INTERVAL '1 second' AS ends_at
        FROM gridtide.site_forecasts AS forecast
        CROSS JOIN LATERAL jsonb_to_recordset(forecast.horizons) AS horizon (
            horizon_seconds bigint, tokens_per_second double precision []
        )
        WHERE
            forecast.run_id = gridtide.asked_run()
            AND forecast.issued_at >= days.issued_day AND forecast.issued_at < days.issued_day + INTERVAL '24 hours'
    )

    SELECT
        foreseen.fleet_id,
        foreseen.site_id,
        foreseen.model,
        foreseen.horizon_seconds,
        count(*) AS forecasts,
        sum(abs(foreseen.tokens_per_second[4] - came.tokens_per_second)) / nullif(sum(came.tokens_per_second), 0)
        AS wmape_ratio,
        sum(abs(last.tokens_per_second - came.tokens_per_second)) / nullif(sum(came.tokens_per_second), 0)
        AS persistence_wmape_ratio,
        sum(foreseen.tokens_per_second[4] - came.tokens_per_second) / nullif(sum(came.tokens_per_second), 0)
        AS bias_ratio,
        avg(pinball.loss) AS pinball_loss_tokens_per_second,
        avg((
            came.tokens_per_second BETWEEN foreseen.tokens_per_second[1] AND foreseen.tokens_per_second[7]
        )::integer)::double precision AS coverage_ratio,
        avg(foreseen.tokens_per_second[7] - foreseen.tokens_per_second[1]) AS width_tokens_per_second,
        avg(came.tokens_per_second) AS load_tokens_per_second
    FROM foreseen
    INNER JOIN steps AS came
        ON came.is_observed AND came.site_id = foreseen.site_id AND came.ends_at = foreseen.ends_at
    INNER JOIN steps AS last
        ON last.is_observed AND last.site_id = foreseen.site_id AND last.ends_at = foreseen.issued_at
    CROSS JOIN LATERAL (
        SELECT avg(greatest(
            level * (came.tokens_per_second - quantile.value), (level - 1) * (came.tokens_per_second - quantile.value)
        )) AS loss
        FROM unnest(foreseen.tokens_per_second, ARRAY[0.05, 0.1, 0.25, 0.5, 0.75, 0.9, 0.95]::double precision [])
            AS quantile (value, level)
    ) AS pinball
    GROUP BY foreseen.fleet_id, foreseen.site_id, foreseen.model, foreseen.horizon_seconds
) AS held;
COMMENT ON VIEW gridtide.forecast_accuracy IS
    'How good the forecasts of a day were, by site, model and horizon: each is held against the load of the step that '
    'ended horizon_seconds after its issue. A step counts where half of it was observed, and a forecast where both '
    'that step and the last one before its issue do, so that persistence is judged by the same pairs. Horizons of '
    'up to 24 hours. Ask by issued_day.';
