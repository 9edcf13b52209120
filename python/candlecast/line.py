"""The calls under way, oldest first: how long would one more take? Judged by answers given, not by what slows them."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from candlecast.work import Work

_MEMORY_S = 1.0
"""Of how far back a pace is judged, while there is always someone to answer."""
_EVIDENCE_ROWS = 16
"""Answered before a pace is spoken of."""
_MARGIN = 1.25
"""Refusals take time as well: whom a flood lets in has to wait longer than the pace before it says."""


@dataclass(slots=True)
class _Stander:
    since_s: float
    rows: int
    is_waiting: bool = True


class Line:
    """Works that wait for their answers; one leaves when it is answered, or waits for a model that is away.

    Args:
        clock: seconds, monotonic.
    """

    def __init__(self, clock: Callable[[], float] = time.perf_counter) -> None:
        self._clock = clock
        self._standers: deque[_Stander] = deque()  # all but the first may have left already
        self._rows = 0
        self._answered_rows = 0.0  # since then, while the line was never empty
        self._since_s: float | None = None
        self._pace_s, self._pace_at_s = 0.0, 0.0  # a row, and when that was seen last

    def join(self, work: Work) -> None:
        """Let a work stand last."""
        stander = _Stander(self._clock(), work.rows)
        self._standers.append(stander)
        self._rows += stander.rows
        for end in (work.done, work.trouble):
            end.add_done_callback(partial(self._left, stander))

    def expected_s(self, rows: int) -> float:
        """Return in how many seconds so many more rows would be answered; 0 while nobody waits.

        That is twice as long as the oldest has waited, or what the pace of late makes of the rows before it, whichever
        is longer: the first sees what stands still, the second a flood before it is late.
        """
        if not self._standers:
            return 0.0
        now = self._clock()
        pace_s: float = self._pace_s * 2.0 ** -((now - self._pace_at_s) / _MEMORY_S)
        return max(2 * (now - self._standers[0].since_s), _MARGIN * pace_s * (self._rows + rows))

    def _left(self, stander: _Stander, _: object) -> None:
        if not stander.is_waiting:
            return
        stander.is_waiting = False
        self._rows -= stander.rows
        while self._standers and not self._standers[0].is_waiting:
            self._standers.popleft()
        now = self._clock()
        if not self._standers:
            self._since_s, self._answered_rows = None, 0.0
        elif self._since_s is None:
            self._since_s = now  # the first answer says how long one takes, not how many come
        else:
            self._answered_rows += stander.rows
            elapsed_s = now - self._since_s
            if self._answered_rows >= _EVIDENCE_ROWS:
                self._pace_s, self._pace_at_s = elapsed_s / self._answered_rows, now
            if elapsed_s > _MEMORY_S:
                self._since_s, self._answered_rows = now - elapsed_s / 2, self._answered_rows / 2
