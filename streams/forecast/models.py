"""Models by name: what a store holds, read and judged fit to serve."""

import contextlib
from dataclasses import dataclass

from forecasting.artifact import model_hash, packed, read_card, sealed, unpacked, versions_here
from forecasting.card import ArtifactError, ModelCard, Versions
from forecasting.forecaster import Forecaster
from infra.model_store import ModelStore
from infra.settings import ConfigurationError

_CARD, _MODEL = "card.json", "model.skops"


@dataclass(frozen=True, slots=True)
class Listed:
    """An artefact of a store: its card where that can be read, and why it could not serve here."""

    name: str
    card: ModelCard | None
    refused: str | None


def load(store: ModelStore, name: str, here: Versions, step_seconds: float) -> Forecaster:
    """The forecaster of that name.

    Raises:
        ArtifactError: it may not serve here, or is not there: one line.
    """
    card = _card(store, name)
    return unpacked(card, _read(store, name, _MODEL), here, step_seconds)


def serving(store: ModelStore, step_seconds: float) -> tuple[Forecaster | None, str | None]:
    """The forecaster that the pointer names; None where it names none, or, with the reason, where that is refused."""
    try:
        name = store.current()
        return (load(store, name, versions_here(), step_seconds) if name else None), None
    except (ArtifactError, ConfigurationError) as error:
        return None, str(error)


def save(store: ModelStore, forecaster: Forecaster, card: ModelCard) -> ModelCard:
    """Keeps a forecaster with its card; returns the card as kept, with the hash of the model in it.

    Raises:
        ArtifactError: the forecaster could not be read again.
        ConfigurationError: the folder can't be written.
    """
    model = packed(forecaster)
    card = card.model_copy(update={"model_sha256": model_hash(model)})
    store.write(card.name, {_MODEL: model, _CARD: sealed(card)})
    return card


def listed(store: ModelStore, here: Versions, step_seconds: float) -> list[Listed]:
    """Every artefact of a store, the newest first; those without a card that can be read come last.

    Raises:
        ConfigurationError: the folder can't be read.
    """
    found = []
    for name in store.names():
        card, refused = None, None
        try:
            card = _card(store, name)
            unpacked(card, _read(store, name, _MODEL), here, step_seconds)
        except ArtifactError as error:
            refused = str(error)
        found.append(Listed(name, card, refused))
    return sorted(found, key=lambda each: -each.card.trained_at.timestamp() if each.card else float("inf"))


def cards(store: ModelStore) -> list[ModelCard]:
    """The cards of a store that can be read.

    Raises:
        ConfigurationError: the folder can't be read.
    """
    found = []
    for name in store.names():
        with contextlib.suppress(ArtifactError):
            found.append(_card(store, name))
    return found


def _card(store: ModelStore, name: str) -> ModelCard:
    return read_card(_read(store, name, _CARD), name)


def _read(store: ModelStore, name: str, file: str) -> bytes:
    try:
        return store.read(name, file)
    except ConfigurationError as error:
        raise ArtifactError(str(error)) from error
