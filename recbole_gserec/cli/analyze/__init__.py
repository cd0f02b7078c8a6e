"""``gserec analyze``: the paper's figures and tables from finished work, a file for each."""

from __future__ import annotations

import typer

from recbole_gserec.cli.analyze import ablation, groups, report, sensitivity, stats, tsne, user
from recbole_gserec.cli.options import CONTEXT_SETTINGS

app = typer.Typer(help="Figures and tables of the paper from finished work.", no_args_is_help=True)


@app.callback()
def analyze() -> None:
    """Figures and tables of the paper from finished work."""


app.command("groups")(groups.groups)
app.command("ablation", context_settings=CONTEXT_SETTINGS)(ablation.ablation)
app.command("sensitivity")(sensitivity.sensitivity)
app.command("tsne")(tsne.tsne)
app.command("stats")(stats.stats)
app.command("user")(user.user)
app.command("report")(report.report)
