"""Certificates for one test, made on the spot."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import trustme


@dataclass
class Certificates:
    """Files of a server's certificate, a client's, and the authority above both, for `localhost`."""

    folder: Path

    def __post_init__(self) -> None:
        authority = trustme.CA()
        authority.cert_pem.write_to_path(self.authority)
        for name in ("server", "client"):
            issued = authority.issue_cert("localhost")
            issued.private_key_pem.write_to_path(self.key(name))
            for number, pem in enumerate(issued.cert_chain_pems):
                pem.write_to_path(self.cert(name), append=number > 0)

    @property
    def authority(self) -> Path:
        """The authority's certificate."""
        return self.folder / "authority.pem"

    def cert(self, name: str) -> Path:
        """The certificate of "server" or "client"."""
        return self.folder / f"{name}.pem"

    def key(self, name: str) -> Path:
        """The private key of "server" or "client"."""
        return self.folder / f"{name}.key"

    def server_settings(self, *, mutual: bool = False) -> dict[str, str]:
        """`tls` of a listener; with `mutual` it demands a client certificate."""
        own = {"cert_file": str(self.cert("server")), "key_file": str(self.key("server"))}
        return {**own, "client_ca_file": str(self.authority)} if mutual else own
