"""``python -m vifibnet`` is the ``vifibnet`` command."""

from vifibnet.cli.main import main

main()
