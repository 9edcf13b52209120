"""Batches through captured graphs, with a CUDA made of Python: a graph here replays the very operations that were
captured, on the very tensors, and never asks the program again. What a real GPU does is measured by bench/gpu.py."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from candlecast.triton.environment import BACKENDS

CPU = torch.device("cpu")
WIDTH = 3


class Recorder(TorchDispatchMode):
    """Keeps every operation with its tensors and results."""

    def __init__(self) -> None:
        super().__init__()
        self.steps: list[tuple[Any, Any, Any, Any]] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        self.steps.append((func, args, kwargs or {}, out))
        return out


class SoftwareGraph:
    def __init__(self) -> None:
        self.recorder = Recorder()
        self.replays = 0

    def pool(self) -> str:
        return "pool"

    def replay(self) -> None:
        self.replays += 1
        for func, args, kwargs, out in self.recorder.steps:
            for kept, new in zip(tree_leaves(out), tree_leaves(func(*args, **kwargs)), strict=True):
                if isinstance(kept, Tensor) and kept.data_ptr() != new.data_ptr():
                    kept.copy_(new)


class SoftwareCuda:
    """What Graphs uses of torch.cuda; remembers what was captured."""

    def __init__(self) -> None:
        self.graphs: list[SoftwareGraph] = []
        self.pools: list[object] = []

    class Stream:
        def __init__(self, device: torch.device) -> None: ...

        def wait_stream(self, other: object) -> None: ...

        def synchronize(self) -> None: ...

    def current_stream(self) -> object:
        return object()

    def CUDAGraph(self) -> SoftwareGraph:
        self.graphs.append(SoftwareGraph())
        return self.graphs[-1]

    @contextlib.contextmanager
    def stream(self, stream: object) -> Iterator[None]:
        yield

    @contextlib.contextmanager
    def graph(self, graph: SoftwareGraph, *, pool: object, stream: object) -> Iterator[None]:
        self.pools.append(pool)
        with graph.recorder:
            yield


@pytest.fixture
def runners(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.syspath_prepend(str(BACKENDS / "pytorch"))
    import runners

    return runners


Make = Callable[..., Any]


@pytest.fixture
def make(runners: Any) -> Make:
    def make(buckets: list[int], rows_max: int, run: Any = None) -> tuple[Any, SoftwareCuda]:
        cuda = SoftwareCuda()
        kinds = [(torch.float32, [WIDTH])]
        graphs = runners.Graphs(
            run or program, kinds, buckets=buckets, rows_max=rows_max, device=CPU, cuda=cuda, pinned=False
        )
        return graphs, cuda

    return make


def program(rows: Tensor) -> tuple[Tensor, ...]:
    """Answer with two outputs, each of which depends on every value of its row."""
    weights = torch.arange(1.0, WIDTH + 1)
    return (rows * weights).sum(dim=1, keepdim=True), rows + 1


def rows(count: int, seed: int) -> Tensor:
    return torch.randint(-50, 50, (count, WIDTH), generator=torch.Generator().manual_seed(seed)).float()


def test_every_number_of_rows_gets_its_own_answers_whatever_came_before(make: Make) -> None:
    graphs, _ = make([1, 2, 4, 8], 16)
    for count in (16, 1, 9, 2, 3, 16, 5, 8, 7, 4):
        sent = rows(count, seed=count)
        for got, right in zip(graphs([[sent]]), program(sent), strict=True):
            assert torch.equal(got, right), f"{count} rows"


def test_the_rows_of_several_requests_stand_behind_one_another(make: Make, runners: Any) -> None:
    graphs, _ = make([1, 8], 64)
    runners.PIECE_BYTES = 3 * WIDTH * 4  # pieces of three rows: most requests travel in several
    parts = [rows(count, seed=count) for count in (5, 1, 12, 3, 20)]
    for got, right in zip(graphs([parts]), program(torch.cat(parts)), strict=True):
        assert torch.equal(got, right)


def test_a_row_with_nan_spoils_no_other_now_or_later(make: Make) -> None:
    graphs, _ = make([4], 8)
    sent = rows(8, seed=0)
    sent[6, 1] = torch.nan
    answer = graphs([[sent]])[0]
    assert answer.isnan().flatten().tolist() == [False] * 6 + [True, False]
    after = rows(5, seed=1)  # the row with NaN still lies behind them
    assert torch.equal(graphs([[after]])[0], program(after)[0])


def test_the_smallest_bucket_that_holds_the_rows_is_replayed(make: Make) -> None:
    graphs, cuda = make([32, 2, 8], 16)
    by_size = dict(zip((16, 8, 2), cuda.graphs, strict=True))  # 32 is above rows_max; the largest is captured first
    for count, bucket in ((1, 2), (2, 2), (3, 8), (8, 8), (9, 16), (16, 16)):
        before = {size: graph.replays for size, graph in by_size.items()}
        graphs([[rows(count, seed=0)]])
        assert {size for size, graph in by_size.items() if graph.replays > before[size]} == {bucket}


def test_after_the_start_the_program_itself_is_never_run_again(make: Make) -> None:
    calls = 0

    def counted(inputs: Tensor) -> tuple[Tensor, ...]:
        nonlocal calls
        calls += 1
        return program(inputs)

    graphs, cuda = make([1, 2], 4, counted)
    at_start = calls
    assert all(graph.replays == 1 for graph in cuda.graphs), "each was tried once"
    assert cuda.pools == [None, "pool", "pool"]
    for count in (1, 2, 3, 4):
        graphs([[rows(count, seed=count)]])
    assert calls == at_start
