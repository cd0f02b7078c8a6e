"""The figure of a sweep: nothing in it touches anything else."""

from itertools import pairwise

import pytest

from recbole_gserec.tune.report import draw_settings
from recbole_gserec.tune.space import Choice, Range
from recbole_gserec.tune.sweep import TrialRecord

WEIGHTS = (0.0001, 0.001, 0.01, 0.1, 1.0)


def trials_of(**values):
    """A trial for each value of the first setting."""
    (name, given), *others = values.items()
    for index, value in enumerate(given):
        settings = {name: value, **{other: options[index % len(options)] for other, options in others}}
        record = TrialRecord(f"t{index}", settings, "finished", True)
        record.best_score = 0.3 + 0.01 * index
        yield record


def labels_of(panel):
    return [label for label in panel.get_xticklabels() if label.get_text()]


@pytest.mark.parametrize("values", [WEIGHTS, (0.0002, 0.0003, 0.00025), ("both", "rec_only", "none_of_these")])
def test_labels_of_values_do_not_touch(values):
    space = {"lambda_u_cl": Choice(values), "other": Choice(values)}
    figure = draw_settings(list(trials_of(lambda_u_cl=values, other=values)), space, "NDCG@5")
    figure.draw_without_rendering()
    for panel in figure.axes:
        labels = labels_of(panel)
        assert len(labels) == len(values)
        for one, other in pairwise(labels):
            if one.get_rotation() == 0:
                # A space lies between them, or they read as one number.
                assert one.get_window_extent().x1 + 2 < other.get_window_extent().x0


def test_panels_share_their_scores_and_show_every_trial():
    space = {"lambda_u_cl": Choice(WEIGHTS), "rate": Range("loguniform", (1e-4, 1e-2)), "$odd$": Choice(("a", "b"))}
    trials = list(trials_of(lambda_u_cl=WEIGHTS, rate=(1e-4, 1e-3), **{"$odd$": ("a", "b")}))
    figure = draw_settings(trials, space, "NDCG@5")
    panels = [panel for panel in figure.axes if panel.get_visible()]
    assert [panel.get_xlabel() for panel in panels] == ["lambda_u_cl", "rate", r"\$odd\$"]
    assert len({panel.get_ylim() for panel in panels}) == 1 and panels[1].get_xscale() == "log"
    for panel in panels:
        assert sorted(panel.lines[0].get_ydata()) == pytest.approx([record.best_score for record in trials])
    # The line is through the best of each value.
    assert panels[2].lines[1].get_ydata().tolist() == pytest.approx([0.34, 0.33])
