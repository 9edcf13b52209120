"""The dashboards of what PostgreSQL has, by its views: features, signals, results and risk."""

from __future__ import annotations

from deploy.grafana.panels import Dashboard, Panel

FEATURES = Dashboard(
    "candlecast-features",
    "candlecast features",
    "Whether features are there and move, and which of them matter.",
    (
        Panel(
            "NaN features, for each forecast",
            "timeseries",
            """
SELECT hour AS time, model || ' v' || version AS metric, sum(nan_features * forecasts) / sum(forecasts) AS nan_features
FROM ml_predictions_per_hour
WHERE $__timeFilter(hour)
GROUP BY 1, 2
ORDER BY 1""",
        ),
        Panel(
            "Features without variance in their window, for each forecast",
            "timeseries",
            """
SELECT
    hour AS time, model || ' v' || version AS metric,
    sum(still_features * forecasts) / sum(forecasts) AS still_features
FROM ml_predictions_per_hour
WHERE $__timeFilter(hour)
GROUP BY 1, 2
ORDER BY 1""",
        ),
        Panel(
            "Spread of feature values in the newest forecasts",
            "table",
            """
SELECT close_time, symbol, features_mean, features_std, features_min, features_max, nan_count, zero_variance_count
FROM ml_forecasts
ORDER BY close_time DESC
LIMIT 100""",
            size=(24, 8),
        ),
        Panel(
            "Drift beyond the usual",
            "timeseries",
            """
SELECT measured_at AS time, subject AS metric, psi - coalesce(usual_psi, 0) AS psi
FROM ml_drift
WHERE $__timeFilter(measured_at) AND psi IS NOT NULL
ORDER BY 1""",
            text="Population stability index less what is usual, of groups of features and of what the model says.",
        ),
        Panel(
            "Drift, newest measurement",
            "table",
            """
WITH newest AS (SELECT model, version, measured_at FROM ml_drift ORDER BY measured_at DESC LIMIT 1)
SELECT subject, drifting, psi, usual_psi, ks, usual_ks, worst, before, after, against, reference_from, reference_to
FROM ml_drift
JOIN newest USING (model, version, measured_at)
ORDER BY drifting DESC, psi - coalesce(usual_psi, 0) DESC NULLS LAST""",
            text="Against BUNDLE: what the model was trained on; FIRST_DAYS: its own; ITSELF: what came before.",
        ),
        Panel(
            "Most important features",
            "barchart",
            """
WITH newest AS (SELECT model, version FROM ml_feature_importance_now ORDER BY calculated_at DESC, version DESC LIMIT 1)
SELECT feature, score FROM ml_feature_importance_now JOIN newest USING (model, version) ORDER BY rank LIMIT 20""",
            "percentunit",
            (12, 12),
        ),
        Panel(
            "Importance over versions",
            "timeseries",
            """
WITH newest AS (SELECT model, version FROM ml_feature_importance_now ORDER BY calculated_at DESC, version DESC LIMIT 1),
top AS (SELECT model, feature FROM ml_feature_importance_now JOIN newest USING (model, version) ORDER BY rank LIMIT 10)
SELECT calculated_at AS time, feature AS metric, score
FROM ml_feature_importance_evolution
JOIN top USING (model, feature)
WHERE $__timeFilter(calculated_at)
ORDER BY 1""",
            "percentunit",
            (12, 12),
        ),
    ),
    since="now-7d",
    refresh="1m",
    by_instance=False,
)

