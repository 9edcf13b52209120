"""What can be wrong with a bench where no server runs: its schedule, its candles, its arithmetic, its words."""

import asyncio
import json
import os
import socket
import subprocess
import sys
import time
from types import SimpleNamespace

import numpy as np
import pytest

from candlecast.bench import load, machine
from candlecast.bench.figures import LATENCY, NAMES, RATE, Figure, as_json, as_rows, in_order
from candlecast.bench.load import burst, single_file, teach
from candlecast.bench.market import START_MS, Market, names, simulated
from candlecast.bench.pace import Schedule, percentiles
from candlecast.cli import bench as command
from candlecast.cli import main
from candlecast.errors import CandlecastError
from candlecast.features import ACCEPTED, Features
from candlecast.v1.types_pb2 import SymbolStatus
from candlecast.values import DEFAULT_INTERVAL_MS, Candles

HISTORIES = simulated(histories=3, bars=700)


async def test_a_schedule_fires_each_moment_once_and_never_early():
    schedule, fired = Schedule(200, 40), []
    await schedule.run(lambda i: fired.append((i, schedule.since_due_s(i))))
    assert [i for i, _ in fired] == list(range(40))
    assert min(late for _, late in fired) >= 0
    assert time.perf_counter() - schedule.started_s >= 0.05 + 39 / 200
    assert 0 <= np.min(schedule.late_s) < 0.02  # lateness is of each moment, it does not add up


async def test_a_moment_that_was_held_up_is_late_and_those_after_it_are_not_shifted():
    schedule, fired = Schedule(100, 30), []

    def fire(i):
        fired.append(i)
        if i == 5:
            time.sleep(0.1)  # the loop itself stands still

    await schedule.run(fire)
    assert fired == list(range(30))
    assert schedule.late_s[6] >= 0.085  # due 10 ms into the pause of 100
    assert schedule.late_s[7] >= 0.075
    ends = time.perf_counter() - schedule.started_s
    assert ends < 0.05 + 0.29 + 0.09, "the pause was added to the end"


async def test_what_fire_raises_ends_the_run():
    def fire(i):
        raise ValueError("no")

    with pytest.raises(ValueError, match="no"):
        await asyncio.wait_for(Schedule(100, 3).run(fire), 5)


class StillLine:
    """A line whose first answer takes its time, as of a server that stands still; candles queue meanwhile."""

    def __init__(self, still_s):
        self._still_s = still_s
        self._given = asyncio.Queue()
        self._answered = False

    def put(self, candles):
        self._given.put_nowait(candles)
        return 1

    async def take(self):
        candles = await self._given.get()
        if not self._answered:
            self._answered = True
            await asyncio.sleep(self._still_s)
        return len(candles)


async def test_a_server_that_stands_still_makes_every_candle_late_that_was_due_meanwhile():
    seen = await single_file(StillLine(0.3), Market(["BENCH.X"], HISTORIES), 0, 100, 40)
    waited = np.array(seen.latencies_ms)
    assert len(waited) == 40
    assert np.count_nonzero(waited > 50) >= 24  # a client that waits for each answer would see a single one
    assert waited[0] >= 295


def test_percentiles_are_samples():
    samples = [float(i) for i in range(100, 0, -1)]
    assert percentiles(samples, 50, 99, 100) == [50, 99, 100]
    assert percentiles([7.0], 50, 99) == [7, 7]
    assert percentiles([1.0] * 98 + [50.0, 90.0], 98, 99) == [1, 50]


def test_the_ratio_is_ours_over_the_baseline_whatever_is_better():
    assert Figure("closed_32", "", RATE, 500, 1000).ratio == 0.5
    assert Figure("latency_50_p50", "", LATENCY, 3, 2).ratio == 1.5
    assert Figure("rss_10000_mb", "", "MB", 3, None).ratio is None
    assert Figure("burst_1000", "", RATE, None, 5).ratio is None


