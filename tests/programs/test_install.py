"""Both ways of installing make twistd list the two plugins and give the two commands."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

ROOT = Path(__file__).resolve().parents[2]


class InstallTests(SynchronousTestCase):
    """pip on a copy of the tracked files, in an environment that holds no trace of this checkout."""

    def setUp(self) -> None:
        """Copy the source; make an environment with our dependencies in reach, but not ourselves."""
        self.place = Path(self.mktemp()).resolve()
        source = self.place / "source"
        for name in self.output("git", "-C", str(ROOT), "ls-files", "-co", "--exclude-standard").splitlines():
            if (ROOT / name).is_file():
                (source / name).parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(ROOT / name, source / name)
        self.output(sys.executable, "-m", "venv", str(self.place / "env"))
        self.bin = self.place / "env" / "bin"
        # A .pth file inside a directory that a .pth file names is not read: ours stays out.
        (site,) = (self.place / "env").glob("lib/python*/site-packages")
        (site / "dependencies.pth").write_text(sysconfig.get_path("purelib") + "\n")

    def output(self, *command: str) -> str:
        """Run a command away from the checkout and return what it printed."""
        cwd = self.place if self.place.exists() else None
        # Where trial's workers find this checkout.
        env = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
        done = subprocess.run(
            command, capture_output=True, text=True, cwd=cwd, env=env, timeout=300, check=False
        )
        self.assertEqual(done.returncode, 0, f"{command}: {done.stdout}{done.stderr}")
        return done.stdout

    def plugins(self) -> str:
        """What twistd lists; the environment has its own interpreter, but not its own twistd script."""
        run = "from twisted.scripts.twistd import run; run()"
        return self.output(str(self.bin / "python"), "-c", run, "--help")

    def check(self, *options: str) -> None:
        """Nothing before the installation; the plugins and the commands after it."""
        self.assertNotIn("vifibnet-node", self.plugins())
        self.output(
            str(self.bin / "python"),
            "-m",
            "pip",
            "install",
            "-q",
            "--no-deps",
            *options,
            str(self.place / "source"),
        )
        self.assertIn("vifibnet-node", self.plugins())
        self.assertIn("vifibnet-registry", self.plugins())
        self.assertIn("vifibnet 0.1.0", self.output(str(self.bin / "vifibnet"), "--version"))
        self.assertTrue((self.bin / "vifibnet-setup").exists())

    def test_plain(self) -> None:
        """``pip install .``"""
        self.check()

    def test_editable(self) -> None:
        """``pip install -e .``"""
        self.check("-e")
