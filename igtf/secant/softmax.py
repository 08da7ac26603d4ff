"""The rules of softmax and log-softmax."""

import tensorflow as tf

from igtf.arithmetic import epsilon, row_sum, safe_ratio
from integrated_gradients_tf import as_column, quadrature


def softmax_rule(vjp):
    """Softmax and log-softmax over the last axis.

    The mean of the vector-Jacobian product over the segment of logits, by five Gauss-Legendre
    points, plus the smallest correction that makes it complete and keeps its sum over a row at 0.
    `vjp` gets the adjoint, the softmax p at the points, w p with their weights w, and its sum.
    """

    def rule(op, other, grads):
        z0, z1 = op.inputs[0], other.inputs[0]
        y0, y1 = op.outputs[0], other.outputs[0]
        g, dtype = grads[0], z0.dtype

        def midway():
            points, weights = (as_column(v, z0) for v in quadrature(5, "gausslegendre"))
            z = (1 - points) * z0 + points * z1
            p = _softmax(z)
            return p, weights * p, tf.reduce_sum(weights * p, axis=0)

        mean = vjp(g, *op.keep("midway", midway))

        def correction():
            seen = tf.math.is_finite(z0) & tf.math.is_finite(z1)  # masks of -inf take no part
            zero = tf.zeros([], dtype)
            change = tf.where(seen, z1 - z0, zero)
            some = tf.cast(seen, dtype)
            level = safe_ratio(row_sum(change), row_sum(some))
            centred = tf.where(seen, change - level, zero)
            gain = tf.where(seen, y1 - y0, zero)
            square = row_sum(centred**2)
            size = tf.reduce_max(tf.where(seen, tf.maximum(tf.abs(z0), tf.abs(z1)), zero), -1, True)
            # Below 1/2 the five points are exact to rounding, which a correction would only blow up.
            tiny = square <= 0.25 + (epsilon(dtype) * (1 + size)) ** 2
            return change, gain, tf.where(tiny, zero, centred / tf.where(tiny, tf.ones([], dtype), square))

        change, gain, direction = op.keep("correction", correction)
        missing = row_sum(g * gain) - row_sum(mean * change)
        return [mean + missing * direction]

    return rule


def _softmax(z):
    """Over the last axis; that of oneDNN, for less than double precision, takes no more than five axes."""
    if z.shape.rank is not None and z.shape.rank <= 5:
        return tf.nn.softmax(z)
    shape = tf.shape(z)
    return tf.reshape(tf.nn.softmax(tf.reshape(z, [-1, shape[-1]])), shape)
