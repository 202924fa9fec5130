"""Training: judged on what was held out, kept, and let serve only if it is better."""

import json
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import numpy as np
import pytest
from prometheus_client import REGISTRY
from typer.testing import CliRunner, Result

from forecasting.forecaster import Forecaster, statistical
from forecasting.series import LoadSeries
from infra.database import DatabaseUnavailableError
from infra.load_history import evenly
from infra.model_store import ModelStore
from infra.settings import ConfigurationError, Settings
from streams import cli
from streams.forecast.models import listed, save
from streams.train import run as training
from streams.train import service
from streams.train.material import Material, from_files
from streams.train.schedule import LEAST_BETWEEN, is_due
from tests.model_cases import DAY_STEPS, MONDAY, STEP_SECONDS, card_of, kept, load_series, trained

DAY = timedelta(days=1)
NOW = MONDAY + 4 * DAY
SERIES = [load_series(), load_series(seed=2, name="austin-2/tokens")]
MATERIAL = Material(SERIES, ["austin-1", "austin-2"], STEP_SECONDS)
BASELINE = statistical(STEP_SECONDS).name


@pytest.fixture
def store(tmp_path: Path) -> ModelStore:
    return ModelStore(tmp_path / "models")


@pytest.fixture(autouse=True)
def _trained_before(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(training, "train", lambda series, step_seconds, name, seed: trained(name))


def losses(monkeypatch: pytest.MonkeyPatch, candidate: float, by_name: dict[str, float]) -> None:
    """Lets the loss of each forecaster be what the test says; `candidate` is any that is not named."""

    def loss(forecaster: Forecaster, series: list[LoadSeries], from_steps: list[int]) -> float:
        assert from_steps == [len(one.values) - DAY_STEPS for one in series]
        return by_name.get(forecaster.name, candidate)

    monkeypatch.setattr(training, "holdout_pinball", loss)


def train_once(store: ModelStore, material: Material = MATERIAL) -> training.Trained:
    return training.train_once(material, store, "live", NOW, DAY, 1, lambda _: None)


def test_train_once_learns_from_what_is_not_held_out(store: ModelStore, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[LoadSeries] = []

    def learn(series: list[LoadSeries], step_seconds: float, name: str, seed: int) -> Forecaster:
        seen.extend(series)
        return trained(name)

    monkeypatch.setattr(training, "train", learn)
    losses(monkeypatch, 0.1, {})
    clients = np.ones(4 * DAY_STEPS)
    card = train_once(store, replace(MATERIAL, series=[replace(load_series(), clients=clients)])).card
    assert [len(one.values) for one in seen] == [3 * DAY_STEPS]
    assert seen[0].clients is not None
    assert len(seen[0].clients) == 3 * DAY_STEPS
    assert (card.data_starts_at, card.held_out_from, card.data_ends_at) == (MONDAY, MONDAY + 3 * DAY, NOW)
    assert (card.steps, card.held_out_steps, card.series) == (3 * DAY_STEPS, DAY_STEPS, 1)


def test_train_once_judges_everyone_by_the_same_steps(store: ModelStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()  # the real thing, once
    kept(store.folder, trained("gbm-0"))
    found = train_once(store, Material(SERIES[:1], ["austin-1"], STEP_SECONDS)).card.losses
    assert found.serving_name == "gbm-0"
    assert None not in (found.candidate, found.baseline, found.serving)


def test_train_once_is_not_judged_by_a_series_that_has_ceased(store: ModelStore) -> None:
    ceased = load_series(days=2).values.copy()
    ceased[DAY_STEPS:] = 0.0
    material = Material([replace(load_series(), values=ceased), load_series()], ["austin-1"], STEP_SECONDS)
    assert train_once(store, material).card.losses.candidate is not None


def test_train_once_is_not_judged_by_a_series_that_never_changes(store: ModelStore) -> None:
    still = replace(load_series(days=3), values=np.full(3 * DAY_STEPS, 5.0))
    assert train_once(store, Material([still, load_series()], ["austin-1"], STEP_SECONDS)).card.losses.candidate


def test_train_once_holds_out_no_more_than_a_quarter(store: ModelStore) -> None:
    short = Material([load_series(days=2)], ["austin-1"], STEP_SECONDS)
    assert train_once(store, short).card.held_out_from == MONDAY + 1.5 * DAY


def test_train_once_with_too_little_history_says_so(store: ModelStore) -> None:
    hours = replace(load_series(), values=np.where(np.arange(4 * DAY_STEPS) % 10 == 0, load_series().values, np.nan))
    with pytest.raises(training.TooLittleHistoryError, match=r"^too little history: 7\.5 h to learn from"):
        train_once(store, Material([hours], ["austin-1"], STEP_SECONDS))


def test_keep_lets_a_better_model_serve_and_no_worse_one(store: ModelStore, monkeypatch: pytest.MonkeyPatch) -> None:
    losses(monkeypatch, 0.1, {BASELINE: 0.2})
    first = training.keep(train_once(store), store, most=3)
    assert store.current() == first.name
    losses(monkeypatch, 0.2, {BASELINE: 0.3, first.name: 0.1})
    monkeypatch.setattr(training, "_name", lambda *_: "gbm-worse")
    worse = training.keep(train_once(store), store, most=3)
    assert not worse.promoted
    assert worse.losses.serving_name == first.name
    assert store.current() == first.name
    assert set(store.names()) == {first.name, "gbm-worse"}
    assert all(each.refused is None for each in listed(store, first.versions, STEP_SECONDS))


def test_train_once_beside_a_refused_model_says_why_it_took_no_part(store: ModelStore) -> None:
    kept(store.folder, trained("gbm-1"))
    (store.folder / "gbm-1" / "model.skops").write_bytes(b"")
    result = train_once(store)
    assert result.card.losses.serving is None
    assert result.serving_refused is not None
    assert "SHA-256" in result.serving_refused


def test_keep_promotes_nothing_judged_beside_another_than_serves(
    store: ModelStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    losses(monkeypatch, 0.1, {BASELINE: 0.2})
    result = train_once(store)
    kept(store.folder, trained("gbm-0"))
    card = training.keep(result, store, most=3)
    assert not card.promoted
    assert card.reason.startswith("another model was let serve while it was judged; it was better than")
    assert store.current() == "gbm-0"
    assert set(store.names()) == {"gbm-0", card.name}


def test_keep_deletes_the_oldest(store: ModelStore, monkeypatch: pytest.MonkeyPatch) -> None:
    losses(monkeypatch, 0.1, {BASELINE: 0.2})
    for day in range(3):
        card = card_of(f"gbm-{day}", MONDAY + day * DAY)
        save(store, trained(card.name), card)
    newest = training.keep(train_once(store), store, most=2)
    assert set(store.names()) == {newest.name, "gbm-2"}


def test_evenly_takes_from_the_whole_alphabet() -> None:
    names = [f"site-{number:03}" for number in range(250)]
    assert evenly(names, 300) == names
    assert evenly(names, 3) == ["site-000", "site-083", "site-166"]


@pytest.mark.parametrize(
    ("tried_hours_ago", "is_serving", "has_drifted", "due"),
    [
        (None, False, False, True),
        (0.5, False, False, False),
        (1.0, False, False, True),
        (1.0, True, False, False),
        (23.9, True, False, False),
        (24.0, True, False, True),
        (0.5, True, True, False),
        (1.0, True, True, True),
    ],
)
def test_is_due_on_the_schedule_and_on_drift(
    tried_hours_ago: float | None, is_serving: bool, has_drifted: bool, due: bool
) -> None:
    tried_at = None if tried_hours_ago is None else NOW - timedelta(hours=tried_hours_ago)
    assert is_due(NOW, tried_at, DAY, lambda: is_serving, lambda: has_drifted) is due


@pytest.mark.parametrize("tried_ago", [timedelta(minutes=59), DAY])
def test_is_due_asks_nobody_where_the_time_says_it(tried_ago: timedelta) -> None:
    def asked() -> bool:
        raise AssertionError

    assert is_due(NOW, NOW - tried_ago, DAY, asked, asked) is (tried_ago == DAY)


def failed() -> float:
    return REGISTRY.get_sample_value("gridtide_trainings_total", {"outcome": "failed"}) or 0.0


def trainer(
    store: ModelStore, monkeypatch: pytest.MonkeyPatch, once: Callable[[], None], drifted: bool = False
) -> service.TrainingService:
    monkeypatch.setattr(service, "drifted_since", lambda *_: drifted)
    return service.TrainingService(
        Settings(model_dir=store.folder.parent, run_id=store.folder.name, forecast_step_seconds=STEP_SECONDS), DAY, once
    )


def test_trainer_goes_on_from_the_newest_artefact(store: ModelStore, monkeypatch: pytest.MonkeyPatch) -> None:
    kept(store.folder, trained("gbm-1"))
    tries: list[int] = []
    running = trainer(store, monkeypatch, lambda: tries.append(1))
    for hours, so_far in ((1, 0), (23, 0), (24, 1), (47, 1), (48, 2)):
        running.look(MONDAY + timedelta(hours=hours))
        assert len(tries) == so_far


def test_trainer_trains_at_once_when_forecasts_drift(store: ModelStore, monkeypatch: pytest.MonkeyPatch) -> None:
    kept(store.folder, trained("gbm-1"))
    tries: list[int] = []
    trainer(store, monkeypatch, lambda: tries.append(1), drifted=True).look(MONDAY + LEAST_BETWEEN)
    assert tries == [1]


def test_trainer_without_a_database_waits_for_the_schedule_and_reads_the_model_once(
    store: ModelStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept(store.folder, trained("gbm-1"))
    tries, loads = list[int](), list[str]()
    running = trainer(store, monkeypatch, lambda: tries.append(1))

    def away(dsn: str, run_id: str, model: str, since: object) -> bool:
        loads.append(model)
        raise DatabaseUnavailableError("away")

    reads = list[int]()

    def read(store: ModelStore, step_seconds: float) -> tuple[Forecaster, None]:
        reads.append(1)
        return trained(), None

    monkeypatch.setattr(service, "drifted_since", away)
    monkeypatch.setattr(service, "serving", read)
    before = failed()
    for minutes in (61, 62, 63):
        running.look(MONDAY + timedelta(minutes=minutes))
    assert (tries, loads, reads, failed()) == ([], ["gbm-1"] * 3, [1], before)


@pytest.mark.parametrize(
    ("fault", "tries_after_a_minute"), [(DatabaseUnavailableError("away"), 2), (ConfigurationError("too little"), 1)]
)
def test_trainer_waits_out_what_may_be_otherwise_later(
    store: ModelStore, monkeypatch: pytest.MonkeyPatch, fault: Exception, tries_after_a_minute: int
) -> None:
    tries: list[int] = []

    def once() -> None:
        tries.append(1)
        raise fault

    running = trainer(store, monkeypatch, once)
    running.look(NOW)
    running.look(NOW + timedelta(minutes=1))
    assert len(tries) == tries_after_a_minute


def command(tmp_path: Path, *arguments: str, **environment: str) -> Result:
    own = {
        "GRIDTIDE_MODEL_DIR": str(tmp_path / "models"),
        "GRIDTIDE_FORECAST_STEP_SECONDS": f"{STEP_SECONDS:g}",
        "COLUMNS": "200",
        **environment,
    }
    return CliRunner(env=own).invoke(cli.app, list(arguments))


def trace(tmp_path: Path, seed: int = 1) -> str:
    """A table of load with four days of it."""
    one = load_series(seed=seed)
    path = tmp_path / f"load-{seed}.csv"
    stamps = [one.starts_at + timedelta(seconds=step * STEP_SECONDS) for step in range(len(one.values))]
    rows = [f"{at:%Y-%m-%dT%H:%M:%SZ},{value:.3f}" for at, value in zip(stamps, one.values, strict=True)]
    path.write_text("\n".join(["ts_utc,requests_per_second", *rows]) + "\n")
    return str(path)


def test_train_command_trains_from_files_and_models_lists_and_switches(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    losses(monkeypatch, 0.1, {BASELINE: 0.2})
    wrote = tmp_path / "card.json"
    dry = command(tmp_path, "train", "--requests", trace(tmp_path), "--dry-run", "--json", str(wrote))
    assert dry.exit_code == 0, dry.output
    assert json.loads(wrote.read_text())["promoted"]
    assert not (tmp_path / "models").exists()
    ran = command(tmp_path, "train", "--requests", trace(tmp_path), "--json", str(wrote))
    assert ran.exit_code == 0, ran.output
    assert "-50.0%" in ran.output
    name = json.loads(wrote.read_text())["name"]
    assert f"{name} serves now" in ran.output
    save(ModelStore(tmp_path / "models" / "live"), trained("gbm-0"), card_of("gbm-0"))
    (one, other) = json.loads(command(tmp_path, "models", "--json").stdout)
    assert (one["name"], one["is_current"], other["name"], other["is_current"]) == (name, True, "gbm-0", False)
    assert command(tmp_path, "models", "use", "gbm-0").exit_code == 0
    assert ModelStore(tmp_path / "models" / "live").current() == "gbm-0"
    (tmp_path / "models" / "live" / "gbm-0" / "model.skops").write_bytes(b"x")
    shown = command(tmp_path, "models")
    assert "SHA-256 differs" in shown.output
    assert "the statistical baseline serves: gbm-0 is refused" in shown.output


def test_from_files_learns_from_nothing_that_the_stream_does_not_know(tmp_path: Path) -> None:
    path = tmp_path / "requests.csv"
    path.write_text("t_s,client\n" + "".join(f"{step * 100},{step % 7}\n" for step in range(200)))
    (one,) = from_files([path], None, STEP_SECONDS).series
    assert (one.clients, one.dispersion) == (None, None)


def test_train_command_says_in_one_line_that_the_card_can_not_be_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    losses(monkeypatch, 0.1, {BASELINE: 0.2})
    result = command(tmp_path, "train", "--requests", trace(tmp_path), "--dry-run", "--json", str(tmp_path))
    assert result.exit_code == 2
    assert result.output.splitlines()[-1].endswith("the card can't be written there: Is a directory")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("models", "use", "gbm-9"), "gbm-9/card.json: No such file or directory"),
        (("models", "use", "../x"), "'../x' is not the name of a model"),
        (("train", "--every", "soon"), "--every: must be a duration"),
        (("train", "--every", "24h", "--dry-run"), "--every learns from the history"),
        (("train", "--column", "a"), "--column is one of a file's"),
        (("train", "--requests", "none.csv"), "none.csv: can't be read"),
        (("train", "--requests", "coarse.csv"), "a step of 1800 s is no whole multiple of the file's, which is 3600 s"),
        (("train", "--json", "/none/card.json"), "/none/card.json: no such folder"),
    ],
)
def test_commands_refuse_in_one_line(
    arguments: tuple[str, ...], said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("coarse.csv").write_text("t_s,load\n0,1\n3600,2\n7200,3\n")
    result = command(tmp_path, *arguments)
    assert result.exit_code == 2, result.output
    assert said in result.output
    assert len(result.output.splitlines()) == 1
