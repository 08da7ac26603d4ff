"""Where a convolutional layer is active for an output, and the gradient along what excites it."""

import warnings

import tensorflow as tf

from igtf.backpropagation import backpropagate, own_gradient
from igtf.methods.common import differentiable
from igtf.methods.gradients import GRADIENT_RULES
from igtf.traversal import ops_between
from integrated_gradients_tf import Tensors, as_it_is, check_tensor, widen

__all__ = ["grad_cam", "guided_backpropagation", "layer_cam"]


@as_it_is
def grad_cam(
    ys: Tensors, layer: tf.Tensor, xs: tf.Tensor, grad_ys: Tensors | None = None, name: str = "grad_cam"
) -> tf.Tensor:
    """Where a layer is active for an output: its channels, weighted by their mean gradient.

    Selvaraju et al., https://arxiv.org/abs/1610.02391, equations 1 and 2: the weight of a channel is the
    mean of dF / dA over all places, and the map the sum of the channels A with these weights, where that
    is positive. It is interpolated linearly to the size of the input, as `tf.image.resize` does.

    Args:
      ys, grad_ys: as for `saliency`; `ys` are computed from `layer`. Explain logits, as the paper does.
      layer: floating tensor `[B, h, w, channels]` computed from `xs`: a hidden layer, as a rule the last one
        with spatial axes. Of any number of these: `[B, t, channels]` for sequences.
      xs: the input `[B, H, W, ...]`, with as many axes, whose size the map gets.
      name: name scope of the nodes.

    Returns:
      The map, `[B, H, W, 1]`, 0 or more, in the dtype of `layer`.

    Raises:
      TypeError: a tensor is eager, a KerasTensor or not floating.
      ValueError: `layer` has no spatial axes, or not as many axes as `xs`, or is not computed from it; no
        differentiable path from `layer` to `ys`; rows are mixed or random in between.

    >>> @tf.function
    ... def f(x):
    ...     layer = tf.nn.relu(x * [1.0, -1.0])
    ...     return grad_cam(tf.reduce_sum(layer * [3.0, 1.0], [1, 2]), layer, x)
    >>> f(tf.constant([[[1.0, 1.0], [-2.0, -2.0]]])).numpy().tolist()
    [[[3.0], [2.0]]]
    """
    return _activation_map("grad_cam", ys, layer, xs, grad_ys, name, _mean_over_places)


@as_it_is
def layer_cam(
    ys: Tensors, layer: tf.Tensor, xs: tf.Tensor, grad_ys: Tensors | None = None, name: str = "layer_cam"
) -> tf.Tensor:
    """Where a layer is active for an output: every place weighted by its own positive gradient.

    Jiang et al., "LayerCAM", IEEE Transactions on Image Processing, 2021,
    https://doi.org/10.1109/TIP.2021.3089943, equations 5 to 7: finer than `grad_cam`, so that layers
    before the last one can be looked at, too.

    Args:
      ys, layer, xs, grad_ys, name: as for `grad_cam`.

    Returns:
      The map, `[B, H, W, 1]`, 0 or more, in the dtype of `layer`.

    Raises:
      TypeError, ValueError: as `grad_cam`.

    >>> @tf.function
    ... def f(x):
    ...     layer = tf.nn.relu(x)
    ...     return layer_cam(tf.reduce_sum(layer * [[2.0], [-1.0]], [1, 2]), layer, x)
    >>> f(tf.constant([[[1.0], [2.0]]])).numpy().tolist()
    [[[2.0], [0.0]]]
    """
    return _activation_map("layer_cam", ys, layer, xs, grad_ys, name, tf.nn.relu)


def _mean_over_places(grads):
    return tf.reduce_mean(grads, list(range(1, grads.shape.rank - 1)), keepdims=True)


