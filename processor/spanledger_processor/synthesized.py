"""The vocabulary of synthesized spans: what log events and agents' files say, as attributes that the processor reads.

Written by `dialects.log_events` and by the sidecar, read by `dialects.vendors.spanledger`. Beside these keys a
synthesized span has those of the OpenTelemetry GenAI convention.
"""

from __future__ import annotations

from typing import Final

SOURCE: Final = "spanledger.source"
"""What the span was made from: `log:<client>` or `file:<source>`."""
GRANULARITY: Final = "spanledger.granularity"
NOTE: Final = "spanledger.note"
SESSION_ID: Final = "spanledger.session.id"
SESSION_PARENT: Final = "spanledger.session.parent_id"
SESSION_NAME: Final = "spanledger.session.name"
SESSION_PROJECT: Final = "spanledger.session.project"
SESSION_AGENT_TYPE: Final = "spanledger.session.agent_type"
SESSION_CLOSED: Final = "spanledger.session.closed"
RUN_ID: Final = "spanledger.run.id"
AGENT_ID: Final = "spanledger.agent.id"
AGENT_PARENT: Final = "spanledger.agent.parent_id"
TASK_ID: Final = "spanledger.task.id"
TASK_KIND: Final = "spanledger.task.kind"

REPORTED_USD: Final = "spanledger.cost.reported_usd"
CHARGED: Final = "spanledger.source.charged"
"""True: the reported cost is what was charged."""
UPSTREAM_USD: Final = "spanledger.source.upstream_usd"
OWN_KEY: Final = "spanledger.source.own_key"
"""Whether the caller's own key was used behind a gateway, to which the provider charges `UPSTREAM_USD`."""
UNRELIABLE: Final = "spanledger.source.cost_unreliable"
"""True: the library is known to compute the reported cost wrongly."""
MEANS_ZERO: Final = "spanledger.source.cost_means_zero"
"""True: a reported cost of 0 does not stand for an unknown one."""
ESTIMATE: Final = "spanledger.cost.estimate"
PLAN: Final = "spanledger.source.plan"
RESPONSE_CACHE: Final = "spanledger.source.response_cache"
ENDPOINT_PROVIDER: Final = "spanledger.source.endpoint_provider"
"""The provider whose host was asked, where that is told and known."""
UNCLASSED: Final = "spanledger.source.unclassed"
"""Names of what was used and has no usage class, with ", " between them."""
MODEL_KEY: Final = "spanledger.source.model_key"
ROUTE: Final = "spanledger.source.route"
TURN_INDEX: Final = "spanledger.source.turn_index"
CUMULATIVE: Final = "spanledger.source.cumulative."
"""Begins the keys of what a source says of a session and model so far; `<class>_tokens` or `cost_usd` follows."""
TERMS: Final = {name: f"spanledger.source.{name}" for name in ("speed", "service_tier", "region")}
"""Keys of `Call.price_context`, by its names."""

TOOL_SIGNATURE: Final = "spanledger.tool.signature"
TOOL_SIGNATURE_SCOPE: Final = "spanledger.tool.signature_scope"

USAGE: Final = {
    "input": "gen_ai.usage.input_tokens",
    "output": "gen_ai.usage.output_tokens",
    "cache_read": "gen_ai.usage.cache_read.input_tokens",
    "cache_write": "gen_ai.usage.cache_creation.input_tokens",
    "cache_write_1h": "spanledger.source.cache_write_1h_tokens",
    "reasoning": "gen_ai.usage.reasoning.output_tokens",
    "input_audio": "gen_ai.usage.audio.input_tokens",
    "input_image": "gen_ai.usage.image.input_tokens",
    "cache_read_audio": "gen_ai.usage.audio.cache_read.input_tokens",
    "cache_read_image": "gen_ai.usage.image.cache_read.input_tokens",
    "output_audio": "gen_ai.usage.audio.output_tokens",
    "output_image": "gen_ai.usage.image.output_tokens",
    "web_searches": "spanledger.source.web_searches",
    "search_units": "spanledger.source.search_units",
    "file_searches": "spanledger.source.file_searches",
}
"""Keys of the usage classes, by their names in `model.Usage`; input includes the caches, output the reasoning."""
