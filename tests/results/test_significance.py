import math
from fractions import Fraction

import numpy as np
import pytest
from scipy import stats

from recbole_gserec.results import bootstrap
from recbole_gserec.results.bootstrap import bootstrap_intervals, crossed_intervals
from recbole_gserec.results.load import ModelRuns, choose_runs, load_runs, why_not_comparable
from recbole_gserec.results.metrics import parse_metric
from recbole_gserec.results.paired_tests import (
    CORRECTIONS,
    benjamini_hochberg_correction,
    crossed_variance,
    differences,
    holm_correction,
    t_test,
    two_way_test,
    wilcoxon_test,
)
from recbole_gserec.results.significance import compare, comparisons_frame, format_p_value, significance_markdown
from tests.runs.stored_runs import random_ranks, store_run

NDCG = parse_metric("ndcg@10")
METRICS = (parse_metric("hit@1"), NDCG)


def cells_of(tmp_path):
    return {model: cell for (_, model), cell in choose_runs(load_runs(tmp_path)).items()}


def test_t_test_is_that_of_the_formula():
    generator = np.random.default_rng(0)
    ours, theirs = generator.random(300), generator.random(300)
    d = ours - theirs
    t = d.mean() / math.sqrt(sum((value - d.mean()) ** 2 for value in d) / 299 / 300)
    assert t_test(ours, theirs) == pytest.approx(2 * stats.t.sf(abs(t), df=299), rel=1e-10)


def test_wilcoxon_ranks_zeros_and_leaves_them_out_after():
    """Pratt's statistic with its normal approximation, by plain loops."""
    generator = np.random.default_rng(1)
    d = generator.choice([-0.5, -0.1, 0.0, 0.0, 0.0, 0.1, 0.3, 0.5], size=120)
    sizes = np.abs(d)
    ranks = [sum(sizes < size) + (sum(sizes == size) + 1) / 2 for size in sizes]
    plus = sum(rank for rank, value in zip(ranks, d, strict=True) if value > 0)
    kept = [rank for rank, value in zip(ranks, d, strict=True) if value]
    z = (plus - sum(kept) / 2) / math.sqrt(sum(rank**2 for rank in kept) / 4)
    assert wilcoxon_test(d) == pytest.approx(2 * stats.norm.sf(abs(z)), rel=1e-9)


def test_without_differences_nothing_is_significant():
    same = np.array([0.2, 0.5, 0.5])
    assert t_test(same, same) == 1
    assert wilcoxon_test(differences(same, same)) == 1


def test_equal_differences_of_all_users_cannot_be_tested():
    assert math.isnan(t_test(np.array([1.0, 1.0]), np.array([0.0, 0.0])))
    assert math.isnan(t_test(np.array([1.0]), np.array([0.0])))


def test_rounding_errors_are_no_differences():
    ours, theirs = np.array([0.1 + 0.2 + 0.3]), np.array([0.3 + 0.2 + 0.1])
    assert ours[0] != theirs[0]
    assert differences(ours, theirs).tolist() == [0.0]


def plain_holm(p_values):
    """Reject one after the other: each p-value times how many are left, and never below the one before."""
    left, corrected, before = sorted((p, index) for index, p in enumerate(p_values)), {}, 0.0
    while left:
        p, index = left[0]
        before = max(before, min(1.0, p * len(left)))
        corrected[index] = before
        left = left[1:]
    return [corrected[index] for index in range(len(p_values))]


@pytest.mark.parametrize("n", [1, 2, 5, 16])
def test_holm_is_that_of_a_plain_loop(n):
    p_values = np.random.default_rng(n).random(n) ** 4
    np.testing.assert_allclose(holm_correction(p_values), plain_holm(p_values), rtol=1e-14)


def test_holm_worked_by_hand():
    assert holm_correction([0.04, 0.01, 0.03]).tolist() == pytest.approx([0.06, 0.03, 0.06])
    assert holm_correction([0.5, 0.9]).tolist() == [1.0, 1.0]
    assert holm_correction([]).tolist() == []


def plain_benjamini_hochberg(p_values):
    """The expected share of false findings up to each test, and for each the least share at or after it."""
    ordered = sorted(p_values)
    shares = [p * len(ordered) / place for place, p in enumerate(ordered, start=1)]
    return [min(shares[ordered.index(p) :]) for p in p_values]


