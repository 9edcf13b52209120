"""What becomes of a model that was trained again: promoted only if better; else the one that serves is kept."""

from __future__ import annotations

import json
from contextlib import nullcontext
from dataclasses import replace
from datetime import datetime
from pathlib import Path

import polars as pl
import pytest

from candlecast.cli import main
from candlecast.errors import BundleError
from candlecast.models.bundle import Bundle
from candlecast.training.comparison import Comparison, Verdict
from candlecast.training.schedule import Said, Standing, Step, judge, retrain
from tests import bad_models
from tests.fakes import fitting_bundle
from tests.training.conftest import simulate

DAY_MS = 86_400_000
NOW_MS = 1_700_000_000_000
KEPT_MS = 30 * DAY_MS


class Server:
    """Versions as a server has them, and what was asked of it."""

    def __init__(self, **states: str) -> None:
        self.states = {int(name.removeprefix("v")): state for name, state in states.items()}
        self.since_ms = NOW_MS - DAY_MS
        self.asked: list[str] = []
        self.refuses: Exception | None = None

    def versions(self) -> list[Standing]:
        return [Standing(version, state, self.since_ms) for version, state in self.states.items()]

    def push(self, folder: Path, why: str) -> None:
        self._asked("push", Bundle.load(folder).manifest.version, why)
        if self.refuses is not None:
            raise self.refuses

    def shadow(self, version: int, why: str) -> None:
        self._asked("shadow", version, why)

    def promote(self, version: int, why: str) -> None:
        self._asked("promote", version, why)

    def unload(self, version: int, why: str) -> None:
        self._asked("unload", version, why)

    def _asked(self, what: str, version: int, why: str) -> None:
        assert why
        self.asked.append(f"{what} {version}")


def found(verdict: Verdict) -> Comparison:
    return replace(Comparison.empty(("lightgbm v1", "lightgbm v2"), {}), verdict=verdict, sentence=f"It is {verdict}.")


def trained(tmp_path: Path, server: Server, verdict: Verdict) -> Said:
    compared: list[tuple[int, int]] = []

    def compare(champion: int, bundle: Bundle) -> Comparison:
        compared.append((champion, bundle.manifest.version))
        return found(verdict)

    said = retrain(
        server,
        lambda version: fitting_bundle(tmp_path / str(version), version=version),
        compare,
        shadow_ms_max=KEPT_MS,
        now_ms=NOW_MS,
    )
    assert not compared or compared == [(said.champion, said.version)]
    json.dumps(said.as_json(), allow_nan=False)
    return said


@pytest.mark.parametrize(
    ("verdict", "step", "asked"),
    [
        ("better", Step.PROMOTED, ["push 4", "shadow 4", "promote 4"]),
        ("not yet known", Step.SHADOW, ["push 4", "shadow 4"]),
        ("worse", Step.KEPT, []),
    ],
)
def test_a_new_version_goes_as_far_as_it_has_earned(
    tmp_path: Path, verdict: Verdict, step: Step, asked: list[str]
) -> None:
    server = Server(v1="RETIRED", v2="CHAMPION", v3="REFUSED")

    said = trained(tmp_path, server, verdict)

    assert (said.step, said.champion, said.version, said.why) == (step, 2, 4, f"It is {verdict}.")
    assert server.asked == asked


@pytest.mark.parametrize("state", ["SHADOW", "CHALLENGER"])
def test_while_a_version_is_heard_no_other_is_trained_until_its_time_is_over(tmp_path: Path, state: str) -> None:
    server = Server(v1="CHAMPION", v2=state)
    said = trained(tmp_path, server, "better")
    assert (said.step, said.version, server.asked) == (Step.KEPT, 2, [])
    assert not (tmp_path / "3").exists()

    server.since_ms = NOW_MS - KEPT_MS
    assert trained(tmp_path, server, "better").version == 3
    assert server.asked[-1] == "promote 3"


def test_one_that_is_refused_is_never_heard(tmp_path: Path) -> None:
    server = Server(v1="CHAMPION")
    server.refuses = BundleError("NOT_FINITE")

    with pytest.raises(BundleError, match="NOT_FINITE"):
        trained(tmp_path, server, "better")

    assert server.asked == ["push 2"]


