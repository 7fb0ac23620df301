"""Whose endpoint was asked: by the list's own reading of addresses, under the keys of every vocabulary."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from typing import Any
from urllib.parse import urlsplit

import pytest
from genai_prices.data_snapshot import get_snapshot
from hypothesis import assume, find, given
from hypothesis import strategies as st

from dialect_view import chat, read, span
from spanledger_processor.dialects.endpoints import endpoint_provider

SNAPSHOT = get_snapshot()
SILENT = {"openai", "openai-decisions", "modal"}
PATTERNS = {one.id: one.api_pattern for one in SNAPSHOT.providers if one.id not in SILENT}
BY_PATH = {one for one in PATTERNS if one in ("cloudflare", "databricks") or one.startswith("huggingface_")}
IN_URLS = st.characters(codec="ascii", categories=("Ll", "Nd"), include_characters="-./:")
URLS = {
    one: st.from_regex(pattern, fullmatch=True, alphabet=IN_URLS).map(
        lambda url: f"{url}ai" if url.endswith(".") else url
    )
    for one, pattern in PATTERNS.items()
}
"""What the pattern of each provider allows. One leaves the top-level domain open (`api.moonshot.`)."""


def listed(url: str) -> str:
    """The provider that genai-prices takes a `provider_api_url` for; "" for none."""
    try:
        return SNAPSHOT.find_provider(None, None, url if "://" in url else f"https://{url}").id
    except LookupError:
        return ""


def host_of(url: str) -> str:
    return urlsplit(url if "://" in url else f"https://{url}").netloc


@st.composite
def addresses(draw: st.DrawFn, providers: Iterable[str]) -> tuple[str, str]:
    """A provider's id and a URL of its, with more of a path behind it."""
    provider = draw(st.sampled_from(sorted(providers)))
    url = draw(URLS[provider])
    host = host_of(url)
    assume(re.fullmatch(r"[a-z0-9-]+(\.[a-z0-9-]+)+", host))
    assume(provider in BY_PATH or listed(host) == provider)  # else it is in the path of nobody's host
    assume(not host.endswith("azure-api.net"))
    return provider, url + draw(st.sampled_from(("", "/", "/v1", "/v1/chat/completions?api-version=1")))


def seller(found: str) -> str:
    return "google" if found == "gcp.vertex_ai" else found


@given(addresses(PATTERNS))
def test_every_address_of_the_list_is_its_providers(address: tuple[str, str]) -> None:
    provider, url = address
    assert listed(url) == provider
    assert seller(endpoint_provider(url)) == provider
    assert seller(endpoint_provider(url.replace("https://", "", 1))) == provider


@given(addresses(PATTERNS.keys() - BY_PATH), st.sampled_from(("", ":443", ".", ".:8443")))
def test_a_host_alone_is_enough_where_it_is_one_providers(address: tuple[str, str], port: str) -> None:
    provider, url = address
    assert seller(endpoint_provider(host_of(url) + port)) == provider
    assert seller(endpoint_provider(host_of(url).upper())) == provider


@pytest.mark.parametrize("provider", sorted(PATTERNS))
def test_no_provider_of_the_list_is_left_out(provider: str) -> None:
    _, url = find(addresses([provider]), lambda _: True)
    assert seller(endpoint_provider(url)) == provider


