"""The dashboards of what Prometheus has: forecasts as they leave, and the parts of the system."""

from __future__ import annotations

from typing import Final

from deploy.grafana.panels import Dashboard, Panel

HERE_ONLY: Final = 'instance=~"$instance"'
"""The condition on a series that the variable at the top of a dashboard chooses."""


def rate(name: str, by: str = "", labels: str = "") -> str:
    """Return the sum of rates a second of a counter."""
    inside = ", ".join(part for part in (HERE_ONLY, labels) if part)
    return f"sum{f' by ({by})' if by else ''} (rate({name}{{{inside}}}[$__rate_interval]))"


def quantile(share: float, name: str, by: str = "", labels: str = "") -> str:
    """Return a percentile of a histogram."""
    return f"histogram_quantile({share}, {rate(f'{name}_bucket', f'le, {by}' if by else 'le', labels)})"


def percentiles(name: str, labels: str = "") -> dict[str, str]:
    return {f"P{round(100 * share)}": quantile(share, name, labels=labels) for share in (0.5, 0.95, 0.99)}


def here(name: str, labels: str = "") -> str:
    return f"{name}{{{', '.join(part for part in (HERE_ONLY, labels) if part)}}}"


FORECASTS = Dashboard(
    "candlecast-forecasts",
    "candlecast forecasts",
    "How many, how fast, how sure, and why there was no signal.",
    (
        Panel(
            "Forecasts a minute",
            "stat",
            {"": f"60 * {rate('ml_predictions_total')}"},
            size=(6, 4),
        ),
        Panel(
            "Signals a minute",
            "stat",
            {"": "60 * " + rate("ml_predictions_total", labels='direction!="NEUTRAL"')},
            size=(6, 4),
        ),
        Panel(
            "P99, message to disk",
            "stat",
            {"": quantile(0.99, "candlecast_forecast_duration_seconds")},
            "s",
            (6, 4),
            red=0.25,
        ),
        Panel(
            "Answered from memory",
            "stat",
            {"": f"{rate('ml_cache_hits_total')} / ({rate('ml_cache_hits_total')} + {rate('ml_predictions_total')})"},
            "percentunit",
            (6, 4),
        ),
        Panel(
            "Forecasts a minute, by direction",
            "timeseries",
            {"{{direction}}": f"60 * {rate('ml_predictions_total', 'direction')}"},
            stacked=True,
        ),
        Panel(
            "Forecasts a minute, by model",
            "timeseries",
            {"{{model}} v{{version}}": f"60 * {rate('ml_predictions_total', 'model, version')}"},
            stacked=True,
        ),
        Panel("Latency, message to disk", "timeseries", percentiles("candlecast_forecast_duration_seconds"), "s"),
        Panel("Latency of the model", "timeseries", percentiles("ml_inference_duration_seconds"), "s"),
        Panel(
            "Where the time goes, P95 of each stage",
            "timeseries",
            {"{{stage}}": quantile(0.95, "candlecast_stage_duration_seconds", "stage")},
            "s",
        ),
        Panel(
            "Forecasts that go one way together",
            "timeseries",
            {
                "mean": f"{rate('candlecast_batch_rows_sum')} / {rate('candlecast_batch_rows_count')}",
                "P95": quantile(0.95, "candlecast_batch_rows"),
            },
        ),
        Panel(
            "Distribution of confidence",
            "heatmap",
            {"{{le}}": "sum by (le) (increase(ml_signal_confidence_bucket{" + HERE_ONLY + "}[$__interval]))"},
            "percentunit",
        ),
        Panel(
            "Confidence of signals",
            "timeseries",
            {
                "median": quantile(0.5, "ml_signal_confidence", labels='direction!="NEUTRAL"'),
                "P90": quantile(0.9, "ml_signal_confidence", labels='direction!="NEUTRAL"'),
            },
            "percentunit",
        ),
        Panel(
            "Why there is no signal, a minute",
            "timeseries",
            {"{{reason}}": f"60 * {rate('candlecast_neutral_reasons_total', 'reason')}"},
        ),
        Panel(
            "Cache hits",
            "timeseries",
            {"a minute": f"60 * {rate('ml_cache_hits_total')}"},
            text="The same symbol, close and model, asked again within the time to live.",
        ),
        Panel(
            "What the gate says, a minute",
            "timeseries",
            {
                "{{verdict}}": f"60 * {rate('candlecast_gate_decisions_total', 'verdict')}",
                "by the heuristic": f"60 * {rate('candlecast_gate_degraded_total')}",
            },
        ),
        Panel(
            "Candles a minute, by what became of them",
            "timeseries",
            {
                "{{verdict}}": f"60 * {rate('candlecast_candles_total', 'verdict')}",
                "refused: {{reason}}": f"60 * {rate('candlecast_candles_refused_total', 'reason')}",
            },
        ),
        Panel(
            "Forecasts missed, and made in doubt",
            "timeseries",
            {
                "missed: {{why}}": f"60 * {rate('candlecast_missed_forecasts_total', 'why')}",
                "degraded": f"60 * {rate('candlecast_degraded_total')}",
                "owed now": here("candlecast_missing_forecasts"),
            },
        ),
    ),
)

