"""Measures what one new candle of one symbol costs here and in other libraries: one process, alternating rounds.

Every library is used in the cheapest way its Python interface offers: inputs are made beforehand, results are computed
but not collected (here: no windows are asked for). The libraries compute different indicators, so "ns/output" compares
mixes, not formulas. "us for 240" is in proportion, so the ratio for one output is also the ratio for 240. A ratio is
the median over the rounds of the ratio within a round, because the speed of a shared machine changes.
"""

from __future__ import annotations

import argparse
import ast
import gc
import json
import platform
import random
import subprocess
import sys
import time
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import redirect_stdout
from dataclasses import astuple, dataclass, is_dataclass
from importlib import metadata
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from candlecast import __version__, _rust, candle_files

F64 = NDArray[np.float64]
WARM_UP: Final = 1_000  # candles that a library with state has seen before the first round
HISTORY: Final = 240  # candles that a library without state computes again for each new one
SYMBOLS: Final = 1_000
LOCK_STEP: Final = 1_008  # symbols of KunQuant: a multiple of its block
SLOT_S: Final = 0.005  # measured time of one peer in one round; at least one call
COLUMNS: Final = ("open", "high", "low", "close", "volume")


@dataclass(frozen=True, slots=True)
class Peer:
    """One way to use one library. `make` is not measured, `take` is; the next candle is number WARM_UP."""

    package: str
    way: str
    outputs: int
    make: Callable[[int], Sequence[Any]]  # what `take` takes for candle i
    take: Callable[..., object]
    symbols: int = 1  # that get a candle by one `take`


def across(values: F64, i: int, symbols: int) -> F64:
    """Return one candle of each symbol, which differ by being apart in time: [symbols, 8]."""
    return values[(i + 7 * np.arange(symbols)) % len(values)]


def until(values: F64, i: int) -> F64:
    """Return the last candles up to i: [5, HISTORY]."""
    return np.ascontiguousarray(values[np.arange(i + 1 - HISTORY, i + 1) % len(values), :5].T)


def candlecast(values: F64) -> Iterator[Peer]:
    def peer(symbols: int, way: str) -> Peer:
        market, names = _rust.Market(), [f"S{k}" for k in range(symbols)]
        intervals, forming = np.full(symbols, 900_000), np.zeros(symbols, dtype=np.bool_)
        windows = np.empty((0, _rust.WINDOW, len(_rust.catalog())), dtype=np.float32)

        def make(i: int) -> Sequence[Any]:
            return names, intervals, i * intervals, across(values, i, symbols), forming, 2**62, windows

        for i in range(WARM_UP):
            pushed = market.push(*make(i))
        assert all(_rust.STATES[code] == "READY" for code in pushed.state)
        return Peer("candlecast", way, len(_rust.catalog()), make, market.push, symbols)

    yield peer(1, "one symbol a call")
    yield peer(SYMBOLS, f"{SYMBOLS:,} symbols a call")


