"""Curves, bars, and the film along a path."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import Colormap, to_rgb
from matplotlib.figure import FigureBase
from matplotlib.ticker import MaxNLocator
from numpy.typing import ArrayLike
from PIL import Image  # comes with Matplotlib

from igtf.visualization import checks, figures

__all__ = ["animate_path", "bar", "convergence_plot", "path_plot"]

CURVES = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#000000")  # Okabe-Ito
COLOURS = ("#e8382c", "#2f8be8")  # bars that are positive, negative


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
    alphas = checks.vector("alphas", alphas)
    if len(alphas) < 2 or not (np.diff(alphas) > 0).all():
        raise ValueError(
            f"alphas has shape {alphas.shape} and values {alphas}; expected at least 2 numbers "
            "that rise: sort the steps"
        )
    outputs = checks.curves("outputs", outputs, [len(alphas)])
    labels = checks.titles(labels, outputs.shape[1], "labels")
    parts = np.zeros([0, outputs.shape[1]])
    if contributions is not None:
        parts = checks.curves("contributions", contributions, [len(alphas), len(alphas) - 1])
        if parts.shape[1] != outputs.shape[1]:
            columns = f"{outputs.shape[1]} columns, as outputs"
            raise checks.wrong_shape("contributions", parts, columns, "pass one per curve")
    fig, axes = figures.plots(1 + (contributions is not None), ax)
    for index, (output, label) in enumerate(zip(outputs.T, labels)):
        colour = CURVES[index % len(CURVES)]
        name = f"{label}: " if label else ""
        axes[0].plot(alphas, output, color=colour, label=f"{name}F(\u03b1)", linewidth=2)
        figures.mark_missing(axes[0], alphas, output)
        if contributions is not None:
            so_far, where, density = _accrual(alphas, output, parts[:, index])
            accrued = "_" if index else f"F({alphas[0]:.2g}) + attribution so far"
            axes[0].plot(alphas, so_far, color="black", dashes=(1, 1.5), linewidth=2, label=accrued)
            axes[1].plot(where, density, color=colour, linewidth=1.5)
            figures.mark_missing(axes[1], where, density)
            axes[1].fill_between(where, density, color=colour, alpha=0.2, linewidth=0)
    for panel, name in zip(axes, ["F(\u03b1)", "attribution per\nunit of \u03b1"]):
        panel.set_ylabel(name)
        panel.set_xlim(min(0, alphas[0]), max(1, alphas[-1]))
    figures.legend(fig, axes, figures.missing(np.append(outputs, parts)), own=ax is None)
    axes[-1].set_xlabel("\u03b1  (0: baseline, 1: input)")
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
    steps = checks.vector("steps", steps)
    if not (steps > 0).all():
        raise ValueError(f"steps is {steps}; expected numbers above 0: drop the others")
    errors = np.abs(checks.curves("errors", errors, [len(steps)]))
    labels = checks.titles(labels, errors.shape[1], "labels")
    order = np.argsort(steps, kind="stable")
    steps, errors = steps[order], errors[order]
    positive = errors[errors > 0]
    floor = positive.min() / 3 if positive.size else 1e-16
    fig, axes = figures.plots(1, ax, height=3.4)
    panel = axes[0]
    panel.set(xscale="log", yscale="log")
    for index, (error, label) in enumerate(zip(errors.T, labels)):
        colour, marker = CURVES[index % len(CURVES)], "osD^v<>"[index % 7]
        some, zero = np.where(error > 0, error, np.nan), steps[error == 0]
        panel.plot(steps, some, color=colour, marker=marker, markersize=5, label=label or "_")
        panel.plot(zero, np.full_like(zero, floor), color=colour, marker=7, linestyle="none")
        figures.mark_missing(panel, steps, error)
    if len(steps) <= 12:
        panel.set_xticks(steps, [f"{step:g}" for step in steps])
        panel.minorticks_off()
    panel.set(xlabel="number of steps", ylabel="absolute error")
    panel.grid(True, alpha=0.3)
    exact = {"triangles on the floor: exactly 0": None} if (errors == 0).any() else {}
    figures.legend(fig, axes, {**exact, **figures.missing(errors)}, own=ax is None)
    return fig


def bar(
    names: Sequence[str],
    scores: ArrayLike,
    *,
    top: int = 15,
    sort: bool = True,
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
      sort: by magnitude; in a batch by the mean magnitude over the rows, so that a feature that
        speaks for the output in one row and against it in the next does not drop to the end. `False`
        keeps the order of `names`.
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
    names = checks.strings("names", names)
    rows = checks.numbers("scores", scores)
    if rows.ndim not in (1, 2) or not rows.size or rows.shape[-1] != len(names):
        expected = f"[{len(names)}] or [B, {len(names)}] for the {len(names)} names"
        raise checks.wrong_shape("scores", rows, expected, "pass one score per name")
    checks.whole("top", top, 1)
    paint = dict(zip([1, -1, 0], [*checks.colours(colours), "black"]))
    batch, rows = rows.ndim == 2, np.atleast_2d(rows)
    count = np.isfinite(rows).sum(axis=0)
    means = np.nansum(rows, axis=0) / np.where(count, count, np.nan)
    sizes = np.nansum(np.abs(rows), axis=0) / np.where(count, count, np.nan)
    labels, kept, others = figures.largest_first(names, sizes, top, sort)
    means_kept, dots = (figures.with_rest(part, kept, others) for part in (means, rows))
    fig, axes = figures.plots(1, ax, height=0.8 + 0.28 * len(labels))
    panel, place = axes[0], np.arange(len(labels))
    signs = np.sign(np.nan_to_num(means_kept))
    panel.barh(place, np.nan_to_num(means_kept), color=[paint[sign] for sign in signs], height=0.7)
    if batch:
        panel.plot(dots.T, place, ".", color="black", alpha=0.4, markersize=4, zorder=3)
    figures.beside(panel, means_kept, figures.signed_alike(means_kept))
    panel.axvline(0, color="black", linewidth=0.8)
    limit = 1.05 * (figures.largest(dots if batch else means_kept) or 1.0)
    panel.set_xlim(-limit, limit)
    figures.lines_of(panel, labels)
    panel.set_xlabel("attribution" + f" (bars: mean of {len(rows)} rows, dots: rows)" * batch)
    figures.legend(fig, axes, figures.remarks(rows), own=ax is None)
    return fig


def animate_path(
    frames: ArrayLike,
    path: str | Path,
    alphas: ArrayLike | None = None,
    outputs: ArrayLike | None = None,
    inputs: ArrayLike | None = None,
    *,
    fps: float = 10.0,
    clip_above: float = 99.9,
    cmap: str | Colormap = figures.CMAP,
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
    frames = checks.numbers("frames", frames)
    if frames.ndim < 3 or not frames.size:
        raise checks.wrong_shape("frames", frames, f"[S, ...] with ... {checks.PIXELS}", "stack the maps")
    steps = len(frames)
    batch = checks.is_batch(frames[0])
    maps = np.stack([checks.attribution("frames", frame) for frame in frames])
    alphas = np.linspace(0, 1, steps) if alphas is None else checks.vector("alphas", alphas, steps)
    if outputs is not None:
        expected = [(steps, maps.shape[1])] + [(steps,)] * (maps.shape[1] == 1)
        outputs = checks.one_of("outputs", outputs, expected).reshape(maps.shape[:2])
    if inputs is not None:
        plain = maps.shape if batch else maps.shape[:1] + maps.shape[2:]
        numbers = checks.one_of("inputs", inputs, [plain, (*plain, 1), (*plain, 3)])
        inputs = checks.unit(numbers.reshape([*maps.shape, -1]), np.asarray(inputs).dtype, (0, 2, 3, 4))
    path = Path(path)
    if path.suffix.lower() != ".gif":
        raise ValueError(f"path is {str(path)!r}; expected a name that ends in .gif: rename it")
    if checks.between("fps", fps, 0, np.inf) == 0:
        raise ValueError("fps is 0; expected a number above 0, e.g. 10")
    (label,) = checks.titles(label, 1, "label")

    mappable = figures.symmetric(maps, cmap, clip_above)
    columns = 1 + (inputs is not None) + (outputs is not None)
    fig, axes, *_ = figures.panels(maps.shape[1], columns, maps.shape[1:])
    updates = []
    for index, row in enumerate(axes):
        updates.append(_moving(figures.draw_map(row[-1], maps[0, index], mappable), maps[:, index]))
        if inputs is not None:
            pictures = figures.rgb(inputs[:, index])
            updates.append(_moving(row[0].imshow(pictures[0]), pictures))
        if outputs is not None:
            updates.append(_growing(row[-2], alphas, outputs[:, index]))
    figures.colour_bar(fig, axes, mappable, maps, label)
    figures.legend(fig, axes, figures.remarks(maps))
    width = len(str(steps))
    saying = f"step {{:{width}}} of {steps}   \u03b1 = {{:.3f}}".format
    heading = axes[0, -1].set_title(saying(steps, 0), family="monospace", fontsize="medium")
    figures.trim(fig)
    fig.draw_without_rendering()
    fig.set_layout_engine("none")  # so that nothing moves between frames
    box = heading.get_window_extent()
    middle = (box.x0 + box.x1) / 2
    room = 1.8 * min(middle, fig.bbox.width - middle)
    heading.set_fontsize(heading.get_fontsize() * min(1, room / box.width))
    canvas, pictures = FigureCanvasAgg(fig), []
    for step, alpha in enumerate(alphas):
        heading.set_text(saying(step + 1, alpha))
        for update in updates:
            update(step)
        canvas.draw()
        pictures.append(np.array(canvas.buffer_rgba())[..., :3])
    _write_gif(path, pictures, mappable.cmap, fps)
    return path


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


def _growing(ax, alphas, outputs):
    """Draw F(alpha) faintly; the function returned draws it up to a step."""
    ax.set_axis_on()
    ax.plot(alphas, outputs, color=CURVES[0], alpha=0.2)
    figures.mark_missing(ax, alphas, outputs)
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


def _moving(picture, values):
    """A function that shows the values of a step."""
    return lambda step: picture.set_data(values[step])


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
