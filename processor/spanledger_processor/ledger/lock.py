"""The lock that keeps a second writer out of a state folder."""

from __future__ import annotations

import fcntl
import os
from pathlib import Path

from spanledger_processor.ledger.store import StateError, StateLockedError

FILE = "lock"


class FolderLock:
    """Held from its making to `release`, or to the end of the process, however it ends."""

    def __init__(self, folder: Path) -> None:
        """Lock `folder`.

        Raises:
            StateLockedError: another process holds it.
            StateError: it cannot be locked at all.
        """
        path = folder / FILE
        try:
            self._handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
        except OSError as error:
            raise StateError(f"{path}: {error.strerror}; give state.path a folder that can be written") from None
        try:
            fcntl.flock(self._handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            holder = os.pread(self._handle, 20, 0).decode("ascii", "replace").strip()
            os.close(self._handle)
            if not isinstance(error, BlockingIOError):
                raise StateError(
                    f"{path}: cannot be locked ({error.strerror}); keep the state on a local disk"
                ) from None
            raise StateLockedError(
                f"{folder}: in use by process {holder or '(unknown)'}; stop that, or set another state.path"
            ) from None
        self._name_holder()

    def release(self) -> None:
        """Let others in. The file stays: to remove it could lock out two at once."""
        os.close(self._handle)

    def _name_holder(self) -> None:
        try:
            os.ftruncate(self._handle, 0)
            os.pwrite(self._handle, f"{os.getpid()}\n".encode(), 0)
        except OSError:
            return  # a full disk: who holds it stays untold, and it is held all the same
