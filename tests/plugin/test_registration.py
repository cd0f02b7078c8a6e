"""What `import recbole_gserec` does to RecBole, here and in new processes."""

import multiprocessing
import os
import sys
import types

import numpy as np
import pytest
import recbole
import scipy.sparse
import torch
from recbole.config import Config
from recbole.data import create_dataset, data_preparation
from recbole.model.general_recommender import BPR
from recbole.quick_start import run_recbole
from recbole.trainer import Trainer
from recbole.utils import get_model
from recbole.utils.argument_list import dataset_arguments

import recbole_gserec
from recbole_gserec.errors import DataError, MissingDependencyError, SettingError
from recbole_gserec.models.gserec import GSERec
from recbole_gserec.plugin import registration
from recbole_gserec.settings.config import without_arguments

SMALL = {"epochs": 1, "embedding_size": 8, "inner_size": 8, "mlp_hidden_size": [8], "train_batch_size": 256}
QUIET = {"show_progress": False, "use_gpu": False, "state": "ERROR"}


def hooked():
    """All that registration replaces."""
    import recbole.data
    import recbole.data.dataset
    import recbole.data.utils
    import recbole.quick_start.quick_start
    import recbole.trainer
    import recbole.trainer.trainer

    return [
        Config._load_internal_config_dict,
        recbole.data.dataset.Dataset._download,
        recbole.data.dataset.Dataset._load_inter_feat,
        recbole.data.dataset.Dataset._filter_by_inter_num,
        recbole.data.dataset.Dataset._split_index_by_leave_one_out,
        recbole.data.dataset.GSERecDataset,
        recbole.data.get_dataloader,
        recbole.data.utils.get_dataloader,
        recbole.trainer.GSERecTrainer,
        recbole.trainer.trainer.Collector,
        recbole.trainer.trainer.Evaluator,
        recbole.trainer.Trainer._neg_sample_batch_eval,
        recbole.trainer.Trainer._save_checkpoint,
        recbole.trainer.Trainer.resume_checkpoint,
        *(getattr(recbole.quick_start.quick_start, name) for name in recbole_gserec.plugin.entry_points.STOCK),
        list(dataset_arguments),
    ]


def test_registering_again_changes_nothing():
    before = hooked()
    registration.register()
    registration.register()
    assert hooked() == before
    assert len(dataset_arguments) == len(set(dataset_arguments))


def test_a_version_that_is_not_known_is_refused(fresh_python):
    code = """
        import recbole
        recbole.__version__ = "1.3.0"
        from recbole_gserec.errors import VersionError
    """
    printed = fresh_python(code, check=False)
    assert printed.splitlines()[-1] == (
        "recbole_gserec.errors.VersionError: RecBole 1.3.0 is installed, but this version of recbole-gserec works with "
        "1.2.0 and 1.2.1. Install one of them: pip install 'recbole==1.2.0'"
    )


def test_a_registration_that_failed_is_made_up_for(fresh_python):
    code = """
        import recbole, scipy.sparse, sys
        kept, scipy.sparse.dok_matrix = scipy.sparse.dok_matrix, None
        del scipy.sparse.dok_matrix
        for attempt in (1, 2):
            try:
                import recbole_gserec
                print("imported")
            except ImportError:
                print("failed")
            scipy.sparse.dok_matrix = kept
        from recbole.utils import get_model
        print(get_model("GSERec").__name__)
        # Names that NumPy 2 dropped, in a process that never built the Config which would define some of them.
        import numpy
        names = "bool8 float int object str complex unicode float_ complex_ unicode_".split()
        print(*(getattr(numpy, name).__name__ for name in names))
        print(hasattr(kept, "_update"))
    """
    lines = fresh_python(code).splitlines()
    assert lines[:3] == ["failed", "imported", "GSERec"]
    assert lines[3] == "bool float64 int64 object_ str_ complex128 str_ float64 complex128 str_"
    assert lines[4] == "True"


def test_dok_matrix_update():
    matrix = scipy.sparse.dok_matrix((2, 3), dtype=np.float32)
    matrix._update({(0, 2): 1, (1, 0): 4})
    np.testing.assert_array_equal(matrix.toarray(), [[0, 0, 1], [4, 0, 0]])


