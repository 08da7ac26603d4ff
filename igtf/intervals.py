"""The same op at both ends of an interval: what a rule sees."""

import numpy as np
import tensorflow as tf

from igtf.copying import copy_op
from igtf.op_types import SHAPES, UNKNOWN
from igtf.rows.sizes import steps_outside
from igtf.rows.tracker import RowTracker
from igtf.traversal import find_varying
from integrated_gradients_tf import with_features


def _merges(op):
    """Whether a reshape changes, or may change, what one entry of axis 0 holds."""
    before, after = (t.shape[1:].num_elements() for t in (op.inputs[0], op.outputs[0]))
    return before is None or before != after


def pair_ends(made, after, axes, rows):
    """Ops and their twins at the other end, for `reverse`.

    `axes` has the axis that carries the rows, of tensors of `made`, where it is known; `rows` is their
    number, if that is.
    """
    for op in reversed(made):  # what a loop returns is an Identity of its output
        if op.type == "Identity" and op.outputs[0].ref() in axes:
            axes.setdefault(op.inputs[0].ref(), axes[op.outputs[0].ref()])
    if rows == 1:
        axes = ONE_ROW
    elif rows is not None:
        for tensor in (t for op in made for t in (*op.inputs, *op.outputs)):
            if axes.get(tensor.ref(), UNKNOWN) == UNKNOWN:
                axes[tensor.ref()] = _axis_by_size(tensor, rows)
    return [
        (op, OpEnd(op, axes=axes), OpEnd(twin, axes=axes))
        for op, twin in zip(group_ops(made), group_ops(after))
    ]


ONE_ROW = "one row"


def axes_of_rows(ops, xs, ys):
    """`ref()` -> the axis that carries the rows, of what `ops` compute from `xs`."""
    rows = RowTracker("backpropagate", xs[0].shape.as_list()[0] if xs[0].shape.rank else None, strict=False)
    rows.start(xs)
    rows.follow(ops, find_varying(ops, xs), ys)
    return {ref: place.axis for ref, place in rows.places.items() if steps_outside(place)}


def _axis_by_size(tensor, rows):
    """The only axis that can have so many rows, or `UNKNOWN`."""
    if not tensor.shape.is_fully_defined():
        return UNKNOWN
    found = [axis for axis, size in enumerate(tensor.shape.as_list()) if size and size % rows == 0]
    return found[0] if len(found) == 1 and tensor.shape.as_list()[found[0]] == rows else UNKNOWN


class OpGroup:
    """Ops that are one as far as rules go: such as hand each other tensor lists, which have no average."""

    type = name = "Island"

    def __init__(self, ops):
        inside = {t.ref() for op in ops for t in op.outputs}
        outer = {t.ref(): t for op in ops for t in op.inputs if t.ref() not in inside}
        self.inputs = list(outer.values())
        self.outputs = [t for op in ops for t in op.outputs]


def group_ops(ops):
    """The ops, dependencies first, with those that share tensor lists as one."""
    island = {}  # op -> the list of ops that it belongs to
    made_by = {t.ref(): op for op in ops for t in op.outputs}
    for op in ops:
        island[op] = [op]
        for tensor in op.inputs:
            if tensor.dtype == tf.variant and tensor.ref() in made_by:
                maker = made_by[tensor.ref()]
                other = island[maker]
                if other is not island[op] and "Loop" not in (op.type, maker.type):
                    other.extend(island[op])
                    for member in island[op]:
                        island[member] = other
    if all(len(members) == 1 for members in island.values()):
        return ops
    order, seen, stack = [], set(), [(op, False) for op in reversed(ops)]
    while stack:
        op, done = stack.pop()
        members = island[op]
        if done:
            order.append(members[0] if len(members) == 1 else OpGroup(members))
        elif id(members) not in seen:
            seen.add(id(members))
            stack.append((op, True))
            needed = (made_by.get(t.ref()) for member in members for t in member.inputs)
            stack.extend((n, False) for n in needed if n is not None and n not in members)
    return order


