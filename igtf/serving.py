"""Explanations that are served: a SavedModel with a signature that explains, in the place of a service.

Whoever loads it needs TensorFlow, or a server of TensorFlow models, and nothing of this package.
"""

import json
import os
import re
import tempfile
from collections.abc import Callable
from typing import Any

import numpy as np
import tensorflow as tf

from igtf.arguments import is_int
from igtf.arithmetic import repeat
from igtf.explainer import Explainer
from igtf.explainer.arrays import describe, expected
from igtf.explainer.batches import named_baselines, stack_baselines
from igtf.explainer.graph import Call
from igtf.explainer.method import merged_options
from igtf.explainer.network import ModelError
from igtf.explainer.outputs import setup_of
from igtf.explainer.targets import check_classes

__all__ = ["save_explained"]

METADATA = "explanation_metadata.json"
# Baselines of more numbers are told by their shape alone.
SHOWN = 1000
# What a reply holds beside the outputs.
REPLIED = ("attributions", "targets", "delta", "error")


def save_explained(
    model: Callable,
    path: str | os.PathLike,
    baselines: Any = None,
    method: str = "integrated_gradients",
    tolerance: float | None = None,
    targets: Any = "predicted",
    layer: Any = None,
    logits: bool = False,
    input_signature: Any = None,
    method_options: dict[str, Any] | None = None,
    **options: Any,
) -> dict[str, Any]:
    """Writes a SavedModel that predicts and explains, with three signatures.

    `serving_default` predicts. `explain` predicts and attributes, compared with the stored `baselines`.
    `explain_against` does so with baselines that come with the request (a signature has no default
    values once it is loaded); methods that compare with nothing do without it. The SavedModel's
    `assets/explanation_metadata.json` says what it was made with.

    Requests name the inputs as their keys, Keras or the TensorSpecs do (`inputs`, where the only one has
    no name); baselines are `baseline`, or `baseline_<input>` of several inputs, of one row or one for each.
    Replies hold

    - the `prediction`, or of several outputs each under its name,
    - the `attributions` `[B, ...]`, or `attributions_<input>` of several inputs,
    - the `targets` that were explained, int32 `[B]`, where there are classes,
    - `delta`, the sum of the attributions minus the change of the output, where that should be 0: `[B]`,
    - `error`, the estimated relative error of methods that take steps (`igtf.attribution_error`): `[B]`.

    Args:
      model: what `igtf.Explainer` takes.
      path: folder of the SavedModel.
      baselines: what is stored for `explain`: `None` (zeros), a scalar, one row `[1, ...]`, a stack
        `[K, 1, ...]` to average over, in the structure of several inputs, as for `Explainer.explain`; for
        `"expected_gradients"` the data set `[M, ...]` to draw from.
      method: name of a method, as for `igtf.Explainer`.
      tolerance: the relative error that attributions may have, as for `igtf.integrated_gradients`.
      targets: which output is explained. `"predicted"`: the largest one of each row. `"all"`: every one;
        attributions are `[B, C, ...]`, delta and error `[B, C]`. An int: that one. `"chosen"`: the one that
        the request names in a further input `targets`, int32 `[B]` or `[1]`; a negative number asks for the
        predicted one. A dict `{output name: int or "predicted"}` for a model with several outputs.
      layer, logits: as for `igtf.Explainer`.
      input_signature: TensorSpecs `[None, ...]` in the structure of the inputs. `None`: what the model
        declares, as Keras models with an `Input` do.
      method_options, options: options of the method, such as `num_steps=50`.

    Returns:
      The metadata: method and options, and of each signature the names, shapes and dtypes of what goes in
      and comes out.

    Raises:
      TypeError, ValueError: as `igtf.Explainer` and `Explainer.explain`; baselines by name, by function or
        of several rows; a model whose inputs are not known.
      tf.errors.InvalidArgumentError: in a request: inputs or baselines of the wrong shape, class numbers
        that are not there.

    >>> network = tf.function(lambda x: x**2, input_signature=[tf.TensorSpec([None, 3], name="x")])
    >>> path = tempfile.mkdtemp()
    >>> list(save_explained(network, path, targets="chosen")["signatures"])
    ['serving_default', 'explain', 'explain_against']
    >>> explain = tf.saved_model.load(path).signatures["explain"]
    >>> reply = explain(x=tf.constant([[1.0, 2.0, 3.0]]), targets=tf.constant([1]))
    >>> reply["attributions"].numpy().round(3).tolist()
    [[0.0, 4.0, 0.0]]
    """
    if tolerance is not None:
        options["tolerance"] = tolerance
    options = merged_options(method_options, options)
    explainer = Explainer(model, method, layer=layer, logits=logits, method_options=options)
    try:
        served = Served(setup_of(explainer), baselines, targets, input_signature)
        functions = served.functions()
    except ModelError as error:
        raise error.cause from None
    metadata = {
        "method": method,
        "options": options,
        "targets": targets,
        "layer": layer,
        "logits": logits,
        "baselines": served.told_baselines(),
        "signatures": {
            name: {
                "inputs": _told(served.requests[name]),
                "outputs": _told(function.structured_outputs),
            }
            for name, function in functions.items()
        },
    }
    text = json.dumps(metadata, indent=1, default=_plain)
    with tempfile.TemporaryDirectory() as folder:
        file = os.path.join(folder, METADATA)
        with open(file, "w", encoding="utf-8") as stream:
            stream.write(text)
        module = _tracking(model, functions.values())
        module.metadata = tf.saved_model.Asset(file)
        tf.saved_model.save(module, os.fspath(path), functions)
    return json.loads(text)


