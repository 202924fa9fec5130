"""The blend keeps up with the best, and where nothing beats the last value it is the last value."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from forecasting import blend
from forecasting.series import Floats

EVEN, ONE = np.full(5, 0.2), np.ones(3)
KEEP = blend.keep_ratio(np.array([144.0]))
some = arrays(np.float64, (3, 5), elements=st.floats(-50, 50))
squares = arrays(np.float64, (3, 5), elements=st.floats(0, 1e4))
says = arrays(np.float64, (3, 5), elements=st.one_of(st.just(np.nan), st.floats(0, 1e12)))


def blended(said: Floats, came: Floats) -> tuple[Floats, Floats]:
    """Points (n,) of a blend of what experts (n, E) said of loads (n,), and its last weights; the first counts most."""
    regret = square = np.zeros((1, said.shape[1]))
    others = said.shape[1] - 1
    prior, points = np.array([0.4, *[0.6 / others] * others]), list[float]()
    weight = prior[None]
    for each, load in zip(said[:, None], came[:, None], strict=True):
        weight = blend.weights(regret, square, prior, each, ONE[:1])
        point = blend.mixed(weight, each)
        regret, square = blend.learnt(regret, square, each, point, load, np.full(1, 100.0), KEEP)
        points.append(float(point[0]))
    return np.array(points), weight[0]


@settings(max_examples=40, deadline=None)
@given(some, squares, says)
def test_weights_of_those_that_speak_are_shares(regret: Floats, square: Floats, said: Floats) -> None:
    weight = blend.weights(regret, square, EVEN, said, ONE)
    speaks = ~np.isnan(said)
    assert (weight[~speaks] == 0).all()
    assert (weight >= 0).all()
    np.testing.assert_allclose(weight.sum(axis=-1), np.where(speaks.any(axis=-1), 1.0, 0.0))


@settings(max_examples=40, deadline=None)
@given(some, squares, says)
def test_mixed_lies_among_what_was_said(regret: Floats, square: Floats, said: Floats) -> None:
    point = blend.mixed(blend.weights(regret, square, EVEN, said, ONE), said)
    for each, mean in zip(said, point, strict=True):
        known = each[~np.isnan(each)]
        if len(known):
            assert known.min() * (1 - 1e-9) <= mean <= known.max() * (1 + 1e-9)
        else:
            assert np.isnan(mean)


@pytest.mark.parametrize("best", range(4))
def test_blend_gives_the_best_expert_most(best: int) -> None:
    rng = np.random.default_rng(best)
    came = 100 + rng.normal(0, 20, 400)
    said = came[:, None] + rng.normal(0, 1, (400, 6)) * np.where(np.arange(6) == best, 2.0, 30.0)
    points, weight = blended(said, came)
    assert weight[best] > 0.5
    assert np.abs(points - came)[200:].mean() < 2 * np.abs(said[200:, best] - came[200:]).mean()


def test_blend_turns_to_the_one_that_is_best_now() -> None:
    rng = np.random.default_rng(1)
    came = 100 + rng.normal(0, 20, 800)
    off = np.where(np.arange(800)[:, None] < 400, [2.0, 30.0, 30.0], [30.0, 30.0, 2.0])
    _, weight = blended(came[:, None] + rng.normal(0, 1, (800, 3)) * off, came)
    assert weight[2] > 0.5


def test_blend_is_persistence_where_nothing_beats_it() -> None:
    rng = np.random.default_rng(5)
    walk = 100 * np.exp(np.cumsum(rng.normal(0, 0.03, 1501)))
    last, came = walk[:-1], walk[1:]
    # Others: averages of the past, and the last value with a noise of its own.
    levels = [np.convolve(walk, np.full(n, 1 / n))[: len(last)] for n in (3, 10, 30)]
    noisy = [last * np.exp(rng.normal(0, ratio, len(last))) for ratio in (0.02, 0.1, 0.3)]
    points, _ = blended(np.stack([last, *levels, *noisy], axis=1), came)
    assert np.abs(points - came)[30:].mean() <= 1.02 * np.abs(last - came)[30:].mean()


def test_learnt_changes_nothing_of_those_that_said_nothing() -> None:
    regret, square = np.array([[1.0, -2.0]]), np.array([[3.0, 4.0]])
    said, point, came = np.array([[np.nan, 12.0]]), np.array([12.0]), np.array([10.0])
    found, grown = blend.learnt(regret, square, said, point, came, np.full(1, 10.0), np.full(1, 0.5))
    np.testing.assert_allclose(found, [[0.5, -1.0]])
    np.testing.assert_allclose(grown, [[1.5, 2.0]])
