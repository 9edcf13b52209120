"""Measures what one new candle of one symbol costs here and in other libraries: one process, alternating rounds.

Each library is used in the cheapest way its Python interface offers: inputs are made before, results are computed but
not collected (here: no windows are asked for); an absent one is left out. They compute different indicators, so
ns_per_output compares mixes, not formulas. Times are CPU times of the process, which neighbours on the machine disturb
less. Figures are medians over the rounds; ratio_one and ratio_many are of ns_per_output to candlecast's in the same
round, for one and for many symbols a call. us_for_240 is in proportion: for 240 outputs the ratios are the same.
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
from dataclasses import dataclass
from functools import partial
from importlib import import_module, metadata
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
SLOT_S: Final = 0.01  # measured time of one peer in one round; at least one call
HEAD: Final = ("library", "way", "outputs", "us_per_candle", "ns_per_output", "us_for_240", "ratio_one", "ratio_many")
LIBRARIES: Final = "candlecast KunQuant TA-Lib nautilus_trader wickra talipp polars-talib pandas-ta-classic ta"
COLUMNS: Final = ("open", "high", "low", "close", "volume")


@dataclass(frozen=True, slots=True)
class Peer:
    """One way to use one library. `make` is not measured, `take` is; the next candle is number WARM_UP."""

    way: str
    outputs: int
    make: Callable[[int], Sequence[Any]]  # what `take` takes for candle i
    take: Callable[..., object]
    symbols: int = 1  # that get a candle by one `take`


def across(values: F64, i: int, symbols: int) -> F64:
    """Return one candle of each symbol, which differ by being apart in time: [symbols, 8]."""
    return values[(i + 7 * np.arange(symbols)) % len(values)]


def until(values: F64, i: int) -> dict[str, F64]:
    """Return the columns of the last HISTORY candles up to i."""
    return dict(zip(COLUMNS, values[np.arange(i + 1 - HISTORY, i + 1) % len(values), :5].T.copy(), strict=True))


def candlecast(values: F64, symbols: int) -> Peer:
    market, names, outputs = _rust.Market(), [f"S{k}" for k in range(symbols)], len(_rust.catalog())
    interval_ms, forming = np.full(symbols, 900_000), np.zeros(symbols, dtype=np.bool_)
    windows = np.empty((0, _rust.WINDOW, outputs), dtype=np.float32)

    def make(i: int) -> Sequence[Any]:
        return names, interval_ms, i * interval_ms, across(values, i, symbols), forming, 2**62, windows

    for i in range(WARM_UP):
        pushed = market.push(*make(i))
    assert all(_rust.STATES[code] == "READY" for code in pushed.state)
    return Peer(f"{symbols:,} symbol{'s' * (symbols > 1)} a call", outputs, make, market.push, symbols)


# The columns that indicators take (x: the library's own kind of candle), then names and parameters; 10|20 makes two.
COMMON: Final = "c: SMA 5|10|20|50|100, EMA 9|12|26|50|100, WMA 20, DEMA 20, TEMA 20, RSI 7|14|21, ROC 5|10|20, TRIX 15"
TALIB: Final = f"""{COMMON}, MOM 10, CMO 14, KAMA 10, TRIMA 20, PPO 12 26, MACD 12 26 9, BBANDS 20
hlc: ATR 7|14, NATR 14, ADX 14, CCI 14|20, WILLR 14, STOCH 14 3; hlcv: MFI 14, AD; hl: AROON 14; cv: OBV"""
WICKRA: Final = f"""{COMMON}, MOM 10, CMO 14, KAMA 10, TRIMA 20, PPO 12 26, MACD 12 26 9, BollingerBands 20
x: ATR 7|14, NATR 14, ADX 14, CCI 14|20, WilliamsR 14, Stochastic 14 3, MFI 14, ADL, Aroon 14, OBV"""
TALIPP: Final = f"""{COMMON}, KAMA 10 2 30, HMA 20, StdDev 20, MACD 12 26 9, BB 20 2
x: ATR 7|14, NATR 14, ADX 14 14, CCI 14|20, Williams 14, Stoch 14 3, AccuDist, Aroon 14, OBV, DonchianChannels 20"""
NAUTILUS: Final = """c: SimpleMovingAverage 5|10|20|50|100, ExponentialMovingAverage 9|12|26|50|100
c: DoubleExponentialMovingAverage 20, HullMovingAverage 20, WilderMovingAverage 14, RelativeStrengthIndex 7|14|21
c: RateOfChange 10|20 False, ChandeMomentumOscillator 14, MovingAverageConvergenceDivergence 12 26, LinearRegression 14
hlc: AverageTrueRange 7|14, CommodityChannelIndex 14|20 .015, Stochastics 14 3, BollingerBands 20 2.
hlc: KeltnerChannel 20 2., KeltnerPosition 20 2.; hl: AroonOscillator 14, DirectionalMovement 14
ocv: OnBalanceVolume 100"""


def indicators(spec: str) -> Iterator[tuple[str, str, list[Any]]]:
    """Yield columns, name and parameters of each indicator."""
    for columns, _, calls in (part.strip().partition(": ") for part in spec.replace("\n", ";").split(";")):
        for name, *words in (call.split() for call in calls.split(",")):
            for first in words[0].split("|") if words else [""]:
                yield columns, name, [ast.literal_eval(word) for word in (first, *words[1:]) if word]


def in_a_row(calls: Iterable[tuple[Any, str, list[Any]]]) -> Any:
    """Return a function of a candle's columns that makes every call, without a loop: the cheapest Python there is."""
    functions, texts = {}, []
    for k, (function, columns, parameters) in enumerate(calls):
        functions[f"f{k}"] = function
        texts.append(f"f{k}({', '.join([*columns, *map(repr, parameters)])})")
    return eval(f"lambda o, h, l, c, v, x=None: ({', '.join(texts)},)", functions)


