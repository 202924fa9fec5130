"""Forecasts drawn between those that were made."""

import numpy as np

from forecasting.drawn import Ahead, steps_within

MADE = np.stack([np.arange(7.0), np.arange(7.0) + 10])[None]


def test_ahead_draws_straight_lines_and_stays_at_the_ends() -> None:
    found = Ahead((300.0, 600.0, 900.0, 1200.0, 9000.0), (600.0, 1200.0)).drawn(MADE)[0, :, 0]
    np.testing.assert_allclose(found, [0, 0, 5, 10, 10])


def test_ahead_gives_what_was_made_to_the_bit() -> None:
    noisy = np.random.default_rng(1).normal(size=(3, 2, 7))
    assert Ahead((1.0, 3.0), (1.0, 3.0)).drawn(noisy).tobytes() == noisy.tobytes()


def test_steps_within_are_all_of_them_one_at_least() -> None:
    assert steps_within(1800.0, 600.0, (1, 6)).wanted == (1.0, 2.0, 3.0)
    assert steps_within(600.0, 7200.0, (1, 6)).wanted == (1.0,)
