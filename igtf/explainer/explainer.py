"""Model in, numbers out: attributions of NumPy arrays and data sets, batch by batch.

`Explainer(model).explain(inputs)` calls the graph builders of `igtf` on a Keras model, a `tf.Module`, a
SavedModel signature or any callable on tensors.

Shapes below: `N` rows in all, `B` rows in a batch, `C` outputs, `...` the feature dimensions. Rows are
independent of one another.
"""

import contextlib
import inspect
import itertools
from collections.abc import Callable, Iterator
from typing import Any, TypeAlias

import numpy as np
import tensorflow as tf

from igtf.arguments import is_int
from igtf.explainer.arrays import check_nan, describe, expected, join
from igtf.explainer.batches import Arrays, DataSet, named_baselines, naming_rows, stack_baselines
from igtf.explainer.explanation import Explanations
from igtf.explainer.graph import Call, Setup
from igtf.explainer.method import Method, merged_options
from igtf.explainer.network import ModelError, Network
from igtf.explainer.notes import Notes
from igtf.explainer.operators import as_operator
from igtf.explainer.pages import Pages
from igtf.explainer.targets import are_classes, check_classes
from igtf.explainer.trials import Trials

__all__ = ["Explainer"]


Inputs: TypeAlias = np.ndarray | tf.Tensor | list | tuple | dict | tf.data.Dataset
Targets: TypeAlias = np.ndarray | tf.Tensor | list | dict | int | str | None
Baselines: TypeAlias = np.ndarray | tf.Tensor | list | tuple | dict | float | str | Callable | None

REDUCERS = {"mean": np.mean, "sum": np.sum, "max": np.max, "min": np.min}


