"""What pictures share: figures that display themselves, axes, scales around 0, legends, colours."""

import io

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import ListedColormap, Normalize, to_rgb
from matplotlib.figure import FigureBase
from matplotlib.font_manager import FontProperties
from matplotlib.patches import Patch, Rectangle
from matplotlib.textpath import text_to_path

from igtf.visualization import checks, regions

__all__ = [
    "CMAP",
    "LABEL",
    "LUMINANCE",
    "NOT_FINITE",
    "Figure",
    "beside",
    "colour_bar",
    "draw_map",
    "frame",
    "given_axes",
    "headings",
    "largest",
    "largest_first",
    "legend",
    "lighter",
    "lines_of",
    "mark_missing",
    "missing",
    "notes",
    "panels",
    "plots",
    "remarks",
    "rgb",
    "row_labels",
    "signed",
    "signed_alike",
    "symmetric",
    "text_width",
    "trim",
    "with_rest",
    "wrapped",
]

CMAP = "seismic"  # blue, white, red
NOT_FINITE = "#ffd500"
LUMINANCE = np.array([0.299, 0.587, 0.114])
LABEL, NOTE, SMALLEST = 9, 8, 7  # points: labels of rows, notes below maps, and what nothing goes below
WIDEST = 170  # points that the label of a line takes


class Figure(matplotlib.figure.Figure):
    """A figure that displays itself in notebooks without being known to pyplot."""

    def _repr_png_(self) -> bytes:
        stream = io.BytesIO()
        self.savefig(stream, format="png")
        return stream.getvalue()


def panels(rows, columns, shape, fig=None, ax=None):
    """A grid of axes, without ticks and frames, for pictures of `shape` `[B, H, W, ...]`.

    Also returns whether the figure is a new one, and how wide its columns are, in points.
    """
    own, aspect = fig is None and ax is None, shape[1] / shape[2]
    if ax is not None:
        axes = given_axes(ax, rows * columns).reshape(rows, columns)
        fig = axes[0, 0].figure
        width = axes[0, 0].get_window_extent().width / fig.dpi
    else:
        if own:
            clipped = np.clip(aspect, 0.2, 5)
            width = np.clip(min(7.6 / columns, 8 / rows / clipped), 0.6, 4)
            fig = Figure((columns * width + 0.9, rows * width * clipped + 0.9), layout="compressed")
        elif not isinstance(fig, FigureBase):
            raise TypeError(f"fig is a {type(fig).__name__}; expected a Matplotlib figure")
        axes = fig.subplots(rows, columns, squeeze=False)
        across, down = fig.bbox.size / fig.dpi - 0.9
        width = min(across / columns, down / rows / aspect)
    for panel in axes.flat:
        panel.set_axis_off()
    return fig, axes, own, 72 * 0.93 * width  # less the gap


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


def headings(axes, texts, width, own):
    """Titles in one size, each wrapped to its column; without a text, that of given axes stays."""
    size = FontProperties(size=matplotlib.rcParams["axes.titlesize"]).get_size_in_points()
    longest = max((text_width(word, size) for text in texts for word in text.split()), default=0.0)
    size = np.clip(0.97 * size * width / max(longest, 1e-9), min(SMALLEST, size), size)
    texts = [wrapped(text, width, size) for text in texts]
    for ax, text in zip(axes, texts):
        if text:
            ax.set_title(text, fontsize=size)
    if own:
        _grow(axes[0].figure, 0, 1.2 * size * max(text.count("\n") for text in texts))


def row_labels(axes, labels, own):
    """What each row shows, to the left of it."""
    labels = [wrapped(label, 80, LABEL) for label in labels]
    style = {"ha": "right", "va": "center", "fontsize": LABEL}
    for ax, label in zip(axes, labels):
        ax.text(-0.06, 0.5, label, transform=ax.transAxes, **style)
    widest = max(text_width(line, LABEL) for label in labels for line in label.split("\n"))
    if own and widest:
        _grow(axes[0].figure, widest + 8, 0)


def notes(axes, texts, width, own):
    """A line or more in small print below each picture."""
    for row, line in zip(axes, texts):
        line = [wrapped(text, width, NOTE) for text in line]
        for ax, text in zip(row, line):
            style = {"ha": "center", "va": "top", "fontsize": NOTE, "linespacing": 1.1}
            ax.text(0.5, -0.04, text, transform=ax.transAxes, **style)
        if own and any(line):
            _grow(row[0].figure, 0, 1.3 * NOTE * (1 + max(text.count("\n") for text in line)))


def largest_first(names, sizes, top, sort):
    """Of features, in the order of their sizes: the labels of lines, which have one, which share the last."""
    order = np.argsort(-sizes, kind="stable") if sort else np.arange(len(names))  # NaN comes last
    kept, others = order[:top], order[top:]
    labels = [names[i] for i in kept]
    if len(others):
        labels.append(f"sum of {len(others)} other{'s' * (len(others) > 1)}")
    return labels, kept, others


