import numpy as np
import pytest

from recbole_gserec.preprocess.code_agreement import Agreement, CodeAgreement
from recbole_gserec.preprocess.report import SideReport, draw

CODES = np.array([[1, 2, 3], [0, 2, 3], [1, 2, 0], [0, 1, 1], [1, 2, 1], [0, 0, 0]])
HISTORY = [
    {"epoch": epoch, "losses": {"total": 1 / epoch, "contrastive": 0.0}, "collision_rate": 0.1} for epoch in (10, 20)
]
SIZES = [2, 3, 4]
NO_TOKENS = {"search": np.array([], dtype=np.int64), "recommendation": np.array([], dtype=np.int64)}


def agreement(lift, interval):
    return Agreement(100, 50, 0.5, 0.1, 0.2, 0.05, lift, interval)


AGREEMENTS = {
    "search": CodeAgreement([agreement(2.0, (1.5, 3.0)), agreement(4.0, (2.0, 8.0)), None], agreement(1.1, (1.0, 1.3))),
    "recommendation": CodeAgreement([None, agreement(None, None), agreement(0.0, None)], None),
}


@pytest.fixture
def sides():
    coded = {"search": np.array([1, 0, 0, 1, 1, 1], dtype=bool), "recommendation": np.ones(6, dtype=bool)}
    codes = {"search": CODES[::-1], "recommendation": CODES}
    return {side: SideReport(codes[side], coded[side], {}, {}, [None] * 6, [None] * 6) for side in codes}


def panel(figure, title):
    (found,) = [axes for axes in figure.axes if axes.get_title() == title]
    return found


def test_usage_is_drawn_for_users_with_codes(sides):
    figure = draw(sides, HISTORY, SIZES, AGREEMENTS, NO_TOKENS)
    for level in range(3):
        lines = panel(figure, f"Level {level + 1}").get_lines()
        for line, side in zip(lines, sides.values(), strict=True):
            usage = line.get_ydata()
            assert sorted(usage, reverse=True) == list(usage)
            assert usage.sum() == side.coded.sum()
            assert len(usage) == SIZES[level]
            assert (usage > 0).sum() == len(set(side.codes[side.coded, level].tolist()))


def test_training_curves(sides):
    figure = draw(sides, HISTORY, SIZES, AGREEMENTS, NO_TOKENS)
    losses = {line.get_label(): list(line.get_ydata()) for line in panel(figure, "Training").get_lines()}
    assert losses == {"total": [0.1, 0.05], "contrastive": [0.0, 0.0]}
    (line,) = panel(figure, "Collisions").get_lines()
    assert (list(line.get_xdata()), list(line.get_ydata())) == ([10, 20], [0.1, 0.1])


def test_lift_with_its_intervals(sides):
    axes = panel(draw(sides, HISTORY, SIZES, AGREEMENTS, NO_TOKENS), "Sharing codes and items")
    # What has no lift, or none that a logarithm can show, is not drawn.
    prefixes, neighbours = axes.containers
    points, _, (bars,) = prefixes
    assert np.array(points.get_xdata(), dtype=float).round().tolist() == [1, 2] and list(points.get_ydata()) == [2, 4]
    assert np.array(bars.get_segments())[:, :, 1] == pytest.approx(np.array([[1.5, 3], [2, 8]]))
    points, _, (bars,) = neighbours
    assert np.array(points.get_xdata(), dtype=float).round().tolist() == [0] and list(points.get_ydata()) == [1.1]
    assert np.array(bars.get_segments())[:, :, 1] == pytest.approx(np.array([[1, 1.3]]))
    low, high = axes.get_ylim()
    assert low < 1 and high > 8
    assert any(list(line.get_ydata()) == [1, 1] for line in axes.get_lines())
    assert [label.get_text() for label in axes.get_xticklabels()] == ["any", "1", "2", "3"]


def test_no_lift_at_all(sides):
    nothing = CodeAgreement([None] * 3, None)
    figure = draw(sides, HISTORY, SIZES, dict.fromkeys(AGREEMENTS, nothing), NO_TOKENS)
    figure.canvas.draw()
    assert panel(figure, "Sharing codes and items").containers == []


def test_lengths_of_answers(sides):
    tokens = {"search": np.array([5, 5, 40]), "recommendation": np.array([100])}
    axes = panel(draw(sides, HISTORY, SIZES, AGREEMENTS, tokens), "Lengths of answers")
    search, recommendation = [np.array(patch.get_xy()) for patch in axes.patches]
    assert search[:, 1].max() == 2 and recommendation[:, 1].max() == 1
    assert search[:, 0].min() == 5 and recommendation[:, 0].max() == 100


@pytest.mark.parametrize("tokens", [NO_TOKENS, {**NO_TOKENS, "search": np.array([3])}])
def test_a_panel_of_answers_only_where_tokens_are_known(sides, tokens):
    titles = [axes.get_title() for axes in draw(sides, HISTORY, SIZES, AGREEMENTS, tokens).axes]
    assert ("Lengths of answers" in titles) == any(map(len, tokens.values()))
