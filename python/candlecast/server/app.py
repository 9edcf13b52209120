"""The composition root: what the server is made of, in starting order; stopping is its reverse."""

from __future__ import annotations

import asyncio
import gc
import logging
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import fields
from functools import partial
from pathlib import Path
from typing import Any, Literal

import grpc
import numpy as np
from grpc_health.v1 import health_pb2_grpc
from grpc_reflection.v1alpha import reflection

from candlecast import features as feature_state
from candlecast import lifecycle
from candlecast._rust import crc32c
from candlecast.cache import ForecastCache
from candlecast.catch_up import CatchUp
from candlecast.errors import ConfigurationError
from candlecast.features import Features
from candlecast.filters import Thresholds
from candlecast.forecaster import Forecaster
from candlecast.gatekeeper import Gatekeeper
from candlecast.journal import InUse, Journal
from candlecast.models.age import complaint, described, max_age_ms
from candlecast.models.bundle import Bundle
from candlecast.models.ensemble import Ensemble, members_of
from candlecast.models.presence import temperatures_of
from candlecast.order_flow import OrderFlow
from candlecast.portfolio import Limits, Portfolio
from candlecast.server.admin import Admin, digest_of
from candlecast.server.alerting import alerter_of, drift_watch_of, quality_watch_of
from candlecast.server.canary import SYMBOL, Rehearsal, sing
from candlecast.server.champion import newest, newest_bundle, served
from candlecast.server.door import Door
from candlecast.server.dropped import incoming_of
from candlecast.server.flow_recorder import FlowRecorder
from candlecast.server.gate_versions import GateVersions
from candlecast.server.health import SERVICES, Readiness
from candlecast.server.history_service import HistoryService
from candlecast.server.loop_watch import LoopWatch, Watchdog
from candlecast.server.metrics import ServerMetrics, SymbolStates, tell_forecaster, tell_parts, tell_storage
from candlecast.server.metrics_door import MetricsDoor
from candlecast.server.models_service import ModelsService
from candlecast.server.order_flow_service import OrderFlowService
from candlecast.server.performance_service import PerformanceService
from candlecast.server.positions import restore_portfolio
from candlecast.server.rollouts import rollouts_of, trials_of
from candlecast.server.sentiment_service import SentimentService
from candlecast.server.service import ForecastsService
from candlecast.server.serving import Answering, answering
from candlecast.server.stored import StoredForecasts
from candlecast.server.subscriptions import Subscriptions
from candlecast.server.warm import RESTARTED, forecasts_of, newest_closes, warm_up
from candlecast.server.wire import TolerantServer
from candlecast.settings import RESTARTS, Settings, is_loopback, require_loopback
from candlecast.signals import Signals
from candlecast.snapshots import Snapshots
from candlecast.store.drain import Drain
from candlecast.store.migrate import check_schema
from candlecast.store.model_events import record_model_events
from candlecast.store.pool import Pool, open_pool
from candlecast.store.recorder import Recorder
from candlecast.telemetry import Telemetry
from candlecast.tracking.process import TrackingProcess
from candlecast.triton.shared_memory import SharedWindows
from candlecast.v1 import (
    forecasts_pb2_grpc,
    history_pb2_grpc,
    models_pb2_grpc,
    order_flow_pb2_grpc,
    performance_pb2_grpc,
    sentiment_pb2_grpc,
)
from candlecast.values import F32
from candlecast.work import Answer

__all__ = ("features_for", "newest", "newest_bundle", "open_server", "serve")
log = logging.getLogger(__name__)

STOP_GRACE_MS = 2_000
"""For calls that end by themselves: streams are told to, health watches have nothing to lose."""


async def serve(settings: Settings, listening: Callable[[str], None] | None = None) -> None:
    """Run the server until SIGINT or SIGTERM.

    Raises:
        ConfigurationError: settings, bundle, model or schema do not fit; says which and how.
        Unavailable: PostgreSQL or Triton did not answer at the start.
    """
    async with open_server(settings) as address, Watchdog(stall_max_s=settings.loop_stall_max_s):
        gc.collect()
        gc.freeze()  # what is there stays: it is looked through no more
        if listening:
            listening(address)
        await lifecycle.until_signal()
        log.info("stopping")


