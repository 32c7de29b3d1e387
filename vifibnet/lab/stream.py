"""A TCP connection between two hosts: how fast it is, and whether what arrives is what was sent."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from twisted.internet.defer import Deferred

from vifibnet.errors import VifibnetError
from vifibnet.lab import streamer
from vifibnet.lab.children import Child, Reactor
from vifibnet.lab.probe import Inside

PORT = 5001
STARTING = 10.0
"""Seconds that the receiver has until it listens."""


class NoStream(VifibnetError):
    """Nothing came through from {source} to {target} as it should: {problem}"""


@dataclass(frozen=True)
class End:
    """One end of a connection: where its process runs, and its address."""

    inside: Inside
    address: str


@dataclass(frozen=True)
class Stream:
    """What arrived: bytes and the seconds that they took, without what was skipped; ``sent`` bytes in all."""

    bytes: int
    seconds: float
    sent: int

    @property
    def mbits(self) -> float:
        """Its speed in Mbit/s."""
        return self.bytes * 8 / 1e6 / self.seconds if self.seconds else 0.0


def judge(sent: str, received: str) -> Stream:
    """Read the last line of each end. Raises ValueError where they do not agree, or say nothing."""
    words, others = sent.split(), received.split()
    if len(words) != 3 or words[0] != "sent" or len(others) != 4 or others[0] != "received":
        raise ValueError(f"the ends say {sent!r} and {received!r}")
    if words[2] != others[3]:
        raise ValueError(f"the ends disagree on the content: {sent!r}, {received!r}")
    return Stream(int(others[1]), float(others[2]), int(words[1]))


async def copy(
    reactor: Reactor, source: End, target: End, count: int, *, timeout: float = 30.0, port: int = PORT
) -> Stream:
    """Send so many bytes at random, and compare. Raises NoStream unless they all arrive in time."""
    return await _run(reactor, source, target, ["--check", f"--bytes={count}"], ["--check"], timeout, port)


async def rush(
    reactor: Reactor, source: End, target: End, seconds: float, *, skip: float = 1.0, port: int = PORT
) -> Stream:
    """Send as much as passes; the first ``skip`` seconds do not count. Raises NoStream."""
    sending, receiving = [f"--seconds={seconds + skip}"], [f"--skip={skip}"]
    return await _run(reactor, source, target, sending, receiving, 2 * (seconds + skip) + 20, port)


async def _run(
    reactor: Reactor,
    source: End,
    target: End,
    sending: Sequence[str],
    receiving: Sequence[str],
    timeout: float,
    port: int,
) -> Stream:
    """Run both ends."""
    script = [sys.executable, "-I", "-S", str(Path(streamer.__file__))]
    listening: Deferred[None] = Deferred()
    said: dict[str, str] = {"sent": "", "received": ""}

    def line(text: str) -> None:
        if text != "listening":
            said[text.split()[0]] = text
        elif not listening.called:
            listening.callback(None)

    receive = [*script, "receive", *receiving, target.address, str(port)]
    send = [*script, "send", *sending, source.address, target.address, str(port)]
    receiver = Child(reactor, target.inside(receive), line)
    sender = Child(reactor, source.inside(send), line)
    receiver.start()
    began = [receiver]
    try:
        await listening.addTimeout(STARTING, reactor, lambda *_: None)
        sender.start()
        began.append(sender)
        for child in began:
            await child.ended().addTimeout(timeout, reactor, lambda *_: -1)
        return judge(said["sent"], said["received"])
    except ValueError as error:
        problem = f"{error} {sender.errors.decode()[-300:]} {receiver.errors.decode()[-300:]}"
        raise NoStream(source=source.address, target=target.address, problem=problem) from None
    finally:
        for child in began:
            await child.stop()
