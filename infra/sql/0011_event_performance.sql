-- How each site, and the fleet, answered each grid event. Needs 0009_event_targets.sql.

CREATE FUNCTION gridtide.slower_share(place bigint, objective_seconds double precision) RETURNS double precision
LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN CASE
    WHEN place > cardinality(gridtide.latency_bounds_seconds()) THEN 1
    ELSE greatest(0, least(
        1,
        ((gridtide.latency_bounds_seconds())[place] - objective_seconds)
        / ((gridtide.latency_bounds_seconds())[place] - coalesce((gridtide.latency_bounds_seconds())[place - 1], 0))
    ))
END;
COMMENT ON FUNCTION gridtide.slower_share(bigint, double precision) IS
    'Share (0-1) of a latency bucket''s requests that took longer than the objective: whole buckets above it, linear '
    'inside its own. Buckets are counted from 1; the open last one counts as above.';

CREATE VIEW gridtide.event_performance AS
SELECT
    target.run_id,
    target.fleet_id,
    target.signal_id,
    target.site_id,
    target.kind,
    target.starts_at,
    target.ends_at,
    target.held_from,
    target.published_at,
    target.cancelled,
    target.baseline_power_watts,
    target.baseline_method,
    target.target_power_watts,
    held.joules / held.seconds AS held_power_watts,
    CASE
        WHEN NOT target.cancelled
            THEN coalesce(held.seconds / nullif(extract(EPOCH FROM target.ends_at - target.held_from), 0), 0)
    END AS measured_ratio,
    promised.energy_kwh AS promised_kwh,
    delivered.energy_kwh AS delivered_kwh,
    delivered.ratio AS delivered_ratio,
    CASE WHEN delivered.ratio IS NOT NULL THEN greatest(delivered.ratio - 1, 0) END AS over_delivery_ratio,
    held.minutes_judged,
    -- Of what nobody has measured nothing is said: neither that it was good nor that it was not.
    CASE WHEN held.minutes_judged > 0 THEN held.minutes_over_target END AS minutes_over_target,
    CASE WHEN held.minutes_judged > 0 THEN greatest(held.worst_minute_excess_watts, 0) END AS worst_minute_excess_watts,
    extract(EPOCH FROM steps.first_at_target - target.starts_at)::double precision AS time_to_target_seconds,
    steps.ramp_violations,
    steps.restore_jump_watts,
    service.requests_served,
    service.service_misses,
    tokens.served AS tokens_served,
    tokens.per_second AS tokens_served_per_second,
    tokens.per_second_before AS tokens_served_per_second_before
