"""GitHub Copilot: VS Code's chat and the CLI, both close to the convention."""

from __future__ import annotations

from dataclasses import replace

from spanledger_processor.dialects.schema import ContentKeys, Detection, GroupingKeys, Precedence, ScopedSpan
from spanledger_processor.dialects.vendors.otel import OTEL
from spanledger_processor.model import Call


def _seller(_: ScopedSpan, call: Call) -> None:
    if call.provider == "github":
        call.provider = "github-copilot"
        call.plan = "subscription"


COPILOT = replace(
    OTEL,
    name="copilot",
    precedence=Precedence.CODING_AGENT,
    rank=4,
    about="GitHub Copilot in VS Code and Copilot CLI",
    detection=Detection(
        keys=("copilot_chat.session_id", "copilot_chat.turn_count", "github.copilot.cost", "github.copilot.turn_id"),
        scopes=("github.copilot", "copilot-chat"),
        requires=("gen_ai.operation.name",),
    ),
    not_costs=("github.copilot.cost", "github.copilot.aiu", "github.copilot.nano_aiu"),
    content=ContentKeys(
        keys={
            "copilot_chat.user_request": ("prompts",),
            "copilot_chat.*prompt*": ("prompts",),
        },
        prefixes=("copilot_chat.",),
        plain=(
            "copilot_chat.session_id",
            "copilot_chat.tool*name",
            "copilot_chat.request.*id",
            "copilot_chat.location",
            "copilot_chat.agent*",
            "copilot_chat.turn.*",
        ),
    ),
    groups=GroupingKeys(session=("gen_ai.conversation.id", "copilot_chat.session_id")),
    rules=(_seller,),
    notes=(
        "GitHub's own models are paid for by the seat or by premium requests: `subscription`. Models behind the user's"
        " own key name another provider, and are priced.",
        "`github.copilot.cost` counts premium requests or credits, not USD.",
    ),
)
