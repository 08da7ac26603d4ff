"""What comes in is checked and brought to one form; a message says what came, what was expected, what to do.

Every function takes the name of the argument, for the message, and its value.
"""

import warnings
from collections.abc import Sequence
from numbers import Integral, Real

import numpy as np
from matplotlib.colors import to_rgb

__all__ = [
    "PIXELS",
    "attribution",
    "between",
    "choice",
    "colours",
    "columns",
    "curves",
    "generation",
    "image_and_columns",
    "images",
    "is_batch",
    "numbers",
    "one_of",
    "strings",
    "table",
    "texts",
    "titles",
    "unit",
    "vector",
    "whole",
    "wrong_shape",
]

PIXELS = "[H, W], [H, W, C], [B, H, W] or [B, H, W, C]"
_LARGEST = 1e302  # beyond, sums and the decades of an axis would overflow


def numbers(name, value, infinities=False):
    """`value` as float64, NaN where it is not finite; or, with `infinities`, as it is."""
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
    if infinities:
        return array
    array = np.where(np.isfinite(array), array, np.nan)
    return np.clip(array, -_LARGEST, _LARGEST)


def wrong_shape(name, array, expected, advice):
    return ValueError(f"{name} has shape {array.shape}; expected {expected}: {advice}")


def is_batch(value):
    shape = np.shape(value)
    return len(shape) == 4 or (len(shape) == 3 and shape[-1] not in (1, 3))


def _pixels(name, value):
    """`[B, H, W, C]`."""
    array = numbers(name, value)
    if array.ndim not in (2, 3, 4) or not array.size:
        advice = "reshape flat pixels, drop other axes, and leave out what is empty"
        raise wrong_shape(name, array, PIXELS, advice)
    if array.ndim == 2 or (array.ndim == 3 and is_batch(array)):
        array = array[..., None]
    return array if array.ndim == 4 else array[None]


def images(name, value):
    """`[B, H, W, C]` with values in 0..1."""
    array = _pixels(name, value)
    if array.shape[-1] not in (1, 3):
        advice = "move the channels there, and drop an alpha channel"
        raise wrong_shape(name, array, "1 or 3 channels in the last axis", advice)
    return unit(array, getattr(value, "dtype", None), (1, 2, 3))


def unit(images, dtype, axes):
    """Bring images to the range 0..1, where they are not yet."""
    if dtype == np.uint8:
        return images / 255
    low, high = (extreme.reduce(images, axis=axes, keepdims=True) for extreme in (np.fmin, np.fmax))
    fits = (low >= -1e-3) & (high <= 1 + 1e-3)
    flat = ~(high > low)
    stretched = (images - low) / np.where(flat, 1, high - low) + 0.5 * flat
    return np.clip(np.where(fits, images, stretched), 0, 1)


def attribution(name, value):
    """`[B, H, W]`, the channels summed."""
    return _pixels(name, value).sum(axis=-1)


def columns(name, value, images):
    """A list of attributions `[B, H, W]` of the images."""
    if isinstance(value, (list, tuple)) and value and numbers(f"{name}[0]", value[0]).ndim > 1:
        parts = (columns(f"{name}[{i}]", item, images) for i, item in enumerate(value))
        return [each for part in parts for each in part]
    array, pixels = numbers(name, value), images.shape[:3]
    single = len(images) == 1
    several = array.ndim in (4, 5) and len(array) == len(images) and array.shape[2:4] == pixels[1:]
    if several and array.size and array.shape[:3] != pixels:
        return [part for column in np.moveaxis(array, 1, 0) for part in columns(name, column, images)]
    for shape in [pixels] + [pixels[1:]] * single:
        if array.shape == shape:
            return [array.reshape(pixels)]
        if array.shape[:-1] == shape and array.size:
            return [array.sum(axis=-1).reshape(pixels)]
    if single and array.ndim in (3, 4) and array.shape[1:3] == pixels[1:] and array.size:
        return [each for item in array for each in columns(name, item, images)]
    expected = f"{pixels[1:] if single else pixels}, with or without channels as last axis"
    advice = f"pass attributions of the images, shape {images.shape}, or a list of such, or [B, K, H, W]"
    raise wrong_shape(name, array, expected, advice)


def image_and_columns(image, attribution):
    pixels = images("image", image)
    return pixels, columns("attribution", attribution, pixels)


def one_of(name, value, shapes):
    array = numbers(name, value)
    if array.shape not in shapes:
        expected = " or ".join(map(str, shapes))
        raise wrong_shape(name, array, expected, "pass one entry per step and picture")
    return array


