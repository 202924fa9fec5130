"""The evidence pack: what the rows say, the same each time, nothing from the bus taken for markup."""

import csv
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from infra.settings import ConfigurationError
from streams.report import plots
from streams.report.evidence import Answer, Evidence
from streams.report.pack import page_of, shown, write_pack
from streams.report.plots import MOST_SITES, fleet_plot

START = datetime(2026, 7, 1, 17, tzinfo=UTC)
END, HELD = START + timedelta(minutes=30), START + timedelta(minutes=5)


def answer(columns: str, *rows: tuple[Any, ...]) -> Answer:
    return Answer(columns.split(), {"minutes_over_target": "minutes above the target, after the ramp"}, rows)


def evidence(signal_id: str = "heat-1", sites: int = 2, minutes: int = 60) -> Evidence:
    names = [f"site-{number:02d}" for number in range(sites)]
    at = [START - timedelta(minutes=15) + timedelta(minutes=minute) for minute in range(minutes)]
    return Evidence(
        signal_id=signal_id,
        run_id="live",
        event=answer("signal_id starts_at ends_at held_from", (signal_id, START, END, HELD)),
        fleet=answer("signal_id delivered_kwh", (signal_id, 12.5)),
        sites=answer("site_id minutes_over_target", *((name, number) for number, name in enumerate(names))),
        minutes=answer(
            "minute site_id meter_power_watts baseline_power_watts target_power_watts",
            *((minute, name, 4e5, 5e5, 4e5 if HELD <= minute < END else None) for minute in at for name in names),
        ),
        decisions=answer("issued_at site_id reason rejected", (START, names[0], "event", [{"why": "it's full"}])),
        prices=answer("settlement_point starts_at ends_at price_usd_per_mwh", ("HB", START, END, -5.0)),
    )


def test_page_of_the_same_rows_is_the_same_page() -> None:
    assert page_of(evidence(), ["a.csv"]) == page_of(evidence(), ["a.csv"])


def test_page_of_says_what_columns_mean_and_needs_nothing_beside_it() -> None:
    page = page_of(evidence(), ["a.csv"])
    assert page.count("<svg") == 3
    assert "minutes above the target, after the ramp" in page
    assert "http://" not in page.replace("http://www.w3.org/", "")
    assert "https://" not in page
    assert "<script" not in page


def test_page_of_takes_nothing_from_the_bus_for_markup() -> None:
    assert "<b>" not in page_of(evidence(signal_id="<b>heat</b>"), [])


def test_page_of_many_sites_shows_those_longest_over_their_target() -> None:
    page = page_of(evidence(sites=MOST_SITES + 3, minutes=4), [])
    assert page.count("<svg") == MOST_SITES + 1
    assert f"{MOST_SITES} of {MOST_SITES + 3} sites" in page


def test_page_of_takes_names_from_the_bus_for_no_formulas() -> None:
    made = evidence()
    priced = answer(" ".join(made.prices.columns), ("a$x^$b_", START, END, -5.0), ("_c", START, END, 5.0))
    page = page_of(replace(made, prices=priced), [])
    assert "a$x^$b_" in page
    assert ">_c<" in page


def drawn_kilowatts(monkeypatch: pytest.MonkeyPatch, made: Evidence) -> list[float]:
    """What the fleet's plot is given as power drawn, by minute."""
    seen: list[Any] = []
    monkeypatch.setattr(plots, "_power", lambda axes, rows, evidence: seen.extend(rows))
    fleet_plot(made)
    return [float("nan") if row[1] is None else row[1] / 1000 for row in seen]


def test_fleet_plot_leaves_minutes_blank_in_which_a_site_was_not_heard_of(monkeypatch: pytest.MonkeyPatch) -> None:
    made = evidence(minutes=5)
    # The second minute lacks one site, the fourth lacks both.
    left = [row for number, row in enumerate(made.minutes.rows) if number not in {3, 6, 7}]
    found = drawn_kilowatts(monkeypatch, replace(made, minutes=answer(" ".join(made.minutes.columns), *left)))
    assert found == pytest.approx([800.0, float("nan"), 800.0, float("nan"), 800.0], nan_ok=True)


def test_page_of_an_event_without_power_says_so() -> None:
    assert "No power of these sites is in the history" in page_of(evidence(minutes=0), [])


def test_write_pack_puts_every_row_and_column_beside_the_page(tmp_path: Path) -> None:
    written = write_pack(evidence(), tmp_path / "new" / "folder", "event-heat-1")
    assert [path.name for path in written] == [
        "event-heat-1.html",
        *(f"event-heat-1-{name}.csv" for name in ("sites", "fleet", "minutes", "commands", "prices")),
    ]
    with written[3].open(newline="", encoding="utf-8") as file:
        rows = list(csv.reader(file))
    assert rows[0] == list(evidence().minutes.columns)
    assert len(rows) == 1 + 60 * 2
    assert datetime.fromisoformat(rows[1][0]) == START - timedelta(minutes=15)


def test_write_pack_where_nothing_can_be_written_is_one_clear_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(ConfigurationError, match="file"):
        write_pack(evidence(), tmp_path / "file" / "folder", "event")


@pytest.mark.parametrize(
    ("value", "text"),
    [(None, "–"), (True, "yes"), (1234.56, "1,235"), (0.123456, "0.1235"), (START, "2026-07-01 17:00:00"), ([], "–")],
)
def test_shown_has_as_many_digits_as_matter(value: object, text: str) -> None:
    assert shown(value) == text
