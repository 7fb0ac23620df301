"""A model server that speaks OpenAI's, Anthropic's and Gemini's APIs, and keeps books of what it billed.

Anthropic's streams end with all counts, as Anthropic's own do; below `/short` with the output alone, as those of
servers that copy its API may (docs/formats/genai.md).
"""

from __future__ import annotations

import json
import secrets
import time
from collections.abc import Callable, Iterable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Lock
from typing import Any, TypeAlias

from tests.capture.bodies import body_of
from tests.capture.script import Numbers, wanted_tool

_Answer: TypeAlias = Callable[[dict[str, Any], int], tuple[dict[str, Any], dict[str, Any]]]
_Stream: TypeAlias = Callable[[dict[str, Any], dict[str, Any]], bytes]


class ModelServer(ThreadingHTTPServer):
    """Listens on a free port of this machine; `log` has one entry a call, in the form of truth.json's `calls`.

    The first `failures` calls fail and bill nothing.
    """

    daemon_threads = True

    def __init__(self, failures: int = 0) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.log: list[dict[str, Any]] = []
        self.lock = Lock()
        self.failures = failures

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"


class _Handler(BaseHTTPRequestHandler):
    server: ModelServer  # pyright: ignore[reportIncompatibleVariableOverride] - it is made by that one only
    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        request = json.loads(body_of(self))
        if "streamGenerateContent" in self.path:
            request["stream"] = True
        request.setdefault("model", self.path.rpartition("/")[2].partition(":")[0])
        if self.path.partition("?")[0].endswith(("/count_tokens", ":countTokens")):
            self._send(json.dumps({"input_tokens": 412, "totalTokens": 412}).encode(), "application/json")
            return
        if self.server.failures:
            self.server.failures -= 1
            self._send(b'{"error": {"message": "overloaded", "type": "overloaded_error"}}', "application/json", 503)
            return
        answer, streamed = next(forms for path, forms in _ENDPOINTS if path in self.path)
        with self.server.lock:
            response, entry = answer(request, len(self.server.log))
            self.server.log.append({"seq": len(self.server.log) + 1, "time": time.time(), **entry, "status": 200})
        if request.get("stream"):
            self._send(streamed(response, request), "text/event-stream")
        else:
            self._send(json.dumps(response).encode(), "application/json")

    def _send(self, body: bytes, media_type: str, status: int = 200) -> None:
        self.send_response(status)
        self.send_header("content-type", media_type)
        self.send_header("content-length", str(len(body)))
        self.send_header("request-id", f"req_{secrets.token_hex(12)}")
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - http.server's name
        """Say nothing."""


def _responses(request: dict[str, Any], number: int) -> tuple[dict[str, Any], dict[str, Any]]:
    numbers = Numbers(number)
    tool = wanted_tool(number, [tool["name"] for tool in request.get("tools") or [] if "name" in tool])
    prompt, model = numbers.plain + numbers.cached, _dated(request["model"])
    usage = {
        "input_tokens": prompt,
        "input_tokens_details": {"cached_tokens": numbers.cached},
        "output_tokens": numbers.output,
        "output_tokens_details": {"reasoning_tokens": numbers.reasoning},
        "total_tokens": prompt + numbers.output,
    }
    text = {"type": "output_text", "text": "The weather is fine.", "annotations": []}
    output: dict[str, Any] = {"type": "message", "role": "assistant", "status": "completed", "content": [text]}
    calls: list[dict[str, Any]] = []
    if tool is not None:
        call_id = f"call_{secrets.token_hex(11)}"
        calls = [{"name": tool[0], "arguments": tool[1], "call_id": call_id}]
        output = {"type": "function_call", "call_id": call_id, "name": tool[0], "arguments": json.dumps(tool[1])}
    response = {
        "id": f"resp_{secrets.token_hex(24)}",
        "object": "response",
        "created_at": int(time.time()),
        "status": "completed",
        "model": model,
        "output": [{"id": f"item_{secrets.token_hex(8)}", "status": "completed", **output}],
        "parallel_tool_calls": True,
        "tool_choice": "auto",
        "tools": request.get("tools") or [],
        "error": None,
        "incomplete_details": None,
        "instructions": None,
        "metadata": {},
        "usage": usage,
    }
    return response, _entry("openai", "responses", request, response, numbers, (0, 0), calls)


