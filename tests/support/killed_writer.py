"""A process that counts calls and says so once they are stored, until it is killed.

python killed_writer.py FOLDER DURABILITY
"""

from __future__ import annotations

import asyncio
import itertools
import os
import sys
import time
from functools import partial
from pathlib import Path

from spanledger_processor.ledger import write_buffer
from spanledger_processor.ledger.store import Unit
from spanledger_processor.ledger.writer import LedgerWriter
from stores import enter, open_store, remember, spend


async def _count(writer: LedgerWriter, name: str) -> None:
    for number in itertools.count():

        def work(unit: Unit, number: int = number) -> None:
            now_ns = time.time_ns()
            enter(unit, spend(name, 3), now_ns)
            enter(unit, spend("all", 3), now_ns)
            enter(unit, remember([f"{os.getpid()} {name} {number}"]), now_ns)

        await writer.submit(work)
        sys.stdout.write(f"{name}\n")
        sys.stdout.flush()


async def main() -> None:
    """Several senders at once; `async` writes out often, so that it dies amid that, too."""
    write_buffer._HELD_NS = 10_000_000
    writer = LedgerWriter(partial(open_store, Path(sys.argv[1]), durability=sys.argv[2], clock=time.time_ns))
    await asyncio.gather(*(_count(writer, f"sender {number}") for number in range(4)))


asyncio.run(main())
