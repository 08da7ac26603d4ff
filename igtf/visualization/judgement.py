"""How methods score: curves with bands, and bars."""

from collections.abc import Mapping

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import FigureBase
from numpy.typing import ArrayLike

from igtf.visualization import checks, figures
from igtf.visualization.charts import CURVES

__all__ = ["evaluation_plot"]

SURE = 1.96  # standard errors of a mean, to both sides: 95 %
WIDTH, HEIGHT = 4.2, 2.7  # of a panel, in inches


def evaluation_plot(
    scores: Mapping[str, Mapping[str, ArrayLike]],
    curves: Mapping[str, Mapping[str, ArrayLike]] | None = None,
    *,
    better: Mapping[str, str | None] | None = None,
    ax: Axes | None = None,
) -> FigureBase:
    """Scores of methods, a panel for each metric: mean curves where there are curves, else bars.

    Bands and whiskers hold the mean with 95 % certainty (1.96 standard errors). They are for one method: rows
    that are hard for one are hard for others, and methods whose whiskers overlap may well differ row by row.
    Compare them by paired differences, as `igtf.Explainer.evaluate` has them.

    Args:
      scores: `{metric: {method: scores of the rows, [N]}}`; NaN is left out.
      curves: likewise, of some metrics: `[N, steps + 1]`, drawn against the share of features from 0 to 1.
      better: `{metric: "lower", "higher" or None}`, said in the title.
      ax: axes to draw in, one for each metric, instead of a new figure.

    Returns:
      The figure.

    Raises:
      ValueError: there is nothing to draw, or shapes do not fit.
      TypeError: arrays do not hold real numbers, or an argument is of another type.

    >>> figure = evaluation_plot({"deletion": {"saliency": [0.2, 0.4], "random": [0.5, 0.7]}})
    >>> [label.get_text() for label in figure.axes[0].get_yticklabels()]
    ['saliency', 'random']
    """
    table = {metric: _checked(f"scores[{metric!r}]", rows, 1) for metric, rows in _mapping("scores", scores)}
    lines = {metric: _checked(f"curves[{metric!r}]", rows, 2) for metric, rows in _mapping("curves", curves)}
    if not table:
        raise ValueError("scores is empty; expected at least one metric: {metric: {method: scores}}")
    methods = list(dict.fromkeys(method for rows in table.values() for method in rows))
    colours = {method: CURVES[i % len(CURVES)] for i, method in enumerate(methods)}
    axes = _panels(len(table), len(methods), ax)
    for panel, (metric, rows) in zip(axes, table.items()):
        draw = _draw_curves if metric in lines else _draw_bars
        draw(panel, rows, lines.get(metric, {}), colours)
        wanted = (better or {}).get(metric)
        panel.set_title(f"{metric} ({wanted} is better)" if wanted else metric, fontsize="medium")
        panel.spines[["top", "right"]].set_visible(False)
    with_curves = [panel for panel, metric in zip(axes, table) if metric in lines]
    if with_curves:
        figures.legend(axes[0].figure, np.array(with_curves), {}, own=ax is None)
    return axes[0].figure


def _mapping(name, value):
    if value is None:
        return []
    if not isinstance(value, Mapping) or not all(isinstance(rows, Mapping) for rows in value.values()):
        raise TypeError(f"{name} is a {type(value).__name__}; expected {{metric: {{method: array}}}}")
    return list(value.items())


def _checked(name, rows, rank):
    found = {}
    for method, values in rows.items():
        array = checks.numbers(f"{name}[{method!r}]", values)
        if array.ndim != rank or not array.size:
            expected = "[N]" if rank == 1 else "[N, steps + 1]"
            raise checks.wrong_shape(f"{name}[{method!r}]", array, expected, "pass a row for each row")
        found[str(method)] = array
    return found


def _panels(count, methods, ax):
    if ax is not None:
        return figures.given_axes(ax, count)
    columns = min(2, count)
    rows = -(-count // columns)
    height = max(HEIGHT, 0.9 + 0.28 * methods)
    fig = figures.Figure((columns * WIDTH, rows * height), layout="constrained")
    axes = fig.subplots(rows, columns, squeeze=False).ravel()
    for panel in axes[count:]:
        panel.set_axis_off()
    return axes[:count]


def _mean(values):
    """The mean over the rows and how far it is sure, without NaN."""
    count = np.isfinite(values).sum(axis=0)
    mean = np.nansum(values, axis=0) / np.where(count, count, np.nan)
    spread = np.sqrt(np.nansum((values - mean) ** 2, axis=0) / np.where(count > 1, count - 1, np.nan))
    return mean, SURE * spread / np.sqrt(np.where(count, count, np.nan))


def _draw_curves(panel, rows, curves, colours):
    for method, values in curves.items():
        mean, sure = _mean(values)
        where, colour = np.linspace(0, 1, len(mean)), colours.get(method, "black")
        panel.plot(where, mean, color=colour, label=method, linewidth=1.6)
        panel.fill_between(where, mean - sure, mean + sure, color=colour, alpha=0.2, linewidth=0)
    panel.set(xlabel="share of the features", ylabel="output", xlim=(0, 1))
    heights = np.linspace(0.95, 0.95 - 0.13 * (len(rows) - 1), len(rows))
    for height, (method, scores) in zip(heights, rows.items()):
        _beside(panel, height, scores, panel.transAxes, colours[method])


def _draw_bars(panel, rows, _, colours):
    place = np.arange(len(rows))
    means, sure = np.transpose([_mean(values) for values in rows.values()])
    paint, whisker = [colours[method] for method in rows], np.nan_to_num(sure)
    panel.barh(place, np.nan_to_num(means), color=paint, height=0.7, alpha=0.85)
    panel.errorbar(np.nan_to_num(means), place, xerr=whisker, fmt="none", ecolor="black", capsize=3)
    for y, scores in zip(place, rows.values()):
        _beside(panel, y, scores, panel.get_yaxis_transform(), "black")
    panel.set_yticks(place)
    panel.set_yticklabels(list(rows), parse_math=False)
    panel.set_ylim(len(rows) - 0.5, -0.5)
    panel.axvline(0, color="black", linewidth=0.8)
    panel.tick_params(axis="y", length=0)


def _beside(panel, y, scores, transform, colour):
    """The mean score, to the right of a panel."""
    mean, _ = _mean(scores)
    text = "NaN" if np.isnan(mean) else f"{mean:.3g}".replace("-", "\u2212")
    paper = figures.NOT_FINITE if np.isnan(mean) else "none"
    style = {"va": "center", "fontsize": "small", "color": colour, "backgroundcolor": paper}
    panel.text(1.02, y, text, transform=transform, **style)
