"""Model in, numbers out: attributions of NumPy arrays and data sets, batch by batch.

`Explainer(model).explain(inputs)` calls the graph builders of `integrated_gradients_tf` and
`attribution_methods_tf` on a Keras model, a `tf.Module`, a SavedModel signature or any callable on
tensors. Copy this file and those two into a project.

Shapes below: `N` rows in all, `B` rows in a batch, `C` outputs, `...` the feature dimensions. Rows are
independent of one another.

Copyright 2026 the IntegratedGradientsTF authors. Licensed under the Apache License, Version 2.0.
"""

import collections
import contextlib
import dataclasses
import difflib
import functools
import inspect
import itertools
import numbers
import sys
import warnings
from collections.abc import Callable, Iterator
from typing import Any, TypeAlias

import numpy as np
import tensorflow as tf

import attribution_methods_tf as methods
import integrated_gradients_tf as ig

__all__ = ["Explainer"]

Inputs: TypeAlias = np.ndarray | tf.Tensor | list | tuple | dict | tf.data.Dataset
Targets: TypeAlias = np.ndarray | tf.Tensor | list | dict | int | str | None
Baselines: TypeAlias = np.ndarray | tf.Tensor | list | tuple | dict | float | str | Callable | None

METHODS = {
    "integrated_gradients": ig.integrated_gradients,
    "layer_conductance": ig.layer_conductance,
    **{name: getattr(methods, name) for name in methods.__all__},
}
RULES = (
    "auto",
    "secant",
    "gausslegendre",
    *(f"riemann_{r}" for r in ("left", "right", "middle", "trapezoid")),
)
# Those whose attributions sum to F(x) - F(baseline).
COMPLETE = ("integrated_gradients", "layer_conductance", "deeplift", "shapley_value_sampling")
# Those that need no gradient: of ids, too.
BLACK_BOX = ("occlusion", "shapley_value_sampling")
REDUCERS = {"mean": np.mean, "sum": np.sum, "max": np.max, "min": np.min}
# Baselines by name: over the rows of the inputs.
BASELINES = ("zeros", "mean", "min", "max")
# How far the sum of attributions may be from the change of the output before a warning.
TOLERANCE = 0.05

_Batch = collections.namedtuple("_Batch", "start rows inputs targets baselines")


