"""What the output loses without some of the features: replay with those at a baseline.

Nothing here needs a gradient.
"""

import functools
from typing import Any

import numpy as np
import tensorflow as tf

from igtf.arguments import is_int
from igtf.arithmetic import repeat, right_pad
from igtf.methods.common import (
    black_box,
    in_dtype_of,
    per_input,
    positive,
    score,
    seed_of,
    shape_of,
    uniform,
)
from igtf.methods.groups import BaselineSet, Groups, check_options
from integrated_gradients_tf import Baselines, Tensors, as_it_is

__all__ = ["occlusion", "shapley_value_sampling"]


@as_it_is
def occlusion(
    ys: Tensors,
    xs: Tensors,
    window_shape: Any = None,
    strides: Any = None,
    baseline: Baselines = None,
    grad_ys: Tensors | None = None,
    feature_mask: Any = None,
    num_groups: int | None = None,
    per_group: bool = False,
    name: str = "occlusion",
) -> Tensors:
    """How much the output falls when a window of the input, or a group of features, is covered.

    Zeiler and Fergus, https://arxiv.org/abs/1311.2901, section 4.2, for windows of any shape: the
    features of a window share the change F(x) - F(x with the window covered) equally, and the
    attribution of a feature is the mean over the windows that cover it. One window is run at a time,
    so that memory does not grow with their number. Nothing needs a gradient. With a `feature_mask`,
    the groups that it names take the place of windows.

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
        `xs`. With structured `xs`: one scalar for all, or the same structure. One axis more than `xs`
        has, `[K, 1, ...]` or `[K, B, ...]`, makes it a set of `K` baselines to average over.
      feature_mask: ints in the shape of a row of `xs`, or of `xs` for one mask for each row: the number,
        from 0 on, of the group that each feature belongs to. An axis of size 1 stands for all that lies
        along it, as in `[H, W, 1]` for pixels. With structured `xs`: the same structure; the same number
        in two masks is one group. Numbers that no feature has are groups without features. An array; for
        a tensor whose values only the run knows, `num_groups` says how many there are.
      num_groups: the number of groups, `None` for the largest one in `feature_mask` and 1.
      per_group: whether to return attributions of the groups instead of their features.
      name: name scope of the nodes.

    Returns:
      The attributions, in the shape and structure of `xs`; of the dtype of `ys` for integer `xs`. With a
      `feature_mask`, features share the attribution of their group equally (Captum repeats it); with
      `per_group` that of each group, `[B, G]`, and 0 for groups without features.

    Raises:
      TypeError: a tensor is eager or a KerasTensor, `ys` is not floating, or `feature_mask` no ints.
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
    check_options(function, feature_mask, num_groups, per_group, window_shape=window_shape, strides=strides)
    shapes = per_input(function, "window_shape", xs, window_shape)
    strides = per_input(function, "strides", xs, strides)
    with tf.name_scope(name):
        starts = BaselineSet(function, xs, subgraph.xs, baseline)
        before = score(subgraph, subgraph.ys, weights)

        def fall(covered, number):
            """By how much the output falls with features covered, `[B]`."""
            points = [
                x if some is None else tf.where(some, start, x)
                for x, some, start in zip(subgraph.xs, covered, starts.at(number))
            ]
            return before - score(subgraph, subgraph.replay(points), weights)

        if feature_mask is not None:
            groups = Groups(function, xs, subgraph.xs, feature_mask, num_groups, per_group)
            return groups.attributions(_fall_of_groups(groups, starts.count, fall, before))
        grids = [_Grid(function, *parts) for parts in zip(subgraph.xs, shapes, strides)]
        result = []
        for i, (x, grid) in enumerate(zip(subgraph.xs, grids)):

            def add(run, total, i=i, x=x, grid=grid):
                covered = [None] * len(subgraph.xs)
                covered[i] = grid.inside(run // starts.count)
                change = right_pad(fall(covered, run), x)
                covered = tf.cast(covered[i], total.dtype)
                return [total + change * covered / tf.reduce_sum(covered)]

            (total,) = repeat(grid.windows * starts.count, add, [tf.zeros(shape_of(x), before.dtype)])
            result.append(in_dtype_of(x, total / tf.constant(grid.covers * starts.count, total.dtype)))
    return tf.nest.pack_sequence_as(xs, result)


def _fall_of_groups(groups, baselines, fall, before):
    """By how much the output falls without each of the groups, `[B, G]`: the mean over the baselines."""

    def add(run, total):
        group = run // baselines
        change = fall([tf.equal(ids, group) for ids in groups.ids], run)
        return [total + change[:, None] * tf.one_hot(group, groups.count, dtype=total.dtype)]

    zeros = tf.zeros([*shape_of(before), groups.count], before.dtype)
    (total,) = repeat(groups.count * baselines, add, [zeros])
    return total / baselines


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
    feature_mask: Any = None,
    num_groups: int | None = None,
    per_group: bool = False,
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
      num_samples: number of orders, for each baseline; all rows share them.
      sampling_dims: axes of `xs` that tell features apart, from 1 on; what lies along the others is
        switched together, as with `[1, 2]` for the pixels of images `[B, H, W, 3]`. `None` is all of
        them. With structured `xs`: `None`, or a list in the place of each tensor.
      baselines: what stands for an absent feature: `None` (zeros), a scalar, or a tensor that
        broadcasts to `xs`. With structured `xs`: one scalar for all, or the same structure. One axis more
        than `xs` has, `[K, 1, ...]` or `[K, B, ...]`, makes it a set of `K` baselines to average over.
      seed: int: the same orders in every run, in a `Session` as in a `tf.function` (XLA has its own).
        `None`: fresh ones.
      feature_mask, num_groups, per_group: as for `occlusion`: groups of features that are switched
        together, in the place of `sampling_dims`.
      name: name scope of the nodes.

    Returns:
      The attributions, in the structure of `xs` and its shape, but for size 1 along axes that
      `sampling_dims` leaves out; of the dtype of `ys` for integer `xs`. With a `feature_mask`, features
      share the attribution of their group equally; with `per_group` that of each group, `[B, G]`.

    Raises:
      TypeError: a tensor is eager or a KerasTensor, `ys` is not floating, or `feature_mask` no ints.
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
    check_options(function, feature_mask, num_groups, per_group, sampling_dims=sampling_dims)
    dims = per_input(function, "sampling_dims", xs, sampling_dims)
    with tf.name_scope(name):
        if feature_mask is None:
            players = _AlongAxes(function, xs, subgraph.xs, dims)
        else:
            players = Groups(function, xs, subgraph.xs, feature_mask, num_groups, per_group)
        starts = BaselineSet(function, xs, subgraph.xs, baselines)
        seed = seed_of(function, seed)
        whole = score(subgraph, subgraph.ys, weights)

        def switch_all_off(order, total):
            turn = tf.argsort(uniform([players.count], seed, order))
            turns = players.of_features(turn)

            def switch_off(now, before, total):
                points = [
                    tf.where(turn > now, x, start)
                    for turn, x, start in zip(turns, subgraph.xs, starts.at(order))
                ]
                after = score(subgraph, subgraph.replay(points), weights)
                credit = (before - after)[:, None] * tf.cast(tf.equal(turn, now), after.dtype)
                return after, total + credit

            return repeat(players.count, switch_off, [whole, total])[1:]

        orders = num_samples * starts.count
        (total,) = repeat(orders, switch_all_off, [tf.zeros([*shape_of(whole), players.count], whole.dtype)])
        return players.attributions(total / orders)


class _AlongAxes:
    """What axes tell apart, as groups: the interface of `Groups`."""

    def __init__(self, function, structure, xs, dims):
        self._structure, self._xs = structure, xs
        self._shapes = [
            [1] + [size if axis in some else 1 for axis, size in enumerate(shape_of(x)) if axis]
            for x, some in zip(xs, [_sampling_dims(function, x, some) for x, some in zip(xs, dims)])
        ]
        self._sizes = tf.stack([tf.reduce_prod(shape) for shape in self._shapes])
        self.count = tf.reduce_sum(self._sizes)

    def of_features(self, values):
        parts = tf.split(values, self._sizes, num=len(self._xs))
        return [tf.reshape(part, shape) for part, shape in zip(parts, self._shapes)]

    def attributions(self, totals):
        parts = tf.split(totals, self._sizes, num=len(self._xs), axis=1)
        parts = [
            in_dtype_of(x, tf.reshape(part, [*shape_of(x)[:1], *shape[1:]]))
            for x, part, shape in zip(self._xs, parts, self._shapes)
        ]
        return tf.nest.pack_sequence_as(self._structure, parts)


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
