"""One op once more, and what a graph knows of its functions and constants."""

import numpy as np
import tensorflow as tf

from igtf.op_types import CALLS
from igtf.tensorflow_internals import must_record_gradient, record_gradient


def constant_value(tensor, known=None):
    """The value of a tensor, worked out from constants (and `known`: `ref()` -> value), or None."""
    known = {} if known is None else known
    if tensor.ref() not in known:
        op, value = tensor.op, None
        if op.type in FOLDED:
            parts = [constant_value(t, known) for t in op.inputs]
            value = None if any(part is None for part in parts) else FOLDED[op.type](op, *parts)
        known[tensor.ref()] = tf.get_static_value(tensor) if value is None else value
    return known[tensor.ref()]


FOLDED = {
    **dict.fromkeys(("Add", "AddV2"), lambda op, a, b: a + b),
    "Sub": lambda op, a, b: a - b,
    "Mul": lambda op, a, b: a * b,
    "RealDiv": lambda op, a, b: a / b,
    "FloorMod": lambda op, a, b: np.mod(a, b),
    "Neg": lambda op, a: -a,
    "Floor": lambda op, a: np.floor(a),
    "Greater": lambda op, a, b: a > b,
    "GreaterEqual": lambda op, a, b: a >= b,
    "Less": lambda op, a, b: a < b,
    "LessEqual": lambda op, a, b: a <= b,
    "LogicalNot": lambda op, a: np.logical_not(a),
    "Cast": lambda op, a: np.asarray(a).astype(op.outputs[0].dtype.as_numpy_dtype),
    "Identity": lambda op, a: a,
    "Range": lambda op, start, stop, step: np.arange(start, stop, step),
    "ConcatV2": lambda op, *parts: np.concatenate(parts[:-1], int(parts[-1])),
    "Pack": lambda op, *parts: np.stack(parts, op.get_attr("axis")),
}


def is_concrete(fdef):
    return fdef is not None and not any(a.placeholder for node in fdef.node_def for a in node.attr.values())


def copy_op(kind, inputs, attrs, made, name=None):
    attrs = {k: v for k, v in attrs.items() if k not in ("_class", "_output_shapes")}
    if kind == "Identity" and not attrs:
        attrs = {"T": tf.compat.v1.AttrValue(type=inputs[0].dtype.base_dtype.as_datatype_enum)}
    op = tf.compat.v1.get_default_graph().create_op(kind, inputs, attrs=attrs, name=name and last_part(name))
    made.append(op)
    outputs = list(op.outputs)
    if inputs and outputs and must_record_gradient():
        names = [attr.name for attr in op.op_def.attr]
        attrs = tuple(part for attr in names for part in (attr, op.get_attr(attr)))
        record_gradient(kind, tuple(op.inputs), attrs, outputs)
    return outputs


def last_part(name):
    """The last part of a name, fit to begin another."""
    return name.rsplit("/", 1)[-1].lstrip("_") or "op"


def is_call(op):
    """Whether `op` calls a function, by an op for that or, as in TensorFlow 1, by its name."""
    kind = op.type
    internal = kind[0] == "_" and kind[1:2].isupper()  # such as _FusedConv2D, of which a graph has many
    registered = internal or hasattr(tf.raw_ops, kind)
    return kind in CALLS or (not registered and kind in function_library())


def function_library():
    """The functions known to the current graph and those around it, by name."""
    graph, found = tf.compat.v1.get_default_graph(), {}
    while graph is not None:
        for fdef in graph.as_graph_def().library.function:
            found.setdefault(fdef.signature.name, fdef)
        graph = getattr(graph, "outer_graph", None)
    return found
