import math

import pytest
import torch

from recbole_gserec.layers.contrastive import info_nce


@pytest.mark.parametrize("temperature", [0.2, 1.0])
def test_value_equals_a_loop(temperature):
    torch.manual_seed(0)
    first, second = torch.randn(7, 5), torch.randn(7, 5)
    terms = []
    for row in range(7):
        cosines = [float(first[row] @ other / (first[row].norm() * other.norm())) / temperature for other in second]
        terms.append(math.log(sum(math.exp(value) for value in cosines)) - cosines[row])
    assert info_nce(first, second, temperature).item() == pytest.approx(sum(terms) / 7, rel=1e-5)
    assert info_nce(first, second, temperature, "sum").item() == pytest.approx(sum(terms), rel=1e-5)
    # One direction: the other is another number.
    assert info_nce(second, first, temperature).item() != pytest.approx(sum(terms) / 7, rel=1e-3)


def test_closed_form_of_orthonormal_rows():
    rows = torch.eye(6)
    assert info_nce(rows, rows, 0.2).item() == pytest.approx(math.log(math.exp(5) + 5) - 5, rel=1e-5)
    assert info_nce(rows[:1], rows[:1], 0.2).item() == 0


def test_lengths_of_rows_do_not_matter():
    torch.manual_seed(0)
    first, second = torch.randn(4, 3), torch.randn(4, 3)
    torch.testing.assert_close(info_nce(3 * first, second / 7, 0.2), info_nce(first, second, 0.2))
    # A row of zeros has no direction.
    zero = torch.zeros(4, 3, requires_grad=True)
    info_nce(zero, second, 0.2).backward()
    assert torch.isfinite(zero.grad).all()
