"""What config.pbtxt says, read back by Triton's own schema, and what tritonserver makes of it without a GPU."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from google.protobuf import text_format
from tritonclient.grpc import model_config_pb2

from candlecast import gate
from candlecast.errors import ModelUnavailable
from candlecast.settings import CHECKOUT
from candlecast.triton.client import TritonModel
from candlecast.triton.embedded import EmbeddedTriton
from candlecast.triton.repository import (
    configs,
    render_config,
    render_gate,
    render_pytorch,
    render_tensorrt,
    write_config,
)
from tests.triton.conftest import COLUMNS, F32, OUTPUTS, WINDOW, gone, windows, write_model

SHAPE = ("patchtst", 96, 240, 20)
KIND_CPU = model_config_pb2.ModelInstanceGroup.KIND_CPU
KIND_GPU = model_config_pb2.ModelInstanceGroup.KIND_GPU
Make = Callable[..., EmbeddedTriton]
Reference = Callable[[F32], F32]


def parsed(text: str) -> Any:
    """Parse by Triton's schema, which refuses any name that it does not have."""
    return text_format.Parse(text, model_config_pb2.ModelConfig())


def test_the_rendered_config_says_what_it_was_asked_to() -> None:
    config = parsed(
        render_config("patchtst", 96, 240, 20, instances=3, intra_op_threads=2, run_rows_max=32, queue_requests_max=5)
    )
    assert (config.name, config.backend, config.max_batch_size) == ("patchtst", "onnxruntime", 32)
    assert [(g.count, g.kind) for g in config.instance_group] == [(3, KIND_CPU)]
    assert config.dynamic_batching.default_queue_policy.max_queue_size == 5
    assert config.parameters["intra_op_thread_count"].string_value == "2"


@pytest.mark.parametrize("path", configs(*SHAPE))
def test_every_configuration_serves_the_same_tensors_batches_by_itself_and_refuses_when_full(path: str) -> None:
    config = parsed(configs(*SHAPE)[path])
    assert config.name == "patchtst"
    assert [(t.name, t.data_type, list(t.dims)) for t in (*config.input, *config.output)] == [
        ("features", model_config_pb2.TYPE_FP32, [96, 240]),
        ("outputs", model_config_pb2.TYPE_FP32, [20]),
    ]
    assert config.version_policy.HasField("all")
    policy = config.dynamic_batching.default_queue_policy
    assert policy.max_queue_size > 0
    assert policy.timeout_action == model_config_pb2.ModelQueuePolicy.REJECT
    assert config.dynamic_batching.max_queue_delay_microseconds == 0


def test_pytorch_on_a_gpu_names_its_file_its_gpu_and_its_buckets() -> None:
    config = parsed(render_pytorch(*SHAPE, buckets=[1, 8], run_rows_max=8))
    assert (config.backend, config.default_model_filename, config.max_batch_size) == ("pytorch", "model.pt2", 8)
    assert [(g.count, g.kind, list(g.gpus)) for g in config.instance_group] == [(1, KIND_GPU, [0])]
    assert config.parameters["batch_buckets"].string_value == "1,8"
    assert parsed(render_pytorch(*SHAPE)).max_batch_size == 256
    on_cpu = parsed(render_pytorch(*SHAPE, gpu=False))
    assert [(g.count, g.kind) for g in on_cpu.instance_group] == [(1, KIND_CPU)]
    assert "batch_buckets" not in on_cpu.parameters


def test_the_container_runs_fp16_by_tensorrt_with_one_engine_that_is_kept() -> None:
    config = parsed(render_tensorrt(*SHAPE, run_rows_max=128, warm_up_rows=[1, 128], cache_dir="/cache"))
    assert (config.backend, config.max_batch_size) == ("onnxruntime", 128)
    assert [(g.count, g.kind) for g in config.instance_group] == [(1, KIND_GPU)]
    (accelerator,) = config.optimization.execution_accelerators.gpu_execution_accelerator
    assert accelerator.name == "tensorrt"
    said = dict(accelerator.parameters)
    assert (said["precision_mode"], said["trt_engine_cache_enable"], said["trt_engine_cache_path"]) == (
        "FP16",
        "true",
        "/cache",
    )
    assert (said["trt_profile_min_shapes"], said["trt_profile_max_shapes"]) == (
        "features:1x96x240",
        "features:128x96x240",
    )
    assert [warm.batch_size for warm in config.model_warmup] == [1, 128]
    assert all(list(warm.inputs["features"].dims) == [96, 240] for warm in config.model_warmup)
    assert config.optimization.input_pinned_memory.enable and config.optimization.output_pinned_memory.enable


async def test_tritonserver_finds_nothing_wrong_with_the_containers_configuration_but_the_missing_gpu(
    make: Make, tmp_path: Path
) -> None:
    repository = write_model(tmp_path / "repository")
    write_config(repository / "rows", "rows", WINDOW, COLUMNS, OUTPUTS)
    triton = make(repository, config="tensorrt")
    with pytest.raises(ModelUnavailable, match="has kind KIND_GPU but no GPUs are available"):
        await triton.__aenter__()
    await gone(triton, triton.pid)


async def test_with_the_gpu_taken_out_tritonserver_loads_warms_up_and_serves_it(
    make: Make, tmp_path: Path, reference: Reference
) -> None:
    repository = write_model(tmp_path / "repository")
    write_config(repository / "rows", "rows", WINDOW, COLUMNS, OUTPUTS)
    file = repository / "rows" / "configs" / "tensorrt.pbtxt"
    file.write_text(file.read_text().replace("KIND_GPU", "KIND_CPU"))
    async with make(repository, config="tensorrt") as triton, TritonModel(triton.address, "rows", 10_000) as model:
        await model.check_golden(windows(4), reference(windows(4)))
        assert (await model.infer(windows(200))).outputs.shape == (200, OUTPUTS)  # max_batch_size is 256 there, not 64


async def test_pytorch_on_a_gpu_is_refused_for_the_missing_gpu_alone(make: Make, tmp_path: Path) -> None:
    repository = write_model(tmp_path / "repository")
    write_config(repository / "rows", "rows", WINDOW, COLUMNS, OUTPUTS)
    triton = make(repository, config="pytorch")
    with pytest.raises(ModelUnavailable, match="unsupported gpu id 0"):
        await triton.__aenter__()
    await gone(triton, triton.pid)


def test_the_gate_takes_rows_of_three_features_and_gives_two_probabilities() -> None:
    config = parsed(render_gate())
    assert (config.name, config.backend, config.max_batch_size) == ("gate", "onnxruntime", 1024)
    assert [(t.name, list(t.dims)) for t in config.input] == [("features", [len(gate.FEATURES)])]
    assert [(t.name, list(t.dims)) for t in config.output] == [("probabilities", [len(gate.CLASSES)])]


def test_the_shipped_gate_is_served_by_the_config_that_is_rendered() -> None:
    assert (CHECKOUT / "triton_models" / "gate" / "config.pbtxt").read_text() == render_gate()


def test_the_configurations_in_the_repository_are_the_ones_that_are_read(tmp_path: Path) -> None:
    write_config(tmp_path, *SHAPE)
    written = {str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*.pbtxt")}
    assert written == set(configs(*SHAPE))
    for path in written - {"config.pbtxt"}:
        assert re.fullmatch(r"configs/\w+\.pbtxt", path)
