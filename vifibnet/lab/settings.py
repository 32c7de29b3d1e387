"""What a lab is made of: its settings, its hosts, and the file that keeps both while it is up."""

from __future__ import annotations

import json
import os
import re
import shutil
from contextlib import suppress
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import Any

from vifibnet.errors import BadAddress, BadInput
from vifibnet.files import write_atomically
from vifibnet.lab.underlay import MAX_HOSTS, check_name, overlaps_underlay
from vifibnet.model.addresses import Network

RUN = Path("/run/vifibnet-lab")
"""Where a lab is found by its name: its directory, or a link to it."""

LAB_FILE = "lab.json"
_OURS = re.compile(r"lab\.json|mail|mailbox|registry|h\d+")
_LONGEST = len("/h199/vifs9.sock.tmp12")
PROTOCOLS = ("udp", "tcp-server")


@dataclass(frozen=True)
class LabSettings:
    """How a lab is to be. ``directory`` None is ``/run/vifibnet-lab/NAME``; ``lan`` are hosts' numbers;
    ``follow``: hello, connection count and MTU are set as parameters of the network, not for each node."""

    name: str = "lab"
    directory: Path | None = None
    nodes: int = 6
    connection_count: int = 2
    hello: float = 1.0
    network: str = "2001:db8:42::/48"
    proto: str = "udp"
    mtu: int = 1400
    underlay: int = 4
    lan: tuple[int, ...] = ()
    node_options: tuple[str, ...] = ()
    follow: bool = False
    registry_options: tuple[str, ...] = ()

    def check(self) -> LabSettings:
        """Return self. Raises BadInput for what cannot become a lab."""
        check_name(self.name)
        if not 1 <= self.nodes <= MAX_HOSTS:
            raise BadInput("--nodes", f"{self.nodes} is out of range", f"give 1 to {MAX_HOSTS}")
        if not 0.05 <= self.hello <= 600:
            raise BadInput("--hello", f"{self.hello:g} is out of range", "give 0.05 to 600 seconds")
        if not 1280 <= self.mtu <= 1434:
            raise BadInput("--mtu", f"{self.mtu} is out of range", "give 1280 to 1434: the underlay has 1500")
        if not 0 <= self.connection_count <= 200:
            raise BadInput("--connection-count", f"{self.connection_count} is out of range", "give 0 to 200")
        try:
            Network.parse(self.network)
        except BadAddress as error:
            raise BadInput("--network", str(error), "give one such as 2001:db8:42::/48") from None
        if overlaps_underlay(self.network):
            raise BadInput("--network", "overlaps the lab's underlay 3fff::/64", "choose another")
        if bad := [host for host in self.lan if not 0 <= host < self.nodes]:
            raise BadInput("--lan", f"h{bad[0]} is none of the {self.nodes} hosts", "name hosts of the lab")
        path = self.home
        if len(os.fsencode(path)) + _LONGEST > 107:
            raise BadInput("--dir", "too long for the unix sockets in it", "give a path under 80 characters")
        if path.exists() and (not path.is_dir() or any(path.iterdir())):
            raise BadInput("--dir", f"{path} is there and not empty", "give a new or empty directory")
        return self

    @property
    def parameters(self) -> dict[str, str]:
        """What the whole network has in common, by the names of its parameters."""
        return {
            "hello": f"{self.hello:g}",
            "connection-count": str(self.connection_count),
            "mtu": str(self.mtu),
        }

    @property
    def home(self) -> Path:
        """The lab's directory."""
        return (self.directory or RUN / self.name).absolute()


@dataclass(frozen=True)
class Host:
    """One host of a lab; what follows ``underlay`` is known when it has been enrolled.

    ``started`` is when its node was last started (seconds since the epoch), ``seconds_to_all`` how long
    after that every other node had answered it.
    """

    index: int
    namespace: str
    underlay: str
    prefix: str = ""
    address: str = ""
    subnet: str = ""
    started: float | None = None
    seconds_to_all: float | None = None

    @property
    def name(self) -> str:
        """``h0`` onwards."""
        return f"h{self.index}"


@dataclass
class LabState:
    """What a lab knows of itself from one command to the next; saved in its directory."""

    settings: LabSettings
    hosts: dict[str, Host] = field(default_factory=dict)
    seconds: float | None = None
    """How long it took to come up."""

    def change(self, name: str, **changes: Any) -> Host:
        """Change what is known of a host, and save."""
        self.hosts[name] = replace(self.hosts[name], **changes)
        self.save()
        return self.hosts[name]

    def is_there(self) -> bool:
        """Whether a lab of this name has a directory, this one or another."""
        return os.path.lexists(RUN / self.settings.name)

    def make_home(self) -> None:
        """Make the lab's directory, and the link by which its name finds it."""
        home = self.settings.home
        home.mkdir(parents=True, exist_ok=True)
        RUN.mkdir(exist_ok=True)
        if home != RUN / self.settings.name:
            (RUN / self.settings.name).symlink_to(home)

    def save(self) -> None:
        """Write the file."""
        settings = {**asdict(self.settings), "directory": str(self.settings.home)}
        content = {
            "settings": settings,
            "seconds": self.seconds,
            "hosts": [asdict(host) for host in self.hosts.values()],
        }
        write_atomically(
            self.settings.home / LAB_FILE, json.dumps(content, indent=1).encode(), overwrite=True
        )

    @classmethod
    def load(cls, name: str) -> LabState:
        """Read what the lab of this name saved. Raises BadInput when there is none."""
        path = RUN / check_name(name) / LAB_FILE
        try:
            content = json.loads(path.read_text())
        except FileNotFoundError:
            remedy = f"start it with vifibnet lab up --name {name}"
            raise BadInput("--name", f"no lab named {name} is up", remedy) from None
        saved = content["settings"]
        settings = LabSettings(
            **{
                **saved,
                "directory": Path(saved["directory"]),
                "lan": tuple(saved["lan"]),
                "node_options": tuple(saved["node_options"]),
                "registry_options": tuple(saved["registry_options"]),
            }
        )
        hosts = [Host(**{f.name: entry[f.name] for f in fields(Host)}) for entry in content["hosts"]]
        return cls(settings, {host.name: host for host in hosts}, content["seconds"])


def remove_home(name: str) -> None:
    """Remove a lab's directory: what the lab put there, and nothing else."""
    link = RUN / check_name(name)
    home = link.resolve()
    if link.exists():
        for entry in home.iterdir():
            if _OURS.fullmatch(entry.name):
                if entry.is_dir() and not entry.is_symlink():
                    shutil.rmtree(entry)
                else:
                    entry.unlink()
        # Somebody may have put something of their own there, which stays.
        with suppress(OSError):
            home.rmdir()
    if link.is_symlink():
        link.unlink()
    with suppress(OSError):
        RUN.rmdir()
