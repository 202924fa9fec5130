"""A controller's memory on disk, and the local lock-out: what survives a restart and a lost bus."""

import os
from pathlib import Path

from pydantic import ValidationError

from infra.settings import ConfigurationError
from streams.dispatch.state import ControllerState


class ControllerMemory:
    """One file for a site's state, written whole or not at all; one whose presence is the lock-out; two for others."""

    def __init__(self, folder: Path, site_id: str, run_id: str) -> None:
        self._run_id = run_id
        self._folder = folder
        self._state_file = folder / f"{run_id}.{site_id}.json"
        self.outbox_file = folder / f"{run_id}.{site_id}.outbox.jsonl"
        self.journal_file = folder / f"{run_id}.{site_id}.journal.jsonl"
        self._lock_out_file = folder / f"{site_id}.locked-out"

    def load(self) -> ControllerState | None:
        """The state as it was last saved; None if there is none.

        Raises:
            ConfigurationError: the folder can't be used, or the file is not such a state.
        """
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            state = ControllerState.model_validate_json(self._state_file.read_bytes())
        except FileNotFoundError:
            return None
        except OSError as error:
            raise ConfigurationError(f"{self._state_file}: {error.strerror}") from error
        except ValidationError as error:
            raise ConfigurationError(
                f"{self._state_file}: not a controller's state; move it away to start anew"
            ) from error
        return state.model_copy(update={"run_id": self._run_id})  # older files do not say it but in their name

    def save(self, state: ControllerState) -> None:
        """Keeps the state: durable when this returns, and never half a file."""
        draft = self._state_file.with_suffix(".draft")
        with draft.open("wb") as file:
            file.write(state.model_dump_json().encode())
            file.flush()
            os.fsync(file.fileno())
        draft.replace(self._state_file)
        folder = os.open(self._folder, os.O_RDONLY)
        try:
            os.fsync(folder)  # the new name is durable too
        finally:
            os.close(folder)

    def locked_out(self) -> bool:
        """True while the operator's lock-out is set."""
        return self._lock_out_file.exists()

    def set_lock_out(self, locked_out: bool) -> None:
        """Sets or lifts the lock-out; the controller sees it at its next tick."""
        self._folder.mkdir(parents=True, exist_ok=True)
        if locked_out:
            self._lock_out_file.touch()
        else:
            self._lock_out_file.unlink(missing_ok=True)
