"""Decisions of the strategies by hand, and what their positions on paper look like on the record."""

import math
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest

from candlecast.client import SentimentScore
from candlecast.strategies import ensemble_ml, lstm_ml, sentiment_ml
from candlecast.strategies.columns import Held, Seen
from candlecast.strategies.scores import read
from candlecast.strategies.trader import Trader
from candlecast.v1.types_pb2 import DIRECTION_LONG, DIRECTION_NEUTRAL, DIRECTION_SHORT, Forecast, Horizon

INTERVAL_MS = 900_000
START_MS = 1_704_067_200_000
HOUR_MS = 3_600_000


def seen(n=1, **columns):
    values = {
        "side": 1.0, "size": 1.5, "confidence": 0.7, "edge": 0.3, "agreement": 1.0, "expected": 0.01,
        "stop_loss": 0.01, "take_profit": 0.02, "degraded": False, "sentiment": math.nan, "sentiment_age_ms": math.nan,
    } | columns  # fmt: skip
    return Seen(**{name: np.broadcast_to(np.asarray(value), n).copy() for name, value in values.items()})


def held(side=0.0, bars=0.0, gain=0.0, n=1):
    none = math.nan if side == 0 else 1.0
    return Held(*(np.full(n, value) for value in (side, bars, gain, 0.01 * none, 0.02 * none)))


@pytest.mark.parametrize("decide", [ensemble_ml.decide, lstm_ml.decide])
@pytest.mark.parametrize(
    ("position", "wanted"),
    [
        (held(1, 3, 0.005), 1),  # as it was: no second stake
        (held(1, 3, -0.01), 0),  # its stop
        (held(1, 3, 0.02), 0),  # its take
        (held(1, 16, 0.0), 0),  # its time
        (held(-1, 3, 0.0), 1),  # the other side
    ],
)
def test_a_long_position_is_kept_left_at_its_limits_and_turned(decide, position, wanted):
    assert np.sign(decide(seen(), position))[0] == wanted
    if position.side[0] == wanted:
        assert decide(seen(), position)[0] == 1


def test_the_ensemble_needs_agreement_and_nothing_missing_and_takes_the_suggested_size():
    columns = seen(5, agreement=[1.0, 0.85, 0.75, 1.0, 1.0], degraded=[0, 0, 0, 1, 0], side=[1, -1, 1, 1, 0])
    columns = replace(columns, degraded=columns.degraded.astype(bool))
    assert ensemble_ml.decide(columns, held(n=5)).tolist() == [1.5, -1.5, 0, 0, 0]
    # What is NEUTRAL closes nothing.
    assert ensemble_ml.decide(seen(side=0.0), held(-1, 3)).tolist() == [-1]


def test_the_lstm_goes_in_at_a_clear_edge_and_out_when_it_is_gone():
    edges = seen(4, edge=[0.15, 0.14, -0.2, math.nan], expected=[0.002, 0.002, -0.002, 0.002])
    assert lstm_ml.decide(edges, held(n=4)).tolist() == [1, 0, -1, 0]
    assert lstm_ml.decide(seen(edge=0.2, expected=0.001), held()).tolist() == [0]  # costs more than it brings
    assert lstm_ml.decide(seen(edge=0.01), held(1, 2)).tolist() == [1]
    assert lstm_ml.decide(seen(edge=-0.01), held(1, 2)).tolist() == [0]


def test_sentiment_opens_what_it_backs_and_closes_what_it_speaks_against():
    scores = seen(5, side=[1, 1, -1, 1, 1], sentiment=[0.2, -0.5, -0.9, math.nan, 0.9],
                  sentiment_age_ms=[0, 0, 24 * HOUR_MS, math.nan, 24 * HOUR_MS + 1])  # fmt: skip
    assert sentiment_ml.decide(scores, held(n=5)).tolist() == [1.5, 0, -1.5, 0, 0]
    against = seen(side=0.0, sentiment=-0.3, sentiment_age_ms=0.0)
    assert sentiment_ml.decide(against, held(1, 2)).tolist() == [0]
    assert sentiment_ml.decide(seen(side=0.0), held(1, 2)).tolist() == [1]  # nothing was said


