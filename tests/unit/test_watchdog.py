"""When standing still is a stall."""

from streams.watchdog import Patience

PLACE, OTHER = "gpu.telemetry.v1[0]", "gpu.telemetry.v1[1]"


def test_patience_ends_when_a_place_with_records_waiting_has_not_moved() -> None:
    patience = Patience(2)
    assert patience.stalled({PLACE: 5}) == []
    assert patience.stalled({PLACE: 5}) == []
    assert patience.stalled({PLACE: 5}) == [PLACE]


def test_patience_begins_anew_when_the_place_moves() -> None:
    patience = Patience(2)
    patience.stalled({PLACE: 5})
    patience.stalled({PLACE: 5})
    assert patience.stalled({PLACE: 6}) == []
    assert patience.stalled({PLACE: 6}) == []


def test_patience_begins_anew_when_nothing_was_waiting_meanwhile() -> None:
    patience = Patience(1)
    patience.stalled({PLACE: 5})
    patience.stalled({})
    assert patience.stalled({PLACE: 5}) == []


def test_patience_sees_a_place_that_moves_back_as_moving() -> None:
    patience = Patience(1)
    patience.stalled({PLACE: 5})
    assert patience.stalled({PLACE: 0}) == []


def test_patience_is_each_place_s_own() -> None:
    patience = Patience(1)
    patience.stalled({PLACE: 5, OTHER: 5})
    assert patience.stalled({PLACE: 9, OTHER: 5}) == [OTHER]
