"""Attributions with what belongs to them: rows, outputs, names; cut, joined, saved, sent to shap."""

import dataclasses
import json
import os
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from igtf.arguments import is_int
from igtf.explainer.arrays import as_arrays, describe, expected, join
from igtf.explainer.outputs import Outputs, with_method
from igtf.explainer.pictures import Pictures, are_tokens

__all__ = ["Explanation", "Explanations"]


@dataclasses.dataclass(frozen=True, eq=False)
class Explanation(Pictures):
    """What `explainer(inputs)` returns: the attributions of `N` rows, and what one needs to read them.

    Attributes:
      values: attributions `[N, ...]`, in the structure of what is explained; `[N, C, ...]` of every output.
      data: the rows that were explained, in the structure of the inputs.
      outputs: F(x), the output that is explained, `[N]` or `[N, C]`.
      base_values: F(baseline) likewise (of several, their mean); None where nothing is compared.
      targets: the number of the output that is explained, `[N]`; None where it has none, or for every one.
      delta: the sum of the attributions minus (outputs - base_values), where that should be 0; or None.
      error: the estimated relative errors, where the explainer has a `tolerance`; or None.
      feature_names: names of features, or for each row a list of its tokens; or None.
      output_names: names of the outputs, or None.
    """

    values: Any
    data: Any
    outputs: np.ndarray | None = None
    base_values: np.ndarray | None = None
    targets: np.ndarray | None = None
    delta: np.ndarray | None = None
    error: np.ndarray | None = None
    feature_names: Sequence | None = None
    output_names: Sequence[str] | None = None

    def __post_init__(self) -> None:
        rows = len(self)
        for name in OF_ROWS:
            part = getattr(self, name)
            if isinstance(part, np.ndarray) and part.shape[:1] != (rows,):
                raise ValueError(
                    f"Explanation: {name} has shape {part.shape}, expected {rows} rows, as data."
                )
        names = self.feature_names
        if names is not None and are_tokens(names) and len(names) != rows:
            raise ValueError(f"Explanation: feature_names has {len(names)} lists of tokens, expected {rows}.")
        outputs = () if self.outputs is None else np.shape(self.outputs)
        base = outputs if self.base_values is None else np.shape(self.base_values)
        if self.outputs is not None and base != outputs:
            raise ValueError(f"Explanation: base_values has shape {base}, expected {outputs}, as outputs.")
        if len(outputs) == 2 and isinstance(self.values, np.ndarray) and self.values.shape[:2] != outputs:
            raise ValueError(
                f"Explanation: values has shape {self.values.shape} and outputs {outputs}, expected those of "
                "each of the outputs, [N, C, ...]."
            )

    def __len__(self) -> int:
        return len(tf.nest.flatten(self.data)[0])

    def __getitem__(self, rows: Any) -> "Explanation":
        """Some of the rows: an int, a slice, or an array of numbers or Booleans; rows stay an axis."""
        chosen = np.atleast_1d(np.arange(len(self))[rows])
        parts = {name: _each(lambda a: a[chosen], getattr(self, name)) for name in OF_ROWS}
        names = self.feature_names
        if names is not None and are_tokens(names):
            names = [names[i] for i in chosen]
        return dataclasses.replace(self, **parts, feature_names=names)

    def for_output(self, which: int | str) -> "Explanation":
        """Of attributions of every output, those of one.

        Args:
          which: its number, or its name in `output_names`.

        Returns:
          An `Explanation` of it, with `values` `[N, ...]` and `outputs` `[N]`.

        Raises:
          ValueError: attributions of one output already, or no such output.

        >>> both = Explanation(np.ones([3, 2, 4]), np.ones([3, 4]), np.ones([3, 2]), output_names=["a", "b"])
        >>> both.for_output("b").values.shape, both.for_output("b").targets.tolist()
        ((3, 4), [1, 1, 1])
        """
        if self.outputs is None or not self._is_of_all():
            raise ValueError(
                "Explanation.for_output: the attributions are of one output, expected those of every one. "
                "Call the explainer with targets='all' for them."
            )
        count = self.outputs.shape[1]
        names = list(map(str, range(count) if self.output_names is None else self.output_names))
        if not (is_int(which) and -count <= which < count) and which not in names:
            raise ValueError(f"Explanation.for_output: which is {which!r}, {expected(which, names)}.")
        column = names.index(which) if isinstance(which, str) else range(count)[which]
        parts = {name: _each(lambda a: a[:, column], getattr(self, name)) for name in OF_OUTPUTS}
        chosen = np.full(len(self), column)
        return dataclasses.replace(self, **parts, targets=chosen)

    @staticmethod
    def concatenate(parts: Sequence["Explanation"]) -> "Explanation":
        """One explanation of the rows of several, which have the same names.

        Raises:
          ValueError: no parts, parts of different features or outputs, or with and without a field.

        >>> one = Explanation(np.ones([1, 2]), np.ones([1, 2]))
        >>> len(Explanation.concatenate([one, one]))
        2
        """
        if not parts:
            raise ValueError("Explanation.concatenate: parts is empty, expected one at least.")
        first, joined = parts[0], {}
        for name in OF_ROWS:
            fields = [getattr(part, name) for part in parts]
            if len({field is None for field in fields}) > 1:
                raise ValueError(
                    f"Explanation.concatenate: some parts have {name} and others not, expected all or none."
                )
            joined[name] = None if fields[0] is None else join(fields)
        names = first.feature_names
        if all(are_tokens(part.feature_names) for part in parts):
            names = [tokens for part in parts for tokens in part.feature_names]  # type: ignore[union-attr]
        elif any(_listed(part.feature_names) != _listed(names) for part in parts):
            raise ValueError("Explanation.concatenate: parts differ in feature_names, expected the same.")
        return dataclasses.replace(first, **joined, feature_names=names)

    def save(self, path: str | os.PathLike) -> None:
        """Writes the arrays and names into a file: `.npz` of NumPy, or `.parquet` with a row for each row.

        Raises:
          ValueError: another ending.
          ImportError: `.parquet`, and pyarrow is not installed.
        """
        arrays, layout = self._flat()
        if _ending(path) == ".npz":
            np.savez_compressed(path, layout=json.dumps(layout), **arrays)
            return
        arrow, parquet = _pyarrow()
        columns = {name: list(a.reshape(len(a), -1)) for name, a in arrays.items()}
        layout["shapes"] = {name: a.shape[1:] for name, a in arrays.items()}
        layout["dtypes"] = {name: a.dtype.str for name, a in arrays.items()}
        table = arrow.table(columns).replace_schema_metadata({"explanation": json.dumps(layout)})
        parquet.write_table(table, path)

    @staticmethod
    def load(path: str | os.PathLike) -> "Explanation":
        """What `save` has written.

        Raises:
          ValueError: another ending, or a file that `save` has not written.

        >>> import os, tempfile
        >>> path = os.path.join(tempfile.mkdtemp(), "maps.npz")
        >>> Explanation(np.ones([1, 2]), np.ones([1, 2]), feature_names=["a", "b"]).save(path)
        >>> Explanation.load(path).feature_names
        ['a', 'b']
        """
        if _ending(path) == ".npz":
            with np.load(path) as held:
                arrays = {name: held[name] for name in held.files}
            layout = json.loads(str(arrays.pop("layout", "null")))
        else:
            table = _pyarrow()[1].read_table(path)
            layout = json.loads((table.schema.metadata or {}).get(b"explanation", b"null"))
            arrays = {}
            for name, shape in (layout or {"shapes": {}})["shapes"].items():
                rows = table.column(name).to_pylist()
                arrays[name] = np.array(rows, layout["dtypes"][name]).reshape(len(rows), *shape)
        if not isinstance(layout, dict):
            raise ValueError(f"Explanation.load: {path} holds no explanation, expected a file of save().")
        fields = {name: _built(structure, arrays) for name, structure in layout["structures"].items()}
        return Explanation(**fields, **layout["names"])

    def to_shap(self) -> Any:
        """The same as a `shap.Explanation`, for shap's beeswarm, waterfall, scatter, heatmap and other plots.

        Outputs are its last axis: `[N, ..., C]`.

        Raises:
          ImportError: shap is not installed.
          ValueError: the attributions or the rows are no single array.
        """
        values, data = self._single("to_shap")
        try:
            import shap
        except ImportError as error:
            raise ImportError("Explanation.to_shap needs shap. Install it: pip install shap.") from error
        every = self._is_of_all()
        values = np.moveaxis(values, 1, -1) if every else values
        names = None if self.feature_names is None else list(self.feature_names)
        if names and are_tokens(names):  # of words shap shows the data
            values = values.sum(2) if values.ndim - every == 3 else values
            values = _ragged([row[: len(tokens)] for row, tokens in zip(values, names)])
            data, names = _ragged([np.array(tokens, object) for tokens in names]), None
        elif data.shape[:3] != values.shape[: min(3, data.ndim)]:
            data = None  # attributions are of a hidden layer
        labels = None if self.output_names is None else list(self.output_names)
        if labels and not every:  # of one output, a name where all rows have the same
            chosen = np.unique([] if self.targets is None else self.targets)
            labels = labels[chosen[0]] if len(chosen) == 1 else None
        return shap.Explanation(values, self.base_values, data, feature_names=names, output_names=labels)

    def __repr__(self) -> str:
        of = (
            f" of {len(self.output_names)} outputs"
            if self._is_of_all() and self.output_names is not None
            else ""
        )
        return f"Explanation({len(self)} rows, attributions {describe(self.values)}{of})"

    def _flat(self):
        """Arrays by name, and how they belong together, which JSON can hold."""
        arrays: dict = {}
        structures = {name: _taken(getattr(self, name), name, arrays) for name in OF_ROWS}
        names = {name: _listed(getattr(self, name)) for name in ("feature_names", "output_names")}
        return arrays, {"structures": structures, "names": names}


