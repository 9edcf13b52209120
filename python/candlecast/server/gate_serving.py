"""The gate's model in Triton: asked in time, and only while its golden values are right. Knows no order flow."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import numpy as np

from candlecast.errors import CandlecastError, ModelUnavailable, Overloaded
from candlecast.gatekeeper import GateModel
from candlecast.models import gate_bundle
from candlecast.models.gate_bundle import GateBundle
from candlecast.settings import Settings
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
        self._trouble: CandlecastError | None = ModelUnavailable("it was not checked yet")

    async def ask(self, features: F32) -> F32:
        """Answer features [B, 3] with probabilities [B, 2].

        Raises:
            ModelUnavailable, DeadlineExceeded, Overloaded: not within the timeout, or not to be trusted.
        """
        if self._trouble is not None:
            raise ModelUnavailable(f"gate: {self._trouble}")
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
            if self._trouble is None:
                log.warning("gate away error=%s", error)
            self._trouble = error
        else:
            if self._trouble is not None:
                log.info("gate well version=%d", self._bundle.manifest.version)
            self._trouble = None


@asynccontextmanager
async def served_gate(settings: Settings) -> AsyncIterator[ServedGate | None]:
    """Connect to the newest gate of the repository; None when it has none.

    Raises:
        BundleError: it is damaged, or was trained on a simulated market and that is not allowed.
    """
    bundle = gate_bundle.newest(settings.model_repository / gate_bundle.NAME)
    if bundle is None:
        yield None
        return
    bundle.check_real(settings.allow_simulated)
    async with TritonModel(
        settings.triton, gate_bundle.NAME, settings.infer_timeout_ms, version=str(bundle.manifest.version)
    ) as triton:
        gate = ServedGate(triton, bundle, timeout_ms=settings.gate_timeout_ms)
        await gate.check()
        yield gate
