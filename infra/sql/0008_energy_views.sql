-- What the energy cost, what a token cost, what the market bills, and how far the figures can be trusted.
-- Each view shows one run, live unless the session says SET gridtide.run_id = '...', and is asked with a range of its
-- time column. Views over hours or intervals take these one after the other (LATERAL, what is asked of each kept
-- together by MATERIALIZED), so that such a range reaches the time-first keys: a join over all of history could not.

-- Prices are asked for by the interval that they are for; the primary key has when they were said. They are few.
CREATE INDEX grid_signals_price_starts_at ON gridtide.grid_signals (starts_at)
WHERE kind = 'price' AND market = 'real-time';
CREATE INDEX grid_signals_price_interval ON gridtide.grid_signals USING gist (tstzrange(starts_at, ends_at))
WHERE kind = 'price' AND market = 'real-time';

CREATE VIEW gridtide.prices AS
SELECT
    run_id,
    fleet_id,
    settlement_point,
    starts_at,
    ends_at,
    (array_agg(price_usd_per_mwh ORDER BY published_at, signal_id))[1] AS price_usd_per_mwh_first_known,
    (array_agg(price_usd_per_mwh ORDER BY published_at DESC, signal_id DESC)
        FILTER (WHERE published_at <= ends_at))[1] AS price_usd_per_mwh_at_end,
    (array_agg(price_usd_per_mwh ORDER BY published_at DESC, signal_id DESC))[1] AS price_usd_per_mwh_now,
    min(published_at) AS first_published_at,
    max(published_at) AS published_at,
    (array_agg(signal_id ORDER BY published_at DESC, signal_id DESC))[1] AS signal_id,
    count(*) AS publications
FROM gridtide.grid_signals
WHERE kind = 'price' AND market = 'real-time' AND run_id = gridtide.asked_run()
GROUP BY run_id, fleet_id, settlement_point, starts_at, ends_at;
COMMENT ON VIEW gridtide.prices IS
    'Real-time prices: one row a fleet, settlement point and market interval, however often the price was said. What '
    'was published last holds, whatever its signal_id.';
COMMENT ON COLUMN gridtide.prices.run_id IS 'the run asked for: live, or what gridtide.run_id says';
COMMENT ON COLUMN gridtide.prices.fleet_id IS 'fleet that was told the price';
COMMENT ON COLUMN gridtide.prices.settlement_point IS 'where the price holds';
COMMENT ON COLUMN gridtide.prices.starts_at IS 'start of the interval, UTC, included';
COMMENT ON COLUMN gridtide.prices.ends_at IS 'end of the interval, UTC, excluded';
COMMENT ON COLUMN gridtide.prices.price_usd_per_mwh_first_known IS 'price as it was first said, USD/MWh';
COMMENT ON COLUMN gridtide.prices.price_usd_per_mwh_at_end IS
    'price as known when the interval ended, USD/MWh; null where none was known yet';
COMMENT ON COLUMN gridtide.prices.price_usd_per_mwh_now IS 'price as known now, after all revisions, USD/MWh';
COMMENT ON COLUMN gridtide.prices.first_published_at IS 'when a price of the interval was first said, UTC';
COMMENT ON COLUMN gridtide.prices.published_at IS 'when the price as known now was said, UTC';
COMMENT ON COLUMN gridtide.prices.signal_id IS 'signal that says the price as known now';
COMMENT ON COLUMN gridtide.prices.publications IS 'how often a price of the interval was said, count';

CREATE VIEW gridtide.price_spans AS
SELECT
    price.run_id,
    price.fleet_id,
    price.settlement_point,
    price.starts_at,
    price.ends_at,
    lower(span.holds) AS holds_from,
    upper(span.holds) AS holds_until,
    price.price_usd_per_mwh_now AS price_usd_per_mwh,
    price.published_at
