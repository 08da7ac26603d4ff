"""Which words of a prompt each word of a continuation is due to: a matrix with names."""

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import Colormap
from matplotlib.figure import FigureBase
from numpy.typing import ArrayLike

from igtf.visualization import checks, figures

__all__ = ["token_matrix"]

NAME = 9  # points
CELL, NARROWEST = 19, 11  # points
WIDEST = 560  # points of a figure, for its cells and the names beside them
LONGEST = 24  # characters of a name
LATER = "0.85"


def token_matrix(
    prompt: Sequence[str],
    continuation: Sequence[str],
    scores: ArrayLike,
    *,
    label: str = "attribution",
    most: int = 40,
    clip_above: float = 100.0,
    cmap: str | Colormap = figures.CMAP,
    ax: Axes | None = None,
) -> FigureBase:
    """A row for each word of a continuation, a column for each word before it.

    Args:
      prompt, continuation: the `P` and `C` tokens or words of each. (Or any names of columns and rows.)
      scores: `[C, P]`, what each word of the continuation is due to; or `[C, P + C]`, with the words of the
        continuation before it, which a line divides from the prompt. What comes at its own place and later
        is grey.
      label: what the values are, for the colour bar.
      most: columns of the prompt to show: those with the largest scores, in their order. A note says how many
        are left out.
      clip_above: as in `heatmap`.
      cmap: a diverging Matplotlib colour map.
      ax: axes to draw in, instead of a new figure.

    Returns:
      The figure. Matplotlib knows only the characters of its font; `generation_view` knows all.

    Raises:
      ValueError: there are no words, shapes do not match, `clip_above` is no percentage, unknown `cmap`.
      TypeError: a word is no string, scores are no real numbers, or an argument is of another type.

    >>> figure = token_matrix(["2", "+", "2", "="], ["4", "."], np.ones([2, 6]))
    >>> [text.get_text() for text in figure.axes[0].get_xticklabels()]
    ['2', '+', '2', '=', '4', '.']
    """
    prompt, continuation, values = checks.generation(prompt, continuation, scores)
    (label,) = checks.titles(label, 1, "label")
    checks.whole("most", most, 1)
    kept = _largest(values[:, : len(prompt)], most)
    left_out = len(prompt) - len(kept)
    columns = [prompt[i] for i in kept]
    several = values.shape[1] > len(prompt)
    if several:
        columns += continuation
        values = np.concatenate([values[:, kept], values[:, len(prompt) :]], axis=1)
        later = np.tri(len(continuation)).T.astype(bool)
        later = np.pad(later, [(0, 0), (len(kept), 0)])
    else:
        values, later = values[:, kept], np.zeros([len(continuation), len(kept)], bool)
    mappable = figures.symmetric(values[~later], cmap, clip_above)
    columns, rows = [_short(name) for name in columns], [_short(name) for name in continuation]
    if ax is None:
        fig, panel = _figure(rows, columns)
    else:
        (panel,) = figures.given_axes(ax, 1)
        fig = panel.figure
    _draw(panel, values, later, mappable, rows, columns)
    if several:
        panel.axvline(len(kept) - 0.5, color="black", linewidth=1.2)
    figures.colour_bar(fig, np.array([panel]), mappable, values[~later], label)
    notes = figures.remarks(values[~later])
    if left_out:
        notes[f"{left_out} word{'s' * (left_out > 1)} of the prompt with smaller scores are left out"] = None
    figures.legend(fig, np.array([panel]), notes, ax is None)
    return fig


def _largest(values, most):
    """The columns with the largest magnitudes, in their order."""
    sizes = np.nan_to_num(np.abs(values)).max(0, initial=0.0)
    return np.sort(np.argsort(-sizes, kind="stable")[:most])


def _short(name):
    name = name.replace("\n", "\u21b5").replace("\t", "\u2192")
    return name if len(name) <= LONGEST else name[: LONGEST - 1] + "\u2026"


def _figure(rows, columns):
    """A figure as large as its names and cells need."""
    left, above = (max(figures.text_width(name, NAME) for name in names) for names in (rows, columns))
    cell = np.clip((WIDEST - left) / len(columns), NARROWEST, CELL)
    width = max(240, left + cell * len(columns) + 90)  # and the colour bar
    height = max(110, CELL * len(rows)) + above + 40
    fig = figures.Figure((width / 72, height / 72), layout="constrained")
    return fig, fig.subplots()


def _draw(panel, values, later, mappable, rows, columns):
    count, width = values.shape
    colours = mappable.to_rgba(np.ma.masked_invalid(np.where(later, 0, values)))
    colours[later] = [float(LATER)] * 3 + [1.0]
    panel.imshow(colours, aspect="auto", interpolation="nearest")
    panel.set(xticks=range(width), yticks=range(count))
    panel.tick_params(length=0, top=True, labeltop=True, bottom=False, labelbottom=False)
    panel.set_xticklabels(columns, fontsize=NAME, rotation=90, parse_math=False)
    panel.set_yticklabels(rows, fontsize=NAME, parse_math=False)
    panel.set_xticks(np.arange(width - 1) + 0.5, minor=True)
    panel.set_yticks(np.arange(count - 1) + 0.5, minor=True)
    panel.grid(which="minor", color="white", linewidth=0.8)
    panel.tick_params(which="minor", length=0)
    panel.spines[:].set_color("0.75")
