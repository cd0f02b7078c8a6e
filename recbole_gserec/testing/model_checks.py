"""Checks that every model must pass; :func:`check_model` runs them on your own models."""

from __future__ import annotations

import contextlib
import logging
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
import yaml
from recbole.data import create_dataset, data_preparation
from recbole.data.interaction import Interaction
from recbole.model.abstract_recommender import AbstractRecommender
from recbole.utils import ModelType, get_model, get_trainer, init_seed
from torch import Tensor, nn

from recbole_gserec.data import JointInteraction
from recbole_gserec.errors import GSERecError, SettingError
from recbole_gserec.evaluation import has_full_ranking, predict_pairs
from recbole_gserec.files import scratch_folder
from recbole_gserec.models import SearchRecommender
from recbole_gserec.plugin import (
    forget_model,
    global_states,
    load_other_parameter,
    named_model,
    read_checkpoint,
    register_model,
    registered_module,
    set_global_states,
    settings_file_of,
)
from recbole_gserec.settings import make_config, model_settings
from recbole_gserec.testing.toy_data import (
    LAST_MOMENT,
    moments_of_valid,
    random_files,
    widened,
    with_other_searches,
    with_other_targets,
    without_histories,
    write_files,
)

__all__ = ["ModelCheckError", "check_model", "checks_of"]

_RTOL, _ATOL = 1e-4, 1e-5
"""Maximum difference between two sums of the same numbers in a different order."""
_NOISE = 0.1
"""Noise added to weights, so that no bias is 0 and all parts of a model matter."""
_LARGEST_GRADIENT = 1e6
"""Largest valid gradient. The norm of zeros has a huge but finite derivative, which ruins the optimiser in a step."""
_N_ROWS = 60
_SETTINGS = {"train_batch_size": 128, "epochs": 1, "eval_args": {"mode": "full"}}


class ModelCheckError(GSERecError, AssertionError):
    """A model fails a check.

    Attributes:
        check: Name of the check.
    """

    def __init__(self, message: str, check: str = ""):
        super().__init__(message)
        self.check = check


def check_model(model: type[AbstractRecommender] | str, settings: Mapping[str, Any] | None = None) -> list[str]:
    """Check what training and evaluation require of a model.

    The model is trained on small random datasets in a temporary folder. They have ties in time, users without searches,
    users with few interactions, and items without texts. The model need not be registered. The checks do not change the
    random numbers drawn afterwards. A model with the setting ``train_rows`` is checked with rows.

    Args:
        model: A search-aware model, or a general, sequential or context-aware one of RecBole's kind: its class, name,
            or file and class (``"my_model.py:MyModel"``). Models that need a knowledge graph are not checked.
        settings: Settings that differ from the model's defaults; small sizes make the checks fast.

    Returns:
        Names of the checks; see :func:`checks_of`.

    Raises:
        ModelCheckError: At the first check that fails; it says what was done, what was expected, and what to look for.
        SettingError: For unknown settings, and for models that cannot be checked.
    """
    states = global_states()
    try:
        with _quiet(), scratch_folder() as folder, _known(model, folder, settings) as name, contextlib.chdir(folder):
            _refuse_unsupported(get_model(name))
            # Checks compare rows; windows of users' events hold many at once.
            form = {"train_rows": "targets"} if "train_rows" in model_settings(name) else {}
            subject = _Subject(name, folder, {**form, **(settings or {})})
            done = []
            for check in checks_of(get_model(name)):
                _make(check, subject)
                done.append(check)
            return done
    finally:
        set_global_states(states)


def checks_of(model: type[AbstractRecommender]) -> list[str]:
    """Return the names of the checks that :func:`check_model` runs on a class, in order."""
    return [name for name, check in _CHECKS.items() if check.applies(model)]


def _make(name: str, subject: _Subject) -> None:
    try:
        _CHECKS[name].run(subject)
    except _Finding as finding:
        raise ModelCheckError(f"{subject.name} fails the check '{name}': {finding}", name) from finding.__cause__
    except GSERecError:
        raise
    except Exception as error:
        what = f"{type(error).__name__}: {' '.join(str(error).split())}"
        raise ModelCheckError(f"{subject.name} fails the check '{name}', which raised {what}", name) from error


