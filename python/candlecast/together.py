"""Works that wait, to go on as one group. Knows neither who asks nor what becomes of a group."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping

from candlecast.work import Group, Work


class Together:
    """Works of one kind in the order in which they came: of candles, or asks.

    Args:
        rows_max: of one group; of asks those that are distinct.
        left: is given those whose callers left before their turn.
    """

    def __init__(self, rows_max: int, left: Callable[[Work], object]) -> None:
        self._rows_max, self._left = rows_max, left
        self._works = deque[Work]()
        self.rows = 0

    def __len__(self) -> int:
        return len(self._works)

    def add(self, work: Work) -> None:
        """Let a work wait."""
        self._works.append(work)
        self.rows += work.rows

    def is_worth_it(self, unanswered: Mapping[Group, int]) -> bool:
        """Say whether what waits may go: at once if nothing is under way, beside others once it is as many as they are.

        Else the first of those who were just answered would go alone, and the others behind them in crumbs, each of
        which costs the machine what a large group does. A group waits for no model that is away, for no disk that its
        own callers would not wait for, and never for PostgreSQL.
        """
        first = self._works[0]
        alike = (rows for group, rows in unanswered.items() if first.goes_the_way_of(group.works[0]))
        return self.rows >= max(alike, default=0)

    def take(self) -> list[Work]:
        """Take from those that wait as many as go together: their answers wait for the disk, or none does."""
        works, rows, names = list[Work](), 0, set[str]()
        while self._works:
            following = self._works[0]
            if not following.was_left:
                wanted = set(following.ask.names) - names if following.ask else ()
                rows += len(wanted) if following.ask else following.rows
                if works and not (rows <= self._rows_max and following.goes_with(works[0])):
                    break
                names.update(wanted)
                works.append(following)
            self._works.popleft()
            self.rows -= following.rows
            if following.was_left:
                self._left(following)
        return works
