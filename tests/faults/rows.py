"""All rows of the fault matrix, by number."""

from tests.faults import database, disk, disorder, inputs, network, overload, processes, subscribers
from tests.faults.scene import ROWS

FILES = database, disk, disorder, inputs, network, overload, processes, subscribers
"""Each registers its rows."""

__all__ = ["FILES", "ROWS"]
