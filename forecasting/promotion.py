"""Whether a newly trained model serves, and which artefacts are kept. Pure."""

from collections.abc import Sequence
from dataclasses import dataclass

from forecasting.card import Losses, ModelCard

# A day of history to learn from, and a quarter of one to be judged by: less says nothing of the hours to come.
LEAST_TRAINED_SECONDS = 86_400.0
LEAST_HELD_OUT_SECONDS = 21_600.0

# Better by less than this may be chance, and every change of model makes its intervals settle anew.
LEAST_GAIN_RATIO = 0.005


@dataclass(frozen=True, slots=True)
class Verdict:
    """Whether a model is promoted, and why or why not."""

    promoted: bool
    reason: str


def too_little(trained_seconds: float, held_out_seconds: float) -> str | None:
    """Why so much observed history (of the longest series) is too little to train and judge a model; None if enough."""
    for seconds, least, use in (
        (trained_seconds, LEAST_TRAINED_SECONDS, "to learn from"),
        (held_out_seconds, LEAST_HELD_OUT_SECONDS, "held out to judge by"),
    ):
        if seconds < least:
            return f"too little history: {seconds / 3600:.1f} h {use}, {least / 3600:g} h needed"
    return None


def decide(losses: Losses) -> Verdict:
    """The candidate serves if it is clearly better than the statistical baseline and than the model in place."""
    candidate, baseline = losses.candidate, losses.baseline
    if candidate is None:
        return Verdict(False, "its loss on the steps held out is not finite")
    if baseline is None:
        return Verdict(False, "the baseline's loss on the steps held out is not finite: nothing to compare with")
    if not _beats(candidate, baseline):
        return Verdict(False, f"not better than the statistical baseline: loss {candidate:.4g} against {baseline:.4g}")
    if losses.serving is None:
        return Verdict(True, f"better than the statistical baseline: loss {candidate:.4g} against {baseline:.4g}")
    if not _beats(candidate, losses.serving):
        return Verdict(
            False, f"not better than {losses.serving_name}, which serves: {candidate:.4g} against {losses.serving:.4g}"
        )
    return Verdict(
        True,
        f"better than {losses.serving_name}: loss {candidate:.4g} against {losses.serving:.4g},"
        f" the baseline's {baseline:.4g}",
    )


def _beats(loss: float, other: float) -> bool:
    return loss < other * (1 - LEAST_GAIN_RATIO)


def superfluous(cards: Sequence[ModelCard], serving: str | None, keep: int) -> list[str]:
    """Names of the artefacts that may go.

    The newest `keep` that were promoted stay, as many that were not, and the one that serves: a row of models that
    were not good enough never pushes out the ones to which one could go back.
    """
    newest_first = sorted(cards, key=lambda card: card.trained_at, reverse=True)
    kept = {
        card.name
        for promoted in (True, False)
        for card in [each for each in newest_first if each.promoted is promoted][:keep]
    }
    return [card.name for card in newest_first if card.name not in kept and card.name != serving]
