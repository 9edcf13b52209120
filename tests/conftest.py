"""What holds for every test."""

import os

# Servers of tests that run beside one another must not all want the same port; a Stack takes one of its own.
os.environ.setdefault("CANDLECAST_METRICS", "")
