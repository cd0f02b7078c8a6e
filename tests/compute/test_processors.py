"""Who trains on several threads beside other programs is warned."""

import pytest
import torch

from recbole_gserec.compute import processes
from recbole_gserec.compute.processes import warn_if_busy


@pytest.fixture
def machine(monkeypatch, caplog):
    """Says what a machine of four cores warns of."""

    def reported(load=3.5, threads=4, gpu=False, chosen=None):
        monkeypatch.setattr(processes, "_LOAD", load)
        monkeypatch.setattr(processes, "usable_cores", lambda: 4)
        monkeypatch.setattr(torch, "get_num_threads", lambda: threads)
        monkeypatch.setattr(torch.cuda, "is_available", lambda: gpu)
        monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
        if chosen:
            monkeypatch.setenv("OMP_NUM_THREADS", chosen)
        caplog.clear()
        warn_if_busy()
        return caplog.text

    return reported


def test_a_busy_machine_is_reported(machine):
    assert "(load 3.5 on 4): 4 threads of a training would wait for each other. Set OMP_NUM_THREADS=1" in machine()


@pytest.mark.parametrize("fine", [{"load": 2.9}, {"threads": 1}, {"gpu": True}, {"chosen": "4"}])
def test_otherwise_nothing_is_reported(machine, fine):
    assert machine(**fine) == ""