FROM gridtide.event_targets AS target
LEFT JOIN LATERAL (
    SELECT
        sum(minute.joules) AS joules,
        sum(minute.seconds) AS seconds,
        count(*) FILTER (WHERE minute.whole) AS minutes_judged,
        -- The margin is what floating point leaves.
        count(*) FILTER (WHERE minute.whole AND minute.watts > target.target_power_watts * (1 + 1e-9))
        AS minutes_over_target,
        max(minute.watts - target.target_power_watts) FILTER (WHERE minute.whole) AS worst_minute_excess_watts
    FROM (
        SELECT
            sum(meter.power_watts * meter.seconds) AS joules,
            sum(meter.seconds) AS seconds,
            sum(meter.power_watts * meter.seconds) / sum(meter.seconds) AS watts,
            clock.minute >= target.held_from AND clock.minute + INTERVAL '1 minute' <= target.ends_at AS whole
        FROM gridtide.meter_windows(target.run_id, ARRAY[target.site_id], target.held_from, target.ends_at) AS meter
        CROSS JOIN LATERAL date_bin('1 minute', meter.window_start, '2000-01-03 00:00+00') AS clock (minute)
        GROUP BY clock.minute
    ) AS minute
) AS held ON NOT target.cancelled
LEFT JOIN LATERAL (
    SELECT
        min(step.window_start) FILTER (
            WHERE step.window_start >= target.starts_at AND step.window_start < target.ends_at
            AND step.power_watts <= target.target_power_watts * (1 + 1e-9)
        ) AS first_at_target,
        count(*) FILTER (
            WHERE step.rise_watts - 0.02 * greatest(step.power_watts, step.power_watts - step.rise_watts)
            > target.ramp_up_watts_per_second * step.since_seconds
            OR -step.rise_watts - 0.02 * greatest(step.power_watts, step.power_watts - step.rise_watts)
            > target.ramp_down_watts_per_second * step.since_seconds
        ) AS ramp_violations,
        greatest(max(step.rise_watts) FILTER (WHERE step.window_start >= target.ends_at), 0) AS restore_jump_watts
    FROM (
        SELECT
            meter.window_start,
            meter.power_watts,
            meter.power_watts - lag(meter.power_watts) OVER in_time AS rise_watts,
            extract(EPOCH FROM meter.window_start - lag(meter.window_start) OVER in_time) AS since_seconds
        FROM gridtide.meter_windows(
            target.run_id, ARRAY[target.site_id],
            target.starts_at - INTERVAL '15 minutes', target.ends_at + INTERVAL '15 minutes'
        ) AS meter
        WINDOW in_time AS (ORDER BY meter.window_start)
    ) AS step
) AS steps ON NOT target.cancelled
CROSS JOIN LATERAL (
    SELECT
        CASE
            WHEN NOT target.cancelled
                THEN
                    (target.baseline_power_watts - target.target_power_watts)
                    * extract(EPOCH FROM target.ends_at - target.held_from)::double precision / 3.6e6
        END AS energy_kwh
) AS promised
CROSS JOIN LATERAL (
    SELECT
        below.energy_kwh,
        below.energy_kwh / nullif(promised.energy_kwh, 0) AS ratio
    FROM (SELECT (target.baseline_power_watts * held.seconds - held.joules) / 3.6e6 AS energy_kwh) AS below
) AS delivered
LEFT JOIN LATERAL (
    SELECT
        sum(bucket.requests) AS requests_served,
        sum(bucket.requests * gridtide.slower_share(bucket.place, class.ttft_objective_seconds)) AS service_misses
    FROM gridtide.site_class_load AS load
    -- The description that held then; the first one from ever.
    CROSS JOIN LATERAL (
        SELECT described.ttft_objective_seconds
        FROM gridtide.service_classes AS described
        WHERE described.run_id = load.run_id AND described.service_class = load.service_class
        ORDER BY
            described.known_from <= target.starts_at DESC,
            abs(extract(EPOCH FROM described.known_from - target.starts_at))
        LIMIT 1
    ) AS class
    CROSS JOIN LATERAL unnest(load.ttft_seconds_counts) WITH ORDINALITY AS bucket (requests, place)
    WHERE
        load.run_id = target.run_id AND load.site_id = target.site_id
        AND load.window_start >= target.starts_at AND load.window_start < target.ends_at
        AND bucket.requests > 0
) AS service ON NOT target.cancelled
LEFT JOIN LATERAL (
    SELECT
        sum(load.tokens_served_per_second * span.seconds) FILTER (WHERE span.during) AS served,
        sum(load.tokens_served_per_second * span.seconds) FILTER (WHERE span.during)
        / sum(span.seconds) FILTER (WHERE span.during) AS per_second,
        sum(load.tokens_served_per_second * span.seconds) FILTER (WHERE NOT span.during)
        / sum(span.seconds) FILTER (WHERE NOT span.during) AS per_second_before
    FROM gridtide.site_load AS load
    CROSS JOIN LATERAL (
        SELECT
            extract(EPOCH FROM load.window_end - load.window_start)::double precision AS seconds,
            load.window_start >= target.starts_at AS during
    ) AS span
    WHERE
        load.run_id = target.run_id AND load.site_id = target.site_id
        AND load.window_start >= target.starts_at - INTERVAL '1 hour' AND load.window_start < target.ends_at
) AS tokens ON NOT target.cancelled;
COMMENT ON VIEW gridtide.event_performance IS
    'How each site answered each grid event, one row an event and site, the event as last revised. Ask by starts_at. '
    'Withdrawn events are flagged and judged by nothing. Sites add up in event_performance_fleet: a view of its own, '
    'since a fleet''s minutes over the target are those of its sites together, and no sum of theirs.';