class Explainer:
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
      method: name of a function of `integrated_gradients_tf` or `attribution_methods_tf`:
        `"integrated_gradients"`, `"layer_conductance"`, `"saliency"`, `"gradient_times_input"`,
        `"epsilon_lrp"`, `"deeplift"`, `"occlusion"`, `"shapley_value_sampling"`,
        `"expected_gradients"` (`baselines` is its data set) or `"smoothgrad"`.
      output_layer: name or index of the Keras layer whose output is explained instead of the
        model's. Of a layer that is called several times, a pair of it and the number of the call.
      layer: likewise, a Keras layer that attributions are for, instead of the inputs. Its baseline is
        what it is for `baselines`, which stay those of the inputs. A list or tuple of layers: each, on
        one joint path. For a model with several inputs, a dict `{name of an input: layer}`: the layer in
        the place of that input (of several calls, that for this input), beside those that are not named.
      operator: function `(model, inputs, targets)` of tensors that returns what to explain, a scalar
        per row: `[B]`. Boxes of a detector, the distance from a measured value and the like.
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
      ValueError: unknown method, layer, reducer or option (the message lists near names).

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
        operator: Callable | None = None,
        batch_size: int = 32,
        reducer: str | None = None,
        method_options: dict[str, Any] | None = None,
        logits: bool = False,
        **options: Any,
    ) -> None:
        self._network = _Network(model)
        self._method = _Method(method, _merged(method_options, options), layer is not None)
        self._output_layer = self._network.find("output_layer", output_layer)
        self._layer = self._network.find("layer", layer, several=True)
        if not isinstance(logits, (bool, np.bool_)):
            raise TypeError(
                f"Explainer: logits is {logits!r}, expected True or False. A layer that makes logits is "
                "named as output_layer."
            )
        self._logits = bool(logits)
        if operator is not None and not callable(operator):
            raise TypeError(
                f"Explainer: operator is a {type(operator).__name__}, expected a function (model, inputs, "
                "targets) that returns a scalar per row. Leave it out to explain the model's outputs."
            )
        # Of a tf.function its Python code, so that hidden layers are in the graph to be explained.
        self._operator = getattr(operator, "python_function", operator)
        if not _is_count(batch_size) or batch_size < 1:
            raise ValueError(f"Explainer: batch_size is {batch_size!r}, expected a positive int, such as 32.")
        if reducer is not None and reducer not in REDUCERS:
            raise ValueError(f"Explainer: reducer is {reducer!r}, {_expected(reducer, REDUCERS)} or None.")
        self._batch_size = self._network.batch or int(batch_size)
        self._padded = self._network.batch is not None
        self._reducer = reducer
        self._traced = {}
        self.traces = 0

    def explain(
        self,
        inputs: Inputs,
        targets: Targets = None,
        baselines: Baselines = None,
        return_delta: bool = False,
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
          allow_nan: whether inputs may hold NaN.
          progress: whether to show Keras' progress bar.

        Returns:
          The attributions as NumPy arrays, in the structure and shape of `inputs` (of the hidden
          layers with `layer`), with `None` in the place of inputs that are held fixed. For `"all"`,
          `[N, C, ...]`. With `return_delta`, a pair of them and of the sums of the attributions minus
          (F(x) - F(baseline)), `[N]` or `[N, C]`. Of batches of different lengths, which make no one
          array, a list of what each batch has.

        Warns:
          UserWarning: attributions that should sum to F(x) - F(baseline) miss it by more than 5 %, with
            the rows and what to do; class numbers for an `output_layer` that does not make the scores.

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
            for part in self.explain_batches(inputs, targets, baselines, return_delta, allow_nan, progress):
                parts.append(part)
        except BaseException as error:
            error.results = _join(parts)
            raise
        if not parts:
            raise ValueError(
                "Explainer.explain: inputs is a data set without batches, expected at least one. Look at "
                "what filters it."
            )
        return _join(parts)

    def explain_batches(
        self,
        inputs: Inputs,
        targets: Targets = None,
        baselines: Baselines = None,
        return_delta: bool = False,
        allow_nan: bool = False,
        progress: bool = True,
    ) -> Iterator[Any]:
        """As `explain`, but yields what belongs to one batch after the other.

        For what does not fit into memory: nothing of a batch is kept.

        Args:
          inputs, targets, baselines, return_delta, allow_nan, progress: as for `explain`.

        Returns:
          An iterator of what `explain` returns, for one batch at a time.

        Raises:
          TypeError, ValueError, RuntimeError, KeyboardInterrupt: as `explain`.

        >>> rows = tf.data.Dataset.from_tensor_slices([[1.0], [2.0], [3.0]]).batch(2)
        >>> explainer = Explainer(lambda x: x[:, 0] ** 2)
        >>> [part.round(4).tolist() for part in explainer.explain_batches(rows, progress=False)]
        [[[1.0], [4.0]], [[9.0]]]
        """
        self._method.check_call(baselines, return_delta)
        if isinstance(inputs, tf.data.Dataset):
            source = _DataSet(self, inputs, targets, baselines)
        else:
            source = _Arrays(self, inputs, targets, baselines)
            if not allow_nan:
                _check_nan(source.inputs)
        if self._operator is not None and any(_is_text(t) for t in tf.nest.flatten(source.targets)):
            raise ValueError(
                f"Explainer: targets is {source.targets!r}, expected what the operator takes: arrays with "
                "one entry per row. The operator alone says what is explained."
            )
        return self._batches(source, return_delta, allow_nan, progress)

    # One batch after the other

    def _batches(self, source, return_delta, allow_nan, progress):
        bar = tf.keras.utils.Progbar(source.count, unit_name="batch") if progress else None
        batches, done, notes = iter(source), 0, _Notes(self._method, allow_nan)
        try:
            for number in itertools.count(1):
                with _naming_rows("reading the data set", done):
                    batch = next(batches, None)
                if batch is None:
                    break
                if not allow_nan and source.streamed:
                    _check_nan(batch.inputs, done)
                starts = batch.baselines
                if callable(starts):
                    with _naming_rows("the function that makes baselines", done, batch.rows):
                        starts = starts(batch.inputs)
                    starts = _named_baselines(starts, source.specs, lambda batch=batch: [batch.inputs])
                    starts = _stack(starts, source.specs, batch.rows, self._method.draws)
                call = self._prepare(source, batch, starts)
                notes.advice = call.advice
                with _naming_rows("the explanation", done, batch.rows, call.runs, batch):
                    result, sums = self._average(call, batch, starts)
                if sums is not None:
                    notes.compare(done, sums, call.covers)
                done += batch.rows
                if bar:
                    bar.update(number)
                yield (result, sums[..., 0]) if return_delta else result
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
        if count > 1:
            flat = [part / np.asarray(count, part.dtype) for part in flat]
            sums = None if sums is None else sums / np.asarray(count, sums.dtype)
        return call.pack([self._reduce(part, call) for part in flat]), sums

    def _reduce(self, part, call):
        if self._reducer is None or part.ndim != 4 + call.every or part.shape[-1] == 1:
            return part
        return REDUCERS[self._reducer](part, axis=-1, keepdims=True)

    def _prepare(self, source, batch, starts):
        """The traced function for such a batch; the class numbers are checked against it."""
        specs = source.specs
        targets = tf.nest.map_structure(self._target_spec, batch.targets)
        baselines = None
        if starts:
            baselines = [tf.TensorSpec([None, *s.shape[1:]], s.dtype) for s in starts[0]]
        key = repr((specs, targets, baselines))
        if key not in self._traced:
            self._traced[key] = self._trace(specs, targets, baselines)
        call = self._traced[key]
        if self._operator is None:
            known = batch.targets if source.streamed else source.targets
            if source.streamed or batch.start == 0:
                _check_classes(known, call.classes, batch.start)
        return call

    def _target_spec(self, target):
        """What is fed for targets; texts and None are part of the trace."""
        if target is None or _is_text(target):
            return target
        if np.ndim(target) == 0:
            return tf.TensorSpec([None], tf.int32)
        classes = self._operator is None and _are_classes(target)
        return tf.TensorSpec([None, *target.shape[1:]], tf.int32 if classes else target.dtype)

    def _trace(self, specs, targets, baselines):
        try:
            return _Call(self, specs, targets, baselines, self._padded)
        except _ModelError as error:
            # Some models cannot do without a number of rows. If that is not it, the first error stands.
            if not self._padded:
                with contextlib.suppress(_ModelError):
                    call = _Call(self, specs, targets, baselines, True)
                    self._padded = True
                    return call
            cause = error.cause
            if type(cause) in (ValueError, tf.errors.InvalidArgumentError) and "Explainer:" not in str(cause):
                cause = ValueError(
                    f"Explainer: the model failed on inputs {_describe(specs)}, expected what it takes. Look "
                    "at the shapes (a single row needs an axis of rows, x[None]) and at what the model said: "
                    f"{cause}"
                )
            raise cause from (None if error.__cause__ is error.cause else error.__cause__)


class _Notes:
    """What is to be said at the end of a call, once: how far sums are from the change of the output.

    Attributes:
      advice: text about the targets, or None.
    """

    def __init__(self, method, allow_nan):
        self._method, self._allow_nan = method, allow_nan
        self._rows, self._worst = [], (0.0, None)
        self.advice = None

    def compare(self, start, sums, covers):
        """Takes `[B, 3]` or `[B, C, 3]`: delta, change and what rounding explains."""
        delta, change, rounding = np.moveaxis(np.reshape(sums, [len(sums), -1, 3]), -1, 0).astype(np.float64)
        missed = (abs(delta) > TOLERANCE * abs(change)) & (abs(delta) > rounding) & covers
        if not self._allow_nan:
            missed |= ~np.isfinite(delta)
        if not missed.any():
            return
        self._rows += [start + row for row in np.flatnonzero(missed.any(1))]
        size = np.where(missed, np.nan_to_num(abs(delta), nan=np.inf), -1)
        row, column = np.unravel_index(size.argmax(), size.shape)
        if size[row, column] > self._worst[0]:
            self._worst = size[row, column], (start + row, delta[row, column], change[row, column])

    def warn(self):
        if self.advice:
            warnings.warn(self.advice, stacklevel=_outside())
        if self._rows:
            row, delta, change = self._worst[1]
            warnings.warn(
                f"Explainer.explain: the attributions of {_rows(self._rows)} do not sum to the change of the "
                f"output, worst in row {row}: they sum to {delta + change:.4g} and the output changes by "
                f"{change:.4g} (delta {delta:.4g}), expected within {TOLERANCE:.0%}. {self._method.remedy()}",
                stacklevel=_outside(),
            )


def _outside():
    """The stack level of who called this module."""
    level, frame = 1, sys._getframe(1)
    while frame.f_back is not None and frame.f_code.co_filename == __file__:
        level, frame = level + 1, frame.f_back
    return level


def _merged(method_options, options):
    """The options of the method, from both places where they may be given."""
    if not isinstance(method_options, (dict, type(None))):
        raise TypeError(
            f"Explainer: method_options is a {type(method_options).__name__}, expected a dict of options, "
            'such as {"num_steps": 50}.'
        )
    twice = [name for name in options if name in (method_options or {})]
    if twice:
        raise ValueError(
            f"Explainer: {twice[0]!r} is an argument and in method_options, too, expected one of them. Leave "
            "one out."
        )
    return {**(method_options or {}), **options}


# ---------------------------------------------------------------------------------------------------
# The graph that explains a batch
# ---------------------------------------------------------------------------------------------------


class _Call:
    """A traced function and what it was traced for.

    Attributes:
      classes: number of outputs that class numbers choose from, by name of the output.
      every: whether there is an axis of outputs in the attributions.
      covers: whether all that the output depends on is explained, so that attributions sum to its change.
      advice: text about targets that are probably meant otherwise, or None.
    """

    def __init__(self, explainer, specs, targets, baselines, padded):
        self._network, self._method = explainer._network, explainer._method
        self._operator, self._logits = explainer._operator, explainer._logits
        self._output_layer, self._layer = explainer._output_layer, explainer._layer
        self._size = explainer._batch_size if padded else None
        self.classes, self.covers, self.advice = {}, True, None
        self.every = any(_is_text(t) and t == "all" for t in tf.nest.flatten(targets))
        # Only integrated gradients have a Jacobian; the others explain one output after the other.
        self._jacobian = self.every and self._method.name == "integrated_gradients"
        self._in_turn = self.every and not self._jacobian
        if self._in_turn:
            self._turn = tf.nest.map_structure(lambda t: None, targets)
            targets = tf.nest.map_structure(lambda t: tf.TensorSpec([None], tf.int32), targets)
        self._targets = targets
        self._specs, self._starts = specs, baselines
        fed = [t for t in tf.nest.flatten(targets) if isinstance(t, tf.TensorSpec)]
        flat = [*tf.nest.flatten(specs), *fed, *(baselines or [])]
        self._dtypes = [spec.dtype for spec in flat]
        if padded:
            rows = len(flat) - len(baselines or [])
            flat = [
                tf.TensorSpec([self._size, *s.shape[1:]], s.dtype) if i < rows else s
                for i, s in enumerate(flat)
            ]

        def build(*tensors):
            explainer.traces += 1
            return self._build(list(tensors))

        traced = tf.function(build, input_signature=flat, autograph=False)
        self._function = traced.get_concrete_function()
        if self._in_turn and None in self.classes.values():
            raise ValueError(
                "Explainer: targets is 'all' and the model has an unknown number of outputs, expected [B, C] "
                "with a static C. Set it with set_shape where the model returns it."
            )

    # In the graph

    def _build(self, tensors):
        take = functools.partial(next, iter(tensors))
        inputs = tf.nest.map_structure(lambda spec: take(), self._specs)
        targets = tf.nest.map_structure(
            lambda t: take() if isinstance(t, tf.TensorSpec) else t, self._targets
        )
        starts = None if self._starts is None else [take() for _ in self._starts]
        places = [self._output_layer, *tf.nest.flatten(self._layer)]
        with _recording([place.layer for place in places if place is not None]) as seen:
            forward = functools.partial(self._forward, seen)
            if self._operator is None:
                ys, weights = self._choose(forward(inputs), targets)
            else:
                ys, weights = self._operate(_AsSeen(self._network, forward), inputs, targets), None
            wanted = inputs if self._layer is None else self._hidden(inputs, seen)
        self.structure = tf.nest.map_structure(lambda t: None, wanted)
        ways = self._ways(ys, inputs, wanted)
        self._held = [not tensors for _, tensors in ways]
        attributions, sums = self._attribute(ys, weights, inputs, ways, starts)
        parts = iter(attributions)
        shares = [(leaf, [next(parts) for _ in tensors]) for leaf, tensors in ways]
        return [self._gathered(leaf, share) for leaf, share in shares if share], sums

    def _gathered(self, leaf, parts):
        """One attribution for a leaf: an input that is cast at several places counts once."""
        if len(parts) == 1 and (leaf.dtype.is_floating or self._method.black_box):
            return parts[0]
        kept = 1 + self._jacobian
        return sum(tf.reshape(a, tf.concat([tf.shape(a)[:kept], tf.shape(leaf)[1:]], 0)) for a in parts)

    def _forward(self, seen, inputs, **options):
        """The model on tensors, up to `output_layer` or the logits."""
        outputs = ends = self._network(inputs, **options)
        if self._output_layer is not None:
            calls = _calls(self._network.model, self._output_layer.layer, seen, inputs)
            outputs = _the_call("output_layer", self._output_layer, calls)
        if (
            self._logits
            or self._output_layer
            or not all(x.dtype.is_floating for x in tf.nest.flatten(inputs))
        ):
            outputs, ends = _inlined([outputs, ends], [*tf.nest.flatten(inputs), *_recorded(seen)])
        self._further = {
            y.ref(): _weighed_after(y, tf.nest.flatten(ends))
            for y in tf.nest.flatten(outputs)
            if self._output_layer is not None and not self._logits
        }
        if self._logits:
            self._plain = {}
            outputs = tf.nest.map_structure(self._before_scores, outputs)
            self._check_logits(tf.nest.flatten(outputs))
        return outputs

    def _before_scores(self, y):
        logits, origin = _logits(y)
        if logits is None:
            self._plain[y.ref()] = origin
        return y if logits is None else logits

    def _check_logits(self, ys):
        if self._logits and all(y.ref() in self._plain for y in ys):
            origin = self._plain[ys[0].ref()]
            raise ValueError(
                f"Explainer: logits is True and the output comes from op {origin.name!r} ({origin.type}), "
                f"expected one of {_listed(SCORES)}, with nothing but reshaping after it. If the model "
                "returns logits already, leave logits out; otherwise name the layer that makes them: "
                "output_layer=..."
            )

    def _operate(self, network, inputs, targets):
        try:
            ys = _autographed(self._operator, [network, inputs, targets], {})
        except _ModelError:
            raise
        except Exception as error:
            if targets is not None or "None" not in str(error):
                raise
            raise ValueError(
                "Explainer: the operator failed without targets: targets is None (or the data set has "
                f"none), expected what the operator takes. Pass targets. It said: {error}"
            ) from error
        if not tf.is_tensor(ys) or ys.shape.rank not in (1, 2) or ys.shape[1:].num_elements() != 1:
            raise ValueError(
                f"Explainer: the operator returned {_describe(ys)}, expected a scalar per row: a tensor "
                "of shape [B]. Sum over the other axes, as in tf.reduce_sum(scores, axis=1)."
            )
        return ys

    def _choose(self, outputs, targets):
        """The outputs to explain and their weights, both lists or (for one output) alone."""
        outputs = self._network.named(outputs, self._output_layer is not None)
        if isinstance(targets, (list, tuple)):
            if len(targets) != len(outputs):
                raise ValueError(
                    f"Explainer: targets is {_describe(targets)}, expected one for each of the outputs "
                    f"{_listed(outputs)}. For class numbers of one output, pass an array, one per row."
                )
            targets = dict(zip(outputs, targets))
        if not isinstance(targets, dict):
            if len(outputs) > 1:
                raise ValueError(
                    f"Explainer: targets is {_describe(targets)} and the model has {len(outputs)} outputs, "
                    f"expected a dict with some of {_listed(outputs)}. Pass targets={{"
                    f"{next(iter(outputs))!r}: ...}}."
                )
            targets = dict.fromkeys(outputs, targets)
        elif not targets:
            raise ValueError(
                f"Explainer: targets is an empty dict, expected some of the outputs {_listed(outputs)}."
            )
        named = {str(name): y for name, y in outputs.items()}
        ys, weights = [], []
        for name, target in targets.items():
            if str(name) not in named:
                raise ValueError(
                    f"Explainer: targets has the key {name!r}, {_expected(str(name), named)}: the model's "
                    "outputs."
                )
            y = named[str(name)]
            label = f"targets[{name!r}]" if len(outputs) > 1 else "targets"
            self._check_choice(label, y, target)
            y, weight = _weigh(label, y, target)
            self.classes[str(name)] = 1 if y.shape.rank == 1 else y.shape.as_list()[-1]
            ys.append(y)
            weights.append(weight)
        self._check_logits([named[str(name)] for name in targets])
        if self.every and len(ys) > 1:
            raise ValueError(
                f"Explainer: targets is 'all' for one of {len(ys)} outputs, expected it alone: the "
                "outputs have different numbers of entries. Explain one output at a time."
            )
        if len(ys) == 1:
            return ys[0], weights[0]
        # What has no weights counts as it is.
        return ys, [tf.ones_like(y) if w is None else w for y, w in zip(ys, weights)]

    def _check_choice(self, label, y, target):
        """Class numbers mean the scores of the model, and hardly the units of a layer before them."""
        further = self._further.get(y.ref())
        chosen = target is None or _is_text(target) or _are_classes(target)
        if further is not None and chosen and y.shape.rank == 2 and y.shape[1] != 1:
            self.advice = (
                f"Explainer: {label} choose among the {y.shape[1]} units of output_layer "
                f"{self._output_layer.layer.name!r}, from which the model computes its scores with further "
                f"weights (op {further.name!r}), expected a layer that makes scores: its unit 3 is not class "
                "3. For the logits of a model, pass logits=True instead of output_layer; for units of a "
                "layer, weights [N, units]."
            )

    def _hidden(self, inputs, seen):
        """The hidden tensors to explain, in the structure of `layer`, or of the inputs beside them."""

        def find(place, member=None):
            calls = _calls(self._network.model, place.layer, seen, inputs)
            own = [call for call in calls if [id(x) for x in call.inputs] == [id(member)]]
            return _the_call("layer", place, own if len(own) == 1 and place.call is None else calls)

        if not isinstance(self._layer, dict) or not tf.nest.is_nested(inputs):
            return tf.nest.map_structure(find, self._layer)
        names = self._network.names(inputs)
        for name in self._layer:
            if name not in names:
                raise ValueError(
                    f"Explainer: layer has the key {name!r}, {_expected(name, names)}: the model's inputs. "
                    "For layers apart from inputs, pass a list of them."
                )
        members = dict(zip(names, _members(inputs)))
        # Of a layer that is called for several inputs, the call for this one.
        members.update({name: find(place, members[name]) for name, place in self._layer.items()})
        if isinstance(inputs, dict):
            return members
        return list(members.values()) if isinstance(inputs, list) else tuple(members.values())

    def _ways(self, ys, inputs, wanted):
        """Pairs of a leaf that is wanted and the tensors to explain: itself, its casts, none (held fixed)."""
        leaves = _named_leaves("inputs", wanted)
        given = {x.ref() for x in tf.nest.flatten(inputs)}
        fixed = [
            x.ref() in given and not x.dtype.is_floating and not self._method.black_box for _, x in leaves
        ]
        ways = [[] if hold else [x] for (_, x), hold in zip(leaves, fixed)]
        # Bytes are images; other integers are explained where there is nothing else.
        for bytes_only in (True, False):
            if bytes_only or not any(ways):
                ways = [
                    way or (_casts(ys, x) if hold and (x.dtype == tf.uint8) == bytes_only else [])
                    for way, (_, x), hold in zip(ways, leaves, fixed)
                ]
        for name, x in leaves:
            if (x.dtype.is_complex and not self._method.black_box) or not any(ways):
                raise TypeError(self._no_gradient(name, x))
        return [(x, way) for (_, x), way in zip(leaves, ways)]

    def _no_gradient(self, name, x):
        embedding = f"name their embedding: layer={self._network.embedding!r}."
        if x.dtype.is_complex:
            hint = "Pass the real and the imaginary part as two inputs, for tf.complex."
        elif x.dtype == tf.string:
            hint = f"For texts, {embedding}"
        else:
            hint = (
                "Numbers and images: let the model cast them first of all, with tf.cast, or convert them "
                f"with astype('float32') for a model that takes floats. For ids, {embedding}"
            )
        return (
            f"Explainer: {name} has dtype {x.dtype.name}, expected a floating dtype: there is no gradient "
            f"for {self._method.name}. {hint}"
        )

    def _check_layers(self, inputs, ways):
        """On one joint path nothing may be computed from the rest of it; conductance is of layers alone."""
        given = {x.ref() for x in tf.nest.flatten(inputs)}
        xs = [x for _, tensors in ways for x in tensors]
        for x in xs:
            if self._method.on_input_path and x.ref() in given:
                raise ValueError(
                    f"Explainer: layer leaves {x.name!r} an input, expected a layer in the place of every "
                    f"floating input for {self._method.name}. Pass the layers alone, as a list."
                )
            if ig._ops_between([x], [other for other in xs if other is not x]):
                raise ValueError(
                    f"Explainer: layer asks for several tensors and {x.name!r} is computed from others of "
                    "them, expected layers (and inputs beside them) that do not depend on one another: they "
                    "move together. Explain them one at a time."
                )

    def _attribute(self, ys, weights, inputs, ways, starts):
        """Flat attributions; and `[B, 3]` or `[B, C, 3]` of sums to compare, or None."""
        method = self._method
        if self._layer is not None:
            self._check_layers(inputs, ways)
        hidden = [x for _, tensors in ways for x in tensors]
        if method.on_input_path:
            ways = self._ways(ys, inputs, inputs)
        xs = [x for _, tensors in ways for x in tensors]
        before = self._before(ways, tf.nest.flatten(inputs), starts)
        if method.on_input_path:
            attributions = method(ys, xs, before, weights, layer=hidden)
            flat = tf.nest.flatten(ys)
            met = ig._first_met(flat, {x.ref(): x for x in [*hidden, *xs]}, ig._ops_between(flat, xs))
            self.covers = {x.ref() for x in met} == {x.ref() for x in hidden}
        else:
            # Options may have a value for each input.
            alike = all(len(tensors) == 1 for _, tensors in ways)
            shaped = functools.partial(tf.nest.pack_sequence_as, self.structure) if alike else list
            starts = None if before is None else shaped(before)
            explain = method.jacobian if self._jacobian else method
            attributions = tf.nest.flatten(explain(ys, shaped(xs), starts, weights))
        sums = self._compare(ys, weights, attributions, xs, before) if method.complete else None
        return attributions, sums

    def _before(self, ways, inputs, starts):
        """Where a path starts, flat: baselines of inputs (None for zeros), and what layers are there."""
        number = {x.ref(): i for i, x in enumerate(inputs)}
        hidden = [x for leaf, tensors in ways for x in tensors if leaf.ref() not in number]
        if not self._method.takes_baselines or (starts is None and not hidden):
            return None
        if starts is None:
            starts = [None] * len(inputs)
        if hidden:
            full = starts if self._method.draws else _full(inputs, starts)
            at = iter(ig.graph_replace(hidden, inputs, full))
        return [
            _start(x, starts[number[leaf.ref()]]) if leaf.ref() in number else next(at)
            for leaf, tensors in ways
            for x in tensors
        ]

    def _compare(self, ys, weights, attributions, xs, before):
        """Per row (and output): sum of attributions minus change of the output, the change, and rounding."""
        ys = tf.nest.flatten(ys)
        weights = tf.nest.flatten(weights) if weights is not None else [None] * len(ys)
        total = sum(self._sums(a) for a in attributions)
        rounding = 1e-3 * sum(self._sums(tf.abs(a)) for a in attributions)
        change = 0.0
        for y, y0, weight in zip(ys, ig.graph_replace(ys, xs, _full(xs, before)), weights):
            epsilon = np.finfo(y.dtype.as_numpy_dtype).eps if y.dtype != tf.bfloat16 else 2.0**-7
            y, y0 = tf.cast(y, tf.float64), tf.cast(y0, tf.float64)
            weight = 1.0 if weight is None else tf.cast(weight, tf.float64)
            change += self._sums((y - y0) * weight)
            rounding += 8 * epsilon * self._sums(abs(y * weight) + abs(y0 * weight))
        sums = tf.stack([total - change, change, rounding], -1)
        return tf.cast(sums, ig._wide(attributions[0].dtype))

    def _sums(self, values):
        """`[B]`, or `[B, C]` where there is an axis of outputs."""
        values = tf.cast(values, tf.float64)
        if self._jacobian:
            return tf.reduce_sum(values, list(range(2, values.shape.rank)))
        return ig._sum_features(values)

    # On a batch

    def __call__(self, batch, start):
        """The flat list of attributions of a batch of arrays, and the sums to compare or None."""
        if not self._in_turn:
            return self._run(batch, batch.targets, start)
        (count,) = self.classes.values()
        parts, compared = [], []
        for c in range(count):
            chosen = tf.nest.pack_sequence_as(self._turn, [np.full(batch.rows, c, np.int32)])
            flat, sums = self._run(batch, chosen, start)
            parts.append(flat)
            compared.append(sums)
        flat = [np.stack(columns, 1) for columns in zip(*parts)]
        return flat, None if compared[0] is None else np.stack(compared, 1)

    def _run(self, batch, targets, start):
        rows = [*tf.nest.flatten(batch.inputs), *_arrays_of(targets, batch.rows)]
        size = self._size or batch.rows
        parts = []
        for begin in range(0, batch.rows, size):
            end = min(begin + size, batch.rows)
            fed = [_slice(a, begin, end, size) for a in rows]
            if start is not None:
                each = [len(a) == batch.rows > 1 and not self._method.draws for a in start]
                fed += [_slice(a, begin, end, size) if per_row else a for a, per_row in zip(start, each)]
            fed = [tf.convert_to_tensor(_cast(a, dtype)) for a, dtype in zip(fed, self._dtypes)]
            flat, sums = self._function(*fed)
            flat = [a.numpy()[: end - begin] for a in flat]
            parts.append((flat, None if sums is None else sums.numpy()[: end - begin]))
        if len(parts) == 1:
            return parts[0]
        flat = [np.concatenate(columns) for columns in zip(*(flat for flat, _ in parts))]
        return flat, None if sums is None else np.concatenate([some for _, some in parts])

    def pack(self, parts):
        """Attributions in their structure, None in the place of what is held fixed."""
        parts = iter(parts)
        flat = [None if held else next(parts) for held in self._held]
        return tf.nest.pack_sequence_as(self.structure, flat)

    def runs(self, batch):
        """Whether the model alone runs on a batch."""
        size = self._size or batch.rows
        flat = [_slice(a, 0, min(size, batch.rows), size) for a in tf.nest.flatten(batch.inputs)]
        flat = [tf.convert_to_tensor(_cast(a, dtype)) for a, dtype in zip(flat, self._dtypes)]
        model = tf.function(self._network, autograph=False)
        try:
            tf.nest.map_structure(tf.identity, model(tf.nest.pack_sequence_as(self._specs, flat)))
        except Exception:
            return False
        return True


class _AsSeen:
    """The model as an operator sees it: called on inputs, up to `output_layer` or the logits."""

    def __init__(self, network, forward):
        self._network, self._forward = network, forward

    @tf.autograph.experimental.do_not_convert
    def __call__(self, *inputs, training=False, **named):
        if training is not None and not isinstance(training, tf.Tensor) and training:
            raise ValueError(
                "Explainer: the operator calls the model with training=True, expected inference mode: rows "
                "are explained one by one, and without dropout. Leave training out."
            )
        if not inputs:
            inputs = (named.pop("inputs"),) if "inputs" in named else (named,)
            named = {} if inputs[0] is named else named
        return self._forward(inputs[0] if len(inputs) == 1 else list(inputs), **named)

    def __getattr__(self, name):
        return getattr(self._network.model, name)


def _apply(function, arguments, options):
    return function(*arguments, **options)


# The user's code may branch on tensors as in any tf.function; this module's own code stays as it is.
_autographed = tf.autograph.to_graph(_apply)


def _weigh(label, y, target):
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
    if _is_text(target) and target == "all":
        if y.shape.rank > 2:
            raise ValueError(
                f"Explainer: {label} is 'all' and the output has shape {y.shape}, expected [B, C]. Pass "
                "weights of that shape, or an operator that picks [B]."
            )
        return (y[:, None] if y.shape.rank == 1 else y), None
    if target is None or _is_text(target):
        if single:
            return y, None
        if y.shape.rank != 2:
            raise ValueError(
                f"Explainer: {label} is {target!r} and the output has shape {y.shape}, expected targets "
                "that say what to explain of it. Pass weights of that shape, or an operator that "
                "returns [B]."
            )
        return y, tf.one_hot(tf.argmax(y, axis=1), _columns(y), dtype=y.dtype)
    if _are_classes(target):
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
    return y, tf.cast(target, y.dtype)


def _columns(y):
    return tf.shape(y)[1] if y.shape[1] is None else y.shape[1]


def _are_classes(targets):
    """Ints `[N]`, or `[N, 1]` as Keras' labels often are."""
    integer = tf.as_dtype(targets.dtype).is_integer
    return integer and (len(targets.shape) == 1 or (len(targets.shape) == 2 and targets.shape[1] == 1))


def _start(x, start):
    """A baseline in the dtype of what is explained."""
    if start is None or start.dtype == x.dtype:
        return start
    if start.dtype.is_floating and not x.dtype.is_floating:
        raise ValueError(
            f"Explainer: baselines are fractions for an input of dtype {x.dtype.name}, expected whole "
            "numbers: ids have no mean and no half. Pass one that exists, such as 0."
        )
    return tf.cast(start, x.dtype)


def _full(xs, starts):
    """Baselines in the shape of the flat `xs`."""
    if starts is None:
        starts = [None] * len(xs)
    return [
        tf.zeros_like(x) if start is None else tf.broadcast_to(_start(x, start), tf.shape(x))
        for x, start in zip(xs, starts)
    ]


# What is looked for in the graph of the model

SCORES = ("Softmax", "LogSoftmax", "Sigmoid")
# Ops that only arrange their floating inputs.
ARRANGING = frozenset(
    "Cast CheckNumerics ConcatV2 EnsureShape ExpandDims Identity IdentityN Pack PreventGradient Reshape "
    "Slice Snapshot Split SplitV Squeeze StridedSlice Transpose Unpack".split()
)
# Ops that only rename or arrange integers before they are cast.
RENAMING = frozenset("Cast ExpandDims Identity Reshape Squeeze".split())
WEIGHING = ("MatMul", "BatchMatMul", "Einsum", "Conv", "Depthwise", "While", "StatelessWhile")


def _logits(y):
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
    return ig.graph_replace(y, [ref.deref() for ref in scores], list(scores.values())), None


def _casts(ys, x):
    """The floating tensors that integers `x` are cast to, or none where something else reads them, too."""
    same, casts = {x.ref()}, []
    for op in ig._ops_between(tf.nest.flatten(ys), [x]):
        if not any(t.ref() in same for t in op.inputs) or op.type in ig.SHAPES:
            continue
        if op.type not in RENAMING or op.inputs[0].ref() not in same:
            return []
        if op.outputs[0].dtype.is_floating:
            casts.append(op.outputs[0])
        elif op.outputs[0].dtype == tf.bool != op.inputs[0].dtype:
            return []
        else:
            same.add(op.outputs[0].ref())
    return casts


def _weighed_after(y, ends):
    """The first op with weights between a hidden tensor and the outputs, or None."""
    between = ig._ops_between(ends, [y])
    return next((op for op in between if op.type.startswith(WEIGHING)), None)


def _inlined(outputs, known):
    """The outputs once more, computed from `known` tensors, if function calls hide how."""
    if any(op.type in ig.CALLS for op in ig._ops_between(tf.nest.flatten(outputs), known)):
        return ig.graph_replace(outputs, known, known)
    return outputs


def _recorded(seen):
    """What layers returned in this graph."""
    graph = tf.compat.v1.get_default_graph()
    flat = tf.nest.flatten(list(seen.values()))
    return [
        t for t in flat if isinstance(t, tf.Tensor) and getattr(t, "graph", None) is graph and t.shape.rank
    ]


# ---------------------------------------------------------------------------------------------------
# Methods by name
# ---------------------------------------------------------------------------------------------------


class _Method:
    """A graph builder with its options.

    Attributes:
      takes_baselines: whether it compares with a baseline.
      draws: whether its baselines are a data set to draw from.
      black_box: whether it needs no gradient.
      complete: whether its attributions sum to F(x) - F(baseline).
      on_input_path: whether it explains a hidden layer along the path of the inputs.
    """

    def __init__(self, name, options, hidden):
        if name not in METHODS:
            rule = f" A rule of integration is an option: method_options={{'method': {name!r}}}."
            hint = rule if name in RULES else ""
            raise ValueError(f"Explainer: method is {name!r}, {_expected(name, METHODS)}.{hint}")
        self.name, self._options = name, dict(options or {})
        self._function = METHODS[name]
        parameters = dict(inspect.signature(self._function).parameters)
        if name == "smoothgrad":
            builder = self._options.get("builder", "saliency")
            others = ("smoothgrad", "layer_conductance", "expected_gradients")
            simple = [method for method in METHODS if method not in others]
            if builder not in simple:
                raise ValueError(
                    f"Explainer: method_options['builder'] is {builder!r}, {_expected(builder, simple)}."
                )
            self._options["builder"] = METHODS[builder]
            parameters.update(inspect.signature(METHODS[builder]).parameters)
        del parameters["ys"], parameters["xs"]
        self._given = [p for p in ("grad_ys", "baselines", "baseline", "layer", "name") if p in parameters]
        self.takes_baselines = "baselines" in parameters or "baseline" in parameters
        self.draws = "baselines" in parameters and parameters["baselines"].default is inspect.Parameter.empty
        self.on_input_path = "layer" in parameters
        self.black_box, self.complete = name in BLACK_BOX, name in COMPLETE
        known = [p for p in parameters if p not in [*self._given, "builder_options", "per_row"]]
        for option in self._options:
            if option not in known:
                arguments = inspect.signature(Explainer).parameters
                names = [*known, *(p for p in arguments if p not in ("model", "options"))]
                raise ValueError(
                    f"Explainer: the options have {option!r}, {_expected(option, names)}: those of {name}, "
                    "and the arguments of Explainer. Baselines and targets are arguments of explain."
                )
        empty = inspect.Parameter.empty
        missing = [p for p in known if parameters[p].default is empty and p not in self._options]
        if missing:
            raise ValueError(
                f"Explainer: method_options lacks {_listed(missing)}, expected every option of {name} that "
                f"has no default. Pass method_options={{{missing[0]!r}: ...}}."
            )
        if self.on_input_path and not hidden:
            raise ValueError(
                f"Explainer: layer is None, expected the name or index of a layer for {name}. Pass layer=..."
            )

    def check_call(self, baselines, return_delta):
        if baselines is not None and not self.takes_baselines:
            raise ValueError(
                f"Explainer: baselines were given to {self.name}, expected None: it compares with nothing. "
                "Leave them out, or choose another method."
            )
        if baselines is None and self.draws:
            raise ValueError(
                f"Explainer: baselines is None, expected the data set that {self.name} draws from, [M, ...]. "
                "Pass a sample of the training data."
            )
        if return_delta and not self.complete:
            raise ValueError(
                f"Explainer: return_delta is True for {self.name}, expected a method whose attributions sum "
                f"to the change of the output: {_listed(COMPLETE)}. Leave it out."
            )

    def __call__(self, ys, xs, starts, weights, layer=None):
        options = dict(self._options)
        if weights is not None:
            options["grad_ys"] = weights
        if layer is not None:
            options["layer"] = layer
        if starts is not None:
            options["baselines" if "baselines" in self._given else "baseline"] = starts
        return self._function(ys=ys, xs=xs, **options)

    def jacobian(self, ys, xs, starts, weights):
        return ig.integrated_jacobian(ys, xs, starts, **self._options)

    def remedy(self):
        """What to do where attributions do not sum to the change of the output."""
        if self.name not in ("integrated_gradients", "layer_conductance"):
            return "Use method='integrated_gradients' with enough steps, or a network of ops that have rules."
        steps, rule = self._options.get("num_steps", 50), self._options.get("method", "auto")
        other = "gausslegendre" if rule == "secant" else "secant"
        return (
            f"Pass more steps, such as num_steps={4 * steps}, or another rule, method_options={{'method': "
            f"{other!r}, 'num_steps': {4 * steps}}}, and look at what return_delta=True returns."
        )


# ---------------------------------------------------------------------------------------------------
# Models of all kinds
# ---------------------------------------------------------------------------------------------------


class _ModelError(Exception):
    """The model, not the explanation, failed on tensors of a graph."""

    def __init__(self, cause):
        super().__init__(str(cause))
        self.cause = cause


class _Network:
    """A model as a function of one structure of tensors.

    Attributes:
      model: as it was given.
      batch: the number of rows that the model was made for, or None.
    """

    def __init__(self, model):
        if not callable(model):
            hint = "Give it a __call__, or pass the function that does the work."
            if hasattr(model, "signatures"):
                names = ", ".join(f"signatures[{name!r}]" for name in model.signatures)
                hint = f"Pass one of its signatures: {names or 'it has none'}."
            raise TypeError(
                f"Explainer: model is a {type(model).__name__}, expected a Keras model or anything that can "
                f"be called on tensors. {hint}"
            )
        self.model = model
        self._keras = hasattr(model, "get_layer") and hasattr(model, "call")
        self._arguments, self._options = _parameters(model)
        self._by_name = False
        self._named_inputs = self._declare()
        declared = [s.shape.as_list()[0] for s in self._named_inputs.values() if s.shape.rank]
        self.batch = next((rows for rows in declared if rows is not None), None)

    def _declare(self):
        """`{name: TensorSpec}` of the inputs, as far as the model tells."""
        if hasattr(self.model, "structured_input_signature"):
            positional, named = self.model.structured_input_signature
            if not tf.nest.flatten(positional):
                self._by_name = True
                return dict(named)
            specs = tf.nest.flatten(positional)
        elif self._keras:
            return {
                name: tf.TensorSpec(x.shape, x.dtype)
                for name, x in _keras_inputs(self.model).items()
                if not tf.nest.is_nested(x)
            }
        else:
            signature = getattr(self.model, "input_signature", None)
            specs = tf.nest.flatten(signature) if signature else []
        specs = [s for s in specs if isinstance(s, tf.TensorSpec)]
        return {str(number): spec for number, spec in enumerate(specs)}

    def declared(self, inputs):
        """What the model says about each leaf of `inputs`, TensorSpec or None, in their order."""
        specs = self._named_inputs
        flat = tf.nest.flatten(inputs)
        if not specs or any(tf.nest.is_nested(v) for v in _members(inputs)):
            return [None] * len(flat)
        if isinstance(inputs, dict):
            if self._keras or self._by_name:
                for name in inputs:
                    if name not in specs:
                        raise ValueError(
                            f"Explainer: inputs has the key {name!r}, {_expected(name, specs)}: the "
                            "model's inputs."
                        )
            return [specs.get(name) for name in sorted(inputs)]
        if len(flat) != len(specs):
            hint = "Stack rows of one input with np.stack." if len(specs) == 1 else "Pass one for each."
            raise ValueError(
                f"Explainer: inputs is {_describe(inputs)}, expected {len(specs)} "
                f"array{'s' * (len(specs) > 1)} for the model's inputs {_listed(specs)}. {hint}"
            )
        return list(specs.values())

    def names(self, inputs):
        """Of the members of a list, tuple or dict of inputs."""
        if isinstance(inputs, dict):
            return list(inputs)
        return next(
            (names for names in (list(self._named_inputs), self._arguments) if len(names) == len(inputs)),
            list(range(len(inputs))),
        )

    @property
    def embedding(self):
        """Name of the first embedding, or what it might be called."""
        found = [layer.name for layer in _all_layers(self.model) if "Embedding" in type(layer).__name__]
        return found[0] if found else "embedding"

    def __call__(self, inputs, **options):
        """The model's outputs for tensors of a graph, in inference mode."""
        arguments, options = [inputs], {**self._options, **options}
        if self._by_name:
            names = sorted(self._named_inputs)
            if not isinstance(inputs, dict):
                inputs = dict(zip(self._named_inputs if len(names) == 1 else names, tf.nest.flatten(inputs)))
            arguments, options = [], inputs
        elif len(self._arguments) > 1 and isinstance(inputs, dict):
            arguments, options = [], {**inputs, **options}
        elif len(self._arguments) > 1 and isinstance(inputs, (list, tuple)):
            arguments = list(inputs)
        try:
            outputs = _autographed(self.model, arguments, options)
        except Exception as error:
            raise _ModelError(_explained(error)) from error
        for y in tf.nest.flatten(outputs):
            if not tf.is_tensor(y) or hasattr(y, "numpy"):
                raise _ModelError(TypeError(_eager_only(f"it returned a {type(y).__name__}")))
        return outputs

    def named(self, outputs, from_layer):
        """`{name: tensor}` of the outputs."""
        if isinstance(outputs, dict):
            return outputs
        flat = tf.nest.flatten(outputs)
        names = [] if from_layer else getattr(self.model, "output_names", None) or []
        return dict(zip(names if len(names) == len(flat) else range(len(flat)), flat))

    def find(self, argument, which, several=False):
        """The layer of that name or index, as a `_Place`; of `several`, the structure of them."""
        if which is None:
            return None
        layers = list(_all_layers(self.model))
        if not layers:
            raise ValueError(
                f"Explainer: {argument} is {which!r} and the model is a {type(self.model).__name__} without "
                "layers that can be named, expected a Keras model. Pass a function that returns the tensor "
                "to explain, or call the graph functions inside a tf.function."
            )
        if isinstance(which, tuple) and len(which) == 2 and _is_count(which[1]) and not _is_count(which[0]):
            return _Place(self._layer(argument, which[0], layers), int(which[1]))
        if isinstance(which, dict) and which and several:
            return {key: self.find(f"{argument}[{key!r}]", part) for key, part in which.items()}
        if isinstance(which, (list, tuple)) and which and several:
            return [self.find(f"{argument}[{i}]", part) for i, part in enumerate(which)]
        return _Place(self._layer(argument, which, layers))

    def _layer(self, argument, which, layers):
        if any(which is layer for layer in layers):
            return which
        direct = list(getattr(self.model, "layers", []))
        if _is_count(which) and direct:
            if not -len(direct) <= which < len(direct):
                raise ValueError(
                    f"Explainer: {argument} is {which}, expected an index from {-len(direct)} to "
                    f"{len(direct) - 1}, or a name: the model has the layers "
                    f"{_listed(layer.name for layer in direct)}."
                )
            return direct[which]
        if not _is_text(which):
            raise TypeError(
                f"Explainer: {argument} is a {type(which).__name__}, expected the name or index of a layer"
                f"{'' if argument == 'output_layer' else ', or a list or dict of such'}. The model has the "
                f"layers {_listed(layer.name for layer in direct or layers)}; a pair (name, 0) is one of the "
                "calls of a layer."
            )
        found = [layer for layer in direct if layer.name == which]
        found = found or [layer for layer in layers if layer.name == which]
        if len(found) != 1:
            names = [layer.name for layer in layers]
            problem = _expected(which, names) if not found else f"which {len(found)} layers are called"
            hint = " Pass layers themselves to tell them apart." if found else ""
            if argument == "output_layer" and not found:
                hint = " For what the last softmax or sigmoid reads, pass logits=True."
            raise ValueError(f"Explainer: {argument} is {which!r}, {problem}.{hint}")
        return found[0]


@dataclasses.dataclass(frozen=True, eq=False)
class _Place:
    """A layer and which of its calls is meant, None for the only one."""

    layer: Any
    call: int | None = None


def _keras_inputs(model):
    """`{name: KerasTensor}`; empty for models that are subclassed or not built."""
    with contextlib.suppress(AttributeError, ValueError):
        if isinstance(model.input, dict):
            return model.input
    try:
        inputs = list(model.inputs or [])
    except (AttributeError, ValueError):
        return {}
    return dict(zip(getattr(model, "input_names", None) or [x.name for x in inputs], inputs))


def _all_layers(holder, seen=None):
    """The Keras layers in a model, in its layers, modules, lists and dicts, each once."""
    seen = {id(holder)} if seen is None else seen
    attributes = list(getattr(holder, "__dict__", {}).values())
    if isinstance(holder, (dict, list, tuple)):
        members = list(holder.values() if isinstance(holder, dict) else holder)
    elif hasattr(holder, "_flatten_layers"):
        members = [
            *getattr(holder, "layers", []),
            *holder._flatten_layers(recursive=False, include_self=False),
        ]
        members += [part for part in attributes if isinstance(part, tf.Module)]
    else:
        members = attributes
    for member in members:
        layer = hasattr(member, "_flatten_layers")
        if (layer or isinstance(member, (dict, list, tuple, tf.Module))) and id(member) not in seen:
            seen.add(id(member))
            if layer:
                yield member
            yield from _all_layers(member, seen)


def _parameters(model):
    """Names of the arguments without default, and what makes it run in inference mode."""
    function = getattr(model, "call", None) or getattr(model, "python_function", model)
    if hasattr(model, "structured_input_signature"):
        return [], {}
    try:
        parameters = inspect.signature(function).parameters
    except (TypeError, ValueError):
        return [], {}
    needed = [
        name
        for name, p in parameters.items()
        if p.default is p.empty and p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)
    ]
    anything = any(p.kind is p.VAR_KEYWORD for p in parameters.values()) and hasattr(model, "get_layer")
    inference = {"training": False} if "training" in parameters or anything else {}
    return [name for name in needed if name != "training"], inference


