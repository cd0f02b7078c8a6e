"""The runs that did not finish, with their errors."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence

from recbole_gserec import escaping
from recbole_gserec.benchmark.model_names import printed_name
from recbole_gserec.benchmark.results import StoredRun
from recbole_gserec.benchmark.runs import FINISHED


def markdown(runs: Sequence[StoredRun]) -> str:
    """Write a heading, the error and the traceback of each run that did not finish."""
    parts = []
    for run in runs:
        if run.state == FINISHED:
            continue
        title = f"{printed_name(run.model)} on {run.dataset}, seed {run.seed}: {run.state}"
        parts += [f"### {escaping.markdown(title)}", _code(run.problem or ""), f"In `{run.folder}`."]
        if isinstance(trace := run.record.get("traceback"), str) and trace.strip():
            parts.append(_code(trace))
    return "\n\n".join(parts or ["All runs finished."]) + "\n"


def _code(text: str) -> str:
    """Indent a text as a code block; no character of the text can end such a block."""
    return textwrap.indent(text.rstrip(), "    ", lambda line: True)
