"""How commands fail: what an operator must mend is one line and exit code 2; anything else is a bug."""

import os
import sys
import threading
from collections.abc import Callable
from functools import wraps
from typing import ParamSpec

import typer
from rich.console import Console

from forecasting.card import ArtifactError
from infra.database import DatabaseConfigurationError, DatabaseUnavailableError
from infra.embedded.errors import EmbeddedError
from infra.migrate import MigrationError
from infra.settings import ConfigurationError
from streams.collect.cells import TraceError
from streams.supervise import CONFIGURATION_EXIT, GaveUpError, end_with_parent

say = Console(stderr=True, highlight=False, soft_wrap=True)

Arguments = ParamSpec("Arguments")

# What an operator must mend: one clear line and exit code 2. Anything else is a bug, and says so with a traceback.
FAULTS = (
    ConfigurationError,
    EmbeddedError,
    MigrationError,
    DatabaseConfigurationError,
    DatabaseUnavailableError,
    TraceError,
    ArtifactError,
    GaveUpError,
)


def one_clear_line(command: Callable[Arguments, None]) -> Callable[Arguments, None]:
    """Makes a command that ends with one line and exit code 2 where an operator must mend something."""

    @wraps(command)
    def run(*args: Arguments.args, **options: Arguments.kwargs) -> None:
        lifeline = os.environ.pop("GRIDTIDE_LIFELINE", None)
        if lifeline is not None:
            threading.Thread(target=end_with_parent, args=(int(lifeline),), daemon=True).start()
        try:
            command(*args, **options)
        except BaseExceptionGroup as group:
            known, other = group.split(FAULTS)
            if known is None or other is not None:
                raise
            _refuse(_first(known))
        except FAULTS as error:
            _refuse(error)
        except KeyboardInterrupt:
            raise typer.Exit(130) from None

    return run


def _first(group: BaseExceptionGroup[BaseException]) -> BaseException:
    error = group.exceptions[0]
    return _first(error) if isinstance(error, BaseExceptionGroup) else error


def _refuse(why: object) -> None:
    say.print(f"gridtide: {why}", markup=False)
    # At once: threads and half-started clients have nothing to say any more.
    sys.stderr.flush()
    raise typer.Exit(CONFIGURATION_EXIT)
