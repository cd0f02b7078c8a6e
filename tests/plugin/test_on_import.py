"""One import of this package is enough, in any order with RecBole's, and takes no time until RecBole is imported."""

import pickle

import pytest

from recbole_gserec.models.gserec import GSERec
from recbole_gserec.plugin import entry_points

REGISTERED = """
import sys
import numpy, recbole, recbole.quick_start, recbole.utils
from recbole.utils import get_model
import recbole_gserec.plugin.entry_points
assert recbole.quick_start.run_recbole is recbole_gserec.plugin.entry_points.run_recbole
assert recbole.quick_start.run_recbole is not recbole_gserec.plugin.entry_points.STOCK["run_recbole"]
assert get_model("GSERec") is sys.modules["recbole_gserec.models.gserec"].GSERec
assert hasattr(numpy, "float_")
assert not [finder for finder in sys.meta_path if type(finder).__module__.startswith("recbole_gserec")]
# RecBole's SINE turns it on, and every training step is slower then.
assert not sys.modules["torch"].is_anomaly_enabled()
print("registered")
"""


@pytest.mark.parametrize(
    "first",
    [
        "import recbole_gserec; import recbole.config",
        "import recbole_gserec; from recbole.quick_start import run_recbole",
        "import recbole; import recbole_gserec",
        "import recbole.trainer; from recbole_gserec import register_model",
        "from recbole_gserec import register_model; register_model.__name__",
        "import recbole_gserec.plugin.registration",
        "from recbole_gserec.models.gserec import GSERec; GSERec.type",
        "import recbole_gserec.settings.names",
        "from recbole_gserec.data.dataset import SearchDataset",
        "import importlib; importlib.import_module('recbole_gserec.plugin.trainer')",
        "import importlib.util; import recbole_gserec; importlib.util.find_spec('recbole.model')",
    ],
)
def test_the_order_of_imports_does_not_matter(fresh_python, first):
    assert fresh_python(f"{first}\n{REGISTERED}") == "registered\n"


def test_alone_it_imports_nothing_and_recbole_is_found_as_always(fresh_python):
    code = """
        import importlib, sys
        import recbole_gserec
        importlib.reload(recbole_gserec)
        from importlib.util import find_spec
        spec = find_spec("recbole")
        print(len({"recbole", "torch", "numpy"} & sys.modules.keys()), spec.loader.is_package("recbole"))
        print("__version__" in spec.loader.get_source("recbole"), "register_model" in recbole_gserec.__all__)
        import recbole
        from recbole.utils import get_model
        before = recbole.config.Config._load_internal_config_dict
        importlib.reload(recbole), importlib.reload(recbole_gserec)
        print(recbole.config.Config._load_internal_config_dict is before, get_model("GSERec").__name__)
    """
    assert fresh_python(code).splitlines() == ["0 True", "True True", "True GSERec"]


@pytest.mark.parametrize("what", [entry_points.run_recboles, GSERec])
def test_what_is_unpickled_in_a_new_process_brings_it(fresh_python, what):
    code = f"import pickle; found = pickle.loads({pickle.dumps(what)!r}); print(found.__name__)\n{REGISTERED}"
    assert fresh_python(code) == f"{what.__name__}\nregistered\n"


def test_an_error_of_the_registration_shows_as_it_is_and_the_next_import_makes_up_for_it(fresh_python):
    code = """
        import scipy.sparse, sys
        kept = scipy.sparse.dok_matrix
        del scipy.sparse.dok_matrix
        import recbole_gserec
        for attempt in (1, 2):
            try:
                import recbole.quick_start
                print("imported")
            except ImportError as error:
                print("dok_matrix" in str(error), "recbole" in sys.modules)
            scipy.sparse.dok_matrix = kept
    """
    printed = fresh_python("\n".join(line[8:] for line in code.splitlines()) + REGISTERED)
    assert printed.splitlines() == ["True False", "imported", "registered"]


def test_a_version_that_is_not_known_is_an_error_of_the_import_of_recbole(fresh_python):
    code = """
        import recbole_gserec
        import recbole_gserec.errors
        import importlib.metadata
        import recbole_gserec.plugin.on_import as hook
        register = hook._register
        def with_another_version():
            import recbole
            recbole.__version__ = "1.3.0"
            register()
        hook._register = with_another_version
        import recbole.config
    """
    assert "errors.VersionError: RecBole 1.3.0 is installed" in fresh_python(code, check=False).splitlines()[-1]


def test_threads_that_import_it_at_once(fresh_python):
    code = """
        import importlib, threading
        import recbole_gserec
        threads = [threading.Thread(target=importlib.import_module, args=("recbole",)) for _ in range(3)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    """
    printed = fresh_python("\n".join(line[8:] for line in code.splitlines()) + REGISTERED)
    assert printed == "registered\n"
