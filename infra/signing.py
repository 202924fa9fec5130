"""Signatures: who may say what on the bus, and whether a record was said by them. Pure over bytes.

Ed25519 (RFC 8032) over a record's value as it was sent. Two headers carry it: `signature`, base64 of the 64 bytes, and
`key-id`. A key is bound to what it may speak for: a planner's to a fleet, or to every fleet; a controller's to its
site. Whatever the headers say, only a key that the reader trusts, for that owner and at that time, counts.
"""

import base64
import binascii
import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Final, Literal

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from schemas.catalog import COMMAND_ACKS, FLEET_PLANS, SITE_COMMANDS, Rejected, Topic

Role = Literal["planner", "site"]
Headers = list[tuple[str, bytes]]

SIGNATURE: Final = "signature"
KEY_ID: Final = "key-id"
EVERY_FLEET: Final = "*"

# Who signs the records of a topic. A successor trusts the plan that it reads back, so plans are signed as well.
SIGNED_BY: Final[Mapping[str, Role]] = {
    FLEET_PLANS.name: "planner",
    SITE_COMMANDS.name: "planner",
    COMMAND_ACKS.name: "site",
}
# Why a record may be refused for its signature; each is the reason of its dead letter.
UNSIGNED, FORGED, UNTRUSTED = "unsigned", "forged", "untrusted"
REFUSALS: Final = frozenset({UNSIGNED, FORGED, UNTRUSTED})

# How far the clocks of a signer and of a reader may be apart, as for commands (streams.dispatch.controller).
_CLOCK_TOLERANCE: Final = timedelta(seconds=30)
_ALWAYS: Final = datetime.min.replace(tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class Owner:
    """What a key speaks for: the planner of a fleet (`*`: of every fleet), or the controller of a site."""

    role: Role
    name: str

    def __str__(self) -> str:
        if self.role == "site":
            return f"site {self.name}"
        return "every fleet" if self.name == EVERY_FLEET else f"fleet {self.name}"

    def speaks_for(self, author: "Owner") -> bool:
        """True if a key of this owner may sign what only `author` may say."""
        return self == author or (self == Owner("planner", EVERY_FLEET) and author.role == "planner")


@dataclass(frozen=True, slots=True)
class TrustedKey:
    """A public key (32 bytes), what it is bound to, and from when until when it counts (aware UTC; None: open)."""

    public_key: bytes
    owner: Owner
    not_before: datetime | None = None
    not_after: datetime | None = None

    def __post_init__(self) -> None:
        if self.not_before and self.not_after and self.not_after <= self.not_before:
            raise ValueError("not_after must be after not_before")

    @property
    def id(self) -> str:
        """What the key is called in headers and files."""
        return key_id_of(self.public_key)

    def counts_at(self, now: datetime, tolerance: timedelta = timedelta(0)) -> bool:
        """True within the key's time, widened at both ends by the tolerance."""
        begun = self.not_before is None or self.not_before <= now + tolerance
        return begun and (self.not_after is None or now - tolerance < self.not_after)


def key_id_of(public_key: bytes) -> str:
    """The first 16 hexadecimal digits of a public key's SHA-256."""
    return hashlib.sha256(public_key).hexdigest()[:16]


class NoKeyError(RuntimeError):
    """Nobody here may sign this now; one line that says for whom."""


@dataclass(frozen=True, slots=True)
class Keyring:
    """The keys that a process trusts, in the order of its trust file, and the private keys that it has; both by id."""

    trusted: Mapping[str, TrustedKey]
    own: Mapping[str, Ed25519PrivateKey]

    def signer(self, author: Owner, now: datetime) -> TrustedKey | None:
        """The newest of the own keys that may speak for `author` now: of several, the one that counts since last.

        A key that this process itself does not trust signs nothing: others would hardly trust it either.
        """
        able = [
            (key.not_before or _ALWAYS, place, key)
            for place, key in enumerate(self.trusted.values())
            if key.id in self.own and key.owner.speaks_for(author) and key.counts_at(now)
        ]
        return max(able)[2] if able else None

    def trusts(self, author: Owner, now: datetime) -> bool:
        """True if any key may speak for `author`, now or later."""
        return any(
            key.owner.speaks_for(author) and (key.not_after is None or now < key.not_after)
            for key in self.trusted.values()
        )

    def sign(self, value: bytes, author: Owner, now: datetime) -> Headers:
        """The headers that sign a record's value.

        Raises:
            NoKeyError: no own key may speak for `author` now.
        """
        key = self.signer(author, now)
        if key is None:
            raise NoKeyError(f"no key of our own may sign for {author}")
        signature = base64.b64encode(self.own[key.id].sign(value))
        return [(SIGNATURE, signature), (KEY_ID, key.id.encode())]

    def refusal(
        self, value: bytes, headers: Sequence[tuple[str, bytes | None]], author: Owner, now: datetime
    ) -> Rejected | None:
        """Why a value with these headers was not said by `author`; None if it was."""
        stated = _stated(headers, author)
        if isinstance(stated, Rejected):
            return stated
        signature, key_id = stated
        key = self.trusted.get(key_id)
        if key is None:
            return Rejected(UNTRUSTED, f"key {key_id[:64]!r} is not in the trust file")
        if not key.owner.speaks_for(author):
            return Rejected(UNTRUSTED, f"key {key.id} is bound to {key.owner}, not to {author}")
        if not key.counts_at(now, _CLOCK_TOLERANCE):
            return Rejected(UNTRUSTED, f"key {key.id} counts {_time_of(key)}")
        if not _fits(key.public_key, signature, value):
            return Rejected(FORGED, f"the signature is not that of key {key.id} over these bytes")
        return None


def _stated(headers: Sequence[tuple[str, bytes | None]], author: Owner) -> tuple[bytes, str] | Rejected:
    """The signature and the key's id that the headers state."""
    signatures = [content or b"" for name, content in headers if name == SIGNATURE]
    key_ids = [content or b"" for name, content in headers if name == KEY_ID]
    if not signatures and not key_ids:
        return Rejected(UNSIGNED, f"without a signature of {author}")
    if len(signatures) != 1 or len(key_ids) != 1:
        return Rejected(FORGED, f"a {SIGNATURE} and a {KEY_ID} must stand in the headers, once each")
    return signatures[0], key_ids[0].decode("ascii", "replace")


def author_of(topic: Topic, record: Any) -> Owner | None:
    """Who alone may say a record; None where the topic is not a signed one."""
    role = SIGNED_BY.get(topic.name)
    if role is None:
        return None
    return Owner(role, record.site_id if role == "site" else record.fleet_id)


def _fits(public_key: bytes, encoded: bytes, value: bytes) -> bool:
    try:
        signature = base64.b64decode(encoded, validate=True)
    except binascii.Error:
        return False
    if base64.b64encode(signature) != encoded:
        return False  # base64 has bits to spare: a signature has one spelling
    try:
        Ed25519PublicKey.from_public_bytes(public_key).verify(signature, value)
    except InvalidSignature:
        return False
    return True


def _time_of(key: TrustedKey) -> str:
    since = f"from {key.not_before:%Y-%m-%dT%H:%M:%SZ} " if key.not_before else ""
    until = f"until {key.not_after:%Y-%m-%dT%H:%M:%SZ}" if key.not_after else ""
    return f"{since}{until}".strip()