def test_model_is_found_by_name(make_config, random_dataset):
    assert get_model("GSERec") is GSERec
    assert GSERec.__module__ == "recbole_gserec.models.gserec"
    config = make_config("GSERec")
    assert config.model_class is GSERec
    # Given as a class, as RecBole allows.
    with without_arguments():
        by_class = Config(GSERec, "toy", config_dict={"data_path": str(random_dataset), "use_gpu": False})
    assert by_class.model == "GSERec"
    assert by_class["lambda_u_cl"] == config["lambda_u_cl"]
    assert type(create_dataset(config)).__name__ == "CodedSearchDataset"


def test_recbole_alone_keeps_its_dataset_class(make_config, random_dataset):
    from recbole.data.dataset import SequentialDataset

    assert type(create_dataset(make_config("SASRec"))) is SequentialDataset


def test_a_missing_dataset_is_named(make_config, random_dataset):
    for model in ("GSERec", "BPR"):
        with pytest.raises(DataError, match="dataset/none: no such dataset") as raised:
            create_dataset(make_config(model, "none"))
        assert "\n" not in str(raised.value)


@pytest.fixture
def settings(random_dataset, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return {**SMALL, **QUIET, "data_path": str(random_dataset), "checkpoint_dir": str(tmp_path / "saved")}


def run_here(model, settings):
    with without_arguments():
        return run_recbole(model=model, dataset="toy", config_dict=dict(settings))


@pytest.mark.parametrize("model", ["SASRec", "LightGCN", "BPR", "GSERec"])
def test_models_train_and_evaluate(settings, model):
    """The stock call, unmodified: an epoch, the protocol's metrics, the best model loaded from its checkpoint."""
    if model == "SASRec":
        settings.update(hidden_size=8)
    if model != "GSERec":
        del settings["mlp_hidden_size"]
    result = run_here(model, settings)
    for part in ("best_valid_result", "test_result"):
        assert list(result[part]) == [f"{metric}@{k}" for metric in ("hit", "ndcg") for k in (1, 5, 10)]
        assert all(0 <= value <= 1 and type(value) is float for value in result[part].values())
    assert result["best_valid_score"] == result["best_valid_result"]["ndcg@5"]
    if model == "GSERec":
        assert run_here(model, settings) == result


class OwnModel(BPR):
    """A user's own model: a class, which RecBole cannot find by its name."""


def test_a_model_of_the_users_own(settings):
    """The way RecBole documents: everything by hand, with the class."""
    del settings["mlp_hidden_size"]
    with without_arguments():
        config = Config(OwnModel, "toy", config_dict=dict(settings))
    loaders = data_preparation(config, create_dataset(config))
    trainer = Trainer(config, OwnModel(config, loaders[0]._dataset))
    trainer.fit(*loaders[:2], verbose=False)
    best = trainer.evaluate(loaders[2], load_best_model=True)
    assert best == trainer.evaluate(loaders[2], load_best_model=False)
    assert loaders[2].candidates.shape == (40, 100)


def test_a_class_can_be_given_instead_of_a_name(settings):
    result = run_here(GSERec, settings)
    assert run_here("GSERec", settings) == result


def test_recboles_own_path_on_plain_data_is_untouched(make_config, write_files, random_rows, tmp_path):
    """Full ranking of a general model by RecBole's loader, with the metrics of its own collector."""
    from recbole.evaluator import Collector, Evaluator
    from recbole.utils import get_trainer

    write_files(tmp_path / "dataset", "plain", inter=random_rows["inter"])
    config = make_config("BPR", "plain", load_col={"inter": ["user_id", "item_id", "timestamp"]})
    loaders = data_preparation(config, create_dataset(config))
    torch.manual_seed(0)
    model = get_model("BPR")(config, loaders[0]._dataset)
    trainer = get_trainer(config["MODEL_TYPE"], config["model"])(config, model)
    result = trainer.evaluate(loaders[2], load_best_model=False)
    collector, evaluator = Collector(config), Evaluator(config)
    with torch.no_grad():
        for batch in loaders[2]:
            _, scores, rows, items = trainer._full_sort_batch_eval(batch)
            collector.eval_batch_collect(scores, batch[0], rows, items)
    expected = evaluator.evaluate(collector.get_data_struct())
    assert result == expected
    assert result["recall@10"] > 0


# ---- other processes ------------------------------------------------------------------------------------------------


def test_spawned_process_knows_the_model(settings):
    """All the child gets is the pickled function, as RecBole's own launcher gives it."""
    with without_arguments(), multiprocessing.get_context("spawn").Pool(1) as pool:
        given = {"model": "GSERec", "dataset": "toy", "config_dict": settings}
        # A child that cannot unpickle the function dies, and a pool waits for it forever.
        result = pool.apply_async(recbole.quick_start.run_recbole, (), given).get(timeout=240)
    assert result == run_here("GSERec", settings)


def seen_in_worker(function, settings):
    """Runs in a Ray worker. Sent by value; ``function`` is what brings the package into the worker."""
    import sys

    from recbole.config import Config

    config = Config("GSERec", "toy", config_dict=dict(settings))
    return sys.argv[1:], config.cmd_config_dict, config["epochs"], function("GSERec", "toy", None, dict(settings))


def test_ray_worker_knows_the_model_and_takes_no_settings_from_its_own_arguments(settings, monkeypatch):
    ray = pytest.importorskip("ray")
    monkeypatch.setenv("RAY_USAGE_STATS_ENABLED", "0")
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(entry or os.getcwd() for entry in sys.path))
    ray.init("local", num_cpus=1, include_dashboard=False, log_to_driver=False, logging_level="ERROR")
    try:
        by_value = types.FunctionType(seen_in_worker.__code__, {}, "seen_in_worker")
        task = ray.remote(by_value).remote(recbole.quick_start.run_recbole, settings)
        arguments, given, epochs, result = ray.get(task, timeout=240)
    finally:
        ray.shutdown()
    assert (arguments, given, epochs) == ([], {}, 1)
    assert result == run_here("GSERec", settings)