def _embeddings(request: dict[str, Any], number: int) -> tuple[dict[str, Any], dict[str, Any]]:
    numbers = Numbers(number)
    texts = len(request["input"]) if isinstance(request["input"], list) else 1
    response = {
        "object": "list",
        "model": request["model"],
        "data": [{"object": "embedding", "index": index, "embedding": [0.25, 0.5, 0.25]} for index in range(texts)],
        "usage": {"prompt_tokens": numbers.plain, "total_tokens": numbers.plain},
    }
    entry = _entry("openai", "embeddings", request, {"id": None, **response}, numbers, (0, 0), [])
    return response, {**entry, "cache_read": 0, "output_total": 0, "reasoning": 0}


def _gemini(request: dict[str, Any], number: int) -> tuple[dict[str, Any], dict[str, Any]]:
    numbers = Numbers(number)
    tools = request.get("tools") or []
    listed = tools if isinstance(tools, list) else [tools]
    declared = [f["name"] for tool in listed for f in tool.get("functionDeclarations") or []]
    tool = wanted_tool(number, declared)
    prompt, thoughts = numbers.plain + numbers.cached, numbers.reasoning
    part: dict[str, Any] = {"text": "The weather is fine."}
    calls: list[dict[str, Any]] = []
    if tool is not None:
        part = {"functionCall": {"name": tool[0], "args": tool[1]}}
        calls = [{"name": tool[0], "arguments": tool[1], "call_id": None}]
    response = {
        "candidates": [{"content": {"role": "model", "parts": [part]}, "finishReason": "STOP", "index": 0}],
        "usageMetadata": {
            "promptTokenCount": prompt,
            "cachedContentTokenCount": numbers.cached,
            "candidatesTokenCount": numbers.output - thoughts,
            "thoughtsTokenCount": thoughts,
            "totalTokenCount": prompt + numbers.output,
        },
        "modelVersion": request["model"],
        "responseId": f"gm{secrets.token_hex(10)}",
    }
    reported = {"id": response["responseId"], "model": request["model"], "usage": response["usageMetadata"]}
    return response, _entry("gemini", "generateContent", request, reported, numbers, (0, 0), calls)


def _openai(request: dict[str, Any], number: int) -> tuple[dict[str, Any], dict[str, Any]]:
    numbers = Numbers(number)
    tool = wanted_tool(number, [tool["function"]["name"] for tool in request.get("tools") or []])
    prompt, model = numbers.plain + numbers.cached, _dated(request["model"])
    usage = {
        "prompt_tokens": prompt,
        "completion_tokens": numbers.output,
        "total_tokens": prompt + numbers.output,
        "prompt_tokens_details": {"cached_tokens": numbers.cached, "audio_tokens": 0},
        "completion_tokens_details": {"reasoning_tokens": numbers.reasoning, "audio_tokens": 0},
    }
    message: dict[str, Any] = {"role": "assistant", "content": "The weather is fine."}
    calls: list[dict[str, Any]] = []
    if tool is not None:
        call_id = f"call_{secrets.token_hex(11)}"
        calls = [{"name": tool[0], "arguments": tool[1], "call_id": call_id}]
        function = {"name": tool[0], "arguments": json.dumps(tool[1])}
        message = {
            "role": "assistant",
            "content": None,
            "tool_calls": [{"id": call_id, "type": "function", "function": function}],
        }
    response = {
        "id": f"chatcmpl-{secrets.token_hex(14)}",
        "object": "chat.completion",
        "created": int(time.time()),
        "model": model,
        "choices": [
            {"index": index, "message": message, "finish_reason": "tool_calls" if tool else "stop"}
            for index in range(request.get("n") or 1)
        ],
        "usage": usage,
    }
    return response, _entry("openai", "chat.completions", request, response, numbers, (0, 0), calls)


