"""The PyTorch program: from the network, from its ONNX file bit by bit, and into a bundle that exists."""

from __future__ import annotations

import argparse
import json
import shutil
import zipfile
from io import BytesIO
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch

from candlecast import outputs
from candlecast.cli import export as command
from candlecast.cli import main
from candlecast.errors import BundleError
from candlecast.features import NAMES
from candlecast.models.bundle import Bundle
from candlecast.settings import CHECKOUT
from candlecast.training import export, program
from candlecast.training.patchtst import NetworkConfig, PatchTST
from candlecast.triton.repository import configs

NETWORK = NetworkConfig(width=64, layers=2, heads=2, feedforward=128)
FEATURES = 24


def network(config: NetworkConfig = NETWORK, seed: int = 0) -> PatchTST:
    torch.manual_seed(seed)
    model = PatchTST(config, FEATURES)
    constant = torch.full((outputs.COUNT,), 0.01)
    model.start_from(torch.randn(FEATURES), torch.rand(FEATURES) + 0.5, torch.full((20,), 0.5), constant)
    torch.nn.init.normal_(model.trunk.head.weight, std=0.05)
    return model.eval()


def windows(rows: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal((rows, 96, FEATURES)).astype(np.float32)


@pytest.fixture(scope="module")
def model() -> PatchTST:
    return network()


@pytest.fixture(scope="module")
def exported(model: PatchTST) -> bytes:
    return program.to_program(model)


@pytest.mark.parametrize("rows", [1, 2, 3, 65])
def test_the_program_answers_as_the_network_whatever_the_batch(model: PatchTST, exported: bytes, rows: int) -> None:
    answers = program.run(exported, windows(rows))

    assert answers.shape == (rows, 20) and answers.dtype == np.float32
    export.check_parity("the program", answers, export.truth(model, windows(rows)))


def test_a_value_that_is_no_number_spoils_its_own_row_only(exported: bytes) -> None:
    x = windows(5)
    clean = program.run(exported, x)
    x[2, 50, 7], x[4, 95, 23] = np.nan, np.inf

    answers = program.run(exported, x)

    assert np.isnan(answers[[2, 4]]).all()
    np.testing.assert_array_equal(answers[[0, 1, 3]], clean[[0, 1, 3]])


def test_the_file_holds_a_graph_and_raw_halves_no_pickle_and_no_trace_of_this_machine(exported: bytes) -> None:
    with zipfile.ZipFile(BytesIO(exported)) as archive:
        members = {entry.filename.partition("/")[2]: archive.read(entry) for entry in archive.infolist()}
    assert members["data/sample_inputs/model.pt"] == b""
    weights = json.loads(members["data/weights/model_weights_config.json"])["config"]
    assert not any(weight["use_pickle"] for weight in weights.values())
    assert len(members[f"data/weights/{weights['trunk.embed.weight']['path_name']}"]) == 64 * 16 * FEATURES * 2
    json.loads(members["models/model.json"])
    for place in (str(CHECKOUT), str(Path.home()) + "/", "site-packages", ".py"):
        assert place.encode() not in exported


def test_from_its_onnx_file_the_network_comes_back_bit_by_bit() -> None:
    config = NetworkConfig(instance_norm=True)  # the shipped one has none
    model = network(config)
    content = export.to_onnx(model)

    back = program.from_onnx(content, config)

    for name, tensor in model.state_dict().items():
        stored = tensor.half().float() if name.startswith("trunk.") else tensor
        assert torch.equal(back.state_dict()[name], stored), name
    assert export.to_onnx(back) == content


def test_the_shipped_network_comes_back_bit_by_bit() -> None:
    shipped = Bundle.load(CHECKOUT / "triton_models" / "patchtst" / "1")
    content = (shipped.path / "model.onnx").read_bytes()

    back = program.from_onnx(content, NetworkConfig(**shipped.manifest.training["config"]["network"]))

    assert export.to_onnx(back) == content
    export.check_parity("the network", export.truth(back, shipped.golden_inputs), shipped.golden_outputs)


def test_an_onnx_file_of_another_network_is_refused(model: PatchTST) -> None:
    content = export.to_onnx(model)
    for config in (NetworkConfig(), NetworkConfig(width=64, layers=3, heads=2, feedforward=128)):
        with pytest.raises(BundleError, match="not one that this network was exported to"):
            program.from_onnx(content, config)
    for garbage in (b"", b"no model", content[:1000]):
        with pytest.raises(BundleError, match="not one that this network was exported to"):
            program.from_onnx(garbage, NETWORK)
    single = onnx.load_from_string(content)
    for tensor in single.graph.initializer:
        if tensor.name == "trunk.head.weight":
            whole = onnx.numpy_helper.to_array(tensor).astype(np.float32)
            tensor.CopyFrom(onnx.numpy_helper.from_array(whole, tensor.name))
    with pytest.raises(BundleError, match=r"trunk\.head\.weight is not of the type"):
        program.from_onnx(single.SerializeToString(), NETWORK)


def test_training_writes_both_files(trained: Bundle) -> None:
    assert trained.has_program

    answers = program.run((trained.path / "model.pt2").read_bytes(), trained.golden_inputs)

    export.check_parity("the program", answers, trained.golden_outputs)
    assert 0 < trained.manifest.training["export"]["program_relative_error"]["all"] <= export.PARITY_MAX


@pytest.fixture
def bundle(trained: Bundle, tmp_path: Path) -> Path:
    """The trained bundle without its program, as a version of a Triton repository."""
    path = tmp_path / "patchtst" / "1"
    shutil.copytree(trained.path, path)
    (path / "model.pt2").unlink()
    manifest = json.loads((path / "manifest.json").read_text())
    del manifest["files"]["model.pt2"]
    (path / "manifest.json").write_text(json.dumps(manifest))
    return path


def contents(folder: Path) -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in folder.iterdir()}