@asynccontextmanager
async def open_server(settings: Settings) -> AsyncIterator[str]:
    """Start the server, yield its HOST:PORT once a canary forecast went through all of it, stop it afterwards."""
    first = served(settings)
    bundle = members_of(first)[0]  # an ensemble's have the same features
    bundle.check_feature_set()
    bundle.check_reference(settings.reference_symbol)
    require_loopback("grpc", settings.grpc, insecure=settings.insecure)
    async with AsyncExitStack() as stack:
        shared = _shared_windows(settings, stack)
        empty = partial(
            features_for,
            bundle,
            symbols_max=settings.symbols_max,
            conflicts_max=settings.conflicts_max,
            threads=settings.feature_threads,
            ring=settings.ring,
            room=shared.room if shared else None,
        )
        features = empty()
        pool, recorder, tracking = await stack.enter_async_context(_recorder(settings))
        way = await stack.enter_async_context(AsyncExitStack())
        model = await way.enter_async_context(
            answering(
                first,
                settings.triton,
                timeout_ms=settings.infer_timeout_ms,
                shared=shared,
                key=settings.triton_key,
            )
        )
        await model.check_fit()
        gates = await stack.enter_async_context(GateVersions(settings, trials_of(settings)))

        async def canary(check: Callable[[], Awaitable[None]] = model.check) -> None:
            checks = [check(), gates.check()]
            await asyncio.gather(*checks)
            await recorder.check()
            features.status(SYMBOL, 1_000)  # raises when an earlier panic has left the state unsure

        await canary()
        rehearsed = features_for(bundle, symbols_max=1, conflicts_max=1)
        async with _forecaster(settings, first, model, rehearsed, Rehearsal(recorder)) as rehearsal:
            await sing(rehearsal, features.need)
        flow = OrderFlow(
            symbols_max=settings.flow_symbols_max,
            stale_ms=settings.flow_stale_ms,
            record_interval_ms=settings.flow_record_interval_ms,
        )
        await stack.enter_async_context(FlowRecorder(flow, recorder.record_flow))
        metrics = ServerMetrics(Telemetry())
        gate = Gatekeeper(
            flow,
            gates.model,
            threshold=settings.ml_threshold,
            live_ms=settings.flow_live_ms,
            absent_passes=settings.gate_absent == "pass",
            observe=metrics.decided,
        )
        signals = _signals(settings, Portfolio(limits_of(settings)))
        forecaster = _forecaster(settings, first, model, features, recorder, shared, gate, signals, metrics.answered)
        snapshots = Snapshots(
            settings.state_dir / "snapshots", features, forecaster.settled, interval_s=settings.snapshot_interval_s
        )
        await warm_up(
            features,
            snapshots,
            pool,
            empty,
            rebuild_candles_max=settings.rebuild_candles_max,
            rebuild_age_max_h=settings.rebuild_age_max_h,
            symbols_max=settings.symbols_max,
        )
        await restore_portfolio(
            signals, features, pool, bars_max=settings.position_bars_max, closes=newest_closes(features)
        )
        made, owed = await forecasts_of(features, pool, forecaster.misses.model)
        for close in made:
            recorder.remember(*close, forecaster.misses.model)
        for close in owed:
            forecaster.misses.add(*close, RESTARTED)
        await stack.enter_async_context(snapshots)
        rollouts = await stack.enter_async_context(
            rollouts_of(settings, first, model, way, forecaster, pool, recorder, shared)
        )
        await stack.enter_async_context(forecaster)
        await stack.enter_async_context(
            CatchUp(
                forecaster.misses,
                features,
                forecaster,
                forecaster.record_missed,
                fresh_intervals=settings.forecast_fresh_intervals,
            )
        )
        readiness = await stack.enter_async_context(
            Readiness(
                lambda: canary(forecaster.routes.check),
                interval_ms=settings.canary_interval_ms,
                complaint=lambda: complaint(
                    forecaster.routes.champion.model, settings.max_model_age_d, time.time() * 1000
                ),
            )
        )
        gates.changed, gates.record = gate.changed, partial(record_model_events, pool)
        await stack.enter_async_context(incoming_of(settings, rollouts, gates))
        order_flow = OrderFlowService(
            flow,
            gate,
            rows_per_message_max=settings.flow_rows_per_message_max,
            symbols_per_message_max=settings.candles_per_message_max,
        )
        stored = StoredForecasts(pool, recorder.drained, rows_max=settings.resume_rows_max)
        subscriptions = await stack.enter_async_context(
            Subscriptions(stored, subscribers_max=settings.subscribers_max, backlog_max=settings.subscriber_backlog_max)
        )
        forecaster.listeners.append(subscriptions.publish)
        telemetry = metrics.telemetry
        tell_forecaster(telemetry, forecaster)
        tell_storage(telemetry, recorder, pool, snapshots)
        tell_parts(telemetry, lambda: rollouts.absent_now, gate, readiness, settings.state_dir / RESTARTS)
        await stack.enter_async_context(_metrics_door(settings, telemetry, features, readiness))
        models = ModelsService(
            rollouts,
            Admin(digest_of(settings)),
            scratch=settings.state_dir / "models",
            bytes_max=settings.model_bytes_max,
        )
        await stack.enter_async_context(tracking)
        quality = await stack.enter_async_context(quality_watch_of(settings, forecaster.routes))
        alerter = await stack.enter_async_context(alerter_of(settings, readiness, recorder, quality, telemetry))
        if settings.drift_interval_s:
            await stack.enter_async_context(drift_watch_of(settings, forecaster.routes, alerter, telemetry))
        yield await stack.enter_async_context(
            _listening(settings, forecaster, features, order_flow, models, subscriptions, pool, readiness, telemetry)
        )


