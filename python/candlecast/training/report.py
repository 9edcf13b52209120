"""The report of an evaluation: verdict first, then tables and plots. Measures nothing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import numpy as np

from candlecast import outputs
from candlecast.errors import ConfigurationError
from candlecast.models.bundle import Manifest
from candlecast.training import metrics, page, plots, suspicion
from candlecast.training.evaluate import DAY_MS, NO_EDGE, verdict
from candlecast.training.page import Block, Heading, Plot, Table, Text
from candlecast.values import F64, I64

Pair = dict[str, float]
Numbers = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Report:
    """What a report tells; whatever is absent is left out of it."""

    title: str
    facts: Mapping[str, str]  # what was measured on what
    measured: Numbers  # evaluate.measure, or evaluate.average of the folds
    folds: Mapping[str, Numbers] = field(default_factory=dict)  # evaluate.measure of each
    members: Mapping[str, Numbers] = field(default_factory=dict)  # of an ensemble: weight, log_loss by horizon
    warnings: list[str] = field(default_factory=list)  # the loudest first: they open the report
    pnl: tuple[I64, F64] | None = None  # open times and PnL [T] of each bar
    pnl_title: str = "Every signal held for 4 hours, before costs (a sketch; candlecast backtest trades as one would)"
    importance: Mapping[str, float] | None = None  # by feature, they sum to 1; as the training found it
    importance_note: str = ""  # how


def write(path: Path, report: Report) -> tuple[Path, Path]:
    """Write the HTML page to `path` and the Markdown beside it, with the suffix .md; return both."""
    return page.write(path, report.title, _blocks(report))


def of_training(manifest: Manifest) -> Report:
    """Return the report of a training: all its folds, beside their mean, and what its last fit looks at.

    Raises:
        ConfigurationError: it has no fold that was measured.
    """
    walk, trained, data = manifest.metrics["walk_forward"], manifest.training, manifest.data
    if "mean" not in walk:
        raise ConfigurationError("there is no report without a fold; train to the end of one")
    facts = {
        "data": f"{len(data['symbols'])} symbols, {data['from']} to {data['to']}",
        "samples": f"{trained['samples']:,}",
        "folds": f"{len(walk['folds'])}, purged, {trained['embargo_bars']} bars apart",
        "code": manifest.code_commit,
        "trained": f"{manifest.created_at}, {trained['seconds']:.0f} s on {trained['machine']}",
    }
    return Report(
        f"{manifest.name} v{manifest.version}: walk-forward",
        facts,
        walk["mean"],
        folds={f"fold {number}": fold for number, fold in enumerate(walk["folds"], 1)},
        warnings=suspicion.found_in(manifest.metrics),
        pnl=_daily(walk["folds"]),
        pnl_title="Every signal of the test parts held for 4 hours, before costs, by day (a sketch, no backtest)",
        importance=importance_of(manifest),
        importance_note=importance_note(manifest),
    )


def _daily(folds: Sequence[Numbers]) -> tuple[I64, F64] | None:
    """Return days and their PnL, of the test parts one after the other; None where a manifest does not have them."""
    found = [fold["pnl"] for fold in folds if "pnl" in fold]
    if len(found) < len(folds):
        return None
    days = [one["from_ms"] + DAY_MS * np.arange(len(one["days"]), dtype=np.int64) for one in found]
    return np.concatenate(days), np.concatenate([np.array(one["days"]) for one in found])


def importance_of(manifest: Manifest) -> dict[str, float]:
    """Return each feature's share, as the training found it; empty when it does not say."""
    found = manifest.metrics.get("importance") or {"features": []}
    return {row["feature"]: row["score"] for row in found["features"]}


def importance_note(manifest: Manifest) -> str:
    """Say how the training found the importance."""
    method = (manifest.metrics.get("importance") or {}).get("method", "")
    how = {"shap": "mean |SHAP|", "integrated_gradients": "integrated gradients"}.get(method, method)
    return f"By {how}, over windows of the validation part of {manifest.name} v{manifest.version}'s last fit."


def _blocks(report: Report) -> list[Block]:
    blocks = _opening(report)
    blocks.append(Table(["", ""], [[name, value] for name, value in report.facts.items()]))
    blocks += [Heading("Probabilities"), _directions(report.measured), Text(_HOW, "note")]
    if report.members:
        blocks += [Heading("Members alone"), _members(report)]
    blocks += [Heading("Skill per horizon" + (" and fold" if report.folds else ""))]
    parts = list(report.folds.items())
    blocks.append(Plot(plots.skills([*parts, ("mean" if parts else "all", report.measured)]), "skill and intervals"))
    if parts:
        blocks.append(_folds(report.folds, report.measured))
    blocks += [Heading("Calibration"), Plot(plots.reliability(report.measured["reliability"]), "reliability")]
    blocks += [Text(f"Calibration error: the likeliest class, {metrics.BINS} bins of equal width.", "note")]
    blocks += [Heading("Classes"), _classes(report.measured), Heading("Returns and risks"), _returns(report.measured)]
    blocks += [_risks(report.measured), Text(_RETURNS, "note")]
    if report.pnl is not None:
        blocks += [Heading("Equity"), Plot(plots.equity(*report.pnl, report.pnl_title), "equity and drawdown")]
    if report.importance:
        blocks += [Heading("Importance"), Plot(plots.importance(report.importance), "importance of features")]
        blocks.append(Text(report.importance_note, "note"))
    return blocks


