"""Triton's model repository: what config.pbtxt says of a model, for each way to run it. Knows no server.

config.pbtxt             ONNX Runtime on the CPU: our Python backend in the wheel, the native one in NVIDIA's container
configs/NAME.pbtxt       taken instead by `tritonserver --model-config-name=NAME`:
  pytorch                model.pt2 on an NVIDIA GPU, by our Python backend
  pytorch_cpu            the same program on the CPU, in single precision: for tests
  tensorrt               model.onnx on an NVIDIA GPU, by ONNX Runtime and TensorRT in NVIDIA's container
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Final

from candlecast import gate

TEMPLATE = """\
# {head}
name: "{name}"
backend: "{backend}"
max_batch_size: {run_rows_max}
input {{ name: "features" data_type: TYPE_FP32 dims: [ {features} ] }}
output {{ name: "{output}" data_type: TYPE_FP32 dims: [ {outputs} ] }}
version_policy {{ all {{ }} }}
instance_group {{ {instances} }}
dynamic_batching {{
  default_queue_policy {{ max_queue_size: {queue_requests_max} timeout_action: REJECT }}
}}
"""
CPU_HEAD = """\
Served unchanged by the embedded tritonserver (Python onnxruntime backend) and by NVIDIA's container (native backend).
# For a GPU: configs/tensorrt.pbtxt there (--model-config-name=tensorrt), configs/pytorch.pbtxt in the embedded one."""
PYTORCH_HEAD = """\
model.pt2 by the Python pytorch backend: --model-config-name={config}.
# NVIDIA's native backend of this name is another: it reads TorchScript."""
PYTORCH_FILE = 'default_model_filename: "model.pt2"\n'
"""Triton takes model.pt for granted wherever the backend is called pytorch."""
TENSORRT_HEAD = """\
NVIDIA's container, which has the native backend: --model-config-name=tensorrt. Building the engine takes minutes; it is
# kept in the cache, which must be a writable folder of the container. Not run yet: no GPU was at hand."""
PARAMETER = 'parameters {{ key: "{key}" value {{ string_value: "{value}" }} }}\n'

GATE_HEAD = (
    "The gate: order flow in, the probability that the price reverts out. Trees take microseconds: one instance."
)
GATE_ROWS_MAX: Final = 1_024
CPU_ROWS_MAX: Final = 64
GPU_ROWS_MAX: Final = 256
"""Windows in one run, those of several requests together."""
GPU_BUCKETS: Final = (1, 2, 4, 8, 16, 32, 64, 128, 256)
GPU_QUEUE_REQUESTS_MAX: Final = 256
GPU_THREADS: Final = 4
"""Of the copy into pinned memory."""


def render_config(
    name: str,
    window: int,
    columns: int,
    outputs: int,
    *,
    instances: int = 2,
    intra_op_threads: int = 1,
    run_rows_max: int = CPU_ROWS_MAX,
    queue_requests_max: int = 64,
) -> str:
    """Return the config.pbtxt of a model [batch, window, columns] f32 → [batch, outputs] f32.

    Args:
        instances: copies of the model, each a process under the Python backend.
        intra_op_threads: threads of one instance.
        run_rows_max: windows in one run, those of several requests together.
        queue_requests_max: requests that wait for an instance, above which Triton refuses.
    """
    text = TEMPLATE.format(
        head=CPU_HEAD,
        name=name,
        backend="onnxruntime",
        run_rows_max=run_rows_max,
        features=f"{window}, {columns}",
        output="outputs",
        outputs=outputs,
        instances=f"count: {instances} kind: KIND_CPU",
        queue_requests_max=queue_requests_max,
    )
    return text + _parameters(intra_op_thread_count=intra_op_threads, inter_op_thread_count=1)


def render_pytorch(
    name: str,
    window: int,
    columns: int,
    outputs: int,
    *,
    gpu: bool = True,
    instances: int = 1,
    intra_op_threads: int | None = None,
    run_rows_max: int = GPU_ROWS_MAX,
    buckets: Sequence[int] = GPU_BUCKETS,
    queue_requests_max: int = GPU_QUEUE_REQUESTS_MAX,
) -> str:
    """Return the configuration of the Python `pytorch` backend; arguments as in render_config.

    Args:
        gpu: on the first GPU, else on the CPU.
        intra_op_threads: on a GPU those that copy into pinned memory (default 4), on a CPU those that compute (1).
        buckets: batch sizes that are captured as CUDA graphs.
    """
    text = TEMPLATE.format(
        head=PYTORCH_HEAD.format(config="pytorch" if gpu else "pytorch_cpu"),
        name=name,
        backend="pytorch",
        run_rows_max=run_rows_max,
        features=f"{window}, {columns}",
        output="outputs",
        outputs=outputs,
        instances=f"count: {instances} kind: {'KIND_GPU gpus: [ 0 ]' if gpu else 'KIND_CPU'}",
        queue_requests_max=queue_requests_max,
    )
    text += PYTORCH_FILE + _parameters(intra_op_thread_count=intra_op_threads or (GPU_THREADS if gpu else 1))
    return text + (_parameters(batch_buckets=",".join(map(str, buckets))) if gpu else "")


