"""A model's file on the CPU by ONNX Runtime, in this process. Knows no samples, no candles and no interpretation."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from candlecast.errors import BundleError
from candlecast.values import F32

Ask = Callable[[F32], F32]
"""Answers windows [B, 96, F] with outputs [B, 20]; called from several threads."""


def opened(path: Path, threads: int = 0) -> Ask:
    """Return the model in a file; a call runs in the thread that makes it and further ones, `threads` in all (0: a core
    each).

    Raises:
        BundleError: it is none that ONNX Runtime can run.
    """
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = 3
    try:
        # NchwcTransformer serves convolutions only and kills the process on a transposed float16 MatMul.
        session = onnxruntime.InferenceSession(
            str(path), options, providers=["CPUExecutionProvider"], disabled_optimizers=["NchwcTransformer"]
        )
    except Exception as error:  # its exceptions have no common base
        raise BundleError(f"{path}: ONNX Runtime cannot run it: {error}") from error

    def ask(windows: F32) -> F32:
        answers: F32 = session.run(["outputs"], {"features": windows})[0]
        return answers

    return ask
