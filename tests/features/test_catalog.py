"""The catalogue says what the specification says, word for word."""

import csv
from pathlib import Path

from candlecast import _rust

SPECIFICATION = Path(__file__).resolve().parents[3] / "shared" / "features.tsv"
FEATURES = _rust.catalog()


def specification() -> list[dict[str, str]]:
    with SPECIFICATION.open(newline="") as lines:
        return list(csv.DictReader(lines, delimiter="\t", quoting=csv.QUOTE_NONE))


def test_columns_are_those_of_their_groups_in_the_specified_order() -> None:
    groups = {feature.group for feature in FEATURES}
    expected = [row["name"] for row in specification() if row["group"] in groups]
    assert [feature.name for feature in FEATURES] == expected
    assert [feature.index for feature in FEATURES] == list(range(len(expected)))


def test_every_column_is_described_as_specified() -> None:
    rows = {row["name"]: row for row in specification()}
    for feature in FEATURES:
        row = rows[feature.name]
        low, high = row["range"].strip("[]").split(",")
        assert (feature.group, feature.formula) == (row["group"], row["formula"])
        assert feature.convention == row["convention"].removeprefix("-")
        assert feature.warmup_bars == int(row["warmup_bars"]), feature.name
        assert (feature.low, feature.high) == (float(low), float(high)), feature.name
        assert feature.version == 1, feature.name


def test_a_symbol_is_ready_when_the_slowest_column_fills_a_window() -> None:
    assert _rust.Market().need == max(feature.warmup_bars for feature in FEATURES) + _rust.WINDOW - 1
