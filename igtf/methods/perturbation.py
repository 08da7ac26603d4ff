"""What the output loses without some of the features: replay with those at a baseline.

Nothing here needs a gradient.
"""

import functools
from typing import Any

import numpy as np
import tensorflow as tf

from igtf.arithmetic import repeat, right_pad
from igtf.methods.common import (
    black_box,
    in_dtype_of,
    is_int,
    per_input,
    positive,
    score,
    seed_of,
    shape_of,
    uniform,
)
from integrated_gradients_tf import Baselines, Tensors, as_it_is, flat_baselines

__all__ = ["occlusion", "shapley_value_sampling"]


@as_it_is
def occlusion(
    ys: Tensors,
    xs: Tensors,
    window_shape: Any = None,
    strides: Any = None,
    baseline: Baselines = None,
    grad_ys: Tensors | None = None,
    name: str = "occlusion",
) -> Tensors:
    """How much the output falls when a window of the input is covered.

    Zeiler and Fergus, https://arxiv.org/abs/1311.2901, section 4.2, for windows of any shape: the
    features of a window share the change F(x) - F(x with the window covered) equally, and the
    attribution of a feature is the mean over the windows that cover it. One window is run at a time,
    so that memory does not grow with their number. Nothing needs a gradient.

    Args:
      ys, grad_ys: as for `saliency`.
      xs: tensor `[B, ...]` whose feature dimensions are static, or a list, tuple or dict of such, of
        which one is covered at a time. Integers such as ids are welcome.
      window_shape: size of the windows along each feature dimension of `xs`: a tuple of as many ints,
        or one int for all. `None` is 1: single features. With structured `xs`: one int for all, or
        one of these in the place of each tensor.
      strides: distance between windows, likewise. `None` is 1: windows at every place. Where windows do
        not tile the features, the last one along an axis ends at the border and is smaller.
      baseline: what a window is covered with: `None` (zeros), a scalar, or a tensor that broadcasts to
        `xs`. With structured `xs`: one scalar for all, or the same structure.
      name: name scope of the nodes.

    Returns:
      The attributions, in the shape and structure of `xs`; of the dtype of `ys` for integer `xs`.

    Raises:
      TypeError: a tensor is eager or a KerasTensor, or `ys` is not floating.
      ValueError: a window that does not fit into `xs`, strides that leave features uncovered, or
        arguments that do not fit together; rows that are mixed or random.

    >>> @tf.function
    ... def f(x):
    ...     return occlusion(x[:, 0] * x[:, 1] + x[:, 2], x, window_shape=2)
    >>> f(tf.constant([[3.0, 2.0, 5.0]])).numpy().tolist()
    [[3.0, 4.25, 5.5]]
    """
    function = "occlusion"
    subgraph, weights = black_box(function, ys, xs, grad_ys)
    shapes = per_input(function, "window_shape", xs, window_shape)
    strides = per_input(function, "strides", xs, strides)
    grids = [_Grid(function, *parts) for parts in zip(subgraph.xs, shapes, strides)]
    with tf.name_scope(name):
        starts = flat_baselines(function, xs, subgraph.xs, baseline)
        before = score(subgraph, subgraph.ys, weights)
        result = []
        for i, (x, start, grid) in enumerate(zip(subgraph.xs, starts, grids)):

            def add(window, total, i=i, x=x, start=start, grid=grid):
                covered = grid.inside(window)
                points = [*subgraph.xs[:i], tf.where(covered, start, x), *subgraph.xs[i + 1 :]]
                change = before - score(subgraph, subgraph.replay(points), weights)
                covered = tf.cast(covered, total.dtype)
                return [total + right_pad(change, x) * covered / tf.reduce_sum(covered)]

            (total,) = repeat(grid.windows, add, [tf.zeros(shape_of(x), before.dtype)])
            result.append(in_dtype_of(x, total / tf.constant(grid.covers, total.dtype)))
    return tf.nest.pack_sequence_as(xs, result)