def _explained(error):
    """For models that only run eagerly, an error that says so."""
    graph = isinstance(error, (NotImplementedError, tf.errors.OperatorNotAllowedInGraphError))
    if graph or (isinstance(error, (AttributeError, TypeError, RuntimeError)) and "numpy" in str(error)):
        return TypeError(_eager_only(str(error)))
    return error


def _eager_only(what):
    return (
        "Explainer: the model runs eagerly only and cannot be traced into a graph, expected TensorFlow ops "
        "from the inputs to the outputs: explanations are gradients of its graph. Replace .numpy() and "
        "NumPy functions of tensors by TensorFlow's, and let the model return tensors (for Keras 3, "
        f"KERAS_BACKEND=tensorflow). It said: {what}"
    )


@contextlib.contextmanager
def _recording(layers):
    """Keeps what Keras layers return while the model is traced: `{id(layer): [outputs]}`."""
    seen = {id(layer): [] for layer in layers}
    before = {}
    try:
        for layer in layers:
            if id(layer) not in before:
                before[id(layer)] = layer.__dict__.get("call")
                layer.__dict__["call"] = _recorder(layer.call, seen[id(layer)])
        yield seen
    finally:
        for layer in layers:
            call = before.pop(id(layer), layer)
            if call is None:
                del layer.__dict__["call"]
            elif call is not layer:
                layer.__dict__["call"] = call


