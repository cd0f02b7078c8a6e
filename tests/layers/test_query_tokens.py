import pytest
import torch

from recbole_gserec.data.events import PADDED
from recbole_gserec.layers.token_sequence import query_tokens

ROWS = {
    "items": [[1, 2, 3], [4, 0, 0], [0, 0, 0]],
    "item_places": [[0, 2, 5], [1, PADDED, PADDED], [PADDED] * 3],
    "queries": [[7, 8], [9, 5], [5, 5]],
    "clicks": [[[3, 4], [0, 0]], [[6, 0], [2, 2]], [[2, 2], [2, 2]]],
    "search_places": [[1, 4], [0, PADDED], [PADDED, PADDED]],
    "search_mask": [[True, True], [True, False], [False, False]],
}


def tokens_of(size, with_clicks=True):
    rows = {name: torch.tensor(values) for name, values in ROWS.items()}
    rows["clicks"] = rows["clicks"] if with_clicks else rows["clicks"][..., :0]
    return query_tokens(**rows, size=size)


def spelled(tokens):
    """Rows such as ``i1 q7``."""
    return [
        " ".join("iq"[query] + str(token) for token, query, real in zip(*row, strict=True) if real)
        for row in zip(*(part.tolist() for part in tokens[:3]), strict=True)
    ]


@pytest.mark.parametrize(
    ("size", "with_clicks", "expected"),
    [
        (50, True, ["i1 q7 i3 i4 i2 q8 i3", "q9 i6 i4", ""]),
        (50, False, ["i1 q7 i2 q8 i3", "q9 i4", ""]),
        (4, True, ["i4 i2 q8 i3", "q9 i6 i4", ""]),
        (1, True, ["i3", "i4", ""]),
    ],
)
def test_a_search_is_its_query_and_then_its_clicks(size, with_clicks, expected):
    tokens = tokens_of(size, with_clicks)
    assert spelled(tokens) == expected
    assert tokens.mask.shape[1] == len(expected[0].split())
    assert (tokens.ids[~tokens.mask] == 0).all() and not tokens.is_query[~tokens.mask].any()


def seen_by(kinds, end, n_items, n_searches):
    """Places of the tokens up to ``end`` that belong to the last interactions and searches, oldest first."""
    seen, items, searches, place = [], 0, 0, end
    while place >= 0:
        kind = kinds[place]
        if kind == "i":
            items += 1
            seen += [place] if items <= n_items else []
        else:
            # Clicks come before their query on the way back.
            seen += [place] if searches < n_searches else []
            searches += kind == "q"
        place -= 1
    return seen[::-1]


# Of a row that lost its first tokens, all searches are seen.
@pytest.mark.parametrize(
    ("size", "n_items", "n_searches"),
    [(50, 20, 20), (50, 1, 20), (50, 20, 1), (50, 2, 1), (50, 1, 2), (4, 20, 2), (4, 1, 2)],
)
def test_distances_count_the_tokens_that_are_seen(size, n_items, n_searches):
    kinds = {50: ["iqcciqi", "qci"], 4: ["ciqi", "qci"]}[size]
    tokens = tokens_of(size)
    distances = tokens.distances(n_items, n_searches)
    for row, kinds_of_row in enumerate(kinds):
        of_search = [kind != "i" for kind in kinds_of_row]
        assert tokens.is_search[row].tolist() == of_search + [False] * (len(kinds[0]) - len(of_search))
        for end in range(len(kinds_of_row)):
            seen = seen_by(kinds_of_row, end, n_items, n_searches)
            expected = [seen[::-1].index(key) if key in seen else -1 for key in range(end + 1)]
            assert distances[row, end, : end + 1].tolist() == expected
            assert (distances[row, end, end + 1 : len(kinds_of_row)] < 0).all()


def test_next_items():
    tokens = tokens_of(50)
    assert tokens.next_items().tolist() == [[0, 3, 4, 2, 0, 3, 0], [6, 4, 0, 0, 0, 0, 0], [0] * 7]
    following = tokens.next_items(torch.tensor([11, 12, 13]))
    assert following.tolist() == [[0, 3, 4, 2, 0, 3, 11], [6, 4, 12, 0, 0, 0, 0], [0] * 7]
