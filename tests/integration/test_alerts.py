"""Each alert fires for what it is about, alone; while all is well none does. Played by Prometheus' own promtool."""

import subprocess

import pytest
import yaml

from tests.prometheus import DEPLOY, program

RULES = yaml.safe_load((DEPLOY / "alerts.yml").read_text())
ALERTS = {rule["alert"]: rule for group in RULES["groups"] for rule in group["rules"]}
MINUTES = 90


def series(name: str, **labels: str) -> str:
    inside = ",".join(f'{label}="{value}"' for label, value in {"instance": "here", **labels}.items())
    return f"{name}{{{inside}}}"


def histogram(name: str, fast: str, slow: str) -> dict[str, str]:
    """A histogram whose observations are below 0.1 s (`fast`), or above 1 s (`slow`), a minute."""
    return {
        series(f"{name}_bucket", le="0.1"): fast,
        series(f"{name}_bucket", le="1.0"): fast,
        series(f"{name}_bucket", le="+Inf"): slow,
    }


STILL, GROWS, CLOCK = f"0x{MINUTES}", f"0+600x{MINUTES}", f"0+60x{MINUTES}"
WELL = {
    series("up", job="candlecast"): f"1x{MINUTES}",
    series("candlecast_ready"): f"1x{MINUTES}",
    series("candlecast_triton_breaker_open", model="patchtst"): STILL,
    series("candlecast_part_restarts_total", part="Triton"): STILL,
    **histogram("candlecast_forecast_duration_seconds", GROWS, GROWS),
    **histogram("candlecast_loop_lag_seconds", GROWS, GROWS),
    series("candlecast_queue_rows"): f"100x{MINUTES}",
    series("candlecast_queue_rows_max"): f"8192x{MINUTES}",
    series("candlecast_calls_failed_total", reason="INTERNAL"): STILL,
    series("candlecast_calls_failed_total", reason="QUEUE_FULL"): GROWS,
    series("candlecast_readings_failed_total", metric="x"): STILL,
    series("candlecast_journal_bytes"): f"600x{MINUTES}",
    series("candlecast_journal_bytes_max"): f"1000x{MINUTES}",
    series("candlecast_journal_failing"): STILL,
    series("candlecast_journal_dropped_bytes_total"): STILL,
    series("candlecast_journal_refused_rows_total"): STILL,
    series("candlecast_drain_lag_seconds"): f"1x{MINUTES}",
    series("candlecast_snapshot_timestamp_seconds"): CLOCK,
    series("candlecast_candles_total", verdict="ACCEPTED"): GROWS,
    series("candlecast_candles_total", verdict="REFUSED"): f"0+1x{MINUTES}",
    series("candlecast_missed_forecasts_total", why="TOO_OLD"): STILL,
    series("candlecast_neutral_reasons_total", reason="OUTPUT_NOT_FINITE"): STILL,
    series("candlecast_symbols", state="READY"): f"95x{MINUTES}",
    series("candlecast_symbols", state="STALE"): f"5x{MINUTES}",
    series("candlecast_symbols", state="QUARANTINED"): STILL,
    series("candlecast_gate_degraded"): f"1x{MINUTES}",
    series("candlecast_gate_served"): STILL,  # without a gate its heuristic worries nobody
    series("candlecast_ensemble_absent"): STILL,
    series("candlecast_model_age_seconds", role="champion"): f"86400x{MINUTES}",
    series("candlecast_drifting", subject="momentum"): STILL,
    series("candlecast_drift_measured_timestamp_seconds"): CLOCK,
    series("candlecast_alert_firing", rule="hit_rate", severity="warning"): STILL,
    series("candlecast_alert_firing", rule="journal", severity="warning"): f"1x{MINUTES}",  # has an alert of its own
    series("candlecast_alerts_lost_total"): STILL,
}
LATE = f"0x{MINUTES // 2} 0+1x{MINUTES // 2}"
"""Nothing for half the time, then one a minute."""
ILL = {
    "CandlecastDown": {series("up", job="candlecast"): STILL},
    "CandlecastNotReady": {series("candlecast_ready"): STILL},
    "CandlecastModelAway": {series("candlecast_triton_breaker_open", model="patchtst"): f"1x{MINUTES}"},
    "CandlecastRestarting": {series("candlecast_part_restarts_total", part="Triton"): LATE},
    "CandlecastSlow": histogram("candlecast_forecast_duration_seconds", f"0+580x{MINUTES}", GROWS),
    "CandlecastLoopLate": histogram("candlecast_loop_lag_seconds", f"0+580x{MINUTES}", GROWS),
    "CandlecastOverloaded": {series("candlecast_queue_rows"): f"7000x{MINUTES}"},
    "CandlecastInternalErrors": {series("candlecast_calls_failed_total", reason="INTERNAL"): LATE},
    "CandlecastMetricsIncomplete": {series("candlecast_readings_failed_total", metric="x"): LATE},
    "CandlecastJournalFilling": {series("candlecast_journal_bytes"): f"800x{MINUTES}"},
    "CandlecastJournalFull": {series("candlecast_journal_bytes"): f"950x{MINUTES}"},
    "CandlecastJournalFailing": {series("candlecast_journal_failing"): f"1x{MINUTES}"},
    "CandlecastRowsGivenUp": {series("candlecast_journal_dropped_bytes_total"): LATE},
    "CandlecastRowsRefused": {series("candlecast_journal_refused_rows_total"): LATE},
    "CandlecastStoredLate": {series("candlecast_drain_lag_seconds"): f"0+10x{MINUTES}"},
    "CandlecastSnapshotsOld": {series("candlecast_snapshot_timestamp_seconds"): f"-4000x{MINUTES}"},
    "CandlecastForecastsMissed": {series("candlecast_missed_forecasts_total", why="TOO_OLD"): LATE},
    "CandlecastOutputsNotFinite": {series("candlecast_neutral_reasons_total", reason="OUTPUT_NOT_FINITE"): LATE},
    "CandlecastModelOld": {series("candlecast_model_age_seconds", role="champion"): f"2600000x{MINUTES}"},
    "CandlecastSilent": {
        series("candlecast_candles_total", verdict="ACCEPTED"): f"7x{MINUTES}",
        series("candlecast_candles_total", verdict="REFUSED"): STILL,
    },
    "CandlecastSymbolsStale": {series("candlecast_symbols", state="STALE"): f"30x{MINUTES}"},
    "CandlecastQuarantine": {series("candlecast_symbols", state="QUARANTINED"): f"1x{MINUTES}"},
    "CandlecastCandlesRefused": {series("candlecast_candles_total", verdict="REFUSED"): f"0+10x{MINUTES}"},
    "CandlecastGateDegraded": {series("candlecast_gate_served"): f"1x{MINUTES}"},
    "CandlecastEnsembleDegraded": {series("candlecast_ensemble_absent"): f"1x{MINUTES}"},
    "CandlecastDrifting": {series("candlecast_drifting", subject="momentum"): f"1x{MINUTES}"},
    "CandlecastDriftNotMeasured": {series("candlecast_drift_measured_timestamp_seconds"): f"-20000x{MINUTES}"},
    "CandlecastOutcomesPoor": {series("candlecast_alert_firing", rule="hit_rate", severity="warning"): f"1x{MINUTES}"},
    "CandlecastAlertsLost": {series("candlecast_alerts_lost_total"): LATE},
}
ALSO = {"CandlecastJournalFull": {"CandlecastJournalFilling"}}
"""What fires beside it, and should."""


