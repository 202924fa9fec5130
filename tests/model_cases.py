"""Load to train on, and forecasters trained on it, small enough for tests."""

from copy import copy
from datetime import UTC, datetime
from functools import lru_cache
from pathlib import Path

import numpy as np

from forecasting.artifact import versions_here
from forecasting.card import Losses, ModelCard
from forecasting.features import feature_names
from forecasting.forecaster import Forecaster
from forecasting.series import LoadSeries
from forecasting.train import train
from infra.model_store import ModelStore
from streams.forecast.models import save

MONDAY = datetime(2026, 11, 2, tzinfo=UTC)
# Long steps have few horizons: training takes a tenth of what it takes live.
STEP_SECONDS = 1800.0
DAY_STEPS = 48


def load_series(days: float = 4.0, seed: int = 1, name: str = "austin-1/tokens") -> LoadSeries:
    """Load with a day's shape, and noise."""
    steps = np.arange(round(days * DAY_STEPS))
    shape = 100 + 60 * np.sin(2 * np.pi * steps / DAY_STEPS)
    noise = np.random.default_rng(seed).normal(0, 4, len(steps))
    return LoadSeries(name, MONDAY, STEP_SECONDS, shape + noise)


@lru_cache(maxsize=1)
def _trained() -> Forecaster:
    return train([load_series()], STEP_SECONDS, "gbm-1", 1)


def trained(name: str = "gbm-1") -> Forecaster:
    """A forecaster of that name; it is trained once for all tests, as that takes the longest."""
    named = copy(_trained())
    object.__setattr__(named, "name", name)
    return named


def card_of(name: str, trained_at: datetime = MONDAY, promoted: bool = True) -> ModelCard:
    """A card as a training writes it."""
    return ModelCard(
        name=name,
        run_id="live",
        trained_at=trained_at,
        data_starts_at=MONDAY,
        held_out_from=MONDAY,
        data_ends_at=MONDAY,
        sites=["austin-1"],
        series=1,
        steps=192,
        held_out_steps=48,
        step_seconds=STEP_SECONDS,
        horizons_seconds=[1800],
        features=feature_names(),
        seed=1,
        losses=Losses(candidate=0.1, baseline=0.2),
        promoted=promoted,
        reason="better than the statistical baseline",
        versions=versions_here(),
        model_sha256="0" * 64,
    )


def kept(folder: Path, forecaster: Forecaster) -> ModelStore:
    """A store in which this forecaster serves."""
    store = ModelStore(folder)
    save(store, forecaster, card_of(forecaster.name))
    store.point_to(forecaster.name)
    return store
