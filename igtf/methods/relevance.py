"""Relevance: a gradient in which rules take the place of the derivatives of activations.

A table `{op type: rule}` says what an op's output hands to its inputs; `backpropagate` does the rest.
"""

import functools
import numbers
import warnings

import numpy as np
import tensorflow as tf

from igtf.backpropagation import backpropagate, own_gradient, reverse
from igtf.intervals import pair_ends
from igtf.methods.common import differentiable
from igtf.methods.gradients import GRADIENT_RULES
from igtf.op_types import BARRIERS, is_linear
from igtf.replay import of_replayed, replay_ops
from igtf.secant.table import SECANT_RULES
from integrated_gradients_tf import Baselines, Tensors, as_it_is, flat_baselines

__all__ = ["deeplift", "epsilon_lrp"]


@as_it_is
def epsilon_lrp(
    ys: Tensors, xs: Tensors, epsilon: float = 1e-4, grad_ys: Tensors | None = None, name: str = "epsilon_lrp"
) -> Tensors:
    """Layer-wise relevance propagation with the epsilon rule.

    Bach et al., https://doi.org/10.1371/journal.pone.0130140, equation 58, in the form of Ancona et
    al., https://arxiv.org/abs/1711.06104, proposition 1: a gradient in which the derivative of every
    activation y = f(z) is replaced by y / (z + epsilon * sign(z)), with sign(0) = 1, times the input.

    Args:
      ys, xs: as for `saliency`. Explain logits: softmax has no such rule.
      epsilon: positive number that keeps the ratio finite.
      grad_ys: as for `saliency`.
      name: name scope of the nodes.

    Returns:
      The attributions, in the shape and structure of `xs`. For networks without biases whose
      activations map 0 to 0 they sum to F(x) as `epsilon` tends to 0.

    Raises:
      TypeError, ValueError: as `saliency`; ValueError if `epsilon` is not positive.

    Warns:
      UserWarning: an op between `xs` and `ys` is not affine and has no rule (`ACTIVATIONS` and max
        pooling have one). TensorFlow's gradient is used for it.

    >>> @tf.function
    ... def f(x):
    ...     return epsilon_lrp(tf.nn.relu(x[:, 0] - x[:, 1]), x, epsilon=0.5)
    >>> f(tf.constant([[3.0, 1.5]])).numpy().tolist()
    [[2.25, -1.125]]
    """
    function = "epsilon_lrp"
    if not isinstance(epsilon, numbers.Real) or not 0 < epsilon < np.inf:
        raise ValueError(f"{function}: epsilon is {epsilon!r}, expected a positive number, such as 1e-4.")
    subgraph, weights = differentiable(function, ys, xs, grad_ys)
    rules = {**GRADIENT_RULES, **dict.fromkeys(ACTIVATIONS, functools.partial(_epsilon_rule, epsilon))}
    _warn_of_missing_rules(subgraph, rules, "TensorFlow's gradient")
    with tf.name_scope(name):
        grads = backpropagate(subgraph.ys, subgraph.xs, weights, rules)
        result = [x * grad for x, grad in zip(subgraph.xs, grads)]
    return tf.nest.pack_sequence_as(xs, result)


