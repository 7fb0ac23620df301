"""`spanledger check`: validate a configuration, the files that it names, and on demand its destinations."""

from __future__ import annotations

import asyncio
import os
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NoReturn

import click

from spanledger_exporters.interface import DestinationError, Signal, Verdict
from spanledger_exporters.settings import ExporterSettings, FileSettings, NetworkSettings
from spanledger_processor.cli.options import FAILED, WRONG_USAGE, ConfigFiles, as_json, config_files, configuration
from spanledger_processor.cli.show import show_json
from spanledger_processor.cli.tables import plain
from spanledger_processor.config import Config, ConfigError, load
from spanledger_processor.config.receivers import ServerTls
from spanledger_processor.config.summary import summary

_MARGIN_S = 2.0
"""Seconds over an exporter's own timeout."""


@dataclass(frozen=True, slots=True)
class Connection:
    """One try to send nothing to a destination, an exporter's or one of Spanledger's own telemetry."""

    exporter: str
    signal: Signal
    address: str
    required: bool
    problem: str

    def __str__(self) -> str:
        return f"{self.exporter} {self.signal} -> {self.address}: {self.problem or 'accepted'}"


@click.command()
@configuration
@click.option("--syntax", is_flag=True, help="Look at the configuration alone, as on a machine without its files.")
@click.option(
    "--connect",
    is_flag=True,
    help="Also send an empty request to each destination in the network, own telemetry's included.",
)
@as_json
def check(path: ConfigFiles, sets: tuple[str, ...], *, syntax: bool, connect: bool, as_json: bool) -> None:
    """Validate a configuration, and see that the certificates and folders that it names can be used.

    Every mistake is named with its path, and the exit code is 2 if there is one. With --connect it is 1 where a
    destination that is required does not accept an empty request.
    """
    try:
        config = load(config_files(path), sets)
    except ConfigError as error:
        _end(list(error.problems), as_json=as_json)
    if problems := [] if syntax else list(unusable(config)):
        _end(problems, as_json=as_json)
    tried = asyncio.run(_connections(config)) if connect else []
    reported = summary(config)
    warnings = [*reported.warnings, *_of_budgets(config, syntax=syntax)]
    if as_json:
        connections = [
            {"exporter": one.exporter, "signal": one.signal, "address": one.address, "problem": one.problem or None}
            for one in tried
        ]
        more = {"connections": connections} if connect else {}
        show_json({"valid": True, **reported.as_dict(), "warnings": warnings, **more})
    else:
        files = config_files(path)
        are = "are valid, merged" if len(files) > 1 else "is valid"
        click.echo(f"{', '.join(map(str, files)) or 'The built-in configuration'} {are}.")
        of_all = (f"warning: {warning}" for warning in warnings)
        for line in (*reported.lines(), *map(plain, of_all), *(plain(str(one)) for one in tried)):
            click.echo(f"  {line}")
    if any(one.problem and one.required for one in tried):
        sys.exit(FAILED)


def _of_budgets(config: Config, *, syntax: bool) -> list[str]:
    """Return what is to be said of models and providers of budgets that nothing is known by."""
    if not any(budget.value and budget.dimension in ("model", "provider") for budget in config.processor.budgets):
        return []
    from spanledger_processor.server.budget_values import unknown_values  # brings the price list and LMDB along
    from spanledger_processor.server.wiring import ledger_beside, make_budgets, make_pricer

    rules = make_budgets(config.processor)
    snapshot = None if syntax else partial(ledger_beside, config)
    return unknown_values(rules, make_pricer(config), time.time_ns(), snapshot)


def _end(problems: list[str], *, as_json: bool) -> NoReturn:
    """Print the problems, and end the command."""
    if as_json:
        show_json({"valid": False, "problems": problems})
    else:
        for problem in problems:
            click.echo(problem, err=True)
    sys.exit(WRONG_USAGE)


