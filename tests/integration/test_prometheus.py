"""A real server is scraped: by a real Prometheus where there is one, and in any case read as Prometheus would."""

import json
import os
import re
import subprocess
import time
import urllib.error
import urllib.parse
import urllib.request

import numpy as np
import psutil
import pytest
import yaml
from prometheus_client.parser import text_string_to_metric_families

from candlecast.alert_rules import DEFAULTS
from candlecast.client import Client
from candlecast.features import Features
from deploy.grafana.build import DASHBOARDS, JSON, rendered
from tests.market_simulator import candles
from tests.prometheus import DEPLOY, program
from tests.stack import Stack, free_port

NEED = Features(symbols_max=1, conflicts_max=1).need
ROWS = 20
KNOWN = ("ml_predictions_total", "ml_inference_duration_seconds", "ml_signal_confidence", "ml_cache_hits_total")


@pytest.fixture(scope="module")
def stack(tmp_path_factory):
    directory = tmp_path_factory.mktemp("scraped")
    directory.chmod(0o755)
    stack = Stack(directory / "state", environment={"CANDLECAST_TRITON_METRICS_PORT": str(free_port())})
    stack.start()
    try:
        history = candles("SCRAPED", NEED + ROWS)
        with Client(stack.grpc) as client:
            client.backfill(history.take(np.arange(NEED)))
            for i in range(NEED, NEED + ROWS):
                client.predict(history.take(np.arange(i, i + 1)))
            bad = history.take(np.arange(1))
            bad.values[0, 1] = np.nan
            client.predict(bad)
        yield stack
    finally:
        assert stack.stop() == 0


def get(address, path="/metrics"):
    with urllib.request.urlopen(f"http://{address}{path}", timeout=5) as answer:
        return answer.read().decode()


def scraped(stack):
    return list(text_string_to_metric_families(get(stack.metrics)))


def value(stack, name, **labels):
    found = [
        s.value for f in scraped(stack) for s in f.samples if s.name == name and labels.items() <= s.labels.items()
    ]
    return sum(found)


def triton_metrics(stack):
    return f"127.0.0.1:{stack.environment['CANDLECAST_TRITON_METRICS_PORT']}"


def test_what_was_sent_is_what_is_told(stack):
    assert value(stack, "ml_predictions_total") == ROWS
    assert value(stack, "ml_inference_duration_seconds_count") == ROWS
    assert value(stack, "candlecast_stage_duration_seconds_count", stage="spool") == ROWS
    assert value(stack, "candlecast_candles_total", verdict="ACCEPTED") == NEED + ROWS
    assert value(stack, "candlecast_candles_refused_total") == 1
    assert value(stack, "candlecast_symbols") == 1
    assert value(stack, "candlecast_ready") == 1
    assert value(stack, "candlecast_journal_records_total") >= ROWS
    assert value(stack, "candlecast_part_restarts_total") == 0
    parts = {s.labels["part"] for f in scraped(stack) for s in f.samples if s.name == "candlecast_part_restarts_total"}
    assert parts == {"PostgreSQL", "Triton", "server", "dashboard"}
    stack.until(lambda: value(stack, "candlecast_drain_lag_seconds") == 0, "everything stored", 10)
    assert value(stack, "candlecast_drain_rows_total") == NEED + 2 * ROWS
    assert 0 < value(stack, "process_cpu_seconds_total") < 60


def test_each_alert_rule_is_told_and_whether_the_bundle_says_what_drift_is_held_to(stack):
    firing = {
        (s.labels["rule"], s.labels["severity"]): s.value
        for family in scraped(stack)
        for s in family.samples
        if s.name == "candlecast_alert_firing"
    }
    assert firing == {(rule.name, rule.severity): 0 for rule in DEFAULTS}
    known = {s.labels["rule"] for f in scraped(stack) for s in f.samples if s.name == "candlecast_alert_value"}
    assert known >= {"not_ready", "degraded", "journal", "drain"}
    stack.until(lambda: value(stack, "candlecast_drift_reference") == 1, "the shipped bundle has a reference", 10)
    asked = {rule["expr"] for group in yaml.safe_load((DEPLOY / "alerts.yml").read_text())["groups"]
             for rule in group["rules"]}  # fmt: skip
    of_outcomes = "|".join(rule.name for rule in DEFAULTS if rule.is_of_outcomes)
    assert f'candlecast_alert_firing{{rule=~"{of_outcomes}"}} == 1' in asked


def test_names_are_those_that_users_know_and_those_with_our_prefix(stack):
    names = {family.name for family in scraped(stack)}
    assert {name.removesuffix("_total") for name in KNOWN} <= names
    theirs = {name for name in names if not name.startswith(("candlecast_", "process_", "python_"))}
    assert theirs == {name.removesuffix("_total") for name in KNOWN}


def test_series_are_bounded_and_a_scrape_is_quick(stack):
    samples = sum(len(family.samples) for family in scraped(stack))
    assert samples < 1_000
    started = time.perf_counter()
    for _ in range(5):
        get(stack.metrics)
    assert (time.perf_counter() - started) / 5 < 0.25


