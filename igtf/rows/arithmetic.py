"""Where products, reductions, convolutions and elementwise ops leave the rows."""

import math

import numpy as np

from igtf.rows.sizes import COUNT, LOST, MIX, Place, Size, has_rows, meet, product_of, quotient_of


def stay_place(rows, op, at):
    """All on the axis where they are in the first input."""
    return LOST if at[0] is None or any(at[1:]) else at[0]


def working_on(axes, inputs=1):
    """The rule of ops that work along `axes(rows, op, rank)` of their first inputs, and keep the others.

    Where they have more than one, these are matched entry by entry along the axes that are kept.
    """

    def rule(rows, op, at):
        rank = op.inputs[0].shape.rank
        along = None if rank is None else axes(rows, op, rank)
        met = all(p == at[0] for p in at[:inputs]) and all(p in (None, COUNT) for p in at[inputs:])
        if along is None or at[0] is None or not met:
            return LOST
        return MIX if at[0].axis in {a % rank for a in along} else at[0]

    return rule


def axes_of_input(slot):
    return lambda rows, op, rank: rows.ints(op.inputs[slot])


def last_axes(count):
    return lambda rows, op, rank: range(-count, 0)


def _meets_all(rows, op, tensor, axis):
    """Whether what all rows share has one entry for them, or one for each, which then are so many."""
    size = tensor.shape.as_list()[axis]
    if size not in (None, 1):
        rows.baked.append(op)
    return size is not None


def broadcast_place(rows, op, at):
    """Axes are matched from the right."""
    ranks = [0 if t.ref() in rows.numbers else t.shape.rank for t in op.inputs]
    if ranks.count(0) == len(ranks) - 1:
        (place,) = (p for p in at if p is not None)
        return place
    rank = op.outputs[0].shape.rank
    if rank is None or None in ranks:
        return LOST
    place = meet([p._replace(axis=p.axis + rank - r) for p, r in zip(at, ranks) if p is not None])
    if isinstance(place, str):
        return place
    for tensor, p, r in zip(op.inputs, at, ranks):
        axis = place.axis - (rank - r)
        if p is None and axis >= 0 and not _meets_all(rows, op, tensor, axis):
            return LOST
    return place


def chosen_place(rows, op, at):
    """The `Select` of TensorFlow 1, whose condition may have one entry per row."""
    if op.inputs[0].shape.rank == op.outputs[0].shape.rank:
        return LOST if None in at else broadcast_place(rows, op, at)  # it broadcasts nothing
    return meet(at) if all(isinstance(p, Place) and p.axis == 0 for p in at) else LOST


def reduced_place(rows, op, at):
    rank, axes = op.inputs[0].shape.rank, rows.ints(op.inputs[1])
    if axes is None or rank is None or at[0] is None:
        return LOST
    axes = {a % rank for a in axes}
    if at[0].axis in axes:
        return MIX
    kept = op.type not in ("ArgMax", "ArgMin") and op.get_attr("keep_dims")
    return at[0] if kept else at[0]._replace(axis=at[0].axis - sum(a < at[0].axis for a in axes))


def product_place(rows, op, at):
    """Matrices: rows may be free on one side, or count the matrices, but not be summed over."""
    flip = ("transpose_a", "transpose_b") if op.type == "MatMul" else ("adj_x", "adj_y")
    rank, places = op.outputs[0].shape.rank, []
    if rank is None or any(t.shape.rank is None for t in op.inputs):
        return LOST
    for slot, (tensor, place) in enumerate(zip(op.inputs, at)):
        if place is None:
            continue
        back = tensor.shape.rank - place.axis  # 1 is the last axis
        summed = 2 if bool(op.get_attr(flip[slot])) != bool(slot) else 1
        if back == summed:
            return MIX
        places.append(place._replace(axis=rank - (back if back > 2 else 2 - slot)))
        other = op.inputs[1 - slot]
        if back > 2 and at[1 - slot] is None and other.shape.rank >= back:
            if not _meets_all(rows, op, other, -back):
                return LOST
    return meet(places)


