"""Pictures of attributions: arrays in, Matplotlib figures (or arrays) out. No TensorFlow.

Every picture keeps the same few promises:

* Scales of signed values are symmetric around 0. In maps, bars and text red speaks for the output
  and blue against it; on photographs, green and magenta do. Colour-blind readers can tell these
  apart as well; `cmap` and `colours` take others, such as `"PuOr"`.
* Images may be grayscale or RGB, of any value range: `uint8` counts to 255, values in 0..1 stay
  as they are, anything else is stretched from its minimum to its maximum.
* Values that are NaN or infinite are drawn in yellow, and the legend counts them. It also says so
  when there is nothing to see because everything is 0.
* Figures never enter pyplot's list of open figures, so nothing has to be closed, and they display
  themselves in a notebook. Save one with `figure.savefig("name.png")`.

Shapes: `H` and `W` are height and width, `C` is the number of channels, `B` the rows of a batch.
Pixels of an image are `[H, W]`, `[H, W, C]`, `[B, H, W]` or `[B, H, W, C]`; three dimensions mean
one image with channels when the last one is 1 or 3, and a grayscale batch otherwise. Attributions
of the channels of a pixel are summed, as the sum is what the pixel contributes to the output.
Other input raises `ValueError` (shapes, ranges; the message holds the shapes) or `TypeError`.
"""

from __future__ import annotations

import html
import io
import warnings
from collections.abc import Sequence
from numbers import Integral, Real
from pathlib import Path

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Colormap, Normalize, to_hex, to_rgb
from matplotlib.figure import Figure, FigureBase
from matplotlib.font_manager import FontProperties
from matplotlib.patches import FancyBboxPatch, Patch, Rectangle
from matplotlib.textpath import text_to_path
from matplotlib.ticker import MaxNLocator
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import ArrayLike
from PIL import Image  # comes with Matplotlib

__all__ = [
    "attribution_grid",
    "heatmap",
    "overlay",
    "outlines",
    "strength",
    "largest_regions",
    "animate_path",
    "path_plot",
    "highlight_text",
    "bar",
    "convergence_plot",
]

CMAP = "seismic"  # blue, white, red
COLOURS = ("#e8382c", "#2f8be8")  # bars that are positive, negative
GLOW = ("#35ff4d", "#ff4dff")  # the same, visible on photographs
CURVES = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#000000")  # Okabe-Ito
NOT_FINITE = "#ffd500"
FAINTEST = 0.2  # strength of the weakest pixel that is shown


def attribution_grid(
    samples: ArrayLike,
    attributions: ArrayLike | Sequence[ArrayLike],
    titles: str | Sequence[str] | None = None,
    *,
    cmap: str | Colormap = CMAP,
    fig: FigureBase | None = None,
) -> FigureBase:
    """One row per sample: the sample, then its attribution maps, all on one symmetric scale.

    Args:
      samples: the images, shape `[B, H, W]` or `[B, H, W, C]`, or one without `B`. `C` is 1 or 3.
      attributions: one array that has the samples' shape (with any number of channels, or none);
        or a list of such arrays, one per column (one per class, say).
      titles: one per column of attributions.
      cmap: a diverging Matplotlib colour map.
      fig: a figure or subfigure to draw in, instead of a new one.

    Returns:
      The figure.

    Raises:
      ValueError: shapes or the number of titles do not match, or `cmap` is unknown.
      TypeError: arrays do not hold real numbers, or an argument is of another type.

    The layout is that of the IntegratedGradientsTF and DeepExplain projects: rows of samples,
    columns of output units.

    >>> samples = np.eye(4)[None] * np.ones([3, 1, 1])
    >>> figure = attribution_grid(samples, [samples - 0.5, -samples], titles=["a", "b"])
    >>> len(figure.axes)  # 3 rows of 3 pictures, and the colour bar
    10
    """
    images = _images("samples", samples)
    columns = _columns("attributions", attributions, images)
    titles = _titles(titles, len(columns))
    shown = np.stack(columns, axis=1)
    mappable = _symmetric(shown, cmap)
    fig, axes = _panels(len(images), 1 + len(columns), images.shape, fig=fig)
    for row, image, maps in zip(axes, images, shown):
        row[0].imshow(_rgb(image))
        for ax, values in zip(row[1:], maps):
            _map(ax, values, mappable)
    for ax, title in zip(axes[0, 1:], titles):
        _title(ax, title)
    _colour_bar(fig, axes, mappable, shown)
    _legend(fig, axes, {**_remarks(shown), **_missing(images, "image: NaN or infinite")})
    return fig


