"""Bundles: what was written is read, anything else is refused with a sentence, a failed write changes nothing."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from candlecast.errors import BundleError
from candlecast.models import bundle
from candlecast.models.bundle import Bundle, FeatureSet, Manifest

COLUMNS = ["close", "rsi_14", "natr_14"]


def manifest(**changes: Any) -> Manifest:
    values: dict[str, Any] = {
        "name": "patchtst",
        "version": 1,
        "created_at": "2026-01-01T00:00:00Z",
        "feature_set": FeatureSet("v1", "00000000deadbeef", COLUMNS),
        "data": {"files": [], "from": "2024-01-01T00:00:00Z", "to": "2024-02-01T00:00:00Z"},
        "code_commit": "unknown",
        "training": {"seconds": 1.5},
        "metrics": {},
        "temperatures": [1.0, 1.1, 1.2, 1.3],
    }
    return Manifest(**values | changes)


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
    assert loaded.manifest.feature_set == FeatureSet("v1", "00000000deadbeef", COLUMNS)
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


@pytest.mark.parametrize("name", ["model.onnx", "golden_inputs.npy", "golden_outputs.npy", "manifest.json"])
def test_a_missing_file_is_refused(tmp_path: Path, name: str) -> None:
    write(tmp_path / "1")
    (tmp_path / "1" / name).unlink()

    with pytest.raises(BundleError, match=f"{name} cannot be read"):
        Bundle.load(tmp_path / "1")


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"format": 2}, "bundle format 2"),
        ({"version": 0}, "version 0 is below 1"),
        ({"version": "1"}, "version is not a int"),
        ({"name": None}, "name is not a str"),
        ({"surprise": 1}, "damaged or incomplete"),
        ({"temperatures": [1.0, 1.0, 1.0]}, "4 positive numbers"),
        ({"temperatures": [1.0, 1.0, 1.0, 0.0]}, "4 positive numbers"),
        ({"temperatures": None}, "damaged or incomplete"),
        ({"outputs": {"count": 21}}, "20 outputs"),
        ({"files": {}}, "files lacks model.onnx"),
        ({"feature_set": {"name": "v1", "hash": "xyz", "columns": COLUMNS, "window": 96}}, "16 hex digits"),
        ({"feature_set": {"name": "v1", "hash": "zzzzzzzzzzzzzzzz", "columns": COLUMNS, "window": 96}}, "damaged"),
        ({"feature_set": {"name": "v1", "hash": "0" * 16, "columns": COLUMNS, "window": 95}}, "windows of 96"),
        ({"feature_set": {"name": "v1", "hash": "0" * 16, "columns": ["a", "a"], "window": 96}}, "repeats a name"),
        (
            {"feature_set": {"name": "v1", "hash": "0" * 16, "columns": ["a", "b"], "window": 96}},
            "golden_inputs.npy is",
        ),
    ],
)
def test_a_manifest_that_does_not_fit_is_refused(tmp_path: Path, change: dict[str, Any], says: str) -> None:
    write(tmp_path / "1")
    path = tmp_path / "1" / "manifest.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | change))

    with pytest.raises(BundleError, match=says):
        Bundle.load(tmp_path / "1")


@pytest.mark.parametrize("text", ["", "[]", "{", "null", "{}"])
def test_a_manifest_that_is_none_is_refused(tmp_path: Path, text: str) -> None:
    write(tmp_path / "1")
    (tmp_path / "1" / "manifest.json").write_text(text)

    with pytest.raises(BundleError, match="damaged or incomplete"):
        Bundle.load(tmp_path / "1")


def test_another_feature_set_is_refused_and_the_sentence_says_what_differs(tmp_path: Path) -> None:
    loaded = write(tmp_path / "1")
    loaded.check_feature_set(0xDEADBEEF, 3)

    with pytest.raises(BundleError) as caught:
        loaded.check_feature_set(0x1234, 240)

    assert str(caught.value) == (
        "bundle patchtst v1 was trained on feature set v1 0x00000000deadbeef with 3 columns;"
        " this server computes 0x0000000000001234 with 240"
    )


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
        monkeypatch.setattr("candlecast.models.bundle.os.fsync", full)
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