def _recorder(call, outputs):
    @functools.wraps(call)
    def record(*arguments, **options):
        result = call(*arguments, **options)
        outputs.append(result)
        return result

    return record


_LayerCall = collections.namedtuple("_LayerCall", "outputs names inputs here")


def _calls(model, layer, seen, inputs):
    """The calls of a layer while the model runs, in the order of its code as far as that can be told."""
    graph = tf.compat.v1.get_default_graph()
    leaves = _named_leaves("inputs", inputs)
    calls = []
    for outputs in seen[id(layer)]:
        flat = tf.nest.flatten(outputs)
        here = all(getattr(t, "graph", None) is graph for t in flat)
        read = [
            (name, x)
            for name, x in leaves
            if here and (ig._ops_between(flat, [x]) or any(t is x for t in flat))
        ]
        calls.append(_LayerCall(outputs, [name for name, _ in read], [x for _, x in read], here))
    inner = [call for call in calls if call.here]
    if not inner:
        return calls
    # A functional model runs its layers in an order of its own: back to that of its code, or of the inputs.
    for network in [model, *_all_layers(model)]:
        by_depth = getattr(network, "_nodes_by_depth", {})
        made = getattr(layer, "_inbound_nodes", [])
        running = [node for depth in sorted(by_depth, reverse=True) for node in by_depth[depth]]
        order = [i for node in running for i, some in enumerate(made) if some is node]
        if len(order) == len(inner):
            return [call for _, call in sorted(zip(order, inner), key=lambda pair: pair[0])]
    names = [name for name, _ in leaves]
    return sorted(inner, key=lambda call: [names.index(name) for name in call.names])


