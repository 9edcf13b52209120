"""Recordings → a gate's bundle, and the nightly question whether a new one is better. Each step itself is elsewhere."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import numpy as np

from candlecast import gate
from candlecast.errors import CandlecastError, ConfigurationError
from candlecast.models import gate_bundle
from candlecast.models.gate_bundle import GOLDEN_ROWS, GateBundle, GateManifest
from candlecast.training import gate_data, gate_metrics, gate_model
from candlecast.training.gate_data import WINDOW_MS, Recording, Samples, TooLittle, utc
from candlecast.training.gate_labels import Label
from candlecast.training.train import code_commit
from candlecast.values import F64

PARITY_ROWS: Final = 100_000
THIN_MINUTES: Final = 1_440
"""Below a day's minutes with samples a bundle says of itself that its data is thin."""
MARGINS: Final = {"auc": 0.005, "log_loss": 0.002}
"""By how much a new gate must be better, by what it is compared on."""


@dataclass(frozen=True, slots=True)
class Config:
    label: Label = field(default_factory=Label)
    grid: str = "full"  # of gate_model.GRIDS
    threshold: float = gate.THRESHOLD
    samples_min: int = 1_000
    rows_max: int = 5_000  # of one fit while combinations are compared
    fit_rows_max: int = 50_000  # of the last fit
    test_share: float = 0.2  # the newest, which no fit sees
    seed: int = 0

    def __post_init__(self) -> None:
        if self.grid not in gate_model.GRIDS:
            raise ConfigurationError(f"grid {self.grid!r} is none of {', '.join(gate_model.GRIDS)}")
        if not 0 < self.threshold < 1 or not 0 < self.test_share < 1:
            raise ConfigurationError("threshold and test share must be above 0 and below 1")
        if min(self.samples_min, self.rows_max, self.fit_rows_max) < 1:
            raise ConfigurationError("samples_min, rows_max and fit_rows_max must be at least 1")

    @property
    def gap_ms(self) -> int:
        """Return what is left out between two parts: no label before and no feature after it share a trade."""
        return self.label.horizon_ms + WINDOW_MS

    @property
    def combinations(self) -> int:
        """Return how many fits × folds the search counts."""
        return len(gate_model.GRIDS[self.grid].params()) * gate_model.FOLDS


@dataclass(frozen=True, slots=True, eq=False)
class Trained:
    """A gate, and what is said of it; `test` is what it has not seen."""

    model: bytes
    manifest: GateManifest
    golden: Any  # f32 [16, 3]
    tried: list[dict[str, Any]]
    importance: dict[str, Any]
    test: Samples

    def write(self, out: Path) -> GateBundle:
        """Write the bundle to folder `out`.

        Raises:
            BundleError: `out` holds something else.
            CandlecastError: a disk is full; what was at `out` stays.
        """
        answers = gate_model.run_onnx(self.model, self.golden)
        metrics = {"metrics": self.manifest.metrics, "tried": self.tried}
        try:
            return gate_bundle.write(out, self.manifest, self.model, self.golden, answers, metrics, self.importance)
        except OSError as error:
            raise CandlecastError(
                f"{out}: the gate cannot be written ({error.strerror}); what was there stays. Make room, train again"
            ) from error


