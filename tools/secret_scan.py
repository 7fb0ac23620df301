"""Look for secrets in the files and in every commit of the repository: python -m tools.secret_scan."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator

from tools.parts import ROOT

PATTERNS = {
    "private key": re.compile(rb"-----BEGIN [A-Z ]*PRIVATE KEY-----\s+[A-Za-z0-9+/]{40}"),
    "AWS key": re.compile(rb"\b(?:AKIA|ASIA)[0-9A-Z]{16}\b"),
    "GitHub token": re.compile(rb"\bgh[opsu]_[A-Za-z0-9]{36}\b|\bgithub_pat_\w{60,}"),
    "Slack token": re.compile(rb"\bxox[abpr]-[A-Za-z0-9-]{20,}"),
    "OpenAI or Anthropic key": re.compile(rb"\bsk-(?:ant-|proj-)?[A-Za-z0-9_-]{32,}"),
    "Google key": re.compile(rb"\bAIza[0-9A-Za-z_-]{35}\b"),
    "PyPI token": re.compile(rb"\bpypi-AgEIcHlwaS5vcmc[A-Za-z0-9_-]{50,}"),
    "JSON web token": re.compile(rb"\beyJ[A-Za-z0-9_-]{16,}\.eyJ[A-Za-z0-9_-]{16,}\.[A-Za-z0-9_-]{16,}"),
}


def found_in(content: bytes) -> Iterator[tuple[str, int]]:
    """Yield what kinds of secrets stand in bytes, and where each begins; never the secret."""
    for kind, pattern in PATTERNS.items():
        for match in pattern.finditer(content):
            yield kind, match.start()


def main() -> int:
    """Print a line for each finding; 1 if there is any."""
    findings = []
    for path in _git("ls-files", "-z").split(b"\0"):
        file = ROOT / path.decode()
        if path and file.is_file():
            findings += [f"{path.decode()}: {kind} at byte {at}" for kind, at in found_in(file.read_bytes())]
    commit = ""
    for line in _git("log", "-p", "--all", "--no-color", "--format=commit %H").splitlines():
        if line.startswith(b"commit "):
            commit = line[7:17].decode()
        elif line.startswith(b"+"):
            findings += [f"commit {commit}: {kind}" for kind, _ in found_in(line)]
    print("\n".join(sorted(set(findings))) or "no secrets found in the files and commits of the repository")
    return 1 if findings else 0


def _git(*arguments: str) -> bytes:
    return subprocess.run(["git", *arguments], cwd=ROOT, check=True, capture_output=True).stdout


if __name__ == "__main__":
    sys.exit(main())