def _the_call(argument, place, calls):
    """What the layer returned at the call that is meant."""
    name, which = place.layer.name, place.call
    if len(calls) == 1 and which is None and calls[0].here:
        return calls[0].outputs
    if not calls or not calls[0].here:
        problem = "is called inside a tf.function of the model's own" if calls else "is not called"
        raise ValueError(
            f"Explainer: {argument} {name!r} {problem} when the model runs, expected one call. Name another "
            "layer, or call the graph functions inside a tf.function."
        )
    if which is not None and -len(calls) <= which < len(calls):
        return calls[which].outputs
    described = "; ".join(
        f"{i}: {_describe(call.outputs)} from {', '.join(call.names) or 'nothing'}"
        for i, call in enumerate(calls)
    )
    several = "" if argument == "output_layer" else f", or a list for several: [({name!r}, 0), ...]"
    raise ValueError(
        f"Explainer: {argument} {name!r} is called {len(calls)} time{'s' * (len(calls) > 1)} when the model "
        f"runs ({described}), expected {'one call' if which is None else f'one of these and not {which}'}. "
        f"Choose: {argument}=({name!r}, 0){several}."
    )


# ---------------------------------------------------------------------------------------------------
# Arrays and data sets
# ---------------------------------------------------------------------------------------------------


