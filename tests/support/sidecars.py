"""A sidecar under test: an endpoint that records, and questions about what it was sent."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from spanledger_exporters.interface import ACCEPTED, Result, Verdict
from spanledger_processor.signing import Signer
from spanledger_sidecar.loop import Grain, Settings, Sidecar, SourceName, SourceSettings
from spanledger_sidecar.spans import Span

SIGNER = Signer(b"a key for tests, long enough")
NOW_MS = 1_795_500_000_000
DATA = Path(__file__).resolve().parent.parent / "data"

Tokens = tuple[int, int, int, int, int]
"""Tokens: uncached input, cache reads, cache writes, output without reasoning, reasoning."""


@dataclass
class Clock:
    """A clock that a test sets, in ms since 1970."""

    now_ms: int

    def __call__(self) -> int:
        return self.now_ms


class KilledError(Exception):
    """The process ends here."""


@dataclass
class Endpoint:
    """Records what it is sent, and counts a span once, by its ids, as the processor does.

    `down`: it does not answer. `dies_after`: the sender is killed once the endpoint has its spans, before it knows.
    """

    spans: dict[tuple[bytes, bytes], Span] = field(default_factory=dict)
    repeats: int = 0
    down: bool = False
    dies_after: bool = False

    address = "the endpoint of the test"

    def send(self, spans: Sequence[Span]) -> Result:
        if self.down:
            return Result(Verdict.RETRYABLE, "it is down")
        for span in spans:
            known = self.spans.setdefault((span.trace_id, span.span_id), span)
            self.repeats += known is not span
            assert known.attributes == span.attributes, "the same ids for another thing"
        if self.dies_after:
            raise KilledError
        return ACCEPTED

    def close(self) -> None:
        pass

    def usage(self) -> list[Span]:
        return [span for span in self.spans.values() if "gen_ai.usage.input_tokens" in span.attributes]

    def named(self, name: str) -> list[Span]:
        return [span for span in self.spans.values() if span.name.split(" ")[0] == name]


def sidecar(
    state: Path,
    endpoint: Endpoint,
    *roots: Path,
    source: SourceName = "mux",
    grain: Grain = "auto",
    since_ms: int | None = 0,
    now_ms: Callable[[], int] = lambda: NOW_MS,
    environ: dict[str, str] | None = None,
) -> Sidecar:
    """A sidecar on `roots`, which counts from the beginning if not told otherwise."""
    settings = Settings(state, [SourceSettings(source, roots, grain)], since_ms)
    return Sidecar(settings, endpoint, SIGNER, now_ms=now_ms, environ=environ or {})


def scan(state: Path, endpoint: Endpoint, *roots: Path, **options: object) -> bool:
    """Start a sidecar, let it look once, and stop it."""
    with sidecar(state, endpoint, *roots, **options) as made:  # type: ignore[arg-type]
        return made.once()


def tokens_of(span: Span) -> Tokens:
    """The span's usage in disjoint classes; 0 for what it does not tell."""
    given, answer, read, written, reasoning = (
        int(span.attributes.get(key, 0))  # type: ignore[arg-type]
        for key in (
            "gen_ai.usage.input_tokens",
            "gen_ai.usage.output_tokens",
            "gen_ai.usage.cache_read.input_tokens",
            "gen_ai.usage.cache_creation.input_tokens",
            "gen_ai.usage.reasoning.output_tokens",
        )
    )
    return given - read - written, read, written, answer - reasoning, reasoning


def by_model(spans: Iterable[Span]) -> dict[tuple[str, str], Tokens]:
    """Tokens by session and model key."""
    found: dict[tuple[str, str], Tokens] = defaultdict(lambda: (0, 0, 0, 0, 0))
    for span in spans:
        key = (str(span.attributes["gen_ai.conversation.id"]), str(span.attributes.get("spanledger.source.model_key")))
        a = found[key]
        b = tokens_of(span)
        found[key] = (a[0] + b[0], a[1] + b[1], a[2] + b[2], a[3] + b[3], a[4] + b[4])
    return dict(found)


def cost_by_model(spans: Iterable[Span]) -> dict[tuple[str, str], float]:
    """What the source says it cost, by session and model key, rounded to a nanodollar."""
    found: dict[tuple[str, str], float] = defaultdict(float)
    for span in spans:
        key = (str(span.attributes["gen_ai.conversation.id"]), str(span.attributes.get("spanledger.source.model_key")))
        found[key] += float(span.attributes.get("spanledger.cost.reported_usd", 0))  # type: ignore[arg-type]
    return {key: round(cost, 9) for key, cost in found.items()}
