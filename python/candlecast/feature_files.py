"""Candle files → one feature row per candle, as Parquet. Memory does not grow with the history; knows no flags."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Protocol

import numpy as np
import polars as pl

from candlecast import __version__, _rust, tables
from candlecast.candle_files import OPTIONAL, CandleFile, closes_ms, stream
from candlecast.errors import CandlecastError, ConfigurationError
from candlecast.features import ACCEPTED, NAMES, OPTIONAL_INPUTS, Features, feature_set_hash
from candlecast.values import F32, Bool, Candles

SCHEMA: Final[dict[str, Any]] = {
    "symbol": pl.String,
    "open_time": pl.Int64,
    "close_time": pl.Int64,
    **dict.fromkeys(NAMES, pl.Float32),
}
"""Columns of the rows; times are milliseconds since 1970, UTC."""

Advance = Callable[[int], None]
"""Told how many candles more were taken."""


class Core(Protocol):
    """Moves the symbols' state, as `candlecast.features.Features` does."""

    @property
    def need(self) -> int: ...
    def rows(self, candles: Candles) -> tuple[_rust.Pushed, F32]: ...


@dataclass(frozen=True, slots=True)
class Recording:
    """Candle files, and what of them is used."""

    files: tuple[CandleFile, ...]
    symbols: frozenset[str]  # that give rows
    optional_inputs: tuple[str, ...]  # in use, in the order of OPTIONAL_INPUTS
    reference_symbol: str | None  # given when "reference" is in use: it serves the others, whether it gives rows or not

    @property
    def candles(self) -> int:
        """Return how many candles are used."""
        return sum(count for file in self.files for symbol, count in file.candles.items() if self._uses(symbol))

    @property
    def pairs(self) -> set[tuple[str, int]]:
        """Return each symbol and interval that is used."""
        return {(symbol, file.interval_ms) for file in self.files for symbol in file.candles if self._uses(symbol)}

    @property
    def feature_set_hash(self) -> str:
        """Return the hash of the feature set with these optional inputs, as bundles spell it."""
        return f"{feature_set_hash(self.optional_inputs):016x}"

    def core(self, room: Callable[[int], F32] | None = None) -> Features:
        """Return a core that has seen nothing; `room` gives the place for its windows."""
        pairs = len(self.pairs)
        return Features(
            symbols_max=pairs,
            conflicts_max=3,
            optional_inputs=self.optional_inputs,
            reference_symbol=self.reference_symbol,
            threads=min(pairs, len(os.sched_getaffinity(0))),
            room=room,
        )

    def batches(self) -> Iterator[Candles]:
        """Yield the candles as if live: by close. The core takes the reference's before the others of its close."""
        files = [file for file in self.files if any(map(self._uses, file.candles))]
        uses_all = all(self._uses(symbol) for file in files for symbol in file.candles)
        for batch in stream(files):
            used = batch if uses_all else batch.take(np.flatnonzero([self._uses(name) for name in batch.names]))
            if len(used):
                yield used

    def gives_rows(self, batch: Candles) -> Bool:
        """Say of each candle whether it is of a symbol that gives rows."""
        return np.array([name in self.symbols for name in batch.names], dtype=np.bool_)

    def _uses(self, symbol: str) -> bool:
        return symbol in self.symbols or symbol == self.reference_symbol


def recording(
    files: Sequence[CandleFile],
    *,
    symbols: Sequence[str] | None = None,
    reference_symbol: str | None = None,
    is_reference_asked: bool = False,
    optional_inputs: Sequence[str] | None = None,
) -> Recording:
    """Settle what is used of the files.

    Args:
        files: what `candle_files.survey` told of them, one or more.
        symbols: those that give rows; all by default.
        reference_symbol: the symbol that the others are compared with, if it is there.
        is_reference_asked: it must be there, and is used whatever optional_inputs says.
        optional_inputs: those to use. By default each column that every file has a value of, and the reference where
            there are candles both of its symbol and of others.

    Raises:
        ConfigurationError: what is to be used is in none of the files.
    """
    found = sorted({symbol for file in files for symbol in file.candles})
    asked = {*(symbols or ()), *([reference_symbol] if is_reference_asked and reference_symbol else [])}
    if missing := sorted(asked - set(found)):
        raise ConfigurationError(f"no file has candles of {', '.join(missing)}; there are {_some(found)}")
    giving = frozenset(symbols or found)
    carried = carries(files, giving)
    carried["reference"] = [reference_symbol in found and giving != {reference_symbol}]
    if optional_inputs is None:
        used = {name for name in OPTIONAL_INPUTS if all(carried[name])}
    else:
        used = set(optional_inputs)
        for name in [name for name in OPTIONAL_INPUTS if name in used and not any(carried[name])]:
            where = f"candles of {reference_symbol} and of others" if name == "reference" else f"a value of {name}"
            raise ConfigurationError(f"optional input {name}: no file has {where}; give files that do, or leave it out")
    if is_reference_asked and reference_symbol:
        used.add("reference")
    return Recording(
        files=tuple(files),
        symbols=giving,
        optional_inputs=tuple(name for name in OPTIONAL_INPUTS if name in used),
        reference_symbol=reference_symbol if "reference" in used else None,
    )


