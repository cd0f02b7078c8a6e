"""Which weights the L2 penalty is for, and the optimiser's step against the formulas of Adam."""

import re

import numpy as np
import pytest
import torch
from recbole.trainer import Trainer
from recbole.utils import get_trainer

from recbole_gserec.plugin.trainer import SearchTrainer

pytestmark = pytest.mark.usefixtures("random_dataset")


def build(make_model, **settings):
    model, config, _, loaders = make_model("GSERec", train_batch_size=100, **settings)
    return model, get_trainer(config["MODEL_TYPE"], config["model"])(config, model), loaders[0]


def test_trainer_is_found_by_name(make_config):
    for model, expected in (("GSERec", SearchTrainer), ("SASRec", Trainer), ("BPR", Trainer)):
        config = make_config(model)
        assert get_trainer(config["MODEL_TYPE"], config["model"]) is expected


@pytest.mark.parametrize("settings", [{}, {"use_user_code_graph": False}, {"cl_similarity": "cosine"}])
def test_each_parameter_is_in_one_group(make_model, settings):
    model, trainer, _ = build(make_model, weight_decay=0.25, **settings)
    decayed, free = trainer.optimizer.param_groups
    assert (decayed["weight_decay"], free["weight_decay"]) == (0.25, 0)
    assert decayed["lr"] == free["lr"] == 0.001
    groups = [{id(parameter) for parameter in group["params"]} for group in (decayed, free)]
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    assert len(decayed["params"]) + len(free["params"]) == len(names)
    assert groups[0] | groups[1] == set(names)
    for group, is_free in zip(groups, (False, True), strict=True):
        for key in group:
            last = names[key].rsplit(".", 1)[-1]
            assert (last in ("bias", "in_proj_bias", "log_tau")) == is_free, names[key]
    if settings.get("use_user_code_graph", True):
        assert sum(name.endswith("log_tau") for name in names.values()) == 3


@pytest.mark.parametrize("fused", [True, False])
def test_step_is_adam_with_coupled_penalty(make_model, monkeypatch, fused):
    adam = torch.optim.Adam
    monkeypatch.setattr(torch.optim, "Adam", lambda groups, **options: adam(groups, **{**options, "fused": fused}))
    rate, decay = 0.001, 0.1
    model, trainer, loader = build(make_model, weight_decay=decay, learning_rate=rate)
    assert trainer.optimizer.defaults["fused"] is fused
    spared = {name for name, _ in model.named_parameters() if name.endswith(("bias", "log_tau"))}
    before = {name: parameter.detach().double().numpy().copy() for name, parameter in model.named_parameters()}
    moments = {name: (0, 0) for name in before}
    batches = iter(loader)
    for step in (1, 2, 3):
        trainer.optimizer.zero_grad()
        sum(model.calculate_loss(next(batches))).backward()
        for name, parameter in model.named_parameters():
            if parameter.grad is None:
                continue
            gradient = parameter.grad.double().numpy() + (0 if name in spared else decay * before[name])
            first, second = moments[name]
            first, second = moments[name] = 0.9 * first + 0.1 * gradient, 0.999 * second + 0.001 * gradient**2
            update = (first / (1 - 0.9**step)) / (np.sqrt(second / (1 - 0.999**step)) + 1e-8)
            before[name] = before[name] - rate * update
        trainer.optimizer.step()
        for name, parameter in model.named_parameters():
            np.testing.assert_allclose(parameter.detach().numpy(), before[name], rtol=0, atol=1e-6, err_msg=name)
            # Rounding must not add up over the steps.
            before[name] = parameter.detach().double().numpy().copy()


@pytest.mark.parametrize(
    ("settings", "names"),
    [
        ({}, ["rec", "u_cl", "his_cl"]),
        ({"lambda_u_cl": 0}, ["rec", "his_cl"]),
        ({"lambda_u_cl": 0, "lambda_his_cl": 0}, ["rec"]),
        ({"use_user_code_graph": False}, ["rec"]),
    ],
)
def test_the_line_about_an_epoch_names_the_losses(make_model, settings, names):
    model, trainer, loader = build(make_model, **settings)
    losses = tuple(loss.item() for loss in model.calculate_loss(next(iter(loader))))
    line = re.sub("\x1b.*?m", "", trainer._generate_train_loss_output(3, 0.0, 1.5, losses))
    shown = ", ".join(f"{name} loss: {loss:.4f}" for name, loss in zip(names, losses, strict=True))
    assert line == f"epoch 3 training [time: 1.50s, {shown}]"


def test_the_learning_rate_falls_on_a_plateau_as_by_torchs_own_scheduler(make_model, monkeypatch):
    plateau = {"factor": 0.5, "patience": 1, "min_lr": 0.0002, "cooldown": 1}
    scores = [0.1, 0.3, 0.3, 0.30001, 0.29, 0.2, 0.31, 0.1, 0.1, 0.1, 0.1, 0.1]
    for bigger in (True, False):
        model, config, _, _ = make_model("GSERec", reduce_lr_on_plateau=plateau)
        # RecBole finds this out by the metric; those of rankings are all better where they are bigger.
        config["valid_metric_bigger"] = bigger
        trainer = SearchTrainer(config, model)
        left = iter(scores)
        monkeypatch.setattr(Trainer, "_valid_epoch", lambda *_, left=left, **__: (next(left), {}))
        weight = torch.nn.Parameter(torch.zeros(1))
        optimiser = torch.optim.SGD([weight], lr=0.001)
        mode = "max" if bigger else "min"
        by_hand = torch.optim.lr_scheduler.ReduceLROnPlateau(optimiser, mode=mode, **plateau)
        rates = []
        for score in scores:
            assert trainer._valid_epoch(None) == (score, {})
            optimiser.step()
            by_hand.step(score)
            rates.append(trainer.optimizer.param_groups[0]["lr"])
            assert {group["lr"] for group in trainer.optimizer.param_groups} == {optimiser.param_groups[0]["lr"]}
        assert rates[0] == 0.001 and min(rates) == rates[-1] < 0.001 and len(set(rates)) > 2


def test_without_the_setting_the_learning_rate_stays(make_model, monkeypatch):
    _, trainer, _ = build(make_model)
    monkeypatch.setattr(Trainer, "_valid_epoch", lambda *_, **__: (0.1, {}))
    for _ in range(30):
        trainer._valid_epoch(None)
    assert trainer.scheduler is None and trainer.optimizer.param_groups[0]["lr"] == 0.001


def test_other_optimisers_are_those_of_recbole(make_model):
    _, trainer, _ = build(make_model, learner="sgd", weight_decay=0.5, learning_rate=0.25)
    assert type(trainer.optimizer) is torch.optim.SGD
    decayed, free = trainer.optimizer.param_groups
    assert (decayed["lr"], decayed["weight_decay"], free["lr"], free["weight_decay"]) == (0.25, 0.5, 0.25, 0.0)
    assert any(parameter is trainer.model.item_embedding.weight for parameter in decayed["params"])
    assert all(parameter.dim() <= 1 for parameter in free["params"])


def test_optimiser_for_chosen_parameters(make_model):
    model, trainer, _ = build(make_model)
    chosen = [model.item_embedding.weight]
    optimiser = trainer._build_optimizer(params=chosen, learning_rate=0.5, weight_decay=0.125)
    (group,) = optimiser.param_groups
    assert group["params"] == chosen
    assert (group["lr"], group["weight_decay"]) == (0.5, 0.125)
