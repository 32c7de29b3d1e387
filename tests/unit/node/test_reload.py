"""What a change of a node's options comes to."""

from __future__ import annotations

from dataclasses import fields, replace
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from tests.unit.node.fakes import config, endpoint
from vifibnet.model.following import Step
from vifibnet.model.parameters import PARAMETERS
from vifibnet.node.config import NodeConfig
from vifibnet.node.reload import TAKES, Takes, reload, todo

BASE = config(Path("/x"), hello=1.0)


class ReloadTests(SynchronousTestCase):
    """Pure functions."""

    def test_complete(self) -> None:
        """Of every option it is said what a change takes."""
        known = {*TAKES, *(each.field for each in PARAMETERS.values()), "given"}
        self.assertEqual({each.name for each in fields(NodeConfig)}, known)

    def test_nothing(self) -> None:
        """The same is the same."""
        found = reload(BASE, replace(BASE))
        self.assertEqual((found.config, found.changed, found.refused), (BASE, (), ()))

    def test_some(self) -> None:
        """What can be followed is, the rest stays, and both are called what the operator calls them."""
        new = replace(
            BASE,
            ip=(endpoint(1),),
            interfaces=("eth0",),
            state=Path("/y"),
            pp=((1195, "udp"),),
            hello=0.5,
            openvpn_args=("--verb", "4"),
            given=frozenset({"hello"}),
        )
        found = reload(BASE, new)
        self.assertEqual(found.config, replace(new, state=BASE.state, pp=BASE.pp))
        self.assertEqual(found.changed, ("--ip", "--interface", "--hello", "-- ARGUMENTS"))
        self.assertEqual(found.refused, ("--state", "--pp"))

    def test_registry(self) -> None:
        """It may be elsewhere; but what a node makes only for a registry takes another start."""
        here, none = (
            replace(BASE, server="a.example", server_port=1),
            replace(BASE, server=None, server_port=0),
        )
        there = replace(here, server="b.example", server_port=2)
        self.assertEqual(reload(here, there).config, there)
        for old, new in ((here, none), (none, here)):
            found = reload(old, new)
            self.assertEqual((found.config, found.refused), (old, ("--server", "--server-port")))

    def test_given_no_more(self) -> None:
        """An option that was taken out follows the network again, though its value is the default's."""
        given = replace(BASE, given=frozenset({"mtu"}))
        self.assertEqual(reload(given, BASE).changed, ("--mtu",))

    def test_todo(self) -> None:
        """Only what the change concerns is started anew."""
        for option, steps in (
            ({"interfaces": ("eth0",)}, [Step.TELL_BABELD]),
            ({"wireless": True}, [Step.TELL_BABELD]),
            ({"openvpn_args": ("--verb", "4")}, [Step.REPLACE]),
            ({"verbose": 2}, [Step.TELL_BABELD, Step.REPLACE]),
            ({"verbose": 2, "hello": 2.0}, [Step.TELL_BABELD, Step.RESTART_BABELD, Step.REPLACE]),
            ({"ip": (endpoint(1),), "fresh_key": True, "peers_db_refresh": 5.0}, []),
            ({"refresh_rate": 1.0}, [Step.PLAN]),
        ):
            changed: NodeConfig = replace(BASE, **option)
            self.assertEqual(list(todo(BASE, changed)), steps)
        for name, takes in TAKES.items():
            if takes in (Takes.NODE, Takes.NOTHING):
                self.assertEqual(todo(BASE, replace(BASE, **{name: "other"})), ())  # type: ignore[arg-type]
