"""One training: learn from the older part of the series, be judged by the newer, together with who serves now."""

import hashlib
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta

import numpy as np

from forecasting.artifact import versions_here
from forecasting.card import Losses, ModelCard
from forecasting.features import feature_names
from forecasting.forecaster import Forecaster, statistical
from forecasting.holdout import holdout_pinball
from forecasting.promotion import decide, superfluous, too_little
from forecasting.series import LoadSeries
from forecasting.train import train
from infra.model_store import ModelStore, Stamp
from infra.settings import ConfigurationError
from streams.forecast.models import cards, save, serving
from streams.train.material import Material

# Of a short history no more than this part judges.
_MOST_HELD_OUT_RATIO = 0.25

Tell = Callable[[str], None]


class TooLittleHistoryError(ConfigurationError):
    """There is too little load to learn from, yet; the message is one line that says how much is needed."""


@dataclass(frozen=True, slots=True)
class Trained:
    """A forecaster with its card, and why the one that the pointer names took no part, where it could not.

    `judged_beside` is the stamp of the pointer as it was when it said who else was to be judged.
    """

    forecaster: Forecaster
    card: ModelCard
    serving_refused: str | None
    judged_beside: Stamp | None


def train_once(
    material: Material, store: ModelStore, run_id: str, now: datetime, held_out: timedelta, seed: int, tell: Tell
) -> Trained:
    """Trains a forecaster and judges it; nothing is written.

    Args:
        material: what it learns from, and is judged by.
        store: where the model lies that serves.
        run_id: the run for which it is trained.
        now: when.
        held_out: how much of the end of each series judges; a quarter of it at most.
        seed: of what is drawn by lot.
        tell: is told each phase as it begins.

    Raises:
        TooLittleHistoryError: there is too little of it.
        ConfigurationError: the store can't be read.
    """
    step_seconds = material.step_seconds
    splits = [_held_out_from(one, held_out) for one in material.series]
    learnt = [_until(one, split) for one, split in zip(material.series, splits, strict=True)]
    judged_steps = [_observed(one.values[split:]) for one, split in zip(material.series, splits, strict=True)]
    learnt_steps = [_observed(one.values) for one in learnt]
    reason = too_little(max(learnt_steps, default=0) * step_seconds, max(judged_steps, default=0) * step_seconds)
    if reason:
        raise TooLittleHistoryError(reason)
    tell("training")
    forecaster = train(learnt, step_seconds, _name(now, learnt, seed), seed)
    tell("judging")
    judged_beside = store.stamp()
    in_place, refused = serving(store, step_seconds)
    losses = Losses(
        candidate=_loss(forecaster, material.series, splits),
        baseline=_loss(statistical(step_seconds), material.series, splits),
        serving=_loss(in_place, material.series, splits) if in_place else None,
        serving_name=in_place.name if in_place else None,
    )
    verdict = decide(losses)
    first, split, last = _span(material.series, splits)
    card = ModelCard(
        name=forecaster.name,
        run_id=run_id,
        trained_at=now,
        data_starts_at=first,
        held_out_from=split,
        data_ends_at=last,
        sites=material.sources,
        series=len(material.series),
        steps=sum(learnt_steps),
        held_out_steps=sum(judged_steps),
        step_seconds=step_seconds,
        horizons_seconds=[int(horizon) for horizon in forecaster.horizons_seconds],
        features=feature_names(),
        seed=seed,
        losses=losses,
        promoted=verdict.promoted,
        reason=verdict.reason,
        versions=versions_here(),
        model_sha256="0" * 64,  # known when it is saved
    )
    return Trained(forecaster, card, refused, judged_beside)


def keep(trained: Trained, store: ModelStore, most: int) -> ModelCard:
    """Writes the artefact, lets it serve if it was promoted, and deletes what is superfluous then.

    It is not promoted if the pointer was switched since it was judged: it was not held against who serves now.

    Raises:
        ArtifactError: it could not be read again.
        ConfigurationError: the store can't be written.
    """
    card = trained.card
    with store.locked():
        if card.promoted and store.stamp() != trained.judged_beside:
            reason = f"another model was let serve while it was judged; it was {card.reason}"
            card = card.model_copy(update={"promoted": False, "reason": reason})
        card = save(store, trained.forecaster, card)
        if card.promoted:
            store.point_to(card.name)
        for name in superfluous(cards(store), store.current(), most):
            store.remove(name)
    return card


def _held_out_from(series: LoadSeries, held_out: timedelta) -> int:
    steps = len(series.values)
    return steps - min(round(held_out.total_seconds() / series.step_seconds), int(steps * _MOST_HELD_OUT_RATIO))


def _until(series: LoadSeries, step: int) -> LoadSeries:
    return replace(
        series,
        values=series.values[:step],
        clients=None if series.clients is None else series.clients[:step],
        dispersion=None if series.dispersion is None else series.dispersion[:step],
    )


def _observed(values: np.ndarray[tuple[int], np.dtype[np.float64]]) -> int:
    return int(np.count_nonzero(~np.isnan(values)))


def _loss(forecaster: Forecaster, series: Sequence[LoadSeries], splits: Sequence[int]) -> float | None:
    """The mean over the series; one without load in the steps held out, such as a class that has ceased, judges nobody.

    None where no series can judge, and where a forecast is no number.
    """
    judging = [(one, split) for one, split in zip(series, splits, strict=True) if np.nansum(one.values[split:]) > 0]
    loss = holdout_pinball(forecaster, [one for one, _ in judging], [split for _, split in judging])
    return loss if math.isfinite(loss) else None


def _span(series: Sequence[LoadSeries], splits: Sequence[int]) -> tuple[datetime, datetime, datetime]:
    """Where the longest series begins, is split, and ends."""
    one, split = max(zip(series, splits, strict=True), key=lambda pair: len(pair[0].values))

    def at(step: int) -> datetime:
        return (one.starts_at + timedelta(seconds=step * one.step_seconds)).astimezone(UTC)

    return at(0), at(split), at(len(one.values))


def _name(now: datetime, series: Sequence[LoadSeries], seed: int) -> str:
    digest = hashlib.sha256(str(seed).encode())
    for one in series:
        digest.update(one.name.encode() + one.values.tobytes())
    return f"gbm-{now:%Y%m%dT%H%M%S}-{digest.hexdigest()[:8]}"
