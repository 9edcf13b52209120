"""`candlecast features`: rows are those of the live market, checks find what is planted, the page is current."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from numpy.typing import NDArray

from candlecast import _rust, candle_files, feature_page
from candlecast.candle_files import survey
from candlecast.cli import main
from candlecast.feature_checks import AS_LIVE, CUT_SHORT, OTHER_FUTURE, check_causality, check_recursion
from candlecast.feature_files import SCHEMA, Recording, Tally, recording, row_frames
from candlecast.features import NAMES, OPTIONAL_INPUTS, Features, feature_set_hash
from candlecast.values import F32, Candles
from tests.features.markets import PRICES, VALUES, walk, with_optional_inputs

ROOT = Path(__file__).resolve().parents[2]
M15 = 900_000
NOW_MS = 2**62
REFERENCE = "BTCUSDT"


@pytest.fixture(autouse=True)
def own_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def frame(seed: int, bars: int = 900, *, start: int = 0, optional: Sequence[str] = ()) -> pl.DataFrame:
    """Return random candles as a file has them."""
    columns = with_optional_inputs(walk(seed, bars=bars, start=start), seed).columns
    times = pl.Series("ts", columns["open_time_ms"].astype(np.int64))
    return pl.DataFrame([times, *(pl.Series(name, columns[name]) for name in (*PRICES, "volume", *optional))])


def without_bars(candles: pl.DataFrame, *gaps: slice) -> pl.DataFrame:
    index = np.delete(np.arange(len(candles)), np.r_[tuple(gaps)])
    return candles[index]


def saved(path: Path, candles: pl.DataFrame) -> Path:
    candles.write_parquet(path) if path.suffix == ".parquet" else candles.write_csv(path)
    return path


def of_files(*paths: Path, **choices: Any) -> Recording:
    return recording([survey(path) for path in paths], **{"reference_symbol": REFERENCE} | choices)


Bits = dict[tuple[str, int], NDArray[np.uint32]]
"""A row's bits, by symbol and open time."""


def live_rows(files: dict[str, pl.DataFrame], optional_inputs: Sequence[str]) -> Bits:
    """Return the bits of the row of each accepted candle, pushed one by one as a feed would, the reference's first."""
    market = _rust.Market(optional_inputs=optional_inputs, reference_symbol=REFERENCE)
    no_windows = np.empty((0, _rust.WINDOW, len(NAMES)), dtype=np.float32)
    candles = [(row["ts"], symbol != REFERENCE, symbol, row) for symbol in files for row in files[symbol].to_dicts()]
    rows = {}
    for time_ms, _, symbol, row in sorted(candles, key=lambda candle: candle[:3]):
        values = np.array([[row.get(name, np.nan) for name in VALUES]], dtype=np.float64)
        interval, opened, forming = np.array([M15]), np.array([time_ms]), np.array([False])
        pushed = market.push([symbol], interval, opened, values, forming, NOW_MS, no_windows)
        if _rust.VERDICTS[pushed.verdict[0]] == "ACCEPTED":
            rows[symbol, time_ms] = market.rows(symbol, M15)[-1].view(np.uint32)
    return rows


def bits(rows: pl.DataFrame) -> Bits:
    matrix = rows.select(NAMES).to_numpy().view(np.uint32)
    keys = zip(rows["symbol"].to_list(), rows["open_time"].to_list(), strict=True)
    return {key: matrix[i] for i, key in enumerate(keys)}


def assert_same_rows(found: Bits, expected: Bits) -> None:
    assert found.keys() == expected.keys()
    for key, row in found.items():
        np.testing.assert_array_equal(row, expected[key], err_msg=str(key))


def messy_market() -> dict[str, pl.DataFrame]:
    """Return candles of three symbols: short gaps, a long one, late beginnings, doubles and nonsense."""
    optional = VALUES[5:]
    eth = without_bars(frame(12, optional=optional), slice(40, 43), slice(650, 651))
    eth[100, "high"] = 0.0
    eth = pl.concat([eth[:300], eth[299:]])  # one candle twice
    return {
        "ETHUSDT": eth,
        REFERENCE: without_bars(frame(11, optional=optional), slice(500, 504)),
        "SOLUSDT": without_bars(frame(13, 700, start=150, optional=optional), slice(60, 70)),
    }


