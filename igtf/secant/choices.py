"""Rules of what chooses between its inputs: maximum, select, and the maximum over an axis."""

import tensorflow as tf

from igtf.arithmetic import half_ratio, safe_ratio, unbroadcast
from igtf.backpropagation import default_rule, own_gradient


def share_of_first(first0, first1, gap0, gap1):
    """Share of the adjoint that the first of two inputs gets.

    Chosen at both ends: all; at neither: nothing. Chosen at one end only: the distance between the
    two at that end, over the sum of the distances at both, is the exact share. Ties at both ends: half.

    For of any two or more inputs z let i win at the start and j at the end, with d0 = y0 - z0[j] and
    d1 = y1 - z1[i], both at least 0. Then share t = d0 / (d0 + d1) for i and 1 - t for j is complete:

        t (z1[i] - z0[i]) + (1 - t) (z1[j] - z0[j])
            = t (y1 - d1 - y0) + (1 - t) (y1 - y0 + d0) = y1 - y0 + (1 - t) d0 - t d1 = y1 - y0
    """
    crossing = half_ratio(tf.where(first0, gap0, gap1), tf.where(first0, gap1, gap0))
    return tf.where(tf.equal(first0, first1), tf.cast(first0, gap0.dtype), crossing)


def choice_rule(compare):
    """The rule of Maximum and Minimum."""

    def rule(op, other, grads):
        (a0, b0), (a1, b1) = op.inputs, other.inputs
        share = op.keep(
            "share",
            lambda: share_of_first(compare(a0, b0), compare(a1, b1), tf.abs(a0 - b0), tf.abs(a1 - b1)),
        )
        first = grads[0] * share
        return [
            unbroadcast(part, like, op) if i in op.slots else None
            for i, (part, like) in enumerate(((first, a0), (grads[0] - first, b0)))
        ]

    return rule


def select_rule(op, other, grads):
    """SelectV2: as Maximum where the condition depends on the path, linear where it does not."""
    (c0, a0, b0), (c1, a1, b1) = op.inputs, other.inputs
    if c0 is c1:
        return own_gradient(op, grads)
    if op.type == "Select" and op.op.inputs[0].shape.rank != op.op.inputs[1].shape.rank:
        return default_rule(op, other, grads)  # one condition per row, which broadcasts from the left

    def share():
        gap0, gap1 = tf.abs(a0 - b0), tf.abs(a1 - b1)
        shape = tf.shape(grads[0])
        return share_of_first(*(tf.broadcast_to(t, shape) for t in (c0, c1, gap0, gap1)))

    def shares():
        # A crossing makes this complete. Where the condition flips elsewhere (ELU by hand, whose
        # branches touch; a jump), the least change of both shares does.
        first, flips = share(), tf.not_equal(c0, c1)

        def change(z0, z1):
            return tf.where(flips, z1 - z0, tf.zeros([], z0.dtype))

        one, two = (change(*z) if i in op.slots else 0 for i, z in ((1, (a0, a1)), (2, (b0, b1))))
        missing = change(op.outputs[0], other.outputs[0]) - first * one - (1 - first) * two
        square = one**2 + two**2
        return first + safe_ratio(missing * one, square), 1 - first + safe_ratio(missing * two, square)

    first, second = op.keep("shares", shares)
    result = [None, unbroadcast(grads[0] * first, a0, op), unbroadcast(grads[0] * second, b0, op)]
    return [g if i in op.slots else None for i, g in enumerate(result)]


def reduced_choice_rule(op, other, grads):
    """The rule of the reductions Max and Min; see `share_of_first`."""
    z0, z1 = op.inputs[0], other.inputs[0]
    axes = op.inputs[1]
    spread = _spreader(op)

    def total(values):
        return tf.reduce_sum(values, axis=axes, keepdims=True)

    def parts():
        y0, y1 = spread(op.outputs[0]), spread(other.outputs[0])
        won0, won1 = (tf.cast(tf.equal(z, y), z0.dtype) for z, y in ((z0, y0), (z1, y1)))
        won0, won1 = safe_ratio(won0, total(won0)), safe_ratio(won1, total(won1))
        gap0 = tf.abs(y0 - total(tf.math.multiply_no_nan(z0, won1)))
        gap1 = tf.abs(y1 - total(tf.math.multiply_no_nan(z1, won0)))
        return won1 + half_ratio(gap0, gap1) * (won0 - won1)

    return [spread(grads[0]) * op.keep("share", parts), None]


def _spreader(op):
    """A function that lays out values of a reduction's output over the axes of its input."""
    axes, shape = op.inputs[1], tf.shape(op.inputs[0])
    if op.get_attr("keep_dims"):
        return lambda y: y
    rank = tf.size(shape)
    places = tf.cast(tf.reshape(axes, [-1]), tf.int32)
    ones = tf.reduce_max(tf.one_hot(places % rank, rank, dtype=tf.int32), axis=0)
    return lambda y: tf.reshape(y, tf.where(ones > 0, 1, shape))
