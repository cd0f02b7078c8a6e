"""Files of items, users and entities beside the interactions: they describe, and never decide which rows there are."""

import numpy as np
import pytest
from recbole.data import create_dataset
from recbole.quick_start import run_recbole

from recbole_gserec.errors import DataError
from recbole_gserec.runs.record import candidates_digest, interactions_digest
from recbole_gserec.settings.config import without_arguments
from recbole_gserec.settings.defaults import model_settings
from recbole_gserec.settings.names import known_models

INTER = ["user_id", "item_id", "timestamp"]
COLUMNS = {
    "item": ["item_id", "categories", "price", "shape"],
    "user": ["user_id", "group"],
    "kg": ["head_id", "relation_id", "tail_id"],
    "link": ["item_id", "entity_id"],
}
OF_SEARCHES = {
    "search": ["search_user_id", "search_query_id", "search_timestamp", "search_item_ids"],
    "query": ["query_id", "query_words"],
}
OF_GRAPHS = {"CFKG", "CKE", "KGAT", "KGCN", "KGIN", "KGNNLS", "KTUP", "MCCLK", "MKR", "RippleNet"}
# They need libraries or trained vectors of entities.
LEFT_OUT = {"GRU4RecKG", "KSR", "LightGBM", "XGBoost"}
MODELS = sorted(known_models() - LEFT_OUT)


def columns(*suffixes):
    return {"inter": INTER, **OF_SEARCHES, **{suffix: COLUMNS[suffix] for suffix in suffixes}}


def settings_of(model):
    """No codes, which take long to make; vectors are made, and kept."""
    own = model_settings(model)
    settings = {"preprocess_missing_codes": False} if "preprocess_missing_codes" in own else {}
    if "additional_feat_suffix" in own and own["additional_feat_suffix"]:
        settings["additional_feat_suffix"] = ["search", "query"]
    return settings


@pytest.fixture
def side_files(write_rows, random_rows):
    """The random dataset, with side files that lack some users and items and have others that nobody knows."""
    folder = write_rows(**{suffix: random_rows[suffix] for suffix in ("inter", "search", "query")})
    items = sorted({row[1] for row in random_rows["inter"]}) + ["i155", "in no log"]
    users = sorted({row[0] for row in random_rows["inter"]}) + ["searcher", "in no log"]
    write(
        folder / "toy.item",
        "item_id:token\tcategories:token_seq\tprice:float\tshape:token",
        ((i, f'"c{n % 3} NA', "" if n % 5 == 0 else n, "" if n % 4 == 0 else "round") for n, i in enumerate(items)),
    )
    write(folder / "toy.user", "user_id:token\tgroup:token", ((u, "NA" if n % 2 else "") for n, u in enumerate(users)))
    write(folder / "toy.link", "item_id:token\tentity_id:token", ((i, f"e{n}") for n, i in enumerate(items)))
    triples = ((f"e{n}", f"r{n % 2}", f"x{n % 7}") for n in range(len(items)))
    write(folder / "toy.kg", "head_id:token\trelation_id:token\ttail_id:token", triples)
    return folder


def write(path, header, rows):
    lines = ["\t".join(map(str, row)) for number, row in enumerate(rows) if number % 3]
    path.write_text("\n".join([header, *lines]) + "\n")


def view(prepare, model, *suffixes, **settings):
    """All that must not depend on side files: rows of each part, ids, candidates and interactions."""
    _, dataset, loaders = prepare(model, load_col=columns(*suffixes), **settings_of(model), **settings)
    tokens = {field: np.asarray(dataset.field2id_token[field]) for field in ("user_id", "item_id")}
    parts = []
    for loader in loaders:
        feat = loader._dataset.inter_feat
        parts.append(list(zip(*(tokens[field][feat[field].numpy()].tolist() for field in tokens), strict=True)))
    ids = {field: tokens[field].tolist() for field in tokens}
    return parts, ids, [candidates_digest(loader) for loader in loaders[1:]], interactions_digest(loaders)


@pytest.mark.parametrize("model", MODELS)
def test_rows_ids_and_candidates_do_not_depend_on_side_files(prepare, side_files, random_rows, model):
    # Models of graphs need theirs, and number linked items after the others.
    graph = ("kg", "link") if model in OF_GRAPHS else ()
    alone = view(prepare, model, *graph)
    for suffixes in (("item",), ("user",), ("item", "user")):
        assert view(prepare, model, *suffixes, *graph) == alone
    parts, _, candidates, interactions = alone
    reference = view(prepare, "BPR")
    assert (candidates, interactions) == reference[2:]
    assert [sorted(part) for part in parts[1:]] == [sorted(part) for part in reference[0][1:]]
    evaluated = {row[0] for row in random_rows["inter"]}
    assert len(parts[2]) == len(evaluated)


