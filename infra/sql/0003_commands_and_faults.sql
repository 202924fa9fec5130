-- What sites were told, what they answered, and what could not be read.

CREATE TABLE gridtide.site_commands (
    issued_at timestamptz NOT NULL,
    site_id text NOT NULL,
    epoch bigint NOT NULL,
    sequence bigint NOT NULL,
    run_id text NOT NULL,
    schema_version smallint NOT NULL,
    fleet_id text NOT NULL,
    control_id text NOT NULL,
    kind text NOT NULL,
    starts_at timestamptz NOT NULL,
    ends_at timestamptz NOT NULL,
    lease_expires_at timestamptz NOT NULL,
    reason text NOT NULL,
    priority bigint NOT NULL,
    renewal boolean NOT NULL,
    caused_by text[] NOT NULL,
    explanation text NOT NULL,
    target_power_watts double precision,
    ramp_down_watts_per_second double precision,
    ramp_up_watts_per_second double precision,
    fallback_power_watts double precision,
    role text,
    from_site_id text,
    to_site_id text,
    service_class text,
    share_ratio double precision,
    reserved_power_watts double precision,
    releases_control_id text,
    PRIMARY KEY (issued_at, site_id, epoch, sequence, run_id)
);
COMMENT ON TABLE gridtide.site_commands IS
    'Throttles, shifts and releases from topic site.commands.v1. Columns that a kind does not have are null.';
COMMENT ON COLUMN gridtide.site_commands.issued_at IS 'when the command was given, UTC';
COMMENT ON COLUMN gridtide.site_commands.site_id IS 'site that is told';
COMMENT ON COLUMN gridtide.site_commands.epoch IS 'with sequence: rises with each command of the site';
COMMENT ON COLUMN gridtide.site_commands.sequence IS 'with epoch: rises with each command of the site';
COMMENT ON COLUMN gridtide.site_commands.run_id IS '`live`, or the name of the replay or demo that made the record';
COMMENT ON COLUMN gridtide.site_commands.schema_version IS 'version of the record''s contract';
COMMENT ON COLUMN gridtide.site_commands.fleet_id IS 'fleet that the site belongs to';
COMMENT ON COLUMN gridtide.site_commands.control_id IS 'control that the command sets, renews or ends';
COMMENT ON COLUMN gridtide.site_commands.kind IS 'throttle, shift or release';
COMMENT ON COLUMN gridtide.site_commands.starts_at IS 'start of the control, UTC';
COMMENT ON COLUMN gridtide.site_commands.ends_at IS 'end of the control, UTC';
COMMENT ON COLUMN gridtide.site_commands.lease_expires_at IS 'until when it holds without renewal, UTC';
COMMENT ON COLUMN gridtide.site_commands.reason IS 'emergency, ramp, event, service or economics';
COMMENT ON COLUMN gridtide.site_commands.priority IS 'within a reason the lower number wins';
COMMENT ON COLUMN gridtide.site_commands.renewal IS 'whether it extends the lease of a control already in force';
COMMENT ON COLUMN gridtide.site_commands.caused_by IS 'signals that it answers';
COMMENT ON COLUMN gridtide.site_commands.explanation IS 'why, for people';
COMMENT ON COLUMN gridtide.site_commands.target_power_watts IS 'meter power to hold or stay below, W; throttles only';
COMMENT ON COLUMN gridtide.site_commands.ramp_down_watts_per_second IS 'how fast to come down, W/s; throttles only';
COMMENT ON COLUMN gridtide.site_commands.ramp_up_watts_per_second IS
    'how fast the site may rise again afterwards, W/s; throttles only';
COMMENT ON COLUMN gridtide.site_commands.fallback_power_watts IS
    'meter power to hold when the lease lapses, W; throttles only';
COMMENT ON COLUMN gridtide.site_commands.role IS 'reserve (the acceptor) or drain (the donor); shifts only';
COMMENT ON COLUMN gridtide.site_commands.from_site_id IS 'donor site; shifts only';
COMMENT ON COLUMN gridtide.site_commands.to_site_id IS 'acceptor site; shifts only';
COMMENT ON COLUMN gridtide.site_commands.service_class IS 'service class whose traffic moves; shifts only';
COMMENT ON COLUMN gridtide.site_commands.share_ratio IS
    'share of the donor''s arriving traffic of the class, ratio 0-1; shifts only';
COMMENT ON COLUMN gridtide.site_commands.reserved_power_watts IS
    'meter power that the acceptor must have room for, W; shifts only';
COMMENT ON COLUMN gridtide.site_commands.releases_control_id IS 'control that is ended before its time; releases only';

CREATE TABLE gridtide.command_acks (
    observed_at timestamptz NOT NULL,
    site_id text NOT NULL,
    epoch bigint NOT NULL,
    sequence bigint NOT NULL,
    status text NOT NULL,
    run_id text NOT NULL,
    schema_version smallint NOT NULL,
    fleet_id text NOT NULL,
    control_id text NOT NULL,
    detail text NOT NULL,
    meter_power_watts double precision,
    highest_epoch bigint NOT NULL,
    highest_sequence bigint NOT NULL,
    PRIMARY KEY (observed_at, site_id, epoch, sequence, status, run_id)
);
COMMENT ON TABLE gridtide.command_acks IS
    'What became of each command from topic site.command-acks.v1: one row a command and status.';
COMMENT ON COLUMN gridtide.command_acks.observed_at IS 'when the site saw it so, UTC';
COMMENT ON COLUMN gridtide.command_acks.site_id IS 'site that answers';
COMMENT ON COLUMN gridtide.command_acks.epoch IS 'epoch of the command answered';
COMMENT ON COLUMN gridtide.command_acks.sequence IS 'sequence of the command answered';
COMMENT ON COLUMN gridtide.command_acks.status IS
    'received, accepted, partial, rejected, ramping, compliant, breach, expired or superseded';
