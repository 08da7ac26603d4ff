"""Pairs of features: the matrix of all of them, and one of them over a data set."""

from collections.abc import Sequence

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Colormap, Normalize
from matplotlib.figure import FigureBase
from matplotlib.patches import Rectangle
from numpy.typing import ArrayLike

from igtf.visualization import charts, checks, figures

__all__ = ["dependence", "interaction_matrix"]

WRITTEN = 8  # features up to which there is room for the values
NAME = 9  # points


def interaction_matrix(
    interactions: ArrayLike,
    names: Sequence[str] | None = None,
    *,
    label: str = "interaction",
    clip_above: float = 100.0,
    cmap: str | Colormap = figures.CMAP,
    ax: Axes | None = None,
) -> FigureBase:
    """What every two features contribute together and, in frames, each by itself.

    Args:
      interactions: shape `[F, F]`, or `[B, F, F]` for a batch: cells then show the mean over the rows
        that are finite. Up to 8 features, the values are written in.
      names: one per feature; their numbers if left out.
      label: what the values are, for the colour bar.
      clip_above: as in `heatmap`.
      cmap: a diverging Matplotlib colour map.
      ax: axes to draw in, instead of a new figure.

    Returns:
      The figure.

    Raises:
      ValueError: shapes or counts do not match, `clip_above` is no percentage, or unknown `cmap`.
      TypeError: a name is no string, interactions are no real numbers, or an argument is of another
        type.

    Integrated Hessians: "Explaining Explanations" (Janizek et al., arXiv:2002.04138). A row of theirs
    sums to the attribution of the feature.

    >>> figure = interaction_matrix([[1.5, 0.5], [0.5, 0.0]], ["age", "income"])
    >>> [text.get_text() for text in figure.axes[0].texts]
    ['+1.50', '+0.50', '+0.50', '0']
    """
    rows = checks.numbers("interactions", interactions)
    if rows.ndim not in (2, 3) or not rows.size or rows.shape[-2] != rows.shape[-1]:
        raise checks.wrong_shape("interactions", rows, "[F, F] or [B, F, F]", "pass those of all pairs")
    rows = rows.reshape(-1, *rows.shape[-2:])
    count = rows.shape[-1]
    names = [str(i) for i in range(count)] if names is None else checks.strings("names", names)
    names = checks.titles(names, count, "names")
    (label,) = checks.titles(label, 1, "label")
    finite = np.isfinite(rows).sum(axis=0)
    means = np.nansum(rows, axis=0) / np.where(finite, finite, np.nan)
    mappable = figures.symmetric(means, cmap, clip_above)
    fig, axes, own, width = figures.panels(1, 1, (1, count, count), ax=ax)
    panel, widest = axes[0, 0], max(figures.text_width(name, NAME) for name in names)
    if own:
        larger = max(0, 1.2 * NAME * count - width)  # so that names do not overlap
        fig.set_size_inches(fig.get_size_inches() + (larger + widest) / 72)
        width += larger
    figures.draw_map(panel, means, mappable)
    panel.set_axis_on()
    panel.spines[:].set_visible(False)
    panel.set(xticks=range(count), yticks=range(count))
    panel.tick_params(length=0)
    cell, style = width / count, {}
    if widest > 0.9 * cell:
        steep = cell < 1.6 * NAME
        style = {"rotation": 90 if steep else 45, "ha": "right", "rotation_mode": "anchor"}
        style["va"] = "center" if steep else "top"
    panel.set_xticklabels(names, fontsize=NAME, parse_math=False, **style)
    panel.set_yticklabels(names, fontsize=NAME, parse_math=False)
    for i in range(count):
        for line, colour in [(3, "white"), (1.2, "black")]:
            box = Rectangle((i - 0.5, i - 0.5), 1, 1, fill=False, clip_on=False)
            panel.add_patch(box).set(linewidth=line, edgecolor=colour)
    figures.colour_bar(fig, axes, mappable, means, f"{label}\n(framed: by itself)")
    figures.legend(fig, axes, figures.remarks(rows), own)
    if count <= WRITTEN:
        _write(panel, means, mappable, cell)
    if own:
        figures.trim(fig)
    return fig


