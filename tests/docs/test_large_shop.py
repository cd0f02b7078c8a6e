"""The logs of the large shop have the truth that is written beside them, and the bounds are those of Bayes' rule."""

from __future__ import annotations

import hashlib
import importlib
import json
import math
import runpy
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from tests.docs.pages import ROOT

EXAMPLES = ROOT / "docs" / "examples"
FILES = ("interactions", "searches", "items", "truth/searches", "truth/users", "truth/tastes")
SMALL = {"users": 800, "items": 2000, "tastes": 20}


@pytest.fixture(scope="module")
def scripts():
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(EXAMPLES)
        yield importlib.import_module("large_shop"), importlib.import_module("large_shop_bounds")


def write(folder: Path, **options) -> Path:
    """The command, in this process."""
    arguments = [f"--{name.replace('_', '-')}={value}" for name, value in (SMALL | options).items()]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", ["large_shop.py", str(folder), *arguments])
        runpy.run_path(str(EXAMPLES / "large_shop.py"), run_name="__main__")
    return folder


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    return write(tmp_path_factory.mktemp("shop") / "large")


def tables(folder: Path) -> dict[str, pd.DataFrame]:
    read = {name: pd.read_csv(folder / f"{name}.csv", keep_default_na=False) for name in FILES}
    for table in read.values():
        for column in table.columns.intersection(["ts", "purchase_ts"]):
            table[column] = pd.to_datetime(table[column].replace("", None), format="%Y-%m-%dT%H:%M:%S")
    return read


def hashes(folder: Path) -> dict[str, str]:
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def test_the_seed_decides_every_byte(folder, tmp_path):
    again, other = hashes(write(tmp_path / "again")), hashes(write(tmp_path / "other", seed=8))
    assert hashes(folder) == again
    assert again.keys() == {f"{name}.csv" for name in FILES} | {"truth/shares.json"}
    assert all(again[name] != other[name] for name in again)


def test_the_shop_of_the_tutorial_is_as_it_was(tmp_path):
    runpy.run_path(str(EXAMPLES / "shop_logs.py"))["main"](tmp_path)
    assert hashes(tmp_path) == {
        "interactions.csv": "40f04a1cf64704f971bf1b176ce2e748f68bff86990237d7e31227bf3f182dd1",
        "items.csv": "5214b808dd34f6ebbb09bf8d4b75c4be8523d2f46f8d504f6a3180d7a187ee39",
        "searches.csv": "4673505c149d090ef7246234e8d9d382be42e62c0c7ecb7275efab8abdb86034",
    }


def test_times_are_in_order_and_nothing_is_bought_twice(folder):
    read = tables(folder)
    purchases = read["interactions"]
    assert purchases["ts"].is_monotonic_increasing and read["searches"]["ts"].is_monotonic_increasing
    assert purchases.groupby("customer_id")["ts"].diff().dropna().min() >= pd.Timedelta(hours=1)
    assert not purchases.duplicated(["customer_id", "sku"]).any()
    assert purchases["sku"].isin(read["items"]["sku"]).all() and read["items"]["sku"].is_unique


