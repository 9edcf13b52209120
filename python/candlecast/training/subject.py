"""Who is measured: one forecaster, or an ensemble as one that its members speak for. Knows no data and no runtime."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from candlecast import outputs
from candlecast.ensemble import combine
from candlecast.errors import BundleError
from candlecast.models.bundle import FORECAST, Bundle, FeatureSet
from candlecast.models.ensemble import Ensemble, load, members_of
from candlecast.training import suspicion
from candlecast.values import F32, F64


@dataclass(frozen=True, slots=True, eq=False)
class Subject:
    """A bundle, or an ensemble: as the server would ask it."""

    name: str
    version: int
    path: Path
    sha256: str  # of its manifest.json, hence of everything
    members: tuple[Bundle, ...]  # those that are asked: one, unless it is an ensemble
    weights: F64  # [M] of them, their sum 1
    temperatures: F64  # [4] that what `joined` returns is read with
    is_ensemble: bool
    thresholds: F64 | None  # [4] of a move, by which it calls classes; None: it has none, or is an ensemble

    @classmethod
    def load(cls, path: Path) -> Subject:
        """Read the bundle, or the ensemble with its members, in folder `path`.

        Raises:
            BundleError: it is damaged, of other features than this core computes, or no forecaster.
        """
        return cls.of(load(path))

    @classmethod
    def of(cls, served: Bundle | Ensemble) -> Subject:
        """Return what was loaded as who is measured.

        Raises:
            BundleError: as `load`.
        """
        members, manifest = members_of(served), served.manifest
        for bundle in members:
            if bundle.target != FORECAST:
                raise BundleError(
                    f"{bundle.path} is a model of {bundle.target}, which answers another question with"
                    f" {bundle.manifest.outputs['count']} outputs: only forecasters, with {outputs.COUNT}, can be"
                    " evaluated or traded. How good it was in its walk-forward tests stands in its manifest.json"
                )
            bundle.check_feature_set()
        given = (bundle.manifest.data.get("interval_ms") for bundle in members)
        intervals: set[int] = {interval_ms for interval_ms in given if interval_ms is not None}
        if len(intervals) > 1:
            raise BundleError(
                f"{served.path}: its members were trained on candles of {sorted(intervals)} ms, whose horizons are not"
                " the same: make an ensemble of models of one interval"
            )
        together = isinstance(served, Ensemble)
        fitted = None if together else members[0].manifest.training.get("shipped", {}).get("thresholds")
        return cls(
            name=manifest.name,
            version=manifest.version,
            path=served.path,
            sha256=served.sha256,
            members=members,
            weights=served.weights if isinstance(served, Ensemble) else np.ones(1),
            temperatures=np.ones(4) if isinstance(served, Ensemble) else np.array(served.manifest.temperatures),
            is_ensemble=together,
            thresholds=None if fitted is None else np.array(fitted),
        )

    @property
    def title(self) -> str:
        """Return its name with its version."""
        return f"{self.name} v{self.version}"

    @property
    def features(self) -> FeatureSet:
        """What it reads, the same for all members."""
        return self.members[0].manifest.feature_set

    @property
    def interval_ms(self) -> int | None:
        """Of the candles that it was trained on; None: its manifest does not say."""
        return next((given for bundle in self.members if (given := bundle.manifest.data.get("interval_ms"))), None)

    @property
    def trained_on(self) -> dict[str, str] | None:
        """From the first to the last candle that any member was trained on, ISO 8601; None: unknown of one."""
        spans = [bundle.manifest.data for bundle in self.members]
        if not all("from" in span for span in spans):
            return None
        return {"from": min(span["from"] for span in spans), "to": max(span["to"] for span in spans)}

    @property
    def suspicions(self) -> list[str]:
        """What was suspicious in the training of each member."""
        return [
            f"{text} of the training of {bundle.manifest.name} v{bundle.manifest.version}"
            for bundle in self.members
            for text in suspicion.found_in(bundle.manifest.metrics)
        ]

    def described_members(self) -> dict[str, float]:
        """Return the weight of each member by its title."""
        titles = (f"{bundle.manifest.name} v{bundle.manifest.version}" for bundle in self.members)
        return {title: round(float(weight), 4) for title, weight in zip(titles, self.weights, strict=True)}

    def joined(self, answers: Sequence[F32]) -> F32:
        """Return the outputs [B, 20] of what each of the M members answered [B, 20], as the server joins them."""
        if not self.is_ensemble:
            return answers[0]
        calibration = np.array([bundle.manifest.temperatures for bundle in self.members])
        return combine(answers, calibration, self.weights)[:, : outputs.COUNT]
