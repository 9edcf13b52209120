"""A bundle and its session as rows of the registry. Knows no database, and no manifest's files."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from candlecast.models.bundle import Bundle
from candlecast.store.registry import Importance, Logged, Performance, Session, Trained


def trained(bundle: Bundle, session: Session) -> Trained:
    """Return a bundle as a row of ml_models."""
    manifest = bundle.manifest
    features = manifest.feature_set
    return Trained(
        name=manifest.name,
        version=manifest.version,
        bundle_sha256=bytes.fromhex(bundle.sha256),
        bundle_path=str(bundle.path),
        family=session.family,
        target=session.target,
        horizon_bars=session.horizon_bars,
        interval_ms=manifest.data["interval_ms"],
        feature_set=features.name,
        feature_set_hash=bundle.feature_set_hash,
        features=features.columns,
        optional_inputs=features.optional_inputs,
        reference_symbol=features.reference_symbol,
        symbols=manifest.data["symbols"],
        data_from=manifest.data["from"],
        data_to=manifest.data["to"],
        code_commit=manifest.code_commit,
        metrics=manifest.metrics,
        session_id=session.id,
        created_at=manifest.created_at,
    )


def performance(bundle: Bundle) -> list[Performance]:
    """Return the metrics of a manifest's walk-forward folds as rows, and their mean as those of fold 0."""
    manifest = bundle.manifest
    walk = manifest.metrics.get("walk_forward", {})
    folds = dict(enumerate(walk.get("folds", []), 1)) | ({0: walk["mean"]} if walk.get("mean") else {})
    who = Measured(manifest.name, manifest.version, bundle.sha256, "walk_forward", manifest.created_at)
    return metric_rows(who, folds.items())


@dataclass(frozen=True, slots=True)
class Measured:
    """Who was measured, how and when."""

    model: str
    version: int
    sha256: str
    source: str
    measured_at: datetime | str


def metric_rows(who: Measured, folds: Iterable[tuple[int, Mapping[str, Any]]]) -> list[Performance]:
    """Return metrics by number of their fold as rows; fold 0 is the mean of the folds, or the whole.

    Args:
        folds: {"rows": …, "horizons": {name: {metric: {"model": …, "base": …}}}, "risks": …, "spans": …} each, as
            `evaluate.measure` gives it; names of deeper metrics are joined.
    """
    rows = []
    for number, fold in folds:
        test = fold.get("spans", {}).get("test", {})
        for horizon, metrics in (fold.get("horizons", {}) | fold.get("risks", {})).items():
            for name, pair in _pairs(metrics):
                low, high = pair.get("interval") or (pair.get("low"), pair.get("high"))
                rows.append(
                    Performance(
                        model=who.model,
                        version=who.version,
                        bundle_sha256=bytes.fromhex(who.sha256),
                        source=who.source,
                        measured_at=who.measured_at,
                        fold=number,
                        horizon=horizon,
                        metric=name,
                        value=pair["model"],
                        base=pair.get("base"),
                        persistence=pair.get("persistence"),
                        low=low,
                        high=high,
                        data_points=fold.get("rows"),
                        data_from=test.get("from"),
                        data_to=test.get("before"),
                    )
                )
    return rows


def importance(bundle: Bundle) -> list[Importance]:
    """Return the manifest's metrics["importance"], as `importance.table` gives it, as rows; none where it has none."""
    manifest = bundle.manifest
    found = manifest.metrics.get("importance")
    if not found:
        return []
    shared = {key: found[key] for key in ("method", "correlation_bars")}
    return [
        Importance(
            model=manifest.name,
            version=manifest.version,
            calculated_at=manifest.created_at,
            bundle_sha256=bytes.fromhex(bundle.sha256),
            **shared,
            **row,
        )
        for row in found["features"]
    ]


def _pairs(metrics: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Mapping[str, Any]]]:
    for name, value in metrics.items():
        if not isinstance(value, Mapping):
            continue
        if value.get("model") is not None:
            yield prefix + name, value
        else:
            yield from _pairs(value, f"{prefix}{name}.")


def logged(session: Session) -> Logged:
    """Return a session that ended as a row of ml_training_log; accuracy is the mean of the horizons, balanced."""
    assert session.finished_at is not None
    mean = ((session.metrics or {}).get("walk_forward") or {}).get("mean") or {}
    horizons = mean.get("horizons", {})

    def over_horizons(metric: str, key: str) -> float | None:
        values = [horizon[metric][key] for horizon in horizons.values() if metric in horizon]
        return sum(values) / len(values) if values else None

    numbers = {
        "log_loss": over_horizons("log_loss", "model"),
        "base_log_loss": over_horizons("log_loss", "base"),
        "base_accuracy": over_horizons("balanced_accuracy", "base"),
    }
    return Logged(
        key=f"session:{session.id}",
        strategy=session.model,
        status=session.status,
        version=session.version,
        logged_at=session.finished_at,
        accuracy=over_horizons("balanced_accuracy", "model"),
        duration_s=(session.finished_at - session.started_at).total_seconds(),
        data_points=session.data_points,
        error=session.error,
        session_id=session.id,
        metadata={"family": session.family, "target": session.target}
        | {name: number for name, number in numbers.items() if number is not None},
    )