def einsum_place(rows, op, at):
    if op.outputs[0].shape.rank is None or any(t.shape.rank is None for t in op.inputs):
        return LOST
    left, _, right = op.get_attr("equation").decode().replace(" ", "").partition("->")
    parts = left.split(",")

    def spell(part, tensor):  # with a letter for every axis that an ellipsis stands for, from the right
        count = tensor.shape.rank - len(part) + 3
        return part.replace("...", "".join(chr(0x100 + i) for i in reversed(range(count))))

    for i, (part, tensor) in enumerate(zip(parts, op.inputs)):
        parts[i] = spell(part, tensor)
    right = spell(right, op.outputs[0])
    labels = {part[p.axis] for part, p in zip(parts, at) if p is not None}
    label = labels.pop()
    if labels or label not in right:
        return MIX
    for part, tensor, p in zip(parts, op.inputs, at):
        if p is None and label in part and not _meets_all(rows, op, tensor, part.index(label)):
            return LOST
        if part.count(label) > 1:
            return MIX
    place = meet([p._replace(axis=0) for p in at if p is not None])
    return place if isinstance(place, str) else place._replace(axis=right.index(label))


def _channel(op, rank):
    return 1 if op.get_attr("data_format").startswith(b"NC") else rank - 1


def bias_place(rows, op, at):
    rank = op.inputs[0].shape.rank
    fits = rank is not None and at[0] is not None and not any(at[1:])
    return at[0] if fits and at[0].axis != _channel(op, rank) else LOST


def batch_norm_place(rows, op, at):
    """With a channel per row and in training mode it is the layer normalization of Keras 2."""
    rank = op.inputs[0].shape.rank
    if rank is None or at[0] is None:
        return LOST
    if not op.get_attr("is_training"):
        others = any(at[1:]) or at[0].axis == _channel(op, rank)
        return LOST if others else [at[0], *[None] * (len(op.outputs) - 1)]
    return [at[0], *[LOST] * (len(op.outputs) - 1)] if at[0].axis == _channel(op, rank) else MIX


def convolved_place(rows, op, at):
    """Rows may lie on the batch axis, or on an axis that a kernel of size 1 passes by."""
    rank, place = op.inputs[0].shape.rank, at[0]
    if rank is None or place is None or any(at[1:]) or place.axis == 0:
        return LOST if rank is None or place is None or any(at[1:]) else place
    return _windowed(op, place, rank, op.inputs[1].shape.as_list()[: rank - 2])


def _windowed(op, place, rank, kernel):
    channel = _channel(op, rank)
    if place.axis == channel:
        grouped = op.inputs[1].shape.as_list()[-2] != op.inputs[0].shape.as_list()[channel]
        return LOST if op.type.startswith("Depthwise") or grouped else MIX
    size = kernel[place.axis - (2 if channel == 1 else 1)]
    return place if size == 1 == op.get_attr("strides")[place.axis] else MIX


def widened_place(rows, op, at):
    """Transposed convolution: the batch size is an entry of the shape that it is told."""
    sizes, place = rows.sizes(op.inputs[0]), at[2]
    if place is None or at[1] is not None:
        return LOST
    if place.axis:
        return MIX
    return place if sizes is not None and has_rows(sizes[0]) else LOST


def pooled_place(rows, op, at):
    if at[0] is None or any(at[1:]):
        return LOST
    axis = at[0].axis
    return at[0] if axis == 0 or op.get_attr("ksize")[axis] == 1 == op.get_attr("strides")[axis] else MIX


def blocks_place(rows, op, at):
    """Dilated convolution: blocks become outer parts of the batch."""
    block, edges = rows.ints(op.inputs[1]), rows.static(op.inputs[2])
    if block is None or at[0] is None or any(at[1:]):
        return LOST
    if at[0].axis == 0:
        count = Size(math.prod(block))
        split = op.type == "SpaceToBatchND"
        outer = product_of([at[0].outer, count]) if split else quotient_of(at[0].outer, count)
        return LOST if outer is None else at[0]._replace(outer=outer)
    spatial = at[0].axis - 1
    touched = spatial < len(block) and (block[spatial] > 1 or edges is None or np.any(edges[spatial]))
    return MIX if touched else at[0]


def sequences_place(rows, op, at):
    if at[0] is None:
        return LOST
    if op.get_attr("seq_dim") == at[0].axis:
        return MIX
    per_row = op.get_attr("batch_dim") == at[0].axis
    return at[0] if at[1] == (at[0]._replace(axis=0) if per_row else None) else LOST


def losses_place(rows, op, at):
    return [at[0], at[0]] if at[0] == at[1] == Place(0) else LOST


def sparse_product_place(rows, op, at):
    """A constant sparse matrix (the edges of a graph) times rows."""
    return LOST if any(at[:3]) or at[3].axis else MIX
