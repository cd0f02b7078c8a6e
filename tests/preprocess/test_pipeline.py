import json
import logging
from typing import NamedTuple

import numpy as np
import pytest
import scipy.sparse as sp
import torch

from recbole_gserec.preprocess.pipeline import make_codes
from recbole_gserec.preprocess.summarizers.base import Completion, TemplateSummarizer
from recbole_gserec.preprocess.summarizers.known_summarizers import SUMMARIZERS
from recbole_gserec.settings.offline import PreprocessSettings

TASTES = ("horror sci-fi", "drama romance")
N_USERS = 24
WITHOUT_SEARCH, WITHOUT_ITEMS = (4, 5), (6,)
TINY = {
    "n_codebooks": 2,
    "codebook_size": 4,
    "code_dim": 4,
    "rq_hidden_sizes": [8],
    "rq_epochs": 6,
    "rq_warmup_epochs": 2,
    "encoder_dim": 8,
}
ITEM_TEXTS = {f"i{item}": f"title{item}; {TASTES[item % 2]}" for item in range(60)}


class Search(NamedTuple):
    query: str
    items: list[str]


class Histories:
    """Users of even places like one kind of items and users of odd places the other."""

    def __init__(self):
        self.user_tokens = [f"u{user}" for user in range(N_USERS)]
        generator = np.random.default_rng(0)
        self._items = [
            [f"i{2 * item + user % 2}" for item in generator.integers(30, size=8)] for user in range(N_USERS)
        ]

    def recommendation_history(self, user, n):
        return [] if user in WITHOUT_ITEMS else self._items[user][-n:]

    def search_history(self, user, n):
        searches = [Search(TASTES[user % 2], [item]) for item in self._items[user][::2]]
        return [] if user in WITHOUT_SEARCH else searches[-n:]

    def item_matrix(self):
        matrix = np.zeros((N_USERS, 60), dtype=np.int32)
        for user in set(range(N_USERS)) - set(WITHOUT_ITEMS):
            matrix[user, [int(item[1:]) for item in self._items[user]]] = 1
        return sp.csr_matrix(matrix)


def run(folder, **settings):
    prefix = folder / "d"
    path = make_codes(
        Histories(), ITEM_TEXTS, prefix, PreprocessSettings(**{**TINY, **settings}), {"files": {}}, show_progress=False
    )
    return path, json.loads(prefix.with_name("d.code.json").read_text())


class Counting(TemplateSummarizer):
    """A language model in name: answers with ``answer``, else with the template's summary; counts prompts."""

    speaks_json = True

    def __init__(self, answer=None):
        super().__init__()
        self.answer, self.n_asked = answer, 0

    def complete(self, prompts, attempt=1):
        self.n_asked += len(prompts)
        answers = [self.answer or completion.text for completion in super().complete(prompts, attempt)]
        return [Completion(json.dumps({"summary": answer})) for answer in answers]


def rows(path):
    return [line.split("\t") for line in path.read_text().splitlines()[1:]]


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    return run(tmp_path_factory.mktemp("codes"))


def test_files_and_rows(made):
    path, _ = made
    files = ["d.code", "d.code.json", "d.code.md", "d.code.png", "d.preprocess.sqlite3"]
    assert sorted(file.name for file in path.parent.iterdir()) == files
    assert [row[0] for row in rows(path)] == Histories().user_tokens
    for _, search, rec in rows(path):
        assert [name.split("_")[0] for name in (search + " " + rec).split()] == ["s1", "s2", "r1", "r2"]


def test_description(made):
    _, description = made
    assert description["users"] == {
        "all": 24,
        "without_search": 2,
        "without_recommendation": 1,
        "without_either": 0,
    }
    assert description["settings"]["rq_epochs"] == 6
    assert description["fingerprint"] == {"files": {}}
    assert 0 <= description["metrics"]["collision_rate"] <= 1


