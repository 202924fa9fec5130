"""Signatures: who may say what, from when until when, and with which of several keys it is said."""

import base64
from datetime import datetime, timedelta

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from infra.signing import SIGNED_BY, Headers, NoKeyError, Owner, author_of
from schemas.catalog import COMMAND_ACKS, FLEET_PLANS, SITE_COMMANDS, TOPICS, Rejected
from tests.examples import EXAMPLES, NOON, after
from tests.signers import ERCOT, EVERYBODY, NYC, NYISO, WEST, keyring, private_key, trusted

VALUE = b'{"kind":"throttle"}'


def signed(number: int, value: bytes = VALUE) -> Headers:
    """The headers of a value signed with a key, whatever that is bound to."""
    return keyring(trusted(number, NYC), own=(number,)).sign(value, NYC, NOON)


def why(rejected: Rejected | None) -> str:
    """The reason of a refusal."""
    assert rejected is not None
    return rejected.reason


def test_sign_makes_headers_that_anybody_can_check_with_the_public_key_alone() -> None:
    key = trusted(1, NYISO)
    headers = dict(keyring(key, own=(1,)).sign(VALUE, NYISO, NOON))
    assert headers["key-id"] == key.id.encode()
    Ed25519PublicKey.from_public_bytes(key.public_key).verify(base64.b64decode(headers["signature"]), VALUE)


def test_refusal_of_what_its_author_signed_is_none() -> None:
    ring = keyring(trusted(1, NYISO), trusted(2, NYC), own=(1, 2))
    for author in (NYISO, NYC):
        assert ring.refusal(VALUE, [("traceparent", b"any"), *ring.sign(VALUE, author, NOON)], author, NOON) is None


@pytest.mark.parametrize(
    ("owner", "author"),
    [
        (ERCOT, NYISO),
        (WEST, NYC),
        (EVERYBODY, NYC),
        (Owner("site", "nyiso"), NYISO),
        (Owner("planner", "nyiso-nyc"), NYC),
    ],
)
def test_a_key_bound_to_another_speaks_for_nobody_else(owner: Owner, author: Owner) -> None:
    ring = keyring(trusted(1, owner), own=(1,))
    refused = ring.refusal(VALUE, signed(1), author, NOON)
    assert why(refused) == "untrusted"
    assert str(owner) in (refused.detail if refused else "")
    with pytest.raises(NoKeyError, match=str(author)):
        ring.sign(VALUE, author, NOON)


def test_a_key_of_every_fleet_speaks_for_each_planner() -> None:
    ring = keyring(trusted(1, EVERYBODY), own=(1,))
    for fleet in (NYISO, ERCOT):
        assert ring.refusal(VALUE, ring.sign(VALUE, fleet, NOON), fleet, NOON) is None


def test_a_private_key_that_is_not_trusted_here_signs_nothing() -> None:
    with pytest.raises(NoKeyError):
        keyring(trusted(1, NYISO), own=(2,)).sign(VALUE, NYISO, NOON)


def test_refusal_tells_unsigned_from_forged_from_untrusted() -> None:
    ring = keyring(trusted(1, NYISO))
    signature, key_id = signed(1)
    assert why(ring.refusal(VALUE, [], NYISO, NOON)) == "unsigned"
    assert why(ring.refusal(VALUE, signed(2), NYISO, NOON)) == "untrusted"
    assert why(ring.refusal(VALUE + b" ", [signature, key_id], NYISO, NOON)) == "forged"
    assert why(ring.refusal(VALUE, [signed(2)[0], key_id], NYISO, NOON)) == "forged"


def test_refusal_of_headers_that_do_not_stand_once_each() -> None:
    ring = keyring(trusted(1, NYISO))
    signature, key_id = signed(1)
    broken: list[list[tuple[str, bytes | None]]] = [
        [signature],
        [key_id],
        [signature, signature, key_id],
        [signature, key_id, key_id],
        [("signature", None), key_id],
        [("signature", b""), key_id],
        [("signature", b"\xff not base64"), key_id],
        [("signature", signature[1] + b"\n"), key_id],
        [("signature", base64.b64encode(b"short")), key_id],
    ]
    for headers in broken:
        assert why(ring.refusal(VALUE, headers, NYISO, NOON)) == "forged", headers
    assert why(ring.refusal(VALUE, [signature, ("key-id", None)], NYISO, NOON)) == "untrusted"
    assert why(ring.refusal(VALUE, [signature, ("key-id", b"\xff" * 9000)], NYISO, NOON)) == "untrusted"


