import math

import numpy as np
import pytest
import torch

from recbole_gserec.preprocess.rqvae import RQVAE, SIDES, perceptron


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def make_model(**settings) -> RQVAE:
    defaults = {"hidden_sizes": (6, 5), "code_dim": 4, "n_codebooks": 3, "codebook_size": 7, "generator": generator()}
    return RQVAE(9, 8, **(defaults | settings))


@pytest.fixture
def vectors():
    return torch.randn(12, 9, generator=generator(1)), torch.randn(12, 8, generator=generator(2))


def plain_perceptron(layers: torch.nn.Sequential, rows: np.ndarray) -> np.ndarray:
    linears = [layer for layer in layers if isinstance(layer, torch.nn.Linear)]
    for index, linear in enumerate(linears):
        rows = rows @ linear.weight.detach().double().numpy().T + linear.bias.detach().double().numpy()
        if index < len(linears) - 1:
            rows = np.maximum(rows, 0)
    return rows


def plain_losses(model: RQVAE, search: torch.Tensor, rec: torch.Tensor, reduction: str, commitment_weight: float):
    """Eq. 1, 2, 4 and 5 in NumPy: reconstruction, quantization, contrastive."""
    reconstruction, level_losses, latents = 0.0, [], []
    for side, vectors in ((model.search, search), (model.rec, rec)):
        vectors = vectors.double().numpy()
        latent = plain_perceptron(side.encoder, vectors)
        latents.append(latent)
        residual, total = latent, np.zeros_like(latent)
        for codebook in side.quantizer.codebooks:
            weight = codebook.weight.detach().double().numpy()
            squares = ((residual[:, None] - weight) ** 2).sum(-1)
            level_losses.append((1 + commitment_weight) * squares.min(1).mean() / (4 if reduction == "mean" else 1))
            total = total + weight[squares.argmin(1)]
            residual = residual - weight[squares.argmin(1)]
        squares = ((vectors - plain_perceptron(side.decoder, total)) ** 2).sum(1).mean()
        reconstruction += squares / (vectors.shape[1] if reduction == "mean" else 1)
    quantization = np.mean(level_losses) if reduction == "mean" else np.sum(level_losses)

    views = np.concatenate(latents)
    views = views / np.linalg.norm(views, axis=1, keepdims=True)
    logits = np.exp(views @ views.T / 0.1)
    n = len(search)
    contrastive = -np.mean(
        [math.log(logits[i, (i + n) % (2 * n)] / (logits[i].sum() - logits[i, i])) for i in range(2 * n)]
    )
    return reconstruction, quantization, contrastive


@pytest.mark.parametrize("reduction", ["mean", "sum"])
@pytest.mark.parametrize("commitment_weight", [0.25, 1.0])
def test_losses_are_the_equations(vectors, reduction, commitment_weight):
    model = make_model(
        reduction=reduction, commitment_weight=commitment_weight, lambda_rq=0.7, lambda_rq_cl=0.3, tau_1=0.1
    )
    expected = plain_losses(model, *vectors, reduction, commitment_weight)
    losses = model(*vectors)
    found = (losses.reconstruction.item(), losses.quantization.item(), losses.contrastive.item())
    assert found == pytest.approx(expected, rel=1e-4)
    assert losses.total.item() == pytest.approx(expected[0] + 0.7 * expected[1] + 0.3 * expected[2], rel=1e-4)


def test_a_codebook_with_the_latent_reconstructs_by_the_decoder_alone(vectors):
    model = make_model(n_codebooks=1, codebook_size=12, lambda_rq_cl=0.0)
    for name, side_vectors in zip(SIDES, vectors, strict=True):
        side = model.get_submodule(name)
        latents = side.encoder(side_vectors).detach()
        side.quantizer.codebooks[0].initialise(latents)
        assert torch.equal(side.quantizer(latents).vectors, latents)
        assert torch.equal(side.decode(side.encode(side_vectors)), side.decoder(latents))
    losses = model(*vectors)
    assert losses.quantization.item() == 0
    errors = [
        (model.get_submodule(name).decoder(model.get_submodule(name).encoder(v)) - v).square().mean()
        for name, v in zip(SIDES, vectors, strict=True)
    ]
    assert losses.total.item() == pytest.approx(sum(errors).item(), rel=1e-6)


def test_shapes_of_the_network_and_its_initial_values():
    layers = perceptron([300, 200, 100, 50], generator())
    assert [type(layer).__name__ for layer in layers] == ["Linear", "ReLU", "Linear", "ReLU", "Linear"]
    for linear in layers[::2]:
        assert not linear.bias.any()
        xavier = math.sqrt(2 / (linear.in_features + linear.out_features))
        assert linear.weight.std().item() == pytest.approx(xavier, rel=0.05)
    model = make_model()
    assert [layer.out_features for layer in model.search.encoder[::2]] == [6, 5, 4]
    assert [layer.out_features for layer in model.search.decoder[::2]] == [5, 6, 9]
    assert model.rec.decoder[-1].out_features == 8


def test_the_generator_decides_all_values_and_the_global_state_none():
    state = torch.get_rng_state()
    first, second = make_model(), make_model()
    assert torch.equal(torch.get_rng_state(), state)
    other = make_model(generator=generator(5))
    for (name, one), two, three in zip(first.named_parameters(), second.parameters(), other.parameters(), strict=True):
        assert torch.equal(one, two)
        assert name.endswith("bias") or not torch.equal(one, three)
    assert not torch.equal(first.search.encoder[2].weight, first.rec.encoder[2].weight)


def test_without_contrastive_weight_no_side_feels_the_other(vectors):
    model = make_model(lambda_rq_cl=0.0)
    losses = model(*vectors)
    assert losses.contrastive.item() == 0 and not losses.contrastive.requires_grad
    losses.total.backward()
    gradient = model.search.encoder[0].weight.grad.clone()
    model.zero_grad()
    model(vectors[0], vectors[1] * 3 + 1).total.backward()
    assert torch.equal(model.search.encoder[0].weight.grad, gradient)

    aligned = make_model(lambda_rq_cl=0.5)
    aligned(*vectors).total.backward()
    assert not torch.allclose(aligned.search.encoder[0].weight.grad, gradient)


def test_every_parameter_is_trained(vectors):
    model = make_model()
    model(*vectors).total.backward()
    assert all(parameter.grad is not None and parameter.grad.any() for parameter in model.parameters())


def test_equal_vectors_have_equal_codes(vectors):
    model = make_model().eval()
    rows = torch.tensor([0, 3, 3, 7, 0, 3])
    codes = model.search.encode(vectors[0][rows])
    assert torch.equal(codes[0], codes[4]) and torch.equal(codes[1], codes[2]) and torch.equal(codes[1], codes[5])
    assert codes.shape == (6, 3) and codes.dtype == torch.int64


def test_losses_do_not_depend_on_the_order_of_users(vectors):
    model = make_model(lambda_rq_cl=0.3)
    order = torch.randperm(12, generator=generator(4))
    before, after = model(*vectors), model(*(side[order] for side in vectors))
    for name in ("total", "reconstruction", "quantization", "contrastive"):
        torch.testing.assert_close(getattr(before, name), getattr(after, name))
