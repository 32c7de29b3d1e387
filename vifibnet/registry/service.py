"""The registry as a service: its database, its ports, its housekeeping."""

from __future__ import annotations

import socket
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any

from twisted.application.service import MultiService
from twisted.application.strports import service as endpoint_service
from twisted.internet.defer import Deferred, DeferredList, maybeDeferred
from twisted.internet.interfaces import IDelayedCall, IListeningPort
from twisted.logger import Logger

from vifibnet.guard.limits import Limits
from vifibnet.pki.authorities import Authorities
from vifibnet.pki.authority import NODE_DAYS
from vifibnet.pki.certificates import fingerprint
from vifibnet.pki.tls import RegistryContexts
from vifibnet.registry.addresses import addresses
from vifibnet.registry.administration import Administration
from vifibnet.registry.adminsocket import AdminSocket
from vifibnet.registry.authority import LOOK_EVERY
from vifibnet.registry.core import Registry
from vifibnet.registry.expiry import DAY, AuthorityWatch
from vifibnet.registry.listen import open_sockets
from vifibnet.registry.mail import SMTPMailer, TokenMail
from vifibnet.registry.port import RegistryPort
from vifibnet.registry.xmlrpc import RegistrySite
from vifibnet.store.database import IN_MEMORY
from vifibnet.store.lock import DatabaseLock
from vifibnet.store.lost import Remembered
from vifibnet.store.registry import GRACE, RegistryStore
from vifibnet.wire.invitation import Invitation

log = Logger()

EXPIRE_EVERY = 300.0
"""Seconds between two rounds of removing old tokens and peers, which nobody is given by then."""

EXPIRE_MORE = 0.1
"""Seconds until the next round when there may be more to remove."""


@dataclass(frozen=True)
class RegistryConfig:
    """A registry as the operator wants it; everything in it was checked."""

    port: int
    db: str
    authorities: Authorities
    mailhost: str
    mail_port: int
    mail_from: str
    server: str
    """What those who are invited shall call this machine."""
    names: tuple[str, ...] = ()
    interfaces: tuple[str, ...] = ()
    plain_http: tuple[str, ...] = ()
    cert_days: float = NODE_DAYS
    grace: float = GRACE
    """Seconds for which an expired certificate may be renewed, and keeps its node's prefix."""
    admin_socket: str | None = None
    """Where the operator's commands find us; None beside a database in memory."""
    limits: Limits = Limits()
    lost: Remembered | None = None
    """Whether the database, if it has to be made, is made for one that is lost: what the nodes have kept."""


LIVE = frozenset({"mailhost", "mail_port", "mail_from", "cert_days"})
"""What of a config may change while the registry runs."""


def _look_every(config: RegistryConfig) -> float:
    """Seconds between two looks at the authority's age."""
    return max(1.0, min(LOOK_EVERY, config.cert_days * DAY / 20))


