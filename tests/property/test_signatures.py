"""Whatever bit of a signed record is turned over, it is refused; and a key speaks for nobody but its owner."""

from hypothesis import given
from hypothesis import strategies as st

from infra.signing import REFUSALS, Owner
from tests.examples import NOON, after
from tests.signers import keyring, trusted

NAMES = st.sampled_from(["nyiso", "ercot", "nyiso-nyc", "*"])
OWNERS = st.builds(Owner, st.sampled_from(["planner", "site"]), NAMES)
AUTHORS = OWNERS.filter(lambda owner: owner.name != "*")


def flipped(content: bytes, bit: int) -> bytes:
    """The bytes with one bit turned over."""
    place = bit % (len(content) * 8)
    changed = bytearray(content)
    changed[place // 8] ^= 1 << place % 8
    return bytes(changed)


@given(st.binary(min_size=1, max_size=300), st.integers(0, 2**20), st.sampled_from(["value", "signature", "key-id"]))
def test_a_flipped_bit_in_bytes_signature_or_key_id_is_refused(value: bytes, bit: int, where: str) -> None:
    author = Owner("planner", "nyiso")
    ring = keyring(trusted(1, author), trusted(2, Owner("planner", "*")), own=(1,))
    headers = ring.sign(value, author, NOON)
    assert ring.refusal(value, headers, author, NOON) is None
    if where == "value":
        value = flipped(value, bit)
    else:
        headers = [(name, flipped(content, bit) if name == where else content) for name, content in headers]
    refused = ring.refusal(value, headers, author, NOON)
    assert refused is not None
    assert refused.reason in REFUSALS


@given(OWNERS, AUTHORS)
def test_a_key_counts_for_its_owner_and_nobody_else(owner: Owner, author: Owner) -> None:
    ring = keyring(trusted(1, owner), own=(1,))
    own = Owner("site", "any")
    headers = keyring(trusted(1, own), own=(1,)).sign(b"value", own, NOON)
    rightful = owner == author or (owner == Owner("planner", "*") and author.role == "planner")
    assert (ring.refusal(b"value", headers, author, NOON) is None) == rightful
    assert (ring.signer(author, NOON) is not None) == rightful


@given(
    st.lists(st.tuples(st.integers(0, 100), st.integers(1, 100)), min_size=1, max_size=5),
    st.integers(-10, 250),
    st.integers(-30, 30),
)
def test_whatever_is_signed_in_time_is_taken_by_whose_clock_is_near(
    spans: list[tuple[int, int]], at: int, skew: int
) -> None:
    author = Owner("planner", "nyiso")
    keys = [
        trusted(number, author, after(start), after(start + length)) for number, (start, length) in enumerate(spans)
    ]
    ring = keyring(*keys, own=tuple(range(len(keys))))
    signer = ring.signer(author, after(at))
    inside = [key for key, (start, length) in zip(keys, spans, strict=True) if start <= at < start + length]
    assert (signer is None) == (not inside)
    if signer is not None:
        assert signer.not_before == max(key.not_before for key in inside if key.not_before)
        headers = ring.sign(b"value", author, after(at))
        taken = ring.refusal(b"value", headers, author, after(at + skew)) is None
        # At the very last instant of its time and of the tolerance a key counts no more.
        assert taken or after(at + skew - 30) >= (signer.not_after or NOON)
