"""Numbers for series, a symbol and its interval each, so that what is known of them lies in arrays."""

from __future__ import annotations

from collections import defaultdict
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from candlecast.values import I64, SYMBOL_BYTES, Symbols

KEY: Final = np.dtype([("symbol", f"S{SYMBOL_BYTES}"), ("interval_ms", "<i8")])


class SeriesNumbers:
    """Gives each series the next number when it is first asked for."""

    def __init__(self) -> None:
        self._numbers: defaultdict[bytes, int] = defaultdict()
        self._numbers.default_factory = self._numbers.__len__

    def __len__(self) -> int:
        return len(self._numbers)

    def of(self, symbol: Symbols, interval_ms: I64) -> I64:
        """Return the numbers of series [N]; a new one gets the next."""
        keys = np.zeros(len(symbol), KEY)
        keys["symbol"], keys["interval_ms"] = symbol, interval_ms
        return np.array(list(map(self._numbers.__getitem__, keys.view(f"V{KEY.itemsize}").tolist())), dtype=np.int64)


def longer(column: NDArray[Any], count: int, empty: Any) -> NDArray[Any]:
    """Return a column [N, …] with room for `count` series, at least doubled if it had none; new places are `empty`."""
    if count <= len(column):
        return column
    more = np.full((max(count, 2 * len(column)) - len(column), *column.shape[1:]), empty, dtype=column.dtype)
    return np.concatenate([column, more])
