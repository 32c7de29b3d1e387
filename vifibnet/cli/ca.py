"""``vifibnet ca``: make the certificate authority of a new network."""

from __future__ import annotations

import argparse
import re
import shlex
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from cryptography import x509

from vifibnet.errors import BadAddress, BadInput
from vifibnet.files import NewFile, write_together
from vifibnet.model.addresses import Network
from vifibnet.pki.authority import create_authority
from vifibnet.pki.certificates import fingerprint
from vifibnet.pki.requests import KEY_TYPES

MAX_DAYS = 36500
"""A hundred years."""


@dataclass(frozen=True)
class CAConfig:
    """The options of ``vifibnet ca``, validated."""

    network: Network
    days: int
    name: str | None
    email: str | None
    key_type: str
    ca: Path
    key: Path


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options; their values are judged by ``configuration``, in one sentence."""
    parser.add_argument(
        "--network",
        metavar="PREFIX/LENGTH",
        help="the IPv6 network of the VPN, 8 to 96 bits long, e.g. 2001:db8:42::/48",
    )
    parser.add_argument(
        "--days",
        default="3650",
        help="how long the authority, and so the network, lives (default: %(default)s)",
    )
    parser.add_argument("--name", help="the authority's common name (default: vifibnet and the network)")
    parser.add_argument("--email", help="the operator's e-mail address, for the certificate's subject")
    parser.add_argument(
        "--dir", default=".", help="the directory for ca.crt and ca.key (default: the current one)"
    )
    parser.add_argument("--ca", metavar="FILE", help="where to write the certificate (default: DIR/ca.crt)")
    parser.add_argument("--key", metavar="FILE", help="where to write the private key (default: DIR/ca.key)")
    parser.add_argument(
        "--key-type",
        default=KEY_TYPES[0],
        metavar="TYPE",
        help=f"one of {', '.join(KEY_TYPES)} (default: %(default)s)",
    )


async def run(_reactor: object, args: argparse.Namespace) -> int:
    """Make the authority and say what to do with it. Raises BadInput, and then nothing was written."""
    config = configuration(args)
    key, certificate = create_authority(
        config.network,
        name=config.name,
        email=config.email,
        days=config.days,
        now=datetime.now(UTC),
        key_type=config.key_type,
    )
    write_together([NewFile(config.key, key, 0o600), NewFile(config.ca, certificate)])
    print(report(config, x509.load_pem_x509_certificate(certificate)))
    return 0


def configuration(args: argparse.Namespace) -> CAConfig:
    """Judge the options. Raises BadInput naming the one that is wrong."""
    directory = Path(args.dir)
    if args.email is not None and not re.fullmatch(r"[^@\s]+@[^@\s]+", args.email):
        raise BadInput(f"--email {args.email}", "is no e-mail address", "give one such as you@example.com")
    config = CAConfig(
        network=_network(args.network),
        days=days(args.days),
        name=args.name,
        email=args.email,
        key_type=args.key_type,
        ca=Path(args.ca) if args.ca else directory / "ca.crt",
        key=Path(args.key) if args.key else directory / "ca.key",
    )
    if config.ca == config.key:
        raise BadInput(f"--ca {config.ca}", "is also the file of --key", "give two different files")
    return config


def report(config: CAConfig, certificate: x509.Certificate) -> str:
    """What was made, and what to type next."""
    ca, key = shlex.quote(str(config.ca)), shlex.quote(str(config.key))
    seal = fingerprint(certificate)
    return f"""\
The network {config.network} has a certificate authority until {certificate.not_valid_after_utc:%Y-%m-%d}.
  {config.ca}  its certificate, for everybody
  {config.key}  its private key: whoever has it owns the network; keep a copy in a safe place
SHA-256 fingerprint of {config.ca}, by which nodes recognize their network:
  {seal}
Next, start the registry here:
  twistd vifibnet-registry 8443 --db registry.db --ca {ca} --key {key} --mailhost localhost
then, for each machine that is to join, make an invitation here and use it there:
  vifibnet invite --anonymous --registry registry.db
  vifibnet setup --dir /var/lib/vifibnet INVITATION"""


def _network(text: str | None) -> Network:
    remedy = "give an IPv6 network of 8 to 96 bits such as 2001:db8:42::/48"
    if text is None:
        raise BadInput("--network", "is missing", remedy)
    try:
        return Network.parse(text)
    except BadAddress:
        raise BadInput(
            f"--network {text}", "is no network of 8 to 96 bits, or has bits behind them", remedy
        ) from None


def days(text: str) -> int:
    """The value of ``--days``. Raises BadInput."""
    if not (text.isascii() and text.isdigit() and len(text) < 9 and 0 < int(text) <= MAX_DAYS):
        raise BadInput(f"--days {text}", "is no number of days", f"give a whole number from 1 to {MAX_DAYS}")
    return int(text)
