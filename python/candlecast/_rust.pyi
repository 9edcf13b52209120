"""The Rust core: candles in, rows of features out. Arrays in, arrays out; the GIL is released while it works.

Shapes: N candles of a batch, M windows of the caller's buffer, F = len(catalog()) features.
"""

from collections.abc import Sequence
from typing import Any, Final, Literal, final

import numpy as np
from numpy.typing import NDArray

WINDOW: Final[int]
"""Rows in a window."""

FEATURE_SET: Final[str]
"""Name of the feature set."""

OPTIONAL_INPUTS: Final[tuple[str, ...]]
"""The inputs a market may use or not: quote_volume, trades, taker_buy_volume, reference."""

HORIZON_WEIGHTS: Final[tuple[float, ...]]
"""What each horizon counts for in a forecast."""

VERDICTS: Final[tuple[str, ...]]
"""What became of a candle: ACCEPTED, DUPLICATE, CONFLICT, LATE, REFUSED, PEEKED. The code is the index."""

STATES: Final[tuple[str, ...]]
"""State of a symbol: COLD, WARMING, READY, STALE, QUARANTINED. The code is the index."""

FIELDS: Final[tuple[str, ...]]
"""The field a refusal speaks of. The code is the index; 0 is the empty string: nothing refused."""

REASONS: Final[tuple[str, ...]]
"""Why a candle was refused: BAD_SYMBOL, BAD_INTERVAL, UNALIGNED, … The code is the index; 0 is the empty string."""

@final
class Feature:
    """One column of the feature set. Immutable."""

    @property
    def index(self) -> int: ...
    @property
    def name(self) -> str: ...
    @property
    def group(self) -> str: ...
    @property
    def formula(self) -> str:
        """What it is, in the notation of the specification."""
    @property
    def convention(self) -> str:
        """What settles what the formula leaves open; empty when nothing is."""
    @property
    def warmup_bars(self) -> int:
        """Bars after which it has a value. NaN before, never NaN after."""
    @property
    def low(self) -> float: ...
    @property
    def high(self) -> float: ...
    @property
    def version(self) -> int:
        """Version of the formula; part of the feature-set hash."""

def catalog() -> list[Feature]:
    """Return every feature, in column order."""

def crc32c(data: bytes) -> int:
    """Return the 32-bit checksum (Castagnoli) of data."""

@final
class Meaning:
    """What `interpret` finds, as columns; `candlecast.values.Interpretation` says what they are. Immutable."""

    @property
    def side(self) -> NDArray[np.int8]: ...
    @property
    def finite(self) -> NDArray[np.bool_]: ...
    @property
    def confidence(self) -> NDArray[np.float64]: ...
    @property
    def agreement(self) -> NDArray[np.float64]: ...
    @property
    def move(self) -> NDArray[np.float64]: ...
    @property
    def edge(self) -> NDArray[np.float64]: ...
    @property
    def quality(self) -> NDArray[np.float64]: ...
    @property
    def returns(self) -> NDArray[np.float64]: ...
    @property
    def probabilities(self) -> NDArray[np.float64]: ...
    @property
    def risks(self) -> NDArray[np.float64]: ...
    @property
    def stop_loss(self) -> NDArray[np.float64]: ...
    @property
    def take_profit(self) -> NDArray[np.float64]: ...

def interpret(outputs: NDArray[np.float32], temperatures: NDArray[np.float64]) -> Meaning:
    """Read outputs [B, 20] with calibration temperatures [4] or [B, 4].

    Raises:
        TypeError, ValueError: an array has another type or shape.
    """

def interleave(
    empty: bytes,
    count: int,
    parts: list[tuple[NDArray[np.int64] | None, list[tuple[int, str, Any]]]],
) -> bytes:
    """Return `count` records, copies of `empty` that columns were written into.

    Args:
        parts: which records [K] the columns are of, None for all; and for each column its offset in the record, the
            type there, and [K] numbers, [K, M] of them that lie one behind the other, [K] texts of dtype S32, or one
            number for all. Types are called as by `numpy.dtype.str`; "|blank" is "|S32" with blanks behind.

    Raises:
        TypeError, ValueError: a column has another length, a type that is not written, or no room.
    """

