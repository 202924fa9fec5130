-- What each grid event asks of each site, and from what baseline. Needs 0005. Windows are read by their time from
-- site_power itself, not from the aggregates: on plain PostgreSQL those can't be asked for an hour without reading all.

-- Signals are few beside telemetry: these cost the recorder next to nothing, and events and prices are asked for by
-- the time that they speak of, not by when they were published.
CREATE INDEX grid_signals_by_signal ON gridtide.grid_signals (signal_id, published_at);
CREATE INDEX grid_signals_events ON gridtide.grid_signals (starts_at) WHERE kind IN ('event', 'emergency');

CREATE FUNCTION gridtide.meter_windows(
    asked_run_id text, asked_site_ids text [], since timestamptz, before timestamptz
) RETURNS TABLE (
    site_id text, window_start timestamptz, seconds double precision, power_watts double precision
)
LANGUAGE sql STABLE PARALLEL SAFE
BEGIN ATOMIC
    SELECT
        power.site_id,
        power.window_start,
        extract(EPOCH FROM power.window_end - power.window_start)::double precision,
        coalesce(power.meter_power_watts, power.it_power_watts * span.pue)
    FROM gridtide.site_power AS power
    LEFT JOIN gridtide.site_spans AS span
        ON
            span.run_id = asked_run_id AND span.site_id = power.site_id
            AND span.holds_from <= power.window_start AND power.window_start < span.holds_until
    WHERE
        power.run_id = asked_run_id AND power.site_id = ANY(asked_site_ids)
        AND power.window_start >= since AND power.window_start < before
        AND coalesce(power.meter_power_watts, power.it_power_watts * span.pue) IS NOT NULL;
END;
COMMENT ON FUNCTION gridtide.meter_windows(text, text [], timestamptz, timestamptz) IS
    'Mean meter power (W) of sites over each window that begins in the span, with the window''s length (s). '
    'Where the meter was silent: IT power times the site''s PUE.';

CREATE FUNCTION gridtide.mean_meter_power(
    asked_site_id text, since timestamptz, before timestamptz
) RETURNS double precision
LANGUAGE sql STABLE PARALLEL SAFE
RETURN (
    SELECT sum(meter.power_watts * meter.seconds) / sum(meter.seconds)
    FROM gridtide.meter_windows(gridtide.asked_run(), ARRAY[asked_site_id], since, before) AS meter
);
COMMENT ON FUNCTION gridtide.mean_meter_power(text, timestamptz, timestamptz) IS
    'Mean meter power of a site over the windows that begin in the span, W, in the run asked for; null where there are '
    'none.';

CREATE VIEW gridtide.grid_events AS
SELECT
    held.run_id,
    held.fleet_id,
    held.signal_id,
    held.kind,
    held.starts_at,
    held.ends_at,
    -- A ramp longer than the event leaves nothing to hold.
    least(held.starts_at + coalesce(held.ramp_seconds, 0) * INTERVAL '1 second', held.ends_at) AS held_from,
    heard.first_published_at,
    held.published_at,
    held.site_ids,
    held.reduction_ratio,
    held.target_power_watts,
    coalesce(held.cancelled, false) AS cancelled
FROM gridtide.grid_signals AS held
CROSS JOIN LATERAL (
    SELECT min(said.published_at) AS first_published_at, max(said.published_at) AS last_published_at
    FROM gridtide.grid_signals AS said
    WHERE said.signal_id = held.signal_id AND said.fleet_id = held.fleet_id AND said.run_id = held.run_id
) AS heard
WHERE
    held.kind IN ('event', 'emergency') AND held.run_id = gridtide.asked_run()
    AND held.published_at = heard.last_published_at;
COMMENT ON VIEW gridtide.grid_events IS
    'Grid events and emergencies as last revised, one row a fleet and signal. Ask by starts_at.';

