"""The embedded PostgreSQL asks for a password, keeps what was committed, and never outlives us."""

import json
import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from infra.embedded import postgres as postgres_module
from infra.embedded import process as process_module
from infra.embedded.errors import EmbeddedError
from infra.embedded.placement import server_account
from infra.embedded.postgres import EmbeddedPostgres
from infra.embedded.process import free_port

pytestmark = [pytest.mark.broker, pytest.mark.database]

with_pidfd = pytest.mark.skipif(not hasattr(os, "pidfd_open"), reason="awaits the end of others' processes by pidfd")

# Starts both servers and commits a row, says which processes there are, and waits with a transaction open.
PARENT = """
import json, sys
from pathlib import Path
import psycopg
from infra.embedded.broker import EmbeddedBroker
from infra.embedded.postgres import EmbeddedPostgres

folder = Path(sys.argv[1]) if len(sys.argv) > 1 else None
with EmbeddedBroker() as broker, EmbeddedPostgres(folder) as postgres, psycopg.connect(postgres.dsn) as connection:
    connection.execute("CREATE TABLE reading (power_watts bigint)")
    connection.execute("INSERT INTO reading VALUES (42)")
    connection.commit()
    connection.execute("INSERT INTO reading VALUES (43)")
    found = connection.execute("SELECT pid FROM pg_stat_activity").fetchall()
    guardians = [broker._process.guardian_pid, postgres._process.guardian_pid]
    pids = [broker.pid, postgres.pid, *guardians, *(pid for (pid,) in found)]
    owned = connection.execute("SHOW data_directory").fetchone()[0]
    print(json.dumps({"pids": sorted(set(pids)), "data": owned}), flush=True)
    sys.stdin.read()
"""


def port_of(postgres: EmbeddedPostgres) -> int:
    return int(str(conninfo_to_dict(postgres.dsn)["port"]))


def rows(dsn: str) -> list[tuple[Any, ...]]:
    with psycopg.connect(dsn) as connection:
        return connection.execute("SELECT power_watts FROM reading").fetchall()


def commit_a_row(dsn: str) -> None:
    with psycopg.connect(dsn) as connection:
        connection.execute("CREATE TABLE reading (power_watts bigint)")
        connection.execute("INSERT INTO reading VALUES (42)")


@pytest.fixture(scope="module")
def postgres() -> Iterator[EmbeddedPostgres]:
    """Give a database that the tests which take it only read."""
    with EmbeddedPostgres() as postgres:
        yield postgres


def test_embedded_postgres_answers_over_tcp_with_a_password(postgres: EmbeddedPostgres) -> None:
    with psycopg.connect(postgres.dsn) as connection:
        found = connection.execute(
            "SELECT current_user, current_database(), host(inet_server_addr()), current_setting('fsync'),"
            " current_setting('TimeZone'), upper('é')"
        ).fetchone()
    assert found == ("gridtide", "gridtide", "127.0.0.1", "on", "UTC", "É")


@pytest.mark.parametrize("password", ["wrong", ""])
def test_embedded_postgres_refuses_a_wrong_password(password: str, postgres: EmbeddedPostgres) -> None:
    assert len(str(conninfo_to_dict(postgres.dsn)["password"])) >= 32
    with pytest.raises(psycopg.OperationalError, match="password"):
        psycopg.connect(make_conninfo(postgres.dsn, password=password, passfile="/dev/null"))


def test_embedded_postgres_two_at_once_share_nothing(postgres: EmbeddedPostgres) -> None:
    with EmbeddedPostgres() as other:
        commit_a_row(other.dsn)
        assert port_of(postgres) != port_of(other)
        with pytest.raises(psycopg.errors.UndefinedTable):
            rows(postgres.dsn)


def test_embedded_postgres_removes_a_temporary_folder_and_keeps_a_named_one(new_folder: Path) -> None:
    with EmbeddedPostgres() as postgres, psycopg.connect(postgres.dsn) as connection:
        (temporary,) = connection.execute("SHOW data_directory").fetchone() or ("",)
        assert Path(temporary).exists()
    assert not Path(temporary).parent.exists()
    with EmbeddedPostgres(new_folder) as postgres:
        commit_a_row(postgres.dsn)
    with EmbeddedPostgres(new_folder) as postgres:
        assert rows(postgres.dsn) == [(42,)]


