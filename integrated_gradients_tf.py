"""Integrated gradients as nodes of your own TensorFlow graph.

Copy this one file into a project. Every function takes tensors of a graph under construction (a
`tf.compat.v1` graph, or the graph that `tf.function` traces), adds nodes to it and returns ordinary
tensors: fetch them with the predictions, train on them, export them.

The method is that of Sundararajan, Taly and Yan, "Axiomatic Attribution for Deep Networks",
https://arxiv.org/abs/1703.01365. Equation 1 there: the attribution of feature i is

    (x_i - b_i) * integral over alpha from 0 to 1 of dF(b + alpha * (x - b)) / dx_i

Shapes below: `B` rows in a batch, `S` = `num_steps`, `...` the feature dimensions. Rows are
independent of one another.

Copyright 2026 the IntegratedGradientsTF authors. Licensed under the Apache License, Version 2.0.
"""

import functools
import itertools
import math
import numbers
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple, TypeAlias

import numpy as np
import tensorflow as tf

# Private, as nothing public will do: ops made by tf.Graph.create_op are not on the tapes that watch, and
# tf.GradientTape would take what is computed from them for constants.
from tensorflow.python.eager import execute

# Likewise private: what tf.gradients asks for the gradient of an op.
from tensorflow.python.framework import ops as framework

__all__ = [
    "backpropagate",
    "build_ig",
    "convergence_delta",
    "graph_replace",
    "integrated_gradients",
    "integrated_jacobian",
    "layer_conductance",
    "linear_inpterpolation",
    "linear_interpolation",
    "path_gradients",
]

# AutoGraph would convert every function below when it is called inside a tf.function.
_as_it_is = tf.autograph.experimental.do_not_convert

# A tensor, or a list, tuple or dict of tensors.
Tensors: TypeAlias = tf.Tensor | list | tuple | dict
# Likewise; arrays and numbers are converted.
Baselines: TypeAlias = tf.Tensor | np.ndarray | float | list | tuple | dict | None
# rule(op, other, grads) -> one gradient or None per input
Rule: TypeAlias = Callable[[tf.Operation, Any, list], Sequence]

MAX_STEPS = 1_000_000
PANEL = 128  # Gauss-Legendre nodes in one panel: leggauss(5000) would take 15 s and 300 MiB.


# ---------------------------------------------------------------------------------------------------
# Quadrature rules
# ---------------------------------------------------------------------------------------------------


def _trapezoid(n):
    weights = np.full(n, 1 / (n - 1))
    weights[[0, -1]] /= 2
    return np.linspace(0, 1, n), weights


