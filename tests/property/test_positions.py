"""Whatever batches feed and whenever results come out: what may be committed is out, a prefix, and only grows."""

from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from streams.positions import Held

feeds = st.frozensets(st.integers(0, 6), max_size=4)


class HeldMachine(RuleBasedStateMachine):
    """Beside `Held`, every batch with what it still waits for."""

    def __init__(self) -> None:
        super().__init__()
        self.held = Held()
        self.batches: list[tuple[int, set[int]]] = []
        self.released = 0

    @rule(records=st.integers(1, 500), feeds=feeds)
    def hold(self, records: int, feeds: frozenset[int]) -> None:
        end = (self.batches[-1][0] if self.batches else 0) + records
        self.held.hold(end, feeds)
        self.batches.append((end, set(feeds)))

    @rule(feeds=feeds)
    def release(self, feeds: frozenset[int]) -> None:
        position = self.held.release(feeds)
        for _, waits_for in self.batches:
            waits_for.difference_update(feeds)
        out = [end for place, (end, _) in enumerate(self.batches) if not any(w for _, w in self.batches[: place + 1])]
        now = out[-1] if out else 0
        assert position == (now if now > self.released else None)
        self.released = now

    @invariant()
    def what_waits_is_known(self) -> None:
        waiting = [waits_for for end, waits_for in self.batches if end > self.released]
        assert self.held.waiting == len(waiting)
        assert self.held.oldest_feeds() == (waiting[0] if waiting else set())


TestHeld = HeldMachine.TestCase


@given(st.lists(feeds, min_size=1, max_size=20))
def test_held_lets_all_go_when_all_is_out_and_keeps_nothing(batches: list[frozenset[int]]) -> None:
    held = Held()
    for number, fed in enumerate(batches, 1):
        held.hold(number, fed)
    assert held.release(range(7)) == len(batches)
    assert held.release(range(7)) is None
    assert held == Held()
