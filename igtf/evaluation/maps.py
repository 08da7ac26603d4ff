"""What attributions look like by themselves: how sparse they are, and where the largest one is."""

from typing import Any

import numpy as np
import tensorflow as tf

from igtf.arithmetic import Features
from igtf.evaluation.common import where_known
from integrated_gradients_tf import Tensors, as_it_is, check_tensor, flat_inputs, pair_up, wide_dtype, widen

__all__ = ["pointing_game", "sparseness"]


@as_it_is
def sparseness(attributions: Tensors, name: str = "sparseness") -> Tensors:
    """The Gini index of the magnitudes of attributions: the higher, the fewer features carry them.

    Chalasani et al., https://arxiv.org/abs/1810.06583, section 5: 0 where all magnitudes are equal, 1 - 1/F
    where one of `F` features has all. Neither is better by itself: a sparse explanation is easy to read,
    and it is fooled by any single pixel, whether the output depends on it or not.

    Args:
      attributions: floating tensor `[B, ...]`, or a list, tuple or dict of such, which count together.
      name: name scope of the nodes.

    Returns:
      The indices, `[B]`, from 0 to 1; 0 where all attributions are 0, NaN where one is not finite.

    Raises:
      TypeError: a tensor is eager or a KerasTensor, or not floating.
      ValueError: a tensor of unknown rank, or of other rows than the others.

    >>> @tf.function
    ... def f(attributions):
    ...     return sparseness(attributions)
    >>> f(tf.constant([[0.0, 0.0, 0.0, -5.0], [1.0, 1.0, -1.0, 1.0]])).numpy().tolist()
    [0.75, 0.0]
    """
    flat = _flat_maps("sparseness", attributions)
    with tf.name_scope(name):
        sizes = [tf.abs(widen(a)) for a in flat]
        together = tf.sort(Features(sizes, _dtype(flat)).together(sizes), axis=1)
        count = tf.shape(together)[1]
        place = (tf.range(count) * 2 + 1 - count) / count  # 2k - F - 1 by F, for k from 1
        weighted = tf.reduce_sum(together * tf.cast(place, together.dtype), 1)
        return where_known(tf.math.divide_no_nan(weighted, tf.reduce_sum(together, 1)), flat)


@as_it_is
def pointing_game(attributions: Tensors, mask: Any, name: str = "pointing_game") -> Tensors:
    """Whether the largest attribution lies in a mask: higher is better.

    Zhang et al., https://arxiv.org/abs/1608.00507, section 4.1: a hit is 1, a miss 0, and the mean over a
    data set the accuracy. What an annotator marks need not be what a network looks at: a network that reads a
    watermark is explained rightly by a miss. A centred map is often right where objects are centred.

    Args:
      attributions: floating tensor `[B, ...]`, or a list, tuple or dict of such, of which the largest one of
        all counts. For images sum over the channels before.
      mask: what is to be hit: Booleans or numbers (0: outside), that broadcast to the attributions, such as
        boxes `[B, H, W, 1]`. With structured attributions: the same structure. Widen it for a tolerance.
      name: name scope of the nodes.

    Returns:
      The hits, `[B]`: 1 or 0; of equal largest attributions, the share of them that lies in the mask (so
      that a map without any has the share of the mask). NaN where an attribution is not finite.

    Raises:
      TypeError: a tensor is eager or a KerasTensor, attributions are not floating, or a mask is no array.
      ValueError: a tensor of unknown rank, or a mask that does not fit.

    >>> @tf.function
    ... def f(attributions):
    ...     return pointing_game(attributions, [True, True, False, False])
    >>> f(tf.constant([[0.0, 3.0, 1.0, 0.0], [2.0, 1.0, 5.0, 0.0]])).numpy().tolist()
    [1.0, 0.0]
    """
    function = "pointing_game"
    flat = _flat_maps(function, attributions)
    with tf.name_scope(name):
        masks = _masks(function, attributions, flat, mask)
        maps = Features(flat, _dtype(flat)).together(flat)
        inside = Features(flat, maps.dtype).together(
            [tf.broadcast_to(m, tf.shape(a)) for m, a in zip(masks, flat)]
        )
        best = tf.cast(tf.equal(maps, tf.reduce_max(maps, 1, keepdims=True)), maps.dtype)
        hits = tf.math.divide_no_nan(tf.reduce_sum(best * inside, 1), tf.reduce_sum(best, 1))
        return where_known(hits, flat)


def _flat_maps(function, attributions):
    flat = flat_inputs(function, "attributions", attributions)
    for a in flat:
        if a.shape.rank is None:
            raise ValueError(
                f"{function}: attributions {a.name!r} has unknown rank, expected a known one. Set it with "
                "set_shape."
            )
    return flat


def _dtype(flat):
    return tf.as_dtype(np.result_type(*(wide_dtype(a.dtype).as_numpy_dtype for a in flat)))


def _masks(function, structure, flat, mask):
    """One tensor of Booleans for each map."""
    try:
        values = [value for _, value in pair_up(structure, mask)]
    except (ValueError, TypeError, KeyError):
        raise ValueError(
            f"{function}: mask is a {type(mask).__name__}, expected one mask in the place of each tensor of "
            "the attributions."
        ) from None
    masks = []
    for a, value in zip(flat, values):
        if isinstance(value, tf.Tensor) and not hasattr(value, "numpy"):
            check_tensor(function, "mask", value)
        try:
            given = tf.convert_to_tensor(value)
            if not (given.dtype.is_bool or given.dtype.is_integer or given.dtype.is_floating):
                raise TypeError(f"it has dtype {given.dtype.name}")
            value = given if given.dtype.is_bool else tf.not_equal(tf.cast(given, tf.float64), 0)
        except (ValueError, TypeError, RuntimeError) as error:
            raise TypeError(
                f"{function}: mask is a {type(value).__name__}, expected an array of Booleans that "
                f"broadcasts to {a.shape}: {error}"
            ) from None
        ours, theirs = value.shape, a.shape.as_list()
        pairs = zip(ours.as_list()[::-1] if ours.rank is not None else [], theirs[::-1])
        if (
            ours.rank is None
            or ours.rank > len(theirs)
            or not all(n in (1, None, m) or m is None for n, m in pairs)
        ):
            raise ValueError(
                f"{function}: mask has shape {ours}, expected one that broadcasts to {a.shape}, the shape of "
                f"attributions {a.name!r}: a row, or one for each row."
            )
        masks.append(value)
    return masks
