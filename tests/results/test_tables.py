import io
import re

import numpy as np
import pytest
from rich.console import Console

from recbole_gserec import report
from recbole_gserec.report import markdown_table
from recbole_gserec.results import tables
from recbole_gserec.results.report import make_report
from recbole_gserec.results.tables import note_mark
from recbole_gserec.runs.plan import read_preset
from recbole_gserec.settings.model_table import TABLE_2, in_paper_order, model_group, printed_name
from tests.runs.stored_runs import store_run

MANY = 400
NASTY = 'it\'s 50% of {x} & \\y_z ~ ^ # $ <a|b> "q" 中 é ± –\n*no* `code` [link](x)'


def ranks_with(share, n=MANY):
    """Ranks of 1 for a share of users, and of 50 for the others."""
    return np.where(np.arange(n) < share * n, 1, 50)


def table_of(folder, **options):
    options = {"metrics": ["HR@1"], **options}
    return make_report(folder, **options).table


def cell(table, model, dataset="toys"):
    (row,) = (row for row in table.rows if row.model == model)
    return row.cells[dataset][0]


def note(table, model, dataset="toys"):
    (row,) = (row for row in table.rows if row.model == model)
    return table.notes[row.notes[dataset]] if dataset in row.notes else None


def rendered(table):
    """The table as the terminal shows it, and as text."""
    console = Console(file=io.StringIO(), width=200)
    console.print(tables.table_terminal(table))
    return console.file.getvalue()


def test_models_stand_in_the_order_of_the_paper():
    paper = [entry.name for entry in TABLE_2]
    assert read_preset("table2").models == paper
    assert in_paper_order([*paper[::-1], "Pop", "BPR"]) == [*paper[:9], "BPR", "Pop", *paper[9:]]
    assert [printed_name(model) for model in ("LLMESR", "QuerySeqRec", "SASRec")] == [
        "LLM-ESR",
        "Query-SeqRec",
        "SASRec",
    ]
    assert model_group("Pop") == "Recommendation"


def test_best_and_second_are_marked_with_mean_and_deviation(tmp_path):
    for model, shares in {"SASRec": (0.2, 0.21), "UniSAR": (0.4, 0.41), "GSERec": (0.6, 0.61)}.items():
        for seed, share in enumerate(shares):
            store_run(tmp_path, "toys", model, seed, ranks_with(share))
    table = table_of(tmp_path)
    assert [row.model for row in table.rows] == ["SASRec", "UniSAR", "GSERec"]
    best = cell(table, "GSERec")
    # A deviation over two seeds is their difference over the square root of 2.
    assert (best.mean, best.deviation) == (pytest.approx(0.605), pytest.approx(0.01 / 2**0.5))
    assert [cell(table, model).position for model in ("SASRec", "UniSAR", "GSERec")] == [0, 2, 1]
    page = tables.table_markdown(table)
    assert re.search(r"\| GSERec +\| +\*\*0\.6050\*\*\\\* ± 0\.0071 \|", page)
    assert re.search(r"\| UniSAR +\| +<u>0\.4050</u> ± 0\.0071 \|", page)
    assert re.search(r"\| SASRec +\| +0\.2050 ± 0\.0071 \|", page)
    assert "toys: 400 users, seeds 0, 1." in page
    latex = tables.table_latex(table)
    assert r"GSERec & \textbf{0.6050}*\deviation{.0071} \\" in latex
    assert r"UniSAR & \underline{0.4050}\deviation{.0071} \\" in latex
    assert "0.6050* ± 0.0071" in rendered(table)
    assert "better than the best other model: two-way test over users and seeds, p" in page
    assert not table.notes


def test_one_seed_has_no_deviation(tmp_path):
    store_run(tmp_path, "toys", "SASRec", 3, ranks_with(0.2))
    store_run(tmp_path, "toys", "GSERec", 3, ranks_with(0.25))
    table = table_of(tmp_path)
    page = tables.table_markdown(table)
    assert cell(table, "GSERec").deviation is None
    assert "±" not in page
    assert "Means of one seed" in page and "toys: 400 users, seed 3." in page
    assert r"\deviation{0" not in tables.table_latex(table) and r"\deviation{." not in tables.table_latex(table)


