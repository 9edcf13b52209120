"""Rows of a binary COPY as arrays: of any fixed width, or a time and eight numbers while they come. Knows no table."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from candlecast.errors import StorageUnavailable
from candlecast.store.pool import Connection
from candlecast.values import F64, I64

ROW: Final = np.dtype(
    [("fields", ">i2"), ("time_bytes", ">i4"), ("time", ">i8"), ("values", [("bytes", ">i4"), ("value", ">f8")], 8)]
)
"""One row in PostgreSQL's binary format: each field behind its length. A NULL has none, so the statement gives NaN."""
HEAD_BYTES: Final = 19
TAIL: Final = b"\xff\xff"
CHUNK_BYTES: Final = 1 << 20
"""What is kept as it came until it becomes arrays."""


async def copied(connection: Connection, statement: str, *values: object, what: str) -> tuple[I64, F64]:
    """Return the rows of a statement that gives a bigint and eight double precision, none NULL: [N] and [N, 8].

    Memory: that of the answer twice, and CHUNK_BYTES.

    Args:
        what: is read, for the error.

    Raises:
        StorageUnavailable: the rows came incomplete, or as the connection does.
    """
    rest, times, numbers = bytearray(), [np.empty(0, dtype=np.int64)], [np.empty((0, 8))]
    has_head = True

    def convert() -> None:
        nonlocal has_head
        if has_head:
            del rest[:HEAD_BYTES]
            has_head = False
        whole = len(rest) // ROW.itemsize * ROW.itemsize
        rows = np.frombuffer(bytes(rest[:whole]), ROW)
        times.append(rows["time"].astype(np.int64))
        numbers.append(rows["values"]["value"].astype(np.float64))
        del rest[:whole]

    async def receive(data: bytes) -> None:
        rest.extend(data)
        if len(rest) > CHUNK_BYTES:
            convert()

    await connection.copy_from_query(statement.rstrip(";"), *values, output=receive, format="binary")
    convert()
    if rest != TAIL:
        raise StorageUnavailable(f"{what} came incomplete; try again")
    return np.concatenate(times), np.concatenate(numbers)


def row_type(columns: Mapping[str, str]) -> np.dtype[np.void]:
    """Return the row of columns, each with NumPy's type for PostgreSQL's: big-endian, of fixed width, never NULL."""
    fields = [("fields", ">i2")]
    for name, type_ in columns.items():
        fields += [(f"{name}.bytes", ">i4"), (name, type_)]
    return np.dtype(fields)


async def rows_of(
    connection: Connection, row: np.dtype[np.void], statement: str, *values: object, what: str
) -> NDArray[Any]:
    """Return all rows of a statement at once, [N] of `row`.

    Raises:
        StorageUnavailable: the rows came incomplete or otherwise than `row` says, or as the connection does.
    """
    data = bytearray()

    async def receive(some: bytes) -> None:
        data.extend(some)

    await connection.copy_from_query(statement.rstrip(";"), *values, output=receive, format="binary")
    count, rest = divmod(len(data) - HEAD_BYTES - len(TAIL), row.itemsize)
    names = row.names or ()
    if not rest:
        rows = np.frombuffer(data, row, count, HEAD_BYTES)
        if (rows["fields"] == len(names) // 2).all() and all(
            (rows[size] == row[name].itemsize).all() for size, name in zip(names[1::2], names[2::2], strict=True)
        ):
            return rows
    raise StorageUnavailable(f"{what} came incomplete; try again")
