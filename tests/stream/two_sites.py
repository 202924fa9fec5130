"""Two of the demo's sites, between which there is one best thing to do: for tests that compare what planners do."""

import re
from pathlib import Path

from infra.settings import DEMO_FLEET_FILE

DONOR, ACCEPTOR = "nyiso-nyc", "nyiso-west"
FLEET = "nyiso"
# Only batch bears the long way, and no more of it than the gateway passes on: among equally good plans for a fleet
# under an event the optimiser would choose by the noise of the meters.
_LINK = f"""
[[fleets.links]]
between = ["{DONOR}", "{ACCEPTOR}"]
latency_seconds = 0.15
tokens_per_second_limit = 150000.0
"""


def write_fleet_file(path: Path, **limits: float) -> None:
    """Writes the fleet of the two sites; `limits` in place of the defaults."""
    text = DEMO_FLEET_FILE.read_text(encoding="utf-8").split('[[fleets.sites]]\nid = "nyiso-north"')[0]
    text = re.sub(r"\[\[fleets.links\]\]\n[^\[]*\[[^\[]*", "", text)
    lines = [f"limits.{name} = {value}" for name, value in limits.items()]
    head = f'[[fleets]]\nid = "{FLEET}"'
    path.write_text(text.replace(head, "\n".join([head, *lines, _LINK]), 1), encoding="utf-8")
