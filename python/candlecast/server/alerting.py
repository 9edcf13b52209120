"""What the server watches itself for, and whom it tells: settings become rules, channels and a watch of drift."""

from __future__ import annotations

import logging
from datetime import timedelta
from functools import partial
from pathlib import Path

from candlecast import _rust
from candlecast import features as feature_state
from candlecast.alerts import Alert, Alerter, Channel, Mail, Rule, Webhook
from candlecast.errors import BundleError, ConfigurationError
from candlecast.models.ensemble import Ensemble, load, members_of
from candlecast.models.reference import Reference
from candlecast.routing import Routes
from candlecast.server.health import Readiness
from candlecast.settings import Settings
from candlecast.store.recorder import Recorder
from candlecast.telemetry import Telemetry
from candlecast.tracking.drift import Drifted, DriftWatch
from candlecast.tracking.measures import Limits
from candlecast.values import Model

log = logging.getLogger(__name__)


def channels_of(settings: Settings) -> list[Channel]:
    """Return where alerts go.

    Raises:
        ConfigurationError: what a channel needs is missing.
    """
    channels: list[Channel] = []
    if settings.alert_webhook_url is not None:
        shape, chat_id = settings.alert_webhook_shape, settings.alert_telegram_chat_id
        if shape == "telegram" and not chat_id:
            raise ConfigurationError("alert_telegram_chat_id: Telegram wants to know the chat")
        channels.append(Webhook(settings.alert_webhook_url.get_secret_value(), shape, chat_id))
    if settings.alert_mail_server is not None:
        if not settings.alert_mail_to:
            raise ConfigurationError("alert_mail_to: who is the mail for?")
        channels.append(Mail(settings.alert_mail_server, settings.alert_mail_from, settings.alert_mail_to))
    return channels


def alerter_of(settings: Settings, readiness: Readiness, recorder: Recorder, telemetry: Telemetry) -> Alerter:
    """Return what tells people, and declare what it counts.

    Raises:
        ConfigurationError: what a channel needs is missing.
    """
    rules = [
        Rule(
            "not_ready",
            "the canary forecast fails: clients are told NOT_SERVING",
            limit=0.5,
            for_s=settings.alert_not_ready_s,
            read=lambda: None if readiness.ready is None else float(not readiness.ready),
        ),
        Rule(
            "journal",
            "the journal is {value:.0%} full: new candles are refused when it is",
            limit=settings.alert_journal_ratio,
            for_s=0,
            read=lambda: recorder.journal.size / recorder.bytes_max,
        ),
        Rule(
            "drain",
            "PostgreSQL is {value:.0f} s behind",
            limit=settings.alert_drain_lag_s,
            for_s=0,
            read=lambda: recorder.drain.lag_s,
        ),
        Rule(
            "degraded",
            "forecasts are degraded: the model is too old",
            limit=0.5,
            for_s=0,
            read=lambda: float(bool(readiness.degraded)),
        ),
    ]
    alerter = Alerter(channels_of(settings), per_hour_max=settings.alerts_per_hour_max, rules=rules)
    telemetry.total("candlecast_alerts_sent_total", "Messages that reached a channel.", lambda: float(alerter.sent))
    telemetry.total(
        "candlecast_alerts_lost_total",
        "Messages that were given up, or were too many.",
        lambda: float(alerter.failed + alerter.dropped),
    )
    return alerter


def drift_watch_of(settings: Settings, routes: Routes, alerter: Alerter, telemetry: Telemetry) -> DriftWatch:
    """Return what measures drift of the champion, and declare what it finds."""
    assert settings.database_url is not None, "the server has one"

    async def tell(drifted: Drifted) -> None:
        one = drifted.measure
        key = f"drift/{drifted.model.name}/{drifted.model.version}/{one.subject}"
        alerter.tell(Alert(key, str(drifted), one.drifting), begun_before=True)

    watch = DriftWatch(
        settings.database_url,
        lambda: routes.champion.model,
        partial(reference_of, settings.model_repository),
        feature_state.NAMES,
        [feature.group for feature in _rust.catalog()],
        Limits(
            settings.drift_psi,
            settings.drift_psi_end,
            settings.drift_ks,
            settings.drift_ks_end,
            settings.drift_alerts_per_day_max,
        ),
        reference=timedelta(days=settings.drift_reference_d),
        newest=timedelta(days=settings.drift_newest_d),
        rows_max=settings.drift_rows_max,
        interval_s=settings.drift_interval_s,
        tell=tell,
    )
    # A subject is a group of features, direction, confidence, probabilities or error: some twenty.
    telemetry.gauge("candlecast_drift_psi", "Population stability index, newest measurement.", watch.psi, ["subject"])
    telemetry.gauge("candlecast_drift_ks", "Kolmogorov-Smirnov distance, newest measurement.", watch.ks, ["subject"])
    telemetry.gauge("candlecast_drifting", "1 while it drifts.", watch.drifting, ["subject"])
    telemetry.gauge(
        "candlecast_drift_measured_timestamp_seconds", "When drift was measured last.", lambda: watch.measured_s
    )
    telemetry.gauge(
        "candlecast_drift_reference",
        "1 if drift is measured against what the model was trained on, 0 if its bundle does not say.",
        watch.has_reference,
    )
    return watch


def reference_of(repository: Path, model: Model) -> Reference | None:
    """Return what a version was trained on, by its bundle in the repository; None: it does not say. Blocks.

    Members of an ensemble see the same features; what they say together is in none of their references.
    """
    try:
        served = load(repository / model.name / str(model.version))
    except BundleError as error:
        log.warning("drift reference=none because=%s", error)
        return None
    found = next((bundle.reference for bundle in members_of(served) if bundle.reference is not None), None)
    if found is not None and isinstance(served, Ensemble):
        return Reference(found.features, None)
    return found
