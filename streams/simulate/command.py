"""`gridtide simulate` and `gridtide replay-decisions`: a scenario in virtual time, and another policy on its log."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer
from rich.console import Console
from typer.core import TyperCommand

from infra.settings import ConfigurationError
from streams.command_output import STDOUT, Tell, bars, check_outputs, write_json, written
from streams.one_clear_line import one_clear_line, say
from streams.simulate.scenario import Scenario
from streams.simulate.scenario_file import NO_OVERRIDES, ScenarioError, read_scenario

if TYPE_CHECKING:
    from schemas.fleet import FleetFile
    from streams.simulate.log import Entry, Outcome
    from streams.simulate.loop import World
    from streams.simulate.sources import Sources

PolicyOption = Literal["planner", "rules", "price-blind", "oracle", "none"]
ShadowPolicy = Literal["planner", "rules", "price-blind"]

DATA = Path(__file__).resolve().parents[3] / "shared" / "data"
_SHOWN = 30


class BareJson(TyperCommand):
    """A command whose --json may stand alone: standard output."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Gives a bare --json its value."""
        given: list[str] = []
        for place, argument in enumerate(args):
            following = args[place + 1] if place + 1 < len(args) else "--"
            alone = following.endswith(".toml") or (following.startswith("-") and following != str(STDOUT))
            given += [argument, str(STDOUT)] if argument == "--json" and alone else [argument]
        return super().parse_args(ctx, given)


@dataclass(frozen=True, slots=True, eq=False)
class _Case:
    """A scenario, read."""

    scenario: Scenario
    fleet_file: "FleetFile"
    sources: "Sources"


@one_clear_line
def simulate(
    scenario: Annotated[Path, typer.Argument(help="The scenario file (TOML).")],
    policy: Annotated[
        PolicyOption, typer.Option(help="Who plans; price-blind and oracle are what others are held against.")
    ] = "planner",
    seed: Annotated[int | None, typer.Option(help="Seed of all that is drawn; default: the scenario's.", min=0)] = None,
    seeds: Annotated[int, typer.Option(help="Run so many seeds, from the first on; says mean and worst.", min=1)] = 1,
    json_file: Annotated[
        Path | None, typer.Option("--json", help="Write the figures there as JSON; alone or - for standard output.")
    ] = None,
    plot: Annotated[Path | None, typer.Option(help="Draw power, prices and tokens there, as .png or .svg.")] = None,
    log: Annotated[
        Path | None, typer.Option(help="Write every record of the bus there, JSON lines; .gz is compressed.")
    ] = None,
    data: Annotated[
        Path, typer.Option(envvar="GRIDTIDE_DATA", help="Folder with requests/ and prices/ of real traces.")
    ] = DATA,
    no_compare: Annotated[
        bool, typer.Option("--no-compare", help="Leave out the runs price-blind and with perfect foresight.")
    ] = False,
) -> None:
    """Runs a scenario in virtual time: hours in seconds, the same seed the same to the byte.

    Planner, site controllers and forecaster are the ones that run live; clock, bus and plants are made up, with the
    faults that the scenario asks for. Where the scenario has prices it is run price-blind and with perfect foresight
    too, for the saving and the regret.

    \b
    An event at one site, the figures and a picture:
      gridtide simulate scenarios/phoenix.toml --plot phoenix.png
    The same under the rules alone, for a program:
      gridtide simulate scenarios/phoenix.toml --policy rules --json | jq .events
    Twenty seeds of targets under faults: the worst of each figure, and every broken safety rule:
      gridtide simulate scenarios/targets.toml --seeds 20
    What another policy would have commanded on the same log:
      gridtide simulate scenarios/two-step.toml --log two-step.jsonl.gz
      gridtide replay-decisions two-step.jsonl.gz --policy rules
    """
    _check_options(json_file, plot, log, seeds)
    case = _case(scenario, data, NO_OVERRIDES)
    _check_bars(case.scenario, scenario)

    from streams.simulate.page import page  # noqa: PLC0415 - only what is asked for is imported
    from streams.simulate.seeds import over_seeds  # noqa: PLC0415
    from streams.simulate.seeds import page as page_of_seeds  # noqa: PLC0415

    console = say if json_file == STDOUT else Console(highlight=False)
    first, compare, results = case.scenario.seed if seed is None else seed, not no_compare, []
    with bars() as progress:
        for number in range(first, first + seeds):
            result, outcome = _result(case, policy, number, compare, progress, log)
            results.append(result)
    if plot is not None:
        from streams.simulate.plot import plot as draw  # noqa: PLC0415

        written(plot, lambda: draw(outcome, case.fleet_file, plot))
    if seeds == 1:
        console.print(page(results[0]))
        figures = results[0]
    else:
        figures = over_seeds(results)
        console.print(page_of_seeds(figures))
    if json_file is not None:
        write_json(json_file, figures)


