"""A small model that serves, and twelve ways in which one does not: real ONNX files in real bundles."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
from onnx import TensorProto, helper, numpy_helper

from candlecast import outputs as layout
from candlecast.features import NAMES, WINDOW
from candlecast.models.bundle import Bundle
from tests.fakes import fitting_bundle

OPSETS = [helper.make_opsetid("", 20)]


def tiny(
    seed: int = 0,
    *,
    dims: Sequence[int] = (WINDOW, len(NAMES)),
    kind: int = TensorProto.FLOAT,
    name: str = "features",
    count: int = layout.COUNT,
    then: Sequence[onnx.NodeProto] = (),
    constants: dict[str, Any] | None = None,
    functions: Sequence[onnx.FunctionProto] = (),
) -> bytes:
    """Return a model that squeezes the mean of each column and multiplies by a small matrix; no NaN goes in.

    Args:
        then: what comes between `answer` [B, count] and `outputs`; nothing: they are the same.
        constants: that they need, beside `zero`.
    """
    rng = np.random.default_rng(seed)
    weights = rng.normal(0, 0.2, (int(dims[-1]), count)).astype(np.float32)
    means = [helper.make_node("ReduceMean", ["present", "axes"], ["mean"], keepdims=0)] if len(dims) == 2 else []
    nodes = [
        helper.make_node("Cast", [name], ["single"], to=TensorProto.FLOAT),
        helper.make_node("IsNaN", ["single"], ["absent"]),
        helper.make_node("Where", ["absent", "zero", "single"], ["present"]),
        *means,
        helper.make_node("Tanh", ["mean" if means else "present"], ["squeezed"]),
        helper.make_node("MatMul", ["squeezed", "weights"], ["answer"]),
        *(then or [helper.make_node("Identity", ["answer"], ["outputs"])]),
    ]
    known = {"zero": np.float32(0), "axes": np.array([1]), "weights": weights}
    graph = helper.make_graph(
        nodes,
        "tiny",
        [helper.make_tensor_value_info(name, kind, ["batch", *dims])],
        [helper.make_tensor_value_info("outputs", TensorProto.FLOAT, ["batch", count])],
        [numpy_helper.from_array(np.asarray(value), name) for name, value in (known | (constants or {})).items()],
    )
    opsets = [*OPSETS, helper.make_opsetid("local", 1)] if functions else OPSETS
    return helper.make_model(graph, opset_imports=opsets, ir_version=10, functions=functions).SerializeToString()


def good(path: Path, *, seed: int = 0, onnx: bytes | None = None, **more: Any) -> Bundle:
    """Write a bundle whose golden outputs are those of `tiny`; `onnx` puts another model beside them."""
    windows = np.random.default_rng(9).normal(0, 1, (4, WINDOW, len(NAMES))).astype(np.float32)
    content = tiny(seed)
    return fitting_bundle(path, onnx=onnx or content, golden=(windows, answer(content, windows)), **more)


def answer(content: bytes, windows: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    session = onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])
    return session.run(["outputs"], {"features": windows})[0]


def wrong_rank(path: Path) -> None:
    good(path, onnx=tiny(dims=(len(NAMES),)))


def wrong_dtype(path: Path) -> None:
    good(path, onnx=tiny(kind=TensorProto.FLOAT16))


def wrong_name(path: Path) -> None:
    good(path, onnx=tiny(name="windows"))


def wrong_count(path: Path) -> None:
    good(path, onnx=tiny(count=layout.COUNT + 1))


def wrong_feature_hash(path: Path) -> None:
    good(path)
    manifest = json.loads((path / "manifest.json").read_text())
    manifest["feature_set"]["hash"] = "00000000deadbeef"
    (path / "manifest.json").write_text(json.dumps(manifest))


def truncated(path: Path) -> None:
    """Cut short before its sha256 was taken, as on a disk that was full."""
    content = tiny()
    good(path, onnx=content[: len(content) // 2])


def wrong_sha256(path: Path) -> None:
    good(path)
    content = bytearray((path / "model.onnx").read_bytes())
    content[len(content) // 2] ^= 1
    (path / "model.onnx").write_bytes(content)


def nan_outputs(path: Path) -> None:
    """Too large for a half: infinity, and infinity times 0."""
    then = [
        helper.make_node("Mul", ["answer", "large"], ["swollen"]),
        helper.make_node("Cast", ["swollen"], ["half"], to=TensorProto.FLOAT16),
        helper.make_node("Cast", ["half"], ["single_again"], to=TensorProto.FLOAT),
        helper.make_node("Mul", ["single_again", "zero"], ["outputs"]),
    ]
    good(path, onnx=tiny(then=then, constants={"large": np.float32(1e9)}))


def slow(path: Path) -> None:
    """Right, after some 27 GFLOP a batch that nothing needs."""
    then = [
        helper.make_node("ReduceMean", ["answer"], ["level"], keepdims=0),
        helper.make_node("Mul", ["level", "zero"], ["nothing"]),
        helper.make_node("Add", ["matrix", "nothing"], ["product_0"]),
        *(helper.make_node("MatMul", [f"product_{k}", "matrix"], [f"product_{k + 1}"]) for k in range(4)),
        helper.make_node("ReduceMax", ["product_4"], ["largest"], keepdims=0),
        helper.make_node("Mul", ["largest", "zero"], ["still_nothing"]),
        helper.make_node("Add", ["answer", "still_nothing"], ["outputs"]),
    ]
    good(path, onnx=tiny(then=then, constants={"matrix": np.full((1500, 1500), 1e-4, dtype=np.float32)}))


def exits_on_load(path: Path) -> None:
    """Functions that call one another, 3,000 deep: ONNX Runtime follows them until its stack ends."""
    opsets = [*OPSETS, helper.make_opsetid("local", 1)]
    below = [helper.make_node("Tanh", ["x"], ["y"])]
    functions = [helper.make_function("local", "F0", ["x"], ["y"], below, OPSETS)]
    for k in range(3_000):
        call = helper.make_node(f"F{k}", ["x"], ["y"], domain="local")
        functions.append(helper.make_function("local", f"F{k + 1}", ["x"], ["y"], [call], opsets))
    then = [helper.make_node("F3000", ["answer"], ["outputs"], domain="local")]
    good(path, onnx=tiny(then=then, functions=functions))


def hangs_on_load(path: Path) -> None:
    """Twice in each function the one below it, 40 deep: 10¹² nodes once they are written out."""
    opsets = [*OPSETS, helper.make_opsetid("local", 1)]
    below = [helper.make_node("Add", ["x", "x"], ["y"])]
    functions = [helper.make_function("local", "F0", ["x"], ["y"], below, OPSETS)]
    for k in range(40):
        twice = [
            helper.make_node(f"F{k}", ["x"], ["between"], domain="local"),
            helper.make_node(f"F{k}", ["between"], ["y"], domain="local"),
        ]
        functions.append(helper.make_function("local", f"F{k + 1}", ["x"], ["y"], twice, opsets))
    then = [helper.make_node("F40", ["answer"], ["outputs"], domain="local")]
    good(path, onnx=tiny(then=then, functions=functions))


def huge(path: Path) -> None:
    """A file with a hole of a gigabyte, which no disk notices."""
    good(path)
    with (path / "model.onnx").open("r+b") as file:
        file.truncate(1024**3)


def swells_on_load(path: Path) -> None:
    """A few bytes that become 16 GB once they are a tensor."""
    then = [
        helper.make_node("ConstantOfShape", ["many"], ["zeros"]),
        helper.make_node("ReduceMax", ["zeros"], ["nothing"], keepdims=0),
        helper.make_node("Add", ["answer", "nothing"], ["outputs"]),
    ]
    good(path, onnx=tiny(then=then, constants={"many": np.array([4 * 1024**3])}))


BAD: dict[str, tuple[Callable[[Path], None], str]] = {
    "wrong rank": (wrong_rank, "WRONG_TENSORS"),
    "wrong dtype": (wrong_dtype, "WRONG_TENSORS"),
    "wrong name": (wrong_name, "WRONG_TENSORS"),
    "wrong count": (wrong_count, "WRONG_TENSORS"),
    "wrong feature hash": (wrong_feature_hash, "FEATURE_SET_MISMATCH"),
    "truncated file": (truncated, "CRASHED"),
    "wrong sha256": (wrong_sha256, "SHA256_MISMATCH"),
    "NaN outputs": (nan_outputs, "NOT_FINITE"),
    "slow": (slow, "TOO_SLOW"),
    "exits on load": (exits_on_load, "CRASHED"),
    "hangs on load": (hangs_on_load, "TIMED_OUT"),
    "huge": (huge, "TOO_LARGE"),
}
"""What is wrong: how to write it, and as what it is refused."""