def of_module(module: str, spec: str) -> Any:
    """Return a function of columns that calls the module's functions."""
    library = import_module(module)
    return in_a_row((getattr(library, name), columns, parameters) for columns, name, parameters in indicators(spec))


def width(results: Iterable[Any]) -> int:
    """Return how many outputs these results hold; an error when one is not there."""
    count = 0
    for result in results:
        assert result is not None
        frame, several = getattr(result, "ndim", 0) == 2, isinstance(result, tuple | list | dict)
        count += result.shape[1] if frame else len(result) if several else 1
    return count


def recompute(values: F64, prepare: Any, take: Any, count: Any = width) -> Peer:
    """Return the peer that computes its outputs for all of the newest candles again."""
    outputs = count(take(*prepare(until(values, WARM_UP))))
    return Peer(f"recomputes {HISTORY} candles", outputs, lambda i: list(prepare(until(values, i))), take)


def increment(
    values: F64, spec: str, module: str, update: str = "update", own: Any = max, read: Any = None, past: Any = None
) -> Peer:
    """Return the peer that updates an object for each indicator. Without `read`, updating returns the outputs."""

    def make(i: int) -> Sequence[Any]:
        candle = tuple(values[i % len(values), :5].tolist())
        return *candle, own(*candle)

    library, made, calls = import_module(module), list[Any](), list[Any]()
    for columns, name, parameters in indicators(spec):
        made.append(getattr(library, name)(*([past[column] for column in columns] if past else []), *parameters))
        calls.append((getattr(made[-1], update), columns, []))
    take = in_a_row(calls)
    for i in range(WARM_UP):
        results = take(*make(i))
    return Peer("incremental", width(map(read, made) if read else results), make, take)


