"""Walks over a graph: the ops between two tensors, what a path meets first, what leads with the rows."""

import tensorflow as tf

from igtf.op_types import FLAT, INPUTS, LIKES, SHAPES


def asserted(condition, message, tensor):
    """`tensor`, in a run where `condition` holds."""
    with tf.control_dependencies([tf.raw_ops.Assert(condition=condition, data=[message])]):
        return tf.identity(tensor)


def ops_between(ys, sources):
    """The ops that compute `ys` from `sources`, dependencies first."""
    stops = {t.ref() for t in sources}
    order, seen = [], set()
    stack = [(y.op, False) for y in reversed(ys) if y.ref() not in stops]
    while stack:
        op, done = stack.pop()
        if done:
            order.append(op)
        elif op not in seen:
            seen.add(op)
            stack.append((op, True))
            for tensor in op.inputs:
                loop = op.type == "Merge" and tensor.op.type == "NextIteration"
                if tensor.ref() not in stops and tensor.op not in seen and not loop:
                    stack.append((tensor.op, False))
    reached, path = set(stops), []
    for op in order:
        if any(t.ref() in reached for t in op.inputs):
            path.append(op)
            reached.update(t.ref() for t in op.outputs)
    return path


def walk(tensors, onward):
    """These tensors and those that `onward(tensor)` leads to, each once."""
    seen, stack = set(), list(tensors)
    while stack:
        tensor = stack.pop()
        if tensor.ref() not in seen:
            seen.add(tensor.ref())
            yield tensor
            stack.extend(onward(tensor))


def first_met(ys, among, ops):
    """Those of `among` (`ref()` -> tensor) that ways back from `ys` through `ops` meet first."""
    made_by = {out.ref(): op for op in ops for out in op.outputs}

    def onward(tensor):
        back = tensor.ref() in made_by and tensor.ref() not in among
        return made_by[tensor.ref()].inputs if back else ()

    met = {tensor.ref() for tensor in walk(ys, onward)}
    return [t for ref, t in among.items() if ref in met]


def row_inputs_above(tensors, xs, rows):
    """Placeholders above `tensors` that lead with the batch dimension."""
    captures = captured(tf.compat.v1.get_default_graph())
    mine = {x.ref() for x in xs}
    ends = mine | set(captures)

    def onward(tensor):
        return () if tensor.ref() in ends or tensor.op.type in INPUTS else tensor.op.inputs

    def found(tensor):
        if not leads_with_rows(tensor, rows):
            return False
        if tensor.ref() in captures:  # of the enclosing graph: per row if something above it there is
            outer = captures[tensor.ref()]
            return not hasattr(outer, "numpy") and _has_row_input(outer, rows)
        return tensor.op.type in INPUTS

    return [t for t in walk(tensors, onward) if t.ref() not in mine and found(t)]


def _has_row_input(tensor, rows):
    graphs = {}  # its captures that are no eager tensors

    def outside(tensor):
        if tensor.graph not in graphs:
            found = captured(tensor.graph)
            graphs[tensor.graph] = {ref: t for ref, t in found.items() if not hasattr(t, "numpy")}
        return graphs[tensor.graph].get(tensor.ref())

    def onward(tensor):
        outer = outside(tensor)
        return tensor.op.inputs if outer is None else [outer]

    above = walk([tensor], onward)
    return any(t.op.type in INPUTS and outside(t) is None and leads_with_rows(t, rows) for t in above)


def captured(graph):
    """inner tensor -> outer tensor, for the graph of a function."""
    return {inner.ref(): outer for outer, inner in getattr(graph, "captures", ())}


def leads_with_rows(tensor, rows):
    return (
        tensor.dtype not in (tf.resource, tf.variant)
        and bool(tensor.shape.rank)
        and tensor.shape.as_list()[0] == rows
    )


def find_varying(ops, xs):
    """Tensors whose values, not only their shapes, depend on `xs`."""
    varying = {x.ref() for x in xs}
    for op in ops:
        if op.type not in SHAPES and op.type not in LIKES:
            if any(t.ref() in varying for t in op.inputs):
                varying.update(t.ref() for t in op.outputs)
    return varying


def readers_of(tensor, through):
    """The ops that read a tensor, also by way of ops of these types."""
    found, stack = {}, [tensor]
    while stack:
        for op in stack.pop().consumers():
            if op not in found:
                found[op] = None
                stack.extend(op.outputs[:1] if op.type in through else ())
    return list(found)


def unconnected_message(function, ys, xs, ys_argument="ys"):
    """The message for outputs without a gradient to the inputs."""
    names = f"{ys_argument} {[y.name for y in ys]} to xs {[x.name for x in xs]}"
    ops = ops_between(ys, xs)
    if not ops:
        return (
            f"{function}: no path leads from {names}, expected {ys_argument} to be computed from xs. "
            "Pass the very tensor that the network was called on."
        )
    ids = [op for op in ops if op.outputs and op.outputs[0].dtype.is_integer and op.type == "Cast"]
    flat = [op for op in ops if op.type in FLAT]
    hint = (
        f"Op {ids[0].name!r} turns it into integers: ids have no gradient. Attribute to the "
        "embedding's output instead, as in integrated_gradients(logits, embedded) with "
        "embedded = tf.gather(table, ids)."
        if ids
        else f"Op {flat[0].name!r} ({flat[0].type}) is flat: its slope is 0 wherever it has one. Explain "
        "what it reads."
        if flat
        else "Look for tf.stop_gradient, argmax, rounding or comparisons in between."
    )
    return (
        f"{function}: no gradient flows from {names} ({len(ops)} ops in between), expected "
        f"differentiable ops. {hint}"
    )
