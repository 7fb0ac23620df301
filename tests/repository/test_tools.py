"""The tools of those who work on Spanledger: the tests of what changed, and the changelog."""

from __future__ import annotations

import lzma
import os
import platform
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from tools import parts, programs
from tools.changelog import main, release
from tools.parts import PARTS, ROOT
from tools.release import VERSIONED, build, try_wheel, versions, write_version
from tools.release import main as release_main
from tools.watch import chosen_tests


@pytest.mark.parametrize(
    ("changed", "tests"),
    [
        ("tests/pricing/test_costs.py", ["tests/pricing/test_costs.py"]),
        ("processor/spanledger_processor/pricing/rate_card.py", ["tests/pricing"]),
        ("processor/spanledger_processor/dialects/vendors/otel.py", ["tests/dialects"]),
        ("processor/spanledger_processor/model.py", ["tests/model"]),
        ("exporters/spanledger_exporters/wrappers.py", ["tests/exporters"]),
        ("sidecar/spanledger_sidecar/sources/mux/rows.py", ["tests/sidecar"]),
        ("docs/glossary.md", ["tests/repository"]),
        ("tests/support/pipelines.py", ["tests/repository"]),
    ],
)
def test_what_changed_has_its_tests(changed: str, tests: list[str]) -> None:
    assert chosen_tests([changed]) == tests


def test_rooms_without_tests_run_none() -> None:
    assert chosen_tests(["processor/spanledger_processor/nowhere/module.py"]) == []


def _repository(root: Path) -> Path:
    (root / "changelog.d").mkdir()
    (root / "changelog.d" / "README.md").write_text("how\n")
    (root / "changelog.d" / "7.fixed.md").write_text("- A bug.\n- Another.\n")
    (root / "changelog.d" / "+word.added.md").write_text("- A thing ([x](../README.md)).\n")
    (root / "CHANGELOG.md").write_text("# Changelog\n\nWhat changed.\n\n## 0.1.0 (2026-01-01)\n\n### Added\n\n- All.\n")
    return root


def test_a_release_moves_the_fragments(tmp_path: Path) -> None:
    root = _repository(tmp_path)
    release("0.2.0", root)
    text = (root / "CHANGELOG.md").read_text()
    top, older = text.split("## 0.1.0")
    assert "### Added\n\n- A thing ([x](README.md)).\n\n### Fixed\n\n- A bug.\n- Another.\n" in top
    assert top.startswith("# Changelog\n\nWhat changed.\n\n## 0.2.0 (20")
    assert older == " (2026-01-01)\n\n### Added\n\n- All.\n"
    assert [path.name for path in (root / "changelog.d").iterdir()] == ["README.md"]


def test_a_release_without_fragments_or_twice_changes_nothing(tmp_path: Path) -> None:
    root = _repository(tmp_path)
    with pytest.raises(ValueError, match="already"):
        release("0.1.0", root)
    for path in root.glob("changelog.d/*.*.md"):
        path.unlink()
    with pytest.raises(ValueError, match="no fragments"):
        release("0.2.0", root)
    assert main([]) == 2


def test_one_version_stands_everywhere() -> None:
    (version,) = versions()["pyproject.toml"]
    assert versions() == {name: {version} for name, _ in VERSIONED}


def test_a_new_version_is_written_everywhere(tmp_path: Path) -> None:
    for name, _ in VERSIONED:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, tmp_path / name)
    write_version("7.8.9rc1", tmp_path)
    assert versions(tmp_path) == {name: {"7.8.9rc1"} for name, _ in VERSIONED}
    changed = [name for name, _ in VERSIONED if len(_lines(tmp_path / name) ^ _lines(ROOT / name)) > 4]
    assert changed == []


def _lines(file: Path) -> set[str]:
    return set(file.read_text().splitlines())


@pytest.mark.timeout(300)
def test_the_wheel_runs_in_an_environment_of_its_own(tmp_path: Path) -> None:
    """What `uvx spanledger demo` does once the wheel is published."""
    printed = try_wheel(build(tmp_path))
    assert "Runs, in this demo by service.name" in printed
    assert "Counted without a price" in printed


def test_a_release_needs_a_version() -> None:
    assert release_main([]) == 2
    assert release_main(["next"]) == 1


def test_a_part_that_was_made_before_is_unpacked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    part = replace(PARTS["tempo"], programs=())
    machine = {"x86_64": "amd64", "aarch64": "arm64"}.get(platform.machine(), platform.machine())
    packed = tmp_path / "made" / f"tempo-{part.version}-{sys.platform}-{machine}.xz"
    packed.parent.mkdir()
    packed.write_bytes(lzma.compress(b"#!/bin/sh\n"))
    monkeypatch.setattr(parts, "CACHE", tmp_path / "cache")
    monkeypatch.setitem(PARTS, "tempo", part)
    monkeypatch.delenv(part.variable, raising=False)
    monkeypatch.delenv("SPANLEDGER_PARTS", raising=False)
    assert parts.find("tempo") is None
    monkeypatch.setenv("SPANLEDGER_PARTS", str(packed.parent))
    found = parts.find("tempo")
    assert found is not None
    assert found == tmp_path / "cache" / f"tempo-{part.version}"
    assert found.read_bytes() == b"#!/bin/sh\n"
    assert os.access(found, os.X_OK)


def test_parts_have_a_version_and_a_variable() -> None:
    """Each part can be named by a variable of its own, and its copy has its version in the name."""
    assert len({part.variable for part in PARTS.values()}) == len(PARTS)
    assert all(part.made.name == f"{name}-{part.version}" for name, part in PARTS.items())
    assert PARTS["claude"].program == ROOT / ".parts/claude-2.1.332/node_modules/.bin/claude"


def test_a_port_is_given_to_one_process_only(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is not listened on yet when a test beside asks: `serve` takes seconds to start."""
    code = "import sys; from tools.programs import free_port; print(free_port(), flush=True); sys.stdin.read()"
    with subprocess.Popen(
        [sys.executable, "-c", code], cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as other:
        assert other.stdout is not None
        theirs, ours = int(other.stdout.readline()), programs.free_port()
        monkeypatch.setattr(programs, "_PORTS", iter([theirs, ours]))
        assert programs.free_port() == ours
        other.communicate()
