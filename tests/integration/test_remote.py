"""Bundles in an object store: a server that speaks S3 (moto, in a process of its own), and one of plain HTTP."""

from __future__ import annotations

import asyncio
import http.server
import json
import os
import socketserver
import subprocess
import sys
import threading
import time
import uuid

import httpx
import pytest

from candlecast import cli, models_client
from candlecast.errors import (
    BundleError,
    ConfigurationError,
    DeadlineExceeded,
    ModelRefused,
    Refusal,
    Unavailable,
)
from candlecast.models import ensemble, remote
from candlecast.models.bundle import Bundle
from candlecast.models.ensemble import Ensemble
from candlecast.models.remote import Remote
from candlecast.server.champion import served
from candlecast.server.source import synced
from candlecast.settings import CHECKOUT, load
from candlecast.v1 import models_pb2 as pb
from tests import gates
from tests.bundles import walked
from tests.fakes import fitting_bundle
from tests.stack import free_port

SIGNED = {
    "Authorization": "AWS4-HMAC-SHA256 Credential=of-a-test/20260101/us-east-1/s3/aws4_request, SignedHeaders=host,"
    " Signature=0"
}
"""Moto wants a signature, and does not look whether it is right."""
S3_PYTHON = CHECKOUT / ".venv-s3" / "bin" / "python"


