"""Where ops that reshape, cut, join and gather leave the rows."""

import math

import numpy as np

from igtf.op_types import MAKERS
from igtf.rows.control import baked
from igtf.rows.sizes import COUNT, LOST, MIX, ONE, ROWS, Place, Size, has_rows, meet, product_of, quotient_of


def segmented_place(rows, op, at):
    """Segments are made of the axes that the ids have; the axes behind are kept."""
    rank = op.inputs[1].shape.rank
    if at[0] is None or any(at[1:]) or rank is None or at[0].axis < rank:
        return LOST
    return at[0]._replace(axis=at[0].axis - rank + 1)


def scattered_place(rows, op, at):
    """Indices choose along the first axes; what lies behind is kept, in the updates too."""
    indices = op.inputs[1].shape
    if at[0] is None or at[1] is not None or at[2] is None or not indices.rank or indices[-1] is None:
        return LOST
    updates = at[0]._replace(axis=at[0].axis - indices[-1] + indices.rank - 1)
    return at[0] if at[0].axis >= indices[-1] and at[2] == updates else LOST


def reshaped_place(rows, op, at):
    """Row-major order is kept: rows go to the axis that what lies outside of them leads to."""
    place, (before, shape), after = at[0], op.inputs, op.outputs[0].shape
    if not isinstance(place, Place) or before.shape.rank is None or after.rank is None:
        return LOST
    sizes = rows.sizes(shape) or [None] * after.rank
    if len(sizes) != after.rank:
        return LOST
    here = [i for i, size in enumerate(sizes) if has_rows(size)]
    if not here:
        # The entry that is left open; or the first of a constant, where the batch is known: it is scaled.
        sizes = [n if n != Size(-1) else None for n in sizes]
        first = rows.rows is not None and (
            sizes[0] is None or rows.static(shape) is not None or shape.ref() not in rows.followed
        )
        static = [None if i == 0 and first else n for i, n in enumerate(after.as_list())]
        sizes = [Size(n) if n is not None and size is None else size for n, size in zip(static, sizes)]
        here = [i for i, size in enumerate(sizes) if size is None]
        if rows.rows is not None and not (first and here in ([], [0]) and place.axis == 0):
            return _reshaped_batch(rows, op, place)
        here = here if rows.rows is None else [0]
    if len(here) != 1:
        return LOST
    axis = here[0]
    dims = [rows.size(before, i) for i in range(before.shape.rank)]
    outer = quotient_of(product_of([place.outer, *dims[: place.axis]]), product_of(_open(sizes[:axis])))
    if has_rows(sizes[axis]):
        inner = quotient_of(quotient_of(sizes[axis], ROWS), outer)
    else:
        inner = quotient_of(
            product_of([place.inner, *dims[place.axis + 1 :]]), product_of(_open(sizes[axis + 1 :]))
        )
    if outer is None or inner is None or (rows.rows is not None and outer != ONE):
        return LOST if rows.rows is None else _reshaped_batch(rows, op, place)
    return Place(axis, outer, inner)


def _reshaped_batch(rows, op, place):
    """Likewise where all sizes are numbers, and the shape is for this number of rows only."""
    before, after = op.inputs[0].shape, op.outputs[0].shape
    if not before.is_fully_defined() or not after.is_fully_defined() or not after.num_elements():
        return LOST
    before, after = before.as_list(), after.as_list()
    outside = place.outer.number * math.prod(before[: place.axis])
    inside = place.inner.number * math.prod(before[place.axis + 1 :])
    for axis, size in enumerate(after):
        outer, left = divmod(outside, math.prod(after[:axis]))
        inner = inside // math.prod(after[axis + 1 :])
        if not left and size == outer * rows.rows * inner:
            return baked(rows, op, Place(axis, Size(outer), Size(inner)))
    return LOST


def _open(sizes):
    return [None if size is None or size.number == -1 else size for size in sizes]


def transposed_place(rows, op, at):
    order = rows.ints(op.inputs[1])
    return LOST if order is None or any(at[1:]) else at[0]._replace(axis=order.index(at[0].axis))


