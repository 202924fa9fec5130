-- What became of each command. Needs 0009_event_targets.sql.

-- Commands and their answers are few beside telemetry: what these cost the recorder does not show.
CREATE INDEX site_commands_by_control ON gridtide.site_commands (control_id, site_id, issued_at);
CREATE INDEX command_acks_by_control ON gridtide.command_acks (control_id, site_id, observed_at);

CREATE VIEW gridtide.command_outcomes AS
SELECT
    command.run_id,
    command.fleet_id,
    command.site_id,
    command.issued_at,
    command.epoch,
    command.sequence,
    command.control_id,
    command.kind,
    command.renewal,
    command.reason,
    command.caused_by,
    command.explanation,
    command.starts_at,
    command.ends_at,
    command.target_power_watts,
    span.in_force_from,
    span.in_force_until,
    chain.renewals,
    CASE WHEN next.kind = 'release' THEN next.starts_at END AS released_at,
    heard.first_ack_at,
    extract(EPOCH FROM heard.first_ack_at - command.issued_at)::double precision AS first_ack_seconds,
    verdict.status AS verdict,
    verdict.detail AS verdict_detail,
    extract(EPOCH FROM verdict.observed_at - command.issued_at)::double precision AS verdict_seconds,
    verdict.status IS NULL AS unanswered,
    extract(EPOCH FROM progress.compliant_at - command.issued_at)::double precision AS compliant_seconds,
    extract(EPOCH FROM progress.breach_at - command.issued_at)::double precision AS breach_seconds,
    progress.breaches,
    progress.expired_at,
    progress.last_status AS last_progress,
    achieved.power_watts AS achieved_power_watts,
    achieved.power_watts - command.target_power_watts AS achieved_excess_watts
FROM gridtide.site_commands AS command
-- What took its place: the next command of the control that is no renewal.
LEFT JOIN LATERAL (
    SELECT
        later.kind,
        later.issued_at,
        later.starts_at
    FROM gridtide.site_commands AS later
    WHERE
        later.control_id = command.control_id AND later.site_id = command.site_id AND later.run_id = command.run_id
        AND later.issued_at >= command.issued_at AND later.issued_at < command.issued_at + INTERVAL '7 days'
        AND (later.epoch, later.sequence) > (command.epoch, command.sequence) AND NOT later.renewal
    ORDER BY later.issued_at, later.epoch, later.sequence
    LIMIT 1
) AS next ON true
CROSS JOIN LATERAL (
    SELECT
        count(*) AS renewals,
        greatest(max(later.ends_at), command.ends_at) AS ends_at
    FROM gridtide.site_commands AS later
    WHERE
        later.control_id = command.control_id AND later.site_id = command.site_id AND later.run_id = command.run_id
        AND later.issued_at >= command.issued_at
        AND later.issued_at < coalesce(next.issued_at, command.issued_at + INTERVAL '7 days')
        AND (later.epoch, later.sequence) > (command.epoch, command.sequence) AND later.renewal
) AS chain
CROSS JOIN LATERAL (
    SELECT
        CASE WHEN command.kind <> 'release' THEN greatest(command.issued_at, command.starts_at) END AS in_force_from,
        CASE
            WHEN command.kind <> 'release'
                THEN greatest(
                    command.issued_at,
                    command.starts_at,
                    least(chain.ends_at, CASE WHEN next.kind = 'release' THEN next.starts_at ELSE next.issued_at END)
                )
        END AS in_force_until
) AS span
CROSS JOIN LATERAL (
    SELECT min(ack.observed_at) AS first_ack_at
    FROM gridtide.command_acks AS ack
    WHERE
        ack.control_id = command.control_id AND ack.site_id = command.site_id AND ack.run_id = command.run_id
        AND ack.observed_at >= command.issued_at - INTERVAL '1 minute'
        AND ack.observed_at < chain.ends_at + INTERVAL '1 hour'
        AND ack.epoch = command.epoch AND ack.sequence = command.sequence
) AS heard
LEFT JOIN LATERAL (
    SELECT
        ack.status,
        ack.detail,
        ack.observed_at
    FROM gridtide.command_acks AS ack
    WHERE
        ack.control_id = command.control_id AND ack.site_id = command.site_id AND ack.run_id = command.run_id
        AND ack.observed_at >= command.issued_at - INTERVAL '1 minute'
        AND ack.observed_at < chain.ends_at + INTERVAL '1 hour'
        AND ack.epoch = command.epoch AND ack.sequence = command.sequence
        AND ack.status IN ('accepted', 'partial', 'rejected', 'superseded')
    ORDER BY ack.observed_at
    LIMIT 1
) AS verdict ON true
-- A site tells each change of a control's progress once, of the newest command: so of the control, not of the pair.
CROSS JOIN LATERAL (
    SELECT
        min(ack.observed_at) FILTER (WHERE ack.status = 'compliant') AS compliant_at,
        min(ack.observed_at) FILTER (WHERE ack.status = 'breach') AS breach_at,
        count(*) FILTER (WHERE ack.status = 'breach') AS breaches,
        min(ack.observed_at) FILTER (WHERE ack.status = 'expired') AS expired_at,
        (array_agg(ack.status ORDER BY ack.observed_at DESC) FILTER (
            WHERE ack.status IN ('ramping', 'compliant', 'breach')
        ))[1] AS last_status
    FROM gridtide.command_acks AS ack
    WHERE
        ack.control_id = command.control_id AND ack.site_id = command.site_id AND ack.run_id = command.run_id
        AND ack.observed_at >= command.issued_at AND ack.observed_at < span.in_force_until
) AS progress
CROSS JOIN LATERAL gridtide.mean_meter_power(
    command.site_id, greatest(span.in_force_from, span.in_force_until - INTERVAL '1 minute'), span.in_force_until
) AS achieved (power_watts)
WHERE command.run_id = gridtide.asked_run();
COMMENT ON VIEW gridtide.command_outcomes IS
    'What became of each command, one row a command. Ask by issued_at. A command is in force until another of its '
    'control takes its place; renewals only extend it, so that the commands that are none (NOT renewal) share out a '
    'control''s time among them. A control is looked at for seven days at most.';
