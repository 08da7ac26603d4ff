"""Calls, loops and branches, written out: the ops of the bodies of functions."""

import tensorflow as tf

from igtf.copying import copy_op, is_concrete, last_part
from igtf.op_types import BRANCHES, CALLS, LOOPS, TYPES, carries_gradient
from igtf.random_draws import is_random, settle
from igtf.traversal import asserted, ops_between


def emit(kind, inputs, attrs, made, name, library, reversible=False):
    """One op of the replay: a copy, or what does the same and has a gradient of its own."""
    if kind == "IdentityN":
        # What tf.custom_gradient marks its outputs with. A copy's gradient would be that of the
        # original tensors, or none in a frozen graph: use the ops that it wraps instead.
        return [copy_op("Identity", [t], {}, made)[0] for t in inputs]
    if kind in library and is_concrete(library[kind]):  # called by its name
        return call_body(library[kind], inputs, library, made, reversible=reversible)
    # Copies of loops and branches would share the names of functions that gradients rewrite.
    names = ("f",) if kind in CALLS else ("cond", "body") if kind in LOOPS else ("then_branch", "else_branch")
    if kind in CALLS | LOOPS | BRANCHES:
        called = [library.get(attrs[n].func.name) for n in names]
        if all(is_concrete(fdef) for fdef in called):
            if kind in CALLS:
                return call_body(called[0], inputs, library, made, reversible=reversible)
            with tf.name_scope(last_part(name)):
                if kind in BRANCHES:
                    outputs = _branch(*called, inputs, library)
                else:
                    loop = Loop(*called, inputs, attrs, library)
                    outputs = loop.build(reversible and loop.reversible)
                    if loop.kept:
                        made.append(loop)
                        return outputs
            made.extend(ops_between(outputs, inputs))
            return outputs
    if kind == "ReadVariableOp":
        with inputs[0].graph.as_default():  # once, and not in every round of a loop
            return copy_op(kind, inputs, attrs, made, name)
    return copy_op(kind, inputs, attrs, made, name)


class Loop:
    """A loop of the replay, as one op that `reverse` can go back through.

    It keeps the variables of every round, from which `loop_rule` computes the rest of the round
    again, at both ends of an interval.

    Attributes:
      moving: which of `inputs` change from round to round; `outputs` has these.
      carried: those of `moving` that an adjoint can go through.
      kept: lists of what the variables that a round is computed from were in every round.
    """

    type = name = "Loop"

    def __init__(self, cond, body, inputs, attrs, library):
        self.cond, self.body, self.inputs, self.library = cond, body, list(inputs), library
        self.parallel = max(1, attrs["parallel_iterations"].i)
        # What the body passes on unchanged is no variable of the loop.
        given = [arg.name for arg in body.signature.input_arg]
        fixed = [body.ret[arg.name] == name for arg, name in zip(body.signature.output_arg, given)]
        shapes = [tf.TensorShape(shape) for shape in attrs["output_shapes"].list.shape]
        self.moving = [i for i, still in enumerate(fixed) if not still]
        self.shapes = {i: _invariant(inputs[i], shapes[i : i + 1]) for i in self.moving}
        self.carried = [i for i in self.moving if carries_gradient(inputs[i])]
        self.kept = []

    @property
    def reversible(self):
        """Whether a round can be computed again: lists of tensors are not kept, so none may be read."""
        nodes, refs = self.body.node_def, [arg.name for arg in self.body.signature.input_arg]
        lists = {refs[i] for i in self.moving if self.inputs[i].dtype == tf.variant}
        reads = [node.op for node in nodes for ref in node.input if ref in lists]
        return all(kind == "TensorListSetItem" for kind in reads)

    def arguments(self, variables):
        full = list(self.inputs)
        for i, value in zip(self.moving, variables):
            full[i] = value
        return full

    def build(self, keep):
        """The outputs of the loop, of all `inputs`; fills `kept` if `keep`."""
        needed = _needed(self.body, self.carried) if keep else ()
        self.saved = [i for i in self.moving if i in needed and self.inputs[i].dtype != tf.variant]
        kept = [
            tf.raw_ops.EmptyTensorList(
                element_shape=_list_shape(self.shapes[i]),
                max_num_elements=-1,
                element_dtype=self.inputs[i].dtype,
            )
            for i in self.saved
        ]

        def step(variables, kept, rounds):
            full = self.arguments(variables)
            kept = [
                tf.raw_ops.TensorListPushBack(input_handle=handle, tensor=full[i])
                for i, handle in zip(self.saved, kept)
            ]
            outputs = _steady_body(self.body, full, self.library)
            return [outputs[i] for i in self.moving], kept, [r + 1 for r in rounds]

        shapes = [self.shapes[i] for i in self.moving], [tf.TensorShape([])] * len(kept)
        rounds = [tf.constant(0)] if keep else []
        self.outputs, self.kept, self.rounds = tf.while_loop(
            lambda variables, *_: call_body(self.cond, self.arguments(variables), self.library, [])[0],
            step,
            ([self.inputs[i] for i in self.moving], kept, rounds),
            shape_invariants=(*shapes, [tf.TensorShape([])] * len(rounds)),
            parallel_iterations=self.parallel,
        )
        return self.arguments(self.outputs)

    def recall(self, kept, slots):
        """What the body read in the last round that `kept` has, and `kept` before it."""
        full, rest = self.arguments(self.outputs), []
        for i in (*slots, *(i for i in self.carried if i not in self.saved)):
            full[i] = tf.identity(full[i])  # a tensor of this round, that adjoints can go to
        for i, handle in zip(self.saved, kept):
            handle, full[i] = tf.raw_ops.TensorListPopBack(
                input_handle=handle,
                element_shape=_list_shape(self.shapes[i]),
                element_dtype=self.inputs[i].dtype,
            )
            full[i].set_shape(self.shapes[i])
            rest.append(handle)
        return full, rest