COMMENT ON COLUMN gridtide.grid_events.run_id IS '`live`, or the name of the replay or demo';
COMMENT ON COLUMN gridtide.grid_events.fleet_id IS 'fleet that the event concerns';
COMMENT ON COLUMN gridtide.grid_events.signal_id IS 'names the event across its revisions';
COMMENT ON COLUMN gridtide.grid_events.kind IS 'event or emergency';
COMMENT ON COLUMN gridtide.grid_events.starts_at IS 'start of the event, UTC';
COMMENT ON COLUMN gridtide.grid_events.ends_at IS 'end of the event, UTC';
COMMENT ON COLUMN gridtide.grid_events.held_from IS 'when the ramp is over and the target must hold, UTC';
COMMENT ON COLUMN gridtide.grid_events.first_published_at IS 'when its first revision was published, UTC';
COMMENT ON COLUMN gridtide.grid_events.published_at IS 'when the revision that holds was published, UTC';
COMMENT ON COLUMN gridtide.grid_events.site_ids IS 'sites meant, empty for every site of the fleet';
COMMENT ON COLUMN gridtide.grid_events.reduction_ratio IS 'reduction from the baseline, ratio 0-1; or the target';
COMMENT ON COLUMN gridtide.grid_events.target_power_watts IS 'meter power of the sites together, W; or the reduction';
COMMENT ON COLUMN gridtide.grid_events.cancelled IS 'whether the event was withdrawn';

-- High 5 of 10, of the run asked for. Days are counted in steps of 24 hours, so that they have the same UTC hours.
CREATE FUNCTION gridtide.high_5_of_10(
    asked_fleet_id text, asked_site_ids text [], event_starts_at timestamptz, event_ends_at timestamptz
) RETURNS TABLE (site_id text, baseline_power_watts double precision)
LANGUAGE sql STABLE PARALLEL SAFE
BEGIN ATOMIC
    WITH days AS MATERIALIZED (
        SELECT
            day.back,
            event_starts_at - day.back * INTERVAL '24 hours' AS starts_at,
            event_ends_at - day.back * INTERVAL '24 hours' AS ends_at
        FROM generate_series(1, 45) AS day (back)
        WHERE
            event_ends_at - day.back * INTERVAL '24 hours' <= event_starts_at - INTERVAL '4 hours'
            AND (extract(ISODOW FROM (event_starts_at - day.back * INTERVAL '24 hours') AT TIME ZONE 'UTC') >= 6)
            = (extract(ISODOW FROM event_starts_at AT TIME ZONE 'UTC') >= 6)
    ),

    others AS MATERIALIZED (
        SELECT
            event.starts_at,
            event.ends_at,
            event.site_ids
        FROM gridtide.grid_events AS event
        WHERE
            event.fleet_id = asked_fleet_id AND NOT event.cancelled
            AND event.starts_at > event_starts_at - INTERVAL '52 days' AND event.starts_at < event_starts_at
    ),

    -- Grouped day by day, so that no plan can read all of history at once and then look for the days in it.
    metered AS MATERIALIZED (
        SELECT
            days.*,
            day.site_id,
            day.power_watts
        FROM days
        CROSS JOIN LATERAL (
            SELECT
                meter.site_id,
                sum(meter.power_watts * meter.seconds) / sum(meter.seconds) AS power_watts
            FROM gridtide.meter_windows(
                gridtide.asked_run(), asked_site_ids, days.starts_at, days.ends_at
            ) AS meter
            GROUP BY meter.site_id
            HAVING sum(meter.seconds) >= 0.9 * extract(EPOCH FROM event_ends_at - event_starts_at)
        ) AS day
    ),

    newest AS (
        SELECT
            metered.*,
            row_number() OVER (PARTITION BY metered.site_id ORDER BY metered.back) AS place
        FROM metered
        WHERE NOT EXISTS (
            SELECT FROM others
            WHERE
                others.starts_at < metered.ends_at AND others.ends_at > metered.starts_at - INTERVAL '4 hours'
                AND (cardinality(others.site_ids) = 0 OR metered.site_id = ANY(others.site_ids))
        )
    ),

    ranked AS (
        SELECT
            newest.*,
            count(*) OVER (PARTITION BY newest.site_id) AS days,
            row_number() OVER (PARTITION BY newest.site_id ORDER BY newest.power_watts DESC, newest.back) AS height
        FROM newest
        WHERE newest.place <= 10
    ),

    adjusted AS (
        SELECT
            ranked.site_id,
            avg(ranked.power_watts) AS power_watts,
            avg(today.power_watts) - avg(before.power_watts) AS adjustment_watts
        FROM ranked
        CROSS JOIN LATERAL gridtide.mean_meter_power(
            ranked.site_id, ranked.starts_at - INTERVAL '4 hours', ranked.starts_at - INTERVAL '2 hours'
        ) AS before (power_watts)
        CROSS JOIN LATERAL gridtide.mean_meter_power(
            ranked.site_id, event_starts_at - INTERVAL '4 hours', event_starts_at - INTERVAL '2 hours'
        ) AS today (power_watts)
        WHERE ranked.days = 10 AND ranked.height <= 5
        GROUP BY ranked.site_id
    )

    SELECT
        adjusted.site_id,
        adjusted.power_watts + greatest(
            -0.2 * adjusted.power_watts, least(0.2 * adjusted.power_watts, coalesce(adjusted.adjustment_watts, 0))
        )
    FROM adjusted;
