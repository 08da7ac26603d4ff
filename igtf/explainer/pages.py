"""What an Explainer explains, as a page to look through."""

import itertools
import os
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from igtf.explainer.arrays import as_arrays, cast, describe, slice_rows
from igtf.explainer.batches import Arrays
from igtf.explainer.graph import Setup
from igtf.explainer.targets import are_classes

__all__ = ["Pages"]


class Pages:
    """The part of an Explainer that writes pages."""

    _setup: Setup
    _reducer: str | None
    explain_batches: Callable[..., Iterator[Any]]

    def page(
        self,
        inputs: Any,
        targets: Any = None,
        baselines: Any = None,
        explained: Any = None,
        samples: Any = None,
        predictions: Any = None,
        class_names: Sequence[str] | None = None,
        kind: str = "image",
        path: str | os.PathLike = "explanations.html",
        progress: bool = True,
        **options: Any,
    ) -> Any:
        """Explains rows and writes a page to look through them: one HTML file that opens in any browser.

        As `igtf.visualization.explanation_page`, which says what it shows, with attributions of this
        explainer, predictions of its model, and, where the method has them, changes of the output and
        estimated errors. Batches are explained one after the other and go into the page at once, so that no
        more than one is in memory.

        Args:
          inputs: array or tensor `[N, ...]`, the only input of the model.
          targets: the truth, if it is to be shown: class numbers `[N]`, or the true values of one output.
          baselines: as for `explain`.
          explained: which outputs to explain, as `targets` of `explain` says: `None`, the only one or the
            predicted one; `"all"`, so that one can switch between them; a class number, or one for each row.
            With `operator`: what it takes as its targets.
          samples: what to show for each row, if not the inputs: photographs before they were scaled. For
            words, lists of tokens `[N]`: attributions of embeddings are summed, and padding behind the tokens
            is left out.
          predictions: `[N]` or `[N, C]`; `None` asks the model, if it has one output.
          class_names, kind, path: as for `explanation_page`.
          progress: whether to show Keras' progress bar.
          **options: `feature_names`, `labels` and `title` of `explanation_page`.

        Returns:
          An `igtf.visualization.page.Page`: `paths`, and a frame in a notebook.

        Raises:
          TypeError: `inputs` is a data set, or has several parts; as `explain` and `explanation_page`.
          ValueError: words without `samples`; as `explain` and `explanation_page`.

        >>> import os, tempfile
        >>> explainer = Explainer(lambda x: tf.reduce_sum(x**2, axis=[1, 2]))
        >>> name = os.path.join(tempfile.mkdtemp(), "squares.html")
        >>> explainer.page(np.random.rand(2, 8, 8), path=name, progress=False).path.name
        'squares.html'
        """
        from igtf.visualization import page  # which needs no TensorFlow

        inputs = self._checked(inputs, targets, samples, kind)
        samples = inputs if samples is None else samples
        results = self._rows(inputs, explained, baselines, progress)
        results = itertools.chain([next(results)], results)  # a model that fails is explained best there
        if kind == "text":
            every = isinstance(explained, str) and explained == "all"
            results = (_words(row, len(tokens), every) for row, tokens in zip(results, samples))
        maps, deltas, errors = _columns(results)
        return page.explanation_page(
            samples,
            maps,
            self._predict(inputs) if predictions is None else predictions,
            class_names,
            targets,
            errors if self._setup.method.integrates else None,
            kind,
            path,
            deltas=deltas if self._compares() else None,
            explained=self._named(explained),
            **options,
        )

    def _checked(self, inputs, targets, samples, kind):
        if isinstance(inputs, tf.data.Dataset):
            raise TypeError(
                "Explainer.page: inputs is a data set, expected an array [N, ...]. Take some rows of it: "
                "next(iter(inputs.unbatch().batch(200))) has 200."
            )
        inputs = as_arrays("inputs", inputs)
        if tf.nest.is_nested(inputs):
            raise TypeError(
                f"Explainer.page: inputs is {describe(inputs)}, expected one array [N, ...]. Explain several "
                "inputs and pass the attributions of one of them to igtf.visualization.explanation_page."
            )
        if isinstance(targets, str):
            raise TypeError(
                f"Explainer.page: targets is {targets!r}, expected the truth, class numbers [N]. Which "
                f"outputs to explain is another argument: explained={targets!r}."
            )
        if samples is None and kind == "text":
            raise ValueError(
                "Explainer.page: samples is None for kind 'text', expected lists of tokens, one for each row."
            )
        return inputs

    def _compares(self):
        """Whether maps as they are shown sum to the change of the output."""
        return self._setup.method.complete and self._reducer is None

    def _named(self, explained):
        """What maps are for, as `explanation_page` takes it."""
        if self._setup.operator is not None:
            return ["output"]
        if explained is None or isinstance(explained, str):
            return None
        return np.ravel(explained) if are_classes(np.atleast_1d(explained)) else ["output"]

    def _rows(self, inputs, explained, baselines, progress):
        """Attributions, delta and error of each row; None where the method has none."""
        asked = [self._compares(), self._setup.method.integrates]
        for result in self.explain_batches(inputs, explained, baselines, *asked, progress=progress):
            maps, *beside = result if any(asked) else (result,)
            if not isinstance(maps, np.ndarray):
                raise TypeError(
                    f"Explainer.page: the attributions are {describe(maps)}, expected one array. Of several "
                    "layers, name one."
                )
            columns = [beside.pop(0) if there else itertools.repeat(None) for there in asked]
            yield from zip(maps, *columns)

    def _predict(self, inputs):
        """`[N]` or `[N, C]`, or None where the model has other outputs."""
        source = Arrays(self._setup, inputs, None, None)
        model, parts = tf.function(self._setup.network, autograph=False), []
        for batch in source:
            size = self._setup.network.batch or batch.rows
            fed = cast(slice_rows(batch.inputs, 0, batch.rows, size), source.specs.dtype)
            outputs = tf.nest.flatten(model(tf.convert_to_tensor(fed)))
            if len(outputs) != 1 or outputs[0].shape.rank not in (1, 2):
                return None
            parts.append(outputs[0].numpy()[: batch.rows])
        return np.concatenate(parts)


def _columns(rows):
    """Iterators over the columns of rows, to be read side by side."""
    return [map(lambda row, i=i: row[i], copy) for i, copy in enumerate(itertools.tee(rows, 3))]


def _words(row, count, every):
    """Embeddings summed, and what belongs to padding taken out of both the map and the delta."""
    maps, delta, error = row
    maps = maps.sum(tuple(range(1 + every, maps.ndim)))
    return maps[..., :count], None if delta is None else delta - maps[..., count:].sum(-1), error
