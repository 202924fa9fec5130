"""What a stage says of itself on its metrics port."""

import urllib.request
from collections import Counter
from dataclasses import dataclass, field
from urllib.error import URLError

from prometheus_client.parser import text_string_to_metric_families

_PATIENCE_SECONDS = 2.0


@dataclass(slots=True)
class Scrape:
    """One look at a stage's page. Topics are named as on the bus."""

    started: bool = False
    consumed: Counter[str] = field(default_factory=Counter)  # records read, by topic
    skipped: int = 0  # offsets that the broker no longer had
    late: int = 0  # records for a window already closed


def scrape(port: int) -> Scrape | None:
    """Reads the page; None if nobody answers."""
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=_PATIENCE_SECONDS) as answer:
            text = answer.read().decode()
    except (URLError, OSError):
        return None
    page = Scrape()
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            match sample.name:
                case "gridtide_stage_info":
                    page.started = sample.value == 1
                case "gridtide_records_consumed_total":
                    page.consumed[sample.labels["topic"]] += int(sample.value)
                case "gridtide_offsets_skipped_total":
                    page.skipped += int(sample.value)
                case "gridtide_late_records_total":
                    page.late += int(sample.value)
    return page
