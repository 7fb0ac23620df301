"""Names of providers: one table of their spellings, for who sells a call and for the name that sums by provider have.

Libraries write `openai`, `openai.chat` or `openai.responses`, `gemini` or `gcp.gemini` for one seller. Lists, budgets
and filters have one name for each: the well-known value of `gen_ai.provider.name` in the semantic conventions, else the
id of genai-prices. What spans say is not changed.
https://opentelemetry.io/docs/specs/semconv/registry/attributes/gen-ai/
"""

from __future__ import annotations

from typing import Final, NamedTuple

from genai_prices.data_snapshot import get_snapshot

PROVIDERS: Final = get_snapshot().providers
"""The sellers and their models as the package has them.

Not imported from `genai_prices.data`, a literal of 30,000 lines: pyright takes a minute for each module that does so.
"""


class Spellings(NamedTuple):
    """Who sells what is named so, by genai-prices, and how libraries spell it besides, as `provider_key` returns it."""

    seller: str
    others: tuple[str, ...]


NAMES: dict[str, Spellings] = {
    "anthropic": Spellings("anthropic", ("claude",)),
    "aws.bedrock": Spellings(
        "aws",
        (
            "amazon",
            "amazon-bedrock",
            "anthropic-bedrock",
            "anthropic-mantle",
            "aws",
            "aws-bedrock",
            "bedrock",
            "bedrock-converse",
            "openai-mantle",
        ),
    ),
    "azure.ai.inference": Spellings(
        "azure",
        ("az.ai.inference", "azure-ai", "azure-ai-foundry", "azure-ai-inference", "microsoft.foundry"),
    ),
    "azure.ai.openai": Spellings(
        "azure",
        ("az.ai.openai", "azure", "azure-openai", "azure-openai-responses", "azureopenai"),
    ),
    "cloudflare": Spellings("cloudflare", ("cloudflare-workers-ai", "workers-ai")),
    "cohere": Spellings("cohere", ("cohere-chat",)),
    "fireworks": Spellings("fireworks", ("fireworks-ai", "fireworksai")),
    "gcp.gemini": Spellings(
        "google",
        (
            "gcp",
            "gcp.gen-ai",
            "gemini",
            "genai",
            "google",
            "google-ai-studio",
            "google-genai",
            "google-generativeai",
            "google-gla",
            "google.generative-ai",
        ),
    ),
    "gcp.vertex_ai": Spellings(
        "google",
        (
            "anthropic-vertex",
            "google-vertex",
            "google-vertex-anthropic",
            "google-vertexai",
            "google.vertex",
            "googlevertex",
            "vertex",
            "vertex-ai",
            "vertex-ai-beta",
            "vertexai",
        ),
    ),
    "github-copilot": Spellings("github-copilot", ("copilot",)),
    "mistral_ai": Spellings("mistral", ("codestral", "mistral", "mistralai")),
    "moonshotai": Spellings("moonshotai", ("moonshot", "moonshot-ai")),
    "novita": Spellings("novita", ("novita-ai",)),
    "openai": Spellings("openai", ("openai-chat", "openai-responses", "text-completion-openai")),
    "perplexity": Spellings("perplexity", ("perplexity-ai", "pplx")),
    "together": Spellings("together", ("together-ai", "togetherai")),
    "voyageai": Spellings("voyageai", ("voyage",)),
    "x_ai": Spellings("x-ai", ("grok", "xai")),
    "zai": Spellings("zai", ("z-ai", "z.ai")),
    "zhipuai": Spellings("zhipuai", ("bigmodel", "zhipu")),
}
"""Providers by the name that sums have, with all spellings (semantic conventions old and new, AI SDK, LiteLLM,
pydantic-ai). One of genai-prices' ids that has no row is its own name.

The conventions have two names for what Google sells, and two for Microsoft. `google`, `gcp` and `gcp.gen_ai` do not say
which of Google's: the libraries that write so speak to the Gemini API unless they are told otherwise.
"""

GATEWAYS: dict[str, tuple[str, ...]] = {
    "ai-gateway": (),
    "coder": (),
    "mux-gateway": (),
    "vercel": ("gateway", "vercel-ai-gateway"),
}
"""Who charges for others' models, at the price of the seller that the model's name decides on, by the name that sums
have."""

LIBRARIES = frozenset(
    {
        "-other",
        "agno",
        "autogen",
        "crewai",
        "dspy",
        "gcp.vertex.agent",
        "google-adk",
        "haystack",
        "helicone",
        "instructor",
        "langchain",
        "langgraph",
        "litellm",
        "litellm-proxy",
        "llama-index",
        "llamaindex",
        "mastra",
        "microsoft.agent-framework",
        "mux",
        "openai-agents",
        "other",
        "portkey",
        "pydantic-ai",
        "semantic-kernel",
        "smolagents",
        "strands",
        "strands-agents",
        "structured-llm",
        "unknown",
        "xum",
    }
)
"""Libraries, and proxies that charge nothing, which are named as the provider: the model's name decides who sells."""


_LLM = "-llm"
"""How the names of LlamaIndex' classes end, which OpenLLMetry writes."""
_LONGEST = 512
"""The most characters of a name that are looked at."""


def provider_key(provider: str) -> str:
    """Return a provider's name in the spelling of the tables above."""
    return provider.strip(" \t\r\n\"'`").lower().replace("_", "-").replace(" ", "-")


_SPELT: dict[str, tuple[str, str]] = {
    **{provider_key(provider.id): (provider.id, provider.id) for provider in PROVIDERS},
    **{spelling: (name, row.seller) for name, row in NAMES.items() for spelling in (provider_key(name), *row.others)},
    **{spelling: (name, "") for name, others in GATEWAYS.items() for spelling in (name, *others)},
}
"""Name and seller by spelling; a gateway has no seller."""
_LISTED = frozenset(name for name, _ in _SPELT.values())


def _known(provider: str) -> tuple[str, str] | None:
    """Return the name and the seller of a provider, as far as they are known; none has a name of its own.

    What follows the last dots may be an API's name: `anthropic.messages`, `google.vertex.chat`.
    """
    key = provider_key(provider)
    while key:
        if key in LIBRARIES:
            return "", ""
        if key in _SPELT:
            return _SPELT[key]
        key = key.removesuffix(_LLM) if key.endswith(_LLM) else key.rpartition(".")[0]
    return None if provider_key(provider) else ("", "")


def seller_of(provider: str) -> str | None:
    """Return the genai-prices provider of a name; "" for one that sells nothing; None if it is not known."""
    known = _known(provider[:_LONGEST])
    return None if known is None else known[1]


def provider_of(named: str, asked: str) -> str:
    """Return the provider that sold a call: the one whose endpoint was asked, where that is known, else the one named.

    Where both are one seller, the name that was given may tell more (`azure.ai.inference`).
    """
    return named if not asked or seller_of(named) == seller_of(asked) else provider_name(asked)


def provider_name(provider: str) -> str:
    """Return the one name of a provider, however it is spelled; what is not known stays as it is."""
    if provider in _LISTED:  # nearly always, where a ledger is read
        return provider
    known = _known(provider[:_LONGEST])
    return known[0] or provider if known is not None else provider