class Served:
    """A network, the graph that explains it, and the functions that requests are made to.

    Attributes:
      requests: `{signature: {name: TensorSpec}}` of what goes in.
    """

    def __init__(self, setup, baselines, targets, input_signature):
        self._network, self._method, self._targets = setup.network, setup.method, targets
        self._layered = setup.layer is not None
        self._summed = self._method.complete or self._method.integrates
        self._method.check_call(baselines, False, False)
        self._specs = _specs_of(setup.network, input_signature)
        self._flat = tf.nest.flatten(self._specs)
        self._names = _names_of(setup.network, self._specs)
        self._starts = self._stored(baselines)
        inputs = dict(zip(self._names, self._flat))
        self._predicting = _function(self._predicted, inputs)
        outputs = self._predicting.structured_outputs
        self._classes = _columns(outputs)
        self._check_targets(outputs)
        fed = 0 if self._by_number else targets
        fed = tf.nest.map_structure(lambda t: tf.TensorSpec([None], tf.int32) if is_int(t) else t, fed)
        starts, padded = self._baseline_specs(), setup.network.batch is not None
        self._call = Call(setup, self._specs, fed, starts or None, padded, self._method.integrates)
        check_classes(targets, self._call.classes, 0)
        chosen = {"targets": tf.TensorSpec([None], tf.int32)} if targets == "chosen" else {}
        against = dict(zip(self._of_inputs("baseline"), starts))
        self.requests = {"serving_default": inputs, "explain": inputs | chosen}
        if against:
            self.requests["explain_against"] = inputs | chosen | against
        _check_names([*self._names, *chosen, *against])

    # Before a request

    def _stored(self, baselines):
        """Baselines as a list, one for each to average over, of flat lists of arrays; None for zeros."""
        texts = [b for b in tf.nest.flatten(baselines) if isinstance(b, str) and b != "zeros"]
        if callable(baselines) or texts:
            raise ValueError(
                f"save_explained: baselines is {describe(texts[0] if texts else baselines)}, expected "
                "numbers: there are no rows yet to compute them from. Pass those of the training data, such "
                "as rows.mean(axis=0)."
            )
        baselines = named_baselines(baselines, self._specs, list)
        stacks = stack_baselines(baselines, self._specs, 1, self._method.draws)
        return stacks and [[_broadcast(*pair) for pair in zip(starts, self._flat)] for starts in stacks]

    def _baseline_specs(self):
        """Those of one baseline, flat; none where nothing is compared."""
        if not self._method.takes_baselines:
            return []
        dtypes = [a.dtype for a in (self._starts[0] if self._starts else self._flat)]
        return [tf.TensorSpec([None, *s.shape[1:]], dtype) for s, dtype in zip(self._flat, dtypes)]

    def _of_inputs(self, word):
        return [word if len(self._names) == 1 else f"{word}_{name}" for name in self._names]

    def _check_targets(self, outputs):
        choices = ("predicted", "all", "chosen")
        for target in tf.nest.flatten(self._targets):
            if not is_int(target) and not (isinstance(target, str) and target in choices):
                raise ValueError(
                    f"save_explained: targets has {target!r}, {expected(target, choices)}, a class number, "
                    "or a dict of these for several outputs."
                )
        if self._targets in ("all", "chosen") and not self._classes:
            shapes = {name: y.shape for name, y in outputs.items()}
            raise ValueError(
                f"save_explained: targets is {self._targets!r} and the model returns {describe(shapes)}, "
                "expected one output [B, C] with several columns, whose number is known. Leave targets out, "
                "or pass a dict for several outputs."
            )

    @property
    def _by_number(self):
        """Whether the graph that explains is fed class numbers that are known in a request only."""
        in_turn = self._targets == "all" and self._method.name != "integrated_gradients"
        return in_turn or (bool(self._classes) and self._targets in ("predicted", "chosen"))

    # A request

    def functions(self):
        """`{signature: its function}`."""
        made = {"explain": self._explained, "explain_against": self._explained_against}
        traced = {name: _function(made[name], self.requests[name]) for name in made if name in self.requests}
        return {"serving_default": self._predicting, **traced}

    def _predicted(self, request):
        inputs = self._fitting(self._names, self._flat, request)
        outputs = self._network(tf.nest.pack_sequence_as(self._specs, inputs))
        outputs = self._network.named(outputs, False)
        if len(outputs) == 1:
            return {"prediction": next(iter(outputs.values()))}
        names = [f"output_{name}" if is_int(name) or name in REPLIED else name for name in outputs]
        return {_word(name): y for name, y in zip(names, outputs.values())}

    @staticmethod
    def _fitting(names, specs, request):
        # A loaded signature takes any shape: what is too narrow would be broadcast.
        return [tf.ensure_shape(request[name], spec.shape) for name, spec in zip(names, specs)]

    def _explained_against(self, request):
        inputs = self._fitting(self._names, self._flat, request)
        specs = self._baseline_specs()
        starts = self._fitting(self._of_inputs("baseline"), specs, request)
        if not self._method.draws:
            starts = [_of_rows("the baseline", start, inputs[0]) for start in starts]
        return self._explained(request, [starts])

    def _explained(self, request, starts=None):
        reply = self._predicted(request)
        inputs = self._fitting(self._names, self._flat, request)
        if starts is None and self._method.takes_baselines:
            starts = self._starts or [[_zeros(x) for x in inputs]]
        numbers = self._numbers(reply.get("prediction"), request, inputs[0])
        flat, sums = self._mean(inputs, numbers, starts)
        parts = tf.nest.flatten(self._call.pack(flat))
        names = self._of_inputs("attributions")
        if len(parts) == 1:
            names = ["attributions"]
        elif self._layered:
            names = [f"attributions_{i}" for i in range(len(parts))]
        reply.update({name: part for name, part in zip(names, parts) if part is not None})
        if self._classes and len(numbers) == 1:
            reply["targets"] = numbers[0]
        if self._method.complete:
            reply["delta"] = sums[..., 0]
        if self._method.integrates:
            reply["error"] = sums[..., 3]
        return reply

    def _numbers(self, prediction, request, rows):
        """The class numbers that are fed, `[B]` each."""
        if not self._by_number:
            numbers = [t for t in tf.nest.flatten(self._targets) if is_int(t)]
            return [tf.fill([tf.shape(rows)[0]], tf.constant(n, tf.int32)) for n in numbers]
        best = tf.argmax(prediction, axis=1, output_type=tf.int32)
        if self._targets == "all":
            return [tf.zeros_like(best) + c for c in range(self._classes)]
        if self._targets == "predicted":
            return [best]
        chosen = _of_rows("targets", request["targets"], rows)
        there = tf.reduce_all(chosen < self._classes)
        wanted = f"expected class numbers below {self._classes}, or -1 for the predicted one."
        with tf.control_dependencies([tf.debugging.Assert(there, ["targets is", chosen, wanted])]):
            return [tf.where(chosen < 0, best, chosen)]

    def _mean(self, inputs, numbers, starts):
        """Attributions, flat, and sums or None: the mean over several baselines, in turn."""
        if not starts or len(starts) == 1:
            starts = starts[0] if starts else []
            return self._once(inputs, numbers, [tf.convert_to_tensor(start) for start in starts])
        stacks = [tf.constant(np.stack(column)) for column in zip(*starts)]

        def found(i):
            flat, sums = self._once(inputs, numbers, [stack[i] for stack in stacks])
            return [*flat, *([] if sums is None else [sums])]

        def add(i, *totals):
            return [total + part for total, part in zip(totals, found(i + 1))]

        totals = repeat(len(starts) - 1, add, found(0))
        means = [total / tf.cast(len(starts), total.dtype) for total in totals]
        return (means[:-1], means[-1]) if self._summed else (means, None)

    def _once(self, inputs, numbers, starts):
        if self._targets != "all" or not self._by_number:
            return self._call.function(*inputs, *numbers, *starts)
        found = [self._call.function(*inputs, number, *starts) for number in numbers]
        flat = [tf.stack(column, 1) for column in zip(*(flat for flat, _ in found))]
        sums = [sums for _, sums in found]
        return flat, None if sums[0] is None else tf.stack(sums, 1)

    # What it was made with

    def told_baselines(self):
        """`{input: stored baselines [K, 1, ...]}`, their shape alone where they are large."""
        if not self._starts:
            return "zeros" if self._method.takes_baselines else None
        stacks = dict(zip(self._names, (np.stack(column) for column in zip(*self._starts))))
        return {
            name: {"shape": a.shape, "values": a if a.size <= SHOWN else None} for name, a in stacks.items()
        }