END;
COMMENT ON FUNCTION gridtide.high_5_of_10(text, text [], timestamptz, timestamptz) IS
    'What sites would have drawn (W, mean over the event''s hours): the mean of the five highest of the ten newest '
    'like days, within the 45 days before, plus a day-of adjustment. Like days are weekdays for a weekday and weekend'
    ' days for a weekend day (UTC), metered for 90 % of the hours, with no other event at the site in them or in the '
    'four hours before. The adjustment is what the two hours that begin four hours before the event lie above or '
    'below the same hours of the five days, at most 20 % of their mean either way. No row with fewer than ten such '
    'days. Days, adjustment hours and the 20 % are those of NYISO''s Customer Baseline Load (Emergency Demand '
    'Response Program Manual, section 5); the adjustment is added, not multiplied, as in PJM''s Symmetric Additive '
    'Adjustment (Manual 11, section 10; KEMA, PJM Empirical Analysis of Demand Response Baseline Methods, 2011). Of '
    'the kind Baseline Type-I of NAESB WEQ-015. Neither holidays nor days of little use are left out, and hours are '
    'UTC, not local.';

CREATE VIEW gridtide.event_targets AS
SELECT
    based.run_id,
    based.fleet_id,
    based.signal_id,
    based.site_id,
    based.kind,
    based.starts_at,
    based.ends_at,
    based.held_from,
    based.published_at,
    based.cancelled,
    based.baseline_power_watts,
    based.baseline_method,
    CASE
        WHEN based.reduction_ratio IS NOT NULL THEN based.baseline_power_watts * (1 - based.reduction_ratio)
        ELSE
            based.fleet_target_power_watts * based.baseline_power_watts
            / nullif(sum(based.baseline_power_watts) OVER of_event, 0)
    END AS target_power_watts,
    based.ramp_down_watts_per_second,
    based.ramp_up_watts_per_second
