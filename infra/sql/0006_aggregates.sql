-- Site states by the minute, by five minutes and by the hour: site_power_1m, _5m, _1h, and so for site_load and
-- site_class_load. Continuous aggregates on TimescaleDB's community edition, plain views of the same names and columns
-- elsewhere. They hold sums, extremes and counts, and no mean or percentile: those don't add up, and come from these:
--   mean IT power of a site, W     it_energy_joules / seconds
--   mean meter power of a site, W  meter_energy_joules / metered_seconds
--   99th percentile of a class, s  gridtide.quantile_seconds(gridtide.sum_counts(ttft_seconds_counts), 0.99)
-- All runs: ask for run_id = gridtide.asked_run(). A window belongs to the bucket in which it starts.

-- Written out for the 26 buckets of the contract, element by element: twice as fast as a loop. The cost is put low, as
-- every parallel worker compiles it anew, which a week of hours does not repay.
DO $$
BEGIN
    EXECUTE format(
        'CREATE FUNCTION gridtide.add_counts(total bigint [], counts bigint []) RETURNS bigint []'
        ' LANGUAGE plpgsql IMMUTABLE PARALLEL SAFE STRICT COST 10 AS %L',
        (
            SELECT format('BEGIN RETURN ARRAY[%s]; END', string_agg(format('total[%1$s] + counts[%1$s]', place), ', '))
            FROM generate_series(1, cardinality(gridtide.latency_bounds_seconds()) + 1) AS places (place)
        )
    );
END
$$;
COMMENT ON FUNCTION gridtide.add_counts(bigint [], bigint []) IS
    'Counts per latency bucket, bucket by bucket added: what sum_counts is made of.';

CREATE AGGREGATE gridtide.sum_counts(bigint []) (
    sfunc = gridtide.add_counts, stype = bigint [], combinefunc = gridtide.add_counts, parallel = safe
);
COMMENT ON AGGREGATE gridtide.sum_counts(bigint []) IS
    'Sum of counts per latency bucket (ttft_seconds_counts) over rows, bucket by bucket; null over no rows.';

DO $$
DECLARE
    extension_schema CONSTANT text := (
        SELECT nspname FROM pg_extension JOIN pg_namespace ON pg_namespace.oid = extnamespace
        WHERE extname = 'timescaledb'
    );
    is_continuous boolean := false;
    one record;
    level record;
    view_name text;
