"""How long modules are, and that short ones with one importer are a part of it (ARCHITECTURE.md#how-a-room-is-cut)."""

from __future__ import annotations

import ast
from collections import defaultdict
from pathlib import Path

from tools.parts import ROOT
from tracked import tracked

ROOMS = ("processor/spanledger_processor/", "exporters/spanledger_exporters/", "sidecar/spanledger_sidecar/")
LONGEST, SHORT = 600, 100
BOUNDARIES = {
    "spanledger_processor.server.api_access",
    "spanledger_processor.server.embedded_sidecar",
    "spanledger_processor.ledger.summaries",
}
"""Short modules with one importer that stay by themselves: ARCHITECTURE.md says why."""


def _modules() -> dict[str, Path]:
    modules = {}
    for path in tracked(".py"):
        name = path.relative_to(ROOT).as_posix()
        if name.startswith(ROOMS):
            parts = Path(name.partition("/")[2]).with_suffix("").parts
            modules[".".join(parts).removesuffix(".__init__")] = path
    return modules


MODULES = _modules()


def _imported(path: Path) -> set[str]:
    """The modules of ours that a module imports."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.module:
            names |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
        elif isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
    return names & MODULES.keys()


def test_no_module_is_too_long() -> None:
    lengths = {name: len(path.read_text().splitlines()) for name, path in MODULES.items()}
    assert len(lengths) > 150
    assert {name: length for name, length in lengths.items() if length > LONGEST} == {}


def test_a_short_module_with_one_importer_is_a_part_of_it() -> None:
    importers = defaultdict[str, set[str]](set)
    for name, path in MODULES.items():
        for imported in _imported(path):
            importers[imported].add(name)
    short = {
        name
        for name, path in MODULES.items()
        if path.name != "__init__.py" and len(importers[name]) == 1 and len(path.read_text().splitlines()) < SHORT
    }
    assert {name for name in short if ".vendors." not in name} == BOUNDARIES
