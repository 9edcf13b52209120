"""The rollouts of this server, put together from its settings. Knows no step."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial

from candlecast.forecaster import Forecaster
from candlecast.models.bundle import Bundle
from candlecast.models.ensemble import Ensemble
from candlecast.models.library import Library
from candlecast.models.moves import Policy
from candlecast.models.rollout import Rollouts
from candlecast.models.states import Event, event_as_json
from candlecast.models.verify import Trials
from candlecast.server.serving import Answering, answering
from candlecast.settings import Settings
from candlecast.store.model_events import record_model_events
from candlecast.store.pool import Pool
from candlecast.store.recorder import Recorder
from candlecast.triton.control import Control
from candlecast.triton.shared_memory import SharedWindows
from candlecast.watch import Limits


@asynccontextmanager
async def rollouts_of(
    settings: Settings,
    first: Bundle | Ensemble,
    model: Answering,
    way: AsyncExitStack,
    forecaster: Forecaster,
    pool: Pool,
    recorder: Recorder,
    shared: SharedWindows | None,
) -> AsyncIterator[Rollouts]:
    """Let versions of what is served, a model or an ensemble, come and go while the body runs.

    Args:
        model, way: to the first version, which may be unloaded one day.

    Raises:
        BundleError: what was written of them is damaged.
    """

    async def record(events: Sequence[Event]) -> None:
        await record_model_events(pool, [event_as_json(one) for one in events])

    connect = partial(
        answering,
        address=settings.triton,
        timeout_ms=settings.infer_timeout_ms,
        shared=shared,
        key=settings.triton_key,
    )
    library = Library(settings.state_dir, settings.model_repository, settings.model)
    async with (
        Control(settings.triton, settings.triton_control_key, timeout_ms=settings.model_load_timeout_ms) as control,
        Rollouts(
            library,
            control,
            forecaster,
            first=first,
            connected=model,
            way=way,
            connect=connect,
            trials=trials_of(settings),
            record=record,
            policy=policy_of(settings),
            forget=recorder.forget,
        ) as rollouts,
    ):
        yield rollouts


def trials_of(settings: Settings) -> Trials:
    """Return what a pushed version has to keep to."""
    python = settings.triton_env_dir / "bin" / "python3"
    return Trials(
        python=python if python.exists() else None,
        name=settings.model,
        reference_symbol=settings.reference_symbol,
        bytes_max=settings.model_bytes_max,
        memory_bytes_max=settings.model_memory_bytes_max,
        timeout_ms=settings.model_trial_timeout_ms,
        window_ms_max=settings.model_window_ms_max,
    )


def policy_of(settings: Settings) -> Policy:
    """Return how versions are treated in traffic."""
    return Policy(
        drain_timeout_ms=settings.model_drain_timeout_ms,
        standby=settings.rollback_standby,
        shadow_rows_max=settings.shadow_rows_max,
        batch_rows_max=settings.batch_rows_max,
        window_s=settings.rollback_window_s,
        compared_s=settings.rollback_compared_s,
        limits=Limits(
            rows_min=settings.rollback_rows_min,
            not_finite_max=settings.rollback_not_finite_max,
            error_ratio=settings.rollback_error_ratio,
            latency_ratio=settings.rollback_latency_ratio,
            latency_ms=settings.rollback_latency_ms,
            confidence_ratio=settings.rollback_confidence_ratio,
        ),
    )