COMMENT ON COLUMN gridtide.command_acks.run_id IS '`live`, or the name of the replay or demo that made the record';
COMMENT ON COLUMN gridtide.command_acks.schema_version IS 'version of the record''s contract';
COMMENT ON COLUMN gridtide.command_acks.fleet_id IS 'fleet that the site belongs to';
COMMENT ON COLUMN gridtide.command_acks.control_id IS 'control that the command was about';
COMMENT ON COLUMN gridtide.command_acks.detail IS 'why rejected, how much of a partial';
COMMENT ON COLUMN gridtide.command_acks.meter_power_watts IS 'the site''s meter then, W; null where it was not read';
COMMENT ON COLUMN gridtide.command_acks.highest_epoch IS 'highest command epoch that the site has seen';
COMMENT ON COLUMN gridtide.command_acks.highest_sequence IS 'highest command sequence seen at that epoch';

CREATE TABLE gridtide.site_heartbeats (
    observed_at timestamptz NOT NULL,
    site_id text NOT NULL,
    run_id text NOT NULL,
    schema_version smallint NOT NULL,
    fleet_id text NOT NULL,
    epoch bigint NOT NULL,
    sequence bigint NOT NULL,
    target_power_watts double precision,
    meter_power_watts double precision,
    locked_out boolean NOT NULL,
    PRIMARY KEY (observed_at, site_id, run_id)
);
COMMENT ON TABLE gridtide.site_heartbeats IS
    'What site controllers say of themselves at regular times, from topic site.heartbeats.v1.';
COMMENT ON COLUMN gridtide.site_heartbeats.observed_at IS 'when the controller said so, UTC';
COMMENT ON COLUMN gridtide.site_heartbeats.site_id IS 'site, one data centre';
COMMENT ON COLUMN gridtide.site_heartbeats.run_id IS '`live`, or the name of the replay or demo that made the record';
COMMENT ON COLUMN gridtide.site_heartbeats.schema_version IS 'version of the record''s contract';
COMMENT ON COLUMN gridtide.site_heartbeats.fleet_id IS 'fleet that the site belongs to';
COMMENT ON COLUMN gridtide.site_heartbeats.epoch IS 'highest command epoch seen';
COMMENT ON COLUMN gridtide.site_heartbeats.sequence IS 'highest command sequence seen at that epoch';
COMMENT ON COLUMN gridtide.site_heartbeats.target_power_watts IS 'power target in force, W; null when free';
COMMENT ON COLUMN gridtide.site_heartbeats.meter_power_watts IS 'the site''s meter then, W; null where it was not read';
COMMENT ON COLUMN gridtide.site_heartbeats.locked_out IS 'whether the local lock-out is set: no command is acted on';

CREATE TABLE gridtide.clock_anchors (
    wall_anchor timestamptz NOT NULL,
    replay_anchor timestamptz NOT NULL,
    run_id text NOT NULL,
    schema_version smallint NOT NULL,
    rate double precision NOT NULL,
    PRIMARY KEY (wall_anchor, replay_anchor, run_id)
);
COMMENT ON TABLE gridtide.clock_anchors IS
    'The one clock of each run from topic control.clock.v1: at wall_anchor the clock shows replay_anchor and goes '
    'at rate.';
COMMENT ON COLUMN gridtide.clock_anchors.wall_anchor IS 'wall time of the anchor, UTC';
COMMENT ON COLUMN gridtide.clock_anchors.replay_anchor IS 'what the run''s clock shows then, UTC';
COMMENT ON COLUMN gridtide.clock_anchors.run_id IS '`live`, or the name of the replay or demo that made the record';
COMMENT ON COLUMN gridtide.clock_anchors.schema_version IS 'version of the record''s contract';
COMMENT ON COLUMN gridtide.clock_anchors.rate IS 'seconds of the run''s clock per second of wall time';

CREATE TABLE gridtide.dead_letters (
    arrived_at timestamptz NOT NULL,
    topic text NOT NULL,
    partition_id integer NOT NULL,
    message_offset bigint NOT NULL,
    run_id text NOT NULL,
    reason text NOT NULL,
    detail text NOT NULL,
    message_key bytea,
    message bytea,
    PRIMARY KEY (arrived_at, topic, partition_id, message_offset, run_id)
);
COMMENT ON TABLE gridtide.dead_letters IS
    'Messages that could not be read, from the dead-letter topics, with their bytes so that they can be replayed '
    'after a mend.';
COMMENT ON COLUMN gridtide.dead_letters.arrived_at IS
    'timestamp of the message on the source topic, UTC: part of the key because offsets begin anew when a topic is '
    'made anew';
COMMENT ON COLUMN gridtide.dead_letters.topic IS 'source topic as in the catalog, without the run''s prefix';
COMMENT ON COLUMN gridtide.dead_letters.partition_id IS 'partition of the source topic';
COMMENT ON COLUMN gridtide.dead_letters.message_offset IS 'position in the partition of the source topic';
COMMENT ON COLUMN gridtide.dead_letters.run_id IS 'run whose worker rejected it';
COMMENT ON COLUMN gridtide.dead_letters.reason IS 'short machine-readable reason';
COMMENT ON COLUMN gridtide.dead_letters.detail IS 'what was wrong, for people';
COMMENT ON COLUMN gridtide.dead_letters.message_key IS 'key of the message as it came; null where it had none';
COMMENT ON COLUMN gridtide.dead_letters.message IS
    'value of the message as it came, cut above 1 MiB; null where it had none';
