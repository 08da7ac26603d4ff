"""A page that shows explanations one by one, for whoever has a browser and no Python."""

import html
import itertools
import os
import pathlib
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from igtf.visualization import checks, regions
from igtf.visualization.page import encode
from igtf.visualization.page.kinds import KINDS, maps_of
from igtf.visualization.page.outcomes import Naming, outcomes
from igtf.visualization.page.writer import Writer

__all__ = ["Page", "explanation_page"]

FRAME = 30_000_000  # bytes of a page that a notebook takes in


class Page:
    """What was written: `paths`, of which the first is `path`. It displays itself in notebooks."""

    def __init__(self, paths: Sequence[pathlib.Path]) -> None:
        self.paths = list(paths)

    @property
    def path(self) -> pathlib.Path:
        return self.paths[0]

    def __fspath__(self) -> str:
        return str(self.path)

    def __repr__(self) -> str:
        return f"Page({', '.join(map(str, self.paths))})"

    def _repr_html_(self) -> str:
        names = html.escape(", ".join(map(str, self.paths)))
        if self.path.stat().st_size > FRAME:
            return f"<p>This page is too large for a notebook. Open it in a browser: {names}</p>"
        page = html.escape(self.path.read_text("utf-8"))
        # What is in the frame has no access to the notebook.
        frame = 'sandbox="allow-scripts" style="width: 100%; height: 48em; border: 1px solid #8888"'
        return f'<iframe title="Explanations" {frame} srcdoc="{page}"></iframe><p>{names}</p>'


def explanation_page(
    samples: Any,
    attributions: ArrayLike | Iterable[ArrayLike],
    predictions: ArrayLike | None = None,
    class_names: Sequence[str] | None = None,
    targets: ArrayLike | None = None,
    errors: ArrayLike | Iterable[ArrayLike] | None = None,
    kind: str = "image",
    path: str | os.PathLike = "explanations.html",
    *,
    deltas: ArrayLike | Iterable[ArrayLike] | None = None,
    explained: Any = None,
    feature_names: Sequence[str] | None = None,
    labels: Sequence[str] | None = None,
    title: str = "Explanations",
) -> Page:
    """Writes a page to look through explanations: one HTML file that opens in any browser, without a network.

    It shows a gallery of the samples, to be sorted and filtered, and of each sample the maps of all classes,
    values under the pointer, and the sum of each map beside the change of the output. `N`: samples, `C`:
    classes, `K`: maps of each sample, one for each class or only one.

    Args:
      samples: with the kind `"image"` `[N, H, W]` or `[N, H, W, C]`, 1 or 3 channels, of any value range;
        `"text"`: `N` lists of tokens; `"table"`: `N` rows of numbers and strings; `"series"`: `[N, T]` or
        `[N, T, C]`, time first. Or a list of what each sample has, of different sizes, too.
      attributions: for each sample one map or `K` of them, in its shape: `[N, ...]` or `[N, K, ...]`, as
        `Explainer.explain` returns. Channels of an image are summed. An iterable, such as a generator, is
        read sample by sample, so that no more than one is in memory.
      predictions: `[N, C]`, the scores of classes; `[N]` or `[N, 1]`, one output, which with two
        `class_names` is the probability of the second; or class numbers, ints `[N]`.
      class_names: a string for each class.
      targets: the truth: class numbers `[N]` (or `[N, 1]`, or one-hot rows), or true values of one output.
      errors: estimated relative errors, `[N]` or `[N, K]`, as `return_error` of `Explainer.explain` says.
      kind: `"image"`, `"text"`, `"table"` or `"series"`.
      path: the file to write. Above 100 MB there are several: `explanations-2.html` is the second.
      deltas: sums of attributions minus changes of outputs, `[N]` or `[N, K]`, as `return_delta` says. With
        them the page says what the output changed by.
      explained: what maps are for: a class number, `[K]` of them, `[N]` (one map each) or `[N, K]`; or `K`
        strings, which name them. `None`: every class, if there are as many maps; of one map, the prediction.
      feature_names: names of the columns of a table, or of the channels of a series.
      labels: a name for each sample, such as its file.
      title: what stands above it all.

    Returns:
      A `Page` with the `paths` of what was written, which displays itself in a notebook (as a frame).

    Raises:
      ValueError: there are no samples; shapes, lengths or class numbers do not match; unknown `kind`.
      TypeError: arrays do not hold real numbers, or an argument is of another type.

    Warns:
      UserWarning: there is more than 100 MB, and several pages were written.

    Maps of images are kept in 8 bits: values shown are within 1/250 of the largest one of the map. All
    others are kept in float16, within 1/2048 of each value. Sums are those of the arrays.

    >>> import tempfile
    >>> folder = pathlib.Path(tempfile.mkdtemp())
    >>> rows, maps = [[5.1, "blue"], [4.9, "red"]], [[0.5, -0.1], [0.2, 0.3]]
    >>> names = ["size", "colour"]
    >>> page = explanation_page(rows, maps, kind="table", feature_names=names, path=folder / "a.html")
    >>> page.path.name, page.path.stat().st_size < 50_000
    ('a.html', True)
    """
    kind_of = checks.choice("kind", kind, KINDS)
    samples = samples.numpy() if hasattr(samples, "numpy") else samples
    count = _count(samples)
    known = outcomes(count, predictions, class_names, targets)
    features = None if feature_names is None else checks.strings("feature_names", feature_names)
    names = checks.titles(labels, count, "labels")
    if not isinstance(title, str):
        raise TypeError(f"title is a {type(title).__name__}; expected a string")
    if not isinstance(path, (str, os.PathLike)):
        raise TypeError(f"path is a {type(path).__name__}; expected the name of a file, such as 'page.html'")
    path = pathlib.Path(os.fspath(path))
    if path.is_dir():
        raise ValueError(f"path is the folder {str(path)!r}; expected the name of a file in it")
    columns = (
        _entries("attributions", attributions, count),
        _entries("deltas", deltas, count),
        _entries("errors", errors, count),
    )
    naming = Naming(explained, count, known)
    about = {"kind": kind, "title": title, "classes": known.names, "features": features}
    with Writer(path, about | {"levels": encode.LEVELS, "count": count}) as writer:
        for n, (value, delta, error) in enumerate(zip(*columns)):
            sample = kind_of.read(f"samples[{n}]", samples[n], features)
            maps = maps_of(f"attributions[{n}]", value, sample, kind_of)
            facts = {"class": naming.of(n, len(maps)), **_beside("delta", n, delta, len(maps))}
            facts |= _beside("error", n, error, len(maps))
            facts, chunks = _maps(maps, kind_of, facts)
            writer.about["maps"] = naming.names
            row = {"label": names[n], "shape": sample.shape, "maps": facts} | known.row(n)
            writer.add(row, sample.content | {"packed": encode.packed([*chunks, *sample.chunks])})
    return Page(writer.paths)


