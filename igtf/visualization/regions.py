"""Which pixels carry the attribution: arrays in, arrays out."""

import numpy as np
from numpy.typing import ArrayLike

from igtf.visualization import checks

__all__ = ["MAGNITUDE", "border", "dilated", "largest_regions", "strength", "threshold"]

FAINTEST = 0.2  # strength of the weakest pixel that is shown
MAGNITUDE = {
    "positive": lambda values: np.maximum(values, 0),
    "negative": lambda values: np.maximum(-values, 0),
    "both": np.abs,
}


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
        opening, with a square of `2 * clean + 1` pixels. 0 leaves them; more needs SciPy.

    Returns:
      Shape `[H, W]` or `[B, H, W]`, in [-1, 1], with the sign of the attribution; NaN where that
      is not finite.

    Raises:
      ValueError: the shape or a number is out of range, or the polarity is unknown.
      TypeError: the array does not hold real numbers, or an argument is of another type.
      ImportError: `clean` is above 0, and SciPy is not installed.

    The linear transform of the project "Integrated Gradients" (see `overlay`).

    The total below is 10. The pixel with 4 alone holds 40 % of it, and the pixels down to 2 hold
    90 %, so strengths run from 1 at 4 to 0.2 at 2.

    >>> strength([[4, 3], [2, 1]], clip_above=60, clip_below=10)
    array([[1. , 0.6],
           [0.2, 0. ]])
    """
    magnitude = checks.choice("polarity", polarity, MAGNITUDE)
    checks.between("clip_above", clip_above, 0, 100)
    checks.between("clip_below", clip_below, 0, 100)
    if clip_below > clip_above:
        raise ValueError(
            f"clip_below is {clip_below} and clip_above is {clip_above}; expected clip_below <= "
            "clip_above: swap them"
        )
    checks.whole("clean", clean, 0)
    maps = checks.attribution("attribution", attribution)
    shown = np.zeros_like(maps)
    for values, result in zip(maps, shown):
        size = magnitude(values)
        finite = size[np.isfinite(size)]
        upper, lower = threshold(finite, 100 - clip_above), threshold(finite, 100 - clip_below)
        ramp = (np.clip(size, lower, upper) - lower) / (upper - lower) if upper > lower else 1.0
        level = np.where((size >= lower) & (size > 0), FAINTEST + (1 - FAINTEST) * ramp, 0.0)
        for sign in (1, -1):
            result += sign * _cleaned(np.where(np.sign(values) == sign, level, 0.0), clean)
        result[np.isnan(values)] = np.nan
    return shown if checks.is_batch(attribution) else shown[0]


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
      ImportError: SciPy is not installed.

    >>> largest_regions([[0, 9, 0, 0], [0, 9, 0, 2]], at_most=1).astype(int)
    array([[0, 1, 0, 0],
           [0, 1, 0, 0]])
    """
    shown = checks.numbers("shown", shown)
    if shown.ndim != 2 or not shown.size:
        raise checks.wrong_shape("shown", shown, "[H, W]", "pass one image at a time")
    checks.between("share", share, 0, 100)
    checks.whole("at_most", at_most, 1)
    shown = np.maximum(np.nan_to_num(shown), 0)
    ndimage = _ndimage()
    labels, count = ndimage.label(ndimage.binary_fill_holes(shown > 0), np.ones([3, 3]))
    sums = np.bincount(labels.ravel(), shown.ravel(), minlength=count + 1)[1:]  # 0 is the background
    order = np.argsort(-sums, kind="stable")
    enough = 1 + np.searchsorted(np.cumsum(sums[order]), sums.sum() * share / 100 * (1 - 1e-12))
    return np.isin(labels, 1 + order[: min(enough, at_most)])


def border(mask, width):
    """The outermost `width` pixels of the mask; the edge of the image is an edge of the mask."""
    return mask & ~_ndimage().binary_erosion(mask, np.ones([2 * width + 1] * 2))


def dilated(mask, radius):
    """The mask and what is no further than `radius` pixels from it."""
    return _ndimage().distance_transform_edt(~mask) <= radius if mask.any() else mask


def threshold(sizes, share):
    """The size at which the sum of sizes, the largest first, reaches `share` percent of all."""
    if not sizes.size or not sizes.max():
        return 0.0
    if share == 100:
        return sizes.min()
    ordered = np.sort(sizes)[::-1]
    sums = np.cumsum(ordered / ordered[0])
    return ordered[np.searchsorted(sums, sums[-1] * share / 100 * (1 - 1e-12))]


def _cleaned(level, radius):
    """A grey closing, which fills pinholes, then an opening, which drops specks."""
    if not radius:
        return level
    margin = 2 * radius  # what grows beyond the border can shrink back
    window = {"size": 2 * radius + 1, "mode": "constant"}
    level = _ndimage().grey_closing(np.pad(level, margin), **window)
    return _ndimage().grey_opening(level, **window)[margin:-margin, margin:-margin]


def _ndimage():
    """Asked for when it is needed, as the other pictures do without SciPy."""
    try:
        from scipy import ndimage
    except ImportError as error:
        raise ImportError(
            "SciPy is not installed; expected for regions of pixels and for clean above 0: pip install scipy"
        ) from error
    return ndimage