@pytest.mark.parametrize("n", [1, 2, 5, 16])
def test_benjamini_hochberg_is_that_of_a_plain_loop(n):
    p_values = np.random.default_rng(n).random(n) ** 4
    found = benjamini_hochberg_correction(p_values)
    np.testing.assert_allclose(found, plain_benjamini_hochberg(p_values), rtol=1e-14)
    assert (found <= holm_correction(p_values) + 1e-15).all()


def test_benjamini_hochberg_worked_by_hand():
    assert benjamini_hochberg_correction([0.04, 0.01, 0.03]).tolist() == pytest.approx([0.04, 0.03, 0.04])
    assert benjamini_hochberg_correction([]).tolist() == []


@pytest.mark.parametrize("correct", CORRECTIONS.values())
def test_tests_that_were_not_made_do_not_count(correct):
    corrected = correct([0.01, math.nan, 0.02])
    assert corrected[[0, 2]].tolist() == [0.02, 0.02]
    assert math.isnan(corrected[1])
    assert np.isnan(correct([math.nan])).all()


def test_bootstrap_is_near_the_normal_interval_where_users_are_many():
    values = np.random.default_rng(2).exponential(size=(20_000, 2)) - [1.0, 0.5]
    error = values.std(axis=0, ddof=1) / math.sqrt(len(values))
    normal = np.stack([values.mean(axis=0) - 1.96 * error, values.mean(axis=0) + 1.96 * error], axis=1)
    intervals = bootstrap_intervals(values, n_resamples=2000)
    assert np.abs(intervals - normal).max() < 0.12 * error.min()


def test_bootstrap_is_that_of_scipy():
    values = np.random.default_rng(3).exponential(size=(40, 1))
    theirs = stats.bootstrap(
        (values[:, 0],), np.mean, n_resamples=20_000, method="percentile", random_state=np.random.default_rng(0)
    ).confidence_interval
    error = values.std() / math.sqrt(40)
    np.testing.assert_allclose(bootstrap_intervals(values, n_resamples=20_000), [theirs], atol=0.05 * error)


def test_bootstrap_worked_by_hand():
    # Of two users, both resampled means of 0 and 1 have a chance of a quarter each.
    assert bootstrap_intervals(np.array([[0.0], [1.0]])).tolist() == [[0.0, 1.0]]
    assert bootstrap_intervals(np.array([[0.0], [1.0]]), level=0.4).tolist() == [[0.5, 0.5]]


def test_bootstrap_does_not_depend_on_how_much_is_done_at_once(monkeypatch):
    values = np.random.default_rng(4).normal(size=(50, 3))
    at_once = bootstrap_intervals(values, n_resamples=101)
    monkeypatch.setattr(bootstrap, "_ELEMENTS", 350)
    np.testing.assert_allclose(bootstrap_intervals(values, n_resamples=101), at_once, rtol=1e-12)


def trained(generator, n_seeds, n_users, of_seeds, of_users=1.0, noise=1.0):
    """Values ``[n_seeds, n_users]`` around 0 of a model whose users, trainings and single values all vary."""
    users = of_users * generator.normal(size=n_users)
    return users + of_seeds * generator.normal(size=(n_seeds, 1)) + noise * generator.normal(size=(n_seeds, n_users))


@pytest.mark.parametrize("n_seeds", [2, 3, 5])
@pytest.mark.parametrize("of_seeds", [0.0, 0.3])
def test_without_a_difference_the_two_way_test_rejects_about_one_in_twenty(n_seeds, of_seeds):
    """Equally good models on average: the test over users mistakes variation between seeds for a better model."""
    generator = np.random.default_rng([n_seeds, int(100 * of_seeds)])
    two_way, over_users = [], []
    for _ in range(800):
        ours, theirs = (trained(generator, n_seeds, 150, of_seeds) for _ in range(2))
        two_way.append(two_way_test(ours, theirs) < 0.05)
        over_users.append(t_test(ours.mean(0), theirs.mean(0)) < 0.05)
    # Of 800 the share is within .023 of the true one, but for three in a thousand.
    assert 0.01 < np.mean(two_way) < 0.08
    if of_seeds == 0.3:
        assert np.mean(over_users) > 0.2


