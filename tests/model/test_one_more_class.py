"""A further usage class is one line in `model.Usage`: it is priced, stored, summed, shown and written from there."""

from __future__ import annotations

import json
from pathlib import Path

from changed_copies import run_changed

LAST = (
    '    file_searches: int | None = _sold("storage_searches_kcount", unit="search", absent="none", own_price=True)\n'
)
LINE = '    output_video: int | None = _sold("output_video_mtok", "output", own_price=True)\n'
PROGRAM = """
import json
from spanledger_processor.accounting.decide import span_of
from spanledger_processor.accounting.facts import Fact
from spanledger_processor.enrichment.attributes import encode
from spanledger_processor.ledger.records import pack_decision, unpack_decision
from spanledger_processor.ledger.rows import spend
from spanledger_processor.ledger.sums import Sums
from spanledger_processor.model import Call, Decision, Usage
from spanledger_processor.pricing import Pricer, explain

usage = Usage(1000, 500, 0, 0, 0, 0, output_audio=0, output_image=0, output_video=400)
call = Call("otel", "llm", provider="google", request_model="gemini-omni-1.1-flash", usage=usage)
at = 1_793_620_800 * 10**9
cost = Pricer().cost(call, at)
decision = Decision("llm", "otel", usage=usage, cost=cost)
sums = Sums()
span = span_of(Fact(b"t" * 16, b"s" * 8, call=call, cost=cost))
sums.enter(span.added("counted", 1, at))
print(json.dumps({
    "usd": cost.amount / 1e12,
    "estimate": cost.estimate,
    "explained": [line.strip() for line in explain(call, at, Pricer()).text()],
    "attribute": b"spanledger.usage.output_video_tokens" in encode(decision),
    "stored": unpack_decision(pack_decision(decision, b""))[0].usage.output_video,
    "row": spend(Sums.unpack(sums.pack()))["tokens"]["output_video"],
}))
"""


def test_a_further_class_is_one_line_and_its_price(tmp_path: Path) -> None:
    files = {"processor/spanledger_processor/model.py": {LAST: LINE}}
    reported = json.loads(run_changed(tmp_path, files, "-c", PROGRAM))
    # gemini-omni-1.1-flash in genai-prices 0.2.3: input 1.5, output 9, output_video 17.5
    assert reported["usd"] == (1000 * 1.5 + 100 * 9 + 400 * 17.5) / 1e6
    assert not reported["estimate"]
    assert any(line.startswith("output video") for line in reported["explained"])
    assert reported["attribute"]
    assert reported["stored"] == reported["row"] == 400
