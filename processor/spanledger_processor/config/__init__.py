"""The configuration: YAML in the Collector's own vocabulary."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from spanledger_processor.config.model import Config, state_folder
from spanledger_processor.config.reading import ConfigError, assign, expand, from_validation, merged, parse_file
from spanledger_processor.config.section import host_and_port

__all__ = ["Config", "ConfigError", "host_and_port", "load"]


def load(
    files: Path | Sequence[Path] | None, sets: Sequence[str] = (), environ: Mapping[str, str] = os.environ
) -> Config:
    """Return the configuration of `files` (none: the defaults), with `sets` put in and variables replaced.

    A later file is merged over the earlier ones as the Collector merges: sections deep, all else replaced.

    Raises:
        ConfigError: with one line a problem, each with its path; never with a value, which may be secret.
    """
    document: dict[str, Any] = {}
    for file in [files] if isinstance(files, Path) else files or ():
        document = merged(document, parse_file(file))
    own_exporters = "exporters" in document
    _spell_out(document)
    assign(document, sets)
    document = expand(document, environ)
    _place(document, environ, own_exporters=own_exporters)
    try:
        return Config.model_validate(document)
    except ValidationError as error:
        problems = from_validation(Config, error)
    raise ConfigError(problems)


def _spell_out(document: dict[str, Any]) -> None:
    """Write down what runs by default, so that a `--set` inside it leaves the rest of it running."""
    receivers = document.get("receivers")
    if isinstance(receivers, dict) and "enricher" in receivers and "otlp" not in receivers:
        return  # only an enricher: nothing of OTLP runs, and nothing is delivered
    document.setdefault("exporters", {"debug": {}, "file": {}})
    section = document
    for step in ("receivers", "otlp"):
        if section.get(step) is None:
            section[step] = {}
        section = section[step]
        if not isinstance(section, dict):
            return
    section.setdefault("protocols", {"grpc": {}, "http": {}})


def _place(document: dict[str, Any], environ: Mapping[str, str], *, own_exporters: bool) -> None:
    """Set the two paths that depend on the user of this process."""
    if document.get("state") is None:
        document["state"] = {}
    state, exporters = document["state"], document.get("exporters")
    folder = str(state_folder(environ))
    if isinstance(state, dict):
        folder = state.setdefault("path", folder)
    if own_exporters or not isinstance(exporters, dict) or not isinstance(folder, str):
        return
    file = exporters.get("file")
    if isinstance(file, dict):
        file.setdefault("path", str(Path(folder).expanduser() / "spans.jsonl"))