def test_json_is_a_list_of_five_keys_and_unknown_is_null():
    figures = [Figure("closed_32", "callers", RATE, 500.123456, 1000, "a note"), Figure("rss_10000_mb", "", "MB")]
    assert json.loads(as_json(figures)) == [
        {"name": "closed_32", "ours": 500.12, "baseline": 1000.0, "ratio": 0.50012, "unit": "forecasts/s"},
        {"name": "rss_10000_mb", "ours": None, "baseline": None, "ratio": None, "unit": "MB"},
    ]
    with pytest.raises(ValueError, match="JSON"):
        as_json([Figure("closed_32", "", RATE, float("nan"))])


def test_the_table_says_which_way_is_better_and_what_is_unknown():
    rows = as_rows([Figure("closed_32", "callers", RATE, 1234.5, 1000), Figure("latency_50_p50", "one", LATENCY, 1.5)])
    assert rows[0] == ("closed_32", "callers", "1,234", "1,000", "1.23", "forecasts/s ↑")
    assert rows[1] == ("latency_50_p50", "one", "1.50", "–", "–", "ms ↓")


def test_figures_come_in_the_order_of_their_names():
    figures = [Figure(name, "", RATE) for name in ("open_70_p99", *reversed(NAMES))]
    assert [figure.name for figure in in_order(figures)] == [*NAMES, "open_70_p99"]


@pytest.mark.parametrize("histories", [HISTORIES, simulated(2, 64)], ids=["longer than needed", "walked in a circle"])
def test_the_core_takes_all_candles_and_every_symbol_becomes_ready(histories):
    market = Market(names(7), histories)
    features = Features(symbols_max=7, conflicts_max=1)
    index = np.arange(7)
    for chunk in market.history(index, features.need - 1):
        assert np.all(features.push(chunk, windows=False).pushed.verdict == ACCEPTED)
    moved = features.push(market.next(index))
    assert np.all(moved.pushed.verdict == ACCEPTED)
    assert len(moved.windows) == 7
    apart = np.abs(moved.windows[0] - moved.windows[len(histories)])
    assert np.median(apart) > 1e-3, "two symbols of one history have the same windows"


def test_a_symbol_goes_on_where_it_was_and_the_others_stay():
    market = Market(names(3), HISTORIES)
    market.next(np.array([1]))
    candles = market.next(np.array([1, 2]))
    assert candles.names == ["BENCH.00001", "BENCH.00002"]
    assert candles.open_time_ms.tolist() == [START_MS + DEFAULT_INTERVAL_MS, START_MS]
    assert market.bar.tolist() == [0, 2, 1]
    market.bar[0] = 10**6
    with pytest.raises(CandlecastError, match=r"BENCH\.00000 have reached the present"):
        market.next(np.array([0]))


class KnowingClient:
    """Answers as a server that knows some symbols, and keeps what it is taught."""

    def __init__(self, known):
        self._known = known  # {symbol: (have, newest bar)}
        self.taught = []

    async def get_symbol(self, symbol):
        have, newest = self._known.get(symbol, (0, None))
        status = SymbolStatus(have=have, need=5)
        newest_ms = None if newest is None else START_MS + newest * DEFAULT_INTERVAL_MS
        return SimpleNamespace(
            status=status, newest_open_time_ms=newest_ms or 0, HasField=lambda _: newest_ms is not None
        )

    async def backfill(self, candles):
        bars = (candles.open_time_ms - START_MS) // DEFAULT_INTERVAL_MS
        some = list(zip(candles.names, bars.tolist(), strict=True))
        self.taught += some
        return SimpleNamespace(refused_count=0, accepted=len(some))


async def test_only_what_a_server_lacks_is_sent_from_where_it_stands():
    market = Market(names(3), HISTORIES)
    client = KnowingClient({"BENCH.00000": (9, 20), "BENCH.00001": (3, 2)})
    assert await teach(client, market, np.arange(3)) == 7
    assert [bar for symbol, bar in client.taught if symbol == "BENCH.00001"] == [3, 4]
    assert [bar for symbol, bar in client.taught if symbol == "BENCH.00002"] == [0, 1, 2, 3, 4]
    assert market.bar.tolist() == [21, 5, 5]


