"""Truths, predictions and which output a map explains: checked, and brought to one form."""

from typing import NamedTuple

import numpy as np

from igtf.visualization import checks
from igtf.visualization.page import encode

__all__ = ["Naming", "Outcomes", "outcomes"]


MOST = 100_000  # classes that are numbered


class Outcomes(NamedTuple):
    """Of `N` samples; of classes, `names`, or of one number each where that is None."""

    names: list[str] | None
    scores: np.ndarray | None  # [N, C]
    guesses: np.ndarray | None  # [N], class numbers or predicted numbers
    truths: np.ndarray | None  # [N], likewise
    binary: bool = False  # whether one output tells two classes apart

    def row(self, n):
        """What the page knows of sample `n`."""
        guess, truth = (None if part is None else part[n] for part in (self.guesses, self.truths))
        scores = [] if self.scores is None else list(self.scores[n])
        sure = guess if self.names is None else scores[guess] if scores else None
        row = {"truth": truth, "guess": guess, "sure": sure}
        return {key: encode.number(value) for key, value in row.items()} | {
            "scores": [encode.number(score) for score in scores]
        }


def outcomes(count, predictions, class_names, targets):
    names = None if class_names is None else checks.strings("class_names", class_names)
    if names is not None and not names:
        raise ValueError("class_names is empty; expected a string for each class: leave it out")
    scores, guesses, binary = _predictions(count, predictions, names)
    values = guesses is not None and guesses.dtype.kind == "f"
    if scores is not None and names is not None and len(names) != scores.shape[1]:
        raise ValueError(
            f"class_names holds {len(names)} strings and predictions have {scores.shape[1]} columns; "
            "expected one for each"
        )
    classes = len(names) if names else scores.shape[1] if scores is not None else None
    truths = _truths(count, targets, classes, values)
    if names is None and not values and (guesses is not None or truths is not None):
        count = classes or int(max(part.max() for part in (guesses, truths) if part is not None)) + 1
        if count > MOST:
            raise ValueError(
                f"class numbers go up to {count - 1}, and there are no class_names; expected at most {MOST} "
                "classes: pass their names, or numbers from 0 on"
            )
        names = [str(c) for c in range(count)]
    _check_classes("predictions", None if values else guesses, names)
    return Outcomes(names, scores, guesses, truths, binary)


def _predictions(count, predictions, names):
    """Scores `[N, C]` or None, class numbers or values `[N]`, and whether the scores are of one column."""
    if predictions is None:
        return None, None, False
    array = checks.numbers("predictions", predictions)
    if array.ndim not in (1, 2) or len(array) != count or not array.size:
        advice = "pass the scores of each sample, or its class number or value"
        raise checks.wrong_shape("predictions", array, f"[{count}] or [{count}, C]", advice)
    if array.ndim == 1 and np.asarray(predictions).dtype.kind in "iu":
        return None, array.astype(int), False
    if array.ndim == 2 and array.shape[1] > 1:
        return array, np.where(np.isnan(array), -np.inf, array).argmax(1), False
    column = array.reshape(count)
    if names is None:
        return None, column, False
    if len(names) != 2 or not ((column >= 0) & (column <= 1)).all():
        raise ValueError(
            f"predictions have one column and class_names holds {len(names)} strings; expected 2 and the "
            "probability of the second: apply the sigmoid, or leave the names out"
        )
    return np.stack([1 - column, column], 1), (column > 0.5).astype(int), True


def _truths(count, targets, classes, values):
    if targets is None:
        return None
    array = checks.numbers("targets", targets)
    if array.ndim == 2 and classes and array.shape == (count, classes) and classes > 1:
        return array.argmax(1)
    if array.shape not in ((count,), (count, 1)):
        advice = "pass the true class number of each sample, or its true value"
        raise checks.wrong_shape("targets", array, f"[{count}]", advice)
    array = array.reshape(count)
    if values:
        return array
    if not (array == np.round(array)).all() or (array < 0).any():
        raise ValueError("targets hold what is no class number; expected whole numbers from 0 on")
    _check_classes("targets", array, None if classes is None else range(classes))
    return array.astype(int)


def _check_classes(name, given, known):
    if given is not None and known is not None and not ((given >= 0) & (given < len(known))).all():
        wrong = given[(given < 0) | (given >= len(known))][0]
        raise ValueError(f"{name} hold {int(wrong)}; expected class numbers from 0 to {len(known) - 1}")


class Naming:
    """What maps are for; asked sample by sample, as the first one tells how many there are of each.

    Attributes:
      names: of maps that are for no class.
    """

    def __init__(self, explained, count, known):
        self._explained, self._count, self._known = explained, count, known
        self.names = None

    def of(self, n, maps):
        """The classes that the maps of sample `n` are for, or None for each."""
        if self.names is None:
            self.names = ["output"] if maps == 1 else [f"map {k + 1}" for k in range(maps)]
            self._classes = self._of_all(maps)
        if maps != len(self.names):
            raise ValueError(
                f"attributions[{n}] are {maps} maps and those before are {len(self.names)}; expected as many"
            )
        return [None] * maps if self._classes is None else self._classes[n]

    def _of_all(self, maps):
        """`[N, K]`, or None."""
        explained, count, known = self._explained, self._count, self._known
        classes = 0 if known.names is None else len(known.names)
        if explained is None:
            if maps == classes:
                return np.tile(np.arange(maps), [count, 1])
            if maps == 1 and classes and known.guesses is not None:
                return np.full([count, 1], 1) if known.binary else known.guesses[:, None]
            return None
        if isinstance(explained, str) or not np.issubdtype(np.asarray(explained).dtype, np.integer):
            self.names = checks.titles(explained, maps, "explained")
            return None
        array = np.asarray(explained)
        if array.shape == (count,) and maps == 1:
            array = array[:, None]
        if array.shape not in ((), (maps,), (count, maps)) or (not array.ndim and maps > 1):
            expected = f"[{maps}] or [{count}, {maps}]"
            raise checks.wrong_shape("explained", array, expected, "pass the class that each map is for")
        if not classes:
            raise ValueError(
                "explained are class numbers, and there are no classes; pass class_names or names"
            )
        _check_classes("explained", array.reshape(-1), known.names)
        return np.broadcast_to(array, [count, maps])
