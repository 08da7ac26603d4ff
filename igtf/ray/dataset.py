"""Columns in, columns out: what an Explainer makes of the batches of a Ray data set.

Reading and writing, back-pressure, retries, progress and clusters are Ray's.
"""

import contextlib
import math
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf

from igtf.arguments import is_int
from igtf.explainer import Explainer
from igtf.explainer.arrays import expected, listed

__all__ = ["Rows", "explain_dataset", "imported", "load_explainer"]

# What is added to the columns that are kept; `attributions_<input>` of several inputs.
COLUMNS = ("attributions", "prediction", "target", "delta", "error", "failure")


def explain_dataset(
    dataset: Any,
    make_explainer: Callable[[], Explainer],
    inputs: Any = None,
    targets: Any = None,
    baselines: Any = None,
    batch_size: int = 256,
    concurrency: int | tuple[int, int] = 1,
    num_cpus: float | None = None,
    num_gpus: float = 0,
    keep: Sequence[str] | None = None,
    row_id: str | None = None,
    on_error: str = "raise",
) -> Any:
    """Explains the rows of a Ray data set, on as many workers of a cluster as are asked for.

    Each worker is an actor that makes one explainer, traces it once, and explains one batch after the
    other. A worker that dies is started again and its batches are given out anew: no row is lost, none comes
    twice. Rows come back in any order; a column that tells them apart should be among those that are kept.

    Args:
      dataset: a `ray.data.Dataset`, such as `ray.data.read_parquet(...)` returns.
      make_explainer: a function without arguments that returns an `igtf.Explainer`; it is called once in each
        worker, which loads the model there. `functools.partial(load_explainer, "model.keras")`, for one.
      inputs: what of a row is explained: the name of a column of numbers or arrays; a list of columns of
        numbers, which are put side by side, `[B, F]`; for a model with several inputs a dict of these by the
        names of the inputs. `None`: the only column there is, beside `row_id` and those of `targets`.
      targets: as for `Explainer.explain`: `None`, `"predicted"`, `"all"` or an int; or the name of a column
        that holds class numbers or weights.
      baselines: as for `Explainer.explain`, but the same for all batches: no names such as `"mean"` (take
        the mean of the training data), no row for each row.
      batch_size: rows that a worker gets at once.
      concurrency: number of workers, or a pair: the fewest and the most.
      num_cpus, num_gpus: what Ray reserves for each worker. `None`: 1, or so much less that one CPU is left
        to read with, without which nothing would begin. TensorFlow takes as many threads, one at least.
      keep: names of the columns that are kept beside the results. `None`: all of them.
      row_id: name of a column that names rows in messages.
      on_error: what happens to a batch that fails. `"raise"`: everything ends, with an error that names its
        rows. `"continue"`: its rows are explained one by one; those that fail get NaN (-1 as `target`) and
        what was wrong in the column `failure`, which is empty for the others.

    Returns:
      The `ray.data.Dataset` of the results, which runs when it is written or iterated over. Its columns are
      those that are kept, `attributions` (`attributions_<input>` of several inputs), `prediction` (the output
      that is explained), `target` (its number, where there is one), `delta` (where attributions should sum
      to the change of the output) and `error` (where the explainer has a `tolerance`).

    Raises:
      ImportError: Ray is not installed.
      TypeError, ValueError: wrong arguments; columns that are not there, or that results would replace.
      ray.exceptions.RayTaskError: in the run: a batch failed; the message says which rows and why.

    With Ray, `explain_dataset(ray.data.read_parquet("rows.parquet"), make, inputs="x").write_parquet("maps")`
    explains the column `x`. What a worker does, without it:

    >>> rows = Rows(lambda: Explainer(lambda x: 2 * x[:, 0]), Columns(row_id="id"))
    >>> found = rows({"id": np.array([7, 8]), "x": np.float32([[1, 5], [3, 5]])})
    >>> found["attributions"].round(3).tolist(), found["prediction"].tolist(), found["id"].tolist()
    ([[2.0, 0.0], [6.0, 0.0]], [2.0, 6.0], [7, 8])
    """
    data = imported().data
    if not isinstance(dataset, data.Dataset):
        raise TypeError(
            f"explain_dataset: dataset is a {type(dataset).__name__}, expected a ray.data.Dataset. Read one "
            "with ray.data.read_parquet, or make one of arrays with ray.data.from_numpy."
        )
    if not callable(make_explainer) or isinstance(make_explainer, Explainer):
        raise TypeError(
            f"explain_dataset: make_explainer is a {type(make_explainer).__name__}, expected a function "
            "without arguments that makes an Explainer in the worker. Pass "
            "functools.partial(load_explainer, path)."
        )
    low, high = concurrency if isinstance(concurrency, tuple) else (concurrency, concurrency)
    if not is_int(batch_size) or batch_size < 1:
        raise ValueError(
            f"explain_dataset: batch_size is {batch_size!r}, expected an int above 0, such as 256."
        )
    if not (is_int(low) and is_int(high) and 0 < low <= high):
        raise ValueError(
            f"explain_dataset: concurrency is {concurrency!r}, expected a number of workers, or "
            "the fewest and the most of them."
        )
    if num_cpus is None:
        num_cpus = _share(imported().cluster_resources().get("CPU", 1), high)
    columns = Columns(inputs, targets, baselines, keep, row_id, on_error)
    known = dataset.columns(fetch_if_missing=False)
    if known:
        columns.check(known)
    return dataset.map_batches(
        Rows,
        fn_constructor_args=(make_explainer, columns, max(1, int(num_cpus))),
        batch_size=batch_size,
        batch_format="numpy",
        compute=data.ActorPoolStrategy(min_size=low, max_size=high),
        num_cpus=num_cpus,
        num_gpus=num_gpus,
    )


