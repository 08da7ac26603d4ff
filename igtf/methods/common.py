"""What the methods share: their checks, the network once more as a score, draws and loops."""

import tensorflow as tf

from igtf.arguments import flat_grad_ys, flat_outputs, is_int
from igtf.arithmetic import copied, sum_features
from igtf.path_integral import rows_of_block
from igtf.subgraph import Subgraph
from igtf.traversal import unconnected_message
from integrated_gradients_tf import describe, pair_up, restore_shape, wide_dtype

__all__ = [
    "black_box",
    "copies_per_block",
    "differentiable",
    "in_dtype_of",
    "normal",
    "per_input",
    "positive",
    "score",
    "seed_of",
    "shape_of",
    "uniform",
]


def differentiable(function, ys, xs, grad_ys):
    """The ops between `xs` and `ys`, and the weights of the entries of `ys`."""
    subgraph = Subgraph(function, ys, xs, None)
    return subgraph, flat_grad_ys(function, subgraph, ys, grad_ys)


def black_box(function, ys, xs, grad_ys):
    """As `differentiable`, for methods that need no gradient: of integers too, and through any op."""
    flat_outputs(function, ys, rows=True)
    subgraph = Subgraph(function, ys, xs, None, explain=False)
    subgraph.follow_rows(strict=True)
    subgraph.check_rows()
    reached = {x.ref() for x in subgraph.xs} | {t.ref() for op in subgraph.ops for t in op.outputs}
    if not any(y.ref() in reached for y in subgraph.ys):
        raise ValueError(unconnected_message(function, subgraph.ys, subgraph.xs))
    return subgraph, flat_grad_ys(function, subgraph, ys, grad_ys)


def score(subgraph, ys, weights, copies=1):
    """F: the weighted sum of the outputs of each row, `[B]`; of `copies` of the rows, `[copies * B]`."""
    dtype = wide_dtype(subgraph.ys[0].dtype)
    once = isinstance(copies, int) and copies == 1
    if not once:
        weights = [w if w is None else copied(w, copies) for w in weights]
        # What does not depend on xs was not replayed.
        ys = [copied(y, copies) if any(y is old for old in subgraph.ys) else y for y in ys]
    parts = [y if weight is None else y * weight for y, weight in zip(ys, weights)]
    total = tf.add_n([tf.cast(sum_features(part), dtype) for part in parts])
    return restore_shape(total, [subgraph.rows]) if once else total


def seed_of(function, seed):
    """`[2]`, to which the number of a draw is added."""
    if seed is None:
        return tf.random.uniform([2], maxval=tf.int32.max, dtype=tf.int32)
    if not is_int(seed):
        raise TypeError(
            f"{function}: seed is {seed!r} of type {type(seed).__name__}, expected an int, or None for fresh "
            "draws in every run."
        )
    return tf.constant([(int(seed) + 2**31) % 2**32 - 2**31, 0])


def normal(shape, seed, draw):
    return tf.random.stateless_normal(shape, seed + [0, draw], alg="philox")


def uniform(shape, seed, draw, **options):
    return tf.random.stateless_uniform(shape, seed + [0, draw], alg="philox", **options)


def shape_of(x):
    """The shape as a list of ints and, where unknown, scalar tensors."""
    if x.shape.rank is None:
        return tf.shape(x)
    return [tf.shape(x)[axis] if size is None else size for axis, size in enumerate(x.shape.as_list())]


def in_dtype_of(x, attributions):
    """In the dtype of `x`, if that can hold them."""
    return tf.cast(attributions, x.dtype) if x.dtype.is_floating else attributions


def per_input(function, argument, xs, value):
    """One value per tensor of `xs`."""
    if value is None or is_int(value):
        return [value] * len(tf.nest.flatten(xs))
    try:
        return [some for _, some in pair_up(xs, value)]
    except (ValueError, TypeError, KeyError):
        raise ValueError(
            f"{function}: {argument} is {value!r}, expected one in the place of each tensor of xs, "
            f"{describe(xs)}."
        ) from None


def positive(function, argument, value):
    if not is_int(value) or value < 1:
        raise ValueError(f"{function}: {argument} is {value!r}, expected a positive int, such as 10.")
    return int(value)


def copies_per_block(subgraph, max_rows, rows, count, each=1, said="one run of it"):
    """How many of `count` runs, with `each` times the rows of the batch, to stack into one replay."""
    if max_rows is not None:
        limit, least = positive(subgraph.function, "max_rows", max_rows), each * (subgraph.rows or 1)
        limit = min(limit, 2**31 - 1)
        if limit < least:
            raise ValueError(
                f"{subgraph.function}: max_rows is {limit}, expected at least {least}: {said} for a batch of "
                f"{subgraph.rows or 'at least 1'}. Raise it, or pass smaller batches."
            )
    else:
        limit = rows_of_block(subgraph, subgraph.row_bytes)
    if not subgraph.stackable:
        return 1
    larger, smaller = (max, min) if subgraph.rows is not None else (tf.maximum, tf.minimum)
    return larger(1, smaller(limit // larger(1, each * rows), count))
