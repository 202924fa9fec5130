"""The simulator's windows are those that the aggregate stage makes of the same plant's frames."""

from datetime import timedelta

import pytest

from schemas.fleet import parse_fleet_file
from schemas.site import LoadState, PowerState
from streams.aggregate.window import PartitionWindows, WindowRules
from streams.simulate.demand import ClassDemand
from streams.simulate.plant import SitePlant
from streams.simulate.recorder import late_requests
from streams.simulate.windows import SiteWindow
from tests.simulations import FLEETS, START

FILE = parse_fleet_file(FLEETS)
SITE = FILE.fleets[0].sites[0]
# The plant's frames are stamped with the end of what they tell of; a meter is read an instant before.
INSTANT = timedelta(microseconds=1)


@pytest.mark.parametrize("step_seconds", [2.0, 10.0])
def test_windows_are_what_aggregate_makes_of_the_frames(step_seconds: float) -> None:
    of_frames, of_rates = (PartitionWindows(WindowRules(10.0, 5.0), FILE, run_id="pair") for _ in range(2))
    frames_of, plain = (SitePlant.start(SITE, FILE.gpu_models, FILE.service_classes, 7) for _ in range(2))
    for plant in (frames_of, plain):
        plant.set_power_cap(38_000.0)
    window, made = SiteWindow(SITE, "pair", "pair"), list[PowerState | LoadState]()
    for number in range(round(60 / step_seconds)):
        ends = START + timedelta(seconds=(number + 1) * step_seconds)
        # More than it can serve: some wait.
        demand = {
            name: ClassDemand(20 + number, 300, round(12_000 * step_seconds)) for name in ("interactive", "batch")
        }
        frames, rates = frames_of.advance(demand, step_seconds, ends, "pair")
        of_frames.fold([frame.model_copy(update={"observed_at": frame.observed_at - INSTANT}) for frame in frames], 0)
        of_rates.fold([rates], 0)
        flow = plain.tick(demand, step_seconds)
        window.add(flow, frames[0].meter_power_watts)
        if (number + 1) * step_seconds % 10 == 0:
            made += window.close(ends - timedelta(seconds=10), ends)
    found = {(type(state), state.window_start): state for folded in (of_frames, of_rates) for _, state in folded.due()}
    assert len(found) == 10  # the last window is still open
    compared = [state for state in made if (type(state), state.window_start) in found]
    assert len(compared) == len(found)
    for state in compared:
        other = found[type(state), state.window_start]
        if isinstance(state, LoadState):
            assert state.tokens_queued > 0
            assert state == other
        else:
            assert isinstance(other, PowerState)
            assert state.it_power_watts == pytest.approx(other.it_power_watts, rel=0.002)
            assert state.meter_power_watts == pytest.approx(other.meter_power_watts, rel=1e-6)
            assert state.utilization_ratio == pytest.approx(other.utilization_ratio, abs=1e-4)
            assert (state.gpu_samples, state.gpus_reporting) == (other.gpu_samples, other.gpus_reporting)


def test_windows_are_records_that_their_contract_takes() -> None:
    plant, window = SitePlant.start(SITE, FILE.gpu_models, FILE.service_classes, 7), SiteWindow(SITE, "pair", "pair")
    window.add(plant.tick({"batch": ClassDemand(5, 50, 500)}, 10.0), None)
    power, load = window.close(START, START + timedelta(seconds=10))
    assert PowerState.model_validate_json(power.to_json()) == power
    assert LoadState.model_validate_json(load.to_json()) == load
    assert power.meter_power_watts is None


def test_late_requests_count_the_way_and_those_turned_away() -> None:
    plant = SitePlant.start(SITE, FILE.gpu_models, FILE.service_classes, 7)
    plant.set_admission(0.5)
    full = {"interactive": ClassDemand(100, 0, 30_000), "batch": ClassDemand(100, 0, 200_000)}
    for _ in range(3):
        flow = plant.tick(full, 10.0)
    batch, interactive = flow.classes["batch"], flow.classes["interactive"]
    assert batch.refused.requests == 50
    assert late_requests(interactive, 0.5) == 0
    assert late_requests(batch, 60.0) == 50
    waits = max(batch.wait_seconds)
    assert late_requests(batch, waits + 1.0) == 50
    # A fifth came over a link that leaves it no time.
    moved = [(waits + 1.0, 20.0)]
    assert late_requests(batch, waits + 1.0, moved) == pytest.approx(50 + 0.2 * batch.late_requests(0.0))