def test_every_alert_says_what_happened_what_to_do_and_how_urgent_it_is():
    assert set(ILL) == set(ALERTS)
    for name, rule in ALERTS.items():
        assert rule["labels"]["severity"] in {"critical", "warning"}, name
        assert set(rule["annotations"]) == {"summary", "action"}, name


def test_each_alert_fires_for_its_own_cause_alone_and_none_while_all_is_well(tmp_path):
    promtool = program("promtool")
    cases = {"": {}} | ILL
    tests = []
    for name, changed in cases.items():
        fires = {name, *ALSO.get(name, ())} - {""}
        tests.append(
            {
                "interval": "1m",
                "name": name or "all is well",
                "input_series": [{"series": key, "values": values} for key, values in (WELL | changed).items()],
                "promql_expr_test": [
                    {
                        "expr": 'count by (alertname) (ALERTS{alertstate="firing"})',
                        "eval_time": f"{MINUTES - 1}m",
                        "exp_samples": [{"labels": f'{{alertname="{alert}"}}', "value": 1} for alert in sorted(fires)],
                    }
                ],
            }
        )
    file = tmp_path / "test.yml"
    file.write_text(
        yaml.safe_dump({"rule_files": [str(DEPLOY / "alerts.yml")], "evaluation_interval": "1m", "tests": tests})
    )
    done = subprocess.run([promtool, "test", "rules", str(file)], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stdout + done.stderr


def test_promtool_accepts_the_configuration(tmp_path):
    promtool = program("promtool")
    for targets in ("targets-host.yml", "targets-compose.yml"):
        for file in ("prometheus.yml", "alerts.yml"):
            (tmp_path / file).write_text((DEPLOY / file).read_text())
        (tmp_path / "targets.yml").write_text((DEPLOY / targets).read_text())
        done = subprocess.run(
            [promtool, "check", "config", str(tmp_path / "prometheus.yml")], capture_output=True, text=True, timeout=30
        )
        assert done.returncode == 0, done.stdout + done.stderr
        assert f"{len(ALERTS)} rules found" in done.stdout


@pytest.mark.parametrize("name", sorted(ALERTS))
def test_the_text_of_an_alert_names_where(name):
    text = ALERTS[name]["annotations"]["summary"]
    assert "$labels" in text or "$value" in text
