"""Writes docs/configuration.md from the models: `python -m spanledger_processor.config.document`."""

from __future__ import annotations

import inspect
import json
import sys
import typing
from collections.abc import Iterator, Mapping, Sequence
from decimal import Decimal
from pathlib import Path
from typing import Any

from annotated_types import Ge, Gt, Le
from pydantic import BaseModel, SecretStr
from pydantic.fields import FieldInfo

from spanledger_exporters.settings import TYPES, render
from spanledger_processor.config.model import Config
from spanledger_processor.config.reading import model_in

_INTRODUCTION = """\
# Configuration

Written by `python -m spanledger_processor.config.document` from the code; `make docs` writes it anew.

YAML in the vocabulary of the OpenTelemetry Collector, given with `--config FILE`. Without a file everything
has its default: OTLP is taken on 127.0.0.1:4317 and 127.0.0.1:4318, a line about each request goes to the terminal, and
all of it to a file in the user's state folder.

- `spanledger check --config FILE` reports every mistake with its path. Unknown keys are mistakes, and so are known keys
  whose function does not exist yet.
- `--config` may be given several times: a later file is merged over the earlier ones as in the Collector. Sections
  merge key by key, and every other value is replaced, a list as a whole.
- SIGHUP reads the files again and puts prices (`processor.pricing`), keys, tokens, `headers`, certificates, budgets,
  warnings and summaries of sessions into use. Where something is wrong, everything stays as it was and the log says so;
  the log names what needs a restart.
  Certificates are also read again whenever their files change.
- `--set path.to.key=value` sets one value, over that of the file; it may be given several times. A key that holds
  a dot goes in quotes: `--set 'exporters."otlp_grpc/eu.west".endpoint=tempo:4317'`.
- `${env:NAME}` and `${env:NAME:-default}` are replaced in values; `$$` is a literal `$`. A variable that is not set and
  has no default is a mistake.
- Durations are written as in Go (`200ms`, `5s`, `1m30s`, `24h`), and `d` is a day.
- There is one pipeline and no `service.pipelines`: every exporter gets each signal that it takes, and of that the
  resources that its `match` takes (all of them where it has none). A signal that none
  takes is accepted, used, counted, and warned about at start.

```yaml
receivers:
  otlp:
    protocols:
      grpc:
        endpoint: 127.0.0.1:4317
      http:
        endpoint: 127.0.0.1:4318

exporters:
  otlp_grpc/tempo:
    endpoint: tempo:4317
    tls:
      insecure: true
    signals: [traces] # Tempo takes no logs and no metrics, and would refuse them
  otlp_http/vendor:
    endpoint: https://otlp.example.com
    headers:
      authorization: Bearer ${env:VENDOR_TOKEN}
    required: false # senders do not wait for this one
    signals: [traces]

processor:
  pricing:
    overrides:
      - model: acme-*
        input: 0.50
        output: 2
```
"""

_NAMES: Mapping[Any, str] = {
    str: "text",
    int: "whole number",
    float: "number",
    Decimal: "number",
    bool: "true or false",
    Path: "path",
    SecretStr: "text, kept secret",
}


def document() -> str:
    """Return the whole page."""
    page = _Page()
    for name, field in Config.model_fields.items():
        if name == "exporters":
            page.exporters(field)
        else:
            page.section((name,), field)
    return "\n".join([_INTRODUCTION, *page.parts])