def train(
    recordings: Sequence[Recording],
    config: Config,
    *,
    version: int = 1,
    simulated: bool = False,
    say: Callable[[str], None] = lambda line: None,
    on_scored: Callable[[int], None] = lambda count: None,
) -> Trained:
    """Choose, fit, export and measure a gate; nothing is written.

    Raises:
        TooLittle: below samples_min, of one class, or too short for a part that no fit sees.
        BundleError: the ONNX file differs from the model.
    """
    began, commit = time.monotonic(), code_commit()
    samples = gate_data.samples(recordings, config.label)
    _check(samples, config)
    known, test = (samples.take(part) for part in gate_model.held_out(samples.ts, config.gap_ms, config.test_share))
    for name, part in (("before", known), ("of", test)):
        if not gate_model.has_both(part.labels):
            raise TooLittle(
                f"the {len(part)} samples {name} the newest {config.test_share:.0%} have one class;"
                " give longer recordings"
            )
    say(
        f"{len(samples):,} samples, {samples.positive_rate:.1%} positive, in {samples.stretches(60_000)} minutes:"
        f" {len(known):,} to fit on, the newest {len(test):,} to measure on, {config.gap_ms / 1000:g} s between"
    )
    grid = gate_model.GRIDS[config.grid]
    params, ranked, folds = gate_model.search(known, grid, config.gap_ms, config.rows_max, config.seed, on_scored)
    pipeline = gate_model.fit(known, params, config.fit_rows_max, config.seed)
    model = gate_model.to_onnx(pipeline)
    rows = gate_model.parity_rows(samples.features, PARITY_ROWS, config.seed)
    parity = gate_model.check_parity(pipeline, model, rows)
    metrics = gate_metrics.measure(test, _probability(model, test), known.positive_rate, config.threshold)
    importance = gate_metrics.importance(
        test, lambda features: gate_model.run_onnx(model, features)[:, 1], gate_model.gain(pipeline), config.seed
    )
    best = ranked[0]
    manifest = GateManifest(
        version=version,
        created_at=datetime.now(UTC).isoformat(timespec="seconds").replace("+00:00", "Z"),
        simulated=simulated,
        threshold=config.threshold,
        label=asdict(config.label) | {"means": config.label.words},
        data=gate_data.described(recordings) | _thinness(samples),
        code_commit=commit,
        training={
            "params": asdict(params),
            "cross_validation": {
                "grid": config.grid,
                "combinations": len(ranked),
                "folds": folds,
                "auc": round(best.mean, 4),
                "auc_of_folds": [round(auc, 4) for auc in best.auc],
                "rows_max": config.rows_max,
            },
            "samples": len(samples),
            "positive_rate": round(samples.positive_rate, 4),
            "fitted": {"rows": len(gate_model.thin(len(known), config.fit_rows_max)), "of": len(known)},
            "fitted_until_ms": int(known.ts[-1]) + config.label.horizon_ms,
            "gap_ms": config.gap_ms,
            "seed": config.seed,
            "parity": {"rows": PARITY_ROWS, "largest_difference": parity},
            "seconds": round(time.monotonic() - began, 1),
            "machine": f"{os.cpu_count()} CPU cores",
        },
        metrics=metrics,
    )
    tried = [{"params": asdict(one.params), "auc": round(one.mean, 4)} for one in ranked]
    golden = samples.features[np.linspace(0, len(samples) - 1, GOLDEN_ROWS).astype(np.int64)]
    return Trained(model, manifest, golden, tried, importance, test)


def evaluate(bundle: GateBundle, recordings: Sequence[Recording]) -> dict[str, Any]:
    """Return the metrics of a bundle on what its fit has not seen, by the bundle's own label and threshold.

    Raises:
        TooLittle: there is no such sample, or they have one class.
    """
    unseen = _unseen(bundle, gate_data.samples(recordings, label_of(bundle)))
    if not gate_model.has_both(unseen.labels):
        raise TooLittle(
            f"{len(unseen)} samples lie after {utc(bundle.manifest.training['fitted_until_ms'])}, until when the gate"
            " was fitted, and they do not have both classes; give newer recordings"
        )
    rate = bundle.manifest.training["positive_rate"]
    return gate_metrics.measure(unseen, _answers(bundle, unseen), rate, bundle.manifest.threshold)