@pytest.mark.parametrize(("suffix", "part_candles"), [(".parquet", 8_192), (".parquet", 256), (".csv", 700)])
def test_rows_are_those_of_the_live_market_bit_by_bit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, suffix: str, part_candles: int
) -> None:
    monkeypatch.setattr(candle_files, "PART_CANDLES", part_candles)
    market, out = messy_market(), tmp_path / "rows.parquet"
    files = [saved(tmp_path / f"{symbol}-15m{suffix}", candles) for symbol, candles in market.items()]

    assert main(["features", *map(str, files), "--out", str(out)]) == 0

    rows = pl.read_parquet(out)
    assert dict(rows.schema) == SCHEMA
    assert (rows["close_time"] - rows["open_time"] == M15).all()
    assert rows["close_time"].is_sorted()
    assert_same_rows(bits(rows), live_rows(market, OPTIONAL_INPUTS))


def test_other_symbols_leave_no_trace_but_the_reference_serves(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    market, out = messy_market(), tmp_path / "rows.parquet"
    files = [saved(tmp_path / f"{symbol}-15m.parquet", candles) for symbol, candles in market.items()]

    assert main(["features", *map(str, files), "--out", str(out), "--symbol", "ETHUSDT", "--json"]) == 0

    told = json.loads(capsys.readouterr().out)
    assert told["candles"] == len(market["ETHUSDT"]) + len(market[REFERENCE])
    assert told["candles"] == told["rows"] + told["references"] + sum(told["not_accepted"].values())
    expected = live_rows(market, OPTIONAL_INPUTS)
    assert_same_rows(bits(pl.read_parquet(out)), {key: row for key, row in expected.items() if key[0] == "ETHUSDT"})
    assert pl.read_parquet_metadata(out)["candlecast.reference_symbol"] == REFERENCE


def test_a_file_with_a_symbol_column_gives_the_same_rows_as_a_file_for_each(tmp_path: Path) -> None:
    market = {"ETHUSDT": frame(12, 300), REFERENCE: frame(11, 300)}
    each = [saved(tmp_path / f"{symbol}-15m.parquet", candles) for symbol, candles in market.items()]
    named = pl.concat([candles.with_columns(symbol=pl.lit(symbol)) for symbol, candles in market.items()])
    one = saved(tmp_path / "all-15m.parquet", named)  # not sorted by time

    apart, together = (pl.concat(row_frames(used, Tally())) for used in (of_files(*each), of_files(one)))

    assert_same_rows(bits(together), bits(apart))


def test_candles_that_give_no_row_are_counted_with_their_reasons(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    candles = without_bars(frame(1, 200), slice(20, 22), slice(120, 140))
    candles[50, "low"] = -1.0
    doubled = pl.concat([candles[:60], candles[59:]])
    other = doubled[30:31].with_columns(pl.col("volume") + 1)
    path = saved(tmp_path / "AUSDT-15m.parquet", pl.concat([doubled, other]).sort("ts", maintain_order=True))

    assert main(["features", str(path), "--out", "rows.parquet", "--json"]) == 0

    out, err = capsys.readouterr()
    told = json.loads(out)
    assert (told["candles"], told["rows"]) == (180, 177)
    assert told["not_accepted"] == {"CONFLICT": 1, "DUPLICATE": 1, "REFUSED low NOT_POSITIVE": 1}
    assert (told["filled_bars"], told["restarts"]) == (3, 1)  # two that were left out, and the refused one
    assert "1 candles gave no row: REFUSED low NOT_POSITIVE, first AUSDT 2023-11-15T13:00:00Z" in err
    assert len(pl.read_parquet("rows.parquet")) == 177


@pytest.mark.parametrize(
    ("flags", "used", "reference"),
    [
        ([], ["quote_volume", "reference"], REFERENCE),
        (["--reference", "none"], ["quote_volume"], None),
        (["--reference", "ETHUSDT"], ["quote_volume", "reference"], "ETHUSDT"),
        (["--optional-inputs", "none"], [], None),
        (["--optional-inputs", "none", "--reference", REFERENCE], ["reference"], REFERENCE),
        (["--optional-inputs", "trades", "reference"], ["trades", "reference"], REFERENCE),
        (["--symbol", REFERENCE], ["quote_volume"], None),
    ],
)
def test_what_is_used_is_chosen_by_the_files_or_by_flags_and_said(
    capsys: pytest.CaptureFixture[str], flags: list[str], used: list[str], reference: str | None
) -> None:
    saved(Path(f"{REFERENCE}-15m.parquet"), frame(11, 30, optional=["quote_volume"]))
    saved(Path("ETHUSDT-15m.parquet"), frame(12, 30, optional=["quote_volume", "trades"]))
    files = [f"{REFERENCE}-15m.parquet", "ETHUSDT-15m.parquet"]

    assert main(["features", *files, "--out", "rows.parquet", "--json", *flags]) == 0

    out, err = capsys.readouterr()
    told, hash = json.loads(out), f"{feature_set_hash(used):016x}"
    assert (told["optional_inputs"], told["reference_symbol"], told["feature_set_hash"]) == (used, reference, hash)
    assert f"optional inputs: {', '.join(used) or 'none'}; feature set v1, hash {hash}" in err
    assert ("trades is not in use: 1 of 2 files have no value of it" in err) == (not flags or "--reference" in flags[0])
    metadata = pl.read_parquet_metadata("rows.parquet")
    assert metadata["candlecast.feature_set_hash"] == hash
    assert metadata["candlecast.optional_inputs"] == ",".join(used)


WRONG_USAGE = [
    (["features"], "one of the arguments --out --check-causality --check-recursion --list is required"),
    (["features", "--out", "rows.parquet"], "a FILE is missing"),
    (["features", "--list", "A-15m.csv"], "--list takes no FILE"),
    (["features", "A-15m.csv", "--check-causality", "--check-recursion"], "not allowed with"),
    (["features", "A-15m.csv", "--out", "rows.csv"], "does not end in .parquet"),
    (["features", "--list", "--markdown", "--json"], "--markdown goes with --list alone"),
    (["features", "A-15m.csv", "--out", "r.parquet", "--optional-inputs", "none", "trades"], "none stands alone"),
    (["features", "A-15m.csv", "--out", "r.parquet", "--optional-inputs", "moon"], "invalid choice: 'moon'"),
]


@pytest.mark.parametrize(("arguments", "says"), WRONG_USAGE)
def test_wrong_usage_exits_with_2(arguments: list[str], says: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        main(arguments)
    assert stopped.value.code == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert says in err


@pytest.mark.parametrize(
    ("flags", "says"),
    [
        (["--symbol", "DOGEUSDT"], "no file has candles of DOGEUSDT; there are ETHUSDT"),
        (["--reference", "DOGEUSDT"], "no file has candles of DOGEUSDT"),
        (["--optional-inputs", "trades"], "optional input trades: no file has a value of trades"),
        (["--optional-inputs", "reference"], "no file has candles of BTCUSDT and of others"),
        (["--out", "nowhere/rows.parquet"], "there is no folder nowhere"),
        (["--out", "ETHUSDT-15m.parquet"], "is one of the candle files"),
    ],
)
def test_what_the_files_do_not_have_exits_with_78_and_leaves_everything_as_it_was(
    tmp_path: Path, flags: list[str], says: str, capsys: pytest.CaptureFixture[str]
) -> None:
    path = saved(tmp_path / "ETHUSDT-15m.parquet", frame(12, 30))
    before = path.read_bytes()

    assert main(["features", str(path), "--out", "rows.parquet", *flags]) == 78

    assert says in capsys.readouterr().err
    assert [each.name for each in tmp_path.iterdir()] == [path.name]
    assert path.read_bytes() == before


def test_a_file_that_breaks_half_way_leaves_the_old_rows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(candle_files, "PART_CANDLES", 64)
    text = frame(1, 300).write_csv().splitlines()
    text[250] = text[250].replace(",", ",x", 1)
    Path("AUSDT-15m.csv").write_text("\n".join(text))
    Path("rows.parquet").write_text("old rows")

    assert main(["features", "AUSDT-15m.csv", "--out", "rows.parquet"]) == 78

    assert Path("rows.parquet").read_text() == "old rows"
    assert sorted(each.name for each in tmp_path.iterdir()) == ["AUSDT-15m.csv", "rows.parquet"]


def test_nothing_accepted_fails_and_writes_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    saved(tmp_path / "AUSDT-15m.csv", frame(1, 3).with_columns(high=pl.lit(0.0)))
    assert main(["features", "AUSDT-15m.csv", "--out", "rows.parquet"]) == 1
    assert "no candle was accepted: REFUSED high NOT_POSITIVE" in capsys.readouterr().err
    assert not Path("rows.parquet").exists()


def test_control_c_leaves_nothing_half_written(tmp_path: Path) -> None:
    many = pl.concat([frame(1, 2_000).with_columns(pl.col("ts") + k * 2_000 * M15) for k in range(60)])
    saved(tmp_path / "AUSDT-15m.parquet", many)
    command = [sys.executable, "-m", "candlecast", "features", "AUSDT-15m.parquet", "--out", "rows.parquet"]
    child = subprocess.Popen(command, cwd=tmp_path, stderr=subprocess.PIPE)
    try:
        until = time.monotonic() + 60
        while not list(tmp_path.glob(".rows.parquet.*.part")):
            assert child.poll() is None, child.communicate()
            assert time.monotonic() < until
        child.send_signal(signal.SIGINT)
        assert child.wait(60) == 130, child.communicate()
    finally:
        child.kill()
        child.communicate()
    assert [each.name for each in tmp_path.iterdir()] == ["AUSDT-15m.parquet"]


@dataclass
class Peeking:
    """A core one of whose columns is the next close of the batch, where there is one."""

    column: str
    core: Features = field(default_factory=lambda: Features(symbols_max=9, conflicts_max=3))

    @property
    def need(self) -> int:
        return self.core.need

    def rows(self, candles: Candles) -> tuple[_rust.Pushed, F32]:
        pushed, rows = self.core.rows(candles)
        rows[:-1, NAMES.index(self.column)] = candles.values[1:, 3]
        return pushed, rows


def test_no_row_of_the_core_knows_its_future(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(candle_files, "PART_CANDLES", 512)
    market = messy_market()
    used = of_files(*(saved(tmp_path / f"{symbol}-15m.csv", candles) for symbol, candles in market.items()))
    found = check_causality(used, used.core)
    assert found.differing == []
    assert found.ways[AS_LIVE].rows == used.candles == sum(map(len, market.values()))
    for way in (CUT_SHORT, OTHER_FUTURE):
        assert found.ways[way].rows == pytest.approx(used.candles * len(found.cuts_ms) / 2, rel=0.02)


def test_a_planted_look_ahead_is_found_by_every_way_of_computing(tmp_path: Path) -> None:
    used = of_files(saved(tmp_path / "AUSDT-15m.parquet", frame(1)))
    found = check_causality(used, lambda: Peeking(NAMES[7]))
    assert found.differing == [NAMES[7]]
    assert all(list(way.differs_at_ms) == [NAMES[7]] for way in found.ways.values())
    assert found.ways[CUT_SHORT].differs_at_ms[NAMES[7]] == found.cuts_ms[0] - 2 * M15  # the last row before it


def test_the_check_exits_with_1_when_a_row_knows_its_future(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    saved(tmp_path / "AUSDT-15m.parquet", frame(1, 300))
    check = ["features", "--check-causality", "AUSDT-15m.parquet"]

    assert main(check) == 0
    assert "no row knows its future" in capsys.readouterr().out
    assert main([*check, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["differing"] == []

    monkeypatch.setattr(Recording, "core", lambda self: Peeking("rsi_14"))
    assert main(check) == 1
    assert "rsi_14 differs, first at the candle that opens at 2023-11-" in capsys.readouterr().out
    assert main([*check, "--json"]) == 1
    assert json.loads(capsys.readouterr().out)["differing"] == ["rsi_14"]


@pytest.fixture(scope="module")
def long_history(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("long")
    return saved(folder / "AUSDT-15m.parquet", frame(1, 4 * Features(symbols_max=1, conflicts_max=1).need + 500))


def test_windowed_columns_are_equal_from_their_warm_up_and_averages_are_not(long_history: Path) -> None:
    used = of_files(long_history)
    found = check_recursion(used, used.core)
    columns = {column.name: column for column in found.columns}
    assert list(columns) == list(NAMES)
    for name in ("body_ratio", "vret_1", "vret_480", "logret_16_pct"):
        assert columns[name].is_windowed, columns[name]
        assert columns[name].moves_from_warmup == 0
    for name in ("rsi_14", "ema_dist_50"):
        bars = columns[name].bars
        assert bars is not None
        assert columns[name].warmup_bars + 100 < bars < 1_500
        assert columns[name].moves_from_warmup > 1e-3 > columns[name].moves_from_ready
    assert columns["ema_dist_50"].bars > columns["rsi_14"].bars  # the longer average remembers longer


def test_a_column_that_never_settles_is_not_said_to(long_history: Path) -> None:
    @dataclass
    class Counting(Peeking):
        """A core one of whose columns counts the candles since the beginning."""

        def rows(self, candles: Candles) -> tuple[_rust.Pushed, F32]:
            pushed, rows = self.core.rows(candles)
            rows[:, NAMES.index(self.column)] = pushed.have
            return pushed, rows

    found = check_recursion(of_files(long_history), lambda: Counting("rsi_14"))
    never = {column.name for column in found.columns if column.bars is None}
    assert "rsi_14" in never
    assert "body_ratio" not in never


def test_a_symbol_that_never_settles_is_not_hidden_by_a_longer_one(long_history: Path, tmp_path: Path) -> None:
    shorter = pl.read_parquet(long_history)[:-300]
    other = saved(tmp_path / "BUSDT-15m.parquet", shorter)

    @dataclass
    class CountingOne(Peeking):
        """A core one of whose columns counts the candles of one symbol since the beginning."""

        def rows(self, candles: Candles) -> tuple[_rust.Pushed, F32]:
            pushed, rows = self.core.rows(candles)
            is_other = np.array(candles.names) == "BUSDT"
            rows[is_other, NAMES.index(self.column)] = pushed.have[is_other]
            return pushed, rows

    found = check_recursion(of_files(long_history, other), lambda: CountingOne("rsi_14"))
    assert {column.name: column.bars for column in found.columns}["rsi_14"] is None
    alone = of_files(long_history, other, symbols=["AUSDT"])
    found = check_recursion(alone, lambda: CountingOne("rsi_14"))
    assert {column.name: column.bars for column in found.columns}["rsi_14"] is not None


def test_the_recursion_check_says_what_it_measured(long_history: Path, capsys: pytest.CaptureFixture[str]) -> None:
    check = ["features", "--check-recursion", str(long_history)]
    assert main([*check, "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert [column["name"] for column in told["columns"]] == list(NAMES)
    windowed = sum(column["is_windowed"] for column in told["columns"])
    assert main(check) == 0
    table = capsys.readouterr().out
    assert f"{windowed} of {len(NAMES)} columns are equal from their warm-up on" in table
    slowest = max((c for c in told["columns"] if not c["is_windowed"]), key=lambda c: c["bars"] or np.inf)
    titles, first = [line.split() for line in table.splitlines() if line.startswith(("column ", slowest["name"]))]
    assert (titles[0], first[:2]) == ("column", [slowest["name"], str(slowest["warmup_bars"])])


def test_too_short_a_history_cannot_be_checked_for_recursion(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    saved(tmp_path / "AUSDT-15m.parquet", frame(1, 600))
    assert main(["features", "--check-recursion", "AUSDT-15m.parquet"]) == 1
    assert "too little history" in capsys.readouterr().err


def test_the_list_has_every_column_as_table_and_as_json(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["features", "--list"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == len(NAMES) + 1
    assert all(name in line.split() for name, line in zip(NAMES, lines[1:], strict=True))
    assert main(["features", "--list", "--json"]) == 0
    records = json.loads(capsys.readouterr().out)
    for record, feature in zip(records, _rust.catalog(), strict=True):
        for name in ("index", "name", "group", "formula", "convention", "warmup_bars", "low", "high", "version"):
            assert record[name] == getattr(feature, name)


def test_the_reference_page_is_current(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["features", "--list", "--markdown"]) == 0
    page = capsys.readouterr().out
    assert (ROOT / "docs" / "features.md").read_text() == page, "run `python bench/features_memory.py`"


def test_every_column_has_a_measured_memory_that_is_not_shorter_than_its_warm_up() -> None:
    bars = json.loads(feature_page.MEMORY_FILE.read_text())["bars"]
    assert list(bars) == list(NAMES), "run `python bench/features_memory.py`"
    for feature in _rust.catalog():
        assert bars[feature.name] is None or bars[feature.name] >= feature.warmup_bars, feature.name


def test_no_cell_of_the_page_is_torn_by_a_bar_in_a_formula() -> None:
    rows = [line for line in feature_page.markdown().splitlines() if line.startswith("| ")]
    assert len(rows) == len(NAMES) + len({feature.group for feature in _rust.catalog()})
    assert {line.replace(r"\|", "").count("|") for line in rows} == {8}
