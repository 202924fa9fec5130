"""The trust file: whose signatures count, as TOML that people can read and pass on. It holds nothing secret."""

import base64
import binascii
import json
import tomllib
from collections.abc import Iterable
from datetime import datetime
from typing import Annotated, Self

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from pydantic import BaseModel, ConfigDict, StringConstraints, ValidationError, model_validator

from infra.signing import Owner, TrustedKey
from schemas.units import SiteId, UtcTime

_HEADER = """\
# Whose signatures count here. Public: pass it on as it is. Written by `gridtide keys`, which keeps no other comments.
"""


class TrustFileError(ValueError):
    """The text is no trust file; one line that names the key."""


class _Entry(BaseModel):
    model_config = ConfigDict(strict=True, extra="forbid", frozen=True)

    id: str
    public_key: str
    fleet: Annotated[str, StringConstraints(pattern=r"^(\*|[a-z0-9][a-z0-9-]{0,62})$")] | None = None
    site: SiteId | None = None
    not_before: UtcTime | None = None
    not_after: UtcTime | None = None

    @model_validator(mode="after")
    def _is_one_key_of_one_owner(self) -> Self:
        if (self.fleet is None) == (self.site is None):
            raise ValueError("a key is bound to a fleet or to a site")
        if self.key.id != self.id:
            raise ValueError(f"id {self.id!r} is not that of the public key, {self.key.id}")
        return self

    @property
    def key(self) -> TrustedKey:
        owner = Owner("planner", self.fleet) if self.fleet is not None else Owner("site", self.site or "")
        return TrustedKey(public_key_of(self.public_key), owner, self.not_before, self.not_after)


class _File(BaseModel):
    model_config = ConfigDict(strict=True, extra="forbid", frozen=True)

    keys: list[_Entry] = []


def public_key_of(text: str) -> bytes:
    """The 32 bytes of a public key in base64.

    Raises:
        ValueError: it is none.
    """
    try:
        raw = base64.b64decode(text, validate=True)
        Ed25519PublicKey.from_public_bytes(raw)
    except (binascii.Error, ValueError):
        raise ValueError("a public key is 32 bytes in base64, as `gridtide keys show` prints it") from None
    return raw


def parse_trust_file(text: str) -> dict[str, TrustedKey]:
    """The keys of a trust file by id, in its order.

    Raises:
        TrustFileError: it is not TOML, a key of it is missing, unknown or wrong, or a key stands in it twice.
    """
    try:
        # By way of JSON, as the fleet file is read: strict models then take TOML's times and arrays.
        entries = _File.model_validate_json(json.dumps(tomllib.loads(text), default=_told)).keys
    except ValidationError as error:
        first = error.errors()[0]
        place = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in first["loc"]).lstrip(".")
        raise TrustFileError(f"{place}: {first['msg'].removeprefix('Value error, ')}") from error
    except (ValueError, RecursionError) as error:
        raise TrustFileError(f"not TOML: {error}") from error
    keys = {entry.id: entry.key for entry in entries}
    if len(keys) != len(entries):
        raise TrustFileError("a key stands in it twice; a key is bound to one fleet or to one site")
    return keys


def _told(value: object) -> str:
    # Of TOML's types JSON lacks times alone; a date or a time of day is refused by the model.
    return value.isoformat() if isinstance(value, datetime) else str(value)


def trust_file_of(keys: Iterable[TrustedKey]) -> str:
    """The text of a trust file."""
    return _HEADER + "".join(f"\n{entry_of(key)}" for key in keys)


def entry_of(key: TrustedKey) -> str:
    """What stands in a trust file for a key."""
    lines = [
        "[[keys]]",
        f'id = "{key.id}"',
        f'public_key = "{base64.b64encode(key.public_key).decode()}"',
        f'{"fleet" if key.owner.role == "planner" else "site"} = "{key.owner.name}"',
    ]
    for name, time in (("not_before", key.not_before), ("not_after", key.not_after)):
        if time is not None:
            lines.append(f"{name} = {time.isoformat().replace('+00:00', 'Z')}")
    return "\n".join(lines) + "\n"
