"""What pictures share: figures that display themselves, axes, scales around 0, legends, colours."""

import io

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize, to_rgb
from matplotlib.figure import FigureBase
from matplotlib.patches import Patch, Rectangle

from igtf.visualization import checks, regions

__all__ = [
    "CMAP",
    "LUMINANCE",
    "NOT_FINITE",
    "Figure",
    "colour_bar",
    "draw_map",
    "given_axes",
    "largest",
    "legend",
    "mark_missing",
    "missing",
    "panels",
    "plots",
    "remarks",
    "rgb",
    "signed",
    "symmetric",
    "title",
]

CMAP = "seismic"  # blue, white, red
NOT_FINITE = "#ffd500"
LUMINANCE = np.array([0.299, 0.587, 0.114])


class Figure(matplotlib.figure.Figure):
    """A figure that displays itself in notebooks without being known to pyplot."""

    def _repr_png_(self) -> bytes:
        stream = io.BytesIO()
        self.savefig(stream, format="png")
        return stream.getvalue()


def panels(rows, columns, shape, fig=None, ax=None):
    """A grid of axes, without ticks and frames, for pictures of `shape` `[B, H, W, ...]`."""
    if ax is not None:
        axes = given_axes(ax, rows * columns).reshape(rows, columns)
        fig = axes[0, 0].figure
    else:
        if fig is None:
            aspect = np.clip(shape[1] / shape[2], 0.2, 5)
            width = np.clip(min(9.5 / columns, 8 / rows / aspect), 0.85, 4)
            height = width * aspect
            fig = Figure((columns * width + 0.9, rows * height + 0.9), layout="compressed")
        elif not isinstance(fig, FigureBase):
            raise TypeError(f"fig is a {type(fig).__name__}; expected a Matplotlib figure")
        axes = fig.subplots(rows, columns, squeeze=False)
    for panel in axes.flat:
        panel.set_axis_off()
    return fig, axes


def plots(count, ax, height=4.0):
    """`count` axes for curves, one below the other."""
    if ax is not None:
        axes = given_axes(ax, count)
        fig = axes[0].figure
    else:
        fig = Figure((6.4, height), layout="constrained")
        ratios = [2, 1][:count]
        axes = fig.subplots(count, sharex=True, squeeze=False, height_ratios=ratios).ravel()
    for panel in axes:
        panel.spines[["top", "right"]].set_visible(False)
    return fig, axes


def given_axes(ax, count):
    axes = np.array(ax, dtype=object).ravel()
    for each in axes:
        if not isinstance(each, Axes):
            raise TypeError(f"ax holds a {type(each).__name__}; expected Matplotlib axes")
    if len(axes) != count:
        raise ValueError(f"ax holds {len(axes)} axes; expected {count}: pass fig.subplots({count})")
    return axes


def title(ax, text):
    """Leave the title of axes that were passed in, unless there is another."""
    if text:
        ax.set_title(text)


def draw_map(ax, values, mappable):
    """A map, framed, as 0 is as white as the paper. Where it shrinks, values are averaged."""
    frame = {"fill": False, "edgecolor": "0.75", "linewidth": 0.8, "clip_on": False}
    ax.add_patch(Rectangle((0, 0), 1, 1, transform=ax.transAxes, **frame))
    return ax.imshow(values, cmap=mappable.cmap, norm=mappable.norm, interpolation_stage="data")


def symmetric(values, cmap, clip_above=100):
    """Colours on a scale from -limit to limit."""
    size = np.abs(values[np.isfinite(values)])
    limit = regions.threshold(size, 100 - checks.between("clip_above", clip_above, 0, 100)) or 1.0
    colours = matplotlib.colormaps.get_cmap(cmap).with_extremes(bad=NOT_FINITE)
    return ScalarMappable(Normalize(-limit, limit), colours)


def colour_bar(fig, axes, mappable, values, label="attribution"):
    clipped = largest(values) > mappable.norm.vmax
    fig.colorbar(
        mappable,
        ax=list(axes.flat),
        label=label,
        aspect=30,
        extend="both" if clipped else "neither",
    )


def legend(fig, axes, entries, own=True):
    """Name the colours and curves below a figure of our own, else below or in the first axes."""
    panel = axes.flat[0]
    handles = panel.get_legend_handles_labels()[0]
    handles += [Patch(color=colour or "none", label=label) for label, colour in entries.items()]
    style = {"handles": handles, "frameon": False, "fontsize": "small"}
    if not handles:
        return
    if own:
        fig.legend(**style, loc="outside lower center", ncols=3)
    elif panel.axison:
        panel.legend(**style)
    else:
        panel.legend(**style, loc="upper center", bbox_to_anchor=(0.5, 0))


def missing(values, what="NaN or infinite"):
    count = np.isnan(values).sum()
    return {f"{what}: {count:,} of {values.size:,}": NOT_FINITE} if count else {}


def remarks(values, polarity="both"):
    """What the reader must know about the values: some are not finite, or none are to be seen."""
    finite = values[np.isfinite(values)]
    nothing = "all attributions are 0" if polarity == "both" else f"no {polarity} attribution"
    empty = finite.size and not regions.MAGNITUDE[polarity](finite).any()
    return {**missing(values), **({nothing: None} if empty else {})}


def mark_missing(ax, where, values):
    """Draw a yellow line where a curve has no value."""
    for x in where[~np.isfinite(values)]:
        ax.axvline(x, color=NOT_FINITE, linewidth=3, zorder=0)


def signed(value):
    """`+1.5`, `−1.5`, `0` or `NaN`."""
    text = "NaN" if np.isnan(value) else f"{value:+.3g}" if value else "0"
    return text.replace("-", "\u2212")


def largest(values):
    return np.abs(values[np.isfinite(values)]).max(initial=0.0)


def rgb(image):
    """`[..., 1 or 3]` to `[..., 3]`."""
    coloured = np.repeat(image, 3 // image.shape[-1], axis=-1)
    coloured[np.isnan(coloured).any(axis=-1)] = to_rgb(NOT_FINITE)
    return coloured
