"""The provenance of a run: library versions, the state of the code in git, the machine, and peak memory."""

from __future__ import annotations

import hashlib
import os
import platform
import re
import subprocess
import sys
from functools import cache
from pathlib import Path
from typing import Any

import psutil

import recbole_gserec
from recbole_gserec.versions import installed_versions

PACKAGES = ("recbole", "torch", "numpy", "pandas", "scipy", "scikit-learn", "pyarrow", "ray")


def provenance() -> dict[str, Any]:
    """Return ``versions``, ``python``, ``git`` and ``machine`` for a run's record."""
    return {
        "versions": {"recbole-gserec": recbole_gserec.__version__, **installed_versions(PACKAGES)},
        "python": platform.python_version(),
        "git": git_state(Path(recbole_gserec.__file__)),
        "machine": {
            "cpu": _cpu(),
            "cores": os.cpu_count(),
            "memory_bytes": psutil.virtual_memory().total,
        },
    }


def git_state(file: Path) -> dict[str, Any]:
    """Return the commit of a file, whether tracked files differ from it, and a digest of the differences.

    All are None without git, and for a file that git does not track, such as an installed one.
    """
    # An environment may lie inside a repository that is unrelated to the installed packages.
    if _git(file, "ls-files", "--error-unmatch", file.name) is None:
        return {"commit": None, "dirty": None, "changes": None}
    changes = _git(file, "diff", "--no-ext-diff", "HEAD")
    digest = hashlib.sha256(changes.encode()).hexdigest()[:12] if changes else None
    return {
        "commit": _git(file, "rev-parse", "HEAD"),
        "dirty": None if changes is None else bool(changes),
        "changes": digest,
    }


def peak_memory_bytes() -> int:
    """Return the peak physical memory of this process."""
    try:
        # Not getrusage: it includes the memory that the process held before it executed another program.
        status = Path("/proc/self/status").read_text(encoding="ascii", errors="replace")
    except OSError:
        status = ""
    if found := re.search(r"^VmHWM:\s*(\d+) kB", status, re.MULTILINE):
        return int(found[1]) * 1024
    try:
        import resource
    except ImportError:
        return psutil.Process().memory_info().peak_wset  # type: ignore[attr-defined]  # on Windows alone
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def _git(file: Path, *arguments: str) -> str | None:
    command = ["git", "-C", str(file.parent), "--no-optional-locks", *arguments]
    try:
        done = subprocess.run(command, capture_output=True, text=True, errors="replace", timeout=60, check=True)
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip()


@cache
def _cpu() -> str:
    try:
        names = re.findall(r"^model name\s*:\s*(.+)$", Path("/proc/cpuinfo").read_text(), re.MULTILINE)
    except OSError:
        names = []
    return names[0] if names else platform.processor() or platform.machine()
