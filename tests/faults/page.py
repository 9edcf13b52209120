"""What `make faults` found, as the page bench/FAULTS.md, so that no figure in it is written by hand."""

from __future__ import annotations

import json
from typing import Any

LEFT_OUT = {
    9: "fsync error: a unit test of the journal, with a file layer that fails",
    11: "slow subscriber: comes with `Subscribe`",
    17: "clock jump: not yet",
    18: "bad models: come with model loading at run time",
    19: "model switches: likewise",
    22: "migration interrupted: `tests/integration/test_store_migrate.py`",
    23: "soak: `make soak`",
    24: "tokens and TLS: come with security",
    25: "event loop blocked: not yet",
    27: "a million symbols: not yet",
}
HEAD = """# Faults brought over a running stack, and what was lost

Written by `make faults`, all figures of one run: commit {commit}, {date}, {cores} cores, {system},
seed {seed}. The whole product runs as `candlecast up` starts it, one stack for each row, under a load of 24 symbols and
20 messages a second. "Lost" are acknowledged forecasts and accepted candles that are not in PostgreSQL afterwards,
"doubled" are keys that are there twice, "failed rows" were refused by PostgreSQL. Times are the worst of the row:
"told" until readiness was false or the part replaced; "again" from the fault, or from its end where it lasts, until the
server was ready and answered, or had stored what waited.
"""


def line(one: dict[str, Any]) -> str:
    """Return a row of the table."""
    told, again = (f"{one[key]:.2f} s" if one[key] is not None else "–" for key in ("detect_s", "recover_s"))
    figures = " | ".join(f"{one[key]:,}" for key in ("injections", "forecasts", "lost", "duplicated", "failed_rows"))
    failed = ", ".join(f"{key} × {count}" for key, count in one["failed_calls"].items()) or "none"
    return f"| {one['row']} | {one['fault']} | {figures} | {told} | {again} | {failed} |"


def page(run: dict[str, Any]) -> str:
    """Return the page of a run."""
    rows = run["rows"]
    titles = [
        "#",
        "fault",
        "injected",
        "forecasts",
        "lost",
        "doubled",
        "failed rows",
        "told",
        "again",
        "failed calls, retried",
    ]
    text = [HEAD.format(**run["where"], seed=run["seed"])]
    text += [f"| {' | '.join(titles)} |", "|" + "---|" * len(titles), *map(line, rows)]
    totals = [
        f"{sum(one[key] for one in rows):,}" for key in ("injections", "forecasts", "lost", "duplicated", "failed_rows")
    ]
    text += [f"| | all | {' | '.join(totals)} | | | |", ""]
    if run["failed"]:
        text += [f"Rows that failed in this run: {', '.join(map(str, run['failed']))}.", ""]
    text += ["What rows noted:", ""]
    text += [f"* {one['row']}: `{json.dumps(one['notes'])}`" for one in rows if one["notes"]]
    text += [
        "",
        "Rows of the matrix that are not here:",
        "",
        *(f"* {row}: {why}." for row, why in LEFT_OUT.items()),
        "",
    ]
    return "\n".join(text)
