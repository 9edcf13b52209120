"""What holds for every test."""

import os

# Servers of tests that run beside one another must not all want the same port; a Stack takes one of its own.
os.environ.setdefault("CANDLECAST_METRICS", "")
# As the command line does, before anything imports grpc: its newer event engine has crashed a process of tests.
os.environ.setdefault("GRPC_EXPERIMENTS", "-event_engine_client,-event_engine_listener")