OF_OUTPUTS = ("values", "outputs", "base_values", "delta", "error")
OF_ROWS = ("values", "data", "outputs", "base_values", "targets", "delta", "error")


class Explanations:
    """The part of an Explainer that is called."""

    _setup: Any
    explain: Callable[..., Any]

    def __call__(
        self,
        inputs: Any,
        targets: Any = None,
        baselines: Any = None,
        feature_names: Sequence | None = None,
        output_names: Sequence[str] | None = None,
        allow_nan: bool = False,
        progress: bool = True,
    ) -> Explanation:
        """As `explain`, with what belongs to the attributions.

        Args:
          inputs: as for `explain`, but no data set.
          targets, baselines, allow_nan, progress: as for `explain`.
          feature_names: names of features, or of words a list of tokens for each row.
          output_names: names of the outputs.

        Returns:
          An `Explanation`.

        Raises:
          TypeError, ValueError, RuntimeError, KeyboardInterrupt: as `explain`; TypeError for a data set.

        >>> explainer = Explainer(lambda x: x[:, 0] ** 2 + x[:, 1])
        >>> found = explainer([[3.0, 2.0]], feature_names=["a", "b"], progress=False)
        >>> found.values.round(4).tolist(), found.outputs.tolist(), found.base_values.tolist()
        ([[9.0, 2.0]], [11.0], [0.0])
        """
        if isinstance(inputs, tf.data.Dataset):
            raise TypeError(
                "Explainer: inputs is a data set, expected arrays, which an Explanation keeps. Call it for "
                "one batch after the other and join them with Explanation.concatenate, or use explain."
            )
        method, data = self._setup.method, as_arrays("inputs", inputs)
        if are_tokens(feature_names):
            Explanation(None, data, feature_names=feature_names)  # raises before the work and not after it
        asked = [method.complete, method.tolerance is not None]
        options = dict(allow_nan=allow_nan, progress=progress)
        found = self.explain(data, targets, baselines, *asked, **options)
        values, *beside = found if any(asked) else (found,)
        delta, error = (beside.pop(0) if there else None for there in asked)
        outputs = Outputs(method, self._setup.operator)
        compared = baselines if outputs.takes_baselines else None
        options["progress"] = False
        ends, chosen = outputs.split(with_method(self, outputs).explain(data, targets, compared, **options))
        base = ends[..., 1] if outputs.takes_baselines else None
        names = None if output_names is None else list(output_names)
        return Explanation(values, data, ends[..., 0], base, chosen, delta, error, feature_names, names)


