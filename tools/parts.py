"""The real programs that tests and benchmarks run against: found where they are, or made.

`python -m tools.parts` finds or makes them all and says where they are; exit 1 names what is missing and why.
Looked for in this order: the part's environment variable, PATH, the cache folder `.parts/` of this checkout, and
`<name>-<version>-<system>-<machine>.xz` in the folder that SPANLEDGER_PARTS names. Made from Go modules, a Debian
package or an npm package. The coding agents are looked for on PATH in no case: tests need the version that they were
written for.
"""

from __future__ import annotations

import lzma
import os
import platform
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
CACHE = ROOT / ".parts"
RECIPES = ROOT / "deploy" / "parts"
COMPONENT = ROOT / "processor" / "collector"
COMPONENT_MANIFEST = ROOT / "deploy" / "collector" / "builder.yaml"


class PartMissingError(Exception):
    """A program is not on this machine and cannot be made here; the message says what to do."""


@dataclass(frozen=True, slots=True)
class Part:
    """One program: what overrules the search, what it is called on PATH, what is made if none is found.

    `make` writes a file, or a folder that has the program at `within`.
    """

    name: str
    variable: str
    programs: tuple[str, ...]
    version: str
    make: Callable[[Path], None]
    within: str = ""

    @property
    def made(self) -> Path:
        """Where our own copy stands."""
        return CACHE / f"{self.name}-{self.version}"

    @property
    def program(self) -> Path:
        """The program in our own copy."""
        return self.made / self.within


def find(name: str) -> Path | None:
    """The program `name` of `PARTS`, where it is already.

    Raises:
        PartMissingError: its environment variable names something that cannot be run.
    """
    part = PARTS[name]
    if chosen := os.environ.get(part.variable):
        program = Path(chosen).expanduser().absolute()
        if os.access(program, os.X_OK) and program.is_file():
            return program
        raise PartMissingError(f"{part.variable}: {chosen} is not a program that can be run")
    for program_name in part.programs:
        if on_path := shutil.which(program_name):
            return Path(on_path)
    if part.program.exists():
        return part.program
    return _unpack(part)


def obtain(name: str) -> Path:
    """The program `name` of `PARTS`, made where it is not found.

    Raises:
        PartMissingError: with the reason, and what would help.
    """
    if (found := find(name)) is not None:
        return found
    part = PARTS[name]
    CACHE.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(dir=CACHE) as folder:
        try:
            part.make(Path(folder) / "made")
        except subprocess.CalledProcessError as error:
            raise PartMissingError(f"{name}: {' '.join(error.cmd)} ended with {error.returncode}") from error
        (Path(folder) / "made").rename(part.made)
    return part.program


def _unpack(part: Part) -> Path | None:
    if not (folder := os.environ.get("SPANLEDGER_PARTS")):
        return None
    machine = {"x86_64": "amd64", "aarch64": "arm64"}.get(platform.machine(), platform.machine())
    packed = Path(folder) / f"{part.name}-{part.version}-{sys.platform}-{machine}.xz"
    if not packed.exists():
        return None
    CACHE.mkdir(exist_ok=True)
    with tempfile.NamedTemporaryFile(dir=CACHE, delete=False) as unpacked:
        try:
            with lzma.open(packed) as content:
                shutil.copyfileobj(content, unpacked)
            Path(unpacked.name).chmod(0o755)
            Path(unpacked.name).rename(part.made)  # at once, so that nobody finds half a program
        except BaseException:
            Path(unpacked.name).unlink(missing_ok=True)
            raise
    return part.made


def _run(*command: str, within: Path) -> None:
    print(f"+ {' '.join(command)}", file=sys.stderr)
    subprocess.run(command, cwd=within, check=True, stdout=sys.stderr)


def _needs(program: str, to_make: str, variable: str) -> None:
    if shutil.which(program) is None:
        raise PartMissingError(
            f"{to_make}: not found; install it, name it in {variable}, or install {program} to make it"
        )


def _make_otelcol(target: Path) -> None:
    _needs("go", "otelcol", "SPANLEDGER_OTELCOL")
    shutil.copy(RECIPES / "otelcol-builder.yaml", target.parent)
    builder = f"go.opentelemetry.io/collector/cmd/builder@v{PARTS['otelcol'].version}"
    _run("go", "run", builder, "--config", "otelcol-builder.yaml", within=target.parent)
    (target.parent / "otelcol" / "otelcol").rename(target)


def _make_component(target: Path) -> None:
    """The Collector with the component of this checkout in it."""
    _needs("go", "otelcol-spanledger", "SPANLEDGER_COMPONENT")
    manifest = COMPONENT_MANIFEST.read_text().replace("../../processor/collector", str(COMPONENT))
    (target.parent / "builder.yaml").write_text(manifest)
    builder = f"go.opentelemetry.io/collector/cmd/builder@v{PARTS['otelcol'].version}"
    _run("go", "run", builder, "--config", "builder.yaml", within=target.parent)
    (target.parent / "otelcol-spanledger" / "otelcol-spanledger").rename(target)


