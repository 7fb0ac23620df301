"""Resolve names of providers and models to the seller and the seller's own name, by tables and a few rules.

A price is a property of a seller and a model: the same Claude costs 10 % more from a region of Bedrock. The seller is
the provider that was named, unless the form of the model's name can only be another's. Nothing is guessed: a provider
that is named and not known here has no prices, however familiar the model sounds.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache

from spanledger_processor.model import Unpriced
from spanledger_processor.pricing.providers import PROVIDERS, provider_name, seller_of

NAMED = "the provider was named"
"""Why a candidate is one of the seller that the provider's name means."""
MAKERS = frozenset({"anthropic", "cohere", "deepseek", "mistral", "moonshotai", "openai", "perplexity", "x-ai"})
"""Sellers of their own models only: another vendor before the name cannot be dropped."""

_VENDORS = (
    r"ai21|amazon|anthropic|cohere|deepseek|google|meta|minimax|mistral|moonshot|moonshotai|nvidia|openai|qwen|"
    r"stability|twelvelabs|writer|zai"
)
BEDROCK = re.compile(rf"^(?:[\w.-]+/)*(?P<model>(?:[a-z]{{2,6}}(?:-gov)?\.)?(?:{_VENDORS})\.[a-z][\w.:-]*)$")
"""`us.anthropic.claude-...`, `amazon.nova-...`, also behind `bedrock/us-east-1/`."""


@dataclass(frozen=True, slots=True)
class Candidate:
    """One way to read a name: a genai-prices provider, the model as it would call it, why that seller, and the name of
    the provider (`providers.NAMES`).
    """

    seller: str
    model: str
    why: str
    provider: str = ""


@dataclass(frozen=True, slots=True)
class NameForm:
    """The form of names that only one provider gives, where the seller is in `over` (None: any that is known)."""

    pattern: re.Pattern[str]
    provider: str
    over: frozenset[str] | None
    why: str

    def candidate(self, model: str, seller: str, provider: str) -> Candidate:
        """Return the candidate of a model's name in this form, which came with a seller and its name (empty: none)."""
        own = seller_of(self.provider) or ""
        is_theirs = own == seller and self.provider == provider_name(seller)
        return Candidate(own, model, self.why, provider if is_theirs else self.provider)


_UNNAMED = frozenset({""})
FORMS = (
    NameForm(
        re.compile(r"^arn:aws[\w-]*:bedrock:.*/(?P<model>[^/]+)$"),
        "aws.bedrock",
        None,
        "the name is a Bedrock ARN",
    ),
    NameForm(BEDROCK, "aws.bedrock", None, "the name has Bedrock's form"),
    NameForm(
        re.compile(r"^(?:projects/[^/]+/locations/[^/]+/)?publishers/[^/]+/models/(?P<model>.+)$"),
        "gcp.vertex_ai",
        None,
        "the name has Vertex AI's form",
    ),
    NameForm(
        re.compile(r"^models/(?P<model>.+)$"),
        "gcp.gemini",
        frozenset({"", "openai", "google"}),
        "the name has the Gemini API's form",
    ),
    NameForm(
        re.compile(r"^(?P<model>claude-[\w.-]+@(?:\d{8}|default|latest))$"),
        "gcp.vertex_ai",
        frozenset({"", "anthropic"}),
        "the name has Vertex AI's form",
    ),
    NameForm(re.compile(r"^(?P<model>ft:.+)$"), "openai", _UNNAMED, "the name has the form of OpenAI's fine-tunes"),
    NameForm(re.compile(r"^(?P<model>(?:databricks-|system\.ai\.).+)$"), "databricks", _UNNAMED, "the name says so"),
    NameForm(re.compile(r"^(?P<model>accounts/fireworks/.+)$"), "fireworks", _UNNAMED, "the name says so"),
    NameForm(re.compile(r"^(?P<model>@cf/.+)$"), "cloudflare", _UNNAMED, "the name says so"),
)

_TAG = re.compile(r"\[\w+\]$")
_LOCAL = re.compile(r":(?:latest|\d+(?:\.\d+)?[bm](?:-.*)?)$")
"""Ollama's tags: the weights run on somebody's own machine, whatever the model is called."""

_MAX_PREFIXES = 4
_LONGEST = 512
"""The most characters of a model's name that are read, and kept in a cache."""

_IN_BEDROCK = re.compile(rf"^(?:[a-z]{{2,6}}(?:-gov)?\.)?(?:{_VENDORS})\.(?P<model>[a-z].*)$")
_VERSION = re.compile(r"(?:(?<=-20\d{6})-v\d+|-v1(?=:))?(?::\d[\w:]*)?$")
"""Bedrock's version of a deployment; without a date before it, one from 2 on is another model (Titan)."""
_VERSIONED = re.compile(r"-v\d+:\d[\w:]*$")
"""The end of Bedrock's names, which some libraries write without the vendor before it."""
_DATED = re.compile(
    r"^(?P<model>.*?)(?:-v\d(?=@))?"
    r"(?:[-@](?P<date>20\d{2}-?(?:0\d|1[0-2])-?[0-3]\d|(?:0[1-9]|1[0-2])[0-3]\d)|[-@](?:latest|default))?$",
    re.DOTALL,
)
"""A name and the date behind it (`-2024-08-06`, `-20250929`, `@20250929`, `-0613`), or what stands for the newest."""
_OF_MISTRAL = re.compile(
    r"^(?P<model>(?:open-)?(?:codestral|devstral|magistral|ministral|mistral|mixtral|pixtral|voxtral)(?:-[\w-]*)?)"
    r"-(?P<date>2[3-9](?:0[1-9]|1[0-2]))$"
)
"""Mistral's names with year and month: https://docs.mistral.ai/getting-started/models/models_overview/."""


