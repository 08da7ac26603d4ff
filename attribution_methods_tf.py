"""Saliency, LRP, DeepLIFT, occlusion, Shapley values and others as nodes of your own TensorFlow graph.

Copy this file and `integrated_gradients_tf.py` into a project. Every function takes tensors of a
graph that already exists (a `tf.compat.v1` graph, or the graph that `tf.function` traces), adds nodes
to it and returns ordinary tensors. Nothing else in the graph changes, so methods can be mixed, called
in any order, and trained on.

Two ideas carry all of them: *backpropagation with rules*, where a table `{op type: rule}` says what
takes the place of an op's gradient, and *replay*, the network once more on other values.

Shapes below: `B` rows in a batch, `...` the feature dimensions. Rows are independent of one another.

Copyright 2026 the IntegratedGradientsTF authors. Licensed under the Apache License, Version 2.0.
"""

import functools
import numbers
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import tensorflow as tf

import integrated_gradients_tf as ig
from integrated_gradients_tf import Baselines, Tensors

__all__ = [
    "deeplift",
    "epsilon_lrp",
    "expected_gradients",
    "gradient_times_input",
    "occlusion",
    "saliency",
    "shapley_value_sampling",
    "smoothgrad",
]

# AutoGraph would convert every function below when it is called inside a tf.function.
_as_it_is = tf.autograph.experimental.do_not_convert


# ---------------------------------------------------------------------------------------------------
# Backpropagation with rules
# ---------------------------------------------------------------------------------------------------


@_as_it_is
def saliency(ys: Tensors, xs: Tensors, grad_ys: Tensors | None = None, name: str = "saliency") -> Tensors:
    """The absolute gradient: |dF / dx|.

    Simonyan, Vedaldi and Zisserman, https://arxiv.org/abs/1312.6034, section 3.

    Ops wrapped in `tf.custom_gradient` are differentiated as the ops they are made of, here and in
    `gradient_times_input`, `epsilon_lrp` and `deeplift`.

    Args:
      ys: tensor `[B]` or `[B, ...]` (or a structure of such). Entries beyond axis 0 are summed, as in
        `tf.gradients`; choose and weight them with `grad_ys`.
      xs: floating tensor `[B, ...]`, or a list, tuple or dict of such: inputs, embeddings, hidden
        layers.
      grad_ys: weights of the entries of `ys`, of its shape and structure. One-hot rows choose a class
        per row.
      name: name scope of the nodes.

    Returns:
      The attributions, in the shape and structure of `xs`. Members of `xs` that `ys` does not depend
      on get zeros.

    Raises:
      TypeError: a tensor is eager, a KerasTensor or not floating.
      ValueError: no differentiable path from `xs` to `ys`; rows are mixed or random in between
        (training mode); arguments that do not fit together.

    >>> @tf.function
    ... def f(x):
    ...     return saliency(x[:, 0] ** 2 - 3 * x[:, 1], x)
    >>> f(tf.constant([[-2.0, 1.0]])).numpy().tolist()
    [[4.0, 3.0]]
    """
    plan, weights = _plan("saliency", ys, xs, grad_ys)
    with tf.name_scope(name):
        grads = ig.backpropagate(plan.ys, plan.xs, weights, GRADIENT_RULES)
        result = [tf.abs(grad) for grad in grads]
    return tf.nest.pack_sequence_as(xs, result)


@_as_it_is
def gradient_times_input(
    ys: Tensors, xs: Tensors, grad_ys: Tensors | None = None, name: str = "gradient_times_input"
) -> Tensors:
    """The gradient times the input: x * dF / dx.

    Shrikumar, Greenside and Kundaje, https://arxiv.org/abs/1704.02685.

    Args:
      ys, xs, grad_ys, name: as for `saliency`.

    Returns:
      The attributions, in the shape and structure of `xs`.

    Raises:
      TypeError, ValueError: as `saliency`.

    >>> @tf.function
    ... def f(x):
    ...     return gradient_times_input(x[:, 0] ** 2 - 3 * x[:, 1], x)
    >>> f(tf.constant([[-2.0, 1.0]])).numpy().tolist()
    [[8.0, -3.0]]
    """
    plan, weights = _plan("gradient_times_input", ys, xs, grad_ys)
    with tf.name_scope(name):
        grads = ig.backpropagate(plan.ys, plan.xs, weights, GRADIENT_RULES)
        result = [x * grad for x, grad in zip(plan.xs, grads)]
    return tf.nest.pack_sequence_as(xs, result)


