"""Shipped configurations and examples of Spanledger's: they are valid, and no backend gets a signal that it refuses."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from spanledger_processor.config import load
from tools.parts import ROOT

SHIPPED = (ROOT / "deploy/spanledger.yaml", ROOT / "deploy/collector/enricher.yaml")


def _examples() -> Iterator[tuple[str, dict[str, Any]]]:
    """Every Spanledger configuration with exporters: files, and YAML blocks of documents."""
    for path in SHIPPED:
        yield path.name, yaml.safe_load(path.read_text())
    for path in sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md")]):
        for block in re.findall(r"```yaml\n(.*?)```", path.read_text(), re.DOTALL):
            parsed = yaml.safe_load(block)
            if isinstance(parsed, dict) and "exporters" in parsed and "service" not in parsed:
                yield path.name, parsed


EXAMPLES = list(_examples())


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.name)
def test_shipped_configurations_are_valid(path: Path, tmp_path: Path) -> None:
    assert load(path, [f"state.path={tmp_path}"], {"HOME": str(tmp_path)})


OF_OTHERS = "# of "
"""What the first line of a block begins with that configures another program."""
OURS = {"receivers", "exporters", "processor", "state", "api", "sidecar", "telemetry"}
OF_THE_COLLECTOR = {"receivers", "processors", "connectors", "exporters", "extensions", "service"}


def _blocks() -> Iterator[tuple[str, str]]:
    documents = [*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md"), ROOT / "processor/collector/README.md"]
    for path in sorted(documents):
        for block in re.findall(r"```yaml\n(.*?)```", path.read_text(), re.DOTALL):
            yield path.name, block


@pytest.mark.parametrize(("name", "block"), list(_blocks()))
def test_yaml_in_documents_is_valid(name: str, block: str, tmp_path: Path) -> None:
    """Ours are loaded as `spanledger check` loads them; the Collector's are run whole in tests/integration."""
    if block.startswith(OF_OTHERS):
        return
    keys = yaml.safe_load(block).keys()
    if keys <= OF_THE_COLLECTOR and keys - OURS:
        return
    file = tmp_path / "spanledger.yaml"
    file.write_text(block)
    environment = dict.fromkeys(re.findall(r"\$\{env:(\w+)\}", block), "x") | {"HOME": str(tmp_path)}
    assert load(file, [f"state.path={tmp_path}"], environment), name


def test_there_are_examples_in_documents() -> None:
    assert {name for name, _ in EXAMPLES} >= {"spanledger.yaml", "configuration.md"}


@pytest.mark.parametrize(("name", "example"), EXAMPLES, ids=[name for name, _ in EXAMPLES])
def test_tempo_gets_traces_only(name: str, example: dict[str, Any]) -> None:
    """Tempo refuses logs and metrics, and a refusal for good is what a sender would be told."""
    for component, settings in (example.get("exporters") or {}).items():
        if "tempo" in f"{component} {settings}":
            assert settings.get("signals") == ["traces"], f"{name}: {component}"
