-- What each site could give, what became of it, and what the policy, its commands and the answers say beyond before.
-- Needs 0004, 0010, 0011.

-- An earlier recorder, still at work, leaves the new columns out.
ALTER TABLE gridtide.fleet_plans
ADD COLUMN planner text NOT NULL DEFAULT 'rules',
ADD COLUMN schedule jsonb,
ADD COLUMN strikes jsonb NOT NULL DEFAULT '[]',
ADD COLUMN tracking jsonb NOT NULL DEFAULT '[]';
COMMENT ON COLUMN gridtide.fleet_plans.planner IS 'who made the plan: rules, or optimiser';
COMMENT ON COLUMN gridtide.fleet_plans.schedule IS
    'the optimiser''s horizon: starts_at (UTC), step_seconds (s), iterations (count), and per site power_watts (W, at '
    'the meter, mean over each step); null where the rules planned';
COMMENT ON COLUMN gridtide.fleet_plans.strikes IS
    'per GPU pool: tokens_per_kwh (1/kWh) as measured, and price_usd_per_mwh (USD/MWh) above which its tokens cost more '
    'energy than they earn';
COMMENT ON COLUMN gridtide.fleet_plans.tracking IS
    'per event in force: phase and since when (UTC), target_power_watts, delivered_power_watts (W, mean at the meters '
    'over the newest minute), correction_watts (W asked beyond the target); see the view event_tracking';
COMMENT ON COLUMN gridtide.fleet_plans.dwells IS
    'per site: since when (UTC) the price has stood on its side of the price of the site''s lowest strike';
COMMENT ON COLUMN gridtide.fleet_plans.shifts IS
    'traffic moving between sites: share_ratio (0-1), reserved_power_watts (W), ramp_seconds (s), times in UTC, and '
    'phase: proposed, reserved, ramping, active, returning, done or aborted';

ALTER TABLE gridtide.site_commands ADD COLUMN ramp_seconds double precision;
COMMENT ON COLUMN gridtide.site_commands.ramp_seconds IS
    'time over which the donor moves its share evenly, there and back, s; shifts only';

ALTER TABLE gridtide.command_acks
ADD COLUMN share_ratio double precision,
ADD COLUMN knob text;
COMMENT ON COLUMN gridtide.command_acks.share_ratio IS
    'share of the class''s traffic that moves then, ratio 0-1; answers to shifts only';
COMMENT ON COLUMN gridtide.command_acks.knob IS
    'what the site holds its power with: none (it draws less by itself), cap, or admission; answers to throttles only';

CREATE TABLE gridtide.flexibility_offers (
    issued_at timestamptz NOT NULL,
    site_id text NOT NULL,
    run_id text NOT NULL,
    schema_version smallint NOT NULL,
    fleet_id text NOT NULL,
    valid_until timestamptz NOT NULL,
    expected_power_watts double precision NOT NULL,
    offers jsonb NOT NULL,
    PRIMARY KEY (issued_at, site_id, run_id)
);
COMMENT ON TABLE gridtide.flexibility_offers IS
    'How much power each site could give up, from topic site.flexibility-offers.v1: one row a site and issue. A site '
    'of which no recent power was known offered nothing.';
COMMENT ON COLUMN gridtide.flexibility_offers.issued_at IS 'when the offer was made, UTC';
COMMENT ON COLUMN gridtide.flexibility_offers.site_id IS 'site, one data centre';
COMMENT ON COLUMN gridtide.flexibility_offers.run_id IS
    '`live`, or the name of the replay or demo that made the record';
COMMENT ON COLUMN gridtide.flexibility_offers.schema_version IS 'version of the record''s contract';
COMMENT ON COLUMN gridtide.flexibility_offers.fleet_id IS 'fleet that the site belongs to';
COMMENT ON COLUMN gridtide.flexibility_offers.valid_until IS 'until when the offer stands, UTC';
COMMENT ON COLUMN gridtide.flexibility_offers.expected_power_watts IS
    'what the site was expected to draw by itself, at the meter, W';