@_as_it_is
def epsilon_lrp(
    ys: Tensors, xs: Tensors, epsilon: float = 1e-4, grad_ys: Tensors | None = None, name: str = "epsilon_lrp"
) -> Tensors:
    """Layer-wise relevance propagation with the epsilon rule.

    Bach et al., https://doi.org/10.1371/journal.pone.0130140, equation 58, in the form of Ancona et
    al., https://arxiv.org/abs/1711.06104, proposition 1: a gradient in which the derivative of every
    activation y = f(z) is replaced by y / (z + epsilon * sign(z)), with sign(0) = 1, times the input.

    Args:
      ys, xs: as for `saliency`. Explain logits: softmax has no such rule.
      epsilon: positive number that keeps the ratio finite.
      grad_ys: as for `saliency`.
      name: name scope of the nodes.

    Returns:
      The attributions, in the shape and structure of `xs`. For networks without biases whose
      activations map 0 to 0 they sum to F(x) as `epsilon` tends to 0.

    Raises:
      TypeError, ValueError: as `saliency`; ValueError if `epsilon` is not positive.

    Warns:
      UserWarning: an op between `xs` and `ys` is not affine and has no rule (`ACTIVATIONS` and max
        pooling have one). TensorFlow's gradient is used for it.

    >>> @tf.function
    ... def f(x):
    ...     return epsilon_lrp(tf.nn.relu(x[:, 0] - x[:, 1]), x, epsilon=0.5)
    >>> f(tf.constant([[3.0, 1.5]])).numpy().tolist()
    [[2.25, -1.125]]
    """
    function = "epsilon_lrp"
    if not isinstance(epsilon, numbers.Real) or not 0 < epsilon < np.inf:
        raise ValueError(f"{function}: epsilon is {epsilon!r}, expected a positive number, such as 1e-4.")
    plan, weights = _plan(function, ys, xs, grad_ys)
    rules = {**GRADIENT_RULES, **dict.fromkeys(ACTIVATIONS, functools.partial(_epsilon_rule, epsilon))}
    _warn_of_missing_rules(plan, rules, "TensorFlow's gradient")
    with tf.name_scope(name):
        grads = ig.backpropagate(plan.ys, plan.xs, weights, rules)
        result = [x * grad for x, grad in zip(plan.xs, grads)]
    return tf.nest.pack_sequence_as(xs, result)


@_as_it_is
def deeplift(
    ys: Tensors,
    xs: Tensors,
    baselines: Baselines = None,
    grad_ys: Tensors | None = None,
    name: str = "deeplift",
) -> Tensors:
    """DeepLIFT with the Rescale rule.

    Shrikumar, Greenside and Kundaje, https://arxiv.org/abs/1704.02685, section 3.5.2: a gradient in
    which the derivative of every activation y = f(z) is replaced by its slope between the baseline
    and the input, (y - y0) / (z - z0), times the input minus the baseline. Where z and z0 are within
    1e-5 of one another it is the derivative midway. Max pooling, products and softmax get slopes
    too (`integrated_gradients_tf.SECANT_RULES`), so that networks with those are complete as well.

    Args:
      ys, xs: as for `saliency`.
      baselines: what the input is compared with: `None` (zeros), a scalar, or a tensor that
        broadcasts to `xs`. With structured `xs`: one scalar for all, or the same structure.
      grad_ys: as for `saliency`.
      name: name scope of the nodes.

    Returns:
      The attributions, in the shape and structure of `xs`. Summed over the features of a row they
      equal F(x) - F(baseline).

    Raises:
      TypeError, ValueError: as `saliency`; also for a baseline that does not broadcast.

    Warns:
      UserWarning: an op between `xs` and `ys` is not affine and has no rule. The mean of TensorFlow's
        gradients at both ends is used for it, corrected so that each row stays complete where its rows
        can be followed.

    >>> @tf.function
    ... def f(x):
    ...     return deeplift(tf.nn.relu(x[:, 0] - x[:, 1]), x, baselines=tf.constant([0.0, 2.0]))
    >>> f(tf.constant([[3.0, 1.0]])).numpy().tolist()
    [[1.5, 0.5]]
    """
    plan, weights = _plan("deeplift", ys, xs, grad_ys)
    _warn_of_missing_rules(plan, DEEPLIFT_RULES, "the corrected mean of TensorFlow's gradients at both ends")
    with tf.name_scope(name):
        starts = plan.full_baselines(ig._flat_baselines("deeplift", xs, plan.xs, baselines))
        before, after = plan.replay(starts), plan.replay(plan.xs)
        grads = ig.backpropagate(before, starts, weights, DEEPLIFT_RULES, other=(after, plan.xs))
        result = [(x - start) * grad for x, start, grad in zip(plan.xs, starts, grads)]
    return tf.nest.pack_sequence_as(xs, result)


