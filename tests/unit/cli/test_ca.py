"""``vifibnet ca`` as the operator types it."""

from __future__ import annotations

import argparse
import contextlib
import io
import os
import shlex
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from vifibnet.cli import ca
from vifibnet.errors import BadInput
from vifibnet.model.addresses import Network
from vifibnet.pki.authority import Authority
from vifibnet.pki.certificates import fingerprint


class CATests(SynchronousTestCase):
    """The command, run in an empty directory."""

    def setUp(self) -> None:
        self.directory = Path(self.mktemp()).absolute()
        self.directory.mkdir()
        self.addCleanup(os.chdir, os.getcwd())
        os.chdir(self.directory)

    def run_ca(self, line: str) -> str:
        """Run it here; what it prints."""
        parser = argparse.ArgumentParser()
        ca.add_arguments(parser)
        with contextlib.redirect_stdout(io.StringIO()) as said:
            try:
                # It waits for nothing, so the first step is the last.
                ca.run(None, parser.parse_args(shlex.split(line))).send(None)
            except StopIteration as ended:
                self.assertEqual(ended.value, 0)
        return said.getvalue()

    def refusal(self, line: str) -> str:
        """The one sentence with which it refuses."""
        with self.assertRaises(BadInput) as caught:
            self.run_ca(line)
        sentence = str(caught.exception)
        self.assertEqual(len(sentence.splitlines()), 1)
        return sentence

    def names(self) -> list[str]:
        return sorted(os.listdir(self.directory))

    def load(self, certificate: str = "ca.crt", key: str = "ca.key") -> Authority:
        return Authority.load(self.directory / certificate, self.directory / key, datetime.now(UTC))

    def test_as_a_process(self) -> None:
        """Exit status and output are those of a good command."""
        command = [sys.executable, "-m", "vifibnet", "ca", "--network", "2001:db8:42::/48"]
        environment = {**os.environ, "PYTHONPATH": str(Path(__file__).absolute().parents[3])}
        for code, lines in ((0, (10, 0)), (1, (0, 1))):
            done = subprocess.run(
                command, env=environment, capture_output=True, text=True, timeout=60, check=False
            )
            self.assertEqual((done.stdout.count("\n"), done.stderr.count("\n")), lines, done)
            self.assertEqual(done.returncode, code)
        self.assertEqual(
            done.stderr, "vifibnet ca: ca.key: exists already; move it away or give another path.\n"
        )
        self.assertEqual(self.names(), ["ca.crt", "ca.key"])

    def test_makes(self) -> None:
        """Two files, the key for us alone, and what to type next."""
        said = self.run_ca("--network 2001:db8:42::/48")
        self.assertEqual(self.names(), ["ca.crt", "ca.key"])
        modes = [(self.directory / name).stat().st_mode & 0o777 for name in self.names()]
        self.assertEqual(modes, [0o644, 0o600])
        authority = self.load()
        self.assertEqual(authority.network, Network.parse("2001:db8:42::/48"))
        self.assertEqual(said.count(fingerprint(authority.certificate)), 1)
        for words in (
            "twistd vifibnet-registry",
            "--ca ca.crt --key ca.key",
            "vifibnet invite",
            "vifibnet setup",
        ):
            self.assertIn(words, said)
        self.assertNotIn("PRIVATE", said)

    def test_options(self) -> None:
        """Every option does what it says."""
        (self.directory / "a b").mkdir()
        said = self.run_ca(
            "--network fd00:1:2::/48 --days 10 --name 'Our net' --email me@example.com --key-type ed25519"
            " --dir 'a b' --key secret.key"
        )
        self.assertIn("--ca 'a b/ca.crt' --key secret.key", said)
        authority = self.load("a b/ca.crt", "secret.key")
        self.assertEqual(type(authority.key).__name__, "Ed25519PrivateKey")
        self.assertEqual([a.value for a in authority.certificate.subject], ["Our net", "me@example.com"])
        left = authority.certificate.not_valid_after_utc - datetime.now(UTC)
        self.assertTrue(timedelta(days=9.9) < left <= timedelta(days=10), left)

    def test_lengths(self) -> None:
        """The shortest and the longest network."""
        for name, network in (("short", "fd00::/8"), ("long", "2001:db8:1:2:3:4::/96")):
            self.run_ca(f"--network {network} --ca {name}.crt --key {name}.key")
            self.assertEqual(str(self.load(f"{name}.crt", f"{name}.key").network), network)

    def test_never_overwrites(self) -> None:
        """Neither file is overwritten, and none appears beside one that was there."""
        self.run_ca("--network 2001:db8:42::/48")
        before = {name: (self.directory / name).read_bytes() for name in self.names()}
        for line, existing in (
            ("", "ca.key"),
            ("--key new.key", "ca.crt"),
            ("--ca new.crt", "ca.key"),
        ):
            sentence = self.refusal(f"--network 2001:db8:42::/48 {line}")
            self.assertEqual(sentence, f"{existing}: exists already; move it away or give another path.")
        self.assertEqual({name: (self.directory / name).read_bytes() for name in self.names()}, before)

    def test_bad_input(self) -> None:
        """One sentence that names the option, and nothing is written."""
        good = "--network 2001:db8:42::/48"
        for line, start in (
            ("", "--network: is missing; "),
            ("--network x", "--network x: "),
            ("--network 2001:db8:42::1/48", "--network 2001:db8:42::1/48: "),
            ("--network 2001:db8::/7", "--network 2001:db8::/7: "),
            ("--network 2001:db8::/97", "--network 2001:db8::/97: "),
            ("--network 10.0.0.0/8", "--network 10.0.0.0/8: "),
            ("--network ff02::/16", "--network ff02::/16: "),
            (f"{good} --days 0", "--days 0: "),
            (f"{good} --days ten", "--days ten: "),
            (f"{good} --days 36501", "--days 36501: "),
            (f"{good} --days=-5", "--days -5: "),
            (f"{good} --name {'x' * 65}", "--name xxx"),
            (f"{good} --email me", "--email me: "),
            (f"{good} --email é@example.com", "--email é@example.com: "),
            (f"{good} --key-type dsa", "--key-type dsa: "),
            (f"{good} --dir none", "none/ca.key: cannot be written (No such file or directory); "),
            (f"{good} --ca none/ca.crt", "none/ca.crt: cannot be written (No such file or directory); "),
            (f"{good} --key none/ca.key", "none/ca.key: cannot be written (No such file or directory); "),
            (f"{good} --ca x --key x", "--ca x: is also the file of --key; "),
            (f"{good} --ca x --key ./x", "--ca x: is also the file of --key; "),
        ):
            sentence = self.refusal(line)
            self.assertTrue(sentence.startswith(start), (line, sentence))
            self.assertEqual(self.names(), [], line)
