"""Arithmetic of rows and steps that all rules share."""

import numpy as np
import tensorflow as tf

from integrated_gradients_tf import restore_shape, widen


def sum_features(tensor):
    """`[B, ...]` -> `[B]`, in float32 at least."""
    tensor = widen(tensor)
    return tf.reduce_sum(tensor, axis=tf.range(1, tf.rank(tensor)))


def copied(tensor, copies):
    """`[B, ...]` -> `[copies * B, ...]`."""
    return tf.tile(tensor, tf.concat([[copies], tf.ones([tf.rank(tensor) - 1], tf.int32)], 0))


def right_pad(values, like):
    """`[K, 1 or B]` as `[K, 1 or B, 1, ...]`, to broadcast against `like [B, ...]`."""
    if like.shape.rank is None:
        ones = tf.ones([tf.rank(like) - 1], tf.int32)
        return tf.reshape(values, tf.concat([tf.shape(values), ones], 0))
    shape, ones = values.shape.as_list(), [1] * (like.shape.rank - 1)
    if shape.count(None) > 1:
        return tf.reshape(values, tf.concat([tf.shape(values), tf.constant(ones, tf.int32)], 0))
    return tf.reshape(values, [-1 if size is None else size for size in shape] + ones)


def safe_ratio(a, b):
    return tf.math.divide_no_nan(a, b)


def where_finite(tensor):
    """A derivative that is not finite at equal ends counts as 0."""
    finite = tf.math.is_finite(tf.abs(tensor) if tensor.dtype.is_complex else tensor)
    return tf.where(finite, tensor, tf.zeros([], tensor.dtype))


def epsilon(dtype):
    return np.finfo(dtype.as_numpy_dtype).eps if dtype.size > 2 else 2.0**-8


def unbroadcast(grad, like, op=None):
    """Sums `grad` over the axes along which `like`, an input of `op`, was broadcast."""
    if grad.shape.rank is not None and grad.shape.rank == like.shape.rank:
        # Rows on axis 0 are as many in both, where the ends are rows of one tensor.
        skip = 1 if op is not None and op.intervals is not None else 0
        if grad.shape[skip:].is_fully_defined() and grad.shape[skip:] == like.shape[skip:]:
            return grad
    shape = tf.shape(like)
    _, axes = tf.raw_ops.BroadcastGradientArgs(s0=tf.shape(grad), s1=shape)
    return restore_shape(tf.reshape(tf.reduce_sum(grad, axis=axes), shape), like.shape)


def half_ratio(a, b):
    """a / (a + b) of what is negative by rounding at most; one half where both are 0."""
    a, b = positive(a), positive(b)
    return a / (a + b)


def positive(tensor):
    # Far below any change that is more than rounding, and three times as fast as a condition.
    return tf.maximum(tensor, tf.constant(6e-8 if tensor.dtype == tf.float16 else 2e-38, tensor.dtype))


def row_sum(tensor):
    return tf.reduce_sum(tensor, axis=-1, keepdims=True)


class Features:
    """The features of all of `xs` in one, `[B, features]`, and back."""

    def __init__(self, xs, dtype):
        self.xs, self.dtype = xs, dtype
        self.sizes = [tf.reduce_prod(tf.shape(x)[1:]) for x in xs]

    def together(self, tensors):
        rows = tf.shape(self.xs[0])[0]
        flat = [tf.reshape(tf.cast(t, self.dtype), [rows, size]) for t, size in zip(tensors, self.sizes)]
        flat = [restore_shape(t, [x.shape[0], x.shape[1:].num_elements()]) for t, x in zip(flat, self.xs)]
        return flat[0] if len(flat) == 1 else tf.concat(flat, 1)

    def apart(self, flat):
        parts = [flat] if len(self.xs) == 1 else tf.split(flat, self.sizes, axis=1, num=len(self.xs))
        shaped = [tf.reshape(tf.cast(part, x.dtype), tf.shape(x)) for part, x in zip(parts, self.xs)]
        return [restore_shape(part, x.shape) for part, x in zip(shaped, self.xs)]


def repeat(times, step, values, going=None):
    """`step(i, *values)`, one after the other while `going(*values)`; only the last values are kept."""
    shapes = [value.shape for value in values]

    def goes_on(i, *values):
        return i < times if going is None else (i < times) & going(*values)

    def body(i, *values):
        return i + 1, *map(restore_shape, step(i, *values), shapes)

    return tf.while_loop(
        goes_on,
        body,
        (tf.constant(0), *values),
        parallel_iterations=1,
        maximum_iterations=times,
    )[1:]


def map_range(function, start, stop, like):
    """Stacks what `function(i)` returns (a list of tensors like `like`) for a range of `i`."""
    arrays = [tf.TensorArray(t.dtype, stop - start, element_shape=t.shape) for t in like]

    def body(i, arrays):
        parts = function(i)
        return i + 1, [a.write(i - start, tf.cast(p, a.dtype)) for a, p in zip(arrays, parts)]

    _, arrays = tf.while_loop(
        lambda i, _: i < stop,
        body,
        (tf.constant(start), arrays),
        parallel_iterations=1,
        maximum_iterations=stop - start,
    )
    return [a.stack() for a in arrays]
