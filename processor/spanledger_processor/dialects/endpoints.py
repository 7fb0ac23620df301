"""Providers by the endpoint that was asked.

Many sellers speak OpenAI's API, or Anthropic's, and are called with those libraries, which then name OpenAI or
Anthropic as the provider: opentelemetry-instrumentation-openai-v2 2.4b0 and -genai-openai 1.3b0 and @opentelemetry/
instrumentation-openai whoever is asked, OpenLLMetry and Pydantic AI of most. The host that they tell beside it says who
sells. Whose host it is stands in genai-prices, whose own arithmetic may be asked by an API's URL.
"""

from __future__ import annotations

import re
from functools import cache, lru_cache
from typing import Any, TypeAlias

_Apis: TypeAlias = tuple[tuple[str, re.Pattern[str]], ...]
"""Providers with what their addresses begin with."""

ENDPOINT_MARKS = (b".",)
"""A text in which none of these stands names no host of the list."""

_SAY_NOTHING = frozenset({"modal", "openai", "openai-decisions"})
"""OpenAI's host is what libraries tell that do not know theirs (OpenLIT 1.45.0 of every call of Pydantic AI and of the
OpenAI Agents SDK). Under Modal's anybody's own servers stand, beside those that it sells tokens of."""
_GATEWAY = ".azure-api.net"
"""Azure's gateway for whatever stands behind it, which the list counts among Azure's hosts:
https://learn.microsoft.com/azure/api-management/genai-gateway-capabilities."""
_UNLISTED = {"api.eu.mistral.ai": "mistral", "api.us.mistral.ai": "mistral", "api.together.ai": "together"}
"""Hosts that sellers' own clients have, and the list has not: mistralai 3.7.0, together 3.1.1."""
_VERTEX_HOST, _VERTEX = "aiplatform", "gcp.vertex_ai"
"""The list has one seller for all that Google sells."""

_TELLS_PATH = re.compile(r"(?<!/)/(?![/|\]])")
"""A path in a pattern: `(?:/|$)` and `[^/]` are none."""

_LONGEST = 512
_ADDRESS = re.compile(r"(?:https?://)?(?P<host>[\w-]+(?:\.[\w-]+)+)\.?(?::\d+)?(?P<path>[/?#].*)?$", re.DOTALL)
_BASE = re.compile(r'"api_base": ?"([^"\\]*)"')


def endpoint_provider(value: Any) -> str:
    """Return the provider whose endpoint a value is: a host, a URL, or LiteLLM's hidden parameters; "" if nobody's."""
    if isinstance(value, dict):
        value = value.get("api_base")
    elif isinstance(value, str) and value.startswith("{"):
        match = _BASE.search(value)
        value = match[1] if match else None
    return _provider_at(value[:_LONGEST]) if isinstance(value, str) else ""


@cache
def _apis() -> tuple[_Apis, _Apis]:
    """Return those of all providers, and of those that share their host: a path tells them apart.

    The list is loaded when it is first asked for: it takes half a second, and most commands ask nothing of it.
    """
    from genai_prices.data_snapshot import get_snapshot

    providers = (provider for provider in get_snapshot().providers if provider.id not in _SAY_NOTHING)
    every = tuple((provider.id, re.compile(provider.api_pattern)) for provider in providers)
    return every, tuple(one for one in every if _TELLS_PATH.search(one[1].pattern))


@lru_cache(maxsize=1024)
def _provider_at(address: str) -> str:
    match = _ADDRESS.match(address.strip().lower())
    if match is None or match["host"].endswith(_GATEWAY):
        return ""
    base, (every, by_path) = f"https://{match['host']}", _apis()
    unlisted = _UNLISTED.get(match["host"], "")
    name = next((name for name, pattern in every if _is_whole(pattern.match(base), base)), unlisted)
    if not name and match["path"]:
        url = base + match["path"]
        name = next((name for name, pattern in by_path if _is_longer(pattern.match(url), base)), "")
    return _VERTEX if name == "google" and _VERTEX_HOST in base else name


def _is_whole(match: re.Match[str] | None, base: str) -> bool:
    """Return whether all of a host was matched, or all but its last label, which the list leaves open (`moonshot.`)."""
    if match is None:
        return False
    rest = base[match.end() :]
    return not rest or (match[0].endswith(".") and "." not in rest)


def _is_longer(match: re.Match[str] | None, base: str) -> bool:
    return match is not None and match.end() > len(base)