class Explainer(Explanations, Pages, Trials):
    """Explains a model: NumPy arrays or a data set in, NumPy arrays out.

    Integrated gradients (Sundararajan et al., https://arxiv.org/abs/1703.01365) unless another
    `method` is named. Whatever is traced is traced once per signature of the arguments (structure,
    dtypes and feature dimensions, not the number of rows) and reused; new values of the weights count
    without a new trace. Keras models run in inference mode, as does any callable with an argument
    called `training`.

    Args:
      model: a Keras model (Keras 3 or Keras 2; Sequential, functional or subclassed), a callable
        `tf.Module`, a signature of a loaded SavedModel, or any callable on tensors. It takes
        `[B, ...]`, or a list, tuple or dict of such, and returns `[B]`, `[B, C]`, or a structure of
        outputs.
      method: name of a function of `igtf`:
        `"integrated_gradients"`, `"layer_conductance"`, `"saliency"`, `"gradient_times_input"`,
        `"guided_backpropagation"`, `"epsilon_lrp"`, `"deeplift"`, `"occlusion"`,
        `"shapley_value_sampling"`, `"kernel_shap"`, `"expected_gradients"` (`baselines` is its data set),
        `"smoothgrad"`, or `"grad_cam"` and `"layer_cam"`, which return one map `[N, H, W, 1]`, of the last
        layer with spatial axes unless `layer` names another.
      output_layer: name or index of the Keras layer whose output is explained instead of the
        model's. Of a layer that is called several times, a pair of it and the number of the call.
      layer: likewise, a Keras layer that attributions are for, instead of the inputs. Its baseline is
        what it is for `baselines`, which stay those of the inputs. A list or tuple of layers: each, on
        one joint path. For a model with several inputs, a dict `{name of an input: layer}`: the layer in
        the place of that input (of several calls, that for this input), beside those that are not named.
      operator: what of the outputs is explained: `"box"`, `"segment"`, `"regression"`, `"distance"`,
        `"reconstruction"` (see `igtf.explainer.operators`), or a function `(model, inputs, targets)` of
        tensors that returns a scalar per row, `[B]`, or a pair of outputs and their weights, `[B, ...]`,
        which are held along the path.
      batch_size: rows to explain at once. A data set brings its own batches. A model that was made for a
        number of rows gets that many, the last batch filled up.
      reducer: `"mean"`, `"sum"`, `"max"` or `"min"` over the channels of images: `[N, H, W, 1]` for
        `[N, H, W, channels]`. `None` and other shapes: nothing is reduced.
      method_options: dict of options of the method, such as
        `{"method": "riemann_trapezoid", "num_steps": 50}`. For `"smoothgrad"`, `builder` is the name
        of the method to average, `"saliency"` unless given.
      logits: whether to explain what the last softmax or sigmoid before the output reads, and not what
        it makes of it. (Of several outputs, those that have none are explained as they are.)
      **options: further options of the method, as in `Explainer(model, num_steps=100)`.

    Attributes:
      traces: how many times the model was traced so far.

    Raises:
      TypeError: `model` or `operator` is not callable, or an option has the wrong type.
      ValueError: unknown method, operator, layer, reducer or option (the message lists near names).

    Layers are found by name wherever the model holds them, in models, layers, modules, lists and dicts
    of its own; an index counts `model.layers`.

    >>> explainer = Explainer(lambda x: tf.stack([x[:, 0] * x[:, 1], 3 * x[:, 0]], axis=1))
    >>> explainer.explain([[3.0, 2.0], [1.0, 4.0]], targets=[0, 1], progress=False).round(4).tolist()
    [[3.0, 3.0], [3.0, 0.0]]
    """

    def __init__(
        self,
        model: Callable,
        method: str = "integrated_gradients",
        output_layer: Any = None,
        layer: Any = None,
        operator: Callable | str | None = None,
        batch_size: int = 32,
        reducer: str | None = None,
        method_options: dict[str, Any] | None = None,
        logits: bool = False,
        **options: Any,
    ) -> None:
        network = Network(model)
        arguments = inspect.signature(Explainer).parameters
        chosen = Method(method, merged_options(method_options, options), layer is not None, arguments)
        output_layer = network.find("output_layer", output_layer)
        layer = network.find("layer", layer, several=True)
        if not isinstance(logits, (bool, np.bool_)):
            raise TypeError(
                f"Explainer: logits is {logits!r}, expected True or False. A layer that makes logits is "
                "named as output_layer."
            )
        if not is_int(batch_size) or batch_size < 1:
            raise ValueError(f"Explainer: batch_size is {batch_size!r}, expected a positive int, such as 32.")
        if reducer is not None and reducer not in REDUCERS:
            raise ValueError(f"Explainer: reducer is {reducer!r}, {expected(reducer, REDUCERS)} or None.")
        operator = as_operator(operator)
        size = network.batch or int(batch_size)
        self._setup = Setup(network, chosen, output_layer, layer, operator, bool(logits), size)
        self._padded = network.batch is not None
        self._reducer = reducer
        self._traced: dict = {}

    @property
    def traces(self) -> int:
        return self._setup.traces

    def explain(
        self,
        inputs: Inputs,
        targets: Targets = None,
        baselines: Baselines = None,
        return_delta: bool = False,
        return_error: bool = False,
        allow_nan: bool = False,
        progress: bool = True,
    ) -> Any:
        """Attributes the model's outputs to its inputs, batch by batch.

        Args:
          inputs: array or tensor `[N, ...]`; a list, tuple or dict of such for a model with several
            inputs; or a `tf.data.Dataset` of batches: of inputs, or of pairs `(inputs, targets)`.
            Integers, Booleans and texts have no gradient: beside floating inputs they are held fixed.
            Images of `uint8`, and integers where there is nothing else, are explained as the floats that
            the model casts them to. Methods that need no gradient explain all of them.
          targets: which outputs to explain. `None`: the only one, or `"predicted"` where there are
            several; of a data set, the targets in it. `"predicted"`: the largest one of each row.
            `"all"`: every one. An int: that one. Ints `[N]`: one per row. One-hot rows or any weights
            `[N, C]`. A dict `{output name: targets}` for a model with several outputs (named by key,
            by Keras, or by number), whose sum is explained; those that are not named are left out. A
            list or tuple: one of these for each output.
            With `operator`: what it takes, arrays with one entry per row or `None`.
          baselines: what the inputs are compared with. `None` (zeros), a scalar, one row `[1, ...]`,
            one for each row `[N, ...]`, a stack of several `[K, 1, ...]` or `[K, N, ...]` to average
            over, `"mean"`, `"min"`, `"max"` over the rows of the inputs (of a data set, in one more pass)
            or `"zeros"`, or a function that gets a batch of inputs and returns one of these. With several
            inputs: a scalar or name for all, or the same structure (what it has for inputs that are held
            fixed is not used).
          return_delta: whether to return the convergence delta, too.
          return_error: whether to return the estimated relative errors, too (`igtf.attribution_error`).
            Without the option `tolerance` they cost half as much again.
          allow_nan: whether inputs may hold NaN.
          progress: whether to show Keras' progress bar.

        Returns:
          The attributions as NumPy arrays, in the structure and shape of `inputs` (of the hidden
          layers with `layer`), with `None` in the place of inputs that are held fixed. For `"all"`,
          `[N, C, ...]`. With `return_delta`, a tuple of them and of the sums of the attributions minus
          (F(x) - F(baseline)), `[N]` or `[N, C]`; with `return_error`, of the errors as well, last and in
          this shape (of several baselines, their mean). Of batches of different lengths, which make no
          one array, a list of what each batch has.

        Warns:
          UserWarning: attributions that should sum to F(x) - F(baseline) miss it by more than 5 %, with
            the rows and what to do; rows that did not reach the option `tolerance` within `num_steps`;
            class numbers for an `output_layer` that does not make the scores.

        Raises:
          TypeError: inputs or targets of the wrong type, or a model that cannot be traced.
          ValueError: targets, baselines or inputs that do not fit, NaN in the inputs, no path from
            the inputs to the output.
          RuntimeError: a batch failed; the message says which rows.
          KeyboardInterrupt: Ctrl-C; the message says where. Whichever is raised, its attribute
            `results` holds what was finished before it, `None` if nothing was.

        >>> explainer = Explainer(lambda x: x[:, 0] ** 2 + x[:, 1])
        >>> attributions, delta = explainer.explain([[3.0, 2.0]], return_delta=True, progress=False)
        >>> attributions.round(4).tolist(), bool(abs(delta[0]) < 1e-4)
        ([[9.0, 2.0]], True)
        """
        if isinstance(inputs, tf.data.Dataset) and inputs.cardinality() == tf.data.INFINITE_CARDINALITY:
            raise ValueError(
                "Explainer.explain: inputs is a data set without an end, expected one that fits into "
                "memory. Pass inputs.take(batches), or loop over explain_batches."
            )
        parts = []
        try:
            for part in self.explain_batches(
                inputs, targets, baselines, return_delta, return_error, allow_nan, progress
            ):
                parts.append(part)
        except BaseException as error:
            error.results = join(parts)  # type: ignore[attr-defined]
            raise
        if not parts:
            raise ValueError(
                "Explainer.explain: inputs is a data set without batches, expected at least one. Look at "
                "what filters it."
            )
        return join(parts)

    def explain_batches(
        self,
        inputs: Inputs,
        targets: Targets = None,
        baselines: Baselines = None,
        return_delta: bool = False,
        return_error: bool = False,
        allow_nan: bool = False,
        progress: bool = True,
    ) -> Iterator[Any]:
        """As `explain`, but yields what belongs to one batch after the other.

        For what does not fit into memory: nothing of a batch is kept.

        Args:
          inputs, targets, baselines, return_delta, return_error, allow_nan, progress: as for `explain`.

        Returns:
          An iterator of what `explain` returns, for one batch at a time.

        Raises:
          TypeError, ValueError, RuntimeError, KeyboardInterrupt: as `explain`.

        >>> rows = tf.data.Dataset.from_tensor_slices([[1.0], [2.0], [3.0]]).batch(2)
        >>> explainer = Explainer(lambda x: x[:, 0] ** 2)
        >>> [part.round(4).tolist() for part in explainer.explain_batches(rows, progress=False)]
        [[[1.0], [4.0]], [[9.0]]]
        """
        self._setup.method.check_call(baselines, return_delta, return_error)
        if isinstance(inputs, tf.data.Dataset):
            source = DataSet(self._setup, inputs, targets, baselines)
        else:
            source = Arrays(self._setup, inputs, targets, baselines)
            if not allow_nan:
                check_nan(source.inputs)
        if self._setup.operator is not None and any(
            isinstance(t, str) for t in tf.nest.flatten(source.targets)
        ):
            raise ValueError(
                f"Explainer: targets is {source.targets!r}, expected what the operator takes: arrays with "
                "one entry per row. The operator alone says what is explained."
            )
        return self._batches(source, return_delta, return_error, allow_nan, progress)

    def xrai(
        self,
        images: Any,
        targets: Targets = None,
        baselines: Baselines = None,
        segments: Any = None,
        progress: bool = True,
    ) -> np.ndarray:
        """Ranks the segments of images by the density of their attributions: XRAI.

        Kapishnikov et al., https://arxiv.org/abs/1906.02825: the attributions of this explainer (the paper
        takes integrated gradients) are averaged over a black and a white baseline, and segments of the
        image at several scales, found by scikit-image and widened a little, are ranked by them, as
        `igtf.visualization.xrai` says. `igtf.visualization.spotlight` shows them.

        Args:
          images: array `[N, H, W]` or `[N, H, W, C]`; `C` is 1 or 3 unless `segments` are given.
          targets, progress: as for `explain`; one output for each image.
          baselines: as for `explain`. `None`: the least and the largest value of each image.
          segments: for each image, what `igtf.visualization.xrai` takes; `None` asks
            `igtf.visualization.segment`.

        Returns:
          For each pixel the mean attribution of the pixels with which its segment was added: `[N, H, W]`.

        Raises:
          TypeError: `images` is a data set or no array of numbers.
          ValueError: attributions that are not those of the pixels of images; as `explain`.
          ImportError: `segments` is `None` and scikit-image is not installed, or SciPy is not.

        >>> image = np.repeat(np.float32([0, 1]), 8) * np.ones([1, 16, 1], np.float32)  # [1, 16, 16]
        >>> quarters = np.arange(16)[:, None] // 8 + 2 * (np.arange(16) // 8)
        >>> explainer = Explainer(lambda x: tf.reduce_sum(x[:, :8], [1, 2]))
        >>> explainer.xrai(image, segments=[quarters], progress=False)[0, ::8, ::8].round(2).tolist()
        [[-0.5, 0.5], [0.0, 0.0]]
        """
        from igtf.visualization import areas  # which needs no TensorFlow

        if isinstance(images, tf.data.Dataset):
            raise TypeError(
                "Explainer.xrai: images is a data set, expected an array [N, H, W, C]. Call it for one batch "
                "after the other."
            )
        if baselines is None and self._setup.method.takes_baselines and not self._setup.method.draws:
            baselines = _black_and_white
        maps = self.explain(images, targets, baselines, progress=progress)
        images = np.asarray(images)
        if (
            not isinstance(maps, np.ndarray)
            or images.ndim not in (3, 4)
            or maps.shape[:3] != images.shape[:3]
        ):
            raise ValueError(
                f"Explainer.xrai: images is {describe(images)} with attributions {describe(maps)}, expected "
                "[N, H, W] or [N, H, W, C] of both: one image as input, one output, and a method that "
                "explains pixels."
            )
        if segments is not None and len(segments) != len(images):
            raise ValueError(
                f"Explainer.xrai: segments has {len(segments)} entries, expected {len(images)}, those of "
                "each image. Pass a list of them."
            )
        if maps.ndim == 4:
            maps = maps.sum(-1)
        widened = round(5 * min(maps.shape[1:]) / areas.SIDE)  # as in the paper
        result = [
            areas.xrai(values, areas.segment(image) if segments is None else segments[i], widened)
            for i, (values, image) in enumerate(zip(maps, images))
        ]
        return np.stack(result)

    # One batch after the other

    def _batches(self, source, return_delta, return_error, allow_nan, progress):
        bar = tf.keras.utils.Progbar(source.count, unit_name="batch") if progress else None
        batches, done, notes = iter(source), 0, Notes(self._setup.method, allow_nan)
        try:
            for number in itertools.count(1):
                with naming_rows("reading the data set", done):
                    batch = next(batches, None)
                if batch is None:
                    break
                if not allow_nan and source.streamed:
                    check_nan(batch.inputs, done)
                starts = batch.baselines
                if callable(starts):
                    with naming_rows("the function that makes baselines", done, batch.rows):
                        starts = starts(batch.inputs)
                    starts = named_baselines(starts, source.specs, lambda batch=batch: [batch.inputs])
                    starts = stack_baselines(starts, source.specs, batch.rows, self._setup.method.draws)
                call = self._prepare(source, batch, starts, return_error)
                notes.advice = call.advice
                with naming_rows("the explanation", done, batch.rows, call.runs, batch):
                    result, sums = self._average(call, batch, starts)
                if sums is not None:
                    notes.compare(done, sums, call.covers)
                done += batch.rows
                if bar:
                    bar.update(number)
                beside = [sums[..., 0]] if return_delta else []
                beside += [sums[..., 3]] if return_error else []
                yield (result, *beside) if beside else result
            if bar and done:
                bar.update(number - 1, finalize=True)
        finally:
            notes.warn()

    def _average(self, call, batch, starts):
        """The mean over the stack of baselines, reduced, and that of the sums."""
        flat, sums = None, None
        for start in starts or [None]:
            parts, compared = call(batch, start)
            flat = parts if flat is None else [a + b for a, b in zip(flat, parts)]
            sums = compared if sums is None else sums + compared
        count = len(starts or [None])
        flat = [self._reduce(part / np.asarray(count, part.dtype), call) for part in flat]
        return call.pack(flat), None if sums is None else sums / np.asarray(count, sums.dtype)

    def _reduce(self, part, call):
        if self._reducer is None or part.ndim != 4 + call.every or part.shape[-1] == 1:
            return part
        return REDUCERS[self._reducer](part, axis=-1, keepdims=True)

    def _prepare(self, source, batch, starts, return_error):
        """The traced function for such a batch; the class numbers are checked against it."""
        specs = source.specs
        targets = tf.nest.map_structure(self._target_spec, batch.targets)
        baselines = None
        if starts:
            baselines = [tf.TensorSpec([None, *s.shape[1:]], s.dtype) for s in starts[0]]
        with_error = return_error or self._setup.method.tolerance is not None
        key = repr((specs, targets, baselines, with_error))
        if key not in self._traced:
            self._traced[key] = self._trace(specs, targets, baselines, with_error)
        call = self._traced[key]
        if self._setup.operator is None:
            known = batch.targets if source.streamed else source.targets
            if source.streamed or batch.start == 0:
                check_classes(known, call.classes, batch.start)
        return call

    def _target_spec(self, target):
        """What is fed for targets; texts and None are part of the trace."""
        if target is None or isinstance(target, str):
            return target
        if np.ndim(target) == 0:
            return tf.TensorSpec([None], tf.int32)
        classes = self._setup.operator is None and are_classes(target)
        return tf.TensorSpec([None, *target.shape[1:]], tf.int32 if classes else target.dtype)

    def _trace(self, specs, targets, baselines, with_error):
        try:
            return Call(self._setup, specs, targets, baselines, self._padded, with_error)
        except ModelError as error:
            # Some models cannot do without a number of rows. If that is not it, the first error stands.
            if not self._padded:
                with contextlib.suppress(ModelError):
                    call = Call(self._setup, specs, targets, baselines, True, with_error)
                    self._padded = True
                    return call
            cause = error.cause
            if type(cause) in (ValueError, tf.errors.InvalidArgumentError) and "Explainer:" not in str(cause):
                cause = ValueError(
                    f"Explainer: the model failed on inputs {describe(specs)}, expected what it takes. Look "
                    "at the shapes (a single row needs an axis of rows, x[None]) and at what the model said: "
                    f"{cause}"
                )
            raise cause from (None if error.__cause__ is error.cause else error.__cause__)


def _black_and_white(images):
    """The least and the largest value of each image, `[2, N, 1, ...]`."""
    axes = tuple(range(1, images.ndim))
    return np.stack([images.min(axes, keepdims=True), images.max(axes, keepdims=True)])