class _Finding(Exception):
    """A failed check: what was done, what was expected, and what to look for."""

    def __init__(self, done: str, expected: str, look_for: str):
        super().__init__(f"{done}, but {expected}. Look for {look_for}")


# ---- the model and its data ------------------------------------------------------------------------------------------


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Suppress messages about the random datasets."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        yield
    finally:
        logging.disable(before)


@contextlib.contextmanager
def _known(model: type[AbstractRecommender] | str, folder: Path, settings: Mapping[str, Any] | None) -> Iterator[str]:
    """Yield the model's name. A model that is not registered is registered during the checks."""
    if isinstance(model, str):
        yield named_model(model)
        return
    name = getattr(model, "__name__", repr(model))
    try:
        is_known = get_model(name) is model
    except (GSERecError, ValueError, AttributeError):
        is_known = False
    if is_known:
        yield name
        return
    stays = registered_module(name) == getattr(model, "__module__", None)
    source = getattr(sys.modules.get(getattr(model, "__module__", "")), "__file__", None)
    file = settings_file_of(model, Path(source) if source else None) if isinstance(model, type) else None
    if file is None:
        file = folder / f"{name}.yaml"
        file.write_text(yaml.safe_dump(dict(settings or {})), encoding="utf-8")
    register_model(model, settings=file)
    try:
        yield name
    finally:
        if not stays:
            forget_model(name)


def _refuse_unsupported(model: Any) -> None:
    if model.type in (ModelType.KNOWLEDGE, ModelType.DECISIONTREE):
        raise SettingError(f"{model.__name__} cannot be checked: there are no checks for this kind of model")


class _Prepared(NamedTuple):
    """Config, dataset and parts as RecBole's ``run_recbole`` makes them, and a new model."""

    config: Any
    dataset: Any
    train: Any
    valid: Any
    model: Any


@dataclass
class _Subject:
    """The checked model, with data that several checks share; each part is created on first use."""

    name: str
    folder: Path
    settings: dict[str, Any]

    def prepare(self, dataset: str) -> _Prepared:
        here = {
            "data_path": str(self._data_path),
            "checkpoint_dir": str(self.folder / "saved"),
            "use_gpu": False,
            "state": "ERROR",
        }
        config = make_config(self.name, dataset, {**_SETTINGS, **self.settings}, here)
        init_seed(config["seed"], config["reproducibility"])
        built = create_dataset(config)
        train, valid, _ = data_preparation(config, built)
        init_seed(config["seed"], config["reproducibility"])
        return _Prepared(config, built, train, valid, get_model(self.name)(config, train._dataset))

    @cached_property
    def _data_path(self) -> Path:
        files = random_files()
        valid = moments_of_valid(files["inter"])

        def moment(user: str) -> int:
            return valid.get(user, LAST_MOMENT)

        for name, content in (
            ("before", files),
            ("instant", with_other_searches(files, lambda user, time: time == valid.get(user))),
            ("after", with_other_targets(with_other_searches(files, lambda user, time: time > moment(user)))),
            ("later", with_other_targets(with_other_searches(files, lambda user, time: time >= moment(user)))),
        ):
            write_files(self.folder / "data" / name, content)
        return self.folder / "data"

    @cached_property
    def trained(self) -> _Prepared:
        """The model after one epoch of training, in evaluation mode."""
        return _train(self.prepare("before"))

    @cached_property
    def ready(self) -> _Prepared:
        """The trained model with some noise on all weights, in evaluation mode."""
        prepared = self.prepare("before")
        _take_weights(prepared.model, self.trained.model)
        generator = torch.Generator().manual_seed(0)
        with torch.no_grad():
            for parameter in prepared.model.parameters():
                if parameter.is_floating_point():
                    parameter += _NOISE * torch.randn(parameter.shape, generator=generator)
            for module in prepared.model.modules():
                if isinstance(module, nn.Embedding) and module.padding_idx is not None:
                    module.weight[module.padding_idx] = 0
        prepared.model.eval()
        return prepared

    @cached_property
    def rows(self) -> Interaction:
        """Rows to score. For search-aware models, training rows, which have histories of all lengths."""
        if isinstance(self.ready.model, SearchRecommender):
            return self.batch[:_N_ROWS]
        return _all_rows(self.ready.valid)

    @cached_property
    def batch(self) -> Interaction:
        """The first training batch."""
        init_seed(0, True)
        return next(iter(self.ready.train))

    @cached_property
    def candidates(self) -> Tensor:
        """Candidates ``[B, 7]``, distinct within each row."""
        generator = torch.Generator().manual_seed(0)
        order = torch.rand(len(self.rows), self.ready.dataset.item_num - 1, generator=generator).argsort(1)
        return order[:, :7] + 1

    def score(self, rows: Interaction, candidates: Tensor) -> Tensor:
        """Return scores ``[B, C]`` of candidates, as in evaluation."""
        return _scores(self.ready, rows, candidates)


