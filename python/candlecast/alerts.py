"""Messages to people: that something began, and that it ended. Knows webhooks and mail, not what is wrong.

A message is sent by a thread and tried again a bounded number of times, within about a minute; nobody waits for it.
Addresses hold tokens: they are never in a log line or an error.
"""

from __future__ import annotations

import asyncio
import json
import logging
import random
import smtplib
import time
import urllib.error
import urllib.request
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from email.message import EmailMessage
from types import TracebackType
from typing import Final, Literal, Protocol, Self

WAITING_MAX: Final = 100
"""Messages; further ones are dropped, and said in the log."""
ATTEMPTS_MAX: Final = 4
PAUSE_S: Final = 2.0
"""Before the second attempt; twice as long before each further one."""
TIMEOUT_S: Final = 10.0
"""Longest attempt."""
HOUR_S: Final = 3_600.0
EVALUATE_S: Final = 5.0
"""Pause between two looks at the rules."""
STOP_TIMEOUT_S: Final = 2.0
log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Alert:
    key: str  # what it is about; the end of something has the key of its begin
    text: str
    firing: bool  # False: it has ended

    def __str__(self) -> str:
        return f"{'FIRING' if self.firing else 'RESOLVED'} {self.text}"


class NotSent(Exception):
    """An attempt failed; says how, without an address."""

    def __init__(self, why: str, *, retryable: bool = True) -> None:
        super().__init__(why)
        self.retryable = retryable


class Channel(Protocol):
    name: str

    def send(self, alert: Alert) -> None:
        """Send one message; blocks.

        Raises:
            NotSent.
        """


class Webhook:
    """POSTs JSON as Slack's incoming webhooks want it, or as Telegram's sendMessage does.

    Args:
        url: where to; Telegram's is https://api.telegram.org/bot<token>/sendMessage.
        chat_id: of Telegram.
    """

    def __init__(self, url: str, shape: Literal["slack", "telegram"], chat_id: str = "") -> None:
        self.name: str = shape
        self._url, self._chat_id = url, chat_id

    def send(self, alert: Alert) -> None:
        """See Channel."""
        said = {"text": str(alert)} | ({"chat_id": self._chat_id} if self.name == "telegram" else {})
        try:
            request = urllib.request.Request(
                self._url, json.dumps(said).encode(), {"Content-Type": "application/json"}, method="POST"
            )
            with urllib.request.urlopen(request, timeout=TIMEOUT_S):
                pass
        except urllib.error.HTTPError as error:
            error.close()
            raise NotSent(f"HTTP {error.code}", retryable=error.code == 429 or error.code >= 500) from None
        except Exception as error:  # the texts of several hold the address
            raise NotSent(type(error).__name__) from None


class Mail:
    """Sends by an SMTP server that takes messages from this machine.

    Args:
        server: HOST:PORT.
    """

    name = "mail"

    def __init__(self, server: str, sender: str, to: str) -> None:
        self._host, _, port = server.rpartition(":")
        self._port, self._sender, self._to = int(port), sender, to

    def send(self, alert: Alert) -> None:
        """See Channel."""
        message = EmailMessage()
        message["From"], message["To"] = self._sender, self._to
        message["Subject"] = f"candlecast: {'FIRING' if alert.firing else 'RESOLVED'} {alert.key}"
        message.set_content(alert.text)
        try:
            with smtplib.SMTP(self._host, self._port, timeout=TIMEOUT_S) as server:
                server.send_message(message)
        except (OSError, smtplib.SMTPException) as error:
            raise NotSent(type(error).__name__) from None


@dataclass(slots=True)
class Rule:
    """A number that should not stand above a limit for long."""

    key: str
    text: str  # with {value} where the number stands
    limit: float
    for_s: float
    read: Callable[[], float | None]  # None: not known now, which changes nothing
    above_since: float | None = None  # by the monotonic clock


class Alerter:
    """Sends while it is entered; looks at rules meanwhile.

    What goes on is told once, and its end only after its begin.

    Args:
        per_hour_max: begins in an hour; what begins meanwhile is not told, nor is its end.
    """

    def __init__(self, channels: Sequence[Channel], *, per_hour_max: int, rules: Sequence[Rule] = ()) -> None:
        self._channels = channels
        self._per_hour_max = per_hour_max
        self.rules = list(rules)
        self._firing = set[str]()
        self._begun = deque[float]()  # of the last hour, by the monotonic clock
        self._waiting: asyncio.Queue[tuple[Channel, Alert]] = asyncio.Queue(WAITING_MAX * max(len(channels), 1))
        self._tasks: list[asyncio.Task[None]] = []
        self.sent = self.failed = self.dropped = 0
        """Messages, since the start."""

    async def __aenter__(self) -> Self:
        self._tasks = [asyncio.create_task(run()) for run in (self._send_all, self._watch)]
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.wait(self._tasks, timeout=STOP_TIMEOUT_S)

    def tell(self, alert: Alert, *, begun_before: bool = False) -> None:
        """Take a message to be sent.

        Args:
            begun_before: of an end: its begin was told, though perhaps before the last start.
        """
        if alert.firing == (alert.key in self._firing) and not (begun_before and not alert.firing):
            return
        now = time.monotonic()
        if alert.firing:
            while self._begun and self._begun[0] < now - HOUR_S:
                self._begun.popleft()
            if len(self._begun) >= self._per_hour_max:
                self.dropped += 1
                log.warning("alert not sent because=too_many_in_an_hour alert=%s", alert.key)
                return
            self._begun.append(now)
            self._firing.add(alert.key)
        else:
            self._firing.discard(alert.key)
        log.warning("alert %s", alert)
        for channel in self._channels:
            try:
                self._waiting.put_nowait((channel, alert))
            except asyncio.QueueFull:
                self.dropped += 1
                log.warning("alert not sent because=too_many_wait alert=%s", alert.key)

    def evaluate(self, now: float) -> None:
        """Look at the rules once.

        Args:
            now: by the monotonic clock.
        """
        for rule in self.rules:
            value = rule.read()
            if value is None:
                continue
            if value <= rule.limit:
                rule.above_since = None
                self.tell(Alert(rule.key, rule.text.format(value=value), False))
                continue
            rule.above_since = now if rule.above_since is None else rule.above_since
            if now - rule.above_since >= rule.for_s:
                self.tell(Alert(rule.key, rule.text.format(value=value), True))

    async def sent_all(self) -> None:
        """Return once nothing waits."""
        await self._waiting.join()

    async def _watch(self) -> None:
        while True:
            try:
                self.evaluate(time.monotonic())
            except Exception:
                log.exception("a mistake of ours: a rule could not be read")
            await asyncio.sleep(EVALUATE_S)

    async def _send_all(self) -> None:
        while True:
            channel, alert = await self._waiting.get()
            try:
                await self._send(channel, alert)
            finally:
                self._waiting.task_done()

    async def _send(self, channel: Channel, alert: Alert) -> None:
        for attempt in range(ATTEMPTS_MAX):
            try:
                await asyncio.to_thread(channel.send, alert)
            except NotSent as error:
                last = attempt == ATTEMPTS_MAX - 1 or not error.retryable
                log.warning("alert not sent channel=%s alert=%s attempt=%d because=%s", channel.name, alert.key,
                            attempt + 1, error)  # fmt: skip
                if last:
                    self.failed += 1
                    return
                await asyncio.sleep(PAUSE_S * 2**attempt * random.uniform(0.5, 1.0))
            else:
                self.sent += 1
                return