def test_arguments_of_other_programs_stay(monkeypatch):
    monkeypatch.setattr("sys.argv", ["/a/b/train.py", "--epochs=3"])
    registration._clean_worker_arguments()
    assert sys.argv == ["/a/b/train.py", "--epochs=3"]
    monkeypatch.setattr("sys.argv", ["/ray/workers/default_worker.py", "--node-ip-address=1", "--epochs=3"])
    registration._clean_worker_arguments()
    assert sys.argv == ["/ray/workers/default_worker.py"]


def test_supported_version_is_in_use():
    assert recbole.__version__ in registration.SUPPORTED_VERSIONS


@pytest.mark.parametrize(("given", "meant"), [("GSERecc", "GSERec"), ("gserec", "GSERec"), ("SASrec", "SASRec")])
def test_a_model_that_there_is_none_of_is_reported_with_a_near_name(make_config, given, meant):
    message = f"there is no model '{given}'. Did you mean '{meant}'?"
    for find in (recbole.utils.get_model, make_config, run_recbole_model):
        with pytest.raises(SettingError) as raised:
            find(given)
        assert str(raised.value) == message


def run_recbole_model(model):
    from recbole_gserec.settings.config import without_arguments

    with without_arguments():
        recbole.quick_start.run_recbole(model=model, dataset="toy")


@pytest.mark.parametrize("model", ["XGBoost", "LightGBM"])
def test_a_model_of_a_missing_library_says_what_to_install(monkeypatch, model):
    for name in ("lightgbm", "xgboost"):
        monkeypatch.setitem(sys.modules, name, None)
    for name in [name for name in sys.modules if name.startswith("recbole.model.exlib")]:
        monkeypatch.delitem(sys.modules, name)
    message = f"^{model} needs the library 'lightgbm'.*pip install lightgbm xgboost"
    with pytest.raises(MissingDependencyError, match=message):
        recbole.utils.get_model(model)


def test_a_diverging_loss_is_reported_with_what_to_do(random_dataset, make_model):
    from recbole.utils import get_trainer

    model, config, _, _ = make_model("BPR", learning_rate=0.5)
    trainer = get_trainer(config["MODEL_TYPE"], config["model"])(config, model)
    trainer._check_nan(torch.tensor(1.0))
    with pytest.raises(SettingError, match="loss became NaN: BPR diverges. Lower learning_rate, which is 0.5"):
        trainer._check_nan(torch.tensor(float("nan")))