def expanded_place(rows, op, at):
    new, rank = rows.ints(op.inputs[1]), op.outputs[0].shape.rank
    if new is None or rank is None or any(at[1:]):
        return LOST
    return at[0]._replace(axis=at[0].axis + (new[0] % rank <= at[0].axis))


def squeezed_place(rows, op, at):
    rank, gone = op.inputs[0].shape.rank, op.get_attr("squeeze_dims")
    gone = {d % rank for d in gone} if rank is not None else ()
    if not gone or at[0].axis in gone:
        return LOST
    return at[0]._replace(axis=at[0].axis - sum(d < at[0].axis for d in gone))


def padded_place(rows, op, at):
    pads = rows.static(op.inputs[1])
    return LOST if pads is None or any(at[1:]) or np.any(pads[at[0].axis]) else at[0]


def joined_place(rows, op, at):
    """All of them side by side; along a new axis for Pack."""
    rank, packed = op.outputs[0].shape.rank, op.type == "Pack"
    along = [op.get_attr("axis")] if packed else rows.ints(op.inputs[-1])
    at = at if packed else at[:-1]
    if along is None or rank is None or not all(p is None or isinstance(p, Place) for p in at):
        return LOST
    place, along = meet([p for p in at if p is not None]), along[0] % rank
    if isinstance(place, str) or (not packed and place.axis == along):
        return MIX if place == MIX else LOST
    for tensor, p in zip(op.inputs, at):
        if p is None and not rows.one_each(op, tensor, place):
            return LOST
    return place._replace(axis=place.axis + (packed and along <= place.axis))


def parted_place(slot, along):
    """The rule of ops that take a tensor apart along `along(rows, op)`; along the rows is the user's loop."""

    def rule(rows, op, at):
        rank, axis, place = op.inputs[slot].shape.rank, along(rows, op), at[slot]
        if rank is None or axis is None or place is None or any(p for i, p in enumerate(at) if i != slot):
            return LOST
        axis %= rank
        if axis == place.axis:
            return LOST
        return place._replace(axis=place.axis - (op.type == "Unpack" and axis < place.axis))

    return rule


def sliced_place(rows, op, at):
    """`x[...]` with its masks, or tf.slice: whole along the rows, or else across them."""
    tensor, place = op.inputs[0], at[0]
    if not isinstance(place, Place) or tensor.shape.rank is None:
        return LOST
    begins, ends = (rows.sizes(t) for t in op.inputs[1:3])
    if op.type == "Slice":
        begins, ends = (s or [None] * tensor.shape.rank for s in (begins, ends))
        return _whole(rows, op, begins[place.axis], ends[place.axis], ends[place.axis] == Size(-1))
    steps = rows.ints(op.inputs[3])
    if steps is None:
        return LOST
    begins, ends = begins or [None] * len(steps), ends or [None] * len(steps)
    names = ("begin_mask", "end_mask", "new_axis_mask", "shrink_axis_mask", "ellipsis_mask")
    begin_mask, end_mask, new_axis, shrink, ellipsis = (op.get_attr(name) for name in names)
    axis, out = 0, 0  # of the input and of the output
    taken = sum(not (new_axis | ellipsis) >> i & 1 for i in range(len(steps)))
    for i, step in enumerate(steps):
        if ellipsis >> i & 1:
            skipped = tensor.shape.rank - taken
            if axis <= place.axis < axis + skipped:
                return place._replace(axis=out + place.axis - axis)
            axis, out = axis + skipped, out + skipped
        elif new_axis >> i & 1:
            out += 1
        elif axis == place.axis:
            begin = Size(0) if begin_mask >> i & 1 else begins[i]
            if shrink >> i & 1 or step != 1:
                return MIX
            kept = _whole(rows, op, begin, ends[i], end_mask >> i & 1)
            return kept._replace(axis=out) if isinstance(kept, Place) else kept
        else:
            axis, out = axis + 1, out + (not shrink >> i & 1)
    return place._replace(axis=out + place.axis - axis)


