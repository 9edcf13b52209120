"""Samples → tensors on the device that computes, and how long that took. Knows no network and no loss."""

from __future__ import annotations

import time
from typing import Final

import numpy as np
import torch
from torch import Tensor

from candlecast.features import WINDOW
from candlecast.training.data import Samples
from candlecast.values import I64

RESIDENT_SHARE: Final = 0.5
"""Of a GPU's free memory that the rows may take: they lie there once, and windows are gathered there."""


class Feed:
    """Windows and labels by index. On a CPU, and where a GPU has no room for the rows, windows are gathered here."""

    def __init__(self, samples: Samples, device: str) -> None:
        self.samples = samples
        self.device = torch.device(device)
        self.seconds = 0.0  # spent in gathering and copying so far
        fits = self.device.type == "cuda" and samples.rows.nbytes < RESIDENT_SHARE * torch.cuda.mem_get_info()[0]
        self._rows = torch.from_numpy(np.array(samples.rows)).to(self.device) if fits else None
        self._window = torch.arange(-WINDOW, 0, device=self.device)

    def windows(self, index: I64) -> Tensor:
        """Return the windows [B, 96, F] f32 of the samples at index [B]."""
        began = time.perf_counter()
        if self._rows is None:
            windows = torch.from_numpy(self.samples.windows(index)).to(self.device)
        else:
            end = torch.from_numpy(self.samples.end[index]).to(self.device)
            windows = self._rows[end[:, None] + self._window]
        self.seconds += time.perf_counter() - began
        return windows

    def labels(self, index: I64) -> tuple[Tensor, Tensor, Tensor]:
        """Return returns [B, 4] f32, directions [B, 4] i64 and risks [B, 4] f32 of the samples at index [B]."""
        labels = self.samples.labels
        parts = (labels.returns[index], labels.directions[index].astype(np.int64), labels.risks[index])
        one, two, three = (torch.from_numpy(part).to(self.device) for part in parts)
        return one, two, three
