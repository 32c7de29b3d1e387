"""Endpoint strings, which anybody may send."""

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from vifibnet.errors import BadEndpoints
from vifibnet.model.endpoints import PROTOCOLS, Endpoint
from vifibnet.wire.endpoints import format_endpoints, parse_endpoints

addresses = st.one_of(
    st.ip_addresses().map(str).filter(lambda text: "%" not in text),
    st.sampled_from(["example.com", "a-b.example", "localhost"]),
)
endpoints = st.builds(Endpoint, addresses, st.integers(1, 65535), st.sampled_from(PROTOCOLS))


class EndpointTests(SynchronousTestCase):
    """Reading and writing."""

    @given(st.lists(endpoints, max_size=8, unique=True))
    def test_round_trip(self, some: list[Endpoint]) -> None:
        """What is written reads back the same, in the same order."""
        self.assertEqual(parse_endpoints(format_endpoints(some)), tuple(some))

    @given(st.text())
    def test_any_text(self, text: str) -> None:
        """Any text is read or refused, nothing else; what is read can be written and read again."""
        try:
            some = parse_endpoints(text)
        except BadEndpoints:
            return
        self.assertEqual(parse_endpoints(format_endpoints(some)), some)

    def test_refusals(self) -> None:
        """Words that openvpn would misread never come through."""
        for text in (
            "1.2.3.4,1194",
            "1.2.3.4,0,udp",
            "1.2.3.4,65536,udp",
            "1.2.3.4,+80,udp",
            "1.2.3.4,1194,tcp-server",
            "1.2.3.4.5,1194,udp",
            "-x,1194,udp",
            "--config,1194,udp",
            "a b,1194,udp",
            "fe80::1%eth0,1194,udp6",
            "a" * 64 + ".example,1194,udp",
            ";".join(f"1.2.3.{n},1194,udp" for n in range(9)),
            "1.2.3.4,1194,udp;" * 200,
        ):
            with self.assertRaises(BadEndpoints, msg=text):
                parse_endpoints(text)