@pytest.mark.parametrize("model", ["BPR", "SASRec", "UniSAR", "FM"])
@pytest.mark.parametrize(
    "settings",
    [
        {"user_inter_num_interval": "[3,12];[1,2];(20,inf)"},
        {"user_inter_num_interval": "[8,inf)", "item_inter_num_interval": "[2,inf)"},
        {"val_interval": {"timestamp": "[10,inf)"}, "user_inter_num_interval": "[3,inf)"},
        {"rm_dup_inter": "last"},
        {"filter_inter_by_user_or_item": False},
        {"eval_args": {"mode": "full"}},
    ],
)
def test_nor_do_they_with_filters(prepare, side_files, model, settings):
    append_repeated(side_files)
    alone = view(prepare, model, **settings)
    assert view(prepare, model, "item", "user", **settings) == alone
    reference = view(prepare, "BPR", **settings)
    assert [sorted(part) for part in alone[0][1:]] == [sorted(part) for part in reference[0][1:]]


def append_repeated(folder):
    """Interactions of equal times, some of them repeated."""
    with open(folder / "toy.inter", "a", encoding="utf-8") as file:
        for user in range(5):
            file.writelines(f"u{user}\ti{item}\t99\n" for item in (3, 1, 4, 1, 5, 9, 2, 6, 5, 3, 5))


@pytest.mark.parametrize("model", ["FM", "UniSAR", "SASRec"])
def test_interactions_are_filtered_by_a_value_of_their_item_where_that_is_asked_for(prepare, side_files, model, caplog):
    settings = {"val_interval": {"price": "[20,inf)"}, "short_users": "keep"}
    parts, _, _, _ = view(prepare, model, "item", **settings)
    rows = [line.split("\t") for line in (side_files / "toy.item").read_text().splitlines()[1:]]
    kept = {item for item, _, price, _ in rows if price and float(price) >= 20}
    found = {item for part in parts for _, item in part}
    assert found
    assert found <= kept
    assert "have no row in their file, and so no price: val_interval leaves out their interactions" in caplog.text


def test_missing_values_of_items_without_a_row(prepare, side_files):
    _, dataset, _ = prepare("FDSA", load_col=columns("item"))
    rows = [line.split("\t") for line in (side_files / "toy.item").read_text().splitlines()[1:]]
    prices = {item: float(price) for item, _, price, _ in rows if price and item in dataset.field2token_id["item_id"]}
    shapes, words = (dataset.field2id_token[field] for field in ("shape", "categories"))
    row_of_item = {row[0]: row for row in rows}
    mean = np.mean(list(prices.values()))
    for number, item in enumerate(dataset.field2id_token["item_id"][1:], start=1):
        row = row_of_item.get(item, (item, "", "", ""))
        assert dataset.item_feat["price"][number].item() == pytest.approx(prices.get(item, mean))
        assert shapes[dataset.item_feat["shape"][number]] == (row[3] or "[PAD]")
        found = [words[word] for word in dataset.item_feat["categories"][number].tolist() if word]
        assert found == row[1].split()


@pytest.mark.parametrize("model", ["FDSA", "UniSAR", "FM"])
def test_an_item_file_may_have_no_row(prepare, side_files, model):
    (side_files / "toy.item").write_text("item_id:token\tcategories:token_seq\tprice:float\tshape:token\n")
    assert view(prepare, model, "item") == view(prepare, model)


@pytest.mark.parametrize("model", ["FDSA", "UniSAR", "BPR"])
@pytest.mark.parametrize(
    "cells",
    [
        ('"thing', "cat1", 'thing"', "cat1"),
        ('"5" thing', "cat1", '""', "cat2"),
        ("NA", "null", "nan", "None"),
        ("'a", "\\N", "#x", "b\\"),
    ],
)
def test_cells_are_read_as_they_are_written(prepare, side_files, model, cells):
    header = "item_id:token\tname:token\tcategories:token_seq\n"
    (side_files / "toy.item").write_text(
        f"{header}i1\t{cells[0]}\t{cells[1]}\ni2\tx\tcat0\ni3\t{cells[2]}\t{cells[3]}\n", encoding="utf-8"
    )
    load_col = {**columns(), "item": ["item_id", "name", "categories"]}
    _, dataset, _ = prepare(model, load_col=load_col, **settings_of(model))
    ids = dataset.field2token_id["item_id"]
    names, words = (dataset.field2id_token[field] for field in ("name", "categories"))
    for item, name, category in (("i1", *cells[:2]), ("i2", "x", "cat0"), ("i3", *cells[2:])):
        assert names[dataset.item_feat["name"][ids[item]]] == name
        assert [words[word] for word in dataset.item_feat["categories"][ids[item]].tolist() if word] == [category]


