"""A data set at a glance: bars of features by sign, a swarm of rows; and one row, step by step."""

from collections.abc import Iterable, Sequence
from numbers import Real

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Colormap, Normalize
from matplotlib.figure import FigureBase
from numpy.typing import ArrayLike

from igtf.visualization import checks, figures
from igtf.visualization.charts import COLOURS, CURVES

__all__ = ["beeswarm", "importance", "waterfall"]

LINE = 0.3  # height of a feature, in inches
PANELS, ACROSS = 9, 3  # classes that have a panel, at most, and how many of them are side by side
BINS, STACKED = 100, 24  # places along the axis of a swarm, and dots that are drawn at one of them, at most
REST = "0.6"  # grey: what is of several features, or of none


def importance(
    names: Sequence[str],
    positive: ArrayLike,
    negative: ArrayLike | None = None,
    *,
    titles: str | Sequence[str] | None = None,
    top: int = 15,
    sort: bool = True,
    colours: tuple[str, str] = COLOURS,
    ax: Axes | Sequence[Axes] | None = None,
) -> FigureBase:
    """How much features count over a data set: bars of the mean absolute attribution, parted by its sign.

    Args:
      names: one per feature.
      positive: what speaks for the output, on average over all rows (`np.maximum(scores, 0).mean(0)`), not
        below 0: shape `[F]`, or `[K, F]` for `K` classes, with a panel for each of the nine largest.
      negative: likewise what speaks against it (`np.maximum(-scores, 0).mean(0)`), not below 0. The bar of a
        feature is as long as both together. Left out: nothing does.
      titles: one per class.
      top: how many features to draw, at least 1. Which share of the whole the others have is said below.
      sort: the largest first, over all classes; `False` keeps the order of `names`.
      colours: of the positive and of the negative part.
      ax: axes to draw in, one per panel, instead of a new figure.

    Returns:
      The figure.

    Raises:
      ValueError: shapes or counts do not match, a mean is below 0, `top` is below 1, or a colour is unknown.
      TypeError: a name is no string, means are no real numbers, or an argument is of another type.

    >>> figure = importance(["age", "income"], [0.1, 0.6], [0.3, 0.0])
    >>> [label.get_text() for label in figure.axes[0].get_yticklabels()]
    ['income', 'age']
    """
    names = checks.strings("names", names)
    plus = _means("positive", positive, len(names))
    minus = 0 * plus if negative is None else _means("negative", negative, len(names))
    if minus.shape != plus.shape:
        raise checks.wrong_shape("negative", minus, f"{plus.shape} as positive", "pass both of all classes")
    titles = checks.titles(titles, len(plus))
    checks.whole("top", top, 1)
    paint = checks.colours(colours)
    classes = np.sort(np.argsort(-np.nansum(plus + minus, axis=1), kind="stable")[:PANELS])
    sizes = np.nansum(plus + minus, axis=0)
    labels, kept, others = figures.largest_first(names, sizes, top, sort)
    labels = labels[: len(kept)]  # a bar of the others would dwarf those of single features
    first, second = (part[classes][:, kept] for part in (plus, minus))
    axes, place = _panels(len(classes), len(labels), ax), np.arange(len(labels))
    limit = 1.05 * (figures.largest(first + second) or 1.0)
    for panel, k, left, right in zip(axes, classes, np.nan_to_num(first), np.nan_to_num(second)):
        panel.barh(place, left, color=paint[0], height=0.7)
        panel.barh(place, right, left=left, color=paint[1], height=0.7)
        panel.set(xlim=(0, limit), xlabel="mean |attribution|" if panel in axes[-ACROSS:] else "")
        figures.lines_of(panel, labels)
        panel.set_title(figures.wrapped(titles[k], 150, 10), fontsize="medium", parse_math=False)
    texts = [text.lstrip("+") for text in figures.signed_alike((first + second).ravel())]
    for k, (panel, lengths) in enumerate(zip(axes, first + second)):
        figures.beside(panel, lengths, texts[k * len(labels) : (k + 1) * len(labels)])
    entries: dict[str, str | None] = dict(zip(["speaks for the output", "speaks against it"], colours))
    if len(others):
        whole = sizes.sum() or 1.0
        entries[f"{len(others)} others have no bar: {sizes[others].sum() / whole:.1%} of the whole"] = None
    if len(classes) < len(plus):
        entries[f"the {len(classes)} largest of {len(plus)} classes"] = None
    fig = axes[0].figure
    figures.legend(fig, axes, {**entries, **figures.remarks(np.stack([plus, minus]))}, own=ax is None)
    return fig


