"""What columns mean."""

from __future__ import annotations

from pathlib import Path

import pytest

from dataset_converters.logs.columns import read_file, read_option, resolve_columns
from recbole_gserec.errors import DataError, SettingError

PATH = Path("log.csv")


def resolved(role: str, found: str, requested: str = "") -> str:
    columns = resolve_columns(role, PATH, found.split(), read_option(role, requested))
    return " ".join(f"{meaning}={'+'.join(names)}" for meaning, names in columns.items())


@pytest.mark.parametrize(
    ("role", "found", "requested", "expected"),
    [
        ("interactions", "user_id item_id timestamp", "", "user=user_id item=item_id time=timestamp"),
        ("interactions", "Customer-ID SKU Created_At price", "", "user=Customer-ID item=SKU time=Created_At"),
        ("interactions", "user_id:token item_id:token timestamp:float", "",
         "user=user_id:token item=item_id:token time=timestamp:float"),
        ("interactions", "uid time timestamp sku", "time=timestamp", "user=uid item=sku time=timestamp"),
        ("interactions", "wer was wann", "user=WER,item=was, time = wann", "user=wer item=was time=wann"),
        ("searches", "user query ts clicked", "", "user=user query=query time=ts items=clicked"),
        ("searches", "user session_id query ts clicked_items", "",
         "user=user query=query time=ts items=clicked_items"),
        ("searches", "user session_id query ts clicked_items", "search=session_id",
         "user=user query=query time=ts items=clicked_items search=session_id"),
        ("searches", "user session_id keyword ts item_id", "",
         "user=user query=keyword time=ts item=item_id search=session_id"),
        ("searches", "user session_id search_id keyword ts item_id", "",
         "user=user query=keyword time=ts item=item_id search=search_id"),
        ("searches", "user query ts products clicked clicked_items", "",
         "user=user query=query time=ts items=clicked_items"),
        ("searches", "user query ts products clicked", "", "user=user query=query time=ts items=clicked"),
        ("searches", "user query ts products clicked_item_id item_id", "",
         "user=user query=query time=ts item=clicked_item_id"),
        ("searches", "user query ts search_item_ids:token_seq", "",
         "user=user query=query time=ts items=search_item_ids:token_seq"),
        ("searches", "user query ts item_id clicked click_count results shown", "",
         "user=user query=query time=ts item=item_id click=clicked"),
        ("searches", "user query ts products", "items=products", "user=user query=query time=ts items=products"),
        ("searches", "user keyword ts item_id clicked", "",
         "user=user query=keyword time=ts item=item_id click=clicked"),
        ("searches", "user keyword ts position", "items=-", "user=user query=keyword time=ts"),
        ("searches", "user title brand ts clicks", "query=title+brand",
         "user=user query=title+brand time=ts items=clicks"),
        ("items", "id name category brand", "", "item=id title=name categories=category brand=brand"),
        ("items", "sku name c1 c2", "categories=c1+c2,title=-", "item=sku categories=c1+c2"),
    ],
)  # fmt: skip
def test_columns_are_named_or_guessed(role, found, requested, expected):
    assert resolved(role, found, requested) == expected


@pytest.mark.parametrize(
    ("role", "found", "requested", "problem"),
    [
        ("interactions", "uid item_id ts date", "", "several columns may be the time: ts, date"),
        ("interactions", "uid item_id", "", "no column found for the time"),
        ("interactions", "uid item_id wann", "time=wan", "no column 'wan'. Did you mean 'wann'"),
        ("searches", "uid query ts", "", "no column found for the clicked items"),
        ("searches", "uid query ts item_id clicked_items", "", "may be in two columns"),
        ("searches", "uid query ts clicked_items n", "click=n", "the click column needs a column with one item"),
        ("searches", "uid query ts n_clicks", "", r"clicked items \('n_clicks' only counts clicks\)"),
        ("searches", "uid query ts products item_id clicked", "", "may be in two columns"),
        *[
            (
                "searches",
                f"uid query ts {name}",
                "",
                f"'{name}' may contain shown or clicked items.*"
                f"--search-columns items={name} if they were clicked.*items=- if clicks are unknown",
            )
            for name in (
                "items",
                "products",
                "skus",
                "Product_IDs",
                "results",
                "impressions",
                "shown_items",
                "search_item_ids",
            )
        ],
        ("items", "sku title name", "", "several columns may be the title: title, name"),
    ],
)
def test_what_is_not_clear_is_asked(role, found, requested, problem):
    with pytest.raises(DataError, match=problem):
        resolved(role, found, requested)


@pytest.mark.parametrize(
    ("found", "reported"),
    [("time date", "time=date+time"), ("event_date event_time", "time=event_date+event_time"), ("ts time", ""),
     ("timestamp date", ""), ("date created_at", ""), ("date day", "")],
)  # fmt: skip
def test_a_day_and_a_clock_are_proposed_to_be_joined(found, reported):
    with pytest.raises(DataError) as error:
        resolved("interactions", f"uid item_id {found}")
    assert (f"or join both: {reported}." in str(error.value)) if reported else ("join both" not in str(error.value))


@pytest.mark.parametrize(
    ("role", "text", "problem"),
    [
        ("interactions", "usr=a", "'usr' is not a known column.* Did you mean 'user'"),
        ("interactions", "user", "does not have the form"),
        ("interactions", "user=a+b", "user of interactions must be one column"),
        ("interactions", "user=-", "interactions need a column for user"),
        ("items", "titel=a", "Did you mean 'title'"),
    ],
)
def test_what_cannot_be_said_is_refused(role, text, problem):
    with pytest.raises(SettingError, match=problem):
        read_option(role, text)


def test_columns_from_a_file(tmp_path):
    path = tmp_path / "columns.yaml"
    path.write_text("interactions: {user: wer, time: wann}\nitems:\n  categories: [c1, c2]\n")
    assert read_file(path) == {
        "interactions": {"user": ("wer",), "time": ("wann",)},
        "items": {"categories": ("c1", "c2")},
    }


@pytest.mark.parametrize(
    ("text", "error", "problem"),
    [
        ("interactions: {user: !!int x}", DataError, "not YAML"),
        ("[" * 3000, DataError, "not YAML"),
        ("interaction: {user: a}", SettingError, "Did you mean 'interactions'"),
        ("searches: {qery: a}", SettingError, "Did you mean 'query'"),
        ("searches: [a]", DataError, "not a mapping"),
        ("searches: {query: {a: b}}", DataError, "is not a column name"),
        ("- a", DataError, "not a mapping"),
        ("a: [", DataError, "not YAML"),
    ],
)
def test_files_of_another_form_are_refused(tmp_path, text, error, problem):
    path = tmp_path / "columns.yaml"
    path.write_text(text)
    with pytest.raises(error, match=problem):
        read_file(path)