class OpEnd:
    """An op as a rule sees it at one end of the intervals.

    Like a `tf.Operation`, but with that end's rows of its tensors, with `slots`, the inputs that an
    adjoint can go to, and with `keep` and `whole` for what several outputs can share.
    """

    def __init__(self, op, intervals=None, side=0, memo=None, axes=None):
        self.op, self.intervals, self.side, self.axes = op, intervals, side, axes or {}
        self.memo = {} if memo is None else memo
        self.type, self.slots = op.type, ()

    def __getattr__(self, name):
        return getattr(self.op, name)

    @property
    def inputs(self):
        return [t if self.intervals is None else self.intervals.of(t, self.side) for t in self.op.inputs]

    @property
    def outputs(self):
        return [t if self.intervals is None else self.intervals.of(t, self.side) for t in self.op.outputs]

    def keep(self, key, make):
        """What `make()` returned the first time."""
        if key not in self.memo:
            self.memo[key] = make()
        return self.memo[key]

    def whole(self, key, make):
        """This end's rows of `make(op)`, computed once where both ends are rows of one op."""
        result = self.keep(key, lambda: make(self.op))
        if self.intervals is None:
            return result
        self.intervals.repeats.setdefault(result.ref(), self.intervals.times(*self.op.inputs))
        if len(self.op.inputs) == 1 and self.op.inputs[0].ref() in self.intervals.led:  # then it has its rows
            self.intervals.led.add(result.ref())
        return self.intervals.cut(result, self.side)

    def by_row(self, like):
        """A function from values of a tensor of the op to `[rows, values]` (and `back`); None if unknown."""
        if like.dtype == tf.variant:
            return None
        if self.intervals is not None:
            if self.intervals.times(like) > 1:
                return None
            count = self.intervals.count
            return lambda t, back=None: tf.reshape(t, [count, -1] if back is None else tf.shape(back))
        if self.axes == ONE_ROW:
            return lambda t, back=None: tf.reshape(t, [1, -1] if back is None else tf.shape(back))
        axis, rank = self.axes.get(like.ref(), UNKNOWN), like.shape.rank
        if axis == UNKNOWN or rank is None:
            return None
        order = [axis, *(i for i in range(rank) if i != axis)]

        def by_row(t, back=None):
            if back is None:
                return tf.reshape(tf.transpose(t, order), [tf.shape(t)[axis], -1])
            return tf.transpose(tf.reshape(t, tf.gather(tf.shape(back), order)), np.argsort(order))

        return by_row

    def slopes(self, slot=0):
        """TensorFlow's derivative of an elementwise or pooling op, for an adjoint of ones."""
        return self.whole(("slopes", slot), lambda op: self.pull(tf.ones_like(op.outputs[0]), slot))

    def pull(self, grad, slot=0):
        """TensorFlow's gradient of the op, for an adjoint of all its rows."""
        ins, out = list(self.op.inputs), self.op.outputs[0]
        if self.type == "Pow":
            # One slope per entry of the output, where the input is broadcast to it.
            ins[slot] = tf.broadcast_to(ins[slot], tf.shape(out))
            (out,) = copy_op(self.type, ins, self.op.node_def.attr, [], "slope_of")
        return tf.gradients(out, ins[slot], grad, stop_gradients=ins)[0]


