"""The trainer that goes on: on its schedule, and when forecasts have drifted."""

import time
from collections.abc import Callable
from datetime import datetime, timedelta

import structlog

from forecasting.card import ArtifactError
from infra import metrics
from infra.clock import wall_now
from infra.database import DatabaseUnavailableError
from infra.load_history import drifted_since
from infra.model_store import ModelStore, Stamp
from infra.settings import ConfigurationError, Settings
from streams.forecast.models import cards, serving
from streams.train.schedule import is_due

log = structlog.get_logger()

_LOOK_SECONDS = 60.0


class TrainingService:
    """Runs a training whenever one is due. Ended from outside, at any moment: an artefact is whole or not there."""

    def __init__(self, settings: Settings, every: timedelta, once: Callable[[], None]) -> None:
        self._settings = settings
        self._store = ModelStore(settings.run_model_dir)
        self._every = every
        self._once = once
        self._fit: Stamp | None = None  # of the pointer to a model that was found to serve: it takes long to read
        # Over a restart the newest artefact says when the last attempt was.
        self._tried_at: datetime | None = max((card.trained_at for card in cards(self._store)), default=None)

    def run(self) -> None:
        """Never returns.

        Raises:
            DatabaseConfigurationError: a person must mend it.
        """
        while True:
            self.look(wall_now())
            time.sleep(_LOOK_SECONDS)

    def look(self, now: datetime) -> None:
        """Trains if it is time to."""
        try:
            if is_due(now, self._tried_at, self._every, self._is_serving, self._has_drifted):
                self._try(now)
        except (ArtifactError, ConfigurationError, DatabaseUnavailableError) as error:
            metrics.TRAININGS.labels("failed").inc()
            log.warning("not trained", reason=str(error))

    def _try(self, now: datetime) -> None:
        before, self._tried_at = self._tried_at, now
        try:
            self._once()
        except DatabaseUnavailableError:
            self._tried_at = before  # at the next look it may be there
            raise
        metrics.TRAININGS.labels("done").inc()

    def _is_serving(self) -> bool:
        stamp = self._store.stamp()
        if stamp is None or stamp != self._fit:
            forecaster, _ = serving(self._store, self._settings.forecast_step_seconds)
            self._fit = stamp if forecaster else None
        return self._fit is not None

    def _has_drifted(self) -> bool:
        name = self._store.current()
        if self._tried_at is None or name is None:
            return False
        dsn = self._settings.database_dsn.get_secret_value()
        try:
            return drifted_since(dsn, self._settings.run_id, name, self._tried_at)
        except DatabaseUnavailableError as error:
            log.warning("drift not known", reason=str(error))  # no training has failed
            return False
