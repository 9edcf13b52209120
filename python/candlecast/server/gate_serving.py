"""The gate's model in Triton: asked in time, and only while its golden values are right. Knows no order flow."""

from __future__ import annotations

import logging

import numpy as np

from candlecast.errors import CandlecastError, ModelUnavailable, Overloaded
from candlecast.gatekeeper import GateModel
from candlecast.models.gate_bundle import GateBundle
from candlecast.triton.client import TritonModel
from candlecast.triton.repository import GATE_ROWS_MAX
from candlecast.values import F32

log = logging.getLogger(__name__)


class ServedGate:
    """The model, until a check finds it away or wrong, and again from the check that finds it well."""

    def __init__(self, triton: TritonModel, bundle: GateBundle, *, timeout_ms: int) -> None:
        manifest = bundle.manifest
        self.model = GateModel(manifest.name, manifest.version, bundle.sha256, self.ask)
        self._bundle = bundle
        self._triton = triton
        self._timeout_ms = timeout_ms
        self.trouble: CandlecastError | None = ModelUnavailable("it was not checked yet")
        """What the last check found."""

    async def ask(self, features: F32) -> F32:
        """Answer features [B, 3] with probabilities [B, 2].

        Raises:
            ModelUnavailable, DeadlineExceeded, Overloaded: not within the timeout, or not to be trusted.
        """
        if self.trouble is not None:
            raise ModelUnavailable(f"gate: {self.trouble}")
        parts = [features[start : start + GATE_ROWS_MAX] for start in range(0, len(features), GATE_ROWS_MAX)]
        answers = [(await self._triton.infer(part, timeout_ms=self._timeout_ms)).outputs for part in parts]
        return answers[0] if len(answers) == 1 else np.concatenate(answers)

    async def check(self) -> None:
        """Compare with the golden values; whatever comes of it, forecasts go on."""
        try:
            await self._triton.check_golden(self._bundle.golden_inputs, self._bundle.golden_outputs)
        except Overloaded:  # it is busy, which says nothing of its values
            return
        except CandlecastError as error:
            if self.trouble is None:
                log.warning("gate away error=%s", error)
            self.trouble = error
        else:
            if self.trouble is not None:
                log.info("gate well version=%d", self._bundle.manifest.version)
            self.trouble = None
