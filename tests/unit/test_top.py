"""`candlecast top` against a server that says what we tell it to."""

import asyncio
import fcntl
import io
import json
import os
import pty
import signal
import sys
import termios

import grpc
import pytest
from rich.console import Console

from candlecast import client
from candlecast.cli import main, top
from candlecast.cli.top_board import Board
from candlecast.client import AsyncClient
from candlecast.v1 import forecasts_pb2 as pb
from candlecast.v1 import forecasts_pb2_grpc, history_pb2_grpc
from candlecast.v1.history_pb2 import HorizonOutcome, ListPredictionsResponse, StoredPrediction
from candlecast.v1.types_pb2 import (
    DIRECTION_LONG,
    DIRECTION_NEUTRAL,
    STRENGTH_NORMAL,
    SYMBOL_STATE_READY,
    SYMBOL_STATE_WARMING,
    Forecast,
    Horizon,
    StageTimes,
    SymbolStatus,
)
from tests.recorders import until

CLOSE_MS, BAR_MS = 1_700_000_100_000, 900_000


def forecast(symbol, bars=0, *, direction=DIRECTION_NEUTRAL, **more):
    return Forecast(
        symbol=symbol, interval_ms=BAR_MS, close_time_ms=CLOSE_MS + bars * BAR_MS, direction=direction,
        strength=STRENGTH_NORMAL, confidence=0.625, quality=0.5, state=SYMBOL_STATE_READY,
        horizons=[Horizon(expected_return=value) for value in (0.001, -0.002, float("nan"), 0.004)],
        times=StageTimes(decode_us=100, features_us=200, queue_us=300, model_us=2_000, interpret_us=60, spool_us=40),
        **more,
    )  # fmt: skip


def stored(given, hits=(), **more):
    came = [HorizonOutcome(bars=1, actual_return=0.01, hit=hit) for hit in hits]
    return StoredPrediction(
        forecast=given, outcomes=[*came, *(HorizonOutcome(bars=1) for _ in range(4 - len(came)))], **more
    )


class Server(forecasts_pb2_grpc.ForecastsServicer, history_pb2_grpc.HistoryServicer):
    def __init__(self):
        self.stored, self.live, self.asked = [], asyncio.Queue(), []

    async def ListPredictions(self, request, context):
        self.asked.append(request.symbol)
        return ListPredictionsResponse(
            predictions=[one for one in self.stored if request.symbol in ("", one.forecast.symbol)]
        )

    async def Subscribe(self, request, context):
        while True:
            yield pb.SubscribeResponse(forecasts=[await self.live.get()])

    async def GetSymbol(self, request, context):
        status = SymbolStatus(state=SYMBOL_STATE_WARMING, have=7, need=300)
        return pb.GetSymbolResponse(symbol=request.symbol, interval_ms=BAR_MS, status=status)


@pytest.fixture
async def server():
    server, ours = grpc.aio.server(), Server()
    forecasts_pb2_grpc.add_ForecastsServicer_to_server(ours, server)
    history_pb2_grpc.add_HistoryServicer_to_server(ours, server)
    ours.address = f"127.0.0.1:{server.add_insecure_port('127.0.0.1:0')}"
    await server.start()
    yield ours
    await server.stop(None)


async def command(server, capsys, *flags):
    code = await asyncio.to_thread(main, ["top", "--server", server.address, *flags])
    assert code == 0
    return capsys.readouterr().out


async def test_without_a_terminal_it_prints_once_signals_first_and_what_came_of_them(server, capsys):
    server.stored = [
        stored(forecast("AAAUSDT", 1)),
        stored(forecast("BBBUSDT", 1, direction=DIRECTION_LONG, gate_approved=True, gate_probability=0.7)),
        stored(forecast("AAAUSDT", 0), hits=[True, False]),
        stored(forecast("BBBUSDT", 0), exit_reason="TAKE", exit_return=0.0125),
    ]
    title, head, first, second = (await command(server, capsys)).splitlines()
    assert "2 series  LONG 1  SHORT 0  NEUTRAL 1" in title
    assert [" ".join(head.split()[i : i + 1]) for i in (0, 3)] == ["symbol", "state"]
    assert first.split() == ["BBBUSDT", "2023-11-14", "22:30", "READY", "LONG", "0.625", "+0.100%", "-0.200%", "–",
        "+0.400%", "approves", "0.70", "2.70", "22:15:", "TAKE", "+1.250%"]  # fmt: skip
    assert second.split()[0] == "AAAUSDT" and second.rstrip().endswith("22:15: 1 of 2 hit")

    told = json.loads(await command(server, capsys, "--json", "--symbols", "AAAUSDT,NEWUSDT"))
    assert [one["symbol"] for one in told] == ["AAAUSDT", "NEWUSDT"]
    assert told[0]["expected_returns"]["4h"] is None and told[0]["latency_us"] == 2_700
    assert told[0]["outcome"] == {
        "close_time_ms": CLOSE_MS, "horizons_known": 2, "hits": 1, "exit_reason": None, "exit_return": None,
    }  # fmt: skip
    assert (told[1]["state"], told[1]["have"], told[1]["need"]) == ("WARMING", 7, 300)
    assert server.asked[-2:] == ["AAAUSDT", "NEWUSDT"]