def feature_set_hash(optional_inputs: Sequence[str] = ...) -> int:
    """Return the 64-bit hash of the ordered (name, formula version) list and the optional inputs in use.

    Raises:
        ValueError: a name that is not in OPTIONAL_INPUTS.
    """

@final
class Pushed:
    """The answers to a batch, in its order. `state`, `have` and `gap_filled` speak as of the candle, not of the clock:
    for PEEKED they describe the copy on which the forming candle was computed."""

    @property
    def verdict(self) -> NDArray[np.uint8]:
        """[N] index into VERDICTS."""
    @property
    def field(self) -> NDArray[np.uint8]:
        """[N] index into FIELDS; 0 unless REFUSED."""
    @property
    def reason(self) -> NDArray[np.uint8]:
        """[N] index into REASONS; 0 unless REFUSED."""
    @property
    def state(self) -> NDArray[np.uint8]:
        """[N] index into STATES. QUARANTINED goes before WARMING and READY."""
    @property
    def have(self) -> NDArray[np.uint32]:
        """[N] closed bars seen since the (re)start, filled ones included; `Market.need` of them make a symbol READY."""
    @property
    def gap_filled(self) -> NDArray[np.bool_]:
        """[N] whether the window holds a bar that was filled in."""
    @property
    def window(self) -> NDArray[np.int32]:
        """[N] index of the window in the caller's buffer, -1 when none was written."""
    @property
    def features_hash(self) -> NDArray[np.uint64]:
        """[N] low 56 bits of xxh3_64 over the newest row's little-endian float32 bytes; 0 without a window."""
    @property
    def still(self) -> NDArray[np.uint32]:
        """[N] columns that have one value all through that window; 0 without a window."""
    @property
    def close(self) -> NDArray[np.float64]:
        """[N] close of the symbol's newest bar (for PEEKED: of the forming one); NaN for a symbol never seen."""
    @property
    def open_time_ms(self) -> NDArray[np.int64]:
        """[N] open time of that bar; -1 for a symbol never seen."""
    @property
    def ready(self) -> int:
        """Windows written: they are `windows[:ready]`."""
    @property
    def core_ns(self) -> int:
        """Nanoseconds the core took for the whole batch, without the way from Python and back."""

@final
class Status:
    """Where a symbol stands. Immutable."""

    @property
    def state(self) -> int:
        """Index into STATES. QUARANTINED goes before STALE, STALE before WARMING and READY."""
    @property
    def have(self) -> int: ...
    @property
    def need(self) -> int: ...
    @property
    def newest_open_time_ms(self) -> int | None: ...
    @property
    def conflicts(self) -> int:
        """Conflicts since the first candle."""
    @property
    def gap_filled(self) -> bool: ...

