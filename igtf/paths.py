"""Attributions along any path: curved, through given points, from blurred images, word by word."""

import math
import numbers
from collections.abc import Callable, Sequence

import numpy as np
import tensorflow as tf

from igtf.arguments import flat_grad_ys, is_int
from igtf.arithmetic import repeat, right_pad
from igtf.levels import find_levels
from igtf.path_integral import PathIntegral
from igtf.refinement import packed, refine
from igtf.subgraph import Subgraph
from igtf.traversal import asserted, find_varying, ops_between
from integrated_gradients_tf import (
    Baselines,
    Tensors,
    as_it_is,
    check_structure,
    check_tensor,
    describe,
    flat_baselines,
    restore_shape,
    wide_dtype,
    widen,
)


@as_it_is
def path_integrated_gradients(
    ys: Tensors,
    xs: Tensors,
    path: Callable | Tensors,
    num_steps: int | None = None,
    method: str = "auto",
    grad_ys: Tensors | None = None,
    per_row: Sequence[tf.Tensor] | None = None,
    max_rows: int | None = None,
    tolerance: float | None = None,
    return_error: bool = False,
    name: str = "path_integrated_gradients",
) -> Tensors:
    """Attributes the change of `ys` along a path of your own to `xs`.

    The path method of Sundararajan et al., https://arxiv.org/abs/1703.01365, equation 2: what every feature
    adds while all of them move from one end of the path to the other. Of an interval between two points
    of the path, a feature gets its own change times the mean slope of the network, so that with
    `"secant"` attributions are complete at any number of steps, whatever the path.

    Args:
      ys: as for `integrated_gradients`.
      xs: floating tensor `[B, ...]`, or a list, tuple or dict of such, that `ys` are computed from. Their
        own values count if the path reads them, and not otherwise.
      path: a function of the time, from 0 at the start to 1 at the end, that returns what stands for
        `xs` then: floating, in their structure and shape. It gets the time as `[B, 1, ...]`, ready to be
        multiplied with `xs` (in their structure, if they have one). What it reads beside has one entry
        per row of `xs`, or one for all; in a graph of TensorFlow 1 or a `tf.function` alike. Or the points
        of the path themselves, `[K, B, ...]` in the structure of `xs`, at least two, joined by straight
        pieces that take equal shares of the time.
      num_steps, grad_ys, per_row, max_rows, tolerance, return_error: as for `integrated_gradients`.
      method: likewise, but that `"auto"` is `"secant"` wherever it can be, for smooth networks too.
      name: name scope of the nodes.

    Returns:
      The attributions, in the shape and structure of `xs`. Summed over the features of a row they equal
      what F gains from one end of the path to the other; `convergence_delta` with the baseline that it
      should start at tells whether that is so.

    Raises:
      TypeError, ValueError: as `integrated_gradients`; also if `path` is neither a function nor points,
        returns something else than `xs`, or does not depend on the time.

    >>> @tf.function
    ... def f(x):
    ...     y = x[:, 0] * x[:, 1]
    ...     return path_integrated_gradients(y, x, lambda t: x * tf.concat([t, t**2], 1), num_steps=100)
    >>> f(tf.constant([[3.0, 2.0]])).numpy().round(3).tolist()  # a third and two of the change, not halves
    [[2.0, 4.0]]
    """
    function = "path_integrated_gradients"
    with tf.name_scope(name):
        subgraph = Subgraph(function, ys, xs, per_row)
        weights = flat_grad_ys(function, subgraph, ys, grad_ys)
        options = dict(num_steps=num_steps, method=method, tolerance=tolerance, compare=return_error)
        found = _along(subgraph, xs, path, weights, per_row, max_rows, options)
        return packed(xs, found, return_error)