def test_the_two_way_test_finds_a_difference():
    generator = np.random.default_rng(0)
    found = [two_way_test(trained(generator, 3, 500, 0.05) + 0.4, trained(generator, 3, 500, 0.05)) for _ in range(200)]
    assert np.mean(np.array(found) < 0.05) > 0.9


def test_crossed_variance_is_that_of_the_mean_over_repeated_experiments():
    generator = np.random.default_rng(5)
    pairs = [[trained(generator, n_seeds, 40, 0.2) for n_seeds in (4, 3)] for _ in range(2000)]
    means = [ours.mean() - theirs.mean() for ours, theirs in pairs]
    # Leaving out that a share of seeds is never below 0 makes no difference: here it rarely would be.
    assert np.mean([crossed_variance(*pair).total for pair in pairs]) == pytest.approx(np.var(means), rel=0.08)


def test_users_who_are_all_alike_leave_welchs_test_of_seeds():
    ours, theirs = np.array([0.2, 0.5, 0.3]), np.array([0.9, 0.4, 0.8, 0.7])
    alike = [np.repeat(values[:, None], 50, axis=1) for values in (ours, theirs)]
    assert two_way_test(*alike) == pytest.approx(stats.ttest_ind(ours, theirs, equal_var=False).pvalue)


def test_trainings_that_are_all_alike_leave_the_paired_test_of_users():
    generator = np.random.default_rng(6)
    ours, theirs = generator.random(60), generator.random(60)
    alike = [np.repeat(values[None], 3, axis=0) for values in (ours, theirs)]
    assert two_way_test(*alike) == pytest.approx(t_test(ours, theirs))


def test_seeds_of_two_models_are_not_paired():
    generator = np.random.default_rng(7)
    ours, theirs = trained(generator, 4, 80, 0.3), trained(generator, 4, 80, 0.3)
    assert two_way_test(ours, theirs) == pytest.approx(two_way_test(ours, theirs[[2, 0, 3, 1]]), rel=1e-12)
    assert two_way_test(ours, theirs) == pytest.approx(two_way_test(theirs, ours), rel=1e-12)


def test_what_the_two_way_test_cannot_tell():
    values = np.random.default_rng(8).random((3, 10))
    assert math.isnan(two_way_test(values[:1], values))
    assert math.isnan(two_way_test(values[:, :1], values[:, :1]))
    assert math.isnan(two_way_test(np.ones((2, 10)), np.zeros((2, 10))))
    assert two_way_test(values, values[::-1]) == 1


def test_crossed_bootstrap_is_that_of_a_plain_loop():
    generator = np.random.default_rng(9)
    ours, theirs = trained(generator, 3, 30, 0.3), trained(generator, 4, 30, 0.3) - 0.2
    means = []
    for _ in range(4000):
        users = generator.integers(30, size=30)
        sides = (values[generator.integers(len(values), size=len(values))][:, users] for values in (ours, theirs))
        means.append(next(sides).mean() - next(sides).mean())
    expected = np.percentile(means, [2.5, 97.5])
    np.testing.assert_allclose(crossed_intervals([(ours, theirs)]), [expected], atol=0.08 * np.ptp(expected))


def test_crossed_bootstrap_of_one_seed_is_that_over_users():
    values = np.random.default_rng(10).random((2, 1, 50))
    expected = bootstrap_intervals((values[0] - values[1]).T)
    np.testing.assert_allclose(crossed_intervals([(values[0], values[1])]), expected, rtol=1e-9)


def test_crossed_bootstrap_of_a_pair_does_not_depend_on_others(monkeypatch):
    generator = np.random.default_rng(11)
    first, second, third = (trained(generator, n_seeds, 40, 0.3) for n_seeds in (3, 2, 5))
    together = crossed_intervals([(first, second), (first, third)])
    monkeypatch.setattr(bootstrap, "_STACKED", 1)
    apart = crossed_intervals([(first, second), (first, third)])
    np.testing.assert_allclose(apart, together, rtol=1e-9)
    np.testing.assert_allclose(crossed_intervals([(first, third), (first, second)]), together[::-1], rtol=1e-9)


def lucky(folder, n_seeds=3, others=("UniSAR",)):
    """GSERec is ahead among all users, and only by one of its trainings."""
    generator = np.random.default_rng(0)
    bases = generator.integers(1, 30, size=300)
    for seed in range(1, n_seeds + 1):
        gained = 12 if seed == 1 else 0
        store_run(folder, "toys", "GSERec", seed, np.maximum(1, bases - gained))
        for model in others:
            store_run(folder, "toys", model, seed, np.maximum(1, bases + generator.integers(-1, 2, size=300)))
    return cells_of(folder)