def kunquant(values: F64, symbols: int, number: str) -> Peer:
    from KunQuant import Driver, Op, Stage, ops
    from KunQuant.jit import cfake
    from KunQuant.predefined.talib import ATR
    from KunQuant.runner import KunRunner

    ema, back, mean, std = ops.ExpMovingAvg, ops.BackRef, ops.FastWindowedSum, ops.WindowedStddev
    graph, outputs = Op.Builder(), []
    with graph:
        h, l, c, v = (Op.Input(name) for name in COLUMNS[1:])  # noqa: E741
        step = c - back(c, 1)
        for n in (5, 7, 9, 10, 12, 14, 20, 26, 30, 50, 100):
            fast, slow, mid, spread = ema(c, n), ema(ema(c, n), n), mean(c, n) / n, std(c, n)
            atr, past, top, bottom = ATR(h, l, c, n), back(c, n), ops.WindowedMax(h, n), ops.WindowedMin(l, n)
            rsi = ema(ops.Max(step, step * 0), 2 * n - 1) / ema(ops.Abs(step), 2 * n - 1)
            outputs += [fast, slow, fast * 2 - slow, mid, spread, mid + spread * 2, mid - spread * 2, rsi, atr, atr / c]
            outputs += [top, bottom, (c - bottom) / (top - bottom), c - past, c / past - 1, ema(v, n), v / ema(v, n)]
            outputs += [ops.WindowedLinearRegressionSlope(c, n), ops.WindowedLinearRegressionRSqaure(c, n)]
        for k, output in enumerate(outputs):
            Op.Output(output, f"output{k}")
    dtype, lanes = (np.float32, 8) if number == "float" else (np.float64, 4)
    lanes *= 1 + ("avx512dq" in Path("/proc/cpuinfo").read_text())
    config = Driver.KunCompilerConfig(8, number, lanes, "STREAM", "STREAM", options={"opt_reduce": False})
    built = cfake.compileit([("graph", Stage.Function(graph.ops), config)], "graph", cfake.CppCompilerConfig())
    taken = max(symbols, lanes)
    stream = KunRunner.StreamContext(KunRunner.createSingleThreadExecutor(), built.getModule("graph"), taken)
    handles = [stream.queryBufferHandle(name) for name in COLUMNS[1:]]

    def make(i: int) -> Sequence[Any]:
        return [np.ascontiguousarray(column, dtype) for column in across(values, i, taken)[:, 1:5].T]

    def take(*columns: Any) -> None:
        for handle, column in zip(handles, columns, strict=True):
            stream.pushData(handle, column)
        stream.run()

    for i in range(WARM_UP):
        take(*make(i))
    way = f"{symbols:,} symbols a step" if symbols > 1 else f"one symbol in a block of {lanes}"
    return Peer(f"{way}, {number}", len(outputs), make, take, symbols)


def nautilus_outputs(each: Any) -> list[Any]:
    names = "value slope intercept cfo r2 value_k value_d upper middle lower aroon_up aroon_down pos neg"
    return [getattr(each, name) for name in names.split() if hasattr(each, name)]


def peers_of(library: str, values: F64) -> Iterator[Peer]:
    """Yield the ways to use a library, or raise ImportError."""
    match library:
        case "candlecast":
            yield from (candlecast(values, symbols) for symbols in (1, SYMBOLS))
        case "KunQuant":
            for symbols, number in ((LOCK_STEP, "float"), (LOCK_STEP, "double"), (1, "float")):
                yield kunquant(values, symbols, number)
        case "TA-Lib":
            past = {name[0]: column for name, column in until(values, -1).items()}
            yield increment(values, TALIB, "talib.stream", past=past)
            # talib itself looks for pandas and polars in each call
            yield recompute(values, dict.values, of_module("talib._ta_lib", TALIB))
        case "nautilus_trader":  # not its older nautilus_trader.indicators: most of those are far slower
            yield increment(values, NAUTILUS, "nautilus_trader.core.nautilus_pyo3", "update_raw", read=nautilus_outputs)
        case "wickra":
            yield increment(values, WICKRA, "wickra", own=lambda *candle: (*candle, 0))
        case "talipp":
            own = import_module("talipp.ohlcv").OHLCV
            yield increment(
                values, TALIPP, "talipp.indicators", "add", own, lambda x: getattr(x[-1], "__dict__", x[-1])
            )
        case "polars-talib":
            pl = import_module("polars")
            every = enumerate(of_module("polars_talib", TALIB.lower())(*map(pl.col, COLUMNS)))
            named = [expression.alias(str(k)) for k, expression in every]
            yield recompute(values, lambda h: [pl.DataFrame(h)], lambda f: f.select(named), lambda f: width(f.row(-1)))
        case "pandas-ta-classic":
            pd, take = import_module("pandas"), of_module("pandas_ta_classic", TALIB.lower())
            yield recompute(values, lambda history: map(pd.Series, history.values()), take)
        case "ta":
            pd, take = import_module("pandas"), partial(import_module("ta").add_all_ta_features, vectorized=True)
            yield recompute(values, lambda h: [pd.DataFrame(h), *COLUMNS], take, lambda frame: frame.shape[1] - 5)


