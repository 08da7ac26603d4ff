"""Words on a background that tells how much each speaks for or against the output."""

import html
from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import Colormap, to_hex
from matplotlib.figure import FigureBase
from matplotlib.patches import FancyBboxPatch, Patch
from numpy.typing import ArrayLike

from igtf.visualization import checks, figures

__all__ = ["highlight_text"]

_LINE, _GAP, _FONT, _SMALL = 24, 4, 11, 9  # points
_NARROWEST, _WIDEST = 200, 560  # points: the scale and its name, and what a page holds


def highlight_text(
    tokens: Sequence[str] | Sequence[Sequence[str]],
    scores: ArrayLike | Sequence[ArrayLike],
    output: str = "html",
    *,
    labels: str | Sequence[str] | None = None,
    cmap: str | Colormap = figures.CMAP,
    ax: Axes | None = None,
) -> str | FigureBase:
    """Tokens on a background that tells how much each speaks for or against the output.

    Args:
      tokens: the `T` tokens of a text, or a list of texts. They are escaped, not interpreted.
      scores: one number per token, shape `[T]`; for several texts a list of such arrays. Sum
        attributions of embeddings over the embedding's axis first.
      output: `"html"`, a string that displays itself in a notebook, or `"figure"`. Matplotlib
        knows only the characters of its font, a browser knows all. The figure is as wide as its texts
        need, 8 inches at most.
      labels: one string per text, to the left of it: what it is, what the network says and how sure
        it is, such as `"praise, 0.93"`.
      cmap: a diverging Matplotlib colour map.
      ax: axes to draw the figure in, instead of a new figure.

    Returns:
      The HTML, or the figure.

    Raises:
      ValueError: lengths or the number of labels do not match, or `output` or `cmap` is unknown.
      TypeError: a token is no string, scores are no real numbers, or an argument is of another
        type.

    >>> "&lt;b&gt;" in highlight_text(["a", "<b>"], [0.5, -1.0])
    True
    >>> figure = highlight_text(["not", "bad"], [-0.2, 0.7], "figure", labels="praise, 0.62")
    """
    draw = checks.choice("output", output, {"html": _text_html, "figure": _text_figure})
    texts = checks.texts(tokens, scores)
    labels = checks.titles(labels, len(texts), "labels")
    values = np.concatenate([values for _, values in texts])
    mappable = figures.symmetric(values, cmap)
    if output == "html" and ax is not None:
        raise ValueError('ax was given and output is "html"; pass output="figure" to draw in axes')
    return draw(texts, labels, mappable, figures.remarks(values), ax)


def _text_html(texts, labels, mappable, remarks, ax):
    indent = 0.6 * max(map(len, labels))
    hanging = f"; padding-left: {indent:.1f}em; text-indent: -{indent:.1f}em" * bool(indent)
    names = [_label_html(label, indent) * bool(indent) for label in labels]
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
        f'<p style="line-height: 2; margin: 0.3em 0{hanging}">{name}'
        + " ".join(_token_html(token, value, mappable) for token, value in zip(*text))
        + "</p>"
        for text, name in zip(texts, names)
    )
    return _Html(f'<div style="font-family: sans-serif">{"".join(paragraphs)}{scale}</div>')


def _label_html(label, width):
    style = f"display: inline-block; width: {width:.1f}em; text-indent: 0; opacity: 0.75"
    return f'<span style="{style}">{html.escape(label)}</span>'


def _token_html(token, value, mappable):
    paper, ink = _paper_and_ink(value, mappable)
    return (
        f'<span title="{figures.signed(value)}" style="background: {paper}; color: {ink}; padding: 0.15em '
        f'0.25em; border-radius: 0.2em">{html.escape(_visible(token))}</span>'
    )


def _text_figure(texts, labels, mappable, remarks, ax):
    own = ax is None
    indent = max(figures.text_width(label, _SMALL) for label in labels)
    indent += 10 * bool(indent)
    if own:
        ends = [left + size for _, left, size, *_ in _flow(texts, indent, _WIDEST)[0]]
        width = min(_WIDEST, max(_NARROWEST, *ends))
        words, starts, lines = _flow(texts, indent, width)
        span = lines * _LINE
        across, down = (width + 16) / 72, span / 72 + 0.85
        fig = figures.Figure((across, down))
        ax = fig.add_axes([8 / 72 / across, 0.72 / down, width / 72 / across, span / 72 / down])
        scale = fig.add_axes([8 / 72 / across, 0.45 / down, 2.4 / across, 0.14 / down])
        fig.colorbar(mappable, cax=scale, orientation="horizontal", label="attribution")
    else:
        (ax,) = figures.given_axes(ax, 1)
        fig = ax.figure
        fig.colorbar(mappable, ax=ax, orientation="horizontal", label="attribution", aspect=30)
        fig.figure.draw_without_rendering()  # the layout decides how large the axes are
        width, span = ax.get_window_extent().size * 72 / fig.dpi
        words, starts, _ = _flow(texts, indent, width)
    ax.set(xlim=(0, width), ylim=(-span, 0))
    ax.set_axis_off()
    box = {"boxstyle": "round,pad=1,rounding_size=3", "clip_on": False}
    font = {"ha": "center", "fontsize": _FONT, "parse_math": False}
    for line, left, size, token, value in words:
        paper, ink = _paper_and_ink(value, mappable)
        bottom = -(line + 1) * _LINE
        ax.add_patch(FancyBboxPatch((left + 1, bottom + 4), size - 2, 17, color=paper, **box))
        ax.text(left + size / 2, bottom + 9, token, color=ink, **font)
    for line, label in zip(starts, labels) if indent else ():
        ax.text(0, -(line + 1) * _LINE + 9, label, fontsize=_SMALL, color="0.3", parse_math=False)
    handles = [Patch(color=colour or "none", label=label) for label, colour in remarks.items()]
    if handles:
        where = fig if own else ax
        where.legend(handles=handles, frameon=False, fontsize="small", loc="lower right")
    return fig


def _flow(texts, indent, width):
    """Where each token goes, `(line, left, width, token, value)`, first lines, and the number of lines."""
    words, starts, line = [], [], -1
    for tokens, values in texts:
        line, left = line + 1, indent
        starts.append(line)
        for token, value in zip(tokens, values):
            token = _visible(token)
            size = figures.text_width(token, _FONT) + 8
            if left > indent and left + size > width:
                line, left = line + 1, indent
            words.append((line, left, size, token, value))
            left += size + _GAP
    return words, starts, line + 1


def _paper_and_ink(value, mappable):
    rgb = mappable.to_rgba(np.ma.masked_invalid([value]))[0, :3]
    return to_hex(rgb), "white" if rgb @ figures.LUMINANCE < 0.45 else "black"


def _visible(token):
    return token.replace("\n", "\u21b5").replace("\t", "\u2192")


class _Html(str):
    """A string that notebooks display as HTML."""

    def _repr_html_(self) -> str:
        return str(self)