def test_the_doors_are_on_loopback_and_triton_has_no_other_http(stack):
    listening = [
        connection.laddr
        for part in ("server", "tritonserver")
        for connection in stack.processes()[part].net_connections()
        if connection.status == psutil.CONN_LISTEN
    ]
    assert {address.ip.removeprefix("::ffff:") for address in listening} == {"127.0.0.1"}
    ports = {int(address.rpartition(":")[2]) for address in (stack.grpc, stack.metrics, triton_metrics(stack))}
    assert {address.port for address in listening} >= ports
    assert len(listening) == 4  # and Triton's gRPC
    assert get(triton_metrics(stack), "/v2/models/patchtst") == ""  # it says nothing, and takes nothing
    infer = urllib.request.Request(f"http://{triton_metrics(stack)}/v2/models/patchtst/infer", data=b"{}")
    with pytest.raises(urllib.error.HTTPError, match="405"):
        urllib.request.urlopen(infer, timeout=5)


def test_alerts_and_dashboards_ask_only_for_what_is_told(stack):
    # Series with labels begin when what they count happens for the first time; their types are told at once.
    pages = get(stack.metrics) + get(triton_metrics(stack))
    told = set(re.findall(r"^(?:# TYPE )?(\w+)", pages, re.MULTILINE))
    rules = yaml.safe_load((DEPLOY / "alerts.yml").read_text())
    asked = [rule["expr"] for group in rules["groups"] for rule in group["rules"]]
    asked += [
        e
        for board in DASHBOARDS
        for panel in board.panels
        if isinstance(panel.queries, dict)
        for e in panel.queries.values()
    ]
    names = {name for e in asked for name in re.findall(r"\b(?:candlecast|ml|nv|process)_[a-z0-9_]+", e)}
    assert {name for name in names if name not in told} == set()


def test_the_dashboards_of_grafana_are_what_their_source_makes():
    assert sorted(path.name for path in JSON.glob("*.json")) == sorted(f"{board.uid}.json" for board in DASHBOARDS)
    for board in DASHBOARDS:
        assert (JSON / f"{board.uid}.json").read_text() == rendered(board), "run `python -m deploy.grafana.build`"


@pytest.fixture(scope="module")
def prometheus(stack, tmp_path_factory):
    """The address of a Prometheus that has scraped server and Triton twice, with our configuration."""
    server = program("prometheus")
    directory, port = tmp_path_factory.mktemp("prometheus"), free_port()
    config = yaml.safe_load((DEPLOY / "prometheus.yml").read_text())
    config["global"] = {"scrape_interval": "250ms", "evaluation_interval": "250ms", "scrape_timeout": "250ms"}
    (directory / "alerts.yml").write_text((DEPLOY / "alerts.yml").read_text())
    targets = [(stack.metrics, "candlecast"), (triton_metrics(stack), "triton")]
    told = [{"targets": [address], "labels": {"job": job}} for address, job in targets]
    (scraping,) = config["scrape_configs"]
    del scraping["file_sd_configs"]  # Prometheus takes 5 s to look at files
    scraping["static_configs"] = told
    (directory / "prometheus.yml").write_text(yaml.safe_dump(config))
    command = [server, f"--config.file={directory}/prometheus.yml", f"--storage.tsdb.path={directory}/data"]
    command += [f"--web.listen-address=127.0.0.1:{port}"]
    with (directory / "log").open("w") as log:
        process = subprocess.Popen(
            command, stdout=log, stderr=log, cwd=directory, env={**os.environ, "GOMAXPROCS": "1"}
        )
    try:
        address = f"127.0.0.1:{port}"

        def twice():
            try:
                return len(query(address, "count_over_time(up[1m]) >= 3")) == len(targets)
            except OSError:
                return False

        stack.until(twice, f"scraped: {(directory / 'log').read_text()}", 30)
        yield address
    finally:
        process.terminate()
        process.wait(20)


def query(address, expression):
    body = urllib.parse.urlencode({"query": expression}).encode()
    with urllib.request.urlopen(f"http://{address}/api/v1/query", body, timeout=10) as answer:
        return json.load(answer)["data"]["result"]


def test_a_real_prometheus_scrapes_server_and_triton(stack, prometheus):
    assert {s["metric"]["job"]: s["value"][1] for s in query(prometheus, "up")} == {"candlecast": "1", "triton": "1"}
    (made,) = query(prometheus, "sum(ml_predictions_total)")
    assert float(made["value"][1]) == ROWS
    (p95,) = query(prometheus, "histogram_quantile(0.95, sum by (le) (candlecast_forecast_duration_seconds_bucket))")
    assert 0 < float(p95["value"][1]) < 30
    assert query(prometheus, 'nv_inference_count{model="patchtst"}')
    firing = query(prometheus, 'ALERTS{alertstate="firing"}')
    assert firing == [], "all is well"


@pytest.mark.parametrize("board", DASHBOARDS, ids=lambda board: board.uid)
def test_every_query_of_grafana_to_prometheus_is_answered(board, prometheus):
    for panel in board.panels:
        if isinstance(panel.queries, str):
            continue
        for expression in panel.queries.values():
            asked = expression.replace("$__rate_interval", "1m").replace("$__interval", "1m").replace("$instance", ".*")
            assert "$" not in asked, asked
            query(prometheus, asked)  # an error of Prometheus is an HTTP error
