"""``gserec analyze``: the paper's figures and tables from finished runs, one file per command."""

from __future__ import annotations

import typer

from recbole_gserec.cli.analyze import ablation, groups, report, sensitivity, stats, tsne, user
from recbole_gserec.cli.options import CONTEXT_SETTINGS

app = typer.Typer(help="Make the paper's figures and tables from finished runs.", no_args_is_help=True)


@app.callback()
def analyze() -> None:
    """Make the paper's figures and tables from finished runs."""


app.command("groups")(groups.groups)
app.command("ablation", context_settings=CONTEXT_SETTINGS)(ablation.ablation)
app.command("sensitivity")(sensitivity.sensitivity)
app.command("tsne")(tsne.tsne)
app.command("stats")(stats.stats)
app.command("user")(user.user)
app.command("report")(report.report)
