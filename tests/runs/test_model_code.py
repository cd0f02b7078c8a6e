"""Models of other packages are known by their code."""

import sys
import types

import pytest

from recbole_gserec.runs.record import code_digest, has_other_code
from recbole_gserec.settings import defaults
from recbole_gserec.settings.model_table import MODELS


@pytest.fixture
def own(tmp_path, monkeypatch):
    """Registers a model ``Own`` of a module; returns the folder of its source."""

    def register(name, package=""):
        for part in {package, name} - {""}:
            file = tmp_path / package / ("__init__.py" if part == package else f"{name.rpartition('.')[2]}.py")
            file.parent.mkdir(exist_ok=True)
            file.write_text("first")
            module = types.ModuleType(part)
            module.__file__, module.__package__ = str(file), package
            monkeypatch.setitem(sys.modules, part, module)
        monkeypatch.setitem(MODELS, "Own", name)
        monkeypatch.setitem(defaults._MODEL_FILES, "Own", tmp_path / "Own.yaml")
        return tmp_path

    return register


def test_a_module_alone_stands_for_itself(own):
    folder = own("lonely_module")
    first = code_digest("Own")
    (folder / "another.py").write_text("of somebody else")
    assert code_digest("Own") == first
    (folder / "lonely_module.py").write_text("second")
    assert code_digest("Own") not in (first, None)


def test_all_of_a_package_counts(own):
    folder = own("some_package.model", "some_package")
    digests = [code_digest("Own")]
    (folder / "some_package" / "layers").mkdir()
    for name in ("layers/one.py", "__init__.py", "model.py"):
        (folder / "some_package" / name).write_text("changed")
        digests.append(code_digest("Own"))
    (folder / "some_package" / "layers" / "one.py").rename(folder / "some_package" / "layers" / "two.py")
    digests.append(code_digest("Own"))
    assert len(set(digests)) == 5
    assert None not in digests


def test_a_module_of_no_file_has_no_code(own):
    own("lonely_module")
    del sys.modules["lonely_module"].__file__
    assert code_digest("Own") is None


def test_a_link_to_nothing_is_no_code(own):
    folder = own("some_package.model", "some_package")
    first = code_digest("Own")
    (folder / "some_package" / ".#model.py").symlink_to("me@here.1:2")
    assert code_digest("Own") == first


def test_a_run_tells_of_other_code(own):
    own("lonely_module")
    record = {"model": "Own", "model_code": code_digest("Own")}
    assert not has_other_code(record)
    assert has_other_code({"model": "Own", "model_code": "0" * 12})
    assert not has_other_code({"model": "Own"})


@pytest.mark.parametrize("model", ["GSERec", "SASRec", "Unknown"])
def test_the_rest_is_known_by_versions(model):
    assert code_digest(model) is None
    assert not has_other_code({"model": model, "model_code": "0" * 12})