COMMENT ON COLUMN gridtide.flexibility_offers.offers IS
    'per response_seconds (s, to reach it) and duration_seconds (s, to hold it): firm_power_watts_p50 and _p90 (W below '
    'what the site would draw by itself; P90 in nine cases of ten), tokens_lost_per_mwh (1/MWh given up)';

GRANT INSERT ON gridtide.flexibility_offers TO gridtide_recorder;

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
        'SELECT %1$I.create_hypertable(''gridtide.flexibility_offers''::regclass,'
        ' %1$I.by_range(''issued_at'', INTERVAL ''7 days''), create_default_indexes => false)',
        extension_schema
    );
END
$$;

CREATE VIEW gridtide.flexibility_delivered AS
SELECT
    event.run_id,
    event.fleet_id,
    event.signal_id,
    event.site_id,
    event.kind,
    event.starts_at,
    event.ends_at,
    event.held_from,
    heard.first_published_at,
    event.cancelled,
    event.baseline_power_watts,
    event.baseline_power_watts - event.target_power_watts AS asked_reduction_watts,
    event.baseline_power_watts - event.held_power_watts AS delivered_reduction_watts,
    event.measured_ratio,
    event.minutes_over_target,
    (event.tokens_served_per_second_before - event.tokens_served_per_second) * 3.6e9
    / nullif(greatest(event.baseline_power_watts - event.held_power_watts, 0), 0) AS tokens_fewer_per_mwh,
    offer.issued_at AS offer_issued_at,
    offer.expected_power_watts,
    reduction.response_seconds,
    reduction.duration_seconds,
    reduction.firm_power_watts_p50,
    reduction.firm_power_watts_p90,
    reduction.tokens_lost_per_mwh,
    event.baseline_power_watts - event.target_power_watts <= reduction.firm_power_watts_p90 AS within_offer
FROM gridtide.event_performance AS event
CROSS JOIN LATERAL (
    SELECT min(said.published_at) AS first_published_at
    FROM gridtide.grid_signals AS said
    WHERE said.signal_id = event.signal_id AND said.fleet_id = event.fleet_id AND said.run_id = event.run_id
) AS heard
LEFT JOIN LATERAL (
    SELECT made.*
    FROM gridtide.flexibility_offers AS made
    WHERE
        made.run_id = event.run_id AND made.site_id = event.site_id
        AND made.issued_at <= heard.first_published_at
        AND made.issued_at > heard.first_published_at - INTERVAL '1 day'
        AND made.valid_until > heard.first_published_at
    ORDER BY made.issued_at DESC
    LIMIT 1
) AS offer ON true
-- Of its parts the shortest that is long enough, and of these the slowest that is fast enough: what is best for both.
LEFT JOIN LATERAL (
    SELECT part.*
    FROM jsonb_to_recordset(offer.offers) AS part (
        response_seconds double precision,
        duration_seconds double precision,
        firm_power_watts_p50 double precision,
        firm_power_watts_p90 double precision,
        tokens_lost_per_mwh double precision
    )
    WHERE
        part.duration_seconds >= extract(EPOCH FROM event.ends_at - event.held_from)
        AND part.response_seconds <= extract(EPOCH FROM event.held_from - heard.first_published_at)
    ORDER BY part.duration_seconds, part.response_seconds DESC
    LIMIT 1
) AS reduction ON true;
COMMENT ON VIEW gridtide.flexibility_delivered IS
    'What each site had offered when an event was first published, what the event asked of it, and what it gave: one '
    'row an event and site. Ask by starts_at. The offer is the newest one that stood then.';

CREATE VIEW gridtide.event_tracking AS
SELECT
    plan.run_id,
    plan.fleet_id,
    plan.issued_at,
    plan.epoch,
    plan.revision,
    plan.mode,
    track.signal_id,
    track.phase,
    track.phase_since,
    track.target_power_watts,
    track.delivered_power_watts,
    track.delivered_power_watts - track.target_power_watts AS excess_watts,
    track.correction_watts
