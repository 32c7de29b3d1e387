"""Invitations: what is written is read, and nothing else is."""

from __future__ import annotations

from dataclasses import replace
from ipaddress import ip_address

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from vifibnet.errors import BadInput
from vifibnet.wire.admin import MAX_INVITATIONS
from vifibnet.wire.invitation import MAX_ADDRESSES, SCHEME, Invitation

names = st.lists(
    st.from_regex(r"[a-z]([a-z0-9-]{0,20}[a-z0-9])?", fullmatch=True), min_size=1, max_size=4
).map(".".join)
invitations = st.builds(
    Invitation,
    st.lists(st.ip_addresses().map(str) | names, min_size=1, max_size=MAX_ADDRESSES).map(tuple),
    st.integers(1, 65535),
    st.binary(min_size=32, max_size=32).map(lambda data: data.hex(":")),
    st.binary(min_size=16, max_size=16).map(bytes.hex),
)
ONE = Invitation(("192.0.2.1", "registry.example.com"), 443, bytes(range(32)).hex(":"), bytes(16).hex())


class InvitationTests(SynchronousTestCase):
    """To text and back."""

    @given(invitations)
    def test_round_trip(self, invitation: Invitation) -> None:
        """What is written is read again, and is one line that no shell and no click breaks."""
        line = str(invitation)
        self.assertEqual(Invitation.parse(line), invitation)
        self.assertRegex(line, r"^vifibnet1:[a-z2-7]+$")

    @given(invitations, st.data())
    def test_as_mail_programs_write_it(self, invitation: Invitation, data: st.DataObject) -> None:
        """Broken lines, quoting spaces and capitals do no harm."""
        line = str(invitation)
        cuts = sorted(data.draw(st.lists(st.integers(0, len(line)), max_size=5)))
        for cut in reversed(cuts):
            line = line[:cut] + data.draw(st.sampled_from([" ", "\n", "\r\n  ", "\t"])) + line[cut:]
        self.assertEqual(Invitation.parse(line.upper()), invitation)

    @given(invitations, st.data())
    def test_cut_off(self, invitation: Invitation, data: st.DataObject) -> None:
        """A piece of an invitation is refused with a sentence, wherever it was cut."""
        line = str(invitation)
        start = data.draw(st.integers(0, len(line) - 1))
        end = data.draw(st.integers(start, len(line)))
        if line[start:end] != line:
            self.refused(line[start:end])

    @given(invitations, st.data())
    def test_mistyped(self, invitation: Invitation, data: st.DataObject) -> None:
        """One wrong letter is noticed."""
        line = str(invitation)
        where = data.draw(st.integers(len(SCHEME), len(line) - 1))
        wrong = (
            line[:where] + data.draw(st.sampled_from("abcdefghijklmnopqrstuvwxyz234567")) + line[where + 1 :]
        )
        if wrong != line:
            try:
                self.assertEqual(Invitation.parse(wrong), invitation)
            except BadInput:
                return
            # The last letter has bits that nothing is written in.
            self.assertEqual(where, len(line) - 1)

    @given(st.text(max_size=300) | st.text(max_size=300).map(lambda text: SCHEME + text))
    def test_anything(self, text: str) -> None:
        """Whatever is pasted, the answer is a sentence."""
        self.refused(text)

    def test_sentences(self) -> None:
        """What the operator reads."""
        for text, sentence in (
            ("hello", "the invitation: does not begin with vifibnet1:; copy the whole line that vifibnet"
                      " invite printed."),
            ("vifibnet2:abc", "the invitation: is of another version of vifibnet; upgrade this one."),
            (str(ONE)[:-9], "the invitation: is not complete, or something in it was changed; copy the whole"
                            " line again."),
        ):  # fmt: skip
            self.assertEqual(self.refused(text), sentence)

    def test_length(self) -> None:
        """Short enough for one glance at a terminal, and for a QR code."""
        self.assertLess(len(str(ONE)), 150)

    def test_longest(self) -> None:
        """The longest names there can be are read, and as many as one answer holds fit into it."""
        name = ".".join(["x" * 61] * 4) + ".test"
        longest = replace(ONE, addresses=(name,) * MAX_ADDRESSES)
        self.assertEqual(len(name), 252)
        self.assertEqual(Invitation.parse(str(longest)), longest)
        self.assertLess((len(str(longest)) + 2) * MAX_INVITATIONS, 0xFFFF)

    def test_no_secret_in_logs(self) -> None:
        """The token is not shown by accident."""
        self.assertNotIn("00" * 16, repr(ONE))

    def test_what_cannot_be_written(self) -> None:
        """Mistakes of ours are noticed where they are made."""
        for wrong in (
            {"addresses": ()}, {"addresses": ("a b",)}, {"addresses": ("1.2.3.4",) * 9}, {"port": 0},
            {"token": "00"}, {"fingerprint": "00:11"}, {"token": "xy"},
        ):  # fmt: skip
            with self.assertRaises(ValueError, msg=str(wrong)):
                replace(ONE, **wrong)

    def test_canonical(self) -> None:
        """Addresses come back in their usual form."""
        long = replace(ONE, addresses=("2001:0db8:0:0::1",))
        self.assertEqual(Invitation.parse(str(long)).addresses, (str(ip_address("2001:db8::1")),))

    def refused(self, text: str) -> str:
        """The sentence that refuses a text."""
        with self.assertRaises(BadInput) as caught:
            Invitation.parse(text)
        return str(caught.exception)
