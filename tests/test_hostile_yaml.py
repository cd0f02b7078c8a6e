"""No file of settings runs code, whoever reads it."""

import pytest
import yaml
from recbole.config import Config

from dataset_converters.logs_columns import read_file
from recbole_gserec.benchmark.given import read_model_settings
from recbole_gserec.config_files import read_config_files
from recbole_gserec.errors import GSERecError
from recbole_gserec.properties_files import add_model_file
from recbole_gserec.tune.space import read_space

READERS = {
    "config files": lambda path: read_config_files([path]),
    "config files, by RecBole": lambda path: Config("GSERec", "toy", config_file_list=[str(path)]),
    "settings of single models": read_model_settings,
    "settings of a new model": lambda path: add_model_file("New", path),
    "search spaces": read_space,
    "columns of logs": read_file,
}


@pytest.mark.parametrize("form", ["object/apply:os.mkdir", "object/new:os.mkdir", "name:os.mkdir"])
@pytest.mark.parametrize("reader", READERS)
def test_what_a_file_names_is_not_called(reader, form, tmp_path):
    path = tmp_path / "hostile.yaml"
    path.write_text(f"epochs: !!python/{form} ['{tmp_path / 'made'}']\n")
    with pytest.raises((GSERecError, yaml.YAMLError)):
        READERS[reader](path)
    assert not (tmp_path / "made").exists()


def test_values_that_look_like_code_stay_text(tmp_path, random_dataset, make_config):
    made = tmp_path / "made"
    path = tmp_path / "a.yaml"
    path.write_text(f"checkpoint_dir: \"__import__('os').mkdir('{made}')\"\n")
    settings = read_config_files([path])
    assert (
        Config("SASRec", "toy", [str(path)], {"data_path": str(random_dataset)})["checkpoint_dir"]
        == (settings["checkpoint_dir"])
    )
    assert not made.exists()
