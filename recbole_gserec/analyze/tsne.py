"""``gserec analyze tsne``: user vectors of the two sides in a plane (Figure 6 of GSERec), with measures."""

from __future__ import annotations

from collections.abc import Sequence
from logging import getLogger
from pathlib import Path

import numpy as np
import pandas as pd

from recbole_gserec import escaping
from recbole_gserec.analyze.side_geometry import SideGeometry, side_geometry
from recbole_gserec.analyze.table_cells import text_table
from recbole_gserec.analyze.tsne_figure import draw_tsne
from recbole_gserec.analyze.user_vectors import UserVectors, read_user_vectors
from recbole_gserec.errors import CheckpointError, SettingError
from recbole_gserec.files import written_aside
from recbole_gserec.models.gserec import SIDES
from recbole_gserec.report_files import write_csv, write_figure, write_text

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
        raise SettingError(f"--users is {n_users}; it takes at least {_FEWEST_USERS}")
    panels, numbers = [], []
    for path in checkpoints:
        vectors = read_user_vectors(path, data_path)
        n_all = len(vectors.users[SIDES[0]].values)
        if n_all < _FEWEST_USERS:
            raise CheckpointError(f"{path}: has {n_all} users; a picture takes at least {_FEWEST_USERS}")
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
    from sklearn.manifold import TSNE
    from threadpoolctl import threadpool_limits

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
    return [f"{label} ({place})" if named.count(label) > 1 else label for place, label in enumerate(named, start=1)]


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
    parts = ["# User vectors of the two sides", text_table(rows), HOW_TO_READ, *map(escaping.markdown, files)]
    return "\n\n".join([*parts, "![User vectors by t-SNE](tsne.png)"]) + "\n"
