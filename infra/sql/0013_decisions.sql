-- Why each command was given, as far as was known then, and what it cost, as is known now. Needs
-- 0012_command_outcomes.sql.

-- Prices are few beside telemetry, and asked for by the time that they are for.
CREATE INDEX grid_signals_prices ON gridtide.grid_signals (settlement_point, run_id, starts_at, published_at)
WHERE kind = 'price';

CREATE FUNCTION gridtide.price_at(
    asked_fleet_id text, asked_settlement_point text, asked_at timestamptz, known_at timestamptz
) RETURNS TABLE (price_usd_per_mwh double precision, published_at timestamptz)
LANGUAGE sql STABLE PARALLEL SAFE
BEGIN ATOMIC
    SELECT
        price.price_usd_per_mwh,
        price.published_at
    FROM gridtide.grid_signals AS price
    WHERE
        price.kind = 'price' AND price.market = 'real-time'
        AND price.run_id = gridtide.asked_run() AND price.fleet_id = asked_fleet_id
        AND price.settlement_point = asked_settlement_point
        AND price.starts_at <= asked_at AND price.starts_at > asked_at - INTERVAL '1 day'
        AND price.ends_at > asked_at - CASE WHEN known_at = 'infinity' THEN INTERVAL '0' ELSE INTERVAL '3 minutes' END
        AND price.published_at <= known_at
    -- As the policy chooses: of those that hold the one said last; if none does, the one that ended last.
    ORDER BY
        price.ends_at > asked_at DESC,
        CASE WHEN price.ends_at > asked_at THEN asked_at ELSE price.ends_at END DESC,
        price.published_at DESC,
        price.signal_id DESC
    LIMIT 1;
END;
COMMENT ON FUNCTION gridtide.price_at(text, text, timestamptz, timestamptz) IS
    'Real-time price (USD/MWh) at a settlement point at asked_at, as published by known_at (infinity: as known now), '
    'in the run asked for. Of several that hold the one published last counts. As known then, the last one stands for '
    'another 3 minutes when its interval is over (the fleet file''s stale_seconds by default): markets publish late.';

CREATE VIEW gridtide.decisions AS
SELECT
    outcome.*,
    plan.issued_at AS plan_issued_at,
    plan.revision AS plan_revision,
    plan.owner AS plan_owner,
    plan.mode AS plan_mode,
    plan.explanation AS plan_explanation,
    plan.rejected AS plan_rejected,
    plan.newest_power_window_end AS known_power_window_end,
    plan.newest_forecast_issued_at AS known_forecast_issued_at,
    plan.stale_site_ids,
    signals.known AS known_signals,
    price_then.price_usd_per_mwh AS known_price_usd_per_mwh,
    price_then.published_at AS known_price_published_at,
    state.window_end AS known_state_window_end,
    state.meter_power_watts AS known_meter_power_watts,
    state.utilization_ratio AS known_utilization_ratio,
    load.tokens_arrived_per_second AS known_tokens_arrived_per_second,
    load.tokens_queued AS known_tokens_queued,
    forecast.issued_at AS known_site_forecast_issued_at,
    forecast.horizons AS known_forecast_horizons,
    base.power_watts AS baseline_power_watts,
    cost.measured_seconds,
    cost.energy_kwh,
    cost.measured_seconds * base.power_watts / 3.6e6 AS price_blind_energy_kwh,
    cost.priced_ratio,
    cost.cost_usd,
    cost.usd_per_megawatt * base.power_watts / 1e6 AS price_blind_cost_usd,
    cost.usd_per_megawatt * base.power_watts / 1e6 - cost.cost_usd AS saved_usd,
    tokens.not_served AS tokens_not_served
FROM gridtide.command_outcomes AS outcome
LEFT JOIN gridtide.site_spans AS site
    ON
        site.run_id = outcome.run_id AND site.site_id = outcome.site_id
        AND site.holds_from <= outcome.issued_at AND outcome.issued_at < site.holds_until
