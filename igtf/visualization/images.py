"""Attributions of images: maps, on their own or on the image that they explain."""

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import Colormap, to_rgb
from matplotlib.figure import FigureBase
from numpy.typing import ArrayLike

from igtf.visualization import areas, checks, figures, regions

__all__ = ["attribution_grid", "heatmap", "outlines", "overlay", "spotlight"]

GLOW = ("#35ff4d", "#ff4dff")  # positive, negative: visible on photographs
TINT = 0.75  # how much of the image the strongest attribution covers in `heatmap`
SCALES = {  # axes of [B, K, H, W] over which the largest is taken, and what the colour bar says
    "all": ((0, 1, 2, 3), "attribution"),
    "column": ((0, 2, 3), "share of the column's largest"),
    "each": ((2, 3), "share of the map's largest"),
}


def attribution_grid(
    samples: ArrayLike,
    attributions: ArrayLike | Sequence[ArrayLike],
    titles: str | Sequence[str] | None = None,
    *,
    labels: str | Sequence[str] | None = None,
    notes: Sequence[Sequence[str]] | None = None,
    scale: str = "all",
    cmap: str | Colormap = figures.CMAP,
    fig: FigureBase | None = None,
) -> FigureBase:
    """One row per sample: the sample, then its attribution maps, on symmetric scales.

    Args:
      samples: the images, shape `[B, H, W]` or `[B, H, W, C]`, or one without `B`. `C` is 1 or 3.
      attributions: one array that has the samples' shape (with any number of channels, or none);
        or a list of such arrays, one per column (one per class, say); or `[B, K, H, W]` or
        `[B, K, H, W, C]` with `K` columns, as `Explainer.explain(x, "all")` returns.
      titles: one per column of attributions. They are wrapped, and shrink, to the column's width.
      labels: one per sample, to the left of its row.
      notes: texts below the pictures: for each sample one for itself and one per column.
      scale: `"all"`: one scale for all maps. `"column"`: the maps of a column share one, for columns
        in different units. `"each"`: every map has its own.
      cmap: a diverging Matplotlib colour map.
      fig: a figure or subfigure to draw in, instead of a new one.

    Returns:
      The figure.

    Raises:
      ValueError: shapes or the number of titles, labels or notes do not match, or `cmap` or `scale`
        is unknown.
      TypeError: arrays do not hold real numbers, or an argument is of another type.

    The layout is that of the IntegratedGradientsTF and DeepExplain projects: rows of samples,
    columns of output units.

    >>> samples = np.eye(4)[None] * np.ones([3, 1, 1])
    >>> figure = attribution_grid(samples, [samples - 0.5, -samples], titles=["a", "b"])
    >>> len(figure.axes)  # 3 rows of 3 pictures, and the colour bar
    10
    """
    images = checks.images("samples", samples)
    columns = checks.columns("attributions", attributions, images)
    titles = checks.titles(titles, len(columns))
    labels = checks.titles(labels, len(images), "labels")
    lines = checks.table("notes", notes, len(images), 1 + len(columns))
    shared, unit = checks.choice("scale", scale, SCALES)
    shown = np.stack(columns, axis=1)
    if scale != "all":
        largest = np.fmax.reduce(np.abs(shown), axis=shared, keepdims=True, initial=0.0)
        shown = shown / np.where(largest > 0, largest, 1.0)
    mappable = figures.symmetric(shown, cmap)
    fig, axes, own, width = figures.panels(len(images), 1 + len(columns), images.shape, fig=fig)
    for row, image, maps in zip(axes, images, shown):
        row[0].imshow(figures.rgb(image))
        figures.frame(row[0])
        for ax, values in zip(row[1:], maps):
            figures.draw_map(ax, values, mappable)
    figures.headings(axes[0, 1:], titles, width, own)
    figures.row_labels(axes[:, 0], labels, own)
    figures.notes(axes, lines, width, own)
    figures.colour_bar(fig, axes, mappable, shown, unit)
    figures.legend(fig, axes, {**figures.remarks(shown), **figures.missing(images, "image: NaN or infinite")})
    if own:
        figures.trim(fig)
    return fig


