"""A store that is opened again when it breaks."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable

from spanledger_processor.ledger.store import StateBrokenError, StateError, StateLockedError, Store

log = logging.getLogger(__name__)

_RETRY_S = 2.0
"""Between two attempts to open it."""


class ReopeningStore:
    """Holds the store that can be used now, or the reason why there is none."""

    def __init__(self, open_store: Callable[[], Store], available: Callable[[bool], None]) -> None:
        """Open the store; `available` is told whenever it comes or goes.

        Raises:
            StateLockedError: another process writes to it, which does not pass with waiting.
        """
        self._open_store = open_store
        self._available = available
        self._store: Store | None = None
        self.problem: str | None = ""
        """Why the last attempt to use it failed; None if it did not."""
        self._next_attempt = 0.0
        try:
            self._use(open_store())
        except StateLockedError:
            raise
        except StateError as error:
            self._fail(error)

    def ready(self) -> Store:
        """The store.

        Raises:
            StateError: there is none now.
        """
        store = self._store
        if store is None:
            raise StateError(self.problem or "")
        return store

    def retry(self) -> None:
        """Open it again, if it is not open and the last attempt was a while ago."""
        if self._store is not None or time.monotonic() < self._next_attempt:
            return
        try:
            self._use(self._open_store())
        except StateError as error:
            self._fail(error)

    def succeeded(self) -> None:
        """What was tried worked."""
        if self.problem is not None:
            self.problem = None
            log.info("the ledger is available")
            self._available(True)

    def failed(self, error: StateError) -> None:
        """What was tried did not work. Without a store nothing was tried, and the next attempt to open it stands."""
        store = self._store
        if store is None:
            return
        if isinstance(error, StateBrokenError):
            self._store = None
            _close(store)
        self._fail(error)

    def close(self) -> None:
        """Close the store for good.

        Raises:
            StateError: what it held back could not be written.
        """
        store, self._store, self.problem = self._store, None, "the ledger is closed"
        if store is not None:
            store.close()

    def _use(self, store: Store) -> None:
        self._store = store
        self.succeeded()

    def _fail(self, error: StateError) -> None:
        self._next_attempt = time.monotonic() + _RETRY_S
        if self.problem != str(error):
            log.error("the ledger is not available, spans go on as not_accounted: %s", error)
            self._available(False)
        self.problem = str(error)


def _close(store: Store) -> None:
    try:
        store.close()
    except StateError as error:
        log.error("closing the ledger: %s", error)
