"""schemathesis against the running API: whatever it is sent, it answers as OpenAPI says, and never with a 500."""

import gc
import os
from collections.abc import Iterator

import pytest
import schemathesis
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from schemathesis import GenerationMode
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    ignored_auth,
    response_schema_conformance,
    status_code_conformance,
)

from candlecast.dashboard.app import create_app
from candlecast.settings import Settings

EXAMPLES = int(os.environ.get("SCHEMA_EXAMPLES", "8"))
CHECKS = [
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_schema_conformance,
    ignored_auth,
]
LIVE = "/api/ml/live"
"""It never ends; test_api.py listens to it."""


def operations():
    described = create_app(Settings(database_url="postgresql://nobody@localhost/none")).openapi()
    found = (result.ok() for result in schemathesis.openapi.from_dict(described).get_all_operations())
    return {operation.label: operation for operation in found if operation.path != LIVE}


OPERATIONS = operations()


@pytest.fixture
def uncollected() -> Iterator[None]:
    """Hypothesis parses its lambdas; a collection within `ast.parse` can make Python 3.11 raise SystemError there.

    (https://github.com/python/cpython/issues/106905)
    """
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


@pytest.mark.usefixtures("uncollected")
@pytest.mark.parametrize("label", OPERATIONS)
def test_an_operation_answers_as_it_is_described(stack, label):
    operation = OPERATIONS[label]
    modes = [GenerationMode.POSITIVE]
    if operation.body or any(True for _ in operation.iter_parameters()):
        modes.append(GenerationMode.NEGATIVE)
    cases = st.one_of([operation.as_strategy(generation_mode=mode) for mode in modes])

    @settings(max_examples=EXAMPLES, deadline=None, suppress_health_check=list(HealthCheck), database=None)
    @given(case=cases)
    def every(case):
        answer = case.call(base_url=f"http://{stack.http}", timeout=20)
        case.validate_response(answer, checks=CHECKS)

    every()


def test_the_whole_api_is_described():
    assert {"GET /api/ml/models/", "POST /api/ml/models/", "GET /api/ml/predictions/"} <= set(OPERATIONS)
    assert {"POST /api/ml/predictions/", "GET /api/ml-performance", "GET /readyz"} <= set(OPERATIONS)
