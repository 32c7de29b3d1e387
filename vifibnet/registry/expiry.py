"""A registry warns while there is time that its network's authority ends."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from typing import Any

from twisted.application.service import Service
from twisted.internet.task import LoopingCall
from twisted.logger import Logger

DAY = 24 * 3600.0
WARN_DAYS = 90
"""How many days before the end the warnings begin; nodes need some to renew their certificates."""


class AuthorityWatch(Service):
    """Logs once a day, from WARN_DAYS before the newest authority's end on, when that is."""

    log = Logger()

    def __init__(self, clock: Any, end: Callable[[], datetime]) -> None:
        """``end()`` (aware) is when the newest authority expires."""
        self._clock = clock
        self._end = end
        self._loop = LoopingCall(self._look)
        self._loop.clock = clock

    def startService(self) -> None:
        """Look now, and then every day."""
        super().startService()
        self._loop.start(DAY)

    def stopService(self) -> None:
        """Look no more."""
        super().stopService()
        self._loop.stop()

    @property
    def days_left(self) -> float:
        """Days until the end; less than 0 after it."""
        left: float = (self._end().timestamp() - self._clock.seconds()) / DAY
        return left

    def _look(self) -> None:
        days = self.days_left
        when = f"{self._end():%Y-%m-%d}"
        if days < 0:
            self.log.critical(
                "the network's authority expired on {when}: nobody can connect or join any more", when=when
            )
        elif days <= WARN_DAYS:
            self.log.warn(
                "the network's authority expires on {when}, in {days} days, and every certificate with it:"
                " make its successor with vifibnet renew-ca",
                when=when,
                days=int(days),
            )
