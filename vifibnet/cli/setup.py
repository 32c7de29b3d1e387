"""``vifibnet setup``: join a network, with the options of the manual's setup.py."""

from __future__ import annotations

import argparse
import os
import signal
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

from vifibnet.cli.options import port_number
from vifibnet.errors import BadInput, VifibnetError
from vifibnet.node.enroll import Enroller, Enrolment, TokenSent
from vifibnet.pki.certificates import normal_fingerprint
from vifibnet.pki.requests import KEY_TYPES
from vifibnet.wire.endpoints import is_host
from vifibnet.wire.invitation import Invitation


class NotAnswered(VifibnetError):
    """There was no answer: run the same command again to go on from here."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The manual's options with their names, and what is needed to run without anybody watching."""
    add = parser.add_argument
    add("invitation", nargs="?", metavar="INVITATION",
        help="what vifibnet invite printed, instead of --server, --port, --fingerprint and --token;"
             " - reads it from standard input")  # fmt: skip
    add("--server", metavar="ADDRESS", help="address of the machine running the registry")
    add("--port", type=port_number, help="port to connect to on that machine")
    add("-d", "--dir", default=".", metavar="DIRECTORY",
        help="where to store ca.pem, peers.db, cert.key, cert.crt, dh2048.pem and vifibnet.conf;"
             " default: the current directory")  # fmt: skip
    add("-r", "--req", nargs=2, action="append", default=[], metavar=("NAME", "VALUE"),
        help="an attribute for the certificate's subject, e.g. O 'My club'; can be repeated")  # fmt: skip
    add("--ca-only", action="store_true", help="stop after downloading the CA")
    add("--db-only", action="store_true", help="stop after making the peer database")
    add("--no-boot", action="store_true", help="make the peer database without asking for a first peer")
    add("--email", help="the address to have a token sent to; asked for on a terminal")
    add("--token", help="the token from the mail; asked for on a terminal")
    add("--fingerprint", metavar="SHA256",
        help="the SHA-256 fingerprint of the CA; without it, compare the one that is shown")  # fmt: skip
    add("--key-type", choices=KEY_TYPES, default=KEY_TYPES[0],
        help="the type of a new key; default: %(default)s")  # fmt: skip
    parser.epilog = (
        "With an invitation nothing is asked. Files that are there already are kept and used. The exit status"
        f" is 0 when everything is there, {os.EX_TEMPFAIL} when a token was sent and has to be given with"
        " --token, 130 after Ctrl-C, 1 after any other failure."
    )


def enrolment(args: argparse.Namespace) -> Enrolment:
    """Make the validated config object of what was parsed. Raises BadInput."""
    invitation = _invitation(args)
    if invitation is None:
        for option in ("server", "port"):
            if getattr(args, option) is None:
                raise BadInput(f"--{option}", "missing", "give it, or an invitation")
        if not is_host(args.server):
            raise BadInput(f"--server {args.server}", "neither an IP address nor a name", "give one of them")
    for option in ("email", "token"):
        value = getattr(args, option)
        if value is not None and not (value.strip() and value.isprintable()):
            raise BadInput(f"--{option}", "empty or unprintable", f"give the {option} or leave it out")
    wanted = Enrolment(
        servers=(args.server,),
        port=args.port,
        directory=Path(args.dir),
        attributes=tuple((name, value) for name, value in args.req),
        fingerprint=None if args.fingerprint is None else normal_fingerprint(args.fingerprint),
        email=args.email and args.email.strip(),
        token=args.token and args.token.strip(),
        key_type=args.key_type,
        ca_only=args.ca_only,
        db_only=args.db_only,
        boot=not args.no_boot,
    )
    if invitation is None:
        return wanted
    return replace(
        wanted,
        servers=invitation.addresses,
        port=invitation.port,
        fingerprint=normal_fingerprint(invitation.fingerprint),
        token=invitation.token,
        invited=True,
    )


def _invitation(args: argparse.Namespace) -> Invitation | None:
    """The invitation, if one was given. Raises BadInput, also beside options that it stands for."""
    if args.invitation is None:
        return None
    for option in ("server", "port", "fingerprint", "email", "token"):
        if getattr(args, option) is not None:
            raise BadInput(f"--{option}", "given beside an invitation", "leave one of them out")
    return Invitation.parse(sys.stdin.read() if args.invitation == "-" else args.invitation)


class Console:
    """The operator at standard input and output (node.dialogue)."""

    def __init__(self) -> None:
        self.terminal = sys.stdin is not None and sys.stdin.isatty() and sys.stdout.isatty()

    def say(self, line: str) -> None:
        """Show a line at once, also through a pipe."""
        print(line, flush=True)

    def ask(self, question: str) -> str:
        """Ask, and block until the answer is there.

        Nothing else is going on meanwhile: each call to the registry has closed its connection. The
        reactor's own handler of Ctrl-C would not end the wait for a line, so Python's is put in its place.
        """
        handler = signal.signal(signal.SIGINT, signal.default_int_handler)
        try:
            return input(question).strip()
        except EOFError:
            print()
            raise NotAnswered from None
        except KeyboardInterrupt:
            print()
            raise
        finally:
            signal.signal(signal.SIGINT, handler)


async def run(reactor: Any, args: argparse.Namespace) -> int:
    """Set up; the status to exit with."""
    try:
        await Enroller(reactor, enrolment(args), Console()).run()
    except TokenSent as sent:
        print(f"vifibnet setup: {sent}", file=sys.stderr)
        return os.EX_TEMPFAIL
    return 0
