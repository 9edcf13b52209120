"""The reference of a bundle: the same numbers as of the rows themselves, kept exactly, refused when damaged."""

import json
from datetime import UTC, datetime, timedelta

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from candlecast.errors import BundleError
from candlecast.models import bundle
from candlecast.models.bundle import Bundle
from candlecast.models.reference import PREDICTIONS, Part, Reference, Spread, Usual, parse
from candlecast.server.alerting import reference_of
from candlecast.tracking.stability import distance, stability
from candlecast.values import Model
from tests.fakes import fitting_bundle

BEGIN = datetime(2026, 1, 1, tzinfo=UTC)
TEMPERATURES = (1.0, 1.5, 2.0, 0.5)
SPAN = BEGIN, BEGIN + timedelta(days=100)


def columns(seed, rows, *, shift=0.0):
    """Smooth, with ties, mostly one value, with gaps, constant, absent."""
    rng = np.random.default_rng(seed)
    smooth = rng.normal(shift, 1, rows)
    with_gaps = np.where(rng.random(rows) < 0.3 - 0.1 * shift, np.nan, smooth)
    mostly = np.where(rng.random(rows) < 0.8 - 0.2 * shift, 0.0, smooth)
    found = [smooth, np.round(smooth), mostly, with_gaps, np.full(rows, 3.0), np.full(rows, np.nan)]
    return np.column_stack(found).astype(np.float32)


def reference(features=6, seed=0):
    """Features and answers of nothing in particular."""
    rng = np.random.default_rng(seed)

    def part(count):
        usual = [Usual(days, n, np.full(count, 0.1 / days), np.full(count, 0.05)) for days in (1, 7) for n in (4, 24)]
        return Part(SPAN, Spread.of(rng.normal(0, 1, (3_000, count)).astype(np.float32)), usual)

    return Reference(part(features), part(len(PREDICTIONS)), TEMPERATURES)


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), shift=st.floats(-1, 1), rows=st.integers(200, 3_000))
def test_it_gives_the_index_and_the_distance_of_the_rows_it_was_made_of(seed, shift, rows):
    before, after = columns(seed, 4_000), columns(seed + 1, rows, shift=shift)
    psi, ks = Spread.of(before).apart(after)
    assert psi == pytest.approx(stability(before, after), rel=0.02, abs=0.005)
    exact = np.array(distance(before, after))
    assert (ks <= exact + 1e-3).all() and (ks >= exact - 0.021).all()


def test_what_moved_away_from_a_value_that_many_rows_had_has_moved_as_much():
    """Nearly all of the newest lie between that value and the next one that is kept."""
    before, after = np.zeros((1_000, 1), np.float32), np.full((300, 1), 1e-3, np.float32)
    before[900:, 0] = np.linspace(1, 2, 100)
    assert Spread.of(before).apart(after)[1][0] == pytest.approx(0.9)


def test_what_lies_above_or_below_all_of_it_or_has_no_value_is_as_far_as_can_be():
    ones, fives = np.ones((300, 1), np.float32), np.full((300, 1), 5, np.float32)
    none = np.full((300, 1), np.nan, np.float32)
    told = {(a, b): Spread.of(x).apart(y)[1][0] for a, x in enumerate((ones, fives, none))
            for b, y in enumerate((ones, fives, none))}  # fmt: skip
    assert told == {(0, 0): 0, (0, 1): 1, (0, 2): 1, (1, 0): 1, (1, 1): 0, (1, 2): 1, (2, 0): 1, (2, 1): 1, (2, 2): 0}
    infinite = np.full((300, 1), np.inf, np.float32)
    assert Spread.of(ones).apart(infinite)[1][0] == 1


def test_it_is_read_as_it_was_written():
    rows, newest = columns(1, 5_000), columns(2, 500, shift=0.3)
    said = np.random.default_rng(3).random((900, len(PREDICTIONS))).astype(np.float32)
    usual = [Usual(1, 4, np.arange(6) / 10, np.arange(6) / 20)]
    made = Reference(Part(SPAN, Spread.of(rows), usual), Part(SPAN, Spread.of(said), []), TEMPERATURES)
    read = parse(made.as_bytes(), 6)
    assert read.temperatures == TEMPERATURES
    for one, other in ((made.features, read.features), (made.predictions, read.predictions)):
        assert one.span == other.span
    assert read.features.spread.apart(newest)[0] == pytest.approx(made.features.spread.apart(newest)[0], rel=1e-9)
    assert (read.features.spread.apart(newest)[1] == made.features.spread.apart(newest)[1]).all()
    assert read.features.spread.apart(rows)[1].max() < 1e-3  # none of its own rows lies above its highest
    assert (read.features.usual[0].psi == usual[0].psi).all()
    assert parse(Reference(made.features, None).as_bytes(), 6).predictions is None


