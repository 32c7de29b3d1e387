"""What can become a lab, and what a lab remembers."""

from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from tests.directories import short_directory
from vifibnet.errors import BadInput
from vifibnet.lab import settings
from vifibnet.lab.settings import Host, LabSettings, LabState, remove_home
from vifibnet.lab.underlay import check_name


class SettingsTests(SynchronousTestCase):
    """Bad input is refused with the option's name."""

    def test_defaults_are_fine(self) -> None:
        """Nothing needs to be said, but a name that is free."""
        LabSettings(name="nobody-has-this").check()

    def test_refused(self) -> None:
        """One sentence each."""
        occupied = short_directory(self)
        (occupied / "file").touch()
        for bad, option in (
            (LabSettings(name="A"), "--name"),
            (LabSettings(name=""), "--name"),
            (LabSettings(name="a/b"), "--name"),
            (LabSettings(name="-a"), "--name"),
            (LabSettings(name="a" * 40), "--name"),
            (LabSettings(nodes=0), "--nodes"),
            (LabSettings(nodes=1000), "--nodes"),
            (LabSettings(hello=0.0), "--hello"),
            (LabSettings(mtu=1279), "--mtu"),
            (LabSettings(connection_count=-1), "--connection-count"),
            (LabSettings(network="2001:db8::"), "--network"),
            (LabSettings(network="10.0.0.0/8"), "--network"),
            (LabSettings(network="3fff::/32"), "--network"),
            (LabSettings(lan=(6,)), "--lan"),
            (LabSettings(directory=Path("/tmp") / ("x" * 90)), "--dir"),
            (LabSettings(directory=occupied), "--dir"),
            (LabSettings(directory=occupied / "file"), "--dir"),
        ):
            error = self.assertRaises(BadInput, bad.check)
            self.assertTrue(str(error).startswith(option), (bad, str(error)))

    def test_names(self) -> None:
        """No name can be mistaken for a part of another lab's."""
        self.assertEqual(check_name("a-h0"), "a-h0")


class StateTests(SynchronousTestCase):
    """The file that keeps a lab."""

    def setUp(self) -> None:
        """Keep away from the machine's labs."""
        self.run_directory = short_directory(self) / "labs"
        self.patch(settings, "RUN", self.run_directory)

    def state(self, directory: Path | None = None) -> LabState:
        """A lab with two hosts."""
        hosts = [Host(n, f"vifib-x-h{n}", f"192.0.2.{n + 1}") for n in range(2)]
        wanted = LabSettings(name="x", directory=directory, lan=(0, 1), node_options=("verbose 3",))
        return LabState(wanted, {host.name: host for host in hosts})

    def test_round_trip(self) -> None:
        """What was saved is found again by the name, also in a directory of its own."""
        for directory in (None, short_directory(self)):
            state = self.state(directory)
            state.make_home()
            state.change("h1", prefix="5/16", started=1.5)
            loaded = LabState.load("x")
            self.assertEqual(loaded.hosts, state.hosts)
            self.assertEqual(loaded.settings.home, state.settings.home)
            self.assertEqual(loaded.settings.lan, (0, 1))
            self.assertEqual(loaded.settings.node_options, ("verbose 3",))
            remove_home("x")
            self.assertRaises(BadInput, LabState.load, "x")
            self.assertFalse(state.settings.home.exists())
            self.assertFalse(self.run_directory.exists())

    def test_keeps_what_is_not_ours(self) -> None:
        """Only what a lab makes is removed from its directory."""
        state = self.state()
        state.make_home()
        state.save()
        for name in ("h0", "registry", "mail"):
            (state.settings.home / name).mkdir()
            (state.settings.home / name / "file").touch()
        (state.settings.home / "notes").touch()
        remove_home("x")
        self.assertEqual([path.name for path in state.settings.home.iterdir()], ["notes"])

    def test_nothing_to_remove(self) -> None:
        """Removing what is not there is no error."""
        remove_home("x")