FROM (
    SELECT
        event.*,
        event.target_power_watts AS fleet_target_power_watts,
        site.site_id,
        site.ramp_down_watts_per_second,
        site.ramp_up_watts_per_second,
        coalesce(
            history.baseline_power_watts, pinned.power_watts, before.power_watts
        ) AS baseline_power_watts,
        CASE
            WHEN history.baseline_power_watts IS NOT NULL THEN 'high-5-of-10'
            WHEN pinned.power_watts IS NOT NULL THEN 'plan'
            WHEN before.power_watts IS NOT NULL THEN 'five-minutes-before'
        END AS baseline_method
    FROM gridtide.grid_events AS event
    CROSS JOIN LATERAL (
        SELECT array_agg(span.site_id) AS asked_site_ids
        FROM gridtide.site_spans AS span
        WHERE
            span.run_id = event.run_id AND span.fleet_id = event.fleet_id
            AND span.holds_from <= event.starts_at AND event.starts_at < span.holds_until
            AND (cardinality(event.site_ids) = 0 OR span.site_id = ANY(event.site_ids))
    ) AS asked
    INNER JOIN gridtide.site_spans AS site
        ON
            site.run_id = event.run_id AND site.site_id = ANY(asked.asked_site_ids)
            AND site.holds_from <= event.starts_at AND event.starts_at < site.holds_until
    LEFT JOIN LATERAL gridtide.high_5_of_10(
        event.fleet_id, asked.asked_site_ids, event.starts_at, event.ends_at
    ) AS history
        ON history.site_id = site.site_id
    LEFT JOIN LATERAL (
        SELECT baseline.power_watts
        FROM gridtide.fleet_plans AS plan
        CROSS JOIN LATERAL jsonb_to_recordset(plan.baselines) AS baseline (
            signal_id text, site_id text, power_watts double precision
        )
        WHERE
            plan.run_id = event.run_id AND plan.fleet_id = event.fleet_id AND plan.kind = 'plan'
            AND plan.issued_at >= event.first_published_at AND plan.issued_at < event.ends_at
            AND baseline.signal_id = event.signal_id AND baseline.site_id = site.site_id
        ORDER BY plan.issued_at
        LIMIT 1
    ) AS pinned ON true
    CROSS JOIN LATERAL gridtide.mean_meter_power(
        site.site_id, event.first_published_at - INTERVAL '5 minutes', event.first_published_at
    ) AS before (power_watts)
) AS based
-- All that a reader may filter by stands here, so that the filter goes in before the work.
WINDOW of_event AS (
    PARTITION BY based.run_id, based.fleet_id, based.signal_id, based.kind, based.starts_at, based.ends_at
);
COMMENT ON VIEW gridtide.event_targets IS
    'What each event asks of each site, and from what baseline. Sites are those that the event names, or all of the '
    'fleet, as described when it starts.';
COMMENT ON COLUMN gridtide.event_targets.run_id IS '`live`, or the name of the replay or demo';
COMMENT ON COLUMN gridtide.event_targets.fleet_id IS 'fleet that the event concerns';
COMMENT ON COLUMN gridtide.event_targets.signal_id IS 'names the event across its revisions';
COMMENT ON COLUMN gridtide.event_targets.site_id IS 'site, one data centre';
COMMENT ON COLUMN gridtide.event_targets.kind IS 'event or emergency';
COMMENT ON COLUMN gridtide.event_targets.starts_at IS 'start of the event, UTC';
COMMENT ON COLUMN gridtide.event_targets.ends_at IS 'end of the event, UTC';
COMMENT ON COLUMN gridtide.event_targets.held_from IS 'when the ramp is over and the target must hold, UTC';
COMMENT ON COLUMN gridtide.event_targets.published_at IS 'when the revision that holds was published, UTC';
COMMENT ON COLUMN gridtide.event_targets.cancelled IS 'whether the event was withdrawn';
COMMENT ON COLUMN gridtide.event_targets.baseline_power_watts IS
    'meter power that a reduction is measured from, W; null where nothing is known';
COMMENT ON COLUMN gridtide.event_targets.baseline_method IS
    'high-5-of-10 (see that function); else plan: pinned by the first plan that heard of the event; else '
    'five-minutes-before: mean before the event was first published; null where there is no baseline';
COMMENT ON COLUMN gridtide.event_targets.target_power_watts IS
    'meter power to stay below, W: the baseline less the reduction, or the site''s share of the target by baselines';
COMMENT ON COLUMN gridtide.event_targets.ramp_down_watts_per_second IS 'how fast the site''s power may fall, W/s';
COMMENT ON COLUMN gridtide.event_targets.ramp_up_watts_per_second IS 'how fast the site''s power may rise, W/s';
