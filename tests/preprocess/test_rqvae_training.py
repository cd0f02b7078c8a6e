import json
from dataclasses import replace

import numpy as np
import pytest
import torch

from recbole_gserec.errors import SettingError
from recbole_gserec.preprocess import rqvae_training
from recbole_gserec.preprocess.codebook_metrics import collision_rate
from recbole_gserec.preprocess.rqvae_training import (
    build_rqvae,
    has_settled,
    kmeans_centres,
    learning_rate_factor,
    train_rqvae,
)
from recbole_gserec.settings.offline import PreprocessSettings

DEFAULTS = PreprocessSettings().rqvae_settings()
SMALL = {
    "n_codebooks": 3,
    "codebook_size": 16,
    "code_dim": 8,
    "hidden_sizes": (24, 16),
    "epochs": 30,
    "warmup_epochs": 3,
    "batch_size": 64,
    "learning_rate": 5e-3,
    "check_every": 5,
}


def clusters(n_users: int) -> np.ndarray:
    return np.random.default_rng(1).integers(20, size=n_users)


def clustered(n_users: int = 150) -> tuple[np.ndarray, np.ndarray]:
    """Unit vectors around 20 centres that both sides share; a fifth of the users have one vector for both sides."""
    rng = np.random.default_rng(0)
    centres = rng.standard_normal((20, 12))[clusters(n_users)]
    search, rec = (centres + 0.3 * rng.standard_normal(centres.shape) for _ in range(2))
    search[::5] = rec[::5]
    return tuple((v / np.linalg.norm(v, axis=1, keepdims=True)).astype(np.float32) for v in (search, rec))


@pytest.fixture(scope="module")
def vectors():
    return clustered()


@pytest.fixture(scope="module")
def result(vectors):
    return train_rqvae(*vectors, replace(DEFAULTS, **SMALL | {"epochs": 60}))


def test_result_has_codes_of_every_user(result):
    for codes, latents in ((result.search_codes, result.search_latents), (result.rec_codes, result.rec_latents)):
        assert codes.shape == (150, 3) and codes.dtype == np.int64
        assert codes.min() >= 0 and codes.max() < 16
        assert latents.shape == (150, 8) and latents.dtype == np.float32


def test_training_learns(result):
    first, last = result.history[0]["losses"], result.history[-1]["losses"]
    assert set(last) == {"total", "reconstruction", "quantization", "contrastive"}
    assert last["reconstruction"] < first["reconstruction"]
    assert result.metrics["search"]["reconstruction_error"] < 0.5
    assert result.metrics["rec"]["reconstruction_error"] < 0.5
    assert json.loads(json.dumps(result.metrics)) == result.metrics
    assert json.loads(json.dumps(result.history)) == result.history


def test_users_of_a_cluster_share_coarse_codes(result):
    cluster = clusters(150)
    same_cluster = cluster[:, None] == cluster
    np.fill_diagonal(same_cluster, False)
    for codes in (result.search_codes, result.rec_codes):
        shared = codes[:, None, 0] == codes[:, 0]
        assert shared[same_cluster].mean() > 3 * shared[~same_cluster].mean()


def test_checks_are_regular_and_the_best_after_the_warm_up_is_kept(vectors):
    settings = replace(DEFAULTS, **SMALL | {"epochs": 23, "warmup_epochs": 7, "resolve_collisions": False})
    result = train_rqvae(*vectors, settings)
    assert [check["epoch"] for check in result.history] == [5, 10, 15, 20, 23]
    rates = {check["epoch"]: check["collision_rate"] for check in result.history if check["epoch"] > 7}
    assert rates[result.best_epoch] == min(rates.values())
    assert result.best_epoch == max(epoch for epoch, rate in rates.items() if rate == min(rates.values()))
    codes = (collision_rate(result.search_codes) + collision_rate(result.rec_codes)) / 2
    assert codes == pytest.approx(rates[result.best_epoch])
    assert result.metrics["collision_rate"] == result.metrics["nearest_collision_rate"] == pytest.approx(codes)