class _Arrays:
    """Batches of arrays.

    Attributes, as those of `_DataSet`:
      specs: TensorSpecs `[None, ...]` in the structure of the inputs.
      targets: of all rows; None where the data set knows them.
      count: number of batches, or None.
      streamed: whether rows are seen only when their batch comes.
    """

    streamed = False

    def __init__(self, explainer, inputs, targets, baselines):
        self.inputs = _as_arrays("inputs", inputs)
        leaves = _named_leaves("inputs", self.inputs)
        if not leaves:
            raise ValueError(f"Explainer: inputs is {inputs!r}, expected at least one array [N, ...].")
        for name, x in leaves:
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
        self.specs = _specs(explainer._network, self.inputs)
        self.targets = _as_targets(targets, self._rows)
        _check_rows(self.inputs, explainer, "expected rows of it: [N, ...]. Add an axis: x[None].")
        self._starts = baselines
        if not callable(baselines):
            baselines = _named_baselines(baselines, self.specs, lambda: [self.inputs])
            self._starts = _stack(baselines, self.specs, self._rows, explainer._method.draws)
        self._draws = explainer._method.draws
        self._size = explainer._batch_size
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


class _DataSet:
    """Batches of a `tf.data.Dataset`."""

    streamed = True

    def __init__(self, explainer, dataset, targets, baselines):
        self._dataset = dataset
        spec = dataset.element_spec
        self._pairs = isinstance(spec, tuple) and len(spec) in (2, 3)
        self._alone = isinstance(spec, tuple) and len(spec) == 1
        inputs = self._inputs_of(spec)
        self._check(inputs, explainer)
        self.specs = _specs(explainer._network, inputs)
        self._given = self.targets = None
        if targets is not None:
            if any(np.ndim(t) or tf.is_tensor(t) for t in tf.nest.flatten(targets)):
                raise ValueError(
                    "Explainer: targets is an array beside a data set, expected them in it. Zip them: "
                    "tf.data.Dataset.zip((inputs, targets)), batched alike."
                )
            self._given = self.targets = _as_targets(targets, None)
        count = int(dataset.cardinality())
        self._starts = baselines
        if not callable(baselines):
            baselines = _named_baselines(baselines, self.specs, self._all_inputs)
            self._starts = _stack(baselines, self.specs, None, explainer._method.draws)
        self.count = count if count >= 0 else None

    def _check(self, inputs, explainer):
        for name, spec in _named_leaves("inputs", inputs):
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
                    f"Pass dataset.batch({explainer._batch_size})."
                )
        advice = f"in the data set, expected batches of it. Pass dataset.batch({explainer._batch_size})."
        _check_rows(inputs, explainer, advice)

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
            targets = _as_targets(targets, rows, start)
            if rows:
                yield _Batch(start, rows, inputs, targets, self._starts)
            start += rows


