"""What the operator may do with a running registry. The face on the unix socket only translates."""

from __future__ import annotations

import secrets
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from twisted.internet.interfaces import IReactorTime
from twisted.internet.threads import deferToThread
from twisted.logger import Logger

from vifibnet import __version__
from vifibnet.errors import BadArguments, BadInput, NotDone
from vifibnet.model.addresses import Prefix
from vifibnet.registry.authority import AuthorityRenewal, Renewed
from vifibnet.registry.core import TOKEN_BYTES, check_email
from vifibnet.registry.parameters import Parameters
from vifibnet.registry.revocation import Revocations, named_node
from vifibnet.store.backup import Copied, copy_database
from vifibnet.store.listing import ListedNode, ListedToken
from vifibnet.store.registry import RegistryStore
from vifibnet.wire.admin import MAX_INVITATIONS
from vifibnet.wire.invitation import Invitation

log = Logger()

PAGE = 50
"""Nodes or tokens in one answer, which takes 2.5 ms: all that anybody else has to wait."""

DAYS = range(1, 36501)
"""How many days a certificate authority may last."""

WAIT = range(1, 366 * 24 * 3600)
"""Seconds for which it may wait until it signs."""

VALID = range(60, 366 * 24 * 3600)
"""Seconds for which an invitation may be good."""

LENGTHS = range(1, 121)
"""Bits of a prefix that an invitation may be good for, where the network leaves as many."""


@dataclass(frozen=True)
class Released:
    """A node that is one no longer, and when its prefix is free again (seconds since 1970)."""

    prefix: Prefix
    email: str | None
    free: float


@dataclass(frozen=True)
class RegistryStatus:
    """What ``wire.admin.Status`` answers. Times are seconds since 1970."""

    network: str
    version: str
    started: float
    nodes: int
    connected: int
    tokens: int
    declared: int
    revocations: int
    authority_expires: float


class Administration:
    """The operator's side of a registry. ``by`` is who asks, for the audit log: "uid 0"."""

    def __init__(
        self,
        renewal: AuthorityRenewal,
        store: RegistryStore,
        revocations: Revocations,
        parameters: Parameters,
        clock: IReactorTime,
        invite: Callable[[str], Invitation],
        in_thread: Callable[..., Any] = deferToThread,
    ) -> None:
        """``invite`` makes an invitation with a token."""
        self.renewal = renewal
        self._store = store
        self._clock = clock
        self._in_thread = in_thread
        self._started = clock.seconds()
        self.revocations = revocations
        self.parameters = parameters
        self.connections = revocations.documents.connections
        self.network = renewal.authorities.network
        self._invite = invite

    def invite(
        self, count: int, valid: int, email: str | None, prefix_length: int | None, by: str
    ) -> tuple[list[Invitation], float]:
        """Make invitations, and say when they end. Raises BadArguments and BadEmail."""
        if not 0 < count <= MAX_INVITATIONS:
            raise _wrong(f"one call makes 1 to {MAX_INVITATIONS} invitations")
        if valid not in VALID:
            raise _wrong("an invitation is good for one minute to one year")
        if email is not None:
            check_email(email)
        if prefix_length is not None and not self._fits(prefix_length):
            room = min(LENGTHS[-1], 127 - self.network.length)
            raise _wrong(f"a prefix in {self.network} has 1 to {room} bits")
        made = []
        for _ in range(count):
            token = secrets.token_hex(TOKEN_BYTES)
            self._store.add_token(token, email, prefix_length, kind="invitation", life=valid, by=by)
            made.append(self._invite(token))
        log.info("{by} made {count} invitations for {email}", by=by, count=count, email=email or "anybody")
        return made, self._clock.seconds() + valid

    def _fits(self, length: int) -> bool:
        return length in LENGTHS and self.network.length + length <= 127

    def nodes(self, start: str) -> tuple[list[ListedNode], str]:
        """A page of nodes and where the next begins (store.listing)."""
        return self._store.nodes(start, PAGE)

    def tokens(self, start: str) -> tuple[list[ListedToken], str]:
        """A page of tokens and where the next begins (store.listing). Raises BadArguments."""
        try:
            return self._store.tokens(start, PAGE)
        except ValueError:
            raise BadArguments(method="ListTokens", problem="there is no such page") from None

    def release(self, text: str, by: str) -> Released:
        """Take the prefix from a node (its prefix, or an address in its subnet). Raises NoSuchNode."""
        node = named_node(text, self.network, self._store)
        email, free = self._store.release(node, by)
        # It is cut off, and everybody else is told.
        self.revocations.changed()
        log.info("{by} released {node}", by=by, node=str(node))
        return Released(node, email, free)

    def status(self) -> RegistryStatus:
        """How the registry is."""
        counts = self._store.counts()
        return RegistryStatus(
            network=str(self.network),
            version=__version__,
            started=self._started,
            nodes=counts.nodes,
            connected=len(self.connections),
            tokens=counts.tokens,
            declared=counts.declared,
            revocations=self.revocations.number,
            authority_expires=self.renewal.authorities.newest.end.timestamp(),
        )

    def renew_authority(self, new_key: bool, days: int, wait: int, by: str) -> Renewed:
        """Make the authority that follows on the newest one. Raises BadArguments and NotDone."""
        if days not in DAYS or wait not in WAIT:
            problem = "an authority lasts 1 to 36500 days and waits one second to a year"
            raise BadArguments(method="RenewCA", problem=problem)
        return self.renewal.renew(new_key=new_key, days=days, wait=wait, by=by)

    async def back_up(self, path: str, by: str) -> Copied:
        """Copy the database into a new file, in a thread. Raises NotDone."""
        if not Path(path).is_absolute():
            raise BadArguments(method="Backup", problem="the path is not absolute")
        try:
            copied: Copied = await self._in_thread(copy_database, self._store.path, Path(path))
        except BadInput as error:
            raise NotDone(what="The backup", problem=str(error).rstrip(".")) from None
        self._store.note("backed up", path, by)
        log.info("{by} backed up the database to {path}", by=by, path=path)
        return copied


def _wrong(problem: str) -> BadArguments:
    return BadArguments(method="Invite", problem=problem)
