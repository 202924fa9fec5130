"""One Apache Kafka for all drills, and the undisturbed run that each is compared with, both once a session."""

from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from tests.faults.drill import Broker, Outcome, feed, finish
from tests.faults.flow import KINDS, Flow, flow_of_the_past
from tests.stream.rig import rig_on


@pytest.fixture(scope="session")
def kafka(apache_kafka: str) -> Broker:
    """The broker that the drills share. Only Apache Kafka counts: it keeps what it acknowledged."""
    return "apache-kafka", apache_kafka


@pytest.fixture(scope="session")
def flow() -> Flow:
    """The input of every run."""
    return flow_of_the_past()


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def undisturbed(kafka: Broker, flow: Flow, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Outcome]:
    """What comes of the flow if nothing happens."""
    async with rig_on(kafka, tmp_path_factory.mktemp("undisturbed")) as rig:
        rig.start("aggregate")
        for part in flow.slices:
            await feed(rig, part)
        outcome = await finish(rig, flow)
    states = {(start, site, kind) for start, site, kind in outcome.states}
    assert len(states) == len(flow.windows), "every window that was fed is out, and none besides"
    assert {kind for _, _, kind in states} == set(KINDS.values())
    assert len(outcome.letters) == len(flow.slices), "one bad record a slice"
    yield outcome
