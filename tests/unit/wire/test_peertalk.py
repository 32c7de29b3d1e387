"""The words of nodes among themselves."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from twisted.protocols.amp import AmpList
from twisted.trial.unittest import SynchronousTestCase

from vifibnet.errors import BadArguments
from vifibnet.model.addresses import Prefix
from vifibnet.model.endpoints import MAX_ENDPOINTS, Endpoint
from vifibnet.model.news import MAX_AGE, News
from vifibnet.model.visits import MAX_WANTED
from vifibnet.wire.amp import MAX_VALUE
from vifibnet.wire.endpoints import MAX_LENGTH
from vifibnet.wire.peertalk import AGED, MAX_COUNT, format_prefixes, news_rows, parse_news, parse_prefixes

prefixes = st.integers(0, 120).flatmap(
    lambda length: st.integers(0, (1 << length) - 1).map(lambda value: Prefix(value, length))
)
endpoints = st.lists(
    st.builds(
        Endpoint,
        st.ip_addresses().map(str).filter(lambda text: "%" not in text),
        st.integers(1, 65535),
        st.sampled_from(["udp", "udp6", "tcp-client", "tcp6-client"]),
    ),
    max_size=MAX_ENDPOINTS,
    unique=True,
).map(tuple)
news = st.builds(News, prefixes, endpoints, st.floats(-10, 2 * MAX_AGE))


class NewsTests(SynchronousTestCase):
    """Lists of peers."""

    @given(st.lists(news, max_size=MAX_COUNT))
    def test_round_trip(self, told: list[News]) -> None:
        """What is told arrives, as far as it fits, and never younger than it is."""
        argument = AmpList(AGED)
        value = argument.toStringProto(news_rows(told), None)
        self.assertLessEqual(len(value), MAX_VALUE)
        heard = parse_news(argument.fromStringProto(value, None))
        for one, other in zip(told, heard, strict=False):
            self.assertEqual((one.peer, one.endpoints), (other.peer, other.endpoints))
            self.assertTrue(min(max(one.age, 0), MAX_AGE) <= other.age <= max(one.age, 0) + 1)

    def test_the_longest_answer(self) -> None:
        """All who may be asked for fit into an answer, however long their endpoints are."""
        names = tuple(Endpoint(f"{'x' * 60}.{'y' * 60}.{'z' * 60}.{n}.org", 1194, "udp") for n in range(8))
        told = [News(Prefix(n, 120), names, 1e6) for n in range(MAX_COUNT)]
        self.assertGreaterEqual(len(news_rows(told)), MAX_WANTED)
        self.assertLess(MAX_WANTED * (MAX_LENGTH + 100), MAX_VALUE)

    def test_nonsense(self) -> None:
        """What cannot be understood is left out, and the rest is not."""
        good = {"prefix": "2/16", "endpoints": "192.0.2.2,1194,udp", "age": 7}
        for bad in ({"prefix": "what?"}, {"endpoints": "192.0.2.2,1194,pigeon"}, {"endpoints": "x" * 3000}):
            self.assertEqual(
                parse_news([{**good, **bad}, good]),
                [News(Prefix(2, 16), (Endpoint("192.0.2.2", 1194, "udp"),), 7.0)],
            )
        (old,) = parse_news([{**good, "age": 10**400}])
        self.assertEqual(old.age, MAX_AGE)


class PrefixTests(SynchronousTestCase):
    """Lists of prefixes."""

    @given(st.lists(prefixes, max_size=MAX_WANTED))
    def test_round_trip(self, wanted: list[Prefix]) -> None:
        """What is asked for arrives."""
        self.assertEqual(parse_prefixes(format_prefixes(wanted)), wanted)

    @given(st.text(max_size=60))
    def test_any_text(self, text: str) -> None:
        """Prefixes or a refusal."""
        try:
            found = parse_prefixes(text)
        except BadArguments:
            return
        self.assertEqual(parse_prefixes(format_prefixes(found)), found)

    def test_too_many(self) -> None:
        """Refused."""
        self.assertRaises(BadArguments, parse_prefixes, " ".join(["5/16"] * (MAX_WANTED + 1)))
