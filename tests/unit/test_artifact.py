"""Artefacts: what was written is read again, what was changed, is foreign or does not fit is refused in one line."""

import ast
import functools
import importlib
import inspect
import json
import os
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import skops.io

from forecasting.artifact import FEATURE_MODULES, model_hash, packed, read_card, sealed, unpacked, versions_here
from forecasting.card import ArtifactError, ModelCard
from forecasting.features import feature_names
from forecasting.forecaster import Forecaster, SeriesHistory, statistical
from forecasting.parts import from_parts, parts
from tests.model_cases import DAY_STEPS, MONDAY, STEP_SECONDS, card_of, load_series, trained

NAME = "gbm-1"
HERE = versions_here()


@pytest.fixture(scope="module")
def forecaster() -> Forecaster:
    return trained(NAME)


@pytest.fixture(scope="module")
def model(forecaster: Forecaster) -> bytes:
    return packed(forecaster)


def card_for(model: bytes, **changed: object) -> ModelCard:
    return card_of(NAME).model_copy(update={"model_sha256": model_hash(model), **changed})


def refusal_of(card: ModelCard, model: bytes, step_seconds: float = STEP_SECONDS) -> str:
    """The one line with which an artefact is refused."""
    with pytest.raises(ArtifactError) as caught:
        unpacked(card, model, HERE, step_seconds)
    message = str(caught.value)
    assert message.startswith(f"{NAME}: ")
    assert len(message.splitlines()) == 1
    return message


def said_by(forecaster: Forecaster) -> bytes:
    """All that it says of three days of load, step by step, and what it has learnt by then."""
    load = load_series(days=3, seed=7)
    history = SeriesHistory(load.values[:DAY_STEPS], MONDAY + timedelta(days=1), STEP_SECONDS)
    said = b""
    for step in range(DAY_STEPS + 1, 3 * DAY_STEPS, 7):
        history.steps, history.end = load.values[:step], MONDAY + timedelta(seconds=step * STEP_SECONDS)
        (made,) = forecaster.advance([history], [None])
        said += made.quantiles.tobytes() + made.spike_probability.tobytes()
    return said + history.track.state.tobytes()


def test_unpacked_gives_a_forecaster_that_says_the_same_to_the_byte(forecaster: Forecaster, model: bytes) -> None:
    again = unpacked(card_for(model), model, HERE, STEP_SECONDS)
    assert (again.name, again.step_seconds) == (NAME, STEP_SECONDS)
    assert all(each is not None for each in again.models)
    assert said_by(again) == said_by(forecaster)
    assert said_by(again) != said_by(statistical(STEP_SECONDS))


def test_versions_are_of_all_code_that_forecasts_are_made_by() -> None:
    """What `forecasting.forecaster` is built on, apart from what only says something about a forecast."""
    found, waiting = {"forecasting.parts"}, ["forecasting.parts"]
    while waiting:
        tree = ast.parse(inspect.getsource(importlib.import_module(waiting.pop())))
        for node in ast.walk(tree):
            if isinstance(node, ast.ImportFrom) and node.module and node.module.startswith("forecasting"):
                named = [f"{node.module}.{each.name}" for each in node.names] if node.module == "forecasting" else []
                new = {*(named or [node.module])} - found
                found |= new
                waiting.extend(new)
    assert found - set(FEATURE_MODULES) == {"forecasting.quality", "forecasting.series", "forecasting.spikes"}
    assert set(FEATURE_MODULES) <= found


@pytest.mark.parametrize(
    ("field", "value"), [("left", 10_000), ("right", 0), ("feature_idx", 10_000), ("is_categorical", 1)]
)
def test_from_parts_refuses_trees_that_would_be_walked_out_of(forecaster: Forecaster, field: str, value: int) -> None:
    broken: Any = parts(forecaster)
    first = broken["models"][0]
    first["nodes"][field][0] = value
    with pytest.raises(ValueError, match="leads nowhere"):
        from_parts(broken)


@pytest.mark.parametrize("field", ["value", "num_threshold"])
def test_from_parts_refuses_trees_of_what_is_no_number(forecaster: Forecaster, field: str) -> None:
    broken: Any = parts(forecaster)
    broken["models"][0]["nodes"][field] = np.nan
    with pytest.raises(ValueError, match="no number"):
        from_parts(broken)


@pytest.mark.parametrize("name", ["mean", "deviation", "slope"])
def test_from_parts_refuses_a_line_of_other_features(forecaster: Forecaster, name: str) -> None:
    """The trees must not be walked by as many features as the file says there are."""
    for wrong in (np.ones(10_000), np.full(len(feature_names()), np.nan)):
        broken: Any = parts(forecaster)
        broken["models"][0][name] = wrong
        with pytest.raises(ValueError, match=f"the line's {name} is not"):
            from_parts(broken)


