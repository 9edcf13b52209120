"""Recorded order flow → the samples of the gate: features, labels and times, by time across recordings. Knows no model.

A recording is the trades and the book of one symbol, told by the name that both files share before their kind, or one
file of `flow-features`, or a stretch of what a server stored. A simulated one is said to be so by whoever reads it, and
by its name.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import numpy as np
import polars as pl
from numpy.typing import NDArray

from candlecast import flow_rows, gate, tables
from candlecast.errors import ConfigurationError
from candlecast.flow_files import FlowFile, Kind, recording_of, survey
from candlecast.store.flow_history import StoredFlow
from candlecast.training.gate_labels import NONE, Label
from candlecast.values import F32, I64

PATH: Final = ("ts", "price", "vwap", "std_dev")
"""Columns of the record that a label is made of."""
WINDOW_MS: Final = 30_000
"""What the features of a trade look back on."""
PAUSE_MAX_MS: Final = 60_000
"""Between two stored records of one recording: after a longer pause nobody knows whether the market or the server was
quiet, as after the setting flow_live_ms a symbol has no live order flow."""
TOLD_MAX: Final = 200
"""Recordings that a manifest names one by one."""


class TooLittle(ConfigurationError):
    """The data is too little, or too one-sided, to train or compare on."""


@dataclass(frozen=True, slots=True)
class Recording:
    """The records of one symbol over one stretch of time."""

    name: str
    files: list[dict[str, Any]]  # name, sha256
    rows: pl.DataFrame  # in columns of flow_rows.SCHEMA, by ts

    def column(self, name: str) -> Any:
        """Return a column [N]."""
        return self.rows[name].to_numpy()

    def described(self) -> dict[str, Any]:
        """Return what a manifest says of it."""
        ts = self.rows["ts"]
        span = {"rows": len(self.rows), "from": utc(ts[0]), "to": utc(ts[-1])} if len(self.rows) else {"rows": 0}
        return {"name": self.name, "files": self.files} | span


@dataclass(frozen=True, slots=True)
class Samples:
    """N trades with all features and a label, by time."""

    ts: I64  # [N] ms
    features: F32  # [N, 3] in the order of gate.FEATURES
    labels: NDArray[np.int8]  # [N] 0 or 1
    recording: I64  # [N] which of the recordings it is of

    def __len__(self) -> int:
        return len(self.ts)

    def take(self, index: Any) -> Samples:
        """Return the samples at index [K], or where a mask [N] is true."""
        return Samples(self.ts[index], self.features[index], self.labels[index], self.recording[index])

    @property
    def positive_rate(self) -> float:
        """Return the share of labels that are 1; NaN without any."""
        return float(self.labels.mean()) if len(self) else float("nan")

    def stretches(self, span_ms: int) -> int:
        """Return how many stretches of that length the samples reach over: what trades of one share, they share.

        Recordings of one moment count once: their markets move together.
        """
        return len(np.unique(self.ts // span_ms))


def utc(ms: int) -> str:
    """Return a time as a manifest writes it."""
    return datetime.fromtimestamp(ms / 1000, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def read(
    paths: Sequence[Path],
    *,
    symbol: str | None = None,
    stale_ms: int = flow_rows.STALE_MS,
    say: Callable[[str], None] = lambda line: None,
) -> list[Recording]:
    """Read recordings, one after another; 72 bytes a trade.

    Args:
        symbol: of all files, whatever their names say.
        say: is told which files are left out.

    Raises:
        ConfigurationError: a file is no order flow, or trades have no book.
    """
    if not paths:
        raise ConfigurationError("no files given")
    if missing := [str(path) for path in paths if not path.exists()]:
        raise ConfigurationError(f"{', '.join(missing)}: there is no such file")
    ready = [path for path in paths if set(flow_rows.SCHEMA) <= set(tables.columns(path))]
    by_name: dict[str, list[FlowFile]] = {}
    for path in paths:
        if path not in ready:
            by_name.setdefault(recording_of(path), []).append(survey(path, symbol))
    recordings = [recording for path in ready for recording in _from_rows(path)]
    for name, files in by_name.items():
        used = _chosen(name, files)
        for file in files:
            if file not in used:
                say(f"{file.path.name} is not used: {used[-1].path.name} says the same")
        frames = [*flow_rows.row_frames(used, stale_ms)]
        recordings.append(Recording(name, [_file(file.path) for file in used], pl.concat(frames)))
    return recordings


def of_database(stored: Sequence[StoredFlow], say: Callable[[str], None] = lambda line: None) -> list[Recording]:
    """Return the stretches of what was stored without a pause longer than PAUSE_MAX_MS, by symbol and time.

    Their records are of the last trade of each interval, so the path that a label follows has one price for each. What
    is shorter than the features' window is left out.

    Args:
        say: is told what was found.
    """
    recordings, short = list[Recording](), 0
    for flow in stored:
        cuts = np.flatnonzero(np.diff(flow.ts_ms) > PAUSE_MAX_MS) + 1
        for ts, rows in zip(np.split(flow.ts_ms, cuts), np.split(flow.rows, cuts), strict=True):
            if not len(ts) or ts[-1] - ts[0] < WINDOW_MS:
                short += 1
                continue
            digest = hashlib.sha256(np.ascontiguousarray(ts).tobytes() + np.ascontiguousarray(rows).tobytes())
            told = [{"name": "order_flow_features", "sha256": digest.hexdigest()}]
            frame = pl.DataFrame({"ts": ts}).hstack(pl.from_numpy(rows, schema=list(gate.RECORD)))
            recordings.append(Recording(f"{flow.symbol}-{utc(int(ts[0]))}", told, frame))
    say(
        f"{sum(len(flow.ts_ms) for flow in stored):,} records of {len(stored)} symbols: {len(recordings)} stretches"
        f" without a pause of {PAUSE_MAX_MS / 1000:g} s; {short} shorter than {WINDOW_MS / 1000:g} s are left out"
    )
    return recordings


def samples(recordings: Sequence[Recording], label: Label) -> Samples:
    """Return the trades that have all features and a label."""
    nothing = np.empty(0, dtype=np.int64)
    parts = [Samples(nothing, np.empty((0, len(gate.FEATURES)), np.float32), np.empty(0, np.int8), nothing)]
    for k, recording in enumerate(recordings):
        labels = label.of(*(recording.column(name) for name in PATH))
        features = recording.rows.select(gate.FEATURES).to_numpy().astype(np.float32)
        kept = np.flatnonzero((labels != NONE) & np.isfinite(features).all(axis=1))
        where = np.full(len(kept), k, dtype=np.int64)
        parts.append(Samples(recording.column("ts")[kept], features[kept], labels[kept], where))
    joined = Samples(
        *(np.concatenate([getattr(part, name) for part in parts]) for name in ("ts", "features", "labels", "recording"))
    )
    return joined.take(np.argsort(joined.ts, kind="stable"))


def labelled(recording: Recording, label: Label) -> pl.DataFrame:
    """Return a recording's name and records, with the label of each trade, null for none."""
    labels = pl.Series("label", label.of(*(recording.column(name) for name in PATH)), dtype=pl.Int8)
    name = pl.Series("recording", [recording.name]).new_from_index(0, len(recording.rows))
    return pl.DataFrame([name]).hstack(recording.rows).with_columns(labels.replace(int(NONE), None))


