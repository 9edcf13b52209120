"""Messages to people: that something began, and that it ended. Knows webhooks and mail, not what is wrong.

A message is sent by a thread and tried again a bounded number of times, within about a minute; nobody waits for it.
Addresses hold tokens: they are never in a log line or an error.
"""

from __future__ import annotations

import asyncio
import json
import logging
import math
import random
import smtplib
import time
import urllib.error
import urllib.request
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from email.message import EmailMessage
from pathlib import Path
from types import TracebackType
from typing import Final, Literal, Protocol, Self

from candlecast.alert_file import Alert, AlertFile, Begun, State
from candlecast.alert_rules import AlertRule

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
    """A rule of the settings, and where its number is read."""

    of: AlertRule
    read: Callable[[], float | None]  # None: not known now, which changes nothing
    value: float | None = None  # what was read last
    beyond_since: float | None = None  # by the monotonic clock
    was_unreadable: bool = False


class Alerter:
    """Sends while it is entered; looks at rules meanwhile.

    What goes on is told once, and its end only after its begin, over restarts too: what rules have told to have begun,
    and what is not sent yet, is in a file.

    Args:
        per_hour_max: begins in an hour; what begins meanwhile is told when there is room, if it lasts.
        state: the file.
    """

    def __init__(
        self,
        channels: Sequence[Channel],
        *,
        per_hour_max: int,
        rules: Sequence[Rule] = (),
        state: Path | None = None,
    ) -> None:
        self._channels = channels
        self._per_hour_max = per_hour_max
        self.rules = list(rules)
        self._kept = AlertFile(state) if state else None
        self._keeping = asyncio.Lock()
        self._firing: dict[str, Begun] = {}
        self._kept_back = set[str]()  # begun, and not told
        self._begun = deque[float]()  # in the last hour, since 1970
        self._unsent = dict[Alert, int]()  # channels that have not had it
        self._waiting: asyncio.Queue[tuple[Channel, Alert]] = asyncio.Queue(WAITING_MAX * max(len(channels), 1))
        self._tasks: list[asyncio.Task[None]] = []
        self.sent = self.failed = self.dropped = 0
        """Messages, since the start."""

    async def __aenter__(self) -> Self:
        if self._kept is not None:
            self._go_on(await asyncio.to_thread(self._kept.read))
        self._tasks = [asyncio.create_task(run()) for run in (self._send_all, self._watch)]
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.wait(self._tasks, timeout=STOP_TIMEOUT_S)
        await self._keep()

    def tell(self, alert: Alert, *, begun_before: bool = False) -> None:
        """Take a message to be sent.

        Args:
            begun_before: whoever tells it keeps account over restarts: an end is sent without a begin since the start.
        """
        if alert.firing == (alert.key in self._firing) and not (begun_before and not alert.firing):
            return
        now = time.time()
        if alert.firing:
            while self._begun and not now - HOUR_S < self._begun[0] <= now:
                self._begun.popleft()
            if len(self._begun) >= self._per_hour_max:
                if alert.key not in self._kept_back:
                    self._kept_back.add(alert.key)
                    self.dropped += 1
                    log.warning("alert not sent because=too_many_in_an_hour alert=%s", alert.key)
                return
            self._begun.append(now)
            self._firing[alert.key] = Begun(alert.text, alert.severity, now)
        else:
            self._firing.pop(alert.key, None)
        self._kept_back.discard(alert.key)
        log.warning("alert %s", alert)
        self._send_later(alert)

    def firing(self) -> dict[tuple[str, ...], float]:
        """Return by name and severity of each rule 1 while it fires and 0 while it does not."""
        return {(rule.of.name, rule.of.severity): float(rule.of.name in self._firing) for rule in self.rules}

    def values(self) -> dict[tuple[str, ...], float]:
        """Return the number of each rule that is known, by its name."""
        return {(rule.of.name,): rule.value for rule in self.rules if rule.value is not None}

    def evaluate(self, now: float) -> None:
        """Look at the rules once.

        Args:
            now: by the monotonic clock.
        """
        for rule in self.rules:
            value, of = self._read(rule), rule.of
            if value is None:
                continue
            rule.value = value
            if of.is_clear(value):
                rule.beyond_since = None
                self._kept_back.discard(of.name)
                self.tell(Alert(of.name, of.told(value), False, of.severity))
            elif not of.is_beyond(value):
                rule.beyond_since = None
            else:
                rule.beyond_since = now if rule.beyond_since is None else rule.beyond_since
                if now - rule.beyond_since >= of.for_s:
                    self.tell(Alert(of.name, of.told(value), True, of.severity))

    def _read(self, rule: Rule) -> float | None:
        try:
            value = rule.read()
        except Exception:
            if not rule.was_unreadable:
                log.exception("a mistake of ours: rule=%s cannot be read", rule.of.name)
            rule.was_unreadable = True
            return None
        return None if value is None or math.isnan(value) else value

    def _send_later(self, alert: Alert) -> None:
        for channel in self._channels:
            try:
                self._waiting.put_nowait((channel, alert))
                self._unsent[alert] = self._unsent.get(alert, 0) + 1
            except asyncio.QueueFull:
                self.dropped += 1
                log.warning("alert not sent because=too_many_wait alert=%s", alert.key)

    def _go_on(self, before: State) -> None:
        """Take up what was kept: send what was not, and end what no rule watches any more."""
        self._begun.extend(before.begun)
        for alert in before.unsent:
            self._send_later(alert)
        self._firing = dict(before.firing)
        for name in set(before.firing) - {rule.of.name for rule in self.rules}:
            one = before.firing[name]
            self.tell(Alert(name, f"{one.text} (no rule watches it any more)", False, one.severity))

    async def _keep(self) -> None:
        """Write what a restart goes on from, if it has changed."""
        if self._kept is None:
            return
        async with self._keeping:
            names = {rule.of.name for rule in self.rules}
            firing = {key: one for key, one in self._firing.items() if key in names}
            await asyncio.to_thread(self._kept.write, State(firing, tuple(self._unsent), tuple(self._begun)))

    async def sent_all(self) -> None:
        """Return once nothing waits."""
        await self._waiting.join()

    async def _watch(self) -> None:
        while True:
            self.evaluate(time.monotonic())
            await self._keep()
            await asyncio.sleep(EVALUATE_S)

    async def _send_all(self) -> None:
        while True:
            channel, alert = await self._waiting.get()
            try:
                await self._keep()  # first: after a kill it is known to be told, or sent again
                await self._send(channel, alert)
                self._unsent[alert] -= 1
                if not self._unsent[alert]:
                    del self._unsent[alert]
                    await self._keep()
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
