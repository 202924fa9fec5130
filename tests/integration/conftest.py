"""A database made once and copied: to make one takes longer than most tests of what becomes of it."""

import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from infra.embedded.postgres import EmbeddedPostgres


@contextmanager
def _open_folder() -> Iterator[Path]:
    """A folder that the server's user can reach; pytest's own is closed to all but us."""
    with tempfile.TemporaryDirectory(prefix="gridtide-test-") as folder:
        Path(folder).chmod(0o755)
        yield Path(folder)


@pytest.fixture
def open_folder() -> Iterator[Path]:
    """A folder that every user can reach."""
    with _open_folder() as folder:
        yield folder


@pytest.fixture
def new_folder(open_folder: Path) -> Path:
    """Where an embedded PostgreSQL can make a database to keep."""
    return open_folder / "data"


@pytest.fixture(scope="session")
def _made() -> Iterator[Path]:
    with _open_folder() as folder:
        with EmbeddedPostgres(folder / "data"):
            pass
        yield folder / "data"


@pytest.fixture
def kept_folder(_made: Path, new_folder: Path) -> Path:
    """The folder of an embedded PostgreSQL that was started and ended in order, its database empty."""
    subprocess.run(["cp", "-a", str(_made), str(new_folder)], check=True)
    return new_folder
