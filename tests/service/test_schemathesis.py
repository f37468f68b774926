"""The OpenAPI is true: whatever is sent by it is answered with a documented status, type and shape, and never with a fault of ours."""

import warnings

import pytest
from hypothesis import HealthCheck, Phase, settings
from served import publish, running

from aimass.service.app import rest

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    import schemathesis
    from schemathesis.checks import not_a_server_error
    from schemathesis.specs.openapi.checks import content_type_conformance, response_schema_conformance, status_code_conformance

CHECKS = [not_a_server_error, status_code_conformance, content_type_conformance, response_schema_conformance]
EXAMPLES = 3


@pytest.fixture(scope="module")
def own(tmp_path_factory, model_folder):
    """A service that may be filled with rubbish; a model answers under the names that the schema's examples may hit."""
    with running(tmp_path_factory.mktemp("fuzzed") / "home") as found:
        with found.client() as client:
            publish(client, model_folder, "0")
            client.post("/v1/deployments", json={"model": "0"}).raise_for_status()
        yield found


schema = schemathesis.openapi.from_dict(rest(None).openapi())


@schema.parametrize()
@settings(
    max_examples=EXAMPLES,
    derandomize=True,
    database=None,
    deadline=None,
    phases=[Phase.explicit, Phase.generate],
    suppress_health_check=list(HealthCheck),
)
def test_every_operation_answers_as_documented(case, own):
    case.call_and_validate(base_url=own.url, checks=CHECKS, headers={"Authorization": f"Bearer {own.key}"}, timeout=60)
