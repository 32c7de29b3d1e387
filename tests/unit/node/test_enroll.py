"""Every step of joining a network, against a registry that may also misbehave."""

from __future__ import annotations

import os
from contextlib import closing
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

from cryptography.hazmat.primitives.serialization import Encoding
from twisted.trial.unittest import TestCase
from twisted.web.resource import Resource
from twisted.web.server import Site
from twisted.web.xmlrpc import Fault

from tests.unit.node.fake_registry import (
    FakeRegistry,
    closed_port,
    make_authority,
    now,
    reactor,
    serve,
)
from tests.unit.pki.making import successor
from vifibnet.errors import (
    BadInput,
    NoPeerYet,
    NotOurRegistry,
    RegistryUnreachable,
    UnknownMethod,
    UnknownToken,
    VifibnetError,
)
from vifibnet.model.addresses import Network, Prefix
from vifibnet.node import enroll
from vifibnet.node.enroll import Enroller, Enrolment, TokenSent
from vifibnet.pki.authority import new_serial
from vifibnet.pki.certificates import CA, Identity, fingerprint, load_cas, load_key
from vifibnet.pki.document import authority_lines, sign_document
from vifibnet.pki.requests import check_request, key_pem, make_key, make_request
from vifibnet.pki.tls import server_options
from vifibnet.store.peers import PeerStore
from vifibnet.wire.document import Kind

FILES = ["ca.pem", "cert.crt", "cert.key", "dh2048.pem", "peers.db", "vifibnet.conf"]


class Script:
    """A dialogue: ``answers`` are given in turn to whatever is asked; none: no terminal."""

    def __init__(self, *answers: str) -> None:
        self.answers = list(answers)
        self.terminal = bool(answers)
        self.lines: list[str] = []

    def say(self, line: str) -> None:
        """Keep the line."""
        self.lines.append(line)

    def ask(self, question: str) -> str:
        """The next answer."""
        self.lines.append(question)
        return self.answers.pop(0)


class EnrollCase(TestCase):
    """A registry, a directory, and the wish to have everything."""

    def setUp(self) -> None:
        self.authority = make_authority(self)
        self.registry = FakeRegistry(self.authority)
        port = serve(self, self.registry, self.authority)
        self.directory = Path(self.mktemp())
        self.wanted = Enrolment(("127.0.0.1",), port, self.directory, token="t")

    async def enroll(self, *answers: str, **changes: object) -> Script:
        """One run of the setup, with some of its options changed."""
        script = Script(*answers)
        await Enroller(reactor, replace(self.wanted, **changes), script).run()  # type: ignore[arg-type]
        return script

    async def refusal(self, kind: type[VifibnetError], *answers: str, **changes: object) -> str:
        """The sentence of the error that the setup ends with."""
        try:
            script = await self.enroll(*answers, **changes)
        except kind as error:
            return str(error)
        raise AssertionError(f"it went well: {script.lines}")

    def there(self) -> list[str]:
        """The files in the directory."""
        return sorted(os.listdir(self.directory)) if self.directory.exists() else []

    def methods(self) -> list[str]:
        """What was called, and forget it."""
        calls, self.registry.calls = self.registry.calls, []
        return [call[0] for call in calls if call[0] != "getAuthorities"]


