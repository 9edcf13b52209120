"""Bundles: what was written is read, anything else is refused with a sentence, a failed write changes nothing."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from candlecast.errors import BundleError
from candlecast.features import NAMES, OPTIONAL_INPUTS, feature_set_hash
from candlecast.models import bundle
from candlecast.models.bundle import Bundle, FeatureSet, Manifest
from tests.fakes import fitting_bundle

COLUMNS = ["close", "rsi_14", "natr_14"]
FEATURES = FeatureSet("v1", "00000000deadbeef", COLUMNS, ["trades", "reference"], "BTCUSDT")


def manifest(**changes: Any) -> Manifest:
    values: dict[str, Any] = {
        "name": "patchtst",
        "version": 1,
        "created_at": "2026-01-01T00:00:00Z",
        "feature_set": FEATURES,
        "data": {"files": [], "from": "2024-01-01T00:00:00Z", "to": "2024-02-01T00:00:00Z"},
        "code_commit": "unknown",
        "training": {"seconds": 1.5},
        "metrics": {},
        "temperatures": [1.0, 1.1, 1.2, 1.3],
    }
    return Manifest(**values | changes)


def features(**changes: Any) -> dict[str, Any]:
    """Return the manifest's part on features with changes."""
    return {"feature_set": asdict(FEATURES) | changes}


def golden(seed: int = 0) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    rng = np.random.default_rng(seed)
    return (
        rng.standard_normal((4, 96, len(COLUMNS))).astype(np.float32),
        rng.standard_normal((4, 20)).astype(np.float32),
    )


def write(path: Path, model: bytes = b"onnx", **changes: Any) -> Bundle:
    return bundle.write(path, manifest(**changes), model, *golden())


def snapshot(folder: Path) -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in folder.iterdir()}


def test_what_was_written_is_what_is_read(tmp_path: Path) -> None:
    write(tmp_path / "patchtst" / "1")

    loaded = Bundle.load(tmp_path / "patchtst" / "1")

    inputs, outputs = golden()
    np.testing.assert_array_equal(loaded.golden_inputs, inputs)
    np.testing.assert_array_equal(loaded.golden_outputs, outputs)
    assert loaded.manifest.feature_set == FEATURES
    assert loaded.feature_set_hash == 0xDEADBEEF
    assert loaded.manifest.temperatures == [1.0, 1.1, 1.2, 1.3]
    assert loaded.manifest.files["model.onnx"] == hashlib.sha256(b"onnx").hexdigest()
    assert loaded.sha256 == hashlib.sha256((tmp_path / "patchtst" / "1" / "manifest.json").read_bytes()).hexdigest()
    assert [entry.name for entry in (tmp_path / "patchtst").iterdir()] == ["1"]


@pytest.mark.parametrize("name", ["model.onnx", "golden_inputs.npy", "golden_outputs.npy"])
def test_a_tampered_file_is_refused(tmp_path: Path, name: str) -> None:
    write(tmp_path / "1")
    content = bytearray((tmp_path / "1" / name).read_bytes())
    content[-1] ^= 1
    (tmp_path / "1" / name).write_bytes(content)

    with pytest.raises(BundleError, match=f"{name} is not the file its manifest names"):
        Bundle.load(tmp_path / "1")


def test_a_program_may_come_along_and_is_checked_like_the_rest(tmp_path: Path) -> None:
    path = tmp_path / "1"
    assert not write(path).has_program
    written = bundle.write(path, manifest(), b"onnx", *golden(), program=b"program")
    assert written.has_program
    assert written.manifest.files["model.pt2"] == hashlib.sha256(b"program").hexdigest()
    (path / "model.pt2").write_bytes(b"another")
    with pytest.raises(BundleError, match=r"model\.pt2 is not the file its manifest names"):
        Bundle.load(path)
    (path / "model.pt2").unlink()
    with pytest.raises(BundleError, match=r"model\.pt2 cannot be read"):
        Bundle.load(path)
    assert not write(path).has_program
    (path / "model.pt2").write_bytes(b"program")
    with pytest.raises(BundleError, match=r"model\.pt2 is none of the files its manifest names; remove it"):
        Bundle.load(path)


