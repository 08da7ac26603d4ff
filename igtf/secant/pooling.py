"""The rule of max pooling: each window shared between its winners at both ends."""

import math

import numpy as np
import tensorflow as tf

from igtf.arithmetic import half_ratio
from integrated_gradients_tf import restore_shape


def pool_rule(op, other, grads):
    """Max pooling, any rank, strides and padding, windows that overlap.

    Let i win a window at the start and j at the end, with d0 = y0 - z0[j] and d1 = y1 - z1[i], both
    at least 0. Then share t = d0 / (d0 + d1) for i and 1 - t for j is complete:

        t (z1[i] - z0[i]) + (1 - t) (z1[j] - z0[j])
            = t (y1 - d1 - y0) + (1 - t) (y1 - y0 + d0) = y1 - y0 + (1 - t) d0 - t d1 = y1 - y0
    """
    windows = [end.keep("windows", lambda end=end: Windows(end.op)) for end in (op, other)]

    def ends(name):
        return [end.whole(name, lambda _, w=w: getattr(w, name)) for end, w in zip((op, other), windows)]

    def share():
        (z0, z1), (y0, y1), (won0, won1) = map(ends, ("values", "best", "winners"))
        share = half_ratio(y0 - tf.gather(z0, won1, batch_dims=1), y1 - tf.gather(z1, won0, batch_dims=1))
        return share, windows[0].places([won0, won1])

    share, places = op.keep("share", share)
    grad = tf.reshape(grads[0], [-1, windows[0].count])
    first = grad * share
    return [windows[0].scatter([first, grad - first], places)]


class Windows:
    """The windows of a pooling op, in its padded input.

    Attributes:
      values: the padded input, `[rows, padded entries]`.
      best: the maxima of the windows, `[rows, count]`.
      winners: which of the entries is the first maximum of its window, `[rows, count]`. One is in any
        case: compiled code may compute the input twice and round it in two ways, and then none of them
        would equal the output.
    """

    def __init__(self, op):
        size, strides, padding = (op.get_attr(key) for key in ("ksize", "strides", "padding"))
        self.like, (inner, out) = op.inputs[0], map(_inner_sizes, (op.inputs[0], op.outputs[0]))
        self.inner, self.count = inner, math.prod(out)
        windows = list(zip(size[1:], strides[1:]))
        # How far the windows reach beyond the input, if they do.
        beyond = [
            _at_least_0((n - 1) * stride + k - whole) if k > 1 else 0
            for n, (k, stride), whole in zip(out, windows, inner)
        ]
        if padding == b"EXPLICIT":
            self.before = op.get_attr("explicit_paddings")[2::2]
            after = [_at_least_0(b - start) for b, start in zip(beyond, self.before)]
        else:  # the smaller half comes first
            self.before = [b // 2 if padding == b"SAME" else 0 for b in beyond]
            after = [b - start for b, start in zip(beyond, self.before)]
        self.padded = [sum(parts) for parts in zip(self.before, inner, after)]
        self.entries = math.prod(self.padded)
        best, pads = self.like, [(0, 0), *zip(self.before, after)]
        if any(not isinstance(n, int) or n for pad in pads for n in pad):
            best = tf.pad(best, pads, constant_values=best.dtype.min)
        self.values = tf.reshape(best, [-1, self.entries])
        # Axis by axis, as the maximum of maxima; what was found on later axes comes along.
        winners, weight = 0, 1
        for axis in reversed(range(len(out))):
            (k, stride), n = windows[axis], out[axis]
            order = np.arange(n, dtype=np.int32) if isinstance(n, int) else tf.range(n)
            places = np.arange(k, dtype=np.int32)[:, None] + stride * order
            steps = weight * places
            reshape = np.reshape if isinstance(steps, np.ndarray) else tf.reshape
            steps = reshape(steps, [k, -1] + [1] * (len(out) - 1 - axis))
            whole = isinstance(winners, tf.Tensor) and winners.shape.rank == best.shape.rank
            if k == stride == 1:
                winners = winners + steps[0]
            else:
                values = tf.unstack(tf.gather(best, places, axis=axis + 1), k, axis + 1)
                if whole:
                    found = tf.unstack(tf.gather(winners, places, axis=axis + 1) + steps, k, axis + 1)
                else:
                    found = [winners + steps[i] for i in range(k)]
                best, winners = values[0], found[0]
                for value, at in zip(values[1:], found[1:]):
                    better = value > best
                    best, winners = tf.where(better, value, best), tf.where(better, at, winners)
            weight *= self.padded[axis]
        self.best = tf.reshape(best, [-1, self.count])
        self.winners = tf.reshape(tf.broadcast_to(winners, tf.shape(best)), [-1, self.count])

    def places(self, winners):
        """For `scatter`: where the winners are among the entries of all rows, and how many these are."""
        at = tf.concat(winners, 1)
        total = tf.shape(at)[0] * self.entries
        return at + tf.reshape(tf.range(0, total, self.entries), [-1, 1]), total

    def scatter(self, grads, places):
        """The sum of adjoints `[rows, count]` of winners, as one of the input."""
        grad = tf.math.unsorted_segment_sum(tf.concat(grads, 1), *places)
        grad = tf.reshape(grad, [-1, *self.padded])
        if self.values.op.inputs[0] is not self.like:  # it was padded
            grad = tf.slice(grad, [0, *self.before], [-1, *self.inner])
        return restore_shape(grad, [None, *self.like.shape[1:]])


def _inner_sizes(tensor):
    """The sizes of all axes but the first, as numbers where they are known."""
    known = tensor.shape.as_list()[1:]
    return [tf.shape(tensor)[i] if n is None else n for i, n in enumerate(known, 1)]


def _at_least_0(number):
    return max(number, 0) if isinstance(number, int) else tf.maximum(number, 0)
