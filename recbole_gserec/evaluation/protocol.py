"""Checks the evaluation settings before a model is trained."""

import re
from collections.abc import Mapping
from typing import Any

from recbole.evaluator import metric_types
from recbole.evaluator.register import metrics_dict
from recbole.utils import EvaluatorType

from recbole_gserec.errors import SettingError, nearest

_PARTS = ("split", "order", "group_by", "mode")
_PHASES = ("valid", "test")
_SAMPLED = re.compile(r"(uni|pop)[1-9][0-9]*")


def check_evaluation(settings: Mapping[str, Any], *, is_ours: bool) -> None:
    """Refuse unknown metrics, depths and modes, and a ``valid_metric`` that is not among the metrics.

    RecBole would report the last only after the first epoch, and ranks a target among 0 others without a message.

    Args:
        settings: All settings of a run on a search-extended dataset.
        is_ours: Whether the model belongs to this package; such models are only evaluated by ranking.

    Raises:
        SettingError: With the setting.
    """
    eval_args = settings["eval_args"]
    if not isinstance(eval_args, dict):
        raise SettingError(f"eval_args is {eval_args!r}; it must be a dict")
    _check_keys("eval_args", eval_args, _PARTS)
    _check_mode(eval_args.get("mode", "full"), is_ours)
    if is_ours and eval_args.get("order", "TO") != "TO":
        raise SettingError(f"eval_args has the order {eval_args['order']!r}; search-aware models need 'TO'")
    metrics, topk = settings["metrics"], settings["topk"]
    metrics = [metrics] if isinstance(metrics, str) else metrics
    topk = [topk] if isinstance(topk, int) else topk
    _check_metrics(metrics, is_ours)
    if not isinstance(topk, list) or not topk or any(type(depth) is not int or depth < 1 for depth in topk):
        raise SettingError(f"topk is {settings['topk']!r}; it must be a whole number of at least 1, or a list of them")
    _check_valid_metric(settings["valid_metric"], metrics, topk)
    _check_shown_items(metrics, max(topk), eval_args.get("mode", "full"))


def _check_keys(name: str, requested: Mapping[str, Any], known: tuple[str, ...]) -> None:
    for key in requested:
        if key not in known:
            near = nearest(key, known)
            hint = f"Did you mean '{near}'?" if near else f"Its keys are {', '.join(known)}."
            raise SettingError(f"{name} has an unknown key '{key}'. {hint}")


def _check_mode(mode: Any, is_ours: bool) -> None:
    if isinstance(mode, dict):
        _check_keys("the mode of eval_args", mode, _PHASES)
    # RecBole's own models may also be evaluated by labels.
    named = ("full",) if is_ours else ("full", "labeled")
    for value in mode.values() if isinstance(mode, dict) else [mode]:
        if not (isinstance(value, str) and (value in named or _SAMPLED.fullmatch(value))):
            wanted = " or ".join([*(f"'{name}'" for name in named), "'uni' or 'pop' and a number, as in 'uni99'"])
            raise SettingError(f"eval_args has the mode {value!r}; it must be {wanted}")


def _check_metrics(metrics: Any, is_ours: bool) -> None:
    if not isinstance(metrics, list) or not metrics:
        raise SettingError(f"metrics is {metrics!r}; it must be a metric's name, or a list of them")
    for metric in metrics:
        kind = metric_types.get(str(metric).lower())
        if kind is None:
            near = nearest(metric, [cls.__name__ for cls in metrics_dict.values()])
            hint = f" Did you mean '{near}'?" if near else ""
            raise SettingError(f"metrics has '{metric}', which is not a known metric.{hint}")
        if is_ours and kind == EvaluatorType.VALUE:
            raise SettingError(f"metrics has '{metric}': search-aware models are evaluated by ranking metrics")


def _check_valid_metric(valid_metric: Any, metrics: list[str], topk: list[int]) -> None:
    name, _, depth = str(valid_metric).partition("@")
    name = name.lower()
    # GAUC is also a ranking metric, over the whole list.
    has_depth = metric_types.get(name) == EvaluatorType.RANKING and name != "gauc"
    depths = [str(depth) for depth in topk] if has_depth else [""]
    if name not in [metric.lower() for metric in metrics] or depth not in depths:
        raise SettingError(
            f"valid_metric is '{valid_metric}', which is not computed: metrics are {metrics}, topk is {topk}"
        )


def _check_shown_items(metrics: list[str], depth: int, mode: Any) -> None:
    """Refuse lists longer than their candidates, because metrics of recommended items would count the padding."""
    of_items = [metric for metric in metrics if "rec.items" in metrics_dict[metric.lower()].metric_need]
    for value in mode.values() if isinstance(mode, dict) else [mode]:
        n_candidates = int(value[3:]) + 1 if _SAMPLED.fullmatch(value) else depth
        if of_items and depth > n_candidates:
            raise SettingError(
                f"topk has {depth}, but with the mode '{value}' a list has only {n_candidates} items, and "
                f"'{of_items[0]}' needs complete lists. Use a smaller topk, or more candidates"
            )