def features_for(
    bundle: Bundle,
    *,
    symbols_max: int,
    conflicts_max: int,
    threads: int = 1,
    ring: Literal["f32", "f16"] = "f32",
    room: Callable[[int], F32] | None = None,
) -> Features:
    """Return an empty state that uses the optional inputs the bundle's model was trained with, and no others."""
    trained_on = bundle.manifest.feature_set
    return Features(
        symbols_max=symbols_max,
        conflicts_max=conflicts_max,
        optional_inputs=trained_on.optional_inputs,
        reference_symbol=trained_on.reference_symbol,
        threads=threads,
        ring=ring,
        room=room,
    )


@asynccontextmanager
async def _recorder(settings: Settings) -> AsyncIterator[tuple[Pool, Recorder, TrackingProcess]]:
    if settings.database_url is None:
        raise ConfigurationError("no database: set DATABASE_URL, or let `candlecast up` start one")
    directory = settings.state_dir / "journal"
    tracking = TrackingProcess(
        settings.database_url,
        settings.tracked_fees,
        log_path=settings.state_dir / "logs" / "outcomes.log",
        workers=settings.outcome_workers,
        share=settings.outcome_share,
    )
    async with (
        _journal(directory) as journal,
        open_pool(
            settings.database_url,
            connections_max=settings.database_connections_max,
            command_timeout_ms=settings.database_timeout_ms,
        ) as pool,
        Drain(
            journal,
            pool,
            refused_path=directory / "refused.jsonl",
            rows_max=settings.drain_rows_max,
            stop_timeout_ms=settings.stop_timeout_ms,
            stored=tracking.stored,
        ) as drain,
        Recorder(
            journal,
            drain,
            pool,
            feature_names=feature_state.NAMES,
            states=feature_state.STATES,
            journal_bytes_max=settings.journal_bytes_max,
            drop_oldest=settings.journal_full == "drop_oldest",
            timeout_ms=settings.record_timeout_ms,
        ) as recorder,
    ):
        await check_schema(pool)
        await drain.caught_up(journal.end)  # what was accepted before is read from the tables
        yield pool, recorder, tracking


@asynccontextmanager
async def _journal(directory: Path) -> AsyncIterator[Journal]:
    async with AsyncExitStack() as stack:
        try:
            journal = await stack.enter_async_context(Journal(directory, checksum=crc32c))
        except (InUse, OSError) as error:
            raise ConfigurationError(f"state_dir: {error}: choose another, or stop what uses it") from error
        yield journal


def _shared_windows(settings: Settings, stack: AsyncExitStack) -> SharedWindows | None:
    """Open the memory that windows are handed over in, where Triton is on this machine and there is any."""
    if not (settings.shared_windows_max and is_loopback(settings.triton)):
        return None
    shape = feature_state.WINDOW, len(feature_state.NAMES)
    try:
        return stack.enter_context(SharedWindows(settings.shared_windows_max, shape))
    except OSError as error:
        log.warning("no shared memory, messages carry the windows: %s", error)
        return None