@pytest.mark.parametrize(("keep_best", "expected"), [(True, 15), (False, 20)])
def test_epoch_of_the_codes(vectors, monkeypatch, keep_best, expected):
    # The first check belongs to the warm-up; the second and third are equally good.
    rates = iter([0.0, 0.2, 0.2, 0.3])
    monkeypatch.setattr(rqvae_training, "_mean_collision_rate", lambda *_: next(rates))
    settings = replace(DEFAULTS, **SMALL | {"epochs": 20, "warmup_epochs": 5, "keep_best": keep_best})
    assert train_rqvae(*vectors, settings).best_epoch == expected


def test_same_seed_same_result_and_global_state_untouched(vectors, result):
    torch_state, numpy_state = torch.get_rng_state(), np.random.get_state()
    again = train_rqvae(*vectors, replace(DEFAULTS, **SMALL | {"epochs": 60}))
    assert torch.equal(torch.get_rng_state(), torch_state)
    assert all(np.array_equal(a, b) for a, b in zip(np.random.get_state(), numpy_state, strict=True))
    np.testing.assert_array_equal(again.search_codes, result.search_codes)
    np.testing.assert_array_equal(again.rec_codes, result.rec_codes)
    assert again.history == result.history and again.metrics == result.metrics
    other = train_rqvae(*vectors, replace(DEFAULTS, **SMALL, seed=1))
    assert not np.array_equal(other.rec_codes, result.rec_codes)


def test_vectors_are_not_changed():
    search, rec = clustered(40)
    copies = search.copy(), rec.copy()
    search.setflags(write=False)
    train_rqvae(search, rec, replace(DEFAULTS, **SMALL | {"epochs": 5}))
    assert np.array_equal(search, copies[0]) and np.array_equal(rec, copies[1])


def test_save_and_load_give_the_same_codes(vectors, tmp_path):
    settings = replace(DEFAULTS, **SMALL | {"resolve_collisions": False})
    result = train_rqvae(*vectors, settings)
    torch.save(result.state_dict, tmp_path / "rqvae.pt")
    model = build_rqvae(12, 12, settings)
    model.load_state_dict(torch.load(tmp_path / "rqvae.pt", weights_only=True))
    for side, side_vectors, codes in zip(
        (model.search, model.rec), vectors, (result.search_codes, result.rec_codes), strict=True
    ):
        assert all(codebook.initialised for codebook in side.quantizer.codebooks)
        rows = torch.from_numpy(side_vectors)
        for mode in (True, False):
            assert np.array_equal(side.train(mode).encode(rows).numpy(), codes)
        side.quantizer.initialise(side.encoder(rows).detach() * 50, lambda rows, n: rows[:n])
        assert np.array_equal(side.encode(rows).numpy(), codes)


def test_residuals_shrink_level_by_level_after_the_kmeans_start(vectors):
    settings = replace(DEFAULTS, **SMALL)
    model = build_rqvae(12, 12, settings, torch.Generator().manual_seed(0))
    rng = np.random.default_rng(0)
    latents = model.search.encoder(torch.from_numpy(vectors[0])).detach()
    model.search.quantizer.initialise(latents, lambda rows, n: kmeans_centres(rows, n, rng))
    squares, residual = [latents.square().mean().item()], latents
    for codebook in model.search.quantizer.codebooks:
        residual = residual - codebook(codebook.nearest(residual)).detach()
        squares.append(residual.square().mean().item())
    assert squares == sorted(squares, reverse=True)
    assert squares[1] < 0.3 * squares[0]


def test_equal_vectors_have_equal_codes_whether_collisions_are_resolved_or_not():
    search, rec = clustered(60)
    search[10:15], rec[10:15] = search[10], rec[10]
    for resolve_collisions in (False, True):
        settings = replace(DEFAULTS, **SMALL, resolve_collisions=resolve_collisions)
        result = train_rqvae(search, rec, settings)
        for codes in (result.search_codes, result.rec_codes):
            assert (codes[10:15] == codes[10]).all()


