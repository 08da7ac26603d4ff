"""What the network does at a few places of the path: where units switch, and what moves."""

import numpy as np
import tensorflow as tf

from igtf.arithmetic import map_range, repeat
from igtf.op_types import NORMS, THRESHOLDS, is_kink, varying_slots
from igtf.replay import replay_ops
from igtf.rows.sizes import Place
from integrated_gradients_tf import restore_shape, wide_dtype, with_features


def find_readers(subgraph, seen, ops):
    """Units, and functions from replayed values to `[B, units]`, of what `seen` finds in `ops`."""
    found = []
    for op in ops:
        for like, now in seen(op, subgraph.varying) if op.outputs else ():
            if subgraph.is_followed(like):
                found.append(reader_of(subgraph, like, subgraph.axis[like.ref()], now))
    return found


def reader_of(subgraph, like, axis, now=None):
    """Likewise of a tensor, or of what `now` (of a lookup of tensors) makes in its shape."""
    dtype = wide_dtype(subgraph.frontier[0].dtype)
    alone = subgraph.places.get(like.ref()) == Place(axis)  # no positions beside the rows on their axis
    inner = [size for i, size in enumerate(like.shape.as_list()) if i != axis]
    units = int(np.prod(inner, dtype=np.int64)) if None not in inner and alone else None

    def read(values, rows):
        def at(tensor):
            return values.get(tensor.ref(), tensor)

        return _rows_first(tf.cast(now(at) if now else at(like), dtype), axis, units, rows)

    return units, read


