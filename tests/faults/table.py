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
the features of every stored forecast are computed anew from the stored candles and compared by hash. Times are the
worst of the row. Rows 9, 17, 22, 25 and 27 are not played; 11, 18, 19 and 24 wait for what they are about.
"""


COLUMNS = "#", "fault", "injected", "lost", "duplicated", "failed rows", "told, s", "recovered, s", "more"
COUNTS = "injections", "lost", "duplicated", "failed_rows"


def rendered(runs: list[dict]) -> str:
    """Return the page of one run or several; of a row that was played again, the last."""
    for i, run in enumerate(runs):
        again = {row["row"] for later in runs[i + 1 :] for row in later["rows"]}
        run["rows"] = [row for row in run["rows"] if row["row"] not in again]
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
        times = [f"{row[name]:.1f}" if row[name] is not None else "–" for name in ("detect_s", "recover_s")]
        more = ", ".join(f"{name} {value}" for name, value in row["notes"].items()).replace("|", "/")
        lines.append(_line([row["row"], row["fault"], *(row[name] for name in COUNTS), *times, more]))
    lines += ["", " ".join(f"{name}={sum(row[name] for row in rows)}" for name in COUNTS)]
    if failed:
        lines += ["", f"Rows that failed: {failed}."]
    return "\n".join(lines) + "\n"


def _line(cells: Iterable[object]) -> str:
    return "| " + " | ".join(map(str, cells)) + " |"


if __name__ == "__main__":
    sys.stdout.write(rendered([json.loads(Path(path).read_text()) for path in sys.argv[1:]]))