RESULTS = Dashboard(
    "candlecast-results",
    "candlecast signals, PnL and risk",
    "How right forecasts were, what strategies made of them, and at what risk.",
    (
        Panel(
            "Realised PnL",
            "stat",
            "SELECT coalesce(sum(total_pnl), 0) AS pnl FROM ml_strategy_performance",
            size=(6, 4),
            red=0,
            low_is_red=True,
        ),
        Panel(
            "Win rate",
            "stat",
            "SELECT sum(wins) / nullif(sum(closed), 0) AS win_rate FROM ml_strategy_performance",
            "percentunit",
            (6, 4),
        ),
        Panel("Open positions", "stat", "SELECT count(*) AS positions FROM ml_positions", size=(6, 4)),
        Panel(
            "Largest drawdown",
            "stat",
            "SELECT coalesce(max(max_drawdown), 0) AS drawdown FROM ml_strategy_performance",
            size=(6, 4),
        ),
        Panel(
            "PnL, added up",
            "timeseries",
            """
SELECT day::timestamp AT TIME ZONE 'UTC' AS time, strategy AS metric, total_pnl
FROM ml_strategy_daily
WHERE symbol = '' AND $__timeFilter(day)
ORDER BY 1""",
        ),
        Panel(
            "How far PnL is below its peak",
            "timeseries",
            """
SELECT day::timestamp AT TIME ZONE 'UTC' AS time, strategy AS metric, fall_from_peak
FROM ml_risk_per_day
WHERE $__timeFilter(day)
ORDER BY 1""",
        ),
        Panel(
            "Skill over the base rate, by day",
            "timeseries",
            """
SELECT
    day::timestamp AT TIME ZONE 'UTC' AS time, horizon_bars || ' bars' AS metric,
    1 - sum(log_loss * forecasts) / nullif(sum(base_log_loss * forecasts), 0) AS skill
FROM ml_accuracy_by_day
WHERE $__timeFilter(day)
GROUP BY day, horizon_bars
ORDER BY 1""",
            text="Above 0: better in log-loss than knowing how often each class comes.",
        ),
        Panel(
            "Hit rate and base rate at 16 bars",
            "timeseries",
            """
SELECT
    day::timestamp AT TIME ZONE 'UTC' AS time, sum(hit_rate * forecasts) / sum(forecasts) AS hit_rate,
    sum(base_rate * forecasts) / sum(forecasts) AS base_rate
FROM ml_accuracy_by_day
WHERE $__timeFilter(day) AND horizon_bars = 16
GROUP BY day
ORDER BY 1""",
            "percentunit",
        ),
        Panel(
            "Accuracy by horizon",
            "table",
            """
SELECT model, version, horizon_bars, forecasts, hit_rate, base_rate, skill, mae, base_mae
FROM ml_accuracy
ORDER BY model, version DESC, horizon_bars""",
        ),
        Panel(
            "Calibration",
            "table",
            """
SELECT
    confidence_from, sum(forecasts)::bigint AS forecasts,
    sum(mean_confidence * forecasts) / sum(forecasts) AS mean_confidence,
    sum(hit_rate * forecasts) / sum(forecasts) AS hit_rate
FROM ml_calibration
GROUP BY confidence_from
ORDER BY confidence_from""",
            text="Calibrated: the hit rate is the mean confidence.",
        ),
        Panel(
            "Quality of signals, by day",
            "timeseries",
            """
SELECT date_trunc('day', hour, 'UTC') AS time, direction AS metric, sum(quality_sum) / sum(forecasts) AS quality
FROM ml_prediction_counts
WHERE direction <> 'NEUTRAL' AND $__timeFilter(hour)
GROUP BY 1, 2
ORDER BY 1""",
            "percentunit",
        ),
        Panel(
            "How signals ended",
            "timeseries",
            """
SELECT day::timestamp AT TIME ZONE 'UTC' AS time, exit_reason AS metric, sum(signals)::bigint AS signals
FROM ml_exits
WHERE $__timeFilter(day)
GROUP BY day, exit_reason
ORDER BY 1""",
            stacked=True,
        ),
        Panel(
            "Strategies",
            "table",
            """
SELECT strategy, signals, closed, open_positions, win_rate, total_pnl, profit_factor, expectancy, sharpe, max_drawdown
FROM ml_strategy_performance
ORDER BY total_pnl DESC""",
            size=(24, 7),
        ),
        Panel(
            "Open value by symbol and side",
            "table",
            """
SELECT strategy, symbol, side, positions, exposure, oldest_entry
FROM ml_exposure
ORDER BY exposure DESC
LIMIT 50""",
        ),
        Panel(
            "Largest losses",
            "table",
            """
SELECT exit_time, strategy, symbol, side, pnl, return, exit_reason
FROM ml_trades
WHERE $__timeFilter(exit_time) AND pnl < 0
ORDER BY pnl
LIMIT 50""",
        ),
    ),
    since="now-30d",
    refresh="1m",
    by_instance=False,
)