def test_equally_good_models_share_a_place(tmp_path):
    for model, share in {"SASRec": 0.5, "UniSAR": 0.5, "KAR": 0.25, "GSERec": 0.1}.items():
        store_run(tmp_path, "toys", model, 0, ranks_with(share))
    table = table_of(tmp_path)
    assert [cell(table, model).position for model in ("SASRec", "UniSAR", "KAR", "GSERec")] == [1, 1, 2, 0]


def test_a_single_model_is_neither_best_nor_second(tmp_path):
    store_run(tmp_path, "toys", "GSERec", 0, ranks_with(0.5))
    table = table_of(tmp_path)
    assert (cell(table, "GSERec").position, cell(table, "GSERec").star) == (0, False)


@pytest.mark.parametrize(
    ("others", "star"),
    [
        # Better for 40 of 400 users: significant. For one: not. Worse: never.
        ({"SASRec": 0.1, "UniSAR": 0.4}, True),
        ({"SASRec": 0.1, "UniSAR": 0.4975}, False),
        ({"SASRec": 0.1, "UniSAR": 0.9}, False),
    ],
)
def test_the_star_is_against_the_best_other_model(tmp_path, others, star):
    for model, share in {**others, "GSERec": 0.5}.items():
        store_run(tmp_path, "toys", model, 0, ranks_with(share))
    table = table_of(tmp_path)
    assert cell(table, "GSERec").star == star
    assert not cell(table, "UniSAR").star
    assert ("better than the best other model" in tables.table_markdown(table)) == star


def test_another_reference(tmp_path):
    for model, share in {"SASRec": 0.1, "UniSAR": 0.9, "GSERec": 0.5}.items():
        store_run(tmp_path, "toys", model, 0, ranks_with(share))
    assert cell(table_of(tmp_path, reference="UniSAR"), "UniSAR").star
    assert table_of(tmp_path, models=["SASRec", "UniSAR"]).references == {"toys": "UniSAR"}


def test_a_reference_chosen_by_its_result_is_reported(tmp_path):
    for model, share in {"SASRec": 0.1, "UniSAR": 0.9}.items():
        store_run(tmp_path, "toys", model, 0, ranks_with(share))
    chosen = "toys: UniSAR is the reference because it is the best by HR@1; chosen by the tested results"
    assert chosen in tables.table_markdown(table_of(tmp_path))
    assert chosen not in tables.table_markdown(table_of(tmp_path, reference="UniSAR"))
    assert chosen not in tables.table_markdown(table_of(tmp_path, models=["UniSAR"]))
    store_run(tmp_path, "toys", "GSERec", 0, ranks_with(0.5))
    assert table_of(tmp_path).remarks == ()


def test_a_failed_model_stays_in_the_table_with_its_error(tmp_path):
    store_run(tmp_path, "toys", "GSERec", 0, ranks_with(0.5))
    store_run(tmp_path, "toys", "KAR", 0, error="MemoryError: out of memory")
    table = table_of(tmp_path)
    assert (cell(table, "KAR").word, cell(table, "KAR").mean) == ("failed", None)
    assert note(table, "KAR") == "KAR on toys: seed 0 failed (MemoryError: out of memory)."
    for text in (tables.table_markdown(table), tables.table_latex(table), rendered(table)):
        assert "failed" in text and "MemoryError: out of memory" in text
    assert tables.long_frame(table).set_index("model").loc["KAR", "word"] == "failed"
    assert tables.wide_frame(table).set_index("model").loc["KAR", "toys HR@1"] == "failed"


