"""What the server tells Prometheus: of each answer by columns, of its parts when somebody scrapes. Changes nothing.

Names that begin with ml_ are those that users of such servers know; all others begin with candlecast_.
"""

from __future__ import annotations

import asyncio
import json
import platform
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

import numpy as np

from candlecast import __version__, _rust
from candlecast import features as feature_state
from candlecast.features import Features
from candlecast.filters import REASONS
from candlecast.forecaster import Forecaster
from candlecast.gate import VERDICTS, Decisions
from candlecast.gatekeeper import Gatekeeper
from candlecast.server import status
from candlecast.server.health import Readiness
from candlecast.snapshots import Snapshots
from candlecast.store.pool import Pool
from candlecast.store.recorder import Recorder
from candlecast.telemetry import Telemetry
from candlecast.triton import breaker
from candlecast.values import Model
from candlecast.work import Answer

STAGES: Final = ("decode", "features", "queue", "model", "interpret", "spool")
DIRECTIONS: Final = ("SHORT", "NEUTRAL", "LONG")
"""In the order of their codes, -1 to 1."""
FRACTIONS: Final = (0.1, 0.2, 0.3, 0.4, 0.5, 0.55, 0.6, 0.65, 0.7, 0.75, 0.8, 0.85, 0.9, 0.95, 1.0)
ROWS: Final = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024, 2048)
STATES_SLICE: Final = 256
"""Symbols asked for their state in one turn of the loop."""
STATES_AGE_S: Final = 5.0
"""For so long the counts of symbols by state are not taken anew, however many scrape."""


class ServerMetrics:
    """Counts answers; the only part of this that is on the way of a forecast."""

    def __init__(self, telemetry: Telemetry) -> None:
        self.telemetry = telemetry
        self._candles = telemetry.codes(
            "candlecast_candles_total", "Candles by what became of them.", "verdict", _rust.VERDICTS
        )
        self._refused = telemetry.codes(
            "candlecast_candles_refused_total", "Candles refused, by reason.", "reason", _rust.REASONS
        )
        self._predictions = telemetry.counter(
            "ml_predictions_total",
            "Forecasts of closed candles, each once: those that are stored.",
            ["model", "version", "direction"],
        )
        self._inference = telemetry.histogram(
            "ml_inference_duration_seconds", "How long a forecast was with the model, from its request to the answer."
        )
        self._confidence = telemetry.histogram(
            "ml_signal_confidence",
            "Confidence of forecasts, by direction.",
            FRACTIONS,
            label="direction",
            values=DIRECTIONS,
        )
        self._stages = telemetry.histogram(
            "candlecast_stage_duration_seconds",
            "Where the time of a forecast went, by stage.",
            label="stage",
            values=STAGES,
        )
        self._whole = telemetry.histogram(
            "candlecast_forecast_duration_seconds", "All stages of a forecast together, from message to disk."
        )
        self._batch = telemetry.histogram("candlecast_batch_rows", "Forecasts that went one way together.", ROWS)
        self._reasons = telemetry.codes(
            "candlecast_neutral_reasons_total", "Why forecasts are NEUTRAL; one may have several.", "reason", REASONS
        )
        self._degraded = telemetry.counter(
            "candlecast_degraded_total", "Forecasts made without a member of the ensemble, or by the gate's heuristic."
        )
        self._gate = telemetry.codes(
            "candlecast_gate_decisions_total", "What the gate said when it was asked.", "verdict", VERDICTS
        )
        self._gate_degraded = telemetry.counter(
            "candlecast_gate_degraded_total", "Decisions of the gate by the heuristic."
        )

    def answered(self, answer: Answer, asked: bool) -> None:
        """Count candles [N] and forecasts [B] of an answer.

        Args:
            asked: for newest forecasts, without candles.
        """
        pushed = answer.moved.pushed
        if not asked:
            self._candles.add(pushed.verdict)
            if (refused := pushed.verdict == feature_state.REFUSED).any():
                self._refused.add(pushed.reason[refused])
        forecasts = answer.forecasts
        if forecasts is None:
            return
        count, times = len(forecasts), forecasts.times
        stages_us = (
            times.decode_us,
            times.features_us,
            times.queue_us,
            times.model_us,
            times.interpret_us,
            answer.spool_us,
        )
        for stage, spent_us in enumerate(stages_us):
            self._stages.observe_alike(spent_us * 1e-6, count, stage)
        self._whole.observe_alike(sum(stages_us) * 1e-6, count)
        if times.model_us:  # else all of it was remembered
            self._inference.observe_alike(times.model_us * 1e-6, count)
        self._batch.observe_alike(count)
        direction = forecasts.direction + 1
        for at, part in forecasts.by_model():
            new = answer.recorded.new[at]
            counts = np.bincount(direction[at][new], minlength=len(DIRECTIONS)).tolist()
            for name, made in zip(DIRECTIONS, counts, strict=True):
                if made:
                    self._predictions.add(made, part.model.name, str(part.model.version), name)
        confidence = forecasts.meaning.confidence
        if not (finite := np.isfinite(confidence)).all():
            confidence, direction = confidence[finite], direction[finite]
        self._confidence.observe(confidence, direction)
        self._reasons.add_bits(forecasts.reasons)
        if degraded := int(np.count_nonzero(forecasts.degraded)):
            self._degraded.add(degraded)

    def decided(self, said: Decisions) -> None:
        """Count what the gate said of [B] symbols."""
        self._gate.add(said.verdict)
        if degraded := int(np.count_nonzero(said.degraded)):
            self._gate_degraded.add(degraded)