class RegistryService(MultiService):
    """Everything that runs in ``twistd vifibnet-registry``."""

    def __init__(self, reactor: Any, config: RegistryConfig) -> None:
        MultiService.__init__(self)
        self._reactor = reactor
        self._config = config
        self._sockets: list[socket.socket] = []
        self._ports: list[IListeningPort] = []
        self._expiring: IDelayedCall | None = None
        self._lock: DatabaseLock | None = None
        self._admin: AdminSocket | None = None

    def privilegedStartService(self) -> None:  # noqa: N802
        """Take the port while we are still allowed to. Raises BadInput."""
        self._sockets = open_sockets(self._config.port, self._config.interfaces)
        MultiService.privilegedStartService(self)

    def startService(self) -> None:  # noqa: N802
        """Open the database and answer. Raises BadInput."""
        config, clock = self._config, self._reactor
        authorities = config.authorities
        if config.db not in IN_MEMORY:
            self._lock = DatabaseLock(config.db, f"--db {config.db}")
        # Which peers are named is no secret; the system's generator would take as long as all queries.
        self._store = RegistryStore.open(config.db, authorities.network, clock.seconds, Random())  # noqa: S311
        if config.lost is not None:
            self._make_anew(config.lost)
        self._mailer = SMTPMailer(self._reactor, config.mailhost, config.mail_port, config.mail_from)
        self._registry = registry = Registry(
            authorities,
            self._store,
            self._mailer,
            clock,
            TokenMail(authorities.network, self._invite),
            cert_days=config.cert_days,
            grace=config.grace,
        )
        registry.parameters.first_start()
        self._listen_to_operator(registry)
        site = RegistrySite(registry, clock, config.limits)
        self._face = RegistryPort(registry, site, clock, config.limits)
        tls = RegistryContexts(authorities, config.names, registry.now)
        for opened in self._sockets:
            self._ports.append(self._face.listen(self._reactor, opened, tls))
            opened.close()
        AuthorityWatch(clock, lambda: authorities.newest.end).setServiceParent(self)
        registry.renewal.look_every = _look_every(config)
        registry.renewal.setServiceParent(self)
        MultiService.startService(self)
        for description in config.plain_http:
            endpoint_service(description, site, reactor=self._reactor).setServiceParent(self)
        self._expire()
        log.info(
            "registry of {network} listens on port {port}", network=str(authorities.network), port=config.port
        )

    def _make_anew(self, known: Remembered) -> None:
        ends = self._config.authorities.newest.end.timestamp()
        if self._store.lost.begin(known, ends):
            log.warn(
                "the database is new: nodes with certificates of the lost one are taken in again; {count} of"
                " these are revoked",
                count=len(known.revoked),
            )
        else:
            log.info("--lost-database means nothing any more: the database is in use")

    def _listen_to_operator(self, registry: Registry) -> None:
        config = self._config
        if config.admin_socket is None:
            return
        administration = Administration(
            registry.renewal,
            self._store,
            registry.revocations,
            registry.parameters,
            self._reactor,
            self._invite,
        )
        option = f"--admin-socket {config.admin_socket}"
        self._admin = AdminSocket(self._reactor, Path(config.admin_socket), option)
        self._admin.listen(administration)
        log.info("the operator is answered at {socket}", socket=config.admin_socket)

    def _invite(self, token: str) -> Invitation:
        config = self._config
        where = addresses(config.names, config.interfaces, config.server, config.authorities.network)
        # It is good for as long as the newest authority is, which a newcomer may recognize us by as well.
        seal = fingerprint(config.authorities.newest.certificate)
        return Invitation(tuple(where), config.port, seal, token)

    async def _stop(self) -> None:
        if self._expiring is not None:
            self._expiring.cancel()
            self._expiring = None
        stopping = [maybeDeferred(port.stopListening) for port in self._ports]
        stopping.append(maybeDeferred(MultiService.stopService, self))
        # Their tokens go while there is a database to take them from.
        self._mailer.close()
        self._registry.close()
        self._face.close()
        if self._admin is not None:
            stopping.append(Deferred.fromCoroutine(self._admin.close()))
        await DeferredList(stopping)
        self._store.close()
        if self._lock is not None:
            self._lock.release()
        log.info("registry of {network} stopped", network=str(self._config.authorities.network))

    def stopService(self) -> Deferred[None]:  # noqa: N802
        """Stop listening, end what is connected, close the database."""
        return Deferred.fromCoroutine(self._stop())

    def obey(self, config: RegistryConfig) -> None:
        """The command line says this now, of what is in LIVE; the rest is as it was."""
        self._config = config
        if self.running:
            self._mailer.change(config.mailhost, config.mail_port, config.mail_from)
            self._registry.cert_days = config.cert_days
            self._registry.renewal.look_every = _look_every(config)

    def _expire(self) -> None:
        gone = 0
        try:
            gone = self._store.expire(self._config.grace)
        except Exception:
            log.failure("old tokens and peers could not be removed")
        self._expiring = self._reactor.callLater(EXPIRE_MORE if gone else EXPIRE_EVERY, self._expire)
