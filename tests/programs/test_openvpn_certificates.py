"""What the CA signs, shown by one real openvpn to another."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.internet.protocol import ProcessProtocol
from twisted.trial.unittest import TestCase

from tests.ports import free_port
from tests.unit.pki.making import (
    NETWORK,
    NOW,
    authority_of,
    certificate,
    key,
    openssl,
    pem,
    successor,
    trusted_directory,
)
from vifibnet.node.authorities import Authorities, ca_directory_of, write_directory
from vifibnet.node.revocations import RevocationFiles, directory_of
from vifibnet.pki.authority import Authority, create_authority
from vifibnet.pki.certificates import load_certificate, prefix_of
from vifibnet.pki.document import sign_document
from vifibnet.pki.requests import KEY_TYPES, key_pem
from vifibnet.wire.document import Kind
from vifibnet.wire.revocation import Revoked, format_revocations

CLOCK: Any = reactor


class OpenVPN(ProcessProtocol):
    """One openvpn, whose output can be waited for."""

    def __init__(self) -> None:
        self.output = ""
        self.ended = False
        self._waiting: list[tuple[re.Pattern[str], Deferred[re.Match[str]]]] = []

    def wait_for(self, pattern: str) -> Deferred[re.Match[str]]:
        """Fires when the output so far or to come matches; fails when openvpn ends without."""
        found: Deferred[re.Match[str]] = Deferred()
        self._waiting.append((re.compile(pattern), found))
        self._look()
        return found

    def outReceived(self, data: bytes) -> None:
        self.output += data.decode()
        self._look()

    def _look(self) -> None:
        for waiting in list(self._waiting):
            if waiting not in self._waiting:
                # Whoever was told just now has looked as well.
                continue
            pattern, found = waiting
            if match := pattern.search(self.output):
                self._waiting.remove(waiting)
                found.callback(match)
            elif self.ended:
                self._waiting.remove(waiting)
                found.errback(AssertionError(f"no {pattern.pattern} in:\n{self.output}"))

    def processEnded(self, reason: object) -> None:
        self.ended = True
        self._look()


class CertificatesTests(TestCase):
    """Both ends check the other's certificate as the node will."""

    timeout = 60

    def setUp(self) -> None:
        self.directory = Path(self.mktemp()).absolute()
        self.directory.mkdir()
        self.more = {"server": "", "client": ""}
        self.trusted = {"server": "ca", "client": "ca"}

    def start(self, line: str) -> OpenVPN:
        """Run openvpn in the directory until the test ends."""
        protocol = OpenVPN()
        process = CLOCK.spawnProcess(
            protocol, "openvpn", ["openvpn", *line.split()], env=None, path=str(self.directory),
            childFDs={0: "w", 1: "r", 2: 1},
        )  # fmt: skip

        def end() -> Deferred[object]:
            ended: Deferred[object] = protocol.wait_for("never").addErrback(lambda _: None)
            if not protocol.ended:
                process.signalProcess("KILL")
            return ended

        self.addCleanup(end)
        return protocol

    def trust(self, name: str, *authorities: Authority) -> None:
        """A directory with what openvpn is to trust."""
        (self.directory / name).mkdir(exist_ok=True)
        write_directory(self.directory / name, [each.ca for each in authorities])

    def write(self, authority: Authority, server: str, client: str) -> None:
        """A server's and a client's files."""
        self.trust("ca", authority)
        for name, key_type, prefix in (("server", server, "0/16"), ("client", client, "1/16")):
            made = certificate(authority, prefix, key(key_type))
            (self.directory / f"{name}.crt").write_bytes(pem(made))
            (self.directory / f"{name}.key").write_bytes(key_pem(key(key_type)))

    async def connect(self, expected: str = "1/16") -> tuple[OpenVPN, OpenVPN]:
        """A server that expects a client of this prefix, and a client; neither has an interface."""
        common = "--dev null --cert {0}.crt --key {0}.key --verb 3 --proto udp4 --capath {1}"
        ours, theirs = (common.format(name, self.trusted[name]) for name in ("server", "client"))
        port = free_port()
        server = self.start(
            f"{ours} --tls-server --dh none --local 127.0.0.1 --port {port}"
            f" --remote-cert-tls client --verify-x509-name {expected} name {self.more['server']}"
        )
        await server.wait_for(r"UDPv4 link local \(bound\)")
        client = self.start(
            f"{theirs} --tls-client --nobind --remote 127.0.0.1 {port}"
            f" --remote-cert-tls server --verify-x509-name 0/16 name {self.more['client']}"
        )
        return server, client

    async def check_pair(self, authority: Authority, server: str, client: str) -> None:
        """The two come to an agreement."""
        self.write(authority, server, client)
        for one in await self.connect():
            await one.wait_for("VERIFY EKU OK")
            await one.wait_for("VERIFY X509NAME OK")
            await one.wait_for("Initialization Sequence Completed")

    async def test_every_key(self) -> None:
        """With any type of CA, server key and client key."""
        for ours, server, client in zip(
            KEY_TYPES, KEY_TYPES[1:] + KEY_TYPES[:1], KEY_TYPES[::-1], strict=True
        ):
            made = create_authority(NETWORK, now=NOW, key_type=ours)
            await self.check_pair(authority_of(*made), server, client)

    async def test_the_manuals_authority(self) -> None:
        """With a CA made by the manual's own openssl lines."""
        openssl("genrsa -out ca.key 2048", cwd=self.directory)
        openssl(
            "req -nodes -new -x509 -key ca.key -set_serial 0x120010db80042 -days 365 -out ca.crt",
            "-subj", "/CN=vifib", cwd=self.directory,
        )  # fmt: skip
        files = self.directory / "ca.crt", self.directory / "ca.key"
        await self.check_pair(Authority.load(*files, datetime.now(UTC)), "p256", "rsa")

    async def test_another_node(self) -> None:
        """A node that is not the expected one is refused: the checks above check."""
        self.write(authority_of(*create_authority(NETWORK, now=NOW)), "p256", "p256")
        server, _ = await self.connect(expected="2/16")
        await server.wait_for("VERIFY X509NAME ERROR: CN=1/16, must be 2/16")

    async def check_revoked(self, name: str, listener: str) -> None:
        """A certificate of one side is refused by the other, which looks as nobody, while it runs."""
        by = authority_of(*create_authority(NETWORK, now=NOW))
        self.write(by, "p256", "p256")
        # Nobody may enter the state directory, as with most operators.
        self.directory.chmod(0o700)
        run_in = Path(self.enterContext(TemporaryDirectory()))
        run_in.chmod(0o755)
        trusted = Authorities(CLOCK.seconds, self.directory, self.directory / "ca.pem", [by.ca], run=run_in)
        trusted.open()
        self.trusted[listener] = str(ca_directory_of(self.directory, run_in))
        files = RevocationFiles(self.directory, lambda: [by.ca])
        files.open()
        self.addCleanup(files.close)
        unprivileged = "--user nobody --group nogroup --persist-key --persist-tun"
        self.more[listener] = f"{unprivileged} --crl-verify {directory_of(self.directory)} dir"
        for one in await self.connect():
            await one.wait_for("Initialization Sequence Completed")
        made = load_certificate(self.directory / f"{name}.crt", "--cert")
        revoked = format_revocations([Revoked(made.serial_number, prefix_of(made))])
        files.take(sign_document(by, Kind.REVOCATIONS, 1, revoked))
        server, client = await self.connect()
        looking = {"server": server, "client": client}[listener]
        await looking.wait_for(rf"VERIFY CRL: .* serial=({made.serial_number}) is revoked")
        self.assertNotIn("Initialization Sequence Completed", server.output + client.output)

    async def test_revoked_client(self) -> None:
        """The server refuses it."""
        await self.check_revoked("client", "server")

    async def test_revoked_server(self) -> None:
        """The client refuses it."""
        await self.check_revoked("server", "client")

    async def check_second(self, first: Authority, second: Authority) -> None:
        """Whether a server and a client that run already, as nobody, believe the certificates of a second
        authority from when it is put into their directory on; before, they do not."""
        self.trust("both", first, second)
        unprivileged = "--user nobody --group nogroup --persist-key --persist-tun"
        directory = trusted_directory(self)
        for shows, looks in (("client", "server"), ("server", "client")):
            write_directory(directory, [first.ca])
            self.write(first, "p256", "p256")
            self.trusted = {shows: "both", looks: str(directory)}
            self.more[looks] = f"{unprivileged} --tls-timeout 1 --hand-window 3 --connect-retry 1 1"
            self.more[shows] = "--tls-timeout 1 --hand-window 3 --connect-retry 1 1"
            prefix = "1/16" if shows == "client" else "0/16"
            (self.directory / f"{shows}.crt").write_bytes(pem(certificate(second, prefix, key())))
            server, client = await self.connect()
            one = {"server": server, "client": client}[looks]
            await one.wait_for("VERIFY ERROR")
            self.assertNotIn("Initialization Sequence Completed", client.output)
            write_directory(directory, [first.ca, second.ca])
            await one.wait_for(f"VERIFY OK: depth=0, CN={prefix}")
            await client.wait_for("Initialization Sequence Completed")

    async def test_second_authority(self) -> None:
        """One that follows on the first, with the same key or another, is believed while openvpn runs."""
        first = authority_of(*create_authority(NETWORK, now=NOW))
        for new_key in (False, True):
            await self.check_second(first, successor(first, new_key=new_key))

    async def test_trusts_nobody(self) -> None:
        """An empty directory, and one that nobody may enter, are no reason to let everybody in; without one
        openvpn does not start."""
        by = authority_of(*create_authority(NETWORK, now=NOW))
        self.write(by, "p256", "p256")
        (self.directory / "empty").mkdir()
        self.trusted["server"] = "empty"
        server, _ = await self.connect()
        await server.wait_for("VERIFY ERROR")
        locked = Path(self.enterContext(TemporaryDirectory()))
        write_directory(locked, [by.ca])
        self.trusted["server"] = str(locked)
        self.more["server"] = "--user nobody --group nogroup --persist-key --persist-tun"
        server, _ = await self.connect()
        await server.wait_for("VERIFY ERROR")
        missing = self.start(
            "--dev null --tls-server --dh none --capath nowhere --cert server.crt --key server.key"
        )
        await missing.wait_for("Options error: --capath fails with 'nowhere'")

    async def test_another_authority(self) -> None:
        """A node of another CA of the same name and network is refused."""
        self.write(authority_of(*create_authority(NETWORK, now=NOW)), "p256", "p256")
        stranger = authority_of(*create_authority(NETWORK, now=NOW))
        (self.directory / "client.crt").write_bytes(pem(certificate(stranger, "1/16", key())))
        server, _ = await self.connect()
        await server.wait_for("VERIFY ERROR|certificate verify failed")

    async def test_registry_as_a_client(self) -> None:
        """The registry's own certificate is no node's."""
        by = authority_of(*create_authority(NETWORK, now=NOW))
        self.write(by, "p256", "p256")
        private, made = by.server_certificate([], NOW)
        (self.directory / "client.crt").write_bytes(pem(made))
        (self.directory / "client.key").write_bytes(key_pem(private))
        server, _ = await self.connect(expected="registry.vifibnet")
        await server.wait_for("VERIFY.*ERROR|certificate verify failed")
