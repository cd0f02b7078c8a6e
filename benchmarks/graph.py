"""Seconds of message passing on a user-code graph, forward and backward, for several implementations.

Each user has one random code per level. A step is what GSERec computes for one side: final vectors of all codes and of
the users of a batch, and gradients of both tables.

- package: the package's sparse products, the default (`graph_conv: spmm`)
- lgconv: PyTorch Geometric's LGConv with edge weights computed once (`graph_conv: lgconv`)
- lgconv_each: LGConv unchanged, which normalises in each step
- lgconv_csr: LGConv on a sparse matrix in torch's CSR format instead of a list of edges

Minimum of several steps; the implementations alternate. CPU seconds with one thread, as in the other scripts, and
elapsed seconds with several.

Example: python benchmarks/graph.py --users 198720 --levels 5 --threads 2
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable

import torch
from loading import arguments, quiet_single_thread, report
from torch import Tensor

Layers = Callable[[Tensor, Tensor, Tensor], tuple[Tensor, Tensor]]
"""Final vectors of all codes and of some users, from the tables of users and codes and the users' ids."""


def by_graph(graph) -> Layers:
    """Use a graph of the package."""

    def layers(users: Tensor, codes: Tensor, batch: Tensor) -> tuple[Tensor, Tensor]:
        code_layers = graph.propagate(users, codes)
        return code_layers.final, graph.users_at(batch, users[batch], code_layers)

    return layers


def by_convolution(convolve: Callable[[Tensor], Tensor], n_layers: int) -> Layers:
    """Use a convolution on the joint graph."""

    def layers(users: Tensor, codes: Tensor, batch: Tensor) -> tuple[Tensor, Tensor]:
        nodes = [torch.cat([users, codes])]
        for _ in range(n_layers):
            nodes.append(convolve(nodes[-1]))
        mean = torch.stack(nodes).mean(0)
        return mean[len(users) :], mean[batch]

    return layers


def main() -> None:
    parser = arguments(__doc__)
    parser.add_argument("--users", type=int, default=943, help="ml-100k-search by default")
    parser.add_argument("--levels", type=int, default=4, help="codes of a user")
    parser.add_argument("--codes", type=int, default=256, help="codes of a level")
    parser.add_argument("--size", type=int, default=64, help="of an embedding")
    parser.add_argument("--layers", type=int, default=2)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--repeat", type=int, default=5)
    args = parser.parse_args()
    quiet_single_thread()
    torch.set_num_threads(args.threads)
    from torch_geometric.nn import LGConv
    from torch_geometric.utils import to_torch_csr_tensor

    from recbole_gserec.layers import LGConvUserCodeGraph, UserCodeGraph

    torch.manual_seed(0)
    n_codes = args.levels * args.codes
    codes = torch.randint(args.codes, (args.users, args.levels)) + torch.arange(args.levels) * args.codes + 1
    graphs = [kind(codes, n_codes, args.layers) for kind in (UserCodeGraph, LGConvUserCodeGraph)]
    edges, weights = graphs[1].conv.edge_index, graphs[1].conv.edge_weight
    n_nodes = args.users + n_codes + 1
    # The matrix is its own transpose.
    matrix = to_torch_csr_tensor(edges, weights, (n_nodes, n_nodes))
    plain, weighted = LGConv(), LGConv(normalize=False)
    ways = {
        "package": by_graph(graphs[0]),
        "lgconv": by_graph(graphs[1]),
        "lgconv_each": by_convolution(lambda nodes: plain(nodes, edges), args.layers),
        "lgconv_csr": by_convolution(lambda nodes: weighted(nodes, matrix), args.layers),
    }
    tables = [torch.randn(n, args.size, requires_grad=True) for n in (args.users, n_codes + 1)]
    batch = torch.randint(args.users, (1024,))
    directions = [torch.randn(n, args.size) for n in (n_codes + 1, len(batch))]

    def step(layers: Layers) -> list[Tensor]:
        results = layers(*tables, batch)
        return [*results, *torch.autograd.grad(results, tables, directions)]

    measured: dict[str, float] = {"nodes": n_nodes, "edges": edges.shape[1], "threads": args.threads}
    expected = step(ways["package"])
    for name, layers in ways.items():
        measured[f"{name}_apart"] = max(float((a - b).abs().max()) for a, b in zip(step(layers), expected, strict=True))
    clock = time.process_time if args.threads == 1 else time.perf_counter
    for _ in range(args.repeat):
        for name, layers in ways.items():
            start = clock()
            step(layers)
            measured[f"{name}_seconds"] = min(measured.get(f"{name}_seconds", math.inf), clock() - start)
    report(measured, args.json)


if __name__ == "__main__":
    main()
