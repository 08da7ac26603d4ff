"""Which score of a classifier is explained: labels and numbers as arrays."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from igtf.arguments import is_int
from igtf.explainer.arrays import expected
from igtf.language.graph import PREDICTED

__all__ = ["choice_of_classes"]


def choice_of_classes(targets: Any, labels: Sequence[str] | None, count: int) -> dict[str, np.ndarray]:
    """What `class_scores` takes for `count` texts: `classes [N]`, or `weights [N, C]`."""
    if hasattr(targets, "numpy"):
        targets = targets.numpy()
    weights = isinstance(targets, np.ndarray) and targets.dtype.kind == "f"
    weights = weights or (isinstance(targets, (list, tuple)) and np.ndim(targets) == 2)
    if weights:
        array = np.atleast_2d(np.asarray(targets, np.float32))
        if array.ndim != 2 or len(array) != count:
            raise ValueError(
                f"TextExplainer.explain: targets has shape {np.shape(targets)}, expected weights "
                f"[{count}, C] of the classes for each of the texts."
            )
        return {"weights": array}
    several = isinstance(targets, (list, tuple, np.ndarray))
    given = list(targets) if several else [targets] * count
    if len(given) != count:
        raise ValueError(
            f"TextExplainer.explain: targets holds {len(given)} classes for {count} texts, expected one for "
            "each, or a single one."
        )
    return {"classes": np.array([_number(target, labels) for target in given], np.int32)}


def _number(target, labels):
    if target is None or (
        isinstance(target, str) and target == "predicted" and "predicted" not in (labels or ())
    ):
        return PREDICTED
    if isinstance(target, str):
        if not labels or target not in labels:
            known = expected(target, [*(labels or ()), "predicted"])
            hint = "" if labels else " For labels by name, pass labels=[...] to TextExplainer."
            raise ValueError(
                f"TextExplainer.explain: targets is {target!r}, {known} or the number of a class.{hint}"
            )
        return labels.index(target)
    if not is_int(target) or target < 0 or (labels and target >= len(labels)):
        most = f" from 0 to {len(labels) - 1}" if labels else ""
        raise ValueError(
            f"TextExplainer.explain: targets is {target!r}, expected the number of a class{most}, its label, "
            "or weights of the classes, floats [N, C]."
        )
    return int(target)