def heatmap(
    attribution: ArrayLike,
    image: ArrayLike | None = None,
    *,
    titles: str | Sequence[str] | None = None,
    clip_above: float = 99.9,
    cmap: str | Colormap = CMAP,
    ax: Axes | Sequence[Axes] | None = None,
) -> FigureBase:
    """Attribution maps with their colour bar, optionally printed on the image they explain.

    Args:
      attribution: shape `[H, W]`, `[H, W, C]`, `[B, H, W]` or `[B, H, W, C]`. A batch becomes a
        row of maps on one scale.
      image: the image, or batch of images, of the same height and width; a single image serves
        the whole batch. Its shades darken the map, hues stay readable on the colour bar.
      titles: one per map.
      clip_above: percentage in [0, 100]. The scale ends at the value above which the remaining
        share of the total absolute attribution lies, so that a few extreme pixels do not make the
        map pale. 100 shows the full range. Pointed ends of the colour bar tell what was clipped.
      cmap: a diverging Matplotlib colour map.
      ax: axes to draw in, one per map, instead of a new figure.

    Returns:
      The figure.

    Raises:
      ValueError: shapes or counts do not match, `clip_above` is no percentage, unknown `cmap`.
      TypeError: arrays do not hold real numbers, or an argument is of another type.

    >>> figure = heatmap([[1.0, -2.0], [0.0, 4.0]], clip_above=100)
    >>> figure.axes[0].images[0].get_clim()
    (-4.0, 4.0)
    """
    if image is None:
        maps = _attribution("attribution", attribution)
    else:
        images, columns = _image_and_columns(image, attribution)
        maps = np.concatenate(columns)
    titles = _titles(titles, len(maps))
    mappable = _symmetric(maps, cmap, clip_above)
    fig, axes = _panels(1, len(maps), maps.shape, ax=ax)
    for index, (panel, values) in enumerate(zip(axes.flat, maps)):
        _map(panel, values, mappable)
        if image is not None:
            shade = np.zeros([*values.shape, 4])
            shade[..., 3] = 0.6 * (1 - _gray(images[index % len(images)]))
            panel.imshow(shade)
        _title(panel, titles[index])
    _colour_bar(fig, axes, mappable, maps)
    _legend(fig, axes, _remarks(maps), own=ax is None)
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

    Follows the pictures of the project "Integrated Gradients" for the Inception network by the
    authors of "Axiomatic Attribution for Deep Networks" (Sundararajan et al., arXiv:1703.01365).

    >>> figure = overlay(np.ones([4, 4, 3]), np.eye(4), original=True)
    >>> [ax.get_title() for ax in figure.axes]
    ['original', '']
    """
    images, columns = _image_and_columns(image, attribution)
    titles = _titles(titles, len(columns))
    positive, negative = _colours(colours)
    options = polarity, clip_above, clip_below, clean

    def light(picture, values):
        shown = strength(values, *options)
        base = np.repeat(0.45 * _gray(picture)[..., None], 3, axis=-1) * bool(blended)
        opacity = np.abs(np.nan_to_num(shown))[..., None]
        rgb = (1 - opacity) * base + opacity * np.where(shown[..., None] > 0, positive, negative)
        rgb[np.isnan(shown)] = to_rgb(NOT_FINITE)
        return rgb

    return _prints(
        images,
        columns,
        light,
        original,
        titles,
        ax,
        {
            **_key(f"top {100 - clip_below:g} %", polarity, colours),
            **_remarks(np.stack(columns), polarity),
        },
    )


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

    The source is that of `overlay`.

    >>> figure = outlines(np.zeros([9, 9]), np.pad(np.ones([3, 3]), 3), clean=0)
    >>> line = np.isclose(figure.axes[0].images[0].get_array(), to_rgb(GLOW[0])).all(axis=-1)
    >>> int(line.sum())  # a square of 3 x 3 has 8 border pixels
    8
    """
    images, columns = _image_and_columns(image, attribution)
    titles = _titles(titles, len(columns))
    signs = _choice("polarity", polarity, {"positive": [1], "negative": [-1], "both": [1, -1]})
    paint = dict(zip([1, -1], _colours(colours)))
    if clean is None:
        clean = round(min(images.shape[1:3]) / 100)
    options = polarity, clip_above, clip_below, clean

    def draw(picture, values):
        shown = strength(values, *options)
        rgb = np.repeat(0.8 * _gray(picture)[..., None], 3, axis=-1)
        for sign in signs:
            inside = largest_regions(np.maximum(sign * np.nan_to_num(shown), 0), share, at_most)
            width = max(1, round(min(inside.shape) / 120))
            rgb[inside & ~_window(inside, width, np.min)] = paint[sign]
        rgb[np.isnan(shown)] = to_rgb(NOT_FINITE)
        return rgb

    return _prints(
        images,
        columns,
        draw,
        original,
        titles,
        ax,
        {
            **_key("largest regions", polarity, colours),
            **_remarks(np.stack(columns), polarity),
        },
    )


def strength(
    attribution: ArrayLike,
    polarity: str = "positive",
    clip_above: float = 99.9,
    clip_below: float = 70.0,
    clean: int = 0,
) -> np.ndarray:
    """How strongly each pixel shows: from 0.2 to 1 for those that carry the attribution, else 0.

    Percentiles are by share of the total attribution, not by number of pixels. With the pixels
    sorted by magnitude, the largest first, the strength is 1 down to the pixel at which their sum
    reaches `100 - clip_above` percent of the total, and falls linearly to 0.2 at the pixel where
    it reaches `100 - clip_below` percent. Weaker pixels are 0. So the default shows the pixels
    that make up the top 30 % of the attribution.

    Args:
      attribution: shape `[H, W]`, `[H, W, C]`, `[B, H, W]` or `[B, H, W, C]`. Every row of a
        batch is on its own scale.
      polarity: the part that counts: `"positive"`, `"negative"` or `"both"` on one scale.
      clip_above, clip_below: percentages in [0, 100], `clip_below <= clip_above`.
      clean: specks and pinholes up to `2 * clean` pixels wide disappear: a grey closing, then an
        opening, with a square of `2 * clean + 1` pixels. 0 leaves them.

    Returns:
      Shape `[H, W]` or `[B, H, W]`, in [-1, 1], with the sign of the attribution; NaN where that
      is not finite.

    Raises:
      ValueError: the shape or a number is out of range, or the polarity is unknown.
      TypeError: the array does not hold real numbers, or an argument is of another type.

    The linear transform of the project "Integrated Gradients" (see `overlay`).

    The total below is 10. The pixel with 4 alone holds 40 % of it, and the pixels down to 2 hold
    90 %, so strengths run from 1 at 4 to 0.2 at 2.

    >>> strength([[4, 3], [2, 1]], clip_above=60, clip_below=10)
    array([[1. , 0.6],
           [0.2, 0. ]])
    """
    magnitude = _choice("polarity", polarity, _MAGNITUDE)
    _between("clip_above", clip_above, 0, 100)
    _between("clip_below", clip_below, 0, 100)
    if clip_below > clip_above:
        raise ValueError(
            f"clip_below is {clip_below} and clip_above is {clip_above}; expected clip_below <= "
            "clip_above: swap them"
        )
    _whole("clean", clean, 0)
    maps = _attribution("attribution", attribution)
    shown = np.zeros_like(maps)
    for values, result in zip(maps, shown):
        size = magnitude(values)
        finite = size[np.isfinite(size)]
        upper, lower = _threshold(finite, 100 - clip_above), _threshold(finite, 100 - clip_below)
        ramp = (np.clip(size, lower, upper) - lower) / (upper - lower) if upper > lower else 1.0
        level = np.where((size >= lower) & (size > 0), FAINTEST + (1 - FAINTEST) * ramp, 0.0)
        for sign in (1, -1):
            result += sign * _cleaned(np.where(np.sign(values) == sign, level, 0.0), clean)
        result[np.isnan(values)] = np.nan
    return shown if _is_batch(attribution) else shown[0]


def largest_regions(shown: ArrayLike, share: float = 90.0, at_most: int = 3) -> np.ndarray:
    """The largest connected regions of positive pixels, with their holes filled.

    Args:
      shown: shape `[H, W]`, what each pixel counts; see `strength`. A region is a set of pixels
        above 0 that touch at a side or corner, and its size is their sum.
      share: percentage in [0, 100]. Regions are kept, the largest first, until their sum reaches
        this share of the total.
      at_most: number of regions to keep at most, at least 1.

    Returns:
      A boolean mask of shape `[H, W]`.

    Raises:
      ValueError: the shape or a number is out of range.
      TypeError: the array does not hold real numbers, or an argument is of another type.

    >>> largest_regions([[0, 9, 0, 0], [0, 9, 0, 2]], at_most=1).astype(int)
    array([[0, 1, 0, 0],
           [0, 1, 0, 0]])
    """
    shown = _numbers("shown", shown)
    if shown.ndim != 2 or not shown.size:
        raise ValueError(_shape("shown", shown, "[H, W]", "pass one image at a time"))
    _between("share", share, 0, 100)
    _whole("at_most", at_most, 1)
    shown = np.maximum(np.nan_to_num(shown), 0)
    mask = _filled(shown > 0)
    _, labels = np.unique(_regions(mask, diagonals=True)[mask], return_inverse=True)
    sums = np.bincount(labels, weights=shown[mask])
    order = np.argsort(-sums, kind="stable")
    enough = 1 + np.searchsorted(np.cumsum(sums[order]), sums.sum() * share / 100 * (1 - 1e-12))
    kept = np.zeros_like(mask)
    kept[mask] = np.isin(labels, order[: min(enough, at_most)])
    return kept


