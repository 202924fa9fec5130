"""The forecasts of histories: horizons, classes, power, spikes, flags, and nothing but the history in them."""

import json
from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from forecasting.forecaster import SPIKE_WITHIN_SECONDS, statistical
from forecasting.history import SITE, Closing, LoadPart, SiteHistory, history_for
from forecasting.online import StepScore
from forecasting.power import SitePower
from forecasting.predict import Due, predict, score_records, significant
from infra.settings import DEMO_FLEET_FILE, load_fleet_file
from schemas.catalog import MAX_RECORD_BYTES, SITE_FORECASTS
from schemas.forecast import HorizonForecast, SiteForecast
from tests.examples import FLEET, after
from tests.examples import SITE as HERE

STATISTICAL = statistical(300.0)
DEMO = load_fleet_file(DEMO_FLEET_FILE)
POWER = SitePower.of(next(DEMO.sites())[1], DEMO.gpu_models)


def part(steps: Sequence[float | None]) -> LoadPart:
    """Steps of tokens generated, with twice the prompt tokens and a hundredth of the requests."""
    decode = np.array([np.nan if step is None else step for step in steps], dtype=np.float32)
    return LoadPart(np.stack([decode / 100, 2 * decode, decode]))


def history(steps: Sequence[float | None], **classes: Sequence[float | None]) -> SiteHistory:
    """A history whose last closed step ends at noon."""
    of_site = history_for(300.0)
    of_site.end = after(0)
    of_site.parts = {SITE: part(steps), **{name: part(each) for name, each in classes.items()}}
    return of_site


def due(of_site: SiteHistory, site_id: str = HERE, power: SitePower | None = POWER) -> Due:
    return Due(FLEET, site_id, of_site, power)


def forecast(steps: Sequence[float | None], power: SitePower | None = POWER, **classes: list[float]) -> SiteForecast:
    """The forecast, which must be one."""
    (made,) = predict(STATISTICAL, [due(history(steps, **classes), power=power)], "replay-1")
    return made


def test_predict_of_nothing_known_is_none() -> None:
    assert predict(STATISTICAL, [due(history_for(300.0)), due(history([])), due(history([None, None]))]) == []
    assert predict(STATISTICAL, []) == []


def test_predict_says_of_what_it_speaks() -> None:
    made = forecast([10.0] * 60)
    assert (made.fleet_id, made.site_id, made.run_id, made.model) == (FLEET, HERE, "replay-1", STATISTICAL.name)
    assert (made.issued_at, made.history_steps) == (after(0), 60)
    assert tuple(each.horizon_seconds for each in made.horizons) == STATISTICAL.horizons_seconds
    assert tuple(each.within_seconds for each in made.spikes) == SPIKE_WITHIN_SECONDS


def test_predict_says_what_the_forecaster_is_a_fallback_for_and_what_the_clock_did() -> None:
    of_site = history([5.0] * 400)
    of_site.jumped_at = after(-60)
    (made,) = predict(STATISTICAL, [due(of_site)], fallback_flags=["fallback:no-model"])
    assert made.flags[-2:] == ["clock-jump", "fallback:no-model"]


def test_predict_takes_the_three_loads_and_the_power_that_follows() -> None:
    horizon = forecast([800.0] * 400).horizons[0]
    tokens, prefill = np.array(horizon.tokens_per_second), horizon.prefill_tokens_per_second
    assert tokens[3] == 800.0
    assert prefill == pytest.approx(2 * tokens, rel=1e-3)
    assert horizon.requests_per_second == pytest.approx(tokens / 100, rel=1e-3)
    assert horizon.power_watts == pytest.approx(POWER.watts(tokens, np.array(prefill)), rel=1e-3)


def test_predict_without_a_site_description_forecasts_no_power() -> None:
    made = forecast([800.0] * 400, power=None)
    assert {each.power_watts is None for each in made.horizons} == {True}
    assert made.spikes[0].threshold_tokens_per_second == 1600.0


def test_predict_forecasts_each_class_of_which_a_step_is_known() -> None:
    made = forecast([10.0] * 60, code=[4.0] * 60, chat=[6.0] * 9, gone=[None] * 3)  # type: ignore[list-item]
    assert [each.service_class for each in made.classes] == ["chat", "code"]
    chat = made.classes[0]
    assert len(chat.horizons) == len(made.horizons)
    assert chat.horizons[0].power_watts is None
    assert chat.spikes[0].threshold_tokens_per_second == 12.0


