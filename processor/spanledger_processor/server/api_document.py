"""Documents of the HTTP API, made from its route table: OpenAPI 3.1, and docs/http-api.md.

`python -m spanledger_processor.server.api_document` writes the page.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from importlib.metadata import version
from typing import Any

from spanledger_processor.server.routes import OTHERS, ROUTES, Parameter, Route
from spanledger_processor.server.shapes import Field, Shape

_ERROR: dict[str, Any] = {
    "description": "What is wrong, in words.",
    "content": {
        "application/json": {
            "schema": {"type": "object", "required": ["error"], "properties": {"error": {"type": "string"}}}
        }
    },
}
_INTRODUCTION = """\
# HTTP API

Written by `python -m spanledger_processor.server.api_document` from the code; `make docs` writes it anew. The same as
OpenAPI 3.1 is served at `/api/v1/openapi.json`.

The API listens on `api.endpoint` (127.0.0.1:4320 unless configured). What the reading commands say can be asked here.

- **Who may ask.** With `api.auth.bearer_token`, who shows it (`authorization: Bearer TOKEN`). Without, whoever reaches
  the port, under an address, a name without a dot, or one of `api.allowed_hosts`; never a page of another site.
- **Ids** in paths are percent-encoded. The empty id stands for what belongs to none: `/api/v1/sessions/`. Clients take
  an id of `.` or `..` for a folder, also if it is encoded: `%252E` and `%252E%252E` stand for these.
- **Parameters** that a path does not know are a 400 that names them, as are values that cannot be read, and names that
  nothing is known by, with those that are like them: a dimension or budget that is neither configured nor in the
  ledger, a model that neither the ledger nor the price list has. Ids, kinds of tasks and values of dimensions come from
  whoever sends spans, and may be asked for before the first of them is here: of one that is not, the list is empty.
- **Pages.** A list gives `limit` rows (100, at most 1,000) and `next_cursor`, which goes into `cursor` for the next
  page; null: there is none. A page may hold fewer rows, or none, and still have a next one: a filter that lets few rows
  through is worked off in slices. `format=ndjson` and `format=csv` stream all rows, each thousand as the ledger is by
  then. In CSV a text that a spreadsheet would take for a formula (it begins with `=`, `+`, `-`, `@`, a tab or a return,
  and is no number) has an apostrophe in front, there as in that of commands and the page. Of a row whose
  calls all lack a price the cost is `unknown` in CSV.
  Sorted by cost, sessions whose costs differ by 1.6 % at most may change places where more than 2,000 of them
  lie together; runs are sorted in slices of up to 400 by last activity, the latest slice first, and `compared_since`
  says how far back the slice of a page goes. `spanledger runs --sort cost` compares all of them.
- **Money** is a double (`cost_usd`) and, exact, a decimal (`cost_usd_exact`). What has no price counts in `unpriced`,
  never as 0. Rows of lists add up to the total; what belongs to no session or run is the row with an empty id.
  Of runs that is so with `all=true`: without, sessions that are runs of their own are in no row (`all` says which).
- **Errors** are JSON, `{"error": "..."}`: 400 a parameter or body, 401 no token, 403 a foreign page or name, 404 not in
  the ledger (also: no such tenant) or no path of the API, 405 a method that the path does not take, 413 and 415 a body
  that is too large or no JSON by its content type, 503 the ledger cannot be read now.