def beeswarm(
    names: Sequence[str],
    scores: ArrayLike,
    values: ArrayLike | None = None,
    *,
    top: int = 15,
    sort: bool = True,
    label: str = "attribution",
    cmap: str | Colormap = "cool",
    ax: Axes | None = None,
) -> FigureBase:
    """Attributions of all rows: a line of dots for each feature, which pile up where rows are alike.

    Args:
      names: one per feature.
      scores: shape `[N, F]`, of `N` rows.
      values: of the features, shape `[N, F]`, which colour the dots, from what is low for a feature (the 5th
        percentile) to what is high for it (the 95th). Left out: all dots have one colour.
      top: how many features to draw, at least 1. The sum of the others has a line of its own, in grey.
      sort: by mean absolute score; `False` keeps the order of `names`.
      label: what the scores are.
      cmap: a sequential Matplotlib colour map.
      ax: axes to draw in, instead of a new figure.

    Returns:
      The figure. Where more than 24 rows lie at one place, 24 of them are drawn, as wide as all would be.

    Raises:
      ValueError: shapes do not match, `top` is below 1, or `cmap` is unknown.
      TypeError: a name is no string, arrays hold no real numbers, or an argument is of another type.

    Summary plots: "Consistent Individualized Feature Attribution for Tree Ensembles" (Lundberg et al.,
    arXiv:1802.03888).

    >>> figure = beeswarm(["age", "income"], [[0.1, 2.0], [-0.1, 1.5]], [[20, 30], [40, 10]])
    >>> [label.get_text() for label in figure.axes[0].get_yticklabels()]
    ['income', 'age']
    """
    names = checks.strings("names", names)
    rows = checks.numbers("scores", scores)
    if rows.ndim != 2 or not rows.size or rows.shape[1] != len(names):
        raise checks.wrong_shape(
            "scores", rows, f"[N, {len(names)}] for the names", "pass one score per name"
        )
    shades = None if values is None else checks.numbers("values", values)
    if shades is not None and shades.shape != rows.shape:
        raise checks.wrong_shape("values", shades, f"{rows.shape} as scores", "pass those of the same rows")
    checks.whole("top", top, 1)
    (label,) = checks.titles(label, 1, "label")
    colours = matplotlib.colormaps.get_cmap(cmap).with_extremes(bad=figures.NOT_FINITE)
    count = np.isfinite(rows).sum(axis=0)
    sizes = np.nansum(np.abs(rows), axis=0) / np.where(count, count, np.nan)
    labels, kept, others = figures.largest_first(names, sizes, top, sort)
    columns = figures.with_rest(rows, kept, others)
    paint = [CURVES[0]] * len(kept) if shades is None else [colours(_ranked(shades[:, i])) for i in kept]
    fig, axes = figures.plots(1, ax, height=1.1 + LINE * len(labels))
    panel = axes[0]
    _swarm(panel, columns, [*paint, REST])
    panel.axvline(0, color="black", linewidth=0.8, zorder=0)
    figures.lines_of(panel, labels)
    panel.set_xlabel(label, parse_math=False)
    further = {}
    if shades is not None:
        bar = fig.colorbar(ScalarMappable(Normalize(0, 1), colours), ax=panel, aspect=30, ticks=[0, 1])
        bar.set_ticklabels(["low", "high"])
        bar.set_label("value of the feature", labelpad=-8)
        further = figures.missing(shades, "values: NaN or infinite")
    figures.legend(fig, axes, {**figures.remarks(rows), **further}, own=ax is None)
    return fig