FROM gridtide.prices AS price
CROSS JOIN LATERAL (
    SELECT coalesce(range_agg(tstzrange(later.starts_at, later.ends_at)), '{}'::tstzmultirange) AS taken
    FROM gridtide.grid_signals AS later
    WHERE
        later.kind = 'price'
        AND later.market = 'real-time'
        AND tstzrange(later.starts_at, later.ends_at) && tstzrange(price.starts_at, price.ends_at)
        AND later.run_id = price.run_id
        AND later.fleet_id = price.fleet_id
        AND later.settlement_point = price.settlement_point
        AND (later.published_at, later.signal_id) > (price.published_at, price.signal_id)
) AS others
CROSS JOIN LATERAL unnest(
    tstzmultirange(tstzrange(price.starts_at, price.ends_at)) - others.taken
) AS span (holds);
COMMENT ON VIEW gridtide.price_spans IS
    'Which real-time price holds when, as known now: spans that do not overlap, even where a market speaks of '
    'intervals of several lengths. Of two prices for one time the one published last holds, as for the policy. None '
    'holds beyond its interval. Ask with a range of starts_at, or with tstzrange(starts_at, ends_at) && ...';
COMMENT ON COLUMN gridtide.price_spans.run_id IS 'the run asked for: live, or what gridtide.run_id says';
COMMENT ON COLUMN gridtide.price_spans.fleet_id IS 'fleet that was told the price';
COMMENT ON COLUMN gridtide.price_spans.settlement_point IS 'where the price holds';
COMMENT ON COLUMN gridtide.price_spans.starts_at IS 'start of the market interval, UTC, included';
COMMENT ON COLUMN gridtide.price_spans.ends_at IS 'end of the market interval, UTC, excluded';
COMMENT ON COLUMN gridtide.price_spans.holds_from IS 'start of the span in which the price holds, UTC, included';
COMMENT ON COLUMN gridtide.price_spans.holds_until IS 'end of the span in which the price holds, UTC, excluded';
COMMENT ON COLUMN gridtide.price_spans.price_usd_per_mwh IS 'price as known now, USD/MWh; may be negative';
COMMENT ON COLUMN gridtide.price_spans.published_at IS 'when it was said, UTC';

CREATE VIEW gridtide.energy_hourly AS
SELECT
    power.run_id,
    power.fleet_id,
    power.site_id,
    hours.hour_start,
    power.seconds / 3600 AS covered_ratio,
    power.it_energy_kwh,
    power.meter_energy_kwh,
    power.metered_ratio,
    power.meter_energy_kwh / nullif(power.seconds, 0) * 3600 AS mean_power_kw,
    power.peak_power_kw,
    power.cost_usd,
    power.unpriced_energy_kwh,
    power.tokens_served,
    power.it_energy_kwh * 3600000 / nullif(power.tokens_served, 0) AS it_energy_joules_per_token,
    power.meter_energy_kwh * 3600000 / nullif(power.tokens_served, 0) AS meter_energy_joules_per_token
