"""What is on the screen when a figure is drawn, and colours and arrays that the tests share."""

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg

YELLOW = (1, 213 / 255, 0)
GREEN = (53 / 255, 1, 77 / 255)
MAGENTA = (1, 77 / 255, 1)
GRAY, RGB = [7, 5], [7, 5, 3]


def noise(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape)


def pixels(figure):
    """What is on the screen, `[rows, columns, 3]` in 0..1, the upper row first."""
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    return np.asarray(canvas.buffer_rgba())[..., :3] / 255


def at(figure, ax, row, column):
    """The colour on the screen at the centre of a pixel of the image in `ax`."""
    screen = pixels(figure)
    x, y = ax.transData.transform([column, row])
    return screen[len(screen) - 1 - int(y), int(x)]


def legend(figure):
    """All that the legends say."""
    legends = [*figure.legends, *(ax.get_legend() for ax in figure.axes if ax.get_legend())]
    return [text.get_text() for each in legends for text in each.get_texts()]


def shown(figure, index=0):
    return np.asarray(figure.axes[index].images[0].get_array())


LETTERS = {
    "w": (1, 1, 1), "k": (0, 0, 0), "r": (1, 0, 0), "b": (0, 0, 1), "g": GREEN, "m": MAGENTA, "y": YELLOW,
    "R": (0.5, 0, 0), "B": (0, 0, 0.3), "+": (0.91, 0.22, 0.17), "-": (0.18, 0.55, 0.91),
    ".": (0.4, 0.4, 0.4),
}  # fmt: skip


def snapshot(figure, index, rows, columns):
    """The axes as they are on the screen, in `rows` lines of letters: the median colour of each cell."""
    screen = pixels(figure)
    left, bottom, right, top = figure.axes[index].get_window_extent().extents.round().astype(int)
    part = screen[len(screen) - top : len(screen) - bottom, left:right]
    names, colours = zip(*LETTERS.items())
    lines = []
    for line in np.array_split(part, rows):
        cells = [np.median(cell, axis=(0, 1)) for cell in np.array_split(line, columns, axis=1)]
        distances = np.abs(np.array(cells)[:, None] - np.array(colours)).max(axis=-1)
        assert distances.min(axis=1).max() < 0.12, "a colour that has no letter"
        lines.append("".join(names[i] for i in distances.argmin(axis=1)))
    return lines
