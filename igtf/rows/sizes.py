"""Sizes as products of the number of rows, and the places of rows: the words of this package."""

import math
from typing import NamedTuple


class Size(NamedTuple):
    """A dimension: a number times unknown dimensions."""

    number: int
    unknown: tuple[str, ...] = ()


class Place(NamedTuple):
    """Where a tensor has its rows: on an axis of size `outer * rows * inner`."""

    axis: int
    outer: Size = Size(1)
    inner: Size = Size(1)


ONE, ROWS = Size(1), Size(1, ("rows",))
COUNT = "count"  # the same for all rows, but depends on how many there are
LOST = "lost"  # cannot be followed
MIX = "mix"  # the op works across the rows: no place at all


def product_of(sizes):
    sizes = list(sizes)
    if any(size is None for size in sizes):
        return None
    unknown = sorted(name for size in sizes for name in size.unknown)
    return Size(math.prod(size.number for size in sizes), tuple(unknown))


def quotient_of(size, divisor):
    """The whole quotient of two sizes; None if there is none for sure."""
    if size is None or divisor is None or divisor.number <= 0 or size.number % divisor.number:
        return None
    unknown = list(size.unknown)
    for name in divisor.unknown:
        if name not in unknown:
            return None
        unknown.remove(name)
    return Size(size.number // divisor.number, tuple(unknown))


def has_rows(size):
    return size is not None and "rows" in size.unknown


def steps_outside(place):
    """Whether steps that are stacked on the rows are outermost on their axis."""
    return isinstance(place, Place) and place.outer == ONE


def meet(places):
    """The one place of tensors whose axes are matched."""
    first, *others = places
    if any(place.axis != first.axis for place in others):
        return MIX
    return LOST if any(place.outer != first.outer for place in others) else first


def not_shared(size):
    """Whether a size may depend on how many rows there are."""
    return size is None or has_rows(size)


def _picked_sizes(rows, op):
    """`shape[i]`, `shape[1:]` and their like."""
    sizes, parts = rows.sizes(op.inputs[0]), [rows.ints(t) for t in op.inputs[1:]]
    if sizes is None or None in parts or any(len(part) != 1 for part in parts):
        return None
    (begin,), (end,), (step,) = parts
    if op.get_attr("shrink_axis_mask"):
        return [sizes[begin]]
    if op.get_attr("new_axis_mask") or op.get_attr("ellipsis_mask"):
        return None
    begin, end = None if op.get_attr("begin_mask") else begin, None if op.get_attr("end_mask") else end
    return sizes[begin:end:step]


def _cut_sizes(rows, op):
    sizes, begin, count = rows.sizes(op.inputs[0]), rows.ints(op.inputs[1]), rows.ints(op.inputs[2])
    if None in (sizes, begin, count):
        return None
    return sizes[begin[0] :] if count[0] == -1 else sizes[begin[0] : begin[0] + count[0]]


def _gathered_sizes(rows, op):
    sizes, at = rows.sizes(op.inputs[0]), rows.ints(op.inputs[1])
    return None if sizes is None or at is None else [sizes[i] for i in at]


def _joined_sizes(rows, op):
    parts = [rows.sizes(t) for t in op.inputs]
    parts = parts[: -1 if op.type == "ConcatV2" else None]
    for t, part in zip(op.inputs, parts):
        if part is None and t.shape.num_elements() is None:
            return None
    return sum((part or [None] * t.shape.num_elements() for t, part in zip(op.inputs, parts)), [])


def _combined_sizes(combine):
    def rule(rows, op):
        a, b = (rows.sizes(t) for t in op.inputs)
        if a is None or b is None or len(a) != len(b) and 1 not in (len(a), len(b)):
            return None
        count = max(len(a), len(b))
        found = [combine(*pair) for pair in zip(a * (count // len(a)), b * (count // len(b)))]
        if None not in found:
            return found
        # An unknown number, but the same for all rows if what it is made of is.
        mixed = any(map(not_shared, a + b))
        return None if mixed else [Size(1, (f"{op.name} of {i}",)) for i in range(count)]

    return rule


SIZE_RULES = {
    "StridedSlice": _picked_sizes,
    "GatherV2": _gathered_sizes,
    "Slice": _cut_sizes,
    **dict.fromkeys(("Pack", "ConcatV2"), _joined_sizes),
    **dict.fromkeys(
        ("Cast", "Identity", "Reshape", "ExpandDims", "Squeeze"), lambda rows, op: rows.sizes(op.inputs[0])
    ),
    "Prod": lambda rows, op: [product_of(rows.sizes(op.inputs[0]) or [None])],
    "Mul": _combined_sizes(lambda a, b: product_of([a, b])),
    **dict.fromkeys(("FloorDiv", "TruncateDiv"), _combined_sizes(quotient_of)),
    **dict.fromkeys(
        ("Add", "AddV2", "Sub", "Maximum", "Minimum", "FloorMod"), _combined_sizes(lambda a, b: None)
    ),
}