def _check_rows(inputs, explainer, advice):
    """One row alone has one axis less than the model wants."""
    for (name, x), wanted in zip(_named_leaves("inputs", inputs), explainer._network.declared(inputs)):
        shape = tf.TensorShape(x.shape)
        if wanted is None or not wanted.shape.rank or shape.rank != wanted.shape.rank - 1:
            continue
        # (Keras adds a last axis of size 1 by itself.)
        widened = shape.concatenate(1).is_compatible_with(wanted.shape)
        if shape.is_compatible_with(wanted.shape[1:]) and not widened:
            raise ValueError(
                f"Explainer: {name} has shape {shape}, that of a single row of {wanted.shape}, {advice}"
            )


def _specs(network, inputs):
    """TensorSpecs of any number of rows, of the dtypes that the model declares."""
    flat = []
    for x, declared in zip(tf.nest.flatten(inputs), network.declared(inputs)):
        dtype = tf.as_dtype(x.dtype)
        if declared is not None and dtype != tf.string:
            dtype = declared.dtype
        flat.append(tf.TensorSpec([None, *x.shape[1:]], dtype))
    return tf.nest.pack_sequence_as(inputs, flat)


def _as_arrays(name, value):
    """The structure with its leaves as arrays; nested lists of numbers are one array."""
    if isinstance(value, dict):
        return {key: _as_arrays(f"{name}[{key!r}]", part) for key, part in value.items()}
    if isinstance(value, (list, tuple)) and any(_is_array(v) or isinstance(v, dict) for v in value):
        parts = (_as_arrays(f"{name}[{i}]", part) for i, part in enumerate(value))
        return getattr(type(value), "_make", type(value))(parts)
    try:
        # As TensorFlow reads lists: float32 and int32.
        array = tf.convert_to_tensor(value).numpy() if isinstance(value, (list, tuple)) else np.asarray(value)
        tf.as_dtype(array.dtype)
        if array.dtype == object and array.size and not isinstance(array.flat[0], (str, bytes)):
            raise TypeError("an array of Python objects")
    except (TypeError, ValueError, NotImplementedError) as error:
        raise TypeError(
            f"Explainer: {name} is a {type(value).__name__}, expected an array or a dense tensor of numbers. "
            f"{_densely(name, value)} It said: {error}"
        ) from None
    return array


def _densely(name, value):
    """How to make an array of what is none."""
    if isinstance(value, tf.RaggedTensor):
        return f"Pass {name}.to_tensor(), which fills rows up with zeros."
    if isinstance(value, tf.SparseTensor):
        return f"Pass tf.sparse.to_dense({name})."
    if isinstance(value, tf.IndexedSlices):
        return f"Pass tf.convert_to_tensor({name})."
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


