"""A function's docstring begins with what the function does (ruff's D401 holds the rest of this rule), and a docstring
names nothing that is not there.
"""

from __future__ import annotations

import ast
import re

import pytest

from tools.parts import ROOT
from tracked import tracked

PACKAGES = ("processor/spanledger_processor", "exporters/spanledger_exporters", "sidecar/spanledger_sidecar")
ELSEWHERE = {"Host", "__getattr__", "calc_price"}
"""A header, and names in Python and in genai-prices. Vocabularies (`vendors/`) name code of libraries throughout."""
FRAGMENT = re.compile(
    r"(`|\d|(What|How|Whether|Where|When|Which|Who|Why|A|An|The|This|That|These|Those|There|It|Its|One|Two|All|Some|Only"
    r"|As|At|By|For|From|In|Inside|Of|On|Until|With|Without|About|First|Few|No|Not|So|Nothing|Something)\b)"
)
"""Words and signs that begin no sentence which says what a function does."""


@pytest.mark.parametrize("package", PACKAGES)
def test_no_docstring_of_a_function_is_a_fragment(package: str) -> None:
    """ "Whether it is due." and "The time." leave a reader to guess the rest; "Return the time." does not."""
    fragments = [
        f"{path.relative_to(ROOT)}:{node.lineno} {node.name}"
        for path in sorted((ROOT / package).rglob("*.py"))
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)) and FRAGMENT.match(ast.get_docstring(node) or "")
    ]
    assert not fragments


def _names(tree: ast.Module) -> set[str]:
    """All that stands in code as a name, or as a word of a short text: keys of settings, files and answers."""
    names: set[str] = set()
    for node in ast.walk(tree):
        match node:
            case ast.Name(id=name) | ast.Attribute(attr=name) | ast.arg(arg=name) | ast.keyword(arg=str(name)):
                names.add(name)
            case ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name) | ast.ClassDef(name=name):
                names.add(name)
            case ast.alias(name=name, asname=alias):
                names |= {*name.split("."), alias or ""}
            case ast.Constant(value=str(text)) if len(text) < 60:
                names |= set(re.findall(r"\w+", text))
    return names


def test_a_docstring_names_what_is_there() -> None:
    """A field, argument or function that was renamed or went away leaves its name behind in prose."""
    paths = [path for path in tracked(".py") if path.relative_to(ROOT).as_posix().startswith(PACKAGES)]
    trees = {path.relative_to(ROOT): ast.parse(path.read_text()) for path in paths}
    known = ELSEWHERE | {part for path in trees for part in path.with_suffix("").parts}
    known.update(*map(_names, trees.values()))
    lost = {
        f"{path} {getattr(node, 'name', '')}: {name}"
        for path, tree in trees.items()
        for node in ast.walk(tree)
        if "vendors" not in path.parts
        and isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef, ast.Module))
        for name in re.findall(r"`([A-Za-z_]\w*)`", ast.get_docstring(node) or "")
        if name not in known
    }
    assert not lost
