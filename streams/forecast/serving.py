"""Which forecaster serves: the one that the pointer names if it may, else the last good one, else the statistical."""

import asyncio
from pathlib import Path
from typing import Final

import structlog

from forecasting.artifact import versions_here
from forecasting.card import ArtifactError
from forecasting.forecaster import Forecaster, statistical
from infra import metrics
from infra.model_store import ModelStore, Stamp
from infra.settings import ConfigurationError
from streams.forecast.models import load

log = structlog.get_logger()

NO_MODEL: Final = "fallback:no-model"
REFUSED: Final = "fallback:artefact-refused"

# A new model is no emergency; a look is one `stat` in a thread.
_LOOK_SECONDS = 10.0


class Serving:
    """The forecaster of a stage. Read with `current` and `flags`, which touch no disk; kept fresh by `watch`."""

    def __init__(self, folder: Path, step_seconds: float) -> None:
        """Takes the model that serves now, on the spot: a stage that starts forecasts nothing without it.

        Args:
            folder: where the run's models lie (`Settings.run_model_dir`); it may be missing.
            step_seconds: the steps in which the stage forecasts.
        """
        self._store = ModelStore(folder)
        self._step_seconds = step_seconds
        self._here = versions_here()
        self._forecaster = statistical(step_seconds)
        self._flags: tuple[str, ...] = (NO_MODEL,)
        self._seen: Stamp | None = None
        self._refused: tuple[Stamp | None, str] | None = None  # and why, as it was last said
        metrics.FORECAST_MODEL.labels(self._forecaster.name).set(1)
        self.look()

    def current(self) -> Forecaster:
        """The forecaster that serves."""
        return self._forecaster

    @property
    def flags(self) -> tuple[str, ...]:
        """What every forecast is to say of it: nothing, or what it is a fallback for."""
        return self._flags

    def look(self) -> None:
        """Takes the model that the pointer names, if the pointer was switched since. Reads files: not in the loop.

        What was refused is tried again at every look, as what was wrong may pass, but is said only once.
        """
        stamp = self._store.stamp()
        if stamp == self._seen and self._refused is None:
            return
        # Before reading: a switch in between shows at the next look.
        self._seen = stamp
        try:
            name = self._store.current()
            if name is None:
                self._serve(statistical(self._step_seconds), (NO_MODEL,))
                return
            forecaster = load(self._store, name, self._here, self._step_seconds)
        except (ArtifactError, ConfigurationError) as error:
            self._flags = (REFUSED,)
            if self._refused == (stamp, str(error)):
                return
            self._refused = (stamp, str(error))
            metrics.FORECAST_MODEL_REFUSED.inc()
            log.warning("model refused", reason=str(error), serves=self._forecaster.name)
            return
        self._serve(forecaster, ())

    async def watch(self) -> None:
        """Looks now and then, in a thread, for as long as the stage lives."""
        while True:
            await asyncio.sleep(_LOOK_SECONDS)
            await asyncio.to_thread(self.look)

    def _serve(self, forecaster: Forecaster, flags: tuple[str, ...]) -> None:
        self._refused = None
        previous, self._forecaster, self._flags = self._forecaster, forecaster, flags
        if previous.name != forecaster.name:
            metrics.FORECAST_MODEL.remove(previous.name)
        metrics.FORECAST_MODEL.labels(forecaster.name).set(1)
        log.info("model serves", model=forecaster.name)
