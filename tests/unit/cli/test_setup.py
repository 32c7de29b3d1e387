"""The options of ``vifibnet setup``, and the configuration that it writes."""

from __future__ import annotations

import argparse
import io
import signal
import sys
from collections.abc import Sequence
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from vifibnet.cli import setup
from vifibnet.cli.options import TwistdArguments
from vifibnet.errors import BadInput
from vifibnet.node.enroll import Enroller, Enrolment
from vifibnet.wire.invitation import Invitation


def parse(*words: str) -> Enrolment:
    """What these words on the command line mean."""
    parser = argparse.ArgumentParser()
    setup.add_arguments(parser)
    return setup.enrolment(parser.parse_args(["--server", "192.0.2.1", "--port", "443", *words]))


INVITATION = Invitation(("192.0.2.1", "r.example"), 8443, ":".join(["ab"] * 32), "cd" * 16)


class OptionTests(SynchronousTestCase):
    """The manual's names and meanings."""

    def test_the_manuals_options(self) -> None:
        """Everything at once, the short names too."""
        wanted = parse(
            *("-d", "x", "-r", "O", "My club", "--req", "emailAddress", "a@b.example"),
            *("--ca-only", "--db-only", "--no-boot"),
        )
        self.assertEqual((wanted.servers, wanted.port, wanted.directory), (("192.0.2.1",), 443, Path("x")))
        self.assertEqual(wanted.attributes, (("O", "My club"), ("emailAddress", "a@b.example")))
        self.assertEqual((wanted.ca_only, wanted.db_only, wanted.boot), (True, True, False))

    def test_defaults(self) -> None:
        """Files go to the current directory; everything is made; a peer is asked for."""
        wanted = parse()
        self.assertEqual(wanted.directory, Path("."))
        self.assertEqual((wanted.ca_only, wanted.db_only, wanted.boot), (False, False, True))
        self.assertEqual((wanted.key_type, wanted.attributes), ("p256", ()))

    def test_unattended(self) -> None:
        """The new options; the fingerprint as openssl prints it."""
        wanted = parse("--fingerprint", ":".join(["AB"] * 32), "--email", " a@b.example ", "--token", "t ")
        self.assertEqual(wanted.fingerprint, ":".join(["ab"] * 32))
        self.assertEqual((wanted.email, wanted.token), ("a@b.example", "t"))

    def test_invitation(self) -> None:
        """An invitation says where, who and with what; what it leaves open may still be given."""
        args = argparse.ArgumentParser()
        setup.add_arguments(args)
        wanted = setup.enrolment(args.parse_args([str(INVITATION), "-d", "x"]))
        self.assertEqual((wanted.servers, wanted.port), (("192.0.2.1", "r.example"), 8443))
        self.assertEqual(wanted.fingerprint, ":".join(["ab"] * 32))
        self.assertEqual((wanted.token, wanted.directory, wanted.invited), ("cd" * 16, Path("x"), True))
        self.patch(sys, "stdin", io.StringIO(f"{INVITATION}\n"))
        self.assertEqual(setup.enrolment(args.parse_args(["-", "-d", "x"])), wanted)
        for words in ([str(INVITATION), "--server", "x"], ["vifibnet1:abc"], [], ["--server", "x"]):
            with self.assertRaises(BadInput, msg=str(words)):
                setup.enrolment(args.parse_args(words))

    def test_bad_input(self) -> None:
        """Each is refused by its name."""
        for word in (
            "--server=no host",
            "--server=-x",
            "--fingerprint=abc",
            "--email=",
            "--token=a\nb",
        ):
            with self.assertRaises(BadInput) as caught:
                parse(word)
            self.assertTrue(str(caught.exception).startswith(word.split("=")[0]), caught.exception)


class ReadBack(TwistdArguments[argparse.Namespace]):
    """An options object with the options that the configuration sets."""

    name = "vifibnet-test"

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        """Only these, so that any other is refused."""
        for option in ("server", "server-port", "ca", "cert", "key", "dh", "state", "log"):
            parser.add_argument(f"--{option}", required=True)

    def validate(self, namespace: argparse.Namespace, rest: Sequence[str]) -> argparse.Namespace:
        """Keep them."""
        return namespace


class ConfigTests(SynchronousTestCase):
    """vifibnet.conf as twistd reads it."""

    @given(
        st.text(st.characters(codec="utf-8"), min_size=1).filter(lambda t: t.isprintable() and "/" not in t)
    )
    def test_any_directory(self, name: str) -> None:
        """Whatever the directory is called, each option comes back with the path of its file."""
        directory = Path("/tmp/" + name) if name not in (".", "..") else Path("/tmp")
        text = Enroller(Clock(), Enrolment(("2001:db8::1",), 443, directory), setup.Console()).config()
        file = Path(self.mktemp())
        file.write_text(text)
        options = ReadBack()
        options.parseOptions([f"@{file}"])
        read = vars(options.config)
        self.assertEqual(
            {option: read[option] for option in ("server", "server_port", "state", "log")},
            {"server": "2001:db8::1", "server_port": "443", "state": str(directory), "log": "/var/log"},
        )
        self.assertEqual(
            [read[option] for option in ("ca", "cert", "key", "dh")],
            [str(directory / file) for file in ("ca.pem", "cert.crt", "cert.key", "dh2048.pem")],
        )


class ConsoleTests(SynchronousTestCase):
    """Questions."""

    def test_no_answer(self) -> None:
        """The end of the input is no answer; Ctrl-C works as before afterwards."""
        self.patch(sys, "stdin", io.StringIO(" yes \n"))
        self.patch(sys, "stdout", io.StringIO())
        before = signal.getsignal(signal.SIGINT)
        console = setup.Console()
        self.assertFalse(console.terminal)
        self.assertEqual(console.ask("? "), "yes")
        with self.assertRaises(setup.NotAnswered):
            console.ask("? ")
        self.assertIs(signal.getsignal(signal.SIGINT), before)
