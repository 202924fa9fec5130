"""One step of many series: forecasts whose time has come are scored and learnt from, new ones are made. Pure."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from forecasting import blend, intervals
from forecasting.features import DAY_SECONDS, Levels
from forecasting.series import Floats
from forecasting.state import RING, Layout, State, number_of

_SHORTEST_MEMORY_UPDATES = 138
_FAST_UPDATES, _SLOW_UPDATES = 12.0, 144.0
_WIDENING_RATE = 0.04
_UNSETTLED_UPDATES = 6
_TINY = 1e-9
# An error of a load that was nothing a moment ago is no measure of those to come: the widening answers for it.
_MOST_UNITS = 6.0
_USED = ("regret", "square", "fast_error", "slow_error", "widening")


@dataclass(frozen=True, slots=True, eq=False)
class Plan:
    """What a series begins with, and how fast it learns.

    `prior` (A, E): weights; `ring` (A, RING): normalised errors, and `error_ratio` (A,): their size over the load's
    scale, as they are assumed.
    """

    layout: Layout
    step_seconds: float
    prior: Floats
    ring: Floats
    error_ratio: Floats

    def started(self, scale: Floats) -> State:
        """Rows (S, size) of new series whose loads have these scales (S,)."""
        states = np.zeros((len(scale), self.layout.size), dtype=np.float32)
        fields = self.layout.fields(states)
        fields["fast_error"][:] = fields["slow_error"][:] = scale[:, None] * self.error_ratio
        fields["ring"][:] = self.ring
        fields["pending_number"][:] = -1.0
        return states


def default_plan(layout: Layout, step_seconds: float, prior: Floats) -> Plan:
    """What is assumed where nothing was trained: weights (A, E), and errors that grow with the horizon's root."""
    steps = np.array(layout.horizon_steps)
    return Plan(
        layout,
        step_seconds,
        prior,
        np.tile(intervals.default_ring(), (layout.horizons, 1)),
        np.minimum(0.5, 0.08 * np.sqrt(steps * step_seconds / 600.0)),
    )


def level_of(base: Levels, at: int) -> Floats:
    """The geometric mean of the load of late and of the last day (S,) at the step `at`.

    Beside it, what is learnt in a lull weighs less than in the day's peak.
    """
    return np.asarray(np.sqrt(base.scale[:, at] * base.levels[-1][:, at]))


def step(
    plan: Plan, states: State, numbers: NDArray[np.int64], came: Floats, said: Floats, scale: Floats, level: Floats
) -> tuple[Floats, Floats]:
    """Scores what waited for this step, learns from it, and forecasts.

    Args:
        states: rows (S, size); written in place.
        numbers: of the last step known of each series (S,), counted since 1970.
        came: its load (S,), NaN where it was not observed.
        said: what each expert says of each horizon from now (S, A, E), NaN where nothing.
        scale: of the series' load of late (S,), above zero: the unit of its errors' spread.
        level: as `level_of` says (S,): the unit in which experts gain and lose.

    Returns:
        blended points (S, A), NaN where no expert speaks, and quantiles (S, A, 7).
    """
    layout, fields = plan.layout, plan.layout.fields(states)
    on_beat = numbers[:, None] % np.array(layout.cadence_steps) == 0
    series, slots = np.arange(len(numbers))[:, None], layout.slots(numbers)
    _learn(plan, fields, numbers, came, series, slots, on_beat)
    now = {name: fields[name].astype(np.float64) for name in _USED}
    weight = blend.weights(now["regret"], now["square"], plan.prior, said, layout.waiting.astype(np.float64))
    point = blend.mixed(weight, said)
    size = np.fmax(scale[:, None], point)
    unit = intervals.spread(now["fast_error"], now["slow_error"], size, level[:, None])
    made = intervals.quantiles(point, unit, fields["ring"], now["widening"])
    levels = np.broadcast_to(level[:, None], point.shape)
    rows = np.concatenate([said, np.stack([point, levels, unit, made[..., 0], made[..., -1]], axis=-1)], axis=-1)
    waits = on_beat & np.isfinite(point)
    fields["pending"][series, slots] = np.where(waits[..., None], rows, fields["pending"][series, slots])
    spoken = np.where(waits, number_of(numbers)[:, None], -1.0)
    fields["pending_number"][series, slots] = np.where(on_beat, spoken, fields["pending_number"][series, slots])
    return point, made


def _learn(
    plan: Plan,
    fields: dict[str, State],
    numbers: NDArray[np.int64],
    came: Floats,
    series: NDArray[np.int64],
    slots: NDArray[np.int64],
    on_beat: NDArray[np.bool_],
) -> None:
    steps, cadence = np.array(plan.layout.horizon_steps), np.array(plan.layout.cadence_steps)
    issued = number_of(numbers[:, None] - steps)
    due = on_beat & (fields["pending_number"][series, slots] == issued) & np.isfinite(came)[:, None]
    if not due.any():
        return
    rows = fields["pending"][series, slots].astype(np.float64)
    said, (point, level, unit, low, high) = rows[..., :-5], np.moveaxis(rows[..., -5:], -1, 0)
    actual = np.broadcast_to(came[:, None], point.shape)
    # Rows that are not due hold what was there before, or nothing: what follows of them is not taken.
    level, unit = np.where(due, np.maximum(level, _TINY), 1.0), np.where(due, unit, 1.0)
    memory = np.maximum(_SHORTEST_MEMORY_UPDATES, DAY_SECONDS / plan.step_seconds / cadence)
    keep = np.broadcast_to(blend.keep_ratio(memory), point.shape)
    past = fields["regret"].astype(np.float64), fields["square"].astype(np.float64)
    regret, square = blend.learnt(*past, said, point, actual, level, keep)
    error = actual - point
    fast_keep = blend.keep_ratio(np.maximum(_FAST_UPDATES, 2 * steps / cadence))
    slow_keep = blend.keep_ratio(np.full(steps.shape, _SLOW_UPDATES))
    missed = ((actual < low) | (actual > high)).astype(np.float64)
    rate = _WIDENING_RATE / np.sqrt(steps / cadence)
    # The first errors are those of a series that hardly knows its level: they would stand for the rest all day.
    settled = due & (fields["scored"] >= _UNSETTLED_UPDATES)
    new = {
        "fast_error": fast_keep * fields["fast_error"] + (1 - fast_keep) * np.abs(error),
        "slow_error": slow_keep * fields["slow_error"] + (1 - slow_keep) * np.abs(error),
        "widening": intervals.widened(fields["widening"].astype(np.float64), missed, rate),
    }
    for name, value in new.items():
        fields[name][settled] = value[settled]
    place, where = fields["scored"].astype(np.int64) % RING, np.nonzero(settled)
    fields["ring"][(*where, place[where])] = np.clip(error / unit, -_MOST_UNITS, _MOST_UNITS)[settled]
    for name, grown in (("regret", regret), ("square", square), ("scored", fields["scored"] + 1)):
        fields[name][due] = grown[due]