def waterfall(
    names: Sequence[str],
    scores: ArrayLike,
    base_value: float = 0.0,
    values: Iterable | None = None,
    *,
    output: float | None = None,
    top: int = 10,
    sort: bool = True,
    colours: tuple[str, str] = COLOURS,
    ax: Axes | None = None,
) -> FigureBase:
    """One row: from the base value to the output, step by step, the largest step first.

    Args:
      names: one per feature.
      scores: of the features, shape `[F]`.
      base_value: F(baseline), where the steps start.
      values: of the features, numbers or strings `[F]`, beside their names.
      output: F(x). What the scores miss of it gets a grey step of its own where it can be seen; left out,
        the output is where the steps end.
      top: how many features to draw, at least 1. The sum of the others gets a step of its own.
      sort: by magnitude; `False` keeps the order of `names`.
      colours: of positive and of negative steps.
      ax: axes to draw in, instead of a new figure.

    Returns:
      The figure.

    Raises:
      ValueError: lengths do not match, a base value or output that is not finite, `top` is below 1, or a
        colour is unknown.
      TypeError: a name is no string, scores are no real numbers, or an argument is of another type.

    >>> figure = waterfall(["age", "income"], [0.25, -0.5], base_value=1.0, values=[41, "low"])
    >>> [label.get_text() for label in figure.axes[0].get_yticklabels()]
    ['base value', 'income = low', 'age = 41', 'output']
    """
    names = checks.strings("names", names)
    scores = checks.numbers("scores", scores)
    if scores.ndim != 1 or not scores.size or len(scores) != len(names):
        raise checks.wrong_shape("scores", scores, f"[{len(names)}], those of one row", "pass one per name")
    names = names if values is None else _valued(names, values)
    base = _number("base_value", base_value)
    checks.whole("top", top, 1)
    paint = dict(zip([1, -1, 0], [*checks.colours(colours), "black"]))
    labels, kept, others = figures.largest_first(names, np.abs(scores), top, sort)
    steps = figures.with_rest(scores, kept, others)
    tint = [paint[sign] for sign in np.sign(np.nan_to_num(steps))]
    levels = base + np.append(0, np.cumsum(np.nan_to_num(steps)))
    end = levels[-1] if output is None else _number("output", output)
    if abs(end - levels[-1]) > 0.005 * np.ptp(levels):
        labels, steps, tint = [*labels, "not attributed"], np.append(steps, end - levels[-1]), [*tint, REST]
        levels = np.append(levels, end)
    labels = ["base value", *labels, "output"]
    fig, axes = figures.plots(1, ax, height=0.8 + LINE * len(labels))
    panel, place = axes[0], np.arange(len(labels))
    panel.barh(place[1:-1], np.diff(levels), left=levels[:-1], color=tint, height=0.7)
    style = {"color": "black", "linewidth": 0.8}
    panel.vlines(levels, place[:-1] - 0.35, place[1:] + 0.35, **style)
    panel.vlines(levels[[0, -1]], place[[0, -1]] - 0.35, place[[0, -1]] + 0.35, color="black", linewidth=2.5)
    margin = 0.05 * np.ptp(levels) or 0.05 * abs(base) or 1.0
    panel.set_xlim(levels.min() - margin, levels.max() + margin)
    figures.lines_of(panel, labels)
    ends = [f"{value:.4g}".replace("-", "\u2212") for value in levels[[0, -1]]]
    figures.beside(panel, [base, *steps, end], [ends[0], *figures.signed_alike(steps), ends[1]])
    panel.set_xlabel("output")
    figures.legend(fig, axes, figures.remarks(scores), own=ax is None)
    return fig


def _means(name, value, count):
    """`[K, F]`, not below 0."""
    array = checks.numbers(name, value)
    if array.ndim not in (1, 2) or not array.size or array.shape[-1] != count:
        raise checks.wrong_shape(name, array, f"[{count}] or [K, {count}] for the names", "pass one per name")
    if (array < 0).any():
        raise ValueError(
            f"{name} holds {np.nanmin(array):g}; expected means that are at least 0: pass each sign apart"
        )
    return np.atleast_2d(array)


