"""JSR against a second computation from its weights, and what must or must not influence what.

Breakages tried, each caught here: a Transformer that sees later interactions; the first state in place of the last; a
sum in place of the Hadamard product; one scorer for both tasks; queries without their layer; padding as a word; texts
of other rows; a text's words summed and not averaged; a search loss that reaches the user.
"""

import math

import numpy as np
import pytest
import torch
from recbole.data.interaction import Interaction
from torch import nn

from recbole_gserec.data.search_rows import JointInteraction
from recbole_gserec.data.train_dataloaders import JointTrainDataLoader
from recbole_gserec.errors import SettingError

pytestmark = pytest.mark.usefixtures("random_dataset")

SMALL = {"embedding_size": 8, "inner_size": 12, "mlp_hidden_size": [9, 5]}
LOADED = {
    "inter": ["user_id", "item_id", "timestamp"],
    "search": ["search_user_id", "search_query_id", "search_timestamp", "search_item_ids"],
    "query": ["query_id", "query_words"],
    "item": ["item_id", "title"],
}


@pytest.fixture
def make_jsr(make_model):
    """A model with weights far from those of the start, its training data, and a batch of both tasks."""

    def make(**settings):
        model, config, _, loaders = make_model("JSR", **{**SMALL, **settings})
        generator = torch.Generator().manual_seed(0)
        for name, parameter in model.named_parameters():
            nn.init.normal_(parameter, std=0.5, generator=generator)
            if "embedding" in name:
                parameter.data[0] = 0
        dataset = loaders[0]._dataset
        torch.manual_seed(0)
        batch = next(iter(type(loaders[0])(config, dataset, None, shuffle=True)))
        return model, dataset, batch

    return make


def user_vectors(model, batch):
    """h_u of each row by torch's own layers, one row at a time."""
    if model.user_tower == "id":
        return model.user_embedding.weight[batch["user_id"]]
    layers = []
    for layer in model.history_encoder.layers:
        sizes = layer.linear2.out_features, layer.self_attn.num_heads, layer.linear1.out_features
        layers.append(nn.TransformerEncoderLayer(*sizes, 0, batch_first=True).eval())
        layers[-1].load_state_dict(layer.state_dict())
    vectors = []
    for items in batch["item_id_list"].tolist():
        items = [item for item in items if item]
        states = model.item_embedding.weight[items] + model.history_encoder.positions.weight[: len(items)]
        mask = nn.Transformer.generate_square_subsequent_mask(len(items))
        for layer in layers:
            states = layer(states.unsqueeze(0), mask)[0]
        vectors.append(states[-1])
    return torch.stack(vectors)


def words_of(texts, row):
    return texts.word_values[texts.word_offsets[row] : texts.word_offsets[row + 1]].tolist()


def query_vectors(model, queries):
    """h_q of each row by loops."""
    table, vectors = model.query_embedding.embedding.weight, []
    for query in queries.tolist():
        words = words_of(model.query_embedding, query)
        mean = sum(table[word] for word in words) / len(words) if words else torch.zeros(table.shape[1])
        vectors.append(model.query_layer.weight @ mean + model.query_layer.bias)
    return torch.stack(vectors)


def plain_scores(model, mlp, vectors, candidates):
    """FFN(vector o item) of each pair in NumPy."""
    scores = np.zeros(candidates.shape)
    for row, items in enumerate(candidates.tolist()):
        for position, item in enumerate(items):
            hidden = vectors[row].numpy() * model.item_embedding.weight[item].numpy()
            for index, layer in enumerate(mlp.layers):
                hidden = layer.weight.numpy() @ (np.maximum(hidden, 0) if index else hidden) + layer.bias.numpy()
            scores[row, position] = hidden[0]
    return scores


def plain_cross_entropy(scores):
    chance = 1 / (1 + np.exp(-scores))
    return -(np.log(chance[:, 0]).sum() + np.log(1 - chance[:, 1:]).sum()) / scores.size