def _all_rows(loader: Any) -> Interaction:
    return loader._dataset[np.arange(len(loader._dataset))]


def _scores(prepared: _Prepared, rows: Interaction, candidates: Tensor) -> Tensor:
    model = prepared.model
    _forget_propagated(model)
    with torch.no_grad():
        if isinstance(model, SearchRecommender):
            return model.score_candidates(rows, candidates)
        if has_full_ranking(model):
            return model.full_sort_predict(rows).view(len(rows), -1).gather(1, candidates)
        return predict_pairs(model, prepared.valid._dataset, rows, candidates, torch.device("cpu"))


def _scores_of_valid(prepared: _Prepared) -> Tensor:
    """Return scores ``[B, n_items - 1]`` of all items for the validation targets."""
    rows = _all_rows(prepared.valid)
    items = torch.arange(1, prepared.dataset.item_num).expand(len(rows), -1)
    return _scores(prepared, rows, items)


def _take_weights(model: Any, source: Any) -> None:
    """Copy learnt weights, but no buffers, which may contain data of the model's dataset."""
    learnt = dict(source.named_parameters())
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            parameter.copy_(learnt[name])
    load_other_parameter(model, source.other_parameter(), torch.device("cpu"))


def _forget_propagated(model: Any) -> None:
    """Drop the vectors that graph models keep for evaluation, because they belong to earlier weights."""
    for name in getattr(model, "other_parameter_name", None) or ():
        if name.startswith("restore_"):
            setattr(model, name, None)


def _terms(model: Any, batch: Interaction, search: Interaction | None) -> tuple[Tensor, ...]:
    """Return the loss terms of a batch, with the same random numbers in every call."""
    init_seed(0, True)
    loss = model.calculate_loss(batch if search is None else JointInteraction(batch.interaction, search))
    return loss if isinstance(loss, tuple) else (loss,)


def _total(terms: tuple[Tensor, ...]) -> Tensor:
    return torch.stack([term.sum() for term in terms]).sum()


def _train(prepared: _Prepared) -> _Prepared:
    """Train for an epoch."""
    config, model = prepared.config, prepared.model
    calculate = model.calculate_loss

    def checked(batch: Interaction) -> Any:
        loss = calculate(batch)
        terms = loss if isinstance(loss, tuple) else (loss,)
        if not all(torch.isfinite(term).all() for term in terms):
            raise _Finding(
                "in an epoch of training calculate_loss returned NaN or infinity",
                "every loss must be finite",
                "a logarithm or a division by 0, and a mean of nothing, as in users without searches",
            )
        return loss

    model.calculate_loss = checked
    try:
        trainer = get_trainer(config["MODEL_TYPE"], config["model"])(config, model)
        trainer.fit(prepared.train, saved=False, verbose=False)
    finally:
        del model.calculate_loss
    model.eval()
    return prepared


def _differ(found: Tensor, expected: Tensor) -> bool:
    same = found.shape == expected.shape and torch.allclose(found.double(), expected.double(), rtol=_RTOL, atol=_ATOL)
    return not same


