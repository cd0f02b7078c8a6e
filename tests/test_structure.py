"""The structure of the source tree: which file may import what, and how large files and packages are."""

import ast
import importlib
from collections import Counter, defaultdict
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGES = ("recbole_gserec", "dataset_converters")
COMMON_STEMS = {"__init__", "base", "report"}


def module_of(path: Path) -> str:
    return ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


FILES = {module_of(path): path for package in PACKAGES for path in sorted((ROOT / package).rglob("*.py"))}
TREES = {module: ast.parse(path.read_text(encoding="utf-8")) for module, path in FILES.items()}


def imports_of(module: str) -> list[tuple[str, str]]:
    """The module and the name of everything of this project that a module imports, at the top or within a function."""
    return [
        (node.module, alias.name)
        for node in ast.walk(TREES[module])
        if isinstance(node, ast.ImportFrom) and node.module and node.module.partition(".")[0] in PACKAGES
        for alias in node.names
    ]


def exports_of(package: str) -> dict[str, str]:
    """The module that each name of a package's ``__init__.pyi`` comes from."""
    stub = FILES[package].with_suffix(".pyi")
    if not stub.is_file():
        return {}
    nodes = [node for node in ast.parse(stub.read_text(encoding="utf-8")).body if isinstance(node, ast.ImportFrom)]
    return {alias.name: f"{package}.{node.module}" for node in nodes for alias in node.names}


def targets_of(module: str) -> set[str]:
    """The modules that a module imports, with names of a package's face followed to where they are defined."""
    found = set()
    for source, name in imports_of(module):
        inner = f"{source}.{name}"
        found.add(inner if inner in FILES else exports_of(source).get(name, source) if source in FILES else source)
    return found - {module}


def is_package(module: str) -> bool:
    return FILES[module].name == "__init__.py"


def test_no_file_is_short_and_has_one_importer():
    importers = defaultdict(set)
    for module in FILES:
        for target in targets_of(module):
            importers[target].add(module)
    short = {module for module, path in FILES.items() if len(path.read_text(encoding="utf-8").splitlines()) < 40}
    assert not {module for module in short if not is_package(module) and len(importers[module]) == 1}


def test_no_package_has_more_than_twenty_files():
    counts = Counter(module.rpartition(".")[0] for module in FILES if not is_package(module))
    assert not {package: count for package, count in counts.items() if count > 20}


def test_no_two_files_have_one_name():
    stems = Counter(path.stem for path in FILES.values())
    assert not {stem for stem, count in stems.items() if count > 1} - COMMON_STEMS


def test_imports_take_few_lines():
    lines = sum(len(path.read_text(encoding="utf-8").splitlines()) for path in FILES.values())
    statements = sum(
        isinstance(node, ast.Import | ast.ImportFrom) for tree in TREES.values() for node in ast.walk(tree)
    )
    assert statements / lines < 0.06


def test_imports_make_no_circle():
    # The package itself registers its models, by an import within a function.
    edges = {module: targets_of(module) - {"recbole_gserec"} for module in FILES if module != "recbole_gserec"}
    while edges:
        free = {module for module, targets in edges.items() if not targets & edges.keys()}
        assert free, f"circle among {sorted(edges)}"
        edges = {module: targets for module, targets in edges.items() if module not in free}


@pytest.mark.parametrize("module", FILES)
def test_other_packages_are_used_by_their_faces_alone(module):
    for source, name in imports_of(module):
        package = source if is_package(source) else source.rpartition(".")[0]
        within = f"{module}.".startswith(f"{package}.")
        # Modules at the root, such as the errors, are for all.
        assert package == "recbole_gserec" or within or (is_package(source) and name in exports_of(source)), (
            f"{source}.{name}"
        )


@pytest.mark.parametrize("package", [module for module in FILES if is_package(module)])
def test_a_face_names_what_there_is(package):
    face = importlib.import_module(package)
    exports = exports_of(package)
    assert set(exports) <= set(getattr(face, "__all__", ()))
    for name, module in exports.items():
        assert getattr(face, name) is getattr(importlib.import_module(module), name)
