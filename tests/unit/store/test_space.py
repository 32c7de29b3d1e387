"""The registry's address space and peers as a state machine: whatever is asked, in whatever order."""

from __future__ import annotations

import random

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)
from twisted.trial.unittest import SynchronousTestCase

from tests.unit.store import signing
from tests.unit.store.signing import KEY
from tests.unit.store.space import check_space, prefixes
from vifibnet.errors import NetworkFull, NoSuchNode, UnknownNode, UnknownToken
from vifibnet.model.addresses import Prefix
from vifibnet.store.certificates import MARGIN
from vifibnet.store.database import open_database
from vifibnet.store.pem import Signed
from vifibnet.store.registry import APPLICATION_ID, PEER_LIFE, TOKEN_LIFE, RegistryStore

LIFE = 40 * 3600.0
GRACE = 50 * 3600.0


class Refused(Exception):
    """The signing failed."""


class RegistryMachine(RuleBasedStateMachine):
    """A registry beside a model of it that is too simple to be wrong."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 1e9
        self.db = open_database(":memory:", "registry", application_id=APPLICATION_ID)
        self.store = RegistryStore(self.db, lambda: self.now, random.Random(1))
        self.given: dict[str, float] = {}
        """Until when the certificate of each prefix that is not free is valid."""
        self.released: set[str] = set()
        self.tokens: dict[str, tuple[int | None, float]] = {}
        self.spent: dict[str, float] = {}
        self.peers: dict[str, tuple[str, float]] = {}
        self.count = 0

    def teardown(self) -> None:
        self.db.close()

    def fits(self, length: int) -> bool:
        """Whether the space has a prefix of this length that is apart from all that are given."""
        return any(
            not any(bits.startswith(other) or other.startswith(bits) for other in self.given)
            for bits in (f"{value:0{length}b}" for value in range(1 << length))
        )

    @rule(length=st.none() | st.integers(1, 7))
    def add_token(self, length: int | None) -> None:
        self.count += 1
        self.store.add_token(f"the token number {self.count}", "a@example.com", length)
        self.tokens[f"the token number {self.count}"] = length, self.now

    @precondition(lambda self: self.spent)
    @rule(data=st.data())
    def drop_spent(self, data: st.DataObject) -> None:
        """A token that was used stays, so that its certificate can be fetched again."""
        self.store.drop_token(data.draw(st.sampled_from(sorted(self.spent))))

    @precondition(lambda self: self.tokens)
    @rule(data=st.data())
    def drop_token(self, data: st.DataObject) -> None:
        token = data.draw(st.sampled_from(sorted(self.tokens)))
        self.store.drop_token(token)
        del self.tokens[token]

    @rule(length=st.none() | st.integers(1, 7), default=st.integers(3, 7))
    def join(self, length: int | None, default: int) -> None:
        self.add_token(length)
        self.issue(f"the token number {self.count}", default, fails=False)

    @rule(lengths=st.lists(st.integers(4, 7), max_size=10))
    def many_join(self, lengths: list[int]) -> None:
        for length in lengths:
            self.join(None, length)

    @precondition(lambda self: self.tokens)
    @rule(data=st.data(), default=st.integers(1, 7), fails=st.booleans())
    def issue_one_of(self, data: st.DataObject, default: int, fails: bool) -> None:
        self.issue(data.draw(st.sampled_from(sorted(self.tokens))), default, fails)

    def issue(self, token: str, default: int, fails: bool) -> None:
        asked, created = self.tokens[token]
        length = default if asked is None else asked
        signed: list[tuple[Prefix, int]] = []

        def sign(prefix: Prefix, serial: int) -> Signed:
            signed.append((prefix, serial))
            if fails:
                raise Refused
            return Signed(f"{prefix} {serial}", f"CN={prefix}", self.now + LIFE)

        try:
            pem = self.store.issue(token, KEY, default, sign)
        except UnknownToken:
            assert created <= self.now - TOKEN_LIFE
        except NetworkFull:
            assert not self.fits(length)
        except Refused:
            assert fails
        else:
            ((prefix, serial),) = signed
            assert not fails
            assert created > self.now - TOKEN_LIFE
            assert prefix.length == length
            assert pem == self.store.certificate(prefix) == f"{prefix} {serial}"
            self.spent[token] = created
            assert self.store.issue(token, KEY, default, sign) == pem
            assert len(signed) == 1
            assert serial.bit_length() == 127
            assert self.store.node_by_serial(serial) == prefix
            assert self.store.node_of_bits(prefix.bits.ljust(80, "1")) == prefix
            assert not any(
                prefix.bits.startswith(bits) or bits.startswith(prefix.bits) for bits in self.given
            )
            del self.tokens[token]
            self.given[prefix.bits] = self.now + LIFE

    @rule(address=st.text("01", min_size=7, max_size=20))
    def look_up(self, address: str) -> None:
        owners = [bits for bits in self.nodes() if address.startswith(bits)]
        found = self.store.node_of_bits(address)
        assert owners == ([found.bits] if found else [])

    @rule(token=st.sampled_from(["", "the token number 0", "the token number -1"]))
    def issue_without_token(self, token: str) -> None:
        try:
            self.store.issue(token, KEY, 4, signing.sign)
        except UnknownToken:
            return
        raise AssertionError("a certificate for nothing")

    def nodes(self) -> list[str]:
        """The prefixes of nodes that were not released."""
        return sorted(self.given.keys() - self.released)

    @precondition(lambda self: self.nodes())
    @rule(data=st.data())
    def release(self, data: st.DataObject) -> None:
        bits = data.draw(st.sampled_from(self.nodes()))
        prefix = Prefix.from_bits(bits)
        serial = self.serial(bits)
        _, free = self.store.release(prefix, "uid 0")
        assert free == max(self.given[bits] + MARGIN, self.now)
        assert self.store.certificate(prefix) is None
        assert self.store.node_by_serial(serial) is None
        self.released.add(bits)
        self.peers.pop(bits, None)
        try:
            self.store.release(prefix, "uid 0")
        except NoSuchNode:
            return
        raise AssertionError("released twice")

    def serial(self, bits: str) -> int:
        """The serial number of a prefix's certificate."""
        (serial,) = self.db.execute("SELECT serial FROM prefix WHERE bits = ?", (bits,)).fetchone()
        return int(serial)

    @precondition(lambda self: self.nodes())
    @rule(data=st.data(), where=st.sampled_from(["", "192.0.2.1,1194,udp", "192.0.2.2,1194,udp"]))
    def declare(self, data: st.DataObject, where: str) -> None:
        bits = data.draw(st.sampled_from(self.nodes()))
        self.store.declare(Prefix.from_bits(bits), where)
        if where:
            self.peers[bits] = where, self.now
        else:
            self.peers.pop(bits, None)

    @rule(bits=st.text("01", max_size=7))
    def declare_by_nobody(self, bits: str) -> None:
        if bits in self.nodes():
            return
        try:
            self.store.declare(Prefix.from_bits(bits), "192.0.2.1,1194,udp")
        except UnknownNode:
            return
        raise AssertionError("nobody was declared")

    @rule(hours=st.sampled_from([1, 2, 20, 30, 60]))
    def wait(self, hours: int) -> None:
        self.now += hours * 3600

    @rule()
    def expire(self) -> None:
        old = [t for t, (_, created) in self.tokens.items() if created <= self.now - TOKEN_LIFE]
        spent = [t for t, created in self.spent.items() if created <= self.now - TOKEN_LIFE]
        silent = [bits for bits, (_, declared) in self.peers.items() if declared <= self.now - PEER_LIFE]
        freed = [
            bits
            for bits, ends in self.given.items()
            if ends + GRACE <= self.now or (bits in self.released and ends + MARGIN <= self.now)
        ]
        assert self.store.expire(GRACE) == len(old) + len(spent) + len(silent) + len(freed)
        for token in old:
            del self.tokens[token]
        for token in spent:
            del self.spent[token]
        for bits in silent:
            del self.peers[bits]
        for bits in freed:
            del self.given[bits]
            self.released.discard(bits)
            self.peers.pop(bits, None)

    @rule(data=st.data(), count=st.integers(0, 9))
    def ask_for_peers(self, data: st.DataObject, count: int) -> None:
        current = {b: w for b, (w, declared) in self.peers.items() if declared > self.now - PEER_LIFE}
        unwanted = data.draw(st.sets(st.sampled_from(sorted(self.given)))) if self.given else set()
        found = self.store.peers(count, [Prefix.from_bits(bits) for bits in unwanted])
        assert len({prefix for prefix, _ in found}) == len(found) <= count
        for prefix, where in found:
            assert prefix.bits not in unwanted
            assert current[prefix.bits] == where
        if len(current) == len(self.peers):
            assert len(found) == min(count, len(current.keys() - unwanted))

    @invariant()
    def space_is_whole(self) -> None:
        check_space(self.db)
        assert prefixes(self.db, given=True) == sorted(self.given)
        assert self.db.execute("PRAGMA foreign_key_check").fetchall() == []

    @invariant()
    def slots_have_no_gap(self) -> None:
        rows = self.db.execute("SELECT slot, bits, endpoints FROM peer ORDER BY slot").fetchall()
        assert [slot for slot, _, _ in rows] == list(range(1, len(rows) + 1))
        assert {bits: where for _, bits, where in rows} == {b: where for b, (where, _) in self.peers.items()}

    @invariant()
    def tokens_are_hashed(self) -> None:
        rows = self.db.execute("SELECT * FROM token").fetchall()
        assert len(rows) == len(self.tokens) + len(self.spent)
        assert not any(token in str(row) for token in self.tokens for row in rows)


class SpaceTests(SynchronousTestCase):
    """A prefix is never given twice, and nothing is lost."""

    def test_any_history(self) -> None:
        """After any sequence of calls the store is what the model says."""
        run_state_machine_as_test(
            RegistryMachine, settings=settings(max_examples=150, stateful_step_count=40, deadline=None)
        )