class _Page:
    """The sections of the page in order; a model that was written once is referred to."""

    def __init__(self) -> None:
        self.parts: list[str] = []
        self._written: dict[type[BaseModel], str] = {}

    def section(self, location: tuple[str, ...], field: FieldInfo) -> None:
        """Add a section's own keys as a table, then the sections inside it."""
        path = ".".join(location)
        self.parts.append(f"{'#' * min(len(location) + 1, 4)} `{path}`\n\n{field.description}\n")
        model = model_in(field.annotation)
        if model is None:
            return
        if model in self._written:
            self.parts.append(f"The same keys as `{self._written[model]}`.\n")
            return
        self._written[model] = path
        self._inside(location, model)

    def exporters(self, field: FieldInfo) -> None:
        """Add a section for each type of exporter."""
        default = _given_default(field)
        self.parts.append(f"## `exporters`\n\n{field.description}\n\nDefault: {default}.\n")
        for settings in dict.fromkeys(TYPES.values()):
            name, *others = (name for name, kind in TYPES.items() if kind is settings)
            also = "".join(f", formerly `{other}`" for other in others)
            summary = (inspect.getdoc(settings) or "").splitlines()[0]
            self.parts.append(f"### `exporters.{name}`{also}\n\n{summary}\n")
            self._inside(("exporters", name), settings)

    def _inside(self, location: tuple[str, ...], model: type[BaseModel]) -> None:
        own = inspect.get_annotations(model)
        fields = sorted(model.model_fields.items(), key=lambda item: item[0] not in own)
        self.parts += _table([(name, field) for name, field in fields if model_in(field.annotation) is None])
        for name, field in fields:
            if model_in(field.annotation) is not None:
                step = f"{name}[]" if typing.get_origin(field.annotation) is tuple else name
                self.section((*location, step), field)


def _table(fields: Sequence[tuple[str, FieldInfo]]) -> Iterator[str]:
    if not fields:
        return
    yield "| key | value | default | meaning |\n|---|---|---|---|"
    for name, field in fields:
        meaning = (field.description or "").replace("|", "\\|")
        yield f"| `{name}` | {_type(field)} | {_default(field)} | {meaning} |"
    yield ""


def _type(field: FieldInfo) -> str:
    if field.annotation is float and any("BeforeValidator" in type(item).__name__ for item in field.metadata):
        return "duration"
    return _name(field.annotation) + _bounds(field)


def _name(annotation: Any) -> str:
    origin, arguments = typing.get_origin(annotation), typing.get_args(annotation)
    if origin is typing.Annotated:
        duration = arguments[0] is float and any("BeforeValidator" in type(item).__name__ for item in arguments[1:])
        return "duration" if duration else _name(arguments[0])
    if origin is typing.Literal:
        return ", ".join(f"`{choice}`" for choice in arguments)
    if origin in (tuple, frozenset):
        inner = _name(arguments[0])
        return f"list of {inner}" if inner[0] != "`" else f"list: {inner}"
    if inspect.isclass(origin) and issubclass(origin, Mapping):
        return " to ".join(_name(argument) for argument in arguments)
    given = [argument for argument in arguments if argument is not type(None)]
    return _name(given[0]) if given else _NAMES.get(annotation, annotation.__name__)


def _bounds(field: FieldInfo) -> str:
    """Return the narrowest bounds: a field may narrow those of its type."""
    least = [(Decimal(str(item.ge)), "{:f} or more") for item in field.metadata if isinstance(item, Ge)]
    least += [(Decimal(str(item.gt)), "more than {:f}") for item in field.metadata if isinstance(item, Gt)]
    most = [(Decimal(str(item.le)), "at most {:f}") for item in field.metadata if isinstance(item, Le)]
    narrowest = [*([max(least)] if least else []), *([min(most)] if most else [])]
    return "".join(f", {text.format(bound)}" for bound, text in narrowest)


def _default(field: FieldInfo) -> str:
    if given := _given_default(field):
        return given
    if field.is_required():
        return "required"
    value = field.get_default(call_default_factory=True)
    if value is None or value == () or value == {}:
        return "none"
    if _type(field).startswith("duration"):
        return f"`{render(value)}`"
    if isinstance(value, (tuple, frozenset)):
        return ", ".join(f"`{item}`" for item in (sorted(value) if isinstance(value, frozenset) else value))
    return f"`{value if isinstance(value, str) else json.dumps(value, default=str)}`"


def _given_default(field: FieldInfo) -> str:
    extra = field.json_schema_extra
    return str(extra["default"]) if isinstance(extra, dict) and "default" in extra else ""


if __name__ == "__main__":
    sys.stdout.write(document())