async def test_live_it_shows_what_is_made_and_then_what_came_of_it(server, monkeypatch):
    monkeypatch.setattr(top, "POLL_S", 0.05)
    monkeypatch.setattr(top, "DRAW_S", 0.05)
    screen = io.StringIO()
    console = Console(file=screen, force_terminal=True, width=180, height=20, color_system=None)

    async def shows(text):
        await until(lambda: text in screen.getvalue())

    async with AsyncClient(server.address) as connection:
        board = Board()
        showing = asyncio.create_task(top.watch(connection, board, (), console, "here"))
        await shows("0 series")
        server.live.put_nowait(forecast("CCCUSDT", 3, direction=DIRECTION_LONG))
        await shows("CCCUSDT")
        await shows("not yet known")
        server.stored = [
            stored(forecast("CCCUSDT", 3, direction=DIRECTION_LONG), exit_reason="STOP", exit_return=-0.01)
        ]
        await shows("STOP -1.000%")
        server.live.put_nowait(forecast("CCCUSDT", 2))  # late: the newer one stays
        server.live.put_nowait(forecast("DDDUSDT", 2))
        await shows("DDDUSDT")
        assert {one["symbol"]: one["close_time_ms"] for one in board.as_json()} == {
            "CCCUSDT": CLOSE_MS + 3 * BAR_MS, "DDDUSDT": CLOSE_MS + 2 * BAR_MS,
        }  # fmt: skip
        showing.cancel()
        with pytest.raises(asyncio.CancelledError):
            await showing


async def test_ctrl_c_ends_it_on_a_terminal_that_takes_nothing_more(server):
    server.stored = [stored(forecast("AAAUSDT"))]
    terminal, side = pty.openpty()
    # One picture of this size is more than a terminal holds that nobody reads.
    environment = {**os.environ, "COLUMNS": "200", "LINES": "100", "TERM": "xterm"}
    entry = "import sys; from candlecast.cli import main; sys.exit(main())"
    command = [sys.executable, "-c", entry, "top", "--server", server.address, "--symbols", "AAAUSDT,NEWUSDT"]
    showing = await asyncio.create_subprocess_exec(*command, stdin=side, stdout=side, stderr=side, env=environment)
    try:

        def held():
            return int.from_bytes(fcntl.ioctl(terminal, termios.FIONREAD, b"\0" * 4), sys.byteorder)

        await until(lambda: held() > 2_000 or showing.returncode is not None)
        await asyncio.sleep(0.2)  # into the write that stands still
        showing.send_signal(signal.SIGINT)
        assert await asyncio.wait_for(showing.wait(), 8) == 0
    finally:
        if showing.returncode is None:
            showing.kill()
            await showing.wait()
        os.close(terminal)
        os.close(side)


def test_a_server_that_is_away_is_said_with_what_to_do(capsys, monkeypatch):
    monkeypatch.setattr(client, "_OPTIONS", [])  # without its patience
    assert main(["top", "--server", "127.0.0.1:1", "--once"]) == 1
    assert "`candlecast up` starts a server" in capsys.readouterr().err


def test_what_comes_late_does_not_take_the_place_of_what_is_newer():
    board = Board()
    for bars in (3, 2, 1):
        board.heard(forecast("AAAUSDT", bars))
        board.stored(stored(forecast("AAAUSDT", bars - 1), hits=[True] * bars))
    (row,) = board.as_json()
    assert row["close_time_ms"] == CLOSE_MS + 3 * BAR_MS
    assert (row["outcome"]["close_time_ms"], row["outcome"]["hits"]) == (CLOSE_MS + 2 * BAR_MS, 3)