def _list_shape(shape):
    """The shape of the elements of a tensor list, as its ops want it."""
    if shape.rank is None:
        return tf.constant(-1)
    return tf.constant([-1 if size is None else size for size in shape.as_list()], tf.int32)


def _needed(fdef, outputs):
    """Indices of the arguments that these outputs of a function are computed from."""
    nodes = {node.name: node for node in fdef.node_def}
    stack = [fdef.ret[fdef.signature.output_arg[i].name] for i in outputs]
    seen = set()
    while stack:
        name = stack.pop().split(":")[0]
        if name not in seen and not name.startswith("^"):
            seen.add(name)
            stack.extend(nodes[name].input if name in nodes else ())
    return {i for i, arg in enumerate(fdef.signature.input_arg) if arg.name in seen}


def _invariant(tensor, shape):
    return tensor.shape if not shape or tensor.dtype == tf.variant else shape[0]


def _branch(then, otherwise, inputs, library):
    condition, *arguments = inputs
    return tf.nest.flatten(
        tf.cond(
            tf.cast(condition, tf.bool),
            lambda: _steady_body(then, arguments, library),
            lambda: _steady_body(otherwise, arguments, library),
        )
    )


def _steady_body(fdef, inputs, library):
    """`call_body`, refused by the run if it draws: it may be a branch that is not taken."""
    made = []
    outputs = call_body(fdef, inputs, library, made)
    for op in filter(is_random, made):
        tensor, _, off = settle(op, made, set())
        if tensor.op.type not in TYPES["threshold"]:
            off = False  # or what it is multiplied with, for this value of which the two may agree
        if off is not True:
            message = (
                f"The network is random between xs and ys, at op {op.name!r} ({op.type}) of a loop or "
                "branch, expected the same output for the same row. Turn dropout and noise off."
            )
            outputs = [asserted(off, message, t) for t in outputs]
    return outputs


def call_body(fdef, inputs, library, made, wanted=None, reversible=False):
    """The body of a called function, in the place of the call: its outputs, or those `wanted` (indices)."""
    nodes = {node.name: node for node in fdef.node_def}
    values = {arg.name: ([t], {}) for arg, t in zip(fdef.signature.input_arg, inputs)}

    def read(reference):  # "node:output:index" or the name of an argument
        name, *rest = reference.split(":")
        outputs, offsets = values[name]
        return outputs[offsets.get(rest[0], 0) + int(rest[1])] if rest else outputs[0]

    results = [fdef.ret[arg.name] for arg in fdef.signature.output_arg]
    results = results if wanted is None else [results[i] for i in wanted]
    stack = [(result.split(":")[0], False) for result in results[::-1]]
    seen = set()
    while stack:
        name, ready = stack.pop()
        if name not in nodes or (name in seen and not ready):
            continue
        node = nodes[name]
        # Data dependencies only: an assignment made twice would be a side effect.
        needed = [i for i in node.input if not i.startswith("^")]
        if not ready:
            seen.add(name)
            stack.append((name, True))
            stack.extend((i.split(":")[0], False) for i in needed)
            continue
        outputs = emit(node.op, [read(i) for i in needed], node.attr, made, name, library, reversible)
        values[name] = outputs, {}
        if node.op not in CALLS | LOOPS | BRANCHES | {"IdentityN"}:  # whose outputs are one list
            signature = library[node.op].signature if node.op in library else outputs[0].op.op_def
            values[name] = outputs, _offsets(signature, node)
    return [read(result) for result in results]


def _offsets(op_def, node):
    """Name of an output argument -> index of its first tensor."""
    offsets, total = {}, 0
    for arg in op_def.output_arg:
        offsets[arg.name] = total
        if arg.number_attr:
            total += node.attr[arg.number_attr].i
        elif arg.type_list_attr:
            total += len(node.attr[arg.type_list_attr].list.type)
        else:
            total += 1
    return offsets
