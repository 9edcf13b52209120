"""Recorded order flow: files are told apart, batches of any size give the core the same, mistakes are named."""

import json

import numpy as np
import polars as pl
import pytest

from candlecast import _rust, gate
from candlecast.cli import main
from candlecast.errors import ConfigurationError
from candlecast.flow_files import PART_ROWS, Kind, recording_of, stream, survey, symbol_of
from candlecast.flow_rows import row_frames

START = 1_700_000_000_000


def market(rows, seed=0):
    """Return trades, quotes and depth of one market: a book of one level a side, which each event sets anew."""
    rng = np.random.default_rng(seed)
    ts = START + np.sort(rng.integers(0, 60 * rows, rows))
    price = 100 + 0.5 * rng.integers(-3, 4, rows)
    trades = {"ts": ts, "trade_id": np.arange(rows), "price": price, "qty": rng.uniform(0.1, 2, rows)}
    at = START + np.sort(rng.integers(0, 60 * rows, 2 * rows))
    at[0] = START - 10
    sizes = rng.uniform(1, 9, (2, len(at)))
    quotes = {"ts": at, "bid": np.full(len(at), 90.0), "bid_sz": sizes[0], "ask": np.full(len(at), 110.0)}
    quotes["ask_sz"] = sizes[1]
    ids = np.arange(1, len(at) + 1)
    depth = {"ts": np.repeat(at, 2), "U": np.repeat(ids, 2), "u": np.repeat(ids, 2), "pu": np.repeat(ids - 1, 2)}
    depth |= {"side": np.tile([1, -1], len(at)), "price": np.tile([90.0, 110.0], len(at)), "qty": sizes.T.reshape(-1)}
    depth["is_snapshot"] = np.repeat(np.arange(len(at)) == 0, 2).astype(np.int64)
    names = ("bid_px_1", "bid_sz_1", "ask_px_1", "ask_sz_1")
    levels = dict(zip(names, list(quotes.values())[1:], strict=True))
    return {"trades": trades, "bbo": quotes, "book10": {"ts": at, **levels}, "depthdiff": depth}


@pytest.fixture
def files(tmp_path):
    paths = {}
    for kind, columns in market(400).items():
        paths[kind] = tmp_path / f"binance-spot-BTCUSDT-20240808-{kind}.parquet"
        pl.DataFrame(columns).write_parquet(paths[kind])
    return paths


def rows_of(*paths, **about):
    return pl.concat(list(row_frames([survey(path, **about) for path in paths])))


def test_a_file_is_told_by_its_columns(files):
    kinds = {name: survey(path).kind for name, path in files.items()}
    assert kinds == {"trades": Kind.TRADES, "bbo": Kind.QUOTES, "book10": Kind.QUOTES, "depthdiff": Kind.DEPTH}
    told = survey(files["trades"])
    assert (told.symbol, told.rows, told.is_sorted) == ("BTCUSDT", 400, True)


def test_best_quotes_levels_and_differences_of_one_book_give_the_same_rows(files):
    by_book = [rows_of(files["trades"], files[book]) for book in ("bbo", "book10", "depthdiff")]
    assert len(by_book[0]) == 400 and by_book[0]["depth_ratio"].is_finite().all()
    for other in by_book[1:]:
        assert other.equals(by_book[0])


@pytest.mark.parametrize("trades_max", [1, 7, 100_000])
def test_batches_of_any_size_are_in_time_and_give_the_core_the_same(files, trades_max):
    flow, got, until = _rust.OrderFlow(), [], 0
    for batch in stream([survey(files["trades"]), survey(files["bbo"])], trades_max):
        for columns in filter(None, (batch.trades, batch.quotes)):
            assert until < columns[0][0] <= columns[0][-1] <= batch.until_ms
        until = batch.until_ms
        if batch.trades:
            ts = batch.trades[0]
            assert len(ts) <= trades_max or ts[0] == ts[-1]
        pushed = flow.push(batch.symbol, trades=batch.trades, quotes=batch.quotes)
        got += pushed.rows.tolist() if batch.trades else []
    np.testing.assert_array_equal(got, rows_of(files["trades"], files["bbo"]).select(gate.RECORD).to_numpy())
    assert flow.status("BTCUSDT").late == 0


def test_files_longer_than_a_part_or_out_of_order_give_the_same(tmp_path):
    made = market(PART_ROWS + 500, seed=1)
    whole, mixed, text = tmp_path / "A-trades.parquet", tmp_path / "A-1-trades.parquet", tmp_path / "A-trades.csv"
    table = pl.DataFrame(made["trades"])
    table.write_parquet(whole)
    table.sample(fraction=1, shuffle=True, seed=2).write_parquet(mixed)
    table.with_columns(pl.col("ts") * 1000).write_csv(text)
    book = tmp_path / "A-bbo.parquet"
    pl.DataFrame(made["bbo"]).write_parquet(book)
    expected = rows_of(whole, book, symbol="A")
    assert len(expected) == PART_ROWS + 500
    assert rows_of(mixed, book, symbol="A").equals(expected)
    assert rows_of(text, book, symbol="A").equals(expected)  # microseconds