def test_resolving_collisions_changes_the_last_level_only(vectors):
    crowded = SMALL | {"codebook_size": 4}
    kept = train_rqvae(*vectors, replace(DEFAULTS, **crowded, resolve_collisions=False))
    resolved = train_rqvae(*vectors, replace(DEFAULTS, **crowded))
    assert np.array_equal(resolved.search_codes[:, :-1], kept.search_codes[:, :-1])
    assert resolved.metrics["nearest_collision_rate"] == kept.metrics["collision_rate"]
    assert resolved.metrics["collision_rate"] < kept.metrics["collision_rate"]


def test_progress_hears_of_every_epoch(vectors):
    heard = []
    train_rqvae(*vectors, replace(DEFAULTS, **SMALL | {"epochs": 6}), progress=lambda *values: heard.append(values))
    assert [(epoch, total) for epoch, total, _ in heard] == [(epoch, 6) for epoch in range(1, 7)]
    assert all(losses["total"] > 0 for _, _, losses in heard)


@pytest.mark.parametrize(
    "settings",
    [
        {"kmeans_init": False},
        {"sinkhorn": False},
        {"loss_reduction": "sum", "commitment_weight": 1.0},
        {"lambda_rq_cl": 0.0},
        {"n_codebooks": 1},
        {"hidden_sizes": []},
        {"batch_size": 149},
        {"sinkhorn_epsilon": 1e-4},
    ],
    ids=str,
)
def test_switches(vectors, settings):
    result = train_rqvae(*vectors, replace(DEFAULTS, **SMALL | {"epochs": 5} | settings))
    assert all(np.isfinite(list(check["losses"].values())).all() for check in result.history)
    assert (result.history[-1]["losses"]["contrastive"] == 0) == (settings.get("lambda_rq_cl") == 0.0)


@pytest.mark.parametrize(
    "settings", [{"weight_decay": 2.0}, {"learning_rate": 1e-3}, {"tau_1": 1.0}, {"lambda_rq": 0.1}]
)
def test_settings_of_the_optimisation_matter(vectors, settings):
    runs = [train_rqvae(*vectors, replace(DEFAULTS, **SMALL | {"epochs": 5} | given)) for given in ({}, settings)]
    assert runs[0].history[-1]["losses"]["total"] != runs[1].history[-1]["losses"]["total"]


def test_gradients_are_clipped(vectors):
    # Far below the constant in AdamW's denominator, gradients move nothing.
    settings = replace(DEFAULTS, **SMALL | {"epochs": 5, "clip_grad_norm": 1e-15, "weight_decay": 0.0})
    state = train_rqvae(*vectors, settings).state_dict
    start = build_rqvae(12, 12, settings, torch.Generator().manual_seed(settings.seed)).state_dict()
    for name in start:
        if "codebooks" not in name:
            torch.testing.assert_close(state[name], start[name], rtol=0, atol=1e-6)


def test_batches_of_an_epoch_are_of_equal_size(vectors, monkeypatch):
    sizes = []
    build = rqvae_training.build_rqvae

    def recorded(*arguments):
        model = build(*arguments)
        model.register_forward_pre_hook(lambda _, inputs: sizes.append(len(inputs[0])))
        return model

    monkeypatch.setattr(rqvae_training, "build_rqvae", recorded)
    train_rqvae(*vectors, replace(DEFAULTS, **SMALL | {"epochs": 4, "batch_size": 149}))
    assert sizes == [75] * 8


@pytest.mark.parametrize("n_users", [1, 2, 5])
def test_fewer_users_than_codes(n_users):
    search, rec = clustered(n_users)
    result = train_rqvae(search, rec, replace(DEFAULTS, **SMALL | {"epochs": 5}))
    assert result.search_codes.shape == (n_users, 3)
    assert np.isfinite(result.search_latents).all()


