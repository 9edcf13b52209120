"""What the server watches itself for, and whom it tells: settings become rules, channels and a watch of drift."""

from __future__ import annotations

import logging
from collections.abc import Callable
from datetime import timedelta
from functools import partial
from pathlib import Path

from candlecast import _rust
from candlecast import features as feature_state
from candlecast.alert_file import Alert
from candlecast.alert_rules import rules_of
from candlecast.alerts import Alerter, Channel, Mail, Rule, Webhook
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
from candlecast.tracking.quality import QualityWatch
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


def quality_watch_of(settings: Settings, routes: Routes) -> QualityWatch:
    """Return what rules about outcomes read."""
    assert settings.database_url is not None, "the server has one"
    rules = [rule for rule in rules_of(settings.alert_rules, settings.alert_rules_off) if rule.is_of_outcomes]
    return QualityWatch(settings.database_url, rules, lambda: routes.champion.model)


def alerter_of(
    settings: Settings, readiness: Readiness, recorder: Recorder, quality: QualityWatch, telemetry: Telemetry
) -> Alerter:
    """Return what tells people, and declare what it counts.

    Raises:
        ConfigurationError: what a channel needs is missing.
    """
    read: dict[str, Callable[[], float | None]] = {
        "not_ready": lambda: None if readiness.ready is None else float(not readiness.ready),
        "degraded": lambda: float(bool(readiness.degraded)),
        "journal_ratio": lambda: recorder.journal.size / recorder.bytes_max,
        "drain_lag_s": lambda: recorder.drain.lag_s,
    }
    rules = [
        Rule(one, partial(quality.value, one) if one.is_of_outcomes else read[one.metric])
        for one in rules_of(settings.alert_rules, settings.alert_rules_off)
    ]
    alerter = Alerter(
        channels_of(settings),
        per_hour_max=settings.alerts_per_hour_max,
        rules=rules,
        state=settings.state_dir / "alerts.json",
    )
    telemetry.total("candlecast_alerts_sent_total", "Messages that reached a channel.", lambda: float(alerter.sent))
    telemetry.total(
        "candlecast_alerts_lost_total",
        "Messages that were given up, or were too many.",
        lambda: float(alerter.failed + alerter.dropped),
    )
    telemetry.gauge("candlecast_alert_firing", "1 while an alert rule fires.", alerter.firing, ["rule", "severity"])
    telemetry.gauge("candlecast_alert_value", "What an alert rule looks at, as of now.", alerter.values, ["rule"])
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
    if found is None:
        return None
    if isinstance(served, Ensemble):
        return Reference(found.features, None)
    holds = found.read_with(served.manifest.temperatures)
    if holds is not found:
        log.warning("drift reference=features because=temperatures_differ bundle=%s: `candlecast export --reference`"
                    " tells anew what it says", served.path)  # fmt: skip
    return holds