def load_explainer(
    path: str | os.PathLike, method: str = "integrated_gradients", safe_mode: bool = True, **options: Any
) -> Explainer:
    """An explainer of the model in a file.

    Args:
      path: `.keras` or `.h5` of Keras, or the folder of a SavedModel, whose `serving_default` is explained.
      method, options: as for `igtf.Explainer`.
      safe_mode: whether Keras refuses files that bring code of their own, such as lambda layers.

    Returns:
      An `igtf.Explainer`.

    Raises:
      ValueError: another kind of file; code in the file, in safe mode; as `igtf.Explainer`.

    >>> folder = tempfile.mkdtemp()
    >>> tf.keras.Sequential([tf.keras.Input((3,)), tf.keras.layers.Dense(1)]).save(f"{folder}/model.keras")
    >>> load_explainer(f"{folder}/model.keras").explain(np.ones([5, 3]), progress=False).shape
    (5, 3)
    """
    path = Path(path)
    if path.suffix in (".keras", ".h5", ".hdf5") and path.is_file():
        model = tf.keras.models.load_model(path, compile=False, safe_mode=safe_mode)
    elif (path / "saved_model.pb").is_file():
        model = tf.saved_model.load(os.fspath(path)).signatures["serving_default"]
    else:
        raise ValueError(
            f"load_explainer: path is {os.fspath(path)!r}, expected a file .keras or .h5 that is there, or "
            "the folder of a SavedModel."
        )
    return Explainer(model, method, **options)


def imported():
    """Ray, with its data sets."""
    try:
        import ray
        import ray.data
    except ImportError as error:
        raise ImportError("igtf.ray needs Ray. Install it: pip install 'ray[data]'.") from error
    return ray


def _share(cpus, workers):
    """CPUs of each worker, of all that there are but one."""
    return 1.0 if workers < cpus else max(0.0, math.floor(1e4 * (cpus - 1) / workers) / 1e4)


class Columns:
    """What of a batch of columns goes into the explainer, what is kept, and what happens if it fails."""

    def __init__(self, inputs=None, targets=None, baselines=None, keep=None, row_id=None, on_error="raise"):
        if isinstance(baselines, str) and baselines != "zeros":
            raise ValueError(
                f"explain_dataset: baselines is {baselines!r}, expected numbers: each batch would have "
                f"another {baselines}. Compute it before, from the training data."
            )
        if on_error not in ("raise", "continue"):
            raise ValueError(
                f"explain_dataset: on_error is {on_error!r}, {expected(on_error, ['raise', 'continue'])}."
            )
        if isinstance(keep, str):
            raise TypeError(f"explain_dataset: keep is {keep!r}, expected a list of columns: [{keep!r}].")
        for name in tf.nest.flatten(inputs):
            if not isinstance(name, (str, type(None))):
                raise TypeError(
                    f"explain_dataset: inputs has a {type(name).__name__}, expected the name of a column, a "
                    "list of such, or a dict of these by the names of the model's inputs."
                )
        self.inputs, self.targets, self.baselines = inputs, targets, baselines
        self.keep, self.row_id, self.on_error = keep, row_id, on_error
        self._by_column = isinstance(targets, str) and targets not in ("predicted", "all")

    def check(self, names):
        """Refuses columns that are not there, and results in the place of columns."""
        wanted = [*tf.nest.flatten(self.inputs or []), *(self.keep or []), self.row_id]
        wanted += [self.targets] if self._by_column else []
        for name in wanted:
            if name is not None and name not in names:
                raise ValueError(
                    f"explain_dataset: {name!r} is no column, {expected(name, names)}: those of the data set."
                )
        if self.inputs is None:
            self._only(names)
        taken = [name for name in self.kept(names) if name in COLUMNS]
        if taken:
            raise ValueError(
                f"explain_dataset: the data set has a column {taken[0]!r}, expected none of the name of a "
                "result. Pass keep=[...] without it, or rename it with dataset.rename_columns."
            )

    def kept(self, names):
        return list(names) if self.keep is None else list(self.keep)

    def inputs_of(self, batch):
        """Arrays in the structure of the model's inputs."""
        inputs = self._only(batch) if self.inputs is None else self.inputs
        if isinstance(inputs, dict):
            return {name: _array(batch, column) for name, column in inputs.items()}
        return _array(batch, inputs)

    def targets_of(self, batch):
        return _array(batch, self.targets) if self._by_column else self.targets

    def named(self, batch):
        """The rows of a batch as text."""
        count = len(next(iter(batch.values())))
        if self.row_id is None:
            return f"a batch of {count} rows (row_id='column' would name them)"
        names = [str(name) for name in batch[self.row_id]]
        more = f" and {count - 10} more" if count > 10 else ""
        return f"the rows with {self.row_id} {', '.join(names[:10])}{more}"

    def _only(self, names):
        beside = [self.row_id, self.targets if self._by_column else None]
        there = [name for name in names if name not in beside]
        if len(there) != 1:
            raise ValueError(
                f"explain_dataset: inputs is None and the columns are {listed(there)}, expected one to "
                "explain. Pass inputs='column', or inputs=['a', 'b'] for columns of numbers side by side."
            )
        return there[0]


