"""Areas of an image, ranked by the attribution that they carry: arrays in, arrays out."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike

from igtf.visualization import checks, regions

__all__ = ["least_area", "segment", "xrai"]

SIDE = 224  # of the image that is segmented: scales and sizes are for it
SCALES = (50, 100, 150, 250, 500, 1200)


def xrai(
    attribution: ArrayLike,
    segments: ArrayLike | Sequence[ArrayLike],
    dilation: int = 0,
    min_pixels: int | None = None,
) -> np.ndarray:
    """Ranks the segments of an image by the density of the attribution in them.

    Kapishnikov et al., "XRAI: Better Attributions Through Regions", https://arxiv.org/abs/1906.02825,
    algorithm 1: an area grows, segment by segment, each time by the one whose new pixels have the largest
    mean attribution. Segments may overlap, as those of several scales do. The paper explains with
    integrated gradients, averaged over a black and a white baseline; `Explainer.xrai` does all of it.

    Args:
      attribution: of one image, shape `[H, W]` or `[H, W, C]`.
      segments: whole numbers, which say which segment each pixel belongs to: `[H, W]`, or `[K, H, W]` for
        several scales (see `segment`). Or masks, boolean `[K, H, W]`.
      dilation: by how many pixels segments are widened, so that they hold their edges, too. 0 leaves
        them; more needs SciPy.
      min_pixels: segments that would add fewer pixels are left out. `None`: a thousandth of all.

    Returns:
      Shape `[H, W]`: for each pixel the mean attribution of the pixels with which it was added. What no
      segment added is as dense as it is on average. They sum to what the attribution sums to; NaN where
      that is not finite. `least_area` says which pixels come first.

    Raises:
      ValueError: a shape is wrong, or a number out of range.
      TypeError: an array does not hold real numbers, segments are neither whole numbers nor masks, or an
        argument is of another type.
      ImportError: `dilation` is above 0, and SciPy is not installed.

    >>> xrai([[1, 3, 0], [1, 3, 7]], [[0, 1, 1], [0, 1, 1]])
    array([[1.  , 3.25, 3.25],
           [1.  , 3.25, 3.25]])
    """
    if checks.is_batch(attribution):
        array = checks.numbers("attribution", attribution)
        raise checks.wrong_shape("attribution", array, "[H, W] or [H, W, C]", "pass one image at a time")
    (values,) = checks.attribution("attribution", attribution)
    checks.whole("dilation", dilation, 0)
    if min_pixels is None:
        min_pixels = max(1, values.size // 1000)
    checks.whole("min_pixels", min_pixels, 1)
    masks = _masks(segments, values.shape)
    if dilation:
        masks = np.stack([regions.dilated(mask, dilation) for mask in masks])
    masks, density = masks.reshape(len(masks), -1), np.nan_to_num(values).ravel()
    result, left = np.zeros_like(density), np.ones(density.shape, bool)
    # What each segment would add: pixels, and their attribution. Every pixel is taken out of both once.
    sizes, sums = masks.sum(1), masks @ density
    while (sizes >= min_pixels).any():
        best = np.argmax(np.where(sizes >= min_pixels, sums / np.maximum(sizes, 1), -np.inf))
        added = masks[best] & left
        result[added], left[added] = density[added].mean(), False
        inside = masks[:, added]
        sizes, sums = sizes - inside.sum(1), sums - inside @ density[added]
    if left.any():
        result[left] = density[left].mean()
    return np.where(np.isnan(values), np.nan, result.reshape(values.shape))


def segment(image: ArrayLike, scales: Sequence[float] = SCALES) -> np.ndarray:
    """Segments of an image at several scales, by Felzenszwalb and Huttenlocher's method.

    Felzenszwalb and Huttenlocher, https://doi.org/10.1023/B:VISI.0000022288.19776.77, as scikit-image has
    it, with the scales of the XRAI paper (https://arxiv.org/abs/1906.02825, section 3.2) for a copy of the
    image of 224 x 224 pixels. One of the maps is a `feature_mask`, too.

    Args:
      image: shape `[H, W]` or `[H, W, C]`; `C` is 1 or 3.
      scales: positive numbers; the larger, the larger the segments.

    Returns:
      Whole numbers from 0 on, shape `[len(scales), H, W]`: which segment each pixel belongs to.

    Raises:
      ValueError: the shape is wrong, or a scale not positive.
      TypeError: the array does not hold real numbers.
      ImportError: scikit-image is not installed.

    >>> segment(np.repeat([0, 1], 8) * np.ones([16, 1]), scales=[50, 100]).shape
    (2, 16, 16)
    """
    if checks.is_batch(image):
        array = checks.numbers("image", image)
        raise checks.wrong_shape("image", array, "[H, W] or [H, W, C]", "pass one image at a time")
    (pixels,) = checks.images("image", image)
    scales = checks.vector("scales", scales)
    if not (scales > 0).all():
        raise ValueError(f"scales is {scales}; expected positive numbers: take some from 50 to 1200")
    segmentation, transform = _skimage()
    pixels = np.nan_to_num(pixels)
    small = 2 * (pixels - pixels.min()) / max(np.ptp(pixels), 1e-9) - 1  # the range that the scales are for
    small = transform.resize(small, (SIDE, SIDE), order=3, mode="edge", anti_aliasing=True)
    rows, columns = ((np.arange(size) + 0.5) * SIDE // size for size in pixels.shape[:2])
    maps = []
    for scale in scales:
        labels = segmentation.felzenszwalb(small, scale=scale, sigma=0.8, min_size=150)
        labels = labels[rows.astype(int)[:, None], columns.astype(int)]
        maps.append(np.unique(labels, return_inverse=True)[1].reshape(pixels.shape[:2]))
    return np.stack(maps)


def least_area(attribution: ArrayLike, percent: float = 30.0, polarity: str = "positive") -> np.ndarray:
    """The fewest pixels that carry a percentage of the attribution.

    Args:
      attribution: shape `[H, W]`, `[H, W, C]`, `[B, H, W]` or `[B, H, W, C]`: of pixels, or what `xrai`
        makes of it, so that whole segments come.
      percent: how much of the sum of the positive attributions (see `polarity`) the area carries, in
        [0, 100]. Pixels with the same value are in it together.
      polarity: the part that counts: `"positive"`, `"negative"` or `"both"`.

    Returns:
      A boolean mask of shape `[H, W]` or `[B, H, W]`.

    Raises:
      ValueError: the shape or the percentage is out of range, or the polarity is unknown.
      TypeError: the array does not hold real numbers, or an argument is of another type.

    >>> least_area([[4, 3], [2, 1]], percent=60).astype(int)
    array([[1, 1],
           [0, 0]])
    """
    magnitude = checks.choice("polarity", polarity, regions.MAGNITUDE)
    checks.between("percent", percent, 0, 100)
    maps = np.nan_to_num(magnitude(checks.attribution("attribution", attribution)))
    if not percent:
        areas = np.zeros(maps.shape, bool)
    else:
        areas = np.stack([(m > 0) & (m >= regions.threshold(m.ravel(), percent)) for m in maps])
    return areas if checks.is_batch(attribution) else areas[0]


def _masks(segments, shape):
    """Boolean, `[K, H, W]`."""
    try:
        array = np.asarray(segments)
    except ValueError:  # ragged lists
        array = np.asarray(None)
    if array.dtype.kind not in "biu":
        raise TypeError(
            f"segments hold {array.dtype}; expected whole numbers, one segment each, or boolean masks: "
            "number them with np.unique(segments, return_inverse=True)"
        )
    boolean = array.dtype == bool
    if array.ndim == 2 and not boolean:
        array = array[None]
    if array.ndim != 3 or not len(array) or array.shape[1:] != shape:
        expected = f"{shape} or {('K', *shape)}, and {('K', *shape)} for masks"
        raise checks.wrong_shape("segments", array, expected.replace("'", ""), "pass one image at a time")
    if boolean:
        return array
    return np.concatenate([labels == np.unique(labels)[:, None, None] for labels in array])


def _skimage():
    """Asked for when it is needed, as the other pictures do without scikit-image."""
    try:
        from skimage import segmentation, transform
    except ImportError as error:
        raise ImportError(
            "scikit-image is not installed; expected for segments of an image: pip install scikit-image, or "
            "pass segments of your own"
        ) from error
    return segmentation, transform
