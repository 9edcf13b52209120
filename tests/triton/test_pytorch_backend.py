"""The Python `pytorch` backend on the CPU, by the real tritonserver: the shipped model's program on real windows.

Its stub runs in the application's environment, under numpy 2, where every tensor that passes through numpy is garbage.
"""

from __future__ import annotations

import asyncio
import io
import json
import pickle
import shutil
import sys
import zipfile
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from candlecast.cli.export import add_program
from candlecast.errors import ConfigurationError, InvalidRequest, ModelUnavailable
from candlecast.models.bundle import Bundle
from candlecast.settings import CHECKOUT
from candlecast.training import export, program
from candlecast.training.patchtst import NetworkConfig, PatchTST
from candlecast.triton.client import TritonModel
from candlecast.triton.embedded import EmbeddedTriton
from candlecast.triton.environment import BACKENDS
from candlecast.triton.repository import render_pytorch
from tests.triton.conftest import ENV_DIR, F32, gone

SHAPE = ("patchtst", 96, 240, 20)
Reference = Callable[[F32], F32]


@pytest.fixture(scope="session")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """A copy of the shipped bundle, in a repository of its own, with its program."""
    repository = tmp_path_factory.mktemp("pytorch") / "repository"
    shutil.copytree(CHECKOUT / "triton_models", repository)
    add_program(repository / "patchtst" / "1")
    return Bundle.load(repository / "patchtst" / "1")


@pytest.fixture(scope="session")
def network(bundle: Bundle) -> PatchTST:
    config = NetworkConfig(**bundle.manifest.training["config"]["network"])
    return program.from_onnx((bundle.path / "model.onnx").read_bytes(), config)


@pytest.fixture(scope="session")
def single(network: PatchTST) -> Reference:
    """The network in this process, in fp32."""
    return lambda inputs: export.truth(network, inputs)


@pytest.fixture(scope="session")
def windows(bundle: Bundle) -> Callable[..., F32]:
    """Return as many windows as asked, all different: real ones, each value moved by a thousandth."""

    def windows(batch: int, seed: int = 0) -> F32:
        rng = np.random.default_rng(seed)
        real = bundle.golden_inputs[rng.integers(0, 4, batch)]
        return (real * rng.uniform(0.999, 1.001, real.shape)).astype(np.float32)

    return windows


@pytest.fixture(scope="session")
async def served(bundle: Bundle, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[TritonModel]:
    async with (
        serving(bundle.path.parents[1], tmp_path_factory.mktemp("work")) as triton,
        TritonModel(triton.address, "patchtst", timeout_ms=20_000) as model,
    ):
        yield model


def serving(repository: Path, work_dir: Path) -> EmbeddedTriton:
    return EmbeddedTriton(
        env_dir=ENV_DIR,
        repository=repository,
        models=["patchtst"],
        work_dir=work_dir,
        config="pytorch_cpu",
        stub_env_dir=Path(sys.prefix),
        start_timeout_ms=120_000,
    )


def relative(got: F32, right: F32) -> float:
    return float(np.abs(got - right).max() / np.abs(right).max())


async def test_it_gives_the_values_of_the_network_and_of_onnx_runtime(
    served: TritonModel, bundle: Bundle, single: Reference
) -> None:
    assert np.__version__.startswith("2."), "the stub's numpy, by way of which nothing arrives"
    answers = (await served.infer(bundle.golden_inputs)).outputs
    assert relative(answers, single(bundle.golden_inputs)) < 2e-6
    assert relative(answers, bundle.golden_outputs) < 2e-3
    assert await served.check_golden(bundle.golden_inputs, bundle.golden_outputs) == "1"


async def test_every_batch_size_has_its_rows_in_order(
    served: TritonModel, single: Reference, windows: Callable[..., F32]
) -> None:
    for batch in (*range(1, 18), 33, 63, 64):
        inputs = windows(batch, seed=batch)
        assert relative((await served.infer(inputs)).outputs, single(inputs)) < 5e-6, f"batch {batch}"


async def test_requests_that_are_run_together_get_their_own_rows(
    served: TritonModel, single: Reference, windows: Callable[..., F32]
) -> None:
    sizes = np.random.default_rng(1).integers(1, 13, 60).tolist()
    inputs = [windows(size, seed=100 + k) for k, size in enumerate(sizes)]
    answers = await asyncio.gather(*map(served.infer, inputs))
    for sent, answer in zip(inputs, answers, strict=True):
        assert relative(answer.outputs, single(sent)) < 5e-6


async def test_a_row_with_nan_gives_nan_for_that_row_only(
    served: TritonModel, single: Reference, windows: Callable[..., F32]
) -> None:
    inputs, beside = windows(9), windows(5, seed=1)
    right = single(inputs)
    inputs[4, 50, 3] = np.nan
    answer, neighbour = await asyncio.gather(served.infer(inputs), served.infer(beside))
    assert np.isnan(answer.outputs[4]).all()
    others = [k for k in range(9) if k != 4]
    assert relative(answer.outputs[others], right[others]) < 5e-6
    assert relative(neighbour.outputs, single(beside)) < 5e-6


@pytest.mark.parametrize("shape", [(3, 96, 241), (3, 95, 240), (96, 240), (65, 96, 240)], ids=str)
async def test_a_wrong_shape_is_refused_and_its_neighbours_are_unhurt(
    served: TritonModel, single: Reference, windows: Callable[..., F32], shape: tuple[int, ...]
) -> None:
    bad = [served.infer(np.zeros(shape, np.float32)) for _ in range(4)]
    inputs = [windows(k + 1, seed=k) for k in range(4)]
    answers = await asyncio.gather(*bad, *map(served.infer, inputs), return_exceptions=True)
    assert all(isinstance(refused, InvalidRequest) for refused in answers[:4])
    for sent, answer in zip(inputs, answers[4:], strict=True):
        assert not isinstance(answer, BaseException)
        assert relative(answer.outputs, single(sent)) < 5e-6


async def test_a_damaged_program_fails_the_start_with_the_reason(bundle: Bundle, tmp_path: Path) -> None:
    repository = tmp_path / "repository"
    shutil.copytree(bundle.path.parents[1], repository)
    file = repository / "patchtst" / "1" / "model.pt2"
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)
    triton = serving(repository, tmp_path / "work")
    with pytest.raises(ModelUnavailable, match=r"model\.pt2 is damaged .*does not match its checksum"):
        await triton.__aenter__()
    await gone(triton, triton.pid)


