"""A process of its own: the receiver before a pipeline that never ends. `python hanging_receiver.py SETTINGS` (JSON).

Prints the ports as JSON once it listens, and ends when its input is closed.
"""

from __future__ import annotations

import asyncio
import json
import sys

from otlp_receivers import FakePipeline, opened


async def main() -> None:
    """Serve until the input ends."""
    pipeline = FakePipeline()
    pipeline.gate.clear()
    async with opened(json.loads(sys.argv[1]), pipeline) as receivers:
        print(json.dumps(dict(receivers.otlp.ports)), flush=True)  # noqa: T201 - the other process reads it
        await asyncio.to_thread(sys.stdin.read)


if __name__ == "__main__":
    asyncio.run(main())
