"""The node's own log file, beside whatever twistd itself logs to."""

from __future__ import annotations

from pathlib import Path

from twisted.logger import (
    FilteringLogObserver,
    ILogObserver,
    LogLevel,
    LogLevelFilterPredicate,
    globalLogPublisher,
    textFileLogObserver,
)

DEBUG_FROM = 3
"""The ``--verbose`` from which our own log has debug messages, and those of the libraries."""


class OwnLog:
    """``LOG/vifibnet-node.log``."""

    def __init__(self, directory: Path, verbose: int) -> None:
        self._path = directory / "vifibnet-node.log"
        self._verbose = verbose >= DEBUG_FROM
        self._observer: ILogObserver | None = None

    def open(self) -> None:
        """Write from now on."""
        self._file = self._path.open("a", encoding="utf-8", buffering=1)
        # What the libraries tell of their sockets and factories is worth nothing to an operator.
        self._predicate = LogLevelFilterPredicate()
        self.change(DEBUG_FROM if self._verbose else 0)
        self._observer = FilteringLogObserver(
            textFileLogObserver(self._file, timeFormat="%Y-%m-%dT%H:%M:%S.%f%z"), [self._predicate]
        )
        globalLogPublisher.addObserver(self._observer)

    def change(self, verbose: int) -> None:
        """Write so much from now on."""
        debug = verbose >= DEBUG_FROM
        self._predicate.setLogLevelForNamespace("", LogLevel.info if debug else LogLevel.warn)
        self._predicate.setLogLevelForNamespace("vifibnet", LogLevel.debug if debug else LogLevel.info)

    def close(self) -> None:
        """Write no more."""
        if self._observer is not None:
            globalLogPublisher.removeObserver(self._observer)
            self._observer = None
            self._file.close()
