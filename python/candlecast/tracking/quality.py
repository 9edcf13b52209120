"""What rules about outcomes read: how right the version that answers, and how profitable a strategy, was of late."""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Callable, Sequence
from types import TracebackType
from typing import Final, Self

from candlecast.alert_rules import ACCURACY, AlertRule
from candlecast.errors import CandlecastError
from candlecast.store import quality as store
from candlecast.store.pool import Pool, open_pool
from candlecast.values import Model

LOOK_S: Final = 300.0
"""Pause between two looks: outcomes come with candles."""
FIRST_S: Final = 20.0
"""From the start to the first look."""
TIMEOUT_S: Final = 30.0
"""Longest statement."""
STOP_TIMEOUT_S: Final = 2.0
log = logging.getLogger(__name__)


class QualityWatch:
    """Looks while it is entered, over a connection of its own.

    Args:
        rules: those of outcomes.
        model: returns the version that answers.
    """

    def __init__(self, database_url: str, rules: Sequence[AlertRule], model: Callable[[], Model]) -> None:
        self._database_url = database_url
        self._rules = rules
        self._model = model
        self._known = dict[str, float]()
        self._task: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        self._task = asyncio.create_task(self._run())
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._task is not None, "not entered"
        self._task.cancel()
        await asyncio.wait({self._task}, timeout=STOP_TIMEOUT_S)

    def value(self, rule: AlertRule) -> float | None:
        """Return the number of a rule; None while there are too few forecasts, or trades, or it was not looked at."""
        return self._known.get(rule.name)

    async def look(self, pool: Pool) -> None:
        """Look once.

        Raises:
            StorageUnavailable: what was known before stays.
        """
        model, known = self._model(), {}
        for rule in self._rules:
            if rule.metric in ACCURACY:
                count, found = await store.accuracy(pool, model.name, model.version, rule.horizon_bars, rule.days)
            else:
                count, found = await store.trades(pool, rule.strategy, rule.days)
            if count >= rule.count_min:
                known[rule.name] = found[rule.metric]
        self._known = known

    async def _run(self) -> None:
        pause_s = FIRST_S
        while self._rules:
            await asyncio.sleep(pause_s * random.uniform(0.9, 1.1))
            pause_s = LOOK_S
            try:
                timeout_ms = round(1000 * TIMEOUT_S)
                async with open_pool(self._database_url, connections_max=1, command_timeout_ms=timeout_ms) as pool:
                    await self.look(pool)
            except CandlecastError as error:
                log.warning("quality not looked at because=%s", error)
            except Exception:
                log.exception("a mistake of ours: quality is looked at again later")
