"""A view of a continuation and its prompt: a click on a word colours what it is due to."""

import html
import os
import pathlib
from collections.abc import Sequence

from numpy.typing import ArrayLike

from igtf.visualization import checks
from igtf.visualization.page import encode
from igtf.visualization.page.pages import Page
from igtf.visualization.page.writer import STYLE, policy

__all__ = ["generation_page", "generation_view"]

HERE = pathlib.Path(__file__).parent
LAYOUT, LOOK, SCRIPT = ((HERE / f"generation.{kind}").read_text("utf-8") for kind in ("html", "css", "js"))


def generation_view(
    prompt: Sequence[str],
    continuation: Sequence[str],
    scores: ArrayLike,
    *,
    outputs: ArrayLike | None = None,
    rivals: Sequence[str] | None = None,
    label: str = "attribution",
    title: str = "What in the prompt made it say this?",
) -> str:
    """A continuation and its prompt, of which a click on a word of the one colours the other: HTML.

    Args:
      prompt, continuation: the `P` and `C` tokens or words of each, strings of any script.
      scores: `[C, P]`, what each word of the continuation is due to; or `[C, P + C]`, with the words of the
        continuation before it. What comes at its own place and later is not shown.
      outputs: `[C]`, what is explained of each word of the continuation.
      rivals: `C` strings, what each word is compared with.
      label: what the scores are.
      title: what stands above it all.

    Returns:
      A frame that a notebook displays and that runs nothing outside of itself. `generation_page` writes it
      into a file.

    Raises:
      ValueError: there are no words; shapes or lengths do not match.
      TypeError: scores are no real numbers, or an argument is of another type.

    >>> view = generation_view(["2", "+", "2", "="], ["4"], [[0.7, 0.1, 0.6, 0.2]])
    >>> view[:7], "srcdoc" in view
    ('<iframe', True)
    """
    page = _page(prompt, continuation, scores, outputs, rivals, label, title)
    height = 18 + 2.2 * (sum(len(word) + 2 for word in [*prompt, *continuation]) // 90 + 2)  # em
    style = f"width: 100%; height: {min(height, 60):.0f}em; border: 1px solid #8888"
    return _Frame(
        f'<iframe title="{html.escape(title)}" sandbox="allow-scripts" style="{style}" '
        f'srcdoc="{html.escape(page)}"></iframe>'
    )


def generation_page(
    prompt: Sequence[str],
    continuation: Sequence[str],
    scores: ArrayLike,
    path: str | os.PathLike = "generation.html",
    *,
    outputs: ArrayLike | None = None,
    rivals: Sequence[str] | None = None,
    label: str = "attribution",
    title: str = "What in the prompt made it say this?",
) -> Page:
    """Writes what `generation_view` shows into one HTML file for any browser, without a network.

    Args:
      prompt, continuation, scores, outputs, rivals, label, title: as for `generation_view`.
      path: the file to write.

    Returns:
      A `Page` with the `path`, which displays itself in a notebook.

    Raises:
      ValueError: there are no words; shapes or lengths do not match.
      TypeError: scores are no real numbers, or an argument is of another type.

    >>> import tempfile
    >>> path = pathlib.Path(tempfile.mkdtemp()) / "sum.html"
    >>> generation_page(["2", "+", "2", "="], ["4"], [[0.7, 0.1, 0.6, 0.2]], path).path.name
    'sum.html'
    """
    page = _page(prompt, continuation, scores, outputs, rivals, label, title)
    path = pathlib.Path(os.fspath(path))
    path.write_text(page, "utf-8", newline="\n")
    return Page([path])


def _page(prompt, continuation, scores, outputs, rivals, label, title):
    prompt, continuation, values = checks.generation(prompt, continuation, scores)
    if outputs is not None:
        outputs = checks.vector("outputs", outputs, len(continuation))
    rivals = None if rivals is None else checks.titles(rivals, len(continuation), "rivals")
    (label,), (title,) = checks.titles(label, 1, "label"), checks.titles(title, 1, "title")
    about = {
        "prompt": prompt,
        "continuation": continuation,
        "scores": [[encode.number(float(f"{v:.7g}")) for v in row] for row in values],
        "outputs": None if outputs is None else [encode.number(float(v)) for v in outputs],
        "rivals": rivals,
        "label": label,
        "title": title,
    }
    style = STYLE + LOOK
    page = LAYOUT.replace("<!-- policy -->", policy(style, SCRIPT)).replace("/* style */", style)
    return page.replace("/* script */", SCRIPT).replace("/* index */", encode.as_json(about))


class _Frame(str):
    """A string that notebooks display as HTML."""

    def _repr_html_(self) -> str:
        return str(self)
