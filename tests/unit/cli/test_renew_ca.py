"""What ``vifibnet renew-ca`` says."""

from __future__ import annotations

import argparse

from twisted.trial.unittest import SynchronousTestCase

from vifibnet.cli import renew_ca
from vifibnet.cli.ca import days
from vifibnet.errors import BadInput

MADE = {
    "fingerprint": "ab:cd", "signs_from": 1.8e9, "end": 2.1e9, "old_end": 1.81e9,
    "ca": "/etc/my ca.crt", "key": "/etc/ca.key",
}  # fmt: skip


class RenewCATests(SynchronousTestCase):
    """Options and report."""

    def test_defaults(self) -> None:
        """Nothing has to be given."""
        parser = argparse.ArgumentParser()
        renew_ca.add_arguments(parser)
        args = parser.parse_args([])
        self.assertEqual((args.new_key, args.days, args.wait), (False, "3650", "30d"))
        self.assertRaises(BadInput, days, "0")

    def test_report(self) -> None:
        """It names all times, and the files that changed."""
        said = renew_ca.report(True, MADE)
        for words in ("ab:cd", "signs from 2027-01-15", "until 2036-07-18", "lasts until 2027-05-11"):
            self.assertIn(words, said)
        self.assertIn("Keep a copy of '/etc/my ca.crt' and /etc/ca.key in", said)
        self.assertIn("Keep a copy of '/etc/my ca.crt' in", renew_ca.report(False, MADE))
        self.assertNotIn("copy", renew_ca.report(False, {**MADE, "ca": "", "key": ""}))
