"""All rows of the fault matrix, by number."""

from tests.faults import database, disk, disorder, inputs, loop, network, overload, processes, subscribers, versions
from tests.faults.scene import ROWS

FILES = database, disk, disorder, inputs, loop, network, overload, processes, subscribers, versions
"""Each registers its rows."""

__all__ = ["FILES", "ROWS"]