@pytest.fixture(scope="module")
def s3():
    """Run a server that speaks S3; yield its address."""
    port = free_port()
    command = [S3_PYTHON, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        try:
            deadline = time.monotonic() + 90
            while True:
                try:
                    httpx.get(f"http://127.0.0.1:{port}/", timeout=30)  # it takes its time over the first
                    break
                except httpx.HTTPError:
                    assert process.poll() is None and time.monotonic() < deadline, "moto did not start: make setup-dev"
                    time.sleep(0.05)
            yield f"http://127.0.0.1:{port}"
        finally:
            process.terminate()


class Bucket:
    """A bucket of one test, written by plain PUTs."""

    def __init__(self, address):
        self.name = f"models-{uuid.uuid4().hex[:12]}"
        self._client = httpx.Client(base_url=address, headers=SIGNED, timeout=30)
        assert self._client.put(f"/{self.name}").status_code == 200

    def url(self, path=""):
        return f"s3://{self.name}/{path}".rstrip("/")

    def put(self, path, content):
        assert self._client.put(f"/{self.name}/{path}", content=content).status_code == 200

    def delete(self, path):
        assert self._client.delete(f"/{self.name}/{path}").status_code == 204

    def put_folder(self, folder, path):
        for file in folder.rglob("*"):
            if file.is_file():
                self.put(f"{path}/{file.relative_to(folder)}", file.read_bytes())


@pytest.fixture
def bucket(s3, monkeypatch):
    for name, value in {
        "AWS_ENDPOINT_URL": s3, "AWS_ALLOW_HTTP": "true", "AWS_REGION": "us-east-1",
        "AWS_ACCESS_KEY_ID": "of-a-test", "AWS_SECRET_ACCESS_KEY": "of-a-test",
    }.items():  # fmt: skip
        monkeypatch.setenv(name, value)
    return Bucket(s3)


def place(url, *, bytes_max=10**9, timeout_s=20.0, said=None):
    return Remote(url, bytes_max=bytes_max, timeout_s=timeout_s, say=(said if said is not None else []).append)


def files_of(folder):
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


async def test_a_bundle_comes_whole_again_and_again_and_says_how_far_it_is(bucket, tmp_path):
    made = fitting_bundle(tmp_path / "made", onnx=os.urandom(3_000_000))
    bucket.put_folder(made.path, "a/patchtst/1")
    said = []
    for _ in range(2):
        found = await place(bucket.url("a/patchtst/1"), said=said).bring(tmp_path / "here" / "1")
        assert files_of(found) == files_of(made.path)
    assert Bundle.load(found).sha256 == made.sha256
    assert said[-1].startswith(f"{bucket.url('a/patchtst/1')}: ")
    assert [path.name for path in (tmp_path / "here").iterdir()] == ["1"]


@pytest.mark.parametrize("layout", ["in its folder", "in the same repository"])
async def test_an_ensemble_comes_with_its_members(bucket, tmp_path, layout):
    made = an_ensemble(tmp_path / "made")
    if layout == "in its folder":
        bucket.put_folder(made.path, "ensemble/1")
        for member in made.members:
            bucket.put_folder(member.path, f"ensemble/1/{member.manifest.name}/1")
    else:
        bucket.put_folder(tmp_path / "made", "deep/models")
    url = bucket.url("ensemble/1" if layout == "in its folder" else "deep/models/ensemble/1")
    found = Ensemble.load(await place(url).bring(tmp_path / "here"))
    assert found.sha256 == made.sha256
    assert {one.path.parents[1] for one in found.members} == {tmp_path / "here"}


def an_ensemble(root, version=1):
    members = [
        fitting_bundle(root / name / "1", name=name, metrics=walked(loss))
        for name, loss in (("patchtst", 1.0), ("lstm", 1.05))
    ]
    return ensemble.write(root / "ensemble" / str(version), ensemble.weigh(members, version))


def damaged(bucket, folder):
    bucket.put("1/model.onnx", b"other")


def incomplete(bucket, folder):
    bucket.delete("1/golden_inputs.npy")


def climbing(bucket, folder):
    manifest = json.loads((folder / "manifest.json").read_text())
    manifest["files"]["../../evil"] = "0" * 64
    bucket.put("1/manifest.json", json.dumps(manifest).encode())


def no_json(bucket, folder):
    bucket.put("1/manifest.json", b"[" * 100_000)


def no_bundle(bucket, folder):
    bucket.delete("1/manifest.json")


@pytest.mark.parametrize(
    ("harm", "error", "words"),
    [
        (damaged, BundleError, "model.onnx is not the file its manifest names"),
        (incomplete, BundleError, "lacks golden_inputs.npy"),
        (climbing, BundleError, "'../../evil', which is no file of a bundle"),
        (no_json, BundleError, "manifest.json is damaged"),
        (no_bundle, ConfigurationError, "has no manifest.json"),
    ],
)
async def test_what_does_not_hold_leaves_what_was_there(bucket, tmp_path, harm, error, words):
    made = fitting_bundle(tmp_path / "made")
    bucket.put_folder(made.path, "1")
    here = await place(bucket.url("1")).bring(tmp_path / "here" / "1")
    harm(bucket, made.path)
    with pytest.raises(error, match=words.replace("[", r"\[")):
        await place(bucket.url("1")).bring(here)
    assert files_of(here) == files_of(made.path)
    assert [path.name for path in (tmp_path / "here").iterdir()] == ["1"]
    assert not (tmp_path.parent / "evil").exists()


async def test_a_member_that_is_another_bundle_than_was_weighed_is_refused(bucket, tmp_path):
    an_ensemble(tmp_path / "made")
    fitting_bundle(tmp_path / "made" / "lstm" / "1", name="lstm", onnx=b"trained again")
    bucket.put_folder(tmp_path / "made", "models")
    with pytest.raises(BundleError, match="is not the member that") as refused:
        await place(bucket.url("models/ensemble/1")).bring(tmp_path / "here")
    assert refused.value.refusal is Refusal.SHA256_MISMATCH
    assert not (tmp_path / "here").exists()


async def test_no_more_comes_than_may(bucket, tmp_path):
    made = fitting_bundle(tmp_path / "made", onnx=b"x" * 2_000_000)
    bucket.put_folder(made.path, "1")
    size = sum(map(len, files_of(made.path).values()))
    await place(bucket.url("1"), bytes_max=size).bring(tmp_path / "here")
    with pytest.raises(ModelRefused, match="TOO_LARGE"):
        await place(bucket.url("1"), bytes_max=size - 1).bring(tmp_path / "not")
    assert not (tmp_path / "not").exists()


class Store(socketserver.ThreadingMixIn, http.server.HTTPServer):
    """A store of plain HTTP over a folder; it may stand still after some bytes, or lie about sizes."""

    daemon_threads = True

    def __init__(self, folder):
        self.folder, self.stall_after, self.stalls = folder, None, threading.Event()
        self.ended = threading.Event()
        super().__init__(("127.0.0.1", 0), Handler)

    @property
    def url(self):
        return f"http://127.0.0.1:{self.server_address[1]}"


class Handler(http.server.BaseHTTPRequestHandler):
    def do_HEAD(self):
        self.do_GET()

    def do_GET(self):
        file = self.server.folder / self.path.lstrip("/")
        if not file.is_file():
            self.send_error(404)
            return
        content = file.read_bytes()
        self.send_response(200)
        self.send_header("Content-Length", str(len(content)))
        self.send_header("Last-Modified", "Sun, 01 Nov 2026 00:00:00 GMT")
        self.end_headers()
        if self.server.stall_after is not None and file.name == "model.onnx":
            self.wfile.write(content[: self.server.stall_after])
            self.server.stalls.set()
            self.server.ended.wait(20)
        elif self.command == "GET":
            self.wfile.write(content)

    def log_message(self, *_):
        pass


@pytest.fixture
def store(tmp_path):
    with Store(tmp_path / "stored") as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        yield server
        server.ended.set()
        server.shutdown()
        thread.join()


async def test_plain_http_gives_a_bundle_but_no_listing(store, tmp_path):
    made = fitting_bundle(tmp_path / "stored" / "patchtst" / "1")
    found = await place(f"{store.url}/patchtst/1").bring(tmp_path / "here")
    assert files_of(found) == files_of(made.path)
    with pytest.raises(ConfigurationError, match="http has no listing"):
        await place(store.url).versions("patchtst")


@pytest.mark.parametrize("how", ["time", "cancelled"])
async def test_a_store_that_stands_still_is_left_in_time_and_what_was_there_stays(store, tmp_path, how):
    fitting_bundle(tmp_path / "stored" / "1", onnx=b"x" * 3_000_000)
    here = await place(f"{store.url}/1").bring(tmp_path / "kept" / "1")
    before = files_of(here)
    fitting_bundle(tmp_path / "stored" / "1", onnx=b"y" * 3_000_000)
    store.stall_after = 1_500_000
    sync = place(f"{store.url}/1", timeout_s=1.0 if how == "time" else 20.0).bring(here)
    if how == "time":
        with pytest.raises(DeadlineExceeded, match="did not come within 1 s"):
            await sync
    else:
        task = asyncio.create_task(sync)
        await asyncio.to_thread(store.stalls.wait, 10)
        task.cancel()
        assert isinstance((await asyncio.gather(task, return_exceptions=True))[0], asyncio.CancelledError)
    assert files_of(here) == before
    assert [path.name for path in (tmp_path / "kept").iterdir()] == ["1"]
    store.stall_after = None
    await place(f"{store.url}/1").bring(here)
    assert files_of(here) == files_of(tmp_path / "stored" / "1")


async def test_what_a_killed_sync_left_is_removed_once_it_is_old(bucket, tmp_path):
    bucket.put_folder(fitting_bundle(tmp_path / "made").path, "1")
    for name, age_s in (("old", 2 * remote.SCRATCH_KEPT_S), ("new", 0)):
        left = tmp_path / "here" / f"{remote.SCRATCH}{name}"
        (left / "new").mkdir(parents=True)
        os.utime(left, (time.time() - age_s,) * 2)
    await place(bucket.url("1")).bring(tmp_path / "here" / "1")
    assert {path.name for path in (tmp_path / "here").iterdir()} == {"1", f"{remote.SCRATCH}new"}


async def test_who_may_not_read_is_told_so_and_where_that_is_said(monkeypatch, bucket, tmp_path):
    bucket.put_folder(fitting_bundle(tmp_path / "made").path, "1")
    monkeypatch.setenv("AWS_SKIP_SIGNATURE", "true")
    with pytest.raises(ConfigurationError, match=r"may not be read: .*AWS_ACCESS_KEY_ID"):
        await place(bucket.url("1")).bring(tmp_path / "here")


async def test_a_store_that_is_not_there_is_unavailable(monkeypatch, bucket, tmp_path):
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{free_port()}")
    monkeypatch.setattr(remote, "RETRIES_MAX", 0)
    with pytest.raises(Unavailable, match="s3://"):
        await place(bucket.url("1"), timeout_s=5).bring(tmp_path / "here")


@pytest.mark.parametrize(
    "url", ["ftp://host/x", "s3://", "https://user:secret@host/x", "https://host/x?sig=secret", "http://example.com/x", "s3://b/../x"]
)  # fmt: skip
def test_a_url_that_is_none_says_what_is_expected_and_no_secret(url):
    with pytest.raises(ConfigurationError, match=r"expected|use https") as refused:
        place(url)
    assert "secret" not in str(refused.value)


def test_without_the_library_the_error_says_how_to_install_it(monkeypatch):
    for name in ("obstore", "obstore.store", "obstore.exceptions"):
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(ConfigurationError, match="make remote-env"):
        place("s3://bucket/1")


def test_the_command_pushes_what_lies_at_a_url(bucket, tmp_path, monkeypatch, capsys):
    made = fitting_bundle(tmp_path / "made", version=7)
    bucket.put_folder(made.path, "patchtst/7")
    pushed = []

    def push(self, folder, why):
        pushed.append(Bundle.load(folder).sha256)
        return pb.Model(name="patchtst", version=7, bundle_sha256=pushed[0])

    monkeypatch.setattr(models_client.ModelsClient, "push", push)
    monkeypatch.setenv("CANDLECAST_ADMIN_TOKEN", "token")
    assert cli.main(["models", "push", bucket.url("patchtst/7"), "--json", "--state-dir", str(tmp_path)]) == 0
    assert pushed == [made.sha256]
    out, err = capsys.readouterr()
    assert json.loads(out)[0]["version"] == 7
    assert f"{bucket.url('patchtst/7')}: " in err


def settings_of(bucket, tmp_path, **more):
    return load(model_repository=bucket.url("models"), state_dir=tmp_path / "state", **more)


def test_a_repository_that_is_a_url_is_a_folder_of_ours(bucket, tmp_path):
    settings = settings_of(bucket, tmp_path)
    assert settings.model_source == bucket.url("models")
    assert settings.model_repository == tmp_path / "state" / "repository"


@pytest.mark.parametrize("kind", ["patchtst", "ensemble"])
async def test_the_newest_version_comes_first_and_what_is_newer_later_goes_the_way_of_what_is_dropped(
    bucket, tmp_path, kind, monkeypatch
):
    made = tmp_path / "made"
    if kind == "patchtst":
        fitting_bundle(made / "patchtst" / "1")
        fitting_bundle(made / "patchtst" / "10", version=10)
    else:
        an_ensemble(made, 9)
        an_ensemble(made, 10)
    gates.write(made / "gate", version=1)
    bucket.put_folder(made, "models")
    said: list[str] = []
    settings = settings_of(bucket, tmp_path, model=kind)
    await synced(settings, said.append)
    first = served(settings)
    assert first.manifest.version == 10
    assert first.path == tmp_path / "state" / "repository" / kind / "10"
    for model in ("gate", *(["patchtst"] if kind == "patchtst" else ["patchtst", "lstm"])):
        assert (settings.model_repository / model / "config.pbtxt").is_file()

    before = files_of(tmp_path / "state")
    await synced(settings, said.append)
    assert files_of(tmp_path / "state") == before, "nothing newer, nothing done"

    if kind == "patchtst":
        fitting_bundle(made / "patchtst" / "11", version=11)
    else:
        an_ensemble(made, 11)
    gates.write(made / "gate", version=2)
    bucket.put_folder(made, "models")
    await synced(settings, said.append)
    incoming = tmp_path / "state" / "incoming"
    assert ensemble.load(incoming / f"{kind}-11").manifest.version == 11
    assert (incoming / "gate-2" / "manifest.json").is_file()
    assert served(settings).manifest.version == 10, "what is newer is tried first"

    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{free_port()}")
    monkeypatch.setattr(remote, "RETRIES_MAX", 0)
    await synced(settings, said.append)  # the store is away, what is here goes on
    assert "what is here goes on" in said[-1]
    with pytest.raises(Unavailable):
        await synced(settings_of(bucket, tmp_path / "other", model=kind), said.append)


async def test_a_repository_without_the_model_says_so(bucket, tmp_path):
    with pytest.raises(ConfigurationError, match="holds no version of patchtst"):
        await synced(settings_of(bucket, tmp_path), print)
    fitting_bundle(tmp_path / "made", version=3)
    bucket.put_folder(tmp_path / "made", "models/patchtst/4")
    with pytest.raises(BundleError, match="is patchtst version 3"):
        await synced(settings_of(bucket, tmp_path), print)
    assert not list((tmp_path / "state").rglob("model.onnx"))
