"""The pictures of an Explanation: the one that fits, of its rows, of its data set, of one feature."""

import io
from collections.abc import Sequence
from typing import Any

import numpy as np

from igtf.arguments import is_int
from igtf.explainer.arrays import describe, expected
from igtf.explainer.summary import Summary, of_columns, of_words

__all__ = ["Pictures", "are_tokens", "png_of"]

SHOWN = 4  # rows that a notebook shows of images, series and texts
LINES = 12  # channels of a series that have a line each


class Pictures:
    """The part of an `Explanation` that is drawn."""

    values: Any
    data: Any
    outputs: np.ndarray | None
    base_values: np.ndarray | None
    targets: np.ndarray | None
    feature_names: Sequence | None
    output_names: Sequence[str] | None

    def plot(self) -> Any:
        """The picture that fits, as a notebook shows it.

        Of images `[N, H, W, C]` the first rows beside their maps, of texts (`feature_names` are tokens of
        each row) as highlighted words, of series `[N, T, C]` as lines on stretches of colour. Of tables `[N,
        F]` all rows: `beeswarm`, or for one alone `waterfall`. Of every output, tables are summed up, and
        images have a map for each. Others are in `igtf.visualization`.

        Returns:
          A Matplotlib figure, or for texts a string of HTML.

        Raises:
          ValueError: attributions that are no single array, or of another rank.
        """
        from igtf import visualization

        values, data = self._single("plot")
        rank = values.ndim - self._is_of_all()
        if are_tokens(self.feature_names) and not self._is_of_all() and rank in (2, 3):
            tokens, scores = zip(*self._texts()[:SHOWN])
            return visualization.highlight_text(list(tokens), scores)
        if rank == 4:
            return visualization.attribution_grid(data[:SHOWN], values[:SHOWN], self._titles())
        if rank == 3 and not self._is_of_all():
            return self._series(visualization)
        if rank == 2 and self._is_of_all():
            return self.summary().plot()
        if rank == 2:
            single = len(values) == 1 and self.base_values is not None
            return self.waterfall() if single else self.beeswarm()
        raise ValueError(
            f"Explanation.plot: values is {describe(values)}, expected attributions of images, texts, "
            "tables, or of one output of series. Choose one with for_output, or take a function of "
            "igtf.visualization."
        )

    def summary(self, per_class: bool = True) -> Summary:
        """What each feature counts over all rows: of tables its columns, of texts each word.

        Args:
          per_class: whether rows are told apart by the output that is explained: each one of every output, or
            `targets`.

        Returns:
          A `Summary`: mean absolute attribution, mean, share of rows, sign; `table()`, `markdown()`,
          `plot()`.

        Raises:
          ValueError: attributions that are no single array of tables or texts.

        >>> table = Explanation(np.array([[1.0, -2.0], [0.0, -4.0]]), np.ones([2, 2]))
        >>> table.summary().features, table.summary().size.tolist()
        (['feature 1', 'feature 0'], [[3.0, 0.5]])
        """
        self._single("summary")
        if are_tokens(self.feature_names) and not self._is_of_all():
            texts = self._texts()
            rows_of = self._groups(per_class).items()
            return of_words({name: [texts[i] for i in rows] for name, rows in rows_of})
        rank = self.values.ndim - self._is_of_all()
        if rank != 2:
            raise ValueError(
                f"Explanation.summary: values is {describe(self.values)}, expected attributions of tables, "
                "[N, F], or of texts. Of images and series, sum up regions or channels first."
            )
        if not self._is_of_all():
            groups = {name: self.values[rows] for name, rows in self._groups(per_class).items()}
        elif per_class:
            groups = {self._output_name(c): self.values[:, c] for c in range(self.values.shape[1])}
        else:
            groups = {"all": self.values.reshape(-1, self.values.shape[-1])}
        return of_columns(groups, self._names())

    def beeswarm(self, top: int = 15, ax: Any = None) -> Any:
        """All rows of a table, a dot for each: `igtf.visualization.beeswarm` of this.

        Args:
          top: how many features to draw.
          ax: Matplotlib axes to draw in.

        Returns:
          A Matplotlib figure.

        Raises:
          ValueError: attributions that are no single array `[N, F]`.
        """
        from igtf import visualization

        values = self._table("beeswarm")
        known = self.data.shape == values.shape and self.data.dtype.kind in "biuf"
        return visualization.beeswarm(self._names(), values, self.data if known else None, top=top, ax=ax)

    def waterfall(self, row: int = 0, top: int = 10, ax: Any = None) -> Any:
        """One row, from the base value to the output: `igtf.visualization.waterfall` of this.

        Args:
          row: its number.
          top: how many features to draw.
          ax: Matplotlib axes to draw in.

        Returns:
          A Matplotlib figure.

        Raises:
          ValueError: attributions that are no single array of tables or texts, no such row, or no base
            values.
        """
        from igtf import visualization

        self._single("waterfall")
        if not is_int(row) or not -len(self.data) <= row < len(self.data):
            raise ValueError(
                f"Explanation.waterfall: row is {row!r}, expected a number below {len(self.data)}."
            )
        if self.base_values is None or self.outputs is None:
            raise ValueError(
                "Explanation.waterfall: base_values is None, expected the output at the baseline, from which "
                "one gets to that of the row. Take a method that has one, such as integrated_gradients."
            )
        ends = {"base_value": self.base_values[row], "output": self.outputs[row]}
        if are_tokens(self.feature_names) and not self._is_of_all():
            tokens, scores = self._texts()[row]
            return visualization.waterfall(tokens, scores, **ends, top=top, ax=ax)
        values = self._table("waterfall")
        cells = self.data[row] if self.data.shape == values.shape else None
        return visualization.waterfall(self._names(), values[row], values=cells, **ends, top=top, ax=ax)

    def dependence(self, feature: int | str, other: int | str | None = None, ax: Any = None) -> Any:
        """The values of a feature against its attributions: `igtf.visualization.dependence` of this.

        Args:
          feature: its name or number.
          other: that of another one, which colours the dots.
          ax: Matplotlib axes to draw in.

        Returns:
          A Matplotlib figure.

        Raises:
          ValueError: attributions that are no single array `[N, F]`, rows of another shape, no such feature.
        """
        from igtf import visualization

        values = self._table("dependence")
        if self.data.shape != values.shape:
            raise ValueError(
                f"Explanation.dependence: data is {describe(self.data)}, expected values of the features, "
                f"{values.shape}. Of hidden layers, use igtf.visualization.dependence."
            )
        names = self._names()
        chosen = [self._number(which, names) for which in (feature, *(() if other is None else (other,)))]
        columns = [self.data[:, i] for i in chosen]
        labels = [names[i] for i in chosen]
        return visualization.dependence(columns[0], values[:, chosen[0]], *columns[1:], names=labels, ax=ax)

    def _repr_mimebundle_(self, include: Any = None, exclude: Any = None) -> dict[str, Any]:
        try:
            shown = self.plot()
        except (TypeError, ValueError):
            return {"text/plain": repr(self)}
        if isinstance(shown, str):
            return {"text/plain": repr(self), "text/html": shown}
        return {"text/plain": repr(self), "image/png": png_of(shown)}

    def _series(self, visualization):
        values, data = self.values[:SHOWN], self.data[:SHOWN]
        if data.shape != values.shape or data.dtype.kind not in "biuf":
            data = values  # of a hidden layer
        names = None if self.feature_names is None else self._names()
        titles = None if len(values) == 1 else [f"row {i}" for i in range(len(values))]
        many = values.shape[2] > LINES
        return visualization.series_plot(data, values, names, titles=titles, spectrogram=many)

    def _texts(self):
        """`(tokens, scores)` of each row: embeddings are summed, padding is left out."""
        if self.values.ndim not in (2, 3):
            raise ValueError(
                f"Explanation: values is {describe(self.values)} for lists of tokens, expected [N, T] or "
                "[N, T, E]."
            )
        scores = self.values.sum(-1) if self.values.ndim == 3 else self.values
        return [(list(tokens), row[: len(tokens)]) for row, tokens in zip(scores, self.feature_names)]

    def _groups(self, per_class):
        """`{name of the output: numbers of its rows}`."""
        if self.targets is None or not per_class:
            return {"all": np.arange(len(self.data))}
        return {self._output_name(c): np.flatnonzero(self.targets == c) for c in np.unique(self.targets)}

    def _output_name(self, number):
        names = () if self.output_names is None else self.output_names
        return str(names[number]) if number < len(names) else str(number)

    def _titles(self):
        """Of the columns of a grid, one for each output."""
        if not self._is_of_all():
            return None
        return [self._output_name(c) for c in range(self.values.shape[1])]

    def _names(self):
        count = self.values.shape[-1]
        if self.feature_names is None:
            return [f"feature {i}" for i in range(count)]
        if len(self.feature_names) != count:
            raise ValueError(
                f"Explanation: feature_names has {len(self.feature_names)} names, expected {count}, one for "
                "each feature of the attributions."
            )
        return [str(name) for name in self.feature_names]

    def _number(self, which, names):
        if is_int(which) and -len(names) <= which < len(names):
            return int(which)
        if which not in names:
            raise ValueError(f"Explanation.dependence: the feature is {which!r}, {expected(which, names)}.")
        return names.index(which)

    def _table(self, function):
        values, _ = self._single(function)
        if self._is_of_all() or values.ndim != 2 or are_tokens(self.feature_names):
            raise ValueError(
                f"Explanation.{function}: values is {describe(values)}, expected attributions of one output "
                "of a table, [N, F]. Of every output, choose one with for_output."
            )
        return values

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


def png_of(figure: Any) -> bytes:
    """As notebooks and TensorBoard show it."""
    png = io.BytesIO()
    figure.savefig(png, format="png", facecolor="white", dpi=100)
    return png.getvalue()


def are_tokens(names: Any) -> bool:
    """Whether names are lists of tokens, one for each row."""
    return names is not None and len(names) > 0 and isinstance(names[0], (list, tuple, np.ndarray))
