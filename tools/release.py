"""Make a release: `make release VERSION=0.2.0`, on a clean checkout whose `.ci/run` passed.

Writes the version wherever it stands, makes its section of CHANGELOG.md, builds sdist and wheel, starts the wheel in an
environment of its own, writes what is in it (a CycloneDX bill of materials and a list of licences), commits and tags.
Nothing leaves the machine: the last lines say what publishes it.
"""

from __future__ import annotations

import re
import subprocess
import sys
import tempfile
from pathlib import Path

from tools import changelog
from tools.parts import ROOT

VERSIONED: tuple[tuple[str, str], ...] = (
    ("pyproject.toml", r'^version = "(.+)"$'),
    ("docker-compose.yml", r"image: spanledger:(\S+)"),
    ("deploy/collector/docker-compose.yml", r"image: spanledger-otelcol:(\S+)"),
    ("deploy/collector/builder.yaml", r"spanledger/processor/collector v(\S+)"),
    ("processor/collector/README.md", r"spanledger/processor/collector v(\S+)"),
    ("README.md", r"spanledger/processor/collector v(\S+)"),
    ("deploy/helm/Chart.yaml", r"^(?:appV|v)ersion: (\S+)$"),
)
"""Files that name the version of Spanledger, each with a pattern whose group is the version, wherever it matches."""

_BILL = "cyclonedx-bom==7.5.0"
_LICENCES = "pip-licenses==5.5.5"


def versions(root: Path = ROOT) -> dict[str, set[str]]:
    """Return the versions that each file of `VERSIONED` names; an empty set where its pattern matches nothing."""
    return {name: set(re.findall(pattern, (root / name).read_text(), re.MULTILINE)) for name, pattern in VERSIONED}


def write_version(version: str, root: Path = ROOT) -> None:
    """Write `version` into each file of `VERSIONED`."""
    for name, pattern in VERSIONED:
        file = root / name
        file.write_text(re.sub(pattern, lambda found: _replaced(found, version), file.read_text(), flags=re.MULTILINE))


def _replaced(found: re.Match[str], version: str) -> str:
    begin, end = (at - found.start() for at in found.span(1))
    return found[0][:begin] + version + found[0][end:]


def build(target: Path, root: Path = ROOT) -> Path:
    """Build sdist and wheel into `target`; return the wheel.

    Raises:
        subprocess.CalledProcessError: the build failed; it has said why.
    """
    _run("uv", "build", "--quiet", "--out-dir", str(target), str(root))
    (wheel,) = target.glob("*.whl")
    return wheel


def try_wheel(wheel: Path) -> str:
    """Return what `spanledger demo` prints, run from `wheel` in an environment of its own.

    Raises:
        subprocess.CalledProcessError: it failed; it has said why.
    """
    return _run("uvx", "--isolated", "--from", str(wheel), "spanledger", "demo")


def describe(wheel: Path, target: Path) -> None:
    """Write the bill of materials and the licences of what `wheel` installs into `target`."""
    with tempfile.TemporaryDirectory() as folder:
        python = f"{folder}/venv/bin/python"
        _run("uv", "venv", "--quiet", f"{folder}/venv")
        _run("uv", "pip", "install", "--quiet", "--python", python, str(wheel))
        bill = target / f"{wheel.stem.partition('-py3')[0]}.cdx.json"
        _run("uvx", "--from", _BILL, "cyclonedx-py", "environment", "--output-file", str(bill), python)
        licences = _run("uvx", "--from", _LICENCES, "pip-licenses", "--python", python, "--format", "markdown")
        (target / "LICENCES.md").write_text(licences)


def _run(program: str, *arguments: str) -> str:
    """Run one of uv's programs, else one on PATH; return what it printed, its errors go to the terminal."""
    beside = Path(sys.executable).with_name(program)
    command = [str(beside) if beside.exists() else program, *arguments]
    return subprocess.run(command, cwd=ROOT, check=True, stdout=subprocess.PIPE, text=True).stdout


def _refusal(version: str) -> str:
    """Return why `version` cannot be released now; empty if it can."""
    if re.fullmatch(r"\d+\.\d+\.\d+((a|b|rc)\d+)?", version) is None:
        return f"{version!r} is no version: 0.2.0, 0.2.0rc1"
    if _run("git", "status", "--porcelain"):
        return "the checkout has changes that are not committed"
    if _run("git", "tag", "--list", f"v{version}"):
        return f"v{version} is a tag already"
    return ""


def main(arguments: list[str]) -> int:
    """Release the version that `arguments` names."""
    if len(arguments) != 1:
        print("which version? make release VERSION=0.2.0", file=sys.stderr)
        return 2
    (version,) = arguments
    target = ROOT / "dist" / version
    try:
        if reason := _refusal(version):
            raise ValueError(reason)
        changelog.release(version)
        write_version(version)
        wheel = build(target)
        print(try_wheel(wheel))
        describe(wheel, target)
        _run("git", "commit", "--all", "--quiet", "--message", f"Release {version}")
        for tag in (f"v{version}", f"processor/collector/v{version}"):  # Go finds a module in a folder by the second
            _run("git", "tag", "--annotate", tag, "--message", f"Release {version}")
    except (ValueError, subprocess.CalledProcessError) as error:
        print(f"not released: {error}\nwhat was changed: git status; to undo it: git restore .", file=sys.stderr)
        return 1
    print(
        f"Released here: commit, tags, and {target.relative_to(ROOT)} with wheel, sdist, bill of materials, licences.\n"
        f"To publish: git push --follow-tags && uv publish {target.relative_to(ROOT)}/*.whl "
        f"{target.relative_to(ROOT)}/*.tar.gz && docker build -t spanledger:{version} ."
    )
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
