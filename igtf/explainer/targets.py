"""Targets: which outputs are explained, as arrays and as weights in the graph."""

import numbers

import numpy as np
import tensorflow as tf

from igtf.explainer.arrays import as_arrays, check_real, describe, expected, listed, row_numbers
from igtf.replacement import graph_replace
from igtf.traversal import ops_between

__all__ = [
    "SCORES",
    "are_classes",
    "arrays_of",
    "as_targets",
    "by_output",
    "check_classes",
    "logits_of",
    "weigh",
    "weighed_after",
]


def as_targets(targets, rows, start=0):
    """Targets with arrays of the right length, texts, ints and None as leaves."""
    if targets is None or isinstance(targets, numbers.Integral) and not isinstance(targets, bool):
        return targets
    if isinstance(targets, str):
        if targets not in ("predicted", "all"):
            raise ValueError(
                f"Explainer: targets is {targets!r}, {expected(targets, ['predicted', 'all'])}, class "
                "numbers or weights."
            )
        return targets
    if isinstance(targets, dict):
        return {name: as_targets(target, rows, start) for name, target in targets.items()}
    if isinstance(targets, (list, tuple)) and any(
        t is None or isinstance(t, str) or isinstance(t, dict) for t in targets
    ):
        return [as_targets(target, rows, start) for target in targets]
    targets = as_arrays("targets", targets)
    if tf.nest.is_nested(targets):
        if not (isinstance(targets, list) and _are_rows(targets, rows)):
            return tf.nest.map_structure(lambda t: as_targets(t, rows, start), targets)
        targets = np.stack(targets)
    if targets.ndim == 0 and np.issubdtype(targets.dtype, np.integer):
        return int(targets)
    if targets.ndim == 0 or (rows is not None and len(targets) != rows):
        where = f" from row {start} on" if start else ""
        raise ValueError(
            f"Explainer: targets has shape {targets.shape}, expected {rows} rows, one for each row of the "
            f"inputs{where}. Pass one int for all, or one target per row."
        )
    return targets


def _are_rows(targets, rows):
    """Whether a list is one array, row by row, and not one array for each output."""
    first = targets[0]
    if tf.nest.is_nested(first) or first.ndim > 1 or len(targets) != rows:
        return False
    # As many rows as entries: floats are taken for weights, ints for class numbers.
    outputs = first.ndim and len(first) == rows and not np.issubdtype(first.dtype, np.floating)
    return not outputs and len({(np.shape(t), t.dtype) for t in targets}) == 1


def are_classes(targets):
    """Ints `[N]`, or `[N, 1]` as Keras' labels often are."""
    integer = tf.as_dtype(targets.dtype).is_integer
    return integer and (len(targets.shape) == 1 or (len(targets.shape) == 2 and targets.shape[1] == 1))


def check_classes(targets, classes, start):
    """Class numbers must be there; `classes` holds how many there are."""
    if isinstance(targets, (list, tuple)):
        targets = dict(zip(classes, targets))
    if not isinstance(targets, dict):
        targets = dict.fromkeys(classes, targets)
    for name, target in targets.items():
        count = classes.get(str(name))
        if target is None or isinstance(target, str) or count is None:
            continue
        if np.ndim(target) and not are_classes(target):
            continue
        numbers_ = np.atleast_1d(target).reshape(-1)
        wrong = np.flatnonzero((numbers_ < 0) | (numbers_ >= count))
        if len(wrong):
            label = f"targets[{name!r}]" if len(classes) > 1 else "targets"
            where = f" in {row_numbers(wrong + start)}" if np.ndim(target) else ""
            hint = (
                "For its only output, leave targets out; weights are floats."
                if count == 1
                else "One-hot rows and weights have one column per output."
            )
            raise ValueError(
                f"Explainer: {label} is {numbers_[wrong[0]]}{where}, expected class numbers from 0 to "
                f"{count - 1}: the model has {count} output{'s' * (count > 1)}. {hint}"
            )


def arrays_of(targets, rows):
    """The arrays to feed for targets, in their order."""
    arrays = [t for t in tf.nest.flatten(targets) if t is not None and not isinstance(t, str)]
    return [np.full(rows, t, np.int32) if np.ndim(t) == 0 else t for t in arrays]


