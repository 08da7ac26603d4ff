"""Words on a background that tells how much each speaks for or against the output."""

import html
from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import Colormap, to_hex
from matplotlib.figure import FigureBase
from matplotlib.font_manager import FontProperties
from matplotlib.patches import FancyBboxPatch, Patch
from matplotlib.textpath import text_to_path
from numpy.typing import ArrayLike

from igtf.visualization import checks, figures

__all__ = ["highlight_text"]

_LINE, _GAP, _FONT = 24, 4, 11  # points


def highlight_text(
    tokens: Sequence[str] | Sequence[Sequence[str]],
    scores: ArrayLike | Sequence[ArrayLike],
    output: str = "html",
    *,
    cmap: str | Colormap = figures.CMAP,
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
    draw = checks.choice("output", output, {"html": _text_html, "figure": _text_figure})
    texts = checks.texts(tokens, scores)
    values = np.concatenate([values for _, values in texts])
    mappable = figures.symmetric(values, cmap)
    if output == "html" and ax is not None:
        raise ValueError('ax was given and output is "html"; pass output="figure" to draw in axes')
    return draw(texts, mappable, figures.remarks(values), ax)


def _text_html(texts, mappable, remarks, ax):
    limit = mappable.norm.vmax
    stops = ", ".join(to_hex(mappable.cmap(place)) for place in np.linspace(0, 1, 9))
    notes = "".join(
        f' &emsp;<span style="background: {colour or "none"}">&emsp;</span> {html.escape(text)}'
        for text, colour in remarks.items()
    )
    scale = (
        '<div style="font-size: 80%; margin-top: 0.6em">'
        f'{figures.signed(-limit)} <span style="display: inline-block; width: 12em; height: 0.8em; '
        f'border: 1px solid #bbb; background: linear-gradient(to right, {stops})"></span> '
        f"{figures.signed(limit)}{notes}</div>"
    )
    paragraphs = (
        '<p style="line-height: 2; margin: 0.3em 0">'
        + " ".join(_token_html(token, value, mappable) for token, value in zip(*text))
        + "</p>"
        for text in texts
    )
    return _Html(f'<div style="font-family: sans-serif">{"".join(paragraphs)}{scale}</div>')


def _token_html(token, value, mappable):
    paper, ink = _paper_and_ink(value, mappable)
    return (
        f'<span title="{figures.signed(value)}" style="background: {paper}; color: {ink}; padding: 0.15em '
        f'0.25em; border-radius: 0.2em">{html.escape(_visible(token))}</span>'
    )


def _text_figure(texts, mappable, remarks, ax):
    own = ax is None
    if own:
        words, lines = _flow(texts, width=560)
        width, span = 560, lines * _LINE
        height = span / 72 + 0.85
        fig = figures.Figure((8, height))
        ax = fig.add_axes([8 / 576, 0.72 / height, 560 / 576, span / 72 / height])
        scale = fig.add_axes([8 / 576, 0.45 / height, 0.3, 0.14 / height])
        fig.colorbar(mappable, cax=scale, orientation="horizontal", label="attribution")
    else:
        (ax,) = figures.given_axes(ax, 1)
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
    return to_hex(rgb), "white" if rgb @ figures.LUMINANCE < 0.45 else "black"


def _visible(token):
    return token.replace("\n", "\u21b5").replace("\t", "\u2192")


class _Html(str):
    """A string that notebooks display as HTML."""

    def _repr_html_(self) -> str:
        return str(self)
