"""Rules of elementwise ops: the slope from one end of an interval to the other."""

import tensorflow as tf

from igtf.arithmetic import epsilon, safe_ratio, unbroadcast, where_finite
from igtf.backpropagation import completed
from igtf.copying import copy_op
from integrated_gradients_tf import restore_shape


def elementwise(slope):
    """The rule of a unary elementwise op, from its slope over the interval."""
    return lambda op, other, grads: grads[0] * op.keep("slope", lambda: slope(op, other))


def pointwise_rule(op, other, grads):
    """Elementwise ops of several inputs, which may be broadcast: the default rule entry by entry."""
    like = op.outputs[0]
    shape = tf.shape(like)

    def at(end):
        ins = [tf.broadcast_to(t, shape) if i in op.slots else t for i, t in enumerate(end.inputs)]
        made = []
        copy_op(op.type, ins, op.node_def.attr, made, "gradient_of")
        varying = [ins[i] for i in op.slots]
        found = tf.gradients(made[0].outputs, varying, grads, stop_gradients=ins)
        return [(t, tf.zeros_like(t) if g is None else g) for t, g in zip(varying, found)]

    def column(t):
        return tf.reshape(t, [-1, 1])

    ins = [[column(t) for t in (g0, g1, z0, z1)] for (z0, g0), (z1, g1) in zip(at(op), at(other))]
    found = completed(ins, [[column(t) for t in (grads[0], like, other.outputs[0])]])
    result = [None] * len(op.inputs)
    for i, grad in zip(op.slots, found):
        z = op.inputs[i]
        full = restore_shape(tf.reshape(tf.cast(grad, z.dtype), shape), like.shape)
        result[i] = unbroadcast(full, z)
    return result


def _ramp(op, other, above):
    """Slope of max(z, 0), `above(end)`: the share of the interval above 0. No cancellation, no branch."""
    size0, size1 = (end.whole("size", lambda op: tf.abs(op.inputs[0])) for end in (op, other))
    return safe_ratio(above(op) + above(other), size0 + size1)


def relu_slope(op, other):
    return _ramp(op, other, lambda end: end.outputs[0])


def relu6_slope(op, other):
    """(y1 - y0) / (z1 - z0), which is exact: y is z or an end of its range, never a rounded number.

    Where both ends are alike it is the derivative; in arithmetic, as conditions take several times as long.
    """
    (z0,), (z1,) = op.inputs, other.inputs
    change = z1 - z0
    fixed = tf.stop_gradient(change)
    alike = 1 - safe_ratio(fixed, fixed)
    derivative = tf.raw_ops.Relu6Grad(gradients=alike, features=z0)
    return safe_ratio(other.outputs[0] - op.outputs[0], change) + derivative


def leaky_relu_slope(op, other):
    alpha = op.get_attr("alpha")

    def above(end):
        return end.whole("above", lambda op: tf.nn.relu(op.inputs[0]))

    return alpha + (1 - alpha) * _ramp(op, other, above)


def abs_slope(op, other):
    (z0,), (z1,) = op.inputs, other.inputs
    return safe_ratio(z0 + z1, tf.abs(z0) + tf.abs(z1))


def complex_abs_rule(op, other, grads):
    """|z1| - |z0| = (z0 + z1) . (z1 - z0) / (|z0| + |z1|), in the plane."""
    (z0,), (z1,) = op.inputs, other.inputs
    slope = safe_ratio(grads[0], op.outputs[0] + other.outputs[0])
    return [tf.cast(slope, z0.dtype) * (z0 + z1)]


def sqrt_slope(op, other):
    def root(z):  # whose own slope at 0 is not infinite, for training
        some = z > 0
        return tf.where(some, tf.sqrt(tf.where(some, z, tf.ones([], z.dtype))), tf.zeros([], z.dtype))

    return safe_ratio(tf.ones([], op.outputs[0].dtype), root(op.inputs[0]) + root(other.inputs[0]))


def rsqrt_slope(op, other):
    y0, y1 = op.outputs[0], other.outputs[0]
    both = y0 * y1  # whose square may be beyond the range of its type
    return where_finite(-both * (both / (y0 + y1)))


def smooth_slope(op, other, slot=0):
    """(y1 - y0) / (z1 - z0), and the mean derivative of both ends where that would cancel.

    The mean derivative is taken where it is complete to rounding, and nowhere else: any width that
    is fit for Tanh is too wide for Log near 0 and for Sin far from it.
    """
    z0, z1 = op.inputs[slot], other.inputs[slot]
    y0, y1 = op.outputs[0], other.outputs[0]
    same = tf.equal(z0, z1)  # infinite ones too
    zero, one = tf.zeros([], z0.dtype), tf.ones([], z0.dtype)
    change, gain = tf.where(same, zero, z1 - z0), tf.where(same, zero, y1 - y0)
    mean = (where_finite(op.slopes(slot)) + where_finite(other.slopes(slot))) / 2
    rounding = tf.cast(8 * epsilon(z0.dtype), z0.dtype) * tf.maximum(tf.abs(y0), tf.abs(y1))
    near = same | (tf.abs(mean * change - gain) <= rounding)
    return tf.where(near, mean, gain / tf.where(near, one, change))


def power_rule(op, other, grads):
    """Pow with one input on the path is elementwise."""
    if len(op.slots) > 1:
        return pointwise_rule(op, other, grads)
    slot = op.slots[0]
    slope = op.keep("slope", lambda: smooth_slope(op, other, slot))
    result = [None, None]
    result[slot] = unbroadcast(grads[0] * slope, op.inputs[slot])
    return result