@as_it_is
def deeplift(
    ys: Tensors,
    xs: Tensors,
    baselines: Baselines = None,
    grad_ys: Tensors | None = None,
    name: str = "deeplift",
) -> Tensors:
    """DeepLIFT with the Rescale rule.

    Shrikumar, Greenside and Kundaje, https://arxiv.org/abs/1704.02685, section 3.5.2: a gradient in
    which the derivative of every activation y = f(z) is replaced by its slope between the baseline
    and the input, (y - y0) / (z - z0), times the input minus the baseline. Where z and z0 are within
    1e-5 of one another it is the derivative midway. Max pooling, products and softmax get slopes
    too (`igtf.secant`), so that networks with those are complete as well.

    Args:
      ys, xs: as for `saliency`.
      baselines: what the input is compared with: `None` (zeros), a scalar, or a tensor that
        broadcasts to `xs`. With structured `xs`: one scalar for all, or the same structure.
      grad_ys: as for `saliency`.
      name: name scope of the nodes.

    Returns:
      The attributions, in the shape and structure of `xs`. Summed over the features of a row they
      equal F(x) - F(baseline).

    Raises:
      TypeError, ValueError: as `saliency`; also for a baseline that does not broadcast.

    Warns:
      UserWarning: an op between `xs` and `ys` is not affine and has no rule. The mean of TensorFlow's
        gradients at both ends is used for it, corrected so that each row stays complete where its rows
        can be followed.

    >>> @tf.function
    ... def f(x):
    ...     return deeplift(tf.nn.relu(x[:, 0] - x[:, 1]), x, baselines=tf.constant([0.0, 2.0]))
    >>> f(tf.constant([[3.0, 1.0]])).numpy().tolist()
    [[1.5, 0.5]]
    """
    subgraph, weights = differentiable("deeplift", ys, xs, grad_ys)
    _warn_of_missing_rules(
        subgraph, DEEPLIFT_RULES, "the corrected mean of TensorFlow's gradients at both ends"
    )
    with tf.name_scope(name):
        starts = subgraph.full_baselines(flat_baselines("deeplift", xs, subgraph.xs, baselines))
        (before, made), (_, twins) = (_replayed(subgraph, new) for new in (starts, subgraph.xs))
        ends = pair_ends(made, twins, of_replayed(subgraph.axis, before), subgraph.rows)
        outputs = [before.get(y.ref(), y) for y in subgraph.ys]
        seeds = [tf.ones_like(y) if weight is None else weight for y, weight in zip(outputs, weights)]
        parts = reverse(ends, outputs, seeds, starts, DEEPLIFT_RULES)
        result = [
            tf.zeros_like(x) if not found else (x - start) * tf.add_n(found)
            for x, start, found in zip(subgraph.xs, starts, parts)
        ]
    return tf.nest.pack_sequence_as(xs, result)


def _replayed(subgraph, new):
    """The network with `new` in the place of `xs`: its values, and its ops, for `reverse`."""
    values = subgraph.values(subgraph.xs, new)
    made = replay_ops(subgraph.ops, values, subgraph.ys, axis=subgraph.row_axis, reversible=True)
    return values, made


def _epsilon_rule(epsilon, op, other, grads):
    z, y = op.inputs[0], op.outputs[0]
    epsilon = tf.constant(epsilon, z.dtype)
    return grads[0] * y / (z + tf.where(z >= 0, epsilon, -epsilon))


def _rescale_rule(op, other, grads):
    """The slope from the baseline (`op`) to the input (`other`)."""
    (z0,), (z1,) = op.inputs, other.inputs
    change = z1 - z0
    near = tf.abs(change) <= 1e-5
    slope = (other.outputs[0] - op.outputs[0]) / tf.where(near, tf.ones_like(change), change)
    (midway,) = own_gradient(op, grads, [(z0 + z1) / 2])
    return tf.where(near, midway, grads[0] * slope)


ACTIVATIONS = frozenset("Elu LeakyRelu Relu Relu6 Selu Sigmoid Softplus Softsign Tanh".split())

DEEPLIFT_RULES = {**SECANT_RULES, **dict.fromkeys(ACTIVATIONS, _rescale_rule)}

# Their gradient goes to the winner, as relevance does.
WINNERS = frozenset("Max Maximum MaxPool MaxPool3D Min Minimum".split())


def _warn_of_missing_rules(subgraph, rules, instead):
    missing = {}
    for op in subgraph.ops:
        known = op.type in rules or op.type in WINNERS | BARRIERS or is_linear(op, subgraph.varying)
        path = any(t.ref() in subgraph.varying and t.dtype.is_floating for t in op.inputs)
        if path and not known and any(t.dtype.is_floating for t in op.outputs):
            missing.setdefault(op.type, op.name)
    if missing:
        names = ", ".join(f"{name!r} ({kind})" for kind, name in missing.items())
        warnings.warn(
            f"{subgraph.function}: no rule for {names} between xs and ys, expected affine ops, pooling and "
            f"the activations {', '.join(sorted(ACTIVATIONS))}; {instead} is used there instead. Explain "
            "what comes before (logits and not their softmax), or write a rule and call "
            "igtf.backpropagate.",
            stacklevel=4,
        )