@as_it_is
def blur_integrated_gradients(
    ys: Tensors,
    xs: Tensors,
    max_sigma: float = 50.0,
    axes: Sequence[int] | None = None,
    num_steps: int | None = None,
    method: str = "auto",
    grad_ys: Tensors | None = None,
    per_row: Sequence[tf.Tensor] | None = None,
    max_rows: int | None = None,
    tolerance: float | None = None,
    return_error: bool = False,
    name: str = "blur_integrated_gradients",
) -> Tensors:
    """Attributes what `ys` gain while a blurred `xs` gets sharp: there is no baseline to choose.

    Xu, Venugopalan and Sundararajan, https://arxiv.org/abs/2004.03383: the path is the scale space of an
    image. Every point of it is the image under a Gaussian, whose width falls evenly from `max_sigma` to 0;
    outside of the image is 0. An attribution at a pixel says that its value mattered at some scale.

    Args:
      ys, num_steps, method, grad_ys, per_row, max_rows, tolerance, return_error: as for
        `path_integrated_gradients`.
      xs: floating tensor such as `[B, height, width, channels]` or `[B, time, channels]`, or a structure of
        such, of which all are blurred together.
      max_sigma: the width that the path begins with, in pixels, above 0: one that leaves nothing to see.
      axes: the axes of `xs` to blur along, from 1 on, of static size. `None` is all but the last one.
      name: name scope of the nodes.

    Returns:
      The attributions, in the shape and structure of `xs`; their sum over the features of a row is F(x)
      minus F of the blurred x.

    Raises:
      TypeError, ValueError: as `path_integrated_gradients`; also a `max_sigma` that is not above 0, or axes
        that are none of `xs`.

    >>> @tf.function
    ... def f(x):
    ...     return blur_integrated_gradients(tf.reduce_max(x, [1, 2]), x, max_sigma=100.0, axes=[1])
    >>> f(tf.constant([[[0.0], [1.0], [0.0]]])).numpy().round(2).tolist()
    [[[0.0], [1.0], [0.0]]]
    """
    function = "blur_integrated_gradients"
    if isinstance(max_sigma, bool) or not isinstance(max_sigma, numbers.Real) or not 0 < max_sigma < np.inf:
        raise ValueError(
            f"{function}: max_sigma is {max_sigma!r}, expected a number of pixels above 0, such as 50."
        )
    with tf.name_scope(name):
        subgraph = Subgraph(function, ys, xs, per_row)
        chosen = [_blurred_axes(function, x, axes) for x in subgraph.xs]

        def path(time):
            blurred = []
            for x, t, mine in zip(subgraph.xs, tf.nest.flatten(time), chosen):
                variance = (float(max_sigma) * (1 - widen(tf.reshape(t, [-1])))) ** 2
                for axis in mine:
                    x = _blur(x, axis, variance, float(max_sigma))
                blurred.append(x)
            return tf.nest.pack_sequence_as(xs, blurred)

        weights = flat_grad_ys(function, subgraph, ys, grad_ys)
        options = dict(num_steps=num_steps, method=method, tolerance=tolerance, compare=return_error)
        found = _along(subgraph, xs, path, weights, per_row, max_rows, options)
        return packed(xs, found, return_error)


def _blurred_axes(function, x, axes):
    rank = x.shape.rank or 0
    found = list(range(1, rank - 1)) if axes is None else axes
    sizes = x.shape.as_list() if rank else []
    if (
        not isinstance(found, (list, tuple))
        or not found
        or not all(is_int(a) and 0 < a < rank and sizes[a] for a in found)
    ):
        raise ValueError(
            f"{function}: axes is {axes!r}, expected axes of static size, from 1 on, of xs {x.name!r} of "
            f"shape {x.shape}, such as [1, 2] of images [B, height, width, channels]."
        )
    return sorted(set(found))


def _blur(x, axis, variance, most):
    """`x [B, ...]` under a Gaussian along one axis, of `variance [B]`, with zeros outside."""
    size = x.shape.as_list()[axis]
    squares = np.square(np.arange(size)[:, None] - np.arange(size))
    far = np.square(np.arange(-math.ceil(6 * most), math.ceil(6 * most) + 1))
    rate = -0.5 / tf.maximum(variance, 1e-3)[:, None]  # below that the neighbours have nothing
    weights = tf.exp(rate[..., None] * tf.constant(squares, rate.dtype))
    weights /= tf.reduce_sum(tf.exp(rate * tf.constant(far, rate.dtype)), axis=1)[:, None, None]
    front = [0, axis, *(a for a in range(1, x.shape.rank) if a != axis)]
    turned = tf.transpose(x, front)
    flat = tf.reshape(turned, tf.concat([tf.shape(turned)[:2], [-1]], 0))
    blurred = tf.reshape(tf.matmul(tf.cast(weights, x.dtype), flat), tf.shape(turned))
    return restore_shape(tf.transpose(blurred, np.argsort(front)), x.shape)