def vector(name, value, length=None):
    array = numbers(name, value)
    if array.ndim != 1 or not array.size or length not in (None, len(array)):
        raise wrong_shape(name, array, f"[{length or 'N'}]", "pass one number per step")
    if np.isnan(array).any():
        raise ValueError(f"{name} is {array}; expected finite numbers: drop the other steps")
    return array


def curves(name, value, lengths):
    """`[N, K]`."""
    array = numbers(name, value)
    if array.ndim not in (1, 2) or not array.size or len(array) not in lengths:
        expected = " or ".join(f"[{length}] or [{length}, K]" for length in lengths)
        raise wrong_shape(name, array, expected, "pass one row per step; transpose it")
    return array.reshape(len(array), -1)


def strings(name, value):
    if isinstance(value, str) or not isinstance(value, (Sequence, np.ndarray)):
        raise TypeError(f"{name} is a {type(value).__name__}; expected a list of strings: split it")
    for each in value:
        if not isinstance(each, str):
            raise TypeError(f"{name} holds {each!r}; expected strings: convert it with str()")
    return list(value)


def titles(value, count, name="titles"):
    if value is None:
        return [""] * count
    given = strings(name, [value] if isinstance(value, str) else value)
    if len(given) != count:
        raise ValueError(f"{name} holds {len(given)} strings; expected {count}: pass one for each")
    return given


def table(name, value, rows, columns):
    """Strings, `[rows, columns]`."""
    if value is None:
        return [[""] * columns] * rows
    if isinstance(value, str) or not isinstance(value, (Sequence, np.ndarray)):
        raise TypeError(f"{name} is a {type(value).__name__}; expected a list of lists of strings")
    if len(value) != rows:
        raise ValueError(f"{name} holds {len(value)} rows; expected {rows}: pass one for each")
    return [titles(line, columns, f"{name}[{index}]") for index, line in enumerate(value)]


def texts(tokens, scores):
    """A list of `(tokens, scores)`, one per text."""
    if isinstance(tokens, str) or not isinstance(tokens, (Sequence, np.ndarray)):
        strings("tokens", tokens)
    several = len(tokens) and isinstance(tokens[0], (list, tuple, np.ndarray))
    if not several:
        tokens, scores = [tokens], [scores]
    elif not isinstance(scores, Sequence):
        scores = np.atleast_1d(numbers("scores", scores))
    if len(scores) != len(tokens):
        raise ValueError(
            f"scores are for {len(scores)} texts; expected {len(tokens)}: pass one list of scores "
            "per list of tokens"
        )
    pairs = [(strings("tokens", each), numbers("scores", score)) for each, score in zip(tokens, scores)]
    for words, values in pairs:
        if not words or values.shape != (len(words),):
            expected = f"[{len(words)}], one per token, and at least one"
            advice = "sum attributions over the embedding's axis, and drop padding"
            raise wrong_shape("scores", values, expected, advice)
    return pairs


def generation(prompt, continuation, scores):
    """Words of both, `P` and `C`, and scores `[C, P]` or `[C, P + C]`."""
    words = [list(strings(name, v)) for name, v in (("prompt", prompt), ("continuation", continuation))]
    for name, some in zip(("prompt", "continuation"), words):
        if not some:
            raise ValueError(f"{name} has no words; expected at least one")
    before, after = map(len, words)
    array = numbers("scores", scores)
    if array.shape not in ((after, before), (after, before + after)):
        expected = f"[{after}, {before}] or [{after}, {before + after}]"
        advice = "pass a row for each word of the continuation, a column for each word before it"
        raise wrong_shape("scores", array, expected, advice)
    return *words, array


def colours(value):
    if isinstance(value, str) or not isinstance(value, Sequence):
        raise TypeError(f"colours is {value!r}; expected a pair (positive, negative) of colours")
    if len(value) != 2:
        raise ValueError(f"colours holds {len(value)} colours; expected 2: (positive, negative)")
    return [to_rgb(colour) for colour in value]


def choice(name, value, table):
    if not isinstance(value, str):
        raise TypeError(f"{name} is a {type(value).__name__}; expected one of {sorted(table)}")
    if value not in table:
        raise ValueError(f"{name} is {value!r}; expected one of {sorted(table)}: choose one")
    return table[value]


def between(name, value, low, high):
    if isinstance(value, bool) or not isinstance(value, Real):
        raise TypeError(f"{name} is a {type(value).__name__}; expected a number")
    if not low <= value <= high:
        raise ValueError(f"{name} is {value}; expected a number in [{low}, {high}]: choose one there")
    return value


def whole(name, value, least):
    if isinstance(value, bool) or not isinstance(value, Integral):
        raise TypeError(f"{name} is a {type(value).__name__}; expected a whole number")
    if value < least:
        raise ValueError(f"{name} is {value}; expected at least {least}: choose one there")
