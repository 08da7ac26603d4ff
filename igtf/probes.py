"""What the network does at a few places of the path: where units switch, and what moves."""

import numpy as np
import tensorflow as tf

from igtf.arithmetic import map_range
from igtf.op_types import NORMS, THRESHOLDS, is_kink, varying_slots
from igtf.replay import replay_ops
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
    led, dtype = like.ref() in subgraph.row_led, wide_dtype(subgraph.frontier[0].dtype)

    inner = [size for i, size in enumerate(like.shape.as_list()) if i != axis]
    units = int(np.prod(inner, dtype=np.int64)) if None not in inner and (led or axis) else None

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
    probes, size = bins.probes + 1, bins.size
    ends = [tf.constant(distance[::size], dtype)[:, None] for distance in (bins.low, bins.high)]
    names, groups = zip(*((name, group) for name, parts in groups.items() for group in parts))
    widths = [_sampled([units for units, _ in group])[1] for group in groups]
    joint = None not in widths  # one tensor for all groups takes far fewer nodes
    if not subgraph.stackable:
        copies = 1
    elif subgraph.rows is not None:
        copies = max(1, min(limit // max(1, subgraph.rows), probes))
    elif subgraph.loopable:
        copies = tf.clip_by_value(limit // tf.maximum(1, path.batch), 1, probes)
    else:
        copies = 1
    blocks = -(-probes // copies)

    def at_block(index):
        at = tf.minimum(index * copies + tf.range(copies), probes - 1)
        alphas = [tf.gather(end, at) for end in ends]
        values = path.at(alphas, copies)
        keep = subgraph.ys + [t for op in subgraph.rest for t in op.inputs]
        replay_ops(subgraph.rest, values, keep, copies if subgraph.rows is not None else None, subgraph.axis)
        rows = copies * path.batch
        parts = [_sample([read(values, rows) for _, read in group]) for group in groups]
        parts = [tf.concat(parts, 1)] if joint else parts
        return [tf.reshape(part, with_features([copies, path.batch], part)) for part in parts]

    if isinstance(blocks, int) and (blocks == 1 or not subgraph.loopable):
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
        return tf.cast(z >= tf.reduce_max(z, axes, keepdims=True), tf.float32) - 0.5

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
