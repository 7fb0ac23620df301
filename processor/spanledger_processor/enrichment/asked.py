"""The tool calls that messages of a model's span tell of: those that the model asks for, and those of the conversation
before, which may be loops or calls that were made before.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import fields
from operator import attrgetter

from spanledger_processor.accounting.facts import AskedAgain, Fact, LoopRule
from spanledger_processor.accounting.loops import history_loop
from spanledger_processor.dialects.asked_tools import AskedTool, Step, asked_in, history, is_made_id, made_id
from spanledger_processor.dialects.content import names_genai, tells_results
from spanledger_processor.enrichment.facts import Signing
from spanledger_processor.model import Call, ToolCall
from spanledger_processor.otlp.views import SpanView
from spanledger_processor.signing.signer import PLACEHOLDERS

_LEFT_OUT = "-"
"""What a client writes in place of a value that is not read."""


class MessageTools:
    """Enters the tool calls that messages tell of into facts."""

    def __init__(self, signing: Signing, loop: LoopRule) -> None:
        self._signing, self._loop, self._fewest_calls = signing, loop, loop.fewest_calls

    def enter(self, fact: Fact, call: Call, view: SpanView, *, flat: bool) -> Fact:
        """Return the fact of a single call of a model with the tool calls that its span's messages tell of; `flat` if
        each value is an attribute.

        May raise anything, as the messages are whatever a client sent; the fact is then as it was.
        """
        asked = asked_in(view.attributes, flat=flat)
        steps = history(view.attributes, flat=flat, fewest=self._fewest_calls) if self._fewest_calls else ()
        stuck: list[tuple[Sequence[Step], Step, str]] = []
        again: tuple[AskedAgain, ...] = ()
        if len({*map(_call_of, steps)}) < len(steps):  # else none was made again
            stuck, again = [*self._looping(steps)], tuple(self._asked_again(steps))
        if not asked and not stuck and not again:
            return fact
        signatures: tuple[str, ...] = ()
        if asked and self._fewest_calls and not flat and not _tells_results(view):  # flat ones come without arguments
            signatures = tuple(map(self._signature_of, asked))
        if type(fact) is not Fact:  # those like it ask for nothing
            fact = Fact(*_values_of(fact))
        fact.asked = tuple([text for one in asked for text in (_id_of(one, fact, call), one.tool)])
        fact.stuck = tuple([text for _, step, identifier in stuck for text in (identifier, step.tool)])
        fact.stuck_steps = tuple([tuple([one.id for one in loop]) for loop, _, _ in stuck])
        fact.asked_signatures, fact.asked_again = signatures, again
        return fact

    def _signature_of(self, asked: AskedTool | Step) -> str:
        signature = self._signing.sign(ToolCall(asked.tool, asked.arguments))
        return "" if signature is None or signature.scope == "name_only" else signature.value

    def _looping(self, steps: Sequence[Step]) -> Iterator[tuple[Sequence[Step], Step, str]]:
        """Yield the new steps of a conversation that complete a loop, behind all steps of it, with the id of the call.

        Arguments have to be known, and results not to be left out by a client; hidden ones are taken for the same.
        """
        calls = [
            (_call_of(step), _result_of(step) if _is_known(step) else f"\0{number}")
            for number, step in enumerate(steps)
        ]
        for number, step in enumerate(steps, 1):
            if not step.is_new or not _is_known(step):
                continue
            length = history_loop(calls[:number], self._loop.of(step.tool))
            if length and (signature := self._signature_of(step)):
                yield steps[number - length : number], step, _id_in(step, signature)

    def _asked_again(self, steps: Sequence[Step]) -> Iterator[AskedAgain]:
        """Yield the new steps of a conversation that it made before, with the same arguments."""
        calls = [*map(_call_of, steps)]
        for number, step in enumerate(steps, 1):
            if not step.is_new or not _is_known(step) or (times := calls[:number].count(_call_of(step))) < 2:
                continue
            in_a_row = next(
                (at for at, call in enumerate(calls[number - 1 :: -1]) if call != calls[number - 1]), number
            )
            if signature := self._signature_of(step):
                yield _id_in(step, signature), signature, step.tool, times, in_a_row


def _call_of(step: Step) -> str:
    return f"{step.tool}\0{step.arguments}"


def _id_in(step: Step, signature: str) -> str:
    """Return the id of a step of a conversation; one without is known again by what it called."""
    return made_id(step.id, signature) if is_made_id(step.id) else step.id


def _is_known(step: Step) -> bool:
    return step.arguments not in PLACEHOLDERS | {"", _LEFT_OUT} and step.result != _LEFT_OUT


def _result_of(step: Step) -> str:
    """Return a result; empty, which is the same as any, of one that a library was configured to hide."""
    return "" if step.result in PLACEHOLDERS else step.result


def _tells_results(view: SpanView) -> bool:
    """Return whether a model's span may hold the results of the tools that were called before."""
    return tells_results(view.attributes.shape()) or any(names_genai(event.name) for event in view.events)


def _id_of(one: AskedTool, fact: Fact, call: Call) -> str:
    """Return the id of a tool call; without one it is known again by the usage of the call that asks for it."""
    if not is_made_id(one.id):
        return one.id
    asker = fact.span_id.hex() if call.usage is None else f"{call.usage.input}-{call.usage.output}"
    return made_id(asker, one.id, one.tool)


_values_of = attrgetter(*(one.name for one in fields(Fact)))
