"""GitHub Copilot: VS Code's chat and the CLI, both close to the convention."""

from __future__ import annotations

from dataclasses import replace

from spanledger_processor.dialects.dialect import Groups, Signs
from spanledger_processor.dialects.otel import OTEL
from spanledger_processor.dialects.view import View
from spanledger_processor.model import Call


def _seller(_: View, call: Call) -> None:
    if call.provider == "github":
        call.provider = "github-copilot"


COPILOT = replace(
    OTEL,
    name="copilot",
    about="GitHub Copilot in VS Code and Copilot CLI",
    signs=Signs(
        keys=("copilot_chat.session_id", "copilot_chat.turn_count", "github.copilot.cost", "github.copilot.turn_id"),
        scopes=("github.copilot", "copilot-chat"),
        marks=("gen_ai.operation.name",),
    ),
    not_costs=("github.copilot.cost", "github.copilot.aiu", "github.copilot.nano_aiu"),
    groups=Groups(session=("gen_ai.conversation.id", "copilot_chat.session_id")),
    rules=(_seller,),
    notes=("`github.copilot.cost` counts premium requests or credits, not USD.",),
)