def _whole(rows, op, begin, end, to_the_end):
    """The place of what is sliced from `begin` to `end` along its rows."""
    tensor, place = op.inputs[0], rows.place(op.inputs[0])
    whole = to_the_end or (end is not None and end == rows.size(tensor, place.axis))
    if begin is None or (whole and begin == Size(0)):
        return LOST if begin is None else place
    size = tensor.shape.as_list()[place.axis]
    known = end is not None and not begin.unknown and not end.unknown
    if known and size is not None and begin.number == 0 and end.number >= size:
        return baked(rows, op, place)  # whole, but of this number of rows
    return MIX if to_the_end or known else LOST


def gathered_place(rows, op, at):
    (params, indices, axis), (table, chosen) = op.inputs, at[:2]
    axis, batch_dims = rows.ints(axis), op.get_attr("batch_dims")
    if axis is None or params.shape.rank is None or indices.shape.rank is None or COUNT in at:
        return LOST
    axis, batch_dims = axis[0] % params.shape.rank, batch_dims + (batch_dims < 0) * indices.shape.rank
    places = []
    if table is not None:
        if table.axis == axis:
            # Constant rows stand in for others; a lookup (of unique ids, say) has rows of its own.
            return MIX if rows.static(indices) is not None else LOST
        shift = indices.shape.rank - batch_dims - 1 if table.axis > axis else 0
        places.append(table._replace(axis=table.axis + shift))
        if table.axis < batch_dims and chosen is None:
            return LOST
    if chosen is not None:
        shift = axis - batch_dims if chosen.axis >= batch_dims else 0
        places.append(chosen._replace(axis=chosen.axis + shift))
        if chosen.axis < batch_dims and table is None:
            return LOST
    return meet(places)


def gather_nd(rows, op, at):
    """`gather_nd(scores, [[0, i], [1, j], ...])`, or indices into what all rows share."""
    indices, (table, chosen) = op.inputs[1], at
    if table is None and isinstance(chosen, Place) and indices.shape.rank:
        return LOST if chosen.axis == indices.shape.rank - 1 else chosen
    if not isinstance(table, Place):
        return LOST
    if chosen is None:
        return MIX if rows.static(indices) is not None else LOST
    op = indices.op
    columns = op.inputs if op.type == "Pack" else list(op.inputs)[:-1] if op.type == "ConcatV2" else []
    numbered = columns and table.axis == 0 and rows.is_row_number(columns[0])
    others = all(rows.place(t) in (None, Place(0)) for t in columns[1:])
    return baked(rows, op, Place(0)) if numbered and others and indices.shape.rank == 2 else LOST


def one_hot_place(rows, op, at):
    if at[0] is None or any(at[1:]):
        return LOST
    axis = op.get_attr("axis")
    return at[0]._replace(axis=at[0].axis + (0 <= axis <= at[0].axis))


def made_place(rows, op, at):
    """What is made of a shape (or broadcast to one) has rows where the shape has them."""
    if op.type == "Range" or op.type.startswith("TensorList"):
        return None if op.type.startswith("TensorList") and at[-1] is None else LOST
    slot = MAKERS.get(op.type, 0)
    sizes = rows.sizes(op.inputs[slot])
    if sizes is None or any(size is None for size in sizes) or any(p for i, p in enumerate(at) if i != slot):
        return LOST
    if op.type == "Tile":
        dims = op.inputs[0].shape
        sizes = (
            [product_of([n, rows.size(op.inputs[0], i)]) for i, n in enumerate(sizes)]
            if dims.rank
            else [None]
        )
    found = [i for i, size in enumerate(sizes) if has_rows(size)]
    if len(found) != 1:
        return LOST if found or None in sizes else None
    return Place(found[0], ONE, quotient_of(sizes[found[0]], ROWS))


def tiled_place(rows, op, at):
    counts = rows.sizes(op.inputs[1])
    kept = isinstance(at[0], Place) and counts is not None and counts[at[0].axis] == ONE
    return at[0] if kept and op.type == "Tile" else LOST


def stretched_place(rows, op, at):
    sizes, (before, after) = rows.sizes(op.inputs[1]), (op.inputs[0].shape, op.outputs[0].shape)
    if not isinstance(at[0], Place) or sizes is None or before.rank is None or after.rank is None:
        return LOST
    place = at[0]._replace(axis=at[0].axis + after.rank - before.rank)
    return place if has_rows(sizes[place.axis]) else LOST
