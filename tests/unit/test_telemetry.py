"""Metrics count what is observed by columns as one observation after the other would, and stay bounded."""

import logging

import numpy as np
import pytest
from prometheus_client import CollectorRegistry
from prometheus_client import Histogram as TheirHistogram
from prometheus_client.parser import text_string_to_metric_families

from candlecast.telemetry import OTHER, SERIES_MAX, Telemetry


@pytest.fixture
def telemetry():
    return Telemetry()


def samples(telemetry):
    """{name{labels}: value} of what Prometheus reads, our own metrics alone."""
    text = telemetry.rendered()[0].decode()
    found = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            key = ",".join(f"{name}={value}" for name, value in sorted(sample.labels.items()))
            found[f"{sample.name}{{{key}}}" if key else sample.name] = sample.value
    return {name: value for name, value in found.items() if not name.startswith(("process_", "python_"))}


def test_a_histogram_of_columns_counts_as_one_observation_after_the_other(telemetry):
    bounds = (0.1, 0.25, 1.0)
    ours = telemetry.histogram("candlecast_ours", "x", bounds, label="side", values=("A", "B"))
    registry = CollectorRegistry()
    theirs = TheirHistogram("candlecast_ours", "x", ["side"], buckets=bounds, registry=registry)
    rng = np.random.default_rng(1)
    for size in (1, 7, 300):
        numbers, codes = rng.uniform(0, 1.5, size), rng.integers(0, 2, size).astype(np.uint8)
        numbers[0] = 0.25  # a bound belongs to its bucket
        ours.observe(numbers, codes)
        for number, code in zip(numbers, codes, strict=True):
            theirs.labels("AB"[code]).observe(number)
    ours.observe_alike(0.3, 5, 1)
    for _ in range(5):
        theirs.labels("B").observe(0.3)
    ours.observe(np.array([2.0]), 0)
    theirs.labels("A").observe(2.0)
    found = samples(telemetry)
    for family in registry.collect():
        for sample in family.samples:
            if not sample.name.endswith("_created"):
                key = ",".join(f"{name}={value}" for name, value in sorted(sample.labels.items()))
                assert found[f"{sample.name}{{{key}}}"] == pytest.approx(sample.value, rel=1e-12), key


def test_codes_of_narrow_types_do_not_overflow(telemetry):
    many = telemetry.histogram("candlecast_many", "x", range(1, 100), label="code", values=[str(i) for i in range(9)])
    many.observe(np.full(3, 50.0), np.array([8, 8, 0], dtype=np.uint8))
    found = samples(telemetry)
    assert found["candlecast_many_count{code=8}"] == 2
    assert found["candlecast_many_count{code=0}"] == 1


def test_codes_and_bits_are_counted_by_name_and_what_never_happened_is_not_told(telemetry):
    codes = telemetry.codes("candlecast_codes_total", "x", "colour", ("", "RED", "BLACK"))
    codes.add(np.array([1, 2, 2, 0], dtype=np.uint8))
    codes.add(np.zeros(0, dtype=np.uint8))
    bits = telemetry.codes("candlecast_bits_total", "x", "why", ("A", "B", "C"))
    bits.add_bits(np.array([0b000, 0b101, 0b001], dtype=np.uint32))
    found = samples(telemetry)
    assert found["candlecast_codes_total{colour=RED}"] == 1
    assert found["candlecast_codes_total{colour=BLACK}"] == 2
    assert "candlecast_codes_total{colour=}" not in found
    assert (found["candlecast_bits_total{why=A}"], found["candlecast_bits_total{why=C}"]) == (2, 1)


def test_a_million_label_values_make_a_bounded_number_of_series(telemetry):
    counter = telemetry.counter("candlecast_free_total", "x", ["version"])
    for i in range(10 * SERIES_MAX):
        counter.add(2, str(i))
    counter.add(1, "0")
    telemetry.gauge("candlecast_read", "x", lambda: {str(i): 1.0 for i in range(10 * SERIES_MAX)}, ["version"])
    found = samples(telemetry)
    series = [name for name in found if name.startswith("candlecast_free_total")]
    assert len(series) == SERIES_MAX + 1
    assert found["candlecast_free_total{version=0}"] == 3
    assert found[f"candlecast_free_total{{version={OTHER}}}"] == 2 * 9 * SERIES_MAX
    assert len([name for name in found if name.startswith("candlecast_read{")]) == SERIES_MAX


def test_readings_are_taken_at_each_scrape_and_one_that_fails_leaves_the_others(telemetry, caplog):
    level = 1.0

    def broken():
        raise RuntimeError("no idea")

    telemetry.gauge("candlecast_level", "x", lambda: level)
    telemetry.gauge("candlecast_broken", "x", broken)
    telemetry.total("candlecast_parts_total", "x", lambda: {("a", "b"): 3}, ["first", "second"])
    telemetry.gauge("candlecast_unknown", "x", lambda: None)
    with caplog.at_level(logging.WARNING):
        assert samples(telemetry)["candlecast_level"] == 1
    assert "candlecast_broken" in caplog.text
    level = 2.0
    found = samples(telemetry)
    assert found["candlecast_level"] == 2
    assert found["candlecast_parts_total{first=a,second=b}"] == 3
    assert "candlecast_unknown" not in found and "candlecast_broken" not in found
    assert found["candlecast_readings_failed_total{metric=candlecast_broken}"] == 1  # told by the scrape after it


def test_a_name_is_declared_once(telemetry):
    telemetry.counter("candlecast_once_total", "x")
    with pytest.raises(ValueError, match="candlecast_once_total"):
        telemetry.gauge("candlecast_once_total", "x", lambda: 0)


def test_the_format_is_what_the_scraper_asks_for(telemetry):
    assert telemetry.rendered("application/openmetrics-text; version=1.0.0")[0].endswith(b"# EOF\n")
    assert telemetry.rendered("text/plain")[1].startswith("text/plain")
