"""What a span and its resource tell of where a call was made."""

from __future__ import annotations

import pytest

from spanledger_processor.accounting.facts import NO_EVIDENCE, ORIGIN
from spanledger_processor.enrichment.evidence import resource_evidence, span_evidence


class Given(dict[str, object]):
    def among(self, keys: frozenset[str], /) -> frozenset[str]:
        return keys.intersection(self)


@pytest.mark.parametrize(
    ("key", "what"),
    [
        ("service.name", "service"),
        ("host.name", "host"),
        ("k8s.pod.name", "host"),
        ("service.instance.id", "process"),
        ("process.pid", "process"),
        ("telemetry.sdk.language", "language"),
        ("service.namespace", "service"),
        ("deployment.environment", "service"),
        ("deployment.environment.name", "service"),
        ("container.id", "host"),
        ("user.id", "user"),
    ],
)
def test_a_resource_names_where_its_spans_come_from(key: str, what: str) -> None:
    one, other = resource_evidence(Given({key: "a"})).origin, resource_evidence(Given({key: "b"})).origin
    assert [name for name, a, b in zip(ORIGIN, one, other, strict=True) if a != b] == [what]


def test_both_names_of_the_environment_are_one() -> None:
    """`deployment.environment` became `deployment.environment.name` in release 1.27 of the conventions."""
    old, new = Given({"deployment.environment": "prod"}), Given({"deployment.environment.name": "prod"})
    assert resource_evidence(old) == resource_evidence(new)
    assert resource_evidence(Given({"deployment.environment": "default"})) == NO_EVIDENCE  # OpenLIT's, unless named


@pytest.mark.parametrize("name", ["unknown_service", "unknown_service:python", "default", ""])
def test_a_service_that_nobody_named_has_no_name(name: str) -> None:
    assert resource_evidence(Given({"service.name": name})) == NO_EVIDENCE


def test_a_span_names_its_user_and_the_ids_of_its_request() -> None:
    resource = resource_evidence(Given({"service.name": "a", "user.id": "everybody"}))
    evidence = span_evidence(Given({"user.id": "u", "litellm.call_id": "c", "request_id": "req_1"}), resource)
    assert len(evidence.ids) == 2
    differing = [name for name, a, b in zip(ORIGIN, evidence.origin, resource.origin, strict=True) if a != b]
    assert differing == ["user"]
    assert b"litellm" not in b"".join(evidence.ids)
    assert span_evidence(Given({"gen_ai.request.model": "m"}), resource) is resource
