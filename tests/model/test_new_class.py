"""What CONTRIBUTING.md says of a new usage class: one field, and the key of a vocabulary that tells it."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import spanledger_processor

FIELD = '    input_video: int | None = _sold("input_video_mtok", "input", absent="none", own_price=True)\n'
KEY = '    "input_video": "gen_ai.usage.video.input_tokens",\n'
LAST_FIELD = '    file_searches: int | None = _sold("storage_searches_kcount"'
LAST_KEY = '    "file_searches": "spanledger.source.file_searches",\n'

# 1,000 tokens of input at 2 USD a million, of which 400 are video at 9; 100 of output at 10.
PROGRAM = """
import json
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from spanledger_processor import synthesized
from pipelines import Pipeline

override = {"model": "acme", "input": 2, "output": 10, "classes": {"input_video": 9}}
request = ExportTraceServiceRequest()
scope = request.resource_spans.add().scope_spans.add()
scope.scope.name = "spanledger.sidecar"
span = scope.spans.add(name="chat acme", trace_id=bytes(15) + b"1", span_id=bytes(7) + b"1")
span.start_time_unix_nano, span.end_time_unix_nano = 1_795_000_000_000_000_000, 1_795_000_001_000_000_000
texts = {synthesized.SOURCE: "file:acme", synthesized.GRANULARITY: "per-message", "gen_ai.operation.name": "chat",
         "gen_ai.request.model": "acme", "gen_ai.response.model": "acme", "gen_ai.provider.name": "acme"}
for key, text in texts.items():
    span.attributes.add(key=key).value.string_value = text
for name, count in {"input": 1000, "input_video": 400, "output": 100}.items():
    span.attributes.add(key=synthesized.USAGE[name]).value.int_value = count
pipeline = Pipeline(sets=["processor.pricing.overrides=" + json.dumps([override])])
pipeline.send("traces", request.SerializeToString())
[sent] = pipeline.sent.values()
print(json.dumps({"sent": {key: one for key, one in sent.items() if key.startswith("spanledger.")},
                  "ledger": pipeline.ledger()}, default=str))
"""


def test_a_class_is_one_field_a_key_and_its_price(tmp_path: Path) -> None:
    package = Path(spanledger_processor.__file__).parent
    copy = tmp_path / "processor" / package.name
    shutil.copytree(package, copy, ignore=shutil.ignore_patterns("__pycache__"))
    for name, before, added in (("model.py", LAST_FIELD, FIELD), ("synthesized.py", LAST_KEY, KEY)):
        text = (copy / name).read_text()
        head, found, rest = text.partition(before)
        line, _, rest = (found + rest).partition("\n")
        (copy / name).write_text(f"{head}{line}\n{added}{rest}")
    path = os.pathsep.join([str(copy.parent), *filter(None, sys.path)])
    environment = {**os.environ, "PYTHONPATH": path, "PYTHONDONTWRITEBYTECODE": "1"}
    run = subprocess.run([sys.executable, "-c", PROGRAM], env=environment, capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr
    came = json.loads(run.stdout)
    assert came["sent"]["spanledger.usage.input_video_tokens"] == 400
    assert came["sent"]["spanledger.usage.input_tokens"] == 1000
    assert came["sent"]["spanledger.cost.usd"] == 0.0058
    assert came["sent"]["spanledger.cost.input_usd"] == 0.0048
    assert came["ledger"]["tokens"]["input_video"] == 400
