"""Which position may be committed; what it must hold against is in tests/property/test_positions.py."""

from streams.positions import Held


def test_held_releases_a_batch_when_all_that_it_feeds_is_out() -> None:
    held = Held()
    held.hold(10, {"a", "b"})
    assert held.release({"a"}) is None
    assert held.oldest_feeds() == {"b"}
    assert held.release({"b"}) == 10
    assert held.waiting == 0


def test_held_keeps_later_batches_behind_an_earlier_one() -> None:
    held = Held()
    held.hold(10, {"a"})
    held.hold(20, {"b"})
    held.hold(30, ())
    assert held.release({"b"}) is None
    assert held.waiting == 3
    assert held.release({"a"}) == 30


def test_held_releases_at_once_what_feeds_nothing() -> None:
    held = Held()
    held.hold(10, ())
    assert held.release(()) == 10
    assert held.release(()) is None


def test_held_takes_a_result_that_comes_out_again() -> None:
    held = Held()
    held.hold(10, {"a"})
    assert held.release(["a"]) == 10
    held.hold(20, {"a"})
    assert held.release(["b"]) is None
    assert held.release(["a", "a"]) == 20


def test_held_does_not_hand_out_its_own_set() -> None:
    held = Held()
    held.hold(10, {"a"})
    held.oldest_feeds().clear()
    assert held.oldest_feeds() == {"a"}