@pytest.mark.parametrize("name", ["model.onnx", "golden_inputs.npy", "golden_outputs.npy", "manifest.json"])
def test_a_missing_file_is_refused(tmp_path: Path, name: str) -> None:
    write(tmp_path / "1")
    (tmp_path / "1" / name).unlink()

    with pytest.raises(BundleError, match=f"{name} cannot be read"):
        Bundle.load(tmp_path / "1")


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"format": 1}, "bundle format 1, this candlecast reads 2; train it again"),
        ({"format": 3}, "bundle format 3"),
        ({"version": 0}, "version 0 is below 1"),
        ({"version": "1"}, "version is not a int"),
        ({"name": None}, "name is not a str"),
        ({"surprise": 1}, "damaged or incomplete"),
        ({"temperatures": [1.0, 1.0, 1.0]}, "4 positive numbers"),
        ({"temperatures": [1.0, 1.0, 1.0, 0.0]}, "4 positive numbers"),
        ({"temperatures": None}, "damaged or incomplete"),
        ({"outputs": {"count": 21}}, "20 outputs"),
        ({"files": {}}, "files lacks model.onnx"),
        (features(hash="xyz"), "16 hex digits"),
        (features(hash="zzzzzzzzzzzzzzzz"), "damaged"),
        (features(window=95), "windows of 96"),
        (features(columns=["a", "a"]), "repeats a name"),
        (features(columns=["a", "b"]), "golden_inputs.npy is"),
        (features(optional_inputs=["reference", "trades"]), "in this order"),
        (features(optional_inputs=["trades", "trades", "reference"]), "each once"),
        (features(optional_inputs=["weather", "reference"]), "not some of quote_volume, trades, taker_buy_volume, ref"),
        (features(optional_inputs="reference"), "not some of"),
        (features(optional_inputs=None), "damaged"),
        (features(optional_inputs=["trades"]), "'BTCUSDT' does not go with"),
        (features(reference_symbol=None), "None does not go with"),
        (features(reference_symbol="btc usdt"), "'btc usdt' is no symbol"),
        (features(reference_symbol=1), "damaged"),
        ({"feature_set": {"name": "v1", "hash": "0" * 16, "columns": COLUMNS}}, "optional_inputs"),
    ],
)
def test_a_manifest_that_does_not_fit_is_refused(tmp_path: Path, change: dict[str, Any], says: str) -> None:
    write(tmp_path / "1")
    path = tmp_path / "1" / "manifest.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | change))

    with pytest.raises(BundleError, match=says):
        Bundle.load(tmp_path / "1")


def test_a_bundle_of_another_target_has_its_own_number_of_outputs(tmp_path: Path) -> None:
    inputs, outputs = golden()
    asked = {"training": {"target": {"name": "direction"}}, "temperatures": []}

    written = bundle.write(
        tmp_path / "1", manifest(**asked, outputs={"count": 3}), b"onnx", inputs, outputs[:, :3].copy()
    )

    assert (written.target, written.golden_outputs.shape) == ("direction", (4, 3))
    assert write(tmp_path / "2").target == "forecast"
    with pytest.raises(BundleError, match="expected finite float32"):
        bundle.write(tmp_path / "3", manifest(**asked, outputs={"count": 3}), b"onnx", inputs, outputs)
    with pytest.raises(BundleError, match="have no count"):
        bundle.write(tmp_path / "3", manifest(**asked, outputs={}), b"onnx", inputs, outputs)


@pytest.mark.parametrize("text", ["", "[]", "{", "null", "{}"])
def test_a_manifest_that_is_none_is_refused(tmp_path: Path, text: str) -> None:
    write(tmp_path / "1")
    (tmp_path / "1" / "manifest.json").write_text(text)

    with pytest.raises(BundleError, match="damaged or incomplete"):
        Bundle.load(tmp_path / "1")


@pytest.mark.parametrize("inputs", [(), ("trades",), OPTIONAL_INPUTS])
def test_a_bundle_fits_by_its_own_optional_inputs(tmp_path: Path, inputs: tuple[str, ...]) -> None:
    reference = "BTCUSDT" if "reference" in inputs else None

    loaded = fitting_bundle(tmp_path / "1", optional_inputs=inputs, reference_symbol=reference)

    loaded.check_feature_set()
    assert loaded.feature_set_hash == feature_set_hash(inputs)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({}, f"of its 3 columns and the {len(NAMES)} here, the first that differs is column 0: close, here {NAMES[0]}"),
        (
            {"columns": [*NAMES, "moon_phase"]},
            f"of its {len(NAMES) + 1} columns and the {len(NAMES)} here, the first that differs is column {len(NAMES)}:"
            " moon_phase, here none",
        ),
        ({"columns": list(NAMES)}, f"the {len(NAMES)} columns have the same names, but not the same formulas"),
    ],
)
def test_another_feature_set_is_refused_and_the_sentence_says_what_differs(
    tmp_path: Path, change: dict[str, Any], says: str
) -> None:
    loaded = fitting_bundle(tmp_path / "1")
    other = replace(loaded, manifest=manifest(feature_set=replace(FEATURES, **change)))

    with pytest.raises(BundleError) as caught:
        other.check_feature_set()

    assert str(caught.value) == (
        "bundle patchtst v1 was trained on feature set v1 0x00000000deadbeef; with its optional inputs (trades,"
        f" reference) this server computes 0x{feature_set_hash(['trades', 'reference']):016x}: {says}; train it again"
    )