def _gauss_legendre(n):
    panels = -(-n // PANEL)
    sizes = [n // panels + (i < n % panels) for i in range(panels)]
    rules = {size: np.polynomial.legendre.leggauss(size) for size in set(sizes)}
    points = [(i + (rules[size][0] + 1) / 2) / panels for i, size in enumerate(sizes)]
    weights = [rules[size][1] / 2 / panels for size in sizes]
    return np.concatenate(points), np.concatenate(weights)


# name -> function of the number of points: (points in [0, 1], weights that sum to 1), float64.
QUADRATURES = {
    "riemann_left": lambda n: (np.arange(n) / n, np.full(n, 1 / n)),
    "riemann_right": lambda n: (np.arange(1, n + 1) / n, np.full(n, 1 / n)),
    "riemann_middle": lambda n: ((np.arange(n) + 0.5) / n, np.full(n, 1 / n)),
    "riemann_trapezoid": _trapezoid,
    "gausslegendre": _gauss_legendre,
}


@functools.lru_cache(maxsize=64)
def quadrature(num_steps, method):
    """Points `[S]` in [0, 1] and weights `[S]` of a rule, ascending, as float64 arrays."""
    points, weights = QUADRATURES[method](num_steps)
    points.flags.writeable = weights.flags.writeable = False
    return points, weights


# ---------------------------------------------------------------------------------------------------
# The recipe: interpolate, run the network again, sum.
# ---------------------------------------------------------------------------------------------------


@_as_it_is
def linear_interpolation(
    x: Tensors,
    num_steps: int = 50,
    baseline: Baselines = None,
    method: str = "gausslegendre",
    name: str = "linear_interpolation",
) -> tuple[Tensors, Tensors, Tensors]:
    """Puts `num_steps` points on the straight path from `baseline` to `x`.

    The first half of the recipe of Sundararajan et al., https://arxiv.org/abs/1703.01365, section 5.
    Run your network on `inter` with its weights reused, then hand its output to `build_ig`.

    Args:
      x: floating tensor `[B, ...]`, or a list, tuple or dict of such (one joint path).
      num_steps: number of points `S`, 1 to 1,000,000 (`riemann_trapezoid` needs 2).
      baseline: where the path starts. `None` is zeros (in a `tf.compat.v1` graph a
        `placeholder_with_default`, which can be fed with one row `[1, ...]` or one per row
        `[B, ...]`); a scalar; or a tensor that broadcasts to `x`. With structured `x`: one scalar
        for all, or the same structure.
      method: `"riemann_left"`, `"riemann_right"`, `"riemann_middle"`, `"riemann_trapezoid"` or
        `"gausslegendre"`.
      name: name scope of the nodes.

    Returns:
      `(inter, stepsize, baseline)`, each in the structure of `x`. `inter` is `[S * B, ...]`,
      step-major: row `s * B + b` is step `s` of row `b` of `x`. `stepsize` is `[S * B, ...]`: the
      weight of the step times `x - baseline`, so that the attribution is the sum over steps of
      `stepsize * gradient`. `baseline` is the tensor the path starts from (feedable, see above).

    Raises:
      TypeError: `x` is eager, a KerasTensor, or not floating.
      ValueError: unknown method, `num_steps` out of range, or a baseline that does not broadcast.

    >>> @tf.function
    ... def f(x):
    ...     inter, stepsize, _ = linear_interpolation(x, num_steps=4, baseline=1.0)
    ...     return build_ig(inter, stepsize, tf.reduce_sum(inter**2, axis=1), num_steps=4)
    >>> f(tf.constant([[3.0, 2.0]])).numpy().round(4).tolist()
    [[8.0, 3.0]]
    """
    num_steps = _check_steps("linear_interpolation", num_steps, method)
    flat = _flat_inputs("linear_interpolation", "x", x)
    points, weights = quadrature(num_steps, method)
    with tf.name_scope(name):
        starts = _flat_baselines("linear_interpolation", x, flat, baseline)
        graph = tf.compat.v1.get_default_graph()
        if baseline is None and not graph.building_function:
            # Of unknown shape, so that one row can be fed with or without its batch dimension.
            starts = [tf.compat.v1.placeholder_with_default(b, None, "baseline") for b in starts]
        inter, stepsize = [], []
        for tensor, start in zip(flat, starts):
            start = _broadcast(start, tensor)
            change = _change(start, tensor)
            path = _between(start, tensor, change, _column(points, tensor), _column(1 - points, tensor))
            inter.append(_merge_rows(path, tensor, len(points)))
            step = _column(weights, tensor) * change
            stepsize.append(_merge_rows(step, tensor, len(points)))
    return tuple(tf.nest.pack_sequence_as(x, part) for part in (inter, stepsize, starts))


@_as_it_is
def build_ig(
    inter: Tensors,
    stepsize: Tensors,
    output: tf.Tensor,
    num_steps: int = 50,
    name: str = "build_ig",
) -> Tensors:
    """Sums the gradients along the path: the attribution of `output` to the original `x`.

    The second half of the recipe, see `linear_interpolation`; equation 3 of Sundararajan et al.,
    https://arxiv.org/abs/1703.01365, for every quadrature rule.

    Args:
      inter: the tensor or structure that `linear_interpolation` returned, `[S * B, ...]`.
      stepsize: likewise.
      output: tensor `[S * B]` or `[S * B, ...]`, computed from `inter`. Entries beyond axis 0 are
        summed, as in `tf.gradients`: pass `logits[:, 3]` to explain class 3.
      num_steps: the `num_steps` of `linear_interpolation`.
      name: name scope of the nodes.

    Returns:
      The attributions, shape and structure of `x`: `[B, ...]`. Inputs that `output` does not depend
      on get zeros. Their sum over the features of a row approaches F(x) - F(baseline) as
      `num_steps` grows (completeness).

    Raises:
      TypeError: a tensor is eager, a KerasTensor, or not floating.
      ValueError: `inter`, `stepsize`, `output` and `num_steps` do not fit together, or no gradient
        flows from `output` to `inter`.

    >>> @tf.function
    ... def f(x):
    ...     inter, stepsize, _ = linear_interpolation(x, num_steps=1)
    ...     return build_ig(inter, stepsize, 3 * inter[:, 0] - inter[:, 1], num_steps=1)
    >>> f(tf.constant([[1.0, 2.0]])).numpy().tolist()
    [[3.0, -2.0]]
    """
    num_steps = _check_steps("build_ig", num_steps)
    inters = _flat_inputs("build_ig", "inter", inter)
    _check_structure("build_ig", "stepsize", stepsize, "inter", inter)
    stepsizes = _flat_inputs("build_ig", "stepsize", stepsize)
    _check_tensor("build_ig", "output", output)
    _check_recipe(inters, stepsizes, output, num_steps)
    with tf.name_scope(name):
        grads = tf.gradients(output, inters, stop_gradients=inters)
        if all(grad is None for grad in grads):
            raise ValueError(
                f"build_ig: no gradient flows from output {output.name!r} to inter "
                f"{[x.name for x in inters]}, expected differentiable ops in between. Call the network on "
                "inter itself, and look for ids, tf.stop_gradient, argmax, rounding or comparisons."
            )
        result = [_sum_steps(*pair, num_steps) for pair in zip(grads, stepsizes)]
    return tf.nest.pack_sequence_as(inter, result)


@_as_it_is
def linear_inpterpolation(sample: Tensors, num_steps: int = 50) -> tuple[Tensors, Tensors, Tensors]:
    """The original spelling and its numbers (left Riemann sum); see `linear_interpolation`."""
    return linear_interpolation(sample, num_steps, method="riemann_left")


# ---------------------------------------------------------------------------------------------------
# The one-liner: any tensor explained by any other, in a graph that already exists
# ---------------------------------------------------------------------------------------------------


@_as_it_is
def integrated_gradients(
    ys: Tensors,
    xs: Tensors,
    baselines: Baselines = None,
    num_steps: int = 50,
    method: str = "auto",
    grad_ys: Tensors | None = None,
    per_row: Sequence[tf.Tensor] | None = None,
    max_rows: int | None = None,
    name: str = "integrated_gradients",
) -> Tensors:
    """Attributes `ys` to `xs`, two tensors of a graph that already exists.

    Integrated gradients of Sundararajan et al., https://arxiv.org/abs/1703.01365, equation 1, called
    like `tf.gradients`. The ops between `xs` and `ys` are replayed on points between the baseline
    and `xs`, in blocks inside a loop, so that memory does not grow with `num_steps`. Whatever is
    affine at the beginning of the network is computed once and not once per step.

    Ops wrapped in `tf.custom_gradient` are differentiated as the ops they are made of:
    straight-through estimators and gradient reversal have no effect on attributions.

    Args:
      ys: tensor `[B]` or `[B, ...]` (or a structure of such). Entries beyond axis 0 are summed, as
        in `tf.gradients`; choose and weight them with `grad_ys`.
      xs: floating tensor `[B, ...]`, or a list, tuple or dict of such (one joint path): inputs,
        embeddings, hidden layers.
      baselines: where the path starts: `None` (zeros), a scalar, or a tensor that broadcasts to
        `xs`. With structured `xs`: one scalar for all, or the same structure.
      num_steps: number of steps `S`, 1 to 1,000,000.
      method: `"auto"`, `"secant"`, `"gausslegendre"`, `"riemann_left"`, `"riemann_right"`,
        `"riemann_middle"` or `"riemann_trapezoid"`. `"secant"` is complete by construction at any
        number of steps; its points are close where units switch, where what the network divides by
        moves in logarithm and, from 10 steps on, where a softmax moves. `"auto"` takes it for networks
        with kinks (ReLU and its family, max pooling, maximum, absolute value), and Gauss-Legendre for
        smooth ones, for those that rank or round (`tf.sort`, `tf.sign`: their values jump), and for
        rows in which nothing switches; from 10 steps on its nodes are dense where the outputs move.
        From 10 steps on the error of `"auto"` is at most 1.5 times that of `"gausslegendre"` with as
        many steps (mean of 16 rows or more, beside rounding), and most often a small part of it.
      grad_ys: weights of the entries of `ys`, of its shape and structure. They are evaluated at `xs`
        and held fixed along the path. One-hot rows choose a class per row.
      per_row: tensors beside `xs` with one entry per row (targets to gather, masks), which are
        repeated for every step. `None` detects placeholders and function arguments that lead with
        the batch dimension of `xs`; a list replaces the detection, `[]` means none. A random tensor in
        it, such as the noise of a sampled code, is held as the run draws it.
      max_rows: the most rows to run through the network at once (at least `B`; `2 * B` for
        `"secant"`). `None` adapts to the size of a row.
      name: name scope of the nodes.

    Returns:
      The attributions, in the shape and structure of `xs`. Summed over the features of a row they
      equal F(x) - F(baseline): exactly for `"secant"`, in the limit of many steps for the others
      (see `convergence_delta`). Branches of TensorFlow 1, loops that read a `tf.TensorArray` which they
      write, and rarer ops where rows cannot be told apart count with their mean gradient, and
      `tf.stop_gradient` hides what it stops (but for a maximum that is subtracted before exponentials and
      cancels, as in `tf.reduce_logsumexp`): there, `"secant"` too is complete only in the limit.
      Members of `xs` that `ys` does not depend on get zeros. Where rows cannot be followed to `ys`
      (segments, scatters, rows looked up by unique ids), they are the attributions of the sum of `ys`
      over all rows, along one path, a step at a time.

    Raises:
      TypeError: a tensor is eager, a KerasTensor or not floating, or `num_steps` is no int.
      ValueError: no differentiable path from `xs` to `ys`; rows are mixed or random in between
        (training mode); arguments that do not fit together.
      tf.errors.InvalidArgumentError: in the run, where only the run can tell: tensors with one entry per
        row that have other than the rows of `xs`; dropout, noise or batch normalization in training mode
        that is switched on.

    >>> @tf.function
    ... def f(x):
    ...     y = tf.nn.relu(x[:, 0] - x[:, 1])
    ...     return integrated_gradients(y, x, baselines=tf.constant([0.0, 2.0]), num_steps=10)
    >>> f(tf.constant([[3.0, 1.0]])).numpy().round(4).tolist()
    [[1.5, 0.5]]
    """
    with tf.name_scope(name):
        plan = _Plan("integrated_gradients", ys, xs, per_row)
        walk = _Walk(plan, xs, baselines, num_steps, method, max_rows)
        weights = _flat_grad_ys("integrated_gradients", plan, ys, grad_ys)
        result = walk.attributions(weights)
    return tf.nest.pack_sequence_as(xs, result)


@_as_it_is
def integrated_jacobian(
    ys: tf.Tensor,
    xs: Tensors,
    baselines: Baselines = None,
    num_steps: int = 50,
    method: str = "auto",
    per_row: Sequence[tf.Tensor] | None = None,
    max_rows: int | None = None,
    name: str = "integrated_jacobian",
) -> Tensors:
    """Attributes every output unit to `xs`: all classes from one forward replay.

    Args:
      ys: tensor `[B, C]` with a static `C`.
      xs, baselines, num_steps, method, per_row, max_rows: as for `integrated_gradients`.
      name: name scope of the nodes.

    Returns:
      `[B, C, ...]` for `xs [B, ...]`, in the structure of `xs`: entry `c` is what
      `integrated_gradients(ys[:, c], xs)` returns, at a fraction of the cost of `C` calls.

    Raises:
      TypeError, ValueError: as `integrated_gradients`; ValueError if `C` is unknown.

    >>> @tf.function
    ... def f(x):
    ...     return integrated_jacobian(tf.stack([x[:, 0] * x[:, 1], x[:, 1]], axis=1), x)
    >>> f(tf.constant([[3.0, 2.0]])).numpy().round(4).tolist()
    [[[3.0, 3.0], [0.0, 2.0]]]
    """
    function = "integrated_jacobian"
    with tf.name_scope(name):
        plan = _Plan(function, ys, xs, per_row)
        if tf.nest.is_nested(ys) or ys.shape.rank != 2 or ys.shape.as_list()[1] is None:
            raise ValueError(
                f"{function}: ys has shape {getattr(ys, 'shape', _describe(ys))}, expected one tensor "
                "[B, C] with a static C. Reshape it, or set C with ys.set_shape([None, C])."
            )
        walk = _Walk(plan, xs, baselines, num_steps, method, max_rows, outputs=ys.shape.as_list()[1])
        result = walk.jacobian()
    return tf.nest.pack_sequence_as(xs, result)


@_as_it_is
def layer_conductance(
    ys: Tensors,
    layer: Tensors,
    xs: Tensors,
    baselines: Baselines = None,
    num_steps: int = 50,
    method: str = "auto",
    grad_ys: Tensors | None = None,
    per_row: Sequence[tf.Tensor] | None = None,
    max_rows: int | None = None,
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
      xs, baselines, num_steps, method, grad_ys, per_row, max_rows: as for `integrated_gradients`.
      name: name scope of the nodes.

    Returns:
      The conductances, in the shape and structure of `layer`. They sum to F(x) - F(baseline) when
      every path from `xs` to `ys` passes through `layer`: exactly for `"secant"`, in the limit of
      many steps for the others.

    Raises:
      TypeError, ValueError: as `integrated_gradients`; ValueError also if `layer` does not depend on
        `xs`, or one of several cuts another off from `ys` (call once for each).

    >>> @tf.function
    ... def f(x):
    ...     h = tf.nn.relu(x)
    ...     return layer_conductance(tf.reduce_sum(2 * h, axis=1), h, x)
    >>> f(tf.constant([[3.0, -2.0]])).numpy().round(4).tolist()
    [[6.0, 0.0]]
    """
    function = "layer_conductance"
    layers = _flat_inputs(function, "layer", layer)
    with tf.name_scope(name):
        plan = _Plan(function, ys, xs, per_row, through=layers)
        for tensor, given in zip(plan.layers, layers):
            if tensor.ref() not in plan.varying:
                raise ValueError(_unconnected(function, [given], plan.xs, "layer", "xs"))
        met = {t.ref() for op in _ops_between(plan.ys, plan.layers) for t in op.inputs}
        met.update(y.ref() for y in plan.ys)
        for (first, one), (second, other) in itertools.permutations(zip(layers, plan.layers), 2):
            cut_off = one.ref() not in met and other.ref() in _varying(_ops_between([other], [one]), [one])
            if cut_off or one is other:
                raise ValueError(
                    f"{function}: layer has {second.name!r}, which is {first.name!r} again or all that ys "
                    "has of it, expected tensors side by side, which share the change of ys between them. "
                    f"Call {function} once for each."
                )
        walk = _Walk(plan, xs, baselines, num_steps, method, max_rows)
        weights = _flat_grad_ys(function, plan, ys, grad_ys)
        result = walk.conductances(weights)
    return tf.nest.pack_sequence_as(layer, result)


@_as_it_is
def path_gradients(
    ys: Tensors,
    xs: Tensors,
    baselines: Baselines = None,
    num_steps: int = 50,
    grad_ys: Tensors | None = None,
    per_row: Sequence[tf.Tensor] | None = None,
    name: str = "path_gradients",
) -> tuple[Tensors, tf.Tensor, tf.Tensor]:
    """Gradients and outputs at points of the path: what integrated gradients sum up, to look at.

    The interior gradients of Sundararajan et al., https://arxiv.org/abs/1703.01365, section 2. One
    point runs through the network at a time.

    Args:
      ys, xs, baselines, grad_ys, per_row: as for `integrated_gradients`.
      num_steps: number of points `S`, at equal distances and with both ends, from 2 to 1,000,000.
      name: name scope of the nodes.

    Returns:
      `(gradients, outputs, alphas)`: the gradients `[S, B, ...]` in the structure of `xs`, the
      outputs `[S, B]` (entries of `ys` times `grad_ys`, summed), and where the points lie, `[S]`, from
      0 at the baseline to 1 at `xs`.

    Raises:
      TypeError, ValueError: as `integrated_gradients`.
      tf.errors.InvalidArgumentError: likewise, or `ys` have other than the rows of `xs`.

    >>> @tf.function
    ... def f(x):
    ...     return path_gradients(tf.reduce_sum(x**2, axis=1), x, num_steps=3)
    >>> gradients, outputs, alphas = f(tf.constant([[1.0, 2.0]]))
    >>> gradients.numpy().tolist(), outputs.numpy().tolist()
    ([[[0.0, 0.0]], [[1.0, 2.0]], [[2.0, 4.0]]], [[0.0], [1.25], [5.0]])
    """
    function = "path_gradients"
    with tf.name_scope(name):
        plan = _Plan(function, ys, xs, per_row)
        num_steps = _check_steps(function, num_steps, "riemann_trapezoid")
        starts = plan.full_baselines(_flat_baselines(function, xs, plan.xs, baselines))
        weights = _flat_grad_ys(function, plan, ys, grad_ys)
        dtype = _wide(plan.xs[0].dtype)
        alphas = tf.constant(quadrature(num_steps, "riemann_trapezoid")[0], dtype)
        changes = [_change(start, x) for x, start in zip(plan.xs, starts)]

        def point(index):
            new = []
            for x, start, change in zip(plan.xs, starts, changes):
                alpha = tf.cast(alphas[index], x.dtype)
                new.append(_restore_shape(_between(start, x, change, alpha, 1 - alpha), x.shape))
            made = plan.replay(new)
            grads = tf.gradients(made, new, grad_ys=weights)
            grads = [tf.zeros_like(x) if g is None else tf.convert_to_tensor(g) for x, g in zip(new, grads)]
            total = 0
            for y, weight in zip(made, weights):
                total += tf.cast(_sum_features(y if weight is None else y * weight), dtype)
            return [*grads, total]

        rows = tf.zeros([tf.shape(plan.xs[0])[0]], dtype)
        if any(op.type in LOOPLESS for op in plan.ops):
            *grads, outputs = (tf.stack(parts) for parts in zip(*map(point, range(num_steps))))
        else:
            *grads, outputs = _map_range(point, 0, num_steps, [*plan.xs, rows])
        with tf.control_dependencies(plan.one_per_row()):
            outputs = tf.identity(outputs)
    return tf.nest.pack_sequence_as(xs, grads), outputs, alphas


@_as_it_is
def convergence_delta(
    ys: Tensors,
    xs: Tensors,
    baselines: Baselines,
    attributions: Tensors,
    grad_ys: Tensors | None = None,
    per_row: Sequence[tf.Tensor] | None = None,
    name: str = "convergence_delta",
) -> tf.Tensor:
    """How far attributions are from completeness: the check to make.

    Args:
      ys, xs, baselines, grad_ys, per_row: as given to `integrated_gradients`.
      attributions: what it returned, in the shape and structure of `xs`.
      name: name scope of the nodes.

    Returns:
      `[B]`: per row, the sum of the attributions minus (F(x) - F(baseline)), where F is the sum of
      `ys * grad_ys` over the entries of a row. Completeness (Sundararajan et al.,
      https://arxiv.org/abs/1703.01365, proposition 1) says that it tends to 0 with more steps.

    Raises:
      TypeError, ValueError: as `integrated_gradients`.
      tf.errors.InvalidArgumentError: likewise, or `ys` have other than the rows of `xs`.

    >>> @tf.function
    ... def f(x):
    ...     y = x[:, 0] ** 2
    ...     return convergence_delta(y, x, None, integrated_gradients(y, x))
    >>> abs(f(tf.constant([[3.0]])).numpy().item()) < 1e-5
    True
    """
    function = "convergence_delta"
    with tf.name_scope(name):
        plan = _Plan(function, ys, xs, per_row)
        _check_structure(function, "attributions", attributions, "xs", xs)
        parts = _flat_inputs(function, "attributions", attributions)
        for part, x in zip(parts, plan.xs):
            if not part.shape.is_compatible_with(x.shape):
                raise ValueError(
                    f"{function}: attributions have shape {part.shape}, expected {x.shape} as xs."
                )
        weights = _flat_grad_ys(function, plan, ys, grad_ys)
        starts = plan.full_baselines(_flat_baselines(function, xs, plan.xs, baselines))
        total = sum(_sum_features(part) for part in parts)
        before = plan.replay(starts)
        with tf.control_dependencies(plan.one_per_row()):
            for y, y0, weight in zip(plan.ys, before, weights):
                # Summed as one difference, which loses least where F(x) and F(baseline) are close.
                change = _widen(y) - _widen(y0)
                if weight is not None:
                    change *= tf.cast(weight, change.dtype)
                total -= tf.cast(_sum_features(change), total.dtype)
    return total


@_as_it_is
def graph_replace(
    ys: Tensors,
    xs: Tensors,
    replacements: Tensors,
    per_row: Sequence[tf.Tensor] | None = None,
    name: str = "graph_replace",
) -> Tensors:
    """Instantiates the ops between `xs` and `ys` once more, reading `replacements` for `xs`.

    What `tf.contrib.graph_editor.graph_replace` did: the network again, on other values, with its
    weights shared. Works inside the body of a `tf.while_loop` too.

    Args:
      ys: tensor or structure of tensors computed from `xs`.
      xs: tensor or structure of tensors `[B, ...]`.
      replacements: what to read instead, same structure and dtypes, `[k * B, ...]` for any whole
        `k >= 1`, step-major (all rows of the batch, `k` times).
      per_row: as for `integrated_gradients`: tensors beside `xs` with one entry per row, which are
        repeated `k` times.
      name: name scope of the nodes.

    Returns:
      The structure of `ys`, computed from `replacements`.

    Raises:
      TypeError: a tensor is eager or a KerasTensor, or a dtype differs.
      ValueError: structures or shapes differ, or the ops cannot be replayed.
      tf.errors.InvalidArgumentError: in the run, where rows cannot be followed from `xs` to `ys` and the
        replacements have other than those of `xs`.

    >>> @tf.function
    ... def f(x):
    ...     return graph_replace(x * 2 + 1, x, tf.constant([[5.0]]))
    >>> f(tf.constant([[1.0]])).numpy().tolist()
    [[11.0]]
    """
    function = "graph_replace"
    with tf.name_scope(name):
        plan = _Plan(function, ys, xs, per_row, explain=False)
        _check_structure(function, "replacements", replacements, "xs", xs)
        new = tf.nest.flatten(replacements)
        for x, value in zip(plan.xs, new):
            if tf.is_tensor(value) and not hasattr(value, "numpy"):
                _check_tensor(function, "replacements", value)
            eager = hasattr(value, "numpy") and not tf.compat.v1.get_default_graph().building_function
            if not isinstance(value, tf.Tensor) or eager or value.dtype != x.dtype:
                raise TypeError(
                    f"{function}: the replacement of {x.name!r} is {value!r}, expected a tensor of dtype "
                    f"{x.dtype.name}."
                )
            if value.shape.rank is not None and x.shape.rank is not None:
                if value.shape.rank == 0 or not value.shape[1:].is_compatible_with(x.shape[1:]):
                    raise ValueError(
                        f"{function}: the replacement of {x.name!r} has shape {value.shape}, expected "
                        f"[k * B, ...] with {x.shape}."
                    )
        rows = new[0].shape.as_list()[0] if new[0].shape.rank else None
        copies = 1
        if plan.rows is None or rows is None:
            if not plan.stackable:
                new = plan.same_rows(new)
            elif plan.roots:
                plan.check_lengths()
                copies = tf.shape(new[0])[0] // tf.shape(plan.xs[0])[0]
        elif rows % max(plan.rows, 1):
            raise ValueError(
                f"{function}: the replacements have {rows} rows, expected a multiple of {plan.rows}, the "
                "batch size of xs."
            )
        else:
            copies = rows // max(plan.rows, 1)
            if copies > 1 and not plan.stackable:
                raise ValueError(
                    f"{function}: the replacements have {rows} rows and the batch size {plan.rows} is "
                    f"part of the graph (at {plan.lost}). Replace with {plan.rows} rows, or build "
                    "the graph with an unknown batch size, as with tf.TensorSpec([None, ...])."
                )
        result = plan.replay(new, copies)
    return tf.nest.pack_sequence_as(ys, result)


# ---------------------------------------------------------------------------------------------------
# Plan: what has to be replayed, worked out once per call
# ---------------------------------------------------------------------------------------------------


class _Plan:
    """The ops between `xs` and `ys`, and what is known about them.

    Attributes:
      xs, ys, layers: flat lists of tensors; `layers` are tensors that must stay visible.
      roots: tensors beside `xs` with one entry per row, repeated for every step.
      ops: all ops to replay, dependencies first.
      frontier: the last tensors that are affine in `xs`; interpolation starts there.
      prefix, rest: the ops from `xs` to the frontier and from there to `ys` and `layers`.
      rows: the static batch size, or None.
      stacked: True if every replayed tensor provably keeps the rows step-major on axis 0.
      obstacle: the op that keeps `stacked` from being True, described.
      lost: the op that needs the number of rows, or behind which they cannot be followed, described, or
        None; the path is replayed one step at a time then, which is right whatever the op does.
      aligned: True if the rows of `ys` are those of `xs`, so that each may have points of its own.
    """

    def __init__(self, function, ys, xs, per_row, through=(), explain=True):
        self.function = function
        self.xs = _flat_inputs(function, "xs", xs, floating=explain)
        self.ys = _flat_outputs(function, ys, explain)
        self.layers = list(through)
        self.repeated = {}  # roots as checked in the run
        self.held = {}  # ref() -> a tensor (a random draw, a switch), and what is read instead at every step
        self.switches = {}  # ref() -> what keeps a branch that would mix rows from being taken
        self.rows = next((t.shape.as_list()[0] for t in self.xs if t.shape.rank), None)
        self._inline_calls()
        self._find_roots(per_row)
        self.ops = _ops_between(self.ys + self.layers, self.xs + self.roots)
        self._refuse_frames()
        self.varying = _varying(self.ops, self.xs)
        self._follow_rows(strict=explain)
        self._hold_random(beside=per_row is None)
        if explain:
            self._check_connected()
            self._check_rows()
        self._split()

    # What is there

    def _inline_calls(self):
        """Rebuilds the path once at `xs` where function calls, or one op for many, hide its ops."""
        self._open_calls()
        for hides in (lambda op: op.type in CALLS, _is_layer_norm):  # a call may hide the other
            ops = _ops_between(self.ys + self.layers, self.xs)
            if any(map(hides, ops)):
                values = {x.ref(): x for x in self.xs}
                _replay(ops, values, self.ys + self.layers, axis={})  # of the very shapes
                self.ys = [values.get(y.ref(), y) for y in self.ys]
                self.layers = [values.get(t.ref(), t) for t in self.layers]

    def _open_calls(self):
        """Writes out a call that returns some of `xs` and what `ys` are made of, as a SavedModel's may."""
        calls = list(dict.fromkeys(x.op for x in self.xs if x.op.type in CALLS))
        mine = {x.ref() for x in self.xs}
        others = [t for op in calls for t in op.outputs if t.ref() not in mine]
        targets = self.ys + self.layers
        if not others or not (_ops_between(targets, others) or any(t is y for t in others for y in targets)):
            return
        library, values = _function_library(), {}
        for op in calls:
            made = []
            outputs = _emit(op.type, list(op.inputs), op.node_def.attr, made, op.name, library)
            for old, new in zip(op.outputs, outputs):
                while new.op.type == "Identity" and new.op in made:  # which others inside do not read
                    new = new.op.inputs[0]
                values[old.ref()] = new
        _replay(_ops_between(targets, [t for op in calls for t in op.outputs]), values, targets)
        self.xs, self.ys, self.layers = (
            [values.get(t.ref(), t) for t in tensors] for tensors in (self.xs, self.ys, self.layers)
        )

    def _find_roots(self, per_row):
        ops = _ops_between(self.ys + self.layers, self.xs)
        inside = {x.ref() for x in self.xs} | {out.ref() for op in ops for out in op.outputs}
        edge = [t for op in ops for t in op.inputs if t.ref() not in inside]
        found = _roots_above(edge, self.xs, self.rows)
        if per_row is None:
            self.roots = found
            return
        if not isinstance(per_row, (list, tuple)):
            raise TypeError(
                f"{self.function}: per_row is a {type(per_row).__name__}, expected a list of tensors "
                "with one entry per row; [] for none."
            )
        for tensor in per_row:
            _check_tensor(self.function, "per_row", tensor)
            if tensor.shape.rank == 0 or not (
                tensor.shape.rank is None or tensor.shape[:1].is_compatible_with(tf.TensorShape([self.rows]))
            ):
                raise ValueError(
                    f"{self.function}: per_row holds {tensor.name!r} of shape {tensor.shape}, "
                    f"expected [B, ...] with the batch size of xs, {self.xs[0].shape}."
                )
        mine = {x.ref() for x in self.xs}
        self.roots = [t for t in per_row if t.ref() not in mine]

    def _hold_random(self, beside):
        """Random draws: held for the run where all rows share them; off, for sure or in this run; refused.

        With `beside`, draws above the path that lead with the batch dimension count for dropout, too.
        """
        inside = {t.ref() for op in self.ops for t in op.outputs} | {t.ref() for t in self.xs + self.roots}
        edge = [t for op in self.ops for t in op.inputs if t.ref() not in inside]
        drawn = [op for op in self.ops if _is_random(op)]
        if beside:
            drawn += [op for t in edge for op in _random_above(t, self.xs + self.roots, self.rows)]
        for op in dict.fromkeys(drawn):
            out = op.outputs[0]
            fixed = not any(t.ref() in self.varying for t in op.inputs)
            if fixed and out.ref() in inside and self.places.get(out.ref()) is None:
                self.held[out.ref()] = out, out
                continue
            tensor, value, off = _settled(op, _ops_between(self.ys + self.layers, [out]), self.varying)
            if not fixed or (off is False and not _is_conditional(op)):
                raise ValueError(self._random(op))
            if off is not True:
                # Dead where the branch that draws is, and this check with it.
                off = tf.logical_or(off, tf.raw_ops.Size(input=tensor) < 0)
                value = _asserted(off, self._random(op), value)
            self.held[tensor.ref()] = tensor, value
        if self.held:
            self.ops = _ops_between(self.ys + self.layers, self.xs + self.beside)
            self.varying = _varying(self.ops, self.xs)
            self._follow_rows(strict=False)

    def _random(self, op):
        return (
            f"{self.function}: the network is random between xs and ys, at op {op.name!r} ({op.type}), "
            "expected the same output for the same row: dropout or noise left on. Call the model with "
            "training=False, or feed what turns it off (keep_prob 1, is_training False). To hold what one "
            "run draws, such as the noise of a sampled code, name it as a tensor with one entry per row: "
            "per_row=[...]."
        )

    @property
    def beside(self):
        """What the path reads beside `xs` and is not replayed: per-row tensors and held draws."""
        return self.roots + [tensor for tensor, _ in self.held.values()]

    def _refuse_frames(self):
        for op in self.ops:
            if op.type in FRAMES:
                raise ValueError(
                    f"{self.function}: the while loop of TensorFlow 1 between xs and ys (op "
                    f"{op.name!r}, {op.type}) cannot be replayed. Build the network after "
                    "tf.compat.v1.enable_control_flow_v2(), or use linear_interpolation and "
                    "build_ig, which run your own code again."
                )

    def _check_connected(self):
        """Some floating, differentiable chain of ops must lead from `xs` to `ys`."""
        smooth, broken = {x.ref() for x in self.xs}, {}
        for op in self.ops:
            outputs = [t.ref() for t in op.outputs if _carries_gradient(t)]
            lost = next((broken[t.ref()] for t in op.inputs if t.ref() in broken), None)
            moves = lost is not None or any(t.ref() in smooth for t in op.inputs)
            if op.type in BARRIERS or not outputs or not moves:
                continue
            try:
                if _gradient_of(op) is None:
                    continue
            except LookupError:
                lost = lost or op
            if lost is None:
                smooth.update(outputs)
            else:
                broken.update(dict.fromkeys(outputs, lost))
        lost = next((broken[y.ref()] for y in self.ys if y.ref() in broken), None)
        if lost is not None:
            raise ValueError(
                f"{self.function}: op {lost.name!r} ({lost.type}) between xs and ys has no gradient, "
                "expected differentiable ops. Explain what it reads, such as the scores before a non-maximum "
                "suppression."
            )
        if not any(y.ref() in smooth for y in self.ys):
            raise ValueError(_unconnected(self.function, self.ys, self.xs, "ys", "xs"))

    def _check_rows(self):
        for y in self.ys:
            turned = self.axis.get(y.ref())
            if y.shape.rank and not y.shape[:1].is_compatible_with(tf.TensorShape([self.rows])) or turned:
                raise ValueError(
                    f"{self.function}: ys {y.name!r} has shape {y.shape}"
                    f"{f' and its rows on axis {turned}' if turned else ''}, expected [B, ...] with the "
                    f"{'' if self.rows is None else f'{self.rows} '}rows of xs. Explain an output with one "
                    "entry per row."
                )

    def _follow_rows(self, strict):
        """Follows the axis that carries the rows; refuses ops that mix them."""
        rows = _Rows(self.function, self.rows, strict)
        rows.start(self.xs + self.roots)
        rows.switches = self.switches
        rows.numbers = {ref for ref, (_, value) in self.held.items() if value.shape.rank == 0}
        rows.follow(self.ops, self.varying, self.ys + self.layers)
        for tensor, wanted, message in rows.dormant:
            _, value = self.held.get(tensor.ref(), (tensor, tensor))
            size = tf.raw_ops.Size(input=tensor)
            asleep = size < 0 if wanted is None else tf.equal(tf.cast(tensor, tf.bool), wanted)
            self.held[tensor.ref()] = tensor, _asserted(asleep, message, value)
            self.switches[tensor.ref()] = wanted
        unranked = [t for t in self.xs + self.roots if t.shape.rank is None]
        self.obstacle = f"{unranked[0].name!r}, of unknown rank" if unranked else rows.obstacle
        self.places = rows.places
        self.axis = {ref: place.axis for ref, place in rows.places.items() if _steps_outside(place)}
        self.row_led = {ref for ref, place in rows.places.items() if place == Place(0)}
        self.lost = f"op {rows.baked[0].name!r}, {rows.baked[0].type}" if rows.baked else None
        for tensor in self.ys + self.layers:
            place = rows.places.get(tensor.ref())
            if isinstance(place, Place) and (place.axis or not _steps_outside(place)):
                place = LOST
                rows.origins.setdefault(tensor.ref(), f"op {tensor.op.name!r}, {tensor.op.type}")
            if place in (LOST, COUNT) and self.lost is None:
                self.lost = rows.origins.get(tensor.ref(), f"{tensor.name!r}")
        loops = any(op.type in LOOPS for op in self.ops)  # replayed at one end and at the other
        self.stacked = self.obstacle is None and self.lost is None and not loops
        known = self.rows is not None
        self.aligned = (known or self.lost is None or len(self.xs) == 1) and all(
            y.ref() in self.row_led or self.rows == 1 for y in self.ys
        )

    @property
    def stackable(self):
        """Whether the path can be replayed on several times `B` rows."""
        return self.lost is None

    def _split(self):
        """Finds the frontier: interpolation commutes with affine maps."""
        affine = {x.ref(): x for x in self.xs}
        keep = {t.ref() for t in self.layers}
        for op in self.ops:
            if _is_affine(op, self.varying, {r for r in affine if r not in keep}):
                affine.update((t.ref(), t) for t in op.outputs if t.ref() in self.row_led)
        self.frontier = _first_met(self.ys + self.layers, affine, self.ops)
        self.prefix = _ops_between(self.frontier, self.xs + self.beside)
        self.rest = _ops_between(self.ys + self.layers, self.frontier + self.beside)

    # What to do with it

    def check_lengths(self):
        """The batch size; what has its rows too is checked where only the run knows how many."""
        rows = tf.shape(self.xs[0])[0] if self.rows is None else self.rows
        if not self.stackable:
            return rows
        for x in self.xs[1:]:
            if x.shape.rank is None or x.shape.as_list()[0] is None:
                message = (
                    f"{self.function}: {x.name!r} has other than the rows of {self.xs[0].name!r}, expected "
                    "the same number. Rows of several inputs belong together one by one."
                )
                rows = _asserted(tf.equal(tf.shape(x)[0], rows), message, rows)
        for root in self.roots:
            if self.rows is None or root.shape.rank is None or root.shape.as_list()[0] is None:
                message = (
                    f"{self.function}: {root.name!r} was taken for a tensor with one entry per row, but has "
                    f"other than the rows of xs {self.xs[0].name!r}. Say which tensors have one entry per "
                    "row: per_row=[...], [] for none."
                )
                self.repeated[root.ref()] = _asserted(tf.equal(tf.shape(root)[0], rows), message, root)
        return rows

    def one_per_row(self):
        """Checks that `ys` have the rows of `xs`, where only the run can tell."""
        rows, checks = tf.shape(self.xs[0])[0], []
        for y in self.ys:
            static = y.shape.as_list()[0] if y.shape.rank else None
            if y.ref() not in self.row_led and (self.rows is None or static != self.rows):
                message = (
                    f"{self.function}: ys {y.name!r} has other than the rows of xs {self.xs[0].name!r}, "
                    "expected one entry per row. Compare the sum over all rows of the one and of the other."
                )
                checks.append(tf.raw_ops.Assert(condition=tf.equal(tf.shape(y)[0], rows), data=[message]))
        return checks

    def same_rows(self, new):
        """`new` in the place of `xs`, checked in the run to be no more rows than theirs."""
        wanted = tf.shape(self.xs[0])[0]
        return [
            _asserted(
                tf.equal(tf.shape(value)[0], wanted),
                f"{self.function}: the replacement of {x.name!r} has other than the rows of xs, expected as "
                f"many: rows are lost at {self.lost}, and steps cannot be stacked.",
                value,
            )
            for x, value in zip(self.xs, new)
        ]

    @property
    def shifting(self):
        """An op whose output's shape depends on the values along the path, or None."""
        kinds = {"Where", "Unique", "UniqueV2", "UniqueWithCounts", "DynamicPartition", "ListDiff"}
        return next((op for op in self.rest if op.type in kinds and _slots_vary(op, self.varying)), None)

    def find_kinks(self):
        """Finds the ops at which a gradient along the path jumps, and whether it bends between them.

        Those alone that gradients come through: what is behind a barrier may switch as it likes.
        """
        live = {t.ref() for t in self.ys + self.layers}
        reached = []
        for op in reversed(self.rest):
            if op.type not in BARRIERS and any(t.ref() in live for t in op.outputs):
                live.update(t.ref() for t in op.inputs if _carries_gradient(t))
                reached.append(op)
        self.reached = reached[::-1]
        self.kinks = [op for op in self.reached if _is_kink(op, self.varying)]
        # What is ranked or rounded changes by jumps, which the mean of both ends counts and no gradient does.
        jump = {t.ref() for op in self.rest if op.type in FLAT for t in op.outputs} & self.varying
        self.jumps = any(
            t.ref() in (self.varying if op.type in RANKS else jump) for op in reached for t in op.inputs
        )
        # On a line that nothing breaks, secant is exact through one curved op, and not through two.
        kinks, curved = set(self.kinks), {}  # ref() -> how many curved ops there are on the way to it
        for op in self.reached:
            slots = _slots_vary(op, self.varying)
            bends = bool(slots) and op not in kinks and not _is_linear(op, self.varying)
            depth = max((curved.get(t.ref(), 0) for t in op.inputs), default=0) + bends
            curved.update((t.ref(), depth) for t in op.outputs)
        self.curved = max((curved.get(t.ref(), 0) for t in self.ys + self.layers), default=0) > 1

    def is_followed(self, tensor):
        """Whether it is known which axis of a tensor carries the rows."""
        return tensor.shape.rank is not None and self.axis.get(tensor.ref(), UNKNOWN) != UNKNOWN

    @property
    def loopable(self):
        """Whether a `tf.while_loop` can hold the ops of the path."""
        return not any(op.type in LOOPLESS for op in self.rest)

    @property
    def tests_equality(self):
        """Whether a value may jump where the path starts or ends, as behind a mask of zeros."""
        return any(op.type in ("Equal", "NotEqual") and _slots_vary(op, self.varying) for op in self.rest)

    @property
    def row_bytes(self):
        """What the activations of one row weigh, where shapes are known."""
        total = 0
        for tensor in [*self.frontier, *(t for op in self.rest for t in op.outputs)]:
            if tensor.dtype.is_floating and tensor.shape.rank:
                sizes = [32 if size is None else size for size in tensor.shape.as_list()[1:]]
                total += int(np.prod(sizes, dtype=np.int64)) * tensor.dtype.size
        return max(total, 1)

    @property
    def frontier_bytes(self):
        return sum(
            int(np.prod([n or 32 for n in t.shape.as_list()[1:]], dtype=np.int64)) * 4
            for t in self.frontier
            if t.shape.rank
        )

    def full_baselines(self, starts):
        """Baselines broadcast to the shape of `xs`."""
        return [_broadcast(start, x) for start, x in zip(starts, self.xs)]

    def replay(self, new, copies=1):
        """The tensors of `ys` with `new` in the place of `xs`."""
        values = self.values(self.xs, new, copies)
        # Replacements of an unknown number of rows may be more than a known batch.
        sure = self.rows is None or all(t.shape.rank and t.shape.as_list()[0] for t in new)
        axis = self.axis if sure else None
        _replay(self.ops, values, self.ys, copies if self.rows is not None else None, axis)
        return [values.get(y.ref(), y) for y in self.ys]

    def values(self, sources, new, copies=1):
        values = {ref: value for ref, (_, value) in self.held.items()}
        values.update((old.ref(), tensor) for old, tensor in zip(sources, new))
        for root in self.roots:
            if not (isinstance(copies, int) and copies == 1):
                multiples = tf.concat([[copies], tf.ones([tf.rank(root) - 1], tf.int32)], 0)
                values[root.ref()] = tf.tile(self.repeated.get(root.ref(), root), multiples)
                if isinstance(copies, int) and self.rows is not None:
                    shape = [copies * self.rows] + root.shape.as_list()[1:]
                    values[root.ref()].set_shape(shape)
        return values


def _asserted(condition, message, tensor):
    """`tensor`, in a run where `condition` holds."""
    with tf.control_dependencies([tf.raw_ops.Assert(condition=condition, data=[message])]):
        return tf.identity(tensor)


def _ops_between(ys, sources):
    """The ops that compute `ys` from `sources`, dependencies first."""
    stops = {t.ref() for t in sources}
    order, seen = [], set()
    stack = [(y.op, False) for y in reversed(ys) if y.ref() not in stops]
    while stack:
        op, done = stack.pop()
        if done:
            order.append(op)
        elif op not in seen:
            seen.add(op)
            stack.append((op, True))
            for tensor in op.inputs:
                loop = op.type == "Merge" and tensor.op.type == "NextIteration"
                if tensor.ref() not in stops and tensor.op not in seen and not loop:
                    stack.append((tensor.op, False))
    reached, path = set(stops), []
    for op in order:
        if any(t.ref() in reached for t in op.inputs):
            path.append(op)
            reached.update(t.ref() for t in op.outputs)
    return path


def _first_met(ys, among, ops):
    """Those of `among` (`ref()` -> tensor) that ways back from `ys` through `ops` meet first."""
    made_by = {out.ref(): op for op in ops for out in op.outputs}
    met, seen, stack = set(), set(), list(ys)
    while stack:
        tensor = stack.pop()
        if tensor.ref() in seen:
            continue
        seen.add(tensor.ref())
        if tensor.ref() in among:
            met.add(tensor.ref())
        elif tensor.ref() in made_by:
            stack.extend(made_by[tensor.ref()].inputs)
    return [t for ref, t in among.items() if ref in met]


def _roots_above(tensors, xs, rows):
    """Placeholders above `tensors` that lead with the batch dimension."""
    captures = _captures(tf.compat.v1.get_default_graph())
    roots = {}
    seen, stack = {x.ref() for x in xs}, list(tensors)
    while stack:
        tensor = stack.pop()
        if tensor.ref() in seen:
            continue
        seen.add(tensor.ref())
        op = tensor.op
        if tensor.ref() in captures:
            outer = captures[tensor.ref()]
            # A tensor of the enclosing graph: per row if something above it there is.
            if not hasattr(outer, "numpy") and _leads(tensor, rows) and _has_root(outer, rows):
                roots[tensor.ref()] = tensor
        elif op.type in ROOTS:
            if _leads(tensor, rows):
                roots[tensor.ref()] = tensor
        else:
            stack.extend(op.inputs)
    return list(roots.values())


def _random_above(tensor, sources, rows):
    """Random ops above `tensor` whose draws, or what becomes of them, lead with the batch dimension."""
    found, seen, stack, leads = [], {t.ref() for t in sources}, [tensor], _leads(tensor, rows)
    while stack:
        tensor = stack.pop()
        if tensor.ref() not in seen:
            seen.add(tensor.ref())
            if _is_random(tensor.op) and (leads or _leads(tensor, rows)):
                found.append(tensor.op)
            stack.extend(tensor.op.inputs)
    return found


def _has_root(tensor, rows):
    if tensor.op.type in ROOTS and tensor.ref() not in _captures(tensor.graph):
        return _leads(tensor, rows)
    stack, seen = [tensor.op], set()
    while stack:
        op = stack.pop()
        if op in seen:
            continue
        seen.add(op)
        captures = _captures(op.graph)
        for t in [*op.inputs, *op.outputs]:
            if t.ref() in captures and not hasattr(captures[t.ref()], "numpy"):
                stack.append(captures[t.ref()].op)
            elif t.op.type in ROOTS and _leads(t, rows):
                return True
        stack.extend(t.op for t in op.inputs)
    return False


def _captures(graph):
    """inner tensor -> outer tensor, for the graph of a function."""
    return {inner.ref(): outer for outer, inner in getattr(graph, "captures", ())}


def _leads(tensor, rows):
    return (
        tensor.dtype not in (tf.resource, tf.variant)
        and bool(tensor.shape.rank)
        and tensor.shape.as_list()[0] == rows
    )


def _is_random(op):
    kind = op.type
    drawn = kind in RANDOM_OPS or kind.startswith(("Random", "StatelessRandom", "StatefulStand"))
    return drawn and not kind.startswith("StatelessRandomGet")


def _settled(op, path, varying):
    """What becomes of a random draw, and whether that is the same whatever is drawn.

    A draw is followed through rising and falling functions up to a threshold (a mask of dropout) or to
    what depends on `xs`. There the least and the greatest draw tell. Returns the tensor, its value if it
    has only one, and whether it has: True, False, or a tensor where the run decides.
    """
    ends, start, path = _extremes(op), op.outputs[0], set(path)
    tensor, chain = start, []
    while ends is not None:
        readers = [reader for reader in tensor.consumers() if reader in path]
        if len(readers) != 1 or readers[0].type not in RISING_OR_FALLING | THRESHOLD_OPS:
            break
        reader = readers[0]
        slots = [i for i, t in enumerate(reader.inputs) if t is tensor]
        if len(slots) != 1 or any(t.ref() in varying for t in reader.inputs):
            break
        if reader.type in ("RealDiv", "Div") and slots != [0]:
            break
        chain.append(reader)
        tensor = reader.outputs[0]
        if reader.type in THRESHOLD_OPS:
            break
    if not chain or tensor.dtype not in (tf.bool, *FLOATS):
        return start, tf.zeros([], start.dtype), False
    low, high = (_constant(tensor, {start.ref(): end}) for end in ends)
    if low is not None and high is not None:
        return tensor, tf.constant(low, tensor.dtype), np.array_equal(low, high)
    made = []
    for end in ends:
        values = {start.ref(): tf.constant(end, start.dtype)}
        for reader in chain:
            inputs = [values.get(t.ref(), t) for t in reader.inputs]
            (values[reader.outputs[0].ref()],) = _copy(reader.type, inputs, reader.node_def.attr, [])
        made.append(values[tensor.ref()])
    return tensor, made[0], tf.reduce_all(tf.equal(*made))


def _is_conditional(op):
    """Whether `op` may be in a branch of TensorFlow 1 that is not taken."""
    seen, stack = set(), [op]
    while stack:
        op = stack.pop()
        if op.type in ("Switch", "RefSwitch"):
            return True
        if op not in seen:
            seen.add(op)
            stack.extend([t.op for t in op.inputs] + list(op.control_inputs))
    return False


def _extremes(op):
    """The least and the greatest number that a random op may draw."""
    dtype = op.outputs[0].dtype
    if not dtype.is_floating:
        return None
    if op.type in UNIFORM:
        return 0.0, 1 - {2: 2.0**-7 if dtype == tf.bfloat16 else 2.0**-10, 4: 2.0**-23, 8: 2.0**-52}[
            dtype.size
        ]
    return (-float(dtype.max), float(dtype.max)) if op.type in NORMAL else None


def _varying(ops, xs):
    """Tensors whose values, not only their shapes, depend on `xs`."""
    varying = {x.ref() for x in xs}
    for op in ops:
        if op.type not in SHAPES and op.type not in LIKES:
            if any(t.ref() in varying for t in op.inputs):
                varying.update(t.ref() for t in op.outputs)
    return varying


def _gradient_of(op):
    """TensorFlow's gradient function of `op`: None if it is flat, LookupError if there is none."""
    if op.type in FLAT:
        return None
    # What custom gradients wrap is differentiated instead of them.
    return len if op.type == "IdentityN" else framework.get_gradient_function(op)


def _carries_gradient(tensor):
    return tensor.dtype.is_floating or tensor.dtype in (tf.variant, tf.complex64, tf.complex128)


# Op types, by what is known of them -----------------------------------------------------------------


def _types(names):
    return frozenset(names.split())


UNKNOWN = -1  # the axis that carries the rows, where it cannot be followed
CALLS = {"PartitionedCall", "StatefulPartitionedCall"}
FRAMES = {"Enter", "Exit", "NextIteration", "LoopCond", "RefEnter", "RefExit", "RefNextIteration"}
SHAPES = {"Shape", "ShapeN", "Size", "Rank"}
LIKES = {"ZerosLike", "OnesLike"}
BARRIERS = SHAPES | LIKES | {"StopGradient"}
FLAT = _types("Ceil Floor FloorDiv PyFunc PyFuncStateless Rint Round Sign TruncateDiv")  # of slope 0 all over
ROOTS = {
    "Placeholder",
    "PlaceholderWithDefault",
    "IteratorGetNext",
    "IteratorGetNextSync",
    "QueueDequeueManyV2",
    "QueueDequeueUpToV2",
}
RANDOM_OPS = _types(
    """
    Multinomial ParameterizedTruncatedNormal StatefulTruncatedNormal StatefulUniform StatelessMultinomial
    StatelessParameterizedTruncatedNormal StatelessTruncatedNormal StatelessTruncatedNormalV2
    TruncatedNormal
    """
)
UNIFORM = {"RandomUniform", "StatefulUniform", "StatelessRandomUniform", "StatelessRandomUniformV2"}
NORMAL = _types(
    """
    RandomStandardNormal StatefulStandardNormal StatefulStandardNormalV2 StatefulTruncatedNormal
    StatelessRandomNormal StatelessRandomNormalV2 StatelessTruncatedNormal StatelessTruncatedNormalV2
    TruncatedNormal
    """
)
FLOATS = (tf.float16, tf.bfloat16, tf.float32, tf.float64)
RISING_OR_FALLING = {"Add", "AddV2", "Cast", "Div", "Identity", "Mul", "Neg", "RealDiv", "Sub"}
THRESHOLD_OPS = {"Floor", "Greater", "GreaterEqual", "Less", "LessEqual"}


def _merges(op):
    """Whether a reshape changes, or may change, what one entry of axis 0 holds."""
    before, after = (t.shape[1:].num_elements() for t in (op.inputs[0], op.outputs[0]))
    return before is None or before != after


FIRST_ONLY = _types(
    """
    AvgPool AvgPool3D BatchToSpaceND BroadcastTo Cast Conv2D Conv3D Cumsum DepthToSpace
    DepthwiseConv2dNative ExpandDims FusedBatchNorm FusedBatchNormV2 FusedBatchNormV3 GatherNd
    GatherV2 Identity Mean MirrorPad Neg Pad PadV2 RealDiv ResizeBilinear Reshape
    ResizeNearestNeighbor ReverseV2 Roll Slice SpaceToBatchND SpaceToDepth SplitV Squeeze
    StridedSlice Sum Tile Transpose Unpack
    """
)
# Affine ops: type -> slots of the inputs that may vary. "one": any single one of them.
AFFINE = {
    **dict.fromkeys(("Add", "AddV2", "AddN", "Sub", "Pack", "ConcatV2", "BiasAdd", "IdentityN"), "all"),
    **dict.fromkeys(("Mul", "MatMul", "BatchMatMul", "BatchMatMulV2", "BatchMatMulV3"), "one"),
    "Einsum": "one",
    "SelectV2": (1, 2),
    "Split": (1,),
    "Conv2DBackpropInput": (2,),
    "Conv3DBackpropInputV2": (2,),
    "DepthwiseConv2dNativeBackpropInput": (2,),
    **dict.fromkeys(FIRST_ONLY, (0,)),
}


def _slots_vary(op, varying):
    return [i for i, t in enumerate(op.inputs) if t.ref() in varying]


def _is_linear(op, varying):
    """Whether `op` is affine in those of its inputs that vary."""
    slots = _slots_vary(op, varying)
    allowed = AFFINE.get(op.type)
    if allowed is None or not slots or not all(t.dtype.is_floating for t in op.outputs[:1]):
        return False
    if not all(op.inputs[i].dtype.is_floating for i in slots):
        return False
    if op.type.startswith("FusedBatchNorm") and op.get_attr("is_training"):
        return False
    if allowed == "one":
        return len(slots) == 1
    return allowed == "all" or set(slots) <= set(allowed)


def _is_affine(op, varying, affine):
    return _is_linear(op, varying) and all(t.ref() in affine for t in op.inputs if t.ref() in varying)


RANKS = _types(
    """
    Dilation2D FractionalMaxPool MaxPoolWithArgmax SegmentMax SegmentMin TopK TopKV2 UnsortedSegmentMax
    UnsortedSegmentMin
    """
)
KINKS = {"Relu", "Relu6", "LeakyRelu", "Selu", "Abs", "MaxPool", "MaxPool3D", "MaxPoolV2", "Max", "Min"}


def _is_kink(op, varying):
    if not op.outputs or not op.outputs[0].dtype.is_floating:
        return False
    slots = _slots_vary(op, varying)
    if op.type in ("Maximum", "Minimum"):
        return bool(slots) and not (len(slots) == 1 and _is_guard(op, slots[0]))
    if op.type in ("Select", "SelectV2"):
        return 0 in slots and not _is_equality(op.inputs[0], varying)
    return op.type in KINKS and 0 in slots


def _is_equality(condition, varying):
    """Whether a condition flips at single points of a path only, which no step has to meet."""
    found, stack = set(), [condition]
    while stack:
        tensor = stack.pop()
        if tensor.ref() in varying and tensor.ref() not in found and tensor.op.type not in EQUALITIES:
            found.add(tensor.ref())
            if tensor.dtype.is_floating or not tensor.op.inputs or tensor.op.type in COMPARISONS:
                return False
            stack.extend(tensor.op.inputs)
    return True


EQUALITIES = {"Equal", "NotEqual", "IsFinite", "IsInf", "IsNan"}
COMPARISONS = {"Greater", "GreaterEqual", "Less", "LessEqual"}


def _is_guard(op, slot):
    """max(norm, epsilon) and its like keep a root or a norm from 0: no kink that a path meets."""
    epsilon = tf.get_static_value(op.inputs[1 - slot])
    roots = {"Sqrt", "Rsqrt"}
    return (
        epsilon is not None
        and bool(np.all(epsilon > 0))
        and (
            op.inputs[slot].op.type in roots | {"Sum"}
            or any(consumer.type in roots for consumer in op.outputs[0].consumers())
        )
    )


# ---------------------------------------------------------------------------------------------------
# Rows: which axis of every tensor carries the rows of the batch
# ---------------------------------------------------------------------------------------------------
#
# Steps can be stacked on the rows, and rows be told apart, where every op between `xs` and `ys` keeps
# them on an axis of their own. Sizes that the graph computes are products of numbers and unknown
# dimensions, `ROWS` among them, so that they are followed where no shape is static.


class Size(NamedTuple):
    """A dimension: a number times unknown dimensions."""

    number: int
    unknown: tuple[str, ...] = ()


class Place(NamedTuple):
    """Where a tensor has its rows: on an axis of size `outer * rows * inner`."""

    axis: int
    outer: Size = Size(1)
    inner: Size = Size(1)


ONE, ROWS = Size(1), Size(1, ("rows",))
COUNT = "count"  # the same for all rows, but depends on how many there are
LOST = "lost"  # cannot be followed
MIX = "mix"  # the op works across the rows: no place at all


def _times(sizes):
    sizes = list(sizes)
    if any(size is None for size in sizes):
        return None
    unknown = sorted(name for size in sizes for name in size.unknown)
    return Size(math.prod(size.number for size in sizes), tuple(unknown))


def _over(size, divisor):
    """The whole quotient of two sizes; None if there is none for sure."""
    if size is None or divisor is None or divisor.number <= 0 or size.number % divisor.number:
        return None
    unknown = list(size.unknown)
    for name in divisor.unknown:
        if name not in unknown:
            return None
        unknown.remove(name)
    return Size(size.number // divisor.number, tuple(unknown))


def _has_rows(size):
    return size is not None and "rows" in size.unknown


def _steps_outside(place):
    """Whether steps that are stacked on the rows are outermost on their axis."""
    return isinstance(place, Place) and place.outer == ONE


def _meet(places):
    """The one place of tensors whose axes are matched."""
    first, *others = places
    if any(place.axis != first.axis for place in others):
        return MIX
    return LOST if any(place.outer != first.outer for place in others) else first


class _Rows:
    """Follows the rows from op to op.

    Attributes:
      places: tensor's `ref()` -> `Place`, `COUNT` or `LOST`; none for what all rows share.
      origins: `ref()` of what is lost -> the op that lost it, described.
      obstacle: the first op that does not keep the rows step-major on axis 0, described.
    """

    def __init__(self, function, rows, strict):
        self.function, self.rows, self.strict = function, rows, strict
        self.places, self.origins, self.obstacle = {}, {}, None
        self.numbers = set()  # tensors that are replaced by a number
        self.switches = {}  # `ref()` of the conditions of branches -> their value, where only one will do
        self.dormant = []  # tensor, what it must be if ops that mix rows are not to run (None: dead), message
        self.parts = {}  # `ref()` of what is computed from a slice of the rows alone -> where that is
        self.baked = []  # ops that work for one number of rows only
        self.constants, self.known, self.bodies, self.library = {}, {}, {}, None

    def start(self, tensors):
        self.places.update((t.ref(), Place(0)) for t in tensors)

    def follow(self, ops, varying, keep):
        """Places of the outputs of `ops`; what is not among `varying` is the same at every step."""
        self.varying = varying
        self.followed = {t.ref() for op in ops for t in op.outputs}
        read = {t.ref() for op in ops for t in op.inputs} | {t.ref() for t in keep}
        for op in ops:
            found = self.outputs(op)
            found = found if isinstance(found, list) else [found] * len(op.outputs)
            step_major = True
            for tensor, place in zip(op.outputs, found):
                if place is not None:
                    self.places[tensor.ref()] = place
                if place in (LOST, COUNT):
                    lost = next((o for t in op.inputs if (o := self.origins.get(t.ref()))), None)
                    self.origins[tensor.ref()] = lost or f"op {op.name!r}, {op.type}"
                if tensor.ref() in read:
                    kept = isinstance(place, Place) and not place.axis and place.outer == ONE
                    step_major &= kept and tensor.shape.rank is not None
            before = any(self.place(t) not in (None, COUNT) for t in op.inputs) and op.type not in SHAPES
            made = not before and any(place not in (None, COUNT) for place in found)
            if made or before and (not step_major or op.type in OPAQUE):
                self.obstacle = self.obstacle or f"op {op.name!r}, {op.type}"

    def place(self, tensor):
        return self.places.get(tensor.ref())

    def outputs(self, op):
        """The place of the outputs of `op`, or a list of theirs."""
        at = [self.place(t) for t in op.inputs]
        if op.type in SHAPES:
            return [COUNT if any(map(_not_shared, self.sizes(t) or [None])) else None for t in op.outputs]
        if op.type == "IdentityN":
            return at
        if not any(at):
            return None
        rule = ROW_RULES.get(op.type)
        self.follow_parts(op, at)
        if LOST in at:
            numbered = op.type == "GatherNd" and at[0] != LOST
            return _gather_nd(self, op, at) if numbered else LOST
        if not any(isinstance(place, Place) for place in at):
            if op.type in MAKERS or _is_random(op):
                return _make(self, op, at)
            sizes = [self.sizes(t) for t in op.outputs]
            return [COUNT if any(map(_not_shared, s or [None])) else None for s in sizes]
        shapes = SHAPE_SLOTS.get(op.type, ())
        if rule is None or any(place == COUNT and i not in shapes for i, place in enumerate(at)):
            return LOST
        if COUNT in at and op.type != "Reshape":  # the shape of all steps, not that of one end of an interval
            self.obstacle = self.obstacle or f"op {op.name!r}, {op.type}"
        found = rule(self, op, at)
        return self.mixed(op, rule, at) if found == MIX else found

    def follow_parts(self, op, at):
        """Rows may be taken apart, computed one by one and put together in their order, and no more."""
        parts = [self.parts[t.ref()] for t in op.inputs if t.ref() in self.parts]
        whole = [t for t, p in zip(op.inputs, at) if isinstance(p, Place) and t.ref() in self.varying]
        joins = op.type in ("ConcatV2", "Pack") and parts == sorted(set(parts))
        if parts and self.strict and (whole or len(set(parts)) > 1 and not joins):
            self.refuse(op)
        if len(set(parts)) == 1:
            self.parts.update((t.ref(), parts[0]) for t in op.outputs)

    def mixed(self, op, rule, at):
        """What an op that works across the rows gives; refused if it matters."""
        varying = [t.ref() in self.varying for t in op.inputs]
        moving = [p if v and _carries_gradient(t) else None for t, p, v in zip(op.inputs, at, varying)]
        if not any(isinstance(place, Place) for place in moving):
            # Of per-row tensors beside xs: the same for the rows repeated, or else one step at a time.
            return None if op.type in REPEATABLE and not any(varying) else LOST
        if not self.strict or (self.rows == 1 and op.type not in BATCH_NORMS):
            return LOST
        beside = [t for t, p, v in zip(op.inputs, at, varying) if isinstance(p, Place) and not v]
        if beside and rule(self, op, [p if v else None for p, v in zip(at, varying)]) != MIX:
            raise ValueError(
                f"{self.function}: {beside[0].name!r} of shape {beside[0].shape} was taken for a tensor with "
                f"one entry per row, but op {op.name!r} ({op.type}) combines every row with all of it. "
                "Say which tensors have one entry per row: per_row=[...], [] for none."
            )
        begin = self.ints(op.inputs[1]) if self.rows and op.type in ("Slice", "StridedSlice") else None
        if begin is not None:
            self.parts.update((t.ref(), tuple(begin)) for t in op.outputs)
            return LOST
        if self.dormant is not None and _is_conditional(op):
            self.dormant += [(t, None, self.mixture(op)) for t in op.outputs]
            return LOST
        self.refuse(op)

    def refuse(self, op):
        raise ValueError(self.mixture(op))

    def mixture(self, op):
        return (
            f"{self.function}: op {op.name!r} ({op.type}) between xs and ys mixes the rows of the batch, "
            "expected rows that do not depend on one another. For batch normalization in training mode, "
            "call the model with training=False; explain an output with one entry per row, not a mean or a "
            "loss over the batch; and where rows belong together, as the nodes of one graph, make them one "
            "row, as x[None] does, before the network is called."
        )

    # Sizes

    def static(self, tensor):
        """The value of a tensor that does not depend on what is fed, or None."""
        return _constant(tensor, self.constants)

    def ints(self, tensor):
        value = self.static(tensor)
        return None if value is None else [int(v) for v in np.ravel(value)]

    def size(self, tensor, axis):
        """The size of an axis of a tensor."""
        place = self.place(tensor)
        if isinstance(place, Place) and place.axis == axis:
            return _times([place.outer, ROWS, place.inner])
        if tensor.shape.rank is None:
            return None
        if tensor.shape.as_list()[axis] is not None:
            return Size(tensor.shape.as_list()[axis])
        if place in (LOST, COUNT):
            return None
        # Under one name, wherever it comes from.
        op = tensor.op
        if op.type in UNARY | BROADCASTING:
            for source in op.inputs:
                known = source.shape.rank == tensor.shape.rank and source.shape.as_list()[axis] is None
                if known and isinstance(self.place(source), Place):
                    return self.size(source, axis)
        return Size(1, (f"{tensor.name} {axis}",))

    def sizes(self, tensor):
        """The entries of an integer tensor as sizes, None for each that is not known; -1 stays a number."""
        if tensor.ref() not in self.known:
            self.known[tensor.ref()] = self.find_sizes(tensor)
        return self.known[tensor.ref()]

    def find_sizes(self, tensor):
        op = tensor.op
        if op.type in ("Shape", "ShapeN", "Size"):
            source = op.inputs[tensor.value_index if op.type == "ShapeN" else 0]
            if source.shape.rank is None:
                return None
            dims = [self.size(source, i) for i in range(source.shape.rank)]
            return [_times(dims)] if op.type == "Size" else dims
        if not tensor.dtype.is_integer and op.type not in ("Cast", "Identity"):
            return None
        value = self.ints(tensor)
        if value is not None:
            return [Size(v) for v in value]
        rule = SIZE_RULES.get(op.type)
        if rule is not None:
            found = rule(self, op)
            if found is not None:
                return found
        count = tensor.shape.num_elements()
        if self.place(tensor) is None and count is not None and not any(map(self.place, op.inputs)):
            return [Size(1, (f"{tensor.name} of {i}",)) for i in range(count)]
        return None

    # Bodies of loops and branches

    def body(self, op, name, shapes):
        """Inputs, outputs and ops of a function that `op` calls, written out in a graph of its own."""
        key = op, name
        if key not in self.bodies:
            if self.library is None:
                self.library = _function_library()
            fdef = self.library.get(op.get_attr(name).name)
            self.bodies[key] = None
            if _is_concrete(fdef):
                skipped = len(op.inputs) - len(fdef.signature.input_arg)
                graph = tf.__internal__.FuncGraph("rows")
                with graph.as_default():
                    inputs = [
                        t
                        if t.dtype == tf.resource
                        else tf.compat.v1.placeholder(t.dtype, shape, t.op.name)  # for messages
                        for t, shape in zip(list(op.inputs)[skipped:], shapes)
                    ]
                    made = []
                    outputs = _body(fdef, inputs, self.library, made)
                self.bodies[key] = inputs, outputs, made, graph
        return self.bodies[key]

    def inside(self, body, places, moves):
        """The places of what a body returns, and whether it varies as the inputs that `moves` tells."""
        inputs, outputs, made, graph = body
        inner = _Rows(self.function, self.rows, self.strict)
        inner.dormant = None  # no run can be stopped from outside of a body
        for tensor, place in zip(inputs, places):
            if place is not None:
                inner.places[tensor.ref()] = place
        ops = _ops_between(outputs, [t for t in inputs if t.ref() in inner.places])
        varying = _varying(ops, [t for t, moving in zip(inputs, moves) if moving])
        with graph.as_default():
            inner.follow(ops, varying, outputs)
        self.baked += inner.baked
        return [inner.place(t) for t in outputs], [t.ref() in varying for t in outputs]

    def one_each(self, op, tensor, place):
        """Whether what all rows share has an entry for each of so many; `op` is for that number then."""
        dims = tensor.shape.as_list() if self.rows is not None and tensor.shape.rank else []
        fits = place.axis < len(dims) and place == Place(place.axis) and dims[place.axis] == self.rows
        return fits and bool(_baked(self, op, place))

    def is_row_number(self, tensor):
        """Whether `tensor` is `tf.range(B)`."""
        while tensor.op.type in ("Cast", "Identity", "ExpandDims", "Reshape"):
            tensor = tensor.op.inputs[0]
        if tensor.op.type != "Range":
            return False
        start, stop, step = tensor.op.inputs
        count = [ROWS if self.rows is None else Size(self.rows)]
        return self.ints(start) == [0] and self.ints(step) == [1] and self.sizes(stop) == count


def _not_shared(size):
    """Whether a size may depend on how many rows there are."""
    return size is None or _has_rows(size)


def _constant(tensor, known=None):
    """The value of a tensor, worked out from constants (and `known`: `ref()` -> value), or None."""
    known = {} if known is None else known
    if tensor.ref() not in known:
        op, value = tensor.op, None
        if op.type in FOLDED:
            parts = [_constant(t, known) for t in op.inputs]
            value = None if any(part is None for part in parts) else FOLDED[op.type](op, *parts)
        known[tensor.ref()] = tf.get_static_value(tensor) if value is None else value
    return known[tensor.ref()]


FOLDED = {
    **dict.fromkeys(("Add", "AddV2"), lambda op, a, b: a + b),
    "Sub": lambda op, a, b: a - b,
    "Mul": lambda op, a, b: a * b,
    "RealDiv": lambda op, a, b: a / b,
    "FloorMod": lambda op, a, b: np.mod(a, b),
    "Neg": lambda op, a: -a,
    "Floor": lambda op, a: np.floor(a),
    "Greater": lambda op, a, b: a > b,
    "GreaterEqual": lambda op, a, b: a >= b,
    "Less": lambda op, a, b: a < b,
    "LessEqual": lambda op, a, b: a <= b,
    "LogicalNot": lambda op, a: np.logical_not(a),
    "Cast": lambda op, a: np.asarray(a).astype(op.outputs[0].dtype.as_numpy_dtype),
    "Identity": lambda op, a: a,
    "Range": lambda op, start, stop, step: np.arange(start, stop, step),
    "ConcatV2": lambda op, *parts: np.concatenate(parts[:-1], int(parts[-1])),
    "Pack": lambda op, *parts: np.stack(parts, op.get_attr("axis")),
}


# Rules of sizes: (rows, op) -> sizes of the entries of its output, or None ---------------------------


def _picked_sizes(rows, op):
    """`shape[i]`, `shape[1:]` and their like."""
    sizes, parts = rows.sizes(op.inputs[0]), [rows.ints(t) for t in op.inputs[1:]]
    if sizes is None or None in parts or any(len(part) != 1 for part in parts):
        return None
    (begin,), (end,), (step,) = parts
    if op.get_attr("shrink_axis_mask"):
        return [sizes[begin]]
    if op.get_attr("new_axis_mask") or op.get_attr("ellipsis_mask"):
        return None
    begin, end = None if op.get_attr("begin_mask") else begin, None if op.get_attr("end_mask") else end
    return sizes[begin:end:step]


def _cut_sizes(rows, op):
    sizes, begin, count = rows.sizes(op.inputs[0]), *(rows.ints(t) for t in op.inputs[1:])
    if None in (sizes, begin, count):
        return None
    return sizes[begin[0] :] if count[0] == -1 else sizes[begin[0] : begin[0] + count[0]]


def _gathered_sizes(rows, op):
    sizes, at = rows.sizes(op.inputs[0]), rows.ints(op.inputs[1])
    return None if sizes is None or at is None else [sizes[i] for i in at]


def _joined_sizes(rows, op):
    parts = [rows.sizes(t) for t in op.inputs]
    parts = parts[: -1 if op.type == "ConcatV2" else None]
    for t, part in zip(op.inputs, parts):
        if part is None and t.shape.num_elements() is None:
            return None
    return sum((part or [None] * t.shape.num_elements() for t, part in zip(op.inputs, parts)), [])


def _combined_sizes(combine):
    def rule(rows, op):
        a, b = (rows.sizes(t) for t in op.inputs)
        if a is None or b is None or len(a) != len(b) and 1 not in (len(a), len(b)):
            return None
        count = max(len(a), len(b))
        found = [combine(*pair) for pair in zip(a * (count // len(a)), b * (count // len(b)))]
        if None not in found:
            return found
        # An unknown number, but the same for all rows if what it is made of is.
        mixed = any(map(_not_shared, a + b))
        return None if mixed else [Size(1, (f"{op.name} of {i}",)) for i in range(count)]

    return rule


SIZE_RULES = {
    "StridedSlice": _picked_sizes,
    "GatherV2": _gathered_sizes,
    "Slice": _cut_sizes,
    **dict.fromkeys(("Pack", "ConcatV2"), _joined_sizes),
    **dict.fromkeys(
        ("Cast", "Identity", "Reshape", "ExpandDims", "Squeeze"), lambda rows, op: rows.sizes(op.inputs[0])
    ),
    "Prod": lambda rows, op: [_times(rows.sizes(op.inputs[0]) or [None])],
    "Mul": _combined_sizes(lambda a, b: _times([a, b])),
    **dict.fromkeys(("FloorDiv", "TruncateDiv"), _combined_sizes(_over)),
    **dict.fromkeys(
        ("Add", "AddV2", "Sub", "Maximum", "Minimum", "FloorMod"), _combined_sizes(lambda a, b: None)
    ),
}


# Rules of places: (rows, op, places of its inputs) -> place of its outputs, or a list of theirs ------


def _stay(rows, op, at):
    """All on the axis where they are in the first input."""
    return LOST if at[0] is None or any(at[1:]) else at[0]


def _working_on(axes):
    """The rule of ops that work along `axes(rows, op, rank)` of the first input, and keep the others."""

    def rule(rows, op, at):
        rank = op.inputs[0].shape.rank
        along = None if rank is None else axes(rows, op, rank)
        if along is None or at[0] is None or any(p not in (None, COUNT) for p in at[1:]):
            return LOST
        return MIX if at[0].axis in {a % rank for a in along} else at[0]

    return rule


def _working_on_all(axes):
    """Likewise of ops whose inputs are matched one by one along the axes that they keep."""
    alone = _working_on(axes)

    def rule(rows, op, at):
        if not all(isinstance(p, Place) for p in at):
            return LOST
        found = [alone(rows, op, [at[0]]), _meet(at)]
        return next((f for f in found if isinstance(f, str)), at[0])

    return rule


def _segmented_place(rows, op, at):
    """Segments are made of the axes that the ids have; the axes behind are kept."""
    rank = op.inputs[1].shape.rank
    if at[0] is None or any(at[1:]) or rank is None or at[0].axis < rank:
        return LOST
    return at[0]._replace(axis=at[0].axis - rank + 1)


def _scattered_place(rows, op, at):
    """Indices choose along the first axes; what lies behind is kept, in the updates too."""
    indices = op.inputs[1].shape
    if at[0] is None or at[1] is not None or at[2] is None or not indices.rank or indices[-1] is None:
        return LOST
    updates = at[0]._replace(axis=at[0].axis - indices[-1] + indices.rank - 1)
    return at[0] if at[0].axis >= indices[-1] and at[2] == updates else LOST


def _axes_of_input(slot):
    return lambda rows, op, rank: rows.ints(op.inputs[slot])


def _last_axes(count):
    return lambda rows, op, rank: range(-count, 0)


def _meets_all(rows, op, tensor, axis):
    """Whether what all rows share has one entry for them, or one for each, which then are so many."""
    size = tensor.shape.as_list()[axis]
    if size not in (None, 1):
        rows.baked.append(op)
    return size is not None


def _broadcast_place(rows, op, at):
    """Axes are matched from the right."""
    ranks = [0 if t.ref() in rows.numbers else t.shape.rank for t in op.inputs]
    if ranks.count(0) == len(ranks) - 1:
        (place,) = (p for p in at if p is not None)
        return place
    rank = op.outputs[0].shape.rank
    if rank is None or None in ranks:
        return LOST
    place = _meet([p._replace(axis=p.axis + rank - r) for p, r in zip(at, ranks) if p is not None])
    if isinstance(place, str):
        return place
    for tensor, p, r in zip(op.inputs, at, ranks):
        axis = place.axis - (rank - r)
        if p is None and axis >= 0 and not _meets_all(rows, op, tensor, axis):
            return LOST
    return place


def _chosen_place(rows, op, at):
    """The `Select` of TensorFlow 1, whose condition may have one entry per row."""
    if op.inputs[0].shape.rank == op.outputs[0].shape.rank:
        return LOST if None in at else _broadcast_place(rows, op, at)  # it broadcasts nothing
    return _meet(at) if all(isinstance(p, Place) and p.axis == 0 for p in at) else LOST


def _reduced_place(rows, op, at):
    rank, axes = op.inputs[0].shape.rank, rows.ints(op.inputs[1])
    if axes is None or rank is None or at[0] is None:
        return LOST
    axes = {a % rank for a in axes}
    if at[0].axis in axes:
        return MIX
    kept = op.type not in ("ArgMax", "ArgMin") and op.get_attr("keep_dims")
    return at[0] if kept else at[0]._replace(axis=at[0].axis - sum(a < at[0].axis for a in axes))


def _product_place(rows, op, at):
    """Matrices: rows may be free on one side, or count the matrices, but not be summed over."""
    flip = ("transpose_a", "transpose_b") if op.type == "MatMul" else ("adj_x", "adj_y")
    rank, places = op.outputs[0].shape.rank, []
    if rank is None or any(t.shape.rank is None for t in op.inputs):
        return LOST
    for slot, (tensor, place) in enumerate(zip(op.inputs, at)):
        if place is None:
            continue
        back = tensor.shape.rank - place.axis  # 1 is the last axis
        summed = 2 if bool(op.get_attr(flip[slot])) != bool(slot) else 1
        if back == summed:
            return MIX
        places.append(place._replace(axis=rank - (back if back > 2 else 2 - slot)))
        other = op.inputs[1 - slot]
        if back > 2 and at[1 - slot] is None and other.shape.rank >= back:
            if not _meets_all(rows, op, other, -back):
                return LOST
    return _meet(places)


def _einsum_place(rows, op, at):
    if op.outputs[0].shape.rank is None or any(t.shape.rank is None for t in op.inputs):
        return LOST
    left, _, right = op.get_attr("equation").decode().replace(" ", "").partition("->")
    parts = left.split(",")

    def spell(part, tensor):  # with a letter for every axis that an ellipsis stands for, from the right
        count = tensor.shape.rank - len(part) + 3
        return part.replace("...", "".join(chr(0x100 + i) for i in reversed(range(count))))

    for i, (part, tensor) in enumerate(zip(parts, op.inputs)):
        parts[i] = spell(part, tensor)
    right = spell(right, op.outputs[0])
    labels = {part[p.axis] for part, p in zip(parts, at) if p is not None}
    label = labels.pop()
    if labels or label not in right:
        return MIX
    for part, tensor, p in zip(parts, op.inputs, at):
        if p is None and label in part and not _meets_all(rows, op, tensor, part.index(label)):
            return LOST
        if part.count(label) > 1:
            return MIX
    place = _meet([p._replace(axis=0) for p in at if p is not None])
    return place if isinstance(place, str) else place._replace(axis=right.index(label))


def _reshaped_place(rows, op, at):
    """Row-major order is kept: rows go to the axis that what lies outside of them leads to."""
    place, (before, shape), after = at[0], op.inputs, op.outputs[0].shape
    if not isinstance(place, Place) or before.shape.rank is None or after.rank is None:
        return LOST
    sizes = rows.sizes(shape) or [None] * after.rank
    if len(sizes) != after.rank:
        return LOST
    here = [i for i, size in enumerate(sizes) if _has_rows(size)]
    if not here:
        # The entry that is left open; or the first of a constant, where the batch is known: it is scaled.
        sizes = [n if n != Size(-1) else None for n in sizes]
        first = rows.rows is not None and (
            sizes[0] is None or rows.static(shape) is not None or shape.ref() not in rows.followed
        )
        static = [None if i == 0 and first else n for i, n in enumerate(after.as_list())]
        sizes = [Size(n) if n is not None and size is None else size for n, size in zip(static, sizes)]
        here = [i for i, size in enumerate(sizes) if size is None]
        if rows.rows is not None and not (first and here in ([], [0]) and place.axis == 0):
            return _reshaped_batch(rows, op, place)
        here = here if rows.rows is None else [0]
    if len(here) != 1:
        return LOST
    axis = here[0]
    dims = [rows.size(before, i) for i in range(before.shape.rank)]
    outer = _over(_times([place.outer, *dims[: place.axis]]), _times(_open(sizes[:axis])))
    if _has_rows(sizes[axis]):
        inner = _over(_over(sizes[axis], ROWS), outer)
    else:
        inner = _over(_times([place.inner, *dims[place.axis + 1 :]]), _times(_open(sizes[axis + 1 :])))
    if outer is None or inner is None or (rows.rows is not None and outer != ONE):
        return LOST if rows.rows is None else _reshaped_batch(rows, op, place)
    return Place(axis, outer, inner)


def _reshaped_batch(rows, op, place):
    """Likewise where all sizes are numbers, and the shape is for this number of rows only."""
    before, after = op.inputs[0].shape, op.outputs[0].shape
    if not before.is_fully_defined() or not after.is_fully_defined() or not after.num_elements():
        return LOST
    before, after = before.as_list(), after.as_list()
    outside = place.outer.number * math.prod(before[: place.axis])
    inside = place.inner.number * math.prod(before[place.axis + 1 :])
    for axis, size in enumerate(after):
        outer, left = divmod(outside, math.prod(after[:axis]))
        inner = inside // math.prod(after[axis + 1 :])
        if not left and size == outer * rows.rows * inner:
            return _baked(rows, op, Place(axis, Size(outer), Size(inner)))
    return LOST


def _open(sizes):
    return [None if size is None or size.number == -1 else size for size in sizes]


def _transposed_place(rows, op, at):
    order = rows.ints(op.inputs[1])
    return LOST if order is None or any(at[1:]) else at[0]._replace(axis=order.index(at[0].axis))


def _expanded_place(rows, op, at):
    new, rank = rows.ints(op.inputs[1]), op.outputs[0].shape.rank
    if new is None or rank is None or any(at[1:]):
        return LOST
    return at[0]._replace(axis=at[0].axis + (new[0] % rank <= at[0].axis))


def _squeezed_place(rows, op, at):
    rank, gone = op.inputs[0].shape.rank, op.get_attr("squeeze_dims")
    gone = {d % rank for d in gone} if rank is not None else ()
    if not gone or at[0].axis in gone:
        return LOST
    return at[0]._replace(axis=at[0].axis - sum(d < at[0].axis for d in gone))


def _padded_place(rows, op, at):
    pads = rows.static(op.inputs[1])
    return LOST if pads is None or any(at[1:]) or np.any(pads[at[0].axis]) else at[0]


def _joined_place(rows, op, at):
    """All of them side by side; along a new axis for Pack."""
    rank, packed = op.outputs[0].shape.rank, op.type == "Pack"
    along = [op.get_attr("axis")] if packed else rows.ints(op.inputs[-1])
    at = at if packed else at[:-1]
    if along is None or rank is None or not all(p is None or isinstance(p, Place) for p in at):
        return LOST
    place, along = _meet([p for p in at if p is not None]), along[0] % rank
    if isinstance(place, str) or (not packed and place.axis == along):
        return MIX if place == MIX else LOST
    for tensor, p in zip(op.inputs, at):
        if p is None and not rows.one_each(op, tensor, place):
            return LOST
    return place._replace(axis=place.axis + (packed and along <= place.axis))


def _parted_place(slot, along):
    """The rule of ops that take a tensor apart along `along(rows, op)`; along the rows is the user's loop."""

    def rule(rows, op, at):
        rank, axis, place = op.inputs[slot].shape.rank, along(rows, op), at[slot]
        if rank is None or axis is None or place is None or any(p for i, p in enumerate(at) if i != slot):
            return LOST
        axis %= rank
        if axis == place.axis:
            return LOST
        return place._replace(axis=place.axis - (op.type == "Unpack" and axis < place.axis))

    return rule


def _sliced_place(rows, op, at):
    """`x[...]` with its masks, or tf.slice: whole along the rows, or else across them."""
    tensor, place = op.inputs[0], at[0]
    if not isinstance(place, Place) or tensor.shape.rank is None:
        return LOST
    begins, ends = (rows.sizes(t) for t in op.inputs[1:3])
    if op.type == "Slice":
        begins, ends = (s or [None] * tensor.shape.rank for s in (begins, ends))
        return _whole(rows, op, begins[place.axis], ends[place.axis], ends[place.axis] == Size(-1))
    steps = rows.ints(op.inputs[3])
    if steps is None:
        return LOST
    begins, ends = begins or [None] * len(steps), ends or [None] * len(steps)
    names = ("begin_mask", "end_mask", "new_axis_mask", "shrink_axis_mask", "ellipsis_mask")
    begin_mask, end_mask, new_axis, shrink, ellipsis = (op.get_attr(name) for name in names)
    axis, out = 0, 0  # of the input and of the output
    taken = sum(not (new_axis | ellipsis) >> i & 1 for i in range(len(steps)))
    for i, step in enumerate(steps):
        if ellipsis >> i & 1:
            skipped = tensor.shape.rank - taken
            if axis <= place.axis < axis + skipped:
                return place._replace(axis=out + place.axis - axis)
            axis, out = axis + skipped, out + skipped
        elif new_axis >> i & 1:
            out += 1
        elif axis == place.axis:
            begin = Size(0) if begin_mask >> i & 1 else begins[i]
            if shrink >> i & 1 or step != 1:
                return MIX
            kept = _whole(rows, op, begin, ends[i], end_mask >> i & 1)
            return kept._replace(axis=out) if isinstance(kept, Place) else kept
        else:
            axis, out = axis + 1, out + (not shrink >> i & 1)
    return place._replace(axis=out + place.axis - axis)


def _whole(rows, op, begin, end, to_the_end):
    """The place of what is sliced from `begin` to `end` along its rows."""
    tensor, place = op.inputs[0], rows.place(op.inputs[0])
    whole = to_the_end or (end is not None and end == rows.size(tensor, place.axis))
    if begin is None or (whole and begin == Size(0)):
        return LOST if begin is None else place
    size = tensor.shape.as_list()[place.axis]
    known = end is not None and not begin.unknown and not end.unknown
    if known and size is not None and begin.number == 0 and end.number >= size:
        return _baked(rows, op, place)  # whole, but of this number of rows
    return MIX if to_the_end or known else LOST


def _gathered_place(rows, op, at):
    (params, indices, axis), (table, chosen) = op.inputs, at[:2]
    axis, batch_dims = rows.ints(axis), op.get_attr("batch_dims")
    if axis is None or params.shape.rank is None or indices.shape.rank is None or COUNT in at:
        return LOST
    axis, batch_dims = axis[0] % params.shape.rank, batch_dims + (batch_dims < 0) * indices.shape.rank
    places = []
    if table is not None:
        if table.axis == axis:
            # Constant rows stand in for others; a lookup (of unique ids, say) has rows of its own.
            return MIX if rows.static(indices) is not None else LOST
        shift = indices.shape.rank - batch_dims - 1 if table.axis > axis else 0
        places.append(table._replace(axis=table.axis + shift))
        if table.axis < batch_dims and chosen is None:
            return LOST
    if chosen is not None:
        shift = axis - batch_dims if chosen.axis >= batch_dims else 0
        places.append(chosen._replace(axis=chosen.axis + shift))
        if chosen.axis < batch_dims and table is None:
            return LOST
    return _meet(places)


def _gather_nd(rows, op, at):
    """`gather_nd(scores, [[0, i], [1, j], ...])`, or indices into what all rows share."""
    indices, (table, chosen) = op.inputs[1], at
    if table is None and isinstance(chosen, Place) and indices.shape.rank:
        return LOST if chosen.axis == indices.shape.rank - 1 else chosen
    if not isinstance(table, Place):
        return LOST
    if chosen is None:
        return MIX if rows.static(indices) is not None else LOST
    op = indices.op
    columns = op.inputs if op.type == "Pack" else list(op.inputs)[:-1] if op.type == "ConcatV2" else []
    numbered = columns and table.axis == 0 and rows.is_row_number(columns[0])
    others = all(rows.place(t) in (None, Place(0)) for t in columns[1:])
    return _baked(rows, op, Place(0)) if numbered and others and indices.shape.rank == 2 else LOST


def _one_hot_place(rows, op, at):
    if at[0] is None or any(at[1:]):
        return LOST
    axis = op.get_attr("axis")
    return at[0]._replace(axis=at[0].axis + (0 <= axis <= at[0].axis))


def _make(rows, op, at):
    """What is made of a shape (or broadcast to one) has rows where the shape has them."""
    if op.type == "Range" or op.type.startswith("TensorList"):
        return None if op.type.startswith("TensorList") and at[-1] is None else LOST
    slot = MAKERS.get(op.type, 0)
    sizes = rows.sizes(op.inputs[slot])
    if sizes is None or any(size is None for size in sizes) or any(p for i, p in enumerate(at) if i != slot):
        return LOST
    if op.type == "Tile":
        dims = op.inputs[0].shape
        sizes = (
            [_times([n, rows.size(op.inputs[0], i)]) for i, n in enumerate(sizes)] if dims.rank else [None]
        )
    found = [i for i, size in enumerate(sizes) if _has_rows(size)]
    if len(found) != 1:
        return LOST if found or None in sizes else None
    return Place(found[0], ONE, _over(sizes[found[0]], ROWS))


def _tiled_place(rows, op, at):
    counts = rows.sizes(op.inputs[1])
    kept = isinstance(at[0], Place) and counts is not None and counts[at[0].axis] == ONE
    return at[0] if kept and op.type == "Tile" else LOST


def _stretched_place(rows, op, at):
    sizes, (before, after) = rows.sizes(op.inputs[1]), (op.inputs[0].shape, op.outputs[0].shape)
    if not isinstance(at[0], Place) or sizes is None or before.rank is None or after.rank is None:
        return LOST
    place = at[0]._replace(axis=at[0].axis + after.rank - before.rank)
    return place if _has_rows(sizes[place.axis]) else LOST


def _channel(op, rank):
    return 1 if op.get_attr("data_format").startswith(b"NC") else rank - 1


def _bias_place(rows, op, at):
    rank = op.inputs[0].shape.rank
    fits = rank is not None and at[0] is not None and not any(at[1:])
    return at[0] if fits and at[0].axis != _channel(op, rank) else LOST


def _batch_norm_place(rows, op, at):
    """With a channel per row and in training mode it is the layer normalization of Keras 2."""
    rank = op.inputs[0].shape.rank
    if rank is None or at[0] is None:
        return LOST
    if not op.get_attr("is_training"):
        others = any(at[1:]) or at[0].axis == _channel(op, rank)
        return LOST if others else [at[0], *[None] * (len(op.outputs) - 1)]
    return [at[0], *[LOST] * (len(op.outputs) - 1)] if at[0].axis == _channel(op, rank) else MIX


def _convolved_place(rows, op, at):
    """Rows may lie on the batch axis, or on an axis that a kernel of size 1 passes by."""
    rank, place = op.inputs[0].shape.rank, at[0]
    if rank is None or place is None or any(at[1:]) or place.axis == 0:
        return LOST if rank is None or place is None or any(at[1:]) else place
    return _windowed(op, place, rank, op.inputs[1].shape.as_list()[: rank - 2])


def _windowed(op, place, rank, kernel):
    channel = _channel(op, rank)
    if place.axis == channel:
        grouped = op.inputs[1].shape.as_list()[-2] != op.inputs[0].shape.as_list()[channel]
        return LOST if op.type.startswith("Depthwise") or grouped else MIX
    size = kernel[place.axis - (2 if channel == 1 else 1)]
    return place if size == 1 == op.get_attr("strides")[place.axis] else MIX


def _widened_place(rows, op, at):
    """Transposed convolution: the batch size is an entry of the shape that it is told."""
    sizes, place = rows.sizes(op.inputs[0]), at[2]
    if place is None or at[1] is not None:
        return LOST
    if place.axis:
        return MIX
    return place if sizes is not None and _has_rows(sizes[0]) else LOST


def _pooled_place(rows, op, at):
    if at[0] is None or any(at[1:]):
        return LOST
    axis = at[0].axis
    return at[0] if axis == 0 or op.get_attr("ksize")[axis] == 1 == op.get_attr("strides")[axis] else MIX


def _blocks_place(rows, op, at):
    """Dilated convolution: blocks become outer parts of the batch."""
    block, edges = rows.ints(op.inputs[1]), rows.static(op.inputs[2])
    if block is None or at[0] is None or any(at[1:]):
        return LOST
    if at[0].axis == 0:
        count = Size(math.prod(block))
        split = op.type == "SpaceToBatchND"
        outer = _times([at[0].outer, count]) if split else _over(at[0].outer, count)
        return LOST if outer is None else _baked(rows, op, at[0]._replace(outer=outer))
    spatial = at[0].axis - 1
    touched = spatial < len(block) and (block[spatial] > 1 or edges is None or np.any(edges[spatial]))
    return MIX if touched else at[0]


def _sequences_place(rows, op, at):
    if at[0] is None:
        return LOST
    if op.get_attr("seq_dim") == at[0].axis:
        return MIX
    per_row = op.get_attr("batch_dim") == at[0].axis
    return at[0] if at[1] == (at[0]._replace(axis=0) if per_row else None) else LOST


def _losses_place(rows, op, at):
    return [at[0], at[0]] if at[0] == at[1] == Place(0) else LOST


def _sparse_product_place(rows, op, at):
    """A constant sparse matrix (the edges of a graph) times rows."""
    return LOST if any(at[:3]) or at[3].axis else MIX


def _switched_place(rows, op, at):
    return LOST if at[0] is None or at[1] is not None else [at[0], at[0]]


def _merged_place(rows, op, at):
    return [_same(at), None]


def _same(places):
    first, *others = places
    return first if all(place == first for place in others) else LOST


# Lists of tensors: the place is that in the stack of all. What is read out of a list over the rows is lost.
# The shape of the elements of a list, and what a body holds, may be for a known number of rows only.


def _baked(rows, op, places):
    if rows.rows is not None:
        rows.baked.append(op)
    return places


def _list_place(rows, op, at):
    return LOST if at[0] is None else _baked(rows, op, at[0])


def _item_place(rows, op, at):
    if at[0] is None or any(p not in (None, COUNT) for p in at[1:]) or not at[0].axis:
        return LOST
    return _baked(rows, op, at[0]._replace(axis=at[0].axis - 1))


def _written_place(rows, op, at):
    whole, item = at[0], at[-1]
    if any(at[1:-1]) or not isinstance(item, Place):
        return LOST
    item = _baked(rows, op, item._replace(axis=item.axis + 1))
    return item if whole in (None, item) else LOST


def _popped_place(rows, op, at):
    item = _item_place(rows, op, at)
    return [LOST if item == LOST else at[0], item]


# Loops and branches


def _looped_place(rows, op, at):
    shapes = op.get_attr("output_shapes") or [t.shape for t in op.inputs]
    body = rows.body(op, "body", [tf.TensorShape(s) for s in shapes])
    cond = rows.body(op, "cond", [tf.TensorShape(s) for s in shapes])
    if body is None or cond is None:
        return LOST
    state, moves = list(at), [t.ref() in rows.varying for t in op.inputs]
    while True:
        places, varying = rows.inside(body, state, moves)
        after = [_joined(rows, op, *each) for each in zip(op.inputs, state, places)]
        varying = [a or b for a, b in zip(moves, varying)]
        if (after, varying) == (state, moves):
            break
        state, moves = after, varying
    # A loop that goes on for as long as the rows want it, or for as many as there are, is lost.
    stops = rows.inside(cond, state, moves)[0][0]
    return LOST if stops is not None else _baked(rows, op, state)


def _joined(rows, op, tensor, before, after):
    """The place of a variable of a loop: grows from nothing to shared rows, and from there to lost."""
    if before == after:
        return before
    if before is None and (
        tensor.dtype == tf.variant or isinstance(after, Place) and rows.one_each(op, tensor, after)
    ):
        return after
    return LOST


def _branched_place(rows, op, at):
    bodies = [rows.body(op, n, [t.shape for t in op.inputs][1:]) for n in ("then_branch", "else_branch")]
    if at[0] is not None or None in bodies:
        return LOST
    moves, found, refused = [t.ref() in rows.varying for t in op.inputs[1:]], [], []
    for taken, body in zip((True, False), bodies):
        if rows.switches.get(op.inputs[0].ref(), taken) != taken:
            continue
        try:
            found.append(rows.inside(body, at[1:], moves)[0])
        except ValueError as error:
            refused.append((op.inputs[0], not taken, str(error)))
            if rows.dormant is None or len(refused) > 1 or op.inputs[0].ref() in rows.varying:
                raise
    if refused:
        rows.dormant += refused
    return _baked(rows, op, [_same(pair) for pair in zip(*found)])


# Op types, by where they leave the rows --------------------------------------------------------------

UNARY = _types(
    """
    Abs Acos Acosh Angle Asin Asinh Atan Atanh BesselI0 BesselI0e BesselI1 BesselI1e BesselJ0 BesselJ1
    BesselK0 BesselK0e BesselK1 BesselK1e BesselY0 BesselY1 Cast Ceil CheckNumerics CheckNumericsV2 ComplexAbs
    Conj Cos Cosh Dawsn Digamma Elu Erf Erfc Erfinv Exp Expint Expm1 Floor FresnelCos FresnelSin Identity Imag
    Inv Invert IsFinite IsInf IsNan LeakyRelu Lgamma Log Log1p LogicalNot Ndtri Neg OnesLike PreventGradient
    Real Reciprocal Relu Relu6 Rint Round Rsqrt Selu Sigmoid Sign Sin Sinh Snapshot Softplus Softsign Spence
    Sqrt Square StopGradient Tan Tanh ZerosLike
    """
)
BROADCASTING = _types(
    """
    Add AddN AddV2 Atan2 BiasAddV1 ClipByValue Complex Div DivNoNan Equal FloorDiv FloorMod Greater
    GreaterEqual Igamma Igammac Less LessEqual LogicalAnd LogicalOr Maximum Minimum Mod Mul MulNoNan NextAfter
    NotEqual Polygamma Pow RealDiv SelectV2 SquaredDifference Sub TruncateDiv TruncateMod Xdivy Xlog1py Xlogy
    Zeta
    """
)
REDUCTIONS = {"All", "Any", "EuclideanNorm", "Max", "Mean", "Min", "Prod", "Sum", "ArgMax", "ArgMin"}
OPAQUE = {"While", "StatelessWhile", "If", "StatelessIf", "Switch", "RefSwitch", "Merge", "RefMerge"}
REPEATABLE = {"All", "Any", "Max", "Mean", "Min"}  # the same of rows as of the same rows several times
LAST_AXIS = _types(
    """
    FFT HSVToRGB IFFT IRFFT LogSoftmax LRN MatrixDiag MatrixDiagV2 MatrixDiagV3 NthElement RFFT RGBToHSV
    Softmax TopK TopKV2
    """
)
LAST_TWO_AXES = _types(
    """
    BatchMatrixBandPart Cholesky Eig FFT2D IFFT2D IRFFT2D LogMatrixDeterminant MatrixBandPart
    MatrixDeterminant MatrixDiagPart MatrixDiagPartV2 MatrixDiagPartV3 MatrixExponential MatrixInverse
    MatrixLogarithm MatrixSquareRoot Qr RFFT2D SelfAdjointEigV2 Svd
    """
)
SYSTEMS = _types("BandedTriangularSolve MatrixSolve MatrixSolveLs MatrixTriangularSolve TridiagonalSolve")
SCATTERS = _types("TensorScatterAdd TensorScatterMax TensorScatterMin TensorScatterSub TensorScatterUpdate")
SEGMENTS = _types(
    """
    SegmentMax SegmentMean SegmentMin SegmentProd SegmentSum UnsortedSegmentMax UnsortedSegmentMin
    UnsortedSegmentProd UnsortedSegmentSum
    """
)
IMAGES = _types(
    """
    Dilation2D ExtractImagePatches ResizeArea ResizeBicubic ResizeBilinear ResizeNearestNeighbor
    ScaleAndTranslate
    """
)
POOLS = _types("AvgPool AvgPool3D MaxPool MaxPool3D MaxPoolWithArgmax")
# Made of a shape: type -> the slot of it.
MAKERS = {"Fill": 0, "BroadcastTo": 1, "Tile": 1, "Range": 1, "TensorListReserve": 0, "EmptyTensorList": 0}
# Slots of shapes and bounds, which may count the rows.
SHAPE_SLOTS = {
    **dict.fromkeys(("Reshape", "BroadcastTo", "Tile", "TopKV2"), (1,)),
    **dict.fromkeys(("Slice", "StridedSlice"), (1, 2)),
    **dict.fromkeys(("Conv2DBackpropInput", "Conv3DBackpropInputV2"), (0,)),
    "DepthwiseConv2dNativeBackpropInput": (0,),
    **dict.fromkeys(("TensorListFromTensor", "TensorListStack"), (1,)),
    "TensorListGetItem": (2,),
    **dict.fromkeys(("While", "StatelessWhile"), range(10**6)),
    **dict.fromkeys(("If", "StatelessIf"), range(1, 10**6)),
}

ROW_RULES = {
    **dict.fromkeys(UNARY, _stay),
    **dict.fromkeys(BROADCASTING, _broadcast_place),
    "Select": _chosen_place,
    **dict.fromkeys(REDUCTIONS, _reduced_place),
    **dict.fromkeys(LAST_AXIS, _working_on(_last_axes(1))),
    **dict.fromkeys(LAST_TWO_AXES, _working_on(_last_axes(2))),
    **dict.fromkeys(SYSTEMS, _working_on_all(_last_axes(2))),
    **dict.fromkeys(SEGMENTS, _segmented_place),
    **dict.fromkeys(SCATTERS, _scattered_place),
    **dict.fromkeys(IMAGES, _working_on(lambda rows, op, rank: (1, 2))),
    **dict.fromkeys(("DepthToSpace", "SpaceToDepth"), _working_on(lambda rows, op, rank: (1, 2, 3))),
    **dict.fromkeys(("Cumsum", "Cumprod", "CumulativeLogsumexp"), _working_on(_axes_of_input(1))),
    "ReverseV2": _working_on(_axes_of_input(1)),
    "Roll": _working_on(_axes_of_input(2)),
    "L2Loss": _working_on(lambda rows, op, rank: range(rank)),
    "ReverseSequence": _sequences_place,
    **dict.fromkeys(("MatMul", "BatchMatMul", "BatchMatMulV2", "BatchMatMulV3"), _product_place),
    "SparseTensorDenseMatMul": _sparse_product_place,
    "Einsum": _einsum_place,
    "Reshape": _reshaped_place,
    "Transpose": _transposed_place,
    "ExpandDims": _expanded_place,
    "Squeeze": _squeezed_place,
    **dict.fromkeys(("Pad", "PadV2", "MirrorPad"), _padded_place),
    **dict.fromkeys(("ConcatV2", "Pack"), _joined_place),
    "Unpack": _parted_place(0, lambda rows, op: op.get_attr("axis")),
    "Split": _parted_place(1, lambda rows, op: (rows.ints(op.inputs[0]) or [None])[0]),
    "SplitV": _parted_place(0, lambda rows, op: (rows.ints(op.inputs[2]) or [None])[0]),
    **dict.fromkeys(("Slice", "StridedSlice"), _sliced_place),
    "GatherV2": _gathered_place,
    "GatherNd": _gather_nd,
    "OneHot": _one_hot_place,
    "Tile": _tiled_place,
    "BroadcastTo": _stretched_place,
    "BiasAdd": _bias_place,
    **dict.fromkeys(("FusedBatchNorm", "FusedBatchNormV2", "FusedBatchNormV3"), _batch_norm_place),
    **dict.fromkeys(("Conv2D", "Conv3D", "DepthwiseConv2dNative"), _convolved_place),
    **dict.fromkeys(("Conv2DBackpropInput", "Conv3DBackpropInputV2"), _widened_place),
    "DepthwiseConv2dNativeBackpropInput": _widened_place,
    **dict.fromkeys(POOLS, _pooled_place),
    **dict.fromkeys(("SpaceToBatchND", "BatchToSpaceND"), _blocks_place),
    **dict.fromkeys(("SoftmaxCrossEntropyWithLogits", "SparseSoftmaxCrossEntropyWithLogits"), _losses_place),
    **dict.fromkeys(("Switch", "RefSwitch"), _switched_place),
    **dict.fromkeys(("Merge", "RefMerge"), _merged_place),
    **dict.fromkeys(("TensorListFromTensor", "TensorListStack"), _list_place),
    "TensorListGetItem": _item_place,
    **dict.fromkeys(("TensorListSetItem", "TensorListPushBack"), _written_place),
    "TensorListPopBack": _popped_place,
    **dict.fromkeys(("While", "StatelessWhile"), _looped_place),
    **dict.fromkeys(("If", "StatelessIf"), _branched_place),
}


# ---------------------------------------------------------------------------------------------------
# Replay: the same ops on other values
# ---------------------------------------------------------------------------------------------------


def _replay(ops, values, keep, copies=1, axis=None, reversible=False):
    """Copies `ops` into the current graph, reading from `values` where it can.

    Args:
      ops: from `_ops_between`.
      values: original tensor's `ref()` -> the tensor to read instead; extended with the outputs.
      keep: tensors whose new values are wanted.
      copies: factor of the rows, for shapes that hold them; None where shapes hold none.
      axis: original tensor's `ref()` -> the axis that carries its rows, where it is known. With it the
        new tensors have the static shapes of the original ones, which inference alone loses: what is
        captured by the body of a loop is no constant there.
      reversible: whether loops shall keep what `_reverse` needs of them.

    Returns:
      The new ops, dependencies first.
    """
    made, plain = [], {}
    library = _function_library() if any(op.type in CALLS | LOOPS | BRANCHES for op in ops) else {}
    later = _pooled_first(ops, keep)
    for op in ops:
        inputs = [_read(t, values) for t in op.inputs]
        if op in later:
            # Max pooling and a rising function commute, and pooling makes less work for the other.
            values[op.outputs[0].ref()] = inputs[0]
            continue
        if op.inputs and op.inputs[0].op in later:
            rise = op.inputs[0].op
            pooled = _copy(op.type, inputs, op.node_def.attr, made, op.name)
            outputs = _copy(rise.type, pooled, rise.node_def.attr, made, rise.name)
        elif op.type in BATCH_NORMS and not op.get_attr("is_training") and _only_first(op):
            outputs = _batch_norm(op, inputs, made)
        elif _is_layer_norm(op):
            outputs, plain[op.outputs[0].ref()] = _layer_norm(op, inputs, made, values)
        else:
            if op.type == "Reshape":
                inputs[0] = plain.get(op.inputs[0].ref(), inputs[0])
            if op.type == "Reshape" and copies not in (1, None):
                inputs[1] = _scale_shape(op, inputs[1], copies)
            outputs = _emit(op.type, inputs, op.node_def.attr, made, op.name, library, reversible)
        for old, new in zip(op.outputs, outputs):
            values[old.ref()] = new
            if axis is not None and not new.shape.is_fully_defined():
                _keep_shape(old, new, axis.get(old.ref()), copies)
    return made


def _keep_shape(old, new, axis, copies):
    """Gives a replayed tensor the static shape of the original one, but for its rows."""
    if old.shape.rank is None or new.shape.rank not in (None, old.shape.rank) or old.dtype == tf.variant:
        return
    shape = old.shape.as_list()
    if axis is not None and axis != UNKNOWN:
        shape[axis] = shape[axis] and copies and int(shape[axis] * copies)
    new.set_shape(shape)


def _pooled_first(ops, keep):
    """Rising elementwise ops that only a max pooling reads."""
    inside, keep, found = set(ops), {t.ref() for t in keep}, set()
    for op in ops:
        if op.type in ("MaxPool", "MaxPool3D"):
            rise = op.inputs[0].op
            lone = rise in inside and rise.type in RISING and len(rise.outputs[0].consumers()) == 1
            if lone and rise.outputs[0].ref() not in keep:
                found.add(rise)
    return found


RISING = {"Relu", "Relu6", "Elu", "Selu", "Sigmoid", "Tanh", "Softplus"}


def _emit(kind, inputs, attrs, made, name, library, reversible=False):
    """One op of the replay: a copy, or what does the same and has a gradient of its own."""
    if kind == "IdentityN":
        # What tf.custom_gradient marks its outputs with. A copy's gradient would be that of the
        # original tensors, or none in a frozen graph: use the ops that it wraps instead.
        return [_copy("Identity", [t], {}, made)[0] for t in inputs]
    # Copies of loops and branches would share the names of functions that gradients rewrite.
    names = ("f",) if kind in CALLS else ("cond", "body") if kind in LOOPS else ("then_branch", "else_branch")
    if kind in CALLS | LOOPS | BRANCHES:
        called = [library.get(attrs[n].func.name) for n in names]
        if all(_is_concrete(fdef) for fdef in called):
            if kind in CALLS:
                return _body(called[0], inputs, library, made, reversible=reversible)
            with tf.name_scope(_last(name)):
                if kind in BRANCHES:
                    outputs = _branch(*called, inputs, library)
                else:
                    loop = _Loop(*called, inputs, attrs, library)
                    outputs = loop.build(reversible and loop.reversible)
                    if loop.kept:
                        made.append(loop)
                        return outputs
            made.extend(_ops_between(outputs, inputs))
            return outputs
    if kind == "ReadVariableOp":
        with inputs[0].graph.as_default():  # once, and not in every round of a loop
            return _copy(kind, inputs, attrs, made, name)
    return _copy(kind, inputs, attrs, made, name)


LOOPS = {"While", "StatelessWhile"}
BRANCHES = {"If", "StatelessIf"}


def _is_concrete(fdef):
    return fdef is not None and not any(a.placeholder for node in fdef.node_def for a in node.attr.values())


class _Loop:
    """A loop of the replay, as one op that `_reverse` can go back through.

    It keeps the variables of every round, from which `_loop_rule` computes the rest of the round
    again, at both ends of an interval.

    Attributes:
      moving: which of `inputs` change from round to round; `outputs` has these.
      carried: those of `moving` that an adjoint can go through.
      kept: lists of what the variables that a round is computed from were in every round.
    """

    type = name = "Loop"

    def __init__(self, cond, body, inputs, attrs, library):
        self.cond, self.body, self.inputs, self.library = cond, body, list(inputs), library
        self.parallel = max(1, attrs["parallel_iterations"].i)
        # What the body passes on unchanged is no variable of the loop.
        given = [arg.name for arg in body.signature.input_arg]
        fixed = [body.ret[arg.name] == name for arg, name in zip(body.signature.output_arg, given)]
        shapes = [tf.TensorShape(shape) for shape in attrs["output_shapes"].list.shape]
        self.moving = [i for i, still in enumerate(fixed) if not still]
        self.shapes = {i: _invariant(inputs[i], shapes[i : i + 1]) for i in self.moving}
        self.carried = [i for i in self.moving if _carries_gradient(inputs[i])]
        self.kept = []

    @property
    def reversible(self):
        """Whether a round can be computed again: lists of tensors are not kept, so none may be read."""
        nodes, refs = self.body.node_def, [arg.name for arg in self.body.signature.input_arg]
        lists = {refs[i] for i in self.moving if self.inputs[i].dtype == tf.variant}
        reads = [node.op for node in nodes for ref in node.input if ref in lists]
        return all(kind == "TensorListSetItem" for kind in reads)

    def arguments(self, variables):
        full = list(self.inputs)
        for i, value in zip(self.moving, variables):
            full[i] = value
        return full

    def build(self, keep):
        """The outputs of the loop, of all `inputs`; fills `kept` if `keep`."""
        needed = _needed(self.body, self.carried) if keep else ()
        self.saved = [i for i in self.moving if i in needed and self.inputs[i].dtype != tf.variant]
        kept = [
            tf.raw_ops.EmptyTensorList(
                element_shape=_list_shape(self.shapes[i]),
                max_num_elements=-1,
                element_dtype=self.inputs[i].dtype,
            )
            for i in self.saved
        ]

        def step(variables, kept, rounds):
            full = self.arguments(variables)
            kept = [
                tf.raw_ops.TensorListPushBack(input_handle=handle, tensor=full[i])
                for i, handle in zip(self.saved, kept)
            ]
            outputs = _steady_body(self.body, full, self.library)
            return [outputs[i] for i in self.moving], kept, [r + 1 for r in rounds]

        shapes = [self.shapes[i] for i in self.moving], [tf.TensorShape([])] * len(kept)
        rounds = [tf.constant(0)] if keep else []
        self.outputs, self.kept, self.rounds = tf.while_loop(
            lambda variables, *_: _body(self.cond, self.arguments(variables), self.library, [])[0],
            step,
            ([self.inputs[i] for i in self.moving], kept, rounds),
            shape_invariants=(*shapes, [tf.TensorShape([])] * len(rounds)),
            parallel_iterations=self.parallel,
        )
        return self.arguments(self.outputs)

    def recall(self, kept, slots):
        """What the body read in the last round that `kept` has, and `kept` before it."""
        full, rest = self.arguments(self.outputs), []
        for i in (*slots, *(i for i in self.carried if i not in self.saved)):
            full[i] = tf.identity(full[i])  # a tensor of this round, that adjoints can go to
        for i, handle in zip(self.saved, kept):
            handle, full[i] = tf.raw_ops.TensorListPopBack(
                input_handle=handle,
                element_shape=_list_shape(self.shapes[i]),
                element_dtype=self.inputs[i].dtype,
            )
            full[i].set_shape(self.shapes[i])
            rest.append(handle)
        return full, rest


def _list_shape(shape):
    """The shape of the elements of a tensor list, as its ops want it."""
    if shape.rank is None:
        return tf.constant(-1)
    return tf.constant([-1 if size is None else size for size in shape.as_list()], tf.int32)


def _needed(fdef, outputs):
    """Indices of the arguments that these outputs of a function are computed from."""
    nodes = {node.name: node for node in fdef.node_def}
    stack = [fdef.ret[fdef.signature.output_arg[i].name] for i in outputs]
    seen = set()
    while stack:
        name = stack.pop().split(":")[0]
        if name not in seen and not name.startswith("^"):
            seen.add(name)
            stack.extend(nodes[name].input if name in nodes else ())
    return {i for i, arg in enumerate(fdef.signature.input_arg) if arg.name in seen}


def _invariant(tensor, shape):
    return tensor.shape if not shape or tensor.dtype == tf.variant else shape[0]


def _branch(then, otherwise, inputs, library):
    condition, *arguments = inputs
    return tf.nest.flatten(
        tf.cond(
            tf.cast(condition, tf.bool),
            lambda: _steady_body(then, arguments, library),
            lambda: _steady_body(otherwise, arguments, library),
        )
    )


def _read(tensor, values):
    """What an op of the replay reads for `tensor`."""
    op, graph = tensor.op, tf.compat.v1.get_default_graph()
    small = op.type == "Const" and tensor.graph is not graph and (tensor.shape.num_elements() or 0) < 65
    if small and tensor.ref() not in values:
        # Captured by the body of a loop, axes and shapes would be constants no longer.
        values[tensor.ref()] = _copy("Const", [], op.node_def.attr, [])[0]
    return values.get(tensor.ref(), tensor)


def _copy(kind, inputs, attrs, made, name=None):
    attrs = {k: v for k, v in attrs.items() if k not in ("_class", "_output_shapes")}
    if kind == "Identity" and not attrs:
        attrs = {"T": tf.compat.v1.AttrValue(type=inputs[0].dtype.base_dtype.as_datatype_enum)}
    op = tf.compat.v1.get_default_graph().create_op(kind, inputs, attrs=attrs, name=name and _last(name))
    made.append(op)
    outputs = list(op.outputs)
    if inputs and outputs and execute.must_record_gradient():
        names = [attr.name for attr in op.op_def.attr]
        attrs = tuple(part for attr in names for part in (attr, op.get_attr(attr)))
        execute.record_gradient(kind, tuple(op.inputs), attrs, outputs)
    return outputs


BATCH_NORMS = {"FusedBatchNorm", "FusedBatchNormV2", "FusedBatchNormV3"}


def _last(name):
    """The last part of a name, fit to begin another."""
    return name.rsplit("/", 1)[-1].lstrip("_") or "op"


def _only_first(op):
    return not any(t.consumers() for t in op.outputs[1:])


def _batch_norm(op, inputs, made):
    """Inference batch norm as a product and a sum, with far cheaper gradients than its own."""
    x, scale, offset, mean, variance = inputs
    factor = scale * tf.math.rsqrt(variance + op.get_attr("epsilon"))
    shift = offset - mean * factor
    if op.get_attr("data_format") in (b"NCHW", b"NCDHW"):
        factor, shift = (tf.reshape(v, [-1] + [1] * (x.shape.rank - 2)) for v in (factor, shift))
    product = tf.cast(factor, x.dtype) * x
    result = product + tf.cast(shift, x.dtype)
    made.extend((product.op, result.op))
    return [result, *op.outputs[1:]]


def _is_layer_norm(op):
    """The layer normalization of Keras 2: batch norm in training mode of one image, a channel per row."""
    return (
        op.type in BATCH_NORMS
        and op.get_attr("is_training")
        and op.get_attr("data_format").startswith(b"NC")
        and bool(op.inputs[0].shape.rank)
        and op.inputs[0].shape.as_list()[0] == 1
        and _only_first(op)
    )


def _layer_norm(op, inputs, made, values):
    """The same as products and means, which have rules, and whose norm points can follow.

    Returns its output, and what that is a reshape of: the rows are a channel each to Keras, behind a
    reshape, but need not leave their axis.
    """
    x, scale, offset = inputs[:3]
    rank, fills = x.shape.rank, [t.op for t in op.inputs[1:3]]
    axes, shape = [0, *range(2, rank)], [1, -1] + [1] * (rank - 2)
    shaped = op.inputs[0].op if op.inputs[0].op.type == "Reshape" else None
    last = None
    if shaped and all(fill.type == "Fill" for fill in fills):
        sizes = _Rows("replay", None, strict=False).sizes(shaped.inputs[1])
        last = _last_axes_of(shaped.inputs[0].shape, _times(sizes[2:]) if sizes else None)
    if last:
        source, axes = values.get(shaped.inputs[0].ref(), shaped.inputs[0]), last
        scale, offset = (fill.inputs[1] for fill in fills)
    else:
        source, scale, offset = x, tf.reshape(scale, shape), tf.reshape(offset, shape)
    wide = tf.cast(source, scale.dtype)
    centred = wide - tf.reduce_mean(wide, axis=axes, keepdims=True)
    variance = tf.reduce_mean(tf.square(centred), axis=axes, keepdims=True)
    normal = centred * tf.math.rsqrt(variance + op.get_attr("epsilon"))
    plain = tf.cast(normal * scale + offset, x.dtype)
    result = plain if source is x else tf.reshape(plain, tf.shape(x))
    made.extend(_ops_between([result], [source, x, *inputs[1:3]]))
    return [result, *op.outputs[1:]], plain


def _last_axes_of(shape, size):
    """The last axes that hold so many entries together, or None."""
    for number in range(1, shape.rank or 0):
        if size is not None and size == Size(shape[-number:].num_elements() or 0):
            return list(range(-number, 0))
    return None


def _scale_shape(op, shape, copies):
    """The constant shape of a reshape, for `copies` times the rows."""
    value, before = tf.get_static_value(shape), tf.get_static_value(op.inputs[1])
    if value is None and shape is op.inputs[1] and op.outputs[0].shape.is_fully_defined():
        # Put together from constants, as tf.shape(x)[0] is one where the batch size is known.
        value = before = op.outputs[0].shape.as_list()
    # What was computed from the shapes of replayed tensors counts their rows already.
    if value is None or before is None or value[0] == -1 or value[0] != before[0]:
        return shape
    value = np.array(value)
    value[0] = int(value[0] * copies)
    return tf.constant(value, shape.dtype)


def _function_library():
    """The functions known to the current graph and those around it, by name."""
    graph, found = tf.compat.v1.get_default_graph(), {}
    while graph is not None:
        for fdef in graph.as_graph_def().library.function:
            found.setdefault(fdef.signature.name, fdef)
        graph = getattr(graph, "outer_graph", None)
    return found


def _steady_body(fdef, inputs, library):
    """`_body`, refused by the run if it draws: it may be a branch that is not taken."""
    made = []
    outputs = _body(fdef, inputs, library, made)
    for op in filter(_is_random, made):
        tensor, _, off = _settled(op, made, set())
        if tensor.op.type not in THRESHOLD_OPS:
            off = False  # or what it is multiplied with, for this value of which the two may agree
        if off is not True:
            message = (
                f"The network is random between xs and ys, at op {op.name!r} ({op.type}) of a loop or "
                "branch, expected the same output for the same row. Turn dropout and noise off."
            )
            outputs = [_asserted(off, message, t) for t in outputs]
    return outputs


def _body(fdef, inputs, library, made, wanted=None, reversible=False):
    """The body of a called function, in the place of the call: its outputs, or those `wanted` (indices)."""
    nodes = {node.name: node for node in fdef.node_def}
    values = {arg.name: ([t], {}) for arg, t in zip(fdef.signature.input_arg, inputs)}

    def read(reference):  # "node:output:index" or the name of an argument
        name, *rest = reference.split(":")
        outputs, offsets = values[name]
        return outputs[offsets.get(rest[0], 0) + int(rest[1])] if rest else outputs[0]

    results = [fdef.ret[arg.name] for arg in fdef.signature.output_arg]
    results = results if wanted is None else [results[i] for i in wanted]
    stack = [(result.split(":")[0], False) for result in results[::-1]]
    seen = set()
    while stack:
        name, ready = stack.pop()
        if name not in nodes or (name in seen and not ready):
            continue
        node = nodes[name]
        # Data dependencies only: an assignment made twice would be a side effect.
        needed = [i for i in node.input if not i.startswith("^")]
        if not ready:
            seen.add(name)
            stack.append((name, True))
            stack.extend((i.split(":")[0], False) for i in needed)
            continue
        outputs = _emit(node.op, [read(i) for i in needed], node.attr, made, name, library, reversible)
        one_list = node.op in CALLS | LOOPS | BRANCHES | {"IdentityN"}
        values[name] = outputs, {} if one_list else _offsets(outputs[0].op.op_def, node)
    return [read(result) for result in results]


def _offsets(op_def, node):
    """Name of an output argument -> index of its first tensor."""
    offsets, total = {}, 0
    for arg in op_def.output_arg:
        offsets[arg.name] = total
        if arg.number_attr:
            total += node.attr[arg.number_attr].i
        elif arg.type_list_attr:
            total += len(node.attr[arg.type_list_attr].list.type)
        else:
            total += 1
    return offsets


# ---------------------------------------------------------------------------------------------------
# Walk: the points of the path, block by block
# ---------------------------------------------------------------------------------------------------

BLOCK_BYTES = 64 * 2**20  # activations of one block, by default
SHORT = 10  # steps below which a block may be twice as large, as each takes a point more
BLOCK_ROWS = 1600  # 50 steps of 32 rows
LONG = 4  # steps of a block that are worth preparations of their own
UNROLLED = 16  # outputs of a jacobian whose backward passes are written out
# The branches of TensorFlow 1 have no gradient inside its loops: their blocks are written out.
LOOPLESS = {"Switch", "Merge", "RefSwitch", "RefMerge"}


METHODS = ("auto", "secant", *QUADRATURES)


class _Walk:
    """The path of a plan from its baselines to `xs`, in blocks of steps."""

    def __init__(self, plan, structure, baselines, num_steps, method, max_rows, outputs=1):
        function, auto = plan.function, method == "auto"
        num_steps = _check_steps(function, num_steps, method, METHODS)
        method = _choose_method(plan, method)
        self.plan, self.steps = plan, num_steps
        self.secant = method == "secant"
        self.method, self.auto = method, auto
        self.starts = _flat_baselines(function, structure, plan.xs, baselines)
        self.strict = max_rows is not None
        self.limit = self._row_limit(function, max_rows, outputs)

    def _row_limit(self, function, max_rows, outputs):
        plan = self.plan
        if max_rows is None:
            # An accumulator holds one row for all the steps of a block; several outputs use larger ones.
            size = plan.row_bytes + (outputs - 1) * plan.frontier_bytes // 32
            return max(1, min(BLOCK_ROWS, (1 + (outputs > 1)) * BLOCK_BYTES // size))
        if isinstance(max_rows, bool) or not isinstance(max_rows, numbers.Integral):
            raise TypeError(
                f"{function}: max_rows is {max_rows!r} of type {type(max_rows).__name__}, expected a "
                "positive int or None."
            )
        least = (2 if self.secant else 1) * (plan.rows or 1)
        if max_rows < least:
            raise ValueError(
                f"{function}: max_rows is {max_rows}, expected at least {least}: "
                f"{'both ends of an interval' if self.secant else 'one step'} for a batch of "
                f"{plan.rows or 'at least 1'}. Raise it, or pass smaller batches."
            )
        return int(max_rows)

    # Results

    def attributions(self, weights):
        """The attributions to each of `xs`, for one list of output weights."""
        self._start()
        frontier = self.plan.frontier
        sums = self._sum(
            [self._zeros(t) for t in frontier],
            lambda block: block.sums(block.seeds(weights), frontier),
        )
        grads = self._pull_back(sums)
        return [self._times_change(i, grad) for i, grad in enumerate(grads)]

    def jacobian(self):
        """The attributions of every column of the output, `[B, C, ...]` to each of `xs`."""
        self._start()
        plan, frontier = self.plan, self.plan.frontier
        units = plan.ys[0].shape.as_list()[1]

        def add(block):
            def column(c):
                sums = block.sums(block.seeds([tf.one_hot(c, units)]), frontier)
                return [self._zeros(t) if total is None else total for t, total in zip(frontier, sums)]

            # The first one by itself: what the others can use again must lie outside their loop.
            if units <= UNROLLED:
                columns = [column(c) for c in range(units)]
                return [tf.stack(parts) for parts in zip(*columns)]
            first = column(0)
            rest = _map_range(column, 1, units, first)
            return [tf.concat([f[None], r], 0) for f, r in zip(first, rest)]

        sums = self._sum([self._zeros(t, units) for t in frontier], add)
        if plan.stackable:
            grads = self._pull_back(sums, units)
        else:
            like = [self._zeros(x) for x in plan.xs]
            grads = _map_range(lambda c: self._pull_back([s[c] for s in sums]), 0, units, like)
        return [self._times_change(i, grad, units) for i, grad in enumerate(grads)]

    def conductances(self, weights):
        """The conductances of each of the plan's layers."""
        self._start()
        layers = self.plan.layers

        def add(block):
            adjoints = block.adjoints(block.seeds(weights, weighted=False), layers)
            return [
                None if g is None else _add_steps(_widen(g) * _widen(change), self.per_block)
                for g, change in zip(adjoints, block.changes(layers))
            ]

        sums = self._sum([self._zeros(t) for t in layers], add)
        return [tf.cast(total, t.dtype) for total, t in zip(sums, layers)]

    # Parts

    def _start(self):
        """Nodes that do not depend on the step."""
        plan = self.plan
        self.path = Path(plan, self.starts)
        self.batch = self.path.batch
        # With shared ends, K steps take K + 1 points; where rows leave axis 0, two copies of K.
        self.shared = self.secant and plan.stacked
        self.per_block = self._steps_per_block()
        known = isinstance(self.per_block, int)
        self.long = self.per_block >= LONG if known else self.limit >= 8 * LONG
        self.points = Points(self.path, self.steps, self.method, self.auto, self.limit)

    def _steps_per_block(self):
        plan, ends = self.plan, 2 if self.secant and not self.shared else 1
        known = plan.rows is not None
        if not plan.stackable:
            return 1
        if not known and not self.plan.loopable:
            return -(-self.steps // 8)
        larger, smaller = (max, min) if known else (tf.maximum, tf.minimum)
        rows = larger(1, self.batch * ends)
        if self.strict:
            most = self.limit // rows - int(self.shared)  # the point that a block shares with the next one
        else:
            most = larger(self.limit // rows, smaller(SHORT, 2 * self.limit // rows))
        blocks = -(-self.steps // smaller(larger(1, most), self.steps))
        return -(-self.steps // blocks)

    def _zeros(self, tensor, units=None):
        shape = tf.shape(tensor)
        zeros = tf.zeros(shape if units is None else tf.concat([[units], shape], 0), _wide(tensor.dtype))
        static = tensor.shape.as_list() if tensor.shape.rank is not None else None
        if static is not None:
            zeros.set_shape(static if units is None else [units] + static)
        return zeros

    def _sum(self, zeros, add):
        """The sum over blocks of what `add(block)` returns, in constant memory."""
        size = self.per_block
        blocks = -(-self.steps // size)
        if isinstance(blocks, int) and (blocks == 1 or not self.plan.loopable):
            totals = zeros
            for i in range(blocks):
                with tf.control_dependencies(totals if i else []):
                    totals = _add_all(totals, add(_Block(self, i)))
            return totals

        def body(i, *totals):
            return (i + 1, *_add_all(totals, add(_Block(self, i))))

        return tf.while_loop(
            lambda i, *_: i < blocks,
            body,
            (tf.constant(0), *zeros),
            parallel_iterations=1,
            maximum_iterations=blocks,
        )[1:]

    def _pull_back(self, sums, units=None):
        """From the frontier to `xs`, once: the frontier is affine in `xs`."""
        plan, base, before = self.plan, self.path.base, self.path.before
        if units is not None and plan.prefix:
            base = [tf.tile(b, [units] + [1] * (b.shape.rank - 1)) for b in base]
            values = plan.values(plan.xs, base, units)
            _replay(plan.prefix, values, plan.frontier, units if plan.rows is not None else None, plan.axis)
            before = [values.get(t.ref(), t) for t in plan.frontier]
        seeds = []
        for total, tensor in zip(sums, before):
            total = total / self.steps
            if units is not None and plan.prefix:
                total = tf.reshape(total, tf.shape(tensor))
            seeds.append(tf.cast(total, tensor.dtype))
        if not plan.prefix:
            found = {t.ref(): seed for t, seed in zip(plan.frontier, seeds)}
            grads = [found.get(x.ref()) for x in plan.xs]
        else:
            grads = tf.gradients(before, base, grad_ys=seeds)
        result = []
        for x, grad in zip(plan.xs, grads):
            if grad is None:
                grad = self._zeros(x, units)
            elif units is not None and plan.prefix:
                grad = tf.reshape(grad, tf.concat([[units], tf.shape(x)], 0))
            result.append(_widen(tf.convert_to_tensor(grad)))
        return result

    def _times_change(self, index, grad, units=None):
        x = self.plan.xs[index]
        result = tf.cast(grad * (_widen(x) - _widen(self.path.base[index])), x.dtype)
        if units is None:
            return _restore_shape(result, x.shape)
        rank = x.shape.rank
        result = tf.transpose(result, [1, 0, *range(2, rank + 1)])
        return _restore_shape(result, [x.shape.as_list()[0], units] + x.shape.as_list()[1:])

    # Where the points go


class Path:
    """The straight path of a subgraph from the baselines to `xs`, walked at the frontier.

    Attributes:
      base: the baselines in the shape of `xs`.
      before: the frontier at the baselines; `change`: what it gains from there to `xs`.
      batch: the number of rows, an int or a tensor.
    """

    def __init__(self, plan, starts):
        self.plan = plan
        self.base = plan.full_baselines(starts)
        values = plan.values(plan.xs, self.base)
        _replay(plan.prefix, values, plan.frontier, 1, plan.axis)
        self.before = [values.get(t.ref(), t) for t in plan.frontier]
        self.batch = plan.check_lengths()
        self.change = [_change(start, t) for t, start in zip(plan.frontier, self.before)]

    @property
    def dtype(self):
        """Of points and weights."""
        return _wide(self.plan.frontier[0].dtype)

    def at(self, alphas, copies):
        """The frontier at `alphas`, a pair of `[copies, 1 or B]`, `[copies * B, ...]` each."""
        new = []
        for tensor, start, change in zip(self.plan.frontier, self.before, self.change):
            from_start, from_end = (tf.cast(_right_pad(a, tensor), tensor.dtype) for a in alphas)
            path = _between(start, tensor, change, from_start, from_end)
            new.append(_merge_rows(path, tensor, copies))
        return new


def _choose_method(plan, method):
    """What `auto` stands for; refuses `secant` where the two ends of an interval differ in shape."""
    auto = method == "auto"
    if method in ("auto", "secant"):
        plan.find_kinks()
    if auto:
        method = "secant" if plan.kinks and not plan.jumps else "gausslegendre"
    if plan.shifting is not None and method == "secant":
        if not auto:
            raise ValueError(
                f"{plan.function}: method is 'secant', but the shape that op {plan.shifting.name!r} "
                f"({plan.shifting.type}) returns depends on the values along the path, expected the same "
                "shapes at both ends of an interval. Use 'gausslegendre', or a mask that is multiplied."
            )
        method = "gausslegendre"
    return method


def _can_tell_rows_apart(plan):
    """Whether rows in which nothing switches are worth a rule of their own, and can be told."""
    found = [_switches(op, plan.varying) or _states(op, plan.varying) for op in plan.kinks]
    told = all(any(plan.is_followed(like) for like, _ in readers) for readers in found)
    return plan.curved and plan.aligned and not plan.layers and told


class Points:
    """Where the steps of a path lie, for each row: the ends of secant's intervals, or the nodes of a rule.

    Attributes:
      density: `[B, bins + 1]`, the share of secant's points up to each bin of the path; None if even.
      map: what `auto` takes the nodes of Gauss-Legendre through; None where they stay as they are.
      switching: `[B]`, the rows that take secant's points; None if all of them do.
    """

    def __init__(self, path, steps, method, auto, limit):
        plan = path.plan
        self.path, self.steps, self.limit = path, steps, limit
        self.secant = method == "secant"
        # Nodes that follow the network, where `auto` leaves the choice to us.
        self.graded = auto and plan.aligned and method == "gausslegendre" and steps >= LEAST_GRADED
        # Rows in which nothing switches take the nodes of Gauss-Legendre, where these are better.
        self.mixed = auto and self.secant and steps > 1 and _can_tell_rows_apart(plan)
        self.inside = auto and self.secant and plan.tests_equality
        points_only = "gausslegendre" if self.mixed else None if self.secant else method
        self.rule = points_only and quadrature(steps, points_only)
        self.density, self.map, self.switching = None, None, None
        if plan.aligned and (self.secant or self.graded):
            self._find()

    def of_block(self, index, size):
        """Points and weights of a block of `size` steps.

        A pair of `[K, 1 or B]`, the distances from both ends, and `[K, 1 or B]`; `secant` has K + 1 points.
        """
        steps = self.steps
        if self.secant:
            at = tf.minimum(index * size + tf.range(size + 1), steps)
            points, widths = self._graded(tf.cast(at, self.path.dtype) / steps)
            if self.inside:
                points = [tf.maximum(p, INSIDE) for p in points]
            if self.switching is None:
                return points, widths
            nodes, weights = self._nodes(index, size, 1)
            points = [tf.where(self.switching, *pair) for pair in zip(points, nodes)]
            return points, tf.where(self.switching, widths, weights[:-1])
        return self._nodes(index, size)

    def _nodes(self, index, size, more=0):
        """Nodes and weights of a rule of points, likewise."""
        steps, dtype = self.steps, self.path.dtype
        at = index * size + tf.range(size + more)
        last = tf.minimum(at, steps - 1)
        alphas, weights = (tf.gather(tf.constant(v, dtype), last) for v in self.rule)
        points, slopes = self._mapped(alphas)
        return points, tf.where(at[:, None] < steps, weights[:, None] * slopes, 0)

    def intervals(self, index, size):
        """Start and end of the interval that each step of a gradient rule stands for."""
        ends = np.cumsum(self.rule[1])
        ends[-1] = 1
        dtype = self.path.dtype
        at = tf.minimum(index * size + tf.range(size + 1), self.steps)
        edges, _ = self._mapped(tf.gather(tf.constant(np.concatenate([[0], ends]), dtype), at))
        return tuple(edge[:-1] for edge in edges), tuple(edge[1:] for edge in edges)

    def _find(self):
        """What is needed to place the points of every row.

        Error sits where units switch, where attention, probabilities and the output move, and where
        what the network divides by moves in logarithm: behind a normalization that is flat at one end
        of the path everything may happen within a millionth of it. A few looks at the network on the
        path tell where that is.
        """
        if self.steps == 1:
            return
        groups, many = {}, self.steps >= LEAST_GRADED

        def some(seen, ops):
            readers = _readers(self.path.plan, seen, ops)
            return readers[:: len(readers) // MOST_READ + 1]

        if self.secant:
            groups["switches"] = [readers] if (readers := some(_switches, self.path.plan.reached)) else []
            groups["softmaxes"] = (
                [[reader] for reader in _readers(self.path.plan, _movers, self.path.plan.rest)]
                if many
                else []
            )
        if self.mixed:
            groups["states"] = [readers] if (readers := some(_states, self.path.plan.kinks)) else []
        if self.graded or (self.mixed and many):
            groups["outputs"] = [
                [_reader(self.path.plan, y, 0)] for y in self.path.plan.ys if y.shape.rank is not None
            ]
        groups["norms"] = [[reader] for reader in some(_norms, self.path.plan.rest)]
        if not any(groups.values()) or (self.graded and self.path.plan.jumps and not groups["norms"]):
            return  # by jumps alone, no nodes are better than others
        self.bins = _bins(
            MOVE_LOOKS if groups.get("outputs") else SWITCH_LOOKS if groups.get("softmaxes") else 1,
            bool(groups["norms"]),
        )
        seen = _look(self.path, self.bins, groups, self.limit)
        if self.mixed:
            self.switching = _switching(seen.get("switches", []) + seen.get("states", []))
        if self.secant:
            share = self._share(seen, seen.get("switches"), seen.get("softmaxes"))
            edges = tf.concat([tf.zeros_like(share[:, :1]), tf.cumsum(share, axis=1)], 1)
            self.density = tf.stop_gradient(edges)
        if seen.get("outputs"):
            self.map = self._evening_map(tf.stop_gradient(self._share(seen, None, seen["outputs"])))

    def _share(self, seen, switches, movers):
        """The share of the points that each bin of the path gets, `[B, bins]`."""
        size, dtype = self.bins.size, self.path.dtype
        even = tf.constant(self.bins.widths, dtype)
        # Some points everywhere: looks miss what switches twice or moves there and back.
        share = tf.zeros([self.path.batch, 1], dtype) + even
        for units in switches or ():
            share += _crossings(units, size)
        if movers:
            moved = tf.reduce_mean(_shares(_moves(movers)), axis=0)
            moved = tf.repeat(moved, size, axis=1) / size + 0.1 * even
            share = moved if switches is None else tf.sqrt(share * moved)
        share /= tf.reduce_sum(share, axis=1, keepdims=True)
        if seen.get("norms"):
            logs = tf.minimum(_moves(seen["norms"]), 4.0)
            logs = tf.repeat(tf.reduce_max(logs, axis=0), size, axis=1) / size
            share = NATS**2 * share + logs * tf.reduce_sum(logs, axis=1, keepdims=True)
            share /= tf.reduce_sum(share, axis=1, keepdims=True)
        return share

    def _graded(self, quantiles):
        """Points at these quantiles `[P]` of the density, and how far it is from one to the next.

        A pair of `[P, B]`, the distances from both ends, each exact near its own, and `[P - 1, B]`.
        """
        if self.density is None:
            low = quantiles[:, None]
            return (low, 1 - low), low[1:] - low[:-1]
        low, high = self.density[:, :-1], self.density[:, 1:]
        width = tf.where(high > low, high - low, 1)
        covered = tf.clip_by_value((quantiles[:, None, None] - low) / width, 0, 1)
        covered = tf.where(quantiles[:, None, None] >= 1, tf.ones([], covered.dtype), covered)
        widths = tf.constant(self.bins.widths, covered.dtype)

        def total(parts):
            return tf.reduce_sum(parts * widths, axis=2)

        one = tf.ones([], covered.dtype)
        ends = [
            tf.where(at[:, None], one, total(part))
            for at, part in ((quantiles >= 1, covered), (quantiles <= 0, 1 - covered))
        ]
        return ends, total(covered[1:] - covered[:-1])

    def _evening_map(self, share):
        """For each row, the map of the path under which its density is most even, `[B]` tensors."""
        maps, dtype = _maps(self.bins, self.steps), share.dtype
        best = tf.argmin(tf.matmul(share, tf.constant(maps.costs, dtype)), axis=1)
        return {name: tf.gather(tf.constant(values, dtype), best) for name, values in maps.rows.items()}

    def _mapped(self, nodes):
        """Points at the nodes `[P]` of a rule, as a pair of distances from both ends `[P, B]`, and slopes.

        alpha = center + line node + width sinh(low + (high - low) node) goes from 0 to 1. It is dense around
        its center or, with a line, all over the part of the path that the line is as long as. Being
        analytic it lets Gauss-Legendre converge as fast as without it, or far faster.
        """
        nodes = nodes[:, None]
        if self.map is None:
            return (nodes, 1 - nodes), tf.ones([], nodes.dtype)
        m = self.map
        at = m["low"] + (m["high"] - m["low"]) * nodes
        way = m["line"] * nodes + m["width"] * tf.sinh(at)
        slope = m["line"] + m["width"] * tf.cosh(at) * (m["high"] - m["low"])
        # Distances are exact near the end that is the center.
        start = tf.where(m["center"] < 1, m["center"] + way, 1 + way)
        end = tf.where(m["center"] < 1, (1 - m["center"]) - way, -way)
        even, one = m["even"] > 0, tf.ones([], nodes.dtype)
        start, end = tf.clip_by_value(start, 0, 1), tf.clip_by_value(end, 0, 1)
        ends = tf.where(even, nodes, start), tf.where(even, 1 - nodes, end)
        return ends, tf.where(even, one, slope / m["total"])


def _readers(plan, seen, ops):
    """Units, and functions from replayed values to `[B, units]`, of what `seen` finds in `ops`."""
    found = []
    for op in ops:
        for like, now in seen(op, plan.varying) if op.outputs else ():
            if plan.is_followed(like):
                found.append(_reader(plan, like, plan.axis[like.ref()], now))
    return found


def _reader(plan, like, axis, now=None):
    """Likewise of a tensor, or of what `now` (of a lookup of tensors) makes in its shape."""
    led, dtype = like.ref() in plan.row_led, _wide(plan.frontier[0].dtype)

    inner = [size for i, size in enumerate(like.shape.as_list()) if i != axis]
    units = int(np.prod(inner, dtype=np.int64)) if None not in inner and (led or axis) else None

    def read(values, rows):
        def at(tensor):
            return values.get(tensor.ref(), tensor)

        return _rows_first(tf.cast(now(at) if now else at(like), dtype), axis, units, rows)

    return units, read


def _look(path, bins, groups, limit):
    """A sample of what readers see at the looks along the path and at `xs`.

    Of lists of groups of readers by name: `[looks + 1, B, units]` for each group.
    """
    plan, dtype = path.plan, path.dtype
    looks, size = bins.looks + 1, bins.size
    ends = [tf.constant(distance[::size], dtype)[:, None] for distance in (bins.low, bins.high)]
    names, groups = zip(*((name, group) for name, parts in groups.items() for group in parts))
    widths = [_sampled([units for units, _ in group])[1] for group in groups]
    joint = None not in widths  # one tensor for all groups takes far fewer nodes
    if not plan.stackable:
        copies = 1
    elif plan.rows is not None:
        copies = max(1, min(limit // max(1, plan.rows), looks))
    elif plan.loopable:
        copies = tf.clip_by_value(limit // tf.maximum(1, path.batch), 1, looks)
    else:
        copies = 1
    blocks = -(-looks // copies)

    def look(index):
        at = tf.minimum(index * copies + tf.range(copies), looks - 1)
        alphas = [tf.gather(end, at) for end in ends]
        values = plan.values(plan.frontier, path.at(alphas, copies), copies)
        keep = plan.ys + [t for op in plan.rest for t in op.inputs]
        _replay(plan.rest, values, keep, copies if plan.rows is not None else None, plan.axis)
        rows = copies * path.batch
        parts = [_sample([read(values, rows) for _, read in group]) for group in groups]
        parts = [tf.concat(parts, 1)] if joint else parts
        return [tf.reshape(part, _with_features([copies, path.batch], part)) for part in parts]

    if isinstance(blocks, int) and (blocks == 1 or not plan.loopable):
        seen = [tf.concat(parts, 0) for parts in zip(*map(look, range(blocks)))]
    else:
        units = [sum(widths)] if joint else widths
        specs = [tf.TensorSpec([None, plan.rows, width], dtype) for width in units]
        stacks = _map_range(look, 0, blocks, specs)
        seen = [tf.reshape(t, tf.concat([[blocks * copies], tf.shape(t)[2:]], 0)) for t in stacks]
        seen = [_restore_shape(t, [None, plan.rows, width]) for t, width in zip(seen, units)]
    seen = [_restore_shape(t[:looks], [looks, *t.shape.as_list()[1:]]) for t in seen]
    seen = tf.split(seen[0], widths, axis=2) if joint else seen
    return {name: [t for n, t in zip(names, seen) if n == name] for name in names}


class _Bins:
    """Parts of the path, with a look at the network at the beginning of every `size` of them."""

    def __init__(self, widths, looks, tails=False):
        self.widths, self.looks, self.size, self.tails = widths, looks, len(widths) // looks, tails
        zero = [0]
        self.low = np.concatenate([zero, np.cumsum(widths)])
        self.high = np.concatenate([np.cumsum(widths[::-1])[::-1], zero])  # 1 - low, exact near the end


@functools.lru_cache(maxsize=16)
def _bins(looks, tails):
    """Even parts; with `tails`, also parts in geometric progression towards both ends."""
    if not tails:
        return _Bins(np.full(BINS, 1 / BINS), looks)
    at = np.arange((len(TAILS) - 1) * TAIL_SIZE + 1) / TAIL_SIZE
    edges = TAIL * np.exp(-np.interp(at, np.arange(len(TAILS)), TAILS))
    tail = np.diff(np.concatenate([edges[0] * np.arange(TAIL_SIZE) / TAIL_SIZE, edges]))
    middle = np.full(MOVE_LOOKS * TAIL_SIZE, (1 - 2 * TAIL) / (MOVE_LOOKS * TAIL_SIZE))
    return _Bins(np.concatenate([tail, middle, tail[::-1]]), 2 * len(TAILS) + MOVE_LOOKS, tails)


@functools.lru_cache(maxsize=16)
def _maps(bins, steps):
    """The maps that a row can choose from, and what each costs: `[bins, maps]`.

    The cost of a map is the mean, over the density, of minus the logarithm of how many nodes of the rule
    it puts there: least where the density is even in terms of its nodes (Gibbs' inequality). Of two that
    are alike, the one that bends less converges in fewer steps.
    """
    inner = [(c / 16, 2.0**-k) for c in range(1, 16) for k in range(1, 7)]
    outer = [(end, 4.0**-k) for end in (0, 1) for k in range(15 if bins.tails else 4)]
    center, width = np.array([(0.5, 1.0), *inner, *outer]).T
    low, high = np.arcsinh(-center / width), np.arcsinh((1 - center) / width)
    even = np.arange(len(center)) == 0
    middle_low, middle_high = ((d[1:] + d[:-1])[:, None] / 2 for d in (bins.low, bins.high))
    distance = np.where(center < 1, middle_low - center, middle_high)
    costs = np.where(even, 0, np.log(np.hypot(distance, width) * (high - low)))
    # Windows [l, r]: l + (r - l) t + p exp(rate (t - 1)) - q exp(-rate t), where p and q hit 0 and 1.
    parts = [(i / 8, j / 8) for i in range(8) for j in range(i + 1, 9) if j - i < 8]
    left, right, rate = np.array([(*part, rate) for part in parts for rate in (6, 12, 24)]).T
    fade = np.exp(-rate)
    p = (1 - right + left * fade) / (1 - fade**2)
    q = left + p * fade
    width_of, low_of = 2 * np.sqrt(p * q * fade), np.log(p * fade / q) / 2  # as a sinh
    window = dict(center=left, line=right - left, width=width_of, low=low_of)
    rows = dict(center=center, line=0 * center, width=width, low=low)
    rows = {name: np.append(rows[name], window[name]) for name in rows}
    rows["high"] = np.append(high, window["low"] + rate)
    span = rows["high"] - rows["low"]

    def sloped(node):
        return rows["line"] + rows["width"] * np.cosh(rows["low"] + span * node) * span

    grid = np.linspace(0, 1, 2001)[:, None]
    way = rows["center"] + rows["line"] * grid + rows["width"] * np.sinh(rows["low"] + span * grid)
    slopes = np.log(sloped(grid))
    windows = range(len(center), len(span))
    dense = np.stack([np.interp(middle_low[:, 0], way[:, i], slopes[:, i]) for i in windows], 1)
    costs = np.concatenate([costs, dense + BENT_COST * rate / steps], 1)
    total = np.ones(len(span))
    if steps <= 1024:  # a constant then has its integral to the last bit; with more, it has anyway
        nodes, weights = quadrature(steps, "gausslegendre")
        total = weights @ sloped(nodes[:, None])
    return _Maps(costs, dict(rows, even=np.arange(len(span)) == 0, total=total))


class _Maps(NamedTuple):
    costs: np.ndarray
    rows: dict


BINS = 64
SWITCH_LOOKS = 4
MOVE_LOOKS = 8
TAIL = 1 / 8  # what of the path at each end is looked at in geometric steps, if need be
TAILS = (28, 21, 15, 10, 6, 3, 0)  # their depths in nats
TAIL_SIZE = 4
NATS = 3.0  # movement of a norm in logarithm that earns it half of the points
LEAST_GRADED = 10  # steps for which several looks are worth their time
BENT_COST = 0.03  # in nats, of a rate of exponential growth per step
INSIDE = 1e-6  # how far points stay from the ends of the path where values may jump at them
MOST_READ = 25  # ops that switch; of deeper networks some tell enough, and the others take time to build
SAMPLE = 1024  # units of a group of ops; about twice as many are looked at, at most


def _switches(op, varying):
    """Functions (of a lookup of tensors) whose sign changes are where `op` switches."""
    slots = _slots_vary(op, varying)
    if op.type in THRESHOLDS and 0 in slots:
        return [
            (op.outputs[0], lambda at, c=c: at(op.inputs[0]) - c if c else at(op.inputs[0]))
            for c in THRESHOLDS[op.type]
        ]
    if _is_kink(op, varying) and op.type in ("Maximum", "Minimum"):
        return [(op.outputs[0], lambda at: at(op.inputs[0]) - at(op.inputs[1]))]
    return []


def _states(op, varying):
    """Functions (of a lookup of tensors) whose sign tells which input of `op` is chosen, and no more."""
    if not _is_kink(op, varying):
        return []
    if op.type in ("Select", "SelectV2"):
        return [(op.inputs[0], lambda at: tf.cast(at(op.inputs[0]), tf.float32) - 0.5)]
    axes = tf.get_static_value(op.inputs[1]) if op.type in ("Max", "Min") else None
    if axes is None:
        return []
    sign = 1 if op.type == "Max" else -1

    def state(at):
        z = sign * at(op.inputs[0])
        return tf.cast(z >= tf.reduce_max(z, axes, keepdims=True), tf.float32) - 0.5

    return [(op.inputs[0], state)]


def _switching(seen):
    """`[looks + 1, B, units]` each -> `[B]`: whether any unit has other signs at some looks than at others.

    What is zero at an end alone does not switch on the way, as of a network without biases from zeros.
    """
    found = [tf.reduce_any(tf.reduce_any(t > 0, 0) & tf.reduce_any(t < 0, 0), axis=1) for t in seen]
    return tf.reduce_any(tf.stack(found), axis=0)


THRESHOLDS = {"Relu": (0,), "Relu6": (0, 6), "LeakyRelu": (0,), "Selu": (0,), "Elu": (0,), "Abs": (0,)}


def _movers(op, varying):
    """Functions (of a lookup of tensors) whose changes tell where a smooth network moves."""
    return [(op.outputs[0], None)] if op.type == "Softmax" and _slots_vary(op, varying) else []


def _norms(op, varying):
    """Logarithms of what `op` divides by, takes the root or the logarithm of."""
    slot = NORMS.get(op.type)
    if slot is None or slot not in _slots_vary(op, varying) or not op.inputs[slot].dtype.is_floating:
        return []
    norm, power = op.inputs[slot], 0.5 if op.type in ("Sqrt", "Rsqrt") else 1.0
    return [(norm, lambda at: power * tf.math.log(tf.maximum(tf.abs(at(norm)), 1e-30)))]


# type -> slot of the input that stands in a denominator, under a root or a logarithm
NORMS = {"Rsqrt": 0, "Sqrt": 0, "Reciprocal": 0, "Inv": 0, "Log": 0, "RealDiv": 1, "Div": 1, "DivNoNan": 1}


def _rows_first(tensor, axis, units, rows):
    """`tensor`, with its rows on `axis`, as `[B, units]`; `units` are None if rows are merged with others."""
    if axis:
        tensor = tf.transpose(tensor, [axis, *(i for i in range(tensor.shape.rank) if i != axis)])
    elif units is not None and tensor.shape.rank == 2:
        return tensor
    return tf.reshape(tensor, [rows, tf.size(tensor) // tf.maximum(rows, 1) if units is None else units])


def _sampled(units):
    """The stride at which `_sample` takes tensors of so many units, and how many remain, if known."""
    if None in units:
        return None, None
    stride = sum(units) // SAMPLE // 2 * 2 + 1  # odd, as channels come in powers of two
    return stride, sum(-(-width // stride) for width in units)


def _sample(tensors):
    """About `2 * SAMPLE` of the units of `tensors [B, units]` at most, evenly spread, `[B, sample]`."""
    stride, _ = _sampled([t.shape.as_list()[1] for t in tensors])
    if stride is None:
        stride = tf.add_n([tf.shape(t)[1] for t in tensors]) // SAMPLE // 2 * 2 + 1
    if not (isinstance(stride, int) and stride == 1):
        tensors = [t[:, ::stride] for t in tensors]
    return _restore_shape(tensors[0] if len(tensors) == 1 else tf.concat(tensors, 1), [None, None])


def _crossings(seen, size):
    """`[L + 1, B, units]` -> `[B, L * size]`: the share of crossings of zero in equal parts of the looks.

    Between two looks they are where they would be were the units linear there.
    """
    before, after = seen[:-1], seen[1:]
    looks, rows = before.shape.as_list()[0], tf.shape(seen)[1]
    low, high = tf.minimum(before, after), tf.maximum(before, after)
    crosses = (low < 0) & (high > 0)
    if looks > 1:
        # What is zero at a look crosses on both sides of it.
        # (Padded as a number: TensorFlow Lite of TensorFlow 2.12 pads no booleans.)
        through = tf.cast(tf.equal(seen[1:-1], 0) & (seen[:-2] * seen[2:] < 0), tf.int32)
        through = tf.pad(through, [[1, 1], [0, 0], [0, 0]]) > 0
        crosses |= through[:-1] | through[1:]
    at = tf.where(crosses, low / tf.where(crosses, low - high, 1), 0)
    part = tf.clip_by_value(tf.cast(at * size, tf.int32), 0, size - 1)
    # Counted from the lower end, so that both directions of a path are mirrored to the last bit.
    part = tf.where(before < after, part, size - 1 - part) + size * tf.range(looks)[:, None, None]
    part += looks * size * tf.range(rows)[:, None]
    total = rows * looks * size  # where those go that do not cross
    part = tf.reshape(tf.where(crosses, part, total), [-1])
    counts = tf.math.unsorted_segment_sum(tf.ones_like(part, seen.dtype), part, total + 1)[:-1]
    return _shares(tf.reshape(counts, [rows, looks * size]))


def _moves(seen):
    """Tensors `[L + 1, B, units]` -> `[tensors, B, L]`: how far units move from look to look, in the mean."""
    units = [t.shape.as_list()[2] for t in seen]
    units = tf.stack([tf.shape(t)[2] for t in seen]) if None in units else units
    both = tf.concat(seen, 2)
    parts = tf.split(_finite(tf.abs(both[1:] - both[:-1])), units, axis=2, num=len(seen))
    return tf.transpose(tf.stack([tf.reduce_mean(part, axis=2) for part in parts]), [0, 2, 1])


def _shares(counts):
    """Counts `[..., parts]` divided by their sum, if there are any."""
    return tf.math.divide_no_nan(counts, tf.reduce_sum(counts, axis=-1, keepdims=True))


class _Block:
    """Some steps of a walk: the network replayed on their points."""

    def __init__(self, walk, index):
        self.walk, self.index, plan = walk, index, walk.plan
        self.alphas, self.weights = walk.points.of_block(index, walk.per_block)
        size = walk.per_block
        if not walk.secant or walk.shared:
            self.values, made = self._run(self.alphas, size + walk.shared)
            self.others = self.values
        else:
            self.values, made = self._run([a[:-1] for a in self.alphas], size)
            switching = True if walk.points.switching is None else walk.points.switching
            ends = [tf.where(switching, a[1:], a[:-1]) for a in self.alphas]
            self.others, after = self._run(ends, size)
        if walk.secant:
            sources = [self.values[t.ref()] for t in plan.frontier]
            if walk.shared:
                rows = [self.values[r.ref()] for r in plan.roots] + sources
                self.cuts = _Cuts(
                    made, rows, size, self.weights if walk.long else None, walk.points.switching
                )
                self.ends = [(op, *self.cuts.ends(op)) for op in made]
            else:
                axes = {self.values[t].ref(): a for t, a in plan.axis.items() if t in self.values}
                rows = size * plan.rows if plan.rows is not None and isinstance(size, int) else None
                self.ends = _pair(made, after, axes, rows)

    def _run(self, alphas, copies, targets=None):
        """Replays what follows the frontier at `alphas`, a pair of `[copies, 1 or B]`."""
        plan = self.walk.plan
        values = plan.values(plan.frontier, self.walk.path.at(alphas, copies), copies)
        ops = plan.rest if targets is None else _ops_between(targets, plan.frontier + plan.beside)
        keep = plan.ys + plan.layers + list(targets or ())
        copies = copies if plan.rows is not None else None
        # For gradients alone TensorFlow's own way back through a loop is faster, as it keeps more.
        reversible = self.walk.secant and targets is None
        made = _replay(ops, values, keep, copies, plan.axis, reversible)
        return values, made

    def seeds(self, weights, weighted=True):
        """Adjoints of the outputs, times the weights of the steps (and `num_steps`)."""
        walk, size, seeds = self.walk, self.walk.per_block, []
        shares = self.weights * walk.steps if weighted else tf.ones_like(self.weights)
        # Shaped as the replayed outputs: reading the original ones would keep their network alive.
        for y, weight in zip(self._replayed(walk.plan.ys), weights):
            share = tf.cast(_right_pad(shares, y), y.dtype)
            if weight is not None:
                share *= tf.cast(weight, y.dtype)
            rows = tf.shape(y)[0] // (size + walk.shared)
            full = tf.broadcast_to(share, _with_features([size, rows], y))
            seeds.append(tf.reshape(full, _with_features([size * rows], y)))
        return seeds

    def adjoints(self, seeds, targets):
        """Per target, the adjoint at every step, `[K * B, ...]` or None."""
        ys, at = self._replayed(self.walk.plan.ys), self._replayed(targets)
        if self.walk.secant:
            parts = _reverse(self.ends, ys, seeds, at, SECANT_RULES)
            return [tf.add_n(p) if p else None for p in parts]
        grads = tf.gradients(ys, at, grad_ys=seeds, stop_gradients=at)
        return [None if g is None else tf.convert_to_tensor(g) for g in grads]

    def sums(self, seeds, targets):
        """Per target, the sum over the steps of its adjoint, `[B, ...]` or None."""
        walk, size = self.walk, self.walk.per_block
        if not walk.shared:
            grads = self.adjoints(seeds, targets)
            return [None if g is None else _add_steps(g, size) for g in grads]
        ys, at = self._replayed(walk.plan.ys), self._replayed(targets)
        totals = []
        for parts in _reverse(self.ends, ys, seeds, at, SECANT_RULES, summed=True):
            steps = [p for p in parts if not isinstance(p, _Summed)]
            total = [p.tensor for p in parts if isinstance(p, _Summed)]
            total += [_add_steps(tf.add_n(steps), size)] if steps else []
            totals.append(tf.add_n(total) if total else None)
        return totals

    def _replayed(self, tensors):
        return [self.values.get(t.ref(), t) for t in tensors]

    def changes(self, targets):
        """What each target gains over each step, `[K * B, ...]`."""
        walk = self.walk
        if not walk.secant:
            low, high = walk.points.intervals(self.index, walk.per_block)
            before = self._run(low, walk.per_block, targets)[0]
            after = self._run(high, walk.per_block, targets)[0]
        elif walk.shared:
            at = self._replayed(targets)
            return [_widen(self.cuts.of(t, 1)) - _widen(self.cuts.of(t, 0)) for t in at]
        else:
            before, after = self.values, self.others
        return [_widen(after[t.ref()]) - _widen(before[t.ref()]) for t in targets]


# Arithmetic on rows ---------------------------------------------------------------------------------


def _widen(tensor):
    return tf.cast(tensor, _wide(tensor.dtype))


def _sum_features(tensor):
    """`[B, ...]` -> `[B]`, in float32 at least."""
    tensor = _widen(tensor)
    return tf.reduce_sum(tensor, axis=tf.range(1, tf.rank(tensor)))


def _add_all(totals, parts):
    return [
        total if part is None else _restore_shape(total + tf.cast(part, total.dtype), total.shape)
        for total, part in zip(totals, parts)
    ]


def _between(start, end, change, from_start, from_end):
    """Points of the straight path: exact at both ends, and where nothing changes."""
    first = from_start < from_end
    return tf.where(first, start, end) + change * tf.where(first, from_start, -from_end)


def _change(start, end):
    """`end - start`, and 0 where a mask of -inf is part of both."""
    return tf.where(tf.equal(start, end), tf.zeros([], end.dtype), end - start)


def _right_pad(values, like):
    """`[K, 1 or B]` as `[K, 1 or B, 1, ...]`, to broadcast against `like [B, ...]`."""
    if like.shape.rank is None:
        ones = tf.ones([tf.rank(like) - 1], tf.int32)
        return tf.reshape(values, tf.concat([tf.shape(values), ones], 0))
    shape, ones = values.shape.as_list(), [1] * (like.shape.rank - 1)
    if shape.count(None) > 1:
        return tf.reshape(values, tf.concat([tf.shape(values), tf.constant(ones, tf.int32)], 0))
    return tf.reshape(values, [-1 if size is None else size for size in shape] + ones)


def _with_features(leading, like):
    """The shape `[*leading, ...]` with the sizes of `like [B, ...]`; what is static takes few nodes."""
    if like.shape.rank is None or not like.shape[1:].is_fully_defined():
        return tf.concat([leading, tf.shape(like)[1:]], 0)
    return [*leading, *like.shape.as_list()[1:]]


def _split_rows(tensor, copies):
    """`[copies * B, ...]` -> `[copies, B, ...]`."""
    split = tf.reshape(tensor, _with_features([copies, tf.shape(tensor)[0] // copies], tensor))
    if tensor.shape.rank is not None:
        rows = tensor.shape.as_list()[0]
        known = rows is not None and isinstance(copies, int)
        fixed = copies if isinstance(copies, int) else None
        split.set_shape([fixed, rows // copies if known else None] + tensor.shape.as_list()[1:])
    return split


def _add_steps(grad, steps):
    """`[steps * B, ...]` -> `[B, ...]`, in float32 at least."""
    grad = _widen(grad)
    return grad if isinstance(steps, int) and steps == 1 else tf.reduce_sum(_split_rows(grad, steps), axis=0)


def _merge_rows(tensor, like, copies):
    """`[copies, B, ...]` -> `[copies * B, ...]`."""
    merged = tf.reshape(tensor, _with_features([copies * tf.shape(like)[0]], like))
    if like.shape.rank is not None:
        rows = like.shape.as_list()[0]
        known = rows is not None and isinstance(copies, int)
        merged.set_shape([rows * copies if known else None] + like.shape.as_list()[1:])
    return merged


def _map_range(function, start, stop, like):
    """Stacks what `function(i)` returns (a list of tensors like `like`) for a range of `i`."""
    arrays = [tf.TensorArray(t.dtype, stop - start, element_shape=t.shape) for t in like]

    def body(i, arrays):
        parts = function(i)
        return i + 1, [a.write(i - start, tf.cast(p, a.dtype)) for a, p in zip(arrays, parts)]

    _, arrays = tf.while_loop(
        lambda i, _: i < stop,
        body,
        (tf.constant(start), arrays),
        parallel_iterations=1,
        maximum_iterations=stop - start,
    )
    return [a.stack() for a in arrays]


# ---------------------------------------------------------------------------------------------------
# Reverse mode, op by op
# ---------------------------------------------------------------------------------------------------


@_as_it_is
def backpropagate(
    ys: Tensors,
    xs: Tensors,
    grad_ys: Tensors | None,
    rules: Mapping[str, Rule],
    other: Tensors | None = None,
    name: str = "backpropagate",
) -> Tensors:
    """Reverse mode from `ys` to `xs` with rules of your own for some types of ops.

    Args:
      ys: tensor or structure of tensors computed from `xs`.
      xs: tensor or structure of tensors.
      grad_ys: adjoints of `ys`, of its structure and shapes; `None` is ones.
      rules: `{op type: rule}`. `rule(op, other, grads)` gets the op (`.type`, `.inputs`, `.outputs`,
        `.get_attr`), the same op at the other end of the interval (`None` without `other`), and one
        gradient or `None` per output; it returns one gradient or `None` per input, or a single
        tensor for the only input that leads to `xs`. The key `"default"` covers the types that are
        not listed; without it that is TensorFlow's own gradient, or its mean at both ends, corrected so
        that each row is complete where rows can be told apart.
      other: `(ys, xs)` at the other end of the interval, the same ops on other values, as
        `graph_replace` makes them.
      name: name scope of the nodes.

    Returns:
      The adjoints of `xs`, in its structure; zeros where no rule leads.

    Raises:
      TypeError: a tensor is eager or a KerasTensor.
      ValueError: structures differ, `ys` does not depend on `xs`, or the ops at the other end do not
        correspond.

    >>> @tf.function
    ... def f(x):
    ...     y = tf.nn.relu(x) * 3
    ...     guided = lambda op, other, grads: tf.nn.relu(grads[0]) * tf.sign(op.outputs[0])
    ...     return backpropagate(y, x, None, {"Relu": guided})
    >>> f(tf.constant([2.0, -1.0])).numpy().tolist()
    [3.0, 0.0]
    """
    function = "backpropagate"
    flat_ys, flat_xs = tf.nest.flatten(ys), tf.nest.flatten(xs)
    for argument, tensors in (("ys", flat_ys), ("xs", flat_xs)):
        for tensor in tensors:
            _check_tensor(function, argument, tensor)
    for y in flat_ys:
        if not y.dtype.is_floating:
            raise TypeError(
                f"{function}: ys {y.name!r} has dtype {y.dtype.name}, expected a floating dtype. Explain "
                "the scores and not what argmax or a threshold makes of them."
            )
    if grad_ys is None:
        seeds = [None] * len(flat_ys)
    else:
        _check_structure(function, "grad_ys", grad_ys, "ys", ys)
        seeds = tf.nest.flatten(grad_ys)
    made = _ops_between(flat_ys, flat_xs)
    inside = {x.ref() for x in flat_xs} | {t.ref() for op in made for t in op.outputs}
    if not any(y.ref() in inside for y in flat_ys):
        raise ValueError(_unconnected(function, flat_ys, flat_xs, "ys", "xs"))
    if other is None:
        ends = [(op, _End(op), None) for op in _group(made)]
    else:
        after = _ops_between(*(tf.nest.flatten(part) for part in other))
        if [op.type for op in made] != [op.type for op in after]:
            # A replay rewrites some ops: those of ys likewise.
            flat_ys = tf.nest.flatten(graph_replace(ys, xs, xs))
            made = _ops_between(flat_ys, flat_xs)
        if [op.type for op in made] != [op.type for op in after]:
            raise ValueError(
                f"{function}: other has {len(after)} ops between its ys and xs, expected the "
                f"{len(made)} of ys and xs. Make it with graph_replace(ys, xs, ...)."
            )
        rows = flat_xs[0].shape.as_list()[0] if flat_xs[0].shape.rank else None
        ends = _pair(made, after, _axes_of_rows(made, flat_xs, flat_ys), rows)
    with tf.name_scope(name):
        seeds = [
            tf.ones_like(y) if seed is None else _weight(function, y, seed) for y, seed in zip(flat_ys, seeds)
        ]
        parts = _reverse(ends, flat_ys, seeds, flat_xs, rules)
        grads = [tf.add_n(p) if p else tf.zeros_like(x) for x, p in zip(flat_xs, parts)]
    return tf.nest.pack_sequence_as(xs, grads)


class _Summed:
    """The sum of an adjoint over the steps, `[B, ...]`, by a rule that has it quicker than its parts."""

    def __init__(self, tensor):
        self.tensor = tensor


def _reverse(ends, ys, seeds, targets, rules, summed=False):
    """Lists of tensors that sum to the adjoints of `targets`.

    `ends` has (op, op at one end, op at the other). With `summed`, only sums over the steps are
    wanted of the targets, which are linear along the path, and rules may give `_Summed` for them.
    """
    live = {t.ref() for t in targets}
    sources = set(live)

    def blocks(op, end):
        # With two ends it is changes that count, and what is stopped changes too.
        seen_through = end is not None and op.type in rules and _cancels(op)
        return op.type in BARRIERS and not seen_through

    for op, _, end in ends:
        if not blocks(op, end) and any(t.ref() in live for t in op.inputs):
            live.update(t.ref() for t in op.outputs if _carries_gradient(t))
    adjoints = {}
    for y, seed in zip(ys, seeds):
        adjoints.setdefault(y.ref(), []).append(seed)

    def total(ref):
        parts = adjoints.get(ref, [])
        if len(parts) > 1:
            adjoints[ref] = parts = [tf.add_n(parts)]
        return parts[0] if parts else None

    for op, start, end in reversed(ends):
        slots = [i for i, t in enumerate(op.inputs) if t.ref() in live]
        if not slots or blocks(op, end):
            continue
        grads = [None if t.ref() in sources or t.ref() not in live else total(t.ref()) for t in op.outputs]
        if all(g is None for g in grads):
            continue
        start.slots, start.rules = slots, rules
        start.summed = summed and all(op.inputs[i].ref() in sources for i in slots)
        if end is not None:
            end.slots = slots
        rule = rules.get(op.type) or rules.get("default") or _default_rule
        result = rule(start, end, grads)
        if not isinstance(result, (list, tuple)):
            result = [result if i == slots[0] else None for i in range(len(op.inputs))]
        for i in slots:
            if i < len(result) and result[i] is not None:
                adjoints.setdefault(op.inputs[i].ref(), []).append(result[i])
    return [adjoints.get(t.ref(), []) for t in targets]


def _cancels(op):
    """Whether what a StopGradient stops is an extreme value that is subtracted before an exponential.

    As in `tf.reduce_logsumexp` and softmax by hand, whose values do not depend on it.
    """
    if op.type != "StopGradient":
        return False
    source = op.inputs[0].op
    while source.type in CARRIERS:  # of a Select, what is not finite is replaced by 0
        source = source.inputs[1 if source.type.startswith("Select") else 0].op
    if source.type not in ("Max", "Min", "Maximum", "Minimum"):
        return False
    differences = [
        reader.outputs[0]
        for reader in _readers_of(op.outputs[0], CARRIERS)
        if reader.type == "Sub" and any(_alike(reader.inputs[0], t) for t in source.inputs)
    ]
    exponentials = [
        reader.outputs[0]
        for difference in differences
        for reader in _readers_of(difference, CARRIERS | {"Mul", "RealDiv", "Neg", "AddV2"})
        if reader.type == "Exp"
    ]
    return any(
        reader.type in SUMS for exps in exponentials for reader in _readers_of(exps, CARRIERS | {"Mul"})
    )


CARRIERS = _types("Cast ExpandDims Identity Reshape Select SelectV2 Squeeze StridedSlice")
SUMS = _types("Add AddN AddV2 BatchMatMul BatchMatMulV2 Einsum MatMul Mean Sum")


def _alike(a, b, depth=4):
    """Whether two tensors are the same, or made the same way of the same ones, such as `z[:, 0]` twice."""
    if a is b or not depth or a.op.type != b.op.type or a.value_index != b.value_index:
        return a is b
    if a.op.type == "Const":
        return a.op.get_attr("value") == b.op.get_attr("value")
    if not a.op.inputs or len(a.op.inputs) != len(b.op.inputs) or a.op.type not in CARRIERS:
        return False
    same = all(a.op.get_attr(n.name) == b.op.get_attr(n.name) for n in a.op.op_def.attr)
    return same and all(_alike(*pair, depth - 1) for pair in zip(a.op.inputs, b.op.inputs))


def _readers_of(tensor, through):
    """The ops that read a tensor, also by way of ops of these types."""
    found, stack = {}, [tensor]
    while stack:
        for op in stack.pop().consumers():
            if op not in found:
                found[op] = None
                stack.extend(op.outputs[:1] if op.type in through else ())
    return list(found)


def _pair(made, after, axes, rows):
    """Ops and their twins at the other end, for `_reverse`.

    `axes` has the axis that carries the rows, of tensors of `made`, where it is known; `rows` is their
    number, if that is.
    """
    for op in reversed(made):  # what a loop returns is an Identity of its output
        if op.type == "Identity" and op.outputs[0].ref() in axes:
            axes.setdefault(op.inputs[0].ref(), axes[op.outputs[0].ref()])
    if rows == 1:
        axes = ONE_ROW
    elif rows is not None:
        for tensor in (t for op in made for t in (*op.inputs, *op.outputs)):
            if axes.get(tensor.ref(), UNKNOWN) == UNKNOWN:
                axes[tensor.ref()] = _axis_by_size(tensor, rows)
    return [(op, _End(op, axes=axes), _End(twin, axes=axes)) for op, twin in zip(_group(made), _group(after))]


ONE_ROW = "one row"


def _axes_of_rows(ops, xs, ys):
    """`ref()` -> the axis that carries the rows, of what `ops` compute from `xs`."""
    rows = _Rows("backpropagate", xs[0].shape.as_list()[0] if xs[0].shape.rank else None, strict=False)
    rows.start(xs)
    rows.follow(ops, _varying(ops, xs), ys)
    return {ref: place.axis for ref, place in rows.places.items() if _steps_outside(place)}


def _axis_by_size(tensor, rows):
    """The only axis that can have so many rows, or `UNKNOWN`."""
    if not tensor.shape.is_fully_defined():
        return UNKNOWN
    found = [axis for axis, size in enumerate(tensor.shape.as_list()) if size and size % rows == 0]
    return found[0] if len(found) == 1 and tensor.shape.as_list()[found[0]] == rows else UNKNOWN


class _Island:
    """Ops that are one as far as rules go: such as hand each other tensor lists, which have no average."""

    type = name = "Island"

    def __init__(self, ops):
        inside = {t.ref() for op in ops for t in op.outputs}
        outer = {t.ref(): t for op in ops for t in op.inputs if t.ref() not in inside}
        self.inputs = list(outer.values())
        self.outputs = [t for op in ops for t in op.outputs]


def _group(ops):
    """The ops, dependencies first, with those that share tensor lists as one."""
    island = {}  # op -> the list of ops that it belongs to
    made_by = {t.ref(): op for op in ops for t in op.outputs}
    for op in ops:
        island[op] = [op]
        for tensor in op.inputs:
            if tensor.dtype == tf.variant and tensor.ref() in made_by:
                maker = made_by[tensor.ref()]
                other = island[maker]
                if other is not island[op] and "Loop" not in (op.type, maker.type):
                    other.extend(island[op])
                    for member in island[op]:
                        island[member] = other
    if all(len(members) == 1 for members in island.values()):
        return ops
    order, seen, stack = [], set(), [(op, False) for op in reversed(ops)]
    while stack:
        op, done = stack.pop()
        members = island[op]
        if done:
            order.append(members[0] if len(members) == 1 else _Island(members))
        elif id(members) not in seen:
            seen.add(id(members))
            stack.append((op, True))
            needed = (made_by.get(t.ref()) for member in members for t in member.inputs)
            stack.extend((n, False) for n in needed if n is not None and n not in members)
    return order


class _End:
    """An op as a rule sees it at one end of the intervals.

    Like a `tf.Operation`, but with that end's rows of its tensors, with `slots`, the inputs that an
    adjoint can go to, and with `keep` and `whole` for what several outputs can share.
    """

    def __init__(self, op, cuts=None, side=0, memo=None, axes=None):
        self.op, self.cuts, self.side, self.axes = op, cuts, side, axes or {}
        self.memo = {} if memo is None else memo
        self.type, self.slots, self.summed = op.type, (), False

    def __getattr__(self, name):
        return getattr(self.op, name)

    @property
    def inputs(self):
        return [t if self.cuts is None else self.cuts.of(t, self.side) for t in self.op.inputs]

    @property
    def outputs(self):
        return [t if self.cuts is None else self.cuts.of(t, self.side) for t in self.op.outputs]

    def keep(self, key, make):
        """What `make()` returned the first time."""
        if key not in self.memo:
            self.memo[key] = make()
        return self.memo[key]

    def whole(self, key, make):
        """This end's rows of `make(op)`, computed once where both ends are rows of one op."""
        result = self.keep(key, lambda: make(self.op))
        if self.cuts is None:
            return result
        if len(self.op.inputs) == 1 and self.op.inputs[0].ref() in self.cuts.led:  # then it has its rows
            self.cuts.led.add(result.ref())
        return self.cuts.cut(result, self.side)

    def by_row(self, like):
        """A function from values of a tensor of the op to `[rows, values]` (and `back`); None if unknown."""
        if like.dtype == tf.variant:
            return None
        if self.cuts is not None:
            count = self.cuts.count
            return lambda t, back=None: tf.reshape(t, [count, -1] if back is None else tf.shape(back))
        if self.axes == ONE_ROW:
            return lambda t, back=None: tf.reshape(t, [1, -1] if back is None else tf.shape(back))
        axis, rank = self.axes.get(like.ref(), UNKNOWN), like.shape.rank
        if axis == UNKNOWN or rank is None:
            return None
        order = [axis, *(i for i in range(rank) if i != axis)]

        def by_row(t, back=None):
            if back is None:
                return tf.reshape(tf.transpose(t, order), [tf.shape(t)[axis], -1])
            return tf.transpose(tf.reshape(t, tf.gather(tf.shape(back), order)), np.argsort(order))

        return by_row

    def slopes(self, slot=0):
        """TensorFlow's derivative of an elementwise or pooling op, for an adjoint of ones."""
        return self.whole(("slopes", slot), lambda op: self.pull(tf.ones_like(op.outputs[0]), slot))

    def pull(self, grad, slot=0):
        """TensorFlow's gradient of the op, for an adjoint of all its rows."""
        ins, out = list(self.op.inputs), self.op.outputs[0]
        if self.type == "Pow":
            # One slope per entry of the output, where the input is broadcast to it.
            ins[slot] = tf.broadcast_to(ins[slot], tf.shape(out))
            (out,) = _copy(self.type, ins, self.op.node_def.attr, [], "slope_of")
        return tf.gradients(out, ins[slot], grad, stop_gradients=ins)[0]


class _Cuts:
    """Cuts the tensors of one replay on K + 1 points into the starts and the ends of K intervals."""

    def __init__(self, made, sources, steps, widths=None, switching=None):
        self.steps, self.known, self.bounds = steps, {}, {}
        self.switching = switching  # `[B]`; the ends of other rows are their starts
        self.strides = tf.constant([1])
        self.widths = widths  # of the steps; None where no rule shall sum over them by itself
        self.rows, self.source = {t.ref() for t in sources}, sources[-1]
        self.led = set(self.rows)  # with as many rows as the sources, which saves most bounds
        for op in made:
            rows = [t.ref() for t in op.inputs if t.ref() in self.rows]
            if rows and op.type not in SHAPES:
                self.rows.update(t.ref() for t in op.outputs)
                if all(r in self.led for r in rows) and not (op.type == "Reshape" and _merges(op)):
                    self.led.update(t.ref() for t in op.outputs)

    @property
    def count(self):
        """How many rows the intervals have together."""
        key = "count"
        if key not in self.bounds:
            total = self.source.shape.as_list()[0]
            known = total is not None and isinstance(self.steps, int)
            self.bounds[key] = tf.shape(self.source)[0] if not known else total
            self.bounds[key] -= self.bounds[key] // (self.steps + 1)
        return self.bounds[key]

    def of(self, tensor, side):
        """The starts (side 0) or ends (side 1) of what has rows; anything else as it is."""
        return self.cut(tensor, side) if tensor.ref() in self.rows else tensor

    def cut(self, tensor, side):
        key = tensor.ref(), side
        if key not in self.known:
            if side and self.switching is not None:
                cut = tf.raw_ops.GatherV2(params=tensor, indices=self._ends(tensor), axis=0)
            else:
                begin, end = self._bound(tensor, side)
                cut = tf.raw_ops.StridedSlice(
                    input=tensor, begin=begin, end=end, strides=self.strides, begin_mask=0, end_mask=0
                )
            self.known[key] = cut
            if tensor.shape.rank is not None:
                cut.set_shape([None] + tensor.shape.as_list()[1:])
        return self.known[key]

    def _bound(self, tensor, side):
        kind = self._key(tensor)
        key, known = (side, kind), isinstance(kind, int)
        if key not in self.bounds:
            total = kind if known else tf.shape(tensor)[0]
            one = total // (self.steps + 1)
            self.bounds[key] = ([one], [total]) if side else ([0], [total - one])
            if not known:
                self.bounds[key] = tuple(tf.convert_to_tensor(bound) for bound in self.bounds[key])
        return self.bounds[key]

    def _key(self, tensor):
        """What tensors with as many entries on axis 0 share: their number, if it is known."""
        total = tensor.shape.as_list()[0] if tensor.shape.rank else None
        if total is not None and isinstance(self.steps, int):
            return total
        return "led" if tensor.ref() in self.led else tensor.ref()

    def _ends(self, tensor):
        """The entries of axis 0 at the ends of the intervals."""
        key = "ends", self._key(tensor)
        if key not in self.bounds:
            one, total = (bound[0] for bound in self._bound(tensor, 1))
            rows = tf.shape(self.switching)[0]
            later = tf.repeat(tf.cast(self.switching, tf.int32), one // rows) * one
            self.bounds[key] = tf.range(total - one) + tf.tile(later, [self.steps])
        return self.bounds[key]

    def outer(self, tensor):
        """The rows of the first and of the last point."""
        one = tf.shape(tensor)[0] // (self.steps + 1)
        return tensor[:one], tensor[-one:]

    def ends(self, op):
        memo = {}
        return _End(op, self, 0, memo), _End(op, self, 1, memo)


def _default_rule(op, other, grads):
    """TensorFlow's own gradient; with two ends, the mean of it at both, made complete row by row.

    Where the rows of the batch cannot be told apart, the mean stays as it is: a correction of all of
    them together would leak from one to the other.
    """
    here = _own_gradient(op, grads)
    if other is None:
        return here
    there = _own_gradient(other, grads)
    result = [None if a is None or b is None else _mean(a, b) for a, b in zip(here, there)]
    ins = [(i, op.by_row(op.op.inputs[i])) for i, grad in enumerate(result) if grad is not None]
    outs = [(i, op.by_row(op.op.outputs[i])) for i, grad in enumerate(grads) if grad is not None]
    if op.type in LOOPLESS or any(by_row is None for _, by_row in ins + outs):
        return result  # what a branch that is not taken returns has no value
    found = _completed(
        [[by_row(t) for t in (here[i], there[i], op.inputs[i], other.inputs[i])] for i, by_row in ins],
        [[by_row(t) for t in (grads[i], op.outputs[i], other.outputs[i])] for i, by_row in outs],
    )
    for (i, by_row), grad in zip(ins, found):
        result[i] = by_row(tf.cast(grad, result[i].dtype), back=op.inputs[i])
    return result


def _mean(a, b):
    return a if a.dtype == tf.variant else (a + b) / 2  # of lists, only what they pass on is known


def _own_gradient(op, grads, inputs=None):
    """TensorFlow's gradient of one op; at `inputs`, if given, instead of its own."""
    source, place = op.op, op.inputs if inputs is None else inputs
    if inputs is not None or op.cuts is not None:
        copied = []
        _copy(op.type, place, op.node_def.attr, copied, "gradient_of")
        source = copied[0]
    pairs = [(t, g) for t, g in zip(source.outputs, grads) if g is not None]
    first = {place[i].ref(): i for i in reversed(op.slots)}
    slots = sorted(first.values())
    found = tf.gradients(
        [t for t, _ in pairs],
        [place[i] for i in slots],
        [g for _, g in pairs],
        stop_gradients=[t for t in place if t.dtype != tf.resource],
    )
    result = [None] * len(place)
    for i, grad in zip(slots, found):
        result[i] = None if grad is None else tf.convert_to_tensor(grad)
    return result


# ---------------------------------------------------------------------------------------------------
# The secant rules: averages of each op's derivative over an interval
# ---------------------------------------------------------------------------------------------------
#
# With z0, z1 the inputs and y0, y1 the outputs at both ends, the rule of an op sends the adjoint g to
# its inputs such that g . (y1 - y0) = sum over inputs of adjoint . (z1 - z0). Completeness then holds
# op by op, and so for the whole network.


def _elementwise(slope):
    """The rule of a unary elementwise op, from its slope over the interval."""
    return lambda op, other, grads: grads[0] * op.keep("slope", lambda: slope(op, other))


def _ratio(a, b):
    return tf.math.divide_no_nan(a, b)


def _completed(ins, outs):
    """The mean of two gradients, made complete: g . (y1 - y0) = sum over inputs of grad . (z1 - z0).

    What is missing is shared in proportion to what the inputs contribute by the gradients at either
    end, whatever its sign, so that an input without an influence gets nothing; where no gradient tells,
    in proportion to the squares of their changes.

    Args:
      ins: matrices `[rows, values]`: per input, its gradients at both ends, and its values there.
      outs: per output, its adjoint, and its values at both ends.

    Returns:
      Per input, a matrix, in float32 at least.
    """
    ins, outs = ([[_widen(t) for t in part] for part in parts] for parts in (ins, outs))
    missing = rounding = weight = square = 0.0
    for g, y0, y1 in outs:
        missing += _row_sum(_inner(g, _finite(y1 - y0)))
        rounding += _row_sum(tf.abs(g) * _finite(tf.maximum(tf.abs(y0), tf.abs(y1))))
    sizes, changes, means = [], [], []
    for grad0, grad1, z0, z1 in ins:
        grad0, grad1, change = _finite(grad0), _finite(grad1), _finite(z1 - z0)
        means.append((grad0 + grad1) / 2)
        changes.append(change)
        sizes.append(tf.abs(grad0) + tf.abs(grad1))
        missing -= _row_sum(_inner(means[-1], change))
        weight += _row_sum(sizes[-1] * tf.abs(change))
        square += _row_sum(_inner(change, change))
    rounding *= 8 * _epsilon(rounding.dtype)
    missing = tf.where(tf.abs(missing) > rounding, missing, tf.zeros_like(missing))
    by_weight = _finite(_ratio(missing, weight))
    by_square = tf.where(weight > 0, tf.zeros_like(missing), _finite(_ratio(missing, square)))
    return [
        mean
        + tf.cast(by_weight * size, mean.dtype) * tf.sign(change)
        + tf.cast(by_square, mean.dtype) * change
        for mean, size, change in zip(means, sizes, changes)
    ]


def _inner(a, b):
    """What each entry adds to the change of a real number; TensorFlow's gradients are conjugate."""
    return tf.math.real(tf.math.conj(a) * b) if a.dtype.is_complex else a * b


def _pointwise(op, other, grads):
    """Elementwise ops of several inputs, which may be broadcast: the default rule entry by entry."""
    like = op.outputs[0]
    shape = tf.shape(like)

    def at(end):
        ins = [tf.broadcast_to(t, shape) if i in op.slots else t for i, t in enumerate(end.inputs)]
        made = []
        _copy(op.type, ins, op.node_def.attr, made, "gradient_of")
        varying = [ins[i] for i in op.slots]
        found = tf.gradients(made[0].outputs, varying, grads, stop_gradients=ins)
        return [(t, tf.zeros_like(t) if g is None else g) for t, g in zip(varying, found)]

    def column(t):
        return tf.reshape(t, [-1, 1])

    ins = [[column(t) for t in (g0, g1, z0, z1)] for (z0, g0), (z1, g1) in zip(at(op), at(other))]
    found = _completed(ins, [[column(t) for t in (grads[0], like, other.outputs[0])]])
    result = [None] * len(op.inputs)
    for i, grad in zip(op.slots, found):
        z = op.inputs[i]
        full = _restore_shape(tf.reshape(tf.cast(grad, z.dtype), shape), like.shape)
        result[i] = _unbroadcast(full, z)
    return result


def _ramp(op, other, above):
    """Slope of max(z, 0), `above(end)`: the share of the interval above 0. No cancellation, no branch."""
    size0, size1 = (end.whole("size", lambda op: tf.abs(op.inputs[0])) for end in (op, other))
    return _ratio(above(op) + above(other), size0 + size1)


def _relu_slope(op, other):
    return _ramp(op, other, lambda end: end.outputs[0])


def _relu6_slope(op, other):
    """(y1 - y0) / (z1 - z0), which is exact: y is z or an end of its range, never a rounded number."""
    (z0,), (z1,) = op.inputs, other.inputs
    ratio = _ratio(other.outputs[0] - op.outputs[0], z1 - z0)
    return tf.where(tf.equal(z0, z1), op.slopes(), ratio)


def _leaky_relu_slope(op, other):
    alpha = op.get_attr("alpha")

    def above(end):
        return end.whole("above", lambda op: tf.nn.relu(op.inputs[0]))

    return alpha + (1 - alpha) * _ramp(op, other, above)


def _abs_slope(op, other):
    (z0,), (z1,) = op.inputs, other.inputs
    return _ratio(z0 + z1, tf.abs(z0) + tf.abs(z1))


def _complex_abs(op, other, grads):
    """|z1| - |z0| = (z0 + z1) . (z1 - z0) / (|z0| + |z1|), in the plane."""
    (z0,), (z1,) = op.inputs, other.inputs
    slope = _ratio(grads[0], op.outputs[0] + other.outputs[0])
    return [tf.cast(slope, z0.dtype) * (z0 + z1)]


def _norm(op, other, grads):
    """EuclideanNorm, likewise."""
    z0, z1 = op.inputs[0], other.inputs[0]
    spread = _spreader(op)
    return [spread(_ratio(grads[0], op.outputs[0] + other.outputs[0])) * (z0 + z1), None]


def _spreader(op):
    """A function that lays out values of a reduction's output over the axes of its input."""
    axes, shape = op.inputs[1], tf.shape(op.inputs[0])
    if op.get_attr("keep_dims"):
        return lambda y: y
    rank = tf.size(shape)
    places = tf.cast(tf.reshape(axes, [-1]), tf.int32)
    ones = tf.reduce_max(tf.one_hot(places % rank, rank, dtype=tf.int32), axis=0)
    return lambda y: tf.reshape(y, tf.where(ones > 0, 1, shape))


def _sqrt_slope(op, other):
    def root(z):  # whose own slope at 0 is not infinite, for training
        some = z > 0
        return tf.where(some, tf.sqrt(tf.where(some, z, tf.ones([], z.dtype))), tf.zeros([], z.dtype))

    return _ratio(tf.ones([], op.outputs[0].dtype), root(op.inputs[0]) + root(other.inputs[0]))


def _rsqrt_slope(op, other):
    y0, y1 = op.outputs[0], other.outputs[0]
    both = y0 * y1  # whose square may be beyond the range of its type
    return _finite(-both * (both / (y0 + y1)))


def _finite(tensor):
    """A derivative that is not finite at equal ends counts as 0."""
    finite = tf.math.is_finite(tf.abs(tensor) if tensor.dtype.is_complex else tensor)
    return tf.where(finite, tensor, tf.zeros([], tensor.dtype))


def _smooth_slope(op, other, slot=0):
    """(y1 - y0) / (z1 - z0), and the mean derivative of both ends where that would cancel.

    The mean derivative is taken where it is complete to rounding, and nowhere else: any width that
    is fit for Tanh is too wide for Log near 0 and for Sin far from it.
    """
    z0, z1 = op.inputs[slot], other.inputs[slot]
    y0, y1 = op.outputs[0], other.outputs[0]
    same = tf.equal(z0, z1)  # infinite ones too
    zero, one = tf.zeros([], z0.dtype), tf.ones([], z0.dtype)
    change, gain = tf.where(same, zero, z1 - z0), tf.where(same, zero, y1 - y0)
    mean = (_finite(op.slopes(slot)) + _finite(other.slopes(slot))) / 2
    rounding = tf.cast(8 * _epsilon(z0.dtype), z0.dtype) * tf.maximum(tf.abs(y0), tf.abs(y1))
    near = same | (tf.abs(mean * change - gain) <= rounding)
    return tf.where(near, mean, gain / tf.where(near, one, change))


def _epsilon(dtype):
    return np.finfo(dtype.as_numpy_dtype).eps if dtype.size > 2 else 2.0**-8


def _bent_slope(op, other):
    """Smooth but for a kink at 0: across it, the slope lies between the derivatives on the way."""
    z0, z1 = op.inputs[0], other.inputs[0]
    d0, d1 = _finite(op.slopes()), _finite(other.slopes())
    steepest = 1.7580993408473766 if op.type == "Selu" else 1.0  # just below 0
    ratio = _ratio(other.outputs[0] - op.outputs[0], z1 - z0)
    across = tf.clip_by_value(ratio, tf.minimum(d0, d1), tf.cast(steepest, z0.dtype))
    return tf.where(tf.equal(z0 > 0, z1 > 0), _smooth_slope(op, other), across)


def _power(op, other, grads):
    """Pow with one input on the path is elementwise."""
    if len(op.slots) > 1:
        return _pointwise(op, other, grads)
    slot = op.slots[0]
    slope = op.keep("slope", lambda: _smooth_slope(op, other, slot))
    result = [None, None]
    result[slot] = _unbroadcast(grads[0] * slope, op.inputs[slot])
    return result


def _unbroadcast(grad, like, op=None):
    """Sums `grad` over the axes along which `like`, an input of `op`, was broadcast."""
    if grad.shape.rank is not None and grad.shape.rank == like.shape.rank:
        # Rows on axis 0 are as many in both, where the ends are rows of one tensor.
        skip = 1 if op is not None and op.cuts is not None else 0
        if grad.shape[skip:].is_fully_defined() and grad.shape[skip:] == like.shape[skip:]:
            return grad
    shape = tf.shape(like)
    _, axes = tf.raw_ops.BroadcastGradientArgs(s0=tf.shape(grad), s1=shape)
    return _restore_shape(tf.reshape(tf.reduce_sum(grad, axis=axes), shape), like.shape)


def _sum_rule(*signs):
    def rule(op, other, grads):
        return [
            _unbroadcast(sign * grads[0] if sign < 0 else grads[0], op.inputs[i], op)
            if i in op.slots
            else None
            for i, sign in enumerate(signs)
        ]

    return rule


def _product(op, other, grads):
    """y = a b, exactly: a mean of b times the change of a plus a mean of a times the change of b."""
    (a0, b0), (a1, b1) = op.inputs, other.inputs
    if len(op.slots) == 2:
        means = op.keep("means", lambda: _means(a0, a1, b0, b1))
    else:
        means = [p0 if p0 is p1 else (p0 + p1) / 2 for p0, p1 in ((b0, b1), (a0, a1))]
    return [
        _unbroadcast(grads[0] * mean, like, op) if i in op.slots else None
        for i, (mean, like) in enumerate(zip(means, (a0, b0)))
    ]


def _quotient(op, other, grads):
    """y = a r with r = 1 / b, whose slope is -1 / (b0 b1)."""
    (a0, b0), (a1, b1) = op.inputs, other.inputs
    invert = (lambda b: _ratio(tf.ones([], b.dtype), b)) if op.type == "DivNoNan" else (lambda b: 1 / b)

    def means():
        if len(op.slots) == 2:
            return _means(a0, a1, invert(b0), invert(b1))
        return (
            invert(b0) if b0 is b1 else (invert(b0) + invert(b1)) / 2,
            a0 if a0 is a1 else (a0 + a1) / 2,
        )

    def fall():
        if op.type != "DivNoNan":
            return -1 / (b0 * b1)
        jumps = tf.equal(b0 * b1, 0)  # where 1 / b counts as 0
        return tf.where(jumps, _ratio(invert(b1) - invert(b0), b1 - b0), -invert(b0) * invert(b1))

    inverse, mean = op.keep("means", means)
    result = [None, None]
    if 0 in op.slots:
        result[0] = _unbroadcast(grads[0] * inverse, a0)
    if 1 in op.slots:
        result[1] = _unbroadcast(grads[0] * mean * op.keep("fall", fall), b0)
    return result


def _means(a0, a1, b0, b1):
    """What goes to a and to b of an adjoint of y = a b, both on the path.

    The mean of b and the mean of a at both ends are exact where a and b move in proportion. Where one
    grows and the other shrinks, as an input and the inverse of its norm do, powers of one quantity
    describe them better, for which the logarithmic means L(y0, y1) / L(a0, a1) and L(y0, y1) / L(b0, b1)
    are exact, L(p, q) = (q - p) / log(q / p). Where one of them is 0 at the end at which the other is huge,
    their limits: the other at its small end, and 0. Always mean * (a1 - a0) + mean * (b1 - b0) = y1 - y0.
    """
    zero, one = tf.zeros([], a0.dtype), tf.ones([], a0.dtype)

    def growth(start, end):  # its logarithm, and start / L(start, end)
        moves = (start * end > 0) & tf.not_equal(start, end)
        start = tf.where(moves, start, one)
        change = tf.where(moves, (end - start) / start, one)
        far = moves & (tf.abs(change) > 0.5)  # where 1 + change loses what the ratio has
        ratio, rest = tf.where(far, end / start, one), tf.where(far, zero, change)
        log = tf.where(moves, tf.math.log(ratio) + tf.math.log1p(rest), zero)
        return log, log / change

    (log_a, rate_a), (log_b, rate_b) = growth(a0, a1), growth(b0, b1)
    opposed = log_a * log_b < 0
    log = tf.where(opposed, log_a + log_b, zero)
    moves = tf.not_equal(log, zero)
    level = tf.where(moves, tf.math.expm1(log) / tf.where(moves, log, one), one)  # L(y0, y1) / y0

    def silent(start, end, log):  # 0 where the other is twice as large: for less, its mean is better
        return tf.not_equal(start, end) & (tf.equal(start, 0) & (log < -0.7) | tf.equal(end, 0) & (log > 0.7))

    def mean(start, end, log, powers, this, other):
        usual = tf.where(other, tf.where(log < 0, end, start), (start + end) / 2)
        return tf.where(opposed, powers, tf.where(this, zero, usual))

    silent_a, silent_b = silent(a0, a1, log_b), silent(b0, b1, log_a)
    return (
        mean(b0, b1, log_b, b0 * level * rate_a, silent_b, silent_a),
        mean(a0, a1, log_a, a0 * level * rate_b, silent_a, silent_b),
    )


def _middle(op, other, grads):
    """Bilinear and quadratic ops: the gradient at the middle of the interval is exact."""
    if len(op.slots) == 1 and op.type not in ("SquaredDifference", "L2Loss"):
        return _own_gradient(op, grads)
    if len(op.slots) > 2:
        return _default_rule(op, other, grads)
    middle = [
        a if a is b or not _carries_gradient(a) else (a + b) / 2 for a, b in zip(op.inputs, other.inputs)
    ]
    return _own_gradient(op, grads, middle)


def _linear(op, other, grads):
    """Ops that are affine in what varies have one gradient everywhere."""
    if len(op.slots) > 1 and isinstance(AFFINE.get(op.type), tuple) and op.type != "SelectV2":
        # A convolution whose filters are on the path too is bilinear.
        return _default_rule(op, other, grads)
    return _own_gradient(op, grads)


def _matmul(op, other, grads):
    if op.slots != [0] or op.get_attr("transpose_a"):
        return _middle(op, other, grads)
    return [tf.matmul(grads[0], op.inputs[1], transpose_b=not op.get_attr("transpose_b")), None]


def _convolution(backprop, *attributes):
    """A convolution by weights: its gradient needs the shape of the input only."""

    def rule(op, other, grads):
        if op.slots != [0]:
            return _middle(op, other, grads)
        shape = tf.shape(op.inputs[0])
        attrs = {name: op.get_attr(name) for name in attributes}
        attrs = {name: v.decode() if isinstance(v, bytes) else v for name, v in attrs.items()}
        grad = backprop(input_sizes=shape, filter=op.inputs[1], out_backprop=grads[0], **attrs)
        return [_restore_shape(grad, op.inputs[0].shape), None]

    return rule


_CONVOLUTION = ("strides", "padding", "explicit_paddings", "data_format", "dilations")


def _reshape(op, other, grads):
    like = op.op.inputs[0]
    if like.shape.rank and like.shape[1:].num_elements():  # the number of rows follows
        return [tf.reshape(grads[0], [-1, *like.shape.as_list()[1:]]), None]
    like = op.inputs[0]
    return [_restore_shape(tf.reshape(grads[0], tf.shape(like)), like.shape), None]


def _pass_on(op, other, grads):
    return grads


# Choices: the output is one of the inputs, and maybe another one at the other end


def _share(first0, first1, gap0, gap1):
    """Share of the adjoint that the first of two inputs gets.

    Chosen at both ends: all; at neither: nothing. Chosen at one end only: the distance between the
    two at that end, over the sum of the distances at both, is the exact share (equations in
    `_pool`). Ties at both ends: half.
    """
    crossing = _half_ratio(tf.where(first0, gap0, gap1), tf.where(first0, gap1, gap0))
    return tf.where(tf.equal(first0, first1), tf.cast(first0, gap0.dtype), crossing)


def _choice(compare):
    """The rule of Maximum and Minimum."""

    def rule(op, other, grads):
        def share():
            # As `_share`, in fewer nodes: where they change places there is a distance at one end.
            (a0, b0), (a1, b1) = op.inputs, other.inputs
            first0, first1, gap0, gap1 = compare(a0, b0), compare(a1, b1), tf.abs(a0 - b0), tf.abs(a1 - b1)
            crossing = _ratio(tf.where(first0, gap0, gap1), gap0 + gap1)
            return tf.where(tf.equal(first0, first1), tf.cast(first0, gap0.dtype), crossing)

        first = grads[0] * op.keep("share", share)
        parts = (lambda: first, lambda: grads[0] - first)
        return [
            _unbroadcast(part(), op.inputs[i], op) if i in op.slots else None for i, part in enumerate(parts)
        ]

    return rule


def _old_select(op, other, grads):
    """Select, whose condition may have one entry per row."""
    if op.op.inputs[0].shape.rank == op.op.inputs[1].shape.rank is not None:
        return _select(op, other, grads)
    return _linear_in(1, 2)(op, other, grads)


def _select(op, other, grads):
    """SelectV2: as Maximum where the condition depends on the path, linear where it does not."""
    (c0, a0, b0), (c1, a1, b1) = op.inputs, other.inputs
    if c0 is c1:
        return _linear(op, other, grads)

    def share():
        gap0, gap1 = tf.abs(a0 - b0), tf.abs(a1 - b1)
        shape = tf.shape(grads[0])
        return _share(
            tf.broadcast_to(c0, shape),
            tf.broadcast_to(c1, shape),
            tf.broadcast_to(gap0, shape),
            tf.broadcast_to(gap1, shape),
        )

    def shares():
        # A crossing makes this complete. Where the condition flips elsewhere (ELU by hand, whose
        # branches touch; a jump), the least change of both shares does.
        first, flips = share(), tf.not_equal(c0, c1)

        def change(z0, z1):
            return tf.where(flips, z1 - z0, tf.zeros([], z0.dtype))

        one, two = (change(*z) if i in op.slots else 0 for i, z in ((1, (a0, a1)), (2, (b0, b1))))
        missing = change(op.outputs[0], other.outputs[0]) - first * one - (1 - first) * two
        square = one**2 + two**2
        return first + _ratio(missing * one, square), 1 - first + _ratio(missing * two, square)

    first, second = op.keep("shares", shares)
    result = [None, _unbroadcast(grads[0] * first, a0, op), _unbroadcast(grads[0] * second, b0, op)]
    return [g if i in op.slots else None for i, g in enumerate(result)]


def _reduced_choice(op, other, grads):
    """The rule of the reductions Max and Min; see `_pool`."""
    z0, z1 = op.inputs[0], other.inputs[0]
    axes = op.inputs[1]
    spread = _spreader(op)

    def total(values):
        return tf.reduce_sum(values, axis=axes, keepdims=True)

    def parts():
        y0, y1 = spread(op.outputs[0]), spread(other.outputs[0])
        won0, won1 = (tf.cast(tf.equal(z, y), z0.dtype) for z, y in ((z0, y0), (z1, y1)))
        won0, won1 = _ratio(won0, total(won0)), _ratio(won1, total(won1))
        gap0 = tf.abs(y0 - total(tf.math.multiply_no_nan(z0, won1)))
        gap1 = tf.abs(y1 - total(tf.math.multiply_no_nan(z1, won0)))
        return won1 + _half_ratio(gap0, gap1) * (won0 - won1)

    return [spread(grads[0]) * op.keep("share", parts), None]


def _pool(op, other, grads):
    """Max pooling, any rank, strides and padding, windows that overlap.

    Let i win a window at the start and j at the end, with d0 = y0 - z0[j] and d1 = y1 - z1[i], both
    at least 0. Then share t = d0 / (d0 + d1) for i and 1 - t for j is complete:

        t (z1[i] - z0[i]) + (1 - t) (z1[j] - z0[j])
            = t (y1 - d1 - y0) + (1 - t) (y1 - y0 + d0) = y1 - y0 + (1 - t) d0 - t d1 = y1 - y0
    """
    cuts = op.cuts
    small = np.prod(op.get_attr("ksize")) <= 4  # in larger windows more than one place wins in a step
    if _tiles(op) and small and op.summed and cuts is not None and cuts.widths is not None:
        return [_Summed(_pool_lines(op, other, grads[0]))]
    windows = [end.keep("windows", lambda end=end: _Windows(end.op)) for end in (op, other)]

    def ends(name):
        return [end.whole(name, lambda _, w=w: getattr(w, name)) for end, w in zip((op, other), windows)]

    def share():
        (z0, z1), (y0, y1), (won0, won1) = map(ends, ("values", "best", "winners"))
        share = _half_ratio(y0 - tf.gather(z0, won1, batch_dims=1), y1 - tf.gather(z1, won0, batch_dims=1))
        return share, windows[0].places([won0, won1])

    share, places = op.keep("share", share)
    grad = tf.reshape(grads[0], [-1, windows[0].count])
    first = grad * share
    return [windows[0].scatter([first, grad - first], places)]


def _half_ratio(a, b):
    """a / (a + b) of what is negative by rounding at most; one half where both are 0."""
    a, b = _positive(a), _positive(b)
    return a / (a + b)


def _positive(tensor):
    # Far below any change that is more than rounding, and three times as fast as a condition.
    return tf.maximum(tensor, tf.constant(6e-8 if tensor.dtype == tf.float16 else 2e-38, tensor.dtype))


def _tiles(op):
    """Whether every input is in one window at most, and TensorFlow's own pooling is fast."""
    return (
        op.type == "MaxPool"
        and op.op.inputs[0].dtype == tf.float32
        and list(op.get_attr("ksize")) == list(op.get_attr("strides"))
        and op.get_attr("padding") in (b"VALID", b"SAME")
    )


def _window_sums(op, values, winners):
    """Sums over the windows of a pooling op; `winners` are 1 at one place of each."""
    size, padding = op.get_attr("ksize"), op.get_attr("padding").decode()
    layout = op.get_attr("data_format").decode()
    total = tf.nn.avg_pool2d(values, size, size, padding, layout)
    if padding == "SAME":  # a window at the border averages over fewer
        return total / tf.nn.avg_pool2d(winners, size, size, padding, layout)
    return total * float(np.prod(size))


def _pool_lines(op, other, grad):
    """The sum over the steps where what is pooled is linear along the path, as at the frontier.

    The maximum of lines is convex: places win one after the other, each once, and the output rises
    from step to step at the rates r, from that of the first winner to that of the last. When the
    winner changes in a step, its neighbours have the rates of both winners, and share
    t = (r[next] - r) / (r[next] - r[previous]) goes to the first. What that misses where it changes
    in neighbouring steps, e moves from the first winner i of all to the last one j: with d the change
    over all steps,

        e (d[j] - d[i]) = sum of g r - sum of total[k] d[k].
    """
    cuts = op.cuts

    def lines():
        first, last = cuts.outer(op.op.inputs[0])
        change, rows, made = last - first, tf.shape(first)[0], []
        # Pooled together: TensorFlow's gradient is quick where it finds the pooling itself.
        _copy(op.type, [tf.concat([first, last], 0)], op.op.node_def.attr, made, "ends")
        ends = _End(made[0])
        won = tf.split(ends.slopes(), 2)
        before, after = (_window_sums(op, w * change, w) for w in won)
        gain = other.outputs[0] - op.outputs[0]
        parts = _ratio(tf.reduce_sum(cuts.widths, axis=0), cuts.widths)
        rates = _split_rows(gain, cuts.steps) * tf.cast(_right_pad(parts, gain), gain.dtype)
        rates = tf.concat([before, tf.reshape(rates, tf.shape(gain)), after], 0)
        bends = _positive(rates[rows:] - rates[:-rows])
        share = bends[rows:] / (bends[rows:] + bends[:-rows])
        # Where the first and the last winner change alike, nothing but rounding is missing.
        turn = after - before
        bent = turn > 1e-5 * (tf.abs(before) + tf.abs(after))
        inverse = _ratio(tf.cast(bent, turn.dtype), turn)
        return rows, change, ends, won[0], before, after, inverse, rates[rows:-rows], share

    rows, change, ends, won, before, after, inverse, rates, share = op.keep("lines", lines)
    starts = grad * share
    stops = grad - starts
    start, stop = starts[:rows], stops[-rows:]
    inner = tf.concat([tf.zeros_like(start), starts[rows:] + stops[:-rows], tf.zeros_like(stop)], 0)
    total = _add_steps(op.pull(inner), cuts.steps + 1)
    missing = _add_steps(grad * rates, cuts.steps) - start * before - stop * after
    moved = (missing - _window_sums(op, total * change, won)) * inverse
    return total + _add_steps(ends.pull(tf.concat([start - moved, stop + moved], 0)), 2)


class _Windows:
    """The windows of a pooling op, in its padded input.

    Attributes:
      values: the padded input, `[rows, padded entries]`.
      best: the maxima of the windows, `[rows, count]`.
      winners: which of the entries is the first maximum of its window, `[rows, count]`. One is in any
        case: compiled code may compute the input twice and round it in two ways, and then none of them
        would equal the output.
    """

    def __init__(self, op):
        size, strides, padding = (op.get_attr(key) for key in ("ksize", "strides", "padding"))
        self.like, (inner, out) = op.inputs[0], map(_inner_sizes, (op.inputs[0], op.outputs[0]))
        self.inner, self.count = inner, math.prod(out)
        windows = list(zip(size[1:], strides[1:]))
        # How far the windows reach beyond the input, if they do.
        beyond = [
            _at_least_0((n - 1) * stride + k - whole) if k > 1 else 0
            for n, (k, stride), whole in zip(out, windows, inner)
        ]
        if padding == b"EXPLICIT":
            self.before = op.get_attr("explicit_paddings")[2::2]
            after = [_at_least_0(b - start) for b, start in zip(beyond, self.before)]
        else:  # the smaller half comes first
            self.before = [b // 2 if padding == b"SAME" else 0 for b in beyond]
            after = [b - start for b, start in zip(beyond, self.before)]
        self.padded = [sum(parts) for parts in zip(self.before, inner, after)]
        self.entries = math.prod(self.padded)
        best, pads = self.like, [(0, 0), *zip(self.before, after)]
        if any(not isinstance(n, int) or n for pad in pads for n in pad):
            best = tf.pad(best, pads, constant_values=best.dtype.min)
        self.values = tf.reshape(best, [-1, self.entries])
        # Axis by axis, as the maximum of maxima; what was found on later axes comes along.
        winners, weight = 0, 1
        for axis in reversed(range(len(out))):
            (k, stride), n = windows[axis], out[axis]
            order = np.arange(n, dtype=np.int32) if isinstance(n, int) else tf.range(n)
            places = np.arange(k, dtype=np.int32)[:, None] + stride * order
            steps = weight * places
            reshape = np.reshape if isinstance(steps, np.ndarray) else tf.reshape
            steps = reshape(steps, [k, -1] + [1] * (len(out) - 1 - axis))
            whole = isinstance(winners, tf.Tensor) and winners.shape.rank == best.shape.rank
            if k == stride == 1:
                winners = winners + steps[0]
            else:
                values = tf.unstack(tf.gather(best, places, axis=axis + 1), k, axis + 1)
                if whole:
                    found = tf.unstack(tf.gather(winners, places, axis=axis + 1) + steps, k, axis + 1)
                else:
                    found = [winners + steps[i] for i in range(k)]
                best, winners = values[0], found[0]
                for value, at in zip(values[1:], found[1:]):
                    better = value > best
                    best, winners = tf.where(better, value, best), tf.where(better, at, winners)
            weight *= self.padded[axis]
        self.best = tf.reshape(best, [-1, self.count])
        self.winners = tf.reshape(tf.broadcast_to(winners, tf.shape(best)), [-1, self.count])

    def places(self, winners):
        """For `scatter`: where the winners are among the entries of all rows, and how many these are."""
        at = tf.concat(winners, 1)
        total = tf.shape(at)[0] * self.entries
        return at + tf.reshape(tf.range(0, total, self.entries), [-1, 1]), total

    def scatter(self, grads, places):
        """The sum of adjoints `[rows, count]` of winners, as one of the input."""
        grad = tf.math.unsorted_segment_sum(tf.concat(grads, 1), *places)
        grad = tf.reshape(grad, [-1, *self.padded])
        if self.values.op.inputs[0] is not self.like:  # it was padded
            grad = tf.slice(grad, [0, *self.before], [-1, *self.inner])
        return _restore_shape(grad, [None, *self.like.shape[1:]])


def _inner_sizes(tensor):
    """The sizes of all axes but the first, as numbers where they are known."""
    known = tensor.shape.as_list()[1:]
    return [tf.shape(tensor)[i] if n is None else n for i, n in enumerate(known, 1)]


def _at_least_0(number):
    return max(number, 0) if isinstance(number, int) else tf.maximum(number, 0)


# Softmax


def _softmax(vjp):
    """Softmax and log-softmax over the last axis.

    The mean of the vector-Jacobian product over the segment of logits, by five Gauss-Legendre
    points, plus the smallest correction that makes it complete and keeps its sum over a row at 0.
    `vjp` gets the adjoint, the softmax p at the points, w p with their weights w, and its sum.
    """

    def rule(op, other, grads):
        z0, z1 = op.inputs[0], other.inputs[0]
        y0, y1 = op.outputs[0], other.outputs[0]
        g, dtype = grads[0], z0.dtype

        def midway():
            points, weights = (_column(v, z0) for v in quadrature(5, "gausslegendre"))
            z = (1 - points) * z0 + points * z1
            if z.shape.rank is None or z.shape.rank > 5:  # TensorFlow's kernel takes no more axes
                shape = tf.shape(z)
                p = tf.reshape(tf.nn.softmax(tf.reshape(z, [-1, shape[-1]])), shape)
            else:
                p = tf.nn.softmax(z)
            return p, weights * p, tf.reduce_sum(weights * p, axis=0)

        mean = vjp(g, *op.keep("midway", midway))

        def correction():
            seen = tf.math.is_finite(z0) & tf.math.is_finite(z1)  # masks of -inf take no part
            zero = tf.zeros([], dtype)
            change = tf.where(seen, z1 - z0, zero)
            some = tf.cast(seen, dtype)
            level = _ratio(_row_sum(change), _row_sum(some))
            centred = tf.where(seen, change - level, zero)
            gain = tf.where(seen, y1 - y0, zero)
            square = _row_sum(centred**2)
            size = tf.reduce_max(tf.where(seen, tf.maximum(tf.abs(z0), tf.abs(z1)), zero), -1, True)
            # Below 1/2 the five points are exact to rounding, which a correction would only blow up.
            tiny = square <= 0.25 + (_epsilon(dtype) * (1 + size)) ** 2
            return change, gain, tf.where(tiny, zero, centred / tf.where(tiny, tf.ones([], dtype), square))

        change, gain, direction = op.keep("correction", correction)
        missing = _row_sum(g * gain) - _row_sum(mean * change)
        return [mean + missing * direction]

    return rule


def _row_sum(tensor):
    return tf.reduce_sum(tensor, axis=-1, keepdims=True)


def _real(rule):
    """The rule of elementwise ops and products, for real numbers; complex ones take the general rule."""

    def either(op, other, grads):
        tensors = [*op.op.outputs[:1], *(op.op.inputs[i] for i in op.slots)]
        return (_pointwise if any(t.dtype.is_complex for t in tensors) else rule)(op, other, grads)

    return either


def _linear_in(*slots):
    """The rule of ops that are affine in these inputs together, where the others stay as they are."""

    def rule(op, other, grads):
        fixed = [pair for i, pair in enumerate(zip(op.inputs, other.inputs)) if i not in op.slots]
        still = all(a is b or a.op.type == b.op.type == "Const" for a, b in fixed)
        if still and set(op.slots) <= set(slots):
            return _own_gradient(op, grads)
        return _default_rule(op, other, grads)

    return rule


_SMOOTH = _types(
    """
    Softplus Softsign Sigmoid Tanh Erf Erfc Sin Cos Tan Exp Expm1 Log Log1p Sinh Cosh Asin Acos Atan
    Asinh Acosh Atanh Lgamma Digamma Erfinv Ndtri Dawsn Expint FresnelCos FresnelSin Spence BesselI0 BesselI0e
    BesselI1 BesselI1e BesselJ0 BesselJ1 BesselK0 BesselK0e BesselK1 BesselK1e BesselY0 BesselY1
    """
)
_POINTWISE = _types(
    "Angle Atan2 Betainc ClipByValue Igamma Igammac MulNoNan NextAfter Polygamma Xdivy Xlog1py Xlogy Zeta"
)
_EVERY = range(1000)
# Linear ops that are not among `AFFINE`, or read indices that may move: type -> slots of the inputs in
# which they are affine together.
_LINEAR = {
    **dict.fromkeys(
        _types(
            """
            BatchToSpace CheckNumerics CheckNumericsV2 Conj ConjugateTranspose CropAndResize Diag
            DiagPart DynamicPartition EnsureShape ExtractImagePatches ExtractVolumePatches FFT
            FFT2D FFT3D Gather GatherNd GatherV2 IFFT IFFT2D IFFT3D IRFFT IRFFT2D Imag
            ImageProjectiveTransformV2 ImageProjectiveTransformV3 MatrixBandPart MatrixDiag
            MatrixDiagPart MatrixDiagPartV2 MatrixDiagPartV3 MatrixDiagV2 MatrixDiagV3
            MirrorPadGrad RFFT RFFT2D Real ResizeBicubic Reverse ReverseSequence ScaleAndTranslate
            SegmentMean SegmentSum Snapshot SpaceToBatch SparseSegmentMean
            SparseSegmentMeanWithNumSegments SparseSegmentSqrtN SparseSegmentSqrtNWithNumSegments
            SparseSegmentSum SparseSegmentSumWithNumSegments UnsortedSegmentSum
            """
        ),
        (0,),
    ),
    **dict.fromkeys(("AvgPoolGrad", "AvgPool3DGrad", "Fill", "ScatterNd"), (1,)),
    **dict.fromkeys(("MatrixSetDiag", "MatrixSetDiagV2", "MatrixSetDiagV3", "BiasAddV1", "Complex"), (0, 1)),
    **dict.fromkeys(
        (
            "TensorScatterAdd",
            "TensorScatterSub",
            "TensorScatterUpdate",
            "ScatterNdNonAliasingAdd",
        ),
        (0, 2),
    ),
    **dict.fromkeys(("AccumulateNV2", "Concat", "DynamicStitch", "ParallelDynamicStitch"), _EVERY),
    "StridedSliceGrad": (4,),
    "TensorStridedSliceUpdate": (0, 4),
}
_BILINEAR = _types(
    """
    BatchMatMul BatchMatMulV2 BatchMatMulV3 Conv2DBackpropFilter Conv3DBackpropFilterV2 Cross
    DepthwiseConv2dNativeBackpropFilter Einsum SparseMatMul SparseTensorDenseMatMul TridiagonalMatMul
    """
)


def _loop_rule(op, other, grads):
    """Back through the rounds of a loop, with the rules of both ends in each."""
    loops = first, _ = op.op, other.op
    fixed = [i for i in op.slots if i not in first.moving]
    grads = dict(zip(first.moving, grads))
    # Nothing comes back from a list that nothing reads.
    carried = [i for i in first.carried if first.inputs[i].dtype != tf.variant or grads[i] is not None]
    ends = dict(zip(first.moving, first.outputs))
    adjoints = [tf.zeros_like(ends[i]) if grads[i] is None else grads[i] for i in carried]
    totals = [tf.zeros_like(op.inputs[i]) for i in fixed]

    def step(left, kept, adjoints, totals):
        runs, rest = [], []
        for loop, handles in zip(loops, kept):
            full, handles = loop.recall(handles, fixed)
            made = []
            outputs = _body(loop.body, full, loop.library, made, carried, reversible=True)
            runs.append((made, outputs, [full[i] for i in (*carried, *fixed)]))
            rest.append(handles)
        (made, outputs, targets), (after, _, _) = runs
        pairs = _pair(made, after, {}, 1 if op.axes == ONE_ROW else None)
        parts = _reverse(pairs, outputs, adjoints, targets, op.rules)
        before = [tf.add_n(p) if p else tf.zeros_like(t) for p, t in zip(parts, targets)]
        before = [_restore_shape(g, t.shape) for g, t in zip(before, targets)]
        totals = [tf.add_n([total, *p]) if p else total for total, p in zip(totals, parts[len(carried) :])]
        return left - 1, rest, before[: len(carried)], totals

    shapes = [first.shapes[i] for i in carried], [total.shape for total in totals]
    lists = [[tf.TensorShape([])] * len(loop.kept) for loop in loops]
    _, _, adjoints, totals = tf.while_loop(
        lambda left, *_: left > 0,
        step,
        (first.rounds[0], [loop.kept for loop in loops], adjoints, totals),
        shape_invariants=(tf.TensorShape([]), lists, *shapes),
        parallel_iterations=first.parallel,
    )
    found = {**dict(zip(carried, adjoints)), **dict(zip(fixed, totals))}
    return [found.get(i) for i in range(len(first.inputs))]


# op type -> rule(op, other, grads). What is not listed gets `_default_rule`.
SECANT_RULES = {
    **dict.fromkeys((t for t, slots in AFFINE.items() if slots not in ("all", "one")), _linear),
    **dict.fromkeys(("AddN", "Pack", "ConcatV2", "BiasAddGrad"), _linear),
    **{kind: _linear_in(*slots) for kind, slots in _LINEAR.items()},
    **dict.fromkeys(_SMOOTH, _real(_elementwise(_smooth_slope))),
    **dict.fromkeys(_POINTWISE, _pointwise),
    **dict.fromkeys(("Elu", "Selu"), _elementwise(_bent_slope)),
    "Relu": _elementwise(_relu_slope),
    "Relu6": _elementwise(_relu6_slope),
    "LeakyRelu": _elementwise(_leaky_relu_slope),
    "Abs": _elementwise(_abs_slope),
    "ComplexAbs": _complex_abs,
    "Sqrt": _real(_elementwise(_sqrt_slope)),
    "Rsqrt": _real(_elementwise(_rsqrt_slope)),
    "Square": _real(_elementwise(lambda op, other: op.inputs[0] + other.inputs[0])),
    **dict.fromkeys(
        ("Reciprocal", "Inv"),
        _real(_elementwise(lambda op, other: -op.outputs[0] * other.outputs[0])),
    ),
    "Pow": _real(_power),
    **dict.fromkeys(("Add", "AddV2"), _sum_rule(1, 1)),
    "Sub": _sum_rule(1, -1),
    "Mul": _real(_product),
    **dict.fromkeys(("RealDiv", "Div", "DivNoNan"), _real(_quotient)),
    "SquaredDifference": _middle,
    "L2Loss": _middle,
    "EuclideanNorm": _norm,
    "MatMul": _matmul,
    **dict.fromkeys(_BILINEAR, _middle),
    "Maximum": _choice(tf.greater_equal),
    "Minimum": _choice(tf.less_equal),
    "SelectV2": _select,
    "Select": _old_select,
    **dict.fromkeys(("Max", "Min"), _reduced_choice),
    **dict.fromkeys(("MaxPool", "MaxPool3D"), _pool),
    "Softmax": _softmax(lambda g, p, wp, mean: mean * g - tf.reduce_sum(wp * _row_sum(p * g), axis=0)),
    "LogSoftmax": _softmax(lambda g, p, wp, mean: g - mean * _row_sum(g)),
    "Conv2D": _convolution(tf.raw_ops.Conv2DBackpropInput, *_CONVOLUTION),
    "DepthwiseConv2dNative": _convolution(tf.raw_ops.DepthwiseConv2dNativeBackpropInput, *_CONVOLUTION),
    **dict.fromkeys(("Reshape", "Squeeze", "ExpandDims"), _reshape),
    **dict.fromkeys(("Identity", "IdentityN", "StopGradient"), _pass_on),
    "BiasAdd": lambda op, other, grads: [grads[0], None],
    "Loop": _loop_rule,
}


# ---------------------------------------------------------------------------------------------------
# Arithmetic on steps
# ---------------------------------------------------------------------------------------------------


def _column(values, tensor):
    """`values [S]` as `[S, 1, ...]`, to broadcast against `tensor [B, ...]`."""
    values = tf.constant(values, tensor.dtype)
    if tensor.shape.rank is not None:
        return tf.reshape(values, [-1] + [1] * tensor.shape.rank)
    return tf.reshape(values, tf.concat([[-1], tf.ones([tf.rank(tensor)], tf.int32)], 0))


def _broadcast(baseline, x):
    """A baseline in the shape of `x`."""
    return _restore_shape(tf.broadcast_to(baseline, tf.shape(x)), x.shape)


def _restore_shape(tensor, shape):
    tensor.set_shape(shape)
    return tensor


def _sum_steps(grad, stepsize, steps):
    """Sum over steps of `stepsize * grad`, `[S * B, ...]` -> `[B, ...]`, in float32 at least."""
    factors = _factors(stepsize, steps)
    if grad is None:
        total = tf.zeros_like(stepsize[: tf.shape(stepsize)[0] // steps])
    elif factors is None:
        total = _add_steps(_widen(grad) * _widen(stepsize), steps)
    else:
        # Half the work: the weights times the gradients, then once times the change.
        weights, change = factors
        grad = _widen(tf.convert_to_tensor(grad))
        weights = tf.reshape(tf.cast(weights, grad.dtype), [1, -1])
        total = tf.matmul(weights, tf.reshape(grad, [steps, -1]))
        total = tf.reshape(total, tf.shape(change)) * tf.cast(change, grad.dtype)
    total = tf.cast(total, stepsize.dtype)
    if stepsize.shape.rank is not None:
        rows, *features = stepsize.shape.as_list()
        total.set_shape([rows and rows // steps, *features])
    return total


def _factors(stepsize, steps):
    """Weights `[S, 1, ...]` and change `[B, ...]`, if `linear_interpolation` made `stepsize` of them."""
    product = stepsize.op.inputs[0].op if stepsize.op.type == "Reshape" else None
    if product is None or product.type != "Mul":
        return None
    weights, change = product.inputs
    known = change.shape.rank is not None and weights.shape.rank == change.shape.rank + 1
    return (weights, change) if known and weights.shape.num_elements() == steps else None


def _wide(dtype):
    """The type to accumulate in."""
    return tf.float32 if dtype.size < 4 else dtype


# ---------------------------------------------------------------------------------------------------
# Checks: what came in, what was expected, what to do
# ---------------------------------------------------------------------------------------------------


def _check_steps(function, num_steps, method="gausslegendre", methods=tuple(QUADRATURES)):
    if not isinstance(method, str) or method not in methods:
        raise ValueError(
            f"{function}: method is {method!r}, expected one of {', '.join(methods)}. When in "
            "doubt, leave it out."
        )
    if isinstance(num_steps, bool) or not isinstance(num_steps, numbers.Integral):
        raise TypeError(
            f"{function}: num_steps is {num_steps!r} of type {type(num_steps).__name__}, expected a "
            "positive Python int: the number of points is part of the graph. Pass a number such as 50."
        )
    least = 2 if method == "riemann_trapezoid" else 1
    if not least <= num_steps <= MAX_STEPS:
        raise ValueError(
            f"{function}: num_steps is {num_steps}, expected {least} to {MAX_STEPS:,} for "
            f"method={method!r}. Use 20 to 200 for most networks."
        )
    return int(num_steps)


def _check_tensor(function, argument, value):
    """Refuses what is not a tensor of a graph under construction."""
    kind = type(value).__name__
    if kind == "KerasTensor":
        raise TypeError(
            f"{function}: {argument} is a KerasTensor, a symbol of a Keras functional model and not "
            "a tensor of a graph. Call the model on a tensor inside a @tf.function and explain what "
            "it returns there."
        )
    if not tf.is_tensor(value) or not hasattr(value, "shape"):
        raise TypeError(
            f"{function}: {argument} is a {kind}, expected a tensor of the graph under construction. "
            "Pass the tensor that the network was called on, inside a @tf.function or a "
            "tf.compat.v1 graph."
        )
    composite = {"RaggedTensor": "flat_values", "SparseTensor": "values", "IndexedSlices": "values"}.get(kind)
    if composite is not None:
        raise TypeError(
            f"{function}: {argument} is a {kind}, expected a dense tensor. Explain its {composite}, which "
            f"are one (of the very {kind} that the network was called on), or call the network on a dense "
            "tensor made with tf.sparse.to_dense or RaggedTensor.to_tensor."
        )
    if isinstance(value, tf.Variable):
        raise TypeError(
            f"{function}: {argument} is a variable, expected a tensor of the graph under construction with "
            "one entry per row. Explain what the network makes of it, such as tf.gather(variable, ids); or "
            "take tensor = tf.identity(variable), and call the network on that."
        )
    if hasattr(value, "numpy"):
        raise TypeError(
            f"{function}: {argument} is eager (it holds a value already), expected a tensor of the graph "
            "under construction. Wrap the call in @tf.function and pass the data as its argument."
        )
    if tf.executing_eagerly():
        raise TypeError(
            f"{function}: {argument} is a graph tensor ({value.name!r}), but the call is made outside "
            "its graph. Make the call inside the same @tf.function or `with graph.as_default():`."
        )
    if not isinstance(value, tf.Tensor):
        raise TypeError(
            f"{function}: {argument} is a {kind}, expected a dense tensor. Convert it to one before the "
            "network is called."
        )
    graph = tf.compat.v1.get_default_graph()
    while graph is not None and graph is not value.graph:
        graph = getattr(graph, "outer_graph", None)
    if graph is None:
        raise ValueError(
            f"{function}: {argument} {value.name!r} belongs to another graph, expected a tensor of the "
            "graph under construction. Make the call where the network is called."
        )


def _flat_inputs(function, argument, structure, floating=True):
    """The tensors of a structure, checked: floating and with a batch dimension."""
    flat = tf.nest.flatten(structure)
    if not flat:
        raise ValueError(
            f"{function}: {argument} is {structure!r}, expected at least one tensor. Pass what the "
            "network was called on."
        )
    for value in flat:
        _check_tensor(function, argument, value)
        if floating and not value.dtype.is_floating:
            raise TypeError(
                f"{function}: {argument} {value.name!r} has dtype {value.dtype.name}, expected a "
                "floating dtype: ids and strings have no gradient. Attribute to the embedding's "
                "output instead, as in integrated_gradients(logits, embedded) with "
                "embedded = tf.gather(table, ids)."
            )
        if value.shape.rank == 0:
            raise ValueError(
                f"{function}: {argument} {value.name!r} is a scalar, expected [B, ...] with a batch "
                "dimension. Add one with tf.expand_dims(x, 0) before the network is called."
            )
    rows = {t.shape.as_list()[0] for t in flat if t.shape.rank is not None} - {None}
    if len(rows) > 1:
        raise ValueError(
            f"{function}: the tensors of {argument} have {sorted(rows)} rows, expected the same "
            "number. Rows of several inputs belong together one by one."
        )
    return flat


def _flat_outputs(function, ys, rows):
    """The tensors of `ys`, checked: of a graph and, if `rows`, with a batch dimension."""
    flat = tf.nest.flatten(ys)
    if not flat:
        raise ValueError(f"{function}: ys is {ys!r}, expected at least one tensor.")
    for y in flat:
        _check_tensor(function, "ys", y)
        if rows and y.shape.rank == 0:
            raise ValueError(
                f"{function}: ys {y.name!r} is a scalar, expected [B, ...] with one entry per row. "
                "Explain the network's output for every row, not a loss over the batch."
            )
        if rows and not y.dtype.is_floating:
            raise TypeError(
                f"{function}: ys {y.name!r} has dtype {y.dtype.name}, expected a floating dtype. "
                "Explain the scores and not what argmax or a threshold makes of them."
            )
    return flat


def _flat_grad_ys(function, plan, structure, grad_ys):
    """One tensor of weights, or None, per tensor of `ys`."""
    if grad_ys is None:
        return [None] * len(plan.ys)
    if tf.nest.is_nested(structure):
        _check_structure(function, "grad_ys", grad_ys, "ys", structure)
    flat = tf.nest.flatten(grad_ys) if tf.nest.is_nested(structure) else [grad_ys]
    result = []
    for y, weight in zip(plan.ys, flat):
        result.append(_weight(function, y, weight))
    return result


def _weight(function, y, weight):
    if isinstance(weight, tf.Tensor) and not hasattr(weight, "numpy"):
        _check_tensor(function, "grad_ys", weight)
    try:
        weight = tf.convert_to_tensor(weight, None if tf.is_tensor(weight) else y.dtype)
    except (ValueError, TypeError, RuntimeError) as error:
        raise TypeError(f"{function}: grad_ys is no {y.dtype.name} tensor: {error}") from None
    if not weight.dtype.is_floating:
        raise TypeError(
            f"{function}: grad_ys has dtype {weight.dtype.name}, expected {y.dtype.name} as ys. "
            "Convert it with tf.cast."
        )
    if not weight.shape.is_compatible_with(y.shape):
        raise ValueError(
            f"{function}: grad_ys has shape {weight.shape}, expected {y.shape} as ys "
            f"{y.name!r}: one weight per entry, such as tf.one_hot(classes, {y.shape[-1:]})."
        )
    return weight


def _check_structure(function, argument, structure, like_argument, like):
    try:
        tf.nest.assert_same_structure(like, structure, check_types=True)
    except (ValueError, TypeError):
        raise ValueError(
            f"{function}: {argument} has the structure {_describe(structure)}, expected that of "
            f"{like_argument}, {_describe(like)}. Give both the same lists, tuples and keys."
        ) from None


def _describe(structure):
    if isinstance(structure, dict):
        return "{" + ", ".join(f"{k!r}: {_describe(v)}" for k, v in structure.items()) + "}"
    if isinstance(structure, (list, tuple)):
        inner = ", ".join(_describe(v) for v in structure)
        return f"[{inner}]" if isinstance(structure, list) else f"({inner})"
    return type(structure).__name__


def _flat_baselines(function, xs, flat, baselines):
    """One tensor per input that broadcasts to it, of its dtype. `None` is a row of zeros."""
    if baselines is None or np.isscalar(baselines) or getattr(baselines, "shape", None) == ():
        values = [baselines] * len(flat)
    elif not tf.nest.is_nested(xs):
        values = [baselines]
    else:
        # Arrays given as nested lists would be taken for structure: compare down to xs only.
        try:
            values = [v for _, v in _pair_up(xs, baselines)]
        except (ValueError, TypeError, KeyError):
            raise ValueError(
                f"{function}: baseline has the structure {_describe(baselines)}, expected one scalar "
                f"for all or that of the inputs, {_describe(xs)}. Give every input its own baseline, "
                "None for zeros."
            ) from None
    return [_baseline(function, x, value) for x, value in zip(flat, values)]


def _pair_up(xs, values):
    """Pairs of leaves of `xs` and what stands in the same place in `values`, in nest order."""
    if not tf.nest.is_nested(xs):
        return [(xs, values)]
    if isinstance(xs, dict):
        if not isinstance(values, dict) or set(xs) != set(values):
            raise ValueError
        return [pair for key in sorted(xs) for pair in _pair_up(xs[key], values[key])]
    if not isinstance(values, (list, tuple)) or len(xs) != len(values):
        raise ValueError
    return [pair for x, value in zip(xs, values) for pair in _pair_up(x, value)]


def _baseline(function, x, value):
    if value is None:
        if x.shape.rank is None:
            return tf.zeros([], x.dtype)
        return tf.zeros(tf.concat([[1], tf.shape(x)[1:]], 0), x.dtype)
    if tf.is_tensor(value) and not isinstance(value, tf.Variable):
        if type(value).__name__ == "KerasTensor":
            _check_tensor(function, "baseline", value)
        if hasattr(value, "numpy") and not tf.compat.v1.get_default_graph().building_function:
            raise TypeError(
                f"{function}: baseline is eager (it holds a value already), expected an array or a "
                "tensor of the graph under construction. Pass baseline.numpy()."
            )
        if value.dtype != x.dtype:
            raise TypeError(
                f"{function}: baseline has dtype {value.dtype.name}, expected {x.dtype.name} as the "
                f"input {x.name!r}. Convert it with tf.cast."
            )
        if not hasattr(value, "numpy"):
            _check_tensor(function, "baseline", value)
    try:
        value = tf.convert_to_tensor(value, x.dtype)
    except (ValueError, TypeError, RuntimeError) as error:
        raise TypeError(
            f"{function}: baseline of type {type(value).__name__} is no {x.dtype.name} tensor, "
            f"expected a number, an array or a tensor that broadcasts to {x.shape}: {error}"
        ) from None
    fits = True
    if value.shape.rank is not None and x.shape.rank is not None:
        ours, theirs = value.shape.as_list(), x.shape.as_list()
        fits = len(ours) <= len(theirs) and all(
            a is None or a == 1 or b is None or a == b for a, b in zip(ours[::-1], theirs[::-1])
        )
    if not fits:
        raise ValueError(
            f"{function}: baseline has shape {value.shape}, expected one that broadcasts to "
            f"{x.shape}, the shape of {x.name!r}: a scalar, one row, or one row per row of it."
        )
    return value


def _check_recipe(inters, stepsizes, output, points):
    for inter, stepsize in zip(inters, stepsizes):
        if not inter.shape.is_compatible_with(stepsize.shape) or inter.dtype != stepsize.dtype:
            raise ValueError(
                f"build_ig: stepsize is {stepsize.dtype.name} {stepsize.shape}, expected "
                f"{inter.dtype.name} {inter.shape} as inter. Pass both as linear_interpolation "
                "returned them."
            )
        rows = inter.shape.as_list()[0] if inter.shape.rank else None
        # A reshape of the points [S, B, ...] made `inter`, so S is known where S * B is not.
        path = inter.op.inputs[0] if inter.op.type == "Reshape" else inter
        made = path is not inter and path.op.type == "AddV2" and path.shape.rank is not None
        steps = path.shape.as_list()[0] if made else points
        if (rows is not None and rows % points) or steps != points:
            raise ValueError(
                f"build_ig: inter {inter.name!r} has {steps or '?'} points and shape {inter.shape}, "
                f"expected a multiple of {points} rows for num_steps={points}. Give "
                "linear_interpolation and build_ig the same num_steps."
            )
    if not output.dtype.is_floating:
        raise TypeError(
            f"build_ig: output {output.name!r} has dtype {output.dtype.name}, expected a floating dtype. "
            "Explain the scores and not what argmax or a threshold makes of them."
        )
    if output.shape.rank == 0:
        raise ValueError(
            f"build_ig: output {output.name!r} is a scalar, expected [S * B, ...] with the rows of "
            "inter. Pass the network's output for every row, not a loss over the batch."
        )
    rows = inters[0].shape[:1]
    if output.shape.rank is not None and not output.shape[:1].is_compatible_with(rows):
        raise ValueError(
            f"build_ig: output {output.name!r} has shape {output.shape}, expected "
            f"{inters[0].shape[:1]} rows as inter. Pass what the network says of inter, not of x."
        )


def _unconnected(function, ys, xs, ys_argument, xs_argument):
    """The message for outputs without a gradient to the inputs."""
    names = f"{ys_argument} {[y.name for y in ys]} to {xs_argument} {[x.name for x in xs]}"
    ops = _ops_between(ys, xs)
    if not ops:
        return (
            f"{function}: no path leads from {names}, expected {ys_argument} to be computed from "
            f"{xs_argument}. Pass the very tensor that the network was called on."
        )
    ids = [op for op in ops if op.outputs and op.outputs[0].dtype.is_integer and op.type == "Cast"]
    flat = [op for op in ops if op.type in FLAT]
    hint = (
        f"Op {ids[0].name!r} turns it into integers: ids have no gradient. Attribute to the "
        "embedding's output instead, as in integrated_gradients(logits, embedded) with "
        "embedded = tf.gather(table, ids)."
        if ids
        else f"Op {flat[0].name!r} ({flat[0].type}) is flat: its slope is 0 wherever it has one. Explain "
        "what it reads."
        if flat
        else "Look for tf.stop_gradient, argmax, rounding or comparisons in between."
    )
    return (
        f"{function}: no gradient flows from {names} ({len(ops)} ops in between), expected "
        f"differentiable ops. {hint}"
    )