def test_a_lucky_training_is_not_beyond_chance(tmp_path):
    cells = lucky(tmp_path)
    (found,) = compare(cells["GSERec"], [cells["UniSAR"]], [NDCG])
    assert found.difference > 0 and found.low > 0 and found.t_p_holm < 1e-6
    assert found.two_way_low < 0 and found.two_way_p > 0.1
    assert not found.beyond_chance and not found.is_better
    assert "The two-way test asks" in significance_markdown([found]) and "not counted" not in significance_markdown(
        [found]
    )


def test_with_one_seed_the_page_says_that_training_is_not_counted(tmp_path):
    cells = lucky(tmp_path, n_seeds=1)
    (found,) = compare(cells["GSERec"], [cells["UniSAR"]], [NDCG])
    assert math.isnan(found.two_way_p) and math.isnan(found.two_way_low)
    assert found.is_better
    page = significance_markdown([found])
    assert "differences between trainings are not counted" in page and "two-way" not in page


def test_beside_models_with_several_seeds_a_single_training_is_never_beyond_chance(tmp_path):
    lucky(tmp_path, others=("SASRec",))
    store_run(tmp_path, "toys", "UniSAR", 1, np.full(300, 99))
    cells = cells_of(tmp_path)
    several, single = compare(cells["GSERec"], [cells["SASRec"], cells["UniSAR"]], [NDCG])
    assert several.counts_training and not single.counts_training
    assert single.t_p_holm < 1e-6 and not single.is_better
    page = significance_markdown([several, single])
    assert "The two-way test asks" in page and "differences between trainings are not counted" in page
    # Those without a two-way test are not counted among its tests.
    assert several.two_way_p_holm == several.two_way_p


def test_a_comparison_worked_by_hand(tmp_path):
    # NDCG@10 of ranks 1, 3, 7, 11 is 1, 1/2, 1/3, 0.
    store_run(tmp_path, "toys", "GSERec", 1, [1, 3, 11, 1])
    store_run(tmp_path, "toys", "GSERec", 2, [1, 1, 11, 3])
    store_run(tmp_path, "toys", "SASRec", 1, [3, 3, 11, 7])
    store_run(tmp_path, "toys", "SASRec", 2, [3, 1, 11, 7])
    store_run(tmp_path, "toys", "SASRec", 3, [1, 1, 1, 1])
    cells = cells_of(tmp_path)
    hit, ndcg = compare(cells["GSERec"], [cells["SASRec"]], METRICS)
    ours = [Fraction(1), Fraction(3, 4), Fraction(0), Fraction(3, 4)]
    theirs = [Fraction(1, 2), Fraction(3, 4), Fraction(0), Fraction(1, 3)]
    mean, other = sum(ours) / 4, sum(theirs) / 4
    assert (ndcg.metric, ndcg.reference, ndcg.model, ndcg.refused) == ("ndcg@10", "GSERec", "SASRec", None)
    assert (ndcg.seeds, ndcg.n_users, ndcg.n_nonzero) == ((1, 2), 4, 2)
    assert ndcg.reference_mean == pytest.approx(float(mean), abs=1e-15)
    assert ndcg.model_mean == pytest.approx(float(other), abs=1e-15)
    assert ndcg.difference == pytest.approx(float(mean - other), abs=1e-12)
    assert ndcg.relative_percent == pytest.approx(float(100 * (mean - other) / other), abs=1e-9)
    differences_ = np.array([float(a - b) for a, b in zip(ours, theirs, strict=True)])
    assert ndcg.t_p == pytest.approx(stats.ttest_1samp(differences_, 0).pvalue)
    assert ndcg.t_p_holm == ndcg.t_p
    # Users 0 and 3 by HR@1: 1 against 0 and 1/2 against 0.
    assert (hit.n_nonzero, hit.difference) == (2, pytest.approx(3 / 8))
    assert not ndcg.is_better


