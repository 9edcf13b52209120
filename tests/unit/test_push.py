"""What is sent when a bundle or an ensemble is pushed, and which names a server takes."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from candlecast.errors import InvalidRequest
from candlecast.models import ensemble
from candlecast.models.ensemble import Ensemble
from candlecast.models_client import pieces
from candlecast.server.models_service import _is_of_a_bundle
from tests.bundles import walked
from tests.fakes import fitting_bundle


def written(root: Path) -> Ensemble:
    members = [
        fitting_bundle(root / name / "1", name=name, metrics=walked(loss), onnx=name.encode())
        for name, loss in (("patchtst", 1.0), ("lstm", 1.05), ("xgboost", 2.0))
    ]
    return ensemble.write(root / "ensemble" / "1", ensemble.weigh(members, 1))


def sent(folder: Path) -> dict[str, bytes]:
    found: dict[str, bytes] = {}
    for piece in pieces(folder, "a test"):
        name = piece.file or list(found)[-1]
        found[name] = found.get(name, b"") + piece.data
    return found


def test_an_ensemble_is_sent_with_the_members_that_are_asked(tmp_path: Path) -> None:
    found = sent(written(tmp_path).path)
    assert next(iter(found)) == "manifest.json"
    assert {name for name in found if name.endswith("model.onnx")} == {"patchtst/1/model.onnx", "lstm/1/model.onnx"}
    assert found["lstm/1/model.onnx"] == b"lstm"
    assert all(_is_of_a_bundle(name) for name in found)
    for name, content in found.items():
        (tmp_path / "got" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "got" / name).write_bytes(content)
    assert Ensemble.load(tmp_path / "got").sha256 == Ensemble.load(tmp_path / "ensemble" / "1").sha256
    assert sent(tmp_path / "got") == found


def test_an_ensemble_without_a_member_is_not_sent(tmp_path: Path) -> None:
    made = written(tmp_path)
    (tmp_path / "lstm").rename(tmp_path / "gone")
    with pytest.raises(InvalidRequest, match="lstm/1"):
        pieces(made.path, "a test")


def test_a_member_whose_name_leads_elsewhere_is_not_read(tmp_path: Path) -> None:
    made = written(tmp_path / "models")
    manifest = json.loads((made.path / "manifest.json").read_text())
    manifest["members"][0]["name"] = "../../secret"
    (made.path / "manifest.json").write_text(json.dumps(manifest))
    fitting_bundle(tmp_path / "secret" / "1")
    assert not any("secret" in name for name in sent(made.path))


@pytest.mark.parametrize(
    "name",
    ["evil", "../model.onnx", "/model.onnx", "a/model.onnx", "a/0/model.onnx", "../1/model.onnx", "a/1/evil", "",
     "a/1/b/model.onnx", ".a/1/model.onnx", "a/../1/model.onnx", "a/1//model.onnx", "a/1/manifest.json\n", "a/1/",
     "/a/1/model.onnx", "a\n/1/model.onnx", "a/1\n/model.onnx"],
)  # fmt: skip
def test_no_other_name_is_taken(name: str) -> None:
    assert not _is_of_a_bundle(name)
