"""Writes dashboards/*.json, which are what Grafana reads: `python -m deploy.grafana.build` after a change.

A panel is a title, how it is drawn, and its queries: of Prometheus by the text of the legend, or one of PostgreSQL.
tests/integration/test_grafana.py runs every one of them against the real servers.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

from deploy.grafana.live import FORECASTS, SYSTEM
from deploy.grafana.panels import Dashboard
from deploy.grafana.stored import FEATURES, RESULTS

JSON = Path(__file__).resolve().parent / "dashboards"
DASHBOARDS = (FORECASTS, SYSTEM, FEATURES, RESULTS)


def rendered(board: Dashboard) -> str:
    """Return a dashboard as its file has it."""
    return json.dumps(board.json(), indent=1, ensure_ascii=False) + "\n"


def main() -> None:
    for board in DASHBOARDS:
        path = JSON / f"{board.uid}.json"
        path.write_text(rendered(board), encoding="utf-8")
        print(path.name, len(board.panels), "panels", file=sys.stderr)


if __name__ == "__main__":
    main()
