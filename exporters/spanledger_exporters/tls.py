"""Certificates and keys: of a destination, for gRPC and for HTTP, and whether their files have changed."""

from __future__ import annotations

import os
import ssl
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

from spanledger_exporters.interface import DestinationError
from spanledger_exporters.settings import TlsSettings

_SYSTEM_AUTHORITIES = (
    "/etc/ssl/certs/ca-certificates.crt",  # Debian, Ubuntu, Alpine, Arch
    "/etc/pki/ca-trust/extracted/pem/tls-ca-bundle.pem",  # Fedora, RHEL
    "/etc/pki/tls/certs/ca-bundle.crt",  # older RHEL
    "/etc/ssl/ca-bundle.pem",  # openSUSE
    "/etc/ssl/cert.pem",  # macOS, BSD
)


@dataclass(frozen=True, slots=True)
class Pem:
    """PEM files as gRPC takes them; None for what there is none of."""

    authorities: bytes | None
    key: bytes | None
    certificate: bytes | None


def read(exporter: str, tls: TlsSettings) -> Pem:
    """Return the files that the settings name; without `ca_file` the authorities that the system trusts.

    Raises:
        DestinationError: a file cannot be read, or is no PEM file.
    """
    return Pem(
        _read(exporter, "ca_file", tls.ca_file) or _system_authorities(),
        _read(exporter, "key_file", tls.key_file),
        _read(exporter, "cert_file", tls.cert_file),
    )


def context(exporter: str, tls: TlsSettings) -> ssl.SSLContext:
    """Return the context of an HTTP client, of the same files.

    Raises:
        DestinationError: a file cannot be read, or holds no certificate or key.
    """
    read(exporter, tls)
    try:
        built = ssl.create_default_context(cafile=tls.ca_file)
        if tls.cert_file:
            # A password would be asked for on the terminal.
            built.load_cert_chain(tls.cert_file, tls.key_file, password="")
    except (ssl.SSLError, ValueError) as error:
        raise DestinationError(exporter, f"tls: not a PEM certificate with its key: {error}") from error
    if tls.insecure_skip_verify:
        built.check_hostname = False
        built.verify_mode = ssl.CERT_NONE
    return built


def _system_authorities() -> bytes | None:
    """Return the authorities that this system trusts, as PEM; None if there are none (gRPC then uses its own list)."""
    paths = ssl.get_default_verify_paths()
    for path in (paths.cafile, *_SYSTEM_AUTHORITIES):
        if path and Path(path).is_file():
            return Path(path).read_bytes()
    return None


def _read(exporter: str, setting: str, path: str | None) -> bytes | None:
    if path is None:
        return None
    try:
        content = Path(path).read_bytes()
    except OSError as error:
        raise DestinationError(exporter, f"tls.{setting}: {path}: {error.strerror}") from error
    if b"-----BEGIN " not in content:
        raise DestinationError(exporter, f"tls.{setting}: {path} is not a PEM file")
    return content


Stamp: TypeAlias = tuple[tuple[int, int, int] | None, ...]
"""Time of change, size and inode of files; None for one that is not there."""


def stamp(files: Sequence[str | None]) -> Stamp:
    """Return what changes with the content of files. A link that points elsewhere has changed, too."""
    return tuple(_stamp(file) for file in files if file is not None)


def _stamp(file: str) -> tuple[int, int, int] | None:
    try:
        result = os.stat(file)  # noqa: PTH116 - a path object would cost more than the call
    except OSError:
        return None
    return result.st_mtime_ns, result.st_size, result.st_ino
