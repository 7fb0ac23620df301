"""Certificates of the listeners."""

from __future__ import annotations

import ssl
from pathlib import Path

import grpc

from spanledger_processor.config.receivers import ServerTls


def ssl_context(settings: ServerTls, where: str) -> ssl.SSLContext:
    """For HTTP. `where` is the configuration path that errors name.

    Raises:
        OSError: a file cannot be read, or holds no certificate or key that fits.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    try:
        context.load_cert_chain(settings.cert_file, settings.key_file)
    except OSError as error:
        raise OSError(f"{where}.cert_file, {where}.key_file: no usable certificate and key: {error}") from error
    if settings.client_ca_file:
        try:
            context.load_verify_locations(settings.client_ca_file)
        except OSError as error:
            raise OSError(f"{where}.client_ca_file: no usable certificates: {error}") from error
        context.verify_mode = ssl.CERT_REQUIRED
    return context


def grpc_credentials(settings: ServerTls, where: str) -> grpc.ServerCredentials:
    """For gRPC, which speaks TLS 1.2 and 1.3; the files are checked first, since gRPC does so only when one connects.

    Raises:
        OSError: as for `ssl_context`.
    """
    ssl_context(settings, where)
    pair = (Path(settings.key_file).read_bytes(), Path(settings.cert_file).read_bytes())
    authorities = Path(settings.client_ca_file).read_bytes() if settings.client_ca_file else None
    return grpc.ssl_server_credentials([pair], authorities, require_client_auth=authorities is not None)
