"""Whether attributions stay as they are where the input hardly changes."""

from collections.abc import Callable
from typing import Any

import numpy as np
import tensorflow as tf

from igtf.arithmetic import repeat, sum_features
from igtf.evaluation.common import how_many
from igtf.methods.common import black_box, seed_of, uniform
from integrated_gradients_tf import (
    Tensors,
    as_it_is,
    flat_baselines,
    flat_inputs,
    restore_shape,
    wide_dtype,
    widen,
)

__all__ = ["sensitivity_max"]


@as_it_is
def sensitivity_max(
    builder: Callable[..., Tensors],
    ys: Tensors,
    xs: Tensors,
    radius: Any = 0.02,
    num_samples: int = 10,
    normalize: bool = True,
    seed: int | None = None,
    name: str = "sensitivity_max",
    **builder_options: Any,
) -> Tensors:
    """How far attributions move at most when the input hardly does: lower is better.

    Yeh et al., https://arxiv.org/abs/1901.09392, definition 3.1: the largest distance between the
    attributions at x and at x + noise, in the Euclidean norm over all features, for noise that is drawn
    evenly from [-radius, radius]. One noisy copy is explained at a time, so that memory does not grow with
    `num_samples`.

    It is fooled by explanations that say nothing: those that do not depend on the input, or are smooth for
    the sake of smoothness, have the best score. Where the network itself is unstable, a faithful explanation
    is, too. It is a bound from below: more copies find larger distances.

    Args:
      builder: function of `igtf`, or one of your own, that is called as `builder(ys, xs, **builder_options)`.
      ys: as for `saliency`.
      xs: floating tensor `[B, ...]`, or a list, tuple or dict of such.
      radius: how far each feature moves at most: a scalar, or a tensor that broadcasts to `xs`. With
        structured `xs`: one scalar for all, or the same structure.
      num_samples: number of noisy copies. All rows share the noise, so that the score of a row does not
        depend on the batch that it is in.
      normalize: whether to divide by the norm of the attributions at x, as Captum does.
      seed: int: the same noise in every run, in a `Session` as in a `tf.function` (XLA has its own).
        `None`: fresh noise.
      name: name scope of the nodes.
      **builder_options: passed on to `builder`. For options that are also called `radius`, `num_samples`,
        `normalize`, `seed` or `name`, give a `functools.partial` as the builder.

    Returns:
      The scores, `[B]`; 0 is best.

    Raises:
      TypeError, ValueError: as `builder`; also if `builder` is not callable, or returns what has not the
        rows of `xs`.

    >>> from igtf.methods import gradient_times_input, saliency
    >>> @tf.function
    ... def f(x):
    ...     y = 3 * x[:, 0] - x[:, 1]
    ...     moved = sensitivity_max(gradient_times_input, y, x, radius=0.1, num_samples=1000)
    ...     return sensitivity_max(saliency, y, x), moved
    >>> [f"{scores[0]:.2f}" for scores in f(tf.constant([[3.0, 2.0]]))]
    ['0.00', '0.03']
    """
    function = "sensitivity_max"
    if not callable(builder):
        raise TypeError(
            f"{function}: builder is a {type(builder).__name__}, expected a function such as saliency. "
            "Call sensitivity_max(saliency, ys, xs, ...)."
        )
    flat_inputs(function, "xs", xs)
    subgraph, _ = black_box(function, ys, xs, None)
    num_samples = how_many(function, "num_samples", num_samples)
    if not isinstance(normalize, (bool, np.bool_)):
        raise TypeError(f"{function}: normalize is {normalize!r}, expected True or False.")
    with tf.name_scope(name):
        widths = flat_baselines(function, xs, subgraph.xs, radius)
        seed, inputs = seed_of(function, seed), len(subgraph.xs)
        before = tf.nest.flatten(builder(ys, xs, **builder_options))
        _check_rows(function, before, subgraph.rows)

        def norms(parts):
            return tf.sqrt(tf.add_n([tf.cast(sum_features(tf.square(widen(p))), dtype) for p in parts]))

        def look(copy, most):
            noisy = []
            for i, (x, width) in enumerate(zip(subgraph.xs, widths)):
                shape = tf.concat([[1], tf.shape(x)[1:]], 0)
                drawn = uniform(shape, seed, copy * inputs + i, minval=-1, maxval=1)
                noisy.append(restore_shape(x + width * tf.cast(drawn, x.dtype), x.shape))
            outputs = tf.nest.pack_sequence_as(ys, subgraph.replay(noisy))
            after = builder(outputs, tf.nest.pack_sequence_as(xs, noisy), **builder_options)
            pairs = zip(tf.nest.flatten(after), before)
            return [tf.maximum(most, norms([widen(a) - widen(b) for a, b in pairs]))]

        dtype = wide_dtype(before[0].dtype)
        size = restore_shape(norms(before), [subgraph.rows])
        (most,) = repeat(num_samples, look, [tf.zeros_like(size)])
        return most / tf.where(tf.equal(size, 0), tf.ones_like(size), size) if normalize else most


def _check_rows(function, found, rows):
    for part in found:
        shape = getattr(part, "shape", None)
        if not tf.is_tensor(part) or not part.dtype.is_floating or shape.rank == 0:
            raise ValueError(
                f"{function}: builder returned a {type(part).__name__} of shape {shape}, expected floating "
                "tensors [B, ...] with the rows of xs. Pass a function that picks them."
            )
        if shape.rank and not shape[:1].is_compatible_with(tf.TensorShape([rows])):
            raise ValueError(
                f"{function}: builder returned a tensor of shape {shape}, expected [B, ...] with the {rows} "
                "rows of xs."
            )