def _anthropic(request: dict[str, Any], number: int) -> tuple[dict[str, Any], dict[str, Any]]:
    numbers = Numbers(number)
    five_minutes, hour = numbers.writes
    tool = wanted_tool(number, [tool["name"] for tool in request.get("tools") or []])
    usage = {
        "input_tokens": numbers.plain,
        "cache_creation_input_tokens": five_minutes + hour,
        "cache_read_input_tokens": numbers.cached,
        "cache_creation": {"ephemeral_5m_input_tokens": five_minutes, "ephemeral_1h_input_tokens": hour},
        "output_tokens": numbers.output,
        "service_tier": "standard",
    }
    content: list[dict[str, Any]] = [{"type": "text", "text": "The weather is fine."}]
    calls: list[dict[str, Any]] = []
    if tool is not None:
        call_id = f"toolu_{secrets.token_hex(11)}"
        calls = [{"name": tool[0], "arguments": tool[1], "call_id": call_id}]
        content = [{"type": "tool_use", "id": call_id, "name": tool[0], "input": tool[1]}]
    response = {
        "id": f"msg_{secrets.token_hex(12)}",
        "type": "message",
        "role": "assistant",
        "model": f"{request['model']}-20250929",
        "content": content,
        "stop_reason": "tool_use" if tool else "end_turn",
        "stop_sequence": None,
        "usage": usage,
    }
    return response, _entry("anthropic", "messages", request, response, numbers, numbers.writes, calls)


def _dated(model: str) -> str:
    """The model as OpenAI's answers name it."""
    return f"{model}-{'2024-08-06' if model == 'gpt-4o' else '2025-11-13'}"


def _entry(
    provider: str,
    endpoint: str,
    request: dict[str, Any],
    response: dict[str, Any],
    numbers: Numbers,
    writes: tuple[int, int],
    calls: list[dict[str, Any]],
) -> dict[str, Any]:
    return {
        "provider": provider,
        "endpoint": endpoint,
        "request_model": request["model"],
        "response_model": response["model"],
        "response_id": response["id"],
        "usage_raw": response["usage"],
        "uncached_input": numbers.plain,
        "cache_read": numbers.cached,
        "cache_write_5m": writes[0],
        "cache_write_1h": writes[1],
        "output_total": numbers.output,
        "reasoning": 0 if provider == "anthropic" else numbers.reasoning,
        "streamed": bool(request.get("stream")),
        "tool_calls": calls,
    }


def _openai_stream(response: dict[str, Any], request: dict[str, Any]) -> bytes:
    """OpenAI's stream: one chunk with the message, one with the usage where it was asked for."""
    choice = response["choices"][0]
    message = choice["message"]
    calls = [{"index": index, **call} for index, call in enumerate(message.get("tool_calls") or [])]
    delta = {"role": "assistant", "content": message["content"], **({"tool_calls": calls} if calls else {})}
    base = {key: response[key] for key in ("id", "created", "model")} | {"object": "chat.completion.chunk"}
    chunks: list[dict[str, Any]] = [
        {**base, "choices": [{"index": 0, "delta": delta, "finish_reason": None}]},
        {**base, "choices": [{"index": 0, "delta": {}, "finish_reason": choice["finish_reason"]}]},
    ]
    if (request.get("stream_options") or {}).get("include_usage"):
        chunks.append({**base, "choices": [], "usage": response["usage"]})
    lines = [f"data: {json.dumps(chunk)}\n\n" for chunk in chunks]
    return "".join([*lines, "data: [DONE]\n\n"]).encode()


