"""The children of a node that was killed.

They carry on without it: openvpn goes on listening for a node, babeld knows of none, and the neighbours, who
hear no heartbeats any more, ask the kernel (node.echo). So traffic flows until the next node has come so far
that all it lacks are their ports. It does not take them over: it would have to believe what runs, its taps,
routes and arguments, as they are. What that would save is what passes from here to the first tunnel of its
own, some tenths of a second once in a crash. While there is no node, nobody replaces tunnels, or dismisses
who has been revoked since.
"""

from __future__ import annotations

import os
import select
import signal
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from vifibnet.node.taps import is_ours

FAREWELL = 0.02
"""Seconds for an openvpn to tell the other end."""

PATIENCE = 5.0
"""Seconds after which one that has not ended is killed."""


def end(state: Path, proc: Path = Path("/proc")) -> list[int]:
    """Have them end, and return which they were when they have. Blocks: nothing runs yet.

    An openvpn waits a second or two, in which its farewell may be repeated and it holds its port; it does not
    after another SIGTERM.
    """
    found = dict(_children(state, proc))
    left = set(found.values())
    try:
        for number, seconds in (
            (signal.SIGTERM, FAREWELL),
            (signal.SIGTERM, PATIENCE),
            (signal.SIGKILL, PATIENCE),
        ):
            for process in left:
                with suppress(ProcessLookupError):
                    signal.pidfd_send_signal(process, number)
            left = _running(left, seconds)
    finally:
        for process in found.values():
            os.close(process)
    return list(found)


def are_there(state: Path, proc: Path = Path("/proc")) -> bool:
    """Whether any run."""
    found = list(_children(state, proc))
    for _, process in found:
        os.close(process)
    return bool(found)


def _running(processes: set[int], seconds: float) -> set[int]:
    """Which of these still run then; sooner when none does."""
    deadline = time.monotonic() + seconds
    while processes and (left := deadline - time.monotonic()) > 0:
        poll = select.poll()
        for process in processes:
            # It becomes readable when the process ends (pidfd_open(2)).
            poll.register(process, select.POLLIN)
        processes = processes - {process for process, _ in poll.poll(left * 1000)}
    return processes


def _children(state: Path, proc: Path) -> Iterator[tuple[int, int]]:
    """Each one's number, and a descriptor of it. A process of which this cannot be found out is none."""
    for pid in _processes(proc):
        try:
            process = os.pidfd_open(pid)
        except OSError:
            continue
        try:
            ours = _is_child(state, (proc / str(pid) / "cmdline").read_bytes())
            # In a container the same path may be another directory: that of a node that runs there.
            ours = ours and os.path.samefile(state, f"{proc}/{pid}/root{state}")
        except OSError:
            ours = False
        if ours:
            yield pid, process
        else:
            os.close(process)


def _processes(proc: Path) -> Iterator[int]:
    return (int(path.name) for path in proc.iterdir() if path.name.isdecimal())


def _is_child(state: Path, command: bytes) -> bool:
    """Whether this command line is of a child that the node of this state directory has started."""
    program, *arguments = os.fsdecode(command).split("\0")
    match os.path.basename(program):
        case "openvpn":
            paths = [Path(word) for word in arguments if word.endswith(".sock")]
            return any(path.parent == state and is_ours(path.stem) for path in paths)
        case "babeld":
            return str(state / "babeld.pid") in arguments
    return False
