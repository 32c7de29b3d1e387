"""Taking a lab down: everything that carries its name, and nothing else."""

from __future__ import annotations

import os
import shutil
import signal
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from vifibnet.errors import BadInput
from vifibnet.lab.children import Reactor, sleep
from vifibnet.lab.daemons import Daemon
from vifibnet.lab.settings import LabState, remove_home
from vifibnet.lab.underlay import Underlay
from vifibnet.node.revocations import directory_of


async def down(reactor: Reactor, name: str, patience: float = 8.0) -> bool:
    """Remove a lab by its name, also what is left of one that crashed; return whether there was anything.

    First its daemons are asked to end, so that each cleans up behind itself; then whatever still runs in
    the lab's namespaces is made to end.
    """
    underlay = Underlay(reactor, name)
    found = bool(underlay.existing())
    states: list[Path] = []
    with suppress(BadInput):
        home = LabState.load(name).settings.home
        found = True
        states = list(home.glob("h*"))
        files = [path for pattern in ("*/node.pid", "registry/*.pid") for path in home.glob(pattern)]
        daemons = {Daemon(reactor, path.stem, path.parent).pid for path in files}
        await _end(reactor, underlay, signal.SIGTERM, daemons.__contains__, patience)
    await _end(reactor, underlay, signal.SIGTERM, None, 1.0)
    await _end(reactor, underlay, signal.SIGKILL, None, 5.0)
    await underlay.delete()
    for state in states:
        # What a node leaves that was killed.
        shutil.rmtree(directory_of(state), ignore_errors=True)
    remove_home(name)
    return found


async def _end(
    reactor: Reactor,
    underlay: Underlay,
    number: signal.Signals,
    which: Callable[[object], bool] | None,
    patience: float,
) -> None:
    """Signal some of a lab's processes; return when they are gone, or the patience is."""
    deadline = reactor.seconds() + patience

    def remaining() -> list[int]:
        return [pid for pid in underlay.processes() if pid != os.getpid() and (which is None or which(pid))]

    for pid in remaining():
        with suppress(ProcessLookupError):
            os.kill(pid, number)
    while remaining() and reactor.seconds() < deadline:
        await sleep(reactor, 0.05)
