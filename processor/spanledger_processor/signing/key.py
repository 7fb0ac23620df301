"""The signing key: from the configuration, the environment or the state folder."""

from __future__ import annotations

import os
import secrets
import stat
from collections.abc import Mapping
from pathlib import Path

SHORTEST_KEY = 16
"""Characters of a signing key: a shorter one could be guessed, and with it the arguments."""

VARIABLE = "SPANLEDGER_SIGNING_KEY"
FILE = "signing.key"


class SigningKeyError(Exception):
    """A key cannot be used; the message names its place and a remedy, and never the key."""


class SigningKeyUnavailableError(SigningKeyError):
    """The state folder can neither give a key nor keep one now."""


def load_key(configured: str | None, environ: Mapping[str, str], state_path: Path) -> tuple[bytes, bool]:
    """Return `configured`, else $SPANLEDGER_SIGNING_KEY, else the state folder's key, made if there is none.

    True beside it: it was made just now, and other machines do not have it. White space around a key is no part of it,
    so what the file holds can be put into the variable elsewhere.

    Raises:
        SigningKeyUnavailableError: the file cannot be read or written.
        SigningKeyError: too short, or readable by other users.
    """
    for source, text in (("processor.tools.signing_key", configured), (VARIABLE, environ.get(VARIABLE))):
        if text and text.strip():
            return _checked(text, source), False
    path = state_path / FILE
    try:
        if not path.exists():
            return _create(path)
        return _read(path), False
    except OSError as error:
        raise SigningKeyUnavailableError(f"{path}: {error.strerror}; or set {VARIABLE} instead") from None


def _checked(text: str, source: str) -> bytes:
    if len(text.strip()) < SHORTEST_KEY:
        raise SigningKeyError(f"{source}: too short for a signing key, {SHORTEST_KEY} characters at least")
    return text.strip().encode("utf-8", "surrogateescape")


def _read(path: Path) -> bytes:
    with path.open("rb") as file:
        mode = os.fstat(file.fileno()).st_mode
        if mode & (stat.S_IRWXG | stat.S_IRWXO):
            raise SigningKeyError(f"{path}: other users may read or change it (mode {mode & 0o777:04o}); chmod 600 it")
        return _checked(file.read().decode("utf-8", "surrogateescape"), str(path))


def _create(path: Path) -> tuple[bytes, bool]:
    """Return a new key on disk, whole from the moment it is there; the other's, if another process was first."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    text = secrets.token_hex(32)
    draft = path.with_name(f".{FILE}.{secrets.token_hex(8)}")
    try:
        with os.fdopen(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
            file.write(text + "\n")
            file.flush()
            os.fsync(file.fileno())
        os.link(draft, path)
    except FileExistsError:
        return _read(path), False
    finally:
        draft.unlink(missing_ok=True)
    _sync(path.parent)
    return text.encode(), True


def _sync(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
