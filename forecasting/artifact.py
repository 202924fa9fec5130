"""A trained forecaster as bytes, and back: a card, sealed, and a model that is read without running what it holds.

skops writes data, not pickles, and names the types that it would construct. What is read is refused unless all of
them are those that skops trusts by itself (scikit-learn's estimators, NumPy's arrays, plain values), the hashes fit,
and features and scikit-learn are those that the model was made with: a tree that is fed other features still answers,
and is wrong. The seal and the hash find damage and mix-ups. Whoever can write the folder can also make them anew; what
such a file still can't do is run code.
"""

import hashlib
import importlib
import inspect
import json
import platform
from datetime import UTC, datetime
from importlib.metadata import version
from typing import Any, Final

import numpy as np
import sklearn
import skops.io
from pydantic import ValidationError

from forecasting.card import ArtifactError, ModelCard, Versions
from forecasting.forecaster import Forecaster, SeriesHistory
from forecasting.parts import from_parts, parts

# The code that a model must be met by again: what makes its features, what its trees are trained to say, and what
# makes quantiles of that, as they were judged. It is compared as it stands: a version number is one that somebody
# forgets to raise. Flags and the probability of a spike are made of forecasts, and no part of a model.
FEATURE_MODULES: Final = (
    "forecasting.features",
    "forecasting.experts",
    "forecasting.model",
    "forecasting.state",
    "forecasting.blend",
    "forecasting.intervals",
    "forecasting.adapt",
    "forecasting.drawn",
    "forecasting.forecaster",
    "forecasting.parts",
)


def versions_here() -> Versions:
    """What this process would make a model with."""
    code = "".join(inspect.getsource(importlib.import_module(name)) for name in FEATURE_MODULES)
    return Versions(
        gridtide=version("gridtide"),
        python=platform.python_version(),
        numpy=np.__version__,
        scikit_learn=sklearn.__version__,
        features=_sha256(code.encode()),
    )


def packed(forecaster: Forecaster) -> bytes:
    """A forecaster as the bytes of `model.skops`.

    Raises:
        ArtifactError: it holds what could not be read again.
    """
    model: bytes = skops.io.dumps(parts(forecaster))
    _refuse_foreign(model)
    return model


def sealed(card: ModelCard) -> bytes:
    """A card as the bytes of `card.json`: JSON for people, and the hash of what it says."""
    said = card.model_dump(mode="json")
    return json.dumps({"card": said, "seal": _seal_of(said)}, indent=2).encode() + b"\n"


def read_card(data: bytes, name: str) -> ModelCard:
    """The card that `sealed` wrote for the artefact of that name.

    Raises:
        ArtifactError: it is no card, was changed since, or is another artefact's.
    """
    try:
        found = json.loads(data)
        said, seal = found["card"], found["seal"]
        fits = seal == _seal_of(said)
    except (ValueError, KeyError, TypeError, RecursionError):
        raise ArtifactError(f"{name}: card.json is not a model card") from None
    if not fits:
        raise ArtifactError(f"{name}: card.json was changed after it was written: its seal does not fit")
    try:
        card = ModelCard.model_validate_json(json.dumps(said))
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(str(part) for part in first["loc"])
        raise ArtifactError(f"{name}: card.json: {place}: {first['msg']}") from None
    if card.name != name:
        raise ArtifactError(f"{name}: card.json is that of {card.name}")
    return card


def unpacked(card: ModelCard, model: bytes, here: Versions, step_seconds: float) -> Forecaster:
    """The forecaster that `packed` wrote, if it may serve here.

    Args:
        card: what `read_card` says of it.
        model: the bytes of `model.skops`.
        here: `versions_here()`.
        step_seconds: the steps in which it is to forecast.

    Raises:
        ArtifactError: the bytes are others, the versions or the steps don't fit, or it holds a type not known here.
    """
    _refuse_unfit(card, here, step_seconds)
    if len(model) == 0 or _sha256(model) != card.model_sha256:
        raise ArtifactError(f"{card.name}: model.skops is not the file that its card describes: its SHA-256 differs")
    # Whatever a made-up file makes skops raise, it is refused: the stage must go on forecasting.
    try:
        _refuse_foreign(model)
        found: Any = skops.io.loads(model)
        forecaster = from_parts(found)
        _refuse_another(card, forecaster)
        _try_out(forecaster)
    except ArtifactError as error:
        raise ArtifactError(f"{card.name}: {error}") from None
    except Exception as error:
        line = " ".join(f"{type(error).__name__}: {error}".split())[:300]
        raise ArtifactError(f"{card.name}: model.skops can't be read: {line}") from error
    return forecaster


def model_hash(model: bytes) -> str:
    """The hash by which a card knows its model."""
    return _sha256(model)


def _refuse_unfit(card: ModelCard, here: Versions, step_seconds: float) -> None:
    made = card.versions
    if made.features != here.features:
        raise ArtifactError(f"{card.name}: made by another version of the features (gridtide {made.gridtide})")
    if _minor(made.scikit_learn) != _minor(here.scikit_learn):
        raise ArtifactError(f"{card.name}: made with scikit-learn {made.scikit_learn}, and here is {here.scikit_learn}")
    if card.step_seconds != step_seconds:
        raise ArtifactError(
            f"{card.name}: forecasts in steps of {card.step_seconds:g} s, and steps of {step_seconds:g} s are asked"
        )


def _refuse_another(card: ModelCard, forecaster: Forecaster) -> None:
    if (forecaster.name, forecaster.step_seconds) != (card.name, card.step_seconds):
        raise ArtifactError(f"model.skops holds {forecaster.name}, steps of {forecaster.step_seconds:g} s")


def _try_out(forecaster: Forecaster) -> None:
    """One forecast, here rather than in the stream: what still does not fit raises."""
    history = SeriesHistory([1.0], datetime(2000, 1, 1, tzinfo=UTC), forecaster.step_seconds)
    (made,) = forecaster.advance([history], [None])
    if not np.isfinite(made.quantiles).all():
        raise ValueError("a forecast of it is no number")


def _refuse_foreign(model: bytes) -> None:
    foreign = skops.io.get_untrusted_types(data=model)
    if foreign:
        raise ArtifactError(f"model.skops holds types that no model of ours has: {', '.join(sorted(foreign))}")


def _minor(release: str) -> list[str]:
    return release.split(".")[:2]


def _seal_of(said: object) -> str:
    return _sha256(json.dumps(said, sort_keys=True, separators=(",", ":")).encode())


def _sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()