class _Grid:
    """The windows over the feature dimensions of `x`, clipped at its borders.

    Attributes:
      windows: their number.
      covers: array `[1, ...]`: how many windows cover the feature.
    """

    def __init__(self, function, x, shape, strides):
        self.sizes = x.shape.as_list()[1:] if x.shape.rank is not None else [None]
        if None in self.sizes:
            raise ValueError(
                f"{function}: xs {x.name!r} has shape {x.shape}, expected static feature dimensions, which "
                "the windows are laid over. Set them with xs.set_shape before the network is called."
            )
        self.shape = self._lengths(function, "window_shape", x, shape)
        self.strides = self._lengths(function, "strides", x, strides)
        if any(length > size for length, size in zip(self.shape, self.sizes)):
            raise ValueError(
                f"{function}: window_shape is {self.shape}, expected one that fits into the features "
                f"{tuple(self.sizes)} of xs {x.name!r}. Pass smaller windows."
            )
        axes = list(zip(self.sizes, self.shape, self.strides))
        self.counts = [-(-(size - length) // stride) + 1 for size, length, stride in axes]
        self.windows = int(np.prod(self.counts, dtype=np.int64))
        self._check_gaps(function, x)
        covers = []
        for (size, length, stride), count in zip(axes, self.counts):
            starts = stride * np.arange(count)[:, None]
            places = np.arange(size)
            covers.append(((places >= starts) & (places < starts + length)).sum(0))
        self.covers = functools.reduce(np.multiply.outer, covers, np.ones(1, np.int64))

    def _lengths(self, function, argument, x, value):
        value = 1 if value is None else value
        lengths = (value,) * len(self.sizes) if is_int(value) else value
        if (
            not isinstance(lengths, (list, tuple))
            or len(lengths) != len(self.sizes)
            or not all(is_int(length) and length > 0 for length in lengths)
        ):
            raise ValueError(
                f"{function}: {argument} is {value!r}, expected {len(self.sizes)} positive ints, one per "
                f"feature dimension of xs {x.name!r} of shape {x.shape}, or one int for all of them."
            )
        return tuple(map(int, lengths))

    def _check_gaps(self, function, x):
        """Every feature must be in a window: longer strides leave some out."""
        axes = list(zip(self.shape, self.strides, self.counts))
        gaps = [axis for axis, (length, stride, count) in enumerate(axes, 1) if count > 1 and stride > length]
        if gaps:
            fitting = tuple(min(length, stride) for length, stride, _ in axes)
            raise ValueError(
                f"{function}: windows of {self.shape} at strides {self.strides} leave features of xs "
                f"{x.name!r} of shape {x.shape} uncovered along axis {', '.join(map(str, gaps))}, expected "
                f"strides no longer than windows. Pass strides={fitting}, which cover all of them."
            )

    def inside(self, window):
        """True for the features in a window: `[1, ...]`."""
        lines = []
        for size, length, stride, count in reversed(
            list(zip(self.sizes, self.shape, self.strides, self.counts))
        ):
            place = tf.range(size) - window % count * stride
            window //= count
            lines.insert(0, (place >= 0) & (place < length))
        inside = tf.ones([1], tf.bool)
        for line in lines:
            inside = inside[..., None] & line
        return inside


@as_it_is
def shapley_value_sampling(
    ys: Tensors,
    xs: Tensors,
    num_samples: int = 5,
    sampling_dims: Any = None,
    baselines: Baselines = None,
    seed: int | None = None,
    grad_ys: Tensors | None = None,
    name: str = "shapley_value_sampling",
) -> Tensors:
    """Shapley values, estimated from random orders of the features.

    Castro, Gomez and Tejada, https://doi.org/10.1016/j.cor.2008.04.004: features are set to their
    baseline one after the other, in random order, and each is credited with the fall of the output
    that it causes; the attribution is the mean over `num_samples` orders. It sums to
    F(x) - F(baseline) for any number of orders. The network is run once per order and feature, one
    run at a time, so that memory does not grow with their number. Nothing needs a gradient.

    Args:
      ys, grad_ys: as for `saliency`.
      xs: tensor `[B, ...]`, or a list, tuple or dict of such, whose features play in one joint game.
        Integers such as ids are welcome.
      num_samples: number of orders; all rows share them.
      sampling_dims: axes of `xs` that tell features apart, from 1 on; what lies along the others is
        switched together, as with `[1, 2]` for the pixels of images `[B, H, W, 3]`. `None` is all of
        them. With structured `xs`: `None`, or a list in the place of each tensor.
      baselines: what stands for an absent feature: `None` (zeros), a scalar, or a tensor that
        broadcasts to `xs`. With structured `xs`: one scalar for all, or the same structure.
      seed: int: the same orders in every run, in a `Session` as in a `tf.function` (XLA has its own).
        `None`: fresh ones.
      name: name scope of the nodes.

    Returns:
      The attributions, in the structure of `xs` and its shape, but for size 1 along axes that
      `sampling_dims` leaves out; of the dtype of `ys` for integer `xs`.

    Raises:
      TypeError: a tensor is eager or a KerasTensor, or `ys` is not floating.
      ValueError: wrong `sampling_dims`, or arguments that do not fit together; rows that are mixed
        or random.

    >>> @tf.function
    ... def f(x):
    ...     return shapley_value_sampling(x[:, 0] * 2 + x[:, 1], x, num_samples=3)
    >>> f(tf.constant([[3.0, 5.0]])).numpy().tolist()
    [[6.0, 5.0]]
    """
    function = "shapley_value_sampling"
    subgraph, weights = black_box(function, ys, xs, grad_ys)
    num_samples = positive(function, "num_samples", num_samples)
    dims = per_input(function, "sampling_dims", xs, sampling_dims)
    dims = [_sampling_dims(function, x, some) for x, some in zip(subgraph.xs, dims)]
    with tf.name_scope(name):
        starts = flat_baselines(function, xs, subgraph.xs, baselines)
        seed = seed_of(function, seed)
        whole = score(subgraph, subgraph.ys, weights)
        shapes = [
            [1] + [size if axis in some else 1 for axis, size in enumerate(shape_of(x)) if axis]
            for x, some in zip(subgraph.xs, dims)
        ]
        sizes = tf.stack([tf.reduce_prod(shape) for shape in shapes])
        features = tf.reduce_sum(sizes)

        def switch_all_off(order, *totals):
            turns = tf.split(tf.argsort(uniform([features], seed, order)), sizes, num=len(shapes))
            turns = [tf.reshape(turn, shape) for turn, shape in zip(turns, shapes)]

            def switch_off(now, before, *totals):
                points = [
                    tf.where(turn > now, x, start) for turn, x, start in zip(turns, subgraph.xs, starts)
                ]
                after = score(subgraph, subgraph.replay(points), weights)
                credits = [
                    right_pad(before - after, x) * tf.cast(tf.equal(turn, now), after.dtype)
                    for x, turn in zip(subgraph.xs, turns)
                ]
                return after, *map(tf.add, totals, credits)

            return repeat(features, switch_off, [whole, *totals])[1:]

        totals = [
            tf.zeros([*shape_of(x)[:1], *shape[1:]], whole.dtype) for x, shape in zip(subgraph.xs, shapes)
        ]
        totals = repeat(num_samples, switch_all_off, totals)
        result = [in_dtype_of(x, total / num_samples) for x, total in zip(subgraph.xs, totals)]
    return tf.nest.pack_sequence_as(xs, result)


def _sampling_dims(function, x, dims):
    if x.shape.rank is None:
        raise ValueError(
            f"{function}: xs {x.name!r} has unknown rank, expected a known one to tell its features apart. "
            "Set it with xs.set_shape before the network is called."
        )
    axes = range(1, x.shape.rank)
    if dims is None:
        return list(axes)
    dims = [dims] if is_int(dims) else dims
    if (
        not isinstance(dims, (list, tuple))
        or not dims
        or not all(is_int(axis) and axis in axes for axis in dims)
        or len(set(dims)) < len(dims)
    ):
        raise ValueError(
            f"{function}: sampling_dims is {dims!r}, expected different axes out of {list(axes)} for xs "
            f"{x.name!r} of shape {x.shape}. Leave out axis 0, the batch; None means all others."
        )
    return dims