FROM (
    SELECT DISTINCT bucket_start AS hour_start FROM gridtide.site_power_1h WHERE run_id = gridtide.asked_run()
) AS hours
CROSS JOIN LATERAL (
    WITH spans AS MATERIALIZED (
        SELECT * FROM gridtide.price_spans
        WHERE tstzrange(starts_at, ends_at) && tstzrange(hours.hour_start, hours.hour_start + INTERVAL '1 hour')
    ),
    -- Per settlement point and 5 minutes: the mean price of the part that has one, times that part.
    priced AS MATERIALIZED (
        SELECT
            spans.fleet_id,
            spans.settlement_point,
            bucket.bucket_start,
            sum(part.ratio) AS ratio,
            sum(part.ratio * spans.price_usd_per_mwh) AS usd_per_mwh
        FROM generate_series(0, 11) AS step
        CROSS JOIN LATERAL (SELECT hours.hour_start + step * INTERVAL '5 minutes' AS bucket_start) AS bucket
        INNER JOIN spans
            ON
                spans.holds_from < bucket.bucket_start + INTERVAL '5 minutes'
                AND spans.holds_until > bucket.bucket_start
        CROSS JOIN LATERAL (
            SELECT
                date_part(
                    'epoch',
                    least(spans.holds_until, bucket.bucket_start + INTERVAL '5 minutes')
                    - greatest(spans.holds_from, bucket.bucket_start)
                ) / 300 AS ratio
        ) AS part
        GROUP BY spans.fleet_id, spans.settlement_point, bucket.bucket_start
    ),
    load AS MATERIALIZED (
        SELECT
            fleet_id,
            site_id,
            tokens_served
        FROM gridtide.site_load_1h
        WHERE run_id = gridtide.asked_run() AND bucket_start = hours.hour_start
    )
    SELECT
        bucket.run_id,
        bucket.fleet_id,
        bucket.site_id,
        sum(bucket.seconds) AS seconds,
        sum(bucket.metered_seconds) / sum(bucket.seconds) AS metered_ratio,
        sum(bucket.it_energy_joules) / 3600000 AS it_energy_kwh,
        -- Where the power usage effectiveness is not known, neither is the sum.
        CASE WHEN count(energy.kwh) = count(*) THEN sum(energy.kwh) END AS meter_energy_kwh,
        max(coalesce(bucket.meter_power_watts_max, bucket.it_power_watts_max * site.pue)) / 1000 AS peak_power_kw,
        sum(energy.kwh * priced.usd_per_mwh / 1000) AS cost_usd,
        -- Parts of 5 minutes add up to one but for rounding.
        sum(CASE WHEN priced.ratio > 1 - 1e-9 THEN 0 ELSE energy.kwh * (1 - coalesce(priced.ratio, 0)) END)
            AS unpriced_energy_kwh,
        max(load.tokens_served) AS tokens_served
    FROM gridtide.site_power_5m AS bucket
    LEFT JOIN gridtide.site_spans AS site
        ON
            site.run_id = bucket.run_id
            AND site.site_id = bucket.site_id
            AND site.holds_from <= bucket.bucket_start
            AND site.holds_until > bucket.bucket_start
    LEFT JOIN priced
        ON
            priced.fleet_id = bucket.fleet_id
            AND priced.settlement_point = site.settlement_point
            AND priced.bucket_start = bucket.bucket_start
    LEFT JOIN load ON load.fleet_id = bucket.fleet_id AND load.site_id = bucket.site_id
    CROSS JOIN LATERAL (
        SELECT
            CASE
                WHEN bucket.metered_seconds >= bucket.seconds THEN bucket.meter_energy_joules
                ELSE
                    coalesce(bucket.meter_energy_joules, 0)
                    + bucket.it_energy_joules * (1 - bucket.metered_seconds / bucket.seconds) * site.pue
            END / 3600000 AS kwh
    ) AS energy
    WHERE
        bucket.run_id = gridtide.asked_run()
        AND bucket.bucket_start >= hours.hour_start
        AND bucket.bucket_start < hours.hour_start + INTERVAL '1 hour'
    GROUP BY bucket.run_id, bucket.fleet_id, bucket.site_id
) AS power;
COMMENT ON VIEW gridtide.energy_hourly IS
    'Energy, power, cost and tokens of each site and hour with power states. Cost is at the real-time price as known '
    'now of each 5 minutes, or of each part of them where the price changes within; power counts as even within 5 '
    'minutes (the view settlement is exact to the window). Ask with a range of hour_start.';
COMMENT ON COLUMN gridtide.energy_hourly.run_id IS 'the run asked for: live, or what gridtide.run_id says';
COMMENT ON COLUMN gridtide.energy_hourly.fleet_id IS 'fleet that the site belongs to';
COMMENT ON COLUMN gridtide.energy_hourly.site_id IS 'site, one data centre';
COMMENT ON COLUMN gridtide.energy_hourly.hour_start IS 'start of the hour, UTC, included';
COMMENT ON COLUMN gridtide.energy_hourly.covered_ratio IS
    'part of the hour with power states, ratio 0-1: energy and cost are of this part alone';
COMMENT ON COLUMN gridtide.energy_hourly.it_energy_kwh IS 'energy of the GPUs, kWh';
COMMENT ON COLUMN gridtide.energy_hourly.meter_energy_kwh IS
    'energy at the meter, cooling and losses included, kWh: as metered, or IT energy times the site''s power usage '
    'effectiveness where the meter was silent; null where that is not known either';
COMMENT ON COLUMN gridtide.energy_hourly.metered_ratio IS
    'part of the covered time in which the meter was read, ratio 0-1';
COMMENT ON COLUMN gridtide.energy_hourly.mean_power_kw IS 'mean meter power over the covered time, kW';
COMMENT ON COLUMN gridtide.energy_hourly.peak_power_kw IS
    'highest meter power of a window, kW; from IT power in 5 minutes in which the meter was silent';
COMMENT ON COLUMN gridtide.energy_hourly.cost_usd IS
    'cost of the meter energy that has a price, USD; negative where prices were; null where nothing has a price';
