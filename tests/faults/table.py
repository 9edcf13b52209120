"""Renders what `make faults` wrote as bench/FAULTS.md. Usage: python -m tests.faults.table FILE…"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable
from pathlib import Path

HEAD = """# The fault matrix, as it was played

Rendered from a run of `make faults` by `python -m tests.faults.table target/faults.json`; nothing is written by hand.
Each row plays on a stack of its own (`candlecast up`: PostgreSQL, Triton, server, web door) under load: 24 symbols, 20
bar closes a second, by a client that sends again what was not answered. After each row every acknowledged forecast is
looked up in PostgreSQL (lost), keys are counted (duplicated), rows that PostgreSQL refused are counted (failed), and
the features of every stored forecast are computed anew from the stored candles and compared by hash. What server and
supervisor hold (memory, files, threads, connections) has to come back to what it was. Times are the worst of the row:
until a caller was told, until calls went on, until readiness was false, and until it was true again after the fault;
where the last two are missing, readiness was true all the time, which is asserted. Several figures of one kind are
given as a range. Row 24 waits for what it is about.
"""


COLUMNS = (
    "#",
    "fault",
    "injected",
    "lost",
    "duplicated",
    "failed rows",
    "told, s",
    "recovered, s",
    "unready, s",
    "ready, s",
    "more",
)
TIMES = "detect_s", "recover_s", "unready_after_s", "ready_again_s"
COUNTS = "injections", "lost", "duplicated", "failed_rows"


def rendered(runs: list[dict]) -> str:
    """Return the page of one run or several; of a row that was played again, the last."""
    for i, run in enumerate(runs):
        again = {row["row"] for later in runs[i + 1 :] for row in later["rows"]}
        run["rows"] = [row for row in run["rows"] if row["row"] not in again]
        run["failed"] = [number for number in run["failed"] if number not in again]
    lines, rows, failed = (
        [HEAD],
        [row for run in runs for row in run["rows"]],
        [n for run in runs for n in run["failed"]],
    )
    for run in runs:
        where, numbers = run["where"], ", ".join(str(row["row"]) for row in run["rows"])
        lines.append(f"- rows {numbers}: {where['cores']} cores, {where['system']}, commit {where['commit']},")
        lines.append(f"  {where['date']}, seed {run['seed']}")
    lines += ["", _line(COLUMNS), _line(["---"] * len(COLUMNS))]
    for row in sorted(rows, key=lambda row: row["row"]):
        times = [f"{row[name]:.1f}" if row.get(name) is not None else "–" for name in TIMES]
        more = "; ".join(f"{name} {_short(value)}" for name, value in row["notes"].items()).replace("|", "/")
        lines.append(_line([row["row"], row["fault"], *(row[name] for name in COUNTS), *times, more]))
    lines += ["", " ".join(f"{name}={sum(row[name] for row in rows)}" for name in COUNTS)]
    if failed:
        lines += ["", f"Rows that failed: {failed}."]
    return "\n".join(lines) + "\n"


def _short(value: object) -> str:
    """Return a note in few words: of a list the range, or, of objects, the range of each of their values."""
    if isinstance(value, dict):
        return ", ".join(f"{name} {_short(inner)}" for name, inner in value.items())
    if not isinstance(value, list):
        return f"{value:g}" if isinstance(value, float) else str(value)
    if all(isinstance(one, dict) for one in value):
        names = dict.fromkeys(name for one in value for name in one if one[name] is not None)
        return f"({_short({name: [one[name] for one in value if one.get(name) is not None] for name in names})})"
    numbers = [one for one in value if isinstance(one, int | float)]
    if len(numbers) < len(value) or not numbers:
        return ", ".join(map(str, value))
    ends = dict.fromkeys((min(numbers), max(numbers)))
    return " to ".join(f"{number:g}" for number in ends)


def _line(cells: Iterable[object]) -> str:
    return "| " + " | ".join(map(str, cells)) + " |"


if __name__ == "__main__":
    sys.stdout.write(rendered([json.loads(Path(path).read_text()) for path in sys.argv[1:]]))