def test_export_gives_a_bundle_its_program_and_keeps_the_rest(bundle: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = contents(bundle)

    assert main(["export", str(bundle), "--json"]) == 0

    said = json.loads(capsys.readouterr().out)
    after = contents(bundle)
    assert Bundle.load(bundle).has_program
    assert said["program_bytes"] == len(after.pop("model.pt2"))
    assert said["relative_error"]["all"] <= export.PARITY_MAX
    assert {name: text for name, text in after.items() if name != "manifest.json"} == {
        name: text for name, text in before.items() if name != "manifest.json"
    }
    manifest, old = json.loads(after["manifest.json"]), json.loads(before["manifest.json"])
    assert manifest["files"].pop("model.pt2")
    assert manifest == old
    for path, text in configs("patchtst", 96, len(NAMES), outputs.COUNT).items():
        assert (bundle.parent / path).read_text() == text


def test_a_program_with_other_answers_replaces_nothing(bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = contents(bundle)
    real = program.from_onnx

    def wrong(content: bytes, config: NetworkConfig) -> PatchTST:
        model = real(content, config)
        with torch.no_grad():
            model.trunk.head.bias += 0.5
        return model

    monkeypatch.setattr(program, "from_onnx", wrong)
    with pytest.raises(BundleError, match=r"the program's golden answer differs by"):
        command.add_program(bundle)
    assert contents(bundle) == before


def test_a_bundle_whose_network_is_unknown_is_refused(bundle: Path) -> None:
    manifest = json.loads((bundle / "manifest.json").read_text())
    manifest["training"] = {}
    (bundle / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(BundleError, match="does not say which network it holds"):
        command.add_program(bundle)


def test_the_configurations_alone_need_no_torch(
    bundle: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(command, "add_program", lambda path: pytest.fail("asked for the program"))
    before = contents(bundle)
    assert command.run(argparse.Namespace(bundle=bundle, configs_only=True, reference=None, json=False)) == 0
    assert contents(bundle) == before
    assert "wrote" in capsys.readouterr().out
    assert {path.name for path in (bundle.parent / "configs").iterdir()} == {
        "pytorch.pbtxt",
        "pytorch_cpu.pbtxt",
        "tensorrt.pbtxt",
    }


def test_parity_of_answers_that_are_all_zero_is_a_number():
    right = np.zeros((3, 20), dtype=np.float32)
    assert export.check_parity("nothing", right, right) == dict.fromkeys(("all", "returns", "logits", "risks"), 0.0)
    right[:, 5] = 2.0
    assert export.check_parity("no returns", right, right)["returns"] == 0.0
    with pytest.raises(BundleError):
        export.check_parity("other returns", right + np.float32(0.1), right)
