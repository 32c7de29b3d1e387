"""The words that silence babel on a tap; that they work is shown with real daemons."""

from twisted.trial.unittest import SynchronousTestCase

from vifibnet.node.drain import rules


class RulesTests(SynchronousTestCase):
    """One transaction for nft."""

    def test_none(self) -> None:
        """Nothing silenced: no table, whether there was one or not."""
        self.assertEqual(rules([]), "add table inet vifibnet_drain\ndelete table inet vifibnet_drain\n")

    def test_some(self) -> None:
        """Both directions of babel on each tap, and nothing else."""
        lines = rules(["vifc1", "vifc0"]).splitlines()
        self.assertEqual(
            lines[2:],
            [
                "add table inet vifibnet_drain",
                "add chain inet vifibnet_drain input { type filter hook input priority 0; }",
                'add rule inet vifibnet_drain input iifname "vifc0" udp dport 6696 drop',
                'add rule inet vifibnet_drain input iifname "vifc1" udp dport 6696 drop',
                "add chain inet vifibnet_drain output { type filter hook output priority 0; }",
                'add rule inet vifibnet_drain output oifname "vifc0" udp dport 6696 drop',
                'add rule inet vifibnet_drain output oifname "vifc1" udp dport 6696 drop',
            ],
        )
