"""What h0 has besides its node: the authority, the registry, the mail server; and how a host joins."""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path

from vifibnet.errors import CommandFailed, VifibnetError
from vifibnet.lab.children import Reactor, run, sleep
from vifibnet.lab.daemons import Daemon, program
from vifibnet.lab.mailbox import mails, read_mail
from vifibnet.lab.settings import Host, LabSettings
from vifibnet.lab.underlay import Underlay
from vifibnet.pki.certificates import Identity, fingerprint, load_cas

PORT = 443
SMTP_PORT = 25


class NoMail(VifibnetError):
    """No mail with a token for {recipient} came within {seconds:.0f} s; {log} may say why."""


class Enrolment:
    """Runs the registry of a lab on h0 and enrols hosts with it, all with the commands an operator types."""

    def __init__(self, reactor: Reactor, settings: LabSettings, underlay: Underlay) -> None:
        self.reactor = reactor
        self.settings = settings
        self.underlay = underlay
        self.directory = settings.home / "registry"
        self.mails = settings.home / "mail"
        self.registry = Daemon(reactor, "registry", self.directory)
        self.mailbox = Daemon(reactor, "mailbox", self.directory)

    async def start(self) -> None:
        """Make the authority of a new network and start both servers."""
        self.directory.mkdir()
        vifibnet = program("vifibnet")
        make = [vifibnet, "ca", "--network", self.settings.network, "--dir", str(self.directory)]
        await run(self.reactor, [*make, "--name", "vifibnet lab", "--days", "30"])
        await self.start_mailbox()
        await self.start_registry()
        if self.settings.follow:
            await self.set(self.settings.parameters)

    async def set(self, parameters: Mapping[str, str]) -> str:
        """Set parameters of the network, as an operator does; returns what is answered."""
        changes = [f"{name}={value}" for name, value in parameters.items()]
        command = [program("vifibnet"), "set", *changes, "--registry", str(self.directory / "registry.db")]
        return (await run(self.reactor, self.underlay.inside(0, command))).output

    async def start_mailbox(self) -> None:
        """Start the mail server."""
        address = self.underlay.address(0).replace(":", r"\:")
        kind = "tcp6" if self.underlay.version == 6 else "tcp"
        where = ["env", f"LAB_MAILS={self.mails}", f"LAB_SMTP={kind}:{SMTP_PORT}:interface={address}"]
        application = str(Path(__file__).with_name("mailbox_app.py"))
        command = self.mailbox.command("--no_save", "--python", application)
        await self.mailbox.start(self.underlay.inside(0, [*where, *command]))

    async def start_registry(self, *more: str) -> None:
        """Start the registry, with more options if need be; also after it was stopped."""
        options = [
            *("--db", "registry.db", "--ca", "ca.crt", "--key", "ca.key"),
            *("--mailhost", self.underlay.address(0), "--mail-port", str(SMTP_PORT)),
            *more,
            *self.settings.registry_options,
        ]
        command = self.registry.command("vifibnet-registry", str(PORT), *options)
        await self.registry.start(self.underlay.inside(0, command))

    async def enrol(self, host: Host, directory: Path, *, boot: bool, timeout: float = 60.0) -> Identity:
        """Let a host join: ask for a token, read it from the mail, fetch certificate and first peer with it.

        Returns who the host is now. Raises CommandFailed when setup does, NoMail without a mail.
        """
        recipient = f"{host.name}@lab.example"
        known = load_cas(self.directory / "ca.crt", "--ca")[0].certificate
        setup = [
            *(program("vifibnet"), "setup", "--server", self.underlay.address(0), "--port", str(PORT)),
            *("--dir", str(directory), "--fingerprint", fingerprint(known)),
            *([] if boot else ["--no-boot"]),
        ]
        setup = self.underlay.inside(host.index, setup)
        deadline = self.reactor.seconds() + timeout
        asked = await run(self.reactor, [*setup, "--email", recipient], check=False)
        while "no peer yet" in asked.errors and self.reactor.seconds() < deadline:
            # The first node has started but not yet told the registry where it is.
            await sleep(self.reactor, 0.3)
            asked = await run(self.reactor, [*setup, "--email", recipient], check=False)
        if "--token" not in asked.errors + asked.output:
            raise CommandFailed(command=" ".join(setup), status=asked.status, output=asked.errors.strip())
        token = await self._token(recipient, deadline)
        await run(self.reactor, [*setup, "--token", token])
        return Identity.load(
            directory / "ca.pem", directory / "cert.crt", directory / "cert.key", datetime.now(UTC)
        )

    async def _token(self, recipient: str, deadline: float) -> str:
        """Wait for the mail to come and take the token out of it."""
        began = self.reactor.seconds()
        while self.reactor.seconds() < deadline:
            for path in reversed(mails(self.mails)):
                to, text = read_mail(path)
                if to == recipient and (match := re.search(r"^Token: (\S+)$", text, re.MULTILINE)):
                    return match[1]
            await sleep(self.reactor, 0.05)
        raise NoMail(recipient=recipient, seconds=self.reactor.seconds() - began, log=self.registry.log)
