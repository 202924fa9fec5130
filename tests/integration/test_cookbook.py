"""The page docs/how-to/query-the-history.md: every query on it is run, on an hour of history made by hand."""

import re
from pathlib import Path

import pytest

from infra.database import connect
from tests.examples import OTHER_SITE, SITE
from tests.history_cases import AFTER_THE_HOUR, FIRST_HOUR, HOUR_SECONDS, WINDOW_SECONDS, fill, meter_watts

pytestmark = pytest.mark.database

PAGE = Path(__file__).parents[2] / "docs" / "how-to" / "query-the-history.md"
_QUESTION = re.compile(r"^### (?P<number>\d+)\. (?P<title>.+)$", re.MULTILINE)
_BLOCK = re.compile(r"^```sql\n(?P<sql>.*?)^```$", re.MULTILINE | re.DOTALL)
_COLUMNS = re.compile(r"^Columns: (?P<names>.+)\.$", re.MULTILINE)


def questions() -> list[tuple[int, str, str]]:
    """Number, title and text of each question."""
    found = list(_QUESTION.finditer(PAGE.read_text(encoding="utf-8")))
    ends = [*(match.start() for match in found[1:]), None]
    return [(int(m["number"]), m["title"], m.string[m.end() : end]) for m, end in zip(found, ends, strict=True)]


def test_the_page_numbers_its_questions_and_answers_each_once() -> None:
    asked = questions()
    assert [number for number, _, _ in asked] == list(range(1, len(asked) + 1))
    assert [title for _, title, text in asked if len(_BLOCK.findall(text)) != 1] == []
    assert len(_BLOCK.findall(PAGE.read_text(encoding="utf-8"))) == len(asked) >= 12


async def test_every_query_of_the_page_has_an_answer(any_migrated_dsn: str) -> None:
    async with await connect(any_migrated_dsn, "gridtide-test") as connection:
        await fill(connection)
        for number, title, text in questions():
            question = f"{number}. {title}"
            (query,) = _BLOCK.findall(text)
            found = await connection.execute(query.encode())
            assert await found.fetchall() != [], f"{question}: no row"
            listed = _COLUMNS.search(text)
            if listed is not None:
                columns = [column.name for column in found.description or ()]
                assert columns == re.findall(r"`(\w+)`", listed["names"]), question


async def test_the_hour_comes_to_what_its_functions_say(any_migrated_dsn: str) -> None:
    async with await connect(any_migrated_dsn, "gridtide-test") as connection:
        await fill(connection, "demo")
        query = "SELECT site_id, meter_energy_kwh FROM energy_hourly WHERE hour_start >= %s AND hour_start < %s"
        # Of the live run there is nothing.
        assert await (await connection.execute(query, [FIRST_HOUR, AFTER_THE_HOUR])).fetchall() == []
        await connection.execute("SET gridtide.run_id = 'demo'")
        found = dict(await (await connection.execute(query, [FIRST_HOUR, AFTER_THE_HOUR])).fetchall())
        assert found == pytest.approx(
            {
                site_id: sum(meter_watts(site_id, seconds) for seconds in range(0, HOUR_SECONDS, WINDOW_SECONDS))
                * WINDOW_SECONDS
                / 3_600_000
                for site_id in (SITE, OTHER_SITE)
            }
        )