def render_tensorrt(
    name: str,
    window: int,
    columns: int,
    outputs: int,
    *,
    instances: int = 1,
    run_rows_max: int = GPU_ROWS_MAX,
    warm_up_rows: Sequence[int] = (1, 16, 64, 256),
    queue_requests_max: int = GPU_QUEUE_REQUESTS_MAX,
    cache_dir: str = "/var/cache/candlecast/tensorrt",
    workspace_bytes: int = 1024**3,
) -> str:
    """Return the configuration for NVIDIA's container; arguments as in render_config.

    Args:
        warm_up_rows: batch sizes that are run before the version counts as ready.
        cache_dir: folder of the container that keeps engines, so that only the first start builds one.
        workspace_bytes: GPU memory that TensorRT may use for a while.
    """
    text = TEMPLATE.format(
        head=TENSORRT_HEAD,
        name=name,
        backend="onnxruntime",
        run_rows_max=run_rows_max,
        features=f"{window}, {columns}",
        output="outputs",
        outputs=outputs,
        instances=f"count: {instances} kind: KIND_GPU",
        queue_requests_max=queue_requests_max,
    )
    shape = f"{window}x{columns}"
    accelerator = {
        "precision_mode": "FP16",
        "max_workspace_size_bytes": workspace_bytes,
        "trt_engine_cache_enable": "true",
        "trt_engine_cache_path": cache_dir,
        "trt_timing_cache_enable": "true",
        "trt_timing_cache_path": cache_dir,
        "trt_layer_norm_fp32_fallback": "true",
        # One engine for every batch size: without a profile it is built again for each new one.
        "trt_profile_min_shapes": f"features:1x{shape}",
        "trt_profile_opt_shapes": f"features:{min(64, run_rows_max)}x{shape}",
        "trt_profile_max_shapes": f"features:{run_rows_max}x{shape}",
    }
    options = "".join(f'        parameters {{ key: "{k}" value: "{v}" }}\n' for k, v in accelerator.items())
    text += (
        "optimization {\n"
        "  execution_accelerators {\n"
        '    gpu_execution_accelerator {\n        name: "tensorrt"\n' + options + "    }\n  }\n"
        "  input_pinned_memory { enable: true }\n"
        "  output_pinned_memory { enable: true }\n"
        "}\n"
    )
    for rows in warm_up_rows:
        tensor = f"data_type: TYPE_FP32 dims: [ {window}, {columns} ] zero_data: true"
        text += (
            f'model_warmup {{ name: "{rows} rows" batch_size: {rows}'
            f' inputs {{ key: "features" value {{ {tensor} }} }} }}\n'
        )
    return text


def render_gate(name: str = "gate", *, instances: int = 1, queue_requests_max: int = 64) -> str:
    """Return the config.pbtxt of a gate [batch, 3] f32 → [batch, 2] f32; arguments as in render_config."""
    text = TEMPLATE.format(
        head=GATE_HEAD,
        name=name,
        backend="onnxruntime",
        run_rows_max=GATE_ROWS_MAX,
        features=len(gate.FEATURES),
        output="probabilities",
        outputs=len(gate.CLASSES),
        instances=f"count: {instances} kind: KIND_CPU",
        queue_requests_max=queue_requests_max,
    )
    return text + _parameters(intra_op_thread_count=1, inter_op_thread_count=1)


def configs(name: str, window: int, columns: int, outputs: int) -> dict[str, str]:
    """Return every file of a model's folder that says how to run it, by path, with the defaults."""
    shape = (name, window, columns, outputs)
    return {
        "config.pbtxt": render_config(*shape),
        "configs/pytorch.pbtxt": render_pytorch(*shape),
        "configs/pytorch_cpu.pbtxt": render_pytorch(*shape, gpu=False, instances=2, run_rows_max=CPU_ROWS_MAX),
        "configs/tensorrt.pbtxt": render_tensorrt(*shape),
    }


def write_config(folder: Path, name: str, window: int, columns: int, outputs: int) -> None:
    """Write them into a model's folder of the repository."""
    (folder / "configs").mkdir(exist_ok=True)
    for path, text in configs(name, window, columns, outputs).items():
        (folder / path).write_text(text)


def write_gate_config(folder: Path) -> None:
    """Write that of a gate into its folder of the repository."""
    (folder / "config.pbtxt").write_text(render_gate(folder.name))


def _parameters(**values: object) -> str:
    return "".join(PARAMETER.format(key=key, value=value) for key, value in values.items())