@final
class Market:
    """The features of every (symbol, interval). Safe to call from several threads: calls wait for one another."""

    def __new__(
        cls,
        *,
        symbols_max: int = 20_000,
        conflicts_max: int = 3,
        optional_inputs: Sequence[str] = ...,
        reference_symbol: str | None = None,
        threads: int = 1,
        ring: Literal["f32", "f16"] = "f32",
    ) -> Market:
        """Create an empty market.

        Args:
            symbols_max: pairs of symbol and interval that may be held; a candle of one more is REFUSED (SYMBOL_LIMIT).
            conflicts_max: conflicts within 96 accepted candles that quarantine a symbol, until 96 accepted candles
                passed without one.
            optional_inputs: names of OPTIONAL_INPUTS that are used; the others are ignored, whatever comes. Serve
                a model with those it was trained with: they are part of the feature-set hash.
            reference_symbol: the symbol whose closes the others are compared with, when `reference` is used. It is
                itself computed without a reference.
            threads: engines that move at once, in batches of 128 candles or more. Rows do not depend on it.
            ring: how the last 96 rows of a symbol are kept. "f16" takes half the memory (46 KB a symbol) and gives
                windows, of either type, rounded to float16; the newest row stays float32.

        Raises:
            ValueError: a limit is less than 1, `ring` is neither, a name is unknown or malformed, `reference` lacks its
                symbol.
        """
    @property
    def need(self) -> int:
        """Candles until a symbol is READY."""
    def push(
        self,
        symbols: list[str] | NDArray[np.bytes_],
        interval_ms: NDArray[np.int64],
        open_time_ms: NDArray[np.int64],
        values: NDArray[np.float64],
        forming: NDArray[np.bool_],
        now_ms: int,
        windows: NDArray[np.float32] | NDArray[np.float16],
        rows: NDArray[np.float32] | None = None,
    ) -> Pushed:
        """Take a batch of candles in its order; a symbol may occur many times.

        Only a candle of the reference symbol goes before the other candles of its bar, wherever it stands in the batch.
        A symbol's bar whose reference close is not known when it is taken counts as one without a reference.

        A malformed candle is REFUSED in its place and touches no other. A window is written for a candle that is
        ACCEPTED, PEEKED, or a DUPLICATE of the newest (whoever lost the answer gets it again), and whose 96 rows are
        complete, whatever else the state is; windows lie without holes, in batch order.

        Args:
            symbols: N names, 1-32 characters of `[A-Z0-9._:/-]`: strings, or an array of dtype S32.
            interval_ms: [N] length of the bars.
            open_time_ms: [N] start of the bars, UTC.
            values: [N, 8] open, high, low, close, volume, quote_volume, trades, taker_buy_volume; NaN = absent, in the
                last three.
            forming: [N] the bar is not over: compute its row on a copy and move nothing.
            now_ms: the clock, UTC. It only refuses candles from the future.
            windows: [M, 96, F] f32 or f16, C-contiguous and writable, M = 0 (no windows wanted) or M >= N. Do not touch
                it, or the inputs, from another thread meanwhile.
            rows: [N, F], the newest row of the symbol after each candle that is ACCEPTED, PEEKED or a DUPLICATE of the
                newest; NaN before a feature's warm-up, and everywhere for the other candles.

        Raises:
            TypeError: an array of another dtype, a symbol that is no string.
            ValueError: an array of another shape, or not contiguous. In both cases no state has moved.
        """
    def windows_into(
        self,
        out: NDArray[np.float32] | NDArray[np.float16],
        symbols: list[str] | NDArray[np.bytes_],
        interval_ms: int,
        now_ms: int,
    ) -> Pushed:
        """Write the newest window of each symbol whose 96 rows are complete, without a new candle.

        Verdicts: DUPLICATE (nothing moved), or REFUSED for a malformed name. Unlike with `push`, `state` is that at
        `now_ms` and may be STALE.

        Args:
            out: [M, 96, F] f32 or f16, as `windows` of `push`.
            symbols: N names.
            interval_ms: length of their bars.
            now_ms: the clock, UTC.

        Raises:
            TypeError, ValueError: as `push`.
        """
    def symbols(self) -> list[tuple[str, int]]:
        """Return every known (symbol, interval_ms): the reference symbol's first, then by name and interval."""
    def snapshot(self, symbol: str, interval_ms: int) -> bytes | None:
        """Return all that is remembered of a symbol, for the reference symbol its closes too; None for one never seen.

        The bytes begin with magic, version, feature-set hash, length and crc32c, and can be restored on any machine.

        Raises:
            ValueError: a malformed symbol.
        """
    def restore(self, snapshot: bytes) -> tuple[str, int]:
        """Put a symbol back as its snapshot has it, in place of what is known of it; return its name and interval.

        What follows is equal bit by bit to what would have followed where the snapshot was taken.

        Raises:
            ValueError: the bytes are damaged, of another version, feature set, reference symbol or ring, or one symbol
                too many. Nothing has changed.
        """
    def status(self, symbol: str, interval_ms: int, now_ms: int) -> Status:
        """Tell where a symbol stands at `now_ms`; STALE when its newest candle closed more than two intervals ago.

        Raises:
            ValueError: a malformed symbol.
        """
    def count_conflict(self, symbol: str, interval_ms: int) -> None:
        """Count a conflict that was found elsewhere: with a candle too old to be remembered here.

        Raises:
            ValueError: a malformed symbol.
        """
    def rows(self, symbol: str, interval_ms: int) -> NDArray[np.float32]:
        """Return the newest rows of a symbol, at most 96: [k, F], newest last. NaN before each feature's warm-up.

        Raises:
            ValueError: a malformed symbol.
        """