COMMENT ON COLUMN gridtide.energy_hourly.unpriced_energy_kwh IS
    'meter energy for which no price is known, kWh: not in cost_usd';
COMMENT ON COLUMN gridtide.energy_hourly.tokens_served IS 'tokens generated, count; null where no load is known';
COMMENT ON COLUMN gridtide.energy_hourly.it_energy_joules_per_token IS 'IT energy per generated token, J';
COMMENT ON COLUMN gridtide.energy_hourly.meter_energy_joules_per_token IS 'meter energy per generated token, J';

CREATE VIEW gridtide.cost_per_million_tokens AS
SELECT
    run_id,
    fleet_id,
    site_id,
    hour_start,
    tokens_served,
    meter_energy_kwh,
    cost_usd,
    unpriced_energy_kwh,
    CASE
        WHEN unpriced_energy_kwh = 0 AND meter_energy_kwh IS NOT NULL
            THEN cost_usd * 1000000 / nullif(tokens_served, 0)
    END AS usd_per_million_tokens,
    meter_energy_kwh * 1000000 / nullif(tokens_served, 0) AS kwh_per_million_tokens
FROM gridtide.energy_hourly;
COMMENT ON VIEW gridtide.cost_per_million_tokens IS
    'What a million generated tokens cost in energy, by site and hour. The fleet''s figures are in '
    'fleet_cost_per_million_tokens: they are no sum or mean of these. Ask with a range of hour_start.';
COMMENT ON COLUMN gridtide.cost_per_million_tokens.run_id IS 'the run asked for: live, or what gridtide.run_id says';
COMMENT ON COLUMN gridtide.cost_per_million_tokens.fleet_id IS 'fleet that the site belongs to';
COMMENT ON COLUMN gridtide.cost_per_million_tokens.site_id IS 'site, one data centre';
COMMENT ON COLUMN gridtide.cost_per_million_tokens.hour_start IS 'start of the hour, UTC, included';
COMMENT ON COLUMN gridtide.cost_per_million_tokens.tokens_served IS
    'tokens generated, count; null where no load is known';
COMMENT ON COLUMN gridtide.cost_per_million_tokens.meter_energy_kwh IS 'energy at the meter, kWh';
COMMENT ON COLUMN gridtide.cost_per_million_tokens.cost_usd IS 'cost of the energy that has a price, USD';
COMMENT ON COLUMN gridtide.cost_per_million_tokens.unpriced_energy_kwh IS 'energy for which no price is known, kWh';
COMMENT ON COLUMN gridtide.cost_per_million_tokens.usd_per_million_tokens IS
    'energy cost of a million tokens, USD; null where a part of the energy has no price, or no token was served';
COMMENT ON COLUMN gridtide.cost_per_million_tokens.kwh_per_million_tokens IS
    'energy of a million tokens, kWh; null where no token was served';

-- A view of its own and not GROUPING SETS: a sum over the one above would count every token twice, and conditions on
-- the hour are not carried into grouping sets.
CREATE VIEW gridtide.fleet_cost_per_million_tokens AS
SELECT
    run_id,
    fleet_id,
    hour_start,
    sum(tokens_served) AS tokens_served,
    -- Where one site's is not known, neither is the fleet's.
    CASE WHEN count(meter_energy_kwh) = count(*) THEN sum(meter_energy_kwh) END AS meter_energy_kwh,
    sum(cost_usd) AS cost_usd,
    sum(unpriced_energy_kwh) AS unpriced_energy_kwh,
    CASE
        WHEN sum(unpriced_energy_kwh) = 0 AND count(meter_energy_kwh) = count(*)
            THEN sum(cost_usd) * 1000000 / nullif(sum(tokens_served), 0)
    END AS usd_per_million_tokens,
    CASE
        WHEN count(meter_energy_kwh) = count(*)
            THEN sum(meter_energy_kwh) * 1000000 / nullif(sum(tokens_served), 0)
    END AS kwh_per_million_tokens
FROM gridtide.energy_hourly
GROUP BY run_id, fleet_id, hour_start;
COMMENT ON VIEW gridtide.fleet_cost_per_million_tokens IS
    'What a million generated tokens cost in energy, by fleet and hour: all its energy over all its tokens, sites '
    'without tokens included. Ask with a range of hour_start.';
COMMENT ON COLUMN gridtide.fleet_cost_per_million_tokens.run_id IS
    'the run asked for: live, or what gridtide.run_id says';
