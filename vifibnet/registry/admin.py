"""The registry as AMP over a unix socket: what the operator's commands speak, and nobody else may."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict
from typing import Any

from twisted.internet.defer import Deferred
from twisted.logger import Logger
from twisted.protocols.amp import AMP
from twisted.python.failure import Failure

from vifibnet.errors import InternalError, RegistryRefusal
from vifibnet.model.parameters import SECRET
from vifibnet.pki.certificates import fingerprint
from vifibnet.registry.administration import Administration
from vifibnet.store.listing import ListedNode
from vifibnet.store.parameters import Setting
from vifibnet.wire.admin import (
    Backup,
    Invite,
    ListNodes,
    ListTokens,
    Release,
    RenewCA,
    Revoke,
    SetParameters,
    Status,
)

log = Logger()

ROOM = 60_000
"""Bytes of one value in an AMP box, of 65,535, that a page may take."""

Result = dict[str, Any]


class AdminFace(AMP):
    """One operator's connection."""

    def __init__(self, administration: Administration, by: str) -> None:
        """``by`` is who is at the other end, for the audit log."""
        AMP.__init__(self)
        self._administration = administration
        self._by = by

    @Invite.responder
    def invite(
        self, count: int, valid: int, email: str | None = None, prefix_length: int | None = None
    ) -> Result:
        """Make invitations."""

        def answer() -> Result:
            there = self._administration
            made, expires = there.invite(count, valid, email, prefix_length, self._by)
            return {
                "invitations": [str(invitation) for invitation in made],
                "network": str(there.network),
                "addresses": list(made[0].addresses),
                "port": made[0].port,
                "expires": expires,
            }

        return self._answer("Invite", answer)

    @ListNodes.responder
    def list_nodes(self, after: str) -> Result:
        """A page of nodes."""

        def answer() -> Result:
            nodes, following = self._administration.nodes(after)
            rows, omitted = _fitting([self._node(node) for node in nodes])
            return {"nodes": rows, "next": nodes[omitted].prefix.bits if omitted else following}

        return self._answer("ListNodes", answer)

    def _node(self, node: ListedNode) -> Result:
        there = self._administration
        return {
            "prefix": str(node.prefix),
            "address": str(there.network.address(node.prefix)),
            "subject": node.subject,
            "email": node.email,
            "serial": str(node.serial),
            "joined": node.joined,
            "expires": node.expires,
            "released": node.released,
            "revoked": node.revoked,
            "seen": node.seen,
            "connected": there.connections.has(node.prefix),
            "endpoints": node.endpoints,
        }

    @ListTokens.responder
    def list_tokens(self, after: str) -> Result:
        """A page of tokens."""

        def answer() -> Result:
            tokens, following = self._administration.tokens(after)
            rows = [
                {
                    "kind": token.kind,
                    "email": token.email,
                    "prefix_length": token.prefix_length,
                    "created": token.created,
                    "expires": token.expires,
                    "used": None if token.used is None else str(token.used),
                }
                for token in tokens
            ]
            return {"tokens": rows, "next": following}

        return self._answer("ListTokens", answer)

    @Release.responder
    def release(self, node: str) -> Result:
        """Take a prefix from a node."""

        def answer() -> Result:
            released = self._administration.release(node, self._by)
            return {
                "prefix": str(released.prefix),
                "address": str(self._administration.network.address(released.prefix)),
                "email": released.email,
                "free": released.free,
            }

        return self._answer("Release", answer)

    @Revoke.responder
    def revoke(self, what: str, reason: str) -> Result:
        """Revoke a node or a certificate."""

        def answer() -> Result:
            done = self._administration.revocations.revoke(what, reason, self._by)
            return {"done": done, "number": self._administration.revocations.number}

        return self._answer("Revoke", answer)

    @SetParameters.responder
    def set_parameters(self, changes: list[Result]) -> Result:
        """Change the network's parameters, or only tell them."""

        def answer() -> Result:
            wanted = {change["name"]: change["value"] for change in changes}
            done = self._administration.parameters.change(wanted, self._by)
            return {
                "before": _settings(done.before),
                "after": _settings(done.after),
                "changed": list(done.names),
                "number": done.number,
                "told": done.told,
            }

        return self._answer("SetParameters", answer)

    @Status.responder
    def status(self) -> Result:
        """How the registry is."""
        return self._answer("Status", lambda: asdict(self._administration.status()))

    @RenewCA.responder
    def renew_ca(self, new_key: bool, days: int, wait: int) -> Result:
        """Make a new certificate authority."""

        def answer() -> Result:
            renewed = self._administration.renew_authority(new_key, days, wait, self._by)
            ca, key = self._administration.renewal.authorities.files or ("", "")
            return {
                "fingerprint": fingerprint(renewed.new.certificate),
                "signs_from": renewed.new.signs_from.timestamp(),
                "end": renewed.new.end.timestamp(),
                "old_end": renewed.old.end.timestamp(),
                "ca": str(ca),
                "key": str(key),
            }

        return self._answer("RenewCA", answer)

    @Backup.responder
    def back_up(self, path: str) -> Deferred[Result]:
        """Copy the database."""
        copying = Deferred.fromCoroutine(self._administration.back_up(path, self._by))
        answer = copying.addCallback(lambda copied: {"size": copied.size, "nodes": copied.nodes})
        return answer.addErrback(self._failed, "Backup")

    def _answer(self, command: str, call: Callable[[], Result]) -> Result:
        try:
            return call()
        except Exception:
            return self._failed(Failure(), command)

    def _failed(self, failure: Failure, command: str) -> Result:
        if failure.check(RegistryRefusal):
            log.info("refused {command} to {by}: {why}", command=command, by=self._by, why=str(failure.value))
            failure.raiseException()
        log.failure("{command} for {by} failed", failure, command=command, by=self._by)
        raise InternalError from None


def _settings(settings: Mapping[str, Setting]) -> list[Result]:
    """Parameters as the operator may see them."""
    return [
        {
            "name": name,
            "value": None if name in SECRET and setting.value else setting.value,
            "changed": setting.changed,
        }
        for name, setting in settings.items()
    ]


def _fitting(rows: list[Result]) -> tuple[list[Result], int]:
    """As many rows as fit into one AMP value, and the index of the first that does not, or 0."""
    room = ROOM
    for index, row in enumerate(rows):
        # Two bytes of length before each key and value; numbers have up to 25 characters.
        room -= sum(len(key) + 4 + max(25, len(str(value).encode())) for key, value in row.items())
        if room < 0:
            return rows[:index], index
    return rows, 0
