"""The libraries of docs/libraries.md: what each section of the page installs, in an environment of its own.

`python -m tools.libraries` installs them all beside the parts, several at a time, and says where they are; exit 1 names
what could not be installed. A test whose libraries are not there yet installs them itself.
"""

from __future__ import annotations

import fcntl
import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path

from tools import parts

AS_OF = "2026-11-28"
"""What the registries have had by then, so that a release of today breaks no test of ours."""
PAGE = parts.ROOT / "docs" / "libraries.md"
UV = Path(sys.executable).with_name("uv")
INSTALLED = ".installed"
"""A file in an environment to which nothing is missing."""
AT_ONCE = 3
"""Installations beside each other: each waits for the network half of its time."""
LONGEST_S = 500.0


@dataclass(frozen=True, slots=True)
class Section:
    """One section of the page and its blocks: language and text."""

    title: str
    blocks: tuple[tuple[str, str], ...]

    def of(self, language: str) -> list[str]:
        """Return the blocks in a language."""
        return [text for found, text in self.blocks if found == language]

    @property
    def shell(self) -> str:
        """The shell blocks as one text."""
        return "".join(self.of("sh"))

    @property
    def exports(self) -> dict[str, str]:
        """The environment variables that the section sets."""
        return dict(re.findall(r"^export (\w+)=(\S+)", self.shell, re.MULTILINE))

    def packages(self, installer: str) -> list[str]:
        """Return what the section installs with `pip` or `npm`."""
        lines = re.findall(rf"^{installer} install (.+)$", self.shell, re.MULTILINE)
        return [package for line in lines for package in shlex.split(line)]


def _sections() -> list[Section]:
    return [
        Section(text.partition("\n")[0], tuple(re.findall(r"```(\w+)\n(.*?)```", text, re.DOTALL)))
        for text in PAGE.read_text().split("\n## ")[1:]
    ]


ONCE, *LIBRARIES, NAMES = _sections()
"""What every Python program needs; a section a library; how runs are named."""
RUNNABLE = [section for section in LIBRARIES if section.of("python") or section.of("js")]


def python_environment(section: Section) -> Path:
    """Return a virtual environment with the packages of a section, and those that every program needs."""
    packages = [*ONCE.packages("pip"), *section.packages("pip")]

    def install(environment: Path) -> None:
        _run([str(UV), "venv", "--quiet", str(environment)], environment.parent)
        python = ("--python", str(environment / "bin/python"))
        command = [str(UV), "pip", "install", "--quiet", "--exclude-newer", AS_OF, *python]
        _run([*command, *packages], environment.parent)

    return _kept("python", [sys.version, *packages], install)


def node_environment(section: Section) -> Path:
    """Return a folder with the Node packages of a section."""
    packages = section.packages("npm")

    def install(environment: Path) -> None:
        environment.mkdir()
        quiet = ("--no-audit", "--no-fund", "--loglevel=error", "--legacy-peer-deps", f"--before={AS_OF}")
        _run(["npm", "install", *quiet, *packages], environment)

    return _kept("node", packages, install)


def _kept(kind: str, packages: Sequence[str], install: Callable[[Path], None]) -> Path:
    """Return a folder with `packages` as of that day, which are installed once and stay for the next runs."""
    digest = blake2b("\0".join((AS_OF, *packages)).encode(), digest_size=6).hexdigest()
    folder = parts.CACHE / "libraries" / f"{kind}-{digest}"
    folder.parent.mkdir(parents=True, exist_ok=True)
    with folder.with_suffix(".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (folder / INSTALLED).exists():
            shutil.rmtree(folder, ignore_errors=True)
            install(folder)
            (folder / INSTALLED).touch()
    return folder


def _run(command: list[str], folder: Path) -> None:
    done = subprocess.run(
        command, cwd=folder, env=dict(os.environ), capture_output=True, text=True, timeout=LONGEST_S, check=False
    )
    if done.returncode:
        raise parts.PartMissingError(f"{' '.join(command)}: {done.stdout[-1000:]}\n{done.stderr[-3000:]}")


def _installed(section: Section) -> str:
    environments = [python_environment(section)] if section.of("python") else []
    environments += [node_environment(section)] if section.of("js") else []
    return f"{section.title}: {', '.join(map(str, environments))}"


def main() -> int:
    """Install the libraries of every section that has a program; a line for each."""
    problems = 0
    with ThreadPoolExecutor(AT_ONCE) as pool:
        for work in [pool.submit(_installed, section) for section in RUNNABLE]:
            try:
                print(work.result())
            except (OSError, subprocess.TimeoutExpired, parts.PartMissingError) as error:
                print(error, file=sys.stderr)
                problems += 1
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
