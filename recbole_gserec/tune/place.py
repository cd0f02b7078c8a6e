"""The resources that a sweep uses."""

from __future__ import annotations

from dataclasses import dataclass

from recbole_gserec.ray_cluster import connect_with_share, count_parallel_tasks


@dataclass(frozen=True)
class ComputeResources:
    """The resources that a sweep uses.

    Attributes:
        workers: Number of trials at once; None for as many as there is room for.
        address: Address of a Ray cluster; None for this machine.
        cpus: CPUs and threads of each trial. None is 1. On this machine, if ``workers`` or the GPUs limit the number of
            trials, None is an even share, but at most ``OMP_NUM_THREADS``.
        gpus: GPUs of each trial, or a fraction of one; None is 1 if there are any.
    """

    workers: int | None = None
    address: str | None = None
    cpus: int | None = None
    gpus: float | None = None

    def connect(self) -> dict[str, float]:
        """Connect to Ray; return the resources of each trial.

        Raises:
            SettingError: If there is no Ray at the address, or no machine has the resources for a trial.
        """
        wanted = connect_with_share(self.workers, self.address, self.cpus, self.gpus)
        count_parallel_tasks(wanted, "--cpus, --gpus")
        return wanted
