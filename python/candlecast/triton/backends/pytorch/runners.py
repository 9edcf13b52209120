"""Batches of several requests through one program: eager on a CPU, by captured graphs on a GPU. Knows no Triton."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

Run = Callable[..., Sequence[Tensor]]
Feeds = Sequence[Sequence[Tensor]]
"""For each input of the program, the rows of each request: [rows, ...] on the CPU, contiguous."""

WARM_UPS = 3
"""Runs before a capture: libraries choose kernels and take workspaces, which a capture must not see."""
PIECE_BYTES = 2 * 1024 * 1024
"""What is staged at once: while one piece travels to the GPU, the next is written into pinned memory."""


class Eager:
    """The program as it is, on the CPU."""

    def __init__(self, run: Run) -> None:
        self._run = run

    @torch.inference_mode()
    def __call__(self, feeds: Feeds) -> list[Tensor]:
        """Return the outputs of all requests' rows, in their order."""
        return list(self._run(*(parts[0] if len(parts) == 1 else torch.cat(list(parts)) for parts in feeds)))


class Graphs:
    """The program captured as one CUDA graph for each of some batch sizes, the buckets.

    A batch runs in the smallest bucket that holds it; rows beyond it hold what an earlier batch left and nobody reads
    them. All buckets share one input on the GPU and one memory pool, for they never run at the same time.
    """

    @torch.inference_mode()
    def __init__(
        self,
        run: Run,
        inputs: Sequence[tuple[torch.dtype, Sequence[int]]],
        *,
        buckets: Sequence[int],
        rows_max: int,
        device: torch.device,
        cuda: Any = torch.cuda,
        pinned: bool = True,
    ) -> None:
        """Capture every bucket, the largest first, and replay each once.

        Args:
            run: the program, on `device`.
            inputs: type and shape of each input, without its batch.
            buckets: batch sizes; those above rows_max are left out, and rows_max is always one.
            rows_max: rows in one batch.
            cuda: what torch.cuda offers, and pinned whether its memory can be: tests bring their own.
        """
        self._cuda = cuda
        self._buckets = [*sorted({size for size in buckets if size < rows_max}), rows_max]
        self._copying, self._computing = cuda.Stream(device), cuda.Stream(device)
        self._staged = [torch.zeros(rows_max, *shape, dtype=kind, pin_memory=pinned) for kind, shape in inputs]
        self._inputs = [torch.zeros(rows_max, *shape, dtype=kind, device=device) for kind, shape in inputs]
        self._graphs: dict[int, tuple[Any, Sequence[Tensor]]] = {}
        pool = None
        for bucket in reversed(self._buckets):
            graph, outputs = self._capture(run, bucket, pool)
            pool = pool or graph.pool()
            self._graphs[bucket] = graph, outputs
        largest = self._graphs[rows_max][1]
        self._answers = [torch.zeros(out.shape, dtype=out.dtype, pin_memory=pinned) for out in largest]
        for bucket in self._buckets:
            self([[staged[:bucket]] for staged in self._staged])

    def _capture(self, run: Run, bucket: int, pool: Any) -> tuple[Any, Sequence[Tensor]]:
        inputs = [whole[:bucket] for whole in self._inputs]
        self._computing.wait_stream(self._cuda.current_stream())
        with self._cuda.stream(self._computing):
            for _ in range(WARM_UPS):
                run(*inputs)
        self._computing.synchronize()
        graph = self._cuda.CUDAGraph()
        with self._cuda.graph(graph, pool=pool, stream=self._computing):
            outputs = run(*inputs)
        return graph, outputs

    @torch.inference_mode()
    def __call__(self, feeds: Feeds) -> list[Tensor]:
        """Return the outputs of all requests' rows, in their order: pinned memory that the next call writes over."""
        rows = sum(len(part) for part in feeds[0])
        graph, outputs = self._graphs[self._buckets[bisect_left(self._buckets, rows)]]
        with self._cuda.stream(self._copying):
            for parts, staged, whole in zip(feeds, self._staged, self._inputs, strict=True):
                self._send(parts, staged, whole)
        self._computing.wait_stream(self._copying)
        with self._cuda.stream(self._computing):
            graph.replay()
            for answer, output in zip(self._answers, outputs, strict=True):
                answer[:rows].copy_(output[:rows], non_blocking=True)
        self._computing.synchronize()
        return [answer[:rows] for answer in self._answers]

    def _send(self, parts: Sequence[Tensor], staged: Tensor, whole: Tensor) -> None:
        """Write the rows of all requests behind one another, by way of pinned memory, piece by piece."""
        piece_rows = max(1, PIECE_BYTES // (staged[0].numel() * staged.element_size()))
        start = 0
        for part in parts:
            for piece in torch.split(part, piece_rows):
                stop = start + len(piece)
                staged[start:stop].copy_(piece)
                whole[start:stop].copy_(staged[start:stop], non_blocking=True)
                start = stop