class Log:
    """Keeps what it is told, or has no room."""

    def __init__(self, room=True):
        self.room, self.opened, self.closed = room, [], []

    def log_signal(self, strategy, symbol, side, price, size, confidence, key, **more):
        self.opened.append(SimpleNamespace(symbol=symbol, side=side, price=price, size=size, key=key, **more))
        return key if self.room else None

    def close_signal(self, key, price, *, fees, exit_time_ms):
        self.closed.append(SimpleNamespace(key=key, price=price, fees=fees, exit_time_ms=exit_time_ms))
        return self.room


def forecast(bar, close, side=DIRECTION_LONG, **more):
    return Forecast(
        symbol="BTCUSDT", interval_ms=INTERVAL_MS, close_time_ms=START_MS + bar * INTERVAL_MS, close=close,
        direction=side, agreement=1.0, edge=0.3, confidence=0.7, size_multiplier=1.5, stop_loss=0.01, take_profit=0.02,
        horizons=[Horizon(expected_return=0.01)] * 4, **more,
    )  # fmt: skip


def test_positions_are_entered_and_left_at_the_close_with_their_costs():
    log = Log()
    trader = Trader("mine", ensemble_ml.decide, log, stake=1_000, fees=0.001, slippage=0.002)
    assert trader.act(forecast(0, 100.0)) == 1
    (opened,) = log.opened
    assert (opened.side, opened.price, opened.entry_time_ms) == ("long", pytest.approx(100.2), START_MS)
    assert opened.size == pytest.approx(1_500 / 100.2)
    assert opened.fees == pytest.approx(1.5)
    assert trader.act(forecast(0, 50.0)) == 1  # the same forecast again
    assert trader.act(forecast(1, 101.0)) == 1
    assert not log.closed
    assert trader.act(forecast(2, 99.0, DIRECTION_NEUTRAL)) == 0  # 1.2 % below the entry
    (closed,) = log.closed
    assert (closed.key, closed.price) == (opened.key, pytest.approx(99 * 0.998))
    assert trader.act(forecast(3, 99.0, DIRECTION_SHORT)) == -1
    assert trader.act(forecast(4, 99.0)) == 1  # turned: one left, one opened
    assert [one.side for one in log.opened] == ["long", "short", "long"]
    assert len(log.closed) == 2


def test_what_cannot_be_put_on_record_is_not_done():
    log = Log(room=False)
    trader = Trader("mine", ensemble_ml.decide, log)
    trader.act(forecast(0, 100.0))
    assert trader.positions == {}
    log.room = True
    trader.act(forecast(1, 100.0))
    log.room = False
    trader.act(forecast(2, 90.0, DIRECTION_NEUTRAL))
    assert len(trader.positions) == 1  # tried again at the next close
    log.room = True
    trader.act(forecast(3, 90.0, DIRECTION_NEUTRAL))
    assert trader.positions == {}


def test_a_score_of_the_future_is_not_used_whoever_tells_it():
    score = SentimentScore(symbol="BTCUSDT", ts_ms=START_MS + 1, score=1.0, source="news")
    for bar, side in ((0, 0), (1, 1)):
        assert Trader("mine", sentiment_ml.decide, Log()).act(forecast(bar, 100.0), score) == side


def test_a_file_of_scores_is_read_and_a_bad_line_named(tmp_path):
    path = tmp_path / "scores.csv"
    path.write_text("symbol,ts_ms,score,source\nBTCUSDT,5,-0.5,news\n")
    (one,) = read(path)
    assert (one.symbol, one.ts_ms, one.score, one.source) == ("BTCUSDT", 5, -0.5, "news")
    for bad in ("BTCUSDT,x,0,news", "BTCUSDT,5,1.5,news", "BTCUSDT,5"):
        path.write_text(f"symbol,ts_ms,score,source\n{bad}\n")
        with pytest.raises(ValueError, match="BTCUSDT"):
            read(path)
