"""A wrong fleet file stops the start with one line that names the key."""

from typing import Final

import pytest

from schemas.fleet import FleetFileError, parse_fleet_file

MINIMAL: Final = """
[[gpu_models]]
id = "h100"
max_power_watts = 700
cap_cliff_watts = 200
tokens_per_second = 100.0
cap_throughput = [[200, 0.5], [700, 1]]
load_power = [[0, 0.1], [1, 1]]

[[service_classes]]
id = "chat"
flex = 0
traffic_ratio = 1
ttft_objective_seconds = 1.0
itl_objective_seconds = 0.05

[[fleets]]
id = "ercot"

[[fleets.sites]]
id = "houston-1"
settlement_point = "HB_HOUSTON"
pue = 1.2
import_limit_watts = 1e6
minimum_on_watts = 1e5
failsafe_watts = 5e5
ramp_down_watts_per_second = 1000
ramp_up_watts_per_second = 500

[[fleets.sites.pools]]
id = "h100-a"
gpu_model = "h100"
gpus = 8
"""

SECOND_SITE: Final = MINIMAL[MINIMAL.index("[[fleets.sites]]") :]
SECOND_POOL: Final = MINIMAL[MINIMAL.index("[[fleets.sites.pools]]") :]
GPU_MODEL: Final = MINIMAL[: MINIMAL.index("[[service_classes]]")]