@pytest.mark.parametrize(
    ("address", "expected"),
    [
        ("api.deepseek.com", "deepseek"),
        ("https://api.deepseek.com/anthropic", "deepseek"),
        ("http://api.deepseek.com:8080/v1", "deepseek"),
        ("https://openrouter.ai/api/v1", "openrouter"),
        ("resource.openai.azure.com", "azure"),
        ("https://api.together.ai/v1", "together"),  # together 3.1.1, `_client.py`
        ("api.eu.mistral.ai", "mistral"),  # mistralai 3.7.0, `sdkconfiguration.py`
        ("api.us.mistral.ai", "mistral"),
        ("https://generativelanguage.googleapis.com/v1beta/openai/", "google"),
        ("us-east5-aiplatform.googleapis.com", "gcp.vertex_ai"),
        ("https://router.huggingface.co/groq/openai/v1", "huggingface_groq"),
        ("router.huggingface.co", ""),  # one host for many sellers: the path tells which
        ("https://api.cloudflare.com/client/v4/accounts/a/ai/v1", "cloudflare"),
        ("https://api.cloudflare.com/client/v4/zones", ""),
        # Nobody's, whatever stands in their paths or behind their names.
        ("localhost", ""),
        ("127.0.0.1:8000", ""),
        ("gateway.example", ""),
        ("https://gateway.example/api.deepseek.com/v1", ""),
        ("https://gateway.example/x.googleapis.com/v1", ""),
        ("https://gateway.example?https://api.groq.com", ""),
        ("api.deepseek.com.gateway.example", ""),
        ("api.moonshot.ai.gateway.example", ""),
        ("api.groq.comx", ""),
        ("not an address", ""),
        ("https://", ""),
        ("", ""),
        # Hosts that say nothing of who sells.
        ("api.openai.com", ""),  # told by libraries that do not know the host
        ("corp.azure-api.net", ""),  # a gateway
        ("team--app.modal.run", ""),  # anybody's own servers
    ],
)
def test_addresses(address: str, expected: str) -> None:
    assert endpoint_provider(address) == expected


@pytest.mark.parametrize(
    "value", [None, 5, 2.5, True, b"api.groq.com", ["api.groq.com"], {}, {"api_base": 5}, "{", "{}"]
)
def test_what_is_no_address_tells_nothing(value: Any) -> None:
    assert endpoint_provider(value) == ""


def test_an_address_is_read_to_a_length() -> None:
    assert endpoint_provider("https://api.groq.com/" + "x" * 10**6) == "groq"
    assert endpoint_provider("a" * 600 + ".openai.azure.com") == ""


COUNTS = {"input_tokens": 100, "output_tokens": 10}
HIDDEN = {"model_id": "m", "api_base": "https://api.groq.com/openai/v1", "response_cost": None}
VERCEL: dict[str, Any] = {"ai.operationId": "ai.generateText.doGenerate", "ai.usage.inputTokens": 100}


@pytest.mark.parametrize(
    "reported",
    [
        # opentelemetry-instrumentation-openai-v2, Pydantic AI, @ai-sdk/otel, OpenLIT, LiteLLM's of its second version
        chat(**COUNTS) | {"server.address": "api.groq.com", "server.port": 443},
        # OpenLLMetry, AgentOps
        chat(**COUNTS) | {"gen_ai.openai.api_base": "https://api.groq.com/openai/v1/"},
        # Langtrace
        chat(**COUNTS) | {"url.full": "https://api.groq.com/openai/v1/"},
        # LiteLLM's hidden parameters, as JSON and as what a Collector may have made of it
        chat(**COUNTS) | {"litellm.call_id": "1", "hidden_params": json.dumps(HIDDEN)},
        chat(**COUNTS) | {"litellm.call_id": "1", "hidden_params": json.dumps(HIDDEN, separators=(",", ":"))},
        chat(**COUNTS) | {"litellm.call_id": "1", "hidden_params": HIDDEN},
        # a host that says nothing beside one that does
        chat(**COUNTS) | {"server.address": "gateway.example", "url.full": "https://api.groq.com/openai/v1/"},
        VERCEL | {"server.address": "api.groq.com"},
        {"openinference.span.kind": "LLM", "llm.token_count.prompt": 100, "server.address": "api.groq.com"},
    ],
)
def test_the_endpoint_is_read_in_every_vocabulary(reported: dict[str, Any]) -> None:
    assert read(span(reported)).endpoint_provider == "groq"


@pytest.mark.parametrize(
    "reported",
    [
        chat(**COUNTS),
        chat(**COUNTS) | {"server.address": "10.0.0.7", "server.port": 8000},
        chat(**COUNTS) | {"hidden_params": json.dumps(HIDDEN)},  # not LiteLLM's
        chat(**COUNTS) | {"input.value": "https://api.groq.com/openai/v1"},
        {"gen_ai.operation.name": "execute_tool", "gen_ai.tool.name": "t", "server.address": "api.groq.com"},
    ],
)
def test_what_names_no_endpoint_of_a_call(reported: dict[str, Any]) -> None:
    assert read(span(reported)).endpoint_provider == ""
