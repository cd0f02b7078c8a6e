"""``gserec analyze user``: a readable page about one user."""

import hashlib
import re
from collections.abc import Sequence
from pathlib import Path

from recbole_gserec.analyze.user_story import SIDES, Event, UserStory, collect_user_story
from recbole_gserec.errors import CheckpointError, SettingError
from recbole_gserec.recommend import Trained, load_trained
from recbole_gserec.report import NO_VALUE, escape_markdown, text_table, write_text

WITHOUT = "without"
_LONGEST = 70
_UNSAFE = re.compile(r"[^A-Za-z0-9_-]")


def analyze_user(
    user: str,
    checkpoint: Path,
    output: Path,
    *,
    without: Path | None = None,
    data_path: Path | None = None,
    k: int = 10,
    n_events: int = 20,
) -> Path:
    """Write a page about a user of a trained model.

    Args:
        user: Original id.
        checkpoint: Checkpoint of a search-aware model.
        output: Folder of the page.
        without: Checkpoint of the same model trained without user-code graphs, to compare recommendations.
        data_path: Parent folder of all datasets; by default that of the training.
        k: Number of recommended items.
        n_events: Number of latest interactions and searches shown.

    Returns:
        The page.

    Raises:
        CheckpointError: If a file is not a complete checkpoint, or the second is not one without graphs.
        SettingError: If the user is unknown, or the model reads no searches.
    """
    trained = load_trained(checkpoint, data_path)
    others = {}
    if without is not None:
        other = load_trained(without, data_path)
        _check_without(trained, other)
        others[WITHOUT] = other
    story = collect_user_story(trained, user, k=k, others=others)
    path = Path(output) / f"{story.dataset}-{_file_name(user)}.md"
    write_text(path, user_page(story, trained.config["model"], n_events))
    return path


def _check_without(trained: Trained, other: Trained) -> None:
    """Refuse two checkpoints that do not differ in the graph."""
    if other.config["model"] != "GSERec" or other.config["use_user_code_graph"]:
        raise CheckpointError(f"{other.checkpoint}: not a GSERec trained with use_user_code_graph=False")
    if trained.config["model"] != "GSERec" or not trained.config["use_user_code_graph"]:
        raise CheckpointError(
            f"{trained.checkpoint}: --without needs a GSERec with user-code graphs, and this is not one"
        )
    if trained.config["dataset"] != other.config["dataset"]:
        raise SettingError(f"{other.checkpoint} and the other checkpoint have different datasets")


def _file_name(user: str) -> str:
    """Return a user's id as part of a file name; distinct ids have distinct names."""
    safe = _UNSAFE.sub("_", user)[:60]
    return safe if safe == user else f"{safe}-{hashlib.sha256(user.encode()).hexdigest()[:8]}"


def user_page(story: UserStory, model: str, n_events: int) -> str:
    """Write the page as Markdown."""
    parts = [f"# User {escape_markdown(story.user)} of {escape_markdown(story.dataset)}"]
    parts += _events("Interactions", story.interactions, n_events)
    parts += _events("Searches", story.searches, n_events)
    if story.summaries:
        parts.append("## Summaries")
        parts += [f"**{side}**: {escape_markdown(story.summaries[side])}" for side in SIDES]
    if story.codes:
        codes = [[side, *(story.codes[side] or [NO_VALUE])] for side in SIDES]
        width = max(map(len, codes))
        rows = [
            ["side", *(f"level {level}" for level in range(1, width))],
            *(row + [NO_VALUE] * (width - len(row)) for row in codes),
        ]
        parts += ["## Codes", text_table(rows, numbers=False), *_neighbours(story)]
    parts += _recommended(story, model)
    return "\n\n".join(parts) + "\n"


def _events(title: str, events: Sequence[Event], n_events: int) -> list[str]:
    shown = events[-n_events:] if n_events else []
    left_out = len(events) - len(shown)
    count = f"{len(events):,}" + (f", the latest {len(shown):,} of them here" if left_out and shown else "")
    parts = [f"## {title}", f"{count}, oldest first." if events else "None."]
    if shown:
        has_clicks = title == "Searches"
        rows = [["time", "query", "clicked", "part"] if has_clicks else ["time", "item", "part"]]
        for event in shown:
            clicks = ["; ".join(map(clipped, event.clicks)) or NO_VALUE] if has_clicks else []
            rows.append([f"{event.time:.15g}", clipped(event.what), *clicks, event.part])
        parts.append(text_table(rows, numbers=False))
    return parts


def _neighbours(story: UserStory) -> list[str]:
    parts = ["## Users who share most codes"]
    if not story.neighbours:
        return [*parts, "None shares any."]
    rows = [["user", "search codes", "recommendation codes", "training searches", "most frequent queries"]]
    for other in story.neighbours:
        queries = "; ".join(f"{clipped(query)} ({count}x)" for query, count in other.queries) or NO_VALUE
        rows.append([other.user, *(str(other.shared[side]) for side in SIDES), f"{other.n_searches:,}", queries])
    return [*parts, text_table(rows, numbers=False)]


def _recommended(story: UserStory, model: str) -> list[str]:
    own = story.recommended[""]
    title = "After all of these events; items interacted with or clicked are left out."
    parts = [f"## Recommended by {escape_markdown(model)}", title]
    if WITHOUT not in story.recommended:
        rows = [["rank", "item", "score"]]
        rows += [[str(rank), clipped(item), f"{score:.4f}"] for rank, (item, score) in enumerate(own, start=1)]
        return [*parts, text_table(rows, numbers=False)]
    other = story.recommended[WITHOUT]
    common = len({item for item, _ in own} & {item for item, _ in other})
    rows = [["rank", "with graph", "score", "without graph", "score"]]
    for index in range(max(len(own), len(other))):
        cells = [str(index + 1)]
        for items in (own, other):
            cells += (
                [clipped(items[index][0]), f"{items[index][1]:.4f}"] if index < len(items) else [NO_VALUE, NO_VALUE]
            )
        rows.append(cells)
    said = (
        f"{common} of {len(own)} items are in both lists. The models were trained separately, so differences are not "
        "due to the graph alone: training varies too."
    )
    return [*parts, text_table(rows, numbers=False), said]


def clipped(text: str) -> str:
    """Shorten a text so that it fits in a table."""
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST].rstrip()} ..."
