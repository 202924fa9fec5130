"""What a contender is asked to do, as its command line says it. Nothing but the standard library: Quix has its own."""

import argparse
from dataclasses import dataclass, fields

WINDOW_SECONDS = 10
LATENESS_SECONDS = 5
FAUST_TABLE = "sums"


@dataclass(frozen=True, slots=True)
class Task:
    """Fold the frames of `source`, from its beginning, and send each closed window's state to `output`."""

    servers: str
    source: str
    output: str
    group: str
    partitions: int
    run_id: str
    fleet_file: str
    folder: str

    def arguments(self) -> list[str]:
        """The task as the command line that `from_arguments` reads."""
        return [f"--{field.name.replace('_', '-')}={getattr(self, field.name)}" for field in fields(self)]


def from_arguments() -> Task:
    """The task that this process was started for."""
    parser = argparse.ArgumentParser()
    for field in fields(Task):
        parser.add_argument(f"--{field.name.replace('_', '-')}", required=True)
    given = vars(parser.parse_args())
    return Task(**{**given, "partitions": int(given["partitions"])})


def changelog(group: str) -> str:
    """The changelog topic of Faust's table: it must be there, with as many partitions as the source."""
    return f"{group}-{FAUST_TABLE}-changelog"