def tell_forecaster(telemetry: Telemetry, forecaster: Forecaster) -> None:
    """Declare what is read of the use case and the model it serves."""

    def models() -> dict[str, Model]:
        lanes = {"champion": forecaster.routes.champion, "challenger": forecaster.routes.challenger}
        return {role: lane.model for role, lane in lanes.items() if lane is not None}

    def served() -> dict[tuple[str, ...], float]:
        return {(role, m.name, str(m.version), m.bundle_sha256[:12]): 1.0 for role, m in models().items()}

    gauge, total = telemetry.gauge, telemetry.total
    gauge(
        "candlecast_build_info",
        "1; its labels say what runs.",
        lambda: {(__version__, platform.python_version(), _rust.FEATURE_SET, str(len(feature_state.NAMES))): 1},
        ["version", "python", "feature_set", "features"],
    )
    gauge(
        "candlecast_model_info",
        "1; its labels say which model answers.",
        served,
        ["role", "model", "version", "bundle"],
    )
    gauge(
        "candlecast_model_age_seconds",
        "How long ago a model that answers was trained; 0: that is not known.",
        lambda: {role: model.age_ms(time.time() * 1000) / 1000 for role, model in models().items()},
        ["role"],
    )
    gauge("candlecast_queue_rows", "Candles under way in the server.", lambda: forecaster.rows)
    gauge("candlecast_queue_rows_max", "Candles under way at which more are refused.", lambda: forecaster.rows_max)
    gauge(
        "candlecast_model_waiting_rows",
        "Windows that wait to be sent to Triton.",
        lambda: forecaster.waiting,
    )
    misses = forecaster.misses
    gauge("candlecast_missing_forecasts", "Symbols that the model still owes a forecast.", lambda: len(misses.open))
    total(
        "candlecast_missed_forecasts_total",
        "Forecasts that were never made, by why they were given up.",
        lambda: dict(misses.given_up),
        ["why"],
    )
    total(
        "ml_cache_hits_total",
        "Forecasts answered from memory: the same symbol, close and model, asked again in time.",
        lambda: forecaster.ml_cache_hits_total,
    )
    total(
        "candlecast_calls_failed_total",
        "Calls that ended with an error, by its reason.",
        lambda: dict(status.FAILURES),
        ["reason"],
    )