class RenewedTests(EnrollCase):
    """A network whose authority is being renewed: the registry shows a certificate of the old one, and signs
    with the new one."""

    def setUp(self) -> None:
        super().setUp()
        self.new = successor(self.authority, now=now())
        self.both = (self.new.ca, self.authority.ca)
        self.registry.authority = self.new
        self.registry.answers["getAuthorities"] = lambda: self.documents(*self.both)
        port = serve(self, self.registry, self.authority, [self.new.ca])
        self.wanted = replace(self.wanted, port=port)

    def documents(self, *named: CA) -> list[str]:
        """These authorities, named by each of both."""
        lines = authority_lines(named)
        return [
            sign_document(each, Kind.AUTHORITIES, 1, lines).decode() for each in (self.new, self.authority)
        ]

    def certificates(self) -> tuple[CA, ...]:
        """What was written."""
        return load_cas(self.directory / "ca.pem", "--ca")

    async def test_either_fingerprint(self) -> None:
        """Whichever a newcomer was told of, he gets to know both, and gets a certificate that he believes."""
        for ca in self.both:
            self.directory = Path(self.mktemp())
            self.wanted = replace(self.wanted, directory=self.directory)
            script = await self.enroll(fingerprint=fingerprint(ca.certificate))
            self.assertEqual(self.there(), FILES)
            self.assertEqual(self.certificates(), self.both)
            for each in self.both:
                self.assertIn(f"  {fingerprint(each.certificate)}", script.lines)
            ca_file, certificate, key = (self.directory / name for name in ("ca.pem", "cert.crt", "cert.key"))
            self.assertEqual(Identity.load(ca_file, certificate, key, now()).ca, self.new.ca)

    async def test_file(self) -> None:
        """Who has the old one in his file learns the new one; nothing is written where nothing is new."""
        self.directory.mkdir()
        (self.directory / "ca.pem").write_bytes(self.authority.ca_pem)
        script = await self.enroll(ca_only=True, fingerprint=fingerprint(self.new.certificate))
        self.assertIn("ca.pem: written anew: the network's authority was renewed", script.lines)
        self.assertEqual(self.certificates(), self.both)
        script = await self.enroll()
        self.assertIn("ca.pem: there already, used as it is", script.lines)

    async def test_not_vouched_for(self) -> None:
        """A registry that shows the right one beside its own, but cannot have it vouch for its own."""
        seal = fingerprint(self.new.certificate)
        for documents in (list, lambda: self.documents(self.new.ca), lambda: ["", "vifibnet authorities 1"],
                          lambda: [self.documents(*self.both)[1]]):  # fmt: skip
            self.registry.answers["getAuthorities"] = documents
            said = await self.refusal(NotOurRegistry, fingerprint=seal)
            self.assertIn("vouches for", said)
        self.registry.answers["getAuthorities"] = lambda: [1]
        await self.refusal(NotOurRegistry, fingerprint=seal)
        self.assertEqual(self.there(), [])
        self.registry.answers["getAuthorities"] = lambda: Fault(UnknownMethod.code, "what?")
        await self.enroll(ca_only=True, fingerprint=fingerprint(self.authority.certificate))
        self.assertEqual(self.certificates(), (self.authority.ca,))