def test_a_seed_that_failed_is_reported(tmp_path):
    for seed in (0, 1, 2):
        store_run(tmp_path, "toys", "GSERec", seed, ranks_with(0.5))
    store_run(tmp_path, "toys", "SASRec", 0, ranks_with(0.2))
    store_run(tmp_path, "toys", "SASRec", 1, error="boom.")
    table = table_of(tmp_path)
    assert cell(table, "SASRec").n_seeds == 1
    assert note(table, "SASRec") == "SASRec on toys: 1 of 3 seeds; seed 1 failed (boom); no run of seed 2."
    assert "SASRec<sup>a</sup>" in tables.table_markdown(table)
    assert r"SASRec & \underline{0.2000}\textsuperscript{a}" in tables.table_latex(table)


def test_missing_unfinished_and_damaged_runs_are_reported(tmp_path):
    store_run(tmp_path, "toys", "GSERec", 0, ranks_with(0.5))
    store_run(tmp_path, "books", "SASRec", 0, ranks_with(0.5))
    (tmp_path / "runs" / "toys" / "KAR" / "0-0123456789").mkdir(parents=True)
    damaged = store_run(tmp_path, "toys", "SASRec", 0, ranks_with(0.5))
    (damaged / "run.json").write_text("{")
    table = table_of(tmp_path, models=["SGL", "KAR", "SASRec", "GSERec"])
    assert [cell(table, row.model).word for row in table.rows] == ["–", "–", "–", ""]
    assert note(table, "SGL") == "SGL on toys: no run."
    assert note(table, "KAR") == "KAR on toys: seed 0 not finished."
    assert note(table, "SASRec").startswith("SASRec on toys: seed 0 damaged (runs/toys/SASRec/")
    assert note(table, "GSERec", "books") == "GSERec on books: no run."
    assert note(table, "SASRec", "books") is None


def test_seeds_that_were_run_with_other_settings_are_reported(tmp_path):
    for seed, day in ((0, 2), (1, 1)):
        started = f"2026-11-0{day}T00:00:00+00:00"
        store_run(tmp_path, "toys", "GSERec", seed, ranks_with(0.5), given={"epochs": day}, started=started)
        store_run(tmp_path, "toys", "SASRec", seed, ranks_with(0.4))
    table = table_of(tmp_path)
    assert note(table, "GSERec") == "GSERec on toys: 1 of 2 seeds; seed 1 left out because of other settings or data."


def test_results_on_other_candidates_are_shown_and_not_ranked(tmp_path):
    store_run(tmp_path, "toys", "GSERec", 0, ranks_with(0.5))
    store_run(tmp_path, "toys", "UniSAR", 0, ranks_with(0.3))
    other = {"test": "other lists", "mode": "uni99"}
    store_run(tmp_path, "toys", "SASRec", 0, ranks_with(0.9), candidates=other)
    table = table_of(tmp_path)
    shown = [cell(table, model) for model in ("GSERec", "UniSAR", "SASRec")]
    assert [(each.position, each.is_ranked) for each in shown] == [(1, True), (2, True), (0, False)]
    assert cell(table, "SASRec").mean == pytest.approx(0.9)
    assert note(table, "SASRec") == (
        "SASRec on toys: not compared with GSERec, nor ranked: the candidate lists of seed 0 differ."
    )


def test_no_other_model_takes_the_place_of_a_reference_that_failed(tmp_path):
    store_run(tmp_path, "toys", "GSERec", 0)
    store_run(tmp_path, "toys", "SASRec", 0, ranks_with(0.4))
    store_run(tmp_path, "toys", "UniSAR", 0, ranks_with(0.9))
    table = table_of(tmp_path)
    assert table.references == {"toys": None}
    assert not cell(table, "UniSAR").star
    assert cell(table, "UniSAR").position == 1
    assert "No reference, no tests." in tables.table_markdown(table)


def test_what_holds_for_all_datasets_is_said_once(tmp_path):
    for dataset in ("books", "toys"):
        store_run(tmp_path, dataset, "GSERec", 0, ranks_with(0.4))
        store_run(tmp_path, dataset, "SASRec", 0, ranks_with(0.3))
    assert tables.table_markdown(table_of(tmp_path)).count("among 99 items sampled uniformly") == 1
    full = {"valid": None, "test": None, "mode": "full"}
    store_run(tmp_path, "cds", "GSERec", 0, ranks_with(0.4), candidates=full)
    page = tables.table_markdown(table_of(tmp_path))
    assert page.count("among 99 items sampled uniformly") == 2
    assert "cds: targets are ranked among all items (RecBole leaves out those of the user's history" in page