# The columns that indicators take (x: the library's own kind of candle), then names and parameters; 10|20 makes two.
COMMON: Final = "c: SMA 10|20|50|100, EMA 12|26|50|100, WMA 20, DEMA 20, TEMA 20, RSI 7|14|21, ROC 10|20, TRIX 15"
TALIB: Final = f"""{COMMON}, CMO 14, MOM 10
c: KAMA 10, TRIMA 20, STDDEV 20, LINEARREG 14, LINEARREG_SLOPE 14, PPO 12 26, MACD 12 26 9, BBANDS 20 2. 2.
hlc: ATR 14, NATR 14, ADX 14, PLUS_DI 14, MINUS_DI 14, CCI 20, WILLR 14, STOCH 14 3 0 3 0, ULTOSC 7 14 28
hlcv: MFI 14, AD, ADOSC 3 10; hl: AROON 14, SAR; cv: OBV"""
PANDAS_TA: Final = f"""{COMMON}, CMO 14, MOM 10
c: KAMA 10, TRIMA 20, STDEV 20, LINREG 14, LINREGSLOPE 14, PPO 12 26, MACD 12 26 9, BBANDS 20 2
hlc: ATR 14, NATR 14, ADX 14, CCI 20, WILLR 14, STOCH 14 3, UO 7 14 28
hlcv: MFI 14, AD, ADOSC None 3 10; hl: AROON 14; cv: OBV"""
WICKRA: Final = f"""{COMMON}, CMO 14, MOM 10
c: KAMA 10, TRIMA 20, StdDev 20, LinearRegression 14, LinRegSlope 14, PPO 12 26, MACD 12 26 9, BollingerBands 20
x: ATR 14, NATR 14, ADX 14, CCI 20, WilliamsR 14, Stochastic 14 3, UltimateOscillator 7 14 28, MFI 14, ADL, Aroon 14
x: ChaikinOscillator 3 10, PSAR, OBV"""
TALIPP: Final = f"""{COMMON}, KAMA 10 2 30, HMA 20, StdDev 20, MACD 12 26 9, BB 20 2
x: ATR 14, NATR 14, ADX 14 14, CCI 20, Williams 14, Stoch 14 3, UO 7 14 28, AccuDist, ChaikinOsc 3 10, Aroon 14, OBV
x: DonchianChannels 20, VTX 14"""
NAUTILUS: Final = """c: SimpleMovingAverage 10|20|50|100, ExponentialMovingAverage 12|26|50|100, Bias 20
c: DoubleExponentialMovingAverage 20, HullMovingAverage 20, WilderMovingAverage 14, RelativeStrengthIndex 7|14|21
c: RateOfChange 10|20, ChandeMomentumOscillator 14, MovingAverageConvergenceDivergence 12 26, LinearRegression 14
hlc: AverageTrueRange 14, CommodityChannelIndex 20 .015, Stochastics 14 3, BollingerBands 20 2., KeltnerChannel 20 2.
hlc: KeltnerPosition 20 2.; hl: AroonOscillator 14, DirectionalMovement 14; ocv: OnBalanceVolume 100"""
NAUTILUS_OUTPUTS: Final = """value slope intercept cfo r2 value_k value_d upper middle lower aroon_up aroon_down pos
neg"""


def indicators(spec: str) -> Iterator[tuple[str, str, list[Any]]]:
    """Yield columns, name and parameters of each indicator."""
    for columns, _, calls in (part.strip().partition(": ") for part in spec.replace("\n", ";").split(";")):
        for name, *words in (call.split() for call in calls.split(",")):
            for first in words[0].split("|") if words else [""]:
                yield columns, name, [ast.literal_eval(word) for word in (first, *words[1:]) if word]


def in_a_row(calls: Iterable[tuple[Callable[..., Any], str, list[Any]]]) -> Callable[..., tuple[Any, ...]]:
    """Return a function of a candle's columns that makes every call, without a loop: the cheapest Python there is."""
    functions, texts = {}, []
    for k, (function, columns, parameters) in enumerate(calls):
        functions[f"f{k}"] = function
        texts.append(f"f{k}({', '.join([*columns, *map(repr, parameters)])})")
    row: Callable[..., tuple[Any, ...]] = eval(f"lambda o, h, l, c, v, x=None: ({', '.join(texts)},)", functions)
    return row


def width(results: Iterable[Any]) -> int:
    """Return how many outputs these results hold; an error when one is not there."""
    count = 0
    for result in results:
        assert result is not None
        several = isinstance(result, tuple | list | dict)
        count += result.shape[1] if getattr(result, "ndim", 0) == 2 else len(result) if several else 1
    return count


def recomputing(package: str, values: F64, prepare: Any, take: Any, count: Any = width) -> Peer:
    """Return the peer that computes its outputs of all the newest candles again."""

    def make(i: int) -> Sequence[Any]:
        return list(prepare(until(values, i)))

    return Peer(package, f"recomputes {HISTORY} candles", count(take(*make(WARM_UP))), make, take)


def incremental(
    package: str, values: F64, spec: str, module: Any, update: str = "update", own: Any = tuple, read: Any = None
) -> Peer:
    """Return the peer that updates an object for each indicator. Without `read`, updating returns the outputs."""

    def make(i: int) -> Sequence[Any]:
        candle = tuple(values[i % len(values), :5].tolist())
        return *candle, own(candle)

    past = dict(zip("ohlcv", until(values, -1), strict=True)) if package == "TA-Lib" else {}
    made, calls = [], []
    for columns, name, parameters in indicators(spec):
        made.append(getattr(module, name)(*(past[column] for column in columns if past), *parameters))
        calls.append((getattr(made[-1], update), columns, []))
    take = in_a_row(calls)
    for i in range(WARM_UP):
        results = take(*make(i))
    return Peer(package, "incremental", width(map(read, made) if read else results), make, take)