class CompleteTests(EnrollCase):
    """Runs that end well."""

    async def test_everything(self) -> None:
        """The six files, each with its mode, fit together, and the request asks for what was wished."""
        await self.enroll(attributes=(("O", "My club"), ("emailAddress", "a@b.example")))
        self.assertEqual(self.there(), FILES)
        modes = {name: (self.directory / name).stat().st_mode & 0o777 for name in FILES}
        self.assertEqual([modes["cert.key"], modes["peers.db"], modes["ca.pem"]], [0o600, 0o600, 0o644])
        ca, certificate, key = (self.directory / name for name in ("ca.pem", "cert.crt", "cert.key"))
        identity = Identity.load(ca, certificate, key, now())
        self.assertEqual(str(identity.prefix), "7/16")
        self.assertIn("O=My club", identity.certificate.subject.rfc4514_string())
        with closing(PeerStore.open(self.directory / "peers.db", self.authority.network)) as peers:
            self.assertEqual([str(p.prefix) for p in peers.candidates(now().timestamp())], ["5/16"])
        self.assertEqual(self.methods(), ["getCa", "getBootstrapPeer", "requestCertificate"])

    async def test_no_documents(self) -> None:
        """A registry that has nothing to say is good enough, and one that is there already is kept."""
        script = await self.enroll()
        [said] = [line for line in script.lines if "the node will ask for it" in line]
        self.assertIn(f"The registry at 127.0.0.1 port {self.wanted.port} does not answer", said)
        for kind in Kind:
            (self.directory / kind).write_text("mine")
        script = await self.enroll()
        self.assertFalse([line for line in script.lines if "the node will ask for it" in line])
        self.assertEqual({(self.directory / kind).read_text() for kind in Kind}, {"mine"})

    async def test_stops(self) -> None:
        """--ca-only and --db-only stop where they say; --no-boot asks for no peer; then it goes on."""
        await self.enroll(ca_only=True)
        self.assertEqual(self.there(), ["ca.pem"])
        await self.enroll(db_only=True, boot=False)
        self.assertEqual(self.there(), ["ca.pem", "peers.db"])
        self.assertEqual(self.methods(), ["getCa"] * 2)
        await self.enroll(db_only=True)
        with closing(PeerStore.open(self.directory / "peers.db")) as peers:
            self.assertEqual(len(peers), 1)
        before = {name: (self.directory / name).read_bytes() for name in self.there()}
        await self.enroll()
        self.assertEqual(self.there(), FILES)
        self.assertEqual({name: (self.directory / name).read_bytes() for name in before}, before)
        self.assertEqual(self.methods(), ["getCa", "getBootstrapPeer", "getCa", "requestCertificate"])

    async def test_again(self) -> None:
        """A second run changes nothing, says so, and needs no token."""
        await self.enroll()
        (self.directory / "vifibnet.conf").write_text("mine")
        before = {name: (self.directory / name).read_bytes() for name in FILES}
        script = await self.enroll(token=None)
        self.assertEqual({name: (self.directory / name).read_bytes() for name in FILES}, before)
        self.assertEqual(sum("there already" in line for line in script.lines), len(FILES))

    async def test_key_types(self) -> None:
        """An own key is used as it is, whatever kind was asked for; all kinds work."""
        self.directory.mkdir()
        for key_type in ("ed25519", "rsa"):
            pem = key_pem(make_key(key_type))
            (self.directory / "cert.key").write_bytes(pem)
            await self.enroll()
            self.assertEqual((self.directory / "cert.key").read_bytes(), pem)
            (self.directory / "cert.crt").unlink()
        (self.directory / "cert.key").unlink()
        await self.enroll(key_type="ed25519")
        self.assertEqual(self.there(), FILES)

    async def test_terminal(self) -> None:
        """On a terminal the fingerprint is confirmed, the address asked for, and a typo forgiven."""
        tokens: list[str] = []

        def trade(token: str, request: str) -> object:
            tokens.append(token)
            return self.registry.sign(request) if token == "right" else Fault(UnknownToken.code, "unknown")

        self.registry.answers["requestCertificate"] = trade
        script = await self.enroll("what?", "yes", "a@b.example", "wrong", "right", token=None)
        self.assertEqual(self.there(), FILES)
        self.assertEqual(tokens, ["wrong", "right"])
        self.assertIn(f"  {fingerprint(self.authority.certificate)}", script.lines)
        self.assertIn(("requestToken", "a@b.example"), self.registry.calls)

    async def test_known_fingerprint_and_token(self) -> None:
        """With --fingerprint nothing is asked about it; no address means that a token is at hand."""
        pinned = fingerprint(self.authority.certificate)
        await self.enroll("", "t", token=None, fingerprint=pinned)
        self.assertNotIn("requestToken", self.methods())
        self.assertEqual(self.there(), FILES)

    async def test_invited(self) -> None:
        """Of several addresses the first that is the registry is used and written down, with no question
        asked, and a network whose first node this is is no obstacle."""
        stranger = FakeRegistry(make_authority(self))
        self.registry.answers["getBootstrapPeer"] = lambda: Fault(NoPeerYet.code, "none yet")
        port = self.wanted.port
        root = Resource()
        root.putChild(b"RPC2", stranger)
        listening = reactor.listenSSL(
            port, Site(root), server_options(stranger.authority, [], now()), interface="127.0.0.2"
        )
        self.addCleanup(listening.stopListening)
        script = await self.enroll(
            servers=("127.0.0.3", "127.0.0.2", "127.0.0.1"),
            fingerprint=fingerprint(self.authority.certificate),
            invited=True,
        )
        self.assertEqual(self.there(), FILES)
        self.assertIn("server 127.0.0.1", (self.directory / "vifibnet.conf").read_text())
        self.assertIn("127.0.0.3", script.lines[1])
        self.assertIn("127.0.0.2", script.lines[3])

    async def test_answer_that_gets_lost(self) -> None:
        """An answer that does not arrive is asked for again with the same key, and comes."""
        self.patch(enroll, "AGAIN", (0.01, 0.01))
        asked: list[tuple[str, str]] = []

        def trade(token: str, request: str) -> object:
            asked.append((token, request))
            return self.registry.sign(request)

        self.registry.answers["requestCertificate"] = trade
        self.registry.loses = 1
        script = await self.enroll()
        self.assertEqual(self.there(), FILES)
        self.assertEqual(len(asked), 2)
        self.assertEqual(asked[0], asked[1])
        self.assertTrue(any("Asking again" in line for line in script.lines), script.lines)


