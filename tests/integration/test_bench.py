"""`candlecast bench` against a real server."""

import json
import subprocess

import asyncpg

from candlecast.bench.figures import NAMES
from tests.stack import CANDLECAST, Stack

APART = {"overhead_null_us", "scale_10000", "rss_10000_mb"}
"""What needs another server, or more symbols."""


def bench(*arguments):
    return subprocess.run(
        [*CANDLECAST, "bench", "--yes", *arguments],
        capture_output=True, text=True, timeout=240, stdin=subprocess.DEVNULL,
    )  # fmt: skip


async def test_bench_gives_every_figure_and_writes_rows_of_its_own_alone(tmp_path):
    stack = Stack(tmp_path / "state")
    stack.start()
    try:
        triton = (stack.state_dir / "triton_address").read_text().strip()
        done = bench("--json", "--quick", "--server", stack.grpc, "--triton", triton)
        assert done.returncode == 0, done.stderr
        connection = await asyncpg.connect(stack.database_url)
        strangers = await connection.fetchval("SELECT count(*) FROM candles WHERE symbol NOT LIKE 'BENCH.%'")
        await connection.close()
    finally:
        stack.stop()
    figures = {figure["name"]: figure for figure in json.loads(done.stdout)}
    assert tuple(figures) == NAMES
    assert {name for name in NAMES if figures[name]["ours"] is None} == APART
    assert all(figures[name]["baseline"] > 0 for name in NAMES if name not in APART)
    assert "load average" in done.stderr
    assert strangers == 0


def test_without_a_server_it_says_what_to_do():
    done = bench("--server", "127.0.0.1:9")
    assert done.returncode == 1
    assert "`candlecast up` starts a server" in done.stderr
    assert "Traceback" not in done.stderr
