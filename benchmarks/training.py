"""Training rows per second of a model, and its share of the machine's peak arithmetic.

CPU seconds of one thread. Arithmetic is what torch counts for the matrix products of a step, forward and backward. The
machine's peak is measured with the product of two matrices of 2,048 rows and columns.

Example: python benchmarks/training.py --data dataset --dataset ml-100k-search --model UniSAR
"""

from __future__ import annotations

import statistics
from itertools import islice
from typing import Any

import torch
from loading import arguments, cpu_seconds, load, peak_gib, quiet_single_thread, report
from torch.utils.flop_counter import FlopCounterMode

from recbole_gserec.data import TARGETS


def step(model: torch.nn.Module, optimizer: torch.optim.Optimizer, batch: Any) -> None:
    """Make a training step, as RecBole's trainer does."""
    optimizer.zero_grad()
    losses = model.calculate_loss(batch)
    (sum(losses) if isinstance(losses, tuple) else losses).backward()
    optimizer.step()


def n_targets(batch: Any) -> int:
    """Number of interactions to predict in a batch of rows or of windows."""
    return int((batch[TARGETS] > 0).sum()) if TARGETS in batch else len(batch)


def seconds_of_steps(model: torch.nn.Module, optimizer: torch.optim.Optimizer, batches: list) -> float:
    """Median CPU seconds of a step, after one warm-up step."""
    model.train()
    seconds = [cpu_seconds(lambda batch=batch: step(model, optimizer, batch)) for batch in batches]
    return statistics.median(seconds[1:])


def _mm_flop(left: torch.Tensor, right: torch.Tensor, *_, **__) -> int:
    """Count a product of two dense matrices; products with the sparse graph cost almost nothing."""
    if torch.strided not in {left.layout} & {right.layout}:
        return 0
    return 2 * left.shape[0] * left.shape[1] * right.shape[1]


_mm_flop._get_raw = True


def products_of_step(model: torch.nn.Module, batch: Any) -> int:
    """Number of floating point operations in the dense matrix products of a step."""
    with FlopCounterMode(display=False, custom_mapping={torch.ops.aten.mm: _mm_flop}) as counter:
        losses = model.calculate_loss(batch)
        (sum(losses) if isinstance(losses, tuple) else losses).backward()
    return counter.get_total_flops()


def most_products_per_second(size: int = 2048) -> float:
    """Floating point operations per second in one large matrix product."""
    left, right = torch.randn(size, size), torch.randn(size, size)
    torch.mm(left, right)
    return 2 * size**3 / cpu_seconds(lambda: torch.mm(left, right), repeat=5)


def main() -> None:
    parser = arguments(__doc__)
    parser.add_argument("--model", default="GSERec")
    parser.add_argument("--train-rows", choices=("targets", "users"), help="by default the model's")
    parser.add_argument("--batch-size", type=int, default=1024, help="targets in a batch")
    parser.add_argument("--steps", type=int, default=5, help="steps after the first; the median is reported")
    args = parser.parse_args()
    quiet_single_thread()
    settings = {"train_batch_size": args.batch_size}
    if args.train_rows:
        settings["train_rows"] = args.train_rows
    loaded = load(args.model, args.dataset, args.data, history=args.history, **settings)
    model = loaded.model()
    optimizer = loaded.trainer(model).optimizer
    batches = list(islice(loaded.loader("train"), args.steps + 1))
    seconds, rows = seconds_of_steps(model, optimizer, batches), statistics.mean(map(n_targets, batches[1:]))
    products = statistics.mean(products_of_step(model, batch) for batch in batches[1:])
    measured = {
        "rows_per_second": rows / seconds,
        "step_seconds": seconds,
        "gflop_per_step": products / 1e9,
        "share_of_arithmetic": products / seconds / most_products_per_second(),
        "peak_gib": peak_gib(),
    }
    report(measured, args.json)


if __name__ == "__main__":
    main()
