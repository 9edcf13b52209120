"""What holds for every test."""

import os
import shutil
import tempfile

from candlecast.lifecycle import prepare_grpc

# Servers of tests that run beside one another must not all want the same port; a Stack takes one of its own.
os.environ.setdefault("CANDLECAST_METRICS", "")
prepare_grpc()  # as the command line does; its newer event engine has crashed a process of tests, too
# What a person keeps under the home directory is neither read nor written.
os.environ["CANDLECAST_STATE_DIR"] = tempfile.mkdtemp(prefix="candlecast-state-")


def pytest_unconfigure():
    shutil.rmtree(os.environ["CANDLECAST_STATE_DIR"], ignore_errors=True)
