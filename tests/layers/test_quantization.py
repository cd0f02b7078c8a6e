import numpy as np
import pytest
import torch

from recbole_gserec.layers.quantization import Codebook, ResidualQuantizer, balanced_codes, quantization_loss


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def make_quantizer(n_codebooks: int = 3, codebook_size: int = 8, code_dim: int = 5, **settings) -> ResidualQuantizer:
    quantizer = ResidualQuantizer(n_codebooks, codebook_size, code_dim, generator=generator(7), **settings)
    for codebook in quantizer.codebooks:
        torch.nn.init.normal_(codebook.weight, generator=generator(len(codebook.weight)))
    return quantizer


def test_levels_of_their_own_sizes():
    quantizer = make_quantizer(n_codebooks=3, codebook_size=[8, 2, 5])
    assert [codebook.weight.shape for codebook in quantizer.codebooks] == [(8, 5), (2, 5), (5, 5)]
    latents = torch.randn(200, 5, generator=generator(3))
    codes = quantizer.encode(latents)
    assert (codes.amax(0) < torch.tensor([8, 2, 5])).all() and len(codes[:, 1].unique()) == 2
    with pytest.raises(ValueError, match="2 sizes of 3 codebooks"):
        make_quantizer(n_codebooks=3, codebook_size=[8, 2])


def sample_centres(rows: torch.Tensor, n_centres: int) -> torch.Tensor:
    return rows[:n_centres]


def plain_quantization(latents: np.ndarray, codebooks: list[np.ndarray], commitment_weight: float, reduction: str):
    """Eq. 2, 3 and 5, one row at a time."""
    codes = np.zeros((len(latents), len(codebooks)), dtype=np.int64)
    losses = np.zeros(len(codebooks))
    vectors = np.zeros_like(latents)
    for row, latent in enumerate(latents):
        residual = latent.copy()
        for level, codebook in enumerate(codebooks):
            squares = ((residual - codebook) ** 2).sum(axis=1)
            codes[row, level] = squares.argmin()
            losses[level] += (1 + commitment_weight) * squares.min()
            residual = residual - codebook[codes[row, level]]
            vectors[row] += codebook[codes[row, level]]
    losses /= len(latents)
    return vectors, codes, losses / latents.shape[1] if reduction == "mean" else losses


@pytest.mark.parametrize("reduction", ["mean", "sum"])
@pytest.mark.parametrize("commitment_weight", [0.25, 1.0])
def test_forward_is_the_equations(reduction, commitment_weight):
    quantizer = make_quantizer(commitment_weight=commitment_weight, reduction=reduction)
    latents = torch.randn(30, 5, generator=generator(1))
    codebooks = [codebook.weight.detach().numpy() for codebook in quantizer.codebooks]
    vectors, codes, losses = plain_quantization(latents.numpy(), codebooks, commitment_weight, reduction)
    result = quantizer(latents)
    np.testing.assert_allclose(result.vectors.detach().numpy(), vectors, rtol=1e-5, atol=1e-6)
    assert result.codes.dtype == torch.int64
    np.testing.assert_array_equal(result.codes.numpy(), codes)
    np.testing.assert_allclose(result.losses.detach().numpy(), losses, rtol=1e-5)


def test_encode_and_decode_agree_with_forward():
    quantizer = make_quantizer().eval()
    latents = torch.randn(30, 5, generator=generator(1))
    result = quantizer(latents)
    assert torch.equal(quantizer.encode(latents), result.codes)
    torch.testing.assert_close(quantizer.decode(result.codes), result.vectors)
    left = quantizer.last_residuals(latents, result.codes)
    torch.testing.assert_close(
        left, latents - quantizer.decode(result.codes) + quantizer.codebooks[-1](result.codes[:, -1])
    )


def test_a_latent_that_is_a_code_costs_nothing():
    quantizer = make_quantizer(n_codebooks=1)
    latents = quantizer.codebooks[0].weight.detach()[[5, 0, 3]].clone()
    result = quantizer(latents)
    assert result.codes.flatten().tolist() == [5, 0, 3]
    assert result.losses.item() == 0
    assert torch.equal(result.vectors, latents)


def test_reconstruction_reaches_the_latents_unchanged_and_no_codebook():
    quantizer = make_quantizer()
    latents = torch.randn(6, 5, generator=generator(1), requires_grad=True)
    upstream = torch.randn(6, 5, generator=generator(2))
    (quantizer(latents).vectors * upstream).sum().backward()
    torch.testing.assert_close(latents.grad, upstream)
    assert all(codebook.weight.grad is None for codebook in quantizer.codebooks)


def test_only_the_first_commitment_reaches_the_latents():
    quantizer = make_quantizer(commitment_weight=0.25, reduction="sum")
    latents = torch.randn(6, 5, generator=generator(1), requires_grad=True)
    result = quantizer(latents)
    (first,) = torch.autograd.grad(result.losses[0], latents, retain_graph=True)
    nearest = quantizer.codebooks[0](result.codes[:, 0]).detach()
    torch.testing.assert_close(first, 0.25 * 2 * (latents.detach() - nearest) / 6)
    (later,) = torch.autograd.grad(result.losses[1:].sum(), latents, allow_unused=True)
    assert later is None or not later.any()


