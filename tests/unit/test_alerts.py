"""Alerts at a receiver on this machine: shapes, retries, limits, and that no address is ever said."""

import asyncio
import http.server
import json
import logging
import socketserver
import threading

import pytest

from candlecast import alerts
from candlecast import settings as configuration
from candlecast.alert_file import Alert
from candlecast.alerts import Alerter, Mail, Webhook
from candlecast.errors import ConfigurationError
from candlecast.server.alerting import channels_of

SECRET = "T0K3N"
BEGUN, ENDED = Alert("journal", "the journal is 80% full", True), Alert("journal", "the journal is 10% full", False)

OTHER = Alert("drain", "PostgreSQL is 400 s behind", True)


class Receiver:
    """Takes posts and answers with the codes it is given, 200 after them."""

    def __init__(self, codes=()):
        self.codes, self.bodies = list(codes), []
        receiver = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_POST(self):
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                receiver.bodies.append(body)
                self.send_response(receiver.codes.pop(0) if receiver.codes else 200)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, *_):
                pass

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}/{SECRET}"

    def __enter__(self):
        threading.Thread(target=self.server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
        return self

    def __exit__(self, *_):
        self.server.shutdown()
        self.server.server_close()


@pytest.fixture(autouse=True)
def quick(monkeypatch, caplog):
    monkeypatch.setattr(alerts, "PAUSE_S", 0.01)
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    caplog.set_level(logging.DEBUG)
    yield
    assert SECRET not in caplog.text


async def sent(told, *channels, per_hour_max=20):
    async with asyncio.timeout(20), Alerter(channels, per_hour_max=per_hour_max) as alerter:
        for alert in told:
            alerter.tell(alert)
        await alerter.sent_all()
    return alerter


async def test_slack_and_telegram_get_their_shapes_and_what_ended_is_said_to_have():
    with Receiver() as slack, Receiver() as telegram:
        done = await sent([BEGUN, ENDED], Webhook(slack.url, "slack"), Webhook(telegram.url, "telegram", "-100"))
    texts = ["FIRING (warning) the journal is 80% full", "RESOLVED the journal is 10% full"]
    assert slack.bodies == [{"text": text} for text in texts]
    assert telegram.bodies == [{"text": text, "chat_id": "-100"} for text in texts]
    assert (done.sent, done.failed, done.dropped) == (4, 0, 0)


async def test_what_goes_on_is_told_once_and_an_end_only_after_its_begin():
    with Receiver() as receiver:
        await sent([ENDED, BEGUN, BEGUN, ENDED, ENDED], Webhook(receiver.url, "slack"))
    assert [body["text"].split()[0] for body in receiver.bodies] == ["FIRING", "RESOLVED"]


@pytest.mark.parametrize(
    ("codes", "posts", "failed"), [([503, 429], 3, 0), ([500] * 9, 4, 1), ([404], 1, 1)], ids=["again", "up", "no"]
)
async def test_attempts_are_repeated_where_that_may_help_and_bounded(codes, posts, failed, caplog):
    with Receiver(codes) as receiver:
        done = await sent([BEGUN], Webhook(receiver.url, "slack"))
    assert (len(receiver.bodies), done.failed, done.sent) == (posts, failed, 1 - failed)
    assert f"because=HTTP {codes[0]}" in caplog.text


async def test_a_receiver_that_is_not_there_and_a_wrong_address_are_failures_without_the_address(caplog):
    for url in (f"http://127.0.0.1:1/{SECRET}", f"nonsense://{SECRET}", f"http://{SECRET}\n/"):
        assert (await sent([BEGUN], Webhook(url, "slack"))).failed == 1
    assert "because=URLError" in caplog.text


async def test_no_more_begins_in_an_hour_than_allowed_and_their_ends_are_not_told_either():
    told = [Alert(f"a{i}", "x", True) for i in range(5)] + [Alert(f"a{i}", "x", False) for i in range(5)]
    with Receiver() as receiver:
        done = await sent(told, Webhook(receiver.url, "slack"), per_hour_max=2)
    assert [body["text"].split()[0] for body in receiver.bodies] == ["FIRING"] * 2 + ["RESOLVED"] * 2
    assert done.dropped == 3


async def test_mail_says_what_and_about_what():
    received = []

    class Smtp(socketserver.StreamRequestHandler):
        def handle(self):
            self.wfile.write(b"220 here\r\n")
            while line := self.rfile.readline():
                word = line[:4].upper()
                if word == b"DATA":
                    self.wfile.write(b"354 go on\r\n")
                    while (text := self.rfile.readline()) != b".\r\n":
                        received.append(text.decode().strip())
                self.wfile.write(b"221 bye\r\n" if word == b"QUIT" else b"250 ok\r\n")

    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), Smtp) as server:
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
        done = await sent([BEGUN], Mail(f"127.0.0.1:{server.server_address[1]}", "us@here", "you@there"))
        server.shutdown()
    assert done.sent == 1
    assert "Subject: candlecast: FIRING journal" in received and "the journal is 80% full" in received


async def test_what_was_kept_back_for_the_hour_is_counted_once_and_told_when_there_is_room(monkeypatch):
    clock = [1_000_000.0]
    monkeypatch.setattr(alerts.time, "time", lambda: clock[0])
    async with asyncio.timeout(20), Alerter([], per_hour_max=1) as alerter:
        for _ in range(3):
            alerter.tell(BEGUN)
            alerter.tell(OTHER)
        assert (set(alerter._firing), alerter.dropped) == ({"journal"}, 1)
        clock[0] += 3_601
        alerter.tell(OTHER)
        assert set(alerter._firing) == {"journal", "drain"}


def test_settings_name_channels_and_say_what_is_missing_without_the_address(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    loaded = configuration.load(alert_webhook_url=f"https://hooks.example/{SECRET}", alert_webhook_shape="telegram")
    assert SECRET not in repr(loaded)
    with pytest.raises(ConfigurationError, match="alert_telegram_chat_id"):
        channels_of(loaded)
    with pytest.raises(ConfigurationError, match="expected https") as wrong:
        configuration.load(alert_webhook_url=f"hooks.example/{SECRET}")
    assert SECRET not in str(wrong.value)
    both = configuration.load(
        alert_webhook_url="https://x/y", alert_mail_server="127.0.0.1:25", alert_mail_to="you@there"
    )
    assert [channel.name for channel in channels_of(both)] == ["slack", "mail"]