def test_same_input_same_bytes_and_the_global_random_state_is_left_alone(made, tmp_path):
    torch.manual_seed(1)
    np.random.seed(1)
    before = torch.get_rng_state(), np.random.get_state()[1].copy()
    path, _ = run(tmp_path)
    assert path.read_bytes() == made[0].read_bytes()
    assert torch.equal(torch.get_rng_state(), before[0])
    assert np.array_equal(np.random.get_state()[1], before[1])


def test_another_seed_gives_other_codes(made, tmp_path):
    assert run(tmp_path, preprocess_seed=1)[0].read_bytes() != made[0].read_bytes()


def test_first_of_two_codes_is_the_taste_also_of_users_with_one_side(tmp_path):
    path, _ = run(tmp_path, codebook_size=2, rq_hidden_sizes=[])
    for side in (1, 2):
        first = [row[side].split()[0] for row in rows(path)]
        assert (len(set(first[::2])), len(set(first[1::2]))) == (1, 1)
        assert first[0] != first[1]


def test_levels_of_their_own_sizes(tmp_path):
    path, description = run(tmp_path, n_codebooks=3, codebook_size=[2, 4, 3])
    assert description["settings"]["codebook_size"] == [2, 4, 3]
    for column, side in ((1, "search"), (2, "rec")):
        used = [{row[column].split()[level] for row in rows(path)} for level in range(3)]
        for level, (names, size) in enumerate(zip(used, (2, 4, 3), strict=True)):
            assert names <= {f"{side[0]}{level + 1}_{index}" for index in range(size)}
            usage = description["metrics"][side]["levels"][level]
            assert (usage["used_codes"], usage["dead_codes"]) == (len(names), size - len(names))
    assert "3 levels of 2, 4, 3 codes" in (tmp_path / "d.code.md").read_text()
    before = path.stat().st_mtime_ns
    run(tmp_path, n_codebooks=3, codebook_size=[2, 4, 3])
    assert path.stat().st_mtime_ns == before
    run(tmp_path, n_codebooks=3, codebook_size=[2, 4, 4])
    assert path.stat().st_mtime_ns > before


def test_no_edges_leaves_out_codes_and_changes_no_other(made, tmp_path):
    path, _ = run(tmp_path, missing_side="no_edges")
    expected = [list(row) for row in rows(made[0])]
    for user in WITHOUT_SEARCH:
        expected[user][1] = ""
    for user in WITHOUT_ITEMS:
        expected[user][2] = ""
    assert rows(path) == expected


def test_empty_texts_are_coded_apart_from_texts(tmp_path):
    path, _ = run(tmp_path, missing_side="empty")
    search = [row[1] for row in rows(path)]
    without = {search[user].split()[0] for user in WITHOUT_SEARCH}
    assert without.isdisjoint(cell.split()[0] for user, cell in enumerate(search) if user not in WITHOUT_SEARCH)


def test_log_tells_what_is_done(tmp_path, caplog):
    with caplog.at_level(logging.INFO, "recbole_gserec"):
        path, _ = run(tmp_path)
    assert "Summarising 22 search and 23 recommendation histories of 24 users (template)" in caplog.text
    assert "2 users have no search and 1 no interaction in the training part (missing_side: copy_rec)" in caplog.text
    assert "| recommendation |" in caplog.text and f"Wrote {path}" in caplog.text


def test_a_progress_bar_counts_epochs(tmp_path, capsys):
    make_codes(Histories(), ITEM_TEXTS, tmp_path / "d", PreprocessSettings(**TINY), {})
    assert "6/6" in capsys.readouterr().err


def test_one_answer_for_many_prompts_is_reported(tmp_path, monkeypatch, caplog):
    monkeypatch.setitem(SUMMARIZERS, "template", lambda settings: Counting("The history of films"))
    run(tmp_path)
    (warning,) = [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]
    # 22 users search and 23 choose; no two histories are equal.
    assert warning.startswith("45 of 45 different prompts have the same summary from 'None'")
    assert "'The history of films'" in warning


def test_answers_that_differ_are_not_reported(tmp_path, monkeypatch, caplog):
    monkeypatch.setitem(SUMMARIZERS, "template", lambda settings: Counting())
    run(tmp_path)
    assert not [record for record in caplog.records if record.levelno == logging.WARNING]
