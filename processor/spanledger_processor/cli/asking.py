"""The ledger that a command asks: on this machine's disk, or an instance's over HTTP; both by the same routes."""

from __future__ import annotations

import os
import re
import ssl
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from functools import wraps
from typing import Any, Protocol, TypeAlias, TypeVar
from urllib.parse import urlsplit

import click
import httpx2

from spanledger_processor.cli.options import (
    FAILED,
    WRONG_USAGE,
    ConfigFiles,
    configuration,
    configured,
    described,
    fail,
    is_there,
)
from spanledger_processor.config import Config, host_and_port
from spanledger_processor.config.model import ApiSettings
from spanledger_processor.ledger.environment import FOLDER
from spanledger_processor.ledger.pages import MOST_ROWS, CursorError
from spanledger_processor.ledger.store import Reader, StateError
from spanledger_processor.server.forms import in_path
from spanledger_processor.server.routes import ParameterError, TenantError, answer_of, read_parameters, route_of
from spanledger_processor.server.wiring import make_budgets, make_lifecycle, make_pricer, open_store

ENDPOINT, TOKEN = "SPANLEDGER_ENDPOINT", "SPANLEDGER_API_TOKEN"
TIMEOUT = 60.0
"""Seconds that an instance may take to answer."""

Parameters: TypeAlias = Mapping[str, str | None]
"""Query parameters of a route as text; None stands for one that is not given."""
_Command = TypeVar("_Command", bound=Callable[..., Any])


@dataclass(frozen=True, slots=True)
class Target:
    """The options of a command that select the ledger: a configuration or an endpoint, and the tenant."""

    path: ConfigFiles
    sets: tuple[str, ...]
    endpoint: str | None
    tenant: str = ""

    @property
    def remote(self) -> str | None:
        """Return the URL of the instance to ask; None for the ledger on disk.

        The command line takes precedence over the environment: --endpoint, else --config and --set, else the variable.
        """
        if self.endpoint:
            return _url(self.endpoint)
        if self.path or self.sets:
            return None
        return _url(given) if (given := os.environ.get(ENDPOINT, "")) else None

    def config(self) -> Config:
        """Return the configuration, or end the command."""
        return configured(self.path, self.sets)

    def open(self) -> QuerySource:
        """Return the ledger to ask, or end the command."""
        remote = self.remote
        if remote is not None:
            return Instance(remote, _headers(self._api_if_known()), self.tenant)
        return LedgerOnDisk(self.config(), self.tenant, described(self.path))

    def _api_if_known(self) -> ApiSettings | None:
        return self.config().api if self.path or self.sets else None


class QuerySource(Protocol):
    """Answers by the routes of the HTTP API."""

    name: str
    tenant: str

    def __enter__(self) -> QuerySource: ...

    def __exit__(self, *_: object) -> None: ...

    def ask(self, path: str, ids: Mapping[str, str], parameters: Parameters) -> dict[str, Any] | None:
        """Return the answer of a route (its path as the table has it), None if there is none; or end the command."""
        ...


def rows_of(
    source: QuerySource, path: str, parameters: Parameters, most: int | None = None
) -> Iterator[dict[str, Any]]:
    """Yield the rows of a list, page by page, `most` at most."""
    name, cursor, given = route_of(path).rows, None, 0
    while True:
        limit = MOST_ROWS if most is None else min(MOST_ROWS, most - given)
        answer = source.ask(path, {}, {**parameters, "limit": str(limit), "cursor": cursor})
        assert answer is not None
        yield from answer[name]
        given += len(answer[name])
        cursor = answer["next_cursor"]
        if cursor is None or (most is not None and given >= most):
            return


def asks(command: _Command) -> _Command:
    """Give a command --endpoint, --config, --set and --tenant; it gets them as one `Target`."""

    @wraps(command)
    def asking(path: ConfigFiles, sets: tuple[str, ...], endpoint: str | None, tenant: str, **options: Any) -> Any:
        return command(target=Target(path, sets, endpoint, tenant), **options)

    for option in (
        click.option("--tenant", default="", metavar="NAME", help="Whose ledger; the default tenant if not given."),
        click.option(
            "--endpoint",
            metavar="URL",
            help=f"Ask a running instance at its API, such as http://localhost:4320 [env: {ENDPOINT}; its token: "
            f"{TOKEN}]; the ledger on this machine's disk if not given.",
        ),
    ):
        asking = option(asking)
    return configuration(asking)  # type: ignore[return-value]


class LedgerOnDisk:
    """The ledger of a state folder, as it is when the command starts; works beside the process that writes it."""

    def __init__(self, config: Config, tenant: str, which: str) -> None:
        self._config = config
        self.tenant = tenant
        self._closing = ExitStack()
        self._reader: Reader | None = None
        self.name = f"the ledger in {config.state.path} ({which})"

    def __enter__(self) -> LedgerOnDisk:
        must_exist(self._config, self.name)
        try:
            store = open_store(self._config, read_only=True)
            self._closing.callback(store.close)
            self._reader = self._closing.enter_context(store.snapshot())
        except StateError as error:
            self._closing.close()
            fail(str(error), FAILED)
        return self

    def __exit__(self, *_: object) -> None:
        self._closing.close()

    def ask(self, path: str, ids: Mapping[str, str], parameters: Parameters) -> dict[str, Any] | None:
        """See `QuerySource.ask`."""
        assert self._reader is not None
        route = route_of(path)
        given = [("tenant", self.tenant)] if self.tenant else []
        given += [(name, text) for name, text in parameters.items() if text is not None]
        try:
            values = read_parameters(route, given)
            processor = self._config.processor
            rules = make_lifecycle(processor), make_budgets(processor), tuple(processor.dimensions)
            return answer_of(route, self._reader, make_pricer(self._config), values, ids, *rules)
        except (ParameterError, CursorError) as error:
            fail(_of_option(str(error)), WRONG_USAGE)
        except TenantError:
            fail(f"no tenant {self.tenant!r} in {self.name}; `spanledger tenants` lists those there are", FAILED)
        except StateError as error:
            fail(str(error), FAILED)


