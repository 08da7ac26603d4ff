"""Checks of what the users of the package pass, beside those of `integrated_gradients_tf`."""

import numbers

import tensorflow as tf

from integrated_gradients_tf import check_structure, check_tensor


def flat_outputs(function, ys, rows):
    """The tensors of `ys`, checked: of a graph and, if `rows`, with a batch dimension."""
    flat = tf.nest.flatten(ys)
    if not flat:
        raise ValueError(f"{function}: ys is {ys!r}, expected at least one tensor.")
    for y in flat:
        check_tensor(function, "ys", y)
        if rows and y.shape.rank == 0:
            raise ValueError(
                f"{function}: ys {y.name!r} is a scalar, expected [B, ...] with one entry per row. "
                "Explain the network's output for every row, not a loss over the batch."
            )
        if rows and not y.dtype.is_floating:
            raise TypeError(
                f"{function}: ys {y.name!r} has dtype {y.dtype.name}, expected a floating dtype. "
                "Explain the scores and not what argmax or a threshold makes of them."
            )
    return flat


def flat_grad_ys(function, subgraph, structure, grad_ys):
    """One tensor of weights, or None, per tensor of `ys`."""
    if grad_ys is None:
        return [None] * len(subgraph.ys)
    if tf.nest.is_nested(structure):
        check_structure(function, "grad_ys", grad_ys, "ys", structure)
    flat = tf.nest.flatten(grad_ys) if tf.nest.is_nested(structure) else [grad_ys]
    return [output_weight(function, y, weight) for y, weight in zip(subgraph.ys, flat)]


def output_weight(function, y, weight):
    if isinstance(weight, tf.Tensor) and not hasattr(weight, "numpy"):
        check_tensor(function, "grad_ys", weight)
    try:
        weight = tf.convert_to_tensor(weight, None if tf.is_tensor(weight) else y.dtype)
    except (ValueError, TypeError, RuntimeError) as error:
        raise TypeError(f"{function}: grad_ys is no {y.dtype.name} tensor: {error}") from None
    if not weight.dtype.is_floating:
        raise TypeError(
            f"{function}: grad_ys has dtype {weight.dtype.name}, expected {y.dtype.name} as ys. "
            "Convert it with tf.cast."
        )
    if not weight.shape.is_compatible_with(y.shape):
        raise ValueError(
            f"{function}: grad_ys has shape {weight.shape}, expected {y.shape} as ys "
            f"{y.name!r}: one weight per entry, such as tf.one_hot(classes, {y.shape[-1:]})."
        )
    return weight


def is_int(value):
    return isinstance(value, numbers.Integral) and not isinstance(value, bool)
