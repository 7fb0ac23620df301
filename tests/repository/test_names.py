"""One name, one thing: within a package no two classes or type aliases have the same name."""

from __future__ import annotations

import ast
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

import pytest

from tools.parts import ROOT

PACKAGES = (
    "processor/spanledger_processor",
    "exporters/spanledger_exporters",
    "sidecar/spanledger_sidecar",
)


def _names(module: ast.Module) -> Iterator[str]:
    """Yield the public classes and aliases of a module.

    A protocol may bear the name of the class that honours it, where the direction of imports keeps that out of sight.
    """
    for node in module.body:
        if isinstance(node, ast.ClassDef) and not any("Protocol" in ast.unparse(base) for base in node.bases):
            yield node.name
        elif isinstance(node, ast.AnnAssign) and ast.unparse(node.annotation) == "TypeAlias":
            yield ast.unparse(node.target)


@pytest.mark.parametrize("package", PACKAGES)
def test_no_name_is_defined_twice(package: str) -> None:
    modules: dict[str, list[Path]] = defaultdict(list)
    for path in sorted((ROOT / package).rglob("*.py")):
        for name in _names(ast.parse(path.read_text())):
            if not name.startswith("_"):
                modules[name].append(path.relative_to(ROOT / package))
    twice = {name: [*map(str, paths)] for name, paths in modules.items() if len(paths) > 1}
    assert not twice, "name one of them for what it is (docs/glossary.md)"