def with_rest(columns, kept, others):
    """The columns that are kept and, if there are others, their sum."""
    rest = np.nansum(columns[..., others], axis=-1, keepdims=True)
    return np.append(columns[..., kept], rest, axis=-1) if len(others) else columns[..., kept]


def lines_of(panel, labels):
    """A line for each label, the first one at the top."""
    panel.set(yticks=range(len(labels)), ylim=(len(labels) - 0.5, -0.5))
    panel.set_yticklabels([_shortened(label, WIDEST, LABEL) for label in labels], parse_math=False)
    panel.tick_params(axis="y", length=0)


def beside(panel, values, texts):
    """The number of each line, to the right of it; on yellow where it is missing."""
    for y, (value, text) in enumerate(zip(values, texts)):
        paper = NOT_FINITE if np.isnan(value) else "none"
        style = {"va": "center", "fontsize": "small", "backgroundcolor": paper}
        panel.text(1.02, y, text, transform=panel.get_yaxis_transform(), **style)


def trim(fig):
    """Cut off the bands of white that a layout leaves beside pictures that keep their proportions."""
    fig.draw_without_rendering()
    fig.set_size_inches(fig.get_tightbbox().size + 0.1)


def wrapped(text, width, size):
    """`text` in lines of at most `width` points, broken at spaces, and inside words that are wider."""
    lines = []
    for paragraph in text.split("\n"):
        line = ""
        for word in paragraph.split(" "):
            if line and text_width(f"{line} {word}", size) > width:
                lines.append(line)
                line = word
            else:
                line = f"{line} {word}" if line else word
            while len(line) > 1 and " " not in line and text_width(line, size) > width:
                fits = max(n for n in range(1, len(line)) if n == 1 or text_width(line[:n], size) <= width)
                lines.append(line[:fits])
                line = line[fits:]
        lines.append(line)
    return "\n".join(lines)


def _shortened(text, width, size):
    """`text`, or as much of it as `width` points hold and an ellipsis."""
    while len(text) > 2 and text_width(text, size) > width:
        text = text[: min(len(text) - 2, int(len(text) * width / text_width(text, size)))] + "\u2026"
    return text


def text_width(text, size):
    """In points."""
    return text_to_path.get_text_width_height_descent(text, FontProperties(size=size), ismath=False)[0]


def _grow(fig, across, down):
    fig.set_size_inches(fig.get_size_inches() + np.array([across, down]) / 72)


def frame(ax):
    """A thin line around a picture that may be as white as the paper."""
    line = {"fill": False, "edgecolor": "0.75", "linewidth": 0.8, "clip_on": False}
    ax.add_patch(Rectangle((0, 0), 1, 1, transform=ax.transAxes, **line))


def draw_map(ax, values, mappable):
    """A map, framed, as 0 is white. Where it shrinks, values are averaged."""
    frame(ax)
    return ax.imshow(values, cmap=mappable.cmap, norm=mappable.norm, interpolation_stage="data")


def symmetric(values, cmap, clip_above=100):
    """Colours on a scale from -limit to limit."""
    size = np.abs(values[np.isfinite(values)])
    limit = regions.threshold(size, 100 - checks.between("clip_above", clip_above, 0, 100)) or 1.0
    colours = matplotlib.colormaps.get_cmap(cmap).with_extremes(bad=NOT_FINITE)
    return ScalarMappable(Normalize(-limit, limit), colours)


def lighter(mappable, cut):
    """The same scale without so much of each dark end of its colours, for what is drawn on them."""
    colours = ListedColormap(mappable.cmap(np.linspace(cut, 1 - cut, 256)), "lighter")
    return ScalarMappable(mappable.norm, colours.with_extremes(bad=NOT_FINITE))


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
        across, size = 72 * fig.bbox.width / fig.dpi, FontProperties(size="small").get_size_in_points()
        widest = max(text_width(handle.get_label(), size) for handle in handles)
        columns = int(np.clip(across // (widest + 5 * size), 1, 3))
        entries = [wrapped(handle.get_label(), across - 5 * size, size) for handle in handles]
        fig.legend(**style, labels=entries, loc="outside lower center", ncols=columns)
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


def signed_alike(values):
    """The values as `signed` writes them, but all with the decimals that the largest has in three digits."""
    size = largest(values)
    if not 1e-3 <= size < 1e4:
        return [signed(value) for value in values]
    decimals = max(0, 2 - int(np.floor(np.log10(size))))
    texts = [f"{value:+.{decimals}f}" if value else "0" for value in np.nan_to_num(values)]
    return ["NaN" if np.isnan(v) else text.replace("-", "\u2212") for v, text in zip(values, texts)]


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