def talib(values: F64) -> Iterator[Peer]:
    from talib import _ta_lib, stream  # _ta_lib: without the wrapper that looks for pandas and polars

    yield incremental("TA-Lib", values, TALIB, stream)
    calls = ((getattr(_ta_lib, name), columns, parameters) for columns, name, parameters in indicators(TALIB))
    yield recomputing("TA-Lib", values, list, in_a_row(calls))


def polars_talib(values: F64) -> Iterator[Peer]:
    import polars as pl
    import polars_talib as plta

    calls = ((getattr(plta, name.lower()), columns, parameters) for columns, name, parameters in indicators(TALIB))
    every = [each.alias(str(k)) for k, each in enumerate(in_a_row(calls)(*map(pl.col, COLUMNS)))]

    def prepare(history: F64) -> Sequence[Any]:
        return [pl.DataFrame(dict(zip(COLUMNS, history, strict=True)))]

    yield recomputing("polars-talib", values, prepare, lambda f: f.select(every), lambda f: width(f.row(-1)))


def pandas_ta(values: F64) -> Iterator[Peer]:
    import pandas as pd
    import pandas_ta_classic as pta

    calls = ((getattr(pta, name.lower()), columns, parameters) for columns, name, parameters in indicators(PANDAS_TA))
    yield recomputing("pandas-ta-classic", values, lambda history: map(pd.Series, history), in_a_row(calls))


def ta(values: F64) -> Iterator[Peer]:
    import pandas as pd
    from ta import add_all_ta_features

    def prepare(history: F64) -> Sequence[Any]:
        return [pd.DataFrame(dict(zip(COLUMNS, history, strict=True))), *COLUMNS]

    def take(*arguments: Any) -> pd.DataFrame:
        return add_all_ta_features(*arguments, vectorized=True)  # without its slow ones

    yield recomputing("ta", values, prepare, take, lambda frame: frame.shape[1] - len(COLUMNS))


def wickra(values: F64) -> Iterator[Peer]:
    import wickra

    yield incremental("wickra", values, WICKRA, wickra, own=lambda candle: (*candle, 0))


def talipp(values: F64) -> Iterator[Peer]:
    from talipp import indicators, ohlcv

    def read(each: Any) -> Any:
        return astuple(each[-1]) if is_dataclass(each[-1]) else each[-1]

    yield incremental("talipp", values, TALIPP, indicators, "add", lambda candle: ohlcv.OHLCV(*candle), read)


def nautilus_trader(values: F64) -> Iterator[Peer]:
    from nautilus_trader.core import nautilus_pyo3  # nautilus_trader.indicators is far slower in most cases

    def read(each: Any) -> Any:
        return [getattr(each, field) for field in NAUTILUS_OUTPUTS.split() if hasattr(each, field)]

    yield incremental("nautilus_trader", values, NAUTILUS, nautilus_pyo3, "update_raw", read=read)


def kunquant(values: F64) -> Iterator[Peer]:
    wide = 2 if "avx512dq" in Path("/proc/cpuinfo").read_text() else 1
    yield kunquant_stream(values, LOCK_STEP, "float", 8 * wide)
    yield kunquant_stream(values, LOCK_STEP, "double", 4 * wide)
    yield kunquant_stream(values, 1, "float", 8 * wide)