# ---- checks ----------------------------------------------------------------------------------------------------------


def _check_gradients(subject: _Subject) -> None:
    prepared = subject.prepare("before")
    model = prepared.model
    for batch in prepared.train:
        loss = model.calculate_loss(batch)
        _total(loss if isinstance(loss, tuple) else (loss,)).backward()
    wanted = {name: parameter for name, parameter in model.named_parameters() if parameter.requires_grad}
    for name, parameter in wanted.items():
        if parameter.grad is not None and not torch.isfinite(parameter.grad).all():
            raise _Finding(
                f"the gradient of '{name}' was NaN or infinite in an epoch",
                "every gradient must be finite",
                "a square root or a norm of 0, and a softmax over nothing",
            )
    still = [name for name, one in wanted.items() if one.grad is None or not one.grad.abs().max() > 0]
    if still:
        raise _Finding(
            f"'{still[0]}' had no gradient in an epoch" + (f", nor had {len(still) - 1} more" if still[1:] else ""),
            "every learnt parameter must have one in some batch",
            "a part that the loss does not use, or a detach(); fixed parameters need requires_grad=False",
        )


def _check_training(subject: _Subject) -> None:
    for name, parameter in subject.trained.model.named_parameters():
        if not torch.isfinite(parameter).all():
            raise _Finding(
                f"after an epoch of training '{name}' had NaN or infinite values",
                "all weights must stay finite",
                "gradients that are not finite",
            )
    if not torch.isfinite(_scores_of_valid(subject.trained)).all():
        raise _Finding(
            "after an epoch of training some scores were NaN or infinite",
            "scores must be finite",
            "rows without searches or with few interactions",
        )


def _check_same_seed(subject: _Subject) -> None:
    _same_training(
        subject,
        "before",
        "two trainings with the same seed had different {}",
        "they must be the same",
        "random numbers that are not torch's, NumPy's or Python's global ones, and the order of sets",
    )


def _check_future_training(subject: _Subject) -> None:
    _same_training(
        subject,
        "later",
        "changing all events from each user's validation target on changed the training's {}",
        "later events must not be trained on",
        "whatever the model reads from the dataset besides its batches: only events before train_ends and "
        "train_search_ends are the training's",
    )


def _same_training(subject: _Subject, dataset: str, done: str, expected: str, look_for: str) -> None:
    prepared = subject.prepare(dataset)
    if prepared.dataset.field2id_token.keys() - subject.trained.dataset.field2id_token.keys():
        raise RuntimeError("the datasets of the checks have different fields")
    _train(prepared)
    weights = prepared.model.state_dict()
    for name, value in subject.trained.model.state_dict().items():
        if not torch.allclose(value.double(), weights[name].double(), rtol=_ATOL, atol=_ATOL / 10, equal_nan=True):
            raise _Finding(done.format(f"values of '{name}'"), expected, look_for)
    if _differ(_scores_of_valid(prepared), _scores_of_valid(subject.trained)):
        raise _Finding(done.format("scores of the validation targets"), expected, look_for)


def _check_future_scores(subject: _Subject) -> None:
    _same_valid_scores(
        subject,
        "after",
        "changing events after the validation target changed its scores",
        "a score must not depend on what comes after its target",
        "events read from the dataset instead of the row's histories",
    )


def _check_same_instant(subject: _Subject) -> None:
    _same_valid_scores(
        subject,
        "instant",
        "changing a search at the time of the validation target changed its scores",
        "a search is visible only if it is strictly earlier than the target",
        "a comparison of times by <= instead of <; search_ends of dataset.events is where visible searches end",
    )


def _same_valid_scores(subject: _Subject, dataset: str, done: str, expected: str, look_for: str) -> None:
    prepared = subject.prepare(dataset)
    _take_weights(prepared.model, subject.ready.model)
    prepared.model.eval()
    if _differ(_scores_of_valid(prepared), _scores_of_valid(subject.ready)):
        raise _Finding(done, expected, look_for)