def tell_storage(telemetry: Telemetry, recorder: Recorder, pool: Pool, snapshots: Snapshots) -> None:
    """Declare what is read of journal, drain, database and snapshots."""
    gauge, total = telemetry.gauge, telemetry.total
    journal, drain = recorder.journal, recorder.drain
    gauge("candlecast_journal_bytes", "What waits on disk for PostgreSQL.", lambda: journal.size)
    gauge("candlecast_journal_bytes_max", "Its limit.", lambda: recorder.bytes_max)
    gauge(
        "candlecast_journal_failing",
        "1 while the disk takes no records: it is full, or has failed.",
        lambda: float(bool(journal.failed or journal.blocked)),
    )
    total("candlecast_journal_records_total", "Records appended and synced.", lambda: journal.appended_records)
    total("candlecast_journal_appended_bytes_total", "Their bytes.", lambda: journal.appended_bytes)
    total("candlecast_journal_syncs_total", "Groups of records written and synced together.", lambda: journal.groups)
    total("candlecast_journal_sync_seconds_total", "Time that took.", lambda: journal.written_s)
    total(
        "candlecast_journal_dropped_bytes_total",
        "Given up when it was full.",
        lambda: recorder.dropped_bytes,
    )
    total("candlecast_journal_refused_rows_total", "Rows that PostgreSQL will never take.", lambda: drain.refused_rows)
    gauge("candlecast_drain_lag_seconds", "Age of the oldest record that is not in PostgreSQL.", lambda: drain.lag_s)
    gauge(
        "candlecast_drain_failing",
        "1 while PostgreSQL takes no rows.",
        lambda: float(drain.failure is not None),
    )
    total("candlecast_drain_rows_total", "Rows written to PostgreSQL.", lambda: drain.written_rows)
    gauge(
        "candlecast_database_connections",
        "Connections of the pool, by what they do.",
        pool.connections,
        ["state"],
    )
    gauge("candlecast_database_connections_max", "Most connections of the pool.", lambda: pool.connections_max)
    gauge(
        "candlecast_snapshot_timestamp_seconds",
        "When all symbols were last saved, seconds since 1970.",
        lambda: snapshots.saved_at_s,
    )


def tell_parts(
    telemetry: Telemetry, absent: Callable[[], int], gate: Gatekeeper, readiness: Readiness, restarts: Path
) -> None:
    """Declare what is read of Triton, the ensemble, the gate, readiness, and of the supervisor's file of restarts."""
    gauge, total = telemetry.gauge, telemetry.total
    gauge("candlecast_ready", "1 while the canary forecast passes.", lambda: float(bool(readiness.ready)))
    gauge(
        "candlecast_model_expired",
        "1 while forecasts are degraded, because the model is older than max_model_age_d.",
        lambda: float(bool(readiness.degraded)),
    )
    gauge(
        "candlecast_triton_breaker_open",
        "1 while requests to the model are refused at once.",
        breaker.open_now,
        ["model"],
    )
    total("candlecast_triton_breaker_opened_total", "How often that began.", lambda: dict(breaker.OPENED), ["model"])
    total(
        "candlecast_triton_failures_total",
        "Requests to the model that failed or were late.",
        lambda: dict(breaker.FAILED),
        ["model"],
    )
    gauge("candlecast_ensemble_absent", "Members of the ensemble that are not well.", lambda: float(absent()))
    gauge("candlecast_gate_served", "1 when a gate's model is served.", lambda: float(gate.model is not None))
    gauge("candlecast_gate_degraded", "1 while the gate's heuristic decides.", lambda: float(gate.is_degraded))
    total(
        "candlecast_part_restarts_total",
        "How often the supervisor started a part again; absent without `candlecast up`.",
        lambda: restarts_in(restarts),
        ["part"],
    )


def restarts_in(path: Path) -> dict[str, float] | None:
    """Return how often each part was started again, as the supervisor wrote it; None: there is none of ours."""
    try:
        return {str(part): float(count) for part, count in json.loads(path.read_text()).items()}
    except FileNotFoundError:
        return None


class SymbolStates:
    """Counts symbols by their state at the wall clock, in slices, so that no forecast waits for it."""

    def __init__(self, features: Features, telemetry: Telemetry) -> None:
        self._features = features
        self._counts: dict[str, float] = {}
        self._taken_s = -STATES_AGE_S
        telemetry.gauge("candlecast_symbols", "Symbols in memory, by state.", lambda: self._counts, ["state"])

    async def refresh(self) -> None:
        """Count again, unless that was done just now."""
        if time.monotonic() - self._taken_s < STATES_AGE_S:
            return
        self._taken_s = time.monotonic()
        counts = dict.fromkeys(feature_state.STATES, 0.0)
        for i, key in enumerate(self._features.symbols()):
            if i % STATES_SLICE == STATES_SLICE - 1:
                await asyncio.sleep(0)
            counts[feature_state.STATES[self._features.status(*key).state]] += 1
        self._counts = counts
