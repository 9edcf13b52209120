"""Every page in a real browser against the real product: it shows what is stored, in both themes and widths, calmly."""

import asyncio
import os
import re
from pathlib import Path

import httpx
import pytest
from playwright.async_api import expect

from candlecast.client import AsyncClient
from candlecast.settings import CHECKOUT
from tests.recorders import until
from tests.web.conftest import FORECASTS, NEED, SYMBOLS, written

AXE = CHECKOUT / "web" / "node_modules" / "axe-core" / "axe.min.js"
SHOTS = os.environ.get("SCREENSHOTS")
PAGES = {
    "": ("Now", "table.forecasts tbody tr"),
    f"symbol?symbol={SYMBOLS[0]}": (SYMBOLS[0], ".candles canvas"),
    "symbol": ("Symbol", ".choices li"),
    "accuracy": ("Accuracy", ".panel"),
    "strategies": ("Strategies", ".panel"),
    "models": ("Models", ".panel"),
    "features": ("Features", ".chart canvas"),
    "system": ("System", ".chart canvas"),
}
VIOLATIONS = """
rules => axe.run({ runOnly: rules })
  .then(found => found.violations.map(v => [v.id, v.nodes.map(n => n.html).slice(0, 3)]))
"""
SHIFT_MAX = 0.02
"""Of what is seen, by how far; 0.1 counts as good."""
MORE = 60
WELL = re.compile("^ ?(Live|Quiet)$")
RULES = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa"]


async def settled(page, what):
    """Wait until a page shows what it is about, and nothing loads any more."""
    await expect(page.locator(what).first).to_be_visible()
    await expect(page.locator("main .loading")).to_have_count(0)
    await page.evaluate("document.fonts.ready")


@pytest.mark.parametrize("path", PAGES)
async def test_a_page_shows_itself_in_both_widths_and_themes(look, path):
    title, what = PAGES[path]
    page = await look(path)
    await settled(page, what)
    await page.evaluate(AXE.read_text())
    for width in (1280, 390):
        if width == 390:
            await page.set_viewport_size({"width": width, "height": 900})
            await page.keyboard.press("t")
            await settled(page, what)
        assert await page.locator("h1").inner_text() == title
        assert await page.locator("main .trouble").count() == 0
        assert await page.evaluate("document.documentElement.scrollWidth - innerWidth") <= 0, "it scrolls sideways"
        assert await page.evaluate(VIOLATIONS, RULES) == []
        if SHOTS:
            name = path.partition("?")[0] or "now"
            await page.screenshot(
                path=Path(SHOTS) / f"{name}{'-one' if '?' in path else ''}-{width}.png", full_page=True
            )


@pytest.mark.parametrize("width", [1280, 390])
async def test_nothing_jumps_while_a_page_loads(look, width):
    for path in ("", f"symbol?symbol={SYMBOLS[0]}", "features", "system"):
        page = await look(path, width=width)
        await settled(page, PAGES[path][1])
        assert await page.evaluate("window.shifted") < SHIFT_MAX, await page.evaluate("window.shifts")


async def test_features_shows_how_far_each_subject_is_from_what_the_model_was_trained_on(look, stack):
    async with httpx.AsyncClient(base_url=f"http://{stack.http}") as http:

        async def is_measured():
            return (await http.get("/api/ml/pages/features/drifting/")).json()["measures"]

        await until(is_measured)
    for width in (1280, 390):
        page = await look("features", width=width)
        await settled(page, PAGES["features"][1])
        row = page.locator("tr", has=page.locator("th", has_text=re.compile("^momentum$")))
        await expect(row).to_contain_text("its training, 2024-01-07 – 2024-05-29")
        assert await page.evaluate("document.documentElement.scrollWidth - innerWidth") <= 0, "it scrolls sideways"
        await page.evaluate(AXE.read_text())
        assert await page.evaluate(VIOLATIONS, RULES) == []
        assert await page.evaluate("window.shifted") < SHIFT_MAX, await page.evaluate("window.shifts")
        if SHOTS:
            await page.screenshot(path=Path(SHOTS) / f"drift-{width}.png", full_page=True)


async def test_the_first_page_is_small_and_ready_within_a_second(look):
    took_ms = []
    for _ in range(3):  # the best of them: other tests run beside this one
        page = await look()
        await expect(page.locator("table.forecasts tbody tr")).to_have_count(len(SYMBOLS))
        sizes = await page.evaluate(
            "[...performance.getEntriesByType('resource'), performance.getEntriesByType('navigation')[0]]"
            ".map(e => e.transferSize)"
        )
        assert sum(sizes) < 300_000
        ready = await page.evaluate("performance.getEntriesByType('navigation')[0].domInteractive")
        asked = await page.evaluate("Math.max(...performance.getEntriesByType('resource').map(e => e.responseEnd))")
        took_ms.append(max(ready, asked))
    assert min(took_ms) < 1_000


async def test_now_shows_what_is_stored_and_finds_by_search_side_and_order(look, stack):
    page = await look()
    rows = page.locator("table.forecasts tbody tr")
    await expect(rows).to_have_count(len(SYMBOLS))
    assert [text.split()[0] for text in await rows.locator("th").all_inner_texts()] == sorted(SYMBOLS)
    await page.keyboard.press("/")
    await page.keyboard.type("eth")
    await expect(rows).to_have_count(1)
    await expect(rows.locator("th")).to_contain_text("ETHUSDT")
    await page.locator("input[type=search]").fill("nothing like it")
    await expect(page.locator(".panel .empty").first).to_contain_text(f"None of {len(SYMBOLS)} symbols matches")
    await page.locator("input[type=search]").fill("")
    await page.get_by_label("By").select_option("confidence")
    await expect(rows).to_have_count(len(SYMBOLS))
    said = [float(text.split()[0]) for text in await rows.locator(".confidence").all_inner_texts()]
    assert said == sorted(said, reverse=True)


