"""Networks of every kind: how they are called in a graph, and what is found in them by name."""

import contextlib
import inspect

import tensorflow as tf

from igtf.arguments import is_int
from igtf.copying import is_call
from igtf.explainer.arrays import describe, expected, listed, members
from igtf.explainer.layers import Place, all_layers
from igtf.op_types import SHAPES
from igtf.replacement import graph_replace
from igtf.traversal import ops_between

__all__ = [
    "AsSeen",
    "ModelError",
    "Network",
    "autographed",
    "casts_of",
    "inlined",
]


class ModelError(Exception):
    """The model, not the explanation, failed on tensors of a graph."""

    def __init__(self, cause):
        super().__init__(str(cause))
        self.cause = cause


class Network:
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

    @property
    def inputs(self):
        """What the model declares: TensorSpecs in the structure of its inputs, with their names."""
        specs = {
            name: tf.TensorSpec(s.shape, s.dtype, name if self._keras else s.name)
            for name, s in self._named_inputs.items()
        }
        if self._by_name or (self._keras and keyed_inputs(self.model) is not None):
            return specs
        return next(iter(specs.values())) if len(specs) == 1 else list(specs.values())

    def declared(self, inputs):
        """What the model says about each leaf of `inputs`, TensorSpec or None, in their order."""
        specs = self._named_inputs
        flat = tf.nest.flatten(inputs)
        if not specs or any(tf.nest.is_nested(v) for v in members(inputs)):
            return [None] * len(flat)
        if isinstance(inputs, dict):
            if self._keras or self._by_name:
                for name in inputs:
                    if name not in specs:
                        raise ValueError(
                            f"Explainer: inputs has the key {name!r}, {expected(name, specs)}: the "
                            "model's inputs."
                        )
            return [specs.get(name) for name in sorted(inputs)]
        if len(flat) != len(specs):
            hint = "Stack rows of one input with np.stack." if len(specs) == 1 else "Pass one for each."
            raise ValueError(
                f"Explainer: inputs is {describe(inputs)}, expected {len(specs)} "
                f"array{'s' * (len(specs) > 1)} for the model's inputs {listed(specs)}. {hint}"
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
        found = [layer.name for layer in all_layers(self.model) if "Embedding" in type(layer).__name__]
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
            outputs = autographed(self.model, arguments, options)
        except Exception as error:
            raise ModelError(_explained(error)) from error
        for y in tf.nest.flatten(outputs):
            if not tf.is_tensor(y) or hasattr(y, "numpy"):
                raise ModelError(TypeError(_eager_only(f"it returned a {type(y).__name__}")))
        return outputs

    def named(self, outputs, from_layer):
        """`{name: tensor}` of the outputs."""
        if isinstance(outputs, dict):
            return outputs
        flat = tf.nest.flatten(outputs)
        names = [] if from_layer else getattr(self.model, "output_names", None) or []
        return dict(zip(names if len(names) == len(flat) else range(len(flat)), flat))

    def find(self, argument, which, several=False):
        """The layer of that name or index, as a `Place`; of `several`, the structure of them."""
        if which is None:
            return None
        layers = list(all_layers(self.model))
        if not layers:
            raise ValueError(
                f"Explainer: {argument} is {which!r} and the model is a {type(self.model).__name__} without "
                "layers that can be named, expected a Keras model. Pass a function that returns the tensor "
                "to explain, or call the graph functions inside a tf.function."
            )
        if isinstance(which, tuple) and len(which) == 2 and is_int(which[1]) and not is_int(which[0]):
            return Place(self._layer(argument, which[0], layers), int(which[1]))
        if isinstance(which, dict) and which and several:
            return {key: self.find(f"{argument}[{key!r}]", part) for key, part in which.items()}
        if isinstance(which, (list, tuple)) and which and several:
            return [self.find(f"{argument}[{i}]", part) for i, part in enumerate(which)]
        return Place(self._layer(argument, which, layers))

    def _layer(self, argument, which, layers):
        if any(which is layer for layer in layers):
            return which
        direct = list(getattr(self.model, "layers", []))
        if is_int(which) and direct:
            if not -len(direct) <= which < len(direct):
                raise ValueError(
                    f"Explainer: {argument} is {which}, expected an index from {-len(direct)} to "
                    f"{len(direct) - 1}, or a name: the model has the layers "
                    f"{listed(layer.name for layer in direct)}."
                )
            return direct[which]
        if not isinstance(which, str):
            raise TypeError(
                f"Explainer: {argument} is a {type(which).__name__}, expected the name or index of a layer"
                f"{'' if argument == 'output_layer' else ', or a list or dict of such'}. The model has the "
                f"layers {listed(layer.name for layer in direct or layers)}; a pair (name, 0) is one of the "
                "calls of a layer."
            )
        found = [layer for layer in direct if layer.name == which]
        found = found or [layer for layer in layers if layer.name == which]
        if len(found) != 1:
            names = [layer.name for layer in layers]
            problem = expected(which, names) if not found else f"which {len(found)} layers are called"
            hint = " Pass layers themselves to tell them apart." if found else ""
            if argument == "output_layer" and not found:
                hint = " For what the last softmax or sigmoid reads, pass logits=True."
            raise ValueError(f"Explainer: {argument} is {which!r}, {problem}.{hint}")
        return found[0]


class AsSeen:
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
autographed = tf.autograph.to_graph(_apply)


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


def _keras_inputs(model):
    """`{name: KerasTensor}`; empty for models that are subclassed or not built."""
    keyed = keyed_inputs(model)
    if keyed is not None:
        return keyed
    try:
        inputs = list(model.inputs or [])
    except (AttributeError, ValueError):
        return {}
    return dict(zip(getattr(model, "input_names", None) or [x.name for x in inputs], inputs))


def keyed_inputs(model):
    """`{name: KerasTensor}` of a model that takes a dict of inputs, or None."""
    with contextlib.suppress(AttributeError, ValueError):  # as Keras has it before a model is built
        return model.input if isinstance(model.input, dict) else None
    return None


# Ops that only rename or arrange integers before they are cast.
RENAMING = frozenset("Cast ExpandDims Identity Reshape Squeeze".split())


def casts_of(ys, x):
    """The floating tensors that integers `x` are cast to, or none where something else reads them, too."""
    same, casts = {x.ref()}, []
    for op in ops_between(tf.nest.flatten(ys), [x]):
        if not any(t.ref() in same for t in op.inputs) or op.type in SHAPES:
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


def inlined(outputs, known):
    """The outputs once more, computed from `known` tensors, if function calls hide how."""
    if any(map(is_call, ops_between(tf.nest.flatten(outputs), known))):
        return graph_replace(outputs, known, known)
    return outputs