def heatmap(
    attribution: ArrayLike,
    image: ArrayLike | None = None,
    *,
    titles: str | Sequence[str] | None = None,
    clip_above: float = 99.9,
    scale: str = "all",
    cmap: str | Colormap = figures.CMAP,
    ax: Axes | Sequence[Axes] | None = None,
) -> FigureBase:
    """Attribution maps with their colour bar, optionally printed on the image they explain.

    Args:
      attribution: shape `[H, W]`, `[H, W, C]`, `[B, H, W]` or `[B, H, W, C]`. A batch becomes a
        row of maps.
      image: the image, or batch of images, of the same height and width; a single image serves
        the whole batch. A light grey print of it shows through: attributions tint it, the more the
        larger they are, and the dark ends of `cmap` are left out.
      titles: one per map, wrapped to its width.
      clip_above: percentage in [0, 100]. The scale ends at the value above which the remaining
        share of the total absolute attribution lies, so that a few extreme pixels do not make the
        map pale. 100 shows the full range. Pointed ends of the colour bar tell what was clipped.
      scale: `"all"`: one scale for all maps. `"each"`: every map has its own, from -1 to 1.
      cmap: a diverging Matplotlib colour map.
      ax: axes to draw in, one per map, instead of a new figure.

    Returns:
      The figure.

    Raises:
      ValueError: shapes or counts do not match, `clip_above` is no percentage, unknown `cmap` or
        `scale`.
      TypeError: arrays do not hold real numbers, or an argument is of another type.

    >>> figure = heatmap([[1.0, -2.0], [0.0, 4.0]], clip_above=100)
    >>> figure.axes[0].images[0].get_clim()
    (-4.0, 4.0)
    """
    if image is None:
        maps = checks.attribution("attribution", attribution)
    else:
        images, columns = checks.image_and_columns(image, attribution)
        maps = np.concatenate(columns)
    titles = checks.titles(titles, len(maps))
    own_scales = checks.choice("scale", scale, {"all": False, "each": True})
    mappable, unit = figures.symmetric(maps, cmap, clip_above), "attribution"
    if own_scales:
        ends = [figures.symmetric(values, cmap, clip_above).norm.vmax for values in maps]
        maps, unit = maps / np.reshape(ends, [-1, 1, 1]), "share of the map's scale"
        mappable.set_clim(-1, 1)
    if image is not None:
        mappable = figures.lighter(mappable, 0.2)
    fig, axes, own, width = figures.panels(1, len(maps), maps.shape, ax=ax)
    for index, (panel, values) in enumerate(zip(axes.flat, maps)):
        figures.draw_map(panel, values, mappable)
        if image is not None:
            panel.imshow(_tinted(images[index % len(images)], values, mappable))
    figures.headings(axes.flat, titles, width, own)
    figures.colour_bar(fig, axes, mappable, maps, unit)
    figures.legend(fig, axes, figures.remarks(maps), own)
    if own:
        figures.trim(fig)
    return fig