async def test_a_symbol_steps_through_its_forecasts_by_key(look):
    page = await look(f"symbol?symbol={SYMBOLS[1]}")
    title = page.locator(".panel h2", has_text="Forecast at")
    await expect(title).to_be_visible()
    newest = await title.inner_text()
    await page.keyboard.press("ArrowLeft")
    await expect(title).not_to_have_text(newest)
    await page.keyboard.press("ArrowRight")
    await expect(title).to_have_text(newest)
    assert await page.locator(".panel table tbody tr").count() >= 4
    assert "300 candles of ETHUSDT" in await page.locator(".candles").get_attribute("aria-label")


async def test_keys_move_between_pages_and_turn_the_theme(look):
    page = await look()
    await expect(page.locator("h1")).to_have_text("Now")  # it hears keys from now on
    await page.keyboard.press("7")
    await expect(page.locator("h1")).to_have_text("System")
    assert page.url.endswith("/ml/system")
    before = await page.evaluate("document.documentElement.dataset.theme")
    await page.keyboard.press("t")
    assert await page.evaluate("document.documentElement.dataset.theme") != before
    await page.keyboard.press("?")
    await expect(page.locator("dialog")).to_be_visible()
    await page.keyboard.press("Escape")
    await page.go_back()
    await expect(page.locator("h1")).to_have_text("Now")


async def test_unknown_pages_and_symbols_are_said_to_be_unknown(stack, browser):
    page = await browser.new_page()
    await page.goto(f"http://{stack.http}/ml/nowhere")
    await expect(page.locator(".trouble")).to_contain_text("no such page")
    await page.goto(f"http://{stack.http}/ml/symbol?symbol=NOSUCH")
    await expect(page.locator(".trouble")).to_contain_text("no candle of NOSUCH is stored")
    await page.close()


async def test_an_answer_that_fails_is_shown_and_asked_again_and_old_data_is_called_old(look):
    page = await look("system")
    await expect(page.locator(".chart canvas").first).to_be_visible()
    failure = {"title": "Unavailable", "status": 503, "reason": "STORAGE_UNAVAILABLE", "detail": "PostgreSQL is away"}

    async def fail(route):
        await route.fulfill(status=503, json=failure, content_type="application/problem+json")

    await page.route("**/api/ml/pages/**", fail)
    await page.get_by_label("Last").select_option("24")
    trouble = page.locator(".trouble").first
    await expect(trouble).to_contain_text("storage unavailable")
    await expect(trouble).to_contain_text("PostgreSQL is away")
    await page.unroute("**/api/ml/pages/**")
    await trouble.get_by_role("button").click()
    await expect(page.locator(".trouble")).to_have_count(0)


async def test_candles_are_replayed_forecasts_appear_outcomes_fill_and_a_strategy_updates(look, stack, tmp_path):
    symbol = SYMBOLS[1]
    now = await look()
    row = now.locator("tbody tr").filter(has=now.get_by_role("link", name=symbol))
    closed = row.locator("td span[title$=UTC]")
    before = await closed.get_attribute("title")

    more = written(tmp_path, symbol, NEED - 1 + FORECASTS, MORE)
    assert (await asyncio.to_thread(stack.replay, more))["forecasts"] == MORE
    await expect(closed).not_to_have_attribute("title", before)
    assert before < await closed.get_attribute("title")
    page = await look(f"symbol?symbol={symbol}")
    async with asyncio.timeout(20):
        while not re.search("hit|miss", await last_horizon(page)):
            await page.reload()
    await expect((await look("accuracy")).locator("tbody tr").first).to_contain_text("15m")
    async with AsyncClient(stack.grpc) as client:
        await client.log_signal("web_flow", symbol, "long", 100.0, 2.0, 0.7, "flow-1")
        await client.close_signal("flow-1", 103.0)
    strategies = await look("strategies")
    own = strategies.get_by_label("Side by side").locator("tbody tr").filter(has_text="web_flow")
    async with asyncio.timeout(20):
        while not await own.count() or "6.0000" not in await own.text_content():
            await strategies.reload()
            await settled(strategies, ".panel")


async def last_horizon(page):
    """Return what is said of the longest horizon, 48 bars, of a forecast for which it is over."""
    await expect(page.locator(".panel h2", has_text="Forecast at")).to_be_visible()
    for _ in range(50):
        await page.keyboard.press("ArrowLeft")
    return await page.locator("tr", has_text="12h").text_content()


async def test_a_door_and_a_server_that_are_away_are_said_to_be_and_the_page_comes_back_by_itself(stack, browser):
    page = await browser.new_page()
    await page.goto(f"http://{stack.http}/ml/")
    health = page.locator(".health")
    await expect(health).to_have_text(WELL)
    stack.processes()["dashboard"].kill()
    await expect(health).to_contain_text("Disconnected")
    await expect(health).to_have_text(WELL, timeout=15_000)
    stack.processes()["server"].kill()
    await expect(health).to_contain_text(re.compile("Server away|Server not ready|Feed down"))
    await expect(health).to_have_text(WELL, timeout=20_000)
    await page.close()