def test_all_users_equal():
    search, rec = clustered(1)
    result = train_rqvae(search.repeat(30, 0), rec.repeat(30, 0), replace(DEFAULTS, **SMALL))
    assert (result.search_codes == result.search_codes[0]).all()
    assert result.metrics["collision_rate"] == pytest.approx(29 / 30)


def test_zero_vectors_train(vectors):
    result = train_rqvae(np.zeros_like(vectors[0]), vectors[1], replace(DEFAULTS, **SMALL | {"epochs": 5}))
    assert (result.search_codes == result.search_codes[0]).all()


def test_sides_may_differ_in_size(vectors):
    result = train_rqvae(vectors[0], vectors[1][:, :7], replace(DEFAULTS, **SMALL | {"epochs": 5}))
    assert result.rec_codes.shape == (150, 3)


def test_divergence_is_reported(vectors):
    huge = vectors[0] * np.float32(1e25)
    with pytest.raises(SettingError, match=r"diverged: the loss of epoch 1 .*learning rate, which is 0.005"):
        train_rqvae(huge, vectors[1], replace(DEFAULTS, **SMALL | {"kmeans_init": False}))


@pytest.mark.parametrize(
    ("search", "rec"),
    [
        (np.zeros((3, 4)), np.zeros((2, 4))),
        (np.zeros(3), np.zeros(3)),
        (np.zeros((0, 4)), np.zeros((0, 4))),
        (np.full((3, 4), np.nan), np.zeros((3, 4))),
    ],
)
def test_bad_vectors_are_refused(search, rec):
    with pytest.raises(ValueError, match="vectors"):
        train_rqvae(search, rec, replace(DEFAULTS, **SMALL))


def test_learning_rate_rises_then_falls():
    factors = [learning_rate_factor(step, n_warmup=4, n_steps=12) for step in range(12)]
    assert factors[:5] == pytest.approx([1 / 5, 2 / 5, 3 / 5, 4 / 5, 1])
    assert factors[4:] == pytest.approx([1, 7 / 8, 6 / 8, 5 / 8, 4 / 8, 3 / 8, 2 / 8, 1 / 8])


def test_kmeans_finds_separate_clusters():
    corners = torch.tensor([[0.0, 0.0], [10.0, 0.0], [0.0, 10.0]])
    noise = 0.01 * torch.randn(90, 2, generator=torch.Generator().manual_seed(0))
    rows = corners.repeat(30, 1) + noise
    centres = kmeans_centres(rows, 3, np.random.default_rng(0))
    assert centres.dtype == rows.dtype
    assert torch.cdist(corners, centres).min(1).values.max() < 0.01


def test_kmeans_with_few_distinct_rows_has_each_of_them():
    rows = torch.tensor([[1.0, 2.0], [3.0, 5.0], [1.0, 2.0]]).repeat(4, 1)
    centres = kmeans_centres(rows, 6, np.random.default_rng(0))
    assert centres.shape == (6, 2)
    assert all((centres == row).all(1).any() for row in rows[:2])
    assert len(torch.unique(centres, dim=0)) == 6
    assert torch.cdist(centres, rows).min(1).values.max() < 0.1


def test_kmeans_samples_large_data(monkeypatch):
    monkeypatch.setattr(rqvae_training, "_MOST_ROWS_TO_CLUSTER", 50)
    rows = torch.randn(400, 2, generator=torch.Generator().manual_seed(0))
    first, second = (kmeans_centres(rows, 4, np.random.default_rng(3)) for _ in range(2))
    assert torch.equal(first, second) and first.shape == (4, 2)
    # A sample of 50 has other means than the whole.
    monkeypatch.setattr(rqvae_training, "_MOST_ROWS_TO_CLUSTER", 1000)
    assert not torch.equal(kmeans_centres(rows, 4, np.random.default_rng(3)), first)