@as_it_is
def sequential_integrated_gradients(
    ys: Tensors,
    xs: Tensors,
    baselines: Baselines = None,
    axis: int = 1,
    num_steps: int | None = None,
    method: str = "auto",
    grad_ys: Tensors | None = None,
    per_row: Sequence[tf.Tensor] | None = None,
    max_rows: int | None = None,
    tolerance: float | None = None,
    name: str = "sequential_integrated_gradients",
) -> Tensors:
    """Attributes `ys` to one word after the other, along the path on which only that word is missing.

    Enguehard, https://arxiv.org/abs/2305.15853: sentences half of whose every word is there are no
    sentences. So each word gets the integrated gradients from the whole sentence with its own baseline in
    its place. Memory does not grow with the number of words; the time does.

    Args:
      ys, baselines, num_steps, method, grad_ys, per_row, max_rows, tolerance: as for
        `integrated_gradients`; as `baselines`, the paper takes the embedding of a mask or padding.
      xs: floating tensor `[B, words, ...]`, such as embeddings, or a structure of such, each of whose words
        is taken in turn.
      axis: the axis of `xs` that tells words apart, from 1 on.
      name: name scope of the nodes.

    Returns:
      The attributions, in the shape and structure of `xs`. Summed over a word they equal what F loses with
      it; the words together are not complete (each is compared with all others being there).

    Raises:
      TypeError, ValueError: as `integrated_gradients`; ValueError for an axis that `xs` have not.

    >>> @tf.function
    ... def f(x):
    ...     return sequential_integrated_gradients(tf.reduce_prod(x, [1, 2]), x)
    >>> f(tf.constant([[[3.0], [2.0]]])).numpy().round(3).tolist()  # without either factor nothing is left
    [[[6.0], [6.0]]]
    """
    function = "sequential_integrated_gradients"
    with tf.name_scope(name):
        subgraph = Subgraph(function, ys, xs, per_row)
        levels = find_levels(function, num_steps, method, tolerance, compare=False)
        weights = flat_grad_ys(function, subgraph, ys, grad_ys)
        starts = subgraph.full_baselines(flat_baselines(function, xs, subgraph.xs, baselines))
        results = []
        for number, (x, start) in enumerate(zip(subgraph.xs, starts)):
            if not is_int(axis) or not 0 < axis < (x.shape.rank or 0):
                raise ValueError(
                    f"{function}: axis is {axis!r}, expected the one of words in xs {x.name!r} of shape "
                    f"{x.shape}, from 1 on."
                )
            shape = [1] * axis + [-1] + [1] * (x.shape.rank - axis - 1)
            words = tf.reshape(tf.range(tf.shape(x)[axis]), shape)

            def add(word, total, number=number, x=x, start=start, words=words):
                mine = tf.equal(words, word)
                before = list(subgraph.xs)
                before[number] = tf.where(mine, start, x)
                integral = PathIntegral(
                    subgraph, xs, tf.nest.pack_sequence_as(xs, before), levels, max_rows, nested=True
                )
                found = refine(integral, PathIntegral.attributions, weights)[0][number]
                return [tf.where(mine, found, total)]

            results += repeat(tf.shape(x)[axis], add, [tf.zeros_like(x)])
    return tf.nest.pack_sequence_as(xs, results)