def _opening(report: Report) -> list[Block]:
    """Return what makes the numbers doubtful, then the verdict; first of all that there is no edge."""
    warnings: list[Block] = [Text(text[:1].upper() + text[1:], "warning") for text in report.warnings]
    said = verdict(report.measured)
    return [Text(said, "verdict"), *warnings] if said.startswith(NO_EDGE) else [*warnings, Text(said, "verdict")]


_HOW: Final = (
    f"model [{metrics.COVERAGE:.0%} interval] (base rate; persistence). Intervals: {metrics.RESAMPLES} resamples of"
    f" moving blocks of {metrics.BLOCK_BARS} bars, all symbols of a bar together. Skill is the share of the base rate's"
    f" log-loss that is saved; its intervals hold for the four horizons together ({metrics.SKILL_COVERAGE:.2%} each)."
    " By thresholds: the likelier side is called from that probability of a move on which did best in validation; the"
    " likeliest class is nearly always the most frequent one. Side: of the moves beyond the threshold, the share whose"
    " side was preferred. By chance: the calibration error to"
    " expect in as much time of probabilities that are right."
)
_RETURNS: Final = (
    "Persistence expects a return of 0 and the risks of the last bars. IC: rank correlation of expected and realised"
    f" returns. Quantile loss at {metrics.RISK_QUANTILE}; covered: the share of rows whose risk stayed within the"
    " expected one."
)


def _directions(measured: Numbers) -> Table:
    columns = {"log_loss": "log-loss", "skill": "skill", "brier": "Brier", "balanced_accuracy": "balanced accuracy"}
    columns |= {"balanced_accuracy_called": "by thresholds", "side_accuracy": "side"}
    columns |= {"calibration_error_raw": "cal. error raw", "calibration_error": "scaled"}
    rows = [
        [metric, *(_cell(measured["horizons"][horizon][key]) for horizon in outputs.HORIZONS)]
        for key, metric in columns.items()
        if all(key in measured["horizons"][horizon] for horizon in outputs.HORIZONS)
    ]
    errors = [measured["horizons"][horizon]["calibration_error"] for horizon in outputs.HORIZONS]
    if all("chance" in error for error in errors):
        rows.append(["scaled, by chance", *(_number(error["chance"]) for error in errors)])
    return Table(["", *outputs.HORIZONS], rows)


def _members(report: Report) -> Table:
    """Return the log-loss of each member by itself, and that of all together."""

    def losses(of: Mapping[str, float | None]) -> list[str]:
        return ["" if value is None else f"{value:.4f}" for value in of.values()]

    rows = [[name, f"{one['weight']:.3f}", *losses(one["log_loss"])] for name, one in report.members.items()]
    whole = {horizon: numbers["log_loss"]["model"] for horizon, numbers in report.measured["horizons"].items()}
    return Table(["log-loss", "weight", *outputs.HORIZONS], [*rows, ["all together", "1", *losses(whole)]])


def _folds(folds: Mapping[str, Numbers], mean: Numbers) -> Table:
    header = ["fold", "rows", *(f"{h} {what}" for h in outputs.HORIZONS for what in ("log-loss", "skill"))]
    rows = []
    for name, fold in (*folds.items(), ("mean", mean)):
        test = fold.get("spans", {}).get("test")
        span = f" [{test['from'][:10]} to {test['before'][:10]}]" if test else ""
        row = [name + span, f"{fold['rows']:,}"]
        for numbers in fold["horizons"].values():
            loss = numbers["log_loss"]
            row += [f"{loss['model']:.4f} [base {loss['base']:.4f}]", f"{numbers['skill']['model']:+.4f}"]
        rows.append(row)
    return Table(header, rows)


def _classes(measured: Numbers) -> Table:
    names = {"precision": "precision", "recall": "recall", "f1": "F1", "auc": "AUC"}
    rows = []
    for horizon, numbers in measured["horizons"].items():
        for label in outputs.CLASSES:
            came = f"{numbers['frequencies'][label]:.3f}"
            rows.append([f"{horizon} {label}", came, *(_cell(numbers[key][label]) for key in names)])
    return Table(["", "came", *names.values()], rows)


def _returns(measured: Numbers) -> Table:
    names = {"return_mae": "MAE", "return_mse": "MSE", "return_ic": "IC"}
    rows = [[h, *(_cell(numbers[key]) for key in names)] for h, numbers in measured["horizons"].items()]
    return Table(["return", *names.values()], rows)


def _risks(measured: Numbers) -> Table:
    names = {"mae": "MAE", "quantile_loss": "quantile loss", "covered": "covered"}
    rows = [[risk, *(_cell(numbers[key]) for key in names)] for risk, numbers in measured["risks"].items()]
    return Table(["risk", *names.values()], rows)


def _cell(entry: Pair) -> str:
    """Return `model [low, high] (base; persistence)`, as far as there are."""
    text = _number(entry["model"])
    if "low" in entry:
        text += f" [{_number(entry['low'])}, {_number(entry['high'])}]"
    others = [_number(entry[name]) for name in ("base", "persistence") if name in entry]
    return text + (f" ({'; '.join(others)})" if others else "")


def _number(value: float) -> str:
    return f"{value:.4f}" if value == 0 or abs(value) >= 0.001 else f"{value:.6f}"
