import pytest

from candlecast import settings
from candlecast.errors import ConfigurationError


@pytest.fixture(autouse=True)
def own_directory(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("DATABASE_URL", "CANDLECAST_DATABASE_URL", "CANDLECAST_GRPC"):
        monkeypatch.delenv(name, raising=False)
    return tmp_path


def test_flags_beat_the_environment_which_beats_the_file(own_directory, monkeypatch):
    (own_directory / "candlecast.toml").write_text(
        'grpc = "127.0.0.1:1"\nhttp = "127.0.0.1:1"\ntriton = "127.0.0.1:1"\n'
    )
    monkeypatch.setenv("CANDLECAST_GRPC", "127.0.0.1:2")
    monkeypatch.setenv("CANDLECAST_HTTP", "127.0.0.1:2")
    loaded = settings.load(grpc="127.0.0.1:3", http=None)
    assert (loaded.grpc, loaded.http, loaded.triton) == ("127.0.0.1:3", "127.0.0.1:2", "127.0.0.1:1")


def test_the_database_is_also_read_from_its_common_name(monkeypatch):
    monkeypatch.setenv("DATABASE_URL", "postgresql://somewhere/db")
    assert settings.load().database_url == "postgresql://somewhere/db"


def test_the_threshold_of_the_gate_is_also_read_from_its_common_name(monkeypatch):
    monkeypatch.setenv("ML_THRESHOLD", "0.7")
    assert settings.load().ml_threshold == 0.7
    monkeypatch.setenv("CANDLECAST_ML_THRESHOLD", "0.8")
    assert settings.load().ml_threshold == 0.8


@pytest.mark.parametrize(
    ("flags", "named"),
    [
        ({"grpc": "nowhere"}, "grpc"),
        ({"min_confidence": 2}, "min_confidence"),
        ({"batch_rows_max": 0}, "batch_rows_max"),
        ({"feature_threads": 0}, "feature_threads"),
        ({"durability": "sometimes"}, "durability"),
        ({"journal_full": "panic"}, "journal_full"),
        ({"journal_bytes_max": 1_000}, "journal_bytes_max"),
        ({"drain_rows_max": 0}, "drain_rows_max"),
        ({"ml_threshold": 1}, "ml_threshold"),
        ({"gate_timeout_ms": 0}, "gate_timeout_ms"),
        ({"gate_absent": "maybe"}, "gate_absent"),
        ({"flow_record_interval_ms": 0}, "flow_record_interval_ms"),
        ({"forecast_fresh_intervals": -1}, "forecast_fresh_intervals"),
        ({"database_connections_max": 1}, "database_connections_max"),
        ({"reference_symbol": "btc usdt"}, "reference_symbol: .*'btc usdt' is no symbol"),
        ({"reference_symbol": "BTCUSDT\n"}, "reference_symbol"),
    ],
)
def test_a_wrong_value_names_its_setting(flags, named):
    with pytest.raises(ConfigurationError, match=named):
        settings.load(**flags)


def test_a_misspelt_setting_in_the_file_is_refused(own_directory):
    (own_directory / "candlecast.toml").write_text("min_confidense = 0.7\n")
    with pytest.raises(ConfigurationError, match="min_confidense"):
        settings.load()


def test_a_misspelt_setting_in_the_environment_is_refused(monkeypatch):
    monkeypatch.setenv("CANDLECAST_MIN_CONFIDENSE", "0.7")
    with pytest.raises(ConfigurationError, match="CANDLECAST_MIN_CONFIDENSE"):
        settings.load()


def test_a_file_that_is_no_toml_is_refused(own_directory):
    (own_directory / "candlecast.toml").write_text("grpc = \n")
    with pytest.raises(ConfigurationError, match=r"candlecast\.toml"):
        settings.load()


def test_our_own_name_of_the_database_beats_the_common_one(monkeypatch):
    monkeypatch.setenv("DATABASE_URL", "postgresql://common/db")
    monkeypatch.setenv("CANDLECAST_DATABASE_URL", "postgresql://ours/db")
    assert settings.load().database_url == "postgresql://ours/db"
    assert settings.load(database_url="postgresql://flag/db").database_url == "postgresql://flag/db"


@pytest.mark.parametrize("address", ["0.0.0.0:80", "127.evil.example:80", "[::]:80", "192.0.2.1:80"])
def test_only_loopback_may_be_listened_on(address):
    with pytest.raises(ConfigurationError, match="not loopback"):
        settings.require_loopback("grpc", address)


@pytest.mark.parametrize("address", ["127.0.0.1:80", "localhost:80", "[::1]:80", "127.1.2.3:80"])
def test_loopback_is_fine(address):
    settings.require_loopback("grpc", address)
