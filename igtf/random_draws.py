"""Random ops on the path: whether what they draw counts."""

import numpy as np
import tensorflow as tf

from igtf.copying import constant_value, copy_op
from igtf.op_types import FLOATS, TYPES
from igtf.traversal import leads_with_rows, walk


def random_above(tensor, sources, rows):
    """Random ops above `tensor` whose draws, or what becomes of them, lead with the batch dimension."""
    ends, leads = {t.ref() for t in sources}, leads_with_rows(tensor, rows)

    def onward(tensor):
        return [t for t in tensor.op.inputs if t.ref() not in ends]

    return [t.op for t in walk([tensor], onward) if is_random(t.op) and (leads or leads_with_rows(t, rows))]


def is_random(op):
    kind = op.type
    drawn = kind in TYPES["random"] or kind.startswith(("Random", "StatelessRandom", "StatefulStand"))
    return drawn and not kind.startswith("StatelessRandomGet")


def settle(op, path, varying):
    """What becomes of a random draw, and whether that is the same whatever is drawn.

    A draw is followed through rising and falling functions up to a threshold (a mask of dropout) or to
    what depends on `xs`. There the least and the greatest draw tell. Returns the tensor, its value if it
    has only one, and whether it has: True, False, or a tensor where the run decides.
    """
    ends, start, path = _extremes(op), op.outputs[0], set(path)
    tensor, chain = start, []
    while ends is not None:
        readers = [reader for reader in tensor.consumers() if reader in path]
        if len(readers) != 1 or readers[0].type not in {**TYPES["monotonic"], **TYPES["threshold"]}:
            break
        reader = readers[0]
        slots = [i for i, t in enumerate(reader.inputs) if t is tensor]
        if len(slots) != 1 or any(t.ref() in varying for t in reader.inputs):
            break
        if reader.type in ("RealDiv", "Div") and slots != [0]:
            break
        chain.append(reader)
        tensor = reader.outputs[0]
        if reader.type in TYPES["threshold"]:
            break
    if not chain or tensor.dtype not in (tf.bool, *FLOATS):
        return start, tf.zeros([], start.dtype), False
    low, high = (constant_value(tensor, {start.ref(): end}) for end in ends)
    if low is not None and high is not None:
        return tensor, tf.constant(low, tensor.dtype), np.array_equal(low, high)
    made = []
    for end in ends:
        values = {start.ref(): tf.constant(end, start.dtype)}
        for reader in chain:
            inputs = [values.get(t.ref(), t) for t in reader.inputs]
            (values[reader.outputs[0].ref()],) = copy_op(reader.type, inputs, reader.node_def.attr, [])
        made.append(values[tensor.ref()])
    return tensor, made[0], tf.reduce_all(tf.equal(*made))


def is_conditional(op):
    """Whether `op` may be in a branch of TensorFlow 1 that is not taken."""
    seen, stack = set(), [op]
    while stack:
        op = stack.pop()
        if op.type in ("Switch", "RefSwitch"):
            return True
        if op not in seen:
            seen.add(op)
            stack.extend([t.op for t in op.inputs] + list(op.control_inputs))
    return False


def _extremes(op):
    """The least and the greatest number that a random op may draw."""
    dtype = op.outputs[0].dtype
    if not dtype.is_floating:
        return None
    if op.type in TYPES["uniform"]:
        return 0.0, 1 - {2: 2.0**-7 if dtype == tf.bfloat16 else 2.0**-10, 4: 2.0**-23, 8: 2.0**-52}[
            dtype.size
        ]
    return (-float(dtype.max), float(dtype.max)) if op.type in TYPES["normal"] else None