def _along(subgraph, xs, path, weights, per_row, max_rows, options):
    """`(attributions, errors, steps)` as `refine` returns, of each of the subgraph's `xs`.

    The time is what moves, and what stands for `xs` a layer that the path passes: conductance is attribution
    along the path then.
    """
    function = subgraph.function
    if options["method"] == "auto":
        subgraph.find_kinks()
        if not subgraph.jumps and subgraph.shifting is None:
            options = dict(options, method="secant")
    levels = find_levels(function, **options)
    dtype = wide_dtype(subgraph.xs[0].dtype)
    rows = tf.shape(subgraph.xs[0])[:1] if subgraph.rows is None else [subgraph.rows]
    time = tf.identity(tf.ones(rows, dtype), "time")
    if callable(path):
        led, held = tf.nest.flatten(xs), []
        times = [tf.cast(right_pad(time, x), x.dtype) for x in subgraph.xs]
        found = _checked(function, xs, subgraph.xs, path(tf.nest.pack_sequence_as(xs, times)))
    else:
        found, led, held = _through(function, xs, subgraph.xs, path, time)
    found = [tf.identity(tensor) for tensor in found]
    varying = find_varying(ops_between(found, [time]), [time])
    moving = [tensor for tensor in found if tensor.ref() in varying]
    if not moving:
        raise ValueError(
            f"{function}: path returns the same whatever the time is, expected what moves from its start at "
            "0 to its end at 1, such as lambda t: start + t * (end - start)."
        )
    made = subgraph.replay(found)
    moved = Subgraph(function, made, [time], per_row, through=moving, led=led, held=held)
    integral = PathIntegral(moved, [time], None, levels, max_rows)
    attributions, errors, steps = refine(integral, PathIntegral.conductances, weights)
    parts = iter(attributions)
    attributions = [
        restore_shape(tf.cast(next(parts), x.dtype), x.shape) if tensor.ref() in varying else tf.zeros_like(x)
        for x, tensor in zip(subgraph.xs, found)
    ]
    return attributions, errors, steps


def _checked(function, xs, flat, found):
    """What a path returned, flat."""
    check_structure(function, "path(t)", found, "xs", xs)
    tensors = []
    for x, value in zip(flat, tf.nest.flatten(found)):
        if not tf.is_tensor(value) or value.dtype != x.dtype:
            raise TypeError(
                f"{function}: path(t) returns {describe(value)}, expected a tensor of dtype {x.dtype.name}, "
                f"that of xs {x.name!r}."
            )
        if not value.shape.is_compatible_with(x.shape):
            raise ValueError(
                f"{function}: path(t) returns shape {value.shape}, expected {x.shape} as xs {x.name!r}. The "
                "time that it gets has one entry per row, and 1 for each of the other axes."
            )
        tensors.append(value)
    return tensors


def _through(function, xs, flat, points, time):
    """A path of straight pieces through `points`: flat, and what of it has an entry per row, and has not."""
    check_structure(function, "path", points, "xs", xs)
    values, counts = [], set()
    for x, value in zip(flat, tf.nest.flatten(points)):
        if isinstance(value, tf.Tensor) and not hasattr(value, "numpy"):
            check_tensor(function, "path", value)
        try:
            value = tf.convert_to_tensor(value, x.dtype)
        except (ValueError, TypeError, RuntimeError) as error:
            raise TypeError(
                f"{function}: path is no {x.dtype.name} tensor of points, nor a function of the time: {error}"
            ) from None
        if not value.shape.is_compatible_with([None, *x.shape]):
            raise ValueError(
                f"{function}: path has shape {value.shape}, expected points [K, B, ...] for xs {x.name!r} of "
                f"shape {x.shape}."
            )
        values.append(value)
        counts.add(value.shape.as_list()[0])
    if len(counts) > 1 or counts & {0, 1}:
        raise ValueError(
            f"{function}: path has {' and '.join(map(str, sorted(counts, key=str)))} points, expected at "
            "least two, as many for each tensor of xs."
        )
    rows, count = tf.shape(flat[0])[0], tf.shape(values[0])[0]
    same = tf.reduce_all([tf.equal(tf.shape(v)[:2], [count, rows]) for v in values])
    message = (
        f"{function}: path has other than the rows of xs, or less than two points, expected [K, B, ...]."
    )
    rows = asserted(same & (count > 1), message, rows)
    pieces, last, row_numbers = tf.cast(count - 1, time.dtype), count - 2, tf.range(rows)
    place = tf.clip_by_value(tf.cast(time * pieces, tf.int32), 0, last)
    rest = time * pieces - tf.cast(place, time.dtype)
    found, tables = [], []
    for x, value in zip(flat, values):
        table = tf.reshape(value, tf.concat([[count * rows], tf.shape(value)[2:]], 0))
        low, high = (tf.gather(table, at * rows + row_numbers) for at in (place, place + 1))
        found.append(restore_shape(low + tf.cast(right_pad(rest, x), x.dtype) * (high - low), x.shape))
        tables.append(table)
    return found, [row_numbers], [*tables, rows, pieces, last]