def clean(name: str) -> str:
    """Return a model's name in lower case, without blanks, quotes and a context-window tag such as [1m]."""
    return _TAG.sub("", name.strip(" \t\r\n\"'`").lower())


def canonical_model(name: str) -> str:
    """Return the one name of a model, however a provider, a gateway or a library spells it.

    Only what does not make it another model is left out: the vendor before the name, a region, the date of a
    deployment, a context tag. `us.anthropic.claude-opus-4-7-20260416-v1:0`, `anthropic/claude-opus-4.7` and
    `claude-opus-4-7[1m]` are `claude-opus-4-7`; `gpt-4o-mini` is never `gpt-4o`.
    """
    return _undated(name[:_LONGEST])[0]


def one_model(name: str, other: str) -> bool:
    """Return whether two names can be one model's: one canonical name, and not two dates."""
    (one, date), (same, other_date) = _undated(name[:_LONGEST]), _undated(other[:_LONGEST])
    return one == same and (not date or not other_date or date == other_date)


@lru_cache(4096)
def _undated(name: str) -> tuple[str, str]:
    """Return the canonical name and the digits of the date that was part of the name."""
    plain = clean(name)
    if (match := FORMS[0].pattern.match(plain) or BEDROCK.match(plain)) is not None:
        plain = match["model"]
    for _ in range(_MAX_PREFIXES):
        if (match := _IN_BEDROCK.match(plain)) is not None:
            plain = _VERSION.sub("", match["model"], count=1)
            break
        head, separator, tail = plain.partition(":")
        if "/" in head:
            plain = plain.rpartition("/")[2] or plain
        elif separator and tail and head != "ft" and seller_of(head) is not None:
            plain = tail
    if _VERSIONED.search(plain):
        plain = _VERSION.sub("", plain, count=1)
    if plain.startswith("claude-"):
        plain = plain.replace(".", "-")  # as OpenRouter and Copilot have it
    elif re.match(r"gemini-\d", plain):
        plain = re.sub(r"-00\d$", "", plain)
    match = _OF_MISTRAL.match(plain) or _DATED.match(plain)
    assert match is not None  # it matches every text
    return match["model"] or plain, re.sub(r"\D", "", match["date"] or "")


def candidates_for(provider: str, model: str) -> list[Candidate] | Unpriced:
    """Return the candidates for a provider and a model, the likeliest first; the first that its seller lists holds."""
    model = clean(model)
    if not model:
        return "no_model"
    seller = seller_of(provider)
    if seller is None:
        return _only_by_arn(model) or "unknown_provider"
    why = NAMED if seller else ""
    return _candidates(seller, provider_name(provider), model, why, _MAX_PREFIXES) or "unknown_model"


def _candidates(seller: str, provider: str, model: str, why: str, prefixes: int) -> list[Candidate]:
    for form in FORMS:
        if (form.over is None or seller in form.over) and (match := form.pattern.match(model)):
            return [form.candidate(match["model"], seller, provider)]
    if seller in ("", "openai") and _LOCAL.search(model):
        return []
    head, tail = _split(model)
    named = seller_of(head) if head and prefixes else None
    if not seller:
        if named is None:
            return _by_name(model)
        return _candidates(named, provider_name(head), tail, f'the name begins with "{head}"', prefixes - 1)
    result = [Candidate(seller, model, why, provider)]
    if named in ("", seller):
        result += _candidates(seller, provider, tail, why, prefixes - 1)
    elif seller == "openai" and named:
        # OpenAI's client library speaks to any gateway that has OpenAI's API; the name says whose model it was.
        result += _candidates(named, provider_name(head), tail, f'the name begins with "{head}"', prefixes - 1)
    elif tail and seller not in MAKERS and seller != "openrouter" and (named or model[len(head)] == "/"):
        result.append(Candidate(seller, tail, why, provider))
    return result


def _split(model: str) -> tuple[str, str]:
    match = re.match(r"([^/:]+)[/:](.+)$", model)
    return (match[1], match[2]) if match else ("", "")


def _by_name(model: str) -> list[Candidate]:
    """Return the sellers that claim a name; where none does, the one maker that lists it (embeddings, for one)."""
    head = model.partition(":")[0]
    if "/" in model:
        return []
    claims: Callable[[str], str] = 'names like "{}" are taken for its models'.format
    result = [
        Candidate(provider.id, model, claims(model), provider_name(provider.id))
        for provider in PROVIDERS
        if provider.model_match is not None and provider.model_match.is_match(head)
    ]
    if result:
        return result
    makers = [provider.id for provider in PROVIDERS if provider.id in MAKERS and provider.find_model(head)]
    if len(makers) != 1:
        return []
    return [Candidate(makers[0], model, "of the makers only this one lists it", provider_name(makers[0]))]


def _only_by_arn(model: str) -> list[Candidate]:
    form = FORMS[0]
    match = form.pattern.match(model)
    return [form.candidate(match["model"], "", "")] if match else []