def test_unpacked_refuses_trees_that_fit_no_features_though_they_can_be_walked(forecaster: Forecaster) -> None:
    found: Any = parts(forecaster)
    found["models"][0]["bare_trees"].n_features_in_ = 3
    content = skops.io.dumps(found)
    assert "is expecting 3 features" in refusal_of(card_for(content), content)


def test_from_parts_refuses_nodes_that_make_no_trees(forecaster: Forecaster) -> None:
    broken: Any = parts(forecaster)
    first = broken["models"][0]
    first["nodes_a_tree"] = first["nodes_a_tree"][1:]
    with pytest.raises(ValueError, match="do not make"):
        from_parts(broken)


def test_read_card_gives_the_card_again(model: bytes) -> None:
    card = card_for(model)
    assert read_card(sealed(card), NAME) == card


@pytest.mark.parametrize("place", [0, 100, -1])
def test_unpacked_refuses_tampered_bytes(model: bytes, place: int) -> None:
    changed = bytearray(model)
    changed[place] ^= 1
    assert "SHA-256 differs" in refusal_of(card_for(model), bytes(changed))


def test_unpacked_refuses_a_truncated_file(model: bytes) -> None:
    for length in (0, 10, len(model) - 1):
        assert "SHA-256 differs" in refusal_of(card_for(model), model[:length])


@pytest.mark.parametrize("content", [b"", b"PK\x05\x06" + bytes(18), b"no archive"])
def test_unpacked_refuses_what_is_no_model_though_its_hash_fits(content: bytes) -> None:
    refusal_of(card_for(content), content)


def test_unpacked_refuses_foreign_types_and_runs_nothing(forecaster: Forecaster, tmp_path: Path) -> None:
    ran = tmp_path / "ran"
    content = skops.io.dumps({**parts(forecaster), "more": functools.partial(os.system, f"touch {ran}")})
    said = refusal_of(card_for(content), content)
    assert "functools.partial" in said
    assert "system" in said
    assert not ran.exists()


def test_unpacked_refuses_parts_that_make_no_forecaster() -> None:
    content = skops.io.dumps({"what": np.arange(3)})
    assert "can't be read" in refusal_of(card_for(content), content)


def test_unpacked_refuses_another_models_file(model: bytes) -> None:
    content = packed(trained("gbm-2"))
    assert "holds gbm-2" in refusal_of(card_for(content), content)


@pytest.mark.parametrize(
    ("version", "said"),
    [
        ({"scikit_learn": "1.2.2"}, "made with scikit-learn 1.2.2, and here is"),
        ({"features": "0" * 64}, "another version of the features"),
    ],
)
def test_unpacked_refuses_other_versions(model: bytes, version: dict[str, str], said: str) -> None:
    card = card_for(model, versions=HERE.model_copy(update=version))
    assert said in refusal_of(card, model)


def test_unpacked_takes_another_patch_of_scikit_learn(model: bytes) -> None:
    release = ".".join([*HERE.scikit_learn.split(".")[:2], "999"])
    card = card_for(model, versions=HERE.model_copy(update={"scikit_learn": release, "python": "3.12.0"}))
    assert unpacked(card, model, HERE, STEP_SECONDS).name == NAME


def test_unpacked_refuses_other_steps(model: bytes) -> None:
    assert "steps of 60 s are asked" in refusal_of(card_for(model), model, 60.0)


def test_packed_refuses_what_could_not_be_read_again(forecaster: Forecaster, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("forecasting.artifact.parts", lambda _: {"rule": functools.partial(os.getcwd)})
    with pytest.raises(ArtifactError, match="functools"):
        packed(forecaster)


def test_read_card_refuses_a_changed_card(model: bytes) -> None:
    written = json.loads(sealed(card_for(model)))
    for change in ({"promoted": False}, {"seed": 2}, {"model_sha256": "1" * 64}, {"new": 1}):
        with pytest.raises(ArtifactError, match="its seal does not fit"):
            read_card(json.dumps({**written, "card": {**written["card"], **change}}).encode(), NAME)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"{",
        b"\xff\xfe",
        b"[]",
        b"{}",
        b'"card"',
        b'{"card": 1}',
        b'{"seal": "x"}',
        b"[" * 100_000,
        b'{"card": ' + b"9" * 5000 + b"}",
    ],
    ids=lambda content: repr(content[:10]),
)
def test_read_card_refuses_what_is_no_card(content: bytes) -> None:
    with pytest.raises(ArtifactError, match=r"^gbm-1: card\.json"):
        read_card(content, NAME)


def test_read_card_of_another_artefact_is_refused(model: bytes) -> None:
    with pytest.raises(ArtifactError, match=r"^gbm-2: card\.json is that of gbm-1$"):
        read_card(sealed(card_for(model)), "gbm-2")


def test_read_card_names_the_wrong_field(model: bytes) -> None:
    wrong = card_for(model).model_copy(update={"seed": -1})
    with pytest.raises(ArtifactError, match=r"^gbm-1: card\.json: seed: "):
        read_card(sealed(wrong), NAME)