def _panels(count, lines, ax):
    """Axes for bars of the same features, side by side."""
    if ax is not None:
        return figures.given_axes(ax, count)
    across = min(ACROSS, count)
    down = -(-count // across)
    size = (6.4 if count == 1 else 8.5, down * (0.5 + LINE * lines) + 0.6)
    fig = figures.Figure(size, layout="constrained")
    axes = fig.subplots(down, across, sharex=True, sharey=True, squeeze=False).ravel()
    for panel in axes:
        panel.spines[["top", "right"]].set_visible(False)
    for panel in axes[count:]:
        panel.set_axis_off()
    for panel in axes[max(0, count - across) : count]:
        panel.tick_params(labelbottom=True)
    return axes[:count]


def _ranked(values):
    """Values in 0..1 between their 5th and 95th percentile, masked where they are not finite."""
    known = values[np.isfinite(values)]
    low, high = np.percentile(known, [5, 95]) if known.size else (0, 0)
    if low == high and known.size:
        low, high = known.min(), known.max()
    shares = (values - low) / (high - low) if high > low else np.where(np.isfinite(values), 0.5, np.nan)
    return np.ma.masked_invalid(np.clip(shares, 0, 1))


def _swarm(panel, columns, paint):
    """Dots of `columns` `[N, F]` in lines, in one colour or one for each row."""
    ends = [np.nanmin(columns, initial=0.0), np.nanmax(columns, initial=0.0)]
    width = (ends[1] - ends[0]) or 1.0
    found = [_piled((column - ends[0]) / width) for column in columns.T]
    for place, (rows, away) in enumerate(found):
        step = min(0.12, 0.42 / max(np.abs(away).max(initial=0), 1))
        shade = paint[place] if isinstance(paint[place], str) else paint[place][rows]
        panel.scatter(columns[rows, place], place + step * away, c=shade, s=13, linewidths=0, rasterized=True)
    panel.set_xlim(ends[0] - 0.04 * width, ends[1] + 0.04 * width)


def _piled(where):
    """Of the dots at `where` in 0..1: which are drawn, and how many dots each lies away from its line."""
    known = np.flatnonzero(np.isfinite(where))
    bins = np.floor(BINS * where[known])
    order = np.argsort(bins, kind="stable")
    known, bins = known[order], bins[order]
    first = np.searchsorted(bins, bins)
    count = np.searchsorted(bins, bins, "right") - first
    turn = (np.arange(len(bins)) - first) * np.minimum(count, STACKED) // np.maximum(count, 1)
    drawn = np.append(True, (np.diff(turn) != 0) | (np.diff(bins) != 0))[: len(bins)]
    known, turn = known[drawn], turn[drawn]
    wider = np.maximum(1, count[drawn] / STACKED)
    return known, np.where(turn % 2, 1, -1) * ((turn + 1) // 2) * wider


def _valued(names, values):
    """Names with their values behind them."""
    if isinstance(values, str) or not isinstance(values, Iterable):
        raise TypeError(f"values is a {type(values).__name__}; expected a list: pass one value per name")
    values = [value.item() if isinstance(value, np.generic) else value for value in values]
    if len(values) != len(names):
        raise ValueError(
            f"values holds {len(values)} entries; expected {len(names)}: pass one value per name"
        )
    for value in values:
        if not isinstance(value, (str, Real)):
            raise TypeError(f"values holds {value!r}; expected numbers or strings: convert it")
    texts = [value if isinstance(value, str) else f"{float(value):.4g}" for value in values]
    return [f"{name} = {text}".replace("= -", "= \u2212") for name, text in zip(names, texts)]


def _number(name, value):
    array = checks.numbers(name, value)
    if array.ndim or np.isnan(array):
        raise ValueError(f"{name} is {value!r}; expected a finite number: pass that of one row")
    return float(array)
