"""Promotion: better than both or not at all; what is kept always has a way back."""

from datetime import timedelta

from hypothesis import given
from hypothesis import strategies as st

from forecasting.card import Losses
from forecasting.promotion import LEAST_GAIN_RATIO, decide, superfluous, too_little
from tests.model_cases import MONDAY, card_of

DAY = 86_400.0
losses = st.floats(min_value=1e-6, max_value=1e6)


@given(candidate=losses, baseline=losses, serving=losses | st.none())
def test_decide_promotes_what_beats_everything_in_place_and_nothing_else(
    candidate: float, baseline: float, serving: float | None
) -> None:
    verdict = decide(Losses(candidate=candidate, baseline=baseline, serving=serving, serving_name="gbm-0"))
    in_place = [loss for loss in (baseline, serving) if loss is not None]
    assert verdict.promoted is (candidate < min(in_place) * (1 - LEAST_GAIN_RATIO))
    assert len(verdict.reason.splitlines()) == 1


@given(loss=losses)
def test_decide_never_replaces_a_model_by_its_equal(loss: float) -> None:
    assert not decide(Losses(candidate=loss, baseline=loss * 2, serving=loss, serving_name="gbm-0")).promoted


def test_decide_without_a_finite_loss_promotes_nothing() -> None:
    assert not decide(Losses(candidate=None, baseline=1.0)).promoted
    assert not decide(Losses(candidate=1.0, baseline=None)).promoted


def test_too_little_says_what_is_missing() -> None:
    assert too_little(3 * DAY, DAY) is None
    assert too_little(DAY / 2, DAY) == "too little history: 12.0 h to learn from, 24 h needed"
    assert too_little(3 * DAY, DAY / 24) == "too little history: 1.0 h held out to judge by, 6 h needed"


@given(
    promoted=st.lists(st.booleans(), max_size=30),
    keep=st.integers(min_value=1, max_value=5),
    serving=st.integers(min_value=0, max_value=29),
)
def test_superfluous_leaves_the_serving_one_and_the_newest_of_each_kind(
    promoted: list[bool], keep: int, serving: int
) -> None:
    cards = [card_of(f"gbm-{day}", MONDAY + timedelta(days=day), good) for day, good in enumerate(promoted)]
    gone = superfluous(cards, f"gbm-{serving}", keep)
    assert f"gbm-{serving}" not in gone
    for kind in (True, False):
        newest = [card.name for card in reversed(cards) if card.promoted is kind]
        assert not set(newest[:keep]) & set(gone)
        assert set(newest[keep:]) - {f"gbm-{serving}"} <= set(gone)
