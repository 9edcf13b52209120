"""The network and its ONNX file: shapes, parity, and what becomes of values that are no numbers."""

from __future__ import annotations

import copy

import numpy as np
import onnx
import pytest
import torch

from candlecast import outputs
from candlecast.errors import BundleError, ConfigurationError
from candlecast.training import export
from candlecast.training.patchtst import NetworkConfig, PatchTST
from candlecast.training.temperature import leaning

FEATURES = 86


@pytest.fixture(scope="module")
def model() -> PatchTST:
    torch.manual_seed(0)
    model = PatchTST(NetworkConfig(), FEATURES)
    mean, std = torch.randn(FEATURES), torch.rand(FEATURES) + 0.5
    unit = torch.ones(outputs.COUNT)
    unit[outputs.RETURNS], unit[outputs.RISKS] = 0.005, 0.01
    constant = torch.zeros(outputs.COUNT)
    constant[outputs.RISKS] = 0.004
    model.start_from(mean, std, unit, constant)
    torch.nn.init.normal_(model.trunk.head.weight, std=0.02)
    return model.eval()


@pytest.fixture(scope="module")
def exported(model: PatchTST) -> bytes:
    return export.to_onnx(model)


def windows(rows: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal((rows, 96, FEATURES)).astype(np.float32) * 2


def test_shapes_size_and_ranges(model: PatchTST) -> None:
    with torch.no_grad():
        answers = model(torch.from_numpy(windows(3)))

    assert answers.shape == (3, 20) and answers.dtype == torch.float32
    assert (answers[:, outputs.RISKS] >= 0).all()
    assert sum(p.numel() for p in model.parameters()) <= 3_000_000
    assert sum(p.numel() for p in PatchTST(NetworkConfig(), 240).parameters()) <= 3_000_000


def test_a_head_that_leans_less_answers_as_leaning_does(model: PatchTST) -> None:
    leans, changed = np.array([0.0, 0.3, 1.0, 0.7]), copy.deepcopy(model)

    changed.lean(torch.from_numpy(leans))

    before, after = (export.truth(network, windows(5)) for network in (model, changed))
    np.testing.assert_allclose(after, leaning(before, leans), atol=1e-5)
    assert (abs(after - before)[:, outputs.LOGITS] > 1e-3).any()


@pytest.mark.parametrize("instance_norm", [False, True])
def test_training_starts_at_the_constant(instance_norm: bool) -> None:
    model = PatchTST(NetworkConfig(instance_norm=instance_norm), FEATURES).eval()
    constant = torch.linspace(0.001, 0.02, outputs.COUNT)
    model.start_from(torch.zeros(FEATURES), torch.ones(FEATURES), torch.full((20,), 0.01), constant)

    with torch.no_grad():
        answers = model(torch.from_numpy(windows(2)))

    np.testing.assert_allclose(answers.numpy(), np.stack([constant.numpy()] * 2), rtol=1e-4)


def test_a_network_that_cannot_be_built_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="multiple of heads"):
        NetworkConfig(width=250)
    with pytest.raises(ConfigurationError, match="multiples of stride"):
        NetworkConfig(patch=16, stride=7)


def test_the_file_agrees_with_fp32_whatever_the_batch(model: PatchTST, exported: bytes) -> None:
    errors = export.check_parity("the file", export.run(exported, windows(256)), export.truth(model, windows(256)))

    assert errors["all"] <= export.PARITY_MAX
    alone = np.concatenate([export.run(exported, windows(7)[k : k + 1]) for k in range(7)])
    np.testing.assert_allclose(export.run(exported, windows(7)), alone, atol=2e-3)


def test_parity_is_really_checked(model: PatchTST, exported: bytes) -> None:
    other = PatchTST(NetworkConfig(), FEATURES).eval()

    with pytest.raises(BundleError, match="the file differs by"):
        export.check_parity("the file", export.run(exported, windows(256)), export.truth(other, windows(256)))


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_a_value_that_is_no_number_spoils_its_own_row_only(model: PatchTST, exported: bytes, value: float) -> None:
    x = windows(5)
    clean = export.run(exported, x)
    x[2, 50, 7] = value
    x[4, 95, FEATURES - 1] = value

    answers = export.run(exported, x)
    with torch.no_grad():
        in_torch = model(torch.from_numpy(x)).numpy()

    for got in (answers, in_torch):
        assert np.isnan(got[[2, 4]]).all()
    np.testing.assert_array_equal(answers[[0, 1, 3]], clean[[0, 1, 3]])


def test_wild_but_finite_values_stay_finite_in_fp16(exported: bytes) -> None:
    x = windows(3)
    x[0] = 3e38
    x[1] = -3e38
    x[2, :, ::2] = 1e30

    assert np.isfinite(export.run(exported, x)).all()


def test_the_file_is_one_self_contained_fp16_model_without_traces_of_this_machine(exported: bytes) -> None:
    graph = onnx.load_from_string(exported)
    onnx.checker.check_model(graph)

    assert [value.name for value in graph.graph.input] == ["features"]
    assert [value.name for value in graph.graph.output] == ["outputs"]
    assert all(
        value.type.tensor_type.elem_type == onnx.TensorProto.FLOAT
        for value in (*graph.graph.input, *graph.graph.output)
    )
    assert [d.dim_value for d in graph.graph.input[0].type.tensor_type.shape.dim] == [0, 96, FEATURES]
    assert not any(tensor.external_data for tensor in graph.graph.initializer)
    large = [t for t in graph.graph.initializer if np.prod(t.dims) > 1000]
    assert large and all(t.data_type == onnx.TensorProto.FLOAT16 for t in large)
    assert len(exported) < 2.2 * sum(np.prod(t.dims) for t in graph.graph.initializer)
    assert b".py" not in exported and b"/candlecast/" not in exported
    assert graph.ir_version <= 10 and graph.opset_import[0].version == export.OPSET
