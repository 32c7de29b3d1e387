"""What can go wrong on a host of a lab, beyond a cut wire: processes that die or sleep, another address."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

from vifibnet.errors import VifibnetError
from vifibnet.lab.daemons import Daemon
from vifibnet.lab.network import Lab
from vifibnet.lab.underlay import ADDRESSES, MAX_HOSTS


class NoSuchChild(VifibnetError):
    """On {host} runs no process with {words} on its command line."""


def processes(lab: Lab, name: str) -> dict[int, list[str]]:
    """What runs on a host: command lines by process."""
    found = {}
    for pid in lab.underlay.processes([lab.host(name).namespace]):
        with suppress(OSError):
            found[pid] = Path(f"/proc/{pid}/cmdline").read_text(errors="replace").split("\0")
    return found


def children(lab: Lab, name: str) -> dict[int, str]:
    """What a host's node has started that goes on without it: programs by process."""
    found = {pid: os.path.basename(argv[0]) for pid, argv in processes(lab, name).items()}
    return {pid: program for pid, program in found.items() if program in ("openvpn", "babeld")}


def child(lab: Lab, name: str, *words: str) -> int:
    """The one process on a host with all these words on its command line. Raises NoSuchChild."""
    found = [
        pid
        for pid, argv in processes(lab, name).items()
        if set(words) <= {os.path.basename(argv[0]), *argv[1:]}
    ]
    if not found:
        raise NoSuchChild(host=name, words=" ".join(words))
    return found[0]


def kill_child(lab: Lab, name: str, *words: str) -> int:
    """SIGKILL it; return what process it was. Raises NoSuchChild."""
    pid = child(lab, name, *words)
    os.kill(pid, signal.SIGKILL)
    return pid


async def crash(lab: Lab, name: str) -> None:
    """Let a host's node die, and all that it has started, as when the machine loses power."""
    await lab.kill(name)
    _signal(children(lab, name), signal.SIGKILL)


def freeze(lab: Lab, name: str) -> list[int]:
    """Stop every process on a host (SIGSTOP), as a machine that falls asleep; return them."""
    pids = list(processes(lab, name))
    _signal(pids, signal.SIGSTOP)
    return pids


def thaw(pids: list[int]) -> None:
    """Let them go on."""
    _signal(pids, signal.SIGCONT)


def _signal(pids: Iterable[int], number: signal.Signals) -> None:
    for pid in pids:
        with suppress(ProcessLookupError):
            os.kill(pid, number)


async def move(lab: Lab, name: str) -> None:
    """Give a host another underlay address, as a provider does.

    The file with its node's options names it at the node's next start.
    """
    net = ADDRESSES[lab.settings.underlay]
    taken = {each.underlay for each in lab.hosts.values()}
    free = (str(net[index]) for index in range(MAX_HOSTS + 2, MAX_HOSTS + 50))
    await _readdress(lab, name, next(address for address in free if address not in taken))


async def move_back(lab: Lab, name: str) -> None:
    """Give a host the address that it had at first."""
    await _readdress(lab, name, lab.underlay.address(lab.host(name).index))


async def _readdress(lab: Lab, name: str, new: str) -> None:
    host = lab.host(name)
    await lab.underlay.readdress(host.index, host.underlay, new)
    lab.state.change(name, underlay=new)


async def kill_registry(lab: Lab) -> None:
    """Let the registry die without a chance to say goodbye, and nothing else of h0."""
    registry: Daemon = lab.enrolment.registry
    if registry.pid is not None and registry.pid in lab.underlay.processes():
        await registry.end(registry.pid, signal.SIGKILL)
