"""`candlecast train`, as a person calls it: flags, a configuration file, the table. Nothing is trained."""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import json
from pathlib import Path

import pytest

from candlecast import cli
from candlecast.cli import train as command
from candlecast.errors import ConfigurationError
from candlecast.models.bundle import Bundle
from candlecast.store import history as store_history
from candlecast.training import record
from candlecast.training import train as recipe
from candlecast.training.config import Config
from candlecast.training.family import families
from candlecast.training.fit import FitConfig
from candlecast.training.search import Search


def test_what_an_interrupted_training_leaves_is_said_and_ends_with_130(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def interrupted(*args: object, **rest: object) -> None:
        raise KeyboardInterrupt("interrupted: the bundle that was at x stays")

    monkeypatch.setattr(recipe, "train", interrupted)

    assert cli.main(["train", "lstm", "--data", "a.csv", "--out", "x"]) == 130
    assert "candlecast: interrupted: the bundle that was at x stays" in capsys.readouterr().err


def test_a_configuration_file_is_read_and_mistakes_are_named(tmp_path: Path) -> None:
    path = tmp_path / "train.toml"
    path.write_text("stride = 8\n[network]\nlayers = 2\ndropout = 0\n[fit]\nepochs = 1\n")

    config = Config.load(path)

    assert (config.stride, config.network.layers, config.network.dropout, config.fit.epochs) == (8, 2, 0, 1)
    assert config.network.width == 256
    for text, says in (
        ("[fit]\nepoch = 1", "epoch is no setting"),
        ("stride = '8'", "expected int"),
        ("[", "Invalid"),
        ("[fit]\nepochs = 0", "epochs must be at least 1"),
        ("stride = 0", "must be at least 1"),
    ):
        path.write_text(text)
        with pytest.raises(ConfigurationError, match=says):
            Config.load(path)
    with pytest.raises(ConfigurationError, match="No such file"):
        Config.load(tmp_path / "none.toml")


def arguments(*given: str, kind: str = "patchtst") -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    command.register(parser.add_subparsers())
    return parser.parse_args(["train", kind, *given])


def test_the_command_hands_its_flags_on_and_prints_json_alone(
    trained: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    called = {}

    def instead(kind: str, data: list[Path], out: Path, **rest: object) -> Bundle:
        called.update(rest, kind=kind, data=data, out=out)
        return trained

    monkeypatch.setattr(recipe, "train", instead)
    flags = "--data a.csv b.csv --symbols AAA --from 2024-01-01 --to 2024-02-01T00:00Z --folds 2 --epochs 5 --stride 9"

    code = command.run(arguments(*flags.split(), "--seed", "7", "--json", "--out", str(trained.path)))

    assert code == 0
    assert json.loads(capsys.readouterr().out)["name"] == "patchtst"
    assert called["symbols"] == ["AAA"] and called["data"] == [Path("a.csv"), Path("b.csv")]
    assert called["start_ms"] == 1_704_067_200_000 and called["end_ms"] == 1_706_745_600_000
    assert (called["reference_symbol"], called["optional_inputs"]) == ("BTCUSDT", None)
    assert called["config"] == Config(folds=2, stride=9, seed=7, fit=FitConfig(epochs=5))
    assert (called["kind"], called["resume"], called["searched"]) == ("patchtst", False, None)


def test_the_command_hands_resume_search_and_rolling_on_for_every_kind(
    trained: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    called: dict[str, object] = {}

    def instead(kind: str, *args: object, **rest: object) -> Bundle:
        called.update(rest, kind=kind)
        return trained

    monkeypatch.setattr(recipe, "train", instead)
    for kind in families():
        flags = "--data a.csv --out x --resume --rolling 900 --search 7 --storage study.journal"
        command.run(arguments(*flags.split(), kind=kind))
        assert (called["kind"], called["resume"], called["searched"]) == (kind, True, Search(7, "study.journal"))
        assert called["config"] == Config(rolling_bars=900)
    with pytest.raises(ConfigurationError, match="--storage is where --search keeps its trials"):
        command.run(arguments("--data", "a.csv", "--out", "x", "--storage", "study.journal"))


@pytest.mark.parametrize("named", ["database", "postgresql://here/db"])
def test_the_command_reads_a_database(trained: Bundle, monkeypatch: pytest.MonkeyPatch, named: str) -> None:
    called: dict[str, object] = {}
    candles = object()
    asked = []

    def read(url: str, **chosen: object) -> object:
        asked.append((url, chosen))
        if chosen.get("symbols") == ["AAA", "BTCUSDT"]:
            raise ConfigurationError("none of BTCUSDT")
        return candles

    def instead(kind: str, data: object, *args: object, **rest: object) -> Bundle:
        called.update(data=data)
        return trained

    monkeypatch.setattr(recipe, "train", instead)
    monkeypatch.setattr(store_history, "read_candles", read, raising=False)
    flags = ["--data", named, "--out", "x", "--interval-ms", "60000", "--from", "2024-01-01"]
    if named == "database":
        with pytest.raises(ConfigurationError, match="Give --database URL or set DATABASE_URL"):
            command.run(arguments(*flags))
        monkeypatch.setenv("DATABASE_URL", "postgresql://here/db")
        monkeypatch.setattr(record, "opened", lambda url, **_: contextlib.nullcontext(record.Log(None)))

    command.run(arguments(*flags))
    command.run(arguments(*flags, "--symbols", "AAA"))

    chosen = {"interval_ms": 60_000, "start_ms": 1_704_067_200_000, "end_ms": None}
    assert called["data"] is candles
    assert asked == [
        ("postgresql://here/db", chosen),
        ("postgresql://here/db", {"symbols": ["AAA", "BTCUSDT"]} | chosen),
        ("postgresql://here/db", {"symbols": ["AAA"]} | chosen),
    ]
    with pytest.raises(ConfigurationError, match="a database stands alone"):
        command.run(arguments("--data", named, "a.csv", "--out", "x"))


@pytest.mark.parametrize(
    ("given", "handed_on"),
    [("none", []), ("reference trades", ["reference", "trades"])],
)
def test_the_command_hands_on_which_inputs_to_use(
    trained: Bundle, monkeypatch: pytest.MonkeyPatch, given: str, handed_on: list[str]
) -> None:
    called: dict[str, object] = {}

    def instead(*args: object, **rest: object) -> object:
        called.update(rest)
        return trained

    monkeypatch.setattr(recipe, "train", instead)
    monkeypatch.setenv("CANDLECAST_REFERENCE_SYMBOL", "SOLUSDT")
    flags = ["--data", "a.csv", "--out", "x", "--optional-inputs", *given.split()]

    command.run(arguments(*flags))
    assert (called["optional_inputs"], called["reference_symbol"]) == (handed_on, "SOLUSDT")
    command.run(arguments(*flags, "--reference-symbol", "ETHUSDT"))
    assert called["reference_symbol"] == "ETHUSDT"


@pytest.mark.parametrize(
    ("flags", "says"),
    [
        (["--optional-inputs", "none", "trades"], "none stands alone"),
        (["--reference-symbol", "eth usdt"], "'eth usdt' is no symbol"),
    ],
)
def test_flags_that_contradict_or_are_malformed_are_refused(flags: list[str], says: str) -> None:
    with pytest.raises(ConfigurationError, match=says):
        command.run(arguments("--data", "a.csv", "--out", "x", *flags))


def test_an_unknown_optional_input_is_wrong_usage(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        arguments("--data", "a.csv", "--out", "x", "--optional-inputs", "weather")

    assert ended.value.code == 2
    assert "'weather' is none of quote_volume, trades, taker_buy_volume, reference, none" in capsys.readouterr().err


def test_the_table_shows_every_number_beside_its_base_and_persistence(
    trained: Bundle, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(recipe, "train", lambda *args, **rest: trained)
    mean = trained.manifest.metrics["walk_forward"]["mean"]
    shown = ("log_loss", "brier", "accuracy", "balanced_accuracy", "side_accuracy", "return_mae")

    command.run(arguments("--data", "a.csv", "--out", "x"))

    lines = [line.split() for line in capsys.readouterr().out.splitlines()]
    for horizon, numbers in mean["horizons"].items():
        at = next(k for k, line in enumerate(lines) if line[:1] == [horizon])
        assert lines[at][:2] == [horizon, "model"] and lines[at + 2][0] == "persistence"
        for k, who in enumerate(("model", "base", "persistence")):
            assert lines[at + k][-6:] == [f"{numbers[name][who]:.4f}" for name in shown]
    for risk, numbers in mean["risks"].items():
        at = next(k for k, line in enumerate(lines) if line[:1] == [risk])
        for k, who in enumerate(("model", "base", "persistence")):
            assert lines[at + k][-1] == f"{numbers['mae'][who]:.4f}"


def test_the_table_leaves_persistence_out_where_it_was_not_measured(
    trained: Bundle, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    text = json.dumps(trained.manifest.metrics).replace('"persistence":', '"other":')
    manifest = dataclasses.replace(trained.manifest, metrics=json.loads(text))
    older = dataclasses.replace(trained, manifest=manifest)
    monkeypatch.setattr(recipe, "train", lambda *args, **rest: older)

    command.run(arguments("--data", "a.csv", "--out", "x"))

    out = capsys.readouterr().out
    assert "base rate" in out and "persistence" not in out


def test_a_missing_train_extra_is_one_clear_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(command, "find_spec", lambda name: None)

    with pytest.raises(
        ConfigurationError, match=r"^training needs torch: run `make train-env` \(uv sync --extra train\)$"
    ):
        command.run(arguments("--data", "a.csv", "--out", "x"))