def retrain(
    folder: Path,
    recordings: Sequence[Recording],
    config: Config,
    *,
    by: str = "auc",
    margin: float | None = None,
    simulated: bool = False,
    say: Callable[[str], None] = lambda line: None,
    on_scored: Callable[[int], None] = lambda count: None,
) -> dict[str, Any]:
    """Train a gate and put it into the model's folder as a new version, if it is better than the newest one there.

    Both are compared on the newest data, which neither was fitted on. Says what happened and why; too little data, or a
    new one that is not better by the margin, keeps what is there. A first one must be better than the base rate.

    Raises:
        BundleError: the newest version is damaged, or an exported file differs from the model.
    """
    margin = MARGINS[by] if margin is None else margin
    serving = gate_bundle.newest(folder)
    said: dict[str, Any] = {"rolled_out": False, "by": by, "margin": margin, "version": None, "serving": None}
    if serving:
        said["serving"] = {"version": serving.manifest.version, "sha256": serving.sha256}
        config = replace(config, label=label_of(serving), threshold=serving.manifest.threshold)
        if serving.manifest.simulated != simulated:
            kind = ("recordings", "a simulated market")[serving.manifest.simulated]
            return said | {
                "reason": f"the serving gate is of {kind}, the new one is not: they answer for other markets"
            }
    try:
        new = train(
            recordings,
            config,
            version=serving.manifest.version + 1 if serving else 1,
            simulated=simulated,
            say=say,
            on_scored=on_scored,
        )
    except TooLittle as error:
        return said | {"reason": str(error)}
    untouched = _unseen(serving, new.test) if serving else new.test
    if not gate_model.has_both(untouched.labels):
        return said | {"reason": f"of the newest data {len(untouched)} samples are new to both, and of one class"}
    rate = new.manifest.training["positive_rate"]
    mine = gate_metrics.measure(untouched, _probability(new.model, untouched), rate, config.threshold)
    theirs = (
        gate_metrics.measure(untouched, _answers(serving, untouched), rate, config.threshold)[by]["model"]
        if serving
        else mine[by]["base"]
    )
    better = mine[by]["model"] - theirs if by == "auc" else theirs - mine[by]["model"]
    said |= {"rows": len(untouched), "new": mine[by]["model"], "old": theirs, "better_by": round(better, 4)}
    who = f"v{serving.manifest.version}" if serving else "the base rate"
    if better < margin:
        return said | {"reason": f"{by} {mine[by]['model']} is not better than {theirs} of {who} by {margin}"}
    written = new.write(folder / str(new.manifest.version))
    reason = f"{by} {mine[by]['model']} is better than {theirs} of {who} by at least {margin}"
    return said | {"rolled_out": True, "version": new.manifest.version, "bundle": str(written.path), "reason": reason}


def label_of(bundle: GateBundle) -> Label:
    """Return what the bundle was asked."""
    return Label(**{name: value for name, value in bundle.manifest.label.items() if name != "means"})


def _check(samples: Samples, config: Config) -> None:
    if len(samples) < config.samples_min:
        raise TooLittle(
            f"{len(samples)} trades have all features and a label, fewer than {config.samples_min}: nothing is"
            " trained on so little; give longer recordings (or lower --min-samples)"
        )
    if not gate_model.has_both(samples.labels):
        raise TooLittle(
            f"all {len(samples)} labels are {samples.labels[0]}: there is nothing to learn; give recordings that move,"
            " or ask for another label"
        )


def _thinness(samples: Samples) -> dict[str, Any]:
    """Say how much independent data there is, which is far less than there are trades."""
    minutes, days = samples.stretches(60_000), samples.stretches(86_400_000)
    told: dict[str, Any] = {"minutes_with_samples": minutes, "days": days}
    if minutes < THIN_MINUTES:
        told["note"] = (
            f"Thin: {minutes} minutes with samples, on {days} day{'s' * (days != 1)}. Trades of one minute share their"
            " future, so this shows that the way from trades to a served gate works, not that the gate predicts."
        )
    return told


def _unseen(bundle: GateBundle, samples: Samples) -> Samples:
    """Return the samples whose features know no trade that the bundle was fitted on."""
    return samples.take(samples.ts > bundle.manifest.training["fitted_until_ms"] + WINDOW_MS)


def _answers(bundle: GateBundle, samples: Samples) -> F64:
    return _probability((bundle.path / gate_bundle.MODEL).read_bytes(), samples)


def _probability(model: bytes, samples: Samples) -> F64:
    return gate_model.run_onnx(model, samples.features)[:, 1].astype(np.float64)