def overlay(
    image: ArrayLike,
    attribution: ArrayLike | Sequence[ArrayLike],
    polarity: str = "positive",
    clip_above: float = 99.9,
    clip_below: float = 70.0,
    *,
    clean: int = 0,
    original: bool = False,
    blended: bool = True,
    titles: str | Sequence[str] | None = None,
    colours: tuple[str, str] = GLOW,
    ax: Axes | Sequence[Axes] | None = None,
) -> FigureBase:
    """Light up the pixels that carry the attribution, on a dimmed grey print of the image.

    Args:
      image: shape `[H, W]`, `[H, W, C]`, `[B, H, W]` or `[B, H, W, C]`; `C` is 1 or 3.
      attribution: one array that has the image's shape (with any number of channels, or none);
        or a list of such arrays, one per column. With a single image, a batch of attributions of
        that image counts as a list.
      polarity: `"positive"`, `"negative"` or `"both"`.
      clip_above, clip_below, clean: see `strength`, which decides what lights up and how much.
      original: show the image itself in the first column.
      blended: print on the image. `False` prints on black.
      titles: one per column of attributions.
      colours: of positive and of negative attribution. `("lime", "red")` is that of the project
        below; the default is a version of it for colour-blind readers.
      ax: axes to draw in, one per panel, instead of a new figure.

    Returns:
      The figure: a row per image, a column per attribution.

    Raises:
      ValueError: shapes or counts do not match, percentages are out of range, unknown polarity
        or colour.
      TypeError: arrays do not hold real numbers, or an argument is of another type.
      ImportError: `clean` is above 0, and SciPy is not installed.

    Follows the pictures of the project "Integrated Gradients" for the Inception network by the
    authors of "Axiomatic Attribution for Deep Networks" (Sundararajan et al., arXiv:1703.01365).

    >>> figure = overlay(np.ones([4, 4, 3]), np.eye(4), original=True)
    >>> [ax.get_title() for ax in figure.axes]
    ['original', '']
    """
    images, columns = checks.image_and_columns(image, attribution)
    titles = checks.titles(titles, len(columns))
    checks.choice("polarity", polarity, regions.MAGNITUDE)
    positive, negative = checks.colours(colours)
    options = polarity, clip_above, clip_below, clean

    def light(picture, values):
        shown = regions.strength(values, *options)
        base = np.repeat(0.45 * _gray(picture)[..., None], 3, axis=-1) * bool(blended)
        opacity = np.abs(np.nan_to_num(shown))[..., None]
        rgb = (1 - opacity) * base + opacity * np.where(shown[..., None] > 0, positive, negative)
        rgb[np.isnan(shown)] = to_rgb(figures.NOT_FINITE)
        return rgb

    entries = _signs(f"the pixels that carry {100 - clip_below:g} % of it", polarity, colours)
    return _prints(images, columns, light, entries, polarity, original, titles, ax)


def outlines(
    image: ArrayLike,
    attribution: ArrayLike | Sequence[ArrayLike],
    polarity: str = "positive",
    clip_above: float = 99.9,
    clip_below: float = 70.0,
    *,
    clean: int | None = None,
    share: float = 90.0,
    at_most: int = 3,
    original: bool = False,
    titles: str | Sequence[str] | None = None,
    colours: tuple[str, str] = GLOW,
    ax: Axes | Sequence[Axes] | None = None,
) -> FigureBase:
    """Draw a line around the largest connected regions that carry the attribution.

    Args:
      image, attribution, titles, colours, original, ax: as in `overlay`.
      polarity: `"positive"`, `"negative"` or `"both"` (regions of each sign on their own).
      clip_above, clip_below, clean: see `strength`, which decides what belongs to a region. If
        left out, `clean` is one percent of the shorter side, rounded.
      share, at_most: see `largest_regions`, which decides how many regions are kept.

    Returns:
      The figure: a row per image, a column per attribution.

    Raises:
      ValueError: shapes or counts do not match, numbers are out of range, unknown polarity
        or colour.
      TypeError: arrays do not hold real numbers, or an argument is of another type.
      ImportError: SciPy is not installed.

    The source is that of `overlay`.

    >>> figure = outlines(np.zeros([9, 9]), np.pad(np.ones([3, 3]), 3), clean=0)
    >>> line = np.isclose(figure.axes[0].images[0].get_array(), to_rgb("#35ff4d")).all(axis=-1)
    >>> int(line.sum())  # a square of 3 x 3 has 8 border pixels
    8
    """
    images, columns = checks.image_and_columns(image, attribution)
    titles = checks.titles(titles, len(columns))
    signs = checks.choice("polarity", polarity, {"positive": [1], "negative": [-1], "both": [1, -1]})
    paint = dict(zip([1, -1], checks.colours(colours)))
    if clean is None:
        clean = round(min(images.shape[1:3]) / 100)
    options = polarity, clip_above, clip_below, clean

    def draw(picture, values):
        shown = regions.strength(values, *options)
        rgb = np.repeat(0.8 * _gray(picture)[..., None], 3, axis=-1)
        for sign in signs:
            inside = regions.largest_regions(sign * shown, share, at_most)
            width = max(1, round(min(inside.shape) / 120))
            rgb[regions.border(inside, width)] = paint[sign]
        rgb[np.isnan(shown)] = to_rgb(figures.NOT_FINITE)
        return rgb

    entries = _signs("largest regions", polarity, colours)
    return _prints(images, columns, draw, entries, polarity, original, titles, ax)