def simulate_scenario(
    path: Path,
    policy: PolicyOption,
    seed: int,
    data: Path | None,
    compare: bool,
    overrides: Mapping[str, Any] = NO_OVERRIDES,
) -> dict[str, Any]:
    """The KPIs of one run of the scenario at `path`, with some of its keys set otherwise.

    Raises:
        ConfigurationError, TraceError: a file can't be used; one line.
    """
    case = _case(path, data or DATA, overrides)
    _check_bars(case.scenario, path)
    result, _ = _result(case, policy, seed, compare, lambda what: _tell_nobody, None)
    return result


@one_clear_line
def replay_decisions(
    log: Annotated[Path, typer.Argument(help="A log that gridtide simulate --log wrote.")],
    policy: Annotated[ShadowPolicy, typer.Option(help="Whose decisions.")] = "rules",
    json_file: Annotated[
        Path | None, typer.Option("--json", help="Write the comparison there as JSON; alone or - for standard output.")
    ] = None,
) -> None:
    """Says what another policy would have commanded on a log, beside what was commanded.

    It hears what the planner heard, when it heard it. The sites obeyed the other one: their power and load follow from
    the commands that were given, so this compares decisions, not outcomes. Reads logs of gridtide simulate alone.

    \b
      gridtide simulate scenarios/two-step.toml --log two-step.jsonl.gz
      gridtide replay-decisions two-step.jsonl.gz --policy rules
    """
    check_outputs(json_file, None)
    from streams.simulate.log import LogError, read_log  # noqa: PLC0415
    from streams.simulate.shadow import replayed  # noqa: PLC0415
    from streams.simulate.shadow_page import page  # noqa: PLC0415

    try:
        figures = replayed(lambda: read_log(log), policy)
    except LogError as error:
        raise ConfigurationError(str(error)) from error
    console = say if json_file == STDOUT else Console(highlight=False)
    console.print(page(figures, _SHOWN))
    if json_file is not None:
        write_json(json_file, figures)


def _case(path: Path, data: Path, overrides: Mapping[str, Any]) -> _Case:
    from streams.simulate.sources import read_sources  # noqa: PLC0415

    try:
        scenario, fleet_file = read_scenario(path, overrides)
    except ScenarioError as error:
        raise ConfigurationError(str(error)) from error
    return _Case(scenario, fleet_file, read_sources(scenario, fleet_file, path, data))


def _tell_nobody(_part: float) -> None:
    pass


def _check_bars(scenario: Scenario, path: Path) -> None:
    """Said before minutes are spent, not after."""
    from streams.simulate.verdicts import BARS  # noqa: PLC0415

    for name in scenario.bars:
        if name not in BARS:
            raise ConfigurationError(f"{path}: bars: no such KPI: {name!r}; there are {', '.join(sorted(BARS))}")


def _result(
    case: _Case, policy: PolicyOption, seed: int, compare: bool, progress: Callable[[str], Tell], log: Path | None
) -> tuple[dict[str, Any], "Outcome"]:
    """The KPIs of one seed, and its run."""
    from streams.simulate.beside import beside  # noqa: PLC0415 - seconds of imports
    from streams.simulate.kpis import kpis  # noqa: PLC0415
    from streams.simulate.loop import World  # noqa: PLC0415
    from streams.simulate.loop import simulate as run  # noqa: PLC0415

    def tell(what: str) -> Tell:
        return progress(f"seed {seed}, {what}")

    try:
        of_history = tell("history") if case.scenario.traffic.history_seconds else _tell_nobody
        world = World.of(case.scenario, case.fleet_file, case.sources, seed, of_history)
    except ValueError as error:
        raise ConfigurationError(f"scenario {case.scenario.name}: {error}") from error
    wanted: tuple[PolicyOption, ...] = ("price-blind", "oracle") if compare and case.scenario.prices else ()
    tells = {each: tell(each) for each in (policy, *wanted)}
    of_policy = tells.pop(policy)
    with beside(world, tells) as others, _log_file(log, world, policy) as note:

        def tell_all(part: float) -> None:
            of_policy(part)
            others.tell()

        outcome = run(world, policy, tell_all, note)
        compared = {policy: outcome, **others.outcomes()}
    return kpis(outcome, case.fleet_file, compared.get("price-blind"), compared.get("oracle")), outcome


@contextmanager
def _log_file(path: Path | None, world: "World", policy: str) -> Iterator[Callable[["Entry"], None] | None]:
    """What writes the entries of a run to the log file, if there is one."""
    if path is None:
        yield None
        return
    from streams.simulate.log import Heading, LogFile  # noqa: PLC0415

    heading = Heading(scenario=world.scenario, fleet_file=world.fleet_file, policy=policy, seed=world.seed)
    found: list[LogFile] = []
    written(path, lambda: found.append(LogFile(path, heading)))
    try:
        yield found[0].write
    finally:
        written(path, found[0].close)


def _check_options(json_file: Path | None, plot: Path | None, log: Path | None, seeds: int) -> None:
    check_outputs(json_file, plot, log)
    if seeds > 1 and (plot is not None or log is not None):
        raise ConfigurationError("--plot and --log are of one run: leave out --seeds")