# What stands in the file, what stands there instead, the key that is named, and what is said of it.
WRONG: Final = {
    "missing": ("pue = 1.2", "", "fleets[0].sites[0].pue", "required"),
    "missing in a pool": ("gpus = 8", "", "fleets[0].sites[0].pools[0].gpus", "required"),
    "unknown": ("gpus = 8", "gpus = 8\ncolour = 1", "fleets[0].sites[0].pools[0].colour", "not permitted"),
    "unknown and odd": ("gpus = 8", 'gpus = 8\n"a\\nb" = 1', "fleets[0].sites[0].pools[0].'a\\nb'", "not permitted"),
    "text for a number": ("pue = 1.2", 'pue = "1.2"', "fleets[0].sites[0].pue", "valid number (got '1.2')"),
    "truth for a number": ("gpus = 8", "gpus = true", "fleets[0].sites[0].pools[0].gpus", "valid integer (got True)"),
    "fraction for a count": ("gpus = 8", "gpus = 8.5", "fleets[0].sites[0].pools[0].gpus", "valid integer"),
    "date for a number": ("pue = 1.2", "pue = 2026-11-01", "fleets[0].sites[0].pue", "valid number"),
    "list for a number": ("pue = 1.2", "pue = [1.2]", "fleets[0].sites[0].pue", "valid number"),
    "number for a text": ('gpu_model = "h100"', "gpu_model = 100", "fleets[0].sites[0].pools[0].gpu_model", "string"),
    "number for a list": (
        "cap_throughput = [[200, 0.5], [700, 1]]",
        "cap_throughput = 1",
        "gpu_models[0].cap",
        "array",
    ),
    "table for a list": ("[[fleets]]", "[fleets]", "fleets", "array"),
    "too small": ("pue = 1.2", "pue = 0.9", "fleets[0].sites[0].pue", "greater than or equal to 1 (got 0.9)"),
    "too large": ("flex = 0", "flex = 4", "service_classes[0].flex", "less than or equal to 3"),
    "negative": ("minimum_on_watts = 1e5", "minimum_on_watts = -1", "fleets[0].sites[0].minimum_on_watts", "greater"),
    "not finite": ("import_limit_watts = 1e6", "import_limit_watts = inf", "sites[0].import_limit_watts", "finite"),
    "bad name": ('id = "houston-1"', 'id = "Houston 1"', "fleets[0].sites[0].id", "pattern"),
    "no points": ("load_power = [[0, 0.1], [1, 1]]", "load_power = []", "gpu_models[0].load_power", "at least 2"),
    "point of three": ("[[200, 0.5], [700, 1]]", "[[200, 0.5, 1], [700, 1]]", "cap_throughput[0]", "at most 2"),
    "curve that falls": ("[[200, 0.5], [700, 1]]", "[[700, 1], [200, 0.5]]", "cap_throughput", "must rise"),
    "curve that ends early": ("[[200, 0.5], [700, 1]]", "[[200, 0.5], [700, 0.9]]", "cap_throughput", "last point"),
    "load that starts late": ("[[0, 0.1], [1, 1]]", "[[0.5, 0.1], [1, 1]]", "load_power", "[1, 1]"),
    "cliff above the top": ("cap_cliff_watts = 200", "cap_cliff_watts = 701", "cap_cliff_watts", "must not exceed"),
    "failsafe too high": ("failsafe_watts = 5e5", "failsafe_watts = 2e6", "failsafe_watts", "import_limit_watts"),
    "restore too fast": ("watts_per_second = 500", "watts_per_second = 1001", "ramp_up_watts_per_second", "faster"),
    "lease too short": (
        'id = "ercot"',
        'id = "ercot"\n[fleets.limits]\nlease_seconds = 9',
        "limits: lease_seconds",
        "exceed",
    ),
    "restore limit of 0": (
        'id = "ercot"',
        'id = "ercot"\n[fleets.limits]\nramp_up_watts_per_second = 0',
        "fleets[0].limits.ramp_up_watts_per_second",
        "greater than 0 (got 0",
    ),
    "power limit of 0": (
        'id = "ercot"',
        'id = "ercot"\n[fleets.limits]\npower_limit_watts = 0',
        "fleets[0].limits.power_limit_watts",
        "greater than 0",
    ),
    "step of 0": (
        'id = "ercot"',
        'id = "ercot"\n[fleets.limits]\nstep_seconds = 0',
        "fleets[0].limits.step_seconds",
        "greater than 0",
    ),
    "endless horizon": (
        'id = "ercot"',
        'id = "ercot"\n[fleets.limits]\nhorizon_seconds = inf',
        "fleets[0].limits.horizon_seconds",
        "finite",
    ),
    "shift at once": (
        'id = "ercot"',
        'id = "ercot"\n[fleets.limits]\nshift_ramp_seconds = 0',
        "fleets[0].limits.shift_ramp_seconds",
        "greater than 0",
    ),
    "link to itself": (
        'id = "ercot"',
        'id = "ercot"\n[[fleets.links]]\nbetween = ["houston-1", "houston-1"]',
        "fleets.links",
        "not between two sites of ercot",
    ),
    "link to nowhere": (
        'id = "ercot"',
        'id = "ercot"\n[[fleets.links]]\nbetween = ["houston-1", "abilene-1"]',
        "fleets.links",
        "'abilene-1') is not between two sites of ercot",
    ),
    "link of one end": (
        'id = "ercot"',
        'id = "ercot"\n[[fleets.links]]\nbetween = ["houston-1"]',
        "fleets[0].links[0].between[1]",
        "required",
    ),
    "link of negative latency": (
        'id = "ercot"',
        'id = "ercot"\n[[fleets.links]]\nbetween = ["houston-1", "abilene-1"]\nlatency_seconds = -0.1',
        "fleets[0].links[0].latency_seconds",
        "greater than or equal to 0",
    ),
    "link that passes nothing": (
        'id = "ercot"',
        'id = "ercot"\n[[fleets.links]]\nbetween = ["houston-1", "abilene-1"]\ntokens_per_second_limit = 0',
        "fleets[0].links[0].tokens_per_second_limit",
        "greater than 0",
    ),
    "earnings below 0": (
        "flex = 0",
        "flex = 0\nearns_usd_per_million_tokens = -0.1",
        "service_classes[0].earns_usd_per_million_tokens",
        "greater than or equal to 0",
    ),
    "latency limit below 0": (
        "flex = 0",
        "flex = 0\nadded_latency_limit_seconds = -1",
        "service_classes[0].added_latency_limit_seconds",
        "greater than or equal to 0",
    ),
    "unknown GPU model": (
        'gpu_model = "h100"',
        'gpu_model = "h1"',
        "fleets.sites.pools.gpu_model",
        "'h1' at ercot/houston-1",
    ),
    "unknown site": ("flex = 0", 'flex = 0\nsites = ["x"]', "service_classes.sites", "'x' of chat"),
    "shares not 1": ("traffic_ratio = 1", "traffic_ratio = 0.9", "service_classes.traffic_ratio", "add up to 1"),
    "site given twice": (SECOND_SITE, SECOND_SITE * 2, "fleets.sites", "'houston-1' is given twice"),
    "pool given twice": (SECOND_POOL, SECOND_POOL * 2, "fleets.sites.pools", "given twice at ercot/houston-1"),
    "GPU model given twice": (GPU_MODEL, GPU_MODEL * 2, "gpu_models", "'h100' is given twice"),
}
NO_TOML: Final = {
    "broken line": "pue =",
    "key given twice": "a = 1\na = 2",
    "NUL": "\x00",
    "5,000 digits": "a = " + "9" * 5000,
    "deep nest": "a = " + "[" * 5000 + "]" * 5000,
}