def test_each_level_trains_its_own_codebook():
    quantizer = make_quantizer(reduction="sum", commitment_weight=3.0)
    latents = torch.randn(6, 5, generator=generator(1))
    result = quantizer(latents)
    result.losses[1].backward()
    assert not any(quantizer.codebooks[level].weight.grad.any() for level in (0, 2))
    residuals = latents - quantizer.codebooks[0](result.codes[:, 0]).detach()
    expected = torch.zeros(8, 5)
    for residual, code in zip(residuals, result.codes[:, 1], strict=True):
        expected[code] += 2 * (quantizer.codebooks[1].weight.detach()[code] - residual) / 6
    torch.testing.assert_close(quantizer.codebooks[1].weight.grad, expected)


def test_reductions_differ_by_the_size_of_the_vector():
    residual, code = torch.randn(2, 9, 5, generator=generator(0))
    mean, total = (quantization_loss(residual, code, 0.25, reduction) for reduction in ("mean", "sum"))
    torch.testing.assert_close(total, 5 * mean)
    torch.testing.assert_close(total, 1.25 * (residual - code).square().sum() / 9)


def test_unknown_reduction_is_refused():
    with pytest.raises(ValueError, match="median"):
        ResidualQuantizer(1, 2, 3, reduction="median")


def test_balanced_assignment_is_for_the_last_level_in_training_only():
    seen = []

    def all_to_last(distances: torch.Tensor) -> torch.Tensor:
        seen.append(distances)
        return torch.full((len(distances),), 7)

    quantizer = make_quantizer(balanced=all_to_last)
    latents = torch.randn(30, 5, generator=generator(1))
    trained = quantizer.train()(latents).codes
    assert len(seen) == 1 and seen[0].shape == (30, 8) and (trained[:, -1] == 7).all()
    evaluated = quantizer.eval()(latents).codes
    assert len(seen) == 1 and torch.equal(evaluated, quantizer.train().encode(latents)) and len(seen) == 1
    assert torch.equal(trained[:, :-1], evaluated[:, :-1]) and not (evaluated[:, -1] == 7).all()


def test_sinkhorn_spreads_the_last_level():
    quantizer = make_quantizer(n_codebooks=2, balanced=balanced_codes)
    latents = torch.randn(400, 5, generator=generator(1))
    spread = torch.bincount(quantizer.train()(latents).codes[:, -1], minlength=8)
    nearest = torch.bincount(quantizer.eval()(latents).codes[:, -1], minlength=8)
    assert spread.float().std() < nearest.float().std() / 2


def test_distances_are_squared_and_never_negative():
    codebook = Codebook(8, 5, generator())
    rows = torch.cat([torch.randn(10, 5, generator=generator(1)) * 100, codebook.weight.detach()])
    expected = torch.cdist(rows.double(), codebook.weight.detach().double()).square()
    distances = codebook.distances(rows)
    assert distances.min() >= 0
    torch.testing.assert_close(distances.double(), expected, rtol=1e-4, atol=1e-4)


def test_initial_values_come_from_the_generator_alone():
    state = torch.get_rng_state()
    first, second, other = (ResidualQuantizer(2, 8, 5, generator=generator(seed)) for seed in (1, 1, 2))
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.equal(first.codebooks[1].weight, second.codebooks[1].weight)
    assert not torch.equal(first.codebooks[1].weight, other.codebooks[1].weight)
    assert not torch.equal(first.codebooks[0].weight, first.codebooks[1].weight)
    assert first.codebooks[0].weight.abs().max() <= 1 / 8


def test_initialise_places_every_level_on_what_the_levels_before_left():
    quantizer = make_quantizer()
    latents = torch.randn(30, 5, generator=generator(1))
    quantizer.initialise(latents, sample_centres)
    residuals = latents
    for codebook in quantizer.codebooks:
        assert codebook.initialised
        assert torch.equal(codebook.weight, residuals[:8])
        residuals = residuals - codebook.weight[torch.cdist(residuals, codebook.weight).argmin(1)]


def test_a_loaded_quantizer_is_not_initialised_again():
    latents = torch.randn(30, 5, generator=generator(1))
    quantizer = make_quantizer()
    quantizer.initialise(latents, sample_centres)
    codes = quantizer.encode(latents)

    loaded = ResidualQuantizer(3, 8, 5)
    assert not any(codebook.initialised for codebook in loaded.codebooks)
    loaded.load_state_dict(quantizer.state_dict())
    loaded.initialise(latents * 100, sample_centres)
    assert torch.equal(loaded.encode(latents), codes)

    loaded.reset_parameters(generator(5))
    assert not any(codebook.initialised for codebook in loaded.codebooks)
    assert not torch.equal(loaded.codebooks[0].weight, quantizer.codebooks[0].weight)
