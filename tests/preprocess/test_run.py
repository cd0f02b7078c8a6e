"""How the settings of ``gserec preprocess`` reach the offline stage."""

import os

import pytest

from recbole_gserec.errors import GSERecError
from recbole_gserec.preprocess import run


@pytest.fixture
def configured(random_dataset, monkeypatch):
    """Calls the command's function; returns the Config that the stage is given."""

    def call(**settings):
        found = []
        monkeypatch.setattr(run, "make_codes_from_config", found.append)
        run.preprocess_dataset("toy", {"data_path": str(random_dataset), **settings})
        return found[0]

    return call


def test_texts_are_texts(configured):
    # Words that mean something within RecBole's Config.
    config = configured(llm="key", prompt_templates="2024-12", encoder="sentence-transformers:self")
    assert (config["llm"], config["prompt_templates"]) == ("key", "2024-12")
    config = configured(llm="param", tau_1="1e-1", rq_epochs=60)
    assert (config["llm"], config["tau_1"], config["rq_epochs"]) == ("param", 0.1, 60)
    assert {"llm", "tau_1", "rq_epochs"} <= config.external_config_dict.keys()


def test_the_gpu_is_that_of_the_process(configured, monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3")
    configured()
    assert os.environ["CUDA_VISIBLE_DEVICES"] == "3"
    configured(gpu_id="5")
    assert os.environ["CUDA_VISIBLE_DEVICES"] == "5"


def test_progress_is_shown_unless_it_is_not_wanted(configured):
    assert configured()["show_progress"] is True
    assert configured(show_progress=False)["show_progress"] is False


def test_what_needs_no_data_is_checked_before_it_is_read(random_dataset, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(run, "SearchDataset", lambda config: pytest.fail("the dataset is read"))
    (tmp_path / "prompts").mkdir()
    (tmp_path / "file").write_text("")
    for settings, message in (
        (
            {"rq_epochs": 40, "rq_warmup_epochs": 60},
            "rq_warmup_epochs is 60; it must be less than rq_epochs",
        ),
        ({"summarizer": "vllm"}, "summarizer 'vllm' needs the setting llm"),
        (
            {"summarizer": "transformers", "llm": "x", "llm_json_schema": True},
            "llm_json_schema only applies to the summarizers",
        ),
        ({"prompt_templates": "prompts"}, "prompts/search.txt: file not found"),
        ({"code_path": "file/x.code"}, "file: is a file, not a folder; set code_path to a file in"),
    ):
        with pytest.raises(GSERecError) as raised:
            run.preprocess_dataset("toy", {"data_path": str(random_dataset), "show_progress": False, **settings})
        assert message in str(raised.value)
    with pytest.raises(GSERecError, match="toyy: no such dataset. Did you mean 'toy'?"):
        run.preprocess_dataset("toyy", {"data_path": str(random_dataset)})
