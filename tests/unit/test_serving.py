"""Serving: the model that the pointer names if it may serve, the last good one or the baseline if not."""

import fcntl
import functools
import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import skops.io
from prometheus_client import REGISTRY

from forecasting.artifact import model_hash, sealed
from forecasting.forecaster import statistical
from forecasting.parts import parts
from infra.model_store import ModelStore
from infra.settings import DEMO_FLEET_FILE, ConfigurationError, load_fleet_file
from schemas.forecast import SiteForecast
from streams.forecast.models import save
from streams.forecast.partition import PartitionHistories
from streams.forecast.serving import NO_MODEL, REFUSED, Serving
from streams.intake import Arrived
from tests.examples import LOAD, after
from tests.model_cases import STEP_SECONDS, card_of, kept, trained

BASELINE = statistical(STEP_SECONDS).name
NAME = "gbm-1"


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in which a model serves: to be copied, never changed."""
    return kept(tmp_path_factory.mktemp("models"), trained(NAME)).folder


@pytest.fixture
def folder(good: Path, tmp_path: Path) -> Path:
    """A copy of it that is the test's own."""
    return Path(shutil.copytree(good, tmp_path / "models"))


def refused() -> float:
    return REGISTRY.get_sample_value("gridtide_forecast_model_refused_total") or 0.0


def serves(name: str) -> float | None:
    return REGISTRY.get_sample_value("gridtide_forecast_model_info", {"model": name})


def tamper_with_the_model(folder: Path) -> None:
    path = folder / NAME / "model.skops"
    path.write_bytes(path.read_bytes()[:-1] + b"\x01")


def truncate_the_model(folder: Path) -> None:
    os.truncate(folder / NAME / "model.skops", 100)


def tamper_with_the_card(folder: Path) -> None:
    path = folder / NAME / "card.json"
    path.write_text(path.read_text().replace('"candidate": 0.1', '"candidate": 0.01'))


def made_elsewhere(folder: Path, **versions: str) -> None:
    card = card_of(NAME)
    model = (folder / NAME / "model.skops").read_bytes()
    update = {"versions": card.versions.model_copy(update=versions), "model_sha256": model_hash(model)}
    (folder / NAME / "card.json").write_bytes(sealed(card.model_copy(update=update)))


def spoil_the_pointer(folder: Path) -> None:
    (folder / "current.json").write_text("[1]")


def hide_a_command(folder: Path) -> None:
    """The hash fits and the seal fits; what the file holds must not be run."""
    model = skops.io.dumps({**parts(trained(NAME)), "more": functools.partial(os.system, f"touch {folder / 'ran'}")})
    (folder / NAME / "model.skops").write_bytes(model)
    card = card_of(NAME).model_copy(update={"model_sha256": model_hash(model)})
    (folder / NAME / "card.json").write_bytes(sealed(card))