COMMENT ON COLUMN gridtide.fleet_cost_per_million_tokens.fleet_id IS 'fleet';
COMMENT ON COLUMN gridtide.fleet_cost_per_million_tokens.hour_start IS 'start of the hour, UTC, included';
COMMENT ON COLUMN gridtide.fleet_cost_per_million_tokens.tokens_served IS
    'tokens generated, count; null where no load is known';
COMMENT ON COLUMN gridtide.fleet_cost_per_million_tokens.meter_energy_kwh IS 'energy at the meters, kWh';
COMMENT ON COLUMN gridtide.fleet_cost_per_million_tokens.cost_usd IS 'cost of the energy that has a price, USD';
COMMENT ON COLUMN gridtide.fleet_cost_per_million_tokens.unpriced_energy_kwh IS
    'energy for which no price is known, kWh';
COMMENT ON COLUMN gridtide.fleet_cost_per_million_tokens.usd_per_million_tokens IS
    'energy cost of a million tokens, USD; null where a part of the energy has no price, or no token was served';
COMMENT ON COLUMN gridtide.fleet_cost_per_million_tokens.kwh_per_million_tokens IS
    'energy of a million tokens, kWh; null where no token was served';

CREATE VIEW gridtide.settlement AS
SELECT
    bill.run_id,
    bill.fleet_id,
    bill.site_id,
    bill.settlement_point,
    market.starts_at,
    market.ends_at,
    bill.covered_ratio,
    bill.metered_ratio,
    bill.energy_kwh,
    bill.price_usd_per_mwh_first_known,
    bill.price_usd_per_mwh_at_end,
    bill.price_usd_per_mwh_now,
    bill.published_at,
    bill.energy_kwh / 1000 * bill.price_usd_per_mwh_first_known AS cost_usd_first_known,
    bill.energy_kwh / 1000 * bill.price_usd_per_mwh_at_end AS cost_usd_at_end,
    bill.energy_kwh / 1000 * bill.price_usd_per_mwh_now AS cost_usd_now,
    bill.energy_kwh / 1000 * (bill.price_usd_per_mwh_now - bill.price_usd_per_mwh_at_end) AS cost_change_usd
FROM (
    SELECT DISTINCT
        starts_at,
        ends_at
    FROM gridtide.grid_signals
    WHERE kind = 'price' AND market = 'real-time' AND run_id = gridtide.asked_run()
) AS market
CROSS JOIN LATERAL (
    WITH drawn AS MATERIALIZED (
        SELECT
            state.site_id,
            sum(part.seconds) AS seconds,
            coalesce(sum(part.seconds) FILTER (WHERE state.meter_power_watts IS NOT NULL), 0) AS metered_seconds,
            coalesce(sum(part.seconds * state.meter_power_watts), 0) AS meter_joules,
            sum(part.seconds * state.it_power_watts) FILTER (WHERE state.meter_power_watts IS NULL)
                AS unmetered_it_joules
        FROM gridtide.site_power AS state
        CROSS JOIN LATERAL (
            SELECT
                date_part(
                    'epoch',
                    least(state.window_end, market.ends_at) - greatest(state.window_start, market.starts_at)
                ) AS seconds
        ) AS part
        WHERE
            state.run_id = gridtide.asked_run()
            -- No window is longer than five minutes, the shortest interval of the markets.
            AND state.window_start > market.starts_at - INTERVAL '5 minutes'
            AND state.window_start < market.ends_at
            AND state.window_end > market.starts_at
        GROUP BY state.site_id
    )
    SELECT
        price.run_id,
        price.fleet_id,
        price.settlement_point,
        price.price_usd_per_mwh_first_known,
        price.price_usd_per_mwh_at_end,
        price.price_usd_per_mwh_now,
        price.published_at,
        site.site_id,
        coalesce(drawn.seconds, 0) / date_part('epoch', market.ends_at - market.starts_at)
            AS covered_ratio,
        drawn.metered_seconds / drawn.seconds AS metered_ratio,
        CASE
            WHEN drawn.metered_seconds >= drawn.seconds THEN drawn.meter_joules
            ELSE drawn.meter_joules + drawn.unmetered_it_joules * site.pue
        END / 3600000 AS energy_kwh
    FROM gridtide.prices AS price
    INNER JOIN gridtide.site_spans AS site
        ON
            site.run_id = price.run_id
            AND site.fleet_id = price.fleet_id
            AND site.settlement_point = price.settlement_point
            AND site.holds_from <= price.starts_at
            AND site.holds_until > price.starts_at
    LEFT JOIN drawn ON drawn.site_id = site.site_id
    WHERE price.starts_at = market.starts_at AND price.ends_at = market.ends_at
) AS bill;
COMMENT ON VIEW gridtide.settlement IS
    'Energy and its cost by site and market interval, as the real-time prices of the site''s settlement point give '
    'the intervals: at the price as first known, as known when the interval ended, and as known now. A window that '
    'lies across the edge of an interval is split by time. Where a market speaks of intervals of several lengths, each '
    'has its row. The site is taken as described when the interval began. Ask with a range of starts_at.';
