"""Where branches, loops and lists of tensors leave the rows."""

import tensorflow as tf

from igtf.rows.sizes import COUNT, LOST, Place


def switched_place(rows, op, at):
    return LOST if at[0] is None or at[1] is not None else [at[0], at[0]]


def merged_place(rows, op, at):
    return [same_place(at), None]


def same_place(places):
    first, *others = places
    return first if all(place == first for place in others) else LOST


def baked(rows, op, places):
    if rows.rows is not None:
        rows.baked.append(op)
    return places


def list_place(rows, op, at):
    return LOST if at[0] is None else baked(rows, op, at[0])


def item_place(rows, op, at):
    if at[0] is None or any(p not in (None, COUNT) for p in at[1:]) or not at[0].axis:
        return LOST
    return baked(rows, op, at[0]._replace(axis=at[0].axis - 1))


def written_place(rows, op, at):
    whole, item = at[0], at[-1]
    if any(at[1:-1]) or not isinstance(item, Place):
        return LOST
    item = baked(rows, op, item._replace(axis=item.axis + 1))
    return item if whole in (None, item) else LOST


def looped_place(rows, op, at):
    shapes = op.get_attr("output_shapes") or [t.shape for t in op.inputs]
    body = rows.body(op, "body", [tf.TensorShape(s) for s in shapes])
    cond = rows.body(op, "cond", [tf.TensorShape(s) for s in shapes])
    if body is None or cond is None:
        return LOST
    state, moves = list(at), [t.ref() in rows.varying for t in op.inputs]
    while True:
        places, varying = rows.inside(body, state, moves)
        after = [_joined(rows, op, *each) for each in zip(op.inputs, state, places)]
        varying = [a or b for a, b in zip(moves, varying)]
        if (after, varying) == (state, moves):
            break
        state, moves = after, varying
    # A loop that goes on for as long as the rows want it, or for as many as there are, is lost.
    stops = rows.inside(cond, state, moves)[0][0]
    return LOST if stops is not None else baked(rows, op, state)


def _joined(rows, op, tensor, before, after):
    """The place of a variable of a loop: grows from nothing to shared rows, and from there to lost."""
    if before == after:
        return before
    if before is None and (
        tensor.dtype == tf.variant or isinstance(after, Place) and rows.one_each(op, tensor, after)
    ):
        return after
    return LOST


def branched_place(rows, op, at):
    bodies = [rows.body(op, n, [t.shape for t in op.inputs][1:]) for n in ("then_branch", "else_branch")]
    if at[0] is not None or None in bodies:
        return LOST
    moves, found, refused = [t.ref() in rows.varying for t in op.inputs[1:]], [], []
    for taken, body in zip((True, False), bodies):
        if rows.switches.get(op.inputs[0].ref(), taken) != taken:
            continue
        try:
            found.append(rows.inside(body, at[1:], moves)[0])
        except ValueError as error:
            refused.append((op.inputs[0], not taken, str(error)))
            if rows.dormant is None or len(refused) > 1 or op.inputs[0].ref() in rows.varying:
                raise
    if refused:
        rows.dormant += refused
    return baked(rows, op, [same_place(pair) for pair in zip(*found)])
