"""The backtest on loads that come out of nothing, and with steps that nobody saw."""

import numpy as np

from forecasting.backtest import Options, backtest
from tests.load_cases import HALF_HOUR_SECONDS, series_of, wave


def test_backtest_of_a_load_after_zeros_keeps_its_quantiles_near_the_load() -> None:
    load = wave(72, HALF_HOUR_SECONDS)
    values = np.concatenate([np.zeros(96), load])
    done = backtest(series_of(values, HALF_HOUR_SECONDS), Options((1800.0, 86_400.0), 96, 43_200.0, (1800.0,)))
    assert done.quantiles["model"].max() < 30 * load.max()
    assert "zeros" not in done.flags


def test_backtest_says_no_spike_only_where_every_step_was_seen() -> None:
    values = wave(120, HALF_HOUR_SECONDS)
    values[100] = np.nan
    done = backtest(series_of(values, HALF_HOUR_SECONDS), Options((1800.0,), 96, 43_200.0, (3600.0,)))
    came = done.spikes["above_twice_median"].came[:, 0]
    unknown = set(done.origins[np.isnan(came)].tolist())
    assert unknown == {98, 99, 118}
