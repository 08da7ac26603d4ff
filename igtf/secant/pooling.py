"""The rule of max pooling: each window as maxima of two, entry after entry, axis after axis."""

import tensorflow as tf

from igtf.arithmetic import safe_ratio
from integrated_gradients_tf import restore_shape


def pool_rule(op, other, grads):
    """Max pooling, any rank, strides and padding, windows that overlap.

    max(a, b) = a + max(b - a, 0): of a step, b gets the share of the lead b - a that lies above 0,

        (max(d0, 0) + max(d1, 0)) / (|d0| + |d1|), where d0 and d1 are the leads at both ends,

    and a the rest, as complete as the slope of Relu. If both are alike at both ends, the first gets all.
    """
    windows = op.keep("windows", lambda: Windows(op.op)), other.keep("windows", lambda: Windows(other.op))

    def ends(name, make, i):
        pairs = zip((op, other), windows)
        return [end.whole((name, i), lambda _, w=w: make(w.leads[i])) for end, w in pairs]

    def shares():
        leads = range(len(windows[0].leads))
        above = [tf.add_n(ends("above", tf.nn.relu, i)) for i in leads]
        sizes = [tf.add_n(ends("size", tf.abs, i)) for i in leads]
        return [safe_ratio(*pair) for pair in zip(above, sizes)]

    return [windows[0].pull(grads[0], op.keep("shares", shares))]


class Windows:
    """The windows of a pooling op.

    Attributes:
      leads: how far the next entry of each window is above the largest before it, of every axis for all but
        the first, `[rows, ...]` each.
    """

    def __init__(self, op):
        size, strides, padding = (op.get_attr(key) for key in ("ksize", "strides", "padding"))
        self.like, (inner, out) = op.inputs[0], map(_inner_sizes, (op.inputs[0], op.outputs[0]))
        windows = list(zip(size[1:], strides[1:]))
        # How far the windows reach beyond the input, if they do.
        beyond = [
            _at_least_0((n - 1) * stride + k - whole) if k > 1 else 0
            for n, (k, stride), whole in zip(out, windows, inner)
        ]
        if padding == b"EXPLICIT":
            before = op.get_attr("explicit_paddings")[2::2]
            after = [_at_least_0(b - start) for b, start in zip(beyond, before)]
        else:  # the smaller half comes first
            before = [b // 2 if padding == b"SAME" else 0 for b in beyond]
            after = [b - start for b, start in zip(beyond, before)]
        best, self.padded = self.like, None
        if any(not isinstance(n, int) or n for n in (*before, *after)):
            self.padded = before, inner
            # So low that it never wins, and sums of two leads are finite.
            best = tf.pad(best, [(0, 0), *zip(before, after)], constant_values=best.dtype.min / 4)
        self.axes, self.leads = [], []
        for axis in reversed(range(len(out))):
            (k, stride), n = windows[axis], out[axis]
            if k == stride == 1:
                continue
            cut = Cut(best, axis + 1, k, stride, n)
            best, *rest = cut.parts
            for part in rest:
                self.leads.append(part - best)
                best = tf.maximum(best, part)
            self.axes.append(cut)

    def pull(self, grad, shares):
        """The adjoint of the input `[rows, ...]`, from that of the maxima and the shares of later entries."""
        left = list(shares)
        for cut in reversed(self.axes):
            grads = []
            for _ in cut.parts[1:]:
                later = grad * left.pop()
                grads.append(later)
                grad -= later
            grad = cut.join([grad, *reversed(grads)])
        if self.padded is not None:
            before, inner = self.padded
            grad = tf.slice(grad, [0, *before], [-1, *inner])
        return restore_shape(grad, [None, *self.like.shape[1:]])


class Cut:
    """The windows along one axis: the first entry of each, the second and so on, `[rows, ..., n, ...]`.

    The axis is cut into pieces as long as the stride. Entry i of the windows is one entry of all pieces but
    the i // stride first ones, which is copied in long runs; taking every second one takes ten times as long.
    """

    def __init__(self, tensor, axis, size, stride, count):
        self.axis, self.stride, self.count, self.inner = axis, stride, count, _inner_sizes(tensor)
        self.later = (size - 1) // stride
        self.pieces = count + self.later
        tensor = _resized(tensor, axis, self.pieces * stride)
        shape = [-1, *self.inner[: axis - 1], self.pieces, stride, *self.inner[axis:]]
        self.entries = tf.unstack(tf.reshape(tensor, shape), stride, axis + 1)
        self.parts = [self._part(*divmod(i, stride)) for i in range(size)]

    def _part(self, first, entry):
        """An entry of the pieces from the `first` one on."""
        if not self.later:
            return self.entries[entry]
        begin = [0] * self.entries[entry].shape.rank
        begin[self.axis] = first
        return tf.slice(self.entries[entry], begin, [-1, *self._sizes(self.count)])

    def _sizes(self, length):
        return [*self.inner[: self.axis - 1], length, *self.inner[self.axis :]]

    def join(self, grads):
        """The adjoint of the tensor, from those of its parts."""
        entries = []
        for entry in range(self.stride):
            parts = []
            for first, grad in enumerate(grads[entry :: self.stride]):
                paddings = [(0, 0)] * grad.shape.rank
                paddings[self.axis] = first, self.later - first
                parts.append(tf.pad(grad, paddings) if self.later else grad)
            entries.append(tf.add_n(parts) if parts else tf.zeros_like(entries[0]))
        grad = tf.stack(entries, self.axis + 1)
        grad = tf.reshape(grad, [-1, *self._sizes(self.pieces * self.stride)])
        return _resized(grad, self.axis, self.inner[self.axis - 1])


def _resized(tensor, axis, length):
    """Cut off at the end of an axis, or filled up with zeros."""
    inner = _inner_sizes(tensor)
    missing = length - inner[axis - 1]
    if not isinstance(missing, int) or missing > 0:
        paddings = [(0, 0)] * tensor.shape.rank
        paddings[axis] = 0, _at_least_0(missing)
        tensor = tf.pad(tensor, paddings)
    if not isinstance(missing, int) or missing < 0:
        tensor = tf.slice(tensor, [0] * len(inner) + [0], [-1, *inner[: axis - 1], length, *inner[axis:]])
    return tensor


def _inner_sizes(tensor):
    """The sizes of all axes but the first, as numbers where they are known."""
    known = tensor.shape.as_list()[1:]
    return [tf.shape(tensor)[i] if n is None else n for i, n in enumerate(known, 1)]


def _at_least_0(number):
    return max(number, 0) if isinstance(number, int) else tf.maximum(number, 0)