FAULTS: dict[str, tuple[Callable[[Path], None], str]] = {
    "tampered model": (tamper_with_the_model, "SHA-256 differs"),
    "truncated model": (truncate_the_model, "SHA-256 differs"),
    "no model": (lambda folder: (folder / NAME / "model.skops").unlink(), "No such file"),
    "tampered card": (tamper_with_the_card, "seal does not fit"),
    "no card": (lambda folder: (folder / NAME / "card.json").unlink(), "No such file"),
    "other scikit-learn": (lambda folder: made_elsewhere(folder, scikit_learn="1.2.2"), "scikit-learn 1.2.2"),
    "other features": (lambda folder: made_elsewhere(folder, features="1" * 64), "version of the features"),
    "foreign type": (hide_a_command, "functools.partial"),
    "pointer to nothing": (lambda folder: ModelStore(folder).point_to("gbm-9"), "No such file"),
    "pointer that leads out": (lambda folder: ModelStore(folder).point_to("../x"), "not the name of a model"),
    "no pointer at all": (spoil_the_pointer, "not a pointer to a model"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_serving_refuses_in_one_line_and_the_baseline_serves(
    fault: str, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    break_it, said = FAULTS[fault]
    break_it(folder)
    before = refused()
    serving = Serving(folder, STEP_SECONDS)
    assert (serving.current().name, serving.flags) == (BASELINE, (REFUSED,))
    assert refused() == before + 1
    lines = [line for line in capsys.readouterr().out.splitlines() if "model refused" in line]
    assert len(lines) == 1
    assert said in lines[0]
    assert not (folder / "ran").exists()
    serving.look()
    assert refused() == before + 1, "said once, not at every look"


def test_serving_takes_the_model_in_place(folder: Path) -> None:
    serving = Serving(folder, STEP_SECONDS)
    assert (serving.current().name, serving.flags) == (NAME, ())
    assert serves(NAME) == 1
    assert serves(BASELINE) is None


@pytest.mark.parametrize("missing", ["folder", "pointer"])
def test_serving_without_a_model_is_the_baseline(missing: str, folder: Path) -> None:
    (folder / "current.json").unlink()
    serving = Serving(folder if missing == "pointer" else folder / "none", STEP_SECONDS)
    assert (serving.current().name, serving.flags) == (BASELINE, (NO_MODEL,))
    assert serves(BASELINE) == 1


def test_serving_of_other_steps_is_refused(folder: Path) -> None:
    assert Serving(folder, 60.0).flags == (REFUSED,)


def test_look_tries_a_refused_model_again(folder: Path) -> None:
    """A folder that can't be read for a moment, say: nobody switches the pointer for that."""
    path = folder / NAME / "model.skops"
    path.rename(folder / "away")
    serving = Serving(folder, STEP_SECONDS)
    assert REFUSED in serving.flags
    before = refused()
    (folder / "away").rename(path)
    serving.look()
    assert (serving.current().name, refused()) == (NAME, before)
    assert not serving.flags


def test_look_after_a_refusal_sees_that_the_pointer_is_gone(folder: Path) -> None:
    tamper_with_the_model(folder)
    serving = Serving(folder, STEP_SECONDS)
    (folder / "current.json").unlink()
    serving.look()
    assert serving.flags == (NO_MODEL,)


def test_look_takes_up_a_new_model_and_keeps_the_last_good_one_when_the_next_is_refused(folder: Path) -> None:
    serving = Serving(folder, STEP_SECONDS)
    first = serving.current()
    serving.look()
    assert serving.current() is first, "an unchanged pointer reads nothing"
    store = ModelStore(folder)
    save(store, trained("gbm-2"), card_of("gbm-2"))
    serving.look()
    assert serving.current() is first, "nobody let the new one serve"
    store.point_to("gbm-2")
    serving.look()
    assert (serving.current().name, serving.flags) == ("gbm-2", ())
    assert (serves(NAME), serves("gbm-2")) == (None, 1)
    tamper_with_the_model(folder)
    store.point_to(NAME)
    serving.look()
    assert serving.current().name == "gbm-2"
    assert serving.flags == (REFUSED,), "the last good one serves, and says so"
    store.point_to("gbm-2")
    serving.look()
    assert not serving.flags
    (folder / "current.json").unlink()
    serving.look()
    assert (serving.current().name, serving.flags) == (BASELINE, (NO_MODEL,))


def test_a_stage_goes_on_with_its_histories_when_a_model_is_taken_up(folder: Path) -> None:
    pointer = (folder / "current.json").read_bytes()
    (folder / "current.json").unlink()
    serving = Serving(folder, STEP_SECONDS)
    state = PartitionHistories(STEP_SECONDS, "live", load_fleet_file(DEMO_FLEET_FILE), serving)

    def forecasts(steps: range) -> list[SiteForecast]:
        """What the stage sends while a load of windows of 300 s comes in."""
        spans = [(after(300 * window), after(300 * (window + 1))) for window in range(steps.start * 6, steps.stop * 6)]
        states = [LOAD.model_copy(update={"window_start": start, "window_end": end}) for start, end in spans]
        return state.fold([Arrived(offset, 0, each) for offset, each in enumerate(states)], len(states)).forecasts

    before = forecasts(range(8))
    assert {(each.model, each.flags[-1]) for each in before} == {(BASELINE, NO_MODEL)}
    (folder / "current.json").write_bytes(pointer)
    serving.look()
    learnt = forecasts(range(8, 12))
    assert {each.model for each in learnt} == {NAME}
    assert not any(flag.startswith("fallback:") for each in learnt for flag in each.flags)
    assert [each.history_steps for each in learnt] == [8, 9, 10, 11]


async def test_watch_looks_in_a_thread(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import threading  # noqa: PLC0415

    monkeypatch.setattr("streams.forecast.serving._LOOK_SECONDS", 0.0)
    serving = Serving(folder, STEP_SECONDS)
    seen: list[bool] = []

    def look() -> None:
        seen.append(threading.current_thread() is threading.main_thread())
        if len(seen) > 1:
            raise EOFError

    monkeypatch.setattr(Serving, "look", lambda _: look())
    with pytest.raises(EOFError):
        await serving.watch()
    assert seen == [False, False]


def test_store_never_shows_half_a_model(tmp_path: Path) -> None:
    store = ModelStore(tmp_path)
    with pytest.raises(TypeError):
        store.write("gbm-1", {"card.json": b"{}", "model.skops": None})  # type: ignore[dict-item]
    assert store.names() == []
    store.write("gbm-1", {"card.json": b"{}"})
    with pytest.raises(ConfigurationError, match="gbm-1: Directory not empty"):
        store.write("gbm-1", {"card.json": b"other"})
    assert (store.names(), store.read("gbm-1", "card.json")) == (["gbm-1"], b"{}")
    assert [path.name for path in tmp_path.iterdir()] == ["gbm-1"]


def test_store_in_a_place_that_cannot_be_written_says_so(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    store = ModelStore(tmp_path / "file")
    for attempt in (lambda: store.write("gbm-1", {}), lambda: store.point_to("gbm-1"), store.names):
        with pytest.raises(ConfigurationError, match=r"^/.*file.*: Not a directory$"):
            attempt()


def test_store_is_locked_by_one_at_a_time(tmp_path: Path) -> None:
    store = ModelStore(tmp_path / "models")
    with store.locked(), (store.folder / ".lock").open("ab") as other, pytest.raises(BlockingIOError):
        fcntl.flock(other, fcntl.LOCK_EX | fcntl.LOCK_NB)
    with (store.folder / ".lock").open("ab") as other:
        fcntl.flock(other, fcntl.LOCK_EX | fcntl.LOCK_NB)
    assert store.names() == []


def test_store_points_where_it_was_told_last(tmp_path: Path) -> None:
    store = ModelStore(tmp_path)
    assert (store.current(), store.stamp()) == (None, None)
    stamps = set()
    for name in ("gbm-1", "gbm-2", "gbm-1"):
        store.point_to(name)
        assert store.current() == name
        assert json.loads((tmp_path / "current.json").read_bytes()) == {"name": name}
        stamps.add(store.stamp())
    assert len(stamps) > 1
