"""What a site's window must come to: kept where the frames are made, compared with what a contender says."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

Place = tuple[str, datetime]  # site, window start


class WrongTotalsError(RuntimeError):
    """A contender did other work than it was given; the message says which window differs, and how."""


@dataclass(frozen=True, slots=True)
class Totals:
    """One site over one window: integers, so that the order of frames never matters."""

    gpu_samples: int
    masked_values: int
    gpus_reporting: int
    power_milliwatts: int
    utilization_millionths: int
    temperature_celsius_max: float


def totals_of(state: Mapping[str, Any]) -> tuple[Place, Totals]:
    """The window of a power state's JSON, its means made sums again.

    A frame is a second apart from the next, so that the window's energy in mJ is the sum of its readings in mW. No
    reading of power or utilisation is missing in what we send, so that nothing is lost in a mean.
    """
    samples = state["gpu_samples"]
    return (state["site_id"], datetime.fromisoformat(state["window_start"])), Totals(
        gpu_samples=samples,
        masked_values=state["masked_values"],
        gpus_reporting=state["gpus_reporting"],
        power_milliwatts=round(state["it_energy_joules"] * 1000),
        utilization_millionths=round(state["utilization_ratio"] * samples * 1_000_000),
        temperature_celsius_max=state["temperature_celsius_max"],
    )


def check(name: str, states: Iterable[Mapping[str, Any]], expected: Mapping[Place, Totals]) -> None:
    """Makes sure that every window is right and that none is left out before the last one of its site.

    Raises:
        WrongTotalsError: `name` did less, more or other work.
    """
    seen: set[Place] = set()
    for state in states:
        place, found = totals_of(state)
        if expected.get(place) != found:
            raise WrongTotalsError(f"{name}: {place[0]} at {place[1]}: {found}, must be {expected.get(place)}")
        seen.add(place)
    newest: dict[str, datetime] = {}
    for site, start in seen:
        newest[site] = max(start, newest.get(site, start))
    for site, start in expected:
        if site in newest and start <= newest[site] and (site, start) not in seen:
            raise WrongTotalsError(f"{name}: {site} at {start}: left out")
