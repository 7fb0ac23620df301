"""How long modules are, and that short ones with one importer are a part of it (ARCHITECTURE.md#how-a-room-is-cut)."""

from __future__ import annotations

import ast
import re
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

from spanledger_processor.dialects.registry import DIALECTS, LIBRARIES
from tools.parts import ROOT
from tracked import tracked

ROOMS = ("processor/spanledger_processor/", "exporters/spanledger_exporters/", "sidecar/spanledger_sidecar/")
LONGEST, LONG, SHORT = 600, 460, 100
BOUNDARIES = {
    "spanledger_processor.dialects.endpoints",
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
    reasons = (ROOT / "ARCHITECTURE.md").read_text().partition("- Long modules")[2].partition("- Short modules")[0]
    assert [name for name, length in lengths.items() if length > LONG and f"{_tail(name)}`" not in reasons] == []


def _tail(name: str) -> str:
    """How ARCHITECTURE.md writes a module: its folder and its name."""
    return "/".join(name.removeprefix("spanledger_").split(".")[-2:])


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


ROOM_ROW = re.compile(r"^\| (\S.*?) \|.*\| ([\d,]+) \| ([\d,]+) \| ([\d,]+) \|$", re.MULTILINE)


def _sizes() -> dict[str, tuple[int, int]]:
    """Files and lines by room: a folder of the processor's, or another package."""
    sizes: dict[str, tuple[int, int]] = {}
    for name, path in MODULES.items():
        package, _, rest = name.partition(".")
        inside = rest.partition(".")[0] if (path.parents[0].name != package) else ""
        room = package.removeprefix("spanledger_") if package != "spanledger_processor" else inside or "by themselves"
        for counted in (room, "all"):
            files, lines = sizes.get(counted, (0, 0))
            sizes[counted] = files + 1, lines + len(path.read_text().splitlines())
    return sizes


def test_rooms_are_as_large_as_architecture_says() -> None:
    text = (ROOT / "ARCHITECTURE.md").read_text()
    rows = {row[0].strip("`"): [int(cell.replace(",", "")) for cell in row[1:]] for row in ROOM_ROW.findall(text)}
    sizes = _sizes()
    assert rows.keys() == sizes.keys()
    for room, (files, lines, lines_a_file) in rows.items():
        said, is_now = (files, lines, lines_a_file), (*sizes[room], round(sizes[room][1] / sizes[room][0]))
        assert all(abs(a - b) <= max(1, b // 10) for a, b in zip(said, is_now, strict=True)), (room, said, is_now)


def _texts(path: Path) -> Iterator[str]:
    """The texts of a module that are no docstrings."""
    tree = ast.parse(path.read_text())
    docstrings = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in docstrings:
            yield node.value


def test_rules_of_counting_name_no_library() -> None:
    """The rules know of a library what `Library` says of it, in the module of its vocabulary."""
    scopes = {library.scope for library in LIBRARIES}
    scopes |= {scope for dialect in DIALECTS for scope in dialect.detection.scopes}
    scopes |= {source.scope for dialect in DIALECTS for source in dialect.sources}
    names = {scope.rstrip("*./-") for scope in scopes} - {"", "opentelemetry"}
    assert len(names) > 50
    rooms = ("spanledger_processor.accounting.", "spanledger_processor.ledger.")
    texts = {(name, text) for name, path in MODULES.items() if name.startswith(rooms) for text in _texts(path)}
    assert len(texts) > 500
    assert {(name, text) for name, text in texts if any(scope in text for scope in names if len(scope) > 5)} == set()