@pytest.mark.parametrize(("old", "new", "key", "said"), WRONG.values(), ids=WRONG)
def test_parse_fleet_file_names_the_wrong_key(old: str, new: str, key: str, said: str) -> None:
    assert old in MINIMAL
    with pytest.raises(FleetFileError) as caught:
        parse_fleet_file(MINIMAL.replace(old, new, 1), "site/fleet.toml")
    message = str(caught.value)
    assert message.startswith("site/fleet.toml: ")
    assert len(message.splitlines()) == 1
    assert key in message
    assert said in message
    assert "Value error" not in message


@pytest.mark.parametrize("text", NO_TOML.values(), ids=NO_TOML)
def test_parse_fleet_file_of_no_toml_says_so(text: str) -> None:
    with pytest.raises(FleetFileError, match=r"^fleet file: not TOML: .+$") as caught:
        parse_fleet_file(text)
    assert len(str(caught.value).splitlines()) == 1


@pytest.mark.parametrize("section", ["gpu_models", "service_classes", "fleets"])
def test_parse_fleet_file_without_a_section_names_it(section: str) -> None:
    with pytest.raises(FleetFileError, match=f"^fleet file: {section}: Field required$"):
        parse_fleet_file(MINIMAL.replace(f"[[{section}", f"[[{section[:-1]}x"))


def test_parse_fleet_file_of_minimal_file_takes_the_defaults() -> None:
    fleets = parse_fleet_file(MINIMAL)
    site = fleets.site("houston-1")
    fleet = fleets.fleet("ercot")
    assert site is not None
    assert fleet is not None
    assert site.gpus == 8
    assert site.import_limit_watts == 1_000_000.0
    assert fleet.limits.lease_seconds == 900.0
    assert fleets.gpu_model("h100").cap_throughput == ((200.0, 0.5), (700.0, 1.0))


def test_fleet_link_is_the_same_both_ways_and_has_a_default() -> None:
    third = SECOND_SITE.replace("houston-1", "dallas-1")
    links = '[[fleets.links]]\nbetween = ["houston-1", "abilene-1"]\nlatency_seconds = 0.004\n'
    text = MINIMAL.replace('id = "ercot"\n', f'id = "ercot"\n{links}')
    fleet = parse_fleet_file(text + SECOND_SITE.replace("houston-1", "abilene-1") + third).fleets[0]
    assert fleet.link("abilene-1", "houston-1") == fleet.link("houston-1", "abilene-1") == fleet.links[0]
    assert fleet.links[0].latency_seconds == 0.004
    unnamed = fleet.link("houston-1", "dallas-1")
    assert (unnamed.between, unnamed.latency_seconds) == (("houston-1", "dallas-1"), 0.02)
    assert unnamed.tokens_per_second_limit is None


def test_fleet_file_takes_what_a_fleet_may_draw_and_how_it_is_planned() -> None:
    limits = (
        "[fleets.limits]\npower_limit_watts = 2e6\nramp_down_watts_per_second = 900\nramp_up_watts_per_second = 90\n"
        "shift_ramp_seconds = 30\nhorizon_seconds = 3600\nstep_seconds = 60\n"
    )
    named = parse_fleet_file(MINIMAL.replace('id = "ercot"\n', f'id = "ercot"\n{limits}')).fleets[0].limits
    assert (named.power_limit_watts, named.ramp_down_watts_per_second, named.ramp_up_watts_per_second) == (2e6, 900, 90)
    assert (named.shift_ramp_seconds, named.horizon_seconds, named.step_seconds) == (30, 3600, 60)
    unset = parse_fleet_file(MINIMAL).fleets[0].limits
    assert (unset.power_limit_watts, unset.ramp_down_watts_per_second, unset.ramp_up_watts_per_second) == (None,) * 3


def test_fleet_file_looks_up_by_name() -> None:
    fleets = parse_fleet_file(MINIMAL)
    assert fleets.fleet_of("houston-1") == "ercot"
    assert fleets.fleet_of("nowhere") is None
    assert fleets.site("nowhere") is None
    assert fleets.fleet("nowhere") is None
    assert [(fleet.id, site.id) for fleet, site in fleets.sites()] == [("ercot", "houston-1")]
    with pytest.raises(KeyError, match="h200"):
        fleets.gpu_model("h200")