def animate_path(
    frames: ArrayLike,
    path: str | Path,
    alphas: ArrayLike | None = None,
    outputs: ArrayLike | None = None,
    inputs: ArrayLike | None = None,
    *,
    fps: float = 10.0,
    clip_above: float = 99.9,
    cmap: str | Colormap = CMAP,
    label: str = "attribution",
) -> Path:
    """Write a GIF that walks from the baseline to the input, one frame per step.

    Args:
      frames: the map at each step, shape `[S, ...]` for `S` steps, where `...` is `[H, W]`,
        `[H, W, C]`, `[B, H, W]` or `[B, H, W, C]`: the interior gradients, or the attribution
        building up (`np.cumsum` of the contributions along axis 0).
      path: the file to write; ends in `.gif`.
      alphas: shape `[S]`, where the steps lie between baseline (0) and input (1). Evenly spaced
        from 0 to 1 if left out.
      outputs: F(alpha), shape `[S]` or `[S, B]`. Shown as a number, and as a curve being drawn.
      inputs: the images along the path, shape as `frames`, with 1 or 3 channels or none. Shown
        beside the maps.
      fps: frames per second, above 0.
      clip_above: as in `heatmap`, for all frames together.
      cmap: a diverging Matplotlib colour map.
      label: what the maps show, for the colour bar: `"gradient"`, for one.

    Returns:
      The path of the file.

    Raises:
      ValueError: shapes do not match, a number is out of range, another file type, unknown `cmap`.
      TypeError: arrays do not hold real numbers, or an argument is of another type.

    Interior gradients: "Gradients of Counterfactuals" (Sundararajan et al., arXiv:1611.02639).

    >>> import tempfile
    >>> frames = np.linspace(0, 1, 5)[:, None, None] * np.eye(4)
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     animate_path(frames, Path(folder) / "path.gif", outputs=[0, 1, 3, 4, 4]).name
    'path.gif'
    """
    frames = _numbers("frames", frames)
    if frames.ndim < 3 or not frames.size:
        raise ValueError(_shape("frames", frames, f"[S, ...] with ... {_PIXELS}", "stack the maps"))
    steps = len(frames)
    batch = _is_batch(frames[0])
    maps = np.stack([_attribution("frames", frame) for frame in frames])
    alphas = np.linspace(0, 1, steps) if alphas is None else _vector("alphas", alphas, steps)
    if outputs is not None:
        expected = [(steps, maps.shape[1])] + [(steps,)] * (maps.shape[1] == 1)
        outputs = _one_of("outputs", outputs, expected).reshape(maps.shape[:2])
    if inputs is not None:
        plain = maps.shape if batch else maps.shape[:1] + maps.shape[2:]
        numbers = _one_of("inputs", inputs, [plain, (*plain, 1), (*plain, 3)])
        inputs = _unit(numbers.reshape([*maps.shape, -1]), np.asarray(inputs).dtype, (0, 2, 3, 4))
    path = Path(path)
    if path.suffix.lower() != ".gif":
        raise ValueError(f"path is {str(path)!r}; expected a name that ends in .gif: rename it")
    if _between("fps", fps, 0, np.inf) == 0:
        raise ValueError("fps is 0; expected a number above 0, e.g. 10")
    (label,) = _titles(label, 1, "label")

    mappable = _symmetric(maps, cmap, clip_above)
    fig, axes = _panels(maps.shape[1], 1 + (inputs is not None) + (outputs is not None), maps.shape[1:])
    updates = []
    for index, row in enumerate(axes):
        updates.append(_moving(_map(row[-1], maps[0, index], mappable), maps[:, index]))
        if inputs is not None:
            pictures = _rgb(inputs[:, index])
            updates.append(_moving(row[0].imshow(pictures[0]), pictures))
        if outputs is not None:
            updates.append(_growing(row[-2], alphas, outputs[:, index]))
    _colour_bar(fig, axes, mappable, maps, label)
    _legend(fig, axes, _remarks(maps))
    heading = axes[0, -1].set_title(" ", family="monospace", fontsize="medium")
    fig.draw_without_rendering()
    fig.set_layout_engine("none")  # so that nothing moves between frames
    canvas, pictures = FigureCanvasAgg(fig), []
    for step, alpha in enumerate(alphas):
        heading.set_text(f"step {step + 1:{len(str(steps))}} of {steps}   \u03b1 = {alpha:.3f}")
        for update in updates:
            update(step)
        canvas.draw()
        pictures.append(np.array(canvas.buffer_rgba())[..., :3])
    _write_gif(path, pictures, mappable.cmap, fps)
    return path


