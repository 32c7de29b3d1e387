"""Directories for what is named by a unix socket's path, of which the kernel takes 107 bytes (unix(7))."""

from __future__ import annotations

import tempfile
from pathlib import Path
from shutil import rmtree
from unittest import TestCase

SHORT = "/tmp"
"""Where a name is short wherever the checkout lies and whatever TMPDIR says."""


def short_directory(test: TestCase, prefix: str = "vifibnet-") -> Path:
    """A new directory that only its owner may enter; it goes with the test. For every test that makes a unix
    socket or starts what makes one: ``mktemp``'s directories lie in the checkout, at any depth."""
    directory = Path(tempfile.mkdtemp(prefix=prefix, dir=SHORT))
    test.addCleanup(rmtree, directory, ignore_errors=True)
    return directory