def _each(function, structure):
    return tf.nest.map_structure(lambda a: None if a is None else function(np.asarray(a)), structure)


def _listed(names):
    if names is None:
        return None
    return [list(map(str, n)) for n in names] if are_tokens(names) else list(map(str, names))


def _ragged(rows):
    """One array of rows, of arrays where their lengths differ."""
    if len({len(row) for row in rows}) == 1:
        return np.stack(rows)
    found = np.empty(len(rows), object)
    for i, row in enumerate(rows):
        found[i] = row
    return found


def _taken(value, name, arrays):
    """The structure with names in the place of its arrays, which go into `arrays`."""
    if value is None:
        return None
    if isinstance(value, dict):
        return {"dict": {key: _taken(part, f"{name}.{key}", arrays) for key, part in value.items()}}
    if isinstance(value, (list, tuple)):
        parts = [_taken(part, f"{name}.{i}", arrays) for i, part in enumerate(value)]
        return {"list" if isinstance(value, list) else "tuple": parts}
    arrays[name] = np.asarray(value)
    return name


def _built(structure, arrays):
    if not isinstance(structure, dict):
        return None if structure is None else arrays[structure]
    ((kind, parts),) = structure.items()
    if kind == "dict":
        return {key: _built(part, arrays) for key, part in parts.items()}
    return (list if kind == "list" else tuple)(_built(part, arrays) for part in parts)


def _ending(path):
    ending = os.path.splitext(os.fspath(path))[1]
    if ending not in (".npz", ".parquet"):
        raise ValueError(
            f"Explanation: path is {os.fspath(path)!r}, expected one that ends in .npz or .parquet."
        )
    return ending


def _pyarrow():
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError as error:
        raise ImportError("Explanation: .parquet needs pyarrow. Install it: pip install pyarrow.") from error
    return pyarrow, pyarrow.parquet