def plain_text_loss(model, items, texts):
    """Mean over texts of the mean over words of -log p(w | i), every probability written out."""
    table, losses = model.text.texts.embedding.weight.double(), []
    for item, text in zip(items.tolist(), texts.tolist(), strict=True):
        words = words_of(model.text.texts, text)
        vector = model.text.projection.weight.double() @ model.item_embedding.weight[item].double()
        weights = {word: math.exp(table[word] @ vector) for word in range(1, len(table))}
        if words:
            losses.append(-sum(math.log(weights[word] / sum(weights.values())) for word in words) / len(words))
    return sum(losses) / len(losses)


@pytest.mark.parametrize("user_tower", ["seq", "id"])
@torch.no_grad()
def test_scores_and_losses_equal_a_second_computation(make_jsr, user_tower):
    model, _, batch = make_jsr(user_tower=user_tower, lambda_src=0.3)
    model.eval()
    batch = JointInteraction(batch[:40].interaction, batch.search[:30])
    candidates = model.training_candidates(batch)
    assert candidates.shape == (40, 5)
    scores = plain_scores(model, model.recommendation_mlp, user_vectors(model, batch), candidates)
    np.testing.assert_allclose(model.score_candidates(batch, candidates).numpy(), scores, rtol=1e-4, atol=1e-4)
    recommendation, search = model.calculate_loss(batch)
    assert model.loss_names == ("rec", "src_click")
    assert recommendation.item() == pytest.approx(plain_cross_entropy(scores), rel=1e-4)
    queries = query_vectors(model, batch.search["query_id"])
    scores = plain_scores(model, model.search_mlp, queries, model.training_candidates(batch.search))
    assert search.item() == pytest.approx(0.3 * plain_cross_entropy(scores), rel=1e-4)


@torch.no_grad()
def test_queries_as_texts_equal_a_second_computation(make_jsr):
    model, _, batch = make_jsr(jsr_variant="text20", lambda_src=0.3)
    model.eval()
    losses = model.calculate_loss(batch)
    assert model.loss_names == ("rec", "src_text")
    expected = plain_text_loss(model, batch.search["item_id"], batch.search["query_id"])
    assert losses[1].item() == pytest.approx(0.3 * expected, rel=1e-4)


@torch.no_grad()
def test_texts_of_items_equal_a_second_computation(make_jsr, write_rows):
    titles = {f"i{item}": f"t{item % 7} t{item % 5} t{item % 5}" for item in range(140)}
    write_rows(item=list(titles.items()))
    model, dataset, batch = make_jsr(jsr_variant="text20", item_text_field="title", load_col=LOADED, lambda_src=0.3)
    model.eval()
    for item, token in enumerate(dataset.field2id_token["item_id"]):
        words = dataset.field2id_token["title"][words_of(model.text.texts, item)]
        assert " ".join(words) == titles.get(token, "")
    losses = model.calculate_loss(batch)
    # Rows of the search task would be made for nothing.
    assert not isinstance(batch, JointInteraction)
    assert model.loss_names == ("rec", "text")
    items = batch["item_id"]
    assert losses[1].item() == pytest.approx(0.3 * plain_text_loss(model, items, items), rel=1e-4)


def gradients(model, loss):
    model.zero_grad()
    loss.backward()
    return {name for name, parameter in model.named_parameters() if parameter.grad is not None and parameter.grad.any()}


@pytest.mark.parametrize("user_tower", ["seq", "id"])
@pytest.mark.parametrize("variant", ["joint18", "text20"])
def test_tasks_share_the_item_table_and_nothing_else(make_jsr, user_tower, variant):
    model, _, batch = make_jsr(user_tower=user_tower, jsr_variant=variant)
    recommendation, search = (gradients(model, loss) for loss in model.calculate_loss(batch))
    assert recommendation & search == {"item_embedding.weight"}
    assert recommendation | search == {name for name, _ in model.named_parameters()}
    towers = {"seq": "history_encoder", "id": "user_embedding"}
    assert any(name.startswith(towers[user_tower]) for name in recommendation)
    words = {"joint18": "query_embedding.embedding.weight", "text20": "text.texts.embedding.weight"}
    assert words[variant] in search