def carries(files: Sequence[CandleFile], symbols: frozenset[str]) -> dict[str, list[bool]]:
    """Say of each optional column which files with these symbols have a value of it for any of them."""
    with_symbols = [file for file in files if symbols & file.candles.keys()]
    return {name: [bool(symbols & file.optional[name]) for file in with_symbols] for name in OPTIONAL}


@dataclass(slots=True)
class Tally:
    """What became of the candles: rows, references and those not accepted are all of them."""

    candles: int = 0
    rows: int = 0
    references: int = 0  # accepted, of the reference symbol where it gives no rows
    filled: int = 0  # bars, into gaps; they give no row
    restarts: int = 0  # after gaps too long to fill: rows are NaN again until warm
    seconds: float = 0.0
    not_accepted: dict[str, int] = field(default_factory=dict)  # by reason
    examples: dict[str, tuple[str, int]] = field(default_factory=dict)  # symbol and open time of the first, by reason
    _have: dict[tuple[str, int], int] = field(default_factory=dict)

    def add(self, batch: Candles, pushed: _rust.Pushed) -> Bool:
        """Count the candles of a batch and say which were accepted."""
        accepted: Bool = np.equal(pushed.verdict, ACCEPTED)
        names = batch.names
        for i in np.flatnonzero(~accepted).tolist():
            verdict = _rust.VERDICTS[pushed.verdict[i]]
            reason = " ".join(filter(None, (verdict, _rust.FIELDS[pushed.field[i]], _rust.REASONS[pushed.reason[i]])))
            self.not_accepted[reason] = self.not_accepted.get(reason, 0) + 1
            self.examples.setdefault(reason, (names[i], int(batch.open_time_ms[i])))
        at, have, interval_ms = np.flatnonzero(accepted).tolist(), pushed.have.tolist(), batch.interval_ms.tolist()
        for i in at:
            key = names[i], interval_ms[i]
            before = self._have.get(key, 0)
            self.restarts += have[i] == 1 and before > 0
            self.filled += max(have[i] - before - 1, 0) if before else 0
            self._have[key] = have[i]
        self.candles += len(batch)
        return accepted

    def summary(self) -> dict[str, Any]:
        return {
            "candles": self.candles,
            "rows": self.rows,
            "references": self.references,
            "not_accepted": dict(sorted(self.not_accepted.items())),
            "filled_bars": self.filled,
            "restarts": self.restarts,
            "seconds": round(self.seconds, 3),
            "candles_per_s": round(self.candles / self.seconds, 1) if self.seconds else 0.0,
        }


def write_rows(recording: Recording, out: Path, advance: Advance = lambda count: None) -> Tally:
    """Write a row for every accepted candle of the recording; `out` is there when all of it is, and replaced.

    Raises:
        ConfigurationError: a file has something that is no number, or `out` is one of the files.
        CandlecastError: `out` cannot be written, or no candle was accepted.
    """
    if any(out.exists() and out.samefile(file.path) for file in recording.files):
        raise ConfigurationError(f"{out} is one of the candle files; write the rows elsewhere")
    tally, started = Tally(), time.perf_counter()

    def check() -> None:
        if not tally.rows:
            raise CandlecastError(f"no candle was accepted: {', '.join(tally.not_accepted)}")

    tables.write(out, SCHEMA, row_frames(recording, tally, advance), _metadata(recording), check)
    tally.seconds = time.perf_counter() - started
    return tally


def row_frames(recording: Recording, tally: Tally, advance: Advance = lambda count: None) -> Iterator[pl.DataFrame]:
    """Yield the rows of all accepted candles of the symbols that give rows, in columns of SCHEMA."""
    core = recording.core()
    for batch in recording.batches():
        pushed, rows = core.rows(batch)
        accepted = tally.add(batch, pushed)
        at = np.flatnonzero(accepted & recording.gives_rows(batch))
        tally.rows += len(at)
        tally.references += int(accepted.sum()) - len(at)
        advance(len(batch))
        taken = batch.take(at)
        known = {"symbol": taken.names, "open_time": taken.open_time_ms, "close_time": closes_ms(taken)}
        yield pl.DataFrame(known).hstack(pl.from_numpy(rows[at], schema=list(NAMES)))


def _metadata(recording: Recording) -> dict[str, str]:
    """Return what a model that is trained on the rows must be served with."""
    return {
        "candlecast.version": __version__,
        "candlecast.feature_set": _rust.FEATURE_SET,
        "candlecast.feature_set_hash": recording.feature_set_hash,
        "candlecast.optional_inputs": ",".join(recording.optional_inputs),
        "candlecast.reference_symbol": recording.reference_symbol or "",
    }


def _some(names: Sequence[str]) -> str:
    return ", ".join(names[:10]) + (f" and {len(names) - 10} more" if len(names) > 10 else "")
