"""Where an interrupted fit stands, in one file: written whole or not at all, never unpickled. Knows no network."""

from __future__ import annotations

import os
import pickle
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from candlecast.errors import CandlecastError, ConfigurationError


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A file, and what tells the fit that it belongs to from any other."""

    path: Path
    key: str

    def save(self, parts: dict[str, Any]) -> None:
        """Replace the file by `parts` (tensors and plain values) and the states of torch's generators.

        Raises:
            CandlecastError: it cannot be written; the one before stays.
        """
        beside = self.path.with_suffix(".new")
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with beside.open("wb") as file:
                torch.save(parts | {"key": self.key, "generators": _generators()}, file)
                file.flush()
                os.fsync(file.fileno())
            beside.replace(self.path)
        except (OSError, RuntimeError) as error:  # torch says RuntimeError when the disk is full
            beside.unlink(missing_ok=True)
            raise CandlecastError(
                f"{self.path}: the checkpoint cannot be written ({error}); make room there"
            ) from error

    def load(self) -> dict[str, Any] | None:
        """Return the parts and set torch's generators as they were; None when there is no file.

        Raises:
            ConfigurationError: it is damaged, or of another fit.
        """
        if not self.path.exists():
            return None
        try:
            parts: dict[str, Any] = torch.load(self.path, map_location="cpu", weights_only=True)
            key, generators = parts.pop("key"), parts.pop("generators")
        except (OSError, RuntimeError, EOFError, LookupError, TypeError, ValueError, pickle.UnpicklingError) as error:
            raise ConfigurationError(f"{self.path}: the checkpoint is damaged; train without --resume") from error
        if key != self.key:
            raise ConfigurationError(
                f"{self.path} is of another configuration, seed or data; give those again, or leave --resume out"
            )
        torch.set_rng_state(generators["cpu"])
        if "cuda" in generators and torch.cuda.is_available():
            torch.cuda.set_rng_state(generators["cuda"])
        return parts


def _generators() -> dict[str, Tensor]:
    states = {"cpu": torch.get_rng_state()}
    if torch.cuda.is_available():
        states["cuda"] = torch.cuda.get_rng_state()
    return states
