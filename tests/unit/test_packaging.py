"""The four packages are imported by the names that the design gives them, from this tree."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.parametrize("name", ["streams", "schemas", "forecasting", "infra"])
def test_package_resolves_into_this_tree(name: str, tmp_path: Path) -> None:
    # From another folder and without PYTHONPATH, so that it is the installation that answers.
    command = [sys.executable, "-I", "-c", f"import {name}; print({name}.__file__)"]
    answer = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True)
    assert Path(answer.stdout.strip()).resolve() == ROOT / name / "__init__.py"
