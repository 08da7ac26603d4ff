"""The same ops on other values."""

import numpy as np
import tensorflow as tf

from igtf.copying import copy_op, function_library, is_call
from igtf.functions import emit
from igtf.op_types import BATCH_NORMS, BRANCHES, LOOPS, TYPES, UNKNOWN
from igtf.rows.sizes import Size, product_of
from igtf.rows.tracker import RowTracker
from igtf.traversal import ops_between


def replay_ops(ops, values, keep, copies=1, axis=None, reversible=False, instead=None):
    """Copies `ops` into the current graph, reading from `values` where it can.

    Args:
      ops: from `ops_between`.
      values: original tensor's `ref()` -> the tensor to read instead; extended with the outputs.
      keep: tensors whose new values are wanted.
      copies: factor of the rows, for shapes that hold them; None where shapes hold none.
      axis: original tensor's `ref()` -> the axis that carries its rows, where it is known. With it the
        new tensors have the static shapes of the original ones, which inference alone loses: what is
        captured by the body of a loop is no constant there.
      reversible: whether loops shall keep what `reverse` needs of them.
      instead: op type -> what makes the output of such an op, from it and its inputs.

    Returns:
      The new ops, dependencies first.
    """
    made, plain = [], {}
    library = function_library() if any(op.type in LOOPS | BRANCHES or is_call(op) for op in ops) else {}
    later, instead = () if instead else _pooled_first(ops, keep), instead or {}
    for op in ops:
        inputs = [_read(t, values) for t in op.inputs]
        if op in later:
            # Max pooling and a rising function commute, and pooling makes less work for the other.
            values[op.outputs[0].ref()] = inputs[0]
            continue
        if op.inputs and op.inputs[0].op in later:
            rise = op.inputs[0].op
            pooled = copy_op(op.type, inputs, op.node_def.attr, made, op.name)
            outputs = copy_op(rise.type, pooled, rise.node_def.attr, made, rise.name)
        elif op.type in BATCH_NORMS and not op.get_attr("is_training") and _only_first(op):
            outputs = _batch_norm(op, inputs, made)
        elif op.type in instead:
            outputs = [instead[op.type](op, *inputs)]
        elif _never_acts(op):
            outputs = inputs[:1]
        elif is_layer_norm(op):
            outputs, plain[op.outputs[0].ref()] = _layer_norm(op, inputs, made, values)
        else:
            if op.type == "Reshape":
                inputs[0] = plain.get(op.inputs[0].ref(), inputs[0])
            if op.type == "Reshape" and copies not in (1, None):
                inputs[1] = _scale_shape(op, inputs[1], copies)
            outputs = emit(op.type, inputs, op.node_def.attr, made, op.name, library, reversible)
        for old, new in zip(op.outputs, outputs):
            values[old.ref()] = new
            if axis is not None and not new.shape.is_fully_defined():
                _keep_shape(old, new, axis.get(old.ref()), copies)
    return made


def of_replayed(facts, values):
    """What is known by `ref()` of the original tensors, by that of the ones in `values` in their place."""
    return {values[ref].ref(): fact for ref, fact in facts.items() if ref in values}


def _keep_shape(old, new, axis, copies):
    """Gives a replayed tensor the static shape of the original one, but for its rows."""
    if old.shape.rank is None or new.shape.rank not in (None, old.shape.rank) or old.dtype == tf.variant:
        return
    shape = old.shape.as_list()
    if axis is not None and axis != UNKNOWN:
        shape[axis] = shape[axis] and copies and shape[axis] * copies
    new.set_shape(shape)


def _pooled_first(ops, keep):
    """Rising elementwise ops that only a max pooling reads."""
    inside, keep, found = set(ops), {t.ref() for t in keep}, set()
    for op in ops:
        if op.type in ("MaxPool", "MaxPool3D"):
            rise = op.inputs[0].op
            lone = rise in inside and rise.type in TYPES["rising"] and len(rise.outputs[0].consumers()) == 1
            if lone and rise.outputs[0].ref() not in keep:
                found.add(rise)
    return found


def _read(tensor, values):
    """What an op of the replay reads for `tensor`."""
    op, graph = tensor.op, tf.compat.v1.get_default_graph()
    small = op.type == "Const" and tensor.graph is not graph and (tensor.shape.num_elements() or 0) < 65
    if small and tensor.ref() not in values:
        # Captured by the body of a loop, axes and shapes would be constants no longer.
        values[tensor.ref()] = copy_op("Const", [], op.node_def.attr, [])[0]
    return values.get(tensor.ref(), tensor)