def latex_is_balanced(text):
    """Braces match, and no special character stands bare outside of what the table itself writes."""
    bare = re.sub(r"\\[\\{}&%$#_]", "", text)
    return bare.count("{") == bare.count("}") and bare.count("$") % 2 == 0


def test_latex_has_as_many_cells_in_every_row(tmp_path):
    for dataset in ("books", "toys_&_games"):
        for model in ("SASRec", "GSERec"):
            store_run(tmp_path, dataset, model, 0, ranks_with(0.4), error=None)
    store_run(tmp_path, "books", "KAR", 0, error=NASTY)
    text = tables.table_latex(make_report(tmp_path, metrics=["HR@1", "NDCG@10", "MRR@10"]).table)
    rows = [line for line in text.splitlines() if line.endswith(r"\\")]
    for row in rows:
        cells = re.sub(r"\\&", "", row).count("&") + 1
        spans = [int(span) - 1 for span in re.findall(r"\\multicolumn\{(\d+)\}", row)]
        assert cells + sum(spans) == 7, row
    # Names, labels, two groups and three models.
    assert len(rows) == 7
    assert r"\multicolumn{3}{c}{toys\_\&\_games}" in text
    assert r"\cmidrule(lr){2-4} \cmidrule(lr){5-7}" in text
    assert [text.count(rule) for rule in (r"\toprule", r"\midrule", r"\bottomrule")] == [1, 2, 1]
    assert latex_is_balanced(text)
    assert text.count(r"\begin{") == text.count(r"\end{")


def test_characters_that_mean_something_to_latex_are_escaped():
    assert report.escape_latex("50% & $5 #1 a_b {c}") == r"50\% \& \$5 \#1 a\_b \{c\}"
    assert report.escape_latex("\\ ~ ^") == r"\textbackslash{} \textasciitilde{} \textasciicircum{}"
    assert report.escape_latex("<a|b>") == r"\textless{}a\textbar{}b\textgreater{}"
    # What pdfLaTeX has no glyph for would stop it.
    assert report.escape_latex("café 中文 ± –\n\x00x") == r"cafe ?? $\pm$ -- x"
    assert latex_is_balanced(report.escape_latex(NASTY))


def test_characters_that_mean_something_to_markdown_are_escaped():
    assert report.escape_markdown("a|b\n*c* _d_ <e>") == r"a\|b \*c\* \_d\_ \<e>"
    assert report.escape_markdown(">3") == r"\>3" and report.escape_markdown("1>0") == "1>0"
    assert report.escape_markdown("[x](y) `z` &amp; #1") == r"\[x\](y) \`z\` \&amp; \#1"


def test_nasty_texts_break_no_table(tmp_path):
    store_run(tmp_path, "a|b [x]", "GSERec", 0, ranks_with(0.5))
    store_run(tmp_path, "a|b [x]", "KAR", 0, error=NASTY)
    table = table_of(tmp_path)
    page = tables.table_markdown(table)
    # Every row of a table has the same bars.
    rows = [line for line in page.splitlines() if line.startswith("|")]
    assert {len(re.findall(r"(?<!\\)\|", row)) for row in rows} == {3}
    # Rich takes nothing for markup.
    assert "[link](x)" in rendered(table) and "a|b [x]" in rendered(table)


def test_long_frame_has_every_cell(tmp_path):
    for dataset in ("books", "toys"):
        for model, share in {"SASRec": 0.2, "GSERec": 0.6}.items():
            store_run(tmp_path, dataset, model, 0, ranks_with(share))
    frame = tables.long_frame(make_report(tmp_path).table)
    assert len(frame) == 2 * 2 * 5
    row = frame.set_index(["dataset", "model", "metric"]).loc[("toys", "GSERec", "ndcg@10")]
    assert (row["mean"], row["n_seeds"], row["place"], row["significant"]) == (pytest.approx(0.6), 1, 1, True)


