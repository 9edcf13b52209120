import pytest
from grpc_health.v1 import health_pb2

from candlecast.errors import ModelUnavailable
from candlecast.lifecycle import poll
from candlecast.server.health import SERVICES, Readiness


class Canary:
    def __init__(self):
        self.error = None
        self.sung = 0

    async def __call__(self):
        self.sung += 1
        if self.error:
            raise self.error


async def statuses(readiness):
    found = set()
    for service in SERVICES:
        answer = await readiness.servicer.Check(health_pb2.HealthCheckRequest(service=service), None)
        found.add(health_pb2.HealthCheckResponse.ServingStatus.Name(answer.status))
    return found


@pytest.mark.parametrize("error", [ModelUnavailable("wrong values"), RuntimeError("a mistake of ours")])
async def test_serving_is_said_exactly_while_the_canary_sings(error):
    canary = Canary()
    async with Readiness(canary, interval_ms=3_600_000) as readiness:
        assert await statuses(readiness) == {"SERVING"}
        canary.error = error
        await readiness.check()
        assert await statuses(readiness) == {"NOT_SERVING"}
        canary.error = None
        await readiness.check()
        assert await statuses(readiness) == {"SERVING"}


async def test_the_canary_sings_again_and_again_by_itself():
    canary = Canary()

    async def five_times():
        return canary.sung >= 5

    async with Readiness(canary, interval_ms=1):
        await poll("the fifth song", five_times, timeout_ms=5_000, interval_ms=1)


async def test_after_stopping_nothing_is_serving_any_more():
    canary = Canary()
    async with Readiness(canary, interval_ms=3_600_000) as readiness:
        await readiness.stop()
        await readiness.check()
        assert await statuses(readiness) == {"NOT_SERVING"}
