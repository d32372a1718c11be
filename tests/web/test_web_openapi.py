"""The OpenAPI document describes what the application does: schemathesis tries the real one, in process, for a bounded time."""

from __future__ import annotations

import json
from collections import Counter

import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis.errors import Unsatisfiable
from schemathesis import checks as names

from tests.web.conftest import SITE, TOKEN, Site

EXAMPLES = 12  # per operation; `--hypothesis-seed` varies them


@pytest.fixture(scope="module")
def served(tmp_path_factory):
    folder = tmp_path_factory.mktemp("openapi")
    table = {"token": TOKEN, "secret": "the-key-of-links-long", "sites": [SITE], "forms_per_minute": 100_000, "visits_per_minute": 100_000,
             "forms": {"demo": {"fields": ["email"], "origins": [SITE]}}, "webhooks": {"shop": {"secret": "s", "event": "order.placed", "contact": "c"}}}  # fmt: skip
    with Site(folder, table) as site:
        yield site


LEFT_OUT = [
    names.positive_data_acceptance,  # a schema can't say all that a declaration demands: a zone, a choice, a field of another event
]
LENIENT = ("POST /v1/events", "POST /v1/contacts", "POST /v1/identify")  # their readers take any sign in an id, "12" for a number and "yes" for a boolean, as files have them


@pytest.mark.parametrize("mode", list(schemathesis.GenerationMode), ids=lambda mode: mode.value)
def test_the_document_and_the_application_agree(served, mode):
    """(schemathesis' own pytest fixtures do not know pytest 9 yet: the operations are walked through here.)"""
    schema = schemathesis.openapi.from_asgi("/openapi.json", served.app)
    tried = Counter()
    for result in schema.get_all_operations():
        operation = result.ok()
        try:
            agreement(operation, mode, tried)()
        except Unsatisfiable:  # nothing can be wrong about a request without parameters
            assert mode is schemathesis.GenerationMode.NEGATIVE
    assert len(tried) >= (20 if mode is schemathesis.GenerationMode.POSITIVE else 10), tried


def agreement(operation, mode, tried):
    headers = {"Authorization": f"Bearer {TOKEN}"} if operation.path.startswith("/v1/") else {}

    @settings(max_examples=EXAMPLES, deadline=None, phases=(Phase.generate,), suppress_health_check=list(HealthCheck), derandomize=True, database=None)
    @given(case=operation.as_strategy(generation_mode=mode))
    def agrees(case):
        tried[operation.label] += 1
        case.call_and_validate(headers=headers, excluded_checks=LEFT_OUT + [names.negative_data_rejection] * (operation.label in LENIENT))

    return agrees


def test_every_endpoint_is_described_once_and_routed(served):
    document = served.http.get("/openapi.json").json()
    assert document["openapi"] == "3.1.0"
    operations = {(method, path) for path, methods in document["paths"].items() for method in methods}
    assert len(operations) == 21 and ("post", "/v1/events") in operations
    routed = {route.path.replace("{name:path}", "{name}") for route in served.app.routes}
    assert {path for _, path in operations} == routed
    assert document["paths"]["/v1/events"]["post"]["security"] == [{"token": []}]


def test_the_document_knows_the_projects_events_and_attributes(served):
    schemas = served.http.get("/openapi.json").json()["components"]["schemas"]
    orders = next(item for item in schemas["Event"]["oneOf"] if item["title"] == "order.placed")
    assert set(orders["properties"]["data"]["properties"]) == {"order_id", "total", "paid_at"}
    assert {"email", "plan_", "news"} & set(schemas["Contact"]["properties"]) == {"email", "news"}


def test_examples_of_the_schema_are_taken(served):
    """What the document says of an event is enough to send one."""
    orders = {"id": "x1", "event": "order.placed", "contact": "ana", "at": "2026-03-02T09:00:00Z", "data": {"order_id": "A", "total": 1, "paid_at": "2026-12-01T09:00:00Z"}}
    assert served.post("/v1/events", content=json.dumps(orders), headers={"content-type": "application/json"}).status_code == 202
