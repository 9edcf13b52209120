"""Triton's model repository: what config.pbtxt says of a forecasting model. Knows neither server nor ONNX."""

from __future__ import annotations

from pathlib import Path

TEMPLATE = """\
# Served unchanged by the embedded tritonserver (Python onnxruntime backend) and by NVIDIA's container (native backend).
# On a GPU: instance_group {{ count: 1 kind: KIND_GPU }}; the thread counts then no longer matter.
name: "{name}"
backend: "onnxruntime"
max_batch_size: {run_rows_max}
input {{ name: "features" data_type: TYPE_FP32 dims: [ {window}, {columns} ] }}
output {{ name: "outputs" data_type: TYPE_FP32 dims: [ {outputs} ] }}
version_policy {{ all {{ }} }}
instance_group {{ count: {instances} kind: KIND_CPU }}
dynamic_batching {{
  default_queue_policy {{ max_queue_size: {queue_requests_max} timeout_action: REJECT }}
}}
parameters {{ key: "intra_op_thread_count" value {{ string_value: "{intra_op_threads}" }} }}
parameters {{ key: "inter_op_thread_count" value {{ string_value: "1" }} }}
"""


def render_config(
    name: str,
    window: int,
    columns: int,
    outputs: int,
    *,
    instances: int = 2,
    intra_op_threads: int = 1,
    run_rows_max: int = 64,
    queue_requests_max: int = 64,
) -> str:
    """Return the config.pbtxt of a model [batch, window, columns] f32 → [batch, outputs] f32.

    Args:
        instances: copies of the model, each a process under the Python backend.
        intra_op_threads: threads of one instance.
        run_rows_max: windows in one run, those of several requests together.
        queue_requests_max: requests that wait for an instance, above which Triton refuses.
    """
    return TEMPLATE.format(**locals())


def write_config(folder: Path, name: str, window: int, columns: int, outputs: int) -> None:
    """Write config.pbtxt into a model's folder of the repository, with the defaults of render_config."""
    (folder / "config.pbtxt").write_text(render_config(name, window, columns, outputs))
