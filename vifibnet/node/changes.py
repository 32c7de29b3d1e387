"""Making the parts of a node obey the network's parameters: model.following says what, this does it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import replace
from random import Random
from typing import Any

from twisted.internet.defer import Deferred, DeferredLock
from twisted.internet.interfaces import IDelayedCall
from twisted.logger import Logger

from vifibnet.errors import VifibnetError
from vifibnet.model.following import Step
from vifibnet.node.config import NodeConfig
from vifibnet.node.reload import todo as steps
from vifibnet.node.taps import Taps

LONGEST_STEP = 30.0
"""Seconds that a step may take before the next one is done nevertheless."""


RELEARN = 8
"""Hello intervals that a babeld which was started anew has to learn the other ways, before any openvpn is
replaced: without them a tap is not emptied first."""


class Changes:
    """Follows the parameters, some at once, some at a moment of the roll that is this node's own.

    ``config`` is what holds. babeld may still have the hello interval of before: ``patience``, for what waits
    some hellos, is the slower of both until the roll is over, because the neighbours have their own moments.
    """

    log = Logger()

    def __init__(
        self,
        reactor: Any,
        rng: Random,
        config: NodeConfig,
        taps: Taps,
        tell_babeld: Callable[[NodeConfig, Sequence[str]], Awaitable[None]],
        tell_others: Callable[[NodeConfig, Sequence[str]], None],
        replace_processes: Callable[[float, float], None],
    ) -> None:
        """The parts were made for ``config``.

        ``tell_babeld`` gives babeld a config and the names of all taps; ``tell_others`` the other parts one
        and the clients' taps: they obey at once, or from the next start of their processes on, which
        ``replace_processes`` plans for all of them (see Replacement.plan).
        """
        self.config = self._made_for = config
        self._reactor = reactor
        self._rng = rng
        self._taps = taps
        self._tell_babeld = tell_babeld
        self._tell_others = tell_others
        self._replace_processes = replace_processes
        # What babeld has, and what everybody else counts with.
        self._pace = (config.hello, config.update_interval)
        self.patience = config.hello
        self._begun = False
        self._stopped = False
        self._roll = config.roll
        self._first = 0.0
        self._restart: IDelayedCall | None = None
        self._settling: IDelayedCall | None = None
        self._lock = DeferredLock()

    def follow(self, wanted: NodeConfig, roll: float | None = None) -> None:
        """This holds from now on. What restarts does so within ``roll`` seconds, the network's if None: all
        nodes but one go on as they are when an operator changes the options of that one."""
        before, self.config = self._in_force(), wanted
        if not self._begun or self._stopped:
            return
        todo = steps(before, wanted)
        self._roll = wanted.roll if roll is None else roll
        self.patience = max(self.patience, wanted.hello)
        both = not self._roll and {Step.TELL_BABELD, Step.RESTART_BABELD} & set(todo)
        self._first = RELEARN * self.patience if both else 0.0
        _cancel(self._restart)
        if Step.RESTART_BABELD in todo:
            _cancel(self._settling)
            later = self._roll * self._rng.random()
            self._restart = self._reactor.callLater(later, self._perform, [Step.RESTART_BABELD])
            self._settling = self._reactor.callLater(self._roll, self._settle)
        self._obey()
        now = [step for step in todo if step is not Step.RESTART_BABELD]
        if Step.RESTART_BABELD in todo and not self._roll:
            # It is told everything then.
            now = [step for step in now if step is not Step.TELL_BABELD]
        self._perform(now)

    async def begin(self) -> None:
        """Everything is about to start, maybe with another config than it was made for."""
        self._begun = True
        self.patience = self.config.hello
        self._obey()
        todo = steps(self._made_for, self.config)
        await self._do([step for step in todo if step is not Step.REPLACE])

    def stop(self) -> None:
        """Follow no more."""
        self._stopped = True
        _cancel(self._restart)
        _cancel(self._settling)

    # -- performing ---------------------------------------------------------------------------------------

    def _in_force(self) -> NodeConfig:
        hello, update_interval = self._pace
        return replace(self.config, hello=hello, update_interval=update_interval)

    def _obey(self) -> None:
        rolling = self._settling is not None and self._settling.active()
        # A babeld that starts again needs the ways that its node had: no tunnel is refreshed meanwhile.
        rate = 0.0 if rolling else self.config.refresh_rate
        self._tell_others(replace(self.config, hello=self.patience, refresh_rate=rate), self._taps.clients)

    def _settle(self) -> None:
        """By now everybody has the hello interval that we have."""
        self.patience = self.config.hello
        self._obey()

    def _perform(self, todo: Iterable[Step]) -> None:
        done = Deferred.fromCoroutine(self._do(list(todo)))
        done.addErrback(
            lambda failure: self.log.failure("the network's parameters are not followed", failure)
        )

    async def _do(self, todo: Sequence[Step]) -> None:
        """One after another; what fails does not keep the rest from being done."""
        async with self._lock:
            for step in todo:
                if self._stopped:
                    return
                try:
                    await Deferred.fromCoroutine(self._step(step)).addTimeout(LONGEST_STEP, self._reactor)
                except VifibnetError as error:
                    self.log.error("the network's parameters are not followed: {error}", error=str(error))
                except Exception:
                    self.log.failure("the network's parameters are not followed: {step}", step=step.name)

    async def _step(self, step: Step) -> None:
        config = self.config
        match step:
            case Step.TELL_BABELD:
                await self._tell_babeld(self._in_force(), self._taps.with_servers(config.connection_count))
            case Step.RESTART_BABELD:
                self._pace = (config.hello, config.update_interval)
                await self._tell_babeld(config, self._taps.with_servers(config.connection_count))
            case Step.SHRINK:
                await self._taps.shrink(config.mtu)
            case Step.TAPS:
                await self._taps.make(config.connection_count, config.mtu)
            case Step.PLAN:
                self._obey()
            case Step.REPLACE:
                self._replace_processes(self._first, self._first + self._roll)


def _cancel(call: IDelayedCall | None) -> None:
    if call is not None and call.active():
        call.cancel()