-- The plan that it follows from: the newest of its epoch whose commands reach up to it.
LEFT JOIN LATERAL (
    SELECT
        made.*,
        (made.inputs ->> 'newest_power_window_end')::timestamptz AS newest_power_window_end,
        (made.inputs ->> 'newest_forecast_issued_at')::timestamptz AS newest_forecast_issued_at,
        ARRAY(SELECT jsonb_array_elements_text(made.inputs -> 'signal_ids')) AS signal_ids,
        ARRAY(SELECT jsonb_array_elements_text(made.inputs -> 'stale_site_ids')) AS stale_site_ids
    FROM gridtide.fleet_plans AS made
    WHERE
        made.run_id = outcome.run_id AND made.fleet_id = outcome.fleet_id AND made.kind = 'plan'
        AND made.epoch = outcome.epoch AND made.sequence >= outcome.sequence
        AND made.issued_at <= outcome.issued_at AND made.issued_at > outcome.issued_at - INTERVAL '1 hour'
    ORDER BY made.issued_at DESC, made.revision
    LIMIT 1
) AS plan ON true
CROSS JOIN LATERAL (
    SELECT jsonb_agg(jsonb_strip_nulls(to_jsonb(said)) ORDER BY said.signal_id) AS known
    FROM (
        SELECT unnest(outcome.caused_by) AS signal_id
        UNION
        SELECT unnest(plan.signal_ids)
    ) AS named
    CROSS JOIN LATERAL (
        SELECT
            signal.signal_id,
            signal.kind,
            signal.published_at,
            signal.starts_at,
            signal.ends_at,
            signal.settlement_point,
            signal.price_usd_per_mwh,
            signal.reduction_ratio,
            signal.target_power_watts,
            signal.ramp_seconds,
            signal.cancelled
        FROM gridtide.grid_signals AS signal
        WHERE
            signal.signal_id = named.signal_id AND signal.published_at <= outcome.issued_at
            AND signal.fleet_id = outcome.fleet_id AND signal.run_id = outcome.run_id
        ORDER BY signal.published_at DESC
        LIMIT 1
    ) AS said
) AS signals
LEFT JOIN LATERAL gridtide.price_at(
    outcome.fleet_id, site.settlement_point, outcome.issued_at, outcome.issued_at
) AS price_then ON true
-- No more than the plan says it knew of: what had ended by then may not have been out yet.
LEFT JOIN LATERAL (
    SELECT
        power.window_end,
        coalesce(power.meter_power_watts, power.it_power_watts * site.pue) AS meter_power_watts,
        power.utilization_ratio
    FROM gridtide.site_power AS power
    WHERE
        power.run_id = outcome.run_id AND power.site_id = outcome.site_id
        AND power.window_start > outcome.issued_at - INTERVAL '1 hour' AND power.window_start < outcome.issued_at
        AND power.window_end <= coalesce(plan.newest_power_window_end, outcome.issued_at)
    ORDER BY power.window_start DESC
    LIMIT 1
) AS state ON true
LEFT JOIN LATERAL (
    SELECT
        closed.tokens_arrived_per_second,
        closed.tokens_queued
    FROM gridtide.site_load AS closed
    WHERE
        closed.run_id = outcome.run_id AND closed.site_id = outcome.site_id
        AND closed.window_start > outcome.issued_at - INTERVAL '1 hour' AND closed.window_start < outcome.issued_at
        AND closed.window_end <= coalesce(plan.newest_power_window_end, outcome.issued_at)
    ORDER BY closed.window_start DESC
    LIMIT 1
) AS load ON true
LEFT JOIN LATERAL (
    SELECT
        foreseen.issued_at,
        foreseen.horizons
    FROM gridtide.site_forecasts AS foreseen
    WHERE
        foreseen.run_id = outcome.run_id AND foreseen.site_id = outcome.site_id
        AND foreseen.issued_at <= outcome.issued_at AND foreseen.issued_at > outcome.issued_at - INTERVAL '1 day'
        AND (plan.inputs IS NULL OR foreseen.issued_at <= plan.newest_forecast_issued_at)
    ORDER BY foreseen.issued_at DESC
    LIMIT 1
) AS forecast ON true
CROSS JOIN LATERAL (
    SELECT
        coalesce(
            max(baseline.power_watts),
            gridtide.mean_meter_power(
                outcome.site_id, outcome.in_force_from - INTERVAL '5 minutes', outcome.in_force_from
            )
        ) AS power_watts
    FROM jsonb_to_recordset(plan.baselines) AS baseline (signal_id text, site_id text, power_watts double precision)
    WHERE
        baseline.site_id = outcome.site_id
        AND (
            baseline.signal_id = ANY(outcome.caused_by)
            OR (baseline.signal_id = 'economics' AND outcome.reason = 'economics')
        )
) AS base
CROSS JOIN LATERAL (
    SELECT
        sum(minute.seconds) AS measured_seconds,
        sum(minute.joules) / 3.6e6 AS energy_kwh,
        sum(minute.seconds) FILTER (WHERE price.price_usd_per_mwh IS NOT NULL) / sum(minute.seconds) AS priced_ratio,
        sum(minute.joules * price.price_usd_per_mwh) / 3.6e9 AS cost_usd,
        sum(minute.seconds * price.price_usd_per_mwh) / 3600 AS usd_per_megawatt
    FROM (
        SELECT
            date_bin('1 minute', meter.window_start, '2000-01-03 00:00+00') AS starts_at,
            sum(meter.power_watts * meter.seconds) AS joules,
            sum(meter.seconds) AS seconds
        FROM gridtide.meter_windows(
            outcome.run_id, ARRAY[outcome.site_id], outcome.in_force_from, outcome.in_force_until
        ) AS meter
        GROUP BY 1
    ) AS minute
    LEFT JOIN LATERAL gridtide.price_at(
        outcome.fleet_id, site.settlement_point, minute.starts_at, 'infinity'
    ) AS price ON true
) AS cost
CROSS JOIN LATERAL (
    SELECT
        sum(span.seconds) FILTER (WHERE span.during)
        * sum(span.tokens) FILTER (WHERE NOT span.during) / sum(span.seconds) FILTER (WHERE NOT span.during)
        - sum(span.tokens) FILTER (WHERE span.during) AS not_served
    FROM gridtide.site_load AS served
    CROSS JOIN LATERAL (
        SELECT extract(EPOCH FROM served.window_end - served.window_start)::double precision AS seconds
    ) AS length
    CROSS JOIN LATERAL (
        SELECT
            length.seconds,
            served.tokens_served_per_second * length.seconds AS tokens,
            served.window_start >= outcome.in_force_from AS during
    ) AS span
    WHERE
        served.run_id = outcome.run_id AND served.site_id = outcome.site_id
        AND served.window_start >= outcome.in_force_from - INTERVAL '5 minutes'
        AND served.window_start < outcome.in_force_until
) AS tokens;
COMMENT ON VIEW gridtide.decisions IS
    'Why each command was given and what came of it: what was known when it was made, and what it cost as is known '
    'now. One row a command. Ask by issued_at. Costs are of the command''s time in force: rows that are no renewals '
    'add up to the control''s. See also why().';
