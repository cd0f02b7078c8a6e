"""``gserec analyze tsne``: the user vectors of both sides in a plane (Figure 6 of GSERec), with numbers."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from logging import getLogger
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from sklearn.manifold import TSNE
from threadpoolctl import threadpool_limits
from torch import Tensor

from recbole_gserec.errors import CheckpointError, SettingError
from recbole_gserec.figures import BLUE, ORANGE, POINTS, SKY, YELLOW, new_panels, plain_text
from recbole_gserec.files import written_aside
from recbole_gserec.models import SIDES
from recbole_gserec.recommend import Vectors, graph_vectors, load_trained
from recbole_gserec.report import escape_markdown, text_table, write_csv, write_figure, write_text

if TYPE_CHECKING:
    from matplotlib.figure import Figure


class UserVectors(NamedTuple):
    """Vectors of users and codes after message passing.

    Attributes:
        label: Label of the checkpoint: whether it was trained with L_U-CL.
        seed: Seed of its training.
        dataset: Its dataset.
        users: By side; both have the same user in the same row.
        codes: By side.
    """

    label: str
    seed: int
    dataset: str
    users: dict[str, Vectors]
    codes: dict[str, Vectors]


def read_user_vectors(path: Path, data_path: Path | None = None) -> UserVectors:
    """Read a checkpoint and propagate its embedding tables.

    Args:
        path: The checkpoint.
        data_path: Parent folder of all datasets, whose files name users and codes; by default that of the training.

    Raises:
        CheckpointError: If the file is not a complete checkpoint of GSERec with user-code graphs.
        DataError: If the dataset is missing or has changed since the training.
    """
    trained = load_trained(path, data_path)
    config = trained.config
    if config["model"] != "GSERec":
        raise CheckpointError(f"{path}: a checkpoint of {config['model']}; only GSERec has these vectors")
    if not config["use_user_code_graph"]:
        raise CheckpointError(f"{path}: trained with use_user_code_graph=False, so it has no user vectors")
    tables = {table.name: table for table in graph_vectors(trained)}
    users, codes = ({side: tables[f"{kind}_{side}"] for side in SIDES} for kind in ("users", "codes"))
    weight = float(config["lambda_u_cl"])
    label = f"w/ L_U-CL ({weight:g})" if weight else "w/o L_U-CL"
    return UserVectors(label, int(config["seed"]), str(config["dataset"]), users, codes)


_ELEMENTS = 1 << 23
_TEMPERATURE = 2.0
# Ten times as fast as computing differences. With 64-bit vectors of length 1, distances are exact to about 1e-8.
_BY_PRODUCTS = "use_mm_for_euclid_dist"
_NOTHING = 1e-7


class SideGeometry(NamedTuple):
    """Measures of the two sides.

    Attributes:
        silhouette: Mean silhouette of all vectors with the sides as clusters (Rousseeuw 1987), Euclidean: 1 if the
            sides are far apart and each is dense, about 0 if they are mixed.
        separation: Distance between the two sides' means, divided by the root mean square distance of vectors to their
            side's mean.
        alignment: Mean squared distance of a user's two vectors, each of length 1 (Wang and Isola 2020, alpha 2): 0 if
            they are parallel, 2 if they are orthogonal.
        cosine: Mean cosine of a user's two vectors: 1 - alignment / 2.
        uniformity_search: Log of the mean of exp(-2 * squared distance) over pairs of users, vectors of length 1 (Wang
            and Isola 2020, t 2): 0 if all vectors are equal, lower the more evenly they are spread.
        uniformity_recommendation: The same for the other side.
    """

    silhouette: float
    separation: float
    alignment: float
    cosine: float
    uniformity_search: float
    uniformity_recommendation: float


def side_geometry(search: NDArray[np.float32], recommendation: NDArray[np.float32]) -> SideGeometry:
    """Measure two sides, ``[n_users, d]`` each, with the same user in the same row; at least two users.

    All pairs are compared. This takes time proportional to the square of the number of users, and memory for one block.
    """
    sides = [torch.from_numpy(np.asarray(side, dtype=np.float64)) for side in (search, recommendation)]
    unit = [side / side.norm(dim=1, keepdim=True).clamp_min(1e-12) for side in sides]
    alignment = float((unit[0] - unit[1]).square().sum(1).mean())
    uniformity = [_uniformity(side) for side in unit]
    return SideGeometry(_silhouette(*sides), _separation(*sides), alignment, 1 - alignment / 2, *uniformity)


def _separation(search: Tensor, recommendation: Tensor) -> float:
    means = [side.mean(0) for side in (search, recommendation)]
    within = torch.cat(
        [(side - mean).square().sum(1) for side, mean in zip((search, recommendation), means, strict=True)]
    )
    return float((means[0] - means[1]).norm() / within.mean().sqrt().clamp_min(1e-12))


def _silhouette(search: Tensor, recommendation: Tensor) -> float:
    n_users = len(search)
    # Silhouettes do not depend on the origin or the scale.
    centre = (search.mean(0) + recommendation.mean(0)) / 2
    sides = [side - centre for side in (search, recommendation)]
    scale = max(float(side.norm(dim=1).max()) for side in sides) or 1.0
    sides = [side / scale for side in sides]
    total = 0.0
    for own, other in (sides, sides[::-1]):
        for rows in _blocks(n_users):
            inside = torch.cdist(own[rows], own, compute_mode=_BY_PRODUCTS).sum(1) / (n_users - 1)
            outside = torch.cdist(own[rows], other, compute_mode=_BY_PRODUCTS).mean(1)
            larger = torch.maximum(inside, outside)
            # If all vectors are equal, distances are rounding errors.
            total += float(((outside - inside) / larger.clamp_min(_NOTHING)).where(larger > _NOTHING, 0).sum())
    return total / (2 * n_users)


def _uniformity(unit: Tensor) -> float:
    n_users = len(unit)
    total = 0.0
    for rows in _blocks(n_users):
        total += float((-_TEMPERATURE * torch.cdist(unit[rows], unit, compute_mode=_BY_PRODUCTS).square()).exp().sum())
    # Each vector is also paired with itself once, at distance 0.
    return float(np.log((total - n_users) / (n_users * (n_users - 1))))


def _blocks(n_users: int) -> Iterator[slice]:
    size = max(1, _ELEMENTS // n_users)
    for start in range(0, n_users, size):
        yield slice(start, start + size)


_PANEL_INCHES = 1.75
_LEGEND_INCHES = 0.2
# If a user's two vectors coincide, the smaller mark lies on the larger one.
_STYLES: dict[tuple[str, str], dict[str, Any]] = {
    ("user", "search"): {"color": BLUE, "marker": "o", "s": 6, "linewidths": 0},
    ("user", "recommendation"): {"color": ORANGE, "marker": "s", "s": 1.2, "linewidths": 0},
    ("code", "search"): {"color": SKY, "marker": "^", "s": 4, "linewidths": 0.2, "edgecolors": "black"},
    ("code", "recommendation"): {"color": YELLOW, "marker": "v", "s": 4, "linewidths": 0.2, "edgecolors": "black"},
}
_NAMES = {"user": "users", "code": "codes"}


def draw_tsne(panels_of: Mapping[str, pd.DataFrame]) -> Figure:
    """Draw points.

    Args:
        panels_of: Title of a panel -> its points, from :func:`recbole_gserec.analyze.tsne.embed`.
    """
    from matplotlib.lines import Line2D

    n_rows = math.ceil(len(panels_of) / 2)
    figure, panels = new_panels(len(panels_of), _PANEL_INCHES + _LEGEND_INCHES / n_rows)
    shown: list[tuple[str, str]] = []
    for panel, (title, points) in zip(panels, panels_of.items(), strict=True):
        for (kind, side), own in points.groupby(["kind", "side"], sort=False):
            key = (str(kind), str(side))
            panel.scatter(own["x"], own["y"], rasterized=True, **_STYLES[key])
            shown += [key] if key not in shown else []
        panel.set_title(plain_text(title), fontsize=POINTS)
        panel.set_xticks([])
        panel.set_yticks([])
        panel.set_aspect("equal", adjustable="datalim")
        for edge in ("top", "right"):
            panel.spines[edge].set_visible(True)
    marks = [Line2D([], [], linestyle="", marker=_STYLES[key]["marker"], color=_STYLES[key]["color"]) for key in shown]
    look: dict[str, Any] = {
        "fontsize": POINTS,
        "frameon": False,
        "handletextpad": 0.1,
        "columnspacing": 1,
        "markerscale": 0.6,
    }
    names = [f"{_NAMES[kind]}, {side}" for kind, side in shown]
    figure.legend(marks, names, loc="outside lower center", ncols=2, **look)
    return figure


logger = getLogger(__name__)

MOST_USERS = 2000
SEED = 2025
_PERPLEXITY = 30
_FEWEST_USERS = 4
HOW_TO_READ = (
    "Numbers are computed over all users and from the vectors themselves, not from the picture. Silhouette: 1 if the "
    "two sides are far apart, 0 if they are mixed. Separation: distance of the sides' means, divided by the root mean "
    "square distance to them. Alignment: mean squared distance of a user's two vectors, of length 1; 0 is best. "
    "Cosine: of the same two. Uniformity: log of the mean of exp(-2 d²) over pairs of users of a side, of length 1; "
    "lower is more evenly spread. t-SNE preserves neighbours but not distances: sizes of clusters and gaps between "
    "them mean little."
)


def analyze_tsne(
    checkpoints: Sequence[Path],
    output: Path,
    *,
    data_path: Path | None = None,
    n_users: int = MOST_USERS,
    seed: int = SEED,
    with_codes: bool = False,
) -> Path:
    """Draw the user vectors of checkpoints, one panel for each, and measure how the two sides lie to each other.

    Args:
        checkpoints: Checkpoints of GSERec.
        output: Folder of the files.
        data_path: Parent folder of all datasets; by default that of the training.
        n_users: Maximum number of users drawn; checkpoints of one dataset show the same users.
        seed: Seed of the sample and of t-SNE.
        with_codes: Whether to draw codes too.

    Returns:
        The page ``tsne.md``.

    Raises:
        CheckpointError: If a file is not a complete checkpoint of GSERec with user-code graphs, or has too few users.
        DataError: If a checkpoint's dataset is missing or has changed since the training.
        SettingError: For too few users to draw.
    """
    if n_users < _FEWEST_USERS:
        raise SettingError(f"--users is {n_users}; it must be at least {_FEWEST_USERS}")
    panels, numbers = [], []
    for path in checkpoints:
        vectors = read_user_vectors(path, data_path)
        n_all = len(vectors.users[SIDES[0]].values)
        if n_all < _FEWEST_USERS:
            raise CheckpointError(f"{path}: has {n_all} users; the figure needs at least {_FEWEST_USERS}")
        logger.info(f"{path}: measuring {n_all:,} users")
        numbers.append((vectors, n_all, side_geometry(*(vectors.users[side].values for side in SIDES))))
        logger.info(f"{path}: t-SNE of {min(n_all, n_users):,} users")
        panels.append(embed(vectors, n_users, seed, with_codes))
    labels = _distinct([vectors for vectors, *_ in numbers])
    table = _table(labels, checkpoints, numbers)
    coordinates = pd.concat([panel.assign(checkpoint=label) for label, panel in zip(labels, panels, strict=True)])
    output = Path(output)
    write_figure(output, "tsne", draw_tsne(dict(zip(labels, panels, strict=True))))
    write_csv(output / "tsne.csv", table)
    with written_aside(output / "tsne.parquet") as temporary:
        coordinates[["checkpoint", "kind", "side", "id", "x", "y"]].to_parquet(temporary, index=False)
    write_text(output / "tsne.md", _page(table))
    return output / "tsne.md"


def embed(vectors: UserVectors, n_users: int, seed: int, with_codes: bool) -> pd.DataFrame:
    """Compute t-SNE (van der Maaten and Hinton 2008) of sampled users of both sides, and of all codes, in one plane.

    Returns:
        ``kind`` (``user`` or ``code``), ``side``, ``id`` (of the user in the dataset, or of the code), ``x``, ``y``.
    """
    n_all = len(vectors.users[SIDES[0]].values)
    rows = np.sort(np.random.default_rng(seed).permutation(n_all)[:n_users])
    parts, points = [], []
    for kind in ("user", "code") if with_codes else ("user",):
        for side in SIDES:
            table = vectors.users[side] if kind == "user" else vectors.codes[side]
            chosen = rows if kind == "user" else slice(None)
            parts.append(pd.DataFrame({"kind": kind, "side": side, "id": table.ids[kind][chosen]}))
            points.append(table.values[chosen])
    stacked = np.concatenate(points).astype(np.float64)
    perplexity = min(_PERPLEXITY, (len(stacked) - 1) / 3)
    # With several threads, the order of additions changes from run to run.
    with threadpool_limits(limits=1):
        points = TSNE(perplexity=perplexity, init="pca", learning_rate="auto", random_state=seed).fit_transform(stacked)
    return pd.concat(parts, ignore_index=True).assign(x=points[:, 0], y=points[:, 1])


def _distinct(checkpoints: Sequence[UserVectors]) -> list[str]:
    """Return labels, with the seed and the index added if several are equal."""
    labels = [vectors.label for vectors in checkpoints]
    named = [
        f"{vectors.label}, seed {vectors.seed}" if labels.count(vectors.label) > 1 else vectors.label
        for vectors in checkpoints
    ]
    return [f"{label} ({number})" if named.count(label) > 1 else label for number, label in enumerate(named, start=1)]


def _table(
    labels: Sequence[str], checkpoints: Sequence[Path], numbers: Sequence[tuple[UserVectors, int, SideGeometry]]
) -> pd.DataFrame:
    return pd.DataFrame(
        [
            {"checkpoint": label, "file": str(path), "dataset": vectors.dataset, "users": n_all, **geometry._asdict()}
            for label, path, (vectors, n_all, geometry) in zip(labels, checkpoints, numbers, strict=True)
        ]
    )


def _page(table: pd.DataFrame) -> str:
    names = list(SideGeometry._fields)
    rows = [["checkpoint", "users", *(name.replace("_", ", ") for name in names)]]
    rows += [
        [row["checkpoint"], f"{row['users']:,}", *(f"{row[name]:.4f}" for name in names)] for _, row in table.iterrows()
    ]
    files = [f"{row['checkpoint']}: {row['file']} ({row['dataset']})." for _, row in table.iterrows()]
    parts = ["# User vectors of the two sides", text_table(rows), HOW_TO_READ, *map(escape_markdown, files)]
    return "\n\n".join([*parts, "![User vectors by t-SNE](tsne.png)"]) + "\n"