def _specs_of(network, signature):
    """TensorSpecs in the structure of the inputs: those given, or what the model declares."""
    specs = network.inputs if signature is None else signature
    leaves = tf.nest.flatten(specs)
    if not leaves or not all(isinstance(s, tf.TensorSpec) and s.shape.rank for s in leaves):
        undeclared = "is None, and the model does not declare its inputs"
        what = undeclared if signature is None else "has other parts"
        raise ValueError(
            f"save_explained: input_signature {what}, expected TensorSpecs [None, ...] in the structure of "
            "the inputs. Pass input_signature=tf.TensorSpec([None, 28, 28, 1], name='image'), for one."
        )
    return specs


def _names_of(network, specs):
    """What the flat inputs are called in requests."""
    if isinstance(specs, dict):
        return [_word(key) for key in sorted(specs)]
    names = [spec.name or "" for spec in tf.nest.flatten(specs)]
    # Names that Keras counts up differ from run to run.
    made = [not name or re.fullmatch(r"(keras_tensor|input)(_layer)?(_?\d+)?(:0)?", name) for name in names]
    if len(names) == 1:
        return ["inputs" if made[0] else _word(names[0])]
    return [f"input_{i}" if m else _word(name) for i, (m, name) in enumerate(zip(made, names))]


def _check_names(names):
    twice = [name for name in names if names.count(name) > 1]
    if twice:
        raise ValueError(
            f"save_explained: {twice[0]!r} is the name of two parts of a request, expected a name for each. "
            "Give the TensorSpecs of input_signature others."
        )