class HalfClient:
    """Answers the first candle of each batch with a forecast, the others without."""

    async def stream(self, batches):
        async for _ in batches:
            yield SimpleNamespace(forecasts=1)


async def test_a_burst_that_was_not_forecast_whole_is_no_figure():
    market = Market(names(4), HISTORIES)
    async with load.line(HalfClient()) as stream:
        assert await burst(stream, market, np.array([0])) > 0
        with pytest.raises(CandlecastError, match="4 candles were answered with 1 forecasts"):
            await burst(stream, market, np.arange(4))


async def test_a_long_burst_is_cut_into_messages_in_order():
    sizes, count = [], load.MESSAGE_CANDLES_MAX + 5

    class Client:
        async def stream(self, batches):
            async for batch in batches:
                sizes.append((len(batch), batch.names[0]))
                yield SimpleNamespace(forecasts=len(batch))

    async with load.line(Client()) as stream:
        await burst(stream, Market(names(count), HISTORIES), np.arange(count))
    assert sizes == [(load.MESSAGE_CANDLES_MAX, "BENCH.00000"), (5, f"BENCH.{load.MESSAGE_CANDLES_MAX:05}")]


def test_a_listener_is_found_by_its_port():
    with socket.socket() as door:
        door.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{door.getsockname()[1]}"
        assert machine.listener(address) is None  # it does not listen yet
        door.listen()
        assert machine.listener(address) == os.getpid()
        with socket.create_connection(door.getsockname()) as caller:
            assert machine.listener(f"127.0.0.1:{caller.getsockname()[1]}") is None
    assert machine.listener(address) is None
    assert machine.listener("192.0.2.1:80") is None


def test_processor_time_and_memory_are_those_of_the_process():
    busy = subprocess.Popen(
        [sys.executable, "-c", "x = bytearray(64 << 20)\nwhile sum(__import__('os').times()[:2]) < .3: pass\ninput()"],
        stdin=subprocess.PIPE,
    )
    try:
        until = time.monotonic() + 20
        while machine.cpu_s([busy.pid]) < 0.3 and time.monotonic() < until:
            time.sleep(0.01)
        assert 0.3 <= machine.cpu_s([busy.pid]) < 5
        assert machine.resident_mb(busy.pid) > 64
        assert busy.pid in machine.family(os.getpid())
        assert machine.cpu_s([busy.pid, 2**22 + 1]) >= 0.3  # one that is gone is left out
    finally:
        busy.kill()
        busy.communicate()


@pytest.mark.parametrize("words", [["candlecast", "up"], ["candlecast", "serve"]])
def test_the_household_is_what_up_runs(words):
    child = (
        "import subprocess as s, sys; p = s.Popen([sys.executable, '-c', 'input()']); print(p.pid, flush=1); p.wait()"
    )
    parent = subprocess.Popen(
        [sys.executable, "-c", child, *words], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    try:
        server = int(parent.stdout.readline())
        assert machine.household(server) == ({parent.pid, server} if "up" in words else {server})
    finally:
        parent.communicate("\n")


def test_a_terminal_is_asked_and_no_writes_nothing(monkeypatch, capsys):
    monkeypatch.setattr(command, "_bench", lambda _: pytest.fail("it went on"))
    monkeypatch.setattr(sys, "stdin", SimpleNamespace(isatty=lambda: True, readline=lambda: "n\n"))
    assert main(["bench"]) == 1
    said = capsys.readouterr()
    assert said.out == ""
    assert "BENCH.*" in said.err


def test_columns_of_candles_are_what_the_client_takes():
    candles = Market(names(2), HISTORIES).next(np.arange(2))
    assert isinstance(candles, Candles)
    assert candles.values.shape == (2, 8)
    assert candles.values.flags.c_contiguous