def counted(rows: pl.DataFrame) -> dict[str, Any]:
    """Return how many of a recording's labelled rows have what."""
    usable = rows.filter(pl.all_horizontal(pl.col(gate.FEATURES).is_finite()) & pl.col("label").is_not_null())
    rate = usable["label"].mean()
    return {
        "recording": rows["recording"][0],
        "trades": len(rows),
        "rows_with_all_features": len(rows.filter(pl.all_horizontal(pl.col(gate.FEATURES).is_finite()))),
        "labelled": len(usable),
        "positive_rate": None if rate is None else round(float(rate), 4),  # type: ignore[arg-type]
        "minutes_with_samples": usable.select((pl.col("ts") // 60_000).n_unique()).item(),
    }


def write_labelled(out: Path, frames: Sequence[pl.DataFrame]) -> None:
    """Write labelled rows of all recordings, which `read` reads again.

    Raises:
        CandlecastError: `out` cannot be written.
    """
    tables.write(out, {"recording": pl.String, **flow_rows.SCHEMA, "label": pl.Int8}, iter(frames))


def described(recordings: Sequence[Recording]) -> dict[str, Any]:
    """Return what a manifest says of the data; `sha256` is that of its files' hashes."""
    told = [recording.described() for recording in recordings]
    known = [one for one in told if one["rows"]]
    hashes = sorted({file["sha256"] for one in told for file in one["files"]})
    more = {"further_recordings": len(told) - TOLD_MAX} if len(told) > TOLD_MAX else {}
    return more | {
        "recordings": told[:TOLD_MAX],
        "from": min(one["from"] for one in known),
        "to": max(one["to"] for one in known),
        "sha256": hashlib.sha256("".join(hashes).encode()).hexdigest(),
    }


def _chosen(name: str, files: Sequence[FlowFile]) -> list[FlowFile]:
    """Return the trades and the book that tells most: every change of the best, else differences, else levels."""

    def worth(file: FlowFile) -> int:
        return 2 if "bid" in file.columns else 1 if file.kind is Kind.DEPTH else 0

    trades = [file for file in files if file.kind is Kind.TRADES]
    books = sorted((file for file in files if file.kind is not Kind.TRADES), key=worth)
    if len(trades) != 1 or not books:
        raise ConfigurationError(
            f"{name}: the gate needs its trades, in one file, and its book; there is"
            f" {', '.join(f'{file.path.name} ({file.kind})' for file in files)}"
        )
    return [trades[0], books[-1]]


def _from_rows(path: Path) -> list[Recording]:
    """Read a file that `flow-features` or `gate label` wrote; the latter holds one recording or more."""
    several = "recording" in tables.columns(path)
    schema: Any = flow_rows.SCHEMA | ({"recording": pl.String} if several else {})
    try:
        rows = pl.concat(list(tables.parts(path, list(schema), 65_536))).cast(schema)
    except (ValueError, pl.exceptions.PolarsError) as error:
        raise ConfigurationError(f"{path}: it is not as flow-features writes it: {error}") from error
    parts = rows.partition_by("recording", maintain_order=True) if several else [rows]
    told = [_file(path)]
    return [
        Recording(
            part["recording"][0] if several else path.stem,
            told,
            part.select(list(flow_rows.SCHEMA)).sort("ts", maintain_order=True),
        )
        for part in parts
    ]


def _file(path: Path) -> dict[str, Any]:
    with path.open("rb") as file:
        return {"name": path.name, "sha256": hashlib.file_digest(file, "sha256").hexdigest()}