def _check_deterministic(subject: _Subject) -> None:
    first, second = (subject.score(subject.rows, subject.candidates) for _ in range(2))
    if not torch.equal(first, second):
        raise _Finding(
            "scoring the same rows twice in evaluation mode gave different results",
            "evaluation must be deterministic",
            "dropout by a function without training=self.training, random numbers, or state that scoring changes",
        )


def _check_row_order(subject: _Subject) -> None:
    order = torch.randperm(len(subject.rows), generator=torch.Generator().manual_seed(0))
    found = subject.score(subject.rows[order], subject.candidates[order])
    if _differ(found, subject.score(subject.rows, subject.candidates)[order]):
        raise _Finding(
            "scores changed with the order of the rows",
            "a row must have the same scores at any position in its batch",
            "a reduction over dimension 0, and a view() that mixes rows",
        )


def _check_other_rows(subject: _Subject) -> None:
    rows, candidates = subject.rows, subject.candidates
    expected = subject.score(rows, candidates)
    for part in (slice(0, 1), slice(0, len(rows) // 2)):
        if _differ(subject.score(rows[part], candidates[part]), expected[part]):
            raise _Finding(
                f"the first {'row alone' if part.stop == 1 else 'half of the rows'} had other scores than in its batch",
                "scores must not depend on the other rows",
                "batch statistics, as in BatchNorm without running ones, and squeeze() on a single row",
            )


def _check_candidate_order(subject: _Subject) -> None:
    rows, candidates = subject.rows, subject.candidates
    order = torch.rand(candidates.shape, generator=torch.Generator().manual_seed(1)).argsort(1)
    expected = subject.score(rows, candidates)
    if _differ(subject.score(rows, candidates.gather(1, order)), expected.gather(1, order)):
        raise _Finding(
            "scores changed with the order of the candidates",
            "a candidate must have the same score at any position in the list",
            "the position of a candidate, or a reduction over dimension 1 of the scores",
        )
    if _differ(subject.score(rows, candidates[:, :2]), expected[:, :2]):
        raise _Finding(
            "scores changed when there were fewer candidates",
            "a candidate's score must not depend on the others",
            "a softmax or a norm over the candidates",
        )


def _check_full_ranking(subject: _Subject) -> None:
    rows, candidates, ready = subject.rows, subject.candidates, subject.ready
    expected = subject.score(rows, candidates)
    if not (expected.std(1) > 0).any():
        raise _Finding(
            "all candidates of a row had the same score",
            "scores must differ between items",
            "a model that ignores the candidate",
        )
    _forget_propagated(ready.model)
    with torch.no_grad():
        if has_full_ranking(ready.model):
            found = ready.model.full_sort_predict(rows).view(len(rows), -1)
            if found.shape[1] != ready.dataset.item_num or _differ(found.gather(1, candidates), expected):
                raise _Finding(
                    "full_sort_predict gave other scores than lists of candidates",
                    "all ways of scoring must agree",
                    "candidates of shape [1, C], which all rows share",
                )
        alone = predict_pairs(ready.model, ready.valid._dataset, rows, candidates, torch.device("cpu"))
    if _differ(alone, expected):
        raise _Finding(
            "predict gave other scores than full ranking or lists of candidates",
            "all ways of scoring must agree",
            "a bias, a scale or a sigmoid that only one of them has",
        )


def _check_padding(subject: _Subject) -> None:
    model, rows = subject.ready.model, subject.rows
    expected = subject.score(rows, subject.candidates)
    done, must = "more padding behind histories changed the {}", "padding must change nothing"
    look_for = "a mean or softmax over padded positions, positions counted from the end, and sizes taken from the batch"
    if _differ(subject.score(widened(rows), subject.candidates), expected):
        raise _Finding(done.format("scores"), must, look_for)
    search = getattr(subject.batch, "search", None)
    terms = _terms(model, subject.batch, search)
    drawn = torch.rand(()), np.random.random()  # noqa: NPY002  (RecBole seeds it)
    init_seed(0, True)
    if drawn != (torch.rand(()), np.random.random()):  # noqa: NPY002
        return  # Random numbers for padding are no defect, and make other losses.
    wide = _terms(model, widened(subject.batch), None if search is None else widened(search))
    if any(_differ(found, term) for found, term in zip(wide, terms, strict=True)):
        raise _Finding(done.format("losses"), must, look_for)


def _check_empty_histories(subject: _Subject) -> None:
    model, rows = subject.ready.model, subject.rows
    search = getattr(subject.batch, "search", None)
    cases: dict[str, Callable[[Interaction], Interaction]] = {
        "no searches": lambda some: without_histories(some, "searches"),
        "no interactions": lambda some: without_histories(some, "items"),
        "no events at all": lambda some: without_histories(some, "items", "searches"),
    }
    for case, make in cases.items():
        must, look_for = "it must be finite", "a mean of nothing, a softmax over padding alone, the norm of 0"
        if not torch.isfinite(subject.score(make(rows), subject.candidates)).all():
            raise _Finding(f"a score of rows with {case} was NaN or infinite", must, look_for)
        for training in (False, True):
            model.train(training)
            model.zero_grad()
            kept = [buffer.clone() for buffer in model.buffers()]
            terms = _terms(model, make(rows), None if search is None else make(search))
            _total(terms).backward()
            gradients = [parameter.grad for parameter in model.parameters() if parameter.grad is not None]
            model.zero_grad()
            for buffer, before in zip(model.buffers(), kept, strict=True):
                # Running statistics would go into the checks that follow.
                buffer.copy_(before)
            model.eval()
            if not all(torch.isfinite(term).all() for term in terms):
                raise _Finding(f"the loss of rows with {case} was NaN or infinite", must, look_for)
            if not all(gradient.abs().max() < _LARGEST_GRADIENT for gradient in gradients):
                raise _Finding(f"a gradient of rows with {case} was NaN, infinite or huge", must, look_for)


def _check_checkpoint(subject: _Subject) -> None:
    config, dataset, train, valid, model = subject.ready
    trainer = get_trainer(config["MODEL_TYPE"], config["model"])(config, model)
    trainer._save_checkpoint(0, verbose=False)
    state = read_checkpoint(trainer.saved_model_file)
    torch.manual_seed(1)
    loaded = get_model(config["model"])(config, train._dataset)
    loaded.load_state_dict(state["state_dict"])
    load_other_parameter(loaded, state.get("other_parameter"), torch.device("cpu"))
    loaded.eval()
    found = _scores(_Prepared(config, dataset, train, valid, loaded), subject.rows, subject.candidates)
    if _differ(found, subject.score(subject.rows, subject.candidates)):
        raise _Finding(
            "a model loaded from a checkpoint gave other scores than the saved one",
            "a checkpoint must contain everything that scores depend on",
            "tensors that are neither parameters nor buffers, and random numbers in the constructor",
        )


@dataclass(frozen=True)
class _Check:
    run: Callable[[_Subject], None]
    applies: Callable[[Any], bool] = lambda model: True


def _is_search_aware(model: Any) -> bool:
    return issubclass(model, SearchRecommender)


def _learns(model: Any) -> bool:
    return model.type != ModelType.TRADITIONAL


_CHECKS = {
    "gradients": _Check(_check_gradients, _learns),
    "training": _Check(_check_training),
    "deterministic scores": _Check(_check_deterministic),
    "same seed": _Check(_check_same_seed),
    "order of rows": _Check(_check_row_order),
    "other rows": _Check(_check_other_rows),
    "order of candidates": _Check(_check_candidate_order),
    "full ranking": _Check(_check_full_ranking),
    "padding": _Check(_check_padding, _is_search_aware),
    "empty histories": _Check(_check_empty_histories, _is_search_aware),
    "future scores": _Check(_check_future_scores),
    "searches at the same instant": _Check(_check_same_instant, _is_search_aware),
    "future training": _Check(_check_future_training),
    "checkpoint": _Check(_check_checkpoint),
}
"""Checks by name; those that explain failures of others come first."""