def unusable(config: Config) -> Iterator[str]:
    """Yield, with its path in the configuration, each file and folder that cannot be used."""
    for path, listener in config.listeners.items():
        tls = getattr(listener, "tls", None)
        if isinstance(tls, ServerTls):
            yield from _certificates(tls, f"{path}.tls")
    yield from _folder(config.state.path / "ledger", "state.path")
    for name, settings in config.exporters.items():
        yield from _of_exporter(f"exporters.{name}", name, settings)


def _certificates(tls: ServerTls, path: str) -> Iterator[str]:
    from spanledger_processor.receivers.auth import ServerCertificates  # brings gRPC along

    try:
        ServerCertificates(tls, path)
    except OSError as error:
        yield str(error)


def _of_exporter(path: str, name: str, settings: ExporterSettings) -> Iterator[str]:
    if isinstance(settings, FileSettings):
        yield from _folder(Path(settings.path).expanduser().parent, f"{path}.path")
    if not isinstance(settings, NetworkSettings):
        return
    from spanledger_exporters import tls  # brings ssl along

    try:
        tls.context(name, settings.tls)
    except DestinationError as error:
        yield str(error)
    if settings.dead_letter is not None:
        yield from _folder(Path(settings.dead_letter).expanduser().parent, f"{path}.dead_letter")
    if settings.sending_queue.enabled and settings.sending_queue.storage is not None:
        yield from _folder(Path(settings.sending_queue.storage), f"{path}.sending_queue.storage")


def _folder(folder: Path, path: str) -> Iterator[str]:
    """Yield the reason why a folder can neither be written nor made, if there is one.

    What is missing of it is made in a folder beside its place and taken away again: permissions alone do not say that a
    file system is read-only or full, or that a name is too long for it.
    """
    there = folder
    while not os.path.lexists(there) and there != there.parent:
        there = there.parent
    if not os.path.isdir(there):  # noqa: PTH112 - Path.is_dir raises where one may not look
        yield f"{path}: {there} is no folder"
        return
    try:
        with TemporaryDirectory(prefix=".spanledger-", dir=there) as tried:
            (Path(tried) / folder.relative_to(there)).mkdir(parents=True, exist_ok=True)
    except OSError as error:
        wrong = "may not be written" if there == folder else f"cannot be made in {there}"
        yield f"{path}: {folder} {wrong} ({error.strerror})"


async def _connections(config: Config) -> list[Connection]:
    """Send an empty request of each signal to each destination in the network, once."""
    tries = [
        _connect(name, settings, settings.required)
        for name, settings in config.exporters.items()
        if isinstance(settings, NetworkSettings)
    ]
    for signal, otlp in config.telemetry.destinations:
        settings = otlp.settings(signal).model_copy(update={"signals": frozenset({signal})})
        assert isinstance(settings, NetworkSettings)
        tries.append(_connect(f"telemetry.{signal}", settings, required=False))
    return [one for result in await asyncio.gather(*tries) for one in result]


async def _connect(name: str, settings: NetworkSettings, required: bool) -> list[Connection]:  # noqa: FBT001
    from spanledger_exporters import build  # brings gRPC or an HTTP client along

    once = settings.retry_on_failure.model_copy(update={"enabled": False})
    queue = settings.sending_queue.model_copy(update={"enabled": False})
    exporter = build(name, settings.model_copy(update={"retry_on_failure": once, "sending_queue": queue}))
    await exporter.start()
    try:
        connections = []
        for signal in sorted(exporter.signals):
            until = asyncio.get_running_loop().time() + _timeout(settings) + _MARGIN_S
            result = await exporter.send(signal, b"", until)
            problem = "" if result.verdict is Verdict.ACCEPTED else result.reason or "not accepted"
            connections.append(Connection(name, signal, exporter.address(signal), required, problem))
        return connections
    finally:
        await exporter.close()


def _timeout(settings: NetworkSettings) -> float:
    timeout: float = getattr(settings, "timeout", 10.0)
    return timeout