SYSTEM = Dashboard(
    "candlecast-system",
    "candlecast system",
    "Server, journal, database and Triton.",
    (
        Panel("Ready", "stat", {"{{instance}}": here("candlecast_ready")}, size=(4, 4), red=1, low_is_red=True),
        Panel(
            "Breaker open",
            "stat",
            {"{{model}}": f"max by (model) ({here('candlecast_triton_breaker_open')})"},
            size=(4, 4),
            red=1,
        ),
        Panel(
            "Journal taken",
            "stat",
            {"": f"max({here('candlecast_journal_bytes')} / {here('candlecast_journal_bytes_max')})"},
            "percentunit",
            (4, 4),
            red=0.7,
        ),
        Panel("Oldest not stored", "stat", {"": f"max({here('candlecast_drain_lag_seconds')})"}, "s", (4, 4), red=60),
        Panel("Loop late, P99", "stat", {"": quantile(0.99, "candlecast_loop_lag_seconds")}, "s", (4, 4), red=0.25),
        Panel(
            "Restarts in a day",
            "stat",
            {"{{part}}": f"sum by (part) (increase({here('candlecast_part_restarts_total')}[1d]))"},
            size=(4, 4),
            red=1,
        ),
        Panel(
            "Symbols by state",
            "timeseries",
            {"{{state}}": f"sum by (state) ({here('candlecast_symbols')})"},
            stacked=True,
        ),
        Panel(
            "Calls that failed, a minute",
            "timeseries",
            {"{{reason}}": f"60 * {rate('candlecast_calls_failed_total', 'reason')}"},
        ),
        Panel(
            "Candles under way",
            "timeseries",
            {
                "under way": f"sum({here('candlecast_queue_rows')})",
                "waiting for Triton": f"sum({here('candlecast_model_waiting_rows')})",
                "limit": f"sum({here('candlecast_queue_rows_max')})",
            },
        ),
        Panel("Delay of the event loop", "timeseries", percentiles("candlecast_loop_lag_seconds"), "s"),
        Panel(
            "Journal, bytes that wait for PostgreSQL",
            "timeseries",
            {
                "waiting": f"sum({here('candlecast_journal_bytes')})",
                "given up": f"sum({here('candlecast_journal_dropped_bytes_total')})",
            },
            "bytes",
        ),
        Panel(
            "Journal, a second",
            "timeseries",
            {
                "records": rate("candlecast_journal_records_total"),
                "groups synced": rate("candlecast_journal_syncs_total"),
                "rows to PostgreSQL": rate("candlecast_drain_rows_total"),
                "rows refused": rate("candlecast_journal_refused_rows_total"),
            },
        ),
        Panel(
            "Writing and syncing a group",
            "timeseries",
            {"mean": f"{rate('candlecast_journal_sync_seconds_total')} / {rate('candlecast_journal_syncs_total')}"},
            "s",
        ),
        Panel(
            "Age of the oldest record not stored",
            "timeseries",
            {
                "{{instance}}": here("candlecast_drain_lag_seconds"),
                "failing {{instance}}": here("candlecast_drain_failing"),
            },
            "s",
        ),
        Panel(
            "Connections to PostgreSQL",
            "timeseries",
            {
                "{{state}}": f"sum by (state) ({here('candlecast_database_connections')})",
                "limit": f"sum({here('candlecast_database_connections_max')})",
            },
            stacked=False,
        ),
        Panel(
            "Requests to Triton that failed, a minute",
            "timeseries",
            {
                "{{model}}": f"60 * {rate('candlecast_triton_failures_total', 'model')}",
                "breaker opened: {{model}}": f"60 * {rate('candlecast_triton_breaker_opened_total', 'model')}",
            },
        ),
        Panel(
            "Triton: inferences a second",
            "timeseries",
            {"{{model}} v{{version}}": "sum by (model, version) (rate(nv_inference_count[$__rate_interval]))"},
        ),
        Panel(
            "Triton: time of a request",
            "timeseries",
            {
                "queue {{model}}": "sum by (model) (rate(nv_inference_queue_duration_us[$__rate_interval]))"
                " / sum by (model) (rate(nv_inference_request_success[$__rate_interval]))",
                "compute {{model}}": "sum by (model) (rate(nv_inference_compute_infer_duration_us[$__rate_interval]))"
                " / sum by (model) (rate(nv_inference_request_success[$__rate_interval]))",
            },
            "µs",
        ),
        Panel(
            "Processor", "timeseries", {"{{instance}}": rate("process_cpu_seconds_total", "instance")}, "percentunit"
        ),
        Panel("Memory", "timeseries", {"{{instance}}": here("process_resident_memory_bytes")}, "bytes"),
        Panel("Open files", "timeseries", {"{{instance}}": here("process_open_fds")}),
        Panel("Age of the model", "timeseries", {"{{role}}": here("candlecast_model_age_seconds")}, "s"),
        Panel(
            "Alert rules that fire",
            "timeseries",
            {"{{rule}} ({{severity}})": f"max by (rule, severity) ({here('candlecast_alert_firing')})"},
        ),
        Panel(
            "What alert rules look at",
            "table",
            {"number": here("candlecast_alert_value")},
            text="docs/alerts.md says what each number is; of outcomes there are none at first.",
        ),
        Panel(
            "Drift: stability index",
            "timeseries",
            {"{{subject}}": f"max by (subject) ({here('candlecast_drift_psi')})"},
            text="Newest measurement by group of features, of directions, confidence and probabilities.",
        ),
        Panel(
            "Drift: Kolmogorov-Smirnov distance",
            "timeseries",
            {"{{subject}}": f"max by (subject) ({here('candlecast_drift_ks')})"},
        ),
        Panel(
            "Drifts",
            "stat",
            {"": f"sum({here('candlecast_drifting')})"},
            size=(8, 4),
            red=1,
            text="Subjects that drift now.",
        ),
        Panel(
            "Drift is measured against the training",
            "stat",
            {"": f"min({here('candlecast_drift_reference')})"},
            size=(8, 4),
            red=1,
            low_is_red=True,
            text="0: the bundle does not say what it was trained on, so it is held to the version's first days.",
        ),
        Panel(
            "Since drift was measured",
            "stat",
            {"": f"time() - max({here('candlecast_drift_measured_timestamp_seconds')})"},
            "s",
            (8, 4),
            red=21_600,
        ),
        Panel(
            "What runs",
            "table",
            {"build": here("candlecast_build_info"), "model": here("candlecast_model_info")},
            text="Versions of program, features and model.",
        ),
    ),
)
