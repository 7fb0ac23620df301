"""A model server that speaks OpenAI's chat completions and Anthropic's messages, and keeps books of what it billed."""

from __future__ import annotations

import json
import secrets
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Lock
from typing import Any

from tests.capture.script import Numbers, wanted_tool


class ModelServer(ThreadingHTTPServer):
    """Listens on a free port of this machine; `log` has one entry a call, in the form of truth.json's `calls`."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.log: list[dict[str, Any]] = []
        self.lock = Lock()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"


class _Handler(BaseHTTPRequestHandler):
    server: ModelServer
    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        request = json.loads(self.rfile.read(int(self.headers["content-length"])))
        answer = _openai if self.path.endswith("/chat/completions") else _anthropic
        with self.server.lock:
            response, entry = answer(request, len(self.server.log))
            self.server.log.append({"seq": len(self.server.log) + 1, "time": time.time(), **entry, "status": 200})
        if request.get("stream"):
            self._send(_streamed(response, request), "text/event-stream")
        else:
            self._send(json.dumps(response).encode(), "application/json")

    def _send(self, body: bytes, media_type: str) -> None:
        self.send_response(200)
        self.send_header("content-type", media_type)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - http.server's name
        """Say nothing."""


def _openai(request: dict[str, Any], number: int) -> tuple[dict[str, Any], dict[str, Any]]:
    numbers = Numbers(number)
    tool = wanted_tool(number, [tool["function"]["name"] for tool in request.get("tools") or []])
    prompt, model = numbers.plain + numbers.cached, f"{request['model']}-2025-11-13"
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
        "choices": [{"index": 0, "message": message, "finish_reason": "tool_calls" if tool else "stop"}],
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
        "reasoning": numbers.reasoning if provider == "openai" else 0,
        "streamed": bool(request.get("stream")),
        "tool_calls": calls,
    }


def _streamed(response: dict[str, Any], request: dict[str, Any]) -> bytes:
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