def checks(*pairs: tuple[float, float]) -> list[dict]:
    """Checks every 10 epochs, from shares of users whose codes changed and reconstruction losses."""
    return [
        {"epoch": 10 * number, "changed": changed, "losses": {"reconstruction": loss}}
        for number, (changed, loss) in enumerate(pairs, start=1)
    ]


@pytest.mark.parametrize(
    ("history", "expected"),
    [
        (checks(), False),
        (checks((1.0, 5.0)), False),
        (checks((1.0, 5.0), (0.0, 5.0)), False),  # one check, and two are asked for
        (checks((1.0, 5.0), (0.0, 5.0), (0.0, 5.0)), True),
        (checks((1.0, 5.0), (0.09, 4.96), (0.0, 4.92)), True),
        (checks((1.0, 5.0), (0.1, 5.0), (0.0, 5.0)), True),
        (checks((1.0, 5.0), (0.11, 5.0), (0.0, 5.0)), False),
        (checks((1.0, 5.0), (0.0, 5.0), (0.2, 5.0)), False),
        (checks((1.0, 5.0), (0.0, 4.94), (0.0, 4.94)), False),  # the loss fell by 1.2 %
        (checks((1.0, 5.0), (0.0, 6.0), (0.0, 7.0)), True),  # it rises
        (checks((1.0, 9.0), (0.9, 5.0), (0.0, 5.0), (0.0, 5.0)), True),
        (checks((1.0, 5.0), (0.0, 5.0), (0.0, 5.0), (0.9, 5.0), (0.0, 5.0)), False),
        (checks((1.0, 0.0), (0.0, 0.0), (0.0, 0.0)), True),  # nothing is left to learn
    ],
)
def test_codes_have_settled(history, expected):
    settings = replace(DEFAULTS, warmup_epochs=5, stopping_checks=2, stopping_changed=0.1, stopping_improvement=0.01)
    assert has_settled(history, settings) is expected
    assert not has_settled(history, replace(settings, stopping_checks=0))


@pytest.mark.parametrize(("warmup_epochs", "expected"), [(19, True), (20, False)])
def test_checks_of_the_warm_up_do_not_settle_codes(warmup_epochs, expected):
    settings = replace(DEFAULTS, warmup_epochs=warmup_epochs, stopping_checks=2)
    assert has_settled(checks((1.0, 5.0), (0.0, 5.0), (0.0, 5.0)), settings) is expected


def test_checks_count_the_users_whose_codes_changed(vectors):
    seen = []
    settings = replace(DEFAULTS, **SMALL | {"epochs": 10, "keep_best": False, "resolve_collisions": False})
    with pytest.MonkeyPatch.context() as patch:
        rate = rqvae_training._mean_collision_rate
        patch.setattr(rqvae_training, "_mean_collision_rate", lambda codes: seen.append(codes) or rate(codes))
        result = train_rqvae(*vectors, settings)
    first, last = (np.concatenate([codes["search"], codes["rec"]], axis=1) for codes in seen)
    assert np.array_equal(last, np.concatenate([result.search_codes, result.rec_codes], axis=1))
    n_changed = sum(tuple(before) != tuple(after) for before, after in zip(first.tolist(), last.tolist(), strict=True))
    assert n_changed > 0
    assert [check["changed"] for check in result.history] == [1.0, pytest.approx(n_changed / len(last))]


def test_training_ends_when_codes_have_settled(vectors):
    heard = []
    settings = replace(DEFAULTS, **SMALL, stopping_checks=2, stopping_changed=2.0, stopping_improvement=2.0)
    result = train_rqvae(*vectors, settings, progress=lambda epoch, *_: heard.append(epoch))
    # Of three checks, the first has nothing to compare with.
    assert heard[-1] == 15 and [check["epoch"] for check in result.history] == [5, 10, 15]
    full = train_rqvae(*vectors, replace(settings, stopping_checks=0))
    assert full.history[:3] == result.history and len(full.history) == 6
