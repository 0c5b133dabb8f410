"""Node, and the packages that a folder's lock file names."""

import fcntl
import os
import shutil
import subprocess
from pathlib import Path

import pytest


def install_packages(folder: Path) -> tuple[str, str]:
    """Install the folder's locked packages, unless they are there, and return the paths of `node` and `npm`."""
    node, npm = shutil.which("node"), shutil.which("npm")
    if node is None or npm is None:
        pytest.skip("node or npm is missing")
    installed = folder / "node_modules/.package-lock.json"  # npm writes it last.
    with (folder / "package-lock.json").open() as wanted:
        fcntl.flock(wanted, fcntl.LOCK_EX)  # Another process of the tests may be installing them.
        if not installed.exists() or installed.stat().st_mtime < os.fstat(wanted.fileno()).st_mtime:
            subprocess.run([npm, "ci", "--ignore-scripts", "--no-audit", "--no-fund"], cwd=folder, check=True)
    return node, npm
