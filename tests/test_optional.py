import sys

import pytest

from recbole_gserec.errors import MissingDependencyError, import_optional
from recbole_gserec.preprocess.summarizers.known_summarizers import SUMMARIZERS
from recbole_gserec.settings.offline import PreprocessSettings


@pytest.mark.parametrize("module", ["json", "email.mime.text"])
def test_a_library_that_is_there_is_imported(module, monkeypatch):
    monkeypatch.delitem(sys.modules, module, raising=False)
    assert import_optional(module, "extra", "Anything") is sys.modules[module]


@pytest.mark.parametrize("module", ["no_such_library", "no_such_library.part"])
def test_a_missing_library_is_named_with_what_to_install(module):
    with pytest.raises(MissingDependencyError) as caught:
        import_optional(module, "vllm", "Summarizer 'vllm'")
    assert str(caught.value) == (
        "Summarizer 'vllm' needs the library 'no_such_library', which is not installed: "
        "pip install 'recbole-gserec[vllm]'"
    )


@pytest.mark.parametrize("content", ["import no_such_library", "from no_such_library import part"])
def test_a_library_that_lacks_one_of_its_own_is_not_taken_for_missing(content, tmp_path, monkeypatch):
    (tmp_path / "needy_library.py").write_text(content)
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(ModuleNotFoundError, match="no_such_library"):
        import_optional("needy_library", "vllm", "Summarizer 'vllm'")


def test_a_library_that_fails_otherwise_is_not_taken_for_missing(tmp_path, monkeypatch):
    (tmp_path / "broken_library.py").write_text("raise ImportError('needs a newer libc')")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(ImportError, match="newer libc"):
        import_optional("broken_library", "vllm", "Summarizer 'vllm'")


def test_a_part_that_a_library_lacks_is_not_taken_for_a_missing_library():
    with pytest.raises(ModuleNotFoundError, match=r"json\.no_such_part"):
        import_optional("json.no_such_part", "vllm", "Summarizer 'vllm'")


@pytest.mark.parametrize("summarizer", ["transformers", "vllm"])
def test_summarizers_without_their_library_say_what_to_install(summarizer, monkeypatch):
    monkeypatch.setitem(sys.modules, "transformers", None)
    made = SUMMARIZERS[summarizer](PreprocessSettings(summarizer=summarizer, llm="a/model"))
    with pytest.raises(MissingDependencyError, match=r"pip install 'recbole-gserec\[transformers\]'"):
        made.shorten("a text", 3)
