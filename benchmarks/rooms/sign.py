"""Time of `Signer.sign`: arguments as text, as objects, with ignored fields, and in sizes that hurt.

python benchmarks/rooms/sign.py
"""

from __future__ import annotations

import json
import time
import timeit

from spanledger_processor.model import ToolCall
from spanledger_processor.signing import Signer

SMALL = {"path": "src/app/main.py", "offset": 120, "limit": 40, "recursive": False, "options": {"encoding": "utf-8"}}
LARGE = {"files": [{"path": f"src/{n}.py", "size": n * 1.5, "text": "x" * 40} for n in range(10_000)]}


def microseconds(signer: Signer, arguments: object, number: int) -> float:
    """CPU time of one signature, the best of five rounds."""
    tool = ToolCall("read_file", arguments)
    work = timeit.repeat(lambda: signer.sign(tool), number=number, repeat=5, timer=time.process_time)
    return min(work) / number * 1e6


def main() -> None:
    """Print one line a case."""
    key = b"0123456789abcdef0123456789abcdef"
    plain, ignoring = Signer(key), Signer(key, [("read_*", frozenset({"options.encoding", "offset"}))])
    cases: list[tuple[str, Signer, object, int]] = [
        ("name only", plain, None, 50_000),
        ("JSON text, 130 characters", plain, json.dumps(SMALL), 20_000),
        ("object, 6 fields", plain, SMALL, 20_000),
        ("object, 6 fields, 2 ignored", ignoring, SMALL, 20_000),
        ("Python text, 130 characters", plain, repr(SMALL), 2_000),
        ("plain text", plain, "grep -rn TODO src", 20_000),
        ("JSON text, cut at 512 characters", plain, json.dumps(LARGE)[:512], 5_000),
        ("JSON text, 1 MiB, 30,000 fields", plain, json.dumps(LARGE), 1),
        ("JSON text, 1 MiB, one string", plain, json.dumps({"content": "x" * 2**20}), 5),
        ("JSON text, 1 MiB, cut, all quotes", plain, '{"a": "' + '\\"' * 2**19, 1),
        ("100,000 brackets", plain, "[" * 100_000, 5),
        ("Python text, 64 KiB", plain, repr(LARGE)[:30] + "'" * 1000, 100),
    ]
    for name, signer, arguments, number in cases:
        print(f"{name:<36}{microseconds(signer, arguments, number):12.2f} us")


if __name__ == "__main__":
    main()