COMMENT ON COLUMN gridtide.settlement.run_id IS 'the run asked for: live, or what gridtide.run_id says';
COMMENT ON COLUMN gridtide.settlement.fleet_id IS 'fleet that the site belongs to';
COMMENT ON COLUMN gridtide.settlement.site_id IS 'site, one data centre';
COMMENT ON COLUMN gridtide.settlement.settlement_point IS 'where its energy is priced';
COMMENT ON COLUMN gridtide.settlement.starts_at IS 'start of the market interval, UTC, included';
COMMENT ON COLUMN gridtide.settlement.ends_at IS 'end of the market interval, UTC, excluded';
COMMENT ON COLUMN gridtide.settlement.covered_ratio IS
    'part of the interval with power states, ratio 0-1: energy and cost are of this part alone';
COMMENT ON COLUMN gridtide.settlement.metered_ratio IS
    'part of the covered time in which the meter was read, ratio 0-1; null where nothing is covered';
COMMENT ON COLUMN gridtide.settlement.energy_kwh IS
    'energy at the meter, kWh, or IT energy times power usage effectiveness where the meter was silent; null where '
    'no state is known';
COMMENT ON COLUMN gridtide.settlement.price_usd_per_mwh_first_known IS 'price as it was first said, USD/MWh';
COMMENT ON COLUMN gridtide.settlement.price_usd_per_mwh_at_end IS
    'price as known when the interval ended, USD/MWh; null where none was known yet';
COMMENT ON COLUMN gridtide.settlement.price_usd_per_mwh_now IS 'price as known now, after all revisions, USD/MWh';
COMMENT ON COLUMN gridtide.settlement.published_at IS 'when the price as known now was said, UTC';
COMMENT ON COLUMN gridtide.settlement.cost_usd_first_known IS 'cost at the price as first known, USD';
COMMENT ON COLUMN gridtide.settlement.cost_usd_at_end IS 'cost at the price as known when the interval ended, USD';
COMMENT ON COLUMN gridtide.settlement.cost_usd_now IS 'cost at the price as known now, USD';
COMMENT ON COLUMN gridtide.settlement.cost_change_usd IS
    'what revisions since the interval''s end have added to the cost, USD; null where no price was known then';

CREATE VIEW gridtide.stream_quality AS
SELECT
    gridtide.asked_run() AS run_id,
    quality.fleet_id,
    quality.site_id,
    quality.topic,
    hours.hour_start,
    coalesce(quality.windows, 0) AS windows,
    quality.windows_expected,
    coalesce(quality.covered_seconds, 0) / 3600 AS covered_ratio,
    quality.reporting_ratio_min,
    quality.reporting_ratio_mean,
    quality.masked_ratio,
    coalesce(quality.records, 0) AS records,
    coalesce(quality.duplicates, 0) AS duplicates,
    CASE
        WHEN hours.hour_start + INTERVAL '1 hour' <= quality.oldest_raw THEN NULL -- retention has taken them
        WHEN coalesce(quality.judged_raw, 0) >= coalesce(quality.judged_records, 0) -- or the recorder is behind
            THEN coalesce(quality.judged_raw, 0) - coalesce(quality.judged_records, 0)
    END AS late_records
