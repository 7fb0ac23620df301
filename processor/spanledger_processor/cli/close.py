"""`spanledger close ID`: mark a session as ended."""

from __future__ import annotations

import ssl
import time
from urllib.parse import quote

import click
import httpx2

from spanledger_processor.cli.options import FAILED, ConfigFiles, as_json, configuration, configured, fail, tenant
from spanledger_processor.cli.reading import must_exist
from spanledger_processor.cli.show import show_json
from spanledger_processor.config import Config, host_and_port
from spanledger_processor.ledger.store import StateError, StateLockedError, tenant_hash
from spanledger_processor.server.http_api import close_session
from spanledger_processor.server.wiring import open_store

_TIMEOUT = 15.0


@click.command()
@click.argument("session_id", metavar="ID")
@configuration
@tenant
@as_json
def close(session_id: str, path: ConfigFiles, sets: tuple[str, ...], tenant: str, *, as_json: bool) -> None:
    """Mark a session as ended. Spans of it that come later still count.

    While `serve` runs, it is asked to do so at its api.endpoint; otherwise the ledger is changed on disk.
    """
    config = configured(path, sets)
    must_exist(config)
    try:
        closed = _on_disk(config, tenant, session_id)
    except StateLockedError as error:
        closed = _by_serve(config, tenant, session_id, error)
    except StateError as error:
        fail(str(error), FAILED)
    if not closed:
        fail(f"no session {session_id!r} in this ledger; `spanledger sessions` lists those there are", FAILED)
    if as_json:
        show_json({"id": session_id, "closed": True})
    else:
        click.echo(f"session {session_id} is marked as ended")


def _on_disk(config: Config, tenant: str, session_id: str) -> bool:
    store = open_store(config)
    try:
        with store.unit() as unit:
            return close_session(tenant_hash(tenant), session_id, time.time_ns(), unit)
    finally:
        store.close()


def _by_serve(config: Config, tenant: str, session_id: str, locked: StateLockedError) -> bool:
    host, port = host_and_port(config.api.endpoint)
    if port == 0:
        fail(f"{locked}\nIts API is on a free port that its log names: --set api.endpoint=127.0.0.1:PORT", FAILED)
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)  # noqa: S104 - where it listens, not where we do
    tls, token = config.api.tls, config.api.auth.bearer_token
    base = f"{'https' if tls else 'http'}://{f'[{host}]' if ':' in host else host}:{port}"
    headers = {} if token is None else {"authorization": f"Bearer {token.get_secret_value()}"}
    verify = True if tls is None else _only(tls.cert_file)
    url = f"{base}/api/v1/sessions/{quote(session_id, safe='')}/close"
    try:
        answer = httpx2.post(url, json={"tenant": tenant}, headers=headers, verify=verify, timeout=_TIMEOUT)
    except httpx2.HTTPError as error:
        fail(f"{locked}\nAsked to end the session at {host}:{port} (api.endpoint): {error}", FAILED)
    if answer.status_code not in (200, 404):
        fail(f"the server at {host}:{port} answered {answer.status_code}: {answer.text[:200]}", FAILED)
    return answer.status_code == 200


def _only(certificate: str) -> ssl.SSLContext:
    """Return a context that trusts this very certificate, under whatever name: it is the one that is configured."""
    context = ssl.create_default_context(cafile=certificate)
    context.check_hostname = False
    context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
    return context
