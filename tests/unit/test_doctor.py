"""What `candlecast doctor` says when nothing runs, and of what it can see by itself."""

import asyncio
import json
import os
import shutil
import socket
import struct
import time
from types import SimpleNamespace

import pytest

from candlecast import settings as configuration
from candlecast.cli import doctor_parts, main
from candlecast.cli.doctor_checks import Status, examine, state_dir
from candlecast.cli.doctor_parts import clock, look
from candlecast.lifecycle import free_port
from candlecast.settings import Settings
from tests.fakes import fitting_bundle

CHECKS = [
    "versions", "triton_env", "settings", "state_dir", "disk", "grpc", "health", "http", "database", "clock", "schema",
    "journal", "model", "canary",
]  # fmt: skip


@pytest.fixture(autouse=True)
def nothing_runs(tmp_path, monkeypatch):
    """Settings of a machine on which nothing was ever started."""
    monkeypatch.chdir(tmp_path)
    for name in [name for name in os.environ if name.startswith("CANDLECAST_")] + ["DATABASE_URL"]:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("CANDLECAST_STATE_DIR", str(tmp_path / "state"))
    for door in ("GRPC", "HTTP"):
        monkeypatch.setenv(f"CANDLECAST_{door}", f"127.0.0.1:{free_port()}")


def doctor(capsys):
    """Return the exit code and the findings by check."""
    code = main(["doctor", "--json"])
    return code, {finding["check"]: finding for finding in json.loads(capsys.readouterr().out)}


def test_what_does_not_run_is_no_failure_and_all_checks_are_told_in_order(capsys):
    code, findings = doctor(capsys)
    assert code == 0
    assert list(findings) == CHECKS
    assert {f["status"] for f in findings.values()} == {"ok", "warn"}
    assert "is free" in findings["grpc"]["found"]


def test_each_finding_that_is_not_ok_has_one_line_of_advice(capsys):
    for finding in doctor(capsys)[1].values():
        assert bool(finding["advice"]) == (finding["status"] != "ok")
        assert "\n" not in finding["advice"]


@pytest.mark.parametrize("door", ["grpc", "http"])
def test_a_port_that_somebody_else_holds_is_a_failure(door, capsys, monkeypatch):
    monkeypatch.setattr("candlecast.cli.doctor_checks.DOOR_TIMEOUT_S", 0.3)
    with socket.create_server(("127.0.0.1", 0)) as taken:
        monkeypatch.setenv(f"CANDLECAST_{door.upper()}", f"127.0.0.1:{taken.getsockname()[1]}")
        code, findings = doctor(capsys)
    assert code == 1
    assert findings[door]["status"] == "fail"


def test_wrong_settings_are_78(monkeypatch, capsys):
    monkeypatch.setenv("CANDLECAST_MIN_CONFIDENCE", "7")
    assert main(["doctor", "--json"]) == 78
    said = capsys.readouterr()
    assert said.out == ""
    assert "min_confidence" in said.err


def test_a_database_that_is_away_is_a_failure_whose_password_is_not_told(monkeypatch, capsys, caplog):
    monkeypatch.setenv("DATABASE_URL", "postgresql://user:s3cretword@127.0.0.1:1/candles")
    for arguments in (["doctor"], ["doctor", "--json"]):
        assert main(arguments) == 1
        said = capsys.readouterr()
        assert "127.0.0.1:1/candles" in said.out
        assert "s3cretword" not in said.out + said.err + caplog.text


def test_an_embedded_database_that_was_stopped_is_no_failure(tmp_path, capsys):
    (tmp_path / "state").mkdir(mode=0o700)
    (tmp_path / "state" / "database_url").write_text("postgresql://candlecast@/candlecast?host=/nowhere\n")
    code, findings = doctor(capsys)
    assert code == 0
    assert findings["database"]["found"].startswith("stopped")


@pytest.mark.parametrize(("skew_s", "status"), [(0.0, "ok"), (1.9, "ok"), (-1.9, "ok"), (2.1, "fail"), (-2.1, "fail")])
def test_clocks_may_differ_by_two_seconds(skew_s, status):
    assert clock(skew_s).status == status


def test_a_state_directory_open_to_others_is_a_warning(tmp_path):
    settings = Settings(state_dir=tmp_path / "mine")
    settings.state_dir.mkdir(mode=0o700)
    assert state_dir(settings)[0].status is Status.OK
    settings.state_dir.chmod(0o755)
    assert state_dir(settings)[0].advice == f"chmod 700 {settings.state_dir}"


@pytest.mark.parametrize(("free_mib", "status"), [(3_000, "ok"), (2_000, "warn"), (255, "fail")])
def test_little_room_on_the_disk_is_told_before_there_is_none(tmp_path, monkeypatch, free_mib, status):
    monkeypatch.setattr(shutil, "disk_usage", lambda path: SimpleNamespace(free=free_mib * 1024**2))
    assert state_dir(Settings(state_dir=tmp_path))[1].status == status


def test_what_waits_in_the_journal_is_what_lies_behind_the_mark(tmp_path):
    (tmp_path / f"{1000:020d}.journal").write_bytes(bytes(500))
    (tmp_path / f"{1500:020d}.journal").write_bytes(bytes(200))
    (tmp_path / "lock").touch()
    assert look(tmp_path).waiting_bytes == 700
    for mark, waiting in ((1000, 700), (1300, 400), (1500, 200), (1700, 0)):
        (tmp_path / "mark").write_bytes(bytes(12) + struct.pack("<Q", mark))
        seen = look(tmp_path)
        assert (seen.segments, seen.size_bytes, seen.waiting_bytes) == (2, 700, waiting)
    os.utime(tmp_path / "mark", (0, time.time() - 90))
    assert 89 < look(tmp_path).stands_s < 100


def test_a_damaged_bundle_is_a_failure_that_says_what_to_do(tmp_path, monkeypatch, capsys):
    bundle = fitting_bundle(tmp_path / "models" / "patchtst" / "1")
    monkeypatch.setenv("CANDLECAST_MODEL_REPOSITORY", str(tmp_path / "models"))
    assert doctor(capsys)[1]["model"]["status"] == "ok"
    (bundle.path / "model.onnx").write_bytes(b"other")
    code, findings = doctor(capsys)
    assert code == 1
    assert findings["model"]["advice"] == "restore the bundle"
    assert findings["canary"]["status"] == "warn"


async def test_a_check_that_hangs_or_breaks_is_told_and_the_others_go_on(monkeypatch):
    async def hangs(settings):
        await asyncio.Event().wait()

    async def breaks(settings):
        raise RuntimeError("a bug")

    monkeypatch.setattr(doctor_parts, "model", hangs)
    monkeypatch.setattr(doctor_parts, "database", breaks)
    findings = {finding.check: finding for finding in await examine(configuration.load(), timeout_ms=3_000)}
    assert findings["model"].found == "no answer within 3 s"
    assert "a bug" in findings["database"].found
    assert findings["versions"].status is Status.OK


def test_its_help_says_what_the_exit_codes_mean(capsys):
    with pytest.raises(SystemExit):
        main(["doctor", "--help"])
    assert "1 something did" in " ".join(capsys.readouterr().out.split())
