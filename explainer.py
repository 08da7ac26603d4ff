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
import difflib
import functools
import inspect
import itertools
import numbers
from collections.abc import Callable, Iterator
from typing import Any, TypeAlias

import numpy as np
import tensorflow as tf

import attribution_methods_tf as methods
import integrated_gradients_tf as ig

__all__ = ["Explainer"]

Inputs: TypeAlias = np.ndarray | tf.Tensor | list | tuple | dict | tf.data.Dataset
Targets: TypeAlias = np.ndarray | tf.Tensor | list | dict | int | str | None
Baselines: TypeAlias = np.ndarray | tf.Tensor | list | tuple | dict | float | Callable | None

METHODS = {
    "integrated_gradients": ig.integrated_gradients,
    "layer_conductance": ig.layer_conductance,
    **{name: getattr(methods, name) for name in methods.__all__},
}
# Those whose attributions sum to F(x) - F(baseline).
COMPLETE = ("integrated_gradients", "layer_conductance", "deeplift", "shapley_value_sampling")
# Those that need no gradient: of ids, too.
BLACK_BOX = ("occlusion", "shapley_value_sampling")
REDUCERS = {"mean": np.mean, "sum": np.sum, "max": np.max, "min": np.min}

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
        model's: logits before their softmax.
      layer: name or index of a Keras layer that attributions are for, instead of the inputs. Its
        baseline is what it is for `baselines`, which stay those of the inputs.
      operator: function `(model, inputs, targets)` of tensors that returns what to explain, a scalar
        per row: `[B]`. Boxes of a detector, the distance from a measured value and the like.
      batch_size: rows to explain at once. A data set brings its own batches. A model that was made for a
        number of rows gets that many, the last batch filled up.
      reducer: `"mean"`, `"sum"`, `"max"` or `"min"` over the channels of images: `[N, H, W, 1]` for
        `[N, H, W, channels]`. `None` and other shapes: nothing is reduced.
      method_options: dict of options of the method, such as
        `{"method": "riemann_trapezoid", "num_steps": 50}`. For `"smoothgrad"`, `builder` is the name
        of the method to average, `"saliency"` unless given.

    Attributes:
      traces: how many times the model was traced so far.

    Raises:
      TypeError: `model` or `operator` is not callable, or an option has the wrong type.
      ValueError: unknown method, layer, reducer or option (the message lists near names).

    >>> explainer = Explainer(lambda x: tf.stack([x[:, 0] * x[:, 1], 3 * x[:, 0]], axis=1))
    >>> explainer.explain([[3.0, 2.0], [1.0, 4.0]], targets=[0, 1], progress=False).round(4).tolist()
    [[3.0, 3.0], [3.0, 0.0]]
    """

    def __init__(
        self,
        model: Callable,
        method: str = "integrated_gradients",
        output_layer: str | int | None = None,
        layer: str | int | None = None,
        operator: Callable | None = None,
        batch_size: int = 32,
        reducer: str | None = None,
        method_options: dict[str, Any] | None = None,
    ) -> None:
        self._network = _Network(model)
        self._method = _Method(method, method_options, layer is not None)
        self._output_layer = self._network.find("output_layer", output_layer)
        self._layer = self._network.find("layer", layer)
        if operator is not None and not callable(operator):
            raise TypeError(
                f"Explainer: operator is a {type(operator).__name__}, expected a function (model, inputs, "
                "targets) that returns a scalar per row. Leave it out to explain the model's outputs."
            )
        # Of a tf.function its Python code, so that hidden layers are in the graph to be explained.
        self._operator = getattr(operator, "python_function", operator)
        if not isinstance(batch_size, numbers.Integral) or isinstance(batch_size, bool) or batch_size < 1:
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
          targets: which outputs to explain. `None`: the only one, or `"predicted"` where there are
            several; of a data set, the targets in it. `"predicted"`: the largest one of each row.
            `"all"`: every one. An int: that one. Ints `[N]`: one per row. One-hot rows or any weights
            `[N, C]`. A dict `{output name: targets}` for a model with several outputs (named by key,
            by Keras, or by number), whose sum is explained; those that are not named are left out.
            With `operator`: what it takes, arrays with one entry per row or `None`.
          baselines: what the inputs are compared with. `None` (zeros), a scalar, one row `[1, ...]`,
            one for each row `[N, ...]`, a stack of several `[K, 1, ...]` or `[K, N, ...]` to average
            over, or a function that gets a batch of inputs and returns one of these. With several
            inputs: a scalar for all, or the same structure.
          return_delta: whether to return the convergence delta, too.
          allow_nan: whether inputs may hold NaN.
          progress: whether to show Keras' progress bar.

        Returns:
          The attributions as NumPy arrays, in the structure and shape of `inputs` (of the hidden
          layer with `layer`). For `"all"`, `[N, C, ...]`. With `return_delta`, a pair of them and of
          the sums of the attributions minus (F(x) - F(baseline)), `[N]` or `[N, C]`.

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
        batches, done = iter(source), 0
        for number in itertools.count(1):
            with _naming_rows(done):
                batch = next(batches, None)
            if batch is None:
                break
            if not allow_nan and source.streamed:
                _check_nan(batch.inputs, done)
            starts = batch.baselines
            if callable(starts):
                with _naming_rows(done, batch.rows):
                    starts = starts(batch.inputs)
                starts = _stack(starts, source.specs, batch.rows, self._method.draws)
            call = self._prepare(source, batch, starts, return_delta)
            with _naming_rows(done, batch.rows):
                result = self._average(call, batch, starts)
            done += batch.rows
            if bar:
                bar.update(number)
            yield result
        if bar and done:
            bar.update(number - 1, finalize=True)

    def _average(self, call, batch, starts):
        """The mean over the stack of baselines, reduced."""
        flat, delta = None, None
        for start in starts or [None]:
            parts, change = call(batch, start)
            flat = parts if flat is None else [a + b for a, b in zip(flat, parts)]
            delta = change if delta is None else delta + change
        count = len(starts or [None])
        if count > 1:
            flat = [part / np.asarray(count, part.dtype) for part in flat]
            delta = None if delta is None else delta / np.asarray(count, delta.dtype)
        result = tf.nest.pack_sequence_as(call.structure, [self._reduce(part, call) for part in flat])
        return result if delta is None else (result, delta)

    def _reduce(self, part, call):
        if self._reducer is None or part.ndim != 4 + call.every or part.shape[-1] == 1:
            return part
        return REDUCERS[self._reducer](part, axis=-1, keepdims=True)

    def _prepare(self, source, batch, starts, return_delta):
        """The traced function for such a batch; the class numbers are checked against it."""
        specs = source.specs
        targets = tf.nest.map_structure(self._target_spec, batch.targets)
        baselines = None
        if starts:
            baselines = [tf.TensorSpec([None, *s.shape[1:]], s.dtype) for s in starts[0]]
        key = repr((specs, targets, baselines, return_delta))
        if key not in self._traced:
            self._traced[key] = self._trace(specs, targets, baselines, return_delta)
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

    def _trace(self, specs, targets, baselines, return_delta):
        try:
            return _Call(self, specs, targets, baselines, return_delta, self._padded)
        except _ModelError as error:
            # Some models cannot do without a number of rows. If that is not it, the first error stands.
            if not self._padded:
                with contextlib.suppress(_ModelError):
                    call = _Call(self, specs, targets, baselines, return_delta, True)
                    self._padded = True
                    return call
            raise error.cause from (None if error.__cause__ is error.cause else error.__cause__)


# ---------------------------------------------------------------------------------------------------
# The graph that explains a batch
# ---------------------------------------------------------------------------------------------------


class _Call:
    """A traced function and what it was traced for.

    Attributes:
      classes: number of outputs that class numbers choose from, by name of the output.
      structure: that of the attributions.
      every: whether there is an axis of outputs in the attributions.
    """

    def __init__(self, explainer, specs, targets, baselines, return_delta, padded):
        self._network, self._method = explainer._network, explainer._method
        self._operator = explainer._operator
        self._output_layer, self._layer = explainer._output_layer, explainer._layer
        self._return_delta = return_delta
        self._size = explainer._batch_size if padded else None
        self.classes = {}
        self.every = any(_is_text(t) and t == "all" for t in tf.nest.flatten(targets))
        # Only integrated gradients have a Jacobian; the others explain one output after the other.
        self._in_turn = self.every and self._method.name != "integrated_gradients"
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
        starts = None
        if self._starts is not None:
            starts = tf.nest.pack_sequence_as(inputs, [take() for _ in self._starts])
        watched = [layer for layer in (self._output_layer, self._layer) if layer is not None]
        with _recording(watched) as seen:
            network = functools.partial(self._forward, seen)
            if self._operator is None:
                ys, weights = self._choose(network(inputs), targets)
            else:
                ys, weights = self._operate(network, inputs, targets), None
            xs = inputs if self._layer is None else _the_output("layer", self._layer, seen)
        if self._layer is None and not self._method.black_box:
            _check_floating(inputs, self._method.name)
        attributions, delta = self._attribute(ys, weights, inputs, xs, starts)
        self.structure = tf.nest.map_structure(lambda t: None, attributions)
        return tf.nest.flatten(attributions), delta

    def _forward(self, seen, inputs):
        """The model on tensors, up to `output_layer`."""
        outputs = self._network(inputs)
        if self._output_layer is not None:
            return _the_output("output_layer", self._output_layer, seen)
        return outputs

    def _operate(self, network, inputs, targets):
        try:
            ys = _autographed(self._operator, [network, inputs, targets], {})
        except _ModelError:
            raise
        except Exception as error:
            if targets is not None:
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
            y, weight = _weigh(label, y, target)
            self.classes[str(name)] = 1 if y.shape.rank == 1 else y.shape.as_list()[-1]
            ys.append(y)
            weights.append(weight)
        if self.every and len(ys) > 1:
            raise ValueError(
                f"Explainer: targets is 'all' for one of {len(ys)} outputs, expected it alone: the "
                "outputs have different numbers of entries. Explain one output at a time."
            )
        if len(ys) == 1:
            return ys[0], weights[0]
        # What has no weights counts as it is.
        return ys, [tf.ones_like(y) if w is None else w for y, w in zip(ys, weights)]

    def _attribute(self, ys, weights, inputs, xs, starts):
        method, change = self._method, None
        path_starts = starts
        if method.on_input_path:
            attributions = method(ys, inputs, starts, weights, layer=xs)
            if self._return_delta:
                # Conductances have another shape than the inputs; their sum is added by hand.
                nothing = tf.nest.map_structure(tf.zeros_like, inputs)
                change = ig.convergence_delta(ys, inputs, starts, nothing, grad_ys=weights)
                change += sum(ig._sum_features(a) for a in tf.nest.flatten(attributions))
            return attributions, change
        if self._layer is not None and method.takes_baselines:
            path_starts = _at_baseline(xs, inputs, starts, method.draws)
        if self.every and not self._in_turn:
            attributions = method.jacobian(ys, xs, path_starts)
            if self._return_delta:
                before = ig.graph_replace(ys, inputs, _full(inputs, starts))
                flat = tf.nest.flatten(attributions)
                total = sum(tf.reduce_sum(ig._widen(a), list(range(2, a.shape.rank))) for a in flat)
                change = total - tf.cast(ig._widen(ys) - ig._widen(before), total.dtype)
            return attributions, change
        attributions = method(ys, xs, path_starts, weights)
        if self._return_delta:
            change = ig.convergence_delta(ys, xs, path_starts, attributions, grad_ys=weights)
        return attributions, change

    # On a batch

    def __call__(self, batch, start):
        """The flat list of attributions of a batch of arrays, and the delta or None."""
        if not self._in_turn:
            return self._run(batch, batch.targets, start)
        (count,) = self.classes.values()
        parts, deltas = [], []
        for c in range(count):
            chosen = tf.nest.pack_sequence_as(self._turn, [np.full(batch.rows, c, np.int32)])
            flat, delta = self._run(batch, chosen, start)
            parts.append(flat)
            deltas.append(delta)
        flat = [np.stack(columns, 1) for columns in zip(*parts)]
        return flat, None if deltas[0] is None else np.stack(deltas, 1)

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
            flat, delta = self._function(*fed)
            flat = [a.numpy()[: end - begin] for a in flat]
            parts.append((flat, None if delta is None else delta.numpy()[: end - begin]))
        if len(parts) == 1:
            return parts[0]
        flat = [np.concatenate(columns) for columns in zip(*(flat for flat, _ in parts))]
        return flat, None if delta is None else np.concatenate([d for _, d in parts])


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


def _check_floating(inputs, method):
    for name, x in _named_leaves("inputs", inputs):
        if not x.dtype.is_floating:
            raise TypeError(
                f"Explainer: {name} has dtype {x.dtype.name}, expected a floating dtype: there is no "
                f"gradient for {method}. Convert numbers with astype('float32'); for ids, name their "
                "embedding: layer='embedding'."
            )


def _full(inputs, starts):
    """Baselines in the shape of the inputs."""
    if starts is None:
        return tf.nest.map_structure(tf.zeros_like, inputs)
    return tf.nest.map_structure(lambda x, start: tf.broadcast_to(start, tf.shape(x)), inputs, starts)


def _at_baseline(hidden, inputs, starts, draws):
    """What the hidden layer is for the baselines of the inputs."""
    return ig.graph_replace(hidden, inputs, starts if draws else _full(inputs, starts))


# ---------------------------------------------------------------------------------------------------
# Methods by name
# ---------------------------------------------------------------------------------------------------


class _Method:
    """A graph builder with its options.

    Attributes:
      takes_baselines: whether it compares with a baseline.
      draws: whether its baselines are a data set to draw from.
      black_box: whether it needs no gradient.
      on_input_path: whether it explains a hidden layer along the path of the inputs.
    """

    def __init__(self, name, options, hidden):
        if name not in METHODS:
            raise ValueError(f"Explainer: method is {name!r}, {_expected(name, METHODS)}.")
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
        self.black_box = name in BLACK_BOX
        known = [p for p in parameters if p not in [*self._given, "builder_options", "per_row"]]
        for option in self._options:
            if option not in known:
                raise ValueError(
                    f"Explainer: method_options has {option!r}, {_expected(option, known)}: the options of "
                    f"{name}. Baselines, targets and layers are arguments of the Explainer and of explain."
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
        if return_delta and self.name not in COMPLETE:
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

    def jacobian(self, ys, xs, starts):
        return ig.integrated_jacobian(ys, xs, starts, **self._options)


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
        self._model = model
        self._keras = hasattr(model, "get_layer") and hasattr(model, "call")
        self._arguments, self._options = _parameters(model)
        self._by_name = False
        self._named_inputs = self._declare()
        declared = [s.shape.as_list()[0] for s in self._named_inputs.values() if s.shape.rank]
        self.batch = next((rows for rows in declared if rows is not None), None)

    def _declare(self):
        """`{name: TensorSpec}` of the inputs, as far as the model tells."""
        if hasattr(self._model, "structured_input_signature"):
            positional, named = self._model.structured_input_signature
            if not tf.nest.flatten(positional):
                self._by_name = True
                return dict(named)
            specs = tf.nest.flatten(positional)
        elif self._keras:
            return {
                name: tf.TensorSpec(x.shape, x.dtype)
                for name, x in _keras_inputs(self._model).items()
                if not tf.nest.is_nested(x)
            }
        else:
            signature = getattr(self._model, "input_signature", None)
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

    def __call__(self, inputs):
        """The model's outputs for tensors of a graph, in inference mode."""
        arguments, options = [inputs], dict(self._options)
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
            outputs = _autographed(self._model, arguments, options)
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
        names = [] if from_layer else getattr(self._model, "output_names", None) or []
        return dict(zip(names if len(names) == len(flat) else range(len(flat)), flat))

    def find(self, argument, which):
        """The layer of that name or index."""
        if which is None:
            return None
        if not self._keras:
            raise ValueError(
                f"Explainer: {argument} is {which!r} and the model is a {type(self._model).__name__} without "
                "layers that can be named, expected a Keras model. Pass a function that returns the tensor "
                "to explain, or call the graph functions inside a tf.function."
            )
        direct = list(self._model.layers)
        if isinstance(which, numbers.Integral) and not isinstance(which, bool):
            if not -len(direct) <= which < len(direct):
                raise ValueError(
                    f"Explainer: {argument} is {which}, expected an index from {-len(direct)} to "
                    f"{len(direct) - 1}, or a name: the model has the layers "
                    f"{_listed(layer.name for layer in direct)}."
                )
            return direct[which]
        if not _is_text(which):
            raise TypeError(
                f"Explainer: {argument} is a {type(which).__name__}, expected the name or index of a layer. "
                "Pass layer.name."
            )
        everything = list(_all_layers(self._model))
        found = [layer for layer in direct if layer.name == which]
        found = found or [layer for layer in everything if layer.name == which]
        if len(found) != 1:
            names = [layer.name for layer in everything]
            problem = _expected(which, names) if not found else f"which {len(found)} layers are called"
            raise ValueError(f"Explainer: {argument} is {which!r}, {problem}.")
        return found[0]


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


