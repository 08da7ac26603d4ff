"""Arrays and data sets as batches of rows, and the baselines that go with them."""

import collections
import contextlib

import numpy as np
import tensorflow as tf

from igtf.explainer.arrays import as_arrays, cast, check_real, describe, expected, named_leaves, row_numbers
from igtf.explainer.targets import as_targets
from integrated_gradients_tf import pair_up

__all__ = ["Arrays", "DataSet", "named_baselines", "naming_rows", "stack_baselines"]


_Batch = collections.namedtuple("_Batch", "start rows inputs targets baselines")


class Arrays:
    """Batches of arrays: slices of `batch_size` rows, with their targets and baselines.

    Attributes, as those of `DataSet`:
      specs: TensorSpecs `[None, ...]` in the structure of the inputs.
      targets: of all rows; None where the data set knows them.
      count: number of batches, or None.
      streamed: whether rows are seen only when their batch comes.
    """

    streamed = False

    def __init__(self, setup, inputs, targets, baselines):
        self.inputs = as_arrays("inputs", inputs)
        leaves = named_leaves("inputs", self.inputs)
        if not leaves:
            raise ValueError(f"Explainer: inputs is {inputs!r}, expected at least one array [N, ...].")
        for name, x in leaves:
            if x.ndim == 0 and x.dtype.kind in "OSU":
                raise TypeError(
                    f"Explainer: {name} is the text {x.item()!r}, expected an array or tensor of rows, "
                    "[N, ...], or a data set. For a model that takes texts, pass an array of them: "
                    f"np.array([{x.item()!r}])."
                )
            if x.ndim == 0:
                raise ValueError(
                    f"Explainer: {name} is a scalar, expected rows: [N, ...]. For one row, add an axis: "
                    "x[None]."
                )
        counts = {name: len(x) for name, x in leaves}
        self._rows = len(leaves[0][1])
        if len(set(counts.values())) > 1:
            counts = ", ".join(f"{n} ({name})" for name, n in counts.items())
            raise ValueError(
                f"Explainer: the inputs have {counts} rows, expected the same number. Rows of several "
                "inputs belong together one by one."
            )
        if not self._rows:
            raise ValueError(
                "Explainer: the inputs have no rows, expected at least one. Look at what filters them."
            )
        self.specs = _specs_of(setup.network, self.inputs)
        self.targets = as_targets(targets, self._rows)
        _check_rows(self.inputs, setup, "expected rows of it: [N, ...]. Add an axis: x[None].")
        self._starts = baselines
        if not callable(baselines):
            baselines = named_baselines(baselines, self.specs, lambda: [self.inputs])
            self._starts = stack_baselines(baselines, self.specs, self._rows, setup.method.draws)
        self._draws = setup.method.draws
        self._size = setup.batch_size
        self.count = -(-self._rows // self._size)

    def __iter__(self):
        starts = range(0, self._rows, self._size)
        return (self._batch(start, min(start + self._size, self._rows)) for start in starts)

    def _batch(self, start, stop):
        baselines = self._starts
        if isinstance(baselines, list) and not self._draws:
            baselines = [[s if len(s) == 1 else s[start:stop] for s in flat] for flat in baselines]
        inputs = tf.nest.map_structure(lambda x: x[start:stop], self.inputs)
        targets = tf.nest.map_structure(lambda t: t[start:stop] if np.ndim(t) else t, self.targets)
        return _Batch(start, stop - start, inputs, targets, baselines)


class DataSet:
    """Batches of a `tf.data.Dataset`, as it brings them, with the targets that are in it."""

    streamed = True

    def __init__(self, setup, dataset, targets, baselines):
        self._dataset = dataset
        spec = dataset.element_spec
        self._pairs = isinstance(spec, tuple) and len(spec) in (2, 3)
        self._alone = isinstance(spec, tuple) and len(spec) == 1
        inputs = self._inputs_of(spec)
        self._check(inputs, setup)
        self.specs = _specs_of(setup.network, inputs)
        self._given = self.targets = None
        if targets is not None:
            if any(np.ndim(t) or tf.is_tensor(t) for t in tf.nest.flatten(targets)):
                raise ValueError(
                    "Explainer: targets is an array beside a data set, expected them in it. Zip them: "
                    "tf.data.Dataset.zip((inputs, targets)), batched alike."
                )
            self._given = self.targets = as_targets(targets, None)
        count = int(dataset.cardinality())
        self._starts = baselines
        if not callable(baselines):
            baselines = named_baselines(baselines, self.specs, self._all_inputs)
            self._starts = stack_baselines(baselines, self.specs, None, setup.method.draws)
        self.count = count if count >= 0 else None

    def _check(self, inputs, setup):
        for name, spec in named_leaves("inputs", inputs):
            if not isinstance(spec, tf.TensorSpec):
                densely = (
                    "tf.sparse.to_dense(x)" if isinstance(spec, tf.SparseTensorSpec) else "x.to_tensor()"
                )
                raise TypeError(
                    f"Explainer: {name} is {spec} in the data set, expected dense tensors. Convert it with "
                    f"dataset.map, as in {densely}."
                )
            if spec.shape.rank == 0:
                raise ValueError(
                    f"Explainer: {name} has shape {spec.shape} in the data set, expected batches: [B, ...]. "
                    f"Pass dataset.batch({setup.batch_size})."
                )
        advice = f"in the data set, expected batches of it. Pass dataset.batch({setup.batch_size})."
        _check_rows(inputs, setup, advice)

    def _all_inputs(self):
        if self._dataset.cardinality() == tf.data.INFINITE_CARDINALITY:
            raise ValueError(
                "Explainer: baselines are named and inputs is a data set without an end, expected one that "
                "can be read twice. Pass an array or a function of the batch as baselines."
            )
        return (
            tf.nest.map_structure(lambda x: x.numpy(), self._inputs_of(element)) for element in self._dataset
        )

    def _inputs_of(self, element):
        return element[0] if self._pairs or self._alone else element

    def __iter__(self):
        start = 0
        for element in self._dataset:
            inputs = self._inputs_of(element)
            targets = element[1] if self._pairs else None
            if self._given is not None:
                targets = self._given
            inputs = tf.nest.map_structure(lambda x: x.numpy(), inputs)
            targets = tf.nest.map_structure(lambda t: t.numpy() if tf.is_tensor(t) else t, targets)
            rows = len(tf.nest.flatten(inputs)[0])
            targets = as_targets(targets, rows, start)
            if rows:
                yield _Batch(start, rows, inputs, targets, self._starts)
            start += rows


def _check_rows(inputs, setup, advice):
    """One row alone has one axis less than the model wants."""
    for (name, x), wanted in zip(named_leaves("inputs", inputs), setup.network.declared(inputs)):
        shape = tf.TensorShape(x.shape)
        if wanted is None or not wanted.shape.rank or shape.rank != wanted.shape.rank - 1:
            continue
        # (Keras adds a last axis of size 1 by itself.)
        widened = shape.concatenate(1).is_compatible_with(wanted.shape)
        if shape.is_compatible_with(wanted.shape[1:]) and not widened:
            raise ValueError(
                f"Explainer: {name} has shape {shape}, that of a single row of {wanted.shape}, {advice}"
            )


def _specs_of(network, inputs):
    """TensorSpecs of any number of rows, of the dtypes that the model declares."""
    flat = []
    for (name, x), declared in zip(named_leaves("inputs", inputs), network.declared(inputs)):
        dtype = tf.as_dtype(x.dtype)
        if declared is not None and dtype != tf.string:
            check_real(name, dtype, declared.dtype)
            dtype = declared.dtype
        flat.append(tf.TensorSpec([None, *x.shape[1:]], dtype))
    return tf.nest.pack_sequence_as(inputs, flat)


@contextlib.contextmanager
def naming_rows(what, done, rows=None, runs=None, batch=None):
    """Says in which rows something failed, what is done and what to do."""
    try:
        yield
    except (KeyboardInterrupt, Exception) as error:
        where = f"rows from {done} on" if rows is None else row_numbers(range(done, done + rows))
        before = f"{row_numbers(range(done))} done before and not lost" if done else "nothing was done before"
        if isinstance(error, KeyboardInterrupt):
            raise KeyboardInterrupt(f"Explainer: interrupted in {where}; {before}.") from error
        if isinstance(error, (MemoryError, tf.errors.ResourceExhaustedError)):
            hint = "Memory ran out: lower batch_size."
        elif runs is None:
            hint = f"Look at {what}."
        elif runs(batch):
            hint = (
                "The model itself runs on these rows: look whether it takes their baselines and what lies in "
                "between, too; if so, please report it with the model."
            )
        else:
            hint = "The model itself fails on them: leave these rows out, or mend what it says."
        raise RuntimeError(
            f"Explainer: {what} failed {'at' if rows is None else 'in'} {where}, expected a batch that runs; "
            f"{before}. {hint} It said: {type(error).__name__}: {error}"
        ) from error


# Baselines by name: over the rows of the inputs.
BASELINES = ("zeros", "mean", "min", "max")


def named_baselines(baselines, specs, inputs):
    """Baselines with arrays in the place of names; `inputs()` are all of the batches that they are of."""
    texts = [value for value in tf.nest.flatten(baselines) if isinstance(value, str)]
    unknown = [text for text in texts if text not in BASELINES]
    if unknown:
        raise ValueError(
            f"Explainer: baselines is {unknown[0]!r}, {expected(unknown[0], BASELINES)}, numbers, arrays or "
            "a function of the batch."
        )
    if not texts:
        return baselines
    values = _paired(baselines, specs)
    for i, ((name, spec), value) in enumerate(zip(named_leaves("inputs", specs), values)):
        if isinstance(value, str) and value != "zeros":
            values[i] = _statistic(value, name, spec, (tf.nest.flatten(batch)[i] for batch in inputs()))
        elif isinstance(value, str):
            values[i] = None
    return tf.nest.pack_sequence_as(specs, values)


def _statistic(which, name, spec, batches):
    """The mean, least or largest value of every feature, `[1, ...]`, without NaN; zero of texts."""
    if spec.dtype == tf.string:
        return None
    fold = {"mean": np.add, "min": np.fmin, "max": np.fmax}[which]
    total, count = None, 0
    for batch in batches:
        for begin in range(0, len(batch), 1024):
            part = np.asarray(batch[begin : begin + 1024], np.float64)
            if total is not None and part.shape[1:] != total.shape:
                raise ValueError(
                    f"Explainer: baselines is {which!r} and rows of {name} have shapes {total.shape} and "
                    f"{part.shape[1:]}, expected one shape. Pass a scalar, or a function of the batch."
                )
            if which == "mean":
                known = ~np.isnan(part)
                part, count = np.where(known, part, 0), count + known.sum(0)
            part = fold.reduce(part, 0)
            total = part if total is None else fold(total, part)
    if total is None:
        return None
    return (total / np.maximum(count, 1) if which == "mean" else total)[None]


def stack_baselines(baselines, specs, rows, draws):
    """Baselines as a list (one entry for each to average over) of flat lists of arrays `[1 or N, ...]`."""
    if baselines is None:
        return None
    stacks = []
    for (name, spec), value in zip(named_leaves("inputs", specs), _paired(baselines, specs)):
        array = as_arrays(f"the baseline of {name}", 0 if value is None else value)
        if tf.nest.is_nested(array):
            array = np.asarray(array) if len({part.shape for part in array}) == 1 else None
        if array is None:
            raise ValueError(
                f"Explainer: the baseline of {name} is {describe(value)}, expected an array that fits it. "
                "Stack rows of the same shape with np.stack."
            )
        rank = spec.shape.rank
        shape = array.shape
        if draws:
            if array.ndim != rank or not spec.shape.is_compatible_with([None, *shape[1:]]):
                raise ValueError(
                    f"Explainer: baselines have shape {shape}, expected a data set to draw from, [M, ...] "
                    f"like {name}, {spec.shape}."
                )
            stacks.append(_cast_start(f"the baseline of {name}", array, spec.dtype)[None])
            continue
        array = array.reshape([1] * max(rank + 1 - array.ndim, 0) + list(shape))
        fits = array.ndim == rank + 1 and array.shape[1] in (1, rows)
        fits = fits and all(
            size == 1 or wanted in (None, size) for size, wanted in zip(array.shape[2:], spec.shape[1:])
        )
        if not fits or not array.size:
            each = f"one for each of the {rows} rows, " if rows else ""
            raise ValueError(
                f"Explainer: baselines have shape {shape} for {name} of shape {spec.shape}, expected a "
                f"scalar, one row, {each}or a stack [K, 1, ...]. For a stack of rows, add an axis: "
                "baselines[:, None]; for baselines of a batch, pass a function of the batch."
            )
        stacks.append(_cast_start(f"the baseline of {name}", array, spec.dtype))
    count = max(len(stack) for stack in stacks)
    if any(len(stack) not in (1, count) for stack in stacks):
        raise ValueError(
            f"Explainer: the stacks of baselines have {[len(stack) for stack in stacks]} entries, expected "
            "the same number, or 1, for every input."
        )
    return [[stack[k if len(stack) > 1 else 0] for stack in stacks] for k in range(count)]


def _paired(baselines, specs):
    """One baseline for each of the flat inputs."""
    if not tf.nest.is_nested(baselines) and np.ndim(baselines) == 0:
        return [baselines] * len(tf.nest.flatten(specs))
    try:
        return [value for _, value in pair_up(specs, baselines)]
    except (ValueError, TypeError, KeyError):
        raise ValueError(
            f"Explainer: baselines is {describe(baselines)}, expected a scalar for all or the structure "
            f"of the inputs, {describe(specs)}. Give every input its own, None for zeros."
        ) from None


def _cast_start(name, array, dtype):
    """Baselines of integers keep their fractions: images are explained as floats."""
    if dtype == tf.string:
        return array if array.dtype.kind in "OSU" else np.full(array.shape, b"", object)
    check_real(name, tf.as_dtype(array.dtype), dtype)
    if not (dtype.is_floating or dtype.is_complex) and array.dtype.kind == "f":
        whole = array == np.round(array)
        return cast(array, dtype if whole.all() else tf.float32)
    return cast(array, dtype)
