"""What is said at the end of a call: which rows miss what was expected of them."""

import os
import sys
import warnings

import numpy as np

from igtf.explainer.arrays import row_numbers

__all__ = ["Notes"]

# How far the sum of attributions may be from the change of the output before a warning.
TOLERANCE = 0.05


class Notes:
    """What is to be said at the end of a call, once: how far sums and errors are from what was expected.

    Attributes:
      advice: text about the targets, or None.
    """

    def __init__(self, method, allow_nan):
        self._method, self._allow_nan = method, allow_nan
        self._rows, self._worst = [], (0.0, None)
        self._inaccurate: dict[int, float] = {}
        self.advice = None

    def compare(self, start, sums, covers):
        """Takes `[B, 3]` or `[B, C, 3]`: delta, change and what rounding explains; or 4, and the error."""
        columns = np.moveaxis(np.reshape(sums, [len(sums), -1, sums.shape[-1]]), -1, 0).astype(np.float64)
        delta, change, rounding, *errors = columns
        if errors and self._method.tolerance is not None:
            worst = errors[0].max(1)
            over = np.flatnonzero(worst > self._method.tolerance)
            self._inaccurate.update((start + row, worst[row]) for row in over)
        missed = (abs(delta) > TOLERANCE * abs(change)) & (abs(delta) > rounding) & covers
        if not self._allow_nan:
            missed |= ~np.isfinite(delta)
        if not missed.any():
            return
        self._rows += [start + row for row in np.flatnonzero(missed.any(1))]
        size = np.where(missed, np.nan_to_num(abs(delta), nan=np.inf), -1)
        row, column = np.unravel_index(size.argmax(), size.shape)
        if size[row, column] > self._worst[0]:
            self._worst = size[row, column], (start + row, delta[row, column], change[row, column])

    def warn(self):
        if self.advice:
            warnings.warn(self.advice, stacklevel=_outside())
        if self._inaccurate:
            row = max(self._inaccurate, key=self._inaccurate.__getitem__)
            warnings.warn(
                f"Explainer.explain: the attributions of {row_numbers(list(self._inaccurate))} are not "
                f"within the tolerance of {self._method.tolerance:g} after {self._method.most_steps} steps, "
                f"the most that may be taken; worst is row {row}, with an estimated error of "
                f"{self._inaccurate[row]:.2g}. Pass a larger num_steps, or a larger tolerance.",
                stacklevel=_outside(),
            )
        if self._rows:
            row, delta, change = self._worst[1]
            warnings.warn(
                f"Explainer.explain: the attributions of {row_numbers(self._rows)} do not sum to the change "
                f"of the output, worst in row {row}: they sum to {delta + change:.4g} and the output changes "
                f"by {change:.4g} (delta {delta:.4g}), expected within {TOLERANCE:.0%}. "
                f"{self._method.remedy()}",
                stacklevel=_outside(),
            )


def _outside():
    """The stack level of who called this package."""
    here, level, frame = os.path.dirname(__file__), 1, sys._getframe(1)
    while frame.f_back is not None and os.path.dirname(frame.f_code.co_filename) == here:
        level, frame = level + 1, frame.f_back
    return level