def three_models(folder, order=None, users=None):
    ranks = {model: random_ranks(seed, 100, skill) for seed, (model, skill) in enumerate(SKILLS)}
    order = np.arange(100) if order is None else order
    for model, skill in SKILLS:
        for seed in (1, 2):
            own = np.roll(ranks[model], seed) if skill < 2 else ranks[model]
            names = users or [f"u{user}" for user in range(100)]
            store_run(folder, "toys", model, seed, own, order=order, users=names)
    return cells_of(folder)


SKILLS = (("GSERec", 3.0), ("SASRec", 1.5), ("UniSAR", 2.5))


def test_numbers_are_those_of_scipy_on_plain_arrays(tmp_path):
    cells = three_models(tmp_path)
    found = compare(cells["GSERec"], [cells["SASRec"], cells["UniSAR"]], [NDCG])
    raw = []
    for comparison in found:
        values = []
        for model in ("GSERec", comparison.model):
            per_seed = [run.ranks.ranks for run in cells[model].finished.values()]
            values.append(np.mean([np.where(r <= 10, 1 / np.log2(r + 1.0), 0) for r in per_seed], axis=0))
        raw.append(stats.ttest_rel(*values).pvalue)
        assert comparison.t_p == pytest.approx(raw[-1], rel=1e-9)
        d = values[0] - values[1]
        assert comparison.wilcoxon_p == pytest.approx(stats.wilcoxon(np.round(d, 12), zero_method="pratt").pvalue)
        error = d.std(ddof=1) / 10
        np.testing.assert_allclose(
            [comparison.low, comparison.high], d.mean() + error * np.array([-1.96, 1.96]), atol=0.2 * error
        )
    assert [comparison.t_p_holm for comparison in found] == pytest.approx(plain_holm(raw))
    assert [comparison.t_p_bh for comparison in found] == pytest.approx(plain_benjamini_hochberg(raw))


def test_the_order_of_rows_and_runs_changes_nothing(tmp_path):
    one = three_models(tmp_path / "one")
    other = three_models(tmp_path / "other", order=np.random.default_rng(0).permutation(100))
    models = ["SASRec", "UniSAR"]
    expected = compare(one["GSERec"], [one[model] for model in models], METRICS)
    assert compare(other["GSERec"], [other[model] for model in models], METRICS) == expected
    by_model = {(each.metric, each.model): each for each in expected}
    for each in compare(one["GSERec"], [one[model] for model in models[::-1]], METRICS):
        same = by_model[each.metric, each.model]
        assert each.t_p_holm == same.t_p_holm
        assert (each.low, each.high) == pytest.approx((same.low, same.high), abs=1e-12)


def test_who_is_who_among_users_changes_no_test(tmp_path):
    """Other names put users into another order: only the resamples are others."""
    names = [f"v{user}" for user in np.random.default_rng(1).permutation(100)]
    one = three_models(tmp_path / "one")
    other = three_models(tmp_path / "other", users=names)
    found = [compare(cells["GSERec"], [cells["SASRec"]], METRICS) for cells in (one, other)]
    for a, b in zip(*found, strict=True):
        assert (a.t_p, a.wilcoxon_p, a.difference) == pytest.approx((b.t_p, b.wilcoxon_p, b.difference), rel=1e-9)
        assert (a.low, a.high) == pytest.approx((b.low, b.high), abs=0.02)


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"candidates": {"test": "other lists", "mode": "uni99"}}, "the candidate lists of seed 1 differ"),
        ({"candidates": {"test": None, "mode": "full"}}, "uni99 and full are different evaluations"),
        ({"dataset_digest": "other files"}, "the dataset's files differ"),
        ({"users": ["u0", "u1", "u2", "u9"]}, "the users or targets of seed 1 differ"),
        ({"items": ["i0", "i1", "i2", "i9"]}, "the users or targets of seed 1 differ"),
    ],
)
def test_results_of_other_users_or_candidates_are_not_paired(tmp_path, changes, reason):
    store_run(tmp_path, "toys", "GSERec", 1, [1, 3, 7, 11])
    store_run(tmp_path, "toys", "SASRec", 1, [3, 3, 7, 1], **changes)
    store_run(tmp_path, "toys", "UniSAR", 1, [3, 3, 7, 1])
    cells = cells_of(tmp_path)
    first, second = compare(cells["GSERec"], [cells["SASRec"], cells["UniSAR"]], [NDCG])
    assert first.refused == reason
    assert math.isnan(first.t_p) and math.isnan(first.low) and math.isnan(first.t_p_holm)
    assert not first.is_better
    # What is refused does not count among the comparisons that are corrected for.
    assert second.refused is None and second.t_p_holm == second.t_p