FLOW_TAKEN: Final[tuple[str, ...]]
"""What became of a trade or quote: ACCEPTED, DUPLICATE, LATE, REFUSED. The code is the index."""

FLOW_UNDEFINED: Final[tuple[str, ...]]
"""Why a feature is NaN: "" (it is not), NO_TRADES, NO_SPREAD, NO_BOOK, STALE_BOOK. The code is the index."""

_FlowTrades = tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float64], NDArray[np.float64]]
"""ts (ms), id (below 0: none), price, qty; each [N], by time."""
_FlowQuotes = tuple[
    NDArray[np.int64], NDArray[np.float64], NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]
]
"""ts (ms), bid, bid_size, ask, ask_size; each [M], by time."""
_FlowDepth = tuple[
    NDArray[np.int64],
    NDArray[np.int64],
    NDArray[np.int64],
    NDArray[np.int64],
    NDArray[np.int8],
    NDArray[np.float64],
    NDArray[np.float64],
    NDArray[np.bool_],
]
"""ts (ms), first, last and previous update id (0: not told), side (+1 bid, -1 ask), price, qty (0: gone), is_snapshot;
each [L], one row a level. Rows of the same ids behind one another are one event, which a batch holds wholly."""

@final
class FlowPushed:
    """What became of a batch of one symbol."""

    @property
    def rows(self) -> NDArray[np.float64]:
        """[N, 8] as of each trade: tick_ratio, depth_ratio, price_dist, price, vwap, std_dev, bid_vol, ask_vol; NaN
        where undefined. Of a trade that was not accepted: as of the newest."""
    @property
    def undefined(self) -> NDArray[np.uint8]:
        """[N, 2] why price_dist and depth_ratio are NaN: index into FLOW_UNDEFINED."""
    @property
    def trades(self) -> NDArray[np.uint8]:
        """[N] index into FLOW_TAKEN."""
    @property
    def quotes(self) -> NDArray[np.uint8]:
        """[M] index into FLOW_TAKEN."""
    @property
    def depth(self) -> NDArray[np.uint8]:
        """[events] 0 applied, 1 known already, 2 too early (kept for the next snapshot), 3 a gap is before it."""

@final
class FlowStatus:
    """Where a symbol's order flow stands, and what was counted of it."""

    @property
    def newest_ts(self) -> int | None: ...
    @property
    def trades(self) -> int: ...
    @property
    def late(self) -> int: ...
    @property
    def duplicates(self) -> int: ...
    @property
    def refused(self) -> int: ...
    @property
    def gaps(self) -> int: ...
    @property
    def book_is_valid(self) -> bool: ...

