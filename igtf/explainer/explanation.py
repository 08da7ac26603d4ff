"""Attributions with what belongs to them: rows, outputs, names; cut, joined, saved, shown, sent to shap."""

import dataclasses
import io
import json
import os
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from igtf.explainer.arrays import as_arrays, describe, join
from igtf.explainer.outputs import Outputs, with_method

__all__ = ["Explanation", "Explanations"]

SHOWN = 4  # rows that a notebook shows of images, series and texts


@dataclasses.dataclass(frozen=True, eq=False)
class Explanation:
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

    def __len__(self) -> int:
        return len(tf.nest.flatten(self.data)[0])

    def __getitem__(self, rows: Any) -> "Explanation":
        """Some of the rows: an int, a slice, or an array of numbers or Booleans; rows stay an axis."""
        chosen = np.atleast_1d(np.arange(len(self))[rows])
        parts = {name: _each(lambda a: a[chosen], getattr(self, name)) for name in OF_ROWS}
        names = self.feature_names
        if names is not None and _are_tokens(names):
            names = [names[i] for i in chosen]
        return dataclasses.replace(self, **parts, feature_names=names)

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
        if _are_tokens(names):
            names = [tokens for part in parts for tokens in part.feature_names or ()]
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
        if self._is_of_all():
            values = np.moveaxis(values, 1, -1)
        tokens = _are_tokens(self.feature_names)
        if tokens:  # of words shap shows the data
            data = np.array([np.array(row, object) for row in self.feature_names or ()], object)
            values = values.sum(-1) if values.ndim - self._is_of_all() == 3 else values
        return shap.Explanation(
            values,
            self.base_values,
            data,
            feature_names=None if tokens or self.feature_names is None else list(self.feature_names),
            output_names=None if self.output_names is None else list(self.output_names),
        )

    def plot(self) -> Any:
        """The picture that fits, of the first rows, as a notebook shows it.

        Images `[N, H, W, C]` beside their maps, texts (`feature_names` are tokens of each row) as highlighted
        words, series `[N, T, C]` as maps over time, tables `[N, F]` as bars of all rows. Others are in
        `igtf.visualization`.

        Returns:
          A Matplotlib figure, or for texts a string of HTML.

        Raises:
          ValueError: attributions that are no single array of one output, or of another rank.
        """
        from igtf import visualization

        values, data = self._single("plot")
        if self._is_of_all() or not 2 <= values.ndim <= 4:
            raise ValueError(
                f"Explanation.plot: values is {describe(values)}, expected attributions of one output of "
                "images, series, texts or tables. Choose one, and a function of igtf.visualization."
            )
        if _are_tokens(self.feature_names):
            scores = values.sum(-1) if values.ndim == 3 else values
            tokens = list(self.feature_names or ())[:SHOWN]
            return visualization.highlight_text(tokens, [s[: len(t)] for s, t in zip(scores, tokens)])
        from matplotlib.figure import Figure

        if values.ndim == 4:
            return visualization.attribution_grid(data[:SHOWN], values[:SHOWN])
        figure = Figure(figsize=(8.5, 3.2), layout="constrained")
        if values.ndim == 3:
            axes = figure.subplots(1, min(SHOWN, len(values)), squeeze=False)[0]
            visualization.heatmap(values[:SHOWN].swapaxes(1, 2), ax=axes)
        else:
            names = self.feature_names or [f"feature {i}" for i in range(values.shape[1])]
            visualization.bar(names, values, ax=figure.subplots())
        return figure

    def _repr_mimebundle_(self, include: Any = None, exclude: Any = None) -> dict[str, Any]:
        try:
            shown = self.plot()
        except ValueError:
            return {"text/plain": repr(self)}
        if isinstance(shown, str):
            return {"text/plain": repr(self), "text/html": shown}
        png = io.BytesIO()
        shown.savefig(png, format="png", facecolor="white", dpi=100)
        return {"text/plain": repr(self), "image/png": png.getvalue()}

    def __repr__(self) -> str:
        of = f" of {len(self.output_names)} outputs" if self._is_of_all() and self.output_names else ""
        return f"Explanation({len(self)} rows, attributions {describe(self.values)}{of})"

    def _is_of_all(self):
        return self.outputs is not None and np.ndim(self.outputs) == 2

    def _single(self, function):
        for name in ("values", "data"):
            if not isinstance(getattr(self, name), np.ndarray):
                raise ValueError(
                    f"Explanation.{function}: {name} is {describe(getattr(self, name))}, expected one array. "
                    "Of several inputs, make an Explanation of each."
                )
        return self.values, self.data

    def _flat(self):
        """Arrays by name, and how they belong together, which JSON can hold."""
        arrays: dict = {}
        structures = {name: _taken(getattr(self, name), name, arrays) for name in OF_ROWS}
        names = {name: _listed(getattr(self, name)) for name in ("feature_names", "output_names")}
        return arrays, {"structures": structures, "names": names}


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


def _are_tokens(names):
    return bool(names) and not isinstance(names[0], str)


def _listed(names):
    if names is None:
        return None
    return [list(map(str, n)) for n in names] if _are_tokens(names) else list(map(str, names))


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