def test_other_optional_inputs_than_those_trained_with_do_not_fit(tmp_path: Path) -> None:
    fitting_bundle(tmp_path / "1", optional_inputs=["trades"])
    path = tmp_path / "1" / "manifest.json"
    document = json.loads(path.read_text())
    document["feature_set"]["optional_inputs"] = ["quote_volume"]
    path.write_text(json.dumps(document))

    with pytest.raises(BundleError, match=r"with its optional inputs \(quote_volume\) this server computes"):
        Bundle.load(tmp_path / "1").check_feature_set()


def test_another_reference_symbol_is_refused_where_the_model_uses_one(tmp_path: Path) -> None:
    fitting_bundle(tmp_path / "1").check_reference("ETHUSDT")
    loaded = fitting_bundle(tmp_path / "2", optional_inputs=["reference"], reference_symbol="BTCUSDT")
    loaded.check_reference("BTCUSDT")

    with pytest.raises(BundleError, match="with the reference symbol BTCUSDT; the setting reference_symbol is ETHUSDT"):
        loaded.check_reference("ETHUSDT")


def test_a_bundle_replaces_a_bundle(tmp_path: Path) -> None:
    write(tmp_path / "1", model=b"old")
    write(tmp_path / "1", model=b"new", version=2)

    assert Bundle.load(tmp_path / "1").manifest.version == 2
    assert (tmp_path / "1" / "model.onnx").read_bytes() == b"new"
    assert [entry.name for entry in tmp_path.iterdir()] == ["1"]


@pytest.mark.parametrize("step", ["sync", "rename", "wrong"])
def test_a_failed_write_leaves_the_previous_bundle_untouched(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    write(tmp_path / "1", model=b"old")
    before = snapshot(tmp_path / "1")
    renames = 0
    rename = Path.rename

    def failing(self: Path, target: Path) -> Path:
        nonlocal renames
        renames += 1
        if renames == 2:
            raise OSError(28, "No space left on device")
        return rename(self, target)

    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    if step == "sync":
        monkeypatch.setattr("candlecast.models.folder.os.fsync", full)
    elif step == "rename":
        monkeypatch.setattr(Path, "rename", failing)
    with pytest.raises((OSError, BundleError)):
        write(tmp_path / "1", model=b"new", temperatures=[1.0] if step == "wrong" else [1.0] * 4)
    monkeypatch.undo()

    assert snapshot(tmp_path / "1") == before
    assert [entry.name for entry in tmp_path.iterdir()] == ["1"]


def test_a_folder_that_is_no_bundle_is_never_replaced(tmp_path: Path) -> None:
    (tmp_path / "thesis").mkdir()
    (tmp_path / "thesis" / "chapter1.tex").write_text("years of work")

    with pytest.raises(BundleError, match=r"not a bundle \(chapter1.tex\)"):
        write(tmp_path / "thesis")

    assert (tmp_path / "thesis" / "chapter1.tex").read_text() == "years of work"


def test_nan_in_golden_arrays_or_metrics_is_never_written(tmp_path: Path) -> None:
    inputs, outputs = golden()
    outputs[1, 2] = np.nan

    with pytest.raises(BundleError, match=r"golden_outputs\.npy"):
        bundle.write(tmp_path / "1", manifest(), b"onnx", inputs, outputs)
    with pytest.raises(ValueError, match="JSON"):
        write(tmp_path / "1", metrics={"log_loss": float("nan")})

    assert list(tmp_path.iterdir()) == []


def test_a_server_reads_bundles_without_torch_or_onnx() -> None:
    code = (
        "import sys, candlecast.models.bundle; print([m for m in ('torch', 'onnx', 'onnxruntime') if m in sys.modules])"
    )

    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert done.stdout.strip() == "[]"