def _as_targets(targets, rows, start=0):
    """Targets with arrays of the right length, texts, ints and None as leaves."""
    if targets is None or isinstance(targets, numbers.Integral) and not isinstance(targets, bool):
        return targets
    if _is_text(targets):
        if targets not in ("predicted", "all"):
            raise ValueError(
                f"Explainer: targets is {targets!r}, {_expected(targets, ['predicted', 'all'])}, class "
                "numbers or weights."
            )
        return targets
    if isinstance(targets, dict):
        return {name: _as_targets(target, rows, start) for name, target in targets.items()}
    if isinstance(targets, (list, tuple)) and any(
        t is None or _is_text(t) or isinstance(t, dict) for t in targets
    ):
        return [_as_targets(target, rows, start) for target in targets]
    targets = _as_arrays("targets", targets)
    if tf.nest.is_nested(targets):
        if not (isinstance(targets, list) and _are_rows(targets, rows)):
            return tf.nest.map_structure(lambda t: _as_targets(t, rows, start), targets)
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


def _check_classes(targets, classes, start):
    """Class numbers must be there; `classes` holds how many there are."""
    if isinstance(targets, (list, tuple)):
        targets = dict(zip(classes, targets))
    if not isinstance(targets, dict):
        targets = dict.fromkeys(classes, targets)
    for name, target in targets.items():
        count = classes.get(str(name))
        if target is None or _is_text(target) or count is None:
            continue
        if np.ndim(target) and not _are_classes(target):
            continue
        numbers_ = np.atleast_1d(target).reshape(-1)
        wrong = np.flatnonzero((numbers_ < 0) | (numbers_ >= count))
        if len(wrong):
            label = f"targets[{name!r}]" if len(classes) > 1 else "targets"
            where = f" in {_rows(wrong + start)}" if np.ndim(target) else ""
            hint = (
                "For its only output, leave targets out; weights are floats."
                if count == 1
                else "One-hot rows and weights have one column per output."
            )
            raise ValueError(
                f"Explainer: {label} is {numbers_[wrong[0]]}{where}, expected class numbers from 0 to "
                f"{count - 1}: the model has {count} output{'s' * (count > 1)}. {hint}"
            )


def _stack(baselines, specs, rows, draws):
    """Baselines as a list (one entry for each to average over) of flat lists of arrays `[1 or N, ...]`."""
    if baselines is None:
        return None
    stacks = []
    for (name, spec), value in zip(_named_leaves("inputs", specs), _paired(baselines, specs)):
        array = _as_arrays(f"the baseline of {name}", 0 if value is None else value)
        if tf.nest.is_nested(array):
            array = np.asarray(array) if len({part.shape for part in array}) == 1 else None
        if array is None:
            raise ValueError(
                f"Explainer: the baseline of {name} is {_describe(value)}, expected an array that fits it. "
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
            stacks.append(_cast_start(array, spec.dtype)[None])
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
        stacks.append(_cast_start(array, spec.dtype))
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
        return [value for _, value in ig._pair_up(specs, baselines)]
    except (ValueError, TypeError, KeyError):
        raise ValueError(
            f"Explainer: baselines is {_describe(baselines)}, expected a scalar for all or the structure "
            f"of the inputs, {_describe(specs)}. Give every input its own, None for zeros."
        ) from None


def _cast_start(array, dtype):
    """Baselines of integers keep their fractions: images are explained as floats."""
    if dtype == tf.string and array.dtype.kind not in "OSU":
        return np.full(array.shape, b"", object)
    if not dtype.is_floating and array.dtype.kind == "f":
        whole = array == np.round(array)
        return _cast(array, dtype if whole.all() else tf.float32)
    return _cast(array, dtype)


def _named_baselines(baselines, specs, inputs):
    """Baselines with arrays in the place of names; `inputs()` are all of the batches that they are of."""
    texts = [value for value in tf.nest.flatten(baselines) if _is_text(value)]
    unknown = [text for text in texts if text not in BASELINES]
    if unknown:
        raise ValueError(
            f"Explainer: baselines is {unknown[0]!r}, {_expected(unknown[0], BASELINES)}, numbers, arrays or "
            "a function of the batch."
        )
    if not texts:
        return baselines
    values = _paired(baselines, specs)
    for i, ((name, spec), value) in enumerate(zip(_named_leaves("inputs", specs), values)):
        if _is_text(value) and value != "zeros":
            values[i] = _statistic(value, name, spec, (tf.nest.flatten(batch)[i] for batch in inputs()))
        elif _is_text(value):
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


def _arrays_of(targets, rows):
    """The arrays to feed for targets, in their order."""
    arrays = [t for t in tf.nest.flatten(targets) if t is not None and not _is_text(t)]
    return [np.full(rows, t, np.int32) if np.ndim(t) == 0 else t for t in arrays]


def _slice(array, start, stop, size):
    """Rows `start` to `stop`, the last one repeated up to `size` rows."""
    if start == 0 and stop == size == len(array):
        return array
    part = array[start:stop]
    missing = size - (stop - start)
    return np.concatenate([part, np.repeat(part[-1:], missing, 0)]) if missing else part


def _cast(array, dtype):
    if dtype == tf.string or array.dtype == dtype.as_numpy_dtype:
        return array
    return array.astype(dtype.as_numpy_dtype)


def _check_nan(inputs, start=0):
    for name, x in _named_leaves("inputs", inputs):
        if not tf.as_dtype(x.dtype).is_floating:
            continue
        # Some rows at a time: a mask of everything would double the memory.
        found = []
        for begin in range(0, len(x), 1024):
            part = np.isnan(x[begin : begin + 1024])
            if part.any():
                found.extend(begin + start + np.flatnonzero(part.reshape(len(part), -1).any(1)))
        if found:
            raise ValueError(
                f"Explainer: {name} holds NaN in {_rows(found)}, expected numbers: every attribution of such "
                "a row is NaN. Leave those rows out or fill them, or pass allow_nan=True."
            )


@contextlib.contextmanager
def _naming_rows(what, done, rows=None, runs=None, batch=None):
    """Says in which rows something failed, what is done and what to do."""
    try:
        yield
    except (KeyboardInterrupt, Exception) as error:
        where = f"rows from {done} on" if rows is None else _rows(range(done, done + rows))
        before = f"{_rows(range(done))} done before and not lost" if done else "nothing was done before"
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


def _rows(which):
    """Row numbers as text."""
    which = [int(row) for row in which]
    if len(which) == 1:
        return f"row {which[0]}"
    if which == list(range(which[0], which[-1] + 1)):
        return f"rows {which[0]} to {which[-1]}"
    shown = ", ".join(map(str, which[:10]))
    return f"rows {shown}" + (f" and {len(which) - 10} more" if len(which) > 10 else "")


def _join(parts):
    """What batches have, one after the other; the list of it where lengths differ."""
    if not parts:
        return None
    flat = [tf.nest.flatten(part) for part in parts]
    if any(len({None if a is None else a.shape[1:] for a in column}) > 1 for column in zip(*flat)):
        return parts
    return tf.nest.map_structure(
        lambda *arrays: None if arrays[0] is None else np.concatenate(arrays), *parts
    )


def _named_leaves(name, structure):
    """Pairs of a name such as inputs['left'] and a leaf, in the order of tf.nest."""
    if isinstance(structure, dict):
        members = [(f"{name}[{key!r}]", structure[key]) for key in sorted(structure)]
    elif isinstance(structure, (list, tuple)):
        members = [(f"{name}[{i}]", part) for i, part in enumerate(structure)]
    else:
        return [(name, structure)]
    return [pair for member in members for pair in _named_leaves(*member)]


def _members(structure):
    if isinstance(structure, dict):
        return list(structure.values())
    return list(structure) if isinstance(structure, (list, tuple)) else [structure]


def _is_array(value):
    return tf.is_tensor(value) or (hasattr(value, "shape") and np.ndim(value) > 0)


def _is_count(value):
    return isinstance(value, numbers.Integral) and not isinstance(value, bool)


def _is_text(value):
    return isinstance(value, str)


def _listed(names):
    return ", ".join(repr(name) for name in names)


def _expected(given, known):
    """ "expected ..." with near names first, all of them where they are few."""
    known = [str(name) for name in known]
    near = difflib.get_close_matches(str(given), known, n=3, cutoff=0.5)
    if near:
        return f"expected one of {len(known)} names, such as the near {_listed(near)}"
    return f"expected {_listed(known[:20])}" + (", ..." if len(known) > 20 else "")


def _describe(structure):
    if hasattr(structure, "shape") and hasattr(structure, "dtype"):
        kind = "tensor" if tf.is_tensor(structure) else type(structure).__name__
        return f"{kind} {structure.shape}"
    if isinstance(structure, (dict, list, tuple)):
        members = ", ".join(
            f"{key!r}: {_describe(part)}" if isinstance(structure, dict) else _describe(part)
            for key, part in (structure.items() if isinstance(structure, dict) else enumerate(structure))
        )
        return ("{%s}" if isinstance(structure, dict) else "[%s]") % members
    return repr(structure) if structure is None or _is_text(structure) else type(structure).__name__