def test_several_symbols_come_by_time(tmp_path):
    for k, symbol in enumerate(("AAA", "BBB")):
        pl.DataFrame(market(50, seed=k)["trades"]).write_parquet(tmp_path / f"{symbol}-trades.parquet")
    batches = list(stream([survey(path) for path in sorted(tmp_path.glob("*"))], trades_max=5))
    assert {batch.symbol for batch in batches} == {"AAA", "BBB"}
    assert [batch.until_ms for batch in batches] == sorted(batch.until_ms for batch in batches)
    assert sum(batch.rows for batch in batches) == 100


def test_a_snapshot_that_is_stamped_before_the_differences_around_it_keeps_its_place(files):
    depth = pl.read_parquet(files["depthdiff"])
    late = depth.with_columns(ts=pl.when(pl.col("u") == 5).then(pl.col("ts") - 5_000).otherwise(pl.col("ts")))
    late.write_parquet(files["depthdiff"])
    told = survey(files["depthdiff"])
    assert not told.is_sorted
    ts, last = (np.concatenate([batch.depth[k] for batch in stream([told])]) for k in (0, 2))
    assert len(ts) == told.rows and (np.diff(ts) >= 0).all() and (np.diff(last) >= 0).all()


def test_names_say_symbol_and_recording(tmp_path):
    named = {
        "binance-spot-BTCUSDT-20240808-trades": "BTCUSDT",
        "bitstamp-BTCUSD-20150501a-book10": "BTCUSD",
        "binance-coinm-BTCUSD_PERP-20221213-bbo": "BTCUSD_PERP",
        "ETHUSDT-trades": "ETHUSDT",
    }
    for name, symbol in named.items():
        assert symbol_of(tmp_path / f"{name}.parquet") == symbol
    assert recording_of(tmp_path / "a-B-20240808-depthdiff.csv") == "a-B-20240808"
    with pytest.raises(ConfigurationError, match="--symbol"):
        symbol_of(tmp_path / "some-trades.parquet")


def test_the_command_writes_the_cores_rows_and_says_what_became_of_the_events(files, tmp_path, capsys):
    out = tmp_path / "rows.parquet"
    flags = ["--trades", str(files["trades"]), "--book", str(files["bbo"]), "--out", str(out), "--json"]
    assert main(["flow-features", *flags]) == 0
    said = json.loads(capsys.readouterr().out)
    rows = pl.read_parquet(out)
    assert rows.columns == ["ts", *gate.RECORD] and set(rows.dtypes[1:]) == {pl.Float64}
    assert (said["trades"], said["rows"], said["quotes"], said["symbol"]) == (400, 400, 800, "BTCUSDT")
    assert rows.equals(rows_of(files["trades"], files["bbo"]))

    assert main(["flow-features", "--trades", str(files["trades"]), "--out", str(out), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["undefined"]["NO_BOOK"] == 400
    assert pl.read_parquet(out)["depth_ratio"].is_nan().all()


def test_what_is_no_trade_gives_no_row_and_is_counted(files, tmp_path, capsys):
    trades = pl.read_parquet(files["trades"])
    bad = trades.with_columns(qty=pl.when(pl.col("trade_id") == 7).then(0.0).otherwise(pl.col("qty")))
    pl.concat([bad, bad[-1:]]).write_parquet(files["trades"])
    out = tmp_path / "rows.parquet"
    assert main(["flow-features", "--trades", str(files["trades"]), "--out", str(out), "--json"]) == 0
    said = json.loads(capsys.readouterr().out)
    assert said["not_accepted"] == {"trade DUPLICATE": 1, "trade REFUSED": 1} and said["rows"] == 399


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ("ts,price\n1,2\n", "neither trades"),
        ("ts,price,qty\n", "no rows"),
        ("ts,price,qty\n1700000000000,x,1\n", "no number"),
        ("ts,price,qty\n,1,1\n1700000000000,1,1\n", "ts is empty"),
        ("ts,price,qty\nsoon,1,1\n", "ISO time"),
        ("", "empty"),
    ],
)
def test_a_mistake_names_the_file_and_what_is_wrong(tmp_path, capsys, content, says):
    path = tmp_path / "BTCUSDT-trades.csv"
    path.write_text(content)
    assert main(["flow-features", "--trades", str(path), "--out", str(tmp_path / "rows.parquet")]) == 78
    told = capsys.readouterr().err
    assert str(path) in told and says in told
    assert not list(tmp_path.glob("*.parquet"))


def test_a_book_of_another_symbol_or_in_the_place_of_trades_is_refused(files, tmp_path, capsys):
    other = tmp_path / "ETHUSDT-bbo.parquet"
    other.write_bytes(files["bbo"].read_bytes())
    out = ["--out", str(tmp_path / "rows.parquet")]
    assert main(["flow-features", "--trades", str(files["trades"]), "--book", str(other), *out]) == 78
    assert "--book of ETHUSDT" in capsys.readouterr().err
    assert main(["flow-features", "--trades", str(files["bbo"]), *out]) == 78
    with pytest.raises(ConfigurationError, match="both quotes of BTCUSDT"):
        list(stream([survey(files["bbo"]), survey(files["book10"])]))
