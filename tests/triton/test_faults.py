"""Deaths, freezes and overload of tritonserver and its stubs: noticed, bounded, repaired by a new start."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import textwrap
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import psutil
import pytest

from candlecast.errors import DeadlineExceeded, ModelUnavailable, Overloaded
from candlecast.lifecycle import poll
from candlecast.triton.client import Inference, TritonModel
from candlecast.triton.embedded import EmbeddedTriton
from candlecast.triton.repository import render_config
from candlecast.triton.watchdog import Canary
from tests.triton.conftest import (
    COLUMNS,
    ENV_DIR,
    F32,
    OUTPUTS,
    WINDOW,
    free_port,
    freeze,
    gone,
    stubs,
    windows,
    write_model,
)

Make = Callable[..., EmbeddedTriton]
Reference = Callable[[F32], F32]


async def recovered(model: TritonModel, inputs: F32, outputs: F32) -> None:
    """Wait until the golden values come again."""
    async with asyncio.timeout(3):
        while True:
            try:
                await model.check_golden(inputs, outputs)
                return
            except ModelUnavailable:
                await asyncio.sleep(0.02)


async def test_a_late_answer_is_dropped_and_the_server_still_stops_cleanly(
    make: Make, tmp_path: Path, reference: Reference
) -> None:
    config = render_config("rows", WINDOW, COLUMNS, OUTPUTS, instances=1)
    async with make(write_model(tmp_path / "repository", config=config)) as triton:
        (stub,) = stubs(triton)
        async with TritonModel(triton.address, "rows", timeout_ms=100, late_calls_max=3) as model:
            stub.suspend()  # for less than a second: Triton 2.51 may abort when a stub comes back after longer
            started = time.monotonic()
            late = await asyncio.gather(*(model.infer(windows(2)) for _ in range(3)), return_exceptions=True)
            assert [type(error) for error in late] == [DeadlineExceeded] * 3
            assert 0.1 <= time.monotonic() - started < 0.9
            with pytest.raises(ModelUnavailable, match="owes 3 answers"):
                await model.infer(windows(1))
            stub.resume()
            await recovered(model, windows(5, seed=5), reference(windows(5, seed=5)))
        stopping = time.monotonic()
    assert await triton.wait() == 0
    assert time.monotonic() - stopping < 8


async def test_a_frozen_server_opens_the_breaker_and_requests_fail_at_once(
    make: Make, tmp_path: Path, reference: Reference
) -> None:
    golden = windows(4), reference(windows(4))
    triton = make(write_model(tmp_path / "repository"), port=free_port(), stop_timeout_ms=200)
    model = TritonModel(triton.address, "rows", timeout_ms=500, failures_max=2, open_ms=60_000)
    async with triton, model:
        await model.check_golden(*golden)
        await freeze(psutil.Process(triton.pid))
        waited_s = []
        for _ in range(2):
            started = time.monotonic()
            with pytest.raises(DeadlineExceeded):
                await model.infer(windows(2))
            waited_s.append(time.monotonic() - started)
        assert min(waited_s) < 0.55  # the deadline and 50 ms; once the machine may have been busy
        for _ in range(20):
            started = time.monotonic()
            with pytest.raises(ModelUnavailable, match=r"breaker is open since .* next try in"):
                await model.infer(windows(2))
            assert time.monotonic() - started < 0.2
        with pytest.raises(ModelUnavailable, match="no answer"):
            await model.check_golden(*golden)
        psutil.Process(triton.pid).resume()
        async with asyncio.timeout(2):
            await recovered(model, *golden)
            await model.infer(windows(2))


async def test_a_frozen_stub_opens_the_breaker_and_a_new_start_closes_it(
    make: Make, tmp_path: Path, reference: Reference
) -> None:
    config = render_config("rows", WINDOW, COLUMNS, OUTPUTS, instances=1)
    triton = make(write_model(tmp_path / "repository", config=config), port=free_port())
    golden = windows(4), reference(windows(4))
    async with TritonModel(triton.address, "rows", timeout_ms=800, failures_max=3, open_ms=60_000) as model:
        async with triton:
            await model.check_golden(*golden)
            await freeze(stubs(triton)[0])
            late = await asyncio.gather(*(model.infer(windows(2)) for _ in range(3)), return_exceptions=True)
            assert [type(error) for error in late] == [DeadlineExceeded] * 3
            started = time.monotonic()
            with pytest.raises(ModelUnavailable, match="breaker is open"):
                await model.infer(windows(2))
            assert time.monotonic() - started < 0.2
            os.kill(triton.pid, signal.SIGKILL)
        async with triton, asyncio.timeout(5):
            await recovered(model, *golden)
            await model.infer(windows(2))
            os.kill(triton.pid, signal.SIGKILL)


@asynccontextmanager
async def golden_check(address: str, golden: tuple[F32, F32]) -> AsyncIterator[Canary]:
    async with TritonModel(address, "rows", timeout_ms=1_500) as model:
        yield lambda: model.check_golden(*golden)


@pytest.mark.parametrize("frozen", ["one stub of two", "tritonserver"])
async def test_what_is_frozen_is_killed_and_may_be_started_again(
    make: Make, tmp_path: Path, reference: Reference, frozen: str
) -> None:
    golden = windows(4), reference(windows(4))
    triton = make(
        write_model(tmp_path / "repository"),
        canary=lambda address: golden_check(address, golden),
        canary_interval_ms=100,
        canary_limit_ms=1_500,
    )
    async with triton:
        waiting = asyncio.create_task(triton.wait())
        await freeze(stubs(triton)[0] if frozen == "one stub of two" else psutil.Process(triton.pid))
        async with asyncio.timeout(12):
            assert await waiting == -signal.SIGKILL
        group = triton.pid
    await gone(triton, group)
    async with triton, golden_check(triton.address, golden) as check:
        await check()


async def test_a_well_server_outlives_its_canary_until_it_is_recycled(
    make: Make, tmp_path: Path, reference: Reference
) -> None:
    golden = windows(4), reference(windows(4))
    sung = 0

    @asynccontextmanager
    async def counted(address: str) -> AsyncIterator[Canary]:
        async with golden_check(address, golden) as check:

            async def canary() -> None:
                nonlocal sung
                await check()
                sung += 1

            yield canary

    repository = write_model(tmp_path / "repository")
    async with make(repository, canary=counted, canary_interval_ms=50, recycle_h=1 / 3600) as triton:
        async with asyncio.timeout(5):
            assert await triton.wait() == 0
        assert sung > 5
        assert psutil.pid_exists(triton.pid)
        stopping = time.monotonic()
    assert await triton.wait() == 0  # of itself: the stop was an orderly one
    assert time.monotonic() - stopping < 8


async def test_triton_stops_in_good_order_though_a_client_stays(
    make: Make, tmp_path: Path, reference: Reference
) -> None:
    golden = windows(4), reference(windows(4))
    triton = make(write_model(tmp_path / "repository"), port=free_port())
    async with TritonModel(triton.address, "rows", timeout_ms=2_000) as model:

        async def keeps_asking() -> None:
            while True:
                with suppress(ModelUnavailable):
                    await model.check_golden(*golden)
                await asyncio.sleep(0.1)

        async with triton:
            await model.check_golden(*golden)
            asking = asyncio.create_task(keeps_asking())
            stopping = time.monotonic()
        assert await triton.wait() == 0
        assert time.monotonic() - stopping < 8
        asking.cancel()


async def test_a_full_queue_of_triton_is_overload(make: Make, tmp_path: Path) -> None:
    config = render_config("rows", WINDOW, COLUMNS, OUTPUTS, instances=1, queue_requests_max=2)
    async with make(write_model(tmp_path / "repository", config=config)) as triton:
        (stub,) = stubs(triton)
        async with (
            TritonModel(triton.address, "rows", timeout_ms=5_000) as model,
            TritonModel(triton.address, "rows", timeout_ms=500) as other,
        ):

            async def refused() -> bool:
                try:
                    await other.infer(windows(1))
                except Overloaded:
                    return True
                except DeadlineExceeded:  # the queue was not full yet
                    return False
                return False

            stub.suspend()
            calls = [asyncio.create_task(model.infer(windows(1))) for _ in range(20)]
            await poll("a refusal", refused, timeout_ms=4_000)
            stub.resume()
            errors = await asyncio.gather(*calls, return_exceptions=True)
        assert {type(error) for error in errors} == {Overloaded, Inference}


async def test_kill_9_of_tritonserver_is_noticed_and_repaired_by_a_new_start(
    make: Make, tmp_path: Path, reference: Reference
) -> None:
    triton = make(write_model(tmp_path / "repository"), port=free_port())
    golden = windows(4), reference(windows(4))
    async with TritonModel(triton.address, "rows", timeout_ms=2_000) as model:
        async with triton:
            await model.check_golden(*golden)
            group = triton.pid
            os.kill(triton.pid, signal.SIGKILL)
            with pytest.raises(ModelUnavailable):
                await model.infer(windows(1))
            async with asyncio.timeout(1):
                assert await triton.wait() == -signal.SIGKILL
        await gone(triton, group)
        async with triton:
            await recovered(model, *golden)  # the same channel finds the new server
            os.kill(triton.pid, signal.SIGKILL)


async def test_kill_9_of_a_stub_fails_the_canary_and_ends_the_server(
    make: Make, tmp_path: Path, reference: Reference
) -> None:
    golden = windows(4), reference(windows(4))
    async with make(write_model(tmp_path / "repository")) as triton:
        async with TritonModel(triton.address, "rows", timeout_ms=2_000) as model:
            await model.check_golden(*golden)
            stubs(triton)[0].kill()
            assert await model.ready()  # so says Triton
            async with asyncio.timeout(2):
                with pytest.raises(ModelUnavailable, match="not healthy"):
                    while True:  # the living instance answers every other time
                        await model.check_golden(*golden)
        async with asyncio.timeout(3):
            assert await triton.wait() == -signal.SIGKILL
        group = triton.pid
    await gone(triton, group)


async def test_a_frozen_server_is_killed_when_its_time_is_up(make: Make, tmp_path: Path) -> None:
    async with make(write_model(tmp_path / "repository"), stop_timeout_ms=200) as triton:
        psutil.Process(triton.pid).suspend()
        stopping = time.monotonic()
    assert 0.2 <= time.monotonic() - stopping < 2
    await gone(triton, triton.pid)


async def test_it_dies_with_its_parent(tmp_path: Path) -> None:
    repository = write_model(tmp_path / "repository")
    program = f"""
        import asyncio
        from pathlib import Path
        from candlecast.triton.embedded import EmbeddedTriton
        async def main():
            triton = EmbeddedTriton(
                env_dir=Path({str(ENV_DIR)!r}), repository=Path({str(repository)!r}), models=["rows"],
                work_dir=Path({str(tmp_path / "work")!r}))
            async with triton:
                print(triton.pid, flush=True)
                await asyncio.Event().wait()
        asyncio.run(main())
    """
    parent = await asyncio.create_subprocess_exec(
        sys.executable, "-c", textwrap.dedent(program), stdout=asyncio.subprocess.PIPE
    )
    assert parent.stdout is not None
    async with asyncio.timeout(20):
        group = int(await parent.stdout.readline())
    parent.kill()
    await parent.wait()
    twin = EmbeddedTriton(env_dir=ENV_DIR, repository=repository, models=["rows"], work_dir=tmp_path / "work")
    await gone(twin, group)
