"""schemathesis against the running API: whatever it is sent, it answers as OpenAPI says, and never with a 500."""

import os

import pytest
import schemathesis
from hypothesis import HealthCheck, settings
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    ignored_auth,
    response_schema_conformance,
    status_code_conformance,
)

EXAMPLES = int(os.environ.get("SCHEMA_EXAMPLES", "3"))
CHECKS = [not_a_server_error, status_code_conformance, content_type_conformance, response_schema_conformance]
CHECKS += [ignored_auth]


@pytest.fixture(scope="session")
def described(stack):
    return schemathesis.openapi.from_url(f"http://{stack.http}/openapi.json").exclude(path_regex=r"/live$")


schema = schemathesis.pytest.from_fixture("described")


@schema.parametrize()
@settings(max_examples=EXAMPLES, deadline=None, suppress_health_check=list(HealthCheck), derandomize=EXAMPLES < 50)
def test_every_operation_answers_as_it_is_described(case):
    case.call_and_validate(checks=CHECKS, timeout=20)
