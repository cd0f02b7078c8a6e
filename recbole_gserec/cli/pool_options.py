"""Options for how benchmark runs are executed: how many at once, where, and on which hardware."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Annotated, Any

import typer

from recbole_gserec.errors import SettingError

if TYPE_CHECKING:
    from recbole_gserec.benchmark.runner import Pool

Workers = Annotated[
    int | None,
    typer.Option(
        min=1,
        help="Number of runs at once; more than one requires Ray.",
        show_default="1, or as many as fit on the Ray cluster",
    ),
]
Address = Annotated[
    str | None, typer.Option(help="Address of a Ray cluster that shares the folders of the datasets and the runs.")
]
CpusPerRun = Annotated[
    int | None,
    typer.Option(
        min=1,
        help="Processors per run.",
        show_default="all, or an even share, up to OMP_NUM_THREADS; 1 on a cluster",
    ),
]
GpusPerRun = Annotated[
    float | None,
    typer.Option(min=0, help="GPUs per run; on Ray also a fraction.", show_default="1 if there are any"),
]


def pool_maker(
    workers: int | None, address: str | None, cpus: int | None, gpus: float | None, settings: Mapping[str, Any]
) -> Callable[[], Pool]:
    """Return a function that makes the pool the options describe. Ray starts only when the function is called.

    Raises:
        SettingError: If the settings choose a GPU although Ray assigns GPUs.
    """
    on_ray = address is not None or (workers or 1) > 1
    if on_ray and "gpu_id" in settings:
        raise SettingError("gpu_id: Ray assigns the GPUs. Use --gpus-per-run instead")

    def make_pool() -> Pool:
        if not on_ray:
            from recbole_gserec.benchmark.runner import LocalPool

            return LocalPool(cpus, visible_gpus="" if gpus == 0 else None)
        from recbole_gserec.benchmark.ray_runner import RayPool

        return RayPool(workers, address, cpus, gpus)

    return make_pool