@pytest.mark.parametrize("model", ["SASRec", "BPR", "UniSAR"])
def test_ids_are_read_as_they_are_written(prepare, random_rows, write_rows, model):
    names = {"u1": "NA", "u2": '"u2', "u3": "nan", "i1": '"', "i2": "null", "i3": "#i3"}

    def renamed(row):
        return tuple(" ".join(names.get(word, word) for word in str(cell).split(" ")) for cell in row)

    files = {suffix: [renamed(row) for row in random_rows[suffix]] for suffix in ("inter", "search", "query")}
    write_rows(**files)
    _, dataset, loaders = prepare(model, **settings_of(model))
    assert set(names.values()) <= {*dataset.field2token_id["user_id"], *dataset.field2token_id["item_id"]}
    assert interactions_digest(loaders) == digest_of(files["inter"])


def digest_of(rows):
    import hashlib

    lines = sorted((str(user), str(item)) for user, item, _ in rows)
    return hashlib.sha256("".join(f"{user}\t{item}\n" for user, item in lines).encode()).hexdigest()


@pytest.mark.parametrize("model", ["FDSA", "UniSAR", "FM"])
@pytest.mark.parametrize(
    ("suffix", "content", "message"),
    [
        ("item", "item_id:token\tname:token\tx:token\ni1\ta\tb\ni2\ta\n", "line 3: 2 columns instead of 3"),
        ("item", "item_id:token\tname:token\ni1\ta\n\tb\n", "line 3: item_id is empty"),
        ("item", "item_id:token\tprice:float\ni1\t3\ni2\tcheap\n", "line 3: price is 'cheap', not a number"),
        ("item", "item_id:float\tname:token\n1\ta\n", "line 1: 'item_id:float' has the wrong type"),
        ("item", "id:token\tname:token\ni1\ta\n", "line 1: no column 'item_id'. The header has: id, name"),
        ("user", "user_id:token\tgroup:token\nu1\ta\tb\n", "line 2: 3 columns instead of 2"),
        ("user", "user_id\tgroup:token\nu1\ta\n", "line 1: 'user_id' is not a 'field:type' header"),
    ],
)
def test_a_malformed_file_is_refused_alike_by_all_models(prepare, side_files, model, suffix, content, message):
    (side_files / f"toy.{suffix}").write_text(content)
    with pytest.raises(DataError) as error:
        prepare(model, load_col={**columns(), suffix: "*"}, **settings_of(model))
    assert str(error.value).startswith(f"{side_files / f'toy.{suffix}'}, {message}")


@pytest.mark.parametrize("model", ["FDSA", "UniSAR", "BPR"])
def test_a_byte_order_mark_is_no_part_of_a_name(prepare, side_files, model):
    alone = view(prepare, model, "item", "user")
    for path in side_files.iterdir():
        path.write_text(path.read_text(encoding="utf-8"), encoding="utf-8-sig")
    assert view(prepare, model, "item", "user") == alone


@pytest.mark.parametrize("model", ["FDSA", "UniSAR"])
def test_the_first_of_several_rows_of_an_item_counts_and_that_is_said(prepare, side_files, model, caplog):
    with open(side_files / "toy.item", "a", encoding="utf-8") as file:
        file.write("i1\tother\t1\tflat\n")
    _, dataset, _ = prepare(model, load_col=columns("item"), **settings_of(model))
    assert "flat" not in dataset.field2id_token["shape"]
    assert "1 rows repeat an id of item_id; the first row of each counts" in caplog.text


@pytest.mark.parametrize("model", ["SASRec", "UniSAR"])
def test_columns_that_every_model_needs_are_loaded_unasked(prepare, side_files, model, caplog):
    load_col = {**columns(), "inter": ["user_id"], "item": ["categories"]}
    prepare(model, load_col=load_col, **settings_of(model))
    assert "load_col leaves out item_id, timestamp of .inter" in caplog.text


def test_data_without_searches_is_read_by_recbole(make_config, side_files):
    (side_files / "toy.search").unlink()
    write(side_files / "toy.item", "item_id:token\tcategories:token_seq", ((f"i{n}", "c") for n in range(150)))
    load_col = {"inter": INTER, "item": ["item_id", "categories"]}
    dataset = create_dataset(make_config("FDSA", load_col=load_col))
    items = {line.split("\t")[1] for line in (side_files / "toy.inter").read_text().splitlines()[1:]}
    described = {line.split("\t")[0] for line in (side_files / "toy.item").read_text().splitlines()[1:]}
    assert items - described
    assert set(dataset.field2id_token["item_id"][dataset.inter_feat["item_id"]]) == items & described


@pytest.mark.parametrize("model", ["CKE", "KGCN", "RippleNet"])
def test_models_of_graphs_train_with_items_that_no_entity_describes(side_files, tmp_path, model):
    settings = {
        "data_path": str(tmp_path / "dataset"),
        "checkpoint_dir": str(tmp_path / "saved"),
        "use_gpu": False,
        "show_progress": False,
        "epochs": 1,
        "load_col": columns("kg", "link"),
    }
    with without_arguments():
        result = run_recbole(model=model, dataset="toy", config_dict=settings)
    assert result["test_result"]["hit@10"] > 0
