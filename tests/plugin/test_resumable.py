"""A training that is ended after any epoch and begun again gives the numbers of one that was not."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from recbole.trainer import Trainer
from recbole.utils import get_model, get_trainer, init_seed

from recbole_gserec.plugin.resume import ResumableTraining, is_resumable, read_state, resumable
from recbole_gserec.plugin.trainer import SearchTrainer
from recbole_gserec.runs.train import with_timing

pytestmark = pytest.mark.usefixtures("random_dataset")

SMALL = {"train_batch_size": 128, "embedding_size": 16, "hidden_size": 16, "epochs": 4, "stopping_step": 10}
# A search model with two kinds of rows, one of RecBole's with and one without sequences, one that counts its steps,
# one that draws from NumPy in each epoch and one that draws from Python's generator, one with two optimisers, one that
# collects losses in a tensor, one that shuffles an array, and one with a dataloader for each of two kinds of rows.
MODELS = ["GSERec", "UniSAR", "SASRec", "LightGCN", "MultiVAE", "SGL", "CL4SRec", "RecVAE", "DiffRec", "LINE", "MKR"]
OF_MODEL = {
    "RecVAE": {"hidden_dimension": 16, "latent_dimension": 8},
    "DiffRec": {"dims_dae": [16], "steps": 5, "history_num_per_term": 3, "reweight": True},
    "MKR": {
        "load_col": {
            "inter": ["user_id", "item_id", "timestamp"],
            "kg": ["head_id", "relation_id", "tail_id"],
            "link": ["item_id", "entity_id"],
        },
        "kg_embedding_size": 16,
        "kge_interval": 2,
    },
}


class Killed(Exception):
    """Ends a training."""


@pytest.fixture
def start(prepare, tmp_path, random_dataset):
    """Builds a trainer as a new process would: ``start(model, **settings)``; returns it with its dataloaders."""

    def make(model: str, folder: str = "run", **settings):
        # A second word is the kind of rows.
        model, *train_rows = model.split()
        settings |= {"train_rows": train_rows[0]} if train_rows else {}
        given = {**SMALL, **OF_MODEL.get(model, {}), **settings}
        if model == "MKR":
            write_graph(random_dataset / "toy")
        if model in ("SASRec", "CL4SRec", "MultiVAE", "RecVAE", "DiffRec"):
            given["train_neg_sample_args"] = None
        config, dataset, (train, valid, test) = prepare(model, **given)
        init_seed(config["seed"], config["reproducibility"])
        network = get_model(model)(config, train._dataset)
        trainer = with_timing(resumable(get_trainer(config["MODEL_TYPE"], model)))(config, network)
        (tmp_path / folder).mkdir(exist_ok=True)
        trainer.saved_model_file = str(tmp_path / folder / "checkpoint.pth")
        trainer.state_file = tmp_path / folder / "training.pth"
        trainer.save_every_s = 0
        return trainer, train, valid, test

    return make


def write_graph(folder: Path) -> None:
    """Facts about the items of the dataset."""
    facts = [f"e{item}\tr{item % 3}\te{(7 * item + 3) % 150}" for item in range(150)]
    links = [f"i{item}\te{item}" for item in range(150)]
    (folder / "toy.kg").write_text("\n".join(["head_id:token\trelation_id:token\ttail_id:token", *facts]) + "\n")
    (folder / "toy.link").write_text("\n".join(["item_id:token\tentity_id:token", *links]) + "\n")


def kill_after(epoch: int):
    def callback(current: int, score: float) -> None:
        if current == epoch:
            raise Killed

    return callback


def fit(trainer, train, valid, test, **options):
    trainer.fit(train, valid, verbose=False, **options)
    record = trainer.epoch_record()
    result = trainer.evaluate(test, load_best_model=True)
    return record["train_loss"], record["valid_score"], record["best"], dict(result)


@pytest.mark.parametrize("model", [*MODELS, "GSERec targets", "CL4SRec users"])
def test_numbers_are_those_of_an_uninterrupted_training(start, model):
    expected = fit(*start(model, "whole"))
    for epoch in (0, 2):
        with pytest.raises(Killed):
            trainer, train, valid, _ = start(model)
            trainer.fit(train, valid, verbose=False, callback_fn=kill_after(epoch))
        # What happens in between must not matter.
        np.random.seed(5)
        torch.manual_seed(5)
    trainer, *loaders = start(model)
    resumed = fit(trainer, *loaders)
    assert trainer.resumed_epochs == 3
    assert resumed == expected
    assert len(expected[0]) == SMALL["epochs"]
    # Weights change from epoch to epoch, or equal numbers would say nothing.
    assert len({str(loss) for loss in expected[0]}) == SMALL["epochs"]


def test_a_schedule_of_learning_rates_goes_on(start, monkeypatch):
    # Scores that never get better: each epoch without one counts, also over an interruption.
    plain = SearchTrainer._valid_epoch
    monkeypatch.setattr(Trainer, "_valid_epoch", lambda self, *_, **__: (0.5, {"ndcg@5": 0.5}))
    settings = {"epochs": 6, "reduce_lr_on_plateau": {"factor": 0.5, "patience": 1}}
    rates = []
    monkeypatch.setattr(
        SearchTrainer,
        "_valid_epoch",
        lambda self, *given, **named: (
            plain(self, *given, **named),
            rates.append(self.optimizer.param_groups[0]["lr"]),
        )[0],
    )
    expected = fit(*start("SESRec", "whole", **settings))
    assert rates == [0.001, 0.001, 0.0005, 0.0005, 0.00025, 0.00025]
    # In the middle of the patience, and where the rate has just fallen.
    for epoch in (1, 2, 3):
        with pytest.raises(Killed):
            trainer, train, valid, _ = start("SESRec", **settings)
            trainer.fit(train, valid, verbose=False, callback_fn=kill_after(epoch))
    rates.clear()
    trainer, *loaders = start("SESRec", **settings)
    assert fit(trainer, *loaders) == expected
    assert trainer.resumed_epochs == 4 and rates == [0.00025, 0.00025]
    without = fit(*start("SESRec", "without", epochs=6))
    assert without[0] != expected[0]


def test_vectors_kept_for_evaluation_are_stored_once(start):
    trainer, train, valid, _ = start("LightGCN", epochs=1)
    trainer.fit(train, valid, verbose=False)
    state = read_state(trainer.state_file, None)
    assert state["unsaved"][".restore_user_e"].shape == trainer.model.restore_user_e.shape
    assert state["other_parameter"] == {}


@pytest.fixture
def worse_and_worse(monkeypatch):
    """Every validation is worse than the one before."""
    monkeypatch.setattr(
        SearchTrainer, "_valid_epoch", lambda self, *_, **__: (-len(self.train_seconds), {"ndcg@10": 0.5})
    )


@pytest.mark.parametrize("settings", [{"epochs": 2}, {"epochs": 9, "stopping_step": 0}])
def test_nothing_is_trained_after_the_end(start, worse_and_worse, settings):
    whole, *loaders = start("GSERec", **settings)
    expected = fit(whole, *loaders)
    checkpoint = torch.load(whole.saved_model_file, weights_only=True)["state_dict"]
    again, *loaders = start("GSERec", **settings)
    assert fit(again, *loaders) == expected
    assert again.best_valid_score == whole.best_valid_score
    assert len(expected[0]) == len(again.train_seconds) == 2
    kept = torch.load(again.saved_model_file, weights_only=True)["state_dict"]
    assert all(torch.equal(kept[name], checkpoint[name]) for name in checkpoint)


def test_early_stopping_counts_the_epochs_before(start, worse_and_worse):
    settings = {"epochs": 9, "stopping_step": 2}
    with pytest.raises(Killed):
        trainer, train, valid, _ = start("GSERec", **settings)
        trainer.fit(train, valid, verbose=False, callback_fn=kill_after(1))
    trainer, *loaders = start("GSERec", **settings)
    losses, *_ = fit(trainer, *loaders)
    # The first epoch is the best, and three in a row are not better.
    assert len(losses) == 4


@pytest.mark.parametrize("damage", ["truncated", "bit", "bit of checkpoint", "other", "format", "no checkpoint"])
def test_state_that_does_not_fit_is_not_used(start, damage, caplog):
    trainer, train, valid, test = start("GSERec")
    trainer.training_identity = {"seed": 1}
    expected = fit(trainer, train, valid, test)
    path, training_identity = trainer.state_file, {"seed": 1}
    if damage == "truncated":
        path.write_bytes(path.read_bytes()[:-200])
    elif damage.startswith("bit"):
        file = path if damage == "bit" else path.parent / "checkpoint.pth"
        data = bytearray(file.read_bytes())
        data[len(data) // 2] ^= 16
        file.write_bytes(data)
    elif damage == "other":
        training_identity = {"seed": 2}
    elif damage == "format":
        torch.save({**torch.load(path, weights_only=True), "format": 0}, path)
    else:
        (path.parent / "checkpoint.pth").unlink()
    again, *loaders = start("GSERec")
    again.training_identity = training_identity
    assert fit(again, *loaders) == expected
    assert again.resumed_epochs == 0
    words = {
        "truncated": "training.pth is damaged. The training starts from the beginning",
        "bit": "training.pth is damaged. The training starts from the beginning",
        "bit of checkpoint": "checkpoint.pth: damaged: its checksum does not match",
        "other": "with other settings",
        "format": "from another version",
    }
    assert damage == "no checkpoint" or words[damage] in caplog.text


def test_state_runs_no_code(start, tmp_path):
    trainer, train, valid, _ = start("GSERec")
    trainer.fit(train, valid, verbose=False)
    assert read_state(trainer.state_file, None)["epoch"] == 3

    class Hostile:
        def __reduce__(self):
            return (tmp_path.joinpath("opened").touch, ())

    torch.save({"format": 1, "made_by": {}, "hostile": Hostile()}, trainer.state_file)
    assert read_state(trainer.state_file, None) is None
    assert not (tmp_path / "opened").exists()


def test_without_a_file_it_is_recboles_training(start):
    trainer, *loaders = start("SASRec")
    trainer.state_file = None
    expected = fit(trainer, *loaders)
    assert {path.name for path in Path(trainer.saved_model_file).parent.iterdir()} == {"checkpoint.pth"}
    again, *loaders = start("SASRec")
    assert fit(again, *loaders) == expected
    assert again.resumed_epochs == 0


def test_trainers_with_a_loop_of_their_own_are_left_alone():
    class Own(Trainer):
        def fit(self, *args, **kwargs):
            """Another loop."""

    assert is_resumable(Trainer) and is_resumable(SearchTrainer) and not is_resumable(Own)
    assert resumable(Own) is Own
    assert issubclass(resumable(SearchTrainer), ResumableTraining)
