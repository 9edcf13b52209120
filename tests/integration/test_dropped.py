"""Bundles dropped beside a serving stack: a good one is heard, twelve bad ones are set aside, no caller notices."""

from __future__ import annotations

import asyncio
import json
import re
import shutil
from contextlib import AsyncExitStack
from pathlib import Path

import numpy as np
import pytest

from candlecast import outputs as layout
from candlecast.cli.model_server import model_server
from candlecast.client import AsyncClient, messages
from candlecast.features import NAMES, WINDOW, Features
from candlecast.lifecycle import poll
from candlecast.server.app import open_server
from candlecast.settings import CHECKOUT, load
from candlecast.triton.embedded import EmbeddedTriton
from candlecast.triton.repository import write_config
from candlecast.values import Candles
from tests import bad_models
from tests.market_simulator import candles

NEED = Features(symbols_max=1, conflicts_max=1).need
SYMBOLS = ("BTCUSDT", "ETHUSDT", "SOLUSDT", "XRPUSDT")
TOKEN = "of this test"
CLOSES = 2_000
GOOD, WRITTEN = 20, 30
"""Versions: one that is dropped, and one that another tool writes into the repository."""


SAYS = {
    "wrong rank": r"expected one input 'features', tensor\(float\) .'batch', 96, 240.; it is tensor\(float\) .'batch',",
    "wrong dtype": r"it is tensor\(float16\)",
    "wrong name": "it has {'windows'",
    "wrong count": r"expected one output 'outputs', .* it is tensor\(float\) \['batch', 21\]",
    "wrong feature hash": "0x00000000deadbeef",
    "truncated file": "does not load it: .*INVALID_PROTOBUF",
    "wrong sha256": "lacks the model.onnx that its manifest names",
    "NaN outputs": "80 of 80 golden outputs are not finite",
    "slow": "ms a window, 4 are allowed",
    "exits on load": "the trial of model.onnx ended with -11: ",
    "hangs on load": "model.onnx was not loaded and tried within 20 s",
    "huge": "has 10........ bytes, model_bytes_max is 268435456",
}


@pytest.fixture
def repository(tmp_path):
    bad_models.good(tmp_path / "models" / "patchtst" / "1")
    write_config(tmp_path / "models" / "patchtst", "patchtst", WINDOW, len(NAMES), layout.COUNT)
    return tmp_path / "models"


@pytest.fixture
async def triton(repository, tmp_path):
    async with EmbeddedTriton(
        env_dir=CHECKOUT / ".venv-triton",
        repository=repository,
        models=["patchtst"],
        work_dir=tmp_path / "triton",
    ) as triton:
        yield triton


def drop_all(incoming: Path, made: Path) -> None:
    """Copy the twelve, each of another version, and a good one."""
    for number, (write, _) in enumerate(bad_models.BAD.values(), 2):
        write(made / str(number))
        manifest_path = made / str(number) / "manifest.json"
        manifest_path.write_text(json.dumps(json.loads(manifest_path.read_text()) | {"version": number}))
        shutil.copytree(made / str(number), incoming / f"bad {number}")
    bad_models.good(made / str(GOOD), version=GOOD)
    shutil.copytree(made / str(GOOD), incoming / "good")


def reasons(incoming: Path) -> dict[str, str]:
    """Return why each was refused, by its name."""
    files = (incoming / "refused").glob("*.txt")
    return {file.stem.rpartition("-")[0]: file.read_text() for file in files}


async def test_twelve_bad_models_hurt_nobody_and_a_good_one_is_heard(repository, triton, pool, dsn, tmp_path, capsys):
    settings = load(
        model_repository=repository,
        triton=triton.address,
        triton_key=triton.memory_key,
        triton_control_key=triton.control_header[1],
        database_url=dsn,
        state_dir=tmp_path / "state",
        grpc="127.0.0.1:0",
        admin_token=TOKEN,
        incoming_poll_ms=100,
        incoming_patience_ms=1_000,
        model_bytes_max=256 * 1024**2,
        model_trial_timeout_ms=20_000,
        model_window_ms_max=4,
    )
    incoming = settings.state_dir / "incoming"
    market = [candles(symbol, NEED + CLOSES, seed=seed) for seed, symbol in enumerate(SYMBOLS)]
    given, failed, seen = iter(range(NEED - 1, NEED + CLOSES)), [], []

    def close(at: int) -> list:
        return messages(Candles.joined([one.take(np.array([at])) for one in market]))

    async with (
        open_server(settings) as address,
        AsyncClient(address) as client,
        AsyncExitStack() as stack,
    ):
        server = stack.enter_context(model_server(settings.model_copy(update={"grpc": address})))

        async def states() -> dict[int, str]:
            return {one.version: one.state for one in await asyncio.to_thread(server.versions)}

        async def is_shadow(version: int) -> bool:
            return (await states()).get(version) == "SHADOW"

        async def ask_all_the_time() -> None:
            for at in given:
                try:
                    seen.extend(result.forecast for result in await client.predict(close(at)))
                except Exception as error:
                    failed.append(error)
                await asyncio.sleep(0.05)

        for one in market:
            await client.backfill(messages(one.take(np.arange(NEED - 1))))
        asking = asyncio.create_task(ask_all_the_time())
        await asyncio.to_thread(drop_all, incoming, tmp_path / "made")

        async def all_refused() -> bool:
            return len(await asyncio.to_thread(reasons, incoming)) == len(bad_models.BAD)

        await poll("twelve refusals", all_refused, timeout_ms=120_000, interval_ms=100)
        await poll("the good one as SHADOW", lambda: is_shadow(GOOD), timeout_ms=20_000)
        bad_models.good(repository / "patchtst" / str(WRITTEN), version=WRITTEN)
        await poll("the written one as SHADOW", lambda: is_shadow(WRITTEN), timeout_ms=20_000)
        before = len(seen)

        async def spoke() -> bool:
            return len(seen) > before + 20

        await poll("more forecasts", spoke, timeout_ms=20_000)
        asking.cancel()
        await asyncio.gather(asking, return_exceptions=True)
        reached = await states()
        await asyncio.to_thread(server.promote, WRITTEN, "a test")
        await asyncio.to_thread(server.unload, GOOD, "a test")
        assert (await states())[WRITTEN] == "CHAMPION" and (await states())[GOOD] == "RETIRED"

    assert not failed
    assert {forecast.model.version for forecast in seen} == {1}
    passed = {version: state for version, state in reached.items() if state != "REFUSED"}
    assert passed == {1: "CHAMPION", GOOD: "WARM", WRITTEN: "SHADOW"}
    found = reasons(incoming)
    for number, (what, (_, refusal)) in enumerate(bad_models.BAD.items(), 2):
        why = found[f"bad {number}"]
        assert re.search(SAYS[what], why), why
        # Whoever drops what its own manifest contradicts may still be writing it: that is told when patience ends.
        assert ("DAMAGED" if what == "wrong sha256" else refusal) in why
    assert sorted(path.name for path in incoming.iterdir()) == ["refused"]
    rows = await pool.fetch("SELECT version, shadow, count(*) FROM ml_predictions GROUP BY 1, 2 ORDER BY 1")
    assert [(row["version"], row["shadow"]) for row in rows] == [(1, False), (GOOD, True), (WRITTEN, True)]
    assert rows[0]["count"] == len(seen)