COMMENT ON COLUMN gridtide.decisions.plan_issued_at IS
    'when the plan that it follows from was made, UTC; null where the history has none';
COMMENT ON COLUMN gridtide.decisions.plan_revision IS 'revision of the plan in its epoch';
COMMENT ON COLUMN gridtide.decisions.plan_owner IS 'worker that planned';
COMMENT ON COLUMN gridtide.decisions.plan_mode IS 'normal, hold, price-blind or rule-based';
COMMENT ON COLUMN gridtide.decisions.plan_explanation IS 'why the plan is as it is, for people';
COMMENT ON COLUMN gridtide.decisions.plan_rejected IS 'alternatives considered, and why each was not taken';
COMMENT ON COLUMN gridtide.decisions.known_power_window_end IS
    'end of the fleet''s newest power window that the plan knew of, UTC';
COMMENT ON COLUMN gridtide.decisions.known_forecast_issued_at IS
    'issue of the fleet''s newest forecast that the plan knew of, UTC';
COMMENT ON COLUMN gridtide.decisions.stale_site_ids IS 'sites of which the plan knew no recent power';
COMMENT ON COLUMN gridtide.decisions.known_signals IS
    'signals that the command answers or the plan rests on, as last published by then; units as in grid_signals';
COMMENT ON COLUMN gridtide.decisions.known_price_usd_per_mwh IS
    'real-time price at the site as published by then, USD/MWh; null where none held';
