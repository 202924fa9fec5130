"""A batch in pieces that stay in cache."""

from types import SimpleNamespace

from hypothesis import given
from hypothesis import strategies as st

from streams.engine import Batch


def batch(sizes: list[int | None]) -> Batch:
    """A batch of records with values of these sizes; None is a record without a value."""
    records = [
        SimpleNamespace(offset=7 + number, value=None if size is None else b"x" * size)
        for number, size in enumerate(sizes)
    ]
    return Batch("topic", 3, 5, records)


@given(st.lists(st.none() | st.integers(0, 50), min_size=1), st.integers(1, 60))
def test_parts_are_the_batch_in_order_and_within_the_bound(sizes: list[int | None], at_most: int) -> None:
    whole = batch(sizes)
    parts = list(whole.parts(at_most))
    assert [record for part in parts for record in part.records] == whole.records
    assert all(part.records for part in parts)
    assert parts[-1].next_offset == whole.next_offset
    for part in parts:
        assert len(part.records) == 1 or sum(len(record.value or b"") for record in part.records) <= at_most
        assert (part.topic, part.partition, part.assignment) == ("topic", 3, 5)
