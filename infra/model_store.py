"""Where models lie: one folder each, written whole or not at all, and a pointer to the one that serves."""

import contextlib
import fcntl
import json
import os
import re
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from uuid import uuid4

from infra.settings import ConfigurationError

_POINTER = "current.json"
_LOCK = ".lock"
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")

# What tells one pointer from another without reading it: every switch makes a new file.
Stamp = tuple[int, int, int]


class ModelStore:
    """`<folder>/<name>/<file>`, and `<folder>/current.json`. Every error is one line that names the file."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """Waits until no other process changes the store, and keeps others from it: for what takes several steps.

        A trainer that tidies up would delete what another has written and not yet pointed to. Readers need no lock.

        Raises:
            ConfigurationError: the folder can't be written.
        """
        path = self.folder / _LOCK
        with contextlib.ExitStack() as stack:
            try:
                self.folder.mkdir(parents=True, exist_ok=True)
                # Closing it ends the lock, as does the end of the process, however it comes.
                fcntl.flock(stack.enter_context(path.open("ab")), fcntl.LOCK_EX)
            except OSError as error:
                raise ConfigurationError(f"{path}: {error.strerror}") from error
            yield

    def names(self) -> list[str]:
        """What lies there, in the order of the alphabet; nothing where there is no folder yet.

        Raises:
            ConfigurationError: the folder can't be read.
        """
        try:
            return sorted(path.name for path in self.folder.iterdir() if path.is_dir() and _NAME.fullmatch(path.name))
        except FileNotFoundError:
            return []
        except OSError as error:
            raise ConfigurationError(f"{error.filename or self.folder}: {error.strerror}") from error

    def read(self, name: str, file: str) -> bytes:
        """A file of a model.

        Raises:
            ConfigurationError: it can't be read, or `name` is no model's name.
        """
        if not _NAME.fullmatch(name):
            raise ConfigurationError(f"{name!r} is not the name of a model")
        path = self.folder / name / file
        try:
            return path.read_bytes()
        except OSError as error:
            raise ConfigurationError(f"{path}: {error.strerror}") from error

    def write(self, name: str, files: Mapping[str, bytes]) -> None:
        """Keeps a model: durable when this returns, and never half a folder.

        Raises:
            ConfigurationError: the folder can't be written, or there is a model of that name.
        """
        draft = self.folder / f".{name}.{uuid4().hex}"
        try:
            draft.mkdir(parents=True)
            for file, data in files.items():
                _write(draft / file, data)
            _make_durable(draft)
            draft.rename(self.folder / name)
            _make_durable(self.folder)
        except OSError as error:
            raise ConfigurationError(f"{self.folder / name}: {error.strerror}") from error
        finally:
            shutil.rmtree(draft, ignore_errors=True)  # there only if it was not renamed

    def current(self) -> str | None:
        """The name that the pointer says; None where there is no pointer.

        Raises:
            ConfigurationError: the pointer can't be read, or is none.
        """
        path = self.folder / _POINTER
        try:
            name = json.loads(path.read_bytes())["name"]
        except FileNotFoundError:
            return None
        except OSError as error:
            raise ConfigurationError(f"{path}: {error.strerror}") from error
        except (ValueError, KeyError, TypeError, RecursionError):
            raise ConfigurationError(f"{path}: not a pointer to a model") from None
        if not isinstance(name, str) or not _NAME.fullmatch(name):
            raise ConfigurationError(f"{path}: {name!r} is not the name of a model")
        return name

    def point_to(self, name: str) -> None:
        """Lets the model of that name serve, at once and for good: whoever reads finds the old pointer or the new.

        Raises:
            ConfigurationError: the folder can't be written.
        """
        draft = self.folder / f".{_POINTER}.{uuid4().hex}"
        try:
            _write(draft, json.dumps({"name": name}).encode())
            draft.replace(self.folder / _POINTER)
            _make_durable(self.folder)
        except OSError as error:
            with contextlib.suppress(OSError):
                draft.unlink()
            raise ConfigurationError(f"{self.folder / _POINTER}: {error.strerror}") from error

    def stamp(self) -> Stamp | None:
        """What changes whenever the pointer is switched; None where there is none, or none that can be seen."""
        try:
            found = (self.folder / _POINTER).stat()
        except OSError:
            return None
        return found.st_ino, found.st_mtime_ns, found.st_size

    def remove(self, name: str) -> None:
        """Deletes a model; one that is not there is no error.

        Raises:
            ConfigurationError: it can't be deleted.
        """
        try:
            shutil.rmtree(self.folder / name)
        except FileNotFoundError:
            return
        except OSError as error:
            raise ConfigurationError(f"{error.filename or self.folder / name}: {error.strerror}") from error


def _write(path: Path, data: bytes) -> None:
    with path.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


def _make_durable(folder: Path) -> None:
    """What was renamed into the folder is found there after a crash, too."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