class Intervals:
    """Cuts the tensors of one replay on K + 1 points into the starts and the ends of K intervals.

    Attributes:
      switching: `[B]`; the ends of other rows are their starts.
      repeats: tensor's `ref()` -> how many times axis 0 has the rows, one after the other, as behind a space
        to batch; once if it is not there.
    """

    def __init__(self, made, sources, steps, switching=None, repeats=None):
        self.steps, self.known, self.bounds = steps, {}, {}
        self.switching, self.repeats = switching, dict(repeats or {})
        self.strides = tf.constant([1])
        self.rows, self.source = {t.ref() for t in sources}, sources[-1]
        self.led = set(self.rows)  # with as many rows as the sources, which saves most bounds
        for op in made:
            rows = [t for t in op.inputs if t.ref() in self.rows]
            if rows and op.type not in SHAPES:
                self.rows.update(t.ref() for t in op.outputs)
                times = self.times(*rows)
                once = all(self.repeats.setdefault(t.ref(), times) == 1 for t in op.outputs)
                merged = op.type == "Reshape" and _merges(op)
                if once and not merged and all(t.ref() in self.led for t in rows):
                    self.led.update(t.ref() for t in op.outputs)

    @property
    def count(self):
        """How many rows the intervals have together."""
        key = "count"
        if key not in self.bounds:
            total = self.source.shape.as_list()[0]
            known = total is not None and isinstance(self.steps, int)
            self.bounds[key] = tf.shape(self.source)[0] if not known else total
            self.bounds[key] -= self.bounds[key] // (self.steps + 1)
        return self.bounds[key]

    def of(self, tensor, side):
        """The starts (side 0) or ends (side 1) of what has rows; anything else as it is."""
        return self.cut(tensor, side) if tensor.ref() in self.rows else tensor

    def cut(self, tensor, side):
        key = tensor.ref(), side
        if key not in self.known:
            if self.times(tensor) > 1:
                cut = self._cut_parts(tensor, side)
            elif side and self.switching is not None:
                cut = tf.raw_ops.GatherV2(params=tensor, indices=self._ends(tensor), axis=0)
            else:
                begin, end = self._bound(tensor, side)
                cut = tf.raw_ops.StridedSlice(
                    input=tensor, begin=begin, end=end, strides=self.strides, begin_mask=0, end_mask=0
                )
            self.known[key] = cut
            if tensor.shape.rank is not None:
                cut.set_shape([None] + tensor.shape.as_list()[1:])
        return self.known[key]

    def times(self, *tensors):
        """How many times they have the rows on axis 0."""
        return max(self.repeats.get(tensor.ref(), 1) for tensor in tensors)

    def _cut_parts(self, tensor, side):
        """That end of each part of axis 0 that has the rows once."""
        times = self.times(tensor)
        parts = tf.reshape(tensor, with_features([times, lambda: tf.shape(tensor)[0] // times], tensor))
        total = tf.shape(parts)[1]
        one = total // (self.steps + 1)
        if side and self.switching is not None:
            parts = tf.gather(parts, self._later(one, total), axis=1)
        else:
            parts = parts[:, one:] if side else parts[:, : total - one]
        return tf.reshape(parts, with_features([lambda: times * (total - one)], tensor))

    def _bound(self, tensor, side):
        kind = self._key(tensor)
        key, known = (side, kind), isinstance(kind, int)
        if key not in self.bounds:
            total = kind if known else tf.shape(tensor)[0]
            one = total // (self.steps + 1)
            self.bounds[key] = ([one], [total]) if side else ([0], [total - one])
            if not known:
                self.bounds[key] = tuple(tf.convert_to_tensor(bound) for bound in self.bounds[key])
        return self.bounds[key]

    def _key(self, tensor):
        """What tensors with as many entries on axis 0 share: their number, if it is known."""
        total = tensor.shape.as_list()[0] if tensor.shape.rank else None
        if total is not None and isinstance(self.steps, int):
            return total
        return "led" if tensor.ref() in self.led else tensor.ref()

    def _ends(self, tensor):
        """The entries of axis 0 at the ends of the intervals."""
        key = "ends", self._key(tensor)
        if key not in self.bounds:
            self.bounds[key] = self._later(*(bound[0] for bound in self._bound(tensor, 1)))
        return self.bounds[key]

    def _later(self, one, total):
        """The places, among `total`, of the ends; those of one point are `one`."""
        later = tf.repeat(tf.cast(self.switching, tf.int32), one // tf.shape(self.switching)[0]) * one
        return tf.range(total - one) + tf.tile(later, [self.steps])

    def ends(self, op):
        memo = {}
        return OpEnd(op, self, 0, memo), OpEnd(op, self, 1, memo)
