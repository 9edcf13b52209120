"""What config.pbtxt says, read back by Triton's own schema."""

from __future__ import annotations

from google.protobuf import text_format
from tritonclient.grpc import model_config_pb2

from candlecast.triton.repository import render_config


def test_the_rendered_config_says_what_it_was_asked_to() -> None:
    text = render_config(
        "patchtst", 96, 240, 20, instances=3, intra_op_threads=2, run_rows_max=32, queue_requests_max=5
    )
    config = text_format.Parse(text, model_config_pb2.ModelConfig())
    assert (config.name, config.backend, config.max_batch_size) == ("patchtst", "onnxruntime", 32)
    assert [(t.name, t.data_type, list(t.dims)) for t in (*config.input, *config.output)] == [
        ("features", model_config_pb2.TYPE_FP32, [96, 240]),
        ("outputs", model_config_pb2.TYPE_FP32, [20]),
    ]
    assert [(g.count, g.kind) for g in config.instance_group] == [(3, model_config_pb2.ModelInstanceGroup.KIND_CPU)]
    assert config.version_policy.HasField("all")
    policy = config.dynamic_batching.default_queue_policy
    assert policy.max_queue_size == 5
    assert policy.timeout_action == model_config_pb2.ModelQueuePolicy.REJECT
    assert config.dynamic_batching.max_queue_delay_microseconds == 0
    assert config.parameters["intra_op_thread_count"].string_value == "2"
