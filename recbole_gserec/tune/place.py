"""Where a sweep runs."""

from __future__ import annotations

from dataclasses import dataclass

from recbole_gserec.ray_cluster import connect_with_share, room


@dataclass(frozen=True)
class Place:
    """Where a sweep runs.

    Attributes:
        workers: Trials at once; None for as many as there is room for.
        address: Of a Ray cluster; None for this machine.
        cpus: Processors, and threads, of a trial; None is 1, or on this machine an even share where ``workers`` or
            GPUs say how many there are at once, but not more than ``OMP_NUM_THREADS``.
        gpus: GPUs of a trial, or a part of one; None is 1 where there are any.
    """

    workers: int | None = None
    address: str | None = None
    cpus: int | None = None
    gpus: float | None = None

    def connect(self) -> dict[str, float]:
        """Connect to Ray; returns what a trial has of each resource.

        Raises:
            SettingError: If there is no Ray at the address, or no machine has what a trial needs.
        """
        wanted = connect_with_share(self.workers, self.address, self.cpus, self.gpus)
        room(wanted, "--cpus, --gpus")
        return wanted
