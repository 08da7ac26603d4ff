"""A language model as a function of embeddings: where it looks ids up, and what it says at chosen places."""

import inspect

import tensorflow as tf

from igtf.explainer.arrays import listed
from igtf.explainer.layers import all_layers
from igtf.explainer.network import ModelError, Network, keyed_inputs
from igtf.op_types import SHAPES
from igtf.replay import replay_ops
from igtf.traversal import ops_between

__all__ = ["TextNetwork", "at_positions", "heads_of", "lookups", "mean_of_table"]

# Ops that look up rows of a table (input 0) by ids (input 1).
LOOKUPS = ("GatherV2", "ResourceGather")
# What may happen to ids before they are looked up. What is computed from them otherwise, such as numbers of
# places that are no padding, is held fixed.
HANDLING = frozenset("AddV2 Cast ExpandDims Identity Less Maximum Minimum Reshape SelectV2 Squeeze".split())
# Ops between the last hidden layer and the logits that treat every place alike.
PLACEWISE = frozenset(
    "AddV2 BatchMatMulV2 BatchMatMulV3 BiasAdd Cast Einsum Identity MatMul Mul RealDiv Reshape Sub Tanh "
    "Transpose".split()
)


class TextNetwork:
    """A model that reads ids, called on a dict of tensors.

    Args:
      model: a Keras model, a signature of a SavedModel or a callable.
      named: whether it takes the dict as it is; otherwise ids, and their mask if it takes two arguments.
    """

    def __init__(self, model, named):
        self._network = Network(model)
        declared = keyed_inputs(model) or ()
        keyed = "token_ids" in declared  # a model of KerasHub beside another tokenizer
        self._named = named or keyed
        self.reads_mask = named or ("padding_mask" in declared if keyed else _arguments(model) == 2)

    def __call__(self, inputs):
        """The one output for tensors of a graph."""
        if self._named:
            given = inputs
        else:
            given = [inputs["token_ids"], inputs["padding_mask"]] if self.reads_mask else inputs["token_ids"]
        try:
            outputs = self._network(given)
        except ModelError as error:
            raise error.cause from (None if error.__cause__ is error.cause else error.__cause__)
        flat = tf.nest.flatten(outputs)
        if len(flat) != 1:
            names = listed(outputs) if isinstance(outputs, dict) else f"{len(flat)} of them"
            raise ValueError(
                f"TextExplainer: the model returns several outputs ({names}), expected one: the scores of a "
                "classifier or the logits of a language model. Pass a function that returns that one."
            )
        return flat[0]

    def layer(self, which):
        """The layer of that name, or that itself is one."""
        return self._network.find("layer", which).layer

    def attention(self, layer):
        """The (first) attention in a layer, or the layer itself."""
        for each in (layer, *all_layers(layer)):
            if "Attention" in type(each).__name__:
                return each
        raise ValueError(
            f"TextExplainer: layer {layer.name!r} holds no attention, expected one with heads: a layer of "
            "the transformer, such as 'transformer_layer_0', or its attention itself."
        )


def _arguments(model):
    """How many inputs a model takes."""
    inputs = getattr(model, "inputs", None)
    if inputs:
        return len(inputs)
    function = getattr(model, "call", None) or getattr(model, "python_function", model)
    try:
        parameters = inspect.signature(function).parameters.values()
    except (TypeError, ValueError):
        return 1
    positional = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    needed = [p for p in parameters if p.default is p.empty and p.kind in positional and p.name != "training"]
    return len(needed)


def lookups(ys, ids):
    """What `ids [B, T]` are looked up as on the way to `ys`: tensors `[B, T, D]`."""
    ops = ops_between(tf.nest.flatten(ys), [ids])
    moving = {ids.ref()} | {t.ref() for op in ops for t in op.outputs}
    numbers, found = {ids.ref()}, []
    for op in ops:
        if op.type in SHAPES or not any(t.ref() in numbers for t in op.inputs):
            continue
        if op.type in LOOKUPS and op.inputs[1].ref() in numbers and op.inputs[0].ref() not in moving:
            if op.outputs[0].dtype.is_floating:
                found.append(op.outputs[0])
        elif op.type in HANDLING:
            numbers.update(t.ref() for t in op.outputs if not t.dtype.is_floating)
    if not found:
        raise ValueError(
            f"TextExplainer: no table is looked up with the ids {ids.name!r} on the way to the output, "
            "expected an embedding of them (tf.gather, keras.layers.Embedding). Let the model take ids, and "
            "look them up itself."
        )
    return found


def mean_of_table(looked_up):
    """The mean of all rows of the table that these were looked up in, `[D]`."""
    op = looked_up.op
    table = op.inputs[0]
    if op.type == "ResourceGather":
        table = tf.raw_ops.ReadVariableOp(resource=table, dtype=looked_up.dtype)
    return tf.reduce_mean(table, axis=0)


def at_positions(logits, ids, positions):
    """`[B, C, V]`: the logits `[B, T, V]` at `positions [B, C]`.

    What comes after the last hidden layer, which is as wide as the vocabulary, is computed there alone.
    """
    if logits.shape.rank != 3:
        raise ValueError(
            f"TextExplainer: the model returns shape {logits.shape}, expected logits [B, T, V] of the next "
            "token at every place. Use explain for classifiers."
        )
    moving = {t.ref() for op in ops_between([logits], ids) for t in op.outputs}
    tensor, hidden = logits, None
    while tensor.op.type in PLACEWISE:
        back = [t for t in tensor.op.inputs if t.ref() in moving and t.dtype.is_floating]
        if len(back) != 1:
            break
        (tensor,) = back
        if tensor.shape.rank == 3 and tensor.shape[1] == logits.shape[1] is not None:
            hidden = tensor
    if hidden is None:
        return tf.gather(logits, positions, batch_dims=1)
    values = {hidden.ref(): tf.gather(hidden, positions, batch_dims=1)}
    wanted = [None, positions.shape[1], logits.shape[2]]
    try:
        replay_ops(ops_between([logits], [hidden]), values, [logits])
        return tf.ensure_shape(values[logits.ref()], wanted)
    except ValueError:  # shapes that hold the length: places are not treated alike
        return tf.gather(logits, positions, batch_dims=1)


def heads_of(output, ids):
    """What the heads of an attention return before they are mixed, `[B, T, heads, size]`."""
    moving = {t.ref() for op in ops_between([output], ids) for t in op.outputs}
    tensor = output
    while tensor.shape.rank != 4:
        back = [t for t in tensor.op.inputs if t.ref() in moving and t.dtype.is_floating]
        if len(back) != 1:
            raise ValueError(
                f"TextExplainer: the heads of {output.name!r} were not found (looking back from it, op "
                f"{tensor.op.name!r}, {tensor.op.type}), expected an attention that mixes [B, T, heads, "
                "size] by a dense layer. Explain the whole layer, without heads=True."
            )
        (tensor,) = back
    return tensor