FROM (
    SELECT bucket_start AS hour_start FROM gridtide.site_power_1h WHERE run_id = gridtide.asked_run()
    UNION
    SELECT bucket_start AS hour_start FROM gridtide.site_load_1h WHERE run_id = gridtide.asked_run()
) AS hours
CROSS JOIN LATERAL (
    WITH described AS MATERIALIZED (
        SELECT DISTINCT ON (site_id)
            fleet_id,
            site_id
        FROM gridtide.sites
        WHERE run_id = gridtide.asked_run() AND known_from < hours.hour_start + INTERVAL '1 hour'
        ORDER BY site_id, known_from DESC
    ),
    -- A window of another partition may still be open: what is younger than five minutes is not judged yet.
    judged AS MATERIALIZED (
        SELECT
            least(hours.hour_start + INTERVAL '1 hour', (
                SELECT window_end - INTERVAL '5 minutes' FROM gridtide.site_power
                WHERE run_id = gridtide.asked_run() ORDER BY window_start DESC LIMIT 1
            )) AS power_until,
            least(hours.hour_start + INTERVAL '1 hour', (
                SELECT window_end - INTERVAL '5 minutes' FROM gridtide.site_load
                WHERE run_id = gridtide.asked_run() ORDER BY window_start DESC LIMIT 1
            )) AS load_until
    )
    SELECT
        coalesce(hourly.fleet_id, described.fleet_id) AS fleet_id,
        coalesce(hourly.site_id, described.site_id) AS site_id,
        'gpu.telemetry.v1' AS topic,
        hourly.windows,
        round(3600 * sum(hourly.windows) OVER () / sum(hourly.seconds) OVER ())::bigint AS windows_expected,
        hourly.seconds AS covered_seconds,
        hourly.reporting_ratio_min,
        states.reporting_ratio_mean,
        hourly.masked_values / nullif(5.0 * hourly.gpu_samples, 0)::double precision AS masked_ratio,
        hourly.records,
        hourly.duplicates,
        states.records AS judged_records,
        raw.records AS judged_raw,
        (SELECT min(observed_at) FROM gridtide.gpu_telemetry) AS oldest_raw
    FROM described
    FULL JOIN (
        SELECT * FROM gridtide.site_power_1h
        WHERE run_id = gridtide.asked_run() AND bucket_start = hours.hour_start
    ) AS hourly ON hourly.site_id = described.site_id
    LEFT JOIN (
        SELECT
            site_id,
            avg(reporting_ratio) AS reporting_ratio_mean,
            sum(records) FILTER (WHERE window_end <= (SELECT power_until FROM judged)) AS records
        FROM gridtide.site_power
        WHERE
            run_id = gridtide.asked_run()
            AND window_start >= hours.hour_start
            AND window_start < hours.hour_start + INTERVAL '1 hour'
        GROUP BY site_id
    ) AS states ON states.site_id = coalesce(hourly.site_id, described.site_id)
    LEFT JOIN (
        SELECT
            site_id,
            count(*) AS records
        FROM gridtide.gpu_telemetry
        WHERE
            run_id = gridtide.asked_run()
            AND observed_at >= hours.hour_start
            AND observed_at < (SELECT power_until FROM judged)
        GROUP BY site_id
    ) AS raw ON raw.site_id = coalesce(hourly.site_id, described.site_id)
    UNION ALL
    SELECT
        coalesce(hourly.fleet_id, described.fleet_id) AS fleet_id,
        coalesce(hourly.site_id, described.site_id) AS site_id,
        'inference.requests.v1' AS topic,
        hourly.windows,
        round(3600 * sum(hourly.windows) OVER () / sum(hourly.seconds) OVER ())::bigint AS windows_expected,
        hourly.covered_seconds,
        NULL,
        NULL,
        NULL,
        hourly.records,
        hourly.duplicates,
        states.records AS judged_records,
        raw.records AS judged_raw,
        (SELECT min(observed_at) FROM gridtide.inference_requests) AS oldest_raw
    FROM described
    FULL JOIN (
        SELECT * FROM gridtide.site_load_1h
        WHERE run_id = gridtide.asked_run() AND bucket_start = hours.hour_start
    ) AS hourly ON hourly.site_id = described.site_id
    LEFT JOIN (
        SELECT
            site_id,
            sum(records) FILTER (WHERE window_end <= (SELECT load_until FROM judged)) AS records
        FROM gridtide.site_load
        WHERE
            run_id = gridtide.asked_run()
            AND window_start >= hours.hour_start
            AND window_start < hours.hour_start + INTERVAL '1 hour'
        GROUP BY site_id
    ) AS states ON states.site_id = coalesce(hourly.site_id, described.site_id)
    LEFT JOIN (
        -- A report belongs to the window in which the last instant of its interval lies.
        SELECT
            site_id,
            count(*) AS records
        FROM gridtide.inference_requests
        WHERE
            run_id = gridtide.asked_run()
            AND observed_at > hours.hour_start
            AND observed_at <= (SELECT load_until FROM judged)
        GROUP BY site_id
    ) AS raw ON raw.site_id = coalesce(hourly.site_id, described.site_id)
) AS quality;
COMMENT ON VIEW gridtide.stream_quality IS
    'How whole the records of each site and source topic are, by hour with states of any site: a site of which nothing '
    'came has its row. Hours for which the run as a whole has no state have none. Counting late records reads the raw '
    'tables: ask with a range of hour_start.';