def path_plot(
    alphas: ArrayLike,
    outputs: ArrayLike,
    contributions: ArrayLike | None = None,
    *,
    labels: str | Sequence[str] | None = None,
    ax: Axes | Sequence[Axes] | None = None,
) -> FigureBase:
    """F along the path and, below it, where on the path the attribution accrues.

    Args:
      alphas: shape `[S]`, rising from 0 (baseline) to 1 (input).
      outputs: F(alpha), shape `[S]`, or `[S, K]` for `K` curves (rows of a batch, or classes).
      contributions: what each step adds to the attribution, summed over the features; shape as
        `outputs` for methods with one point per step, or one row less for methods with one step
        per interval between points. Drawn as density (contribution per unit of alpha), and added
        up beside F, with which it coincides when the attributions are complete.
      labels: one per curve.
      ax: axes to draw in, instead of a new figure: two with contributions, else one.

    Returns:
      The figure.

    Raises:
      ValueError: shapes or counts do not match, or `alphas` do not rise.
      TypeError: arrays do not hold real numbers, or an argument is of another type.

    Completeness: "Axiomatic Attribution for Deep Networks" (Sundararajan et al.,
    arXiv:1703.01365), proposition 1.

    >>> alphas = np.linspace(0, 1, 11)
    >>> figure = path_plot(alphas, alphas**2, np.diff(alphas**2))
    >>> [line.get_label() for line in figure.axes[0].lines]
    ['F(\u03b1)', 'F(0) + attribution so far']
    """
    alphas = _vector("alphas", alphas)
    if len(alphas) < 2 or not (np.diff(alphas) > 0).all():
        raise ValueError(
            f"alphas has shape {alphas.shape} and values {alphas}; expected at least 2 numbers "
            "that rise: sort the steps"
        )
    outputs = _curves("outputs", outputs, [len(alphas)])
    labels = _titles(labels, outputs.shape[1], "labels")
    parts = np.zeros([0, outputs.shape[1]])
    if contributions is not None:
        parts = _curves("contributions", contributions, [len(alphas), len(alphas) - 1])
        if parts.shape[1] != outputs.shape[1]:
            columns = f"{outputs.shape[1]} columns, as outputs"
            raise ValueError(_shape("contributions", parts, columns, "pass one per curve"))
    fig, axes = _plots(1 + (contributions is not None), ax)
    for index, (output, label) in enumerate(zip(outputs.T, labels)):
        colour = CURVES[index % len(CURVES)]
        name = f"{label}: " if label else ""
        axes[0].plot(alphas, output, color=colour, label=f"{name}F(\u03b1)", linewidth=2)
        _mark_missing(axes[0], alphas, output)
        if contributions is not None:
            so_far, where, density = _accrual(alphas, output, parts[:, index])
            accrued = "_" if index else f"F({alphas[0]:.2g}) + attribution so far"
            axes[0].plot(alphas, so_far, color="black", dashes=(1, 1.5), linewidth=2, label=accrued)
            axes[1].plot(where, density, color=colour, linewidth=1.5)
            _mark_missing(axes[1], where, density)
            axes[1].fill_between(where, density, color=colour, alpha=0.2, linewidth=0)
    for panel, name in zip(axes, ["F(\u03b1)", "attribution per\nunit of \u03b1"]):
        panel.set_ylabel(name)
        panel.set_xlim(min(0, alphas[0]), max(1, alphas[-1]))
    _legend(fig, axes, _missing(np.append(outputs, parts)), own=ax is None)
    axes[-1].set_xlabel("\u03b1  (0: baseline, 1: input)")
    return fig


def highlight_text(
    tokens: Sequence[str] | Sequence[Sequence[str]],
    scores: ArrayLike | Sequence[ArrayLike],
    output: str = "html",
    *,
    cmap: str | Colormap = CMAP,
    ax: Axes | None = None,
) -> str | FigureBase:
    """Tokens on a background that tells how much each speaks for or against the output.

    Args:
      tokens: the `T` tokens of a text, or a list of texts. They are escaped, not interpreted.
      scores: one number per token, shape `[T]`; for several texts a list of such arrays. Sum
        attributions of embeddings over the embedding's axis first.
      output: `"html"`, a string that displays itself in a notebook, or `"figure"`. Matplotlib
        knows only the characters of its font, a browser knows all.
      cmap: a diverging Matplotlib colour map.
      ax: axes to draw the figure in, instead of a new figure.

    Returns:
      The HTML, or the figure.

    Raises:
      ValueError: lengths do not match, or `output` or `cmap` is unknown.
      TypeError: a token is no string, scores are no real numbers, or an argument is of another
        type.

    >>> "&lt;b&gt;" in highlight_text(["a", "<b>"], [0.5, -1.0])
    True
    >>> figure = highlight_text(["not", "bad"], [-0.2, 0.7], "figure")
    """
    draw = _choice("output", output, {"html": _text_html, "figure": _text_figure})
    texts = _texts(tokens, scores)
    mappable = _symmetric(np.concatenate([values for _, values in texts]), cmap)
    if output == "html" and ax is not None:
        raise ValueError('ax was given and output is "html"; pass output="figure" to draw in axes')
    return draw(texts, mappable, ax)


def bar(
    names: Sequence[str],
    scores: ArrayLike,
    *,
    top: int = 15,
    colours: tuple[str, str] = COLOURS,
    ax: Axes | None = None,
) -> FigureBase:
    """Attributions of named features, the largest magnitude first.

    Args:
      names: one per feature.
      scores: shape `[F]`, or `[B, F]` for a batch: bars then show the mean over the rows that are
        finite, and dots show the rows.
      top: how many features to draw, at least 1. The sum of the others gets a bar of its own, so
        that the bars still add up to the total.
      colours: of positive and of negative scores.
      ax: axes to draw in, instead of a new figure.

    Returns:
      The figure.

    Raises:
      ValueError: lengths do not match, `top` is below 1, or a colour is unknown.
      TypeError: a name is no string, scores are no real numbers, or an argument is of another
        type.

    >>> figure = bar(["age", "income", "city"], [0.2, -0.7, 0.1], top=2)
    >>> [label.get_text() for label in figure.axes[0].get_yticklabels()]
    ['income', 'age', 'sum of 1 other']
    """
    names = _strings("names", names)
    rows = _numbers("scores", scores)
    if rows.ndim not in (1, 2) or not rows.size or rows.shape[-1] != len(names):
        expected = f"[{len(names)}] or [B, {len(names)}] for the {len(names)} names"
        raise ValueError(_shape("scores", rows, expected, "pass one score per name"))
    _whole("top", top, 1)
    paint = dict(zip([1, -1, 0], [*_colours(colours), "black"]))
    batch, rows = rows.ndim == 2, np.atleast_2d(rows)
    count = np.isfinite(rows).sum(axis=0)
    means = np.nansum(rows, axis=0) / np.where(count, count, np.nan)
    order = np.argsort(-np.abs(means), kind="stable")  # NaN comes last
    kept, others = order[:top], order[top:]
    labels, means_kept, dots = [names[i] for i in kept], means[kept], rows[:, kept]
    if len(others):
        labels.append(f"sum of {len(others)} other{'s' * (len(others) > 1)}")
        means_kept = np.append(means_kept, np.nansum(means[others]))
        dots = np.column_stack([dots, np.nansum(rows[:, others], axis=1)])
    fig, axes = _plots(1, ax, height=0.8 + 0.28 * len(labels))
    panel, place = axes[0], np.arange(len(labels))
    signs = np.sign(np.nan_to_num(means_kept))
    panel.barh(place, np.nan_to_num(means_kept), color=[paint[sign] for sign in signs], height=0.7)
    if batch:
        panel.plot(dots.T, place, ".", color="black", alpha=0.4, markersize=4, zorder=3)
    for y, mean in zip(place, means_kept):
        paper = NOT_FINITE if np.isnan(mean) else "none"
        style = {"va": "center", "fontsize": "small", "backgroundcolor": paper}
        panel.text(1.02, y, _signed(mean), transform=panel.get_yaxis_transform(), **style)
    panel.axvline(0, color="black", linewidth=0.8)
    limit = 1.05 * (_largest(dots if batch else means_kept) or 1.0)
    panel.set(xlim=(-limit, limit), ylim=(len(labels) - 0.5, -0.5), yticks=place)
    panel.set_yticklabels(labels, parse_math=False)
    panel.tick_params(axis="y", length=0)
    panel.set_xlabel("attribution" + f" (bars: mean of {len(rows)} rows, dots: rows)" * batch)
    _legend(fig, axes, _remarks(rows), own=ax is None)
    return fig


