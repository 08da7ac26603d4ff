"""Reverse mode, op by op, with rules in the place of gradients."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeAlias

import tensorflow as tf

from igtf.arguments import output_weight
from igtf.arithmetic import epsilon, row_sum, safe_ratio, where_finite
from igtf.copying import copy_op
from igtf.intervals import OpEnd, axes_of_rows, group_ops, pair_ends
from igtf.op_types import BARRIERS, LOOPLESS, TYPES, carries_gradient
from igtf.replacement import graph_replace
from igtf.traversal import ops_between, readers_of, unconnected_message
from integrated_gradients_tf import Tensors, as_it_is, check_structure, check_tensor, widen

# rule(op, other, grads) -> one gradient or None per input
Rule: TypeAlias = Callable[[tf.Operation, Any, list], Sequence]


@as_it_is
def backpropagate(
    ys: Tensors,
    xs: Tensors,
    grad_ys: Tensors | None,
    rules: Mapping[str, Rule],
    other: Tensors | None = None,
    name: str = "backpropagate",
) -> Tensors:
    """Reverse mode from `ys` to `xs` with rules of your own for some types of ops.

    Args:
      ys: tensor or structure of tensors computed from `xs`.
      xs: tensor or structure of tensors.
      grad_ys: adjoints of `ys`, of its structure and shapes; `None` is ones.
      rules: `{op type: rule}`. `rule(op, other, grads)` gets the op (`.type`, `.inputs`, `.outputs`,
        `.get_attr`), the same op at the other end of the interval (`None` without `other`), and one
        gradient or `None` per output; it returns one gradient or `None` per input, or a single
        tensor for the only input that leads to `xs`. The key `"default"` covers the types that are
        not listed; without it that is TensorFlow's own gradient, or its mean at both ends, corrected so
        that each row is complete where rows can be told apart.
      other: `(ys, xs)` at the other end of the interval, the same ops on other values, as
        `graph_replace` makes them.
      name: name scope of the nodes.

    Returns:
      The adjoints of `xs`, in its structure; zeros where no rule leads.

    Raises:
      TypeError: a tensor is eager or a KerasTensor.
      ValueError: structures differ, `ys` does not depend on `xs`, or the ops at the other end do not
        correspond.

    >>> @tf.function
    ... def f(x):
    ...     y = tf.nn.relu(x) * 3
    ...     guided = lambda op, other, grads: tf.nn.relu(grads[0]) * tf.sign(op.outputs[0])
    ...     return backpropagate(y, x, None, {"Relu": guided})
    >>> f(tf.constant([2.0, -1.0])).numpy().tolist()
    [3.0, 0.0]
    """
    function = "backpropagate"
    flat_ys, flat_xs = tf.nest.flatten(ys), tf.nest.flatten(xs)
    for argument, tensors in (("ys", flat_ys), ("xs", flat_xs)):
        for tensor in tensors:
            check_tensor(function, argument, tensor)
    for y in flat_ys:
        if not y.dtype.is_floating:
            raise TypeError(
                f"{function}: ys {y.name!r} has dtype {y.dtype.name}, expected a floating dtype. Explain "
                "the scores and not what argmax or a threshold makes of them."
            )
    if grad_ys is None:
        seeds = [None] * len(flat_ys)
    else:
        check_structure(function, "grad_ys", grad_ys, "ys", ys)
        seeds = tf.nest.flatten(grad_ys)
    made = ops_between(flat_ys, flat_xs)
    inside = {x.ref() for x in flat_xs} | {t.ref() for op in made for t in op.outputs}
    if not any(y.ref() in inside for y in flat_ys):
        raise ValueError(unconnected_message(function, flat_ys, flat_xs))
    if other is None:
        ends = [(op, OpEnd(op), None) for op in group_ops(made)]
    else:
        after = ops_between(*(tf.nest.flatten(part) for part in other))
        if [op.type for op in made] != [op.type for op in after]:
            # A replay rewrites some ops: those of ys likewise.
            flat_ys = tf.nest.flatten(graph_replace(ys, xs, xs))
            made = ops_between(flat_ys, flat_xs)
        if [op.type for op in made] != [op.type for op in after]:
            raise ValueError(
                f"{function}: other has {len(after)} ops between its ys and xs, expected the "
                f"{len(made)} of ys and xs. Make it with graph_replace(ys, xs, ...)."
            )
        rows = flat_xs[0].shape.as_list()[0] if flat_xs[0].shape.rank else None
        ends = pair_ends(made, after, axes_of_rows(made, flat_xs, flat_ys), rows)
    with tf.name_scope(name):
        seeds = [
            tf.ones_like(y) if seed is None else output_weight(function, y, seed)
            for y, seed in zip(flat_ys, seeds)
        ]
        parts = reverse(ends, flat_ys, seeds, flat_xs, rules)
        grads = [tf.add_n(p) if p else tf.zeros_like(x) for x, p in zip(flat_xs, parts)]
    return tf.nest.pack_sequence_as(xs, grads)


def reverse(ends, ys, seeds, targets, rules):
    """Lists of tensors that sum to the adjoints of `targets`.

    `ends` has (op, op at one end, op at the other).
    """
    live = {t.ref() for t in targets}
    sources = set(live)

    def blocks(op, end):
        # With two ends it is changes that count, and what is stopped changes too.
        seen_through = end is not None and op.type in rules and _cancels(op)
        return op.type in BARRIERS and not seen_through

    for op, _, end in ends:
        if not blocks(op, end) and any(t.ref() in live for t in op.inputs):
            live.update(t.ref() for t in op.outputs if carries_gradient(t))
    adjoints = {}
    for y, seed in zip(ys, seeds):
        adjoints.setdefault(y.ref(), []).append(seed)

    def total(ref):
        parts = adjoints.get(ref, [])
        if len(parts) > 1:
            adjoints[ref] = parts = [tf.add_n(parts)]
        return parts[0] if parts else None

    for op, start, end in reversed(ends):
        slots = [i for i, t in enumerate(op.inputs) if t.ref() in live]
        if not slots or blocks(op, end):
            continue
        grads = [None if t.ref() in sources or t.ref() not in live else total(t.ref()) for t in op.outputs]
        if all(g is None for g in grads):
            continue
        start.slots, start.rules = slots, rules
        if end is not None:
            end.slots = slots
        rule = rules.get(op.type) or rules.get("default") or default_rule
        result = rule(start, end, grads)
        if not isinstance(result, (list, tuple)):
            result = [result if i == slots[0] else None for i in range(len(op.inputs))]
        for i in slots:
            if i < len(result) and result[i] is not None:
                adjoints.setdefault(op.inputs[i].ref(), []).append(result[i])
    return [adjoints.get(t.ref(), []) for t in targets]


_CARRIERS = set(TYPES["carrier"])


def _cancels(op):
    """Whether what a StopGradient stops is an extreme value that is subtracted before an exponential.

    As in `tf.reduce_logsumexp` and softmax by hand, whose values do not depend on it.
    """
    if op.type != "StopGradient":
        return False
    source = op.inputs[0].op
    while source.type in _CARRIERS:  # of a Select, what is not finite is replaced by 0
        source = source.inputs[1 if source.type.startswith("Select") else 0].op
    if source.type not in ("Max", "Min", "Maximum", "Minimum", "Relu"):
        return False
    differences = [
        reader.outputs[0]
        for reader in readers_of(op.outputs[0], _CARRIERS)
        if reader.type == "Sub" and any(_alike(reader.inputs[0], t) for t in source.inputs)
    ]
    exponentials = [
        reader.outputs[0]
        for difference in differences
        for reader in readers_of(difference, _CARRIERS | {"Mul", "RealDiv", "Neg", "AddV2"})
        if reader.type == "Exp"
    ]
    return any(
        reader.type in TYPES["sums"]
        for exps in exponentials
        for reader in readers_of(exps, _CARRIERS | {"ConcatV2", "Mul", "Pack"})
    )


def _alike(a, b, depth=4):
    """Whether two tensors are the same, or made the same way of the same ones, such as `z[:, 0]` twice."""
    if a is b or not depth or a.op.type != b.op.type or a.value_index != b.value_index:
        return a is b
    if a.op.type == "Const":
        return a.op.get_attr("value") == b.op.get_attr("value")
    if not a.op.inputs or len(a.op.inputs) != len(b.op.inputs) or a.op.type not in _CARRIERS:
        return False
    same = all(a.op.get_attr(n.name) == b.op.get_attr(n.name) for n in a.op.op_def.attr)
    return same and all(_alike(*pair, depth - 1) for pair in zip(a.op.inputs, b.op.inputs))


def default_rule(op, other, grads):
    """TensorFlow's own gradient; with two ends, the mean of it at both, made complete row by row.

    Where the rows of the batch cannot be told apart, the mean stays as it is: a correction of all of
    them together would leak from one to the other.
    """
    here = own_gradient(op, grads)
    if other is None:
        return here
    there = own_gradient(other, grads)
    result = [None if a is None or b is None else _mean(a, b) for a, b in zip(here, there)]
    ins = [(i, op.by_row(op.op.inputs[i])) for i, grad in enumerate(result) if grad is not None]
    outs = [(i, op.by_row(op.op.outputs[i])) for i, grad in enumerate(grads) if grad is not None]
    if op.type in LOOPLESS or any(by_row is None for _, by_row in ins + outs):
        return result  # what a branch that is not taken returns has no value
    found = completed(
        [[by_row(t) for t in (here[i], there[i], op.inputs[i], other.inputs[i])] for i, by_row in ins],
        [[by_row(t) for t in (grads[i], op.outputs[i], other.outputs[i])] for i, by_row in outs],
    )
    for (i, by_row), grad in zip(ins, found):
        result[i] = by_row(tf.cast(grad, result[i].dtype), back=op.inputs[i])
    return result


def _mean(a, b):
    return a if a.dtype == tf.variant else (a + b) / 2  # of lists, only what they pass on is known


def own_gradient(op, grads, inputs=None):
    """TensorFlow's gradient of one op; at `inputs`, if given, instead of its own."""
    source, place = op.op, op.inputs if inputs is None else inputs
    if inputs is not None or op.intervals is not None:
        copied = []
        copy_op(op.type, place, op.node_def.attr, copied, "gradient_of")
        source = copied[0]
    pairs = [(t, g) for t, g in zip(source.outputs, grads) if g is not None]
    first = {place[i].ref(): i for i in reversed(op.slots)}
    slots = sorted(first.values())
    found = tf.gradients(
        [t for t, _ in pairs],
        [place[i] for i in slots],
        [g for _, g in pairs],
        stop_gradients=[t for t in place if t.dtype != tf.resource],
    )
    result = [None] * len(place)
    for i, grad in zip(slots, found):
        result[i] = None if grad is None else tf.convert_to_tensor(grad)
    return result