COMMENT ON COLUMN gridtide.stream_quality.run_id IS 'the run asked for: live, or what gridtide.run_id says';
COMMENT ON COLUMN gridtide.stream_quality.fleet_id IS 'fleet that the site belongs to';
COMMENT ON COLUMN gridtide.stream_quality.site_id IS 'site, one data centre';
COMMENT ON COLUMN gridtide.stream_quality.topic IS 'gpu.telemetry.v1 (power) or inference.requests.v1 (load)';
COMMENT ON COLUMN gridtide.stream_quality.hour_start IS 'start of the hour, UTC, included';
COMMENT ON COLUMN gridtide.stream_quality.windows IS 'windows with a state, count';
COMMENT ON COLUMN gridtide.stream_quality.windows_expected IS
    'windows of a whole hour, also where it is not over yet, count; null where no site has one';
COMMENT ON COLUMN gridtide.stream_quality.covered_ratio IS
    'part of the hour that the power windows, or the intervals of the load reports, cover, ratio 0-1';
COMMENT ON COLUMN gridtide.stream_quality.reporting_ratio_min IS
    'GPUs heard of, of those in the fleet file, in the worst window, ratio 0-1; power only';
COMMENT ON COLUMN gridtide.stream_quality.reporting_ratio_mean IS
    'GPUs heard of, of those in the fleet file, mean of the windows, ratio 0-1; power only';
COMMENT ON COLUMN gridtide.stream_quality.masked_ratio IS
    'readings that were null or implausible, of the five of each GPU sample, ratio; power only';
COMMENT ON COLUMN gridtide.stream_quality.records IS 'distinct source records in the windows, count';
COMMENT ON COLUMN gridtide.stream_quality.duplicates IS
    'source records dropped because they were already in their window, count';
COMMENT ON COLUMN gridtide.stream_quality.late_records IS
    'source records in the history that are in no window, count: they came when theirs was closed. The newest five '
    'minutes of the run are not judged yet. Null where the history holds fewer records than the windows: retention has '
    'taken them, or the recorder is behind';

CREATE INDEX dead_letters_hour ON gridtide.dead_letters (
    date_bin(INTERVAL '1 hour', arrived_at, '2000-01-03 00:00+00'::timestamptz)
);
CREATE VIEW gridtide.dead_letters_hourly AS
SELECT
    run_id,
    topic,
    reason,
    date_bin(INTERVAL '1 hour', arrived_at, '2000-01-03 00:00+00'::timestamptz) AS hour_start,
    count(*) AS messages
FROM gridtide.dead_letters
WHERE run_id = gridtide.asked_run()
GROUP BY run_id, topic, reason, hour_start;
COMMENT ON VIEW gridtide.dead_letters_hourly IS
    'Messages that could not be read, by topic, reason and hour. They have no site: what can''t be read has none that '
    'can be trusted. Ask with a range of hour_start.';
COMMENT ON COLUMN gridtide.dead_letters_hourly.run_id IS 'the run asked for: live, or what gridtide.run_id says';
COMMENT ON COLUMN gridtide.dead_letters_hourly.topic IS 'source topic as in the catalog';
COMMENT ON COLUMN gridtide.dead_letters_hourly.reason IS 'short machine-readable reason';
COMMENT ON COLUMN gridtide.dead_letters_hourly.hour_start IS
    'start of the hour of the messages'' own timestamps, UTC, included';
COMMENT ON COLUMN gridtide.dead_letters_hourly.messages IS 'messages, count';