def convergence_plot(
    steps: ArrayLike,
    errors: ArrayLike,
    *,
    labels: str | Sequence[str] | None = None,
    ax: Axes | None = None,
) -> FigureBase:
    """How an error, such as the convergence delta, falls with the number of steps.

    Args:
      steps: numbers of steps, shape `[N]`, above 0.
      errors: shape `[N]`, or `[N, K]` for `K` methods. Both axes are logarithmic, so the absolute
        value is drawn; an error of exactly 0 is drawn as a triangle on the floor.
      labels: one per method.
      ax: axes to draw in, instead of a new figure.

    Returns:
      The figure.

    Raises:
      ValueError: shapes or counts do not match, or a number of steps is not above 0.
      TypeError: arrays do not hold real numbers, or an argument is of another type.

    >>> steps = np.array([10, 20, 50, 100])
    >>> figure = convergence_plot(steps, np.stack([1 / steps, 1 / steps**2], axis=1),
    ...                           labels=["left", "middle"])
    >>> figure.axes[0].get_yscale()
    'log'
    """
    steps = _vector("steps", steps)
    if not (steps > 0).all():
        raise ValueError(f"steps is {steps}; expected numbers above 0: drop the others")
    errors = np.abs(_curves("errors", errors, [len(steps)]))
    labels = _titles(labels, errors.shape[1], "labels")
    order = np.argsort(steps, kind="stable")
    steps, errors = steps[order], errors[order]
    positive = errors[errors > 0]
    floor = positive.min() / 3 if positive.size else 1e-16
    fig, axes = _plots(1, ax, height=3.4)
    panel = axes[0]
    panel.set(xscale="log", yscale="log")
    for index, (error, label) in enumerate(zip(errors.T, labels)):
        colour, marker = CURVES[index % len(CURVES)], "osD^v<>"[index % 7]
        some, zero = np.where(error > 0, error, np.nan), steps[error == 0]
        panel.plot(steps, some, color=colour, marker=marker, markersize=5, label=label or "_")
        panel.plot(zero, np.full_like(zero, floor), color=colour, marker=7, linestyle="none")
        _mark_missing(panel, steps, error)
    if len(steps) <= 12:
        panel.set_xticks(steps, [f"{step:g}" for step in steps])
        panel.minorticks_off()
    panel.set(xlabel="number of steps", ylabel="absolute error")
    panel.grid(True, alpha=0.3)
    exact = {"triangles on the floor: exactly 0": None} if (errors == 0).any() else {}
    _legend(fig, axes, {**exact, **_missing(errors)}, own=ax is None)
    return fig


# Figures and axes ---------------------------------------------------------------------------------


class _Figure(Figure):
    """A figure that displays itself in notebooks without being known to pyplot."""

    def _repr_png_(self) -> bytes:
        stream = io.BytesIO()
        self.savefig(stream, format="png")
        return stream.getvalue()


class _Html(str):
    """A string that notebooks display as HTML."""

    def _repr_html_(self) -> str:
        return str(self)


def _panels(rows, columns, shape, fig=None, ax=None):
    """A grid of axes, without ticks and frames, for pictures of `shape` `[B, H, W, ...]`."""
    if ax is not None:
        axes = _given(ax, rows * columns).reshape(rows, columns)
        fig = axes[0, 0].figure
    else:
        if fig is None:
            aspect = np.clip(shape[1] / shape[2], 0.2, 5)
            width = np.clip(min(9.5 / columns, 8 / rows / aspect), 0.85, 4)
            height = width * aspect
            fig = _Figure((columns * width + 0.9, rows * height + 0.9), layout="compressed")
        elif not isinstance(fig, FigureBase):
            raise TypeError(f"fig is a {type(fig).__name__}; expected a Matplotlib figure")
        axes = fig.subplots(rows, columns, squeeze=False)
    for panel in axes.flat:
        panel.set_axis_off()
    return fig, axes


def _plots(count, ax, height=4.0):
    """`count` axes for curves, one below the other."""
    if ax is not None:
        axes = _given(ax, count)
        fig = axes[0].figure
    else:
        fig = _Figure((6.4, height), layout="constrained")
        ratios = [2, 1][:count]
        axes = fig.subplots(count, sharex=True, squeeze=False, height_ratios=ratios).ravel()
    for panel in axes:
        panel.spines[["top", "right"]].set_visible(False)
    return fig, axes


def _given(ax, count):
    axes = np.array(ax, dtype=object).ravel()
    for each in axes:
        if not isinstance(each, Axes):
            raise TypeError(f"ax holds a {type(each).__name__}; expected Matplotlib axes")
    if len(axes) != count:
        raise ValueError(f"ax holds {len(axes)} axes; expected {count}: pass fig.subplots({count})")
    return axes


def _prints(images, columns, draw, original, titles, ax, entries):
    """A row per image: the image if `original`, and what `draw` makes of it and each column."""
    fig, axes = _panels(len(images), bool(original) + len(columns), images.shape, ax=ax)
    for index, (row, image) in enumerate(zip(axes, images)):
        if original:
            row[0].imshow(_rgb(image))
        for panel, maps in zip(row[bool(original) :], columns):
            panel.imshow(draw(image, maps[index]))
    if original:
        axes[0, 0].set_title("original")
    for panel, title in zip(axes[0, bool(original) :], titles):
        _title(panel, title)
    if original:
        entries = {**entries, **_missing(images, "image: NaN or infinite")}
    _legend(fig, axes, entries, own=ax is None)
    return fig


def _title(ax, text):
    """Leave the title of axes that were passed in, unless there is another."""
    if text:
        ax.set_title(text)


def _map(ax, values, mappable):
    """A map, framed, as 0 is as white as the paper. Where it shrinks, values are averaged."""
    frame = {"fill": False, "edgecolor": "0.75", "linewidth": 0.8, "clip_on": False}
    ax.add_patch(Rectangle((0, 0), 1, 1, transform=ax.transAxes, **frame))
    return ax.imshow(values, cmap=mappable.cmap, norm=mappable.norm, interpolation_stage="data")


