"""Candles, of files or at hand → the history of a training, and which optional inputs it carries. Knows no windows."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

from candlecast import candle_files
from candlecast.errors import ConfigurationError
from candlecast.features import OPTIONAL_INPUTS
from candlecast.values import Candles


@dataclass(frozen=True, slots=True)
class Source:
    """The candles of one file, or of a database, that are used."""

    name: str
    sha256: str
    candles: Candles

    def described(self) -> dict[str, Any]:
        """Say what was used, without its place on this machine."""
        times = self.candles.open_time_ms
        span = {"from": utc(int(times[0])), "to": utc(int(times[-1]))}
        return {"name": self.name, "sha256": self.sha256, "rows": len(self.candles), **span}


@dataclass(frozen=True, slots=True)
class History:
    """Candles of one interval, and what the core is to make of them."""

    sources: list[Source]
    symbols: list[str]  # that give samples, sorted; the reference symbol need not be one
    interval_ms: int
    optional_inputs: list[str]  # in use, in the order of OPTIONAL_INPUTS
    reference_symbol: str | None  # given when "reference" is in use: its candles are in the sources

    @property
    def sha256(self) -> str:
        """Of all candles that are used and of what they are used for."""
        told = (self.symbols, self.optional_inputs, self.reference_symbol, [s.described() for s in self.sources])
        return hashlib.sha256(repr(told).encode()).hexdigest()

    def by_symbol(self) -> dict[str, Candles]:
        """Join the files of each symbol, in time order."""
        parts: dict[str, list[Candles]] = {}
        for source in self.sources:
            names = np.array(source.candles.names, dtype=object)
            for symbol in sorted(set(source.candles.names)):
                parts.setdefault(symbol, []).append(source.candles.take(np.flatnonzero(names == symbol)))
        return {symbol: in_time_order(pieces) for symbol, pieces in parts.items()}


def read_history(
    data: Sequence[Path] | Candles,
    *,
    symbols: Sequence[str] | None = None,
    start_ms: int | None = None,
    end_ms: int | None = None,
    optional_inputs: Sequence[str] | None = None,
    reference_symbol: str | None = None,
) -> History:
    """Read the candles that open in [start_ms, end_ms), of these symbols (default: all) and of the reference symbol.

    Args:
        data: candle files, or candles that a database gave.
        optional_inputs: those to use. By default each column that every file has a finite value of, and the reference
            where there are candles both of its symbol and of others.
        reference_symbol: the symbol that the others are compared with.

    Raises:
        ConfigurationError: nothing is left, intervals differ, a file is not a candle file, or what is to be used is in
            none of them.
    """
    if optional_inputs is not None and "reference" not in optional_inputs:
        reference_symbol = None
    read = None if symbols is None else {*symbols, reference_symbol}
    given = [_of_database(data)] if isinstance(data, Candles) else map(_of_file, data)
    sources = [source for whole in given if (source := _used(whole, read, start_ms, end_ms))]
    found = {symbol for source in sources for symbol in source.candles.names}
    sampled = found if symbols is None else found & set(symbols)
    if not sampled:
        raise ConfigurationError("no candle is left; check --symbols, --from and --to against the files")
    intervals = sorted({int(interval) for source in sources for interval in np.unique(source.candles.interval_ms)})
    if len(intervals) > 1:
        raise ConfigurationError(f"the files have intervals of {intervals} ms; train on one interval at a time")
    carried = _carried(sources, sampled)
    carried["reference"] = [reference_symbol in found and sampled != {reference_symbol}]
    if optional_inputs is None:
        used = [name for name in OPTIONAL_INPUTS if all(carried[name])]
    else:
        _require(optional_inputs, carried, reference_symbol)
        used = [name for name in OPTIONAL_INPUTS if name in optional_inputs]
    reference = reference_symbol if "reference" in used else None
    return History(sources, sorted(sampled), intervals[0], used, reference)


def described(history: History) -> dict[str, Any]:
    """Return what a manifest says of the data."""
    files = [source.described() for source in history.sources]
    span = {"from": min(file["from"] for file in files), "to": max(file["to"] for file in files)}
    return {"files": files, "symbols": history.symbols, "interval_ms": history.interval_ms} | span


def in_time_order(parts: Sequence[Candles]) -> Candles:
    """Merge by open time; candles of the same time in the order of the parts."""
    joined = Candles.joined(parts)
    return joined.take(np.argsort(joined.open_time_ms, kind="stable"))


def utc(ms: int) -> str:
    """Return milliseconds since 1970 as ISO 8601 UTC."""
    return datetime.fromtimestamp(ms / 1000, UTC).isoformat().replace("+00:00", "Z")


def ms_of(iso: str) -> int:
    """Return ISO 8601 UTC as milliseconds since 1970."""
    return round(datetime.fromisoformat(iso).timestamp() * 1000)


def _of_file(path: Path) -> Source:
    return Source(path.name, hashlib.sha256(path.read_bytes()).hexdigest(), candle_files.read(path))


def _of_database(candles: Candles) -> Source:
    digest = hashlib.sha256()
    for column in (candles.symbol, candles.interval_ms, candles.open_time_ms, candles.values):
        digest.update(np.ascontiguousarray(column).tobytes())
    return Source("database", digest.hexdigest(), candles)


def _used(whole: Source, symbols: set[str | None] | None, start_ms: int | None, end_ms: int | None) -> Source | None:
    """Return what is used of a source; None when that is nothing."""
    time = whole.candles.open_time_ms
    keep = np.ones(len(time), dtype=np.bool_)
    if start_ms is not None:
        keep &= time >= start_ms
    if end_ms is not None:
        keep &= time < end_ms
    if symbols is not None:
        keep &= np.array([symbol in symbols for symbol in whole.candles.names], dtype=np.bool_)
    return replace(whole, candles=whole.candles.take(np.flatnonzero(keep))) if keep.any() else None


def _carried(sources: Sequence[Source], symbols: set[str]) -> dict[str, list[bool]]:
    """Say of each optional column for which files with these symbols it has a finite value."""
    carried: dict[str, list[bool]] = {name: [] for name in candle_files.OPTIONAL}
    first = len(candle_files.REQUIRED)
    for source in sources:
        of_symbols = np.array([symbol in symbols for symbol in source.candles.names], dtype=np.bool_)
        if of_symbols.any():
            finite = np.isfinite(source.candles.values[of_symbols])
            for column, name in enumerate(candle_files.OPTIONAL, first):
                carried[name].append(bool(finite[:, column].any()))
    return carried


def _require(asked: Sequence[str], carried: dict[str, list[bool]], reference_symbol: str | None) -> None:
    for name in asked:
        if name not in carried:
            raise ConfigurationError(f"{name!r} is no optional input: there are {', '.join(OPTIONAL_INPUTS)}")
        if any(carried[name]):
            continue
        if name == "reference":
            raise ConfigurationError(
                f"--optional-inputs reference needs candles of {reference_symbol or 'a reference symbol'} and others;"
                " give its file too, choose another --reference-symbol, or leave reference out"
            )
        raise ConfigurationError(f"--optional-inputs {name}: no candle has it; give files that do, or leave it out")