def kunquant_stream(values: F64, symbols: int, number: str, block: int) -> Peer:
    from KunQuant import Driver, Op, Stage, ops
    from KunQuant.jit import cfake
    from KunQuant.predefined.talib import ATR
    from KunQuant.runner import KunRunner

    ema, total, back, outputs = ops.ExpMovingAvg, ops.FastWindowedSum, ops.BackRef, []
    graph = Op.Builder()
    with graph:
        h, l, c, v = (Op.Input(name) for name in COLUMNS[1:])  # noqa: E741
        step = c - back(c, 1)
        for n in (5, 7, 10, 14, 20, 30, 50, 100):
            e, mean, deviation, atr = ema(c, n), total(c, n) / n, ops.WindowedStddev(c, n), ATR(h, l, c, n)
            ee, top, bottom = ema(e, n), ops.WindowedMax(h, n), ops.WindowedMin(l, n)
            rsi = ema(ops.Max(step, step * 0), 2 * n - 1) / ema(ops.Abs(step), 2 * n - 1)
            outputs += [e, ee, e * 2 - ee, (e - ee) * 3 + ema(ee, n), rsi, c - back(c, n), c / back(c, n) - 1]
            outputs += [mean, deviation, mean + deviation * 2, mean - deviation * 2, (c - mean) / deviation]
            outputs += [atr, atr / c, top, bottom, top + bottom, (c - bottom) / (top - bottom), ema(v, n), total(v, n)]
            outputs += [ops.WindowedLinearRegressionSlope(c, n), ops.WindowedLinearRegressionRSqaure(c, n)]
            outputs += [v / ema(v, n), total(c * v, n) / total(v, n), e - ema(c, 2 * n)]
        for k, output in enumerate(outputs):
            Op.Output(output, f"output{k}")
    config = Driver.KunCompilerConfig(8, number, block, "STREAM", "STREAM", options={"opt_reduce": False})
    built = cfake.compileit([("graph", Stage.Function(graph.ops), config)], "graph", cfake.CppCompilerConfig())
    lanes, dtype = max(symbols, block), np.float32 if number == "float" else np.float64
    stream = KunRunner.StreamContext(KunRunner.createSingleThreadExecutor(), built.getModule("graph"), lanes)
    handles = [stream.queryBufferHandle(name) for name in COLUMNS[1:]]

    def make(i: int) -> Sequence[Any]:
        return [np.ascontiguousarray(column, dtype) for column in across(values, i, lanes)[:, 1:5].T]

    def take(*columns: Any) -> None:
        for handle, column in zip(handles, columns, strict=True):
            stream.pushData(handle, column)
        stream.run()

    for i in range(WARM_UP):
        take(*make(i))
    way = f"{symbols:,} symbols a step" if symbols > 1 else f"one symbol in a block of {block}"
    return Peer("KunQuant", f"{way}, {number}", len(outputs), make, take, symbols)


def measure(peers: list[Peer], rounds: int) -> F64:
    """Return nanoseconds for one candle of one symbol: [rounds, peers]."""
    calls, at, ns = [1] * len(peers), [WARM_UP] * len(peers), np.empty((rounds + 1, len(peers)))
    for k in range(rounds + 1):  # the first only finds how many calls fill a slot
        gc.collect()
        for p in random.sample(range(len(peers)), len(peers)):
            inputs = [peers[p].make(i) for i in range(at[p], at[p] + calls[p])]
            started = time.perf_counter()
            for arguments in inputs:
                peers[p].take(*arguments)
            spent = time.perf_counter() - started
            ns[k, p] = spent / calls[p] / peers[p].symbols * 1e9
            at[p] += calls[p]
            calls[p] = min(max(int(SLOT_S / spent * calls[p]), 1), 2_000)
    return ns[1:]


def synthetic(n: int = 20_000) -> F64:
    """Return candles of a market whose price stays near 100: [n, 8]."""
    random = np.random.default_rng(1)
    close = 100 * np.exp(0.02 * np.sin(np.arange(n) / n * 14 * np.pi) + random.normal(0, 0.002, n))
    opened, volume, trades = np.roll(close, 1), random.lognormal(5, 1, n), random.integers(1, 1_000, n)
    high, low = np.maximum(opened, close) * 1.001, np.minimum(opened, close) * 0.999
    return np.stack([opened, high, low, close, volume, volume * close, trades, volume / 2], axis=1)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--candles", type=Path, metavar="FILE", help="Parquet or CSV (default: a made-up market)")
    parser.add_argument("--quick", action="store_true", help="7 rounds instead of 61")
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")
    args = parser.parse_args()
    values = candle_files.read(args.candles).values if args.candles else synthetic()
    warnings.simplefilter("ignore")
    gc.disable()
    peers, absent = [], []
    with redirect_stdout(sys.stderr):  # KunQuant and others print
        for library in (candlecast, kunquant, talib, nautilus_trader, wickra, talipp, polars_talib, pandas_ta, ta):
            print(f"preparing {library.__name__}")
            try:
                peers += library(values)
            except ImportError as error:
                absent.append(f"{library.__name__}: not installed ({error})")
            except (OSError, subprocess.CalledProcessError) as error:
                absent.append(f"{library.__name__}: could not be compiled ({error})")
        ns = measure(peers, 7 if args.quick else 61)
    each = ns / [peer.outputs for peer in peers]
    ...


if __name__ == "__main__":
    main()
