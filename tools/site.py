"""Build the documents as a site into dist/site/VERSION: `make site`. A link that leads nowhere is an error.

The documents stay where they are in the repository, so that their links hold there as well; mkdocs wants them in one
folder, so they are copied into one, and links to other files become links to the repository. Nothing is loaded from
elsewhere: what draws the diagrams is taken from npm at build time and served with the site.

Versions that are in dist/site already stay, and each page has a menu of all: `versions.json` is in the form of mike,
which the theme reads (https://squidfunk.github.io/mkdocs-material/setup/setting-up-versioning/).
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

from tools.parts import ROOT

SOURCE = ROOT / "dist" / "site-source"
SITE = ROOT / "dist" / "site"
REPOSITORY = "https://github.com/spanledger/spanledger/blob/main/"
DIAGRAMS = "mermaid@12.3.0"
PATTERNS = ("*.md", "docs/**/*.md", "benchmarks/*.md", "changelog.d/README.md", "processor/collector/README.md")
_LINK = re.compile(r"\]\((?!https?://|#|mailto:)([^)#\s]+)(#[^)\s]*)?\)")


def documents() -> list[Path]:
    """Return every document of the site, relative to the repository."""
    return sorted({path.relative_to(ROOT) for pattern in PATTERNS for path in ROOT.glob(pattern)})


def placed(document: Path) -> Path:
    """Return where a document stands in the site: the README is its first page."""
    return Path("index.md") if document == Path("README.md") else document


def rewritten(document: Path, text: str, pages: frozenset[Path]) -> str:
    """Return `text` with links for the site: to `pages` as they are placed, to all else in the repository."""
    here = document.parent

    def link(found: re.Match[str]) -> str:
        target = Path(os.path.normpath(here / found[1]))
        anchor = found[2] or ""
        if (ROOT / target).is_dir() and target / "README.md" in pages:
            target /= "README.md"
        if target not in pages:
            return f"]({REPOSITORY}{target.as_posix()}{anchor})"
        return f"]({Path(os.path.relpath(placed(target), placed(document).parent)).as_posix()}{anchor})"

    return _LINK.sub(link, text)


def _take_diagrams() -> None:
    """Put the library that draws diagrams where mkdocs.yml names it."""
    taken = ROOT / "dist" / "npm"
    quiet = ("--no-audit", "--no-fund", "--loglevel=error")
    subprocess.run(["npm", "install", *quiet, "--prefix", str(taken), DIAGRAMS], check=True, stdout=sys.stderr)
    (SOURCE / "assets").mkdir()
    shutil.copy(taken / "node_modules/mermaid/dist/mermaid.min.js", SOURCE / "assets")


def list_versions(site: Path) -> list[str]:
    """Write the list of the versions that `site` has, and a first page that leads to the newest; return the list."""
    names = [page.parent.name for page in site.glob("*/index.html")]
    names.sort(key=lambda name: [int(number) for number in re.findall(r"\d+", name)], reverse=True)
    entries = [{"version": name, "title": name, "aliases": ["latest"] if name == names[0] else []} for name in names]
    (site / "versions.json").write_text(json.dumps(entries, indent=1) + "\n")
    lead = f'<meta http-equiv="refresh" content="0; url={names[0]}/index.html">'
    (site / "index.html").write_text(f'<!doctype html><meta charset="utf-8"><title>Spanledger</title>{lead}\n')
    return names


def main() -> int:
    """Build the site; what mkdocs says goes to the terminal."""
    shutil.rmtree(SOURCE, ignore_errors=True)
    pages = frozenset(documents())
    for document in pages:
        target = SOURCE / placed(document)
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(rewritten(document, (ROOT / document).read_text(), pages))
    _take_diagrams()
    target = SITE / tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    config = ("--config-file", str(ROOT / "mkdocs.yml"), "--site-dir", str(target))
    mkdocs = [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", *config]
    environment = {**os.environ, "NO_MKDOCS_2_WARNING": "1", "DISABLE_MKDOCS_2_WARNING": "true"}
    done = subprocess.run(mkdocs, cwd=ROOT, check=False, env=environment)
    if done.returncode == 0:
        list_versions(SITE)
        print(SITE.relative_to(ROOT) / "index.html")
    return done.returncode


if __name__ == "__main__":
    sys.exit(main())