def _count(samples):
    if hasattr(samples, "columns"):
        raise TypeError(
            f"samples is a {type(samples).__name__}; expected an array or a list of rows: pass "
            "samples.values.tolist(), and list(samples.columns) as feature_names"
        )
    if (
        isinstance(samples, (str, dict))
        or not hasattr(samples, "__len__")
        or not hasattr(samples, "__getitem__")
    ):
        raise TypeError(
            f"samples is a {type(samples).__name__}; expected an array [N, ...] or a list of samples"
        )
    if not len(samples):
        raise ValueError("samples are empty; expected at least one: look at what filters them")
    return len(samples)


def _entries(name, value, count):
    """An iterator over what each of the samples has."""
    if value is None and name != "attributions":
        return itertools.repeat(None, count)
    if isinstance(value, Iterator):
        return _exactly(name, value, count)
    scalar = not hasattr(value, "__len__") or np.shape(value if hasattr(value, "shape") else [1]) == ()
    if isinstance(value, (str, dict)) or scalar:
        raise TypeError(f"{name} is a {type(value).__name__}; expected an array or a list, [{count}, ...]")
    if len(value) != count:
        raise ValueError(f"{name} has {len(value)} entries; expected {count}, one for each of the samples")
    return iter(value)


def _exactly(name, values, count):
    given = 0
    for value in values:
        if given == count:
            raise ValueError(f"{name} has more than {count} entries; expected one for each of the samples")
        yield value
        given += 1
    if given < count:
        raise ValueError(f"{name} ended after {given} entries; expected {count}, one for each of the samples")


def _beside(name, n, value, maps):
    """`{name: a number for each map}`, or nothing."""
    if value is None:
        return {}
    array = checks.numbers(f"{name}s[{n}]", value, infinities=True).reshape(-1)
    if len(array) != maps:
        raise checks.wrong_shape(f"{name}s[{n}]", array, f"[{maps}]", f"pass one {name} for each map")
    return {name: array}


def _maps(maps, kind, beside):
    """Facts of each map, in the order in which they come, and its bytes."""
    facts, chunks = [], []
    for k, values in enumerate(maps):
        chunk, scale = kind.encode(values)
        chunks.append(chunk)
        finite = values[np.isfinite(values)]
        with np.errstate(over="ignore", invalid="ignore"):
            limit = regions.threshold(np.abs(finite), kind.clipped)
            parts = {"sum": values.sum(), "plus": finite[finite > 0].sum(), "minus": finite[finite < 0].sum()}
        fact = {"scale": scale, **parts, **{key: column[k] for key, column in beside.items()}}
        if 0 < limit < scale:
            fact["limit"] = limit
        if finite.size < values.size:
            fact["missing"] = values.size - finite.size
        facts.append({key: encode.number(value) for key, value in fact.items()})
    return facts, chunks
