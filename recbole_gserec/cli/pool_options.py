"""Options of commands that make runs of a benchmark: how many at once, where, and with what."""

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
        help="Runs at once; more than one are made on Ray.",
        show_default="1, or as many as the Ray cluster has room for",
    ),
]
Address = Annotated[
    str | None, typer.Option(help="Address of a Ray cluster; it shares the folders of the datasets and the runs.")
]
CpusPerRun = Annotated[
    int | None,
    typer.Option(
        min=1,
        help="Processors of a run.",
        show_default="all, or an even share, up to OMP_NUM_THREADS; 1 on a cluster",
    ),
]
GpusPerRun = Annotated[
    float | None,
    typer.Option(min=0, help="GPUs of a run; parts of one are possible on Ray.", show_default="1 if there are any"),
]


def pool_maker(
    workers: int | None, address: str | None, cpus: int | None, gpus: float | None, settings: Mapping[str, Any]
) -> Callable[[], Pool]:
    """What makes the pool that the options ask for; Ray is started when it is called.

    Raises:
        SettingError: If the settings choose a GPU and Ray gives them out.
    """
    on_ray = address is not None or (workers or 1) > 1
    if on_ray and "gpu_id" in settings:
        raise SettingError("gpu_id: on Ray, Ray assigns GPUs; use --gpus instead-per-run")

    def make_pool() -> Pool:
        if not on_ray:
            from recbole_gserec.benchmark.runner import LocalPool

            return LocalPool(cpus, visible_gpus="" if gpus == 0 else None)
        from recbole_gserec.benchmark.ray_runner import RayPool

        return RayPool(workers, address, cpus, gpus)

    return make_pool
