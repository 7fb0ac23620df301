"""Shipped configurations and examples of Spanledger's: they are valid, and no backend gets a signal that it refuses."""

from __future__ import annotations

import re
import subprocess
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


def test_tempo_gets_traces_only() -> None:
    """Tempo refuses logs and metrics, and a refusal for good is what a sender would be told."""
    signals = {
        f"{name}: {component}": settings.get("signals")
        for name, example in EXAMPLES
        for component, settings in (example.get("exporters") or {}).items()
        if "tempo" in f"{component} {settings}"
    }
    assert len(signals) > 1
    assert {name for name, one in signals.items() if one != ["traces"]} == set()


def test_a_manifest_of_another_distribution_gets_the_component(tmp_path: Path) -> None:
    """The Dockerfile does this to the manifest of the contrib distribution, which looks like this."""
    other = tmp_path / "manifest.yaml"
    other.write_text(
        "dist:\n  module: example.org/contrib\n  name: otelcol-contrib\n  output_path: ./_build\n\n"
        "extensions:\n  - gomod: example.org/extension v0.1.0\n\n"
        "processors:\n  - gomod: example.org/processor v0.1.0\n\nconnectors:\n  - gomod: example.org/connector v0.1.0\n"
    )
    script = ROOT / "deploy/collector/with-component.sed"
    run = subprocess.run(["sed", "-f", str(script), str(other)], capture_output=True, text=True, check=True, timeout=60)
    made = yaml.safe_load(run.stdout)
    ours = yaml.safe_load((ROOT / "deploy/collector/builder.yaml").read_text())
    for kind in ("processors", "connectors"):
        component = next(one for one in ours[kind] if "spanledger" in one["gomod"])
        assert made[kind] == [component, {"gomod": f"example.org/{kind[:-1]} v0.1.0"}]
    assert made["extensions"] == [{"gomod": "example.org/extension v0.1.0"}]
    assert (made["dist"]["name"], made["dist"]["output_path"]) == (ours["dist"]["name"], ours["dist"]["output_path"])


def test_systemd_finds_the_users_and_groups_that_units_name() -> None:
    """A user of a `DynamicUser=` unit is known to no other unit: https://github.com/systemd/systemd/issues/8219."""
    folder = ROOT / "deploy" / "systemd"
    made = set(re.findall(r"^u (\S+)", (folder / "spanledger.conf").read_text(), re.MULTILINE))
    units = [path.read_text() for path in folder.glob("*.service")]
    named = {
        name for unit in units for name in re.findall(r"^(?:User|Group|SupplementaryGroups)=(\S+)", unit, re.MULTILINE)
    }
    assert len(units) == 2
    assert named == made == {"spanledger"}


def test_helms_notes_lose_no_calls_of_logs() -> None:
    """What they say of the connector is what deploy/collector/component.yaml does."""
    shipped = yaml.safe_load((ROOT / "deploy/collector/component.yaml").read_text())
    policy = shipped["connectors"]["spanledger"]["on_error"]
    notes = (ROOT / "deploy/helm/templates/NOTES.txt").read_text()
    assert f"spanledger: {{<<: *enricher, on_error: {policy}}}" in notes
