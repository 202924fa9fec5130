"""`gridtide keys`: the keys that sign commands and acks, and the file that says whose signatures count."""

import base64
import contextlib
import json
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated, Any

import typer

from infra.clock import wall_now
from infra.settings import ConfigurationError, Settings, load_fleet_file, load_settings
from streams.one_clear_line import one_clear_line, say

if TYPE_CHECKING:  # cryptography takes a tenth of a second to import, and every command reads this module
    from infra.key_folder import KeyFolder
    from infra.signing import Owner, TrustedKey

keys = typer.Typer(
    help="Makes the keys that sign commands and acks, and says whose signatures count.\n\n"
    "Private keys and trust.toml lie in a folder of the run below GRIDTIDE_KEYS_DIR. A replay, a demo or a test makes "
    "what it lacks by itself; the live run's keys are made here, each on the machine that uses it.\n\n"
    "    planner:  gridtide keys create --every-fleet\n\n"
    "    site:     gridtide keys create --site NAME\n\n"
    "    site:     gridtide keys trust PLANNERS_PUBLIC_KEY --every-fleet\n\n"
    "    planner:  gridtide keys trust SITES_PUBLIC_KEY --site NAME\n\n"
    "A private key never leaves its machine; what `gridtide keys show` prints is public.",
    no_args_is_help=True,
    rich_markup_mode=None,
)

SiteOption = Annotated[str | None, typer.Option("--site", help="Bind it to a site: it may sign that site's acks.")]
FleetOption = Annotated[str | None, typer.Option("--fleet", help="Bind it to a fleet: it may command its sites.")]
EveryFleetOption = Annotated[bool, typer.Option("--every-fleet", help="Bind it to every fleet.")]
NotBeforeOption = Annotated[str | None, typer.Option(help="It counts from then on, such as 2026-12-01T00:00:00Z.")]
NotAfterOption = Annotated[str | None, typer.Option(help="It counts until then; without it, until it is retired.")]
JsonOption = Annotated[bool, typer.Option("--json", help="Print it as JSON.")]


@keys.command()
@one_clear_line
def create(
    site: SiteOption = None,
    fleet: FleetOption = None,
    every_fleet: EveryFleetOption = False,
    not_before: NotBeforeOption = None,
    not_after: NotAfterOption = None,
    once: Annotated[bool, typer.Option("--once", help="Do nothing if a key here may sign for it already.")] = False,
    machine: JsonOption = False,
) -> None:
    """Makes a key on this machine, and trusts it here.

    The private key is a file of its own that nobody else may read; it is never printed. To rotate, make the next key
    with --not-before at a time by which every reader trusts it: signers then go over to it by themselves.

    gridtide keys create --site nyiso-nyc --not-before 2026-12-01T00:00:00Z
    """
    settings = load_settings()
    owner = _owner(settings, site, fleet, every_fleet)
    folder = _folder(settings)
    if once and folder.read().signer(owner, wall_now()) is not None:
        say.print(f"there is a key already that may sign for {owner}")
        return
    try:
        key = folder.create(owner, _time("--not-before", not_before), _time("--not-after", not_after))
    except ValueError as error:
        raise ConfigurationError(str(error)) from error
    if machine:
        typer.echo(json.dumps({**_public(key), "private_key_file": str(folder.file_of(key))}, indent=2))
        return
    typer.echo(f"key {key.id} of {key.owner}: {folder.file_of(key)}")
    typer.echo(f"public key: {_text(key)}")
    reader = "the planner's machine" if key.owner.role == "site" else "each site's machine, and the recorder's"
    say.print(f"where its signatures are to count ({reader}): gridtide keys trust {_text(key)} {_options(key)}")


@keys.command()
@one_clear_line
def show(machine: JsonOption = False) -> None:
    """Lists the keys that count here, for whom and how long, and which of them this machine signs with.

    `signs` is the key in use: of several of one owner the newest that counts now. A private key that trust.toml does
    not list signs nothing.
    """
    folder = _folder(load_settings())
    ring, now = folder.read(), wall_now()
    listed: list[dict[str, Any]] = []
    for key in ring.trusted.values():
        signs = ring.signer(key.owner, now) == key
        ended = key.not_after is not None and key.not_after <= now
        state = "counts" if key.counts_at(now) else "ended" if ended else "not yet"
        listed.append({**_public(key), "state": state, "private_key_here": key.id in ring.own, "signs": signs})
    unlisted = sorted(ring.own.keys() - ring.trusted.keys())
    if machine:
        typer.echo(json.dumps({"keys": listed, "private_keys_not_trusted": unlisted}, indent=2))
        return
    if not listed:
        say.print(f"{folder.trust_file} trusts no key yet; see `gridtide keys --help`")
    for key, each in zip(ring.trusted.values(), listed, strict=True):
        own = "signs" if each["signs"] else "private key here" if each["private_key_here"] else ""
        typer.echo(f"{key.id}  {_text(key)}  {key.owner!s:<24}  {each['state']:<7}  {own:<16}  {_span(key)}".rstrip())
    for key_id in unlisted:
        typer.echo(f"{key_id}  a private key here that the trust file does not list: it signs nothing")


