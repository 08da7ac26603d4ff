"""What is said at the end of a call: of which texts, or tokens, the scores do not add up."""

import warnings

import numpy as np

from igtf.explainer.notes import TOLERANCE

__all__ = ["warn_of_deltas"]

ROUNDING = 1e-3  # of the magnitudes of the scores


def warn_of_deltas(function, method, found):
    """Warns, in the name of who called `function`, if scores do not sum to the change of the output.

    Args:
      method: the `Method` that made the scores.
      found: `(name, scores [T], change of the output, delta)` of every text or token; `delta` is None for
        methods that promise no sum.
    """
    missed = []
    for name, scores, change, delta in found:
        bound = max(TOLERANCE * abs(change), ROUNDING * np.abs(scores).sum())
        if delta is not None and not abs(delta) <= bound:
            missed.append((name, change, delta))
    if not missed:
        return
    name, change, delta = max(missed, key=lambda row: np.nan_to_num(abs(row[2]), nan=np.inf))
    cure = method.remedy()
    if method.integrates:
        option, value = method.finer
        other = "" if method.tolerance else ", or with tolerance=0.01, which takes as many as it needs"
        cure = f"Make the explainer with {option}={value:g}{other}."
    warnings.warn(
        f"{function}: {len(missed)} of {len(found)} rows of scores do not sum to the change of the output, "
        f"worst those of {name!r}: they sum to {delta + change:.4g} and the output changes by {change:.4g} "
        f"(delta {delta:.4g}), expected within {TOLERANCE:.0%}. {cure}",
        stacklevel=3,
    )
