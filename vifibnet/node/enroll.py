"""Joining a network: the files that a node needs, made one after the other, each whole or not at all.

A file that is there already is checked and used again, so that a run after a failure goes on where the
last one stopped. What can be checked without the registry is checked before the registry is asked.
"""

from __future__ import annotations

import os
import shlex
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from twisted.internet.endpoints import HostnameEndpoint
from twisted.internet.task import deferLater

from vifibnet.errors import (
    BadAddress,
    BadInput,
    NoPeerYet,
    NotOurRegistry,
    RegistryUnreachable,
    UnknownToken,
    VifibnetError,
)
from vifibnet.files import write_atomically
from vifibnet.model.addresses import Network, Prefix
from vifibnet.node.dialogue import Dialogue
from vifibnet.node.directory import check_directory, make_directory
from vifibnet.node.firstdocuments import KEPT, fetch_documents
from vifibnet.node.introduction import Introduction
from vifibnet.node.xmlrpcclient import XMLRPCRegistry
from vifibnet.pki.certificates import (
    CA,
    Identity,
    PrivateKey,
    belongs,
    check_valid,
    fingerprint,
    load_cas,
    load_certificate,
    load_key,
    prefix_of,
    signer,
)
from vifibnet.pki.dh import ffdhe2048_pem
from vifibnet.pki.freshkey import settle
from vifibnet.pki.requests import check_request, key_pem, make_key, make_request
from vifibnet.store.peers import PeerStore
from vifibnet.wire.endpoints import format_endpoints

CONNECT_TIMEOUT = 10.0
"""Seconds for one connection to the registry to come up."""

LOG = "/var/log"
"""Where the node logs unless told otherwise (the manual's default)."""

AGAIN = (1.0, 3.0)
"""Seconds before the registry is asked again when its answer did not arrive."""

TRIES = 3
"""How often a token may be mistyped."""


@dataclass(frozen=True)
class Enrolment:
    """What the operator wants: the options of ``vifibnet setup``, or what an invitation says.

    ``servers`` are the registry's addresses, which are tried in turn. For who was ``invited`` a registry
    that knows no peer yet is no error: somebody has to be the first.
    """

    servers: tuple[str, ...]
    port: int
    directory: Path
    attributes: tuple[tuple[str, str], ...] = ()
    fingerprint: str | None = None
    email: str | None = None
    token: str | None = None
    key_type: str = "p256"
    ca_only: bool = False
    db_only: bool = False
    boot: bool = True
    invited: bool = False


class TokenSent(VifibnetError):
    """A token was sent to {email}: run the same command again with --token and the token in that mail."""