def test_long_errors_are_cut_in_notes(tmp_path):
    store_run(tmp_path, "toys", "GSERec", 0, ranks_with(0.5))
    store_run(tmp_path, "toys", "KAR", 0, error="x" * 5000)
    assert len(note(table_of(tmp_path), "KAR")) < 300


def test_marks_of_notes():
    assert [note_mark(index) for index in (0, 25, 26, 27, 701, 702)] == ["a", "z", "aa", "ab", "zz", "aaa"]


def test_markdown_tables_are_readable_as_they_are():
    assert markdown_table([("model", "HR"), ("A", "0.1"), ("Bcd", "")]) == (
        "| model |  HR |\n|-------|----:|\n| A     | 0.1 |\n| Bcd   |     |"
    )


def settings(**values):
    return {"metric_decimal_place": 4, **values}


def losses_of(table):
    return {line for line in tables.legend(table) if "oss:" in line}


def test_the_loss_of_each_model_is_reported(tmp_path):
    for model, own in {
        "GSERec": settings(),  # Made before it had the setting.
        "UniSAR": settings(loss_type="sampled_CE"),
        "SASRec": settings(loss_type="sampled_CE"),
        "GRU4Rec": settings(loss_type="CE"),
        "BERT4Rec": settings(loss_type="CE"),
        "LightGCN": settings(loss_type="CE"),  # Given to all models; this one does not read it.
        "NeuMF": settings(loss_type="CE"),
        "Strange": settings(loss_type="CE"),
    }.items():
        store_run(tmp_path, "toys", model, 0, ranks_with(0.5), settings=own)
    store_run(tmp_path, "toys", "KAR", 0)
    table = table_of(tmp_path)
    expected = (
        "Loss: BPR LightGCN; CE GRU4Rec; sampled_CE SASRec, UniSAR; CE of masked items BERT4Rec; own NeuMF, Strange; "
        "BCE GSERec."
    )
    assert losses_of(table) == {expected}
    assert expected in " ".join(rendered(table).split())
    assert expected.replace("_", r"\_") in tables.table_markdown(table)
    assert expected.replace("_", r"\_") in tables.table_latex(table)
    column = tables.long_frame(table).set_index("model")["loss"]
    assert (column["BERT4Rec"], column["SASRec"], column["KAR"]) == ("CE of masked items", "sampled_CE", None)


def test_losses_of_datasets_are_told_apart(tmp_path):
    for dataset, loss in {"books": "BCE", "toys": "CE"}.items():
        store_run(tmp_path, dataset, "SASRec", 0, ranks_with(0.5), settings=settings(loss_type=loss))
    assert losses_of(table_of(tmp_path)) == {"books: loss: BCE.", "toys: loss: CE."}
    assert losses_of(table_of(tmp_path, datasets=["toys"])) == {"Loss: CE."}


def test_the_loss_that_a_registered_model_was_given_is_reported_where_its_file_is_not_known(tmp_path):
    for model, given in {"Asked": {"loss_type": "gBCE"}, "Silent": {}}.items():
        own = {"given": given, "settings": settings(loss_type="gBCE"), "model_code": "0" * 12}
        store_run(tmp_path, "toys", model, 0, ranks_with(0.5), **own)
    assert losses_of(table_of(tmp_path)) == {"Loss: gBCE Asked; own Silent."}


def test_another_loss_is_another_setting(tmp_path):
    for key, loss in {"a": "CE", "b": "BCE"}.items():
        day = {"a": "2026-11-01", "b": "2026-11-02"}[key]
        own = {"given": {"loss_type": loss}, "settings": settings(loss_type=loss), "started": f"{day}T00:00:00+00:00"}
        store_run(tmp_path, "toys", "SASRec", 0, ranks_with(0.5), key=key * 10, **own)
    assert losses_of(table_of(tmp_path)) == {"Loss: BCE."}
    assert losses_of(table_of(tmp_path, keys=["a" * 10])) == {"Loss: CE."}
