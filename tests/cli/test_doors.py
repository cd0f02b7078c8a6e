"""What is asked of the command line before any work begins is there without the libraries that work needs."""

import os
import subprocess
import sys

import pytest
from typer.main import get_command
from typer.testing import CliRunner

from recbole_gserec import __version__
from recbole_gserec.cli.main import app

NEVER = ("torch", "recbole", "ray")
OF_WORK = (*NEVER, "matplotlib", "duckdb", "sklearn", "scipy", "pandas", "pyarrow", "numpy")
DOORS = [
    "--help",
    "--version",
    "",
    "convrt",
    "convert --help",
    "convert amazon --help",
    "convert qilin --help",
    "convert kuaisar --help",
    "convert jdsearch --help",
    "convert diginetica --help",
    "convert logs --help",
    "convert logs --inptu=logs",
    "convert ml-100k --help",
    "convert lgs",
    "preprocess --help",
    "preprocess",
    "benchmark --help",
    "benchmark --modle",
    "tune --help",
    "recommend --help",
    "export --help",
    "analyze --help",
    "analyze grups",
    *(f"analyze {name} --help" for name in "groups ablation sensitivity tsne stats user report".split()),
]
CODE = """
import sys
from importlib import import_module

module, *arguments = sys.argv[1:]
sys.argv = [module, *arguments]
try:
    import_module(f"recbole_gserec.cli.{module}").main()
except SystemExit as ended:
    print("\\nstatus", ended.code)
finally:
    print("loaded", *(name for name in sys.modules if "." not in name))
"""
REFUSE = """
import sys
from importlib.machinery import PathFinder

class Refuse:
    # RecBole's files may be looked for.
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in ("torch", "recbole", "ray"):
            spec = PathFinder.find_spec(name, path)
            spec.loader = self
            return spec

    def create_module(self, spec):
        raise RuntimeError(f"{spec.name} is imported")

    def exec_module(self, module):
        pass

sys.meta_path.insert(0, Refuse())
"""


def opened(module, *arguments, folder=None, code=CODE):
    """What a command prints, its exit status and the libraries that it has loaded."""
    path = os.pathsep.join(entry or os.getcwd() for entry in sys.path)
    done = subprocess.run(
        [sys.executable, "-c", code, module, *arguments],
        capture_output=True,
        text=True,
        cwd=folder,
        env={**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": "1"},
        timeout=300,
    )
    printed, _, loaded = done.stdout.rpartition("loaded ")
    assert loaded, done.stderr
    printed, _, status = printed.rpartition("status ")
    return printed + done.stderr, int(status), set(loaded.split())


@pytest.mark.parametrize("arguments", DOORS)
def test_help_and_wrong_uses_load_no_library_of_work(arguments):
    printed, status, loaded = opened("main", *arguments.split())
    is_asked = "--help" in arguments or arguments == "--version"
    assert status == (0 if is_asked else 2), printed
    assert printed.strip()
    # Typer imports pydantic itself for some wrong uses.
    assert not loaded & {*OF_WORK, *(["pydantic"] if is_asked else [])}


@pytest.mark.parametrize("arguments", ["--help", "--nproc=two", "-model=GSERec", "stray"])
def test_run_recbole_too(arguments):
    _, status, loaded = opened("run_recbole", arguments)
    assert status == (0 if arguments == "--help" else 2)
    assert not loaded & set(OF_WORK)


def test_version():
    printed, status, _ = opened("main", "--version")
    assert (printed.strip(), status) == (f"recbole-gserec {__version__}", 0)


@pytest.mark.parametrize("group", [[], ["convert"], ["analyze"]])
def test_the_help_of_a_group_says_of_each_command_what_its_own_help_begins_with(group):
    command = get_command(app)
    for name in group:
        command = command.get_command(None, name)
    shown = CliRunner().invoke(app, [*group, "--help"], env={"COLUMNS": "300"}).output
    for name in command.commands:
        assert f" {name} " in shown
        assert " ".join(command.get_command(None, name).help.split("\n\n")[0].split()) in " ".join(shown.split())


def test_a_conversion_and_its_refusals_load_neither_torch_nor_recbole(tmp_path):
    (tmp_path / "interactions.csv").write_text(
        "user,item,time\n"
        + "".join(f"u{u},i{(u + i) % 5},{1_700_000_000 + 60 * i}\n" for u in range(4) for i in range(5))
    )
    (tmp_path / "searches.csv").write_text(
        "user,query,time,clicked_items\nu0,red shoe,1700000030,i1\nu1,blue,1700000090,\n"
    )
    code = REFUSE + CODE
    printed, status, loaded = opened("main", "convert", "logs", "--input", ".", folder=tmp_path, code=code)
    assert status == 0, printed
    assert (tmp_path / "dataset" / "logs" / "logs.search").is_file()
    assert not loaded & set(NEVER)
    printed, status, loaded = opened("main", "convert", "logs", "--input", "none", folder=tmp_path, code=code)
    assert status == 2 and "error: " in printed
    assert not loaded & set(NEVER)
    printed, status, loaded = opened("main", "convert", "ml-100k", "--seed=-1", folder=tmp_path, code=code)
    assert status == 2 and "seed -1" in printed
    assert not loaded & set(NEVER)


def test_no_module_of_the_converters_needs_torch_or_recbole(fresh_python):
    code = REFUSE + (
        "import importlib, pkgutil, dataset_converters\n"
        "for module in pkgutil.walk_packages(dataset_converters.__path__, 'dataset_converters.'):\n"
        "    importlib.import_module(module.name)\n"
        "from dataset_converters.ml_100k import shipped_ml_100k\n"
        "print(shipped_ml_100k().is_dir(), len(sys.modules.keys() & {'torch', 'recbole', 'ray'}))\n"
    )
    assert fresh_python(code) == "True 0\n"