async def test_a_missing_configuration_is_said_before_triton_takes_another(bundle: Bundle, tmp_path: Path) -> None:
    repository = tmp_path / "repository"
    shutil.copytree(bundle.path.parents[1], repository, ignore=shutil.ignore_patterns("configs"))
    with pytest.raises(ConfigurationError, match=r"no patchtst/configs/pytorch_cpu\.pbtxt"):
        await serving(repository, tmp_path / "work").__aenter__()


async def test_an_environment_without_torch_is_said_with_what_to_do(bundle: Bundle, tmp_path: Path) -> None:
    triton = EmbeddedTriton(
        env_dir=ENV_DIR,
        repository=bundle.path.parents[1],
        models=["patchtst"],
        work_dir=tmp_path / "work",
        config="pytorch_cpu",
        stub_env_dir=ENV_DIR,
    )
    with pytest.raises(ConfigurationError, match=r"holds no torch: run `make train-env`"):
        await triton.__aenter__()


@pytest.fixture
def backend(monkeypatch: pytest.MonkeyPatch) -> object:
    """The backend's module that reads programs, as the stub imports it."""
    monkeypatch.syspath_prepend(str(BACKENDS / "pytorch"))
    import exported

    return exported


def with_member(content: bytes, name: str, change: Callable[[bytes], bytes]) -> bytes:
    """Return the archive with one member changed, its checksums right."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(content)) as old, zipfile.ZipFile(buffer, "w") as new:
        for entry in old.infolist():
            data = old.read(entry)
            new.writestr(entry.filename, change(data) if entry.filename == f"archive/{name}" else data)
        if name not in {entry.filename.partition("/")[2] for entry in old.infolist()}:
            new.writestr(f"archive/{name}", change(b""))
    return buffer.getvalue()


class Boom:
    """What a pickle may do."""

    def __reduce__(self) -> tuple[object, ...]:
        return (pytest.fail, ("it was unpickled",))


def pickled_weight(config: bytes) -> bytes:
    tensors = json.loads(config)
    tensors["config"]["mean"]["use_pickle"] = True
    return json.dumps(tensors).encode()


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda content: content[:-2000], "damaged"),
        (lambda content: b"", "damaged"),
        (lambda content: b"no archive at all" * 100, "damaged"),
        (
            lambda content: with_member(content, "data/sample_inputs/model.pt", lambda _: pickle.dumps(Boom())),
            "carries data/sample_inputs/model.pt",
        ),
        (
            lambda content: with_member(content, "data/constants/opaque_obj_0", lambda _: pickle.dumps(Boom())),
            "carries data/constants/opaque_obj_0",
        ),
        (
            lambda content: with_member(content, "data/weights/model_weights_config.json", pickled_weight),
            "carries a pickled tensor",
        ),
        (lambda content: with_member(content, "models/model.json", lambda text: text[: len(text) // 2]), "damaged"),
    ],
    ids=["truncated", "empty", "text", "example inputs", "object", "weight", "graph"],
)
def test_a_file_that_is_broken_or_carries_a_pickle_is_refused_unread(
    backend: object, bundle: Bundle, tmp_path: Path, change: Callable[[bytes], bytes], says: str
) -> None:
    path = tmp_path / "model.pt2"
    path.write_bytes(change((bundle.path / "model.pt2").read_bytes()))
    with pytest.raises(ValueError, match=f"model.pt2.*{says}"):
        backend.load(path, torch.device("cpu"))  # type: ignore[attr-defined]


def test_a_program_for_one_batch_size_is_refused(backend: object, tmp_path: Path) -> None:
    fixed = torch.export.export(torch.nn.Linear(3, 2).requires_grad_(False), (torch.zeros(4, 3),))
    fixed.example_inputs = None
    torch.export.save(fixed, tmp_path / "model.pt2")
    with pytest.raises(ValueError, match="batches of 4 rows: export it dynamic"):
        backend.load(tmp_path / "model.pt2", torch.device("cpu"))  # type: ignore[attr-defined]


def test_on_the_cpu_nothing_of_the_program_is_half(backend: object, bundle: Bundle) -> None:
    loaded = backend.load(bundle.path / "model.pt2", torch.device("cpu"))  # type: ignore[attr-defined]
    kinds = set()

    class Watch(torch.utils._python_dispatch.TorchDispatchMode):
        def __torch_dispatch__(self, func: object, types: object, args: object = (), kwargs: object = None) -> object:
            out = func(*args, **(kwargs or {}))  # type: ignore[operator, misc, call-overload]
            kinds.update(t.dtype for t in torch.utils._pytree.tree_leaves(out) if isinstance(t, torch.Tensor))
            return out

    with Watch(), torch.inference_mode():
        loaded.run(torch.from_numpy(bundle.golden_inputs))
    assert kinds == {torch.float32}


def test_on_another_device_all_of_it_is_there_and_halves_stay_halves(backend: object, bundle: Bundle) -> None:
    # A device without values stands for the GPU: anything left on the CPU could not be combined with it.
    loaded = backend.load(bundle.path / "model.pt2", torch.device("meta"))  # type: ignore[attr-defined]
    kinds = set()

    class Watch(torch.utils._python_dispatch.TorchDispatchMode):
        def __torch_dispatch__(self, func: object, types: object, args: object = (), kwargs: object = None) -> object:
            out = func(*args, **(kwargs or {}))  # type: ignore[operator, misc, call-overload]
            kinds.update(t.dtype for t in torch.utils._pytree.tree_leaves(out) if isinstance(t, torch.Tensor))
            return out

    with Watch(), torch.inference_mode():
        (answer,) = loaded.run(torch.zeros(7, 96, 240, device="meta"))
    assert (answer.device.type, tuple(answer.shape), answer.dtype) == ("meta", (7, 20), torch.float32)
    assert torch.float16 in kinds


@pytest.mark.parametrize(
    ("config", "says"),
    [
        (render_pytorch("patchtst", 96, 241, 20, gpu=False), r"\[-1, 96, 241\] in config.pbtxt"),
        (render_pytorch(*SHAPE, gpu=False).replace('"features"', '"windows"'), "'windows' of config.pbtxt is not in"),
        (render_pytorch(*SHAPE, gpu=False, run_rows_max=1025), "takes 1024 rows, max_batch_size is 1025"),
    ],
    ids=["shape", "name", "rows"],
)
async def test_a_program_that_does_not_fit_its_configuration_fails_the_start(
    bundle: Bundle, tmp_path: Path, config: str, says: str
) -> None:
    repository = tmp_path / "repository"
    shutil.copytree(bundle.path.parents[1], repository)
    (repository / "patchtst" / "configs" / "pytorch_cpu.pbtxt").write_text(config)
    triton = serving(repository, tmp_path / "work")
    with pytest.raises(ModelUnavailable, match=says):
        await triton.__aenter__()
    await gone(triton, triton.pid)
