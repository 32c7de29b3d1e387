"""The lab's mail server, spoken to by hand."""

from pathlib import Path

from twisted.internet.testing import StringTransport
from twisted.trial.unittest import SynchronousTestCase

from vifibnet.lab.mailbox import MailboxFactory, mails, read_mail


class MailboxTests(SynchronousTestCase):
    """What is sent is kept."""

    def deliver(self, directory: Path, *commands: str) -> list[str]:
        """Speak SMTP (RFC 5321) to a new server; return the codes that it answers with."""
        protocol = MailboxFactory(directory).buildProtocol(None)
        transport = StringTransport()
        protocol.makeConnection(transport)
        for command in commands:
            protocol.dataReceived(command.encode() + b"\r\n")
        protocol.setTimeout(None)
        return [line[:3].decode() for line in transport.value().splitlines() if line[3:4] == b" "]

    def test_keeps(self) -> None:
        """Each mail becomes a file, numbered on, also by a server that was started again."""
        directory = Path(self.mktemp())
        for number in range(2):
            codes = self.deliver(
                directory,
                "EHLO lab",
                "MAIL FROM:<from@lab.example>",
                f"RCPT TO:<h{number}@lab.example>",
                "DATA",
                "Subject: hello",
                "MIME-Version: 1.0",
                "Content-Type: text/plain; charset=utf-8",
                "Content-Transfer-Encoding: 8bit",
                "",
                f"Grüße, number {number}",
                "..",
                "vifibnet setup --token abc",
                ".",
                "QUIT",
            )
            self.assertEqual(codes, ["220", "250", "250", "250", "354", "250", "221"])
        self.assertEqual([path.name for path in mails(directory)], ["0001.eml", "0002.eml"])
        recipient, text = read_mail(mails(directory)[1])
        self.assertEqual(recipient, "h1@lab.example")
        self.assertEqual(text.splitlines(), ["Grüße, number 1", ".", "vifibnet setup --token abc"])

    def test_unfinished(self) -> None:
        """A mail that breaks off is not kept."""
        directory = Path(self.mktemp())
        codes = self.deliver(
            directory,
            "EHLO lab",
            "MAIL FROM:<a@lab.example>",
            "RCPT TO:<b@lab.example>",
            "DATA",
            "Subject: x",
        )
        self.assertEqual(codes[-1], "354")
        self.assertEqual(mails(directory), [])

    def test_nothing_yet(self) -> None:
        """Without a directory there are no mails."""
        self.assertEqual(mails(Path(self.mktemp())), [])
