"""Which items stand at the top, where scores alone do not tell."""

import torch

from recbole_gserec.evaluation.top_k import best_items

NAN, LEAST = torch.nan, -torch.inf


def test_a_target_has_nothing_to_win_by_ties_and_what_is_no_number():
    candidates = torch.tensor([[9, 1, 2, 3], [8, 4, 5, 0], [7, 6, 2, 1]])
    scores = torch.tensor([[1, 1, 1, 1, LEAST], [2, 3, 1, LEAST, LEAST], [NAN, 1, NAN, 2, LEAST]])
    assert best_items(scores, 2, candidates).tolist() == [[1, 2], [4, 8], [1, 6]]
    assert best_items(scores, 4, candidates)[:2].tolist() == [[1, 2, 3, 9], [4, 8, 5, 0]]
    assert best_items(scores, 9, candidates).shape == (3, 4)


def test_of_all_items_the_first_of_equal_ones():
    scores = torch.tensor([[LEAST, 1, 3, 1, 3], [LEAST, NAN, 0, 0, 1]])
    assert best_items(scores, 3).tolist() == [[2, 4, 1], [4, 2, 3]]