def test_the_spike_threshold_is_what_the_site_keeps_up_with_at_its_mix() -> None:
    made = forecast([100.0] * 60)
    assert made.spikes[0].threshold_tokens_per_second == significant(np.array(POWER.serveable_tokens_per_second(2.0)))
    assert [each.probability_ratio for each in made.spikes] == [0.0, 0.0]
    beyond = forecast([1e9] * 60)
    assert all(each.probability_ratio > 0.99 for each in beyond.spikes)


def test_predict_is_a_function_of_each_history_whichever_others_there_are() -> None:
    histories = [history([1.0, None, 3.0 * site] * 20, chat=[1.0, 2.0] * 10) for site in range(1, 6)]
    alone = [
        made.to_json()
        for site, each in enumerate(histories)
        for made in predict(STATISTICAL, [due(SiteHistory.from_json(each.to_json()), f"site-{site}")])
    ]
    together = predict(STATISTICAL, [due(each, f"site-{site}") for site, each in enumerate(histories)])
    assert [made.to_json() for made in together] == alone


def test_what_the_forecaster_learns_and_says_goes_back_into_the_history() -> None:
    of_site = history([5.0] * 60, chat=[1.0] * 60)
    before = json.loads(of_site.to_json())
    (made,) = predict(STATISTICAL, [due(of_site)])
    learnt = json.loads(of_site.to_json())
    for name in (SITE, "chat"):
        assert learnt["parts"][name]["tracks"] != before["parts"][name]["tracks"]
        assert learnt["parts"][name]["steps"] == before["parts"][name]["steps"]
    waiting = of_site.scores.horizons[600].waiting[of_site.last_step() % 2]
    assert waiting == pytest.approx(np.array(made.horizons[1].tokens_per_second), rel=1e-3)


def test_a_forecast_of_four_classes_is_far_smaller_than_a_record_may_be() -> None:
    rng = np.random.default_rng(1)
    noisy = {name: rng.gamma(9, 1e3, 400).tolist() for name in ("site", "a", "b", "c", "d")}
    value = forecast(noisy.pop("site"), **noisy).to_json()
    assert len(value) < MAX_RECORD_BYTES / 10
    assert SITE_FORECASTS.decode(FLEET.encode(), value, "replay-1") is not None


def test_quantiles_that_are_not_validated_again_are_valid() -> None:
    made = forecast([1.0, 900.0, 20.0] * 30, chat=[1.0] * 60)
    assert SiteForecast.model_validate_json(made.to_json()).to_json() == made.to_json()


@pytest.mark.parametrize("field", ["tokens_per_second", "requests_per_second", "power_watts"])
def test_quantiles_that_cross_are_refused(field: str) -> None:
    fields = {"horizon_seconds": 300, "tokens_per_second": [1.0] * 7}
    with pytest.raises(ValueError, match="must not cross"):
        HorizonForecast(**{**fields, field: [1.0, 2.0, 1.0, 2.0, 2.0, 2.0, 2.0]})  # type: ignore[arg-type]


@given(st.lists(st.floats(0, 1e15), min_size=2, max_size=8))
def test_significant_keeps_order_and_four_digits(values: list[float]) -> None:
    rounded = significant(np.sort(np.array(values)))
    assert (np.diff(rounded) >= 0).all()
    for value, kept in zip(sorted(values), rounded.tolist(), strict=True):
        assert kept == pytest.approx(value, rel=5.1e-4, abs=1e-9)
        assert kept == float(f"{kept:.4g}")


def test_score_records_say_when_the_forecast_was_issued_and_what_came() -> None:
    score = StepScore(600, "m", 100.1234567, 80.0, 99.0, 120.0, 90.0, 3.0, 0.1, None, 0.9, True)
    (record,) = score_records(due(history([5.0])), Closing(after(0), [score]), "replay-1")
    assert (record.scored_at, record.issued_at, record.run_id) == (after(0), after(-600), "replay-1")
    assert (record.tokens_per_second, record.wmape_ratio, record.persistence_wmape_ratio) == (100.123, 0.1, None)
    assert (record.model, record.is_drifting) == ("m", True)