def _symmetric(values, cmap, clip_above=100):
    """Colours on a scale from -limit to limit."""
    size = np.abs(values[np.isfinite(values)])
    limit = _threshold(size, 100 - _between("clip_above", clip_above, 0, 100)) or 1.0
    colours = matplotlib.colormaps.get_cmap(cmap).with_extremes(bad=NOT_FINITE)
    return ScalarMappable(Normalize(-limit, limit), colours)


def _colour_bar(fig, axes, mappable, values, label="attribution"):
    clipped = _largest(values) > mappable.norm.vmax
    fig.colorbar(
        mappable,
        ax=list(axes.flat),
        label=label,
        aspect=30,
        extend="both" if clipped else "neither",
    )


def _legend(fig, axes, entries, own=True):
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


def _key(what, polarity, colours):
    return {
        f"{sign} attribution ({what})": colour
        for sign, colour in zip(["positive", "negative"], colours)
        if polarity in (sign, "both")
    }


def _missing(values, what="NaN or infinite"):
    count = np.isnan(values).sum()
    return {f"{what}: {count:,} of {values.size:,}": NOT_FINITE} if count else {}


def _remarks(values, polarity="both"):
    """What the reader must know about the values: some are not finite, or none are to be seen."""
    magnitude = _choice("polarity", polarity, _MAGNITUDE)
    finite = values[np.isfinite(values)]
    nothing = "all attributions are 0" if polarity == "both" else f"no {polarity} attribution"
    empty = finite.size and not magnitude(finite).any()
    return {**_missing(values), **({nothing: None} if empty else {})}


def _mark_missing(ax, where, values):
    """Draw a yellow line where a curve has no value."""
    for x in where[~np.isfinite(values)]:
        ax.axvline(x, color=NOT_FINITE, linewidth=3, zorder=0)


def _moving(picture, values):
    """A function that shows the values of a step."""
    return lambda step: picture.set_data(values[step])


def _growing(ax, alphas, outputs):
    """Draw F(alpha) faintly; the function returned draws it up to a step."""
    ax.set_axis_on()
    ax.plot(alphas, outputs, color=CURVES[0], alpha=0.2)
    _mark_missing(ax, alphas, outputs)
    (line,) = ax.plot([], [], color=CURVES[0], linewidth=2)
    (dot,) = ax.plot([], [], "o", color=CURVES[0])
    title = ax.set_title(" ", family="monospace", fontsize="medium")
    ax.set(xlabel="\u03b1", xticks=[0, 0.5, 1], box_aspect=0.7)
    ax.yaxis.set_major_locator(MaxNLocator(4))
    ax.spines[["top", "right"]].set_visible(False)

    def update(step):
        line.set_data(alphas[: step + 1], outputs[: step + 1])
        dot.set_data(alphas[step : step + 1], outputs[step : step + 1])
        title.set_text(f"F(\u03b1) = {outputs[step]:#.3g}")

    return update


