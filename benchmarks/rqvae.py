"""Users per second of training the RQ-VAE, and of a plain implementation of the same computation.

The vectors are random, because their meaning does not change the time. CPU seconds of one thread.

Example: python benchmarks/rqvae.py --users 20000
"""

from __future__ import annotations

import statistics
import time

import numpy as np
import torch
import torch.nn.functional as F
from loading import arguments, cpu_seconds, peak_gib, quiet_single_thread, report
from torch import Tensor


class PlainRQVAE(torch.nn.Module):
    """Plain RQ-VAE with the weights of a :class:`recbole_gserec.preprocess.rqvae.RQVAE`: same numbers, no optimisation.

    Distances to codes are sums over differences, the transport plan is scaled entry by entry, and the contrastive loss
    holds all pairs.
    """

    def __init__(self, model, settings):
        super().__init__()
        self.sides, self.settings = torch.nn.ModuleList([model.search, model.rec]), settings

    def forward(self, *vectors: Tensor) -> Tensor:
        """Return the total loss (Eq. 6)."""
        latents = [side.encoder(rows) for side, rows in zip(self.sides, vectors, strict=True)]
        reconstruction, quantization = 0.0, []
        for side, rows, latent in zip(self.sides, vectors, latents, strict=True):
            residual, chosen_codes = latent, torch.zeros_like(latent)
            codebooks = side.quantizer.codebooks
            for level, codebook in enumerate(codebooks, start=1):
                with torch.no_grad():
                    distances = (residual.unsqueeze(1) - codebook.weight).square().sum(-1)
                    chosen = self._balanced(distances) if level == len(codebooks) else distances.argmin(1)
                code = codebook.weight[chosen]
                loss = F.mse_loss(code, residual.detach())
                quantization.append(loss + self.settings.commitment_weight * F.mse_loss(residual, code.detach()))
                residual, chosen_codes = (residual - code).detach(), chosen_codes + code
            quantized = latent + (chosen_codes - latent).detach()
            reconstruction = reconstruction + F.mse_loss(side.decoder(quantized), rows)
        views = F.normalize(torch.cat(latents), dim=1)
        logits = (views @ views.T / self.settings.tau_1).fill_diagonal_(-torch.inf)
        partners = torch.arange(len(views)).roll(len(latents[0]))
        contrastive = F.cross_entropy(logits, partners)
        weights = (self.settings.lambda_rq, self.settings.lambda_rq_cl)
        return reconstruction + weights[0] * torch.stack(quantization).mean() + weights[1] * contrastive

    def _balanced(self, distances: Tensor) -> Tensor:
        distances = distances.double()
        low, high = distances.min(), distances.max()
        costs = (distances - (high + low) / 2) / ((high - low) / 2)
        plan = torch.exp(-costs / self.settings.sinkhorn_epsilon)
        plan /= plan.sum()
        for _ in range(self.settings.sinkhorn_iterations):
            plan /= plan.sum(1, keepdim=True) * plan.shape[0]
            plan /= plan.sum(0, keepdim=True) * plan.shape[1]
        best = plan.amax(1, keepdim=True) * (1 - 1e-9)
        return costs.masked_fill(plan < best, torch.inf).argmin(1)


def main() -> None:
    parser = arguments(__doc__)
    parser.add_argument("--users", type=int, default=20_000)
    parser.add_argument("--dimensions", type=int, default=384, help="of a vector; 384 is MiniLM's")
    args = parser.parse_args()
    quiet_single_thread()
    from recbole_gserec.preprocess import build_rqvae, train_rqvae
    from recbole_gserec.settings import PreprocessSettings

    rng = np.random.default_rng(0)
    vectors = [rng.standard_normal((args.users, args.dimensions), dtype=np.float32) for _ in range(2)]
    moments = [time.process_time()]
    # Without the last steps, which are not of the training; checks of collisions belong to it.
    changed = {"rq_epochs": 4, "rq_warmup_epochs": 1, "rq_kmeans_init": False, "rq_resolve_collisions": False}
    settings = PreprocessSettings(**changed).rqvae_settings()
    train_rqvae(*vectors, settings, progress=lambda *_: moments.append(time.process_time()))
    epoch = statistics.median(np.diff(moments[1:]))

    batch = [torch.from_numpy(part[:1024]) for part in vectors]
    model = build_rqvae(args.dimensions, args.dimensions, settings, torch.Generator().manual_seed(0)).train()
    plain = PlainRQVAE(model, settings)
    ours, theirs = float(model(*batch).total), float(plain(*batch))
    seconds = [cpu_seconds(lambda: model(*batch).total.backward(), 5), cpu_seconds(lambda: plain(*batch).backward(), 5)]
    measured = {
        "users": args.users,
        "users_per_second": args.users / epoch,
        "step_seconds": seconds[0],
        "plain_step_seconds": seconds[1],
        "times_as_fast": seconds[1] / seconds[0],
        "relative_difference": abs(ours - theirs) / abs(theirs),
        "peak_gib": peak_gib(),
    }
    report(measured, args.json)


if __name__ == "__main__":
    main()
