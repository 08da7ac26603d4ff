"""Hidden layers and units along the path of the input: what they, and what goes through them, contribute."""

import itertools
from collections.abc import Sequence

import tensorflow as tf

from igtf.arguments import flat_grad_ys, flat_outputs
from igtf.levels import find_levels
from igtf.op_types import VIEWS
from igtf.path_integral import PathIntegral
from igtf.refinement import packed, refine
from igtf.subgraph import Subgraph
from igtf.traversal import find_varying, ops_between, unconnected_message
from integrated_gradients_tf import Baselines, Tensors, as_it_is, check_tensor, flat_inputs


@as_it_is
def layer_conductance(
    ys: Tensors,
    layer: Tensors,
    xs: Tensors,
    baselines: Baselines = None,
    num_steps: int | None = None,
    method: str = "auto",
    grad_ys: Tensors | None = None,
    per_row: Sequence[tf.Tensor] | None = None,
    max_rows: int | None = None,
    tolerance: float | None = None,
    return_error: bool = False,
    name: str = "layer_conductance",
) -> Tensors:
    """Importance of hidden units along the path of the INPUT from its baseline.

    Conductance of Dhamdhere, Sundararajan and Yan, https://arxiv.org/abs/1805.12233, as the sum over
    `S` intervals of adjoint_k * (h_{k+1} - h_k), where h_k are the layer's activations on the path.
    (`integrated_gradients(ys, layer)` follows the straight path of the layer's own activations.)

    Args:
      ys: tensor `[B]` or `[B, ...]`, or a structure; entries beyond axis 0 are summed.
      layer: hidden tensor `[B, ...]` computed from `xs`, or a list, tuple or dict of such. Of one that
        another is computed from, what goes around the other counts.
      xs, baselines, num_steps, method, grad_ys, per_row, max_rows, tolerance, return_error: as for
        `integrated_gradients`.
      name: name scope of the nodes.

    Returns:
      The conductances, in the shape and structure of `layer`. They sum to F(x) - F(baseline) when
      every path from `xs` to `ys` passes through `layer`: exactly for `"secant"`, in the limit of
      many steps for the others.

    Raises:
      TypeError, ValueError: as `integrated_gradients`; ValueError also if `layer` does not depend on
        `xs`, or one of several intervals another off from `ys` (call once for each).

    >>> @tf.function
    ... def f(x):
    ...     h = tf.nn.relu(x)
    ...     return layer_conductance(tf.reduce_sum(2 * h, axis=1), h, x)
    >>> f(tf.constant([[3.0, -2.0]])).numpy().round(4).tolist()
    [[6.0, 0.0]]
    """
    function = "layer_conductance"
    layers = flat_inputs(function, "layer", layer)
    with tf.name_scope(name):
        subgraph = Subgraph(function, ys, xs, per_row, through=layers)
        _check_reached(function, subgraph, layers, "layer")
        met = {t.ref() for op in ops_between(subgraph.ys, subgraph.layers) for t in op.inputs}
        met.update(y.ref() for y in subgraph.ys)
        for (first, one), (second, other) in itertools.permutations(zip(layers, subgraph.layers), 2):
            cut_off = one.ref() not in met and other.ref() in find_varying(ops_between([other], [one]), [one])
            if cut_off or one is other:
                raise ValueError(
                    f"{function}: layer has {second.name!r}, which is {first.name!r} again or all that ys "
                    "has of it, expected tensors side by side, which share the change of ys between them. "
                    f"Call {function} once for each."
                )
        levels = find_levels(function, num_steps, method, tolerance, return_error)
        integral = PathIntegral(subgraph, xs, baselines, levels, max_rows)
        weights = flat_grad_ys(function, subgraph, ys, grad_ys)
        return packed(layer, refine(integral, PathIntegral.conductances, weights), return_error)


@as_it_is
def neuron_conductance(
    ys: Tensors,
    unit: tf.Tensor,
    xs: Tensors,
    baselines: Baselines = None,
    num_steps: int | None = None,
    method: str = "auto",
    grad_ys: Tensors | None = None,
    per_row: Sequence[tf.Tensor] | None = None,
    max_rows: int | None = None,
    tolerance: float | None = None,
    return_error: bool = False,
    name: str = "neuron_conductance",
) -> Tensors:
    """What each input contributes to `ys` through one hidden unit.

    Conductance of Dhamdhere, Sundararajan and Yan, https://arxiv.org/abs/1805.12233, equation 1: along the
    path of the inputs, the gradient of `ys` by the unit times that of the unit by the input.

    Args:
      ys: as for `integrated_gradients`.
      unit: entries of a hidden tensor between `xs` and `ys`, as they are written: `hidden[:, 3]`, a channel
        `features[..., 5]`, or the whole tensor.
      xs, baselines, num_steps, method, grad_ys, per_row, max_rows, tolerance, return_error: as for
        `integrated_gradients`.
      name: name scope of the nodes.

    Returns:
      The attributions, in the shape and structure of `xs`. Over all units of a layer that every path from
      `xs` to `ys` passes they sum to `integrated_gradients`; over the inputs, to the unit's
      `layer_conductance` (for `"secant"` but for rounding, in the limit of many steps for the others).

    Raises:
      TypeError, ValueError: as `integrated_gradients`; ValueError also if `unit` is no part of a tensor
        between `xs` and `ys`.

    >>> @tf.function
    ... def f(x):
    ...     hidden = tf.nn.relu(tf.stack([x[:, 0] + x[:, 1], x[:, 1] - x[:, 0]], axis=1))
    ...     return neuron_conductance(3 * hidden[:, 0] + hidden[:, 1], hidden[:, 0], x)
    >>> f(tf.constant([[1.0, 2.0]])).numpy().round(4).tolist()
    [[3.0, 6.0]]
    """
    function = "neuron_conductance"
    check_tensor(function, "unit", unit)
    layer = _whole(function, unit, flat_outputs(function, ys, rows=True), flat_inputs(function, "xs", xs))
    with tf.name_scope(name):
        subgraph = Subgraph(function, ys, xs, per_row, through=[layer])
        _check_reached(function, subgraph, [layer], "unit")
        levels = find_levels(function, num_steps, method, tolerance, return_error)
        integral = PathIntegral(subgraph, xs, baselines, levels, max_rows, explained=subgraph.xs)
        weights = flat_grad_ys(function, subgraph, ys, grad_ys)
        share = tf.ones_like(layer) if unit is layer else tf.gradients(unit, layer)[0]
        share = tf.stop_gradient(tf.convert_to_tensor(share))
        found = refine(integral, lambda part, given: part.through_layer(*given), [*weights, share])
        return packed(xs, found, return_error)


def _whole(function, unit, ys, xs):
    """The tensor between `xs` and `ys` that `unit` is, or is a view of."""
    inside = {t.ref() for op in ops_between(ys, xs) for t in op.inputs}
    tensor = unit
    while tensor.ref() not in inside and tensor.op.type in VIEWS:
        tensor = tensor.op.inputs[0]
    if tensor.ref() not in inside or any(tensor is x for x in xs):
        raise ValueError(
            f"{function}: unit is {unit.name!r} ({unit.op.type}), expected entries of a hidden tensor that "
            "ys are computed from, such as hidden[:, 3]."
        )
    return tensor


def _check_reached(function, subgraph, layers, argument):
    for tensor, given in zip(subgraph.layers, layers):
        if tensor.ref() not in subgraph.varying:
            raise ValueError(unconnected_message(function, [given], subgraph.xs, argument))
