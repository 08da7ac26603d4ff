"""The gradient of a graph that already exists, and the gradient times the input."""

import tensorflow as tf

from igtf.backpropagation import backpropagate
from igtf.methods.common import differentiable
from integrated_gradients_tf import Tensors, as_it_is

__all__ = ["GRADIENT_RULES", "gradient_times_input", "saliency"]

# TensorFlow's own gradient; through tf.custom_gradient, that of the ops it wraps.
GRADIENT_RULES = {"IdentityN": lambda op, other, grads: grads}


@as_it_is
def saliency(ys: Tensors, xs: Tensors, grad_ys: Tensors | None = None, name: str = "saliency") -> Tensors:
    """The absolute gradient: |dF / dx|.

    Simonyan, Vedaldi and Zisserman, https://arxiv.org/abs/1312.6034, section 3.

    Ops wrapped in `tf.custom_gradient` are differentiated as the ops they are made of, here and in
    `gradient_times_input`, `epsilon_lrp` and `deeplift`.

    Args:
      ys: tensor `[B]` or `[B, ...]` (or a structure of such). Entries beyond axis 0 are summed, as in
        `tf.gradients`; choose and weight them with `grad_ys`.
      xs: floating tensor `[B, ...]`, or a list, tuple or dict of such: inputs, embeddings, hidden
        layers.
      grad_ys: weights of the entries of `ys`, of its shape and structure. One-hot rows choose a class
        per row.
      name: name scope of the nodes.

    Returns:
      The attributions, in the shape and structure of `xs`. Members of `xs` that `ys` does not depend
      on get zeros.

    Raises:
      TypeError: a tensor is eager, a KerasTensor or not floating.
      ValueError: no differentiable path from `xs` to `ys`; rows are mixed or random in between
        (training mode); arguments that do not fit together.

    >>> @tf.function
    ... def f(x):
    ...     return saliency(x[:, 0] ** 2 - 3 * x[:, 1], x)
    >>> f(tf.constant([[-2.0, 1.0]])).numpy().tolist()
    [[4.0, 3.0]]
    """
    subgraph, weights = differentiable("saliency", ys, xs, grad_ys)
    with tf.name_scope(name):
        grads = backpropagate(subgraph.ys, subgraph.xs, weights, GRADIENT_RULES)
        result = [tf.abs(grad) for grad in grads]
    return tf.nest.pack_sequence_as(xs, result)


@as_it_is
def gradient_times_input(
    ys: Tensors, xs: Tensors, grad_ys: Tensors | None = None, name: str = "gradient_times_input"
) -> Tensors:
    """The gradient times the input: x * dF / dx.

    Shrikumar, Greenside and Kundaje, https://arxiv.org/abs/1704.02685.

    Args:
      ys, xs, grad_ys, name: as for `saliency`.

    Returns:
      The attributions, in the shape and structure of `xs`.

    Raises:
      TypeError, ValueError: as `saliency`.

    >>> @tf.function
    ... def f(x):
    ...     return gradient_times_input(x[:, 0] ** 2 - 3 * x[:, 1], x)
    >>> f(tf.constant([[-2.0, 1.0]])).numpy().tolist()
    [[8.0, -3.0]]
    """
    subgraph, weights = differentiable("gradient_times_input", ys, xs, grad_ys)
    with tf.name_scope(name):
        grads = backpropagate(subgraph.ys, subgraph.xs, weights, GRADIENT_RULES)
        result = [x * grad for x, grad in zip(subgraph.xs, grads)]
    return tf.nest.pack_sequence_as(xs, result)
