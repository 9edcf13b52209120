"""A network → one self-contained ONNX file of fp16 weights, and whether any model file is right. Knows no bundle."""

from __future__ import annotations

import contextlib
import copy
import io
import logging
import warnings
from typing import Any

import numpy as np
import onnx
import onnxruntime
import torch

from candlecast import outputs
from candlecast.errors import BundleError
from candlecast.training.scaled import Scaled
from candlecast.values import F32

PARITY_MAX = 2e-3
"""Largest |fp16 - fp32| allowed, over the largest |fp32| answer."""
OPSET = 18


def to_onnx(model: Scaled) -> bytes:
    """Return the model as one ONNX file: `features` f32 [-1, 96, F] → `outputs` f32 [-1, 20], its trunk in fp16."""
    half = copy.deepcopy(model).cpu().eval()
    half.trunk.half()
    example = torch.zeros(2, 96, len(model.mean))
    quiet = io.StringIO()
    with contextlib.redirect_stdout(quiet), warnings.catch_warnings():  # the exporter talks on standard output
        warnings.simplefilter("ignore")
        for talkative in ("torch.onnx", "onnxscript", "onnx_ir"):
            logging.getLogger(talkative).setLevel(logging.ERROR)
        program = torch.onnx.export(
            half,
            (example,),
            dynamo=True,
            input_names=["features"],
            output_names=["outputs"],
            dynamic_shapes=({0: torch.export.Dim("batch")},),
            opset_version=OPSET,
        )
    assert program is not None
    return _without_traces(program.model_proto).SerializeToString()


def _without_traces(model: onnx.ModelProto) -> onnx.ModelProto:
    """Drop the exporter's notes: stack traces with paths of this machine."""
    graph = model.graph
    parts: list[Any] = [model, graph, *graph.node, *graph.input, *graph.output, *graph.value_info, *graph.initializer]
    for part in parts:
        del part.metadata_props[:]
        part.doc_string = ""
    return model


def run(model: bytes, windows: F32, batch_rows: int = 64) -> F32:
    """Return what the ONNX file answers [B, 20] to windows [B, 96, F], on the CPU."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    parts = [windows[k : k + batch_rows] for k in range(0, len(windows), batch_rows)]
    return np.concatenate([session.run(["outputs"], {"features": part})[0] for part in parts])


def truth(model: Scaled, windows: F32) -> F32:
    """Return what the network itself answers [B, 20] in fp32."""
    model.eval()
    with torch.no_grad():
        return model(torch.from_numpy(windows)).numpy()  # type: ignore[no-any-return]


def check_parity(what: str, answers: F32, right: F32) -> dict[str, float]:
    """Compare answers [B, 20] with the right ones: relative error of all outputs and of each block.

    Raises:
        BundleError: the error over all outputs exceeds 2e-3 of the largest answer, or an answer is not finite.
    """
    blocks = {"all": slice(None), "returns": outputs.RETURNS, "logits": outputs.LOGITS, "risks": outputs.RISKS}
    size = float(np.abs(right).max()) or 1.0
    errors = {  # of a block that is all 0, as trees without a split give it, by the size of the others
        name: float(np.abs(answers - right)[:, b].max() / (np.abs(right[:, b]).max() or size))
        for name, b in blocks.items()
    }
    if not errors["all"] <= PARITY_MAX:
        raise BundleError(f"{what} differs by {errors['all']:.1e} of the largest answer, over {PARITY_MAX}")
    return {name: round(error, 6) for name, error in errors.items()}