def test_usual_is_what_the_longest_stretch_and_the_most_symbols_within_reach_were():
    part = reference().features
    picked = {asked: (one.days, one.symbols) for asked in ((1, 4), (1, 100), (3, 30), (8, 5), (0.5, 1), (7, 2))
              if (one := part.usual_of(*asked))}  # fmt: skip
    assert picked == {
        (1, 4): (1, 4),
        (1, 100): (1, 24),
        (3, 30): (1, 24),
        (8, 5): (7, 4),
        (0.5, 1): (1, 4),
        (7, 2): (1, 4),
    }
    assert Part(SPAN, part.spread, []).usual_of(1, 1) is None


def written(folder, given):
    fitting = fitting_bundle(folder)
    return bundle.write(
        folder, fitting.manifest, b"onnx", fitting.golden_inputs, fitting.golden_outputs, reference=given
    )


def test_a_bundle_carries_it_under_its_sha256(tmp_path):
    folder = tmp_path / "1"
    assert fitting_bundle(folder).reference is None
    made = written(folder, reference(240))
    assert made.reference.features.spread.rows == 3_000 and "reference.json" in made.manifest.files
    assert (Bundle.load(folder).reference.features.spread.values == made.reference.features.spread.values).all()
    file = folder / "reference.json"
    assert file.stat().st_size < 400_000
    file.write_bytes(file.read_bytes().replace(b"3000", b"3001", 1))
    with pytest.raises(BundleError, match=r"reference\.json is not the file its manifest names"):
        Bundle.load(folder)
    fitting_bundle(tmp_path / "2")
    file.rename(tmp_path / "2" / "reference.json")
    with pytest.raises(BundleError, match=r"reference\.json is none of the files its manifest names; remove it"):
        Bundle.load(tmp_path / "2")


def test_the_server_takes_it_from_the_repository_as_far_as_it_holds(tmp_path, caplog):
    def answers(name):
        return reference_of(tmp_path, Model(name, 1, "", 0))

    written(tmp_path / "patchtst/1", reference(240))  # its manifest has the temperatures 1, 1, 1, 1
    assert answers("patchtst").predictions is None and "because=temperatures_differ" in caplog.text
    fitting = fitting_bundle(tmp_path / "patchtst/1", temperatures=TEMPERATURES)
    assert answers("patchtst") is None
    bundle.write(
        fitting.path, fitting.manifest, b"onnx", fitting.golden_inputs, fitting.golden_outputs, reference=reference(240)
    )
    assert answers("patchtst").predictions is not None
    assert answers("lstm") is None and "drift reference=none because=" in caplog.text


@pytest.mark.parametrize(
    ("change", "why"),
    [
        (lambda told: told | {"format": 9}, "format is 9"),
        (lambda told: {"format": 1}, "features"),
        (lambda told: told["features"]["spread"].pop("values") and None, "values"),
        (lambda told: told["features"]["spread"].update(rows=0), "0 is no count"),
        (lambda told: told["features"]["spread"]["below"][0].__setitem__(0, 1.5), "between 0 and 1"),
        (lambda told: told["features"]["spread"]["values"].pop() and None, "expected"),
        (lambda told: told["features"].update(before=told["features"]["from"]), "no span"),
        (lambda told: told["features"]["usual"][0].update(days="x"), "no count"),
        (lambda told: told.update(predictions=told["features"]), "expected"),
        (lambda told: told.update(temperatures=[1]), "expected"),
        (lambda told: [told], "TypeError"),
    ],
)
def test_what_is_none_is_refused_and_says_why(change, why):
    told = json.loads(reference().as_bytes())
    told = change(told) or told
    with pytest.raises(ValueError, match=why):
        parse(json.dumps(told).encode(), 6)
