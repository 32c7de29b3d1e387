"""Keeping a node out of the way of others' packets while its operator works on it.

A drained node keeps its tunnels, remains reachable and reaches everybody; all its tunnels are as expensive as
one that is about to end, so that whatever can go elsewhere does. A file in the state directory remembers it:
a node that is started again comes back drained, because who restarts it is often not done with it.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol

from twisted.logger import Logger

from vifibnet.errors import BadInput, NodeRefusal
from vifibnet.files import write_atomically
from vifibnet.model.status import DrainedStatus, LeftStatus

FILE = "drained"
"""In the state directory, while the node is drained; the time when it was is in it (Unix time)."""


class Watch(Protocol):
    """What Heartbeats is to us. None stands for all taps."""

    running: Any

    @property
    def works(self) -> bool:
        """Whether anybody hears what we want."""

    def leave(self, tap: str | None = None) -> None:
        """Have both ends move their routes."""

    def stay(self, tap: str | None = None) -> None:
        """Take that back."""


class Replacing(Protocol):
    """What Tunnels is to us."""

    drained: bool


class Draining:
    """Whether the node is drained, and since when."""

    log = Logger()

    def __init__(
        self,
        reactor: Any,
        state: Path,
        watch: Watch,
        left: Callable[[], tuple[LeftStatus, ...]],
        tunnels: Replacing,
    ) -> None:
        """``left``: who still uses us."""
        self._reactor = reactor
        self._file = state / FILE
        self._watch = watch
        self._left = left
        self._tunnels = tunnels
        self._since: float | None = None

    def remember(self) -> None:
        """Be as in the last run. A file that cannot be read counts as well."""
        if not self._file.exists():
            return
        try:
            self._since = float(self._file.read_text())
        except (OSError, ValueError):
            self._since = self._reactor.seconds()
        self.log.warn("this node is drained, as it was when it ended; vifibnet undrain makes it carry again")
        self._apply()

    def drain(self) -> bool:
        """Carry nothing that can go elsewhere; whether that was so before. Raises NodeRefusal."""
        if self._watch.running and not self._watch.works:
            raise NodeRefusal(problem="without heartbeats it cannot have others moved")
        before, self._since = self._since, self._since or self._reactor.seconds()
        try:
            write_atomically(self._file, f"{self._since}\n".encode(), mode=0o600, overwrite=True)
        except BadInput as error:
            self._since = before
            raise NodeRefusal(problem=str(error).rstrip(".")) from None
        if before is None:
            self.log.info("this node is drained: others' packets shall go elsewhere")
        self._apply()
        return before is not None

    def undrain(self) -> bool:
        """Carry again; whether the node was drained. Raises NodeRefusal."""
        try:
            self._file.unlink(missing_ok=True)
        except OSError as error:
            raise NodeRefusal(problem=f"{self._file} cannot be removed ({error.strerror})") from None
        before, self._since = self._since, None
        if before is not None:
            self.log.info("this node is drained no more")
        self._apply()
        return before is not None

    def status(self) -> DrainedStatus | None:
        """For the operator; None when it is not drained."""
        return None if self._since is None else DrainedStatus(self._since, self._left())

    def _apply(self) -> None:
        self._tunnels.drained = drained = self._since is not None
        (self._watch.leave if drained else self._watch.stay)()