@pytest.mark.parametrize(("one", "other", "refused"), [("a", "b", True), ("a", "a", False), (None, "b", False)])
def test_runs_on_other_interactions_are_not_paired(tmp_path, one, other, refused):
    """Runs of earlier versions do not tell."""
    for model, interactions in (("GSERec", one), ("SASRec", other)):
        store_run(tmp_path, "toys", model, 1, [1, 3], **({"interactions": interactions} if interactions else {}))
    cells = cells_of(tmp_path)
    reason = why_not_comparable(cells["GSERec"], cells["SASRec"])
    assert (reason == "the interactions of seed 1 differ: settings that filter them differ") is refused


def test_fewer_users_are_not_paired(tmp_path):
    store_run(tmp_path, "toys", "GSERec", 1, [1, 3, 7, 11])
    store_run(tmp_path, "toys", "SASRec", 1, [1, 3, 7])
    cells = cells_of(tmp_path)
    assert why_not_comparable(cells["GSERec"], cells["SASRec"]) == "the users or targets of seed 1 differ"


def test_models_without_a_seed_in_common_or_a_finished_run_are_not_paired(tmp_path):
    store_run(tmp_path, "toys", "GSERec", 1, [1, 3])
    store_run(tmp_path, "toys", "SASRec", 2, [1, 3])
    store_run(tmp_path, "toys", "UniSAR", 1)
    cells = cells_of(tmp_path)
    assert why_not_comparable(cells["GSERec"], cells["SASRec"]) == "no finished runs with a common seed"
    assert why_not_comparable(cells["GSERec"], cells["UniSAR"]) == "no finished run"
    assert why_not_comparable(cells["GSERec"], ModelRuns("toys", "KAR")) == "no finished run"


def test_lists_may_differ_between_seeds_where_models_share_them(tmp_path):
    for model in ("GSERec", "SASRec"):
        for seed in (1, 2):
            candidates = {"test": f"lists of seed {seed}", "mode": "uni99"}
            store_run(tmp_path, "toys", model, seed, [1, 3, 7], candidates=candidates)
    cells = cells_of(tmp_path)
    assert why_not_comparable(cells["GSERec"], cells["SASRec"]) is None


def test_full_ranking_has_no_lists_to_compare(tmp_path):
    for model in ("GSERec", "SASRec"):
        store_run(tmp_path, "toys", model, 1, [1, 3, 7], candidates={"valid": None, "test": None, "mode": "full"})
    cells = cells_of(tmp_path)
    assert why_not_comparable(cells["GSERec"], cells["SASRec"]) is None


def test_a_model_that_finds_nothing(tmp_path):
    store_run(tmp_path, "toys", "GSERec", 1, [1, 3, 7])
    store_run(tmp_path, "toys", "SASRec", 1, [90, 95, 99])
    cells = cells_of(tmp_path)
    (comparison,) = compare(cells["GSERec"], [cells["SASRec"]], [NDCG])
    assert math.isnan(comparison.relative_percent)
    assert "| SASRec | 0.0000 |" in significance_markdown([comparison])


def test_tests_are_reported_with_what_was_refused(tmp_path):
    cells = three_models(tmp_path)
    store_run(tmp_path, "toys", "KAR", 1)
    store_run(tmp_path, "toys", "LLMESR", 1)
    cells = cells_of(tmp_path)
    found = compare(cells["GSERec"], [cell for model, cell in cells.items() if model != "GSERec"], METRICS)
    page = significance_markdown(found)
    assert page.count("Not compared: KAR, LLM-ESR (no finished run).") == 2
    assert "### toys, NDCG@10: GSERec against the others" in page
    frame = comparisons_frame(found).set_index(["metric", "model"])
    assert frame.loc[("ndcg@10", "SASRec"), "seeds"] == "1 2"
    assert frame.loc[("ndcg@10", "KAR"), "refused"] == "no finished run"
    assert math.isnan(frame.loc[("ndcg@10", "KAR"), "t_p"])


def test_p_values_have_three_digits():
    assert [format_p_value(p) for p in (0.049951, 1.0, 1e-5, 0.0, math.nan)] == ["0.05", "1", "1e-05", "< 1e-99", "–"]