def judged(server: Server, verdict: Verdict) -> Said:
    def compare(champion: int, challenger: int, since_ms: int) -> Comparison:
        assert (champion, challenger, since_ms) == (1, 2, server.since_ms)
        return found(verdict)

    return judge(server, compare, shadow_ms_max=KEPT_MS, now_ms=NOW_MS)


@pytest.mark.parametrize("state", ["SHADOW", "CHALLENGER"])
@pytest.mark.parametrize(
    ("verdict", "step", "asked"),
    [
        ("better", Step.PROMOTED, ["promote 2"]),
        ("not yet known", Step.SHADOW, []),
        ("worse", Step.KEPT, ["unload 2"]),
    ],
)
def test_a_version_that_is_heard_is_judged_by_its_live_forecasts(
    verdict: Verdict, step: Step, asked: list[str], state: str
) -> None:
    server = Server(v1="CHAMPION", v2=state)

    said = judged(server, verdict)

    assert (said.step, said.version, server.asked) == (step, 2, asked)


def test_one_that_cannot_be_shown_to_be_better_is_not_heard_for_ever() -> None:
    server = Server(v1="CHAMPION", v2="SHADOW")
    server.since_ms = NOW_MS - KEPT_MS

    said = judged(server, "not yet known")

    assert (said.step, server.asked) == (Step.KEPT, ["unload 2"])
    assert said.why == "It is not yet known. It was heard for 30 days, which was to be enough."


def test_without_one_that_is_heard_there_is_nothing_to_judge() -> None:
    server = Server(v1="CHAMPION", v2="WARM")

    said = judged(server, "better")

    assert (said.step, said.version, server.asked) == (Step.KEPT, None, [])


TREES = """
folds = 1
stride = 4
[trees]
rounds_max = 20
learning_rate = 0.3
rows_min = 20
threads = 1
"""


@pytest.fixture(scope="module")
def market(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    folder = tmp_path_factory.mktemp("market")
    simulate(1, 4000).write_parquet(folder / "AAAUSDT-15m.parquet")
    return [folder / "AAAUSDT-15m.parquet"]


def test_a_run_trains_compares_on_candles_that_neither_knows_and_promotes_what_is_better(
    market: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The champion knows nothing; the new one finds what is planted in the market."""
    (tmp_path / "trees.toml").write_text(TREES)
    flags = ["--config", str(tmp_path / "trees.toml"), "--optional-inputs", "none"]
    champion = bad_models.good(tmp_path / "models" / "lightgbm" / "1", name="lightgbm").path / "manifest.json"
    data = {
        "interval_ms": 900_000,
        "symbols": ["AAAUSDT"],
        "from": "2024-01-01T00:00:00Z",
        "to": "2024-01-20T00:00:00Z",
    }
    champion.write_text(json.dumps(json.loads(champion.read_text()) | {"data": data}))
    server = Server(v1="CHAMPION")
    monkeypatch.setattr("candlecast.cli.schedule.model_server", lambda settings: nullcontext(server))
    monkeypatch.setenv("CANDLECAST_MODEL", "lightgbm")
    monkeypatch.setenv("CANDLECAST_MODEL_REPOSITORY", str(tmp_path / "models"))

    command = ["schedule", "train", "--data", str(market[0]), "--work", str(tmp_path / "work"), "--json"]
    assert main([*command, "--", *flags]) == 0

    said = json.loads(capsys.readouterr().out)
    assert (said["step"], said["champion"], said["version"]) == ("promoted", 1, 2)
    assert server.asked == ["push 2", "shadow 2", "promote 2"]
    found = said["comparison"]
    assert found["verdict"] == "better" and found["mean"]["log_loss"]["high"] < -0.001
    new = Bundle.load(tmp_path / "work" / "lightgbm" / "2")
    newest_ms = int(pl.read_parquet(market[0])["ts"].max())
    trained_to_ms = datetime.fromisoformat(new.manifest.data["to"]).timestamp() * 1000
    assert newest_ms - 14.1 * DAY_MS < trained_to_ms < newest_ms - 13.9 * DAY_MS
    # 14 days less the embargo of 144 bars, and less 48 that have no outcome yet
    assert found["rows"]["challenger"] == pytest.approx(14 * 96 - 144 - 48, abs=2)
