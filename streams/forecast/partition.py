"""The histories of one partition's sites: states in, forecasts and scores out. Pure."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple, Protocol

from forecasting.forecaster import Forecaster
from forecasting.history import SiteHistory, history_for
from forecasting.power import SitePower
from forecasting.predict import Due, predict, score_records
from schemas.fleet import FleetFile
from schemas.forecast import SiteForecast
from schemas.score import ForecastScore
from schemas.site import LoadState
from streams.intake import Arrived
from streams.positions import Held

# A site that fell silent in the middle of a step holds the position; after so many batches its open step is
# remembered as it stands, so that the position moves on.
_PATIENCE_BATCHES = 200

# Forecasting is at its fastest with many sites at once, and takes memory for each of them.
_SITES_AT_ONCE = 64


class Serves(Protocol):
    """Who says which forecaster serves now, and what it is a fallback for, if it is one."""

    def current(self) -> Forecaster:
        """The forecaster that serves."""

    @property
    def flags(self) -> tuple[str, ...]:
        """What its forecasts must say of it, such as `fallback:artefact-refused`."""


class Made(NamedTuple):
    """What a batch of states came to."""

    forecasts: list[SiteForecast]
    scores: list[ForecastScore]


@dataclass(slots=True)
class PartitionHistories:
    """The histories of the sites of one partition. Each depends on its own site's states alone, in their order."""

    step_seconds: float
    run_id: str
    fleet_file: FleetFile
    serving: Serves
    histories: dict[str, SiteHistory] = field(default_factory=dict)
    held: Held = field(default_factory=Held)

    def fold(self, arrived: list[Arrived], next_offset: int) -> Made:
        """Takes a batch of states; returns forecasts of the sites whose step closed, and scores of earlier ones.

        Sites are forecast together, each from its history as it stood when its step closed: before one of them
        closes the next step, those that are due are forecast.
        """
        made, due, feeds = Made([], []), dict[str, Due](), set()
        for each in arrived:
            state = each.record
            if not isinstance(state, LoadState):
                continue
            history = self.histories.setdefault(state.site_id, history_for(self.step_seconds))
            feeds.add(state.site_id)
            if state.site_id in due and history.closes(state):
                self._forecast(due, made)
            closing = history.fold(state)
            if closing is not None:
                power = self._power(state.site_id)
                due[state.site_id] = Due(state.fleet_id, state.site_id, history, power, closing.gaps)
                made.scores.extend(score_records(due[state.site_id], closing, self.run_id))
        self._forecast(due, made)
        self.held.hold(next_offset, feeds)
        return made

    def _forecast(self, due: dict[str, Due], made: Made) -> None:
        sites = list(due.values())
        due.clear()
        forecaster, flags = self.serving.current(), self.serving.flags
        for at in range(0, len(sites), _SITES_AT_ONCE):
            made.forecasts.extend(predict(forecaster, sites[at : at + _SITES_AT_ONCE], self.run_id, flags))

    def _power(self, site_id: str) -> SitePower | None:
        site = self.fleet_file.site(site_id)
        return None if site is None else SitePower.of(site, self.fleet_file.gpu_models)

    def to_remember(self, made: Made) -> set[str]:
        """The sites whose history must be remembered now."""
        sites = {forecast.site_id for forecast in made.forecasts}
        if self.held.waiting > _PATIENCE_BATCHES:
            sites |= {str(site_id) for site_id in self.held.oldest_feeds()}
        return sites

    def written(self, sites: Iterable[str]) -> list[tuple[str, bytes]]:
        """These sites, each with its history as a memory keeps it."""
        return [(site_id, self.histories[site_id].to_json()) for site_id in sites]


def histories_of(
    found: Mapping[str, bytes], step_seconds: float, lost: Callable[[str, str], None]
) -> dict[str, SiteHistory]:
    """The histories that a memory holds, by site. One that can't be used is absent; `lost` is told whose, and why."""
    histories = {}
    for site_id, value in found.items():
        try:
            history = SiteHistory.from_json(value)
        except ValueError:
            lost(site_id, "written by another version")
            continue
        if history.step_seconds == step_seconds:
            histories[site_id] = history
        else:
            lost(site_id, f"its steps are of {history.step_seconds:g} s")
    return histories
