"""`candlecast report` tells of real rows what the tables say, as one page that loads nothing."""

import json
import re
import subprocess
import xml.etree.ElementTree as ET
from datetime import UTC, date, datetime

import pytest

from candlecast.report.read import QUESTIONS, read
from candlecast.report.tell import page
from candlecast.store.pool import open_pool
from tests.stack import CANDLECAST


@pytest.fixture(scope="module")
async def found(seen):
    async with open_pool(seen, connections_max=1) as pool:
        return await read(pool, date(2020, 1, 1))


def told(found, since=date(2020, 1, 1)):
    return page(found, since, datetime(2026, 1, 2, 3, 4, tzinfo=UTC), "here").html()


async def test_every_question_finds_something_and_the_numbers_are_those_of_the_views(seen, found):
    assert set(found) == set(QUESTIONS) and all(found.values())
    async with open_pool(seen, connections_max=1) as pool:
        (row,) = await pool.fetch(
            "SELECT count(*) AS n, count(*) FILTER (WHERE direction <> 'NEUTRAL') AS s FROM ml_forecasts"
        )
        (money,) = await pool.fetch("SELECT sum(pnl) AS pnl FROM ml_trades")
    text = told(found)
    assert f"<b>{row['n']:,}</b><span>forecasts</span>" in text
    assert f"<b>{row['s']:,}</b><span>signals" in text
    assert sum(strategy["pnl"] for strategy in found["strategies"]) == pytest.approx(money["pnl"])


async def test_the_page_is_whole_and_loads_nothing(found):
    text = told(found)
    assert not re.search(r"<script|<link|<img|<iframe|src=|href=|url\(|@import", text)
    plots = re.findall(r"<svg.*?</svg>", text, re.DOTALL)
    assert len(plots) >= 9
    for plot in plots:
        tree = ET.fromstring(plot)
        assert tree.get("aria-label") and tree.get("role") == "img"
        assert "nan" not in plot.lower().replace("nan feature", "").replace("nans", "") or "NaN" in plot
        for shape in tree.iter():
            for name in ("x", "y", "cx", "cy", "width", "height"):
                value = shape.get(name)
                assert value is None or float(value) >= 0, (name, value)


async def test_an_empty_time_is_said_to_be_empty(seen):
    async with open_pool(seen, connections_max=1) as pool:
        none = await read(pool, date(2090, 1, 1))
    text = told(none, date(2090, 1, 1))
    assert "No forecast closed in this time." in text and "No strategy traded." in text
    assert "<b>0</b><span>forecasts</span>" in text


async def test_what_is_told_is_escaped(found):
    rows = [dict(row) | {"reason": "<script>alert(1)</script>"} for row in found["reasons"]]
    assert "<script" not in told({**found, "reasons": rows})


def test_the_command_writes_the_file_and_says_what_is_in_it(seen, tmp_path):
    out = tmp_path / "deep" / "report.html"
    command = [*CANDLECAST, "report", "--days", "7", "--out", str(out), "--database-url", seen, "--json"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    said = json.loads(done.stdout)
    assert said["file"] == str(out) and said["rows"]["per_day"] >= 3
    assert out.read_text().startswith("<!doctype html>")
    assert [path.name for path in out.parent.iterdir()] == ["report.html"]
    nowhere = subprocess.run(
        [*CANDLECAST, "report", "--state-dir", str(tmp_path), "--out", str(out)],
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert nowhere.returncode == 78 and "set DATABASE_URL" in nowhere.stderr
    refused = subprocess.run([*CANDLECAST, "report", "--days", "0"], capture_output=True, text=True, timeout=60)
    assert refused.returncode == 2


def test_a_plot_thins_a_long_line_and_keeps_its_extremes():
    from candlecast.report.svg import POINTS_MAX, Line, count, lines

    y = [1.0] * 5_000
    y[1_234], y[4_321] = 9.0, -7.0
    plot = lines("x", [Line("a", list(range(5_000)), y)], count, over_time=False)
    points = [tuple(map(float, p.split(","))) for p in re.search(r'points="([^"]+)"', plot)[1].split()]
    assert len(points) <= POINTS_MAX + 2
    heights = sorted(point[1] for point in points)
    assert heights[0] < heights[1] and heights[-1] > heights[-2], "neither spike is lost"