def _all_layers(model, seen=None):
    seen = set() if seen is None else seen
    for layer in model.layers:
        if id(layer) not in seen:
            seen.add(id(layer))
            yield layer
            if hasattr(layer, "layers"):
                yield from _all_layers(layer, seen)


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


def _the_output(argument, layer, seen):
    graph = tf.compat.v1.get_default_graph()
    outputs = seen[id(layer)]
    here = [
        some for some in outputs if all(getattr(t, "graph", None) is graph for t in tf.nest.flatten(some))
    ]
    if len(here) == 1:
        return here[0]
    problem = f"is called {len(here)} times" if here else "is not called"
    if outputs and not here:
        problem = "is called inside a tf.function of the model's own"
    raise ValueError(
        f"Explainer: {argument} {layer.name!r} {problem} when the model runs, expected one call. Name "
        "another layer, or call the graph functions inside a tf.function."
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
        self._starts = baselines
        if not callable(baselines):
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
        inputs = spec[0] if self._pairs or self._alone else spec
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
        self._starts = baselines
        if not callable(baselines):
            self._starts = _stack(baselines, self.specs, None, explainer._method.draws)
        count = int(dataset.cardinality())
        self.count = count if count >= 0 else None

    def _check(self, inputs, explainer):
        declared = explainer._network.declared(inputs)
        for (name, spec), wanted in zip(_named_leaves("inputs", inputs), declared):
            if not isinstance(spec, tf.TensorSpec):
                raise TypeError(
                    f"Explainer: {name} is {spec} in the data set, expected dense tensors. Convert it with "
                    "map, as in x.to_tensor()."
                )
            rank = None if wanted is None else wanted.shape.rank
            single = rank and spec.shape.rank == rank - 1 and spec.shape.is_compatible_with(wanted.shape[1:])
            # (Keras adds a last axis of size 1 by itself.)
            if spec.shape.rank == 0 or (single and wanted.shape[-1] != 1):
                raise ValueError(
                    f"Explainer: {name} has shape {spec.shape} in the data set, expected batches: "
                    f"{'[B, ...]' if wanted is None else wanted.shape}. Pass dataset.batch("
                    f"{explainer._batch_size})."
                )

    def __iter__(self):
        start = 0
        for element in self._dataset:
            inputs = element[0] if self._pairs or self._alone else element
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
        return type(value)(_as_arrays(f"{name}[{i}]", part) for i, part in enumerate(value))
    try:
        # As TensorFlow reads lists: float32 and int32.
        array = tf.convert_to_tensor(value).numpy() if isinstance(value, (list, tuple)) else np.asarray(value)
        tf.as_dtype(array.dtype)
        if array.dtype == object and array.size and not isinstance(array.flat[0], (str, bytes)):
            raise TypeError("an array of Python objects")
    except (TypeError, ValueError, NotImplementedError) as error:
        raise TypeError(
            f"Explainer: {name} is a {type(value).__name__}, expected an array or a dense tensor of numbers. "
            f"Convert it with np.asarray(..., 'float32'). It said: {error}"
        ) from None
    return array


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
    targets = _as_arrays("targets", targets)
    if tf.nest.is_nested(targets):
        return tf.nest.map_structure(lambda t: _as_targets(t, rows, start), targets)
    if targets.ndim == 0 and np.issubdtype(targets.dtype, np.integer):
        return int(targets)
    if targets.ndim == 0 or (rows is not None and len(targets) != rows):
        where = f" from row {start} on" if start else ""
        raise ValueError(
            f"Explainer: targets has shape {targets.shape}, expected {rows} rows, one for each row of the "
            f"inputs{where}. Pass one int for all, or one target per row."
        )
    return targets


def _check_classes(targets, classes, start):
    """Class numbers must be there; `classes` holds how many there are."""
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
    flat = tf.nest.flatten(specs)
    if np.ndim(baselines) == 0 and not tf.nest.is_nested(baselines):
        values = [baselines] * len(flat)
    else:
        try:
            values = [value for _, value in ig._pair_up(specs, baselines)]
        except (ValueError, TypeError, KeyError):
            raise ValueError(
                f"Explainer: baselines is {_describe(baselines)}, expected a scalar for all or the structure "
                f"of the inputs, {_describe(specs)}. Give every input its own, None for zeros."
            ) from None
    stacks = []
    for (name, spec), value in zip(_named_leaves("inputs", specs), values):
        array = np.asarray(0 if value is None else value)
        rank = spec.shape.rank
        shape = array.shape
        if draws:
            if array.ndim != rank or not spec.shape.is_compatible_with([None, *shape[1:]]):
                raise ValueError(
                    f"Explainer: baselines have shape {shape}, expected a data set to draw from, [M, ...] "
                    f"like {name}, {spec.shape}."
                )
            stacks.append(_cast(array, spec.dtype)[None])
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
        stacks.append(_cast(array, spec.dtype))
    count = max(len(stack) for stack in stacks)
    if any(len(stack) not in (1, count) for stack in stacks):
        raise ValueError(
            f"Explainer: the stacks of baselines have {[len(stack) for stack in stacks]} entries, expected "
            "the same number, or 1, for every input."
        )
    return [[stack[k if len(stack) > 1 else 0] for stack in stacks] for k in range(count)]


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
def _naming_rows(done, rows=None):
    """Says in which rows something failed, and what is done."""
    try:
        yield
    except (KeyboardInterrupt, Exception) as error:
        where = f"rows from {done} on" if rows is None else _rows(range(done, done + rows))
        before = f"{_rows(range(done))} done before and not lost" if done else "nothing was done before"
        if isinstance(error, KeyboardInterrupt):
            raise KeyboardInterrupt(f"Explainer: interrupted in {where}; {before}.") from error
        what = "reading the data set failed at" if rows is None else "failed in"
        raise RuntimeError(
            f"Explainer: {what} {where}, expected a batch that runs; {before}. Leave these rows out, or "
            f"lower batch_size if memory ran out. It said: {type(error).__name__}: {error}"
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
    return tf.nest.map_structure(lambda *arrays: np.concatenate(arrays), *parts) if parts else None


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
        return f"{type(structure).__name__} {structure.shape}"
    if isinstance(structure, (dict, list, tuple)):
        members = ", ".join(
            f"{key!r}: {_describe(part)}" if isinstance(structure, dict) else _describe(part)
            for key, part in (structure.items() if isinstance(structure, dict) else enumerate(structure))
        )
        return ("{%s}" if isinstance(structure, dict) else "[%s]") % members
    return repr(structure) if structure is None or _is_text(structure) else type(structure).__name__
