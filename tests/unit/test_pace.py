"""The run's clock follows the machine: slower when behind, fast again when caught up, unmoved by a single stall."""

import pytest

from streams.collect.pace import paced_rate

FAST = [0.02] * 15  # of an interval of 10 s: 60 times real time leaves 0.17 s a step


def test_paced_rate_stays_while_the_plants_follow() -> None:
    assert paced_rate(60.0, 60.0, 0.2, FAST, 10.0) == 60.0
    assert paced_rate(60.0, 60.0, 2.0, FAST, 10.0) == 60.0


def test_paced_rate_is_halved_once_for_a_stall_and_restored_after_it() -> None:
    work = [*FAST[:-1], 2.0]
    halved = paced_rate(60.0, 60.0, 12.0, work, 10.0)
    assert halved == 30.0
    assert paced_rate(halved, 60.0, 11.0, work, 10.0) == 30.0
    assert paced_rate(halved, 60.0, 0.5, work, 10.0) == 60.0


def test_paced_rate_falls_to_what_a_slow_machine_sustains() -> None:
    slow = [0.4] * 15
    behind = paced_rate(60.0, 60.0, 5.0, slow, 10.0)
    caught_up = paced_rate(behind, 60.0, 0.5, slow, 10.0)
    assert behind == pytest.approx(5.0)
    assert caught_up == pytest.approx(10.0)


def test_paced_rate_never_stands_still() -> None:
    assert paced_rate(1.0, 60.0, 100.0, [100.0] * 15, 10.0) == 1.0