BEGIN
    -- The Apache edition has no continuous aggregates. Nor have tables that 0004 found no extension for.
    IF extension_schema IS NOT NULL AND current_setting('timescaledb.license', true) = 'timescale' THEN
        is_continuous := (
            SELECT count(*) = 3 FROM timescaledb_information.hypertables
            WHERE
                hypertable_schema = 'gridtide'
                AND hypertable_name IN ('site_power', 'site_load', 'site_class_load')
        );
    END IF;

    -- A column of an aggregate is `fold` over what `of_window` says of a window, and over its own values when the next
    -- longer bucket is made of this one.
    FOR one IN
        WITH columns (place, family, name, fold, type, of_window, about) AS (
            VALUES
            (1, 'site_power', 'windows', 'sum', 'bigint', '1', 'windows that start in the bucket, count'),
            (2, 'site_power', 'seconds', 'sum', 'double precision', '%length%', 'length of those windows together, s'),
            (3, 'site_power', 'it_energy_joules', 'sum', 'double precision', 'it_energy_joules', 'IT energy, J'),
            (4, 'site_power', 'meter_energy_joules', 'sum', 'double precision', 'meter_power_watts * %length%',
            'energy at the meter in windows with a reading of it (metered_seconds), J; null where there was none'),
            (5, 'site_power', 'metered_seconds', 'sum', 'double precision',
            'CASE WHEN meter_power_watts IS NULL THEN 0 ELSE %length% END',
            'length of the windows with a reading of the meter, s'),
            (6, 'site_power', 'it_power_watts_max', 'max', 'double precision', 'it_power_watts',
            'highest IT power of a window, W'),
            (7, 'site_power', 'meter_power_watts_max', 'max', 'double precision', 'meter_power_watts',
            'highest meter power of a window, W; null where there was no reading'),
            (8, 'site_power', 'meter_power_watts_min', 'min', 'double precision', 'meter_power_watts',
            'lowest meter power of a window, W; null where there was no reading'),
            (9, 'site_power', 'utilization_samples', 'sum', 'double precision', 'utilization_ratio * gpu_samples',
            'GPU utilization, ratio 0-1, summed over samples: by gpu_samples it is the mean; null where none was read'),
            (10, 'site_power', 'temperature_celsius_max', 'max', 'double precision', 'temperature_celsius_max',
            'hottest GPU, degrees Celsius; null where nothing was read'),
            (11, 'site_power', 'gpu_samples', 'sum', 'bigint', 'gpu_samples',
            'readings of one GPU at one instant, count'),
            (12, 'site_power', 'masked_values', 'sum', 'bigint', 'masked_values',
            'readings that were null or implausible, count'),
            (13, 'site_power', 'gpus_reporting_min', 'min', 'bigint', 'gpus_reporting',
            'fewest GPUs heard of in a window, count'),
            (14, 'site_power', 'reporting_ratio_min', 'min', 'double precision', 'reporting_ratio',
            'lowest share of the GPUs heard of in a window, ratio 0-1'),
            (15, 'site_power', 'records', 'sum', 'bigint', 'records', 'distinct source records, count'),
            (16, 'site_power', 'duplicates', 'sum', 'bigint', 'duplicates',
            'source records dropped because they were in the window already, count'),

            (1, 'site_load', 'windows', 'sum', 'bigint', '1', 'windows that start in the bucket, count'),
            (2, 'site_load', 'seconds', 'sum', 'double precision', '%length%', 'length of those windows together, s'),
            (3, 'site_load', 'requests', 'sum', 'double precision', 'requests_per_second * %length%',
            'requests that arrived, count'),
            (4, 'site_load', 'tokens_arrived', 'sum', 'double precision', 'tokens_arrived_per_second * %length%',
            'tokens that the arriving requests want generated, count'),
            (5, 'site_load', 'tokens_served', 'sum', 'double precision', 'tokens_served_per_second * %length%',
            'tokens generated, count'),
            (6, 'site_load', 'tokens_queued_max', 'max', 'bigint', 'tokens_queued',
            'most tokens waiting at the end of a window, count'),
            (7, 'site_load', 'covered_seconds', 'sum', 'double precision', 'covered_ratio * %length%',
            'part of the windows that the records'' intervals cover, s'),
            (8, 'site_load', 'records', 'sum', 'bigint', 'records', 'distinct source records, count'),
            (9, 'site_load', 'duplicates', 'sum', 'bigint', 'duplicates',
            'source records dropped because they were in the window already, count'),

            (1, 'site_class_load', 'windows', 'sum', 'bigint', '1', 'windows that start in the bucket, count'),
            (2, 'site_class_load', 'seconds', 'sum', 'double precision', '%length%',
            'length of those windows together, s'),
            (3, 'site_class_load', 'requests', 'sum', 'double precision', 'requests_per_second * %length%',
            'requests that arrived, count'),
            (4, 'site_class_load', 'prompt_tokens', 'sum', 'double precision', 'prompt_tokens_per_second * %length%',
            'prompt tokens that arrived, count'),
            (5, 'site_class_load', 'tokens_arrived', 'sum', 'double precision', 'tokens_arrived_per_second * %length%',
            'tokens that the arriving requests want generated, count'),
            (6, 'site_class_load', 'tokens_served', 'sum', 'double precision', 'tokens_served_per_second * %length%',
            'tokens generated, count'),
            (7, 'site_class_load', 'tokens_queued_max', 'max', 'bigint', 'tokens_queued',
            'most tokens waiting at the end of a window, count'),
            (8, 'site_class_load', 'ttft_seconds_counts', 'gridtide.sum_counts', 'bigint []', 'ttft_seconds_counts',
            'requests served by time to first token, counts in the buckets of gridtide.latency_bounds_seconds()')
        ),

        -- date_part, as extract gives numeric and takes several times as long.
        folded AS (
            SELECT
                columns.*,
                replace(of_window, '%length%', 'date_part(''epoch'', window_end - window_start)') AS value
            FROM columns
        )

        SELECT
            family.name,
            family.about,
            CASE family.name WHEN 'site_class_load' THEN 'site_id, service_class' ELSE 'site_id' END AS keys,
            string_agg(format('%s(%s)::%s AS %I', fold, value, type, folded.name), ', ' ORDER BY place) AS of_windows,
            string_agg(format('%s(%I)::%s AS %2$I', fold, folded.name, type), ', ' ORDER BY place) AS of_buckets,
            string_agg(format('COMMENT ON COLUMN %%1$s.%I IS %L;', folded.name, folded.about), ' ') AS comments
        FROM folded
        INNER JOIN (
            VALUES
            ('site_power', 'Power of a site, from site_power'),
            ('site_load', 'Inference load of a site, from site_load'),
            ('site_class_load', 'Inference load of a service class at a site, from site_class_load')
        ) AS family (name, about) ON family.name = folded.family
        GROUP BY family.name, family.about
    LOOP
        FOR level IN
            SELECT * FROM (VALUES
                ('1m', NULL, '1 minute', '7 days'),
                ('5m', '1m', '5 minutes', '30 days'),
                ('1h', '5m', '1 hour', '365 days')
            ) AS chosen (suffix, made_of, bucket_length, chunk_interval)
        LOOP
            view_name := format('gridtide.%s_%s', one.name, level.suffix);
            IF is_continuous THEN
                -- Each of the one before it: a refresh reads a few rows for each bucket. Real-time: what is not
                -- materialised yet is put together when asked. Indexes: ours below, and one on bucket_start.
                EXECUTE format(
                    'CREATE MATERIALIZED VIEW %s WITH (timescaledb.continuous, timescaledb.materialized_only = false,'
                    ' timescaledb.create_group_indexes = false, timescaledb.chunk_interval = %L)'
                    ' AS SELECT %I.time_bucket(%L::interval, %I) AS bucket_start, %s, fleet_id, run_id, %s FROM %s'
                    ' GROUP BY 1, %6$s, fleet_id, run_id WITH NO DATA',
                    view_name,
                    level.chunk_interval,
                    extension_schema,
                    level.bucket_length,
                    CASE WHEN level.made_of IS NULL THEN 'window_start' ELSE 'bucket_start' END,
                    one.keys,
                    CASE WHEN level.made_of IS NULL THEN one.of_windows ELSE one.of_buckets END,
                    concat_ws('_', format('gridtide.%s', one.name), level.made_of)
                );
                EXECUTE format('CREATE INDEX ON %s (site_id, bucket_start)', view_name);
                EXECUTE format('CREATE INDEX ON %s (fleet_id, bucket_start)', view_name);
            ELSE
                -- The origin is that of time_bucket, a Monday. Straight from the windows, so that a condition on
                -- bucket_start finds the index.
                EXECUTE format(
                    'CREATE VIEW %s AS SELECT date_bin(%L::interval, window_start, ''2000-01-03 00:00+00'')'
                    ' AS bucket_start, %s, fleet_id, run_id, %s FROM gridtide.%I GROUP BY 1, %3$s, fleet_id, run_id',
                    view_name,
                    level.bucket_length,
                    one.keys,
                    one.of_windows,
                    one.name
                );
                -- BRIN: a few kilobytes, and next to nothing for the writer.
                EXECUTE format(
                    'CREATE INDEX ON gridtide.%I'
                    ' USING brin (date_bin(%L::interval, window_start, ''2000-01-03 00:00+00''))',
                    one.name,
                    level.bucket_length
                );
            END IF;
            EXECUTE format(
                'COMMENT ON VIEW %s IS %L',
                view_name,
                format('%s, by %s. All runs.', one.about, level.bucket_length)
            );
            EXECUTE format(
                'COMMENT ON COLUMN %1$s.bucket_start IS ''start of the bucket, UTC, included'';'
                ' COMMENT ON COLUMN %1$s.site_id IS ''site, one data centre'';'
                ' COMMENT ON COLUMN %1$s.fleet_id IS ''fleet that the site belongs to'';'
                ' COMMENT ON COLUMN %1$s.run_id IS ''`live`, or the name of the replay or demo that made the record'';'
                || one.comments,
                view_name
            );
            IF one.name = 'site_class_load' THEN
                EXECUTE format('COMMENT ON COLUMN %s.service_class IS ''name of the service class''', view_name);
            END IF;
        END LOOP;
    END LOOP;
END
$$;