def _component_version() -> str:
    """A digest of what it is made from, so that a change makes it anew."""
    sources = sorted(path for path in COMPONENT.rglob("*") if path.suffix in (".go", ".mod", ".sum"))
    digest = blake2b(digest_size=6)
    for path in (*sources, COMPONENT_MANIFEST):
        if not path.name.endswith("_test.go"):
            digest.update(path.read_bytes())
    return digest.hexdigest()


def _make_helm(target: Path) -> None:
    _needs("go", "helm", "SPANLEDGER_HELM")
    command = ("go", "install", f"helm.sh/helm/v3/cmd/helm@v{PARTS['helm'].version}")
    print(f"+ {' '.join(command)}", file=sys.stderr)
    subprocess.run(command, env={**os.environ, "GOBIN": str(target.parent)}, check=True, stdout=sys.stderr)
    (target.parent / "helm").rename(target)


def _make_tempo(target: Path) -> None:
    _needs("go", "tempo", "SPANLEDGER_TEMPO")
    module = shutil.copytree(RECIPES / "tempo", target.parent / "module")
    flags = f"-ldflags=-s -w -X main.Version={PARTS['tempo'].version}"
    package = "github.com/grafana/tempo/cmd/tempo"
    _run("go", "build", "-mod=mod", "-trimpath", flags, "-o", str(target), package, within=module)


def _debian_prometheus(program: str) -> Callable[[Path], None]:
    """Take one program out of the Debian package without installing it, which would start a server on its port."""

    def make(target: Path) -> None:
        for needed in ("apt-get", "dpkg-deb"):
            _needs(needed, program, f"SPANLEDGER_{program.upper()}")
        if os.geteuid() == 0:
            _run("apt-get", "update", "-qq", within=target.parent)
        _run("apt-get", "download", "-qq", "-o", "APT::Sandbox::User=root", "prometheus", within=target.parent)
        package = next(target.parent.glob("prometheus_*.deb"))
        _run("dpkg-deb", "-x", str(package), "files", within=target.parent)
        (target.parent / "files" / "usr" / "bin" / program).rename(target)

    return make


def _no_browser(_: Path) -> None:
    raise PartMissingError(
        "chromium: not found; install it (apt-get install chromium), or name it in SPANLEDGER_CHROMIUM"
    )


def _npm(name: str, variable: str, package: str) -> Callable[[Path], None]:
    def make(target: Path) -> None:
        _needs("npm", name, variable)
        target.mkdir()
        quiet = ("--no-audit", "--no-fund", "--loglevel=error")
        _run("npm", "install", *quiet, "--prefix", str(target), package, within=target)

    return make


def _agent(name: str, package: str, version: str) -> Part:
    variable = f"SPANLEDGER_{name.upper()}"
    return Part(name, variable, (), version, _npm(name, variable, f"{package}@{version}"), f"node_modules/.bin/{name}")


PARTS = {
    part.name: part
    for part in (
        Part("otelcol", "SPANLEDGER_OTELCOL", ("otelcol", "otelcol-contrib"), "0.160.0", _make_otelcol),
        Part(
            "otelcol-spanledger",
            "SPANLEDGER_COMPONENT",
            ("otelcol-spanledger",),
            _component_version(),
            _make_component,
        ),
        Part("helm", "SPANLEDGER_HELM", (), "3.22.0", _make_helm),
        Part("tempo", "SPANLEDGER_TEMPO", ("tempo",), "2.9.0", _make_tempo),
        Part("prometheus", "SPANLEDGER_PROMETHEUS", ("prometheus",), "debian", _debian_prometheus("prometheus")),
        Part("promtool", "SPANLEDGER_PROMTOOL", ("promtool",), "debian", _debian_prometheus("promtool")),
        Part(
            "chromium", "SPANLEDGER_CHROMIUM", ("chromium", "chromium-browser", "google-chrome"), "system", _no_browser
        ),
        _agent("claude", "@anthropic-ai/claude-code", "2.1.332"),
        _agent("codex", "@openai/codex", "0.171.0"),
        _agent("gemini", "@google/gemini-cli", "0.61.0"),
        _agent("qwen", "@qwen-code/qwen-code", "0.15.10"),  # the newest that Node.js 20 runs
    )
}


def main() -> int:
    """Find or make every part; a line for each."""
    problems = 0
    for name in PARTS:
        try:
            print(f"{name}: {obtain(name)}")
        except PartMissingError as error:
            print(error, file=sys.stderr)
            problems += 1
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
