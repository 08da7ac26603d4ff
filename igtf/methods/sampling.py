"""Means over random draws: of baselines from a data set, of noise around the input."""

from collections.abc import Callable
from typing import Any

import tensorflow as tf

from igtf.arithmetic import repeat, right_pad
from igtf.methods.common import (
    black_box,
    differentiable,
    in_dtype_of,
    normal,
    positive,
    seed_of,
    shape_of,
    uniform,
)
from integrated_gradients_tf import (
    Tensors,
    as_it_is,
    check_tensor,
    describe,
    flat_baselines,
    flat_inputs,
    pair_up,
    restore_shape,
    wide_dtype,
    widen,
)

__all__ = ["expected_gradients", "smoothgrad"]


@as_it_is
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
    subgraph, weights = differentiable(function, ys, xs, grad_ys)
    num_samples = positive(function, "num_samples", num_samples)
    with tf.name_scope(name):
        data = _distribution(function, xs, subgraph.xs, baselines)
        seed = seed_of(function, seed)
        rows = tf.shape(subgraph.xs[0])[:1]

        def add(draw, *totals):
            chosen = uniform(rows, seed, 2 * draw, maxval=tf.shape(data[0])[0], dtype=tf.int32)
            starts = [tf.gather(some, chosen) for some in data]
            alpha = uniform(rows, seed, 2 * draw + 1)
            points = [
                start + right_pad(tf.cast(alpha, x.dtype), x) * (x - start)
                for x, start in zip(subgraph.xs, starts)
            ]
            grads = tf.gradients(subgraph.replay(points), points, weights, unconnected_gradients="zero")
            return [
                total + widen(x - start) * widen(tf.convert_to_tensor(grad))
                for total, x, start, grad in zip(totals, subgraph.xs, starts, grads)
            ]

        totals = repeat(num_samples, add, [tf.zeros(shape_of(x), wide_dtype(x.dtype)) for x in subgraph.xs])
        result = [in_dtype_of(x, total / num_samples) for x, total in zip(subgraph.xs, totals)]
    return tf.nest.pack_sequence_as(xs, result)


def _distribution(function, xs, flat, baselines):
    """One tensor `[N, ...]` per input."""
    try:
        values = [value for _, value in pair_up(xs, baselines)]
    except (ValueError, TypeError, KeyError):
        raise ValueError(
            f"{function}: baselines have the structure {describe(baselines)}, expected that of xs, "
            f"{describe(xs)}: one data set [N, ...] in the place of each tensor [B, ...]."
        ) from None
    data = []
    for x, value in zip(flat, values):
        try:
            if isinstance(value, tf.Tensor) and not hasattr(value, "numpy"):
                check_tensor(function, "baselines", value)
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


@as_it_is
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
      builder: function of `igtf`, or one of your own, that is called as `builder(ys, xs, **builder_options)`.
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

    >>> from igtf.methods import saliency
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
    flat_inputs(function, "xs", xs)
    subgraph, _ = black_box(function, ys, xs, None)
    num_samples = positive(function, "num_samples", num_samples)
    with tf.name_scope(name):
        stdevs = flat_baselines(function, xs, subgraph.xs, stdev)
        seed, inputs = seed_of(function, seed), len(subgraph.xs)

        def explain(copy):
            noisy = [
                x + stdev * tf.cast(normal(tf.shape(x), seed, copy * inputs + i), x.dtype)
                for i, (x, stdev) in enumerate(zip(subgraph.xs, stdevs))
            ]
            noisy = [restore_shape(point, x.shape) for point, x in zip(noisy, subgraph.xs)]
            outputs = tf.nest.pack_sequence_as(ys, subgraph.replay(noisy))
            return builder(outputs, tf.nest.pack_sequence_as(xs, noisy), **builder_options)

        # The first one outside the loop: it says what a builder returns.
        first = explain(0)
        totals = [widen(part) for part in tf.nest.flatten(first)]

        def add(copy, *totals):
            parts = map(widen, tf.nest.flatten(explain(copy + 1)))
            return map(tf.add, totals, parts)

        totals = repeat(num_samples - 1, add, totals)
        result = [
            tf.cast(total / num_samples, part.dtype) for total, part in zip(totals, tf.nest.flatten(first))
        ]
    return tf.nest.pack_sequence_as(first, result)