def _activation_map(function, ys, layer, xs, grad_ys, name, weigh):
    for argument, tensor in (("layer", layer), ("xs", xs)):
        check_tensor(function, argument, tensor)
    subgraph, weights = differentiable(function, ys, layer, grad_ys)
    if layer.shape.rank is None or layer.shape.rank < 3 or layer.shape.rank != xs.shape.rank:
        raise ValueError(
            f"{function}: layer {layer.name!r} has shape {layer.shape} and xs {xs.name!r} {xs.shape}, "
            "expected as many axes of both, rows and channels and others between them. Name a layer before "
            "pooling or flattening, and the images or sequences that it is computed from."
        )
    if layer is not xs and not ops_between([layer], [xs]):
        raise ValueError(
            f"{function}: layer {layer.name!r} is not computed from xs {xs.name!r}, expected a hidden layer "
            "of the network that was called on it. Pass the very tensors of that call."
        )
    with tf.name_scope(name):
        (grads,) = backpropagate(subgraph.ys, subgraph.xs, weights, GRADIENT_RULES)
        total = tf.reduce_sum(weigh(widen(grads)) * widen(subgraph.xs[0]), -1, keepdims=True)
        result = tf.nn.relu(total)
        for axis in range(1, xs.shape.rank - 1):
            result = _resized(result, axis, tf.shape(xs)[axis])
        result.set_shape([*layer.shape[:1], *xs.shape[1:-1], 1])
        return tf.cast(result, layer.dtype)


def _resized(tensor, axis, size):
    """Linearly interpolated along an axis, by ops that have all their gradients (ResizeBilinear has not)."""
    last = tf.shape(tensor)[axis] - 1
    step = tf.cast(last + 1, tensor.dtype) / tf.cast(size, tensor.dtype)
    place = (tf.cast(tf.range(size), tensor.dtype) + 0.5) * step - 0.5
    place = tf.clip_by_value(place, 0, tf.cast(last, tensor.dtype))
    before = tf.cast(tf.floor(place), tf.int32)
    near, far = (tf.gather(tensor, tf.minimum(i, last), axis=axis) for i in (before, before + 1))
    share = tf.reshape(place - tf.floor(place), [-1] + [1] * (tensor.shape.rank - 1 - axis))
    return near + share * (far - near)


@as_it_is
def guided_backpropagation(
    ys: Tensors, xs: Tensors, grad_ys: Tensors | None = None, name: str = "guided_backpropagation"
) -> Tensors:
    """The gradient, of which each ReLU lets through only what is positive.

    Springenberg et al., https://arxiv.org/abs/1412.6806, section 3.4: on the way back a ReLU (or ReLU6)
    stops what it stopped forward and, as well, gradients below 0. Sharp pictures of what is in an image,
    which depend on the class less than they seem to (Adebayo et al., https://arxiv.org/abs/1810.03292);
    times `grad_cam` they are Guided Grad-CAM.

    Args:
      ys, xs, grad_ys, name: as for `saliency`.

    Returns:
      The guided gradients, in the shape and structure of `xs`.

    Raises:
      TypeError, ValueError: as `saliency`.

    Warns:
      UserWarning: there is no ReLU between `xs` and `ys`, and what is returned is the gradient.

    >>> @tf.function
    ... def f(x):
    ...     return guided_backpropagation(tf.nn.relu(x[:, 0]) - 2 * tf.nn.relu(x[:, 1]), x)
    >>> f(tf.constant([[3.0, 5.0]])).numpy().tolist()
    [[1.0, 0.0]]
    """
    function = "guided_backpropagation"
    subgraph, weights = differentiable(function, ys, xs, grad_ys)
    if not any(op.type in GUIDED_RULES for op in subgraph.ops):
        warnings.warn(
            f"{function}: there is no ReLU between xs and ys, expected some that guide the gradient; what is "
            "returned is the gradient. Use saliency or gradient_times_input.",
            stacklevel=3,
        )
    with tf.name_scope(name):
        grads = backpropagate(subgraph.ys, subgraph.xs, weights, {**GRADIENT_RULES, **GUIDED_RULES})
    return tf.nest.pack_sequence_as(xs, grads)


def _guided_rule(op, other, grads):
    return own_gradient(op, [tf.nn.relu(grads[0])])


GUIDED_RULES = dict.fromkeys(("Relu", "Relu6"), _guided_rule)