def test_refusal_does_not_repeat_all_that_a_stranger_wrote() -> None:
    refused = keyring().refusal(VALUE, [signed(1)[0], ("key-id", b"x\n" * 9000)], NYISO, NOON)
    assert refused is not None
    assert len(refused.detail) < 250
    assert refused.detail.isprintable()


def test_a_signature_has_one_spelling_in_base64() -> None:
    (name, text), key_id = signed(1)
    last = text[-3:-2]  # of its six bits two are the signature's
    others = [bytes([code]) for code in b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"]
    same = [
        each for each in others if each != last and base64.b64decode(text[:-3] + each + b"==") == base64.b64decode(text)
    ]
    assert len(same) == 15
    for each in same:
        headers = [(name, text[:-3] + each + b"=="), key_id]
        assert why(keyring(trusted(1, NYISO)).refusal(VALUE, headers, NYISO, NOON)) == "forged"


@pytest.mark.parametrize(
    ("seconds", "counts"), [(-31, False), (-30, True), (0, True), (3600, True), (3629, True), (3630, False)]
)
def test_a_keys_time_is_widened_by_what_clocks_may_be_apart(seconds: float, counts: bool) -> None:
    ring = keyring(trusted(1, NYISO, NOON, after(3600)))
    assert (ring.refusal(VALUE, signed(1), NYISO, after(seconds)) is None) == counts


def signs_at(now: datetime) -> int | None:
    """Which of three keys, handed over in turn, signs at a time: the first hour's, the next, and one without end."""
    first, second = trusted(1, NYISO, None, after(3600)), trusted(2, NYISO, after(1800), after(7200))
    third = trusted(3, NYISO, after(5400))
    key = keyring(third, first, second, own=(1, 2, 3)).signer(NYISO, now)
    return {first: 1, second: 2, third: 3}[key] if key else None


def test_signer_is_the_newest_key_that_counts_now() -> None:
    assert [signs_at(after(minutes * 60)) for minutes in (0, 29, 30, 59, 89, 90, 600)] == [1, 1, 2, 2, 2, 3, 3]


def test_a_rotation_with_overlap_has_no_moment_at_which_a_reader_refuses() -> None:
    # The planner's clock is 25 s ahead of the reader's, then behind it.
    old, new = trusted(1, NYISO, None, after(3600)), trusted(2, NYISO, after(1800))
    planner, reader = keyring(old, new, own=(1, 2)), keyring(old, new)
    for seconds in range(0, 7200, 40):
        for skew in (-25, 0, 25):
            headers = planner.sign(VALUE, NYISO, after(seconds + skew))
            assert reader.refusal(VALUE, headers, NYISO, after(seconds)) is None


def test_no_own_key_signs_after_its_end_or_before_its_time() -> None:
    ring = keyring(trusted(1, NYISO, after(10), after(20)), own=(1,))
    for seconds, able in ((9, False), (10, True), (19, True), (20, False)):
        assert (ring.signer(NYISO, after(seconds)) is not None) == able


def test_of_keys_without_a_beginning_the_one_trusted_last_signs() -> None:
    ring = keyring(trusted(1, NYISO), trusted(2, NYISO), own=(1, 2))
    assert ring.signer(NYISO, NOON) == trusted(2, NYISO)


def test_trusts_who_may_speak_now_or_later() -> None:
    ring = keyring(trusted(1, NYISO, after(60)), trusted(2, ERCOT, None, NOON), own=())
    assert ring.trusts(NYISO, NOON)
    assert not ring.trusts(ERCOT, NOON)
    assert not ring.trusts(NYC, NOON)


def test_a_key_that_would_end_before_it_begins_is_refused() -> None:
    with pytest.raises(ValueError, match="not_after must be after not_before"):
        trusted(1, NYISO, NOON, NOON - timedelta(seconds=1))


def test_author_of_commands_and_plans_is_the_fleets_planner_and_of_acks_the_site() -> None:
    for topic in TOPICS:
        for record in EXAMPLES[topic.name]:
            author = author_of(topic, record)
            if topic in (SITE_COMMANDS, FLEET_PLANS):
                assert author == Owner("planner", record.fleet_id)  # type: ignore[attr-defined]
            elif topic == COMMAND_ACKS:
                assert author == Owner("site", record.site_id)  # type: ignore[attr-defined]
            else:
                assert author is None
                assert topic.name not in SIGNED_BY


def test_a_keyring_shows_no_private_key() -> None:
    ring = keyring(trusted(1, NYISO), own=(1,))
    raw = private_key(1).private_bytes_raw()
    assert raw.hex() not in repr(ring)
    assert repr(raw) not in repr(ring)