COMMENT ON COLUMN gridtide.decisions.known_price_published_at IS 'when that price was published, UTC';
COMMENT ON COLUMN gridtide.decisions.known_state_window_end IS 'end of the site''s newest power window known then, UTC';
COMMENT ON COLUMN gridtide.decisions.known_meter_power_watts IS 'the site''s mean meter power in it, W';
COMMENT ON COLUMN gridtide.decisions.known_utilization_ratio IS 'the site''s mean GPU utilization in it, ratio 0-1';
COMMENT ON COLUMN gridtide.decisions.known_tokens_arrived_per_second IS
    'tokens that arriving requests wanted, newest load window known then, 1/s';
COMMENT ON COLUMN gridtide.decisions.known_tokens_queued IS 'tokens waiting at its end, count';
COMMENT ON COLUMN gridtide.decisions.known_site_forecast_issued_at IS
    'issue of the site''s newest forecast known then, UTC';
COMMENT ON COLUMN gridtide.decisions.known_forecast_horizons IS
    'that forecast: per horizon (s) tokens per second by quantile, as in site_forecasts';
COMMENT ON COLUMN gridtide.decisions.baseline_power_watts IS
    'meter power without the command, W: pinned in the plan, else the mean of the five minutes before';
COMMENT ON COLUMN gridtide.decisions.measured_seconds IS
    'time in force for which meter power is known, s; what follows is of this time';
COMMENT ON COLUMN gridtide.decisions.energy_kwh IS 'energy at the meter, kWh';
COMMENT ON COLUMN gridtide.decisions.price_blind_energy_kwh IS 'energy had the site drawn its baseline, kWh';
COMMENT ON COLUMN gridtide.decisions.priced_ratio IS
    'part of the measured time for which a price is known, ratio 0-1; the costs are of this part';
COMMENT ON COLUMN gridtide.decisions.cost_usd IS 'energy at the meter at real-time prices as known now, USD';
COMMENT ON COLUMN gridtide.decisions.price_blind_cost_usd IS
    'the same for the baseline: what doing nothing would have cost, USD';
COMMENT ON COLUMN gridtide.decisions.saved_usd IS
    'price-blind cost less cost, USD; negative where the command cost money';
COMMENT ON COLUMN gridtide.decisions.tokens_not_served IS
    'tokens fewer than at the rate of the five minutes before, count; negative where there were more';

-- What command_outcomes says of its columns holds here too.
DO $$
DECLARE
    outcome record;
BEGIN
    FOR outcome IN
        SELECT attname AS name, col_description(attrelid, attnum) AS about
        FROM pg_attribute WHERE attrelid = 'gridtide.command_outcomes'::regclass AND attnum > 0
    LOOP
        EXECUTE format('COMMENT ON COLUMN gridtide.decisions.%I IS %L', outcome.name, outcome.about);
    END LOOP;
END
$$;

-- Without JIT: the plan is large and soon run, compiling it took 10 s where running it takes 0.1 s.
CREATE FUNCTION gridtide.why(asked_site_id text, asked_at timestamptz) RETURNS SETOF gridtide.decisions
LANGUAGE sql STABLE PARALLEL SAFE SET jit = off
BEGIN ATOMIC
    SELECT decision.*
    FROM gridtide.decisions AS decision
    WHERE
        decision.site_id = asked_site_id AND NOT decision.renewal
        AND decision.issued_at <= asked_at AND decision.issued_at > asked_at - INTERVAL '7 days'
        AND decision.in_force_from <= asked_at AND decision.in_force_until > asked_at
    ORDER BY
        array_position(ARRAY['emergency', 'ramp', 'event', 'service', 'economics'], decision.reason),
        decision.target_power_watts;
END;
COMMENT ON FUNCTION gridtide.why(text, timestamptz) IS
    'The decisions in force at a site at a time, the strongest first: SELECT * FROM gridtide.why(''austin-1'', '
    '''2026-11-01 14:05Z''). Commands given more than seven days before are not looked for.';