def _responses_stream(response: dict[str, Any], request: dict[str, Any]) -> bytes:
    del request
    running = {**response, "status": "in_progress", "usage": None, "output": []}
    events: list[dict[str, Any]] = [{"type": "response.created", "response": running}]
    for index, item in enumerate(response["output"]):
        place = {"output_index": index, "item_id": item["id"]}
        events.append({"type": "response.output_item.added", "output_index": index, "item": _begun(item)})
        if item["type"] == "function_call":
            reported = item["arguments"]
            events.append({"type": "response.function_call_arguments.delta", **place, "delta": reported})
            events.append({"type": "response.function_call_arguments.done", **place, "arguments": reported})
        else:
            place["content_index"] = 0
            part = item["content"][0]
            events.append({"type": "response.content_part.added", **place, "part": {**part, "text": ""}})
            events.append({"type": "response.output_text.delta", **place, "delta": part["text"], "logprobs": []})
            events.append({"type": "response.output_text.done", **place, "text": part["text"], "logprobs": []})
            events.append({"type": "response.content_part.done", **place, "part": part})
        events.append({"type": "response.output_item.done", "output_index": index, "item": item})
    events.append({"type": "response.completed", "response": response})
    return _events({**event, "sequence_number": number} for number, event in enumerate(events))


def _begun(item: dict[str, Any]) -> dict[str, Any]:
    """An item of a response before anything of its content has come."""
    empty: dict[str, Any] = {"arguments": ""} if item["type"] == "function_call" else {"content": []}
    return {**item, "status": "in_progress", **empty}


def _anthropic_stream(response: dict[str, Any], request: dict[str, Any]) -> bytes:
    del request
    told = ("input_tokens", "cache_creation_input_tokens", "cache_read_input_tokens", "output_tokens")
    return _anthropic_events(response, {key: response["usage"][key] for key in told})


def _short_anthropic_stream(response: dict[str, Any], request: dict[str, Any]) -> bytes:
    del request
    return _anthropic_events(response, {"output_tokens": response["usage"]["output_tokens"]})


def _anthropic_events(response: dict[str, Any], ends_with: dict[str, int]) -> bytes:
    usage = response["usage"]
    begun = {**response, "content": [], "stop_reason": None, "usage": {**usage, "output_tokens": 1}}
    events: list[dict[str, Any]] = [{"type": "message_start", "message": begun}]
    for index, block in enumerate(response["content"]):
        if block["type"] == "text":
            start, delta = {**block, "text": ""}, {"type": "text_delta", "text": block["text"]}
        else:
            start = {**block, "input": {}}
            delta = {"type": "input_json_delta", "partial_json": json.dumps(block["input"])}
        events.append({"type": "content_block_start", "index": index, "content_block": start})
        events.append({"type": "content_block_delta", "index": index, "delta": delta})
        events.append({"type": "content_block_stop", "index": index})
    ended = {"stop_reason": response["stop_reason"], "stop_sequence": None}
    events.append({"type": "message_delta", "delta": ended, "usage": ends_with})
    events.append({"type": "message_stop"})
    return _events(events)


def _gemini_stream(response: dict[str, Any], request: dict[str, Any]) -> bytes:
    """Gemini's stream: one chunk with the content, one with the reason for its end and the usage."""
    del request
    (candidate,) = response["candidates"]
    content = {key: value for key, value in candidate.items() if key != "finishReason"}
    begun = {**{key: value for key, value in response.items() if key != "usageMetadata"}, "candidates": [content]}
    ended = {**response, "candidates": [{**candidate, "content": {"role": "model", "parts": [{"text": ""}]}}]}
    return "".join(f"data: {json.dumps(chunk)}\r\n\r\n" for chunk in (begun, ended)).encode()


def _events(events: Iterable[dict[str, Any]]) -> bytes:
    return "".join(f"event: {event['type']}\ndata: {json.dumps(event)}\n\n" for event in events).encode()


_ENDPOINTS: tuple[tuple[str, tuple[_Answer, _Stream]], ...] = (
    ("/chat/completions", (_openai, _openai_stream)),
    ("/responses", (_responses, _responses_stream)),
    ("/embeddings", (_embeddings, _openai_stream)),
    ("/short/v1/messages", (_anthropic, _short_anthropic_stream)),
    ("/messages", (_anthropic, _anthropic_stream)),
    ("enerateContent", (_gemini, _gemini_stream)),
)
"""What stands in the path, who answers, and how the answer is streamed."""