def test_embedded_postgres_refuses_a_folder_in_use(kept_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with EmbeddedPostgres(kept_folder) as postgres:
        monkeypatch.setattr(postgres_module, "LOCK_SECONDS", 0.0)
        with pytest.raises(EmbeddedError, match="is in use by another process"), EmbeddedPostgres(kept_folder):
            pass
        commit_a_row(postgres.dsn)


def test_embedded_postgres_takes_another_port_when_the_first_is_taken(
    postgres: EmbeddedPostgres, monkeypatch: pytest.MonkeyPatch
) -> None:
    free = free_port()
    ports = iter([port_of(postgres), free])
    monkeypatch.setattr(process_module, "free_port", lambda: next(ports))
    with EmbeddedPostgres() as other:
        assert port_of(other) == free


def test_embedded_postgres_replaces_a_half_made_database(new_folder: Path) -> None:
    (new_folder / "pgdata.unfinished").mkdir(parents=True)
    (new_folder / "pgdata.unfinished" / "PG_VERSION").write_text("18")
    new_folder.chmod(0o755)
    with EmbeddedPostgres(new_folder) as postgres:
        commit_a_row(postgres.dsn)


def test_embedded_postgres_starts_over_a_stale_lock_whose_process_id_is_in_use(kept_folder: Path) -> None:
    with EmbeddedPostgres(kept_folder) as postgres:
        commit_a_row(postgres.dsn)
    stale = kept_folder / "pgdata" / "postmaster.pid"
    account = server_account()
    user = account.uid if account else None
    with subprocess.Popen(["/bin/sh", "-c", "read _"], stdin=subprocess.PIPE, user=user) as other:
        stale.write_text(f"{other.pid}\n{kept_folder / 'pgdata'}\n1\n1\n\n127.0.0.1\n1 1\nready\n")
        with EmbeddedPostgres(kept_folder) as postgres:
            assert rows(postgres.dsn) == [(42,)]
        other.communicate(b"\n")


def test_embedded_postgres_whose_password_was_lost_says_so(kept_folder: Path) -> None:
    (kept_folder / "password").unlink()
    with pytest.raises(EmbeddedError, match="password can't be read from"), EmbeddedPostgres(kept_folder):
        pass


def test_embedded_postgres_that_cannot_start_says_what_its_log_says(kept_folder: Path) -> None:
    with (kept_folder / "pgdata" / "postgresql.conf").open("a") as settings:
        settings.write("no_such_setting = 1\n")
    with pytest.raises(EmbeddedError, match=r"ended while starting: .*no_such_setting") as caught:
        EmbeddedPostgres(kept_folder).__enter__()
    assert "\n" not in str(caught.value)


def test_embedded_postgres_without_its_extra_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "embedded_postgres", None)
    with pytest.raises(EmbeddedError, match=r"^gridtide\[embedded\] is not installed"), EmbeddedPostgres():
        pass


# --- whatever becomes of the parent ---------------------------------------------------------------------------


def start_parent(*arguments: str) -> tuple[subprocess.Popen[str], dict[str, Any]]:
    parent = subprocess.Popen(
        [sys.executable, "-W", "error", "-c", PARENT, *arguments],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    assert parent.stdout is not None
    assert parent.stderr is not None
    line = parent.stdout.readline()
    assert line, parent.stderr.read()
    return parent, json.loads(line)


def await_exit(pid_fds: list[int], within_seconds: float = 20.0) -> None:
    deadline = time.monotonic() + within_seconds
    for pid_fd in pid_fds:
        ended, _, _ = select.select([pid_fd], [], [], max(0.0, deadline - time.monotonic()))
        os.close(pid_fd)
        assert ended, "the process goes on"


@with_pidfd
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_embedded_servers_end_with_their_parent_and_keep_what_was_committed(
    number: signal.Signals, kept_folder: Path
) -> None:
    parent, told = start_parent(str(kept_folder))
    pid_fds = [os.pidfd_open(pid) for pid in told["pids"]]
    os.killpg(parent.pid, number)  # as a terminal does: the whole group
    with EmbeddedPostgres(kept_folder) as postgres:  # at once, while the first may still be ending
        assert rows(postgres.dsn) == [(42,)]
    parent.communicate()
    assert parent.returncode == -number
    await_exit(pid_fds)


@with_pidfd
def test_embedded_servers_of_a_killed_parent_leave_no_temporary_folder() -> None:
    parent, told = start_parent()
    pid_fds = [os.pidfd_open(pid) for pid in told["pids"]]
    assert Path(told["data"]).exists()
    parent.kill()
    parent.communicate()
    await_exit(pid_fds)
    assert not Path(told["data"]).parent.exists()


@with_pidfd
@pytest.mark.skipif(sys.platform != "linux", reason="PR_SET_PDEATHSIG is Linux's")
def test_embedded_postgres_ends_when_its_guardian_is_killed(kept_folder: Path) -> None:
    with EmbeddedPostgres(kept_folder) as postgres:
        commit_a_row(postgres.dsn)
        server = os.pidfd_open(postgres.pid)
        assert postgres._process is not None
        os.kill(postgres._process.guardian_pid, signal.SIGKILL)
        await_exit([server])
    with EmbeddedPostgres(kept_folder) as postgres:
        assert rows(postgres.dsn) == [(42,)]