class Instance:
    """A running instance, asked over HTTP."""

    def __init__(self, url: str, headers: Mapping[str, str], tenant: str, verify: ssl.SSLContext | None = None) -> None:
        self.name = f"the instance at {url}"
        self.tenant = tenant
        if verify is None:  # the authorities take 40 ms to read, and only https asks them
            is_tls = url.startswith("https:")
            verify = ssl.create_default_context() if is_tls else ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        self._client = httpx2.Client(base_url=url, headers=dict(headers), timeout=TIMEOUT, verify=verify)

    def __enter__(self) -> Instance:
        return self

    def __exit__(self, *_: object) -> None:
        self._client.close()

    def ask(self, path: str, ids: Mapping[str, str], parameters: Parameters) -> dict[str, Any] | None:
        """See `QuerySource.ask`."""
        for name, text in ids.items():
            path = path.replace(f"{{{name}}}", in_path(text))
        given = {name: text for name, text in parameters.items() if text is not None}
        if self.tenant:
            given["tenant"] = self.tenant
        return self._answer(self._send("GET", path, params=given))

    def close(self, what: str, name: str) -> int:
        """Mark a `session`, or all sessions of an `instance`, as ended; return how many, 0 if there is none."""
        path = f"/api/v1/{what}s/{in_path(name)}/close"
        answer = self._answer(self._send("POST", path, json={"tenant": self.tenant}))
        return 0 if answer is None else int(answer["closed"])

    def _send(self, method: str, path: str, **given: Any) -> httpx2.Response:
        try:
            return self._client.request(method, path, **given)
        except httpx2.RemoteProtocolError as error:
            fail(f"{self.name} speaks no HTTP ({error}): give the port of api.endpoint, 4320 unless configured", FAILED)
        except httpx2.HTTPError as error:
            fail(f"{self.name} cannot be asked: {error or type(error).__name__}", FAILED)

    def _answer(self, response: httpx2.Response) -> dict[str, Any] | None:
        try:
            body = response.json()
        except ValueError:
            body = None
        if not isinstance(body, dict) or not (response.is_success or "error" in body):
            fail(
                f"{self.name} answered {response.status_code}, and not as Spanledger's API does: give the port of "
                "api.endpoint, 4320 unless configured",
                FAILED,
            )
        if response.is_success:
            return body
        message = _of_option(str(body.get("error", "")))
        if response.status_code == 404 and message == "not in the ledger":
            return None
        hint = f" ({TOKEN}, or --config with api.auth.bearer_token)" if response.status_code == 401 else ""
        return fail(f"{self.name}: {message}{hint}", WRONG_USAGE if response.status_code == 400 else FAILED)


def local_instance(config: Config, tenant: str) -> Instance | None:
    """Return the instance that a configuration describes, asked from its own machine; None if its port is any free."""
    host, port = host_and_port(config.api.endpoint)
    if port == 0:
        return None
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)  # noqa: S104 - where it listens, not where we do
    tls = config.api.tls
    url = f"{'https' if tls else 'http'}://{f'[{host}]' if ':' in host else host}:{port}"
    return Instance(url, _headers(config.api), tenant, None if tls is None else _only(tls.cert_file))


def must_exist(config: Config, name: str) -> None:
    """End the command if no ledger is there."""
    try:
        is_made = is_there(config.state.path / FOLDER)
    except PermissionError:
        fail(
            f"{name} may not be read: run the command as the user of `spanledger serve`, or ask that instance with "
            "--endpoint URL",
            FAILED,
        )
    if not is_made:
        fail(
            f"{name} does not exist yet: `spanledger serve` makes one when it starts. For the ledger of another folder "
            "give its --config, or --set state.path=FOLDER; for that of a running instance --endpoint URL",
            FAILED,
        )


def _of_option(message: str) -> str:
    """Return what is wrong with a parameter of the API, said of the option of the same name."""
    return re.sub(r"^parameter (?=\w+:)", "--", message)


def _headers(api: ApiSettings | None) -> dict[str, str]:
    """Return the header with the token: of the environment, else of a configuration that is given."""
    configured_token = None if api is None else api.auth.bearer_token
    token = os.environ.get(TOKEN) or (configured_token and configured_token.get_secret_value())
    return {"authorization": f"Bearer {token}"} if token else {}


def _url(endpoint: str) -> str:
    """Return the URL of an instance; without a scheme it is http."""
    url = endpoint if "://" in endpoint else f"http://{endpoint}"
    try:
        parts = urlsplit(url)
        fine = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.path in ("", "/")
        fine = fine and not parts.query and parts.username is None and (parts.port or 1) > 0
    except ValueError:
        fine = False
    if not fine:
        fail("--endpoint: write http://HOST:PORT or https://HOST:PORT, without path, user and query", WRONG_USAGE)
    return url.rstrip("/")


def _only(certificate: str) -> ssl.SSLContext:
    """Return a context that trusts the configured certificate under any name."""
    try:
        context = ssl.create_default_context(cafile=certificate)
    except OSError as error:
        fail(f"api.tls.cert_file: {error}", FAILED)
    context.check_hostname = False
    context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
    return context