def spotlight(
    image: ArrayLike,
    attribution: ArrayLike | Sequence[ArrayLike],
    percent: float = 30.0,
    polarity: str = "positive",
    *,
    original: bool = False,
    titles: str | Sequence[str] | None = None,
    colour: str = GLOW[0],
    ax: Axes | Sequence[Axes] | None = None,
) -> FigureBase:
    """Show of an image the least area that carries a percentage of the attribution, and fade the rest.

    Args:
      image, titles, original, ax: as in `overlay`.
      attribution: as in `overlay`; what `xrai` returns shows whole segments.
      percent, polarity: see `least_area`, which decides what is shown.
      colour: of the line around the area.

    Returns:
      The figure: a row per image, a column per attribution.

    Raises:
      ValueError: shapes or counts do not match, the percentage is out of range, unknown polarity or colour.
      TypeError: arrays do not hold real numbers, or an argument is of another type.
      ImportError: SciPy is not installed.

    The way in which Kapishnikov et al. (arXiv:1906.02825) show areas.

    >>> figure = spotlight(np.zeros([9, 9]), np.pad(np.ones([3, 3]), 3), percent=100)
    >>> shown = figure.axes[0].images[0].get_array()
    >>> int((shown == 0).all(axis=-1).sum()), shown[0, 0].round(2).tolist()  # 9 pixels, 8 of them border
    (1, [0.65, 0.65, 0.65])
    """
    images, columns = checks.image_and_columns(image, attribution)
    titles = checks.titles(titles, len(columns))
    checks.choice("polarity", polarity, regions.MAGNITUDE)
    (line,) = checks.colours([colour, colour])[:1]

    def draw(picture, values):
        area = areas.least_area(values, percent, polarity)
        paper = np.repeat(0.65 + 0.35 * _gray(picture)[..., None], 3, axis=-1)
        rgb = np.where(area[..., None], np.broadcast_to(figures.rgb(picture), paper.shape), paper)
        rgb[regions.border(area, max(1, round(min(area.shape) / 120)))] = line
        rgb[np.isnan(values)] = to_rgb(figures.NOT_FINITE)
        return rgb

    said = {"both": "attribution of either sign"}.get(polarity, f"{polarity} attribution")
    entries = {f"{percent:g} % of the {said}": colour}
    return _prints(images, columns, draw, entries, polarity, original, titles, ax)


def _signs(what, polarity, colours):
    return {
        f"{sign} attribution ({what})": colour
        for sign, colour in zip(["positive", "negative"], colours)
        if polarity in (sign, "both")
    }


def _prints(images, columns, draw, entries, polarity, original, titles, ax):
    """A row per image: the image if `original`, and what `draw` makes of it and each column."""
    entries |= figures.remarks(np.stack(columns), polarity)
    fig, axes, own, width = figures.panels(len(images), bool(original) + len(columns), images.shape, ax=ax)
    for index, (row, image) in enumerate(zip(axes, images)):
        if original:
            row[0].imshow(figures.rgb(image))
        for panel, maps in zip(row[bool(original) :], columns):
            panel.imshow(draw(image, maps[index]))
    figures.headings(axes[0], ["original"] * bool(original) + titles, width, own)
    if original:
        entries |= figures.missing(images, "image: NaN or infinite")
    figures.legend(fig, axes, entries, own)
    if own:
        figures.trim(fig)
    return fig


def _tinted(image, values, mappable):
    """A light grey print of the image, in the colours of the values."""
    strength = np.clip(np.abs(values) / mappable.norm.vmax, 0, 1)
    opacity = np.where(np.isnan(strength), 1.0, TINT * strength)[..., None]
    paper = 0.4 + 0.6 * _gray(image)[..., None]
    return (1 - opacity) * paper + opacity * mappable.to_rgba(np.ma.masked_invalid(values))[..., :3]


def _gray(image):
    """`[..., 1 or 3]` to `[...]`."""
    return np.nan_to_num(image[..., 0] if image.shape[-1] == 1 else image @ figures.LUMINANCE)