def _plan(function, ys, xs, grad_ys):
    """The ops between `xs` and `ys`, and the weights of the entries of `ys`."""
    plan = ig._Plan(function, ys, xs, None)
    return plan, ig._flat_grad_ys(function, plan, ys, grad_ys)


def _epsilon_rule(epsilon, op, other, grads):
    z, y = op.inputs[0], op.outputs[0]
    epsilon = tf.constant(epsilon, z.dtype)
    return grads[0] * y / (z + tf.where(z >= 0, epsilon, -epsilon))


def _rescale_rule(op, other, grads):
    """The slope from the baseline (`op`) to the input (`other`)."""
    (z0,), (z1,) = op.inputs, other.inputs
    change = z1 - z0
    near = tf.abs(change) <= 1e-5
    slope = (other.outputs[0] - op.outputs[0]) / tf.where(near, tf.ones_like(change), change)
    (midway,) = ig._own_gradient(op, grads, [(z0 + z1) / 2])
    return tf.where(near, midway, grads[0] * slope)


ACTIVATIONS = frozenset("Elu LeakyRelu Relu Relu6 Selu Sigmoid Softplus Softsign Tanh".split())

# TensorFlow's own gradient; through tf.custom_gradient, that of the ops it wraps.
GRADIENT_RULES = {"IdentityN": lambda op, other, grads: grads}

DEEPLIFT_RULES = {**ig.SECANT_RULES, **dict.fromkeys(ACTIVATIONS, _rescale_rule)}

# Their gradient goes to the winner, as relevance does.
WINNERS = frozenset("Max Maximum MaxPool MaxPool3D Min Minimum".split())


def _warn_of_missing_rules(plan, rules, instead):
    missing = {}
    for op in plan.ops:
        known = op.type in rules or op.type in WINNERS | ig.BARRIERS or ig._is_linear(op, plan.varying)
        path = any(t.ref() in plan.varying and t.dtype.is_floating for t in op.inputs)
        if path and not known and any(t.dtype.is_floating for t in op.outputs):
            missing.setdefault(op.type, op.name)
    if missing:
        names = ", ".join(f"{name!r} ({kind})" for kind, name in missing.items())
        warnings.warn(
            f"{plan.function}: no rule for {names} between xs and ys, expected affine ops, pooling and the "
            f"activations {', '.join(sorted(ACTIVATIONS))}; {instead} is used there instead. Explain "
            "what comes before (logits and not their softmax), or write a rule and call "
            "integrated_gradients_tf.backpropagate.",
            stacklevel=4,
        )


# ---------------------------------------------------------------------------------------------------
# Replay without some of the features
# ---------------------------------------------------------------------------------------------------


