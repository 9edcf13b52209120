"""Every setting once, with default and unit: candlecast.toml < environment < flags. Knows only words and rules."""

from __future__ import annotations

import ipaddress
import logging
import os
import re
from pathlib import Path
from tomllib import TOMLDecodeError
from typing import Any, Literal

import platformdirs
from pydantic import AliasChoices, Field, SecretStr, ValidationError, field_validator, model_validator
from pydantic_settings import (
    BaseSettings,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    SettingsError,
    TomlConfigSettingsSource,
)

from candlecast.alert_rules import DEFAULTS, AlertRule, wrong
from candlecast.errors import ConfigurationError
from candlecast.values import SYMBOL

log = logging.getLogger(__name__)

CHECKOUT = Path(__file__).resolve().parents[2]
"""The repository when running from a clone (an editable install): home of triton_models/ and .venv-triton/."""

RESTARTS = "restarts.json"
"""In the state directory: how often the supervisor started each part again, as a JSON object."""


def default_state_dir() -> Path:
    """Return the user's data home for candlecast."""
    return Path(platformdirs.user_data_dir("candlecast", appauthor=False))


class Settings(BaseSettings):
    model_config = SettingsConfigDict(
        env_prefix="CANDLECAST_", toml_file="candlecast.toml", extra="forbid", frozen=True, populate_by_name=True
    )

    @model_validator(mode="before")
    @classmethod
    def _source(cls, values: Any) -> Any:
        """Take a repository that is a URL for the source of a folder of our own."""
        place = str(values.get("model_repository", "")) if isinstance(values, dict) else ""
        if "://" not in place:
            return values
        state_dir = Path(values.get("state_dir") or default_state_dir())
        return values | {"model_repository": state_dir / "repository", "model_source": place}

    # Where things are
    state_dir: Path = Field(default_factory=default_state_dir, description="what this installation keeps on disk")
    grpc: str = Field("127.0.0.1:50051", description="HOST:PORT the gRPC server listens on")
    http: str = Field("127.0.0.1:8080", description="HOST:PORT the web server listens on")
    insecure: bool = Field(
        False, description="listen beyond loopback without TLS: only on a private network, as of containers"
    )
    metrics: str = Field(
        "127.0.0.1:9464", description="HOST:PORT of the server's /metrics for Prometheus; empty: there is none"
    )
    triton: str = Field("127.0.0.1:8001", description="HOST:PORT of Triton's gRPC door")
    triton_key: str | None = Field(
        None, description="what opens Triton's shared-memory protocol, where that is restricted"
    )
    triton_control_key: str | None = Field(
        None, description="what opens Triton's model-repository protocol, where that is restricted"
    )
    database_url: str | None = Field(
        None,
        validation_alias=AliasChoices("CANDLECAST_DATABASE_URL", "DATABASE_URL"),
        description="postgresql:// URL of the database",
    )
    model_repository: Path = Field(
        CHECKOUT / "triton_models",
        description="Triton model repository: a folder, or s3://, gs://, az://…, whose newest versions are brought to"
        " `repository` in the state directory at the start",
    )
    model_source: str = Field("", description="where they are brought from: model_repository, when that is a URL")
    model: str = Field("patchtst", description="name of the forecasting model in the repository")
    triton_env_dir: Path = Field(CHECKOUT / ".venv-triton", description="environment of the embedded tritonserver")
    triton_backend: Literal["onnxruntime", "pytorch", "pytorch_cpu"] = Field(
        "onnxruntime",
        description="what runs the model in the embedded Triton: ONNX Runtime on the CPU, PyTorch on an NVIDIA GPU,"
        " or PyTorch on the CPU",
    )

    # What the features are computed with
    reference_symbol: str = Field(
        "BTCUSDT", description="the symbol that others are compared with, where the model was trained so"
    )
    feature_threads: int = Field(1, ge=1, le=256, description="threads that a message of 128 candles or more may use")

    ring: Literal["f32", "f16"] = Field(
        "f32", description="how a symbol's last 96 rows are kept: f16 takes half the memory and rounds the windows"
    )

    # What is promised
    durability: Literal["durable", "fast"] = Field(
        "durable", description="what a reply waits for: its rows on this disk, or nothing"
    )
    journal_full: Literal["refuse", "drop_oldest"] = Field(
        "refuse", description="what gives way when the journal is full: new candles, or the oldest rows"
    )
    forecast_fresh_intervals: float = Field(
        1.0, ge=0, description="intervals after its close until which a missed forecast is still made"
    )

    # Limits, each with its unit
    symbols_max: int = Field(20_000, ge=1, description="symbols kept in memory")
    conflicts_max: int = Field(3, ge=1, description="conflicting candles before a symbol is quarantined")
    message_bytes_max: int = Field(4 * 1024 * 1024, ge=1024, description="largest gRPC message")
    candles_per_message_max: int = Field(1_024, ge=1, description="candles in one message")
    unary_timeout_ms: int = Field(1_000, ge=1, description="deadline of a unary call that brings none")
    answer_timeout_ms: int = Field(30_000, ge=1, description="longest wait for the answer to one message of a stream")
    batch_rows_max: int = Field(16, ge=1, le=256, description="windows in one inference request")
    batches_in_flight_max: int = Field(2, ge=1, description="inference requests at Triton at once")
    shared_windows_max: int = Field(
        2_048, ge=0, description="windows handed to Triton in shared memory, 92 KB each; 0: in messages"
    )
    queue_rows_max: int = Field(8_192, ge=1, description="candles under way in the server")
    model_wait_ms: int = Field(30_000, ge=0, description="how long a model that is away is asked again")
    infer_timeout_ms: int = Field(2_000, ge=1, description="longest wait for one inference request")
    canary_interval_ms: int = Field(1_000, ge=10, description="pause between canary inferences")
    journal_bytes_max: int = Field(1024**3, ge=2**20, description="rows on disk that wait for PostgreSQL")
    drain_rows_max: int = Field(4_000, ge=1, description="rows of one transaction")
    record_timeout_ms: int = Field(5_000, ge=1, description="longest wait of a reply for its rows to be on disk")
    triton_metrics_port: int = Field(
        0, ge=0, le=65535, description="port on loopback of the embedded Triton's own /metrics; 0: there is none"
    )
    loop_late_ms: int = Field(250, ge=1, description="delay of the server's event loop that is said in the log")
    loop_stall_max_s: float = Field(
        30,
        ge=0,
        description="an event loop that stands still so long ends the server, to be started anew; 0: never",
    )
    triton_recycle_h: float = Field(
        0, ge=0, description="hours after which `up` restarts Triton in good order; 0: never"
    )
    database_timeout_ms: int = Field(5_000, ge=1, description="longest database statement")
    database_connections_max: int = Field(5, ge=3, description="connections in the pool; two of them write")
    stop_timeout_ms: int = Field(10_000, ge=1, description="longest orderly shutdown of one part")

    # Order flow and the gate
    flow_symbols_max: int = Field(4_096, ge=1, description="symbols whose order flow is kept in memory, 40 KB each")
    flow_rows_per_message_max: int = Field(65_536, ge=1, description="trades, quotes and levels in one message")
    flow_stale_ms: int = Field(5_000, ge=1, description="for how long a best bid and ask speaks")
    flow_live_ms: int = Field(
        60_000, ge=1, description="since the newest trade: with an older one a symbol has no live order flow"
    )
    flow_record_interval_ms: int = Field(
        1_000, ge=1, description="order flow is stored as of the last trade of each such interval"
    )
    ml_threshold: float = Field(
        0.65,
        gt=0,
        lt=1,
        validation_alias=AliasChoices("CANDLECAST_ML_THRESHOLD", "ML_THRESHOLD"),
        description="the gate approves above this probability",
    )
    gate_timeout_ms: int = Field(50, ge=1, description="longest wait for the gate's model; then the heuristic decides")
    gate_absent: Literal["pass", "block"] = Field(
        "pass", description="what becomes of a signal on a symbol without live order flow, or without a gate"
    )
    allow_simulated: bool = Field(False, description="serve a gate that was trained on simulated order flow")

    # Models that change while traffic flows
    admin_token: str | None = Field(
        None, description="what `candlecast models` shows the server; absent: the file admin_token in state_dir"
    )
    admin_token_sha256: str | None = Field(
        None,
        pattern="^[0-9a-f]{64}$",
        description="SHA-256 of the token that opens Models; absent: that of the file admin_token in state_dir",
    )
    model_bytes_max: int = Field(1024**3, ge=1, description="largest bundle that may be pushed")
    model_memory_bytes_max: int = Field(4 * 1024**3, ge=2**20, description="memory that a pushed model may take")
    model_trial_timeout_ms: int = Field(
        60_000, ge=1, description="longest trial of a pushed model, before Triton sees it"
    )
    model_window_ms_max: float = Field(
        50, gt=0, description="longest a pushed model may take for a window, on one core"
    )
    model_sync_timeout_ms: int = Field(600_000, ge=1, description="longest sync of one bundle from an object store")
    model_load_timeout_ms: int = Field(60_000, ge=1, description="longest load of a version by Triton")
    model_drain_timeout_ms: int = Field(
        10_000, ge=1, description="longest wait for a version's last request before unload"
    )
    rollback_standby: int = Field(1, ge=0, description="former champions that stay loaded, for a rollback at once")
    shadow_rows_max: int = Field(
        1_024, ge=1, description="windows that wait for the shadow; more of them it does not hear"
    )
    rollback_window_s: float = Field(60, gt=0, description="a version in traffic is judged by so much of late")
    rollback_rows_min: int = Field(50, ge=1, description="forecasts, or failures, from which on a version is judged")
    rollback_not_finite_max: int = Field(
        3, ge=1, description="forecasts that are not finite, though their windows were"
    )
    rollback_error_ratio: float = Field(0.1, gt=0, le=1, description="share of failures that takes a version out")
    rollback_latency_ratio: float = Field(3, gt=1, description="time a window, as multiple of the champion's before")
    rollback_latency_ms: float = Field(5, ge=0, description="time a window up to which no version counts as slow")
    rollback_compared_s: float = Field(
        3_600,
        ge=0,
        description="after a promotion, how long latency and confidence are compared with the champion's before",
    )
    rollback_confidence_ratio: float = Field(
        0.2,
        ge=0,
        lt=1,
        description="mean confidence above 0.5, as share of the champion's before, below which it collapsed",
    )

    # Models that age, are trained again and dropped
    max_model_age_d: float = Field(
        0, ge=0, description="days since its training after which a model's forecasts are flagged degraded; 0: never"
    )
    promote_margin: float = Field(
        0.001, ge=0, description="log-loss, mean over the horizons, by which a version must certainly be better"
    )
    shadow_days_max: float = Field(
        30, gt=0, description="for so long a version may be heard before it is known to be better"
    )
    incoming_poll_ms: int = Field(2_000, ge=1, description="pause between two looks at what was dropped in incoming/")
    incoming_patience_ms: int = Field(
        60_000, ge=0, description="a dropped bundle that is not whole, and has not changed for so long, is refused"
    )

    # After a restart
    snapshot_interval_s: float = Field(300, gt=0, description="pause between two snapshots of all symbols")
    rebuild_candles_max: int = Field(2_000, ge=1, description="stored candles that rebuild a symbol without a snapshot")
    rebuild_age_max_h: float = Field(
        48, gt=0, description="hours since the newest candle of such a symbol; older: COLD"
    )

    # Filters of a signal
    min_confidence: float = Field(0.6, ge=0, le=1, description="below: NEUTRAL")
    strong_confidence: float = Field(0.8, ge=0, le=1, description="at or above: STRONG")
    min_agreement: float = Field(0.5, ge=0, le=1, description="weighted share of horizons on the signal's side")
    min_expected_return: float = Field(0.0015, ge=0, description="largest |return| over the horizons, as a fraction")
    max_signals_per_minute: int = Field(10, ge=0, description="LONG and SHORT of this server, by the candles' times")
    max_correlation: float = Field(
        0.8, ge=-1, le=1, description="largest 96-bar return correlation with an open position of the same side"
    )
    min_sharpe_ratio: float = Field(0.5, description="realised, a year, of a symbol after 30 closed trades")
    max_position_score: float = Field(3.0, ge=0, description="largest sum of quality over open positions of one side")
    position_bars_max: int = Field(16, ge=1, description="bars after which the position of a signal counts no more")
    trade_cost: float = Field(
        0.0012, ge=0, lt=0.5, description="of entering and leaving, as a fraction; in the realised Sharpe ratio"
    )
    ml_weight: float = Field(0.7, ge=0, le=1, description="of the model's edge in the hybrid score; the rest: rules")
    size_when_strong: float = Field(1.5, ge=1, le=1.5, description="size multiplier of a STRONG signal; others have 1")
    cache_ttl_s: float = Field(300, ge=0, description="for how long a forecast is answered from memory; 0: never")
    cache_rows_max: int = Field(20_000, ge=1, description="forecasts kept in memory for that, 2 KB each")

    # Subscribers
    subscribers_max: int = Field(2_000, ge=0, description="calls of Subscribe at once")
    subscriber_backlog_max: int = Field(
        8_192, ge=16, description="forecasts kept for subscribers; who is further behind gets the newest, or is ended"
    )
    resume_rows_max: int = Field(100_000, ge=1, description="stored forecasts that one subscriber may be sent first")

    # The server's own signals, as they are logged
    tracked_fees: float = Field(
        0.0004,
        ge=0,
        lt=0.5,
        description="charged on each fill of the server's own signals in its log, of the value",
    )
    outcome_workers: int = Field(
        1, ge=1, le=4, description="connections that write outcomes back at once when much is to be found"
    )
    outcome_share: float = Field(
        0.8, gt=0, le=1, description="of the time, at most, that each of them works then; the rest is serving's"
    )

    # Drift of the version that answers: its first days against its newest
    drift_interval_s: float = Field(3_600, ge=0, description="pause between two measurements of drift; 0: none")
    drift_reference_d: float = Field(7, gt=0, description="days after a version's first forecast that it is held to")
    drift_newest_d: float = Field(1, gt=0, description="newest days that are compared with them")
    drift_rows_max: int = Field(
        2_000, ge=200, le=20_000, description="forecasts of each of the two, spread over all; 1 KB each"
    )
    drift_psi: float = Field(
        0.25, gt=0, description="population stability index, above the usual, from which on a group drifts"
    )
    drift_psi_end: float = Field(0.15, gt=0, description="below which, and below drift_ks_end, it drifts no more")
    drift_ks: float = Field(0.2, gt=0, le=1, description="the same of the Kolmogorov-Smirnov distance")
    drift_ks_end: float = Field(0.1, gt=0, le=1, description="below which, and below drift_psi_end, it drifts no more")
    drift_alerts_per_day_max: int = Field(5, ge=0, description="drifts that begin and are told of in a day, UTC")

    # Who is told when something is wrong
    alert_webhook_url: SecretStr | None = Field(
        None, description="where alerts are posted: Slack's incoming webhook, or Telegram's …/bot<token>/sendMessage"
    )
    alert_webhook_shape: Literal["slack", "telegram"] = Field("slack", description="of what is posted")
    alert_telegram_chat_id: str = Field("", description="the chat that Telegram shows them in")
    alert_mail_server: str | None = Field(None, description="HOST:PORT of an SMTP server that takes alerts as mail")
    alert_mail_from: str = Field("candlecast@localhost", description="its sender")
    alert_mail_to: str = Field("", description="its receiver")
    alerts_per_hour_max: int = Field(20, ge=0, description="begins that are told of in an hour")
    alert_rules: tuple[AlertRule, ...] = Field(
        (), description="when somebody is told: rules beside the defaults, or in their place (docs/alerts.md)"
    )
    alert_rules_off: tuple[str, ...] = Field((), description="default rules that do not hold, by name")

    # What is kept, by `candlecast retention`: whole months before this one; 0: for ever
    retention_candles_months: int = Field(0, ge=0, description="of candles; 0: for ever")
    retention_predictions_months: int = Field(0, ge=0, description="of forecasts; 0: for ever")
    retention_flow_months: int = Field(0, ge=0, description="of order flow features; 0: for ever")
    retention_ahead_months: int = Field(2, ge=0, le=24, description="whose partitions are made before they are needed")
    retention_archive: bool = Field(True, description="write old months to Parquet before they are dropped")
    retention_archive_dir: Path | None = Field(None, description="where to; absent: archive in state_dir")

    @field_validator("metrics")
    @classmethod
    def _nothing_or_host_and_port(cls, value: str) -> str:
        return cls._host_and_port(value) if value else value

    @field_validator("grpc", "http", "triton")
    @classmethod
    def _host_and_port(cls, value: str) -> str:
        host, _, port = value.rpartition(":")
        if not host or not port.isdigit() or not 0 <= int(port) <= 65535:
            raise ValueError(f"expected HOST:PORT, got {value!r}")
        return value

    @field_validator("alert_webhook_url")
    @classmethod
    def _web(cls, value: SecretStr | None) -> SecretStr | None:
        if value is not None and not re.fullmatch(r"https?://[!-~]+", value.get_secret_value()):
            raise ValueError("expected https://…")  # its value holds a token
        return value

    @field_validator("alert_rules")
    @classmethod
    def _beside_each_other(cls, value: tuple[AlertRule, ...]) -> tuple[AlertRule, ...]:
        if said := wrong(value):
            raise ValueError(said)
        return value

    @field_validator("alert_rules_off")
    @classmethod
    def _defaults(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        known = [rule.name for rule in DEFAULTS]
        if unknown := [name for name in value if name not in known]:
            raise ValueError(f"{', '.join(unknown)}: the default rules are {', '.join(known)}")
        return value

    @field_validator("alert_mail_server")
    @classmethod
    def _absent_or_host_and_port(cls, value: str | None) -> str | None:
        return cls._host_and_port(value) if value else None

    @field_validator("reference_symbol")
    @classmethod
    def _symbol(cls, value: str) -> str:
        if not SYMBOL.fullmatch(value):
            raise ValueError(f"{value!r} is no symbol: 1 to 32 characters of A-Z 0-9 . _ : / -")
        return value

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        return init_settings, env_settings, TomlConfigSettingsSource(settings_cls)


def load(**flags: Any) -> Settings:
    """Read the settings; flags that are None were not given.

    Raises:
        ConfigurationError: a value is missing or wrong; the message names the setting and its source's spelling.
    """
    unknown = [name for name in os.environ if name.startswith("CANDLECAST_") and not _is_setting(name)]
    if unknown:
        raise ConfigurationError(f"environment: no setting is called {', '.join(unknown)}")
    try:
        return Settings(**{name: value for name, value in flags.items() if value is not None})
    except TOMLDecodeError as error:
        raise ConfigurationError(f"candlecast.toml: {error}") from error
    except SettingsError as error:  # a list in the environment that is no JSON
        raise ConfigurationError(f"settings: {error}; a list is JSON, as in [1, 2]") from error
    except ValidationError as error:
        lines = [f"{'.'.join(map(str, e['loc']))}: {e['msg']}" for e in error.errors()]
        raise ConfigurationError("settings: " + "; ".join(lines)) from error


def is_loopback(address: str) -> bool:
    """Say whether HOST of HOST:PORT is this machine, as itself."""
    host = address.rpartition(":")[0].strip("[]")
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def require_loopback(name: str, address: str, *, insecure: bool = False) -> None:
    """Refuse to listen where others could come in, unless that was asked for.

    Raises:
        ConfigurationError: HOST of HOST:PORT is not loopback.
    """
    if is_loopback(address):
        return
    if not insecure:
        raise ConfigurationError(
            f"{name}: {address} is not loopback, and TLS is not built yet: listen on 127.0.0.1"
            " (CANDLECAST_INSECURE=true allows it, for a network that only your own containers are in)"
        )
    log.warning("insecure: %s listens on %s in the clear, to whoever reaches it", name, address)


def _is_setting(variable: str) -> bool:
    return variable.removeprefix("CANDLECAST_").lower() in Settings.model_fields
