"""Scores of methods on the same rows, and what can be said of them."""

import dataclasses
import itertools
from typing import Any

import numpy as np

from igtf.explainer.comparison import bootstrap

__all__ = ["Evaluation"]

ARROWS = {"lower": " \u2193", "higher": " \u2191"}


@dataclasses.dataclass(frozen=True)
class Evaluation:
    """What `Explainer.evaluate` returns: the scores of each row, and what follows from them.

    Attributes:
      scores: `{metric: {method: array [N]}}`.
      curves: `{metric: {method: array [N, num_steps + 1]}}` of the metrics that have them.
      better: `{metric: "lower", "higher" or None}`: which scores are better.
    """

    scores: dict[str, dict[str, np.ndarray]]
    curves: dict[str, dict[str, np.ndarray]]
    better: dict[str, str | None]

    def table(self) -> dict[str, np.ndarray]:
        """Mean, spread and number of rows of each metric and method.

        Returns:
          `{"metric", "method", "mean", "std", "rows"}`, arrays of one length; rows without a score (NaN)
          are left out, and `std` is the standard deviation over the rows, not of the mean.

        >>> scores = {"deletion": {"saliency": np.array([1.0, 3.0])}}
        >>> table = Evaluation(scores, {}, {"deletion": "lower"}).table()
        >>> table["mean"].tolist(), table["rows"].tolist()
        ([2.0], [2])
        """
        found = []
        for metric, methods in self.scores.items():
            for method, scores in methods.items():
                kept = np.asarray(scores, np.float64)[~np.isnan(scores)]
                mean, std = (kept.mean(), kept.std()) if len(kept) else (np.nan, np.nan)
                found.append((metric, method, mean, std, len(kept)))
        return _columns(["metric", "method", "mean", "std", "rows"], found)

    def differences(
        self, confidence: float = 0.95, resamples: int = 10_000, seed: int = 0
    ) -> dict[str, np.ndarray]:
        """Paired differences between the methods, row by row, with a bootstrap interval of their mean.

        Rows are drawn again with replacement, `resamples` times; the interval holds `confidence` of the
        means. One that holds 0 says that these rows do not tell the two apart. Of many intervals some miss
        by chance: with ten pairs at 0.95 take 0.995 (Bonferroni).

        Args:
          confidence: between 0 and 1.
          resamples: how often rows are drawn.
          seed: of the draws.

        Returns:
          `{"metric", "method", "other", "difference", "low", "high", "rows"}`, arrays of one length:
          `difference` is the mean of the scores of `method` minus those of `other`.

        Raises:
          ValueError: `confidence` not between 0 and 1, or `resamples` below 1.

        >>> scores = {"deletion": {"a": np.arange(9.0), "b": np.arange(9.0) + 1}}
        >>> found = Evaluation(scores, {}, {"deletion": "lower"}).differences()
        >>> [float(found[key][0]) for key in ("difference", "low", "high")]
        [-1.0, -1.0, -1.0]
        """
        if not 0 < confidence < 1:
            raise ValueError(
                f"Evaluation: confidence is {confidence!r}, expected a number between 0 and 1, such as 0.95."
            )
        if resamples < 1:
            raise ValueError(f"Evaluation: resamples is {resamples!r}, expected a positive int.")
        found = []
        for metric, methods in self.scores.items():
            for (a, ours), (b, theirs) in itertools.combinations(methods.items(), 2):
                apart = np.asarray(ours, np.float64) - theirs
                apart = apart[~np.isnan(apart)]
                low = high = mean = np.nan
                if len(apart):
                    mean = apart.mean()
                    low, high = bootstrap(apart[:, None], confidence, resamples, seed)[:, 0]
                found.append((metric, a, b, mean, low, high, len(apart)))
        return _columns(["metric", "method", "other", "difference", "low", "high", "rows"], found)

    def markdown(self, confidence: float = 0.95, digits: int = 3) -> str:
        """A table of means and spreads, a method a line.

        In bold is a method that is better than every other one by the interval of their differences; where
        none is, these rows do not say which is best.

        Args:
          confidence: of the intervals.
          digits: how many are shown.

        Returns:
          Markdown, which notebooks show for the object itself.

        >>> scores = {"deletion": {"a": np.arange(9.0), "b": np.arange(9.0) + 1}}
        >>> text = Evaluation(scores, {}, {"deletion": "lower"}).markdown()
        >>> text.splitlines()[2]
        '| a | **4 ± 2.58** |'
        """
        table, best = self.table(), self._best(confidence)
        names = list(self.scores)
        lines = [
            "| method | " + " | ".join(n + ARROWS.get(self.better.get(n) or "", "") for n in names) + " |"
        ]
        lines.append("|---|" + "---:|" * len(names))
        cells = {
            (metric, method): f"{mean:.{digits}g} \u00b1 {std:.{digits}g}"
            for metric, method, mean, std in zip(*(table[k] for k in ("metric", "method", "mean", "std")))
        }
        for method in next(iter(self.scores.values())):
            row = [
                f"**{cells[name, method]}**" if best.get(name) == method else cells[name, method]
                for name in names
            ]
            lines.append(f"| {method} | " + " | ".join(row) + " |")
        counts = sorted({int(n) for n in table["rows"]})
        rows = f"{counts[0]} rows" if len(counts) == 1 else f"{counts[0]} to {counts[-1]} rows"
        lines += [
            "",
            f"{rows}; mean \u00b1 standard deviation over the rows. Bold: better than every other method, by "
            f"the {100 * confidence:g} % interval of the paired differences.",
        ]
        return "\n".join(lines)

    _repr_markdown_ = markdown

    def plot(self) -> Any:
        """Curves with bands and bars of methods: `igtf.visualization.evaluation_plot` of this."""
        from igtf.visualization.judgement import evaluation_plot  # which needs Matplotlib

        return evaluation_plot(self.scores, self.curves, better=self.better)

    def _best(self, confidence):
        """`{metric: method}` where one is better than every other one."""
        found, best = self.differences(confidence), {}
        for metric, methods in self.scores.items():
            sign = {"lower": -1, "higher": 1}.get(self.better.get(metric) or "")
            wins = dict.fromkeys(methods, 0)
            for at in np.flatnonzero(found["metric"] == metric):
                low, high = found["low"][at], found["high"][at]
                if sign and (low > 0 or high < 0):
                    wins[found["method"][at] if sign * (low + high) > 0 else found["other"][at]] += 1
            winner = [m for m, count in wins.items() if count == len(methods) - 1 > 0]
            best.update((metric, m) for m in winner)
        return best


def _columns(names, rows):
    return {name: np.array(column) for name, column in zip(names, zip(*rows))} or {
        name: np.array([]) for name in names
    }