@_as_it_is
def occlusion(
    ys: Tensors,
    xs: Tensors,
    window_shape: Any = None,
    strides: Any = None,
    baseline: Baselines = 0,
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
      strides: distance between windows, likewise. `None` is 1: windows at every place.
      baseline: what a window is covered with: a scalar, or a tensor that broadcasts to `xs`. With
        structured `xs`: one scalar for all, or the same structure.
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
    plan, weights = _black_box(function, ys, xs, grad_ys)
    shapes = _per_input(function, "window_shape", xs, window_shape)
    strides = _per_input(function, "strides", xs, strides)
    grids = [_Grid(function, *parts) for parts in zip(plan.xs, shapes, strides)]
    with tf.name_scope(name):
        starts = ig._flat_baselines(function, xs, plan.xs, baseline)
        before = _score(plan, plan.ys, weights)
        result = []
        for i, (x, start, grid) in enumerate(zip(plan.xs, starts, grids)):

            def add(window, total, i=i, x=x, start=start, grid=grid):
                covered = grid.inside(window)
                points = [*plan.xs[:i], tf.where(covered, start, x), *plan.xs[i + 1 :]]
                change = before - _score(plan, plan.replay(points), weights)
                return [total + _spread(change, x) * tf.cast(covered, total.dtype)]

            (total,) = _repeat(grid.windows, add, [tf.zeros(_shape(x), before.dtype)])
            result.append(_as(x, total / tf.constant(grid.shares, total.dtype)))
    return tf.nest.pack_sequence_as(xs, result)


class _Grid:
    """The windows over the feature dimensions of `x`.

    Attributes:
      windows: their number.
      shares: array `[1, ...]`: features in a window, times windows that cover the feature.
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
        self.counts = [(size - length) // stride + 1 for size, length, stride in axes]
        self.windows = int(np.prod(self.counts, dtype=np.int64))
        covers = []
        for (size, length, stride), count in zip(axes, self.counts):
            cover = np.zeros(size, np.int64)
            for i in range(count):
                cover[i * stride : i * stride + length] += 1
            covers.append(cover)
        self._check_covered(function, x, covers)
        product = functools.reduce(np.multiply.outer, covers, np.ones(1, np.int64))
        self.shares = product * np.prod(self.shape, dtype=np.int64)

    def _lengths(self, function, argument, x, value):
        value = 1 if value is None else value
        lengths = (value,) * len(self.sizes) if _is_int(value) else value
        if (
            not isinstance(lengths, (list, tuple))
            or len(lengths) != len(self.sizes)
            or not all(_is_int(length) and length > 0 for length in lengths)
        ):
            raise ValueError(
                f"{function}: {argument} is {value!r}, expected {len(self.sizes)} positive ints, one per "
                f"feature dimension of xs {x.name!r} of shape {x.shape}, or one int for all of them."
            )
        return tuple(map(int, lengths))

    def _check_covered(self, function, x, covers):
        missed = {axis: np.flatnonzero(cover == 0) for axis, cover in enumerate(covers, 1)}
        missed = {axis: places for axis, places in missed.items() if len(places)}
        if missed:
            fitting = tuple(
                next(s for s in range(min(stride, length), 0, -1) if (size - length) % s == 0)
                for size, length, stride in zip(self.sizes, self.shape, self.strides)
            )
            where = "; ".join(
                f"axis {axis}: {', '.join(map(str, places[:10]))}{', ...' if len(places) > 10 else ''}"
                for axis, places in missed.items()
            )
            raise ValueError(
                f"{function}: no window of {self.shape} at strides {self.strides} covers these features of "
                f"xs {x.name!r} of shape {x.shape}: {where}. Expected every feature in a window. Pass "
                f"strides={fitting}, which cover all of them."
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
        return _outer(lines)


def _outer(lines):
    """`[n]`, `[m]`, ... -> `[1, n, m, ...]`: where all of them are True."""
    inside = tf.ones([1], tf.bool)
    for line in lines:
        inside = inside[..., None] & line
    return inside


@_as_it_is
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
    plan, weights = _black_box(function, ys, xs, grad_ys)
    num_samples = _positive(function, "num_samples", num_samples)
    dims = _per_input(function, "sampling_dims", xs, sampling_dims)
    dims = [_sampling_dims(function, x, some) for x, some in zip(plan.xs, dims)]
    with tf.name_scope(name):
        starts = ig._flat_baselines(function, xs, plan.xs, baselines)
        seed = _seed(function, seed)
        whole = _score(plan, plan.ys, weights)
        shapes = [
            [1] + [size if axis in some else 1 for axis, size in enumerate(_shape(x)) if axis]
            for x, some in zip(plan.xs, dims)
        ]
        sizes = tf.stack([tf.reduce_prod(shape) for shape in shapes])
        features = tf.reduce_sum(sizes)

        def switch_all_off(order, *totals):
            turns = tf.split(tf.argsort(_uniform([features], seed, order)), sizes, num=len(shapes))
            turns = [tf.reshape(turn, shape) for turn, shape in zip(turns, shapes)]

            def switch_off(now, before, *totals):
                points = [tf.where(turn > now, x, start) for turn, x, start in zip(turns, plan.xs, starts)]
                after = _score(plan, plan.replay(points), weights)
                credits = [
                    _spread(before - after, x) * tf.cast(tf.equal(turn, now), after.dtype)
                    for x, turn in zip(plan.xs, turns)
                ]
                return after, *map(tf.add, totals, credits)

            return _repeat(features, switch_off, [whole, *totals])[1:]

        totals = [tf.zeros([*_shape(x)[:1], *shape[1:]], whole.dtype) for x, shape in zip(plan.xs, shapes)]
        totals = _repeat(num_samples, switch_all_off, totals)
        result = [_as(x, total / num_samples) for x, total in zip(plan.xs, totals)]
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
    dims = [dims] if _is_int(dims) else dims
    if (
        not isinstance(dims, (list, tuple))
        or not dims
        or not all(_is_int(axis) and axis in axes for axis in dims)
        or len(set(dims)) < len(dims)
    ):
        raise ValueError(
            f"{function}: sampling_dims is {dims!r}, expected different axes out of {list(axes)} for xs "
            f"{x.name!r} of shape {x.shape}. Leave out axis 0, the batch; None means all others."
        )
    return dims


# ---------------------------------------------------------------------------------------------------
# Means over random draws
# ---------------------------------------------------------------------------------------------------


@_as_it_is
def expected_gradients(
    ys: Tensors,
    xs: Tensors,
    baselines: Tensors,
    num_samples: int,
    seed: int | None = None,
    grad_ys: Tensors | None = None,
    name: str = "expected_gradients",
) -> Tensors:
    """Integrated gradients, averaged over a distribution of baselines.

    Erion et al., https://arxiv.org/abs/1906.10670: the mean of (x - b) * dF/dx at
    b + alpha * (x - b), over baselines b drawn from a data set and alpha from [0, 1]. One draw per
    row is run at a time, so that memory does not grow with `num_samples`.

    Args:
      ys, xs, grad_ys: as for `saliency`.
      baselines: the data set that baselines are drawn from: `[N, ...]` for `xs [B, ...]`, any `N`. With
        structured `xs`: the same structure, of which rows are drawn jointly.
      num_samples: number of draws for each row of `xs`.
      seed: int: the same draws in every run, in a `Session` as in a `tf.function` (XLA has its own).
        `None`: fresh ones.
      name: name scope of the nodes.

    Returns:
      The attributions, in the shape and structure of `xs`. As `num_samples` grows, their sum over the
      features of a row approaches F(x) minus the mean of F over the baselines.

    Raises:
      TypeError, ValueError: as `saliency`; ValueError for baselines without rows, or of other shape.

    >>> @tf.function
    ... def f(x):
    ...     return expected_gradients(3 * x[:, 0] - x[:, 1], x, tf.constant([[1.0, 1.0]]), num_samples=4)
    >>> f(tf.constant([[3.0, 2.0]])).numpy().tolist()
    [[6.0, -1.0]]
    """
    function = "expected_gradients"
    plan, weights = _plan(function, ys, xs, grad_ys)
    num_samples = _positive(function, "num_samples", num_samples)
    with tf.name_scope(name):
        data = _distribution(function, xs, plan.xs, baselines)
        seed = _seed(function, seed)
        rows = tf.shape(plan.xs[0])[:1]

        def add(draw, *totals):
            chosen = _uniform(rows, seed, 2 * draw, maxval=tf.shape(data[0])[0], dtype=tf.int32)
            starts = [tf.gather(some, chosen) for some in data]
            alpha = _uniform(rows, seed, 2 * draw + 1)
            points = [
                start + _spread(tf.cast(alpha, x.dtype), x) * (x - start) for x, start in zip(plan.xs, starts)
            ]
            grads = tf.gradients(plan.replay(points), points, weights, unconnected_gradients="zero")
            return [
                total + ig._widen(x - start) * ig._widen(tf.convert_to_tensor(grad))
                for total, x, start, grad in zip(totals, plan.xs, starts, grads)
            ]

        totals = _repeat(num_samples, add, [tf.zeros(_shape(x), ig._wide(x.dtype)) for x in plan.xs])
        result = [_as(x, total / num_samples) for x, total in zip(plan.xs, totals)]
    return tf.nest.pack_sequence_as(xs, result)


def _distribution(function, xs, flat, baselines):
    """One tensor `[N, ...]` per input."""
    try:
        values = [value for _, value in ig._pair_up(xs, baselines)]
    except (ValueError, TypeError, KeyError):
        raise ValueError(
            f"{function}: baselines have the structure {ig._describe(baselines)}, expected that of xs, "
            f"{ig._describe(xs)}: one data set [N, ...] in the place of each tensor [B, ...]."
        ) from None
    data = []
    for x, value in zip(flat, values):
        try:
            if isinstance(value, tf.Tensor) and not hasattr(value, "numpy"):
                ig._check_tensor(function, "baselines", value)
            value = tf.convert_to_tensor(value, x.dtype)
        except (ValueError, TypeError, RuntimeError) as error:
            raise TypeError(
                f"{function}: baselines of type {type(value).__name__} are no {x.dtype.name} tensor, "
                f"expected a data set [N, ...] for xs {x.name!r} of shape {x.shape}: {error}"
            ) from None
        rows, shape = value.shape[:1], value.shape[1:]
        if value.shape.rank is not None and (
            value.shape.rank == 0 or rows[0] == 0 or not shape.is_compatible_with(x.shape[1:])
        ):
            raise ValueError(
                f"{function}: baselines have shape {value.shape}, expected [N, ...] with N > 0 rows like "
                f"those of xs {x.name!r}, {x.shape}. Pass a sample of the training data; for one baseline "
                "add a first axis of size 1."
            )
        data.append(value)
    counts = {value.shape.as_list()[0] for value in data if value.shape.rank} - {None}
    if len(counts) > 1:
        raise ValueError(
            f"{function}: the baselines of several inputs have {sorted(counts)} rows, expected the same "
            "number. Rows of several inputs are drawn together."
        )
    return data


@_as_it_is
def smoothgrad(
    builder: Callable[..., Tensors],
    ys: Tensors,
    xs: Tensors,
    stdev: Any,
    num_samples: int,
    seed: int | None = None,
    name: str = "smoothgrad",
    **builder_options: Any,
) -> Tensors:
    """The mean of any attribution over noisy copies of the input.

    Smilkov et al., https://arxiv.org/abs/1706.03825: the mean of `builder` at
    x + noise, with noise from N(0, stdev^2). One copy is run at a time, so that memory does not grow
    with `num_samples`.

    Args:
      builder: function of this module or of `integrated_gradients_tf`, or one of your own, that is
        called as `builder(ys, xs, **builder_options)`.
      ys: as for `saliency`.
      xs: floating tensor `[B, ...]`, or a list, tuple or dict of such.
      stdev: standard deviation of the noise: a scalar, or a tensor that broadcasts to `xs`. With
        structured `xs`: one scalar for all, or the same structure. The paper suggests 0.1 to 0.2
        times the range of the input.
      num_samples: number of noisy copies.
      seed: int: the same noise in every run, in a `Session` as in a `tf.function` (XLA has its own).
        `None`: fresh noise.
      name: name scope of the nodes.
      **builder_options: passed on to `builder`. For options that are also called `stdev`,
        `num_samples`, `seed` or `name`, give a `functools.partial` as the builder.

    Returns:
      The mean of what `builder` returns, in its shape and structure.

    Raises:
      TypeError, ValueError: as `builder`; also if `builder` is not callable.

    >>> @tf.function
    ... def f(x):
    ...     y = 3 * x[:, 0] - x[:, 1]
    ...     return smoothgrad(saliency, y, x, stdev=0.1, num_samples=10)
    >>> f(tf.constant([[3.0, 2.0]])).numpy().tolist()
    [[3.0, 1.0]]
    """
    function = "smoothgrad"
    if not callable(builder):
        raise TypeError(
            f"{function}: builder is a {type(builder).__name__}, expected a function such as saliency. "
            "Call smoothgrad(saliency, ys, xs, ...)."
        )
    ig._flat_inputs(function, "xs", xs)
    plan, _ = _black_box(function, ys, xs, None)
    num_samples = _positive(function, "num_samples", num_samples)
    with tf.name_scope(name):
        stdevs = ig._flat_baselines(function, xs, plan.xs, stdev)
        seed, inputs = _seed(function, seed), len(plan.xs)

        def explain(copy):
            noisy = [
                x + stdev * tf.cast(_normal(tf.shape(x), seed, copy * inputs + i), x.dtype)
                for i, (x, stdev) in enumerate(zip(plan.xs, stdevs))
            ]
            noisy = [ig._restore_shape(point, x.shape) for point, x in zip(noisy, plan.xs)]
            outputs = tf.nest.pack_sequence_as(ys, plan.replay(noisy))
            return builder(outputs, tf.nest.pack_sequence_as(xs, noisy), **builder_options)

        # The first one outside the loop: it says what a builder returns.
        first = explain(0)
        totals = [ig._widen(part) for part in tf.nest.flatten(first)]

        def add(copy, *totals):
            parts = map(ig._widen, tf.nest.flatten(explain(copy + 1)))
            return map(tf.add, totals, parts)

        totals = _repeat(num_samples - 1, add, totals)
        result = [
            tf.cast(total / num_samples, part.dtype) for total, part in zip(totals, tf.nest.flatten(first))
        ]
    return tf.nest.pack_sequence_as(first, result)


def _normal(shape, seed, draw):
    return tf.random.stateless_normal(shape, seed + [0, draw], alg="philox")


def _uniform(shape, seed, draw, **options):
    return tf.random.stateless_uniform(shape, seed + [0, draw], alg="philox", **options)


def _seed(function, seed):
    """`[2]`, to which the number of a draw is added."""
    if seed is None:
        return tf.random.uniform([2], maxval=tf.int32.max, dtype=tf.int32)
    if not _is_int(seed):
        raise TypeError(
            f"{function}: seed is {seed!r} of type {type(seed).__name__}, expected an int, or None for fresh "
            "draws in every run."
        )
    return tf.constant([(int(seed) + 2**31) % 2**32 - 2**31, 0])


# ---------------------------------------------------------------------------------------------------
# What replays have in common
# ---------------------------------------------------------------------------------------------------


def _black_box(function, ys, xs, grad_ys):
    """As `_plan`, for methods that need no gradient: of integers too, and through any op."""
    ig._flat_outputs(function, ys, rows=True)
    plan = ig._Plan(function, ys, xs, None, explain=False)
    plan._follow_rows(strict=True)
    plan._check_rows()
    reached = {x.ref() for x in plan.xs} | {t.ref() for op in plan.ops for t in op.outputs}
    if not any(y.ref() in reached for y in plan.ys):
        raise ValueError(ig._unconnected(function, plan.ys, plan.xs, "ys", "xs"))
    return plan, ig._flat_grad_ys(function, plan, ys, grad_ys)


def _score(plan, ys, weights):
    """F: the weighted sum of the outputs of each row, `[B]`."""
    dtype = ig._wide(plan.ys[0].dtype)
    parts = [y if weight is None else y * weight for y, weight in zip(ys, weights)]
    total = tf.add_n([tf.cast(ig._sum_features(part), dtype) for part in parts])
    return ig._restore_shape(total, [plan.rows])


def _repeat(times, step, values):
    """`step(i, *values)`, one after the other; only the last values are kept."""
    shapes = [value.shape for value in values]

    def body(i, *values):
        return i + 1, *map(ig._restore_shape, step(i, *values), shapes)

    return tf.while_loop(
        lambda i, *_: i < times,
        body,
        (tf.constant(0), *values),
        parallel_iterations=1,
        maximum_iterations=times,
    )[1:]


def _shape(x):
    """The shape as a list of ints and, where unknown, scalar tensors."""
    if x.shape.rank is None:
        return tf.shape(x)
    return [tf.shape(x)[axis] if size is None else size for axis, size in enumerate(x.shape.as_list())]


def _spread(values, x):
    """`[B]` as `[B, 1, ...]`, to broadcast against `x [B, ...]`."""
    return ig._right_pad(values, x)


def _as(x, attributions):
    """In the dtype of `x`, if that can hold them."""
    return tf.cast(attributions, x.dtype) if x.dtype.is_floating else attributions


def _per_input(function, argument, xs, value):
    """One value per tensor of `xs`."""
    if value is None or _is_int(value):
        return [value] * len(tf.nest.flatten(xs))
    try:
        return [some for _, some in ig._pair_up(xs, value)]
    except (ValueError, TypeError, KeyError):
        raise ValueError(
            f"{function}: {argument} is {value!r}, expected one in the place of each tensor of xs, "
            f"{ig._describe(xs)}."
        ) from None


def _positive(function, argument, value):
    if not _is_int(value) or value < 1:
        raise ValueError(f"{function}: {argument} is {value!r}, expected a positive int, such as 10.")
    return int(value)


def _is_int(value):
    return isinstance(value, numbers.Integral) and not isinstance(value, bool)
