"""Measures what one new candle of one symbol costs here and in other libraries: one process, alternating rounds.

Every library is used in the cheapest way its Python interface offers: inputs are made beforehand, results are computed
but not collected (here: no windows are asked for). The libraries compute different indicators, so "ns per output"
compares mixes, not formulas. "240" is in proportion, so a ratio for one output is also the ratio for 240. A ratio is
the median over the rounds of the ratio within a round: the machine's speed changes. Absent libraries are left out.
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
from importlib import import_module, metadata
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from candlecast import _rust, candle_files

F64 = NDArray[np.float64]
INTERVAL_MS: Final = 900_000
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
        intervals, forming = np.full(symbols, INTERVAL_MS), np.zeros(symbols, dtype=np.bool_)
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
TALIB: Final = """
c: SMA 10|20|50|100, EMA 12|26|50|100, WMA 20, DEMA 20, TEMA 20, KAMA 10, TRIMA 20, RSI 7|14|21, ROC 10|20, MOM 10
c: CMO 14, TRIX 15, STDDEV 20, LINEARREG 14, LINEARREG_SLOPE 14, PPO 12 26, MACD 12 26 9, BBANDS 20 2. 2.; hl: SAR
hlc: ATR 14, NATR 14, ADX 14, PLUS_DI 14, MINUS_DI 14, CCI 20, WILLR 14, STOCH 14 3 0 3 0, ULTOSC 7 14 28
hl: AROON 14; cv: OBV; hlcv: MFI 14, AD, ADOSC 3 10"""
PANDAS_TA: Final = """
c: sma 10|20|50|100, ema 12|26|50|100, wma 20, dema 20, tema 20, kama 10, trima 20, rsi 7|14|21, roc 10|20, mom 10
c: cmo 14, trix 15, stdev 20, linreg 14, linregslope 14, ppo 12 26, macd 12 26 9, bbands 20 2
hlc: atr 14, natr 14, adx 14, cci 20, willr 14, stoch 14 3, uo 7 14 28
hl: aroon 14; cv: obv; hlcv: mfi 14, ad, adosc None 3 10"""
TA: Final = """
c: trend.SMAIndicator 10|20|50|100, trend.EMAIndicator 12|26|50|100, trend.WMAIndicator 20, trend.TRIXIndicator 15
c: momentum.KAMAIndicator 10, momentum.RSIIndicator 7|14|21, momentum.ROCIndicator 10|20, trend.MACD 26 12 9
c: momentum.PercentagePriceOscillator 26 12 9, volatility.BollingerBands 20 2; hl: trend.AroonIndicator 14
hlc: volatility.AverageTrueRange 14, trend.ADXIndicator 14, trend.CCIIndicator 20, momentum.WilliamsRIndicator 14
hlc: momentum.StochasticOscillator 14 3, momentum.UltimateOscillator 7 14 28
hlcv: volume.MFIIndicator 14, volume.AccDistIndexIndicator; cv: volume.OnBalanceVolumeIndicator"""
WICKRA: Final = """
c: SMA 10|20|50|100, EMA 12|26|50|100, WMA 20, DEMA 20, TEMA 20, KAMA 10, TRIMA 20, RSI 7|14|21, ROC 10|20, MOM 10
c: CMO 14, TRIX 15, StdDev 20, LinearRegression 14, LinRegSlope 14, PPO 12 26, MACD 12 26 9, BollingerBands 20
x: ATR 14, NATR 14, ADX 14, CCI 20, WilliamsR 14, Stochastic 14 3, UltimateOscillator 7 14 28, MFI 14, ADL, Aroon 14
x: ChaikinOscillator 3 10, PSAR, OBV"""
TALIPP: Final = """
c: SMA 10|20|50|100, EMA 12|26|50|100, WMA 20, DEMA 20, TEMA 20, KAMA 10 2 30, HMA 20, RSI 7|14|21, ROC 10|20
c: TRIX 15, StdDev 20, MACD 12 26 9, BB 20 2; x: DonchianChannels 20, VTX 14, Aroon 14, Stoch 14 3, UO 7 14 28
x: ATR 14, NATR 14, ADX 14 14, CCI 20, Williams 14, AccuDist, ChaikinOsc 3 10, OBV"""
NAUTILUS: Final = """
c: SimpleMovingAverage 10|20|50|100, ExponentialMovingAverage 12|26|50|100, DoubleExponentialMovingAverage 20, Bias 20
c: HullMovingAverage 20, WilderMovingAverage 14, RelativeStrengthIndex 7|14|21, RateOfChange 10|20 False
c: ChandeMomentumOscillator 14, MovingAverageConvergenceDivergence 12 26, LinearRegression 14
hlc: AverageTrueRange 14, CommodityChannelIndex 20 .015, Stochastics 14 3, BollingerBands 20 2., KeltnerChannel 20 2.
hlc: KeltnerPosition 20 2.; hl: AroonOscillator 14, DirectionalMovement 14; ocv: OnBalanceVolume 100"""
NAUTILUS_OUTPUTS = "value slope intercept cfo r2 value_k value_d upper middle lower aroon_up aroon_down pos neg".split()


def indicators(spec: str) -> Iterator[tuple[str, str, list[Any]]]:
    """Yield columns, name and parameters of each indicator."""
    for columns, _, calls in (part.strip().partition(": ") for part in spec.strip().replace("\n", ";").split(";")):
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


def recomputing(package: str, values: F64, spec: str, find: Any, prepare: Any) -> Peer:
    """Return the peer whose functions compute all of the newest candles again."""

    def make(i: int) -> Sequence[Any]:
        return [prepare(column) for column in until(values, i)]

    take = in_a_row((find(name), columns, parameters) for columns, name, parameters in indicators(spec))
    return Peer(package, f"recomputes {HISTORY} candles", width(take(*make(WARM_UP))), make, take)


def incremental(
    package: str, values: F64, spec: str, module: Any, update: str = "update", own: Any = tuple, read: Any = None
) -> Peer:
    """Return the peer that updates one object for each indicator. Without `read`, updating returns the outputs."""

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
    yield recomputing("TA-Lib", values, TALIB, _ta_lib.__dict__.get, np.array)


def polars_talib(values: F64) -> Iterator[Peer]:
    import polars as pl
    import polars_talib as library

    calls = ((getattr(library, name.lower()), columns, pars) for columns, name, pars in indicators(TALIB))
    every = [each.alias(str(k)) for k, each in enumerate(in_a_row(calls)(*map(pl.col, COLUMNS)))]

    def make(i: int) -> Sequence[Any]:
        return [pl.DataFrame(dict(zip(COLUMNS, until(values, i), strict=True)))]

    outputs = width(make(WARM_UP)[0].select(every).row(-1))
    yield Peer("polars-talib", f"recomputes {HISTORY} candles", outputs, make, lambda frame: frame.select(every))


def ta(values: F64) -> Iterator[Peer]:
    import pandas as pd

    def every_output(path: str) -> Callable[..., list[Any]]:
        module, name = path.split(".")
        kind = getattr(import_module(f"ta.{module}"), name)
        methods = [method for method in vars(kind) if not method.startswith("_")]
        return lambda *arguments: [getattr(made, method)() for made in [kind(*arguments)] for method in methods]

    yield recomputing("ta", values, TA, every_output, pd.Series)


def pandas_ta(values: F64) -> Iterator[Peer]:
    import pandas as pd
    import pandas_ta_classic as library

    yield recomputing("pandas-ta-classic", values, PANDAS_TA, lambda name: getattr(library, name), pd.Series)


def wickra(values: F64) -> Iterator[Peer]:
    yield incremental("wickra", values, WICKRA, import_module("wickra"), own=lambda candle: (*candle, 0))


def talipp(values: F64) -> Iterator[Peer]:
    from talipp import indicators as library
    from talipp.ohlcv import OHLCV

    def read(each: Any) -> Any:
        return astuple(each[-1]) if is_dataclass(each[-1]) else each[-1]

    yield incremental("talipp", values, TALIPP, library, "add", lambda candle: OHLCV(*candle), read)


def nautilus_trader(values: F64) -> Iterator[Peer]:
    from nautilus_trader.core import nautilus_pyo3  # nautilus_trader.indicators is far slower in most cases

    def read(each: Any) -> Any:
        return [getattr(each, field) for field in NAUTILUS_OUTPUTS if hasattr(each, field)]

    yield incremental("nautilus_trader", values, NAUTILUS, nautilus_pyo3, "update_raw", read=read)


def kunquant(values: F64) -> Iterator[Peer]:
    wide = 2 if "avx512dq" in Path("/proc/cpuinfo").read_text() else 1
    yield kunquant_stream(values, "float", 8 * wide, LOCK_STEP)
    yield kunquant_stream(values, "double", 4 * wide, LOCK_STEP)
    yield kunquant_stream(values, "float", 8 * wide, 1)


def kunquant_stream(values: F64, kind: str, block: int, symbols: int) -> Peer:
    from KunQuant import Driver, Op, Stage, ops
    from KunQuant.jit import cfake
    from KunQuant.predefined.talib import ATR
    from KunQuant.runner import KunRunner

    ema, total, back = ops.ExpMovingAvg, ops.FastWindowedSum, ops.BackRef
    graph = Op.Builder()
    with graph:
        h, l, c, v = (Op.Input(name) for name in COLUMNS[1:])  # noqa: E741
        moved, outputs = c - back(c, 1), []
        for n in (5, 7, 10, 14, 20, 30, 50, 100):
            e, mean, deviation, atr = ema(c, n), total(c, n) / n, ops.WindowedStddev(c, n), ATR(h, l, c, n)
            ee, top, bottom = ema(e, n), ops.WindowedMax(h, n), ops.WindowedMin(l, n)
            rsi = ema(ops.Max(moved, moved * 0), 2 * n - 1) / ema(ops.Abs(moved), 2 * n - 1)
            outputs += [e, ee, e * 2 - ee, (e - ee) * 3 + ema(ee, n), rsi, c - back(c, n), c / back(c, n) - 1]
            outputs += [mean, deviation, mean + deviation * 2, mean - deviation * 2, (c - mean) / deviation]
            outputs += [atr, atr / c, top, bottom, top + bottom, (c - bottom) / (top - bottom), ema(v, n), total(v, n)]
            outputs += [ops.WindowedLinearRegressionSlope(c, n), ops.WindowedLinearRegressionRSqaure(c, n)]
            outputs += [v / ema(v, n), total(c * v, n) / total(v, n), e - ema(c, 2 * n)]
        for k, output in enumerate(outputs):
            Op.Output(output, f"output{k}")
    config = Driver.KunCompilerConfig(8, kind, block, "STREAM", "STREAM", options={"opt_reduce": False})
    built = cfake.compileit([("graph", Stage.Function(graph.ops), config)], "graph", cfake.CppCompilerConfig())
    # The executor must outlive the stream
    executor = KunRunner.createSingleThreadExecutor()
    columns = max(symbols, block)
    stream = KunRunner.StreamContext(executor, built.getModule("graph"), columns)
    handles = [stream.queryBufferHandle(name) for name in COLUMNS[1:]]
    number = np.float32 if kind == "float" else np.float64

    def make(i: int) -> Sequence[Any]:
        return [np.ascontiguousarray(column, number) for column in across(values, i, columns)[:, 1:5].T]

    def take(*inputs: Any) -> None:
        for handle, column in zip(handles, inputs, strict=True):
            stream.pushData(handle, column)
        stream.run()

    for i in range(WARM_UP):
        take(*make(i))
    way = f"{symbols:,} symbols a step, {kind}" if symbols > 1 else f"one symbol in a block of {block}, {kind}"
    return Peer("KunQuant", way, len(outputs), make, take, symbols)


LIBRARIES: Final = (candlecast, kunquant, talib, nautilus_trader, wickra, talipp, polars_talib, pandas_ta, ta)


def gather(values: F64) -> tuple[list[Peer], list[str]]:
    """Return the peers that are here, and a line on each library that is not."""
    peers, absent = [], []
    for library in LIBRARIES:
        print(f"preparing {library.__name__}", file=sys.stderr)
        try:
            peers += library(values)
        except ImportError as error:
            absent.append(f"{library.__name__}: not installed ({error})")
        except (OSError, subprocess.CalledProcessError) as error:
            absent.append(f"{library.__name__}: its compiler failed ({error})")
    return peers, absent


def measure(peers: list[Peer], rounds: int) -> F64:
    """Return microseconds for one candle of one symbol: [rounds, peers]."""
    calls, at, us = [1] * len(peers), [WARM_UP] * len(peers), np.empty((rounds + 1, len(peers)))
    for k in range(rounds + 1):  # the first only finds how many calls fill a slot
        gc.collect()
        for p in random.sample(range(len(peers)), len(peers)):
            peer = peers[p]
            inputs = [peer.make(i) for i in range(at[p], at[p] + calls[p])]
            started = time.perf_counter()
            for arguments in inputs:
                peer.take(*arguments)
            spent = time.perf_counter() - started
            us[k, p] = spent / calls[p] / peer.symbols * 1e6
            at[p] += calls[p]
            calls[p] = min(max(int(SLOT_S / spent * calls[p]), 1), 2_000)
        print(f"\rround {k} of {rounds}", end="", file=sys.stderr)
    print(file=sys.stderr)
    return us[1:]


def synthetic(n: int = 20_000, seed: int = 1) -> F64:
    """Return candles of a market that always comes back: [n, 8]."""
    noise = np.random.default_rng(seed)
    close = 100 * np.exp(0.02 * np.sin(np.arange(n) * 2 * np.pi / n * 7) + noise.normal(0, 0.004, n))
    opened = np.roll(close, 1)
    high, low = np.maximum(opened, close) * 1.001, np.minimum(opened, close) * 0.999
    volume, trades = noise.lognormal(5, 1, n), noise.integers(1, 1_000, n)
    return np.stack([opened, high, low, close, volume, volume * close, trades, volume / 2], axis=1)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--candles", type=Path, metavar="FILE", help="Parquet or CSV candles (default: a made-up market)"
    )
    parser.add_argument("--quick", action="store_true", help="7 rounds instead of 61")
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")
    args = parser.parse_args()
    values = candle_files.read(args.candles).values if args.candles else synthetic()
    source = args.candles.name if args.candles else "synthetic, seed 1"
    warnings.simplefilter("ignore")
    gc.disable()
    with redirect_stdout(sys.stderr):  # what libraries say
        peers, absent = gather(values)
        us = measure(peers, 7 if args.quick else 61)
    each = us * 1e3 / [peer.outputs for peer in peers]  # nanoseconds for one output
    rows = [
        {
            "library": f"{peer.package} {metadata.version(peer.package)}",
            "way": peer.way,
            "outputs": peer.outputs,
            "us_candle": float(np.median(us[:, p])),
            "ns_output": float(np.median(each[:, p])),
            "us_240": float(np.median(each[:, p]) * 0.24),
            "ratio_one": float(np.median(each[:, p] / each[:, 0])),
            "ratio_many": float(np.median(each[:, p] / each[:, 1])),
        }
        for p, peer in enumerate(peers)
    ]
    about = {"candles": f"{source}, {len(values):,}", "rounds": len(us), "python": platform.python_version()}
    about |= {"machine": platform.machine(), "date": time.strftime("%Y-%m-%d")}
    if args.json:
        print(json.dumps({**about, "rows": rows, "absent": absent}, indent=1))
        return
    print(", ".join(f"{key}: {value}" for key, value in about.items()))
    print(
        f"{'library':28}{'used as':42}{'outputs':>8}{'us/candle':>12}{'ns/output':>12}{'us for 240':>12}{'ratio to one':>14}{'ratio to many':>14}"
    )
    for row in rows:
        print(
            "{library:28}{way:42}{outputs:8}{us_candle:12,.2f}{ns_output:12,.1f}{us_240:12,.2f}{ratio_one:14,.2f}{ratio_many:14,.2f}".format(
                **row
            )
        )
    print(*absent, sep="\n")


if __name__ == "__main__":
    main()