def by_output(outputs, targets):
    """`{name: (output, its target)}` of those of the named `outputs` that are explained."""
    if isinstance(targets, (list, tuple)):
        if len(targets) != len(outputs):
            raise ValueError(
                f"Explainer: targets is {describe(targets)}, expected one for each of the outputs "
                f"{listed(outputs)}. For class numbers of one output, pass an array, one per row."
            )
        targets = dict(zip(outputs, targets))
    if not isinstance(targets, dict):
        if len(outputs) > 1:
            raise ValueError(
                f"Explainer: targets is {describe(targets)} and the model has {len(outputs)} outputs, "
                f"expected a dict with some of {listed(outputs)}. Pass targets={{"
                f"{next(iter(outputs))!r}: ...}}."
            )
        targets = dict.fromkeys(outputs, targets)
    elif not targets:
        raise ValueError(
            f"Explainer: targets is an empty dict, expected some of the outputs {listed(outputs)}."
        )
    named = {str(name): y for name, y in outputs.items()}
    for name in targets:
        if str(name) not in named:
            raise ValueError(
                f"Explainer: targets has the key {name!r}, {expected(str(name), named)}: the model's outputs."
            )
    return {name: (named[str(name)], target) for name, target in targets.items()}


def weigh(label, y, target):
    """The output as `[B]`, `[B, C]` or wider, and the weights of its entries or None."""
    if y.shape.rank is None:
        raise ValueError(
            "Explainer: the model's output has an unknown rank, expected [B, C]. Set it with "
            "set_shape where the model returns it."
        )
    if y.shape.rank == 0:
        raise ValueError(
            "Explainer: the model returns a scalar, expected one entry per row: [B] or [B, C]. Explain "
            "the scores of every row and not their loss or mean."
        )
    single = y.shape[1:].num_elements() == 1
    if isinstance(target, str) and target == "all":
        if y.shape.rank > 2:
            raise ValueError(
                f"Explainer: {label} is 'all' and the output has shape {y.shape}, expected [B, C]. Pass "
                "weights of that shape, or an operator that picks [B]."
            )
        return (y[:, None] if y.shape.rank == 1 else y), None
    if target is None or isinstance(target, str):
        if single:
            return y, None
        if y.shape.rank != 2:
            raise ValueError(
                f"Explainer: {label} is {target!r} and the output has shape {y.shape}, expected targets "
                "that say what to explain of it. Pass weights of that shape, or an operator that "
                "returns [B]."
            )
        return y, tf.one_hot(tf.argmax(y, axis=1), _columns(y), dtype=y.dtype)
    if are_classes(target):
        if single:
            return y, None  # the only class there is; its number is checked
        if y.shape.rank > 2:
            raise ValueError(
                f"Explainer: {label} are class numbers and the output has shape {y.shape}, expected "
                "[B, C]. Pass weights of that shape, or an operator that returns [B]."
            )
        return y, tf.one_hot(tf.reshape(target, [-1]), _columns(y), dtype=y.dtype)
    if single and target.shape.rank == 1:
        target = tf.reshape(target, tf.shape(y))
    if not target.shape[1:].is_compatible_with(y.shape[1:]) or target.shape.rank != y.shape.rank:
        raise ValueError(
            f"Explainer: {label} has shape {target.shape} and dtype {target.dtype.name}, expected class "
            f"numbers (ints, [N]) or weights of the output's shape {y.shape}. Convert class numbers with "
            "targets.astype(int); weights have an entry for each entry of the output."
        )
    check_real(label, target.dtype, y.dtype)
    return y, tf.cast(target, y.dtype)


def _columns(y):
    return tf.shape(y)[1] if y.shape[1] is None else y.shape[1]


SCORES = ("Softmax", "LogSoftmax", "Sigmoid")
# Ops that only arrange their floating inputs.
ARRANGING = frozenset(
    "Cast CheckNumerics ConcatV2 EnsureShape ExpandDims Identity IdentityN Pack PreventGradient Reshape "
    "Slice Snapshot Split SplitV Squeeze StridedSlice Transpose Unpack".split()
)
WEIGHING = ("MatMul", "BatchMatMul", "Einsum", "Conv", "Depthwise", "While", "StatelessWhile")


def logits_of(y):
    """What the softmaxes or sigmoids of `y` read, arranged as `y` is; or None and the op that makes `y`."""
    scores, seen, stack = {}, set(), [y]
    while stack:
        tensor = stack.pop()
        op = tensor.op
        if op.type in SCORES:
            scores[tensor.ref()] = op.inputs[0]
        elif op.type == "IdentityN":
            stack.append(op.inputs[tensor.value_index])
        elif op.type in ARRANGING and op not in seen:
            seen.add(op)
            stack.extend(t for t in op.inputs if t.dtype.is_floating)
        elif op not in seen:
            return None, op
    return graph_replace(y, [ref.deref() for ref in scores], list(scores.values())), None


def weighed_after(y, ends):
    """The first op with weights between a hidden tensor and the outputs, or None."""
    between = ops_between(ends, [y])
    return next((op for op in between if op.type.startswith(WEIGHING)), None)
