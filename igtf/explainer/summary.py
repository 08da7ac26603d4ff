"""What features count over all rows of an Explanation, class by class: numbers, a table, bars."""

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np

__all__ = ["Summary", "of_columns", "of_words"]


@dataclasses.dataclass(frozen=True)
class Summary:
    """What `Explanation.summary` returns: `F` features, the largest first, in `K` classes.

    Attributes:
      features: their names; of texts, the words.
      classes: names of the outputs that are explained; one where they are not told apart.
      rows: how many rows there are of each class, `[K]`.
      size: the mean absolute attribution over all of these rows, `[K, F]`; 0 for rows without the word.
      mean: the mean attribution, likewise.
      share: in which share of the rows the attribution is not 0: of words, where they occur.
      positive: in which share of those it is positive; NaN where there are none.
    """

    features: list[str]
    classes: list[str]
    rows: np.ndarray
    size: np.ndarray
    mean: np.ndarray
    share: np.ndarray
    positive: np.ndarray

    def table(self) -> dict[str, np.ndarray]:
        """All numbers as columns of one length, for a data frame.

        Returns:
          `{"class", "feature", "size", "mean", "share", "positive", "rows"}`, class by class.

        >>> table = of_columns({"yes": np.array([[1.0, -2.0], [0.0, -4.0]])}, ["a", "b"]).table()
        >>> table["feature"].tolist(), table["size"].tolist(), table["share"].tolist()
        (['b', 'a'], [3.0, 0.5], [1.0, 0.5])
        """
        count = len(self.features)
        columns = {name: getattr(self, name).ravel() for name in ("size", "mean", "share", "positive")}
        names = {
            "class": np.repeat(self.classes, count),
            "feature": np.tile(self.features, len(self.classes)),
        }
        return {**names, **columns, "rows": np.repeat(self.rows, count)}

    def markdown(self, top: int = 10, digits: int = 3) -> str:
        """A table of the features that count most in each class, a line for each.

        Args:
          top: how many features of a class.
          digits: how many are shown.

        Returns:
          Markdown, which notebooks show for the object itself.

        >>> text = of_columns({"yes": np.array([[1.0, -2.0], [0.0, -4.0]])}, ["a", "b"]).markdown()
        >>> text.splitlines()[2]
        '| b | 3 | -3 | 100 % | 0 % |'
        """
        several = len(self.classes) > 1
        heads = ["class"] * several + ["feature", "mean absolute", "mean", "rows not 0", "of these positive"]
        lines = ["| " + " | ".join(heads) + " |", "|---|" + "---|" * several + "---:|" * 4]
        for k, name in enumerate(self.classes):
            for f in np.argsort(-self.size[k], kind="stable")[:top]:
                cells = [name] * several + [self.features[f]]
                cells = [cell.replace("|", "\\|").replace("\n", " ") for cell in cells]
                cells += [f"{part[k, f]:.{digits}g}" for part in (self.size, self.mean)]
                cells += [f"{100 * part[k, f]:.0f} %" for part in (self.share, self.positive)]
                lines.append("| " + " | ".join(cells) + " |")
        of = [f"{count} rows" + f" of {name}" * several for name, count in zip(self.classes, self.rows)]
        return "\n".join([*lines, "", "Over " + ", ".join(of) + "."])

    _repr_markdown_ = markdown

    def plot(self, top: int = 15) -> Any:
        """Bars of the mean absolute attribution, parted by sign: `igtf.visualization.importance` of this."""
        from igtf.visualization.datasets import importance  # which needs Matplotlib

        titles = [f"{name} ({count} rows)" for name, count in zip(self.classes, self.rows)]
        halves = [np.maximum((self.size + sign * self.mean) / 2, 0) for sign in (1, -1)]
        return importance(self.features, *halves, titles=titles if len(titles) > 1 else None, top=top)


def of_columns(groups: dict[str, np.ndarray], features: Sequence[str]) -> Summary:
    """Of the rows `[n, F]` of each class; what is not finite is left out."""
    totals = [_totals(np.asarray(rows, np.float64), lambda part: part.sum(0)) for rows in groups.values()]
    return _summary(list(features), list(groups), [len(rows) for rows in groups.values()], totals)


def of_words(groups: dict[str, list[tuple[Sequence[str], np.ndarray]]]) -> Summary:
    """Of the texts `(tokens, scores)` of each class; a word that stands in a text twice counts its sum."""
    words: dict[str, int] = {}
    totals = []
    sums: dict[str, tuple] = {}
    for name, texts in groups.items():
        where: list[int] = []
        scores: list[float] = []
        for tokens, values in texts:
            found: dict[int, float] = {}
            for token, value in zip(tokens, np.asarray(values, np.float64)):
                number = words.setdefault(token, len(words))
                found[number] = found.get(number, 0.0) + value
            where += found.keys()
            scores += found.values()
        sums[name] = np.array(where, int), np.array(scores)
    for where, scores in sums.values():
        totals.append(_totals(scores, lambda part, at=where: np.bincount(at, part, len(words))))
    return _summary(list(words), list(groups), [len(texts) for texts in groups.values()], totals)


def _totals(scores, add):
    """Sums over the rows: of magnitudes, of values; counts: not 0, positive, not finite."""
    lost = ~np.isfinite(scores)
    known = np.where(lost, 0, scores)
    return np.stack([add(part) for part in (np.abs(known), known, known != 0, known > 0, lost)])


def _summary(features, classes, counts, totals):
    """The largest features first, over all rows of all classes."""
    sums, rows = np.stack(totals, 1), np.array(counts)  # [5, K, F]
    known = np.maximum(rows[:, None] - sums[4], 1)
    size, mean, share = sums[0] / known, sums[1] / known, sums[2] / known
    positive = np.where(sums[2] > 0, sums[3] / np.maximum(sums[2], 1), np.nan)
    order = np.argsort(-sums[0].sum(0), kind="stable")
    parts = [part[:, order] for part in (size, mean, share, positive)]
    return Summary([str(features[f]) for f in order], classes, rows, *parts)
