"""What ``twistd`` runs as the lab's mail server; the environment says where it listens and what it fills."""

import os
from pathlib import Path

from twisted.application.service import Application
from twisted.internet import reactor

from vifibnet.lab.mailbox import mailbox_service

application = Application("vifibnet lab mailbox")
mailbox_service(reactor, Path(os.environ["LAB_MAILS"]), os.environ["LAB_SMTP"]).setServiceParent(application)
