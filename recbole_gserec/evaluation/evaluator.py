"""RecBole's evaluator with plain numbers as results."""

from __future__ import annotations

from collections import OrderedDict
from typing import Any

from recbole.evaluator import Evaluator


class PlainEvaluator(Evaluator):
    """RecBole's :class:`Evaluator`, but results are Python's numbers, which are more readable in logs than NumPy's."""

    def evaluate(self, dataobject: Any) -> OrderedDict[str, float]:
        return OrderedDict((metric, float(value)) for metric, value in super().evaluate(dataobject).items())