CREATE VIEW gridtide.event_performance_fleet AS
SELECT
    event.run_id,
    event.fleet_id,
    event.signal_id,
    event.kind,
    event.starts_at,
    event.ends_at,
    event.held_from,
    event.published_at,
    event.cancelled,
    event.sites,
    event.baseline_power_watts,
    event.target_power_watts,
    event.held_power_watts,
    event.measured_ratio,
    event.promised_kwh,
    event.delivered_kwh,
    delivered.ratio AS delivered_ratio,
    CASE WHEN delivered.ratio IS NOT NULL THEN greatest(delivered.ratio - 1, 0) END AS over_delivery_ratio,
    together.minutes_judged,
    CASE WHEN together.minutes_judged > 0 THEN together.minutes_over_target END AS minutes_over_target,
    CASE WHEN together.minutes_judged > 0 THEN greatest(together.worst_minute_excess_watts, 0) END
    AS worst_minute_excess_watts,
    event.time_to_target_seconds,
    event.ramp_violations,
    event.service_misses,
    event.tokens_served,
    event.tokens_served_per_second,
    event.tokens_served_per_second_before
FROM (
    SELECT
        site.run_id,
        site.fleet_id,
        site.signal_id,
        site.kind,
        site.starts_at,
        site.ends_at,
        site.held_from,
        site.published_at,
        site.cancelled,
        array_agg(site.site_id) AS site_ids,
        count(*) AS sites,
        sum(site.baseline_power_watts) AS baseline_power_watts,
        sum(site.target_power_watts) AS target_power_watts,
        -- Of a fleet with a site that nobody heard of neither the sum is known nor the last to arrive.
        CASE WHEN count(site.held_power_watts) = count(*) THEN sum(site.held_power_watts) END AS held_power_watts,
        min(site.measured_ratio) AS measured_ratio,
        sum(site.promised_kwh) AS promised_kwh,
        sum(site.delivered_kwh) AS delivered_kwh,
        CASE WHEN count(site.time_to_target_seconds) = count(*) THEN max(site.time_to_target_seconds) END
        AS time_to_target_seconds,
        sum(site.ramp_violations)::bigint AS ramp_violations,
        sum(site.service_misses) AS service_misses,
        sum(site.tokens_served) AS tokens_served,
        sum(site.tokens_served_per_second) AS tokens_served_per_second,
        sum(site.tokens_served_per_second_before) AS tokens_served_per_second_before
    FROM gridtide.event_performance AS site
    GROUP BY
        site.run_id, site.fleet_id, site.signal_id, site.kind, site.starts_at, site.ends_at, site.held_from,
        site.published_at, site.cancelled
) AS event
CROSS JOIN LATERAL (SELECT event.delivered_kwh / nullif(event.promised_kwh, 0) AS ratio) AS delivered
LEFT JOIN LATERAL (
    SELECT
        count(*) AS minutes_judged,
        count(*) FILTER (WHERE minute.watts > event.target_power_watts * (1 + 1e-9)) AS minutes_over_target,
        max(minute.watts - event.target_power_watts) AS worst_minute_excess_watts
    FROM (
        SELECT sum(site.watts) AS watts
        FROM (
            SELECT
                clock.minute,
                sum(meter.power_watts * meter.seconds) / sum(meter.seconds) AS watts
            FROM gridtide.meter_windows(event.run_id, event.site_ids, event.held_from, event.ends_at) AS meter
            CROSS JOIN LATERAL date_bin('1 minute', meter.window_start, '2000-01-03 00:00+00') AS clock (minute)
            WHERE clock.minute >= event.held_from AND clock.minute + INTERVAL '1 minute' <= event.ends_at
            GROUP BY clock.minute, meter.site_id
        ) AS site
        GROUP BY site.minute
        HAVING count(*) = event.sites
    ) AS minute
) AS together ON NOT event.cancelled;
COMMENT ON VIEW gridtide.event_performance_fleet IS
    'How the fleet''s sites together answered each grid event, one row an event. Ask by starts_at.';