@final
class OrderFlow:
    """Trades and books of many symbols: the three features of the gate, by event time.

    tick_ratio: mean tick sign of the last 50 trades (tick rule; an unchanged price repeats the sign before, the first
    trade has 0). depth_ratio: (bid - ask)/(bid + ask) size at the best level, 0 when both are empty. price_dist: (last
    price - VWAP)/sigma over the trades of the last 30 s (one exactly that old has left), at most 600, sigma
    volume-weighted.

    Args:
        symbols_max: symbols that may be held.
        stale_ms: for how long a best bid and ask speaks.
    """

    def __new__(cls, *, symbols_max: int = 4_096, stale_ms: int = 5_000) -> OrderFlow: ...
    def push(
        self,
        symbol: str,
        *,
        trades: _FlowTrades | None = None,
        quotes: _FlowQuotes | None = None,
        depth: _FlowDepth | None = None,
    ) -> FlowPushed:
        """Take a batch by the times of its events; at one time the book moves first.

        Raises:
            ValueError: a malformed symbol, columns of different lengths, a level that is none.
            TypeError: a column of another dtype.
            OverflowError: the symbol is new and symbols_max is reached.
        """
    def at(self, symbols: NDArray[np.bytes_] | list[str], ts: int) -> tuple[NDArray[np.float64], NDArray[np.uint8]]:
        """Return rows [B, 8] and reasons [B, 2] as of a time, or as of a symbol's newest trade when that is later."""
    def status(self, symbol: str) -> FlowStatus | None:
        """Return where a symbol stands; None for an unknown one."""
    def book(self, symbol: str, levels: int) -> tuple[list[tuple[float, float]], list[tuple[float, float]]] | None:
        """Return the best bids and asks, (price, size), of a book built of depth; None while it is not valid."""

@final
class OpenPositions:
    """P open positions, in the order they were opened. Immutable: a copy."""

    @property
    def series(self) -> NDArray[np.int64]:
        """[P]"""
    @property
    def side(self) -> NDArray[np.int8]:
        """[P] 1 LONG, -1 SHORT."""
    @property
    def quality(self) -> NDArray[np.float64]:
        """[P] of the signal."""
    @property
    def signal_ms(self) -> NDArray[np.int64]:
        """[P] close of the signal's candle."""
    @property
    def until_ms(self) -> NDArray[np.int64]:
        """[P] close at which it has had its bars."""
    @property
    def entry(self) -> NDArray[np.float64]:
        """[P] price; NaN until the next candle."""
    @property
    def mark(self) -> NDArray[np.float64]:
        """[P] last close."""
    @property
    def stop_loss(self) -> NDArray[np.float64]:
        """[P] fraction of the entry."""
    @property
    def take_profit(self) -> NDArray[np.float64]:
        """[P] fraction of the entry."""

@final
class Portfolio:
    """The filters that remember; `candlecast.portfolio` is its door. Arrays may have any strides.

    Args:
        signals_per_minute_max: signals whose closes lie within a minute.
        correlation_max: of a signal with an open position of its side.
        sharpe_min: of a series with 30 closed trades.
        score_max: sum of the qualities of one side's positions.
        position_bars_max: how long a position is held.
        trade_cost: of entering and leaving, as a fraction.
        bits: of the reasons: rate, correlation, Sharpe ratio, score.

    Raises:
        TypeError, ValueError: an array has another type or shape, before anything moves.
    """

    def __new__(
        cls,
        *,
        signals_per_minute_max: int,
        correlation_max: float,
        sharpe_min: float,
        score_max: float,
        position_bars_max: int,
        trade_cost: float,
        bits: tuple[int, int, int, int],
    ) -> Portfolio: ...
    def judge(
        self,
        series: NDArray[np.int64],
        interval_ms: NDArray[np.int64],
        close_time_ms: NDArray[np.int64],
        ohlc: NDArray[np.float64],
        side: NDArray[np.int8],
        quality: NDArray[np.float64],
        stop_loss: NDArray[np.float64],
        take_profit: NDArray[np.float64],
        passes: NDArray[np.bool_],
        forming: NDArray[np.bool_],
        past: NDArray[np.float32],
        others: tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float64]] | None,
    ) -> NDArray[np.uint32]:
        """Return for each forecast [B] the bits of the reasons that hold it back, and open what passes everything.

        Args:
            ohlc: [B, 4] of the newest candle; NaN: asked for without one.
            past: [B, 96] one-bar returns, oldest first, the newest candle's the last.
            others: series [N], close [N] and ohlc [N, 4] of candles of the same time without a forecast.
        """
    def follow(self, series: NDArray[np.int64], close_time_ms: NDArray[np.int64], ohlc: NDArray[np.float64]) -> None:
        """Move positions by candles [N] without forecasts."""
    def reopen(
        self,
        series: int,
        side: int,
        quality: float,
        close_ms: int,
        interval_ms: int,
        price: float,
        stop_loss: float,
        take_profit: float,
    ) -> None:
        """Take note of a signal that was given before."""
    def remember(
        self, series: NDArray[np.int64], close_time_ms: NDArray[np.int64], reasons: NDArray[np.uint32]
    ) -> None:
        """Take note of forecasts [K] that were judged before."""
    def take_returns(
        self,
        series: NDArray[np.int64],
        bar: NDArray[np.int64],
        interval_ms: NDArray[np.int64],
        past: NDArray[np.float32],
    ) -> None:
        """Learn the returns [K, 96] of series up to bars [K], which are closes divided by intervals."""
    def count(self, series: int, trades: int, total: float, squares: float, first_ms: int, last_ms: int) -> None:
        """Add closed trades of a series: sum and sum of squares of their returns, first entry and last exit."""
    def forget_trades(self) -> None: ...
    def trades(self, series: int) -> tuple[int, float, float]:
        """Return of a series' closed trades their number, the sum of their returns, and their Sharpe ratio a year."""
    def correlation(self, a: int, b: int) -> float:
        """Return that of two series over the last 96 bars that both have, at least 64; NaN: they are not compared."""
    @property
    def signals_ms(self) -> list[int]:
        """The closes of the newest signals."""
    @property
    def is_flat(self) -> bool:
        """Whether no position is open."""
    @property
    def open(self) -> OpenPositions: ...