```
$ curl -s 'localhost:4320/api/v1/sessions?sort=cost&limit=3&fields=id,cost_usd'
```
"""


def openapi() -> dict[str, Any]:
    """Return the OpenAPI document."""
    paths: dict[str, dict[str, Any]] = {route.path: {"get": _operation(route)} for route in ROUTES}
    for path, (method, meaning) in OTHERS.items():
        ids = [_in_path(name) for name in _names_in(path)]
        paths[path] = {method: {"summary": meaning, "parameters": ids, "responses": {"200": {"description": "Done."}}}}
    return {
        "openapi": "3.1.0",
        "info": {"title": "Spanledger", "version": version("spanledger")},
        "paths": paths,
        "security": [{}, {"token": []}],
        "components": {"securitySchemes": {"token": {"type": "http", "scheme": "bearer"}}},
    }


def _operation(route: Route) -> dict[str, Any]:
    ids = [_in_path(name) for name in route.ids]
    given = [
        {"name": one.name, "in": "query", "description": one.description, "schema": _with_default(one)}
        for one in route.known
    ]
    content: dict[str, Any] = {"application/json": {"schema": _answer(route)}}
    if route.rows:
        content["application/x-ndjson"] = {"schema": _object(route.shape)}
    if route.rows or route.table:
        content["text/csv"] = {"schema": {"type": "string"}}
    answers = {"200": {"description": route.summary, "content": content}}
    return {
        "operationId": route.answer.__name__,
        "summary": route.summary,
        "parameters": [*ids, *given],
        "responses": {**answers, **dict.fromkeys(("400", "401", "403", "404", "503"), _ERROR)},
    }


def _with_default(parameter: Parameter) -> dict[str, Any]:
    schema = dict(parameter.schema)
    if isinstance(parameter.default, (str, bool, int)) and parameter.default != 0:
        schema["default"] = parameter.default
    return schema


def _in_path(name: str) -> dict[str, Any]:
    return {"name": name, "in": "path", "required": True, "schema": {"type": "string"}}


def _names_in(path: str) -> Iterator[str]:
    return (part[1:-1] for part in path.split("/") if part.startswith("{"))


def _answer(route: Route) -> dict[str, Any]:
    if not route.rows:
        return _object(route.shape)
    page = {
        route.rows: {"type": "array", "items": _object(route.shape)},
        "next_cursor": {"type": ["string", "null"], "description": "Of the next page; null: there is none."},
    }
    beside = _object(route.beside)
    page |= beside["properties"]
    return {"type": "object", "required": [*page], "properties": page}


def _object(shape: Shape) -> dict[str, Any]:
    return {
        "type": "object",
        "required": [name for name, field in shape.items() if not field.optional],
        "properties": {name: _schema(field) for name, field in shape.items()},
    }


def _schema(field: Field) -> dict[str, Any]:
    schema: dict[str, Any] = {"type": [field.type, "null"] if field.null else field.type}
    if field.rows is not None and field.type == "array":
        schema["items"] = _object(field.rows)
    elif field.rows is not None:
        schema |= {name: part for name, part in _object(field.rows).items() if name != "type"}
    return {**schema, "description": field.description}


def page() -> str:
    """Return docs/http-api.md."""
    parts = [_INTRODUCTION, "## Paths\n", "| path | answer |", "|---|---|"]
    parts += [f"| `GET {route.path}` | {_cell(route.summary)} |" for route in ROUTES]
    parts += [f"| `{method.upper()} {path}` | {_cell(meaning)} |" for path, (method, meaning) in OTHERS.items()]
    parts += [
        "",
        "Every path that asks the ledger takes `tenant` and `fields`; those with pages `limit`, `cursor`, `format`.",
        "",
    ]
    for route in ROUTES:
        parts += _section(route)
    return "\n".join(parts).rstrip() + "\n"


def _section(route: Route) -> Iterator[str]:
    yield f"## `GET {route.path}`\n\n{route.summary}\n"
    yield "| parameter | default | meaning |\n|---|---|---|"
    for one in route.known:
        default = "" if one.default in (None, 0, "") else f"`{str(one.default).lower()}`"
        yield f"| `{one.name}` | {default} | {_cell(one.description)} |"
    yield ""
    subject = f"Each row of `{route.rows}`" if route.rows else "The answer"
    yield f"{subject}:\n\n| field | type | meaning |\n|---|---|---|"
    yield from _fields("", route.shape)
    yield ""
    if route.beside:
        yield f"Beside `{route.rows}` and `next_cursor`:\n\n| field | type | meaning |\n|---|---|---|"
        yield from _fields("", route.beside)
        yield ""


def _fields(within: str, shape: Shape) -> Iterator[str]:
    for name, field in shape.items():
        type_name = field.type + (" or null" if field.null else "") + (", may be absent" if field.optional else "")
        yield f"| `{within}{name}` | {type_name} | {_cell(field.description)} |"
        if field.rows is not None and not within:
            inner = f"{name}[]." if field.type == "array" else f"{name}."
            yield from _fields(inner, field.rows)


def _cell(text: str) -> str:
    return text.replace("|", "\\|")


if __name__ == "__main__":
    sys.stdout.write(page())