def _word(name):
    return re.sub(r"\W+", "_", str(name)).strip("_") or "_"


def _function(build, inputs):
    """The graph of `build({name: tensor})`, whose arguments are called so."""
    specs = [tf.TensorSpec(spec.shape, spec.dtype, name) for name, spec in inputs.items()]

    def function(*tensors):
        return build(dict(zip(inputs, tensors)))

    return tf.function(function, input_signature=specs, autograph=False).get_concrete_function()


def _columns(outputs):
    """How many classes there are, or None: of several outputs, of one column, of an unknown number."""
    ((_, y), *others) = outputs.items()
    return y.shape[1] if not others and y.shape.rank == 2 and y.shape[1] != 1 else None


def _of_rows(name, tensor, rows):
    """`[1, ...]` or `[B, ...]`, checked in the run, with `B` rows."""
    count, wanted = tf.shape(tensor)[0], tf.shape(rows)[0]
    said = [f"{name} has", count, "rows, expected 1 or, as the inputs have,", wanted]
    with tf.control_dependencies([tf.debugging.Assert((count == 1) | (count == wanted), said)]):
        return tf.broadcast_to(tensor, tf.concat([[wanted], tf.shape(tensor)[1:]], 0))


def _broadcast(array, spec):
    """A stored baseline in the shape of a row, as far as that is known."""
    sizes = [size or given for size, given in zip(spec.shape[1:], array.shape[1:])]
    return np.broadcast_to(array, [len(array), *sizes])


def _zeros(x):
    return tf.zeros([1, *x.shape[1:]], x.dtype) if x.shape[1:].is_fully_defined() else tf.zeros_like(x[:1])


def _tracking(model, functions):
    """A module that holds what the functions read: variables, and tables of a model."""
    module, variables = tf.Module(), {v.ref(): v for function in functions for v in function.variables}
    module.weights = list(variables.values())
    handles = {v.handle.ref() for v in module.weights}
    captured = [outer for function in functions for outer, _ in function.graph.captures]
    if any(t.dtype == tf.resource and t.ref() not in handles for t in captured):
        module.model = model
    return module


def _told(specs):
    return {
        name: {"shape": s.shape.as_list() if s.shape.rank is not None else None, "dtype": s.dtype.name}
        for name, s in specs.items()
    }


def _plain(value):
    """What JSON does not know: arrays, texts of bytes, functions."""
    if isinstance(value, bytes):
        return value.decode(errors="replace")
    return value.tolist() if hasattr(value, "tolist") else str(value)