@final
class Door:
    """A gRPC door, on a thread of its own: hands over messages of some methods, all other calls go on to a server.

    Args:
        address: HOST:PORT.
        upstream: abstract name of the Unix socket of the server behind it.
        methods: /package.Service/Method, and whether it takes a stream of messages and gives one answer to each.
        message_bytes_max: largest message.
        inbox_max: messages that wait to be taken; the next ones fail with `full`: code, words, google.rpc.Status.
        stream_messages_max: of one stream that wait for their answers; a faster client is slowed down.
        stream_bytes_max: the same in bytes.
        keep_alive_ms: how often a silent client is asked whether it lives.
        keep_alive_timeout_ms: how long it has for that.

    Raises:
        OSError: the address cannot be had.
    """

    @property
    def fd(self) -> int:
        """Readable once something has arrived."""

    @property
    def port(self) -> int: ...
    def __new__(
        cls,
        address: str,
        upstream: str,
        methods: Sequence[tuple[str, bool]],
        *,
        message_bytes_max: int,
        inbox_max: int,
        full: tuple[int, str, bytes],
        stream_messages_max: int,
        stream_bytes_max: int,
        keep_alive_ms: int,
        keep_alive_timeout_ms: int,
    ) -> Door: ...
    def take(self) -> list[tuple[int, int, bytes | None, float | None, int | None]]:
        """Take what has arrived, in order.

        That is: number of the call, place of the method, message, seconds its caller waits, number of its stream. A
        message of None says that the caller of that number waits no more. Nothing of a stream comes once one of its
        messages has failed.
        """
    def answer(self, answers: Sequence[tuple[int, bytes]]) -> None:
        """Answer calls by number; one that was left takes no harm."""
    def fail(self, call: int, code: int, message: str, details: bytes) -> None:
        """End a call with a status; of a stream, all of it."""
    def refused(self) -> dict[int, int]:
        """Return how many calls of the methods it ended before their message was taken, by status code."""
    def stop(self, code: int, message: str, details: bytes) -> None:
        """Read no more from streams: what was read is answered, then they end with this status."""
    def close(self, grace_ms: int, code: int, message: str, details: bytes) -> None:
        """Take no more connections, and end when the calls there are have ended, at the latest after the grace."""
    def wait(self) -> None:
        """Wait until it has ended; blocks."""
