import pytest

from recbole_gserec.data.search_rows import QueryItemGraph

pytestmark = pytest.mark.usefixtures("random_dataset")


def training_rows(random_rows):
    """Searches and interactions before each user's validation target, from the files' rows alone."""
    inter, search = [], []
    for user in {row[0] for part in ("inter", "search") for row in random_rows[part]}:
        own = sorted((row for row in random_rows["inter"] if row[0] == user), key=lambda row: row[2])
        # A user without interactions is never evaluated.
        end = own[-2][2] if own else float("inf")
        inter += own[:-2]
        search += [row for row in random_rows["search"] if row[0] == user and row[2] < end]
    return inter, search


def test_edges_and_vocabulary_are_those_of_the_training_part(prepare, random_rows):
    _, _, (train, *_) = prepare()
    dataset = train._dataset
    items, queries = (dataset.field2id_token[field] for field in ("item_id", "query_id"))
    graph = QueryItemGraph.of_training(dataset.events, len(items), len(queries))
    inter, search = training_rows(random_rows)
    edges = {(query, item) for _, query, _, clicks in search for item in clicks.split()}
    assert len(edges) > 20 and len(edges) < len({(q, i) for _, q, _, c in random_rows["search"] for i in c.split()})

    for lists, rows, columns, expected in (
        (graph.items_of_query, queries, items, edges),
        (graph.queries_of_item, items, queries, {(item, query) for query, item in edges}),
    ):
        assert len(lists) == len(rows)
        found = [
            (rows[row], columns[value])
            for row in range(len(lists))
            for value in lists.values[lists.offsets[row] : lists.offsets[row + 1]].tolist()
        ]
        # Each edge once, however often it was clicked.
        assert sorted(found) == sorted(expected)

    n_items, end = graph.vocabulary.offsets[1:].tolist()
    ids = graph.vocabulary.values
    assert end == len(ids)
    assert sorted(items[ids[:n_items]]) == sorted({row[1] for row in inter} | {item for _, item in edges})
    assert sorted(queries[ids[n_items:]]) == sorted({row[1] for row in search})


def test_nobody_searches_in_the_training_part(prepare, write_rows, small_files):
    write_rows(inter=small_files["inter"], search=[("ann", "q2", 9, "e")], query=small_files["query"])
    _, _, (train, *_) = prepare("QuerySeqRec")
    events = train._dataset.events
    graph = QueryItemGraph.of_training(events, train._dataset.item_num, 4)
    assert len(graph.items_of_query.values) == len(graph.queries_of_item.values) == 0
    assert len(graph.queries_of_item) == train._dataset.item_num
    # ann keeps a, b and c, bob b.
    assert graph.vocabulary.offsets.tolist() == [0, 3, 3]
