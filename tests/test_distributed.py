"""RecBole's own distributed training with this package's models and dataloaders: two processes on one machine."""

import socket
from pathlib import Path

import pytest
import torch

from tests import distributed_worker
from tests.conftest import random_files, write_dataset

WORLD = distributed_worker.WORLD


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("localhost", 0))
        return probe.getsockname()[1]


@pytest.fixture(scope="module", params=["GSERec targets", "GSERec users", "UniSAR"])
def processes(request, tmp_path_factory):
    """What each of the two processes has seen."""
    folder = tmp_path_factory.mktemp("distributed")
    data = write_dataset(folder / "dataset", "toy", **random_files())
    arguments = (request.param, str(data), free_port(), str(folder))
    torch.multiprocessing.spawn(distributed_worker.train_together, arguments, nprocs=WORLD)
    return [torch.load(folder / f"{rank}.pt", weights_only=True) for rank in range(WORLD)]


def test_both_end_with_the_same_weights(processes):
    first, second = (process["weights"] for process in processes)
    assert first.keys() == second.keys()
    for name, weights in first.items():
        torch.testing.assert_close(weights, second[name], rtol=0, atol=0, msg=name)


def test_a_step_takes_the_mean_of_the_gradients(processes):
    for name, shared in processes[0]["gradients"].items():
        own = [process["own_gradients"].get(name, torch.zeros_like(shared)) for process in processes]
        torch.testing.assert_close(shared, sum(own) / WORLD, rtol=1e-4, atol=1e-7, msg=name)
        assert torch.equal(shared, processes[1]["gradients"][name])
    # Else equal means would say nothing.
    apart = [
        not torch.allclose(gradient, processes[1]["own_gradients"][name])
        for name, gradient in processes[0]["own_gradients"].items()
    ]
    assert sum(apart) > len(apart) / 2


def test_an_epoch_has_every_row_once(processes):
    n_rows, n_batches = processes[0]["n_rows"], processes[0]["n_batches"]
    for epoch in range(2):
        batches = slice(epoch * n_batches, (epoch + 1) * n_batches)
        counts = torch.bincount(torch.cat([torch.cat(process["rows"][batches]) for process in processes]))
        # The sampler repeats a row where the number is odd.
        assert len(counts) == n_rows and counts.min() == 1 and counts.sum() - n_rows == n_rows % WORLD
    orders = [torch.cat(processes[0]["rows"][start : start + n_batches]) for start in (0, n_batches)]
    assert not torch.equal(*orders)


def test_search_rows_are_shared_out(processes):
    expected = processes[0]["n_search_rows"]
    for epoch in range(2):
        batches = slice(epoch * processes[0]["n_batches"], (epoch + 1) * processes[0]["n_batches"])
        assert sum(sum(process["search_rows"][batches]) for process in processes) == expected


def test_processes_draw_other_negatives(processes):
    # Of windows, those of the first target.
    first, second = (process["negatives"].flatten(1)[:, :4] for process in processes)
    n_rows = min(len(first), len(second))
    assert not torch.equal(first[:n_rows], second[:n_rows])


def test_all_read_the_one_checkpoint_that_the_first_writes(processes):
    assert processes[0]["checkpoint"] == processes[1]["checkpoint"]
    folder = Path(processes[0]["checkpoint"]).parent
    assert [str(file) for file in folder.glob("*.pth")] == [processes[0]["checkpoint"]]
    best = torch.load(processes[0]["checkpoint"], weights_only=True)["state_dict"]
    for process in processes:
        assert all(torch.equal(process["weights"][name], weights) for name, weights in best.items())


def test_metrics_are_those_of_one_process(processes, random_dataset, make_model):
    assert processes[0]["test"] == processes[1]["test"]
    from recbole.utils import get_trainer

    model, config, _, loaders = make_model(processes[0]["model"], eval_candidate_seed=1, **processes[0]["settings"])
    model.load_state_dict(processes[0]["weights"])
    alone = get_trainer(config["MODEL_TYPE"], config["model"])(config, model)
    alone.eval_collector.data_collect(loaders[0])
    # An even number of users: none is counted twice.
    assert len(loaders[2]._dataset) % WORLD == 0
    # RecBole rounds the metrics of each process to four digits, and their mean again.
    assert dict(alone.evaluate(loaders[2], load_best_model=False)) == pytest.approx(processes[0]["test"], abs=1.1e-4)
