import asyncio
import os
import signal
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import psutil
import pytest

from candlecast.lifecycle import Child, Keeper, give_way, last_lines, poll, say

WAIT = "print('up', flush=True); threading.Event().wait()"
SLEEPER = [sys.executable, "-c", f"import signal, sys, threading; signal.signal(15, lambda *_: sys.exit(0)); {WAIT}"]
STUBBORN = [sys.executable, "-c", f"import signal, threading; signal.signal(15, signal.SIG_IGN); {WAIT}"]


FORKS_WITH_GRPC = """
from candlecast.lifecycle import prepare_grpc
prepare_grpc()
import asyncio, grpc, uvloop

async def echo(request, context):
    return request

async def asks(call):
    while True:
        await call(b"")

async def main():
    server = grpc.aio.server()
    handler = grpc.unary_unary_rpc_method_handler(echo)
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("t.T", {"E": handler}),))
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
        asking = [asyncio.create_task(asks(channel.unary_unary("/t.T/E"))) for _ in range(8)]
        await channel.channel_ready()
        for _ in range(20):
            await (await asyncio.create_subprocess_exec("/bin/true")).wait()
        for task in asking:
            task.cancel()
        await asyncio.gather(*asking, return_exceptions=True)
    await server.stop(0)

uvloop.run(main())
"""


async def printed(path):
    async def check():
        return path.exists() and "up" in path.read_text()

    await poll("the child's first line", check, timeout_ms=10_000, interval_ms=5)


async def test_a_child_is_asked_to_stop_and_gone_afterwards(tmp_path):
    async with Child("sleeper", SLEEPER, log_path=tmp_path / "log") as child:
        await printed(tmp_path / "log")
        assert psutil.pid_exists(child.pid)
    assert await child.wait() == 0
    assert not psutil.pid_exists(child.pid)


async def test_a_child_that_does_not_stop_is_killed_after_its_limit(tmp_path):
    async with Child("stubborn", STUBBORN, log_path=tmp_path / "log", stop_timeout_ms=50) as child:
        await printed(tmp_path / "log")
    assert await child.wait() == -signal.SIGKILL


async def test_a_child_dies_with_its_parent_however_that_dies(tmp_path):
    code = (
        "import asyncio, sys; from pathlib import Path; from candlecast.lifecycle import Child\n"
        "async def main():\n"
        f"    async with Child('grandchild', {SLEEPER!r}, log_path=Path(sys.argv[1])) as child:\n"
        "        print(child.pid, flush=True); await asyncio.Event().wait()\n"
        "asyncio.run(main())"
    )
    parent = await asyncio.create_subprocess_exec(
        sys.executable, "-c", code, str(tmp_path / "log"), stdout=asyncio.subprocess.PIPE
    )
    grandchild = psutil.Process(int(await parent.stdout.readline()))
    await printed(tmp_path / "log")
    parent.kill()
    await parent.wait()

    async def gone():
        return not grandchild.is_running() or grandchild.status() == psutil.STATUS_ZOMBIE

    await poll("the grandchild's end", gone, timeout_ms=5_000)


class FakePart:
    """Ends when told to."""

    def __init__(self, book):
        self.book = book
        self.end = asyncio.get_running_loop().create_future()

    async def __aenter__(self):
        if self.book.refuse:
            raise OSError("no room")
        self.book.parts.append(self)
        return self

    async def __aexit__(self, *_):
        self.book.left += 1

    async def wait(self):
        return await self.end


class Book:
    def __init__(self):
        self.parts, self.left, self.refuse, self.said = [], 0, False, []

    def keeper(self, **limits):
        return Keeper("part", lambda: FakePart(self), self.said.append, backoff_ms=1, **limits)

    async def started(self, count):
        async def check():
            return len(self.parts) >= count

        await poll(f"start {count}", check, timeout_ms=5_000, interval_ms=1)


def autogroup(pid):
    """Return the niceness of a process's session; nothing where the kernel does not group, or not this process."""
    path = Path(f"/proc/{pid}/autogroup")
    return path.read_text().rpartition(" ")[2].strip() if path.exists() else ""


async def test_a_part_gives_way_in_its_session_and_by_its_session(tmp_path):
    async with Child("p", SLEEPER, log_path=tmp_path / "log", stop_timeout_ms=5_000) as child:
        give_way(7, child.pid)
        give_way(3, child.pid)  # is not more important again
        assert os.getpriority(os.PRIO_PROCESS, child.pid) == 7
        assert autogroup(child.pid) in ("", "7")
    with pytest.raises(ProcessLookupError):
        give_way(7, child.pid)


def test_who_gives_way_in_the_session_of_others_leaves_it_its_share():
    before = autogroup(os.getpid())
    with subprocess.Popen(SLEEPER, stdout=subprocess.PIPE) as process:
        try:
            give_way(7, process.pid)
            assert os.getpriority(os.PRIO_PROCESS, process.pid) == 7
            assert autogroup(process.pid) == before
        finally:
            process.kill()


async def test_a_part_that_ends_is_reported_and_started_again():
    book = Book()
    async with book.keeper():
        book.parts[0].end.set_result(-9)
        await book.started(2)
    assert book.said == ["part ended with -9; starting it again in 1 ms"]
    assert book.left == 2


async def test_a_part_that_keeps_dying_ends_the_keeper_with_the_reason():
    book = Book()
    async with book.keeper(restarts_max=2) as keeper:
        for i in range(3):
            await book.started(i + 1)
            book.parts[i].end.set_result(1)
        with pytest.raises(RuntimeError, match="part ended with 1, 2 times within 60 s"):
            await keeper.task


async def test_a_part_that_nobody_needs_is_started_again_for_ever():
    book = Book()
    async with book.keeper(restarts_max=None):
        for i in range(7):
            await book.started(i + 1)
            book.parts[i].end.set_result(1)
        await book.started(8)


async def test_ends_that_are_long_ago_count_no_more():
    book = Book()
    async with book.keeper(restarts_max=2, restarts_window_ms=30):
        for i in range(5):
            await book.started(i + 1)
            await asyncio.sleep(0.05)  # it ran well for longer than the window
            book.parts[i].end.set_result(1)
        await book.started(6)
    assert book.said == ["part ended with 1; starting it again in 1 ms"] * 5


async def test_a_part_that_cannot_start_the_first_time_fails_the_start():
    book = Book()
    book.refuse = True
    with pytest.raises(OSError, match="no room"):
        async with book.keeper():
            pass


async def test_poll_says_what_it_waited_for():
    async def never():
        return False

    with pytest.raises(TimeoutError, match=r"the moon not within 0\.01 s"):
        await poll("the moon", never, timeout_ms=10, interval_ms=1)


def test_last_lines_of_a_log_that_is_not_there(tmp_path):
    assert last_lines(tmp_path / "none") == "(no log)"
    (tmp_path / "log").write_text("a\nb\nc\n")
    assert last_lines(tmp_path / "log", 2) == "b | c"


def test_what_is_said_to_a_full_disk_or_to_nobody_stops_nothing():
    reader, writer = os.pipe()
    os.close(reader)
    went_on = []
    full = os.open("/dev/full", os.O_WRONLY)
    for name, number in {"full": full, "gone": writer}.items():
        with suppress(OSError), os.fdopen(number, "w") as file:  # closing it fails, whatever we do
            say("there is no room for this", file)
            went_on.append(name)
    assert went_on == ["full", "gone"]


def test_a_child_that_is_started_beside_grpc_is_none_of_its_business():
    done = subprocess.run([sys.executable, "-c", FORKS_WITH_GRPC], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0 and "fork_posix" not in done.stderr, done.stderr
