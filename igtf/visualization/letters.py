"""Sequences as logos: letters as high as they are attributed."""

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.collections import PathCollection
from matplotlib.colors import to_rgb
from matplotlib.figure import FigureBase
from matplotlib.font_manager import FontProperties
from matplotlib.path import Path
from matplotlib.textpath import TextPath
from numpy.typing import ArrayLike

from igtf.visualization import checks, figures

__all__ = ["logo"]

# Of bases, as genome browsers paint them, but as dark as print needs; others are grey.
COLOURS = {"A": "#00843f", "C": "#1f4fd8", "G": "#e69f00", "T": "#d62728", "U": "#d62728"}
_OTHER = "#555555"


def logo(
    letters: str | Sequence[str],
    scores: ArrayLike,
    *,
    start: int = 1,
    per_line: int = 100,
    colours: dict[str, str] | None = None,
    ax: Axes | Sequence[Axes] | None = None,
) -> FigureBase:
    """A sequence as a logo: each letter as high as its attribution, below the line where it is negative.

    Args:
      letters: the `T` letters, as a string such as `"GATTACA"` or a list of single characters.
      scores: one number per letter, shape `[T]`, or `[T, K]` for one-hot inputs of `K` letters: what
        the channels of a position get is summed.
      start: the number of the first letter; every tenth is numbered.
      per_line: letters in a line; longer sequences go on in the next, on the same scale.
      colours: of letters, by letter; those of bases have a colour each, all others are grey.
      ax: axes to draw in, one for each line, instead of a new figure.

    Returns:
      The figure.

    Raises:
      ValueError: lengths do not match, `letters` holds more than single characters, `per_line` is below
        1, or a colour is unknown.
      TypeError: a letter is no string, scores are no real numbers, or an argument is of another type.

    Logos: "Sequence logos: a new way to display consensus sequences" (Schneider and Stephens,
    doi:10.1093/nar/18.20.6097).

    >>> figure = logo("CAGGTAAGT", [0.1, 0.2, 0.4, 2.0, 2.1, -0.3, 0.2, 0.5, 0.1], per_line=5)
    >>> len(figure.axes)
    2
    """
    letters, values = _letters(letters), checks.numbers("scores", scores)
    if values.ndim not in (1, 2) or len(values) != len(letters) or not values.size:
        expected = f"[{len(letters)}] or [{len(letters)}, K] for the {len(letters)} letters, at least one"
        raise checks.wrong_shape("scores", values, expected, "pass one score per letter, and drop padding")
    values = values.reshape(len(letters), -1).sum(axis=1)
    checks.whole("start", start, -np.inf)
    checks.whole("per_line", per_line, 1)
    if not isinstance(colours, (dict, type(None))):
        raise TypeError(f"colours is {colours!r}; expected a dict of letters and their colours")
    paint = {**COLOURS, **{letter: to_rgb(colour) for letter, colour in (colours or {}).items()}}
    firsts = range(0, len(letters), per_line)
    fig, axes = _lines(len(firsts), min(per_line, len(letters)), ax)
    heights = np.nan_to_num(values)
    low, high = min(heights.min(), 0), max(heights.max(), 0)
    low, high = (low, high) if high > low else (-1.0, 1.0)
    for panel, first in zip(axes, firsts):
        part = slice(first, first + per_line)
        _draw(panel, letters[part], heights[part], paint)
        figures.mark_missing(panel, np.arange(len(values[part])) + 0.5, values[part])
        numbers = [n for n in range(len(letters[part])) if (start + first + n) % 10 == 0]
        panel.set(
            xlim=(0, min(per_line, len(letters))),
            ylim=(low - 0.04 * (high - low), high + 0.04 * (high - low)),
            xticks=np.array(numbers) + 0.5,
            xticklabels=[str(start + first + n) for n in numbers],
        )
    figures.legend(fig, axes, figures.remarks(values), own=ax is None)
    return fig


def _letters(value):
    letters = list(value) if isinstance(value, str) else checks.strings("letters", value)
    longer = [letter for letter in letters if len(letter) != 1]
    if longer:
        raise ValueError(f"letters holds {longer[0]!r}; expected single characters: split it")
    return letters


def _lines(count, width, ax):
    if ax is not None:
        axes = figures.given_axes(ax, count)
        fig = axes[0].figure
    else:
        fig = figures.Figure(
            (float(np.clip(0.085 * width + 0.8, 3, 8.5)), 0.4 + 0.95 * count), layout="constrained"
        )
        axes = fig.subplots(count, sharey=True, squeeze=False).ravel()
        fig.supylabel("attribution", fontsize=figures.LABEL)
    for panel in axes:
        panel.spines[["top", "right", "bottom"]].set_visible(False)
        panel.axhline(0, color="0.6", linewidth=0.6, zorder=0)
        panel.tick_params(axis="x", length=2, labelsize=figures.NOTE)
        panel.tick_params(axis="y", labelsize=figures.NOTE)
    return fig, axes


def _draw(panel, letters, heights, paint):
    """All letters as one collection; each outline fills its place."""
    shapes, faces = [], []
    for place, (letter, height) in enumerate(zip(letters, heights)):
        if height and letter.strip():
            outline = _outline(letter)
            shapes.append(Path(outline.vertices * [0.9, height] + [place + 0.05, 0], outline.codes))
            faces.append(paint.get(letter, paint.get(letter.upper(), _OTHER)))
    panel.add_collection(PathCollection(shapes, facecolors=faces, linewidths=0, transform=panel.transData))


def _outline(letter):
    """A letter that fills the square from 0 to 1."""
    path = TextPath((0, 0), letter, size=10, prop=FontProperties(family="DejaVu Sans", weight="bold"))
    low, high = path.vertices.min(axis=0), path.vertices.max(axis=0)
    return Path((path.vertices - low) / (high - low), path.codes)