class Rows:
    """A worker: one explainer, and what it makes of the columns of one batch after the other."""

    def __init__(self, make_explainer, columns, threads=None):
        if threads:
            # What Ray has reserved; refused where TensorFlow runs already.
            with contextlib.suppress(RuntimeError):
                tf.config.threading.set_intra_op_parallelism_threads(threads)
                tf.config.threading.set_inter_op_parallelism_threads(threads)
        self._explainer, self._columns, self._checked = make_explainer(), columns, False
        if not isinstance(self._explainer, Explainer):
            raise TypeError(
                f"explain_dataset: make_explainer returned a {type(self._explainer).__name__}, expected an "
                "igtf.Explainer."
            )

    def __call__(self, batch):
        columns = self._columns
        if not self._checked:
            columns.check(batch)
            self._checked = True
        try:
            found = self._explained(columns.inputs_of(batch), columns.targets_of(batch))
            failures = [""] * len(next(iter(batch.values())))
        except Exception as error:
            if columns.on_error == "raise":
                raise RuntimeError(
                    f"explain_dataset: {columns.named(batch)} could not be explained, expected rows that the "
                    "explainer takes. Leave out what is wrong, or pass on_error='continue' to go on without "
                    f"it. It said: {type(error).__name__}: {error}"
                ) from error
            found, failures = self._one_by_one(batch, error)
        if columns.on_error == "continue":
            found["failure"] = np.array(failures, object)
        return {**{name: batch[name] for name in columns.kept(batch)}, **found}

    def _explained(self, inputs, targets):
        """The columns of results."""
        explanation = self._explainer(inputs, targets, self._columns.baselines, progress=False)
        values = explanation.values
        if isinstance(values, dict):
            found = {f"attributions_{name}": a for name, a in values.items() if a is not None}
        else:
            found = {"attributions": values}
        found.update(prediction=explanation.outputs, target=explanation.targets)
        found.update(delta=explanation.delta, error=explanation.error)
        return {name: values for name, values in found.items() if values is not None}

    def _one_by_one(self, batch, error):
        """The same, with NaN in the place of rows that fail, and what was wrong with each."""
        columns, found, failures = self._columns, [], []
        for row in range(len(next(iter(batch.values())))):
            one = {name: column[row : row + 1] for name, column in batch.items()}
            try:
                found.append(self._explained(columns.inputs_of(one), columns.targets_of(one)))
                failures.append("")
            except Exception as failed:
                found.append(None)
                failures.append(f"{type(failed).__name__}: {failed}")
        example = next((results for results in found if results is not None), None)
        if example is None:
            example = self._of_zeros(one, error)
        blank = {name: np.full_like(a, _missing(a)) for name, a in example.items()}
        rows = [blank if results is None else results for results in found]
        return {name: np.concatenate([results[name] for results in rows]) for name in blank}, failures

    def _of_zeros(self, one, error):
        """Results in the shape that they would have, where no row of a batch can be explained."""
        columns = self._columns
        try:
            zeros = tf.nest.map_structure(np.zeros_like, columns.inputs_of(one))
            return self._explained(zeros, columns.targets_of(one))
        except Exception:
            raise error from None  # it is not for the rows


def _missing(array):
    return np.nan if np.issubdtype(array.dtype, np.inexact) else -1


def _array(batch, columns):
    """A column as one array, `[B, ...]`; several side by side, `[B, F]`."""
    if isinstance(columns, (list, tuple)):
        return np.stack([_array(batch, name) for name in columns], axis=-1)
    column = np.asarray(batch[columns])
    if column.dtype.kind == "O" and len(column) and not isinstance(column[0], (str, bytes)):
        column = np.stack([np.stack(row) if np.asarray(row).dtype.kind == "O" else row for row in column])
    return column
