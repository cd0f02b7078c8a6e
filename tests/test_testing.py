"""Every model of this package passes the checks, and models with a defect fail the check that is about it."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from recbole.model.general_recommender.bpr import BPR
from torch import nn

from recbole_gserec.errors import SettingError
from recbole_gserec.layers.prediction import pointwise_loss
from recbole_gserec.models.search_recommender import SearchRecommender
from recbole_gserec.settings.defaults import is_search_aware, model_settings, registered_models
from recbole_gserec.settings.model_table import MODELS, RECOMMENDATION_MODELS
from recbole_gserec.testing import ModelCheckError, check_model, checks_of

SMALL = {"embedding_size": 16, "inner_size": 16, "mlp_hidden_size": [16], "hidden_size": 16}

pytestmark = pytest.mark.filterwarnings("ignore:__array_wrap__:DeprecationWarning")


@pytest.mark.parametrize("name", [*MODELS, *RECOMMENDATION_MODELS])
def test_every_model_of_this_package_passes(name):
    own = model_settings(name)
    done = check_model(name, {setting: value for setting, value in SMALL.items() if setting in own})
    assert ("searches at the same instant" in done) == is_search_aware(name)
    assert len(done) == (14 if is_search_aware(name) else 11)


@pytest.mark.parametrize(("name", "n_checks"), [("Pop", 10), ("FM", 11), ("GRU4Rec", 11)])
def test_models_of_recbole_pass(name, n_checks):
    assert len(check_model(name)) == n_checks


class Sound(SearchRecommender):
    """Users are a vector of their own, the mean of their items, and the mean of what they clicked in searches."""

    def __init__(self, config, dataset):
        super().__init__(config, dataset)
        self.users = nn.Embedding(dataset.num(self.USER_ID), 8, padding_idx=0)
        self.items = nn.Embedding(self.n_items, 8, padding_idx=0)

    def mean(self, items):
        items = items.flatten(1)
        return self.items(items).sum(1) / (items > 0).sum(1, keepdim=True).clamp(min=1)

    def encode(self, interaction):
        taken, clicked = self.mean(interaction[self.ITEM_SEQ]), self.mean(interaction["search_item_ids_list"])
        return self.users(interaction[self.USER_ID]) + taken + clicked

    def score(self, state, candidates):
        return (state.unsqueeze(1) * self.items(candidates)).sum(-1)

    def calculate_loss(self, interaction):
        return (pointwise_loss(self.score(self.encode(interaction), self.training_candidates(interaction))),)


class InfiniteLoss(Sound):
    def calculate_loss(self, interaction):
        return (super().calculate_loss(interaction)[0] + torch.zeros(()).log().neg(),)


class UnusedPart(Sound):
    def __init__(self, config, dataset):
        super().__init__(config, dataset)
        self.unused = nn.Linear(2, 2)


class OwnRandomness(Sound):
    def __init__(self, config, dataset):
        super().__init__(config, dataset)
        self.generator = np.random.default_rng()

    def calculate_loss(self, interaction):
        return (super().calculate_loss(interaction)[0] * self.generator.random(),)


class RandomScores(Sound):
    def encode(self, interaction):
        return nn.functional.dropout(super().encode(interaction))


class PlaceInBatch(Sound):
    def encode(self, interaction):
        return super().encode(interaction) + 0.1 * torch.arange(len(interaction)).unsqueeze(1)


class CentredBatch(Sound):
    def encode(self, interaction):
        state = super().encode(interaction)
        return state - state.mean(0)


class PlaceInList(Sound):
    def score(self, state, candidates):
        return super().score(state, candidates) + 0.1 * torch.arange(candidates.shape[1])


class SoftmaxOfCandidates(Sound):
    def score(self, state, candidates):
        return super().score(state, candidates).softmax(1)


class OtherPredict(Sound):
    def predict(self, interaction):
        return super().predict(interaction).sigmoid()


class PaddedMean(Sound):
    def mean(self, items):
        return self.items(items.flatten(1)).mean(1)


class MeanOfNothing(Sound):
    def encode(self, interaction):
        items = torch.cat([interaction[self.ITEM_SEQ], interaction["search_item_ids_list"].flatten(1)], dim=1)
        return self.items(items).sum(1) / (items > 0).sum(1, keepdim=True) + self.users(interaction[self.USER_ID])


class ItemsOfAllTimes(Sound):
    def __init__(self, config, dataset):
        super().__init__(config, dataset)
        counts = torch.bincount(dataset.events.items.long(), minlength=self.n_items)
        self.register_buffer("counts", counts.float(), persistent=False)

    def score(self, state, candidates):
        return super().score(state, candidates) + 0.1 * self.counts[candidates]


class LossOfAllTimes(ItemsOfAllTimes):
    score = Sound.score

    def calculate_loss(self, interaction):
        return (super().calculate_loss(interaction)[0] * (1 + self.counts[interaction[self.ITEM_ID]].mean()),)


class SearchAtTheTarget(Sound):
    """Users know the search that is the first one hidden from their validation target."""

    def __init__(self, config, dataset):
        super().__init__(config, dataset)
        events = dataset.events
        at = events.search_ends[events.train_ends.clamp(max=len(events.items) - 1)].clamp(max=len(events.queries) - 1)
        self.register_buffer("hidden", 0.1 * events.queries.long()[at], persistent=False)

    def encode(self, interaction):
        return super().encode(interaction) + self.hidden[interaction[self.USER_ID]].unsqueeze(1)


class UnsavedTensor(Sound):
    def __init__(self, config, dataset):
        super().__init__(config, dataset)
        self.shift = torch.randn(8)

    def encode(self, interaction):
        return super().encode(interaction) + self.shift


class RaisesForNoSearches(Sound):
    def encode(self, interaction):
        if not interaction["search_length"].any():
            raise ValueError("nothing to encode")
        return super().encode(interaction)


class OtherFullRanking(BPR):
    def full_sort_predict(self, interaction):
        return super().full_sort_predict(interaction) * 2


def test_a_class_need_not_be_registered():
    states = torch.get_rng_state()
    done = check_model(Sound, {"learning_rate": 0.01})
    assert done == checks_of(Sound) and len(done) == 14
    assert torch.equal(states, torch.get_rng_state())
    assert "Sound" not in registered_models() and "Sound" not in MODELS


@pytest.mark.parametrize(
    ("model", "check", "reported"),
    [
        (UnusedPart, "gradients", "'unused.weight' had no gradient in an epoch, nor had 1 more"),
        (InfiniteLoss, "gradients|training", "NaN or inf"),
        (OwnRandomness, "same seed", "two trainings with the same seed"),
        (RandomScores, "deterministic scores", "Look for dropout"),
        (PlaceInBatch, "order of rows", "order of the rows"),
        (CentredBatch, "other rows", "the first row alone"),
        (PlaceInList, "order of candidates", "order of the candidates"),
        (SoftmaxOfCandidates, "order of candidates", "there were fewer candidates"),
        (OtherPredict, "full ranking", "predict gave other scores"),
        (OtherFullRanking, "full ranking", "other scores"),
        (PaddedMean, "other rows|padding", "rows|padding"),
        (MeanOfNothing, "empty histories", "rows with no interactions was NaN or infinite"),
        (RaisesForNoSearches, "other rows|empty histories", "which raised ValueError: nothing to encode"),
        (ItemsOfAllTimes, "future scores", "must not depend on what comes after its target"),
        (LossOfAllTimes, "future training", "later events must not be trained on"),
        (SearchAtTheTarget, "searches at the same instant", "strictly earlier"),
        (UnsavedTensor, "checkpoint", "neither parameters nor buffers"),
    ],
)
def test_a_defect_fails_its_check(model, check, reported):
    with pytest.raises(ModelCheckError, match=reported) as caught:
        check_model(model)
    assert caught.value.check in check.split("|")
    assert isinstance(caught.value, AssertionError) and str(caught.value).startswith(
        f"{model.__name__} fails the check"
    )
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("model", "reported"),
    [
        ("KGAT", "cannot be checked"),
        ("GSERek", "Did you mean 'GSERec'"),
        (object, "must be a subclass of SearchRecommender"),
    ],
)
def test_what_cannot_be_checked_is_reported(model, reported):
    with pytest.raises(SettingError, match=reported):
        check_model(model)


def test_settings_are_those_of_the_model():
    with pytest.raises(SettingError, match="unknown setting 'embeding_size'"):
        check_model("NRHUB", {"embeding_size": 8})
