"""The two service makers that twistd lists; all they do stands in vifibnet.cli.registry and .node."""

from twisted.application.service import ServiceMaker

registry = ServiceMaker(
    "vifibnet registry",
    "vifibnet.cli.registry",
    "Hand out certificates and introduce the peers of a vifibnet network.",
    "vifibnet-registry",
)

node = ServiceMaker(
    "vifibnet node",
    "vifibnet.cli.node",
    "Keep this machine connected to a vifibnet network.",
    "vifibnet-node",
)