class RefusalTests(EnrollCase):
    """Runs that end with a sentence, and what they leave."""

    async def test_untrusted_ca(self) -> None:
        """Another fingerprint, or no for an answer: nothing is written."""
        said = await self.refusal(NotOurRegistry, fingerprint=":".join(["00"] * 32))
        self.assertIn("--fingerprint", said)
        await self.refusal(BadInput, "no")
        self.registry.answers["getCa"] = make_authority(self).ca_pem.decode
        self.assertIn("another CA", await self.refusal(NotOurRegistry))
        self.assertEqual(self.there(), [])
        self.assertNotIn("requestCertificate", self.methods())

    async def test_nobody_there(self) -> None:
        """No registry: nothing is written, not even the directory."""
        await self.refusal(RegistryUnreachable, port=await closed_port(self))
        self.assertFalse(self.directory.exists())

    async def test_other_networks_files(self) -> None:
        """Files of another network are refused by name and nothing is put beside them."""
        other = FakeRegistry(make_authority(self, Network.parse("2001:db8:43::/48")))
        port = serve(self, other, other.authority)
        await self.enroll(port=port)
        self.assertIn("not the registry's", await self.refusal(NotOurRegistry))
        (self.directory / "ca.pem").unlink()
        self.assertIn("peers.db", await self.refusal(BadInput))
        (self.directory / "peers.db").unlink()
        self.assertIn("cert.crt", await self.refusal(BadInput))
        self.assertEqual(self.there(), ["cert.crt", "cert.key", "dh2048.pem", "vifibnet.conf"])

    async def test_unusable_files(self) -> None:
        """Garbage, a certificate without its key or with another one: one sentence, no call."""
        await self.enroll()
        certificate = self.directory / "cert.crt"
        key = self.directory / "cert.key"
        self.methods()
        key.rename(key.with_suffix(".old"))
        self.assertIn("its key cert.key is missing", await self.refusal(BadInput))
        key.write_bytes(key_pem(make_key()))
        self.assertIn("another key", await self.refusal(BadInput))
        key.write_text("garbage")
        self.assertIn("cert.key", await self.refusal(BadInput))
        key.with_suffix(".old").rename(key)
        for name in ("ca.pem", "peers.db", "cert.crt"):
            content = (self.directory / name).read_bytes()
            (self.directory / name).write_text("garbage")
            self.assertIn(name, await self.refusal(BadInput))
            (self.directory / name).write_bytes(content)
        expired = self.authority.sign(
            make_request(load_key(key, "file"), []),
            Prefix.parse("7/16"),
            new_serial(),
            now() - timedelta(days=1),
            days=0.5,
        )
        certificate.write_bytes(expired.public_bytes(Encoding.PEM))
        self.assertIn("expired", await self.refusal(BadInput))
        self.assertNotIn("requestCertificate", self.methods())

    async def test_directory(self) -> None:
        """No directory, or none that can be written, is refused before anything is asked."""
        self.directory.write_text("a file")
        self.assertIn("not a directory", await self.refusal(BadInput))
        for directory in ("/proc/vifibnet", "/sys", self.directory / "below", "/nowhere/at/all", "a\nb"):
            self.assertIn("--dir", await self.refusal(BadInput, directory=Path(directory)))
        self.assertEqual(self.methods(), [])

    async def test_wishes(self) -> None:
        """An attribute that does not exist and a token that nobody can give are found out at once."""
        self.assertIn("--req", await self.refusal(BadInput, attributes=(("Planet", "Earth"),)))
        self.assertIn("--token", await self.refusal(BadInput, token=None))
        self.assertEqual((self.methods(), self.there()), ([], []))

    async def test_no_peer(self) -> None:
        """No bootstrap peer: the CA stays, the peer database does not appear."""
        self.registry.answers["getBootstrapPeer"] = lambda: Fault(NoPeerYet.code, "none yet")
        await self.refusal(NoPeerYet)
        self.assertEqual(self.there(), ["ca.pem"])
        await self.enroll(db_only=True, boot=False)
        self.assertIn("peers.db: there already, used as it is", (await self.enroll()).lines)

    async def test_pinned_file(self) -> None:
        """A ca.pem that is not the one in --fingerprint."""
        await self.enroll(ca_only=True)
        self.assertIn("ca.pem", await self.refusal(BadInput, fingerprint=":".join(["00"] * 32)))

    async def test_token_by_mail(self) -> None:
        """Without a terminal the token is only requested, and the next run goes on with it."""
        self.assertIn("--token", await self.refusal(TokenSent, token=None, email="a@b.example"))
        self.assertEqual(self.there(), ["ca.pem", "cert.key", "peers.db"])
        key = (self.directory / "cert.key").read_bytes()
        await self.enroll()
        self.assertEqual((self.directory / "cert.key").read_bytes(), key)

    async def test_wrong_tokens(self) -> None:
        """A wrong token is refused once on the command line, three times on a terminal."""
        self.registry.answers["requestCertificate"] = lambda *_: Fault(UnknownToken.code, "unknown")
        await self.refusal(UnknownToken)
        await self.refusal(UnknownToken, "yes", "", "1", "2", "3", token=None)
        self.assertEqual(self.methods().count("requestCertificate"), 4)
        self.assertEqual(self.there(), ["ca.pem", "cert.key", "peers.db"])

    async def test_lost_answer(self) -> None:
        """A connection that is always cut after the token was sent: the sentence says what to do."""
        self.patch(enroll, "AGAIN", (0.01, 0.01))
        self.registry.cuts = b"requestCertificate"
        said = await self.refusal(RegistryUnreachable)
        self.assertIn("closed the connection", said)
        self.assertIn("run this again", said)
        self.registry.cuts = b"getCa"
        self.assertNotIn("run this again", await self.refusal(RegistryUnreachable))

    async def test_somebody_else(self) -> None:
        """A key that appears while we wait is neither overwritten nor used for a certificate."""
        key = self.directory / "cert.key"

        def meanwhile() -> object:
            key.write_text("theirs")
            return ["01", "192.0.2.5,1194,udp"]

        self.registry.answers["getBootstrapPeer"] = meanwhile
        self.assertIn("exists already", await self.refusal(BadInput))
        self.assertEqual(key.read_text(), "theirs")
        self.assertNotIn("requestCertificate", self.methods())

    async def test_wrong_certificates(self) -> None:
        """Whatever comes back and is not ours is not kept."""
        other = FakeRegistry(make_authority(self))
        # The same CA, if it believed that its network had more room for nodes.
        roomy = replace(self.authority.ca, network=Network.parse("2000::/8"))
        wider = FakeRegistry(replace(self.authority, ca=roomy))

        def expired(pem: str) -> str:
            made = self.authority.sign(
                check_request(pem), Prefix.parse("7/16"), new_serial(), now() - timedelta(days=1), days=0.5
            )
            return made.public_bytes(Encoding.PEM).decode()

        strange = make_request(make_key(), []).public_bytes(Encoding.PEM).decode()
        for problem, trade in {
            "no certificate": lambda pem: "nonsense",
            "not signed": other.sign,
            "another key": lambda pem: self.registry.sign(strange),
            "expired": expired,
            "common name": lambda pem: wider.sign(pem, "5/100"),
        }.items():
            self.registry.answers["requestCertificate"] = lambda token, pem, trade=trade: trade(pem)
            self.assertIn(problem, await self.refusal(VifibnetError))
            self.assertNotIn("cert.crt", self.there())
