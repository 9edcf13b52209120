"""One running product for the tests of this directory, with replayed candles, and one real browser."""

import hashlib
from pathlib import Path

import polars as pl
import pytest
from playwright.async_api import async_playwright, expect

from candlecast.features import Features
from candlecast.settings import CHECKOUT
from tests.market_simulator import candles
from tests.stack import Stack

NEED = Features(symbols_max=1, conflicts_max=1).need
SYMBOLS = ("BTCUSDT", "ETHUSDT", "SOLUSDT")
FORECASTS = 120
TOKEN = "a token for tests alone"
REAL = CHECKOUT.parent / "shared" / "data" / "candles"
expect.set_options(timeout=20_000)  # ms: other tests run beside these
ARGUMENTS = ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-dev-shm-usage"]


def written(directory: Path, symbol: str, skip: int = 0, count: int = NEED - 1 + FORECASTS) -> Path:
    """Write candles of a symbol, real ones where they are at hand."""
    path, real = directory / f"{symbol}-15m.parquet", REAL / f"{symbol}-15m.parquet"
    if real.exists():
        table = pl.read_parquet(real).slice(skip, count)
    else:
        simulated = candles(symbol, skip + count)
        names = ("open", "high", "low", "close", "volume")
        columns = dict(zip(names, simulated.values.T, strict=False))
        table = pl.DataFrame({"ts": simulated.open_time_ms} | columns).slice(skip, count)
    table.write_parquet(path)
    return path


@pytest.fixture(scope="module")
def stack(tmp_path_factory):
    """Everything, as `candlecast up` starts it, with FORECASTS forecasts of each of SYMBOLS in the database.

    Each file has its own, because tests add candles and kill parts.
    """
    digest = hashlib.sha256(TOKEN.encode()).hexdigest()
    environment = {"CANDLECAST_ADMIN_TOKEN_SHA256": digest, "CANDLECAST_DRIFT_INTERVAL_S": "5"}
    stack = Stack(tmp_path_factory.mktemp("web") / "state", environment=environment)
    stack.start()
    files = [written(stack.state_dir.parent, symbol) for symbol in SYMBOLS]
    assert stack.replay(*files)["forecasts"] == FORECASTS * len(SYMBOLS)
    yield stack
    if stack.process.poll() is None:
        stack.stop()


@pytest.fixture(scope="session")
async def browser():
    async with async_playwright() as playwright:
        running = await playwright.chromium.launch(executable_path="/usr/bin/chromium", args=ARGUMENTS)
        yield running
        await running.close()


@pytest.fixture
async def look(stack, browser):
    """Return a function that opens a page; at the end, that none of them complained is made sure."""
    contexts, complaints = [], []

    async def open_(path="", *, width=1280, height=900, theme="dark", **options):
        context = await browser.new_context(
            viewport={"width": width, "height": height}, color_scheme=theme, reduced_motion="reduce", **options
        )
        contexts.append(context)
        page = await context.new_page()
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.on("console", lambda message: message.type == "error" and complaints.append(message.text))
        await page.add_init_script(SHIFTS)
        await page.goto(f"http://{stack.http}/ml/{path}")
        return page

    yield open_
    for context in contexts:
        await context.close()
    assert [c for c in complaints if "status of 503" not in c] == []


SHIFTS = """
window.shifted = 0;
window.shifts = [];
new PerformanceObserver((list) => {
  for (const entry of list.getEntries()) {
    if (entry.hadRecentInput) continue;
    window.shifted += entry.value;
    window.shifts.push([entry.value, ...entry.sources.map((s) => s.node?.outerHTML?.slice(0, 120))]);
  }
}).observe({ type: "layout-shift", buffered: true });
"""
