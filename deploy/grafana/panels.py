"""What a Grafana dashboard of ours is made of: panels with their queries, and how Grafana has them as JSON."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

PROMETHEUS = {"type": "prometheus", "uid": "candlecast-prometheus"}
POSTGRESQL = {"type": "grafana-postgresql-datasource", "uid": "candlecast-postgresql"}
GRID = 24


@dataclass(frozen=True)
class Panel:
    """One panel.

    Attributes:
        kind: timeseries, stat, bargauge, table, barchart, heatmap.
        queries: {legend: PromQL}, or SQL.
        unit: Grafana's: s, short, percentunit, bytes, …
        size: columns and rows.
        red: the value from which on it is red, for a stat; below it when `low_is_red`.
    """

    title: str
    kind: str
    queries: dict[str, str] | str
    unit: str = "short"
    size: tuple[int, int] = (12, 8)
    text: str = ""
    red: float | None = None
    low_is_red: bool = False
    stacked: bool = False
    more: dict[str, Any] = field(default_factory=dict)

    def json(self, number: int, x: int, y: int) -> dict[str, Any]:
        is_sql = isinstance(self.queries, str)
        source = POSTGRESQL if is_sql else PROMETHEUS
        custom: dict[str, Any] = {}
        if self.kind == "timeseries":
            custom = {"fillOpacity": 15 if self.stacked else 0, "lineWidth": 1, "showPoints": "never"}
            custom["stacking"] = {"mode": "normal" if self.stacked else "none"}
        steps: list[dict[str, Any]] = [{"color": "red" if self.low_is_red else "green", "value": None}]
        if self.red is not None:
            steps.append({"color": "green" if self.low_is_red else "red", "value": self.red})
        return {
            "id": number,
            "title": self.title,
            "description": self.text,
            "type": self.kind,
            "datasource": source,
            "gridPos": {"x": x, "y": y, "w": self.size[0], "h": self.size[1]},
            "targets": self._targets(source),
            "fieldConfig": {
                "defaults": {
                    "unit": self.unit,
                    "custom": custom,
                    "thresholds": {"mode": "absolute", "steps": steps},
                    "noValue": "–",
                },
                "overrides": [],
            },
            "options": self._options(),
            **self.more,
        }

    def _targets(self, source: dict[str, str]) -> list[dict[str, Any]]:
        if isinstance(self.queries, str):
            shape = "time_series" if self.kind == "timeseries" else "table"
            sql = self.queries.strip()
            return [
                {
                    "refId": "A",
                    "datasource": source,
                    "format": shape,
                    "rawQuery": True,
                    "editorMode": "code",
                    "rawSql": sql,
                }
            ]
        instant = self.kind in {"stat", "bargauge", "table"}
        return [
            {
                "refId": chr(ord("A") + i),
                "datasource": source,
                "expr": expression,
                "legendFormat": legend,
                "instant": instant,
                "range": not instant,
                "format": "heatmap" if self.kind == "heatmap" else "table" if self.kind == "table" else "time_series",
            }
            for i, (legend, expression) in enumerate(self.queries.items())
        ]

    def _options(self) -> dict[str, Any]:
        match self.kind:
            case "stat" | "bargauge":
                reduced = {"reduceOptions": {"calcs": ["lastNotNull"], "fields": "", "values": self.kind == "bargauge"}}
                return {**reduced, "orientation": "horizontal" if self.kind == "bargauge" else "auto"}
            case "timeseries":
                return {
                    "legend": {"displayMode": "list", "placement": "bottom"},
                    "tooltip": {"mode": "multi", "sort": "desc"},
                }
            case "heatmap":
                return {
                    "calculate": False,
                    "color": {"scheme": "Blues", "mode": "scheme"},
                    "yAxis": {"unit": self.unit},
                }
            case "barchart":
                return {"orientation": "horizontal", "legend": {"showLegend": False}}
            case _:
                return {}


@dataclass(frozen=True)
class Dashboard:
    uid: str
    title: str
    text: str
    panels: tuple[Panel, ...]
    since: str = "now-3h"
    refresh: str = "15s"
    by_instance: bool = True

    def json(self) -> dict[str, Any]:
        panels, x, y, height = [], 0, 0, 0
        for number, panel in enumerate(self.panels, 1):
            if x + panel.size[0] > GRID:
                x, y, height = 0, y + height, 0
            panels.append(panel.json(number, x, y))
            x, height = x + panel.size[0], max(height, panel.size[1])
        variable = {
            "name": "instance",
            "label": "server",
            "type": "query",
            "datasource": PROMETHEUS,
            "query": {"query": "label_values(candlecast_ready, instance)", "refId": "A"},
            "definition": "label_values(candlecast_ready, instance)",
            "refresh": 2,
            "includeAll": True,
            "multi": True,
            "current": {"text": "All", "value": "$__all"},
        }
        return {
            "uid": self.uid,
            "title": self.title,
            "description": self.text,
            "tags": ["candlecast"],
            "timezone": "utc",
            "schemaVersion": 39,
            "editable": False,
            "graphTooltip": 1,
            "time": {"from": self.since, "to": "now"},
            "refresh": self.refresh,
            "templating": {"list": [variable] if self.by_instance else []},
            "panels": panels,
        }
