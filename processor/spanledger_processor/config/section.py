"""What all sections have in common, and the kinds of value that several of them hold."""

from __future__ import annotations

import re
from decimal import Decimal
from typing import Annotated, Any, NoReturn, TypeAlias

from pydantic import AfterValidator, BaseModel, BeforeValidator, Field, model_validator

from spanledger_exporters.settings import Settings


class Section(BaseModel):
    """Unknown keys are errors, values never change, and no error repeats a value, which may be secret."""

    model_config = Settings.model_config


class NamedSections(Section):
    """A section whose sections are there if they are named: one that is left empty has its defaults."""

    @model_validator(mode="before")
    @classmethod
    def _named_runs(cls, given: Any) -> Any:
        if isinstance(given, dict):
            return {name: {} if settings is None else settings for name, settings in given.items()}
        return given


def _present(value: Any) -> Any:
    return {} if value is None else value


NULL_IS_DEFAULT = BeforeValidator(_present)
"""A section that is named and left empty has its defaults, as in the Collector."""


def not_available(why: str) -> NoReturn:
    """Refuse a known key whose function does not exist yet: it must not be accepted silently."""
    raise ValueError(f"not available yet: {why}")


def whole(value: Any) -> Any:
    """Return a value that is not true or false, which Python takes for numbers."""
    if isinstance(value, bool):
        raise ValueError("should be a whole number")
    return value


Count: TypeAlias = Annotated[int, BeforeValidator(whole), Field(ge=1)]
CountOrOff: TypeAlias = Annotated[int, BeforeValidator(whole), Field(ge=0)]

_PORT = re.compile(r"\d{1,5}", re.ASCII)
_HOST = re.compile(r"\[[0-9a-fA-F:.]+(?:%\w+)?\]|[\w.-]*", re.ASCII)


def _listening(endpoint: str) -> str:
    if "://" in endpoint:
        raise ValueError("write host:port, without http:// or another scheme")
    host, colon, port = endpoint.rpartition(":")
    if not colon or not _HOST.fullmatch(host) or not _PORT.fullmatch(port) or int(port) > 65535:
        raise ValueError("write host:port, such as 127.0.0.1:4317, [::1]:4317, or 0.0.0.0:4317 for all addresses")
    return f"{host or '0.0.0.0'}:{port}"  # noqa: S104 - ":4317" means all addresses, as in the Collector


Endpoint: TypeAlias = Annotated[str, AfterValidator(_listening)]
"""host:port to listen on; port 0 takes any that is free."""


def _listening_anywhere(endpoint: str) -> str:
    if not endpoint.startswith("unix:"):
        return _listening(endpoint)
    if not endpoint.startswith("unix:///"):
        raise ValueError("write unix:///path, with the whole path of the socket")
    return endpoint


ListenAddress: TypeAlias = Annotated[str, AfterValidator(_listening_anywhere)]
"""host:port, or unix:///path for a socket in the file system."""


def host_and_port(endpoint: Endpoint) -> tuple[str, int]:
    """Return the two parts of an endpoint; an IPv6 host without its brackets."""
    host, _, port = endpoint.rpartition(":")
    return host.strip("[]"), int(port)


def _key(key: str) -> str:
    if not key.strip() or key != key.strip():
        raise ValueError("an attribute key is not empty and has no space around it")
    return key


AttributeKey: TypeAlias = Annotated[str, AfterValidator(_key)]


def _once(keys: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(keys))


AttributeKeys: TypeAlias = Annotated[tuple[AttributeKey, ...], AfterValidator(_once)]
"""Attribute keys in order of trust: the first that a span carries is used."""


def _exact(value: Any) -> Any:
    if isinstance(value, bool):
        raise ValueError("should be an amount")
    return Decimal(repr(value)) if isinstance(value, float) else value


UsdRate: TypeAlias = Annotated[Decimal, BeforeValidator(_exact), Field(ge=0, le=10**9)]
"""USD per million tokens, exact."""
