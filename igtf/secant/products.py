"""Rules of what is linear in each of its inputs: products, quotients, matrices, convolutions."""

import tensorflow as tf

from igtf.arithmetic import safe_ratio, unbroadcast
from igtf.backpropagation import default_rule, own_gradient
from igtf.op_types import SHAPE_SLOTS, carries_gradient
from integrated_gradients_tf import restore_shape


def sum_rule(*signs):
    def rule(op, other, grads):
        return [
            unbroadcast(sign * grads[0] if sign < 0 else grads[0], op.inputs[i], op)
            if i in op.slots
            else None
            for i, sign in enumerate(signs)
        ]

    return rule


def product_rule(op, other, grads):
    """y = a b, exactly: a mean of b times the change of a plus a mean of a times the change of b."""
    (a0, b0), (a1, b1) = op.inputs, other.inputs
    means = op.keep(("means", *op.slots), lambda: _means(op.slots, a0, a1, b0, b1))
    return [
        unbroadcast(grads[0] * mean, like, op) if i in op.slots else None
        for i, (mean, like) in enumerate(zip(means, (a0, b0)))
    ]


def quotient_rule(op, other, grads):
    """y = a r with r = 1 / b, whose slope is -1 / (b0 b1)."""
    (a0, b0), (a1, b1) = op.inputs, other.inputs
    invert = (lambda b: safe_ratio(tf.ones([], b.dtype), b)) if op.type == "DivNoNan" else (lambda b: 1 / b)

    def means():
        inverse = invert(b0)
        return _means(op.slots, a0, a1, inverse, inverse if b0 is b1 else invert(b1))

    def fall():
        if op.type != "DivNoNan":
            return -1 / (b0 * b1)
        jumps = tf.equal(b0 * b1, 0)  # where 1 / b counts as 0
        return tf.where(jumps, safe_ratio(invert(b1) - invert(b0), b1 - b0), -invert(b0) * invert(b1))

    inverse, mean = op.keep(("means", *op.slots), means)
    result = [None, None]
    if 0 in op.slots:
        result[0] = unbroadcast(grads[0] * inverse, a0)
    if 1 in op.slots:
        result[1] = unbroadcast(grads[0] * mean * op.keep("fall", fall), b0)
    return result


def _middle(start, end):
    return start if start is end else (start + end) / 2


def _means(slots, a0, a1, b0, b1):
    """What goes to a and to b of an adjoint of y = a b.

    The mean of b and the mean of a at both ends are exact where only one is on the path, or both move
    in proportion. Where one grows and the other shrinks, as an input and the inverse of its norm do,
    powers of one quantity describe them better, for which the logarithmic means L(y0, y1) / L(a0, a1)
    and L(y0, y1) / L(b0, b1) are exact, L(p, q) = (q - p) / log(q / p). Where one of them is 0 at the
    end at which the other is huge, their limits: the other at its small end, and 0. Always
    mean * (a1 - a0) + mean * (b1 - b0) = y1 - y0.
    """
    if len(slots) == 1:
        return _middle(b0, b1), _middle(a0, a1)
    zero, one = tf.zeros([], a0.dtype), tf.ones([], a0.dtype)

    def growth(start, end):  # its logarithm, and start / L(start, end)
        moves = (start * end > 0) & tf.not_equal(start, end)
        start = tf.where(moves, start, one)
        change = tf.where(moves, (end - start) / start, one)
        far = moves & (tf.abs(change) > 0.5)  # where 1 + change loses what the ratio has
        ratio, rest = tf.where(far, end / start, one), tf.where(far, zero, change)
        log = tf.where(moves, tf.math.log(ratio) + tf.math.log1p(rest), zero)
        return log, log / change

    (log_a, rate_a), (log_b, rate_b) = growth(a0, a1), growth(b0, b1)
    opposed = log_a * log_b < 0
    log = tf.where(opposed, log_a + log_b, zero)
    moves = tf.not_equal(log, zero)
    level = tf.where(moves, tf.math.expm1(log) / tf.where(moves, log, one), one)  # L(y0, y1) / y0

    def silent(start, end, log):  # 0 where the other is twice as large: for less, its mean is better
        return tf.not_equal(start, end) & (tf.equal(start, 0) & (log < -0.7) | tf.equal(end, 0) & (log > 0.7))

    def mean(start, end, log, powers, this, other):
        usual = tf.where(other, tf.where(log < 0, end, start), (start + end) / 2)
        return tf.where(opposed, powers, tf.where(this, zero, usual))

    silent_a, silent_b = silent(a0, a1, log_b), silent(b0, b1, log_a)
    return (
        mean(b0, b1, log_b, b0 * level * rate_a, silent_b, silent_a),
        mean(a0, a1, log_a, a0 * level * rate_b, silent_a, silent_b),
    )


def middle_rule(op, other, grads):
    """Bilinear and quadratic ops: the gradient at the middle of the interval is exact."""
    if len(op.slots) == 1 and op.type not in ("SquaredDifference", "L2Loss"):
        return own_gradient(op, grads)
    if len(op.slots) > 2:
        return default_rule(op, other, grads)
    ends = zip(op.inputs, other.inputs)
    return own_gradient(op, grads, [_middle(a, b) if carries_gradient(a) else a for a, b in ends])


def reshape_rule(op, other, grads):
    like = op.op.inputs[0]
    if like.shape.rank and like.shape[1:].num_elements():  # the number of rows follows
        return [tf.reshape(grads[0], [-1, *like.shape.as_list()[1:]]), None]
    like = op.inputs[0]
    return [restore_shape(tf.reshape(grads[0], tf.shape(like)), like.shape), None]


def pass_on(op, other, grads):
    return grads


def linear_in(slots):
    """The rule of ops that are affine in these inputs together, where the others stay as they are."""

    def rule(op, other, grads):
        ends = enumerate(zip(op.inputs, other.inputs))
        moved = [i for i, (a, b) in ends if a is not b and not a.op.type == b.op.type == "Const"]
        sizes = SHAPE_SLOTS.get(op.type, ())
        if all(i in slots or i in sizes for i in (*moved, *op.slots)):
            return own_gradient(op, grads)
        return default_rule(op, other, grads)

    return rule
