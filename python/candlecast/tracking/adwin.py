"""Where the mean of a series last changed, as ADWIN finds it (Bifet and Gavaldà, 2007). Knows numbers and no store.

A window is cut wherever the means before and behind the cut differ by more than chance allows (Bernstein's bound, with
a correction for the number of cuts); what is before the cut is forgotten, and the rest is looked at again. The series
is stored, so it is looked at as a whole each time, and nothing has to survive a restart.
"""

from __future__ import annotations

from typing import Final

import numpy as np

from candlecast.values import F64

PART_MIN: Final = 10
"""Values on each side of a cut."""


def newest_change(values: F64, delta: float = 0.002) -> int:
    """Return the index at which the newest stretch with one mean begins; 0: there is no change.

    Args:
        values: [N] within 0..1, in the order of time.
        delta: bound on the probability that a series without a change is cut.
    """
    start = 0
    while (cut := _cut(values[start:], delta)) > 0:
        start += cut
    return start


def _cut(values: F64, delta: float) -> int:
    """Return the place of the clearest cut, 0 without one."""
    count = len(values)
    if count < 2 * PART_MIN:
        return 0
    before = np.arange(PART_MIN, count - PART_MIN + 1)
    behind = count - before
    sums = np.cumsum(values)
    means = sums[before - 1] / before, (sums[-1] - sums[before - 1]) / behind
    harmonic = 1 / (1 / before + 1 / behind)
    log_chance = np.log(2 * count / delta)
    bound = np.sqrt(2 / harmonic * values.var() * log_chance) + 2 / 3 / harmonic * log_chance
    excess = np.abs(means[0] - means[1]) - bound
    best = int(excess.argmax())
    return int(before[best]) if excess[best] > 0 else 0
