"""The rule of a loop: back through its rounds, with the rules of both ends in each."""

import tensorflow as tf

from igtf.backpropagation import reverse
from igtf.functions import call_body
from igtf.intervals import ONE_ROW, pair_ends
from integrated_gradients_tf import restore_shape


def loop_rule(op, other, grads):
    """Back through the rounds of a loop, with the rules of both ends in each."""
    loops = first, _ = op.op, other.op
    fixed = [i for i in op.slots if i not in first.moving]
    grads = dict(zip(first.moving, grads))
    # Nothing comes back from a list that nothing reads.
    carried = [i for i in first.carried if first.inputs[i].dtype != tf.variant or grads[i] is not None]
    ends = dict(zip(first.moving, first.outputs))
    adjoints = [tf.zeros_like(ends[i]) if grads[i] is None else grads[i] for i in carried]
    totals = [tf.zeros_like(op.inputs[i]) for i in fixed]

    def step(left, kept, adjoints, totals):
        runs, rest = [], []
        for loop, handles in zip(loops, kept):
            full, handles = loop.recall(handles, fixed)
            made = []
            outputs = call_body(loop.body, full, loop.library, made, carried, reversible=True)
            runs.append((made, outputs, [full[i] for i in (*carried, *fixed)]))
            rest.append(handles)
        (made, outputs, targets), (after, _, _) = runs
        pairs = pair_ends(made, after, {}, 1 if op.axes == ONE_ROW else None)
        parts = reverse(pairs, outputs, adjoints, targets, op.rules)
        before = [tf.add_n(p) if p else tf.zeros_like(t) for p, t in zip(parts, targets)]
        before = [restore_shape(g, t.shape) for g, t in zip(before, targets)]
        totals = [tf.add_n([total, *p]) if p else total for total, p in zip(totals, parts[len(carried) :])]
        return left - 1, rest, before[: len(carried)], totals

    shapes = [first.shapes[i] for i in carried], [total.shape for total in totals]
    lists = [[tf.TensorShape([])] * len(loop.kept) for loop in loops]
    _, _, adjoints, totals = tf.while_loop(
        lambda left, *_: left > 0,
        step,
        (first.rounds[0], [loop.kept for loop in loops], adjoints, totals),
        shape_invariants=(tf.TensorShape([]), lists, *shapes),
        parallel_iterations=first.parallel,
    )
    found = {**dict(zip(carried, adjoints)), **dict(zip(fixed, totals))}
    return [found.get(i) for i in range(len(first.inputs))]
