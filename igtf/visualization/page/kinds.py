"""What a page shows of a sample, kind by kind, and the maps that belong to it."""

from collections.abc import Callable, Sequence
from numbers import Real
from typing import NamedTuple

import numpy as np

from igtf.visualization import checks, figures
from igtf.visualization.page import encode

__all__ = ["KINDS", "Kind", "Sample", "maps_of"]


class Sample(NamedTuple):
    shape: tuple[int, ...]  # of one map
    content: dict  # what goes into the page as JSON
    chunks: Sequence[bytes] = ()  # what is deflated together with the maps


class Kind(NamedTuple):
    read: Callable  # (name, value, names of features or None) to Sample
    encode: Callable  # numbers to bytes and their scale
    summed: bool  # whether a last axis of channels is summed
    clipped: float  # percentage of the attribution that lies beyond the end of the colours


def maps_of(name, value, sample, kind):
    """`[K, *sample.shape]`; infinities stay."""
    array = checks.numbers(name, value, infinities=True)
    shape, rank = sample.shape, len(sample.shape)
    one, several = array.shape[:rank] == shape, array.shape[1 : rank + 1] == shape and array.size > 0
    further = array.ndim - rank
    with np.errstate(invalid="ignore", over="ignore"):
        if one and not further:
            return array[None]
        if kind.summed and one and further == 1 and array.size and (array.shape[-1] in (1, 3) or not several):
            return array.sum(-1)[None]
        if kind.summed and several and further == 2:
            return array.sum(-1)
    if several and further == 1:
        return array
    channels = ", with or without channels as last axis" if kind.summed else ""
    expected = f"{shape} or (K, {', '.join(map(str, shape))}){channels}"
    advice = "pass one map for each sample, or K of them, in the shape of the sample"
    if not kind.summed:
        advice += "; sum over the entries of embeddings, and drop padding"
    raise checks.wrong_shape(name, array, expected, advice)


def _image(name, value, features):
    shape = np.shape(value)
    if len(shape) not in (2, 3) or (len(shape) == 3 and shape[-1] not in (1, 3)):
        array = checks.numbers(name, value)
        raise checks.wrong_shape(
            name, array, "[H, W] or [H, W, C] with 1 or 3 channels", "pass one image for each sample"
        )
    (pixels,) = checks.images(name, value)
    missing = int(np.isnan(pixels).any(-1).sum())
    return Sample(pixels.shape[:2], {"image": encode.picture(figures.rgb(pixels)), "missing": missing})


def _text(name, value, features):
    tokens = checks.strings(name, value)
    if not tokens:
        raise ValueError(f"{name} has no tokens; expected at least one: leave the text out")
    return Sample((len(tokens),), {"tokens": [str(token) for token in tokens]})


def _table(name, value, features):
    if isinstance(value, str) or not isinstance(value, (Sequence, np.ndarray)) or np.ndim(value) != 1:
        raise TypeError(
            f"{name} is a {type(value).__name__}; expected a row of numbers and strings, [F]: "
            "convert it with list()"
        )
    values = [_cell(f"{name}[{i}]", cell) for i, cell in enumerate(value)]
    _check_features(features, len(values), "columns")
    return Sample((len(values),), {"values": values})


def _cell(name, value):
    if isinstance(value, (str, bool, np.bool_)):
        return str(value)
    if isinstance(value, Real):
        return encode.number(float(value))
    raise TypeError(f"{name} is a {type(value).__name__}; expected a number or a string: convert it")


def _series(name, value, features):
    array = checks.numbers(name, value, infinities=True)
    if array.ndim not in (1, 2) or not array.size:
        raise checks.wrong_shape(name, array, "[T] or [T, C]", "pass one series for each sample, time first")
    lines = array.reshape(len(array), -1).T
    _check_features(features, len(lines), "channels")
    ends, chunks = [], []
    for line in lines:
        finite = line[np.isfinite(line)]
        # (Halves first: the sum of two large numbers would overflow.)
        middle = finite.min() / 2 + finite.max() / 2 if finite.size else 0.0
        chunk, scale = encode.half_floats(line - middle)
        ends.append([encode.number(middle), encode.number(scale)])
        chunks.append(chunk)
    return Sample(array.shape, {"lines": ends}, chunks)


def _check_features(features, count, what):
    if not count:
        raise ValueError(f"samples have no {what}; expected at least one")
    if features is not None and len(features) != count:
        raise ValueError(
            f"feature_names holds {len(features)} strings and samples have {count} {what}; "
            "expected one for each"
        )


KINDS = {
    "image": Kind(_image, encode.eight_bits, True, 0.1),
    "text": Kind(_text, encode.half_floats, False, 0.0),
    "table": Kind(_table, encode.half_floats, False, 0.0),
    "series": Kind(_series, encode.half_floats, False, 0.0),
}
