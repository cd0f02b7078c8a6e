"""Tests on every Python, RecBole and set of dependencies that is supported.

``nox`` runs all, ``nox -s tests-3.12`` one, ``nox -s tests-3.12 -- -k gserec`` part of one. TORCH_OPTIONS chooses the
build of PyTorch as in the Makefile.
"""

from __future__ import annotations

import os
import shlex
import tomllib
from pathlib import Path

import nox

nox.needs_version = ">=2024.4.15"
nox.options.error_on_missing_interpreters = False

HERE = Path(__file__).parent
PROJECT = tomllib.loads((HERE / "pyproject.toml").read_text(encoding="utf-8"))["project"]
PINS = (HERE / "constraints.txt").read_text(encoding="utf-8").splitlines()
PYTHON, PYTHONS = "3.11", ["3.11", "3.12", "3.13"]
# As in the Makefile.
TESTS = ("-m", "not slow", "-q", "-n", "2", "--dist", "loadfile")


def install(session: nox.Session, *arguments: str) -> None:
    """Install PyTorch alone and first, which keeps its build, and then the rest."""
    torch = next(pin for pin in PINS if pin.startswith("torch=="))
    session.install(torch, *shlex.split(os.environ.get("TORCH_OPTIONS", "")))
    session.install(torch, *arguments)


def run_tests(session: nox.Session) -> None:
    """The fast tests, or what was asked for on the command line."""
    session.run("pytest", *TESTS, *session.posargs, env={"OMP_NUM_THREADS": "1"})


@nox.session(python=PYTHONS)
def tests(session: nox.Session) -> None:
    """The pinned versions."""
    install(session, "-c", "constraints.txt", "-e", ".[dev]")
    run_tests(session)


@nox.session(python=PYTHON)
def recbole_1_2_1(session: nox.Session) -> None:
    """RecBole 1.2.1, which asks for a Ray that does not work with NumPy 2."""
    install(session, "-c", "constraints.txt", "-e", ".[dev]")
    session.install("--no-deps", "recbole==1.2.1")
    run_tests(session)


@nox.session(python=PYTHON)
def newest(session: nox.Session) -> None:
    """The newest versions that the package allows."""
    install(session, "--upgrade", "-e", ".[dev]")
    run_tests(session)


@nox.session(python=PYTHON)
def lowest(session: nox.Session) -> None:
    """The lowest versions that the package allows, of all but PyTorch."""
    pins = Path(session.create_tmp()) / "lowest.txt"
    ranges = [line.split(",")[0] for line in PROJECT["dependencies"] if not line.startswith("torch>")]
    pins.write_text("".join(f"{line.split('[')[0].split('>')[0]}=={line.split('>=')[1]}\n" for line in ranges))
    install(session, "-c", str(pins), "-e", ".[dev]")
    run_tests(session)


@nox.session(python=PYTHON)
def wheel(session: nox.Session) -> None:
    """The wheel and the source distribution are built, and the wheel works outside of the checkout."""
    dist = Path(session.create_tmp()) / "dist"
    session.install("build")
    session.run("python", "-m", "build", "--outdir", str(dist))
    built = max(dist.glob("*.whl"), key=lambda path: path.stat().st_mtime)
    install(session, "-c", "constraints.txt", str(built))
    session.chdir(session.create_tmp())
    session.run("gserec", "--help", silent=True)
    session.run("run_recbole", "--model=GSERec", "--epochs=1", "--rq_epochs=2", "--rq_warmup_epochs=0")


@nox.session(python=PYTHON)
def lint(session: nox.Session) -> None:
    """Style and types; the documentation builds without a warning."""
    install(session, "-c", "constraints.txt", "-e", ".[dev]")
    session.run("ruff", "check", ".")
    session.run("ruff", "format", "--check", ".")
    session.run("mypy")
    session.run("mkdocs", "build", "--strict", "--site-dir", session.create_tmp())