def probe(path, bins, groups, limit):
    """A sample of what readers see at the probes along the path and at `xs`.

    Of lists of groups of readers by name: `[probes + 1, B, units]` for each group.
    """
    subgraph, dtype = path.subgraph, path.dtype
    probes, distances = bins.probes + 1, [d[:: bins.size] for d in (bins.low, bins.high)]
    names, groups = zip(*((name, group) for name, parts in groups.items() for group in parts))
    widths = [_sampled([units for units, _ in group])[1] for group in groups]
    joint = None not in widths  # one tensor for all groups takes far fewer nodes
    tails = None
    if bins.tails and joint and subgraph.stackable and subgraph.loopable:
        norms = sum(width for name, width in zip(names, widths) if name != "norms")  # which come last
        tails = Tails(distances[0], norms)
        distances = [d[tails.order] for d in distances]
    ends = [tf.constant(d, dtype)[:, None] for d in distances]
    most = probes if tails is None else -(-probes // 2)
    if not subgraph.stackable:
        copies = 1
    elif subgraph.rows is not None:
        copies = max(1, min(limit // max(1, subgraph.rows), most))
    elif subgraph.loopable:
        copies = tf.clip_by_value(limit // tf.maximum(1, path.batch), 1, most)
    else:
        copies = 1
    blocks = -(-probes // copies)

    def at_block(index):
        at = tf.minimum(index * copies + tf.range(copies), probes - 1)
        alphas = [tf.gather(end, at) for end in ends]
        values = path.at(alphas, copies)
        keep = subgraph.ys + [t for op in subgraph.rest for t in op.inputs]
        replay_ops(
            subgraph.rest, values, keep, copies if subgraph.rows is not None else None, subgraph.row_axis
        )
        rows = copies * path.batch
        parts = [_sample([read(values, rows) for _, read in group]) for group in groups]
        parts = [tf.concat(parts, 1)] if joint else parts
        return [tf.reshape(part, with_features([copies, path.batch], part)) for part in parts]

    if tails is not None:
        shape = [blocks, copies, path.batch, sum(widths)]
        seen = [tails.look(lambda i: at_block(i)[0], shape, dtype)]
    elif isinstance(blocks, int) and (blocks == 1 or not subgraph.loopable):
        seen = [tf.concat(parts, 0) for parts in zip(*map(at_block, range(blocks)))]
    else:
        units = [sum(widths)] if joint else widths
        specs = [tf.TensorSpec([None, subgraph.rows, width], dtype) for width in units]
        stacks = map_range(at_block, 0, blocks, specs)
        seen = [tf.reshape(t, tf.concat([[blocks * copies], tf.shape(t)[2:]], 0)) for t in stacks]
        seen = [restore_shape(t, [None, subgraph.rows, width]) for t, width in zip(seen, units)]
    seen = [restore_shape(t[:probes], [probes, *t.shape.as_list()[1:]]) for t in seen]
    seen = tf.split(seen[0], widths, axis=2) if joint else seen
    return {name: [t for n, t in zip(names, seen) if n == name] for name in names}


class Tails:
    """The probes close to both ends of the path, which only rows whose norms move there need.

    Attributes:
      order: of looking at the probes: both ends and the middle, which tell what moves, then the tails.
    """

    def __init__(self, places, norms):
        self.places, self.norms = places, norms  # from 0 to 1; the first column of norms in what is seen
        middle = np.flatnonzero((places >= TAIL) & (places <= 1 - TAIL))
        self.first, self.last = middle[0], middle[-1]
        self.inner = np.concatenate([[0], middle, [len(places) - 1]])
        self.order = np.concatenate([self.inner, np.setdiff1d(np.arange(len(places)), self.inner)])

    def look(self, at_block, shape, dtype):
        """What is seen at all probes, `[probes, B, units]`: `at_block(i)` is seen at some, `shape` at all."""
        whole = [shape[0] * shape[1], *shape[2:]]

        def step(i, going, seen):
            here = tf.equal(tf.range(shape[0]), i)[:, None, None, None]
            seen = tf.where(here, at_block(i), seen)
            missing = (i + 1) * shape[1] < len(self.inner)
            far = self._far(tf.reshape(seen, whole), (0, 1, len(self.inner) - 2, len(self.inner) - 1))
            return missing | tf.reduce_any(far), seen

        start = [tf.constant(True), tf.zeros(shape, dtype)]
        seen = tf.reshape(repeat(shape[0], step, start, lambda going, _: going)[1], whole)
        seen = tf.gather(seen, np.argsort(self.order))
        ends = 0, self.first, self.last, len(self.places) - 1
        low, high = tf.unstack(self._far(seen, ends))
        return tf.concat(
            [
                self._tail(seen, 0, self.first, low),
                seen[self.first : self.last],
                self._tail(seen, self.last, len(self.places) - 1, high),
                seen[-1:],
            ],
            0,
        )

    def _far(self, seen, ends):
        """`[2, B]`: whether any norm moves far between the first two of `ends`, and between the last two."""
        values = tf.gather(seen, ends)[:, :, self.norms :]
        return tf.reduce_any(tf.abs(values[1::2] - values[::2]) > FAR, 2)

    def _tail(self, seen, start, stop, far):
        """What is seen from one probe to before another one; of rows that do not move far, on a line."""
        share = (self.places[start:stop] - self.places[start]) / (self.places[stop] - self.places[start])
        share = tf.constant(share, seen.dtype)[:, None, None]
        line = seen[start] + share * (seen[stop] - seen[start])
        return tf.where(far[None, :, None], seen[start:stop], line)


TAIL = 1 / 8  # what of the path at each end is probed in geometric steps, if norms move far
FAR = 1.0  # in nats
SAMPLE = 1024  # units of a group of ops; about twice as many are read, at most


def switches_of(op, varying):
    """Functions (of a lookup of tensors) whose sign changes are where `op` switches."""
    slots = varying_slots(op, varying)
    if op.type in THRESHOLDS and 0 in slots:
        return [
            (op.outputs[0], lambda at, c=c: at(op.inputs[0]) - c if c else at(op.inputs[0]))
            for c in THRESHOLDS[op.type]
        ]
    if is_kink(op, varying) and op.type in ("Maximum", "Minimum"):
        return [(op.outputs[0], lambda at: at(op.inputs[0]) - at(op.inputs[1]))]
    return []


def states_of(op, varying):
    """Functions (of a lookup of tensors) whose sign tells which input of `op` is chosen, and no more."""
    if not is_kink(op, varying):
        return []
    if op.type in ("Select", "SelectV2"):
        return [(op.inputs[0], lambda at: tf.cast(at(op.inputs[0]), tf.float32) - 0.5)]
    axes = tf.get_static_value(op.inputs[1]) if op.type in ("Max", "Min") else None
    if axes is None:
        return []
    sign = 1 if op.type == "Max" else -1

    def state(at):
        z = sign * at(op.inputs[0])
        best = tf.cast(z >= tf.reduce_max(z, axes, keepdims=True), tf.float32)
        one = tf.cast(tf.equal(tf.reduce_sum(best, axes, keepdims=True), 1), tf.float32)
        return (best + best * one - 1) / 2  # 0 of ties, as at a baseline of zeros

    return [(op.inputs[0], state)]


def movers_of(op, varying):
    """Functions (of a lookup of tensors) whose changes tell where a smooth network moves."""
    return [(op.outputs[0], None)] if op.type == "Softmax" and varying_slots(op, varying) else []


def norms_of(op, varying):
    """Logarithms of what `op` divides by, takes the root or the logarithm of."""
    slot = NORMS.get(op.type)
    if slot is None or slot not in varying_slots(op, varying) or not op.inputs[slot].dtype.is_floating:
        return []
    norm, power = op.inputs[slot], 0.5 if op.type in ("Sqrt", "Rsqrt") else 1.0
    return [(norm, lambda at: power * tf.math.log(tf.maximum(tf.abs(at(norm)), 1e-30)))]


def _rows_first(tensor, axis, units, rows):
    """`tensor`, with its rows on `axis`, as `[B, units]`; `units` are None if rows are merged with others."""
    if axis:
        tensor = tf.transpose(tensor, [axis, *(i for i in range(tensor.shape.rank) if i != axis)])
    elif units is not None and tensor.shape.rank == 2:
        return tensor
    if units is None:
        return tf.reshape(tensor, [rows, tf.size(tensor) // tf.maximum(rows, 1)])
    return tf.reshape(tensor, [-1 if units else rows, units])


def _sampled(units):
    """The stride at which `_sample` takes tensors of so many units, and how many remain, if known."""
    if None in units:
        return None, None
    stride = sum(units) // SAMPLE // 2 * 2 + 1  # odd, as channels come in powers of two
    return stride, sum(-(-width // stride) for width in units)


def _sample(tensors):
    """About `2 * SAMPLE` of the units of `tensors [B, units]` at most, evenly spread, `[B, sample]`."""
    stride, _ = _sampled([t.shape.as_list()[1] for t in tensors])
    if stride is None:
        stride = tf.add_n([tf.shape(t)[1] for t in tensors]) // SAMPLE // 2 * 2 + 1
    if not (isinstance(stride, int) and stride == 1):
        tensors = [t[:, ::stride] for t in tensors]
    return restore_shape(tensors[0] if len(tensors) == 1 else tf.concat(tensors, 1), [None, None])