@pytest.mark.parametrize("variant", ["joint18", "text20"])
def test_without_the_search_task_it_is_its_recommender(make_jsr, variant):
    given = {}
    for weight in (0, 1):
        model, _, batch = make_jsr(jsr_variant=variant, lambda_src=weight)
        alone = Interaction(batch.interaction)
        for name, rows in (("joint", batch), ("alone", alone)):
            torch.manual_seed(0)
            given[weight, name] = model.calculate_loss(rows)[0]
        if weight == 0:
            assert len(model.calculate_loss(batch)) == 1
            assert gradients(model, model.calculate_loss(batch)[0]) == gradients(model, model.calculate_loss(alone)[0])
    assert len({loss.item() for loss in given.values()}) == 1


@torch.no_grad()
def test_what_a_user_is(make_jsr):
    for tower, follows_history in (("seq", True), ("id", False)):
        model, _, batch = make_jsr(user_tower=tower)
        model.eval()
        rows = batch[batch["item_length"] > 2]
        other = Interaction(dict(rows.interaction))
        items = rows["item_id_list"].clone()
        items[:, :2] = items[:, :2].flip(1)
        other.update(Interaction({"item_id_list": items}))
        assert torch.allclose(model.encode(rows), model.encode(other)) != follows_history
        other = Interaction({**rows.interaction, "user_id": rows["user_id"].roll(1)})
        assert torch.equal(model.encode(rows), model.encode(other)) == follows_history


def test_queries_without_words_have_no_text(make_jsr):
    model, _, batch = make_jsr(jsr_variant="text20")
    lengths = model.text.texts.word_offsets.diff()
    wordless = int((lengths[1:] == 0).nonzero()[0]) + 1
    search = Interaction({**batch.search.interaction, "query_id": torch.full((len(batch.search),), wordless)})
    loss = model.calculate_loss(JointInteraction(batch.interaction, search))[1]
    assert loss.item() == 0 and not gradients(model, loss)


@pytest.mark.parametrize("settings", [{}, {"user_tower": "id"}, {"jsr_variant": "text20"}])
def test_training_lowers_the_loss(make_model, settings):
    from recbole_gserec.plugin.trainer import SearchTrainer

    model, config, _, loaders = make_model("JSR", learning_rate=0.01, lambda_src=1, **settings)
    batch = next(iter(JointTrainDataLoader(config, loaders[0]._dataset, None, shuffle=True)))
    trainer = SearchTrainer(config, model.eval())
    before = [loss.item() for loss in model.calculate_loss(batch)]
    for _ in range(40):
        trainer.optimizer.zero_grad()
        sum(model.calculate_loss(batch)).backward()
        trainer.optimizer.step()
    after = [loss.item() for loss in model.calculate_loss(batch)]
    assert all(late < 0.8 * early for late, early in zip(after, before, strict=True))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"jsr_variant": "text18"}, "jsr_variant is 'text18'; it must be 'joint18' or 'text20'"),
        ({"user_tower": "mf"}, "user_tower is 'mf'; it must be 'seq' or 'id'"),
        ({"embedding_size": 7}, "embedding_size 7 is not a multiple of n_heads 2"),
        ({"jsr_variant": "text20", "item_text_field": "title"}, "'title', which is not loaded; add it to load_col"),
    ],
)
def test_wrong_settings_are_refused(make_model, settings, message):
    with pytest.raises(SettingError, match=message):
        make_model("JSR", **settings)


def test_numbers_are_no_text(make_model, write_rows):
    prices = "".join(f"i{item}\t{item / 2}\n" for item in range(150))
    (write_rows() / "toy.item").write_text("item_id:token\tprice:float\n" + prices, encoding="utf-8")
    with pytest.raises(SettingError, match="'price', which holds numbers"):
        load_col = {**LOADED, "item": ["item_id", "price"]}
        make_model("JSR", jsr_variant="text20", item_text_field="price", load_col=load_col)


def test_the_user_vector_has_no_heads_to_divide(make_model):
    model, *_ = make_model("JSR", user_tower="id", embedding_size=7)
    assert not hasattr(model, "history_encoder")