def test_shares_are_those_of_the_files(folder):
    """Counted again from the logs and the truth, with pandas alone."""
    read, told = tables(folder), json.loads((folder / "truth" / "shares.json").read_text())
    purchases, searches, truth, users = (read[name] for name in FILES if name not in ("items", "truth/tastes"))
    assert (told["purchases"], told["searches"]) == (len(purchases), len(searches))
    about = truth["about"].value_counts(normalize=True)
    assert told["searches_about"] == pytest.approx(about.to_dict(), abs=1e-4)
    before = truth[truth["about"] == "before"]
    gap = (before["purchase_ts"] - before["ts"]).dt.total_seconds() / 60
    assert told["mean_minutes_before"] == pytest.approx(gap.mean(), abs=0.1)
    assert told["searches_without_clicks"] == pytest.approx((searches["clicked"] == "").mean(), abs=1e-4)
    assert told["users_rich"] == pytest.approx((users["searcher"] == "rich").mean(), abs=1e-4)
    counts = searches["customer_id"].value_counts().reindex(users["customer_id"], fill_value=0)
    assert list(counts) == list(users["searches"])
    assert list(purchases["customer_id"].value_counts().reindex(users["customer_id"])) == list(users["purchases"])
    groups = pd.cut(counts, [-1, 0, 3, 9, 19, 1000], labels=["0", "1-3", "4-9", "10-19", "20-"])
    by_group = groups.value_counts(normalize=True).to_dict()
    assert told["users_by_searches"] == pytest.approx(by_group, abs=1e-4)
    searched = purchases.merge(before[["customer_id", "sku"]].drop_duplicates(), how="left", indicator=True)["_merge"]
    rich = purchases["customer_id"].map(users.set_index("customer_id")["searcher"])
    expected = {"all": (searched == "both").mean(), **(searched == "both").groupby(rich).mean()}
    assert told["purchases_searched_before"] == pytest.approx(expected, abs=1e-4)
    sold = purchases["sku"].value_counts()
    top = sold.head(SMALL["items"] // 5).sum() / len(purchases)
    assert told["purchases_of_top_fifth_of_items"] == pytest.approx(top, abs=1e-4)
    assert told["items_never_bought"] == SMALL["items"] - len(sold)


def test_shares_are_those_asked_for(folder):
    """Within four deviations of as many independent draws."""
    told = json.loads((folder / "truth" / "shares.json").read_text())
    for name, share in {"before": 0.35, "after": 0.2, "interest": 0.25, "noise": 0.2}.items():
        assert abs(told["searches_about"][name] - share) < 4 * math.sqrt(share * (1 - share) / told["searches"])
    assert abs(told["users_rich"] - 0.25) < 4 * math.sqrt(0.25 * 0.75 / SMALL["users"])


def test_what_searches_are_about(folder):
    read = tables(folder)
    searches, truth = read["searches"], read["truth/searches"]
    assert searches[["customer_id", "ts"]].equals(truth[["customer_id", "ts"]])
    linked = truth[truth["about"].isin(["before", "after"])]
    assert (truth.drop(linked.index)[["sku", "minutes_to_purchase"]] == "").all(axis=None)
    # There is such a purchase, so far from the search.
    found = linked.merge(read["interactions"], on=["customer_id", "sku"], suffixes=("", "_bought"), validate="m:1")
    assert len(found) == len(linked) and (found["purchase_ts"] == found["ts_bought"]).all()
    minutes = (found["ts_bought"] - found["ts"]).dt.total_seconds() / 60
    assert (minutes == found["minutes_to_purchase"].astype(float)).all()
    before = found["about"] == "before"
    assert minutes[before].between(10, 2 * 1440).all() and minutes[~before].between(-20 * 1440, -10).all()
    assert ((linked["sku"].str.split("-", n=1).str[1].str.replace("-", " ")) == linked["kind"]).all()
    # Words name the object, the kind or the item; clicks are on items of the kind that are never bought.
    words, kinds = searches["search_term"], truth["kind"]
    n_words = words.str.split().str.len()
    assert set(n_words) == {1, 2, 3}
    named = pd.Series(
        [word == " ".join(kind.split()[-len(word.split()) :]) for word, kind in zip(words, kinds, strict=True)]
    )
    assert named[n_words < 3].all() and (words.str.split(n=1).str[1] == kinds)[n_words == 3].all()
    precise = (n_words == 3) & (truth["sku"] != "")
    assert (words[precise].str.replace(" ", "-") == truth["sku"][precise]).all()
    clicks = searches.assign(kind=kinds, item=searches["clicked"].str.split()).explode("item").dropna(subset="item")
    assert (clicks["item"].str.split("-", n=1).str[1].str.replace("-", " ") == clicks["kind"]).all()
    bought = set(map(tuple, read["interactions"][["customer_id", "sku"]].to_numpy()))
    assert len(clicks) > 1000 and not bought & set(map(tuple, clicks[["customer_id", "item"]].to_numpy()))


def test_customers_are_as_told(folder):
    read = tables(folder)
    users, tastes = read["truth/users"], read["truth/tastes"]
    sparse = users["searcher"] == "sparse"
    assert users["searches"][sparse].max() == 3 and users["searches"][~sparse].min() == 4
    assert (users["searches"] >= 20).any() and (users["purchases"].between(8, 12)).all()
    assert tastes.groupby(["taste", "age"])["share"].sum().to_numpy() == pytest.approx(1, abs=1e-4)
    # Interest is in new kinds of the taste. Late purchases are often of these, early ones only by chance.
    of_taste = users.set_index("customer_id")["taste"]
    new = set(map(tuple, tastes.loc[tastes["age"] == "new", ["taste", "kind"]].to_numpy()))
    truth = read["truth/searches"]
    interest = truth[truth["about"] == "interest"]
    assert set(zip(interest["customer_id"].map(of_taste), interest["kind"], strict=True)) <= new
    purchases = read["interactions"]
    kinds = purchases["sku"].str.split("-", n=1).str[1].str.replace("-", " ")
    pairs = zip(purchases["customer_id"].map(of_taste), kinds, strict=True)
    is_new = pd.Series([pair in new for pair in pairs])
    left = purchases.groupby("customer_id").cumcount(ascending=False)
    # At least 0.7 of the last purchases are of no companion, and 0.3 of these are new.
    assert is_new[left == 0].mean() == pytest.approx(0.21, abs=0.08) and is_new[left > 3].mean() < 0.1


@pytest.mark.parametrize(("share", "searched"), [(0.0, 0.0), (1.0, None)])
def test_the_share_before_purchases_can_be_chosen(tmp_path, share, searched):
    made = write(tmp_path / "shop", share_before=share, share_after=0, share_interest=0)
    told = json.loads((made / "truth" / "shares.json").read_text())
    assert told["searches_about"]["before"] == share
    assert searched is None or told["purchases_searched_before"]["all"] == searched
    assert searched is not None or told["purchases_searched_before"]["rich"] > 0.5


@pytest.mark.parametrize("wrong", [{"items": 2001}, {"items": 40}, {"users": 0}, {"share_before": 0.7}])
def test_options_that_cannot_be(tmp_path, wrong, capsys):
    with pytest.raises(SystemExit):
        write(tmp_path / "shop", **wrong)
    assert "must" in capsys.readouterr().err and not (tmp_path / "shop").exists()


def test_the_converter_reads_the_logs_alone(folder, tmp_path):
    from dataset_converters.logs import convert_logs

    converted = convert_logs(tmp_path, "large-shop", *(folder / f"{role}.csv" for role in FILES[:3]))
    lines = {suffix: (converted / f"large-shop.{suffix}").read_text().splitlines() for suffix in ("inter", "search")}
    read = tables(folder)
    assert len(lines["inter"]) == 1 + len(read["interactions"])
    assert len(lines["search"]) == 1 + len(read["searches"])


def by_hand(shop, task, options, user: int, catalogue, users, searches, see_searches: bool) -> np.ndarray:
    """Probability of a user's candidates by Bayes' rule, in loops over tastes and meanings of searches."""

    def minutes(gap: float, spread: tuple[int, int, int]) -> float:
        shortest, mean, longest = spread
        if not shortest <= gap < longest:
            return 0.0
        offset = gap - shortest
        return (math.exp(-offset / mean) - math.exp(-(offset + 1) / mean)) / (
            1 - math.exp(-(longest - shortest) / mean)
        )

    def of_item(item: int, taste: int, left: int, earlier: list[int]) -> float:
        kind = item // 20
        new = {1: 0.3, 2: 0.25, 3: 0.05}.get(left, 0)
        old = 0.65 * catalogue.tastes[taste, kind] + 0.35 * catalogue.popular[kind]
        share = (1 - new) * old + new * catalogue.new_tastes[taste, kind]
        odds = {x: catalogue.looks[kind, x] for x in range(20) if kind * 20 + x not in earlier}
        own, companion = share * odds[item % 20] / sum(odds.values()), 0.0
        for companion_kind, rate in (
            zip(catalogue.companions[earlier[-1] // 20], (0.18, 0.09, 0.03), strict=True) if earlier else ()
        ):
            wanted = companion_kind * 20 + earlier[-1] % 20
            companion += rate * (wanted == item) + rate * own * (wanted in earlier)
        return companion + own * (0.7 if earlier else 1)

    n, place, target_time = users.n_purchases[user], task.places[user], task.times[user]
    past = list(users.items[user, :place])
    first, last = users.times[user, 0], users.times[user, n - 1]
    seen = np.flatnonzero((searches.users == user) & (searches.times < target_time)) if see_searches else []

    def matches(search: int, item: int) -> bool:
        own, form = searches.items[search], searches.forms[search]
        if form == 2:
            return own == item
        if form == 1 or searches.clicks[search, 0] >= 0:
            return own // 20 == item // 20
        return catalogue.objects[own // 20] == catalogue.objects[item // 20]

    def of_search(search: int, taste: int, candidate: int) -> float:
        before, after, interest, noise = options.about_shares
        time, total = searches.times[search], 0.0
        for number, item in enumerate([*past, candidate]):
            if matches(search, item):
                gap = users.times[user, number] - time
                total += before / n * minutes(gap, shop.BEFORE_MINUTES) + after / n * minutes(-gap, shop.AFTER_MINUTES)
        if first - 7 * 1440 <= time < last:
            for kind in range(len(catalogue.popular)):
                share = interest * catalogue.new_tastes[taste, kind] + noise * catalogue.popular[kind]
                kind_items = [kind * 20 + x for x in range(20) if matches(search, kind * 20 + x)]
                total += share * sum(catalogue.looks[kind, x % 20] for x in kind_items) / (last - first + 7 * 1440)
        # Any clicks of so many are on items of the kind that are not bought.
        n_clicks = (searches.clicks[search] >= 0).sum()
        n_left = 20 - sum(item // 20 == searches.items[search] // 20 for item in [*past, candidate])
        # A factor for all, as the product of many minutes' shares would be 0.
        return 1e5 * total / math.comb(n_left, n_clicks)

    of_past = [
        catalogue.taste_sizes[taste] * math.prod(of_item(item, taste, n - j, past[:j]) for j, item in enumerate(past))
        for taste in range(options.tastes)
    ]
    return np.array(
        [
            sum(
                of_past[taste]
                * of_item(candidate, taste, n - place, past)
                * math.prod(of_search(search, taste, candidate) for search in seen)
                for taste in range(options.tastes)
            )
            for candidate in task.candidates[user]
        ]
    )


def test_bounds_are_those_of_bayes_rule(scripts):
    shop, of_bounds = scripts
    options = shop.Options(users=200, items=400, tastes=4)
    made = shop.make_shop(options)
    task = of_bounds.make_task(options, *made[1:], "test", 9)
    scores = of_bounds.candidate_scores(options, *made, task)
    searches = made[2]
    gap = task.times[searches.users] - searches.times
    recent = np.unique(searches.users[(gap > 0) & (gap < 2 * 1440)])
    counts = np.bincount(searches.users, minlength=options.users)
    chosen = [*recent[:4], *np.flatnonzero((counts >= 4) & (counts < 9))[:2], *np.flatnonzero(counts == 0)[:1]]
    assert len(chosen) == 7
    for user in chosen:
        for name, see in (("purchases", False), ("purchases + searches", True)):
            expected = by_hand(shop, task, options, user, *made, see_searches=see)
            assert scores[name][user] / scores[name][user].sum() == pytest.approx(expected / expected.sum(), rel=1e-6)


def test_searches_that_say_nothing_change_nothing(scripts):
    """Without clicks, searches before purchases and of interest, purchases already tell what searches do."""
    shop, of_bounds = scripts
    options = shop.Options(**SMALL, share_before=0, share_after=0.5, share_interest=0)
    *made, searches = shop.make_shop(options)
    made += [replace(searches, clicks=np.full_like(searches.clicks, -1))]
    task = of_bounds.make_task(options, *made[1:], "test", 20)
    scores = of_bounds.candidate_scores(options, *made, task)
    for name, other in (("purchases", "purchases + searches"), ("taste", "taste + searches")):
        first, second = (scores[key] / scores[key].sum(axis=1, keepdims=True) for key in (name, other))
        assert first == pytest.approx(second, rel=1e-6)


@pytest.mark.parametrize("target", ["validation", "test"])
def test_bounds_do_not_see_the_target_or_later(scripts, target):
    """Other items from the target on, and no searches from then on: the same scores of all other candidates."""
    shop, of_bounds = scripts
    options = shop.Options(**SMALL)
    catalogue, users, searches = shop.make_shop(options)
    task = of_bounds.make_task(options, users, searches, target, 20)
    hidden = np.arange(users.items.shape[1]) >= task.places[:, None]
    items = np.where(hidden & (users.items >= 0), 7, users.items)
    visible = searches.times < task.times[searches.users]
    columns = {name: column[visible] for name, column in vars(searches).items()}
    scores = of_bounds.candidate_scores(options, catalogue, users, searches, task)
    fewer, changed = replace(searches, **columns), replace(users, items=items)
    other = of_bounds.candidate_scores(options, catalogue, changed, fewer, task)
    for name, own in scores.items():
        np.testing.assert_array_equal(own, other[name], err_msg=name)


def test_candidates_are_neither_bought_nor_clicked(scripts):
    shop, of_bounds = scripts
    options = shop.Options(**SMALL)
    _, users, searches = shop.make_shop(options)
    task = of_bounds.make_task(options, users, searches, "validation", 99)
    assert task.candidates.shape == (SMALL["users"], 100)
    for user, (target, *others) in enumerate(task.candidates):
        known = set(users.items[user]) | set(searches.clicks[searches.users == user].ravel())
        assert target == users.items[user, users.n_purchases[user] - 2]
        assert len(set(others)) == 99 and not known & set(others)


def test_who_gains(scripts):
    """Searches help who searches, most who searches often; the searches of others help all."""
    shop, of_bounds = scripts
    values, n_searches = of_bounds.bounds(shop.Options(**SMALL))
    gains = values["purchases + searches"] - values["purchases"]
    assert gains[n_searches >= 10].mean() > 0.1 > gains[n_searches == 0].mean() > -0.01
    of_others = values["counted purchases + searches"] - values["counted late purchases"]
    assert of_others[n_searches == 0].mean() > 0.01


def test_ties_count_against_the_target(scripts):
    _, of_bounds = scripts
    scores = np.array([[3.0, 1, 2], [2, 3, 1], [1, 1, 0], [0, 0, 0]])
    expected = [1, 1 / math.log2(3), 1 / math.log2(3), 1 / 2]
    assert of_bounds.ndcg(scores) == pytest.approx(np.array(expected))
    assert (of_bounds.ndcg(np.zeros((1, 6))) == 0).all()


@pytest.mark.slow
def test_the_page_shows_the_shop_and_its_bounds(tmp_path, capsys, monkeypatch):
    page = (ROOT / "docs" / "tutorial.md").read_text(encoding="utf-8")
    monkeypatch.syspath_prepend(EXAMPLES)
    for script in ("large_shop.py", "large_shop_bounds.py"):
        capsys.readouterr()
        monkeypatch.setattr(sys, "argv", [script, str(tmp_path)])
        runpy.run_path(str(EXAMPLES / script), run_name="__main__")
    assert capsys.readouterr().out in page
    told = json.loads((tmp_path / "truth" / "shares.json").read_text())
    assert f"{told['purchases']:,} purchases and {told['searches']:,} searches" in page