def _forecaster(
    settings: Settings,
    served: Bundle | Ensemble,
    model: Answering,
    features: Features,
    recorder: Recorder | Rehearsal,
    shared: SharedWindows | None = None,
    gate: Gatekeeper | None = None,
    signals: Signals | None = None,
    observe: Callable[[Answer, bool], None] = lambda answer, asked: None,
) -> Forecaster:
    return Forecaster(
        features,
        model.ask,
        recorder,
        model=described(served),
        temperatures=temperatures_of(served),
        thresholds=thresholds_of(settings),
        signals=signals or _signals(settings),
        cache=ForecastCache(ttl_s=settings.cache_ttl_s, rows_max=settings.cache_rows_max),
        batch_rows_max=settings.batch_rows_max,
        batches_in_flight_max=settings.batches_in_flight_max,
        rows_max=settings.queue_rows_max,
        model_wait_ms=settings.model_wait_ms,
        join=shared.joined if shared else np.concatenate,
        pick=shared.picked if shared else None,
        check=model.check,
        gate=gate,
        observe=observe,
        max_model_age_ms=max_age_ms(settings.max_model_age_d),
    )


def _signals(settings: Settings, portfolio: Portfolio | None = None) -> Signals:
    return Signals(
        feature_state.NAMES,
        feature_state.STATES,
        thresholds_of(settings),
        portfolio,
        ml_weight=settings.ml_weight,
        size_when_strong=settings.size_when_strong,
    )


def thresholds_of(settings: Settings) -> Thresholds:
    """Return the filters that need nothing but the forecast."""
    return Thresholds(
        min_confidence=settings.min_confidence,
        strong_confidence=settings.strong_confidence,
        min_agreement=settings.min_agreement,
        min_expected_return=settings.min_expected_return,
        gate_absent_passes=settings.gate_absent == "pass",
    )


def limits_of(settings: Settings) -> Limits:
    """Return the filters that remember."""
    return Limits(**{field.name: getattr(settings, field.name) for field in fields(Limits)})


@asynccontextmanager
async def _metrics_door(
    settings: Settings, telemetry: Telemetry, features: Features, readiness: Readiness
) -> AsyncIterator[None]:
    lag = telemetry.histogram("candlecast_loop_lag_seconds", "How much later than asked for the event loop came back.")
    symbols = SymbolStates(features, telemetry)
    async with AsyncExitStack() as stack:
        await stack.enter_async_context(LoopWatch(lag.observe_alike, late_s=settings.loop_late_ms / 1000))
        if settings.metrics:
            require_loopback("metrics", settings.metrics, insecure=settings.insecure)
            door = MetricsDoor(
                settings.metrics,
                telemetry,
                prepare=symbols.refresh,
                ready=lambda: readiness.ready is True,
                degraded=lambda: readiness.degraded,
            )
            await stack.enter_async_context(door)
        yield


@asynccontextmanager
async def _listening(
    settings: Settings,
    forecaster: Forecaster,
    features: Features,
    order_flow: OrderFlowService,
    models: ModelsService,
    subscriptions: Subscriptions,
    pool: Pool,
    readiness: Readiness,
    telemetry: Telemetry,
) -> AsyncIterator[str]:
    server = grpc.aio.server(
        options=[
            ("grpc.max_receive_message_length", settings.message_bytes_max),
            ("grpc.max_send_message_length", -1),
        ],
    )
    service = ForecastsService(  # type: ignore[abstract]  # two of its methods are answered at the door
        forecaster,
        features,
        candles_per_message_max=settings.candles_per_message_max,
        unary_timeout_ms=settings.unary_timeout_ms,
        answer_timeout_ms=settings.answer_timeout_ms,
        durable=settings.durability == "durable",
        subscriptions=subscriptions,
    )
    tolerant: Any = TolerantServer(server)
    forecasts_pb2_grpc.add_ForecastsServicer_to_server(service, tolerant)
    order_flow_pb2_grpc.add_OrderFlowServicer_to_server(order_flow, tolerant)
    models_pb2_grpc.add_ModelsServicer_to_server(models, tolerant)
    performance_pb2_grpc.add_PerformanceServicer_to_server(PerformanceService(pool), tolerant)
    history_pb2_grpc.add_HistoryServicer_to_server(HistoryService(pool), tolerant)
    sentiment_pb2_grpc.add_SentimentServicer_to_server(SentimentService(pool), tolerant)
    health_pb2_grpc.add_HealthServicer_to_server(readiness.servicer, server)
    reflection.enable_server_reflection((*SERVICES[1:], "grpc.health.v1.Health", reflection.SERVICE_NAME), server)
    door = Door(settings.grpc, server, service, message_bytes_max=settings.message_bytes_max, grace_ms=STOP_GRACE_MS)
    async with door as address:
        telemetry.total(
            "candlecast_door_refusals_total",
            "Calls of Predict and Stream that the door ended before their message was taken, by status code.",
            door.refused,
            ["code"],
        )
        try:
            yield address
        finally:
            await readiness.stop()
            service.stop()
            door.stop()
            order_flow.stop()
