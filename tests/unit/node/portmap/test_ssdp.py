"""The search for gateways, with everybody answering what they like."""

from typing import cast

from hypothesis import given
from hypothesis import strategies as st
from twisted.internet import reactor as global_reactor
from twisted.internet.protocol import DatagramProtocol
from twisted.trial.unittest import SynchronousTestCase, TestCase

from tests.unit.node.portmap.fakes import port_number
from vifibnet.node.portmap import ssdp
from vifibnet.node.portmap.gateway import IReactor
from vifibnet.node.portmap.ssdp import Found, parse_answer, request, search, url_on

reactor = cast(IReactor, global_reactor)
V2, V1 = ssdp.TARGETS


def answer(location: str, target: str = V1, status: str = "HTTP/1.1 200 OK") -> bytes:
    """One answer as routers send it."""
    lines = (
        status,
        "CACHE-CONTROL: max-age=120",
        f"St:{target}",
        f"LOCATION: {location}",
        "USN: uuid:1",
        "",
        "",
    )
    return "\r\n".join(lines).encode("latin-1")


class AnswerTests(SynchronousTestCase):
    """Reading one datagram."""

    def test_answer(self) -> None:
        """A gateway's answer about itself is read, in any case of the header names."""
        self.assertEqual(
            parse_answer(answer("http://192.168.1.1:5000/root.xml"), "192.168.1.1"),
            Found("192.168.1.1", "http://192.168.1.1:5000/root.xml", V1, "", "uuid:1"),
        )

    def test_port_80(self) -> None:
        """A location without a port gets it written out."""
        found = parse_answer(answer("http://192.168.1.1/root.xml?a=b"), "192.168.1.1")
        assert found is not None
        self.assertEqual(found.location, "http://192.168.1.1:80/root.xml?a=b")

    def test_refused(self) -> None:
        """What is not a gateway's answer about itself is none."""
        good = "http://192.168.1.1:5000/root.xml"
        for data in (
            b"",
            answer(good, status="HTTP/1.1 404 Not Found"),
            answer(good, status="M-SEARCH * HTTP/1.1"),
            answer(good, target="upnp:rootdevice"),
            answer(good) + b"x" * ssdp.MAX_DATAGRAM,
            answer(""),
            answer("http://192.168.1.2:5000/root.xml"),
            answer("http://192.168.1.1@192.168.1.2/root.xml"),
            answer("http://user@192.168.1.1/root.xml"),
            answer("http://192.168.1.1:99999/root.xml"),
            answer("https://192.168.1.1/root.xml"),
            answer("file:///etc/passwd"),
            answer("http://router.example/root.xml"),
            answer("http://192.168.1.1/a b"),
            answer("http://192.168.1.1/\x00"),
        ):
            self.assertIsNone(parse_answer(data, "192.168.1.1"), data)

    @given(st.binary())
    def test_any_datagram(self, data: bytes) -> None:
        """No datagram is an error."""
        parse_answer(data, "192.168.1.1")

    @given(st.text())
    def test_any_location(self, location: str) -> None:
        """No location is an error, and none leads elsewhere."""
        data = f"HTTP/1.1 200 OK\r\nST: {V1}\r\nLOCATION: {location}\r\n\r\n".encode(errors="replace")
        found = parse_answer(data, "192.168.1.1")
        if found is not None:
            self.assertRegex(found.location, r"\Ahttp://192\.168\.1\.1:[0-9]+/[!-~]*\Z")


class UrlTests(SynchronousTestCase):
    """Following a reference in a description."""

    def test_references(self) -> None:
        """Absolute and relative references stay on the host."""
        base = "http://10.0.0.1:5000/dir/root.xml"
        for reference, expected in (
            ("/ctl", "http://10.0.0.1:5000/ctl"),
            ("ctl?x=1", "http://10.0.0.1:5000/dir/ctl?x=1"),
            ("http://10.0.0.1:81/ctl", "http://10.0.0.1:81/ctl"),
            ("http://10.0.0.1", "http://10.0.0.1:80/"),
        ):
            self.assertEqual(url_on("10.0.0.1", base, reference), expected)

    def test_refused(self) -> None:
        """Whatever leads away is refused."""
        for reference in (
            "http://10.0.0.2/ctl",
            "//10.0.0.2/ctl",
            "ftp://10.0.0.1/",
            "/" + "x" * 600,
            "/\xe9",
        ):
            with self.assertRaises(ValueError, msg=reference):
                url_on("10.0.0.1", "http://10.0.0.1:5000/", reference)

    def test_request(self) -> None:
        """The question is the one of the specification."""
        self.assertEqual(
            request(V2, ssdp.GROUP),
            b"M-SEARCH * HTTP/1.1\r\nHOST: 239.255.255.250:1900\r\n"
            b'MAN: "ssdp:discover"\r\nMX: 1\r\nST: ' + V2.encode() + b"\r\n\r\n",
        )


class Responder(DatagramProtocol):
    """Answers every question with ``answers``."""

    noisy = False

    def __init__(self, *answers: bytes) -> None:
        self.answers = answers
        self.questions = 0

    def datagramReceived(self, datagram: bytes, addr: tuple[str, int]) -> None:
        """Answer."""
        self.questions += 1
        assert self.transport is not None
        for one in self.answers:
            self.transport.write(one, addr)


class SearchTests(TestCase):
    """Searching on loopback."""

    def listen(self, *answers: bytes) -> tuple[Responder, tuple[str, int]]:
        """A responder and where it is."""
        responder = Responder(*answers)
        port = reactor.listenUDP(0, responder, "127.0.0.1", 8192)
        self.addCleanup(port.stopListening)
        return responder, ("127.0.0.1", port_number(port))

    async def test_found(self) -> None:
        """The first answer ends the search soon; a host counts once, with its best version."""
        url = "http://127.0.0.1:5000/root.xml"
        _, where = self.listen(answer("http://10.9.8.7/"), answer(url, V1), answer(url, V2), answer(url, V1))
        started = reactor.seconds()
        found = await search(reactor, [where], timeout=10, settle=0.1)
        self.assertEqual([(one.location, one.target) for one in found], [(url, V2)])
        self.assertLess(reactor.seconds() - started, 5)

    async def test_only_liars(self) -> None:
        """Answers that point elsewhere are no answers."""
        responder, where = self.listen(answer("http://10.9.8.7:5000/root.xml"), b"\xff" * 100)
        self.assertEqual(await search(reactor, [where], timeout=0.2), [])
        self.assertGreater(responder.questions, 0)

    async def test_nobody(self) -> None:
        """That nobody answers takes the time given, and that there is no way there changes nothing."""
        self.assertEqual(await search(reactor, [("127.0.0.1", 1), ("0.0.0.1", 1)], timeout=0.1), [])