def measure(peers: list[Peer], rounds: int) -> F64:
    """Return nanoseconds for one candle of one symbol: [rounds, peers]."""
    calls, at, ns = [1] * len(peers), [WARM_UP] * len(peers), np.empty((rounds + 1, len(peers)))
    for k in range(rounds + 1):  # the first only finds how many calls fill a slot
        gc.collect()
        for p in random.sample(range(len(peers)), len(peers)):
            inputs = [peers[p].make(i) for i in range(at[p], at[p] + calls[p])]
            started = time.process_time()
            for arguments in inputs:
                peers[p].take(*arguments)
            spent = time.process_time() - started
            ns[k, p] = spent / calls[p] / peers[p].symbols * 1e9
            at[p] += calls[p]
            calls[p] = min(max(int(SLOT_S / spent * calls[p]), 1), 2_000)
    return ns[1:]


def synthetic(n: int = 20_000) -> F64:
    """Return candles of a market whose price stays near 100: [n, 8]."""
    noise = np.random.default_rng(1)
    close = 100 * np.exp(0.02 * np.sin(np.arange(n) / n * 14 * np.pi) + noise.normal(0, 0.002, n))
    opened, volume, trades = np.roll(close, 1), noise.lognormal(5, 1, n), noise.integers(1, 1_000, n)
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
    peers, absent = [], {}
    with redirect_stdout(sys.stderr):  # some libraries print
        for library in LIBRARIES.split():
            print(f"preparing {library}")
            try:
                peers += [(library, peer) for peer in peers_of(library, values)]
            except (ImportError, OSError, subprocess.CalledProcessError) as error:
                absent[library] = f"{'not installed' if isinstance(error, ImportError) else 'not compiled'} ({error})"
        ns = measure([peer for _, peer in peers], 7 if args.quick else 61)
    each = ns / [peer.outputs for _, peer in peers]
    rows = []
    for p, (library, peer) in enumerate(peers):
        version = __version__ if library == "candlecast" else metadata.version(library)
        figures = np.median([ns[:, p] / 1e3, each[:, p], each[:, p] * 0.24, *(each[:, [p]] / each[:, :2]).T], axis=1)
        rows.append(dict(zip(HEAD, (f"{library} {version}", peer.way, peer.outputs, *figures.tolist()), strict=True)))
    about = {"candles": args.candles.name if args.candles else "synthetic, seed 1", "rounds": len(ns)}
    about |= {"machine": platform.machine(), "python": platform.python_version(), "date": time.strftime("%Y-%m-%d")}
    if args.json:
        print(json.dumps({**about, "rows": rows, "absent": absent}, indent=1))
    else:
        print("; ".join(f"{key}: {value}" for key, value in about.items()))
        print("{:26}{:38}{:>8}{:>14}{:>14}{:>12}{:>11}{:>11}".format(*HEAD))
        for row in rows:
            print("{:26}{:38}{:8}{:14,.2f}{:14,.1f}{:12,.2f}{:11,.2f}{:11,.2f}".format(*row.values()))
        print(*(f"{library}: {reason}" for library, reason in absent.items()), sep="\n")


if __name__ == "__main__":
    main()
