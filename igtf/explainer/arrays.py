"""Structures of arrays: read, cut, joined, checked, and named in messages."""

import difflib

import numpy as np
import tensorflow as tf

__all__ = [
    "as_arrays",
    "cast",
    "check_nan",
    "check_real",
    "describe",
    "expected",
    "join",
    "listed",
    "members",
    "named_leaves",
    "row_numbers",
    "slice_rows",
]


def as_arrays(name, value):
    """The structure with its leaves as arrays; nested lists of numbers are one array."""
    if isinstance(value, dict):
        return {key: as_arrays(f"{name}[{key!r}]", part) for key, part in value.items()}
    if isinstance(value, (list, tuple)) and any(_is_array(v) or isinstance(v, dict) for v in value):
        parts = (as_arrays(f"{name}[{i}]", part) for i, part in enumerate(value))
        return getattr(type(value), "_make", type(value))(parts)
    try:
        # As TensorFlow reads lists: float32 and int32.
        array = tf.convert_to_tensor(value).numpy() if isinstance(value, (list, tuple)) else np.asarray(value)
        tf.as_dtype(array.dtype)
        said = ""
        if array.dtype != object or not array.size or isinstance(array.flat[0], (str, bytes)):
            return array
    except (TypeError, ValueError, NotImplementedError) as error:
        said = f" It said: {error}"
    what = "None" if value is None else f"a {type(value).__name__}"
    raise TypeError(
        f"Explainer: {name} is {what}, expected an array or a dense tensor of numbers, [N, ...]. "
        f"{_densely(name, value)}{said}"
    )


def _is_array(value):
    return tf.is_tensor(value) or (hasattr(value, "shape") and np.ndim(value) > 0)


def _densely(name, value):
    """How to make an array of what is none."""
    if value is None:
        return (
            "Pass the rows to explain. For a model that can do without this input, pass a function of "
            "the others."
        )
    if isinstance(value, tf.RaggedTensor):
        return f"Pass {name}.to_tensor(), which fills rows up with zeros."
    if isinstance(value, tf.SparseTensor):
        return f"Pass tf.sparse.to_dense({name})."
    if hasattr(value, "toarray"):
        return f"Pass {name}.toarray()."
    if hasattr(value, "columns"):
        return f"Convert its columns to numbers: {name}.astype('float32')."
    if isinstance(value, (list, tuple, np.ndarray)):
        return (
            "Rows of different lengths are filled up with zeros by tf.keras.utils.pad_sequences(rows, "
            "dtype='float32', padding='post')."
        )
    return "Pass what np.asarray makes an array of numbers of."


def slice_rows(array, start, stop, size):
    """Rows `start` to `stop`, the last one repeated up to `size` rows."""
    part = array[start:stop]
    missing = size - (stop - start)
    return np.concatenate([part, np.repeat(part[-1:], missing, 0)]) if missing else part


def cast(array, dtype):
    return array if dtype == tf.string else array.astype(dtype.as_numpy_dtype, copy=False)


def check_real(name, given, wanted):
    """A cast would lose the imaginary part without a word."""
    if given.is_complex and not wanted.is_complex:
        raise TypeError(
            f"Explainer: {name} has dtype {given.name}, expected {wanted.name}: the imaginary part would be "
            "lost. Pass its real part, np.real(...), or let the model put two real inputs together with "
            "tf.complex."
        )


def check_nan(inputs, start=0):
    for name, x in named_leaves("inputs", inputs):
        dtype = tf.as_dtype(x.dtype)
        if not (dtype.is_floating or dtype.is_complex):
            continue
        # Some rows at a time: a mask of everything would double the memory.
        found = []
        for begin in range(0, len(x), 1024):
            part = np.isnan(x[begin : begin + 1024])
            if part.any():
                found.extend(begin + start + np.flatnonzero(part.reshape(len(part), -1).any(1)))
        if found:
            raise ValueError(
                f"Explainer: {name} holds NaN in {row_numbers(found)}, expected numbers: every attribution "
                "of such a row is NaN. Leave those rows out or fill them, or pass allow_nan=True."
            )


def join(parts):
    """What batches have, one after the other; the list of it where lengths differ."""
    if not parts:
        return None
    flat = [tf.nest.flatten(part) for part in parts]
    if any(len({None if a is None else a.shape[1:] for a in column}) > 1 for column in zip(*flat)):
        return parts
    return tf.nest.map_structure(
        lambda *arrays: None if arrays[0] is None else np.concatenate(arrays), *parts
    )


def named_leaves(name, structure):
    """Pairs of a name such as inputs['left'] and a leaf, in the order of tf.nest."""
    if isinstance(structure, dict):
        members = [(f"{name}[{key!r}]", structure[key]) for key in sorted(structure)]
    elif isinstance(structure, (list, tuple)):
        members = [(f"{name}[{i}]", part) for i, part in enumerate(structure)]
    else:
        return [(name, structure)]
    return [pair for member in members for pair in named_leaves(*member)]


def members(structure):
    if isinstance(structure, dict):
        return list(structure.values())
    return list(structure) if isinstance(structure, (list, tuple)) else [structure]


def row_numbers(which):
    """Row numbers as text."""
    which = [int(row) for row in which]
    if len(which) == 1:
        return f"row {which[0]}"
    if which == list(range(which[0], which[-1] + 1)):
        return f"rows {which[0]} to {which[-1]}"
    shown = ", ".join(map(str, which[:10]))
    return f"rows {shown}" + (f" and {len(which) - 10} more" if len(which) > 10 else "")


def listed(names):
    return ", ".join(repr(name) for name in names)


def expected(given, known):
    """ "expected ..." with near names first, all of them where they are few."""
    known = [str(name) for name in known]
    near = difflib.get_close_matches(str(given), known, n=3, cutoff=0.5)
    if near:
        return f"expected one of {len(known)} names, such as the near {listed(near)}"
    return f"expected {listed(known[:20])}" + (", ..." if len(known) > 20 else "")


def describe(structure):
    if hasattr(structure, "shape") and hasattr(structure, "dtype"):
        kind = "tensor" if tf.is_tensor(structure) else type(structure).__name__
        return f"{kind} {structure.shape}"
    if isinstance(structure, (dict, list, tuple)):
        members = ", ".join(
            f"{key!r}: {describe(part)}" if isinstance(structure, dict) else describe(part)
            for key, part in (structure.items() if isinstance(structure, dict) else enumerate(structure))
        )
        return ("{%s}" if isinstance(structure, dict) else "[%s]") % members
    return repr(structure) if structure is None or isinstance(structure, str) else type(structure).__name__