def _only_first(op):
    return not any(t.consumers() for t in op.outputs[1:])


def _never_acts(op):
    """Whether a maximum with 0 is of what is not below it: the last op of Keras' ReLU with a `max_value`."""
    if op.type != "Maximum" or op.inputs[1].shape.rank != 0:
        return False
    source, least = op.inputs[0].op, tf.get_static_value(op.inputs[1])
    if source.type == "Minimum" and source.inputs[1].shape.rank == 0:
        most = tf.get_static_value(source.inputs[1])
        source = source.inputs[0].op if most is not None and most >= 0 else source
    return source.type in ("Relu", "Relu6") and least is not None and least <= 0


def _batch_norm(op, inputs, made):
    """Inference batch norm as a product and a sum, with far cheaper gradients than its own."""
    x, scale, offset, mean, variance = inputs
    factor = scale * tf.math.rsqrt(variance + op.get_attr("epsilon"))
    shift = offset - mean * factor
    if op.get_attr("data_format") in (b"NCHW", b"NCDHW"):
        factor, shift = (tf.reshape(v, [-1] + [1] * (x.shape.rank - 2)) for v in (factor, shift))
    product = tf.cast(factor, x.dtype) * x
    result = product + tf.cast(shift, x.dtype)
    made.extend((product.op, result.op))
    return [result, *op.outputs[1:]]


def is_layer_norm(op):
    """The layer normalization of Keras 2: batch norm in training mode of one image, a channel per row."""
    return (
        op.type in BATCH_NORMS
        and op.get_attr("is_training")
        and op.get_attr("data_format").startswith(b"NC")
        and bool(op.inputs[0].shape.rank)
        and op.inputs[0].shape.as_list()[0] == 1
        and _only_first(op)
    )


def _layer_norm(op, inputs, made, values):
    """The same as products and means, which have rules, and whose norm points can follow.

    Returns its output, and what that is a reshape of: the rows are a channel each to Keras, behind a
    reshape, but need not leave their axis.
    """
    x, scale, offset = inputs[:3]
    rank, fills = x.shape.rank, [t.op for t in op.inputs[1:3]]
    axes, shape = [0, *range(2, rank)], [1, -1] + [1] * (rank - 2)
    shaped = op.inputs[0].op if op.inputs[0].op.type == "Reshape" else None
    last = None
    if shaped and all(fill.type == "Fill" for fill in fills):
        sizes = RowTracker("replay", None, strict=False).sizes(shaped.inputs[1])
        last = _last_axes_of(shaped.inputs[0].shape, product_of(sizes[2:]) if sizes else None)
    if last:
        source, axes = values.get(shaped.inputs[0].ref(), shaped.inputs[0]), last
        scale, offset = (fill.inputs[1] for fill in fills)
    else:
        source, scale, offset = x, tf.reshape(scale, shape), tf.reshape(offset, shape)
    wide = tf.cast(source, scale.dtype)
    centred = wide - tf.reduce_mean(wide, axis=axes, keepdims=True)
    variance = tf.reduce_mean(tf.square(centred), axis=axes, keepdims=True)
    normal = centred * tf.math.rsqrt(variance + op.get_attr("epsilon"))
    plain = tf.cast(normal * scale + offset, x.dtype)
    result = plain if source is x else tf.reshape(plain, tf.shape(x))
    made.extend(ops_between([result], [source, x, *inputs[1:3]]))
    return [result, *op.outputs[1:]], plain


def _last_axes_of(shape, size):
    """The last axes that hold so many entries together, or None."""
    for number in range(1, shape.rank or 0):
        if size is not None and size == Size(shape[-number:].num_elements() or 0):
            return list(range(-number, 0))
    return None


def _scale_shape(op, shape, copies):
    """The constant shape of a reshape, for `copies` times the rows."""
    value, before = tf.get_static_value(shape), tf.get_static_value(op.inputs[1])
    if value is None and shape is op.inputs[1] and op.outputs[0].shape.is_fully_defined():
        # Put together from constants, as tf.shape(x)[0] is one where the batch size is known.
        value = before = op.outputs[0].shape.as_list()
    # What was computed from the shapes of replayed tensors counts their rows already.
    if value is None or before is None or value[0] == -1 or value[0] != before[0]:
        return shape
    value = np.array(value)
    value[0] *= copies
    return tf.constant(value, shape.dtype)
