"""Keys for tests: made from a number, so that a failure shows the same bytes again."""

from datetime import datetime

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from infra.signing import Keyring, Owner, TrustedKey, key_id_of

EVERYBODY = Owner("planner", "*")
NYISO, ERCOT = Owner("planner", "nyiso"), Owner("planner", "ercot")
NYC, WEST = Owner("site", "nyiso-nyc"), Owner("site", "nyiso-west")


def private_key(number: int) -> Ed25519PrivateKey:
    """The private key of a number below 256."""
    return Ed25519PrivateKey.from_private_bytes(bytes([number]) * 32)


def trusted(
    number: int, owner: Owner, not_before: datetime | None = None, not_after: datetime | None = None
) -> TrustedKey:
    """Its public half, bound to an owner."""
    return TrustedKey(private_key(number).public_key().public_bytes_raw(), owner, not_before, not_after)


def keyring(*keys: TrustedKey, own: tuple[int, ...] = ()) -> Keyring:
    """Trusts the keys, in this order, and has the private keys of `own`."""
    private = [private_key(number) for number in own]
    return Keyring(
        {key.id: key for key in keys}, {key_id_of(key.public_key().public_bytes_raw()): key for key in private}
    )