FROM gridtide.fleet_plans AS plan
CROSS JOIN LATERAL jsonb_to_recordset(plan.tracking) AS track (
    signal_id text,
    phase text,
    phase_since timestamptz,
    target_power_watts double precision,
    delivered_power_watts double precision,
    correction_watts double precision
)
WHERE plan.kind = 'plan' AND plan.run_id = gridtide.asked_run();
COMMENT ON VIEW gridtide.event_tracking IS
    'What the policy saw delivered of each event in force, and what it asked for to make up for it: one row a plan and '
    'event. Ask by issued_at.';

DO $$
DECLARE
    described record;
BEGIN
    FOR described IN
        SELECT view_name, chosen.name, chosen.about
        FROM (VALUES
            ('run_id', '`live`, or the name of the replay or demo'),
            ('fleet_id', 'fleet that the event concerns'),
            ('signal_id', 'names the event across its revisions'),
            ('site_id', 'site, one data centre'),
            ('kind', 'event or emergency'),
            ('starts_at', 'start of the event, UTC'),
            ('ends_at', 'end of the event, UTC'),
            ('held_from', 'when the ramp is over and the target must hold, UTC'),
            ('first_published_at', 'when the event''s first revision was published, UTC'),
            ('cancelled', 'whether the event was withdrawn'),
            ('baseline_power_watts', 'meter power that a reduction is measured from, W: see event_targets'),
            ('asked_reduction_watts', 'reduction asked for, W: the baseline less the target'),
            ('delivered_reduction_watts', 'reduction given, W: the baseline less the mean from held_from to ends_at'),
            ('measured_ratio', 'part of that time for which meter power is known, ratio 0-1'),
            ('minutes_over_target', 'minutes whose mean was above the target, count: see event_performance'),
            ('tokens_fewer_per_mwh', 'tokens fewer than at the rate of the hour before, for each MWh given up, 1/MWh; '
            'that fewer were asked for is in it too'),
            ('offer_issued_at', 'when the offer was made, UTC; null where none stood'),
            ('expected_power_watts', 'what the offer expected the site to draw by itself, W'),
            ('response_seconds', 'of the offer''s parts the one that suits the event: time to reach it, s; null where '
            'none is as fast and as long as the event wanted'),
            ('duration_seconds', 'time to hold it, s'),
            ('firm_power_watts_p50', 'reduction offered, as likely as not, W'),
            ('firm_power_watts_p90', 'reduction offered, nine cases in ten, W'),
            ('tokens_lost_per_mwh', 'tokens that the offer expected to be lost for each MWh given up, 1/MWh'),
            ('within_offer', 'whether no more was asked for than was offered firmly (P90)'),
            ('issued_at', 'when the plan was made, UTC'),
            ('epoch', 'rises with each owner of the fleet'),
            ('revision', 'rises with each plan of the epoch'),
            ('mode', 'normal, hold, price-blind or rule-based'),
            ('phase', 'active; escalated after a breach of more than a fifth of the reduction; resolved after that'),
            ('phase_since', 'since when it is in that phase, UTC'),
            ('target_power_watts', 'meter power of the event''s sites together to stay below, W'),
            ('delivered_power_watts', 'what they drew together, W: mean at the meters over the newest minute known then'),
            ('excess_watts', 'how far they lie above it, W; negative below it'),
            ('correction_watts', 'what the sites together are asked to stay below the target, W')
        ) AS chosen (name, about)
        INNER JOIN (
            SELECT
                views.view_name,
                attribute.attname
            FROM unnest(ARRAY['flexibility_delivered', 'event_tracking']) AS views (view_name)
            INNER JOIN pg_attribute AS attribute
                ON attribute.attrelid = ('gridtide.' || views.view_name)::regclass AND attribute.attnum > 0
        ) AS held ON held.attname = chosen.name
    LOOP
        EXECUTE format('COMMENT ON COLUMN gridtide.%I.%I IS %L', described.view_name, described.name, described.about);
    END LOOP;
END
$$;
