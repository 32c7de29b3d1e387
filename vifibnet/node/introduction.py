"""Meeting the registry for the first time: that it is this network's, and which authorities the network has.

A network whose authority is being renewed has two. Who was told the fingerprint of either, or has either in a
file, gets to know the other from the document that names them all, and that the one that he knows signed.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from cryptography import x509
from twisted.internet.interfaces import IStreamClientEndpoint

from vifibnet.errors import BadDocument, BadInput, NotOurRegistry
from vifibnet.node.xmlrpcclient import XMLRPCRegistry
from vifibnet.pki.certificates import CA, check_valid, fingerprint, in_force
from vifibnet.pki.document import read_authorities
from vifibnet.pki.tls import client_options, fetch_cas


@dataclass(frozen=True)
class Introduction:
    """What a newcomer knows before: CAs from the ``file``, if there is one, or else the ``fingerprint`` of
    one, which ``pin`` tells; without either he believes what he is shown. ``where`` names the registry."""

    file: Path
    known: tuple[CA, ...]
    fingerprint: str | None
    pin: str
    where: str
    timeout: float

    async def meet(
        self, reactor: Any, endpoint: IStreamClientEndpoint, now: datetime
    ) -> tuple[tuple[CA, ...], XMLRPCRegistry]:
        """The network's CAs, the newest first, and the registry, verified with them.

        Raises BadInput where the file is not right, NotOurRegistry and RegistryUnreachable.
        """
        known = trusted = self.known
        if not known:
            shown = await fetch_cas(reactor, endpoint, self.timeout, self.where)
            known, trusted = (self._pinned(shown),), (shown[0],)
        if not in_force(known, now):
            remedy = "ask the operator of the network for a new one"
            check_valid(known[0].certificate, f"the CA of the network {known[0].network}", now, remedy)
        registry = XMLRPCRegistry(reactor, endpoint, client_options(trusted), self.where)
        cas = await self._vouched_for(registry, known)
        if not self.known and trusted[0] not in cas:
            problem = f"its own authority is not one that the one in {self.pin} vouches for"
            raise NotOurRegistry(where=self.where, problem=problem)
        self._check_fingerprint(cas)
        await self._check_answer(registry, cas)
        return cas, registry

    def _pinned(self, shown: Sequence[CA]) -> CA:
        """The one that we were told of."""
        for ca in shown:
            if self.fingerprint in (None, fingerprint(ca.certificate)):
                return ca
        found = " and ".join(fingerprint(ca.certificate) for ca in shown)
        problem = f"its CA has the fingerprint {found}, not the one in {self.pin}"
        raise NotOurRegistry(where=self.where, problem=problem)

    async def _vouched_for(self, registry: XMLRPCRegistry, known: tuple[CA, ...]) -> tuple[CA, ...]:
        """What one of the known ones says which there are; the known ones where none says anything."""
        for document in await registry.authorities():
            with suppress(BadDocument):
                return read_authorities(document.encode(), known)
        return known

    def _check_fingerprint(self, cas: Sequence[CA]) -> None:
        """Refuse a file whose CA, and whatever it vouches for, is not the one that we were told of."""
        found = [fingerprint(ca.certificate) for ca in cas]
        if self.fingerprint is not None and self.fingerprint not in found:
            problem = f"its fingerprint is {' and '.join(found)}, not the one in {self.pin}"
            raise BadInput(f"file {self.file}", problem, "give the right one or move this file away")

    async def _check_answer(self, registry: XMLRPCRegistry, cas: Sequence[CA]) -> None:
        """Who dialled an address wants to know that it is the registry of this very CA."""
        answer = await registry.get_ca()
        try:
            certificate = x509.load_pem_x509_certificate(answer.encode())
        except ValueError:
            certificate = None
        if certificate not in [ca.certificate for ca in cas]:
            raise NotOurRegistry(where=self.where, problem="it hands out another CA than that of its own")