-- What both views have in common is said once.
DO $$
DECLARE
    described record;
BEGIN
    FOR described IN
        SELECT column_name, views.name AS view_name, about
        FROM (VALUES
            ('run_id', '`live`, or the name of the replay or demo'),
            ('fleet_id', 'fleet that the event concerns'),
            ('signal_id', 'names the event across its revisions'),
            ('site_id', 'site, one data centre'),
            ('kind', 'event or emergency'),
            ('starts_at', 'start of the event, UTC'),
            ('ends_at', 'end of the event, UTC'),
            ('held_from', 'when the ramp is over and the target must hold, UTC; from then on all is judged'),
            ('published_at', 'when the revision that holds was published, UTC'),
            ('cancelled', 'whether the event was withdrawn'),
            ('sites', 'sites that the event concerns, count'),
            ('baseline_power_watts', 'meter power that a reduction is measured from, W; null where nothing is known'),
            ('baseline_method', 'high-5-of-10, plan or five-minutes-before: see event_targets'),
            ('target_power_watts', 'meter power to stay below, W'),
            ('held_power_watts', 'mean meter power from held_from to ends_at, W; null where it is not known of '
            'every site'),
            ('measured_ratio', 'part of that time for which meter power is known, ratio 0-1; of the fleet: of the '
            'site of which least is known'),
            ('promised_kwh', 'energy below the baseline that was asked for, held_from to ends_at, kWh'),
            ('delivered_kwh', 'energy below the baseline in the measured part of that time, kWh; negative if above it'),
            ('delivered_ratio', 'delivered over promised energy, ratio'),
            ('over_delivery_ratio', 'delivered beyond what was promised, by the promised energy, ratio >= 0'),
            ('minutes_judged', 'whole minutes (UTC) from held_from to ends_at for which meter power is known, of the '
            'fleet: of every site, count'),
            ('minutes_over_target', 'those whose mean meter power was above the target, count; null if none could be '
            'judged'),
            ('worst_minute_excess_watts', 'how far the worst minute''s mean lay above the target, W; 0 if none did, '
            'null if none could be judged'),
            ('time_to_target_seconds', 'from starts_at to the first window at or below the target, s; null if never; '
            'of the fleet: of its last site'),
            ('ramp_violations', 'windows whose mean meter power differs from the window before by more than the '
            'site''s ramp limit times the time between them plus 2 % of the higher one (the meter''s noise), from 15 '
            'minutes before the event to 15 minutes after it, count'),
            ('restore_jump_watts', 'largest rise from one window to the next in the 15 minutes after the event, W'),
            ('requests_served', 'requests served from starts_at to ends_at, count'),
            ('service_misses', 'those whose time to first token was above their class''s objective, count; '
            'interpolated in the bucket that the objective lies in'),
            ('tokens_served', 'tokens generated from starts_at to ends_at, count'),
            ('tokens_served_per_second', 'the same per second, 1/s'),
            ('tokens_served_per_second_before', 'tokens generated in the hour before starts_at, 1/s')
        ) AS said (column_name, about)
        CROSS JOIN (VALUES ('event_performance'), ('event_performance_fleet')) AS views (name)
        INNER JOIN pg_attribute
            ON attrelid = ('gridtide.' || views.name)::regclass AND attname = column_name
    LOOP
        EXECUTE format(
            'COMMENT ON COLUMN gridtide.%I.%I IS %L', described.view_name, described.column_name, described.about
        );
    END LOOP;
END
$$;