COMMENT ON COLUMN gridtide.command_outcomes.run_id IS '`live`, or the name of the replay or demo';
COMMENT ON COLUMN gridtide.command_outcomes.fleet_id IS 'fleet that the site belongs to';
COMMENT ON COLUMN gridtide.command_outcomes.site_id IS 'site that was told';
COMMENT ON COLUMN gridtide.command_outcomes.issued_at IS 'when the command was given, UTC';
COMMENT ON COLUMN gridtide.command_outcomes.epoch IS 'with sequence: names the command';
COMMENT ON COLUMN gridtide.command_outcomes.sequence IS 'with epoch: names the command';
COMMENT ON COLUMN gridtide.command_outcomes.control_id IS 'control that the command sets, renews or ends';
COMMENT ON COLUMN gridtide.command_outcomes.kind IS 'throttle, shift or release';
COMMENT ON COLUMN gridtide.command_outcomes.renewal IS 'whether it only extends a control already in force';
COMMENT ON COLUMN gridtide.command_outcomes.reason IS 'emergency, ramp, event, service or economics';
COMMENT ON COLUMN gridtide.command_outcomes.caused_by IS 'signals that it answers';
COMMENT ON COLUMN gridtide.command_outcomes.explanation IS 'why, for people';
COMMENT ON COLUMN gridtide.command_outcomes.starts_at IS 'start of the control as commanded, UTC';
COMMENT ON COLUMN gridtide.command_outcomes.ends_at IS 'end of the control as commanded, UTC';
COMMENT ON COLUMN gridtide.command_outcomes.target_power_watts IS
    'meter power to hold or stay below, W; throttles only';
COMMENT ON COLUMN gridtide.command_outcomes.in_force_from IS 'when the command takes hold, UTC; null for releases';
COMMENT ON COLUMN gridtide.command_outcomes.in_force_until IS
    'when its time, renewals included, ends or another takes its place, UTC; null for releases';
COMMENT ON COLUMN gridtide.command_outcomes.renewals IS 'renewals of it until then, count';
COMMENT ON COLUMN gridtide.command_outcomes.released_at IS
    'from when a release lets go, UTC; null where none came before the end';
COMMENT ON COLUMN gridtide.command_outcomes.first_ack_at IS 'first answer of any kind, UTC; null where none came';
COMMENT ON COLUMN gridtide.command_outcomes.first_ack_seconds IS 'from the command to the first answer, s';
COMMENT ON COLUMN gridtide.command_outcomes.verdict IS
    'first of accepted, partial, rejected and superseded; null where none came';
COMMENT ON COLUMN gridtide.command_outcomes.verdict_detail IS 'why rejected, how much of a partial';
COMMENT ON COLUMN gridtide.command_outcomes.verdict_seconds IS 'from the command to the verdict, s';
COMMENT ON COLUMN gridtide.command_outcomes.unanswered IS
    'whether no verdict has come; true too while it is on its way';
COMMENT ON COLUMN gridtide.command_outcomes.compliant_seconds IS
    'from the command until the site first said compliant of the control, s; null where it did not';
COMMENT ON COLUMN gridtide.command_outcomes.breach_seconds IS
    'from the command until the site first said breach of the control, s; null where it did not';
COMMENT ON COLUMN gridtide.command_outcomes.breaches IS 'times that the site said breach, count';
COMMENT ON COLUMN gridtide.command_outcomes.expired_at IS 'when the site said that the lease had lapsed, UTC';
COMMENT ON COLUMN gridtide.command_outcomes.last_progress IS
    'ramping, compliant or breach: what the site said last of the control while this was in force';
COMMENT ON COLUMN gridtide.command_outcomes.achieved_power_watts IS
    'mean meter power over the last minute in force, W; null where nothing was metered';
COMMENT ON COLUMN gridtide.command_outcomes.achieved_excess_watts IS 'that above the target, W; negative below it';