def dependence(
    values: ArrayLike,
    scores: ArrayLike,
    other: ArrayLike | None = None,
    *,
    names: str | Sequence[str] | None = None,
    label: str = "attribution",
    cmap: str | Colormap = "cool",
    ax: Axes | None = None,
) -> FigureBase:
    """A feature's value against its attribution, or against its interaction with another, a dot for each row.

    Args:
      values: of the feature, shape `[N]` for the rows of a data set.
      scores: the attribution to it, or the interaction of the pair, shape `[N]`.
      other: values of another feature, shape `[N]`, which colour the dots.
      names: of the feature, and of the other one if there is one.
      label: what the scores are.
      cmap: a sequential Matplotlib colour map.
      ax: axes to draw in, instead of a new figure.

    Returns:
      The figure. Rows whose value or score is not finite have no place in it; of those that lack the
      score, a yellow dot at the foot shows the value.

    Raises:
      ValueError: shapes or counts do not match, or unknown `cmap`.
      TypeError: arrays do not hold real numbers, or an argument is of another type.

    Dependence plots: "Consistent Individualized Feature Attribution for Tree Ensembles" (Lundberg et
    al., arXiv:1802.03888).

    >>> ages = np.array([20, 35, 50])
    >>> figure = dependence(ages, [0.1, 0.4, 0.2], [1, 2, 3], names=["age", "income"])
    >>> [axis.get_ylabel() for axis in figure.axes], figure.axes[0].get_xlabel()
    (['attribution', 'income'], 'age')
    """
    values = checks.numbers("values", values)
    if values.ndim != 1 or not values.size:
        raise checks.wrong_shape("values", values, "[N]", "pass one value per row")
    given = {"scores": scores} if other is None else {"scores": scores, "other": other}
    columns = {name: checks.numbers(name, column) for name, column in given.items()}
    for name, column in columns.items():
        if column.shape != values.shape:
            raise checks.wrong_shape(name, column, f"{values.shape} as values", "pass one per row")
    names = checks.titles(names, len(columns), "names")
    (label,) = checks.titles(label, 1, "label")
    heights, shades = columns["scores"], columns.get("other")
    colours = matplotlib.colormaps.get_cmap(cmap).with_extremes(bad=figures.NOT_FINITE)
    fig, axes = figures.plots(1, ax)
    panel, valued = axes[0], np.isfinite(values)
    drawn, lost = valued & np.isfinite(heights), valued & np.isnan(heights)
    panel.axhline(0, color="black", linewidth=0.8, zorder=0)
    style = {"s": np.clip(6000 / len(values), 8, 36), "linewidths": 0.3, "edgecolors": "0.2"}
    if shades is None:
        panel.scatter(values[drawn], heights[drawn], color=charts.CURVES[0], **style)
    else:
        known = shades[np.isfinite(shades)]
        span = Normalize(*(known.min(), known.max()) if known.size else (0, 1))
        style.update(c=shades[drawn], cmap=colours, norm=span, plotnonfinite=True)
        panel.scatter(values[drawn], heights[drawn], **style)
        few = np.unique(known) if len(np.unique(known)) < 6 else None  # ticks at categories
        bar = fig.colorbar(ScalarMappable(span, colours), ax=panel, aspect=30, ticks=few)
        bar.set_label(names[1], parse_math=False)
    if lost.any():  # no line without points: a layout would make room for its bounds, which are infinite
        foot = {"color": figures.NOT_FINITE, "transform": panel.get_xaxis_transform(), "clip_on": False}
        panel.plot(values[lost], np.zeros(lost.sum()), "o", **foot)
    panel.set_xlabel(names[0], parse_math=False)
    panel.set_ylabel(label, parse_math=False)
    figures.legend(fig, axes, figures.missing(np.stack([values, *columns.values()])), own=ax is None)
    return fig


def _write(ax, values, mappable, width):
    """Numbers in the cells of a matrix, which are `width` points wide, on dark ones in white."""
    texts = figures.signed_alike(values.ravel())
    size = min(NAME, 0.7 * NAME * width / max(figures.text_width(text, NAME) for text in texts))
    light = mappable.to_rgba(values)[..., :3] @ figures.LUMINANCE > 0.5
    for (y, x), text in zip(np.ndindex(values.shape), texts):
        colour = "black" if light[y, x] else "white"
        ax.text(x, y, text, ha="center", va="center", fontsize=size, color=colour)