def completed(ins, outs):
    """The mean of two gradients, made complete: g . (y1 - y0) = sum over inputs of grad . (z1 - z0).

    What is missing is shared in proportion to what the inputs contribute by the gradients at either
    end, whatever its sign, so that an input without an influence gets nothing; where no gradient tells,
    in proportion to the squares of their changes.

    Args:
      ins: matrices `[rows, values]`: per input, its gradients at both ends, and its values there.
      outs: per output, its adjoint, and its values at both ends.

    Returns:
      Per input, a matrix, in float32 at least.
    """
    ins, outs = ([[widen(t) for t in part] for part in parts] for parts in (ins, outs))
    missing = rounding = weight = square = 0.0
    for g, y0, y1 in outs:
        missing += row_sum(_inner(g, where_finite(y1 - y0)))
        rounding += row_sum(tf.abs(g) * where_finite(tf.maximum(tf.abs(y0), tf.abs(y1))))
    sizes, changes, means = [], [], []
    for grad0, grad1, z0, z1 in ins:
        grad0, grad1, change = where_finite(grad0), where_finite(grad1), where_finite(z1 - z0)
        means.append((grad0 + grad1) / 2)
        changes.append(change)
        sizes.append(tf.abs(grad0) + tf.abs(grad1))
        missing -= row_sum(_inner(means[-1], change))
        weight += row_sum(sizes[-1] * tf.abs(change))
        square += row_sum(_inner(change, change))
    rounding *= 8 * epsilon(rounding.dtype)
    missing = tf.where(tf.abs(missing) > rounding, missing, tf.zeros_like(missing))
    by_weight = where_finite(safe_ratio(missing, weight))
    by_square = tf.where(weight > 0, tf.zeros_like(missing), where_finite(safe_ratio(missing, square)))
    return [
        mean
        + tf.cast(by_weight * size, mean.dtype) * tf.sign(change)
        + tf.cast(by_square, mean.dtype) * change
        for mean, size, change in zip(means, sizes, changes)
    ]


def _inner(a, b):
    """What each entry adds to the change of a real number; TensorFlow's gradients are conjugate."""
    return tf.math.real(tf.math.conj(a) * b) if a.dtype.is_complex else a * b
