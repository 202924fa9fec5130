"""Where the keys of a run lie: private keys as PEM files, for their owner's eyes alone, and the trust file."""

import base64
import binascii
import contextlib
import fcntl
import os
import re
from collections.abc import Iterable, Iterator
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from uuid import uuid4

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_der_private_key,
    load_pem_private_key,
)

from infra.settings import ConfigurationError
from infra.signing import EVERY_FLEET, Keyring, Owner, TrustedKey, key_id_of
from infra.trust_file import TrustFileError, parse_trust_file, trust_file_of

TRUST_FILE = "trust.toml"
_LOCK = ".lock"
_OTHERS = 0o077

# What tells a folder from what it was before without reading it: files come under new names, and so in new files.
Stamp = tuple[tuple[int, int, int], ...]


class KeyFolder:
    """`<folder>/*.pem` and `<folder>/trust.toml`. Every error is one line that names the file, and never a key."""

    def __init__(self, folder: Path, signing_keys: str = "") -> None:
        self.folder = folder
        self.trust_file = folder / TRUST_FILE
        self._signing_keys = signing_keys  # what GRIDTIDE_SIGNING_KEYS holds besides

    def stamp(self) -> Stamp:
        """Another one once a key has come or gone, or what is trusted has changed."""
        found = []
        for path in (self.folder, self.trust_file):
            try:
                status = path.stat()
                found.append((status.st_mtime_ns, status.st_ino, status.st_size))
            except OSError:
                found.append((0, 0, 0))
        return tuple(found)

    def read(self) -> Keyring:
        """All keys.

        Raises:
            ConfigurationError: a file can't be read or is none, or others may read a private key.
        """
        try:
            files = sorted(self.folder.glob("*.pem"))
        except OSError as error:
            raise ConfigurationError(f"{self.folder}: {error.strerror}") from error
        private = [*map(_private_key_in, files), *_private_keys_of(self._signing_keys)]
        return Keyring(self.trusted(), {key_id_of(key.public_key().public_bytes_raw()): key for key in private})

    def trusted(self) -> dict[str, TrustedKey]:
        """The keys of the trust file by id; none where there is no such file.

        Raises:
            ConfigurationError: it can't be read, or is wrong.
        """
        try:
            return parse_trust_file(self.trust_file.read_text(encoding="utf-8"))
        except FileNotFoundError:
            return {}
        except TrustFileError as error:
            raise ConfigurationError(f"{self.trust_file}: {error}") from error
        except (OSError, UnicodeDecodeError) as error:
            reason = error.strerror if isinstance(error, OSError) else "not UTF-8 text"
            raise ConfigurationError(f"{self.trust_file}: {reason}") from error

    def create(self, owner: Owner, not_before: datetime | None = None, not_after: datetime | None = None) -> TrustedKey:
        """Makes a private key that nobody else may read, and trusts it; returns its public half.

        Raises:
            ConfigurationError: the folder can't be written, or its trust file is wrong.
            ValueError: the key would end before it begins.
        """
        with self._locked():
            trusted = self.trusted()
            key = self._create(owner, not_before, not_after)
            self._trust([*trusted.values(), key])
        return key

    def create_once(self, owners: Iterable[Owner], now: datetime) -> list[TrustedKey]:
        """As `create`, for each owner for whom no key here may sign now; of processes that ask at once, one makes it.

        Raises:
            ConfigurationError: see `read` and `create`.
        """
        with self._locked():
            ring = self.read()
            made = [self._create(owner) for owner in dict.fromkeys(owners) if ring.signer(owner, now) is None]
            if made:
                self._trust([*ring.trusted.values(), *made])
        return made

    def _create(
        self, owner: Owner, not_before: datetime | None = None, not_after: datetime | None = None
    ) -> TrustedKey:
        """Keeps a private key; what is made of it counts only once it is trusted."""
        private = Ed25519PrivateKey.generate()
        key = TrustedKey(private.public_key().public_bytes_raw(), owner, not_before, not_after)
        self._write(self.file_of(key), private.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
        return key

    def file_of(self, key: TrustedKey) -> Path:
        """The file of a private key made here. Only for people: any `*.pem` in the folder is read."""
        name = "every-fleet" if key.owner.name == EVERY_FLEET else key.owner.name
        return self.folder / f"{key.owner.role}-{name}-{key.id}.pem"

    def trust(self, key: TrustedKey) -> None:
        """Trusts a key from now on as it is given, in place of what was known of it.

        Raises:
            ConfigurationError: the folder can't be written, or its trust file is wrong.
        """
        with self._locked():
            self._trust({**self.trusted(), key.id: key}.values())

    def retire(self, key_id: str, not_after: datetime | None = None) -> bool:
        """Takes a key out of the trust file, or ends its time at `not_after`; False if it is not in there.

        Raises:
            ConfigurationError: the folder can't be written, or its trust file is wrong.
            ValueError: the key would end before it begins.
        """
        with self._locked():
            trusted = self.trusted()
            if key_id not in trusted:
                return False
            if not_after is None:
                del trusted[key_id]
            else:
                trusted[key_id] = replace(trusted[key_id], not_after=not_after)
            self._trust(trusted.values())
        return True

    @contextlib.contextmanager
    def _locked(self) -> Iterator[None]:
        """Waits until no other process changes the folder, and keeps others from it. Readers need no lock.

        Raises:
            ConfigurationError: the folder can't be written.
        """
        path = self.folder / _LOCK
        with contextlib.ExitStack() as stack:
            try:
                self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
                # Closing it ends the lock, as does the end of the process, however it comes.
                fcntl.flock(stack.enter_context(path.open("ab")), fcntl.LOCK_EX)
            except OSError as error:
                raise ConfigurationError(f"{path}: {error.strerror}") from error
            yield

    def _trust(self, keys: Iterable[TrustedKey]) -> None:
        self._write(self.trust_file, trust_file_of(keys).encode(), mode=0o644)

    def _write(self, path: Path, content: bytes, mode: int = 0o600) -> None:
        """Whole or not at all, durable when this returns, and at no moment readable for more than `mode` says."""
        draft = self.folder / f".{uuid4().hex}"
        try:
            with os.fdopen(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode), "wb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            draft.replace(path)
            folder = os.open(self.folder, os.O_RDONLY)
            try:
                os.fsync(folder)  # the new name is durable too
            finally:
                os.close(folder)
        except OSError as error:
            draft.unlink(missing_ok=True)
            raise ConfigurationError(f"{path}: {error.strerror}") from error


def _private_key_in(path: Path) -> Ed25519PrivateKey:
    try:
        with path.open("rb") as file:
            if os.fstat(file.fileno()).st_mode & _OTHERS:
                raise ConfigurationError(f"{path}: others may read this private key: run `chmod 600 {path}`")
            content = file.read()
    except OSError as error:
        raise ConfigurationError(f"{path}: {error.strerror}") from error
    # What the library says of a key that it can't read is left out: it may quote it.
    with contextlib.suppress(ValueError, TypeError, UnsupportedAlgorithm):
        key = load_pem_private_key(content, password=None)
        if isinstance(key, Ed25519PrivateKey):
            return key
    raise ConfigurationError(f"{path}: not an Ed25519 private key in PEM (PKCS #8, without a passphrase)")


def _private_keys_of(text: str) -> list[Ed25519PrivateKey]:
    """The private keys of a variable: PEM files one after the other, or the lines between their first and last."""
    keys = []
    for line in re.sub(r"-----[A-Z ]+-----", " ", text).replace(",", " ").split():
        key = None
        with contextlib.suppress(binascii.Error, ValueError, TypeError, UnsupportedAlgorithm):
            key = load_der_private_key(base64.b64decode(line, validate=True), password=None)
        if not isinstance(key, Ed25519PrivateKey):
            raise ConfigurationError("GRIDTIDE_SIGNING_KEYS: not Ed25519 private keys in PEM (PKCS #8)") from None
        keys.append(key)
    return keys
