"""Attributions of series: lines on stretches of colour, a panel for each channel; spectra and maps."""

from collections.abc import Sequence

import numpy as np
from matplotlib.colors import Colormap, Normalize
from matplotlib.figure import FigureBase
from numpy.typing import ArrayLike

from igtf.visualization import checks, figures

__all__ = ["series_plot"]

WIDTH = 8.5  # inches
PANELS = 100  # at most
STRETCHES = 1000  # of time, or of frequencies, that one can tell apart: neighbours beyond are averaged
DOTS = 60  # steps up to which each has a dot
TICKS = 6  # frequencies that are named


def series_plot(
    samples: ArrayLike,
    attributions: ArrayLike,
    names: Sequence[str] | None = None,
    *,
    titles: str | Sequence[str] | None = None,
    times: ArrayLike | None = None,
    spectrogram: bool = False,
    clip_above: float = 99.9,
    label: str = "attribution",
    cmap: str | Colormap = figures.CMAP,
    fig: FigureBase | None = None,
) -> FigureBase:
    """Series as lines on what each stretch of time contributes: a panel for each channel, one axis of time.

    Args:
      samples: the series, time first: `[T]`, `[T, C]` of `C` channels, or `[N, T, C]`, a column for each.
      attributions: in the shape of the samples; without its last axis, one for all channels of a time; or,
        of one sample, several: `[K, T, C]` (or `[K, T]` for `[T]`), a column for each.
      names: one per channel.
      titles: one per attribution, above its column.
      times: shape `[T]`, rising: when the steps are, such as seconds. Their numbers if left out.
      spectrogram: channels are frequencies, the lowest first: each sample is drawn as a spectrum in grey,
        and its maps beside it; some of the `names` are at the axis.
      clip_above: as in `heatmap`.
      label: what the attributions are, for the colour bar.
      cmap: a diverging Matplotlib colour map; under lines, without its dark ends.
      fig: a figure or subfigure to draw in, instead of a new one.

    Returns:
      The figure. Of more than 1,000 steps (or frequencies), neighbours are averaged to colour a stretch.

    Raises:
      ValueError: shapes or counts do not match, times do not rise, there would be more than 100 panels,
        `clip_above` is no percentage, or unknown `cmap`.
      TypeError: arrays do not hold real numbers, or an argument is of another type.

    >>> beats = np.sin(np.arange(50.0))[:, None] * [1.0, 0.5]
    >>> figure = series_plot(beats, beats**3, ["lead I", "lead II"])
    >>> [ax.get_ylabel() for ax in figure.axes[:2]]
    ['lead I', 'lead II']
    """
    series = _series(samples)
    maps = _maps(attributions, np.shape(samples), series.shape)
    names = None if names is None else checks.titles(names, series.shape[2], "names")
    titles = checks.titles(titles, len(maps))
    (label,) = checks.titles(label, 1, "label")
    where, unit = _times(times, series.shape[1])
    if not isinstance(spectrogram, bool):
        raise TypeError(f"spectrogram is {spectrogram!r}; expected True or False")
    rows, columns = (
        (len(series), 1 + len(maps) // len(series)) if spectrogram else (series.shape[2], len(maps))
    )
    if rows * columns > PANELS:
        advice = "choose some, or pass spectrogram=True for many channels"
        raise ValueError(
            f"samples has shape {series.shape}, for {rows} x {columns} panels; expected {PANELS} at most: "
            f"{advice}"
        )
    if fig is None:
        height = np.clip(5 / rows, 0.8, 2.2) + spectrogram * 0.4
        fig, own = figures.Figure((WIDTH, rows * height + 0.9), layout="constrained"), True
    elif isinstance(fig, FigureBase):
        own = False
    else:
        raise TypeError(f"fig is a {type(fig).__name__}; expected a Matplotlib figure")
    size = 72 * fig.bbox.size / fig.dpi  # type: ignore[attr-defined]  # in points
    axes = fig.subplots(rows, columns, sharex=True, sharey="all" if spectrogram else "row", squeeze=False)
    edges, shown = _stretches(where, maps, 1)
    if spectrogram:
        levels, shown = _stretches(np.arange(series.shape[2]), shown, 2)
        mappable = figures.symmetric(shown, cmap, clip_above)
        spectra = _stretches(np.arange(series.shape[2]), _stretches(where, series, 1)[1], 2)[1]
        headed = _draw_spectra(axes, edges, levels, spectra, shown, mappable)
        _name_frequencies(axes, names)
    else:
        mappable = figures.lighter(figures.symmetric(shown, cmap, clip_above), 0.33)
        headed = _draw_lines(axes, where, edges, series, shown, mappable)
        room = 0.85 * size[1] / rows
        for panel, name in zip(axes[:, 0], names or []):
            panel.set_ylabel(figures.wrapped(name, room, figures.LABEL), fontsize=figures.LABEL)
    across = 0.8 * size[0] / columns
    for panel, title in zip(headed, titles):
        panel.set_title(figures.wrapped(title, across, 10), fontsize=10, parse_math=False)
    for panel in axes[-1]:
        panel.set_xlabel(unit)
    figures.colour_bar(fig, axes, mappable, shown, label)
    lost = figures.missing(series, "series: NaN or infinite")
    figures.legend(fig, axes, {**figures.remarks(maps), **lost}, own)
    return fig


def _series(samples):
    """`[N, T, C]`."""
    array = checks.numbers("samples", samples)
    if array.ndim not in (1, 2, 3) or not array.size:
        raise checks.wrong_shape("samples", array, "[T], [T, C] or [N, T, C]", "pass series, time first")
    return array.reshape([-1, *array.shape[-2:]] if array.ndim > 1 else [1, -1, 1])


def _maps(attributions, given, shape):
    """`[K, T, C]` with a map for each sample, or several of the only one."""
    array, (count, steps, channels) = checks.numbers("attributions", attributions), shape
    if array.shape == given:
        return array.reshape(shape)
    if array.shape in ((count, steps), (steps,) if len(given) < 3 else ()):
        return np.broadcast_to(array.reshape(count, steps, 1), shape)
    several = (array.shape[1:] == (steps, channels), array.shape[1:] == (steps,) and channels == 1)
    if count == 1 and array.size and any(several):
        return array.reshape(-1, steps, channels)
    expected = f"{given} as samples, {given[:-1] or (steps,)}, or several of one sample"
    raise checks.wrong_shape("attributions", array, expected, "pass one for each step and channel")


def _times(times, steps):
    if times is None:
        return np.arange(steps), "time step"
    where = checks.vector("times", times, steps)
    if not (np.diff(where) > 0).all():
        raise ValueError(f"times is {where}; expected numbers that rise: sort the steps")
    return where, "time"


def _stretches(where, values, axis):
    """Edges of at most so many stretches, and the mean of the values between two of them."""
    edges = np.array([where[0] - 0.5, where[0] + 0.5])
    if len(where) > 1:
        middles = (where[1:] + where[:-1]) / 2
        edges = np.concatenate([2 * where[:1] - middles[:1], middles, 2 * where[-1:] - middles[-1:]])
    size = -(-len(where) // STRETCHES)
    starts = np.arange(0, len(where), size)
    counts = np.diff(np.append(starts, len(where)))
    shape = [-1 if i == axis else 1 for i in range(values.ndim)]
    means = np.add.reduceat(values / counts.repeat(counts).reshape(shape), starts, axis=axis)
    return edges[np.append(starts, len(where))], means


def _draw_lines(axes, where, edges, series, shown, mappable):
    low, high = (extreme.reduce(series, axis=(0, 1)) for extreme in (np.fmin, np.fmax))
    low, high = np.nan_to_num(low), np.nan_to_num(high)
    flat = np.where(high == 0, 1.0, 0.07 * np.abs(high))
    margin = np.where(high > low, 0.07 * (high - low), flat)
    for k, column in enumerate(axes.T):
        lines = series[k % len(series)].T
        for channel, (panel, line, values) in enumerate(zip(column, lines, shown[k].T)):
            style = {"transform": panel.get_xaxis_transform(), "rasterized": True}
            panel.pcolormesh(edges, [0, 1], values[None], cmap=mappable.cmap, norm=mappable.norm, **style)
            marker = "." if len(where) <= DOTS else "none"
            ink = 1.0 if len(where) <= STRETCHES else 0.4  # a waveform would hide its colours
            panel.plot(where, line, color="black", alpha=ink, linewidth=0.9, marker=marker, markersize=4)
            panel.set_xlim(edges[0], edges[-1])
            panel.set_ylim(low[channel] - margin[channel], high[channel] + margin[channel])
            panel.tick_params(labelsize="small")
    return axes[0]


def _draw_spectra(axes, edges, levels, spectra, shown, mappable):
    for row, spectrum, maps in zip(axes, spectra, shown.reshape(len(axes), -1, *shown.shape[1:])):
        finite = spectrum[np.isfinite(spectrum)]
        grey = Normalize(*(finite.min(), finite.max()) if finite.size else (0, 1))
        row[0].pcolormesh(edges, levels, spectrum.T, cmap="gray_r", norm=grey, rasterized=True)
        for panel, values in zip(row[1:], maps):
            style = {"cmap": mappable.cmap, "norm": mappable.norm, "rasterized": True}
            panel.pcolormesh(edges, levels, values.T, **style)
    axes[0, 0].set_title("spectrum", fontsize=10)
    return axes[:, 1:].ravel()


def _name_frequencies(axes, names):
    for panel in axes[:, 0]:
        panel.set_ylabel("frequency" if names else "number of the frequency")
        if names:
            places = np.unique(np.linspace(0, len(names) - 1, TICKS).round().astype(int))
            panel.set_yticks(places, [names[i] for i in places])
