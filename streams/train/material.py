"""What a forecaster learns from: series of load, from the history or from files."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from pathlib import Path

import numpy as np

from forecasting.series import LoadSeries
from infra.load_history import SiteLoad, read_load
from infra.settings import ConfigurationError, Settings

# One model serves all sites: more of them teach it little more, and take longer to read than to learn from.
_MOST_SITES = 100


@dataclass(frozen=True, slots=True)
class Material:
    """Series in one step length, and the sites or files that they are of."""

    series: list[LoadSeries]
    sources: list[str]
    step_seconds: float


def from_history(settings: Settings, now: datetime, span: timedelta) -> Material:
    """The load of the run's sites and their service classes over the `span` before `now`.

    Raises:
        ConfigurationError: the history has none.
        DatabaseUnavailableError, DatabaseConfigurationError: the history can't be read.
    """
    step_seconds = settings.forecast_step_seconds
    dsn = settings.database_dsn.get_secret_value()
    loads = read_load(dsn, settings.run_id, step_seconds, now, span, _MOST_SITES)
    found = [load for load in loads if _says_something(load)]
    if not found:
        raise ConfigurationError(f"the history has no load of run {settings.run_id} in the {_days(span)} before now")
    series = [LoadSeries(_name(load), load.starts_at, step_seconds, load.per_second) for load in found]
    return Material(series, sorted({load.site_id for load in found}), step_seconds)


def from_files(paths: Sequence[Path], column: str | None, step_seconds: float) -> Material:
    """The load of request traces or tables of load: one series a file.

    Raises:
        TraceError: a file can't be used.
        ConfigurationError: its steps are longer than those of the stage, or don't fit into them.
    """
    from streams.collect.series import StepError, read_series  # noqa: PLC0415 - only files need it

    try:
        found = [read_series(path, column, step_seconds) for path in paths]
    except StepError as error:
        raise ConfigurationError(f"GRIDTIDE_FORECAST_STEP_SECONDS: {error}") from None
    # The stream counts neither clients nor bursts within a step: a model that relied on them would not find them there.
    series = [replace(one, clients=None, dispersion=None) for one in found]
    return Material(series, [path.name for path in paths], step_seconds)


def _says_something(load: SiteLoad) -> bool:
    return bool(np.nan_to_num(load.per_second).any())


def _name(load: SiteLoad) -> str:
    return "/".join([load.site_id, *([load.service_class] if load.service_class else []), load.quantity])


def _days(span: timedelta) -> str:
    return f"{span / timedelta(days=1):g} days"