class Enroller:
    """One run of the setup."""

    def __init__(self, reactor: Any, wanted: Enrolment, dialogue: Dialogue) -> None:
        self._reactor = reactor
        self._wanted = wanted
        self._dialogue = dialogue
        self.directory = Path(os.path.abspath(wanted.directory))
        self.ca_file = self.directory / "ca.pem"
        self.peers_file = self.directory / "peers.db"
        self.key_file = self.directory / "cert.key"
        self.certificate_file = self.directory / "cert.crt"
        self.dh_file = self.directory / "dh2048.pem"
        self.config_file = self.directory / "vifibnet.conf"
        self._server = wanted.servers[0]

    @property
    def _pin(self) -> str:
        return "the invitation" if self._wanted.invited else "--fingerprint"

    @property
    def _where(self) -> str:
        return f"{self._server} port {self._wanted.port}"

    async def run(self) -> None:
        """Make what is missing, in the manual's order.

        Raises BadInput, RegistryUnreachable, NotOurRegistry, a RegistryRefusal, or TokenSent.
        """
        wanted = self._wanted
        check_directory(self.directory)
        key_there = self.key_file.exists()
        key = None if wanted.ca_only or wanted.db_only else self._key()
        request = self._request(key) if key and not self.certificate_file.exists() else None
        cas, registry = await self._cas()
        if wanted.ca_only:
            return
        await self._peers(cas[0].network, registry)
        if key is None:
            return
        if key_there:
            self._say(self.key_file, KEPT)
        else:
            self._write(self.key_file, key_pem(key), mode=0o600)
        if request is None:
            self._say(self.certificate_file, KEPT)
        else:
            await self._certificate(cas, registry, key, request)
        await self._documents()
        self._write_missing(self.dh_file, ffdhe2048_pem())
        self._write_missing(self.config_file, self.config().encode())
        start = shlex.quote(f"@{self.config_file}")
        self._dialogue.say(f"Everything is there; start the node with: twistd vifibnet-node {start}")

    # -- ca.pem ---------------------------------------------------------------------------------------

    async def _cas(self) -> tuple[tuple[CA, ...], XMLRPCRegistry]:
        """The network's CAs, checked against the registry, in their file."""
        there = self.ca_file.exists()
        known = load_cas(self.ca_file, "file") if there else ()
        cas, registry = await self._find_registry(known)
        self._dialogue.say(f"The network is {cas[0].network}, the SHA-256 fingerprint of its CA:")
        for ca in cas:
            self._dialogue.say(f"  {fingerprint(ca.certificate)}")
        if not there and self._dialogue.terminal and self._wanted.fingerprint is None:
            self._confirm()
        make_directory(self.directory)
        data = b"".join(ca.pem for ca in cas)
        if there and set(cas) != set(known):
            write_atomically(self.ca_file, data, overwrite=True)
            self._say(self.ca_file, "written anew: the network's authority was renewed")
        else:
            self._write_missing(self.ca_file, data)
        return cas, registry

    async def _find_registry(self, known: tuple[CA, ...]) -> tuple[tuple[CA, ...], XMLRPCRegistry]:
        """The CAs and the registry at the first of the addresses where all are what they should be."""
        for server in self._wanted.servers:
            self._server = server
            try:
                return await self._registry_at(server, known)
            except (RegistryUnreachable, NotOurRegistry) as error:
                if server == self._wanted.servers[-1]:
                    raise
                self._dialogue.say(str(error))
        raise AssertionError("no address")

    async def _registry_at(self, server: str, known: tuple[CA, ...]) -> tuple[tuple[CA, ...], XMLRPCRegistry]:
        if not known:
            self._dialogue.say(f"Asking the registry at {self._where} for the network's CA")
        introduction = Introduction(
            self.ca_file, known, self._wanted.fingerprint, self._pin, self._where, CONNECT_TIMEOUT
        )
        cas, registry = await introduction.meet(self._reactor, self._endpoint(server), self._now)
        self._check_files(cas)
        return cas, registry

    def _endpoint(self, server: str) -> HostnameEndpoint:
        return HostnameEndpoint(self._reactor, server, self._wanted.port, timeout=CONNECT_TIMEOUT)

    def _confirm(self) -> None:
        """Ask until the answer is one."""
        while True:
            answer = self._dialogue.ask("Is that what the network's operator told you (yes/no)? ").lower()
            if answer in ("y", "yes"):
                return
            if answer in ("n", "no"):
                raise BadInput(
                    f"the CA of {self._where}", "it is not to be trusted", "ask the network's operator"
                )

    # -- peers.db ---------------------------------------------------------------------------------------

    async def _peers(self, network: Network, registry: XMLRPCRegistry) -> None:
        """The peer database, with one peer to begin with unless there are some or none is wanted."""
        there = self.peers_file.exists()
        peer = None
        if self._wanted.boot and not (there and self._knows_peers(network)):
            try:
                peer = await registry.bootstrap()
            except NoPeerYet:
                # Who made an empty one before with --no-boot need not say so in every further run.
                if not there and not self._wanted.invited:
                    raise
        if there and peer is None:
            return self._say(self.peers_file, KEPT)
        make = PeerStore.open if there else PeerStore.create
        with closing(make(self.peers_file, network)) as store:
            if peer is not None:
                store.update([peer], self._reactor.seconds())
        named = f"first peer {peer[0]} at {format_endpoints(peer[1])}" if peer else "without a peer"
        return self._say(self.peers_file, f"written, {named}")

    def _knows_peers(self, network: Network) -> bool:
        with closing(PeerStore.open(self.peers_file, network)) as store:
            return len(store) > 0

    # -- cert.key, cert.crt -------------------------------------------------------------------------------

    def _key(self) -> PrivateKey:
        """The key that is there, or a new one, not yet written."""
        if self.key_file.exists():
            return load_key(self.key_file, "file")
        if self.certificate_file.exists():
            raise BadInput(
                self.certificate_file, "its key cert.key is missing", "put it back or move both away"
            )
        return make_key(self._wanted.key_type)

    def _request(self, key: PrivateKey) -> str:
        """The request for a certificate, if there is a way to a token for it."""
        if not (self._wanted.token or self._wanted.email or self._dialogue.terminal):
            raise BadInput(
                "--token", "missing, and no terminal to ask on", "give --email to have one sent, then --token"
            )
        pem = make_request(key, self._wanted.attributes).public_bytes(Encoding.PEM).decode()
        check_request(pem)
        return pem

    async def _certificate(
        self, cas: Sequence[CA], registry: XMLRPCRegistry, key: PrivateKey, request: str
    ) -> None:
        """Trade a token for the certificate; nothing stands between its arrival and its file."""
        pem = await self._trade(registry, request)
        try:
            certificate = x509.load_pem_x509_certificate(pem.encode())
        except ValueError:
            raise NotOurRegistry(where=self._where, problem="what it sent is no certificate") from None
        what = f"the certificate from {self._where}"
        prefix = check_certificate(certificate, key, cas, self._now, what, "tell the network's operator")
        until = f"{certificate.not_valid_after_utc:%Y-%m-%d}"
        said = f"written: {prefix}, address {cas[0].network.address(prefix)}, valid until {until}"
        self._write(self.certificate_file, certificate.public_bytes(Encoding.PEM), said)

    async def _documents(self) -> None:
        """What the registry says to all nodes."""
        identity = Identity.load(self.ca_file, self.certificate_file, self.key_file, self._now)
        where = self._endpoint(self._server), self._where
        await fetch_documents(self._reactor, *where, identity, self.directory, self._dialogue)

    async def _trade(self, registry: XMLRPCRegistry, request: str) -> str:
        tries = 1 if self._wanted.token else TRIES
        if not self._wanted.token:
            await self._send_token(registry)
        while True:
            token = self._wanted.token or self._dialogue.ask("Token: ")
            tries -= 1
            try:
                return await self._ask(registry, token, request)
            except UnknownToken as error:
                if not tries:
                    raise
                self._dialogue.say(str(error))

    async def _ask(self, registry: XMLRPCRegistry, token: str, request: str) -> str:
        """The certificate: for the same token and key the registry gives the same one again, so that an
        answer that got lost does no harm."""
        for pause in (*AGAIN, None):
            try:
                return await registry.request_certificate(token, request)
            except RegistryUnreachable as error:
                if pause is None:
                    problem = (
                        f"{error.fields['problem']}; run this again later, the token stays good for its key"
                    )
                    raise RegistryUnreachable(where=self._where, problem=problem) from error
                self._dialogue.say(f"{error} Asking again in {pause:g} s.")
                await deferLater(self._reactor, pause)
        raise AssertionError("the last try ends it")

    async def _send_token(self, registry: XMLRPCRegistry) -> None:
        """Have a token sent, unless the operator has one already."""
        email = self._wanted.email or self._dialogue.ask(
            "Your e-mail address, to send a token to (nothing if you have a token): "
        )
        if not email:
            return
        await registry.request_token(email)
        if not self._dialogue.terminal:
            raise TokenSent(email=email)
        self._dialogue.say(f"A token was sent to {email}")

    # -- the rest ----------------------------------------------------------------------------------------

    def config(self) -> str:
        """The text of vifibnet.conf: options for ``twistd vifibnet-node @vifibnet.conf``."""
        options = {
            "server": self._server,
            "server-port": str(self._wanted.port),
            "ca": str(self.ca_file),
            "cert": str(self.certificate_file),
            "key": str(self.key_file),
            "dh": str(self.dh_file),
            "state": str(self.directory),
            "log": LOG,
        }
        lines = [f"{name} {shlex.quote(value)}" for name, value in options.items()]
        return "\n".join(
            ["# For twistd vifibnet-node; one option a line, as on the command line.", *lines, ""]
        )

    def _check_files(self, cas: Sequence[CA]) -> None:
        """Refuse what is there and does not belong to these CAs, before anything is written beside it."""
        if self.peers_file.exists():
            PeerStore.open(self.peers_file, cas[0].network).close()
        if self.certificate_file.exists() and not (self._wanted.ca_only or self._wanted.db_only):
            settle(self.certificate_file, self.key_file)
            certificate = load_certificate(self.certificate_file, "file")
            key = load_key(self.key_file, "file")
            remedy = "move it away to get a new one"
            check_certificate(certificate, key, cas, self._now, f"file {self.certificate_file}", remedy)

    def _write(self, file: Path, data: bytes, said: str = "written", mode: int = 0o644) -> None:
        """Write what must not be there: BadInput if it is, for somebody else was here meanwhile."""
        write_atomically(file, data, mode)
        self._say(file, said)

    def _write_missing(self, file: Path, data: bytes) -> None:
        if file.exists():
            self._say(file, KEPT)
        else:
            self._write(file, data)

    def _say(self, file: Path, what: str) -> None:
        self._dialogue.say(f"{file.name}: {what}")

    @property
    def _now(self) -> datetime:
        return datetime.fromtimestamp(self._reactor.seconds(), UTC)


def check_certificate(
    certificate: x509.Certificate, key: PrivateKey, cas: Sequence[CA], now: datetime, what: str, remedy: str
) -> Prefix:
    """The prefix of a node's certificate. Raises BadInput about ``what`` unless it is this key's, of one of
    these CAs and valid at ``now``."""
    network = cas[0].network
    if signer(certificate, cas) is None:
        raise BadInput(what, f"not signed by the CA of the network {network}", remedy)
    if not belongs(key, certificate):
        raise BadInput(what, "made for another key than cert.key", remedy)
    check_valid(certificate, what, now, remedy)
    try:
        prefix = prefix_of(certificate)
        network.subnet(prefix)
    except BadAddress:
        raise BadInput(what, f"its common name is no prefix in the network {network}", remedy) from None
    return prefix