@keys.command()
@one_clear_line
def trust(
    public_key: Annotated[str, typer.Argument(help="The key, as `gridtide keys show` prints it where it was made.")],
    site: SiteOption = None,
    fleet: FleetOption = None,
    every_fleet: EveryFleetOption = False,
    not_before: NotBeforeOption = None,
    not_after: NotAfterOption = None,
) -> None:
    """Trusts somebody's public key, bound to what you name; running processes take it up at once.

    Take it from its owner by a way that you trust: whoever has the other half may speak for what it is bound to. Said
    of a key that is trusted already, it replaces what was known of it.
    """
    from infra.signing import TrustedKey  # noqa: PLC0415
    from infra.trust_file import public_key_of  # noqa: PLC0415

    settings = load_settings()
    owner, since, until = _owner(settings, site, fleet, every_fleet), not_before, not_after
    try:
        key = TrustedKey(public_key_of(public_key), owner, _time("--not-before", since), _time("--not-after", until))
    except ValueError as error:
        raise ConfigurationError(str(error)) from error
    _folder(settings).trust(key)
    say.print(f"key {key.id} counts for {key.owner} {_span(key)}".rstrip())


@keys.command()
@one_clear_line
def retire(
    key_id: Annotated[str, typer.Argument(help="The key, by the id that `gridtide keys show` prints.")],
    at: Annotated[str | None, typer.Option(help="Let it count until then, rather than not at all from now on.")] = None,
) -> None:
    """Trusts a key no more, at once or from a time on; running processes take it up at once.

    Say it on every machine that trusts the key. A private key that lies here stays; delete its file when it is over.
    """
    folder = _folder(load_settings())
    try:
        found = folder.retire(key_id, _time("--at", at))
    except ValueError as error:
        raise ConfigurationError(str(error)) from error
    if not found:
        raise ConfigurationError(f"{folder.trust_file} has no key {key_id!r}")
    say.print(f"key {key_id} counts until {at}" if at else f"key {key_id} counts no more")


def _folder(settings: Settings) -> "KeyFolder":
    from infra.keys import Keys  # noqa: PLC0415

    return Keys(settings).folder


def _owner(settings: Settings, site: str | None, fleet: str | None, every_fleet: bool) -> "Owner":
    from infra.signing import EVERY_FLEET, Owner  # noqa: PLC0415

    if (site is not None) + (fleet is not None) + every_fleet != 1:
        raise ConfigurationError("say what the key is bound to: one of --site, --fleet and --every-fleet")
    fleet_file = load_fleet_file(settings.fleet_file)
    if site is not None:
        if fleet_file.site(site) is None:
            raise ConfigurationError(f"site {site!r} is not in the fleet file")
        return Owner("site", site)
    if fleet is not None and fleet_file.fleet(fleet) is None:
        raise ConfigurationError(f"fleet {fleet!r} is not in the fleet file")
    return Owner("planner", fleet if fleet is not None else EVERY_FLEET)


def _time(option: str, text: str | None) -> datetime | None:
    if text is None:
        return None
    with contextlib.suppress(ValueError, OverflowError):
        time = datetime.fromisoformat(text)
        if time.tzinfo is not None:
            return time.astimezone(UTC)
    raise ConfigurationError(f"{option}: must be a time with its zone, such as 2026-12-01T00:00:00Z (got {text!r})")


def _text(key: "TrustedKey") -> str:
    return base64.b64encode(key.public_key).decode()


def _options(key: "TrustedKey") -> str:
    from infra.signing import EVERY_FLEET  # noqa: PLC0415

    bound = "--every-fleet" if key.owner.name == EVERY_FLEET else f"--{_BINDING[key.owner.role]} {key.owner.name}"
    times = (("--not-before", key.not_before), ("--not-after", key.not_after))
    return " ".join([bound, *(f"{option} {_shown(time)}" for option, time in times if time)])


_BINDING = {"planner": "fleet", "site": "site"}


def _public(key: "TrustedKey") -> dict[str, Any]:
    return {
        "id": key.id,
        "public_key": _text(key),
        _BINDING[key.owner.role]: key.owner.name,
        "not_before": _shown(key.not_before),
        "not_after": _shown(key.not_after),
    }


def _span(key: "TrustedKey") -> str:
    since = f"from {_shown(key.not_before)}" if key.not_before else ""
    until = f"until {_shown(key.not_after)}" if key.not_after else ""
    return f"{since} {until}".strip()


def _shown(time: datetime | None) -> str | None:
    return time.isoformat().replace("+00:00", "Z") if time else None