def _write_gif(path, pictures, cmap, fps):
    """A palette of 256 for each frame, in which the colours of maps and curves get a fair share."""
    height, width, _ = pictures[0].shape
    colours = np.concatenate([cmap(np.linspace(0, 1, 112))[:, :3], [to_rgb(CURVES[0])] * 16])
    bar = np.resize((255 * colours).astype(np.uint8), [height // 4, width, 3])
    frames = []
    for picture in pictures:
        palette = Image.fromarray(np.concatenate([picture, bar])).quantize(256)
        frames.append(Image.fromarray(picture).quantize(palette=palette, dither=0))
    frames[0].save(path, save_all=True, append_images=frames[1:], duration=1000 / fps, loop=0)


def _accrual(alphas, output, parts):
    """The attribution so far at every alpha, and a curve of its density."""
    if len(parts) < len(alphas):
        density = parts / np.diff(alphas)
        gains, curve = parts, (np.repeat(alphas, 2)[1:-1], np.repeat(density, 2))
    else:
        width = np.gradient(alphas)
        if alphas[0] <= 0 and alphas[-1] >= 1:
            width[[0, -1]] /= 2  # the trapezoidal rule's ends
        density = parts / width
        gains, curve = np.diff(alphas) * (density[1:] + density[:-1]) / 2, (alphas, density)
    return output[0] + np.append(0, np.cumsum(gains)), *curve


# Text ---------------------------------------------------------------------------------------------

_LINE, _GAP, _FONT = 24, 4, 11  # points


def _text_html(texts, mappable, ax):
    limit = mappable.norm.vmax
    stops = ", ".join(to_hex(mappable.cmap(place)) for place in np.linspace(0, 1, 9))
    bar_ = (
        '<div style="font-size: 80%; margin-top: 0.6em">'
        f'{_signed(-limit)} <span style="display: inline-block; width: 12em; height: 0.8em; '
        f'border: 1px solid #bbb; background: linear-gradient(to right, {stops})"></span> '
        f"{_signed(limit)}{_remark_html(texts)}</div>"
    )
    paragraphs = (
        '<p style="line-height: 2; margin: 0.3em 0">'
        + " ".join(_token_html(token, value, mappable) for token, value in zip(*text))
        + "</p>"
        for text in texts
    )
    return _Html(f'<div style="font-family: sans-serif">{"".join(paragraphs)}{bar_}</div>')


def _token_html(token, value, mappable):
    paper, ink = _paper_and_ink(value, mappable)
    return (
        f'<span title="{_signed(value)}" style="background: {paper}; color: {ink}; padding: 0.15em '
        f'0.25em; border-radius: 0.2em">{html.escape(_visible(token))}</span>'
    )


def _remark_html(texts):
    remarks = _remarks(np.concatenate([values for _, values in texts]))
    return "".join(
        f' &emsp;<span style="background: {colour or "none"}">&emsp;</span> {html.escape(text)}'
        for text, colour in remarks.items()
    )


def _text_figure(texts, mappable, ax):
    own = ax is None
    if own:
        words, lines = _flow(texts, width=560)
        width, span = 560, lines * _LINE
        height = span / 72 + 0.85
        fig = _Figure((8, height))
        ax = fig.add_axes([8 / 576, 0.72 / height, 560 / 576, span / 72 / height])
        scale = fig.add_axes([8 / 576, 0.45 / height, 0.3, 0.14 / height])
        fig.colorbar(mappable, cax=scale, orientation="horizontal", label="attribution")
    else:
        (ax,) = _given(ax, 1)
        fig = ax.figure
        fig.colorbar(mappable, ax=ax, orientation="horizontal", label="attribution", aspect=30)
        fig.figure.draw_without_rendering()  # the layout decides how large the axes are
        width, span = ax.get_window_extent().size * 72 / fig.dpi
        words, _ = _flow(texts, width)
    ax.set(xlim=(0, width), ylim=(-span, 0))
    ax.set_axis_off()
    box = {"boxstyle": "round,pad=1,rounding_size=3", "clip_on": False}
    font = {"ha": "center", "fontsize": _FONT, "parse_math": False}
    for line, left, size, token, value in words:
        paper, ink = _paper_and_ink(value, mappable)
        bottom = -(line + 1) * _LINE
        ax.add_patch(FancyBboxPatch((left + 1, bottom + 4), size - 2, 17, color=paper, **box))
        ax.text(left + size / 2, bottom + 9, token, color=ink, **font)
    remarks = _remarks(np.concatenate([values for _, values in texts]))
    handles = [Patch(color=colour or "none", label=label) for label, colour in remarks.items()]
    if handles:
        where = fig if own else ax
        where.legend(handles=handles, frameon=False, fontsize="small", loc="lower right")
    return fig


def _flow(texts, width):
    """Where each token goes, `(line, left, width, token, value)`, and the number of lines."""
    font = FontProperties(size=_FONT)
    words, line = [], -1
    for tokens, values in texts:
        line, left = line + 1, 0.0
        for token, value in zip(tokens, values):
            token = _visible(token)
            size = text_to_path.get_text_width_height_descent(token, font, ismath=False)[0] + 8
            if left and left + size > width:
                line, left = line + 1, 0.0
            words.append((line, left, size, token, value))
            left += size + _GAP
    return words, line + 1


def _paper_and_ink(value, mappable):
    rgb = mappable.to_rgba(np.ma.masked_invalid([value]))[0, :3]
    return to_hex(rgb), "white" if rgb @ _LUMINANCE < 0.45 else "black"


def _signed(value):
    """`+1.5`, `−1.5`, `0` or `NaN`."""
    text = "NaN" if np.isnan(value) else f"{value:+.3g}" if value else "0"
    return text.replace("-", "\u2212")


def _visible(token):
    return token.replace("\n", "\u21b5").replace("\t", "\u2192")


# Arithmetic on pixels -----------------------------------------------------------------------------

_LUMINANCE = np.array([0.299, 0.587, 0.114])
_MAGNITUDE = {
    "positive": lambda values: np.maximum(values, 0),
    "negative": lambda values: np.maximum(-values, 0),
    "both": np.abs,
}
_ALL, _FIRST, _LAST = slice(None), slice(None, -1), slice(1, None)
_SIDES = [((_ALL, _FIRST), (_ALL, _LAST)), ((_FIRST, _ALL), (_LAST, _ALL))]
_CORNERS = [((_FIRST, _FIRST), (_LAST, _LAST)), ((_FIRST, _LAST), (_LAST, _FIRST))]


def _threshold(sizes, share):
    """The size at which the sum of sizes, the largest first, reaches `share` percent of all."""
    if not sizes.size or not sizes.max():
        return 0.0
    if share == 100:
        return sizes.min()
    ordered = np.sort(sizes)[::-1]
    sums = np.cumsum(ordered / ordered[0])
    return ordered[np.searchsorted(sums, sums[-1] * share / 100 * (1 - 1e-12))]


def _largest(values):
    return np.abs(values[np.isfinite(values)]).max(initial=0.0)


def _cleaned(level, radius):
    """A grey closing, which fills pinholes, then an opening, which drops specks."""
    if not radius:
        return level
    margin = 2 * radius  # what grows beyond the border can shrink back
    level = np.pad(level, margin)
    for reduce in (np.max, np.min, np.min, np.max):
        level = _window(level, radius, reduce)
    return level[margin:-margin, margin:-margin]


def _window(values, radius, reduce):
    """Reduce over the square of `2 * radius + 1` pixels around each pixel, 0 beyond the border."""
    for axis in (0, 1):
        around = [(radius, radius) if axis == each else (0, 0) for each in (0, 1)]
        windows = sliding_window_view(np.pad(values, around), 2 * radius + 1, axis=axis)
        values = reduce(windows, axis=-1)
    return values


def _filled(mask):
    """The mask and its holes: what is outside, but not connected to the border by sides."""
    labels = _regions(~mask, diagonals=False)
    border = np.concatenate([labels[0], labels[-1], labels[:, 0], labels[:, -1]])
    return mask | ~np.isin(labels, border)


def _regions(mask, diagonals):
    """Labels that are alike in connected pixels of the mask: union-find, all pairs at once."""
    labels = np.arange(mask.size).reshape(mask.shape)
    pairs = [
        np.stack([labels[one], labels[other]])[:, mask[one] & mask[other]]
        for one, other in _SIDES + _CORNERS * diagonals
    ]
    pairs, labels = np.concatenate(pairs, axis=1), labels.ravel()
    while pairs.size:
        low, high = np.sort(labels[pairs], axis=0)
        labels[high] = low
        while (labels != labels[labels]).any():
            labels = labels[labels]
        pairs = pairs[:, labels[pairs[0]] != labels[pairs[1]]]
    return labels.reshape(mask.shape)


def _unit(images, dtype, axes):
    """Bring images to the range 0..1, where they are not yet."""
    if dtype == np.uint8:
        return images / 255
    finite = np.isfinite(images)
    low = images.min(axis=axes, keepdims=True, initial=np.inf, where=finite)
    high = images.max(axis=axes, keepdims=True, initial=-np.inf, where=finite)
    fits = (low >= -1e-3) & (high <= 1 + 1e-3)
    flat = ~(high > low)
    with np.errstate(invalid="ignore"):  # infinite where no value is finite
        stretched = (images - low) / np.where(flat, 1, high - low) + 0.5 * flat
    return np.clip(np.where(fits, images, stretched), 0, 1)


def _rgb(image):
    """`[..., 1 or 3]` to `[..., 3]`."""
    rgb = np.repeat(image, 3, axis=-1) if image.shape[-1] == 1 else image.copy()
    rgb[np.isnan(rgb).any(axis=-1)] = to_rgb(NOT_FINITE)
    return rgb


def _gray(image):
    """`[..., 1 or 3]` to `[...]`."""
    return np.nan_to_num(image[..., 0] if image.shape[-1] == 1 else image @ _LUMINANCE)


# Checks: what came in, what was expected, what to do ----------------------------------------------

_PIXELS = "[H, W], [H, W, C], [B, H, W] or [B, H, W, C]"
_LARGEST = 1e302  # beyond, sums and the decades of an axis would overflow


def _numbers(name, value):
    """`value` as float64, NaN where it is not finite."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")  # ragged lists only warn in old versions of NumPy
            array = np.asarray(value)
        if array.dtype.kind not in "biufV":  # V: bfloat16
            raise TypeError(f"its dtype is {array.dtype}")
        array = array.astype(np.float64)
    except Exception as error:
        raise TypeError(
            f"{name} is a {type(value).__name__} that is no array of real numbers ({error}); "
            "expected a NumPy array or nested lists of equal lengths: convert it first"
        ) from error
    array = np.where(np.isfinite(array), array, np.nan)
    return np.clip(array, -_LARGEST, _LARGEST)


def _shape(name, array, expected, advice):
    return f"{name} has shape {array.shape}; expected {expected}: {advice}"


def _is_batch(value):
    shape = np.shape(value)
    return len(shape) == 4 or (len(shape) == 3 and shape[-1] not in (1, 3))


def _pixels(name, value):
    """`[B, H, W, C]`."""
    array = _numbers(name, value)
    if array.ndim not in (2, 3, 4) or not array.size:
        advice = "reshape flat pixels, drop other axes, and leave out what is empty"
        raise ValueError(_shape(name, array, _PIXELS, advice))
    if array.ndim == 2 or (array.ndim == 3 and _is_batch(array)):
        array = array[..., None]
    return array if array.ndim == 4 else array[None]


def _images(name, value):
    """`[B, H, W, C]` with values in 0..1."""
    array = _pixels(name, value)
    if array.shape[-1] not in (1, 3):
        advice = "move the channels there, and drop an alpha channel"
        raise ValueError(_shape(name, array, "1 or 3 channels in the last axis", advice))
    return _unit(array, getattr(value, "dtype", None), (1, 2, 3))


def _attribution(name, value):
    """`[B, H, W]`, the channels summed."""
    return _total(_pixels(name, value))


def _total(array):
    with np.errstate(over="ignore"):
        sums = array.sum(axis=-1)
    return np.where(np.isfinite(sums), sums, np.nan)


def _columns(name, value, images):
    """A list of attributions `[B, H, W]` of the images."""
    if isinstance(value, (list, tuple)) and value and _numbers(f"{name}[0]", value[0]).ndim > 1:
        columns = (_columns(f"{name}[{i}]", item, images) for i, item in enumerate(value))
        return [each for column in columns for each in column]
    array, pixels = _numbers(name, value), images.shape[:3]
    single = len(images) == 1
    for shape in [pixels] + [pixels[1:]] * single:
        if array.shape == shape:
            return [array.reshape(pixels)]
        if array.shape[:-1] == shape and array.size:
            return [_total(array).reshape(pixels)]
    if single and array.ndim in (3, 4) and array.shape[1:3] == pixels[1:] and array.size:
        return [each for item in array for each in _columns(name, item, images)]
    expected = f"{pixels[1:] if single else pixels}, with or without channels as last axis"
    advice = f"pass attributions of the images, shape {images.shape}, or a list of such"
    raise ValueError(_shape(name, array, expected, advice))


def _image_and_columns(image, attribution):
    images = _images("image", image)
    return images, _columns("attribution", attribution, images)


def _one_of(name, value, shapes):
    array = _numbers(name, value)
    if array.shape not in shapes:
        expected = " or ".join(map(str, shapes))
        raise ValueError(_shape(name, array, expected, "pass one entry per step and picture"))
    return array


def _vector(name, value, length=None):
    array = _numbers(name, value)
    if array.ndim != 1 or not array.size or length not in (None, len(array)):
        raise ValueError(_shape(name, array, f"[{length or 'N'}]", "pass one number per step"))
    if np.isnan(array).any():
        raise ValueError(f"{name} is {array}; expected finite numbers: drop the other steps")
    return array


def _curves(name, value, lengths):
    """`[N, K]`."""
    array = _numbers(name, value)
    if array.ndim not in (1, 2) or not array.size or len(array) not in lengths:
        expected = " or ".join(f"[{length}] or [{length}, K]" for length in lengths)
        raise ValueError(_shape(name, array, expected, "pass one row per step; transpose it"))
    return array.reshape(len(array), -1)


def _strings(name, value):
    if isinstance(value, str) or not isinstance(value, (Sequence, np.ndarray)):
        raise TypeError(f"{name} is a {type(value).__name__}; expected a list of strings: split it")
    for each in value:
        if not isinstance(each, str):
            raise TypeError(f"{name} holds {each!r}; expected strings: convert it with str()")
    return list(value)


def _titles(value, count, name="titles"):
    if value is None:
        return [""] * count
    titles = _strings(name, [value] if isinstance(value, str) else value)
    if len(titles) != count:
        raise ValueError(f"{name} holds {len(titles)} strings; expected {count}: pass one for each")
    return titles


def _texts(tokens, scores):
    """A list of `(tokens, scores)`, one per text."""
    if isinstance(tokens, str) or not isinstance(tokens, (Sequence, np.ndarray)):
        _strings("tokens", tokens)
    several = len(tokens) and isinstance(tokens[0], (list, tuple, np.ndarray))
    if not several:
        tokens, scores = [tokens], [scores]
    elif not isinstance(scores, Sequence):
        scores = np.atleast_1d(_numbers("scores", scores))
    if len(scores) != len(tokens):
        raise ValueError(
            f"scores are for {len(scores)} texts; expected {len(tokens)}: pass one list of scores "
            "per list of tokens"
        )
    texts = [(_strings("tokens", each), _numbers("scores", score)) for each, score in zip(tokens, scores)]
    for words, values in texts:
        if not words or values.shape != (len(words),):
            expected = f"[{len(words)}], one per token, and at least one"
            advice = "sum attributions over the embedding's axis, and drop padding"
            raise ValueError(_shape("scores", values, expected, advice))
    return texts


def _colours(value):
    if isinstance(value, str) or not isinstance(value, Sequence):
        raise TypeError(f"colours is {value!r}; expected a pair (positive, negative) of colours")
    if len(value) != 2:
        raise ValueError(f"colours holds {len(value)} colours; expected 2: (positive, negative)")
    return [to_rgb(colour) for colour in value]


def _choice(name, value, table):
    if not isinstance(value, str):
        raise TypeError(f"{name} is a {type(value).__name__}; expected one of {sorted(table)}")
    if value not in table:
        raise ValueError(f"{name} is {value!r}; expected one of {sorted(table)}: choose one")
    return table[value]


def _between(name, value, low, high):
    if isinstance(value, bool) or not isinstance(value, Real):
        raise TypeError(f"{name} is a {type(value).__name__}; expected a number")
    if not low <= value <= high:
        raise ValueError(f"{name} is {value}; expected a number in [{low}, {high}]: choose one there")
    return value


def _whole(name, value, least):
    if isinstance(value, bool) or not isinstance(value, Integral):
        raise TypeError(f"{name} is a {type(value).__name__}; expected a whole number")
    if value < least:
        raise ValueError(f"{name} is {value}; expected at least {least}: choose one there")
