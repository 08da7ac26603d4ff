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
import numbers
from collections.abc import Callable, Mapping, Sequence
from fractions import Fraction
from typing import Any, NamedTuple, TypeAlias

import numpy as np
import tensorflow as tf

# Private, as nothing public will do: ops made by tf.Graph.create_op are not on the tapes that watch, and
# tf.GradientTape would take what is computed from them for constants.
from tensorflow.python.eager import execute

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
    method: str = "gausslegendre",
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
      method: the `method` of `linear_interpolation`.
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
    num_steps = _check_steps("build_ig", num_steps, method)
    inters = _flat_inputs("build_ig", "inter", inter)
    _check_structure("build_ig", "stepsize", stepsize, "inter", inter)
    stepsizes = _flat_inputs("build_ig", "stepsize", stepsize)
    _check_tensor("build_ig", "output", output)
    points = len(quadrature(num_steps, method)[0])
    if not output.dtype.is_floating:
        raise TypeError(
            f"build_ig: output {output.name!r} has dtype {output.dtype.name}, expected a floating dtype. "
            "Explain the scores and not what argmax or a threshold makes of them."
        )
    _check_recipe(inters, stepsizes, output, num_steps, method, points)
    with tf.name_scope(name):
        if method == "secant":
            grads = _recipe_secant(output, inters, num_steps)
            stepsizes = [step[: tf.shape(step)[0] // points * num_steps] for step in stepsizes]
            points = num_steps
        else:
            prefix, frontier = _recipe_prefix(output, inters, stepsizes, points)
            grads = tf.gradients(output, frontier, stop_gradients=frontier)
        if all(grad is None for grad in grads):
            raise ValueError(_unconnected("build_ig", [output], inters, "output", "inter"))
        grads = [None if grad is None else tf.convert_to_tensor(grad) for grad in grads]
        if method != "secant" and prefix:
            result = _sum_before_prefix(grads, prefix, frontier, inters, stepsizes, points)
        else:
            result = [
                tf.zeros_like(step[: tf.shape(step)[0] // points])
                if grad is None
                else _sum_steps(grad, step, points)
                for grad, step in zip(grads, stepsizes)
            ]
    return tf.nest.pack_sequence_as(inter, result)


def _recipe_prefix(output, inters, stepsizes, points):
    """The affine ops at the beginning of the network, and the last tensors that they compute.

    No ops and `inters` where there are none, or where the gradient is not all that counts.
    """
    ops = _ops_between([output], inters)
    if any(_factors(step, points) is None for step in stepsizes) or any(map(_has_own_gradient, ops)):
        return [], inters
    varying = _varying(ops, inters)
    rows = inters[0].shape.as_list()[0]
    affine = {x.ref(): x for x in inters}
    for op in ops:
        axes = [0 if t.ref() in affine else None for t in op.inputs]
        if _is_affine(op, varying, affine) and _row_axis(op, axes, rows) == 0:
            if op.type != "Reshape" or not _merges(op):
                affine.update((t.ref(), t) for t in op.outputs)
    frontier = _first_met([output], affine, ops)
    prefix = _ops_between(frontier, inters)
    return (prefix, frontier) if prefix else ([], inters)


def _has_own_gradient(op):
    """Whether `tf.custom_gradient` or `gradient_override_map` gave `op` a gradient."""
    try:
        return bool(op.get_attr("_gradient_op_type"))
    except ValueError:
        return False


def _sum_before_prefix(grads, prefix, frontier, inters, stepsizes, points):
    """Sums the gradients over the steps at the frontier, and pulls the sum back on the rows of `x`."""
    factors = [_factors(step, points) for step in stepsizes]
    rows = inters[0].shape.as_list()[0]
    batch = tf.shape(factors[0][1])[0] if rows is None else rows // points
    starts = [x[:batch] for x in inters]
    values = {x.ref(): start for x, start in zip(inters, starts)}
    _replay(prefix, values, frontier, Fraction(1, points) if rows else 1)
    ends, seeds = [], []
    for grad, tensor in zip(grads, frontier):
        if grad is not None:
            ends.append(values[tensor.ref()])
            total = _weighted_sum(grad, factors[0][0], points)
            seeds.append(tf.cast(tf.reshape(total, tf.shape(ends[-1])), grad.dtype))
    result = []
    for grad, (_, change), x in zip(tf.gradients(ends, starts, grad_ys=seeds), factors, inters):
        total = tf.zeros_like(change)
        if grad is not None:
            total = tf.cast(_widen(tf.convert_to_tensor(grad)) * _widen(change), x.dtype)
        result.append(_restore_shape(total, [rows and rows // points] + x.shape.as_list()[1:]))
    return result


def _recipe_secant(output, inters, steps):
    """Adjoints of the intervals between the points of the recipe, `[S * B, ...]` or None."""
    inside = _ops_between([output], inters)
    known = {t.ref() for op in inside for t in op.outputs} | {x.ref() for x in inters}
    rows = inters[0].shape.as_list()[0] if inters[0].shape.rank else None
    # Tensors of as many rows beside the path, such as targets that the user tiled.
    beside = {t.ref(): t for op in inside for t in op.inputs if t.ref() not in known and _leads(t, rows)}
    plan = _Plan("build_ig", output, inters, per_row=list(beside.values()))
    if plan.stacked:
        cuts = _Cuts(plan.ops, plan.xs + plan.roots, steps)
        ends = [(op, *cuts.ends(op)) for op in plan.ops]
        seed = cuts.cut(tf.ones_like(output), 0)
        parts = _reverse(ends, plan.ys, [seed], inters, SECANT_RULES)
        return [tf.add_n(p) if p else None for p in parts]
    # Rows leave axis 0 on the way, or are part of the graph: the network once more, on the starts and
    # on the ends. An empty interval at the end makes them as many as the points were.
    runs = []
    for side in (0, 1):
        values = {x.ref(): _next_points(x, steps) if side else tf.identity(x) for x in plan.xs}
        sources = [values[x.ref()] for x in plan.xs]
        made = _replay(plan.ops, values, plan.ys)
        runs.append((made, sources, values[plan.ys[0].ref()]))
    (made, xs, y), (after, _, _) = runs
    parts = _reverse(_pair(made, after), [y], [tf.ones_like(y)], xs, SECANT_RULES)
    return [tf.add_n(p)[: tf.shape(p[0])[0] // (steps + 1) * steps] if p else None for p in parts]


def _next_points(inter, steps):
    """Point `s + 1` in the place of point `s`; the last one stays."""
    rows = tf.shape(inter)[0] // (steps + 1)
    return _restore_shape(tf.concat([inter[rows:], inter[steps * rows :]], 0), inter.shape)


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
        number of steps; its points are close where units switch and, from 10 steps on, where a
        softmax moves. `"auto"` takes it for networks with kinks (ReLU and its family, max pooling,
        maximum, absolute value) and `"gausslegendre"` for smooth ones; if these have a softmax and 10
        steps or more, in five panels, which are narrow where probabilities and attention move.
      grad_ys: weights of the entries of `ys`, of its shape and structure. They are evaluated at `xs`
        and held fixed along the path. One-hot rows choose a class per row.
      per_row: tensors beside `xs` with one entry per row (targets to gather, masks), which are
        repeated for every step. `None` detects placeholders and function arguments that lead with
        the batch dimension of `xs`; a list replaces the detection, `[]` means none.
      max_rows: the most rows to run through the network at once (at least `B`; `2 * B` for
        `"secant"`). `None` adapts to the size of a row.
      name: name scope of the nodes.

    Returns:
      The attributions, in the shape and structure of `xs`. Summed over the features of a row they
      equal F(x) - F(baseline): exactly for `"secant"`, in the limit of many steps for the others
      (see `convergence_delta`). Loops, branches and rarer ops that no secant rule covers count with
      their mean gradient, and `tf.stop_gradient` (as in `tf.reduce_logsumexp`) hides what it stops:
      there, `"secant"` too is complete only in the limit. Members of `xs` that `ys` does not depend
      on get zeros.

    Raises:
      TypeError: a tensor is eager, a KerasTensor or not floating, or `num_steps` is no int.
      ValueError: no differentiable path from `xs` to `ys`; rows are mixed or random in between
        (training mode); arguments that do not fit together.

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
      layer: hidden tensor `[B, ...]` computed from `xs`, or a list, tuple or dict of such.
      xs, baselines, num_steps, method, grad_ys, per_row, max_rows: as for `integrated_gradients`.
      name: name scope of the nodes.

    Returns:
      The conductances, in the shape and structure of `layer`. They sum to F(x) - F(baseline) when
      every path from `xs` to `ys` passes through `layer`: exactly for `"secant"`, in the limit of
      many steps for the others.

    Raises:
      TypeError, ValueError: as `integrated_gradients`, also if `layer` does not depend on `xs`.

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
        for y, y0, weight in zip(plan.ys, plan.replay(starts), weights):
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
            if plan.roots:
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
                    f"part of the graph (at {plan.obstacle}). Replace with {plan.rows} rows, or build "
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
    """

    def __init__(self, function, ys, xs, per_row, through=(), explain=True):
        self.function = function
        self.xs = _flat_inputs(function, "xs", xs, floating=explain)
        self.ys = _flat_outputs(function, ys, explain)
        self.layers = list(through)
        self.rows = next((t.shape.as_list()[0] for t in self.xs if t.shape.rank), None)
        self._inline_calls()
        self._find_roots(per_row)
        self.ops = _ops_between(self.ys + self.layers, self.xs + self.roots)
        self._refuse_frames()
        self.varying = _varying(self.ops, self.xs)
        self._follow_rows(strict=explain)
        if explain:
            self._check_connected()
            self._check_rows()
        self._split()

    # What is there

    def _inline_calls(self):
        """Rebuilds the path once at `xs` where function calls hide its ops."""
        ops = _ops_between(self.ys + self.layers, self.xs)
        if not any(op.type in CALLS for op in ops):
            return
        values = {x.ref(): x for x in self.xs}
        _replay(ops, values, self.ys + self.layers)
        self.ys = [values.get(y.ref(), y) for y in self.ys]
        self.layers = [values.get(t.ref(), t) for t in self.layers]

    def _find_roots(self, per_row):
        ops = _ops_between(self.ys + self.layers, self.xs)
        inside = {x.ref() for x in self.xs} | {out.ref() for op in ops for out in op.outputs}
        edge = [t for op in ops for t in op.inputs if t.ref() not in inside]
        found, random = _roots_above(edge, self.xs, self.rows)
        random = [op for op in ops if _is_random(op)] + random
        if random:
            raise ValueError(
                f"{self.function}: the network is random between xs and ys, at op "
                f"{random[0].name!r} ({random[0].type}), expected the same output for the same row: "
                "dropout or noise left on. Call the model with training=False."
            )
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
        smooth = {x.ref() for x in self.xs}
        for op in self.ops:
            if op.type not in BARRIERS and any(t.ref() in smooth for t in op.inputs):
                smooth.update(t.ref() for t in op.outputs if _carries_gradient(t))
        if any(y.ref() in smooth for y in self.ys):
            return
        raise ValueError(_unconnected(self.function, self.ys, self.xs, "ys", "xs"))

    def _check_rows(self):
        for y in self.ys:
            if y.shape.rank and not y.shape[:1].is_compatible_with(tf.TensorShape([self.rows])):
                raise ValueError(
                    f"{self.function}: ys {y.name!r} has shape {y.shape}, expected [B, ...] with the "
                    f"{self.rows} rows of xs. Explain an output with one entry per row."
                )

    def _follow_rows(self, strict):
        """Follows the axis that carries the rows; refuses ops that mix them."""
        unranked = [t for t in self.xs + self.roots if t.shape.rank is None]
        self.obstacle = f"{unranked[0].name!r}, of unknown rank" if unranked else None
        self.axis = axis = {t.ref(): 0 for t in self.xs + self.roots}
        self.row_led = set(axis)  # axis 0 is the batch, not merged with others
        for op in self.ops:
            inputs = [axis.get(t.ref()) for t in op.inputs]
            if op.type in SHAPES or not any(t.ref() in axis for t in op.inputs):
                # Depends on shapes only.
                if op.type in ("Fill", "Range", "BroadcastTo", "Tile"):
                    self._obstruct(op)
                continue
            if strict and _mixes_rows(op, inputs, self.rows) and op.outputs[0].ref() in self.varying:
                raise ValueError(
                    f"{self.function}: op {op.name!r} ({op.type}) between xs and ys mixes the rows "
                    "of the batch, expected rows that do not depend on one another: batch "
                    "normalization in training mode, or a reduction over the batch. Call the model "
                    "with training=False and explain an output with one entry per row."
                )
            if op.type == "IdentityN":
                for t, out, a in zip(op.inputs, op.outputs, inputs):
                    if a is not None:
                        axis[out.ref()] = a
                        self.row_led.update({out.ref()} if t.ref() in self.row_led else ())
                continue
            if op.type == "MatMul" and inputs[1] == 0 and op.inputs[1].ref() not in self.varying:
                raise ValueError(
                    f"{self.function}: {op.inputs[1].name!r} of shape {op.inputs[1].shape} was taken for "
                    f"a tensor with one entry per row, but op {op.name!r} multiplies every row by it. "
                    "Say which tensors have one entry per row: per_row=[...], [] for none."
                )
            out = UNKNOWN if UNKNOWN in inputs else _row_axis(op, inputs, self.rows)
            out = UNKNOWN if out is None or any(t.shape.rank is None for t in op.outputs) else out
            if out != 0:
                self._obstruct(op)
            axis.update((t.ref(), out) for t in op.outputs)
            led = all(t.ref() in self.row_led for t in op.inputs if t.ref() in axis)
            if out == 0 and led and not (op.type == "Reshape" and _merges(op)):
                self.row_led.update(t.ref() for t in op.outputs)
        self.stacked = self.obstacle is None

    def _obstruct(self, op):
        self.obstacle = self.obstacle or f"op {op.name!r}, {op.type}"

    @property
    def stackable(self):
        """Whether the path can be replayed on several times `B` rows."""
        return self.rows is None or self.stacked

    def _split(self):
        """Finds the frontier: interpolation commutes with affine maps."""
        affine = {x.ref(): x for x in self.xs}
        keep = {t.ref() for t in self.layers}
        for op in self.ops:
            if _is_affine(op, self.varying, {r for r in affine if r not in keep}):
                affine.update((t.ref(), t) for t in op.outputs if t.ref() in self.row_led)
        self.frontier = _first_met(self.ys + self.layers, affine, self.ops)
        self.prefix = _ops_between(self.frontier, self.xs + self.roots)
        self.rest = _ops_between(self.ys + self.layers, self.frontier + self.roots)

    # What to do with it

    @property
    def kinked(self):
        """Whether a gradient along the path jumps (so that `auto` means `secant`)."""
        return any(_is_kink(op, self.varying) for op in self.rest)

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
        _replay(self.ops, values, self.ys, copies if self.rows is not None else 1, axis)
        return [values.get(y.ref(), y) for y in self.ys]

    def values(self, sources, new, copies=1):
        values = {old.ref(): tensor for old, tensor in zip(sources, new)}
        for root in self.roots:
            if not (isinstance(copies, int) and copies == 1):
                multiples = tf.concat([[copies], tf.ones([tf.rank(root) - 1], tf.int32)], 0)
                values[root.ref()] = tf.tile(root, multiples)
                if isinstance(copies, int) and self.rows is not None:
                    shape = [copies * self.rows] + root.shape.as_list()[1:]
                    values[root.ref()].set_shape(shape)
        return values


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
    """Placeholders above `tensors` that lead with the batch dimension, and random ops."""
    captures = _captures(tf.compat.v1.get_default_graph())
    roots, random = {}, []
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
            if _is_random(op):
                random.append(op)
            stack.extend(op.inputs)
    return list(roots.values()), random


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
    return op.type in RANDOM_OPS or op.type.startswith(("Random", "StatelessRandom", "StatefulStand"))


def _varying(ops, xs):
    """Tensors whose values, not only their shapes, depend on `xs`."""
    varying = {x.ref() for x in xs}
    for op in ops:
        if op.type not in SHAPES and op.type not in LIKES:
            if any(t.ref() in varying for t in op.inputs):
                varying.update(t.ref() for t in op.outputs)
    return varying


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
ROOTS = {
    "Placeholder",
    "PlaceholderWithDefault",
    "IteratorGetNext",
    "IteratorGetNextSync",
    "QueueDequeueManyV2",
    "QueueDequeueUpToV2",
}
RANDOM_OPS = {"Multinomial", "ParameterizedTruncatedNormal", "TruncatedNormal"} | {
    "StatefulUniform",
    "StatefulTruncatedNormal",
    "StatelessTruncatedNormalV2",
    "StatelessTruncatedNormal",
    "StatelessMultinomial",
}
UNARY = _types(
    """
    Abs Acos Acosh Asin Asinh Atan Atanh Cast Ceil CheckNumerics Cos Cosh Digamma Elu Erf Erfc
    Erfinv Exp Expm1 Floor Identity Inv IsFinite IsInf IsNan LeakyRelu Lgamma Log Log1p LogicalNot
    Ndtri Neg OnesLike PreventGradient Reciprocal Relu Relu6 Rint Round Rsqrt Selu Sigmoid Sign Sin
    Sinh Snapshot Softplus Softsign Sqrt Square StopGradient Tan Tanh ZerosLike
    """
)
BROADCASTING = _types(
    """
    Add AddN AddV2 Atan2 Div DivNoNan Equal FloorDiv FloorMod Greater GreaterEqual Less LessEqual
    LogicalAnd LogicalOr Maximum Minimum Mul MulNoNan NotEqual Pow RealDiv SelectV2
    SquaredDifference Sub Xdivy Xlog1py Xlogy
    """
)
REDUCTIONS = {"All", "Any", "EuclideanNorm", "Max", "Mean", "Min", "Prod", "Sum"}
# Rows stay on axis 0 of input 0; the other inputs are shared by all rows.
ROW_WISE = _types(
    """
    AvgPool AvgPool3D BiasAdd Conv2D Conv3D DepthToSpace DepthwiseConv2dNative FusedBatchNorm
    FusedBatchNormV2 FusedBatchNormV3 LRN MaxPool MaxPool3D ResizeBicubic ResizeBilinear
    ResizeNearestNeighbor SpaceToDepth
    """
)


def _row_axis(op, inputs, rows):
    """The axis of `op.outputs` that carries the rows; None where that cannot be told.

    `inputs` has that axis for the inputs, None for those that all rows share.
    """
    kind, known = op.type, [a for a in inputs if a is not None]
    ranks = [t.shape.rank for t in op.inputs]
    rank = op.outputs[0].shape.rank if op.outputs else None
    if not known:
        return None
    if kind in UNARY:
        return inputs[0]
    if kind in BROADCASTING:
        if rank is None:
            return None
        found = set()
        for tensor, axis, r in zip(op.inputs, inputs, ranks):
            if axis is not None and r is not None:
                found.add(axis + rank - r)
            elif r is None or (
                # What every row shares must not lead with the batch.
                r == rank and tensor.shape.as_list()[0] != 1
            ):
                return None
        return found.pop() if len(found) == 1 else None
    first = inputs[0] if inputs else None
    alone = first is not None and len(known) == 1
    if kind in ROW_WISE:
        return 0 if alone and first == 0 else None
    if kind in ("Softmax", "LogSoftmax"):
        return first if rank is not None and rank > 1 and first != rank - 1 else None
    if kind == "MatMul":
        return 0 if alone and first == 0 and not op.get_attr("transpose_a") else None
    if kind in ("BatchMatMul", "BatchMatMulV2", "BatchMatMulV3"):
        batched = all(a == 0 and r == rank for a, r in zip(inputs, ranks) if a is not None)
        shared = all(r == 2 for a, r in zip(inputs, ranks) if a is None)
        return 0 if rank is not None and rank > 2 and batched and shared else None
    if kind == "Einsum":
        return _einsum_axis(op, inputs)
    if kind == "Transpose":
        order = tf.get_static_value(op.inputs[1])
        return None if order is None or not alone else list(order).index(first)
    if kind == "Reshape":
        return _reshape_axis(op, rows) if first == 0 else None
    if kind == "ExpandDims":
        at = tf.get_static_value(op.inputs[1])
        at = None if at is None or rank is None else int(at) % rank
        return None if at is None or first is None else first + (at <= first)
    if kind == "Squeeze":
        dims = [d % ranks[0] for d in op.get_attr("squeeze_dims")] if ranks[0] is not None else []
        gone = sum(d < first for d in dims)
        return None if not dims or first is None or first in dims else first - gone
    if kind in REDUCTIONS:
        axes = _axes(op)
        if axes is None or first is None or first in axes:
            return None
        return first if op.get_attr("keep_dims") else first - sum(a < first for a in axes)
    if kind in ("Pad", "PadV2", "MirrorPad"):
        pads = tf.get_static_value(op.inputs[1])
        return first if pads is not None and first == 0 and not np.any(pads[0]) else None
    if kind == "ConcatV2":
        at = tf.get_static_value(op.inputs[-1])
        same = all(a == 0 for a in inputs[:-1])
        return 0 if same and at is not None and rank and int(at) % rank != 0 else None
    if kind == "Pack":
        at = op.get_attr("axis") % rank if rank else 0
        return 0 if at and all(a == 0 for a in inputs) else None
    if kind == "Unpack":
        at = op.get_attr("axis") % ranks[0] if ranks[0] else 0
        return 0 if at and first == 0 else None
    if kind == "Split":
        at = tf.get_static_value(op.inputs[0])
        ok = at is not None and inputs[1] == 0 and ranks[1] and int(at) % ranks[1]
        return 0 if ok else None
    if kind == "SplitV":
        at = tf.get_static_value(op.inputs[2])
        return 0 if at is not None and first == 0 and ranks[0] and int(at) % ranks[0] else None
    if kind == "StridedSlice":
        return 0 if first == 0 and _keeps_axis_0(op) else None
    if kind == "GatherV2":
        at = tf.get_static_value(op.inputs[2])
        ok = alone and first == 0 and at is not None and ranks[0] and int(at) % ranks[0]
        return 0 if ok and op.get_attr("batch_dims") == 0 else None
    if kind == "Tile":
        multiples = tf.get_static_value(op.inputs[1])
        return 0 if first == 0 and multiples is not None and multiples[0] == 1 else None
    if kind == "OneHot":
        return 0 if alone and first == 0 and op.get_attr("axis") in (-1, rank and rank - 1) else None
    if kind == "Cumsum":
        at = tf.get_static_value(op.inputs[1])
        return 0 if first == 0 and at is not None and ranks[0] and int(at) % ranks[0] else None
    return None


def _einsum_axis(op, inputs):
    left, _, right = op.get_attr("equation").decode().partition("->")
    if "." in left or not right:
        return None
    labels = {part[axis] for part, axis in zip(left.split(","), inputs) if axis is not None}
    if len(labels) != 1:
        return None
    label = labels.pop()
    lone = all(label not in p for p, a in zip(left.split(","), inputs) if a is None)
    return right.index(label) if lone and label in right else None


def _reshape_axis(op, rows):
    """A reshape keeps row-major order, so steps stay contiguous if axis 0 can be divided."""
    before, after = op.inputs[0].shape, op.outputs[0].shape
    if not before.rank or not after.rank:
        return None
    if after[1:].num_elements() is None:
        after = after.merge_with(_partial_shape(op.inputs[1], after.rank))
    inner, outer = before[1:].num_elements(), after[1:].num_elements()
    if not inner or not outer or (inner % outer and outer % inner):
        return None
    if rows is None:
        return 0 if after.as_list()[0] is None else None
    return 0 if after.as_list()[0] is not None and after.as_list()[0] % max(rows, 1) == 0 else None


def _partial_shape(tensor, rank):
    """What the graph says of a shape that it computes, as tf.tensordot does."""
    dims = _dims(tensor)
    known = dims is not None and len(dims) == rank
    return tf.TensorShape([None if d is None or d < 0 else d for d in dims] if known else [None] * rank)


def _dims(tensor):
    """The entries of an integer tensor, None for each that is not known; None if nothing is."""
    value, op = tf.get_static_value(tensor), tensor.op
    if value is not None:
        return [int(v) for v in np.ravel(value)]
    if op.type == "Shape":
        return op.inputs[0].shape.as_list() if op.inputs[0].shape.rank is not None else None
    parts = [_dims(t) for t in op.inputs] if op.type in ("Cast", "Identity", "Pack", "ConcatV2") else []
    if op.type in ("Cast", "Identity"):
        return parts[0]
    if op.type == "Pack":
        return [part[0] if part and len(part) == 1 else None for part in parts]
    if op.type == "ConcatV2":
        return None if None in parts else sum(parts[:-1], [])
    if op.type in ("GatherV2", "Prod"):
        dims, at = _dims(op.inputs[0]), tf.get_static_value(op.inputs[1])
        if dims is None or at is None:
            return None
        if op.type == "GatherV2":
            return [dims[i] for i in np.ravel(at)]
        return [None if None in dims else int(np.prod(dims))]
    return None


def _merges(op):
    """Whether a reshape changes, or may change, what one entry of axis 0 holds."""
    before, after = (t.shape[1:].num_elements() for t in (op.inputs[0], op.outputs[0]))
    return before is None or before != after


def _axes(op):
    rank, axes = op.inputs[0].shape.rank, tf.get_static_value(op.inputs[1])
    return None if rank is None or axes is None else {int(a) % rank for a in np.ravel(axes)}


def _keeps_axis_0(op):
    bits = {m: op.get_attr(m) for m in ("begin_mask", "end_mask", "new_axis_mask")}
    shrink, ellipsis = op.get_attr("shrink_axis_mask"), op.get_attr("ellipsis_mask")
    strides = tf.get_static_value(op.inputs[3])
    if ellipsis & 1:
        rank, out = op.inputs[0].shape.rank, strides is not None and len(strides) - 1
        return bool(rank and strides is not None and out < rank and not bits["new_axis_mask"])
    whole = bits["begin_mask"] & 1 and bits["end_mask"] & 1 and not shrink & 1
    return bool(whole and not bits["new_axis_mask"] & 1 and strides is not None and strides[0] == 1)


def _mixes_rows(op, inputs, rows):
    """Reductions over the rows, and batch norm that takes its statistics from them."""
    if op.type in ("FusedBatchNorm", "FusedBatchNormV2", "FusedBatchNormV3"):
        # With a channel per row it is the layer normalization of Keras 2.
        channel = 1 if op.get_attr("data_format").startswith(b"NC") else op.inputs[0].shape.rank - 1
        return op.get_attr("is_training") and inputs[0] not in (None, UNKNOWN, channel)
    if op.type not in REDUCTIONS or inputs[0] in (None, UNKNOWN):
        return False
    if not op.inputs[0].dtype.is_floating:
        return False
    axes = _axes(op)
    whole = rows is None or op.inputs[0].shape.as_list()[inputs[0]] == rows
    return axes is not None and inputs[0] in axes and whole


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


KINKS = {"Relu", "Relu6", "LeakyRelu", "Selu", "Abs", "MaxPool", "MaxPool3D", "MaxPoolV2", "Max", "Min"}


def _is_kink(op, varying):
    if not op.outputs or not op.outputs[0].dtype.is_floating:
        return False
    slots = _slots_vary(op, varying)
    if op.type in ("Maximum", "Minimum"):
        return bool(slots) and not (len(slots) == 1 and _is_guard(op, slots[0]))
    return (op.type in KINKS or op.type == "SelectV2") and 0 in slots


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
# Replay: the same ops on other values
# ---------------------------------------------------------------------------------------------------


def _replay(ops, values, keep, copies=1, axis=None):
    """Copies `ops` into the current graph, reading from `values` where it can.

    Args:
      ops: from `_ops_between`.
      values: original tensor's `ref()` -> the tensor to read instead; extended with the outputs.
      keep: tensors whose new values are wanted.
      copies: factor of the rows (a fraction where they become fewer), for shapes that hold them.
      axis: original tensor's `ref()` -> the axis that carries its rows, where it is known. With it the
        new tensors have the static shapes of the original ones, which inference alone loses: what is
        captured by the body of a loop is no constant there.

    Returns:
      The new ops, dependencies first.
    """
    made = []
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
        else:
            if op.type == "Reshape" and copies != 1:
                inputs[1] = _scale_shape(op, inputs[1], copies)
            outputs = _emit(op.type, inputs, op.node_def.attr, made, op.name, library)
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
        shape[axis] = shape[axis] and int(shape[axis] * copies)
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


def _emit(kind, inputs, attrs, made, name, library):
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
                return _body(called[0], inputs, library, made)
            build = _loop if kind in LOOPS else _branch
            with tf.name_scope(_last(name)):
                outputs = build(*called, inputs, attrs, library)
            made.extend(_ops_between(outputs, inputs))
            return outputs
    return _copy(kind, inputs, attrs, made, name)


LOOPS = {"While", "StatelessWhile"}
BRANCHES = {"If", "StatelessIf"}


def _is_concrete(fdef):
    return fdef is not None and not any(a.placeholder for node in fdef.node_def for a in node.attr.values())


def _loop(cond, body, inputs, attrs, library):
    # What the body passes on unchanged is no variable of the loop.
    given = [arg.name for arg in body.signature.input_arg]
    fixed = [body.ret[arg.name] == name for arg, name in zip(body.signature.output_arg, given)]
    shapes = [tf.TensorShape(shape) for shape in attrs["output_shapes"].list.shape]
    moving = [i for i, still in enumerate(fixed) if not still]

    def arguments(variables):
        full = list(inputs)
        for i, value in zip(moving, variables):
            full[i] = value
        return full

    def step(*variables):
        outputs = _body(body, arguments(variables), library, [])
        return [outputs[i] for i in moving]

    results = tf.while_loop(
        lambda *variables: _body(cond, arguments(variables), library, [])[0],
        step,
        [inputs[i] for i in moving],
        shape_invariants=[_invariant(inputs[i], shapes[i : i + 1]) for i in moving],
        parallel_iterations=max(1, attrs["parallel_iterations"].i),
    )
    return arguments(results)


def _invariant(tensor, shape):
    return tensor.shape if not shape or tensor.dtype == tf.variant else shape[0]


def _branch(then, otherwise, inputs, attrs, library):
    condition, *arguments = inputs
    return tf.nest.flatten(
        tf.cond(
            tf.cast(condition, tf.bool),
            lambda: _body(then, arguments, library, []),
            lambda: _body(otherwise, arguments, library, []),
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


def _body(fdef, inputs, library, made):
    """The body of a called function, in the place of the call."""
    nodes = {node.name: node for node in fdef.node_def}
    values = {arg.name: ([t], {}) for arg, t in zip(fdef.signature.input_arg, inputs)}

    def read(reference):  # "node:output:index" or the name of an argument
        name, *rest = reference.split(":")
        outputs, offsets = values[name]
        return outputs[offsets.get(rest[0], 0) + int(rest[1])] if rest else outputs[0]

    stack = [(fdef.ret[arg.name].split(":")[0], False) for arg in fdef.signature.output_arg][::-1]
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
        outputs = _emit(node.op, [read(i) for i in needed], node.attr, made, name, library)
        one_list = node.op in CALLS | LOOPS | BRANCHES | {"IdentityN"}
        values[name] = outputs, {} if one_list else _offsets(outputs[0].op.op_def, node)
    return [read(fdef.ret[arg.name]) for arg in fdef.signature.output_arg]


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


class _Walk:
    """The path of a plan from its baselines to `xs`, in blocks of steps."""

    def __init__(self, plan, structure, baselines, num_steps, method, max_rows, outputs=1):
        function, graded = plan.function, method == "auto"
        if graded:
            method = "secant" if plan.kinked else "gausslegendre"
        self.plan, self.steps = plan, _check_steps(function, num_steps, method)
        self.secant = method == "secant"
        # Nodes that follow the network, where `auto` leaves the choice to us.
        self.graded = graded and method == "gausslegendre" and self.steps >= LEAST_GRADED
        self.rule = None if self.secant else quadrature(self.steps, method)
        self.starts = _flat_baselines(function, structure, plan.xs, baselines)
        self.strict = max_rows is not None
        self.limit = self._row_limit(function, max_rows, outputs)
        self.loop = not any(op.type in LOOPLESS for op in plan.rest)

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
        self.base = plan.full_baselines(self.starts)
        values = plan.values(plan.xs, self.base)
        _replay(plan.prefix, values, plan.frontier, 1, plan.axis)
        self.before = [values.get(t.ref(), t) for t in plan.frontier]
        self.batch = plan.rows if plan.rows is not None else tf.shape(plan.xs[0])[0]
        # With shared ends, K steps take K + 1 points; where rows leave axis 0, two copies of K.
        self.shared = self.secant and plan.stacked
        self.per_block = self._steps_per_block()
        known = isinstance(self.per_block, int)
        self.long = self.per_block >= LONG if known else self.limit >= 8 * LONG
        self.change = [_change(start, t) for t, start in zip(plan.frontier, self.before)]
        self.density = self._density() if self.secant or self.graded else None
        self.map = None if self.secant or self.density is None else self._evening_map()

    def _steps_per_block(self):
        plan, ends = self.plan, 2 if self.secant and not self.shared else 1
        known = plan.rows is not None
        if known and not plan.stackable:
            return 1
        if not known and not self.loop:
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
        if isinstance(blocks, int) and (blocks == 1 or not self.loop):
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
        plan, base, before = self.plan, self.base, self.before
        if units is not None and plan.prefix:
            base = [tf.tile(b, [units] + [1] * (b.shape.rank - 1)) for b in base]
            values = plan.values(plan.xs, base, units)
            _replay(plan.prefix, values, plan.frontier, units if plan.rows is not None else 1, plan.axis)
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
        result = tf.cast(grad * (_widen(x) - _widen(self.base[index])), x.dtype)
        if units is None:
            return _restore_shape(result, x.shape)
        rank = x.shape.rank
        result = tf.transpose(result, [1, 0, *range(2, rank + 1)])
        return _restore_shape(result, [x.shape.as_list()[0], units] + x.shape.as_list()[1:])

    # Where the points go

    def at(self, alphas, copies):
        """The frontier at `alphas`, a pair of `[copies, 1 or B]`, `[copies * B, ...]` each."""
        new = []
        for tensor, start, change in zip(self.plan.frontier, self.before, self.change):
            from_start, from_end = (tf.cast(_right_pad(a, tensor), tensor.dtype) for a in alphas)
            path = _between(start, tensor, change, from_start, from_end)
            new.append(_merge_rows(path, tensor, copies))
        return new

    def points(self, index):
        """Points and weights of a block: a pair of `[K, 1 or B]`, the distances from both ends, and
        `[K, 1 or B]`. `secant` has K + 1 points."""
        size, steps, dtype = self.per_block, self.steps, _wide(self.plan.frontier[0].dtype)
        if self.secant:
            at = tf.minimum(index * size + tf.range(size + 1), steps)
            return self._graded(tf.cast(at, dtype) / steps)
        at = index * size + tf.range(size)
        last = tf.minimum(at, steps - 1)
        alphas, weights = (tf.gather(tf.constant(v, dtype), last) for v in self.rule)
        points, slopes = self._mapped(alphas)
        return points, tf.where(at[:, None] < steps, weights[:, None] * slopes, 0)

    def intervals(self, index):
        """Start and end of the interval that each step of a gradient rule stands for."""
        ends = np.cumsum(self.rule[1])
        ends[-1] = 1
        dtype = _wide(self.plan.frontier[0].dtype)
        at = tf.minimum(index * self.per_block + tf.range(self.per_block + 1), self.steps)
        edges, _ = self._mapped(tf.gather(tf.constant(np.concatenate([[0], ends]), dtype), at))
        return tuple(edge[:-1] for edge in edges), tuple(edge[1:] for edge in edges)

    def _evening_map(self):
        """For each row, the map of the path under which its density is most even, `[B]` tensors."""
        maps, dtype = _maps(self.bins, self.steps), self.density.dtype
        share = self.density[:, 1:] - self.density[:, :-1]
        best = tf.argmin(tf.matmul(share, tf.constant(maps.costs, dtype)), axis=1)
        return {name: tf.gather(tf.constant(values, dtype), best) for name, values in maps.rows.items()}

    def _mapped(self, nodes):
        """Points at the nodes `[P]` of a rule, as a pair of distances from both ends `[P, B]`, and slopes.

        alpha = center + width sinh(low + (high - low) node), which goes from 0 to 1 and is dense around its
        center. Being analytic it lets Gauss-Legendre converge as fast as without it, or far faster.
        """
        nodes = nodes[:, None]
        if self.map is None:
            return (nodes, 1 - nodes), tf.ones([], nodes.dtype)
        m = self.map
        at = m["low"] + (m["high"] - m["low"]) * nodes
        way, slope = m["width"] * tf.sinh(at), m["width"] * tf.cosh(at) * (m["high"] - m["low"])
        # Distances are exact near the end that is the center.
        start = tf.where(m["center"] < 1, m["center"] + way, 1 + way)
        end = tf.where(m["center"] < 1, (1 - m["center"]) - way, -way)
        even, one = m["even"] > 0, tf.ones([], nodes.dtype)
        start, end = tf.clip_by_value(start, 0, 1), tf.clip_by_value(end, 0, 1)
        ends = tf.where(even, nodes, start), tf.where(even, 1 - nodes, end)
        return ends, tf.where(even, one, slope / m["total"])

    def _density(self):
        """Share of the points that each bin of the path gets, summed up, `[B, bins + 1]`.

        Error sits where units switch, where attention, probabilities and the output move, and where
        what the network divides by moves in logarithm: behind a normalization that is flat at one end
        of the path everything may happen within a millionth of it. A few looks at the network on the
        path tell where that is. None if there is nothing to see.
        """
        plan = self.plan
        switches = self._readers(_switches) if self.secant else []
        switches = switches[:: len(switches) // MOST_READ + 1]
        norms = self._readers(_norms)
        norms = norms[:: len(norms) // MOST_READ + 1]
        movers = self._readers(_movers) if self.steps >= LEAST_GRADED else []
        movers = movers[:: len(movers) // MOST_READ + 1]
        if not self.secant:
            movers += [self._reader(y, 0) for y in plan.ys if y.shape.rank is not None]
        looks = MOVE_LOOKS if not self.secant else SWITCH_LOOKS if self.steps >= LEAST_GRADED else 1
        self.bins = _bins(looks, bool(norms))
        if self.steps == 1 or not switches + norms + movers:
            return None
        looks, size = self.bins.looks, self.bins.size
        seen = self._look([[reader] for reader in movers + norms] + [switches])
        even = tf.constant(self.bins.widths, seen[0].dtype)
        # Some points everywhere: looks miss what switches twice or moves there and back.
        share = tf.zeros([self.batch, 1], even.dtype) + even
        if switches:
            share += _crossings(seen[-1], size)
        if movers:
            moved = [_shares(_moves(tensor)) for tensor in seen[: len(movers)]]
            moved = tf.repeat(tf.add_n(moved) / len(movers), size, axis=1) / size + 0.1 * even
            share = tf.sqrt(share * moved) if self.secant else moved
        share /= tf.reduce_sum(share, axis=1, keepdims=True)
        if norms:
            logs = [tf.minimum(_moves(t), 4.0) for t in seen[len(movers) : len(movers) + len(norms)]]
            share = NATS * share + tf.repeat(tf.reduce_max(tf.stack(logs), axis=0), size, axis=1) / size
            share /= tf.reduce_sum(share, axis=1, keepdims=True)
        edges = tf.concat([tf.zeros_like(share[:, :1]), tf.cumsum(share, axis=1)], 1)
        return tf.stop_gradient(edges)

    def _readers(self, seen):
        """Functions from replayed values to `[B, units]`, of what `seen` finds."""
        found, axes = [], self.plan.axis
        for op in self.plan.rest:
            for like, now in seen(op, self.plan.varying) if op.outputs else ():
                if like.shape.rank is not None and axes.get(like.ref(), UNKNOWN) != UNKNOWN:
                    found.append(self._reader(like, axes[like.ref()], now))
        return found

    def _reader(self, like, axis, now=None):
        """Likewise of a tensor, or of what `now` (of a lookup of tensors) makes in its shape."""
        led, dtype = like.ref() in self.plan.row_led, _wide(self.plan.frontier[0].dtype)

        def read(values, rows):
            def at(tensor):
                return values.get(tensor.ref(), tensor)

            return _rows_first(tf.cast(now(at) if now else at(like), dtype), axis, led, rows)

        return read

    def _look(self, groups):
        """A sample of what each group of readers sees at the looks along the path and at `xs`.

        `[looks + 1, B, units]` each; empty groups are left out.
        """
        plan, dtype = self.plan, _wide(self.plan.frontier[0].dtype)
        looks, size = self.bins.looks, self.bins.size
        ends = [tf.constant(distance[::size], dtype)[:, None] for distance in (self.bins.low, self.bins.high)]
        groups = [group for group in groups if group]
        last = [_sample([read({}, self.batch) for read in group])[None] for group in groups]
        if plan.rows is not None:
            copies = max(1, min(self.limit // max(1, plan.rows), looks)) if plan.stackable else 1
        elif self.loop:
            copies = tf.clip_by_value(self.limit // tf.maximum(1, self.batch), 1, looks)
        else:
            copies = 1
        blocks = -(-looks // copies)

        def look(index):
            at = tf.minimum(index * copies + tf.range(copies), looks - 1)
            alphas = [tf.gather(end, at) for end in ends]
            values = plan.values(plan.frontier, self.at(alphas, copies), copies)
            keep = plan.ys + [t for op in plan.rest for t in op.inputs]
            _replay(plan.rest, values, keep, copies if plan.rows is not None else 1, plan.axis)
            rows = copies * self.batch
            parts = [_sample([read(values, rows) for read in group]) for group in groups]
            shapes = [[copies, self.batch, tf.shape(part)[1]] for part in parts]
            return [tf.reshape(part, shape) for part, shape in zip(parts, shapes)]

        if isinstance(blocks, int) and (blocks == 1 or not self.loop):
            seen = [tf.concat(parts, 0) for parts in zip(*map(look, range(blocks)))]
        else:
            specs = [tf.TensorSpec([None, *t.shape.as_list()[1:]], t.dtype) for t in last]
            shapes = [tf.concat([[blocks * copies], tf.shape(t)[1:]], 0) for t in last]
            stacks = _map_range(look, 0, blocks, specs)
            seen = [tf.reshape(stack, shape) for stack, shape in zip(stacks, shapes)]
        seen = [tf.concat([part[:looks], t], 0) for part, t in zip(seen, last)]
        return [_restore_shape(part, [looks + 1, *t.shape.as_list()[1:]]) for part, t in zip(seen, last)]

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
    it puts there: least where the density is even in terms of its nodes (Gibbs' inequality).
    """
    inner = [(c / 16, 2.0**-k) for c in range(1, 16) for k in range(1, 7)]
    outer = [(end, 4.0**-k) for end in (0, 1) for k in range(15 if bins.tails else 4)]
    center, width = np.array([(0.5, 1.0), *inner, *outer]).T
    low, high = np.arcsinh(-center / width), np.arcsinh((1 - center) / width)
    even = np.arange(len(center)) == 0
    middle_low, middle_high = ((d[1:] + d[:-1])[:, None] / 2 for d in (bins.low, bins.high))
    distance = np.where(center < 1, middle_low - center, middle_high)
    costs = np.where(even, 0, np.log(np.hypot(distance, width) * (high - low)))
    total = np.ones(len(center))
    if steps <= 1024:  # a constant then has its integral to the last bit; with more, it has anyway
        nodes, weights = quadrature(steps, "gausslegendre")
        at = low[:, None] + (high - low)[:, None] * nodes
        total = (np.cosh(at) @ weights) * width * (high - low)
    return _Maps(costs, dict(center=center, width=width, low=low, high=high, even=even, total=total))


class _Maps(NamedTuple):
    costs: np.ndarray
    rows: dict


BINS = 64
SWITCH_LOOKS = 4
MOVE_LOOKS = 8
TAIL = 1 / 8  # what of the path at each end is looked at in geometric steps, if need be
TAILS = (28, 21, 15, 10, 6, 3, 0)  # their depths in nats
TAIL_SIZE = 4
NATS = 2.0  # movement of a norm in logarithm that earns it half of the points
LEAST_GRADED = 10  # steps for which several looks are worth their time
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


def _rows_first(tensor, axis, led, rows):
    """`tensor` as `[B, units]`; its rows are on `axis`, merged with others unless `led`."""
    if axis:
        tensor = tf.transpose(tensor, [axis, *(i for i in range(tensor.shape.rank) if i != axis)])
    elif led and tensor.shape.rank == 2:
        return tensor
    units = tensor.shape[1:].num_elements() if led or axis else None
    return tf.reshape(tensor, [rows, tf.size(tensor) // tf.maximum(rows, 1) if units is None else units])


def _sample(tensors):
    """About `2 * SAMPLE` of the units of `tensors [B, units]` at most, evenly spread, `[B, sample]`."""
    widths = [t.shape.as_list()[1] for t in tensors]
    widths = [tf.shape(t)[1] if width is None else width for t, width in zip(tensors, widths)]
    stride = sum(widths) // SAMPLE // 2 * 2 + 1  # odd, as channels come in powers of two
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
        through = tf.pad(tf.equal(seen[1:-1], 0) & (seen[:-2] * seen[2:] < 0), [[1, 1], [0, 0], [0, 0]])
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
    """`[L + 1, B, units]` -> `[B, L]`: how far the units of each row move from look to look, in the mean."""
    return tf.transpose(tf.reduce_mean(_finite(tf.abs(seen[1:] - seen[:-1])), axis=2))


def _shares(counts):
    """Counts `[B, parts]` divided by their sum, if there are any."""
    total = tf.reduce_sum(counts, axis=1, keepdims=True)
    return tf.math.divide_no_nan(counts, total)


class _Block:
    """Some steps of a walk: the network replayed on their points."""

    def __init__(self, walk, index):
        self.walk, self.index, plan = walk, index, walk.plan
        self.alphas, self.weights = walk.points(index)
        size = walk.per_block
        if not walk.secant or walk.shared:
            self.values, made = self._run(self.alphas, size + walk.shared)
            self.others = self.values
        else:
            self.values, made = self._run([a[:-1] for a in self.alphas], size)
            self.others, after = self._run([a[1:] for a in self.alphas], size)
        if walk.secant:
            sources = [self.values[t.ref()] for t in plan.frontier]
            if walk.shared:
                rows = [self.values[r.ref()] for r in plan.roots] + sources
                self.cuts = _Cuts(made, rows, size, self.weights if walk.long else None)
                self.ends = [(op, *self.cuts.ends(op)) for op in made]
            else:
                self.ends = _pair(made, after)

    def _run(self, alphas, copies, targets=None):
        """Replays what follows the frontier at `alphas`, a pair of `[copies, 1 or B]`."""
        plan = self.walk.plan
        values = plan.values(plan.frontier, self.walk.at(alphas, copies), copies)
        ops = plan.rest if targets is None else _ops_between(targets, plan.frontier + plan.roots)
        keep = plan.ys + plan.layers + list(targets or ())
        made = _replay(ops, values, keep, copies if plan.rows is not None else 1, plan.axis)
        return values, made

    def seeds(self, weights, weighted=True):
        """Adjoints of the outputs, times the weights of the steps (and `num_steps`)."""
        walk, plan = self.walk, self.walk.plan
        seeds = []
        for y, weight in zip(plan.ys, weights):
            share = self.weights * walk.steps if weighted else tf.ones_like(self.weights)
            share = tf.cast(_right_pad(share, y), y.dtype)
            weight = tf.ones(tf.shape(y), y.dtype) if weight is None else weight
            full = tf.broadcast_to(
                share * tf.cast(weight, y.dtype), tf.concat([[walk.per_block], tf.shape(y)], 0)
            )
            seeds.append(_merge_rows(full, y, walk.per_block))
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
            low, high = walk.intervals(self.index)
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
    for _ in range(like.shape.rank - 1):
        values = values[..., None]
    return values


def _split_rows(tensor, copies):
    """`[copies * B, ...]` -> `[copies, B, ...]`."""
    shape = tf.shape(tensor)
    split = tf.reshape(tensor, tf.concat([[copies, shape[0] // copies], shape[1:]], 0))
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
    shape = tf.shape(like)
    merged = tf.reshape(tensor, tf.concat([[copies * shape[0]], shape[1:]], 0))
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
        not listed; without it that is TensorFlow's own gradient, or its mean at both ends.
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
        ends = _pair(made, after)
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
    for op, _, _ in ends:
        if op.type not in BARRIERS and any(t.ref() in live for t in op.inputs):
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
        if not slots or op.type in BARRIERS:
            continue
        grads = [None if t.ref() in sources or t.ref() not in live else total(t.ref()) for t in op.outputs]
        if all(g is None for g in grads):
            continue
        start.slots = slots
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


def _pair(made, after):
    """Ops and their twins at the other end, for `_reverse`."""
    return [(op, _End(op), _End(twin)) for op, twin in zip(_group(made), _group(after))]


class _Island:
    """Ops that hand each other tensor lists, which cannot be averaged: one op as far as rules go."""

    type = name = "Island"

    def __init__(self, ops):
        inside = {t.ref() for op in ops for t in op.outputs}
        outer = {t.ref(): t for op in ops for t in op.inputs if t.ref() not in inside}
        self.inputs = list(outer.values())
        self.outputs = [t for op in ops for t in op.outputs if t.dtype != tf.variant]


def _group(ops):
    """The ops, dependencies first, with those that share tensor lists as one."""
    island = {}  # op -> the list of ops that it belongs to
    made_by = {t.ref(): op for op in ops for t in op.outputs}
    for op in ops:
        island[op] = [op]
        for tensor in op.inputs:
            if tensor.dtype == tf.variant and tensor.ref() in made_by:
                other = island[made_by[tensor.ref()]]
                if other is not island[op]:
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

    def __init__(self, op, cuts=None, side=0, memo=None):
        self.op, self.cuts, self.side = op, cuts, side
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

    def __init__(self, made, sources, steps, widths=None):
        self.steps, self.known, self.bounds = steps, {}, {}
        self.widths = widths  # of the steps; None where no rule shall sum over them by itself
        self.rows = {t.ref() for t in sources}
        self.led = set(self.rows)  # with as many rows as the sources, which saves most bounds
        for op in made:
            rows = [t.ref() for t in op.inputs if t.ref() in self.rows]
            if rows and op.type not in SHAPES:
                self.rows.update(t.ref() for t in op.outputs)
                if all(r in self.led for r in rows) and not (op.type == "Reshape" and _merges(op)):
                    self.led.update(t.ref() for t in op.outputs)

    def of(self, tensor, side):
        """The starts (side 0) or ends (side 1) of what has rows; anything else as it is."""
        return self.cut(tensor, side) if tensor.ref() in self.rows else tensor

    def cut(self, tensor, side):
        key = tensor.ref(), side
        if key not in self.known:
            begin, end = self._bound(tensor, side)
            self.known[key] = cut = tf.raw_ops.StridedSlice(
                input=tensor, begin=begin, end=end, strides=[1], begin_mask=0, end_mask=0
            )
            if tensor.shape.rank is not None:
                cut.set_shape([None] + tensor.shape.as_list()[1:])
        return self.known[key]

    def _bound(self, tensor, side):
        total = tensor.shape.as_list()[0] if tensor.shape.rank else None
        known = total is not None and isinstance(self.steps, int)
        key = side, total if known else "led" if tensor.ref() in self.led else tensor.ref()
        if key not in self.bounds:
            total = total if known else tf.shape(tensor)[0]
            one = total // (self.steps + 1)
            self.bounds[key] = ([one], [total]) if side else ([0], [total - one])
            if not known:
                self.bounds[key] = tuple(tf.convert_to_tensor(bound) for bound in self.bounds[key])
        return self.bounds[key]

    def pad(self, tensor, side):
        """The inverse of `cut`, with zeros in the rows that it left out."""
        shape = tf.shape(tensor)
        zeros = tf.zeros(tf.concat([[shape[0] // self.steps], shape[1:]], 0), tensor.dtype)
        return tf.concat([zeros, tensor] if side else [tensor, zeros], 0)

    def outer(self, tensor):
        """The rows of the first and of the last point."""
        one = tf.shape(tensor)[0] // (self.steps + 1)
        return tensor[:one], tensor[-one:]

    def ends(self, op):
        memo = {}
        return _End(op, self, 0, memo), _End(op, self, 1, memo)


def _default_rule(op, other, grads):
    """TensorFlow's own gradient; with two ends, the mean of it at both."""
    here = _own_gradient(op, grads)
    if other is None:
        return here
    there = _own_gradient(other, grads)
    return [None if a is None or b is None else (a + b) / 2 for a, b in zip(here, there)]


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
        stop_gradients=[t for t in place if t.dtype not in (tf.resource, tf.variant)],
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
    return tf.where(tf.math.is_finite(tensor), tensor, tf.zeros([], tensor.dtype))


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
        return _default_rule(op, other, grads)
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

    def means():
        if len(op.slots) == 2:
            return _means(a0, a1, 1 / b0, 1 / b1)
        return (1 / b0 if b0 is b1 else (1 / b0 + 1 / b1) / 2), (a0 if a0 is a1 else (a0 + a1) / 2)

    inverse, mean = op.keep("means", means)
    result = [None, None]
    if 0 in op.slots:
        result[0] = _unbroadcast(grads[0] * inverse, a0)
    if 1 in op.slots:
        result[1] = _unbroadcast(-grads[0] * mean / (b0 * b1), b0)
    return result


def _means(a0, a1, b0, b1):
    """What goes to a and to b of an adjoint of y = a b, both on the path.

    The mean of b and the mean of a at both ends are exact where a and b move in proportion. Where one
    grows and the other shrinks, as an input and the inverse of its norm do, powers of one quantity
    describe them better, for which the logarithmic means L(y0, y1) / L(a0, a1) and L(y0, y1) / L(b0, b1)
    are exact, L(p, q) = (q - p) / log(q / p). Either way mean * (a1 - a0) + mean * (b1 - b0) = y1 - y0.
    """
    zero, one = tf.zeros([], a0.dtype), tf.ones([], a0.dtype)

    def growth(start, end):  # its logarithm, and start / L(start, end)
        moves = (start * end > 0) & tf.not_equal(start, end)
        change = tf.where(moves, (end - start) / tf.where(moves, start, one), one)
        log = tf.where(moves, tf.math.log1p(change), zero)
        return log, log / change

    (log_a, rate_a), (log_b, rate_b) = growth(a0, a1), growth(b0, b1)
    opposed = log_a * log_b < 0
    log = tf.where(opposed, log_a + log_b, zero)
    moves = tf.not_equal(log, zero)
    level = tf.where(moves, tf.math.expm1(log) / tf.where(moves, log, one), one)  # L(y0, y1) / y0
    return (
        tf.where(opposed, b0 * level * rate_a, (b0 + b1) / 2),
        tf.where(opposed, a0 * level * rate_b, (a0 + a1) / 2),
    )


def _middle(op, other, grads):
    """Bilinear and quadratic ops: the gradient at the middle of the interval is exact."""
    if len(op.slots) == 1 and op.type != "SquaredDifference":
        return _linear(op, other, grads)
    middle = [
        a if a is b or not a.dtype.is_floating else (a + b) / 2 for a, b in zip(op.inputs, other.inputs)
    ]
    return _own_gradient(op, grads, middle)


def _linear(op, other, grads):
    """Ops that are affine in what varies have one gradient everywhere."""
    if len(op.slots) > 1 and isinstance(AFFINE[op.type], tuple) and op.type != "SelectV2":
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
            (a0, b0), (a1, b1) = op.inputs, other.inputs
            return _share(compare(a0, b0), compare(a1, b1), tf.abs(a0 - b0), tf.abs(a1 - b1))

        first = grads[0] * op.keep("share", share)
        parts = (lambda: first, lambda: grads[0] - first)
        return [_unbroadcast(part(), op.inputs[i]) if i in op.slots else None for i, part in enumerate(parts)]

    return rule


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
    result = [None, _unbroadcast(grads[0] * first, a0), _unbroadcast(grads[0] * second, b0)]
    return [g if i in op.slots else None for i, g in enumerate(result)]


def _reduced_choice(op, other, grads):
    """The rule of the reductions Max and Min; see `_pool`."""
    z0, z1 = op.inputs[0], other.inputs[0]
    axes = op.inputs[1]
    keep = op.get_attr("keep_dims")

    def spread(y):
        if keep:
            return y
        shape = tf.shape(z0)
        rank = tf.size(shape)
        places = tf.cast(tf.reshape(axes, [-1]), tf.int32)
        ones = tf.reduce_max(tf.one_hot(places % rank, rank, dtype=tf.int32), axis=0)
        return tf.reshape(y, tf.where(ones > 0, 1, shape))

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
    if _tiles(op):
        return [_pool_tiles(op, other, grads[0])]
    z0, z1 = op.inputs[0], other.inputs[0]
    y0, y1 = op.outputs[0], other.outputs[0]
    windows = _Windows(op, z0, y0)

    def parts():
        p0, p1 = windows.split(z0), windows.split(z1)
        won0, won1 = _winners(p0, y0), _winners(p1, y1)
        then = tf.add_n([tf.math.multiply_no_nan(p, w) for p, w in zip(p0, won1)])
        now = tf.add_n([tf.math.multiply_no_nan(p, w) for p, w in zip(p1, won0)])
        first = _half_ratio(y0 - then, y1 - now)
        return [u * first + v * (1 - first) for u, v in zip(won0, won1)]

    return [windows.join([grads[0] * part for part in op.keep("shares", parts)])]


def _winners(places, best):
    """1 at the first place of each window that holds its maximum, as TensorFlow breaks ties."""
    found, seen = [], tf.zeros_like(best, tf.bool)
    for place in places:
        hit = tf.equal(place, best)
        found.append(tf.cast(hit & ~seen, best.dtype))
        seen |= hit
    return found


def _half_ratio(a, b):
    """a / (a + b) of what is negative by rounding at most; one half where both are 0."""
    a, b = _positive(a), _positive(b)
    return a / (a + b)


def _positive(tensor):
    # Far below any change that is more than rounding, and three times as fast as a condition.
    return tf.maximum(tensor, tf.constant(6e-8 if tensor.dtype == tf.float16 else 2e-38, tensor.dtype))


def _tiles(op):
    """Whether every input is in one window at most, and TensorFlow's own pooling is fast.

    Not in three dimensions, where some of its kernels count every place of a tie as the winner.
    """
    return (
        op.type == "MaxPool"
        and op.op.inputs[0].dtype == tf.float32
        and list(op.get_attr("ksize")) == list(op.get_attr("strides"))
        and op.get_attr("padding") in (b"VALID", b"SAME")
    )


def _pool_tiles(op, other, grad):
    """The same for windows that do not overlap, in terms of pooling and its gradient."""
    cuts = op.cuts
    small = np.prod(op.get_attr("ksize")) <= 4  # in larger windows more than one place wins in a step
    if small and op.summed and cuts is not None and cuts.widths is not None:
        return _Summed(_pool_lines(op, other, grad))

    def first():
        won0, won1 = op.slopes(), other.slopes()
        gap0 = op.outputs[0] - _window_sums(op, won1 * op.inputs[0], won1)
        gap1 = other.outputs[0] - _window_sums(op, won0 * other.inputs[0], won0)
        return _half_ratio(gap0, gap1)

    share = grad * op.keep("share", first)
    if cuts is None:
        return op.pull(share) + other.pull(grad - share)
    starts, ends = cuts.pad(share, 0), cuts.pad(grad - share, 1)
    if op.summed:  # each point is the end of one interval and the start of the next
        return _Summed(_add_steps(op.pull(starts + ends), cuts.steps + 1))
    return cuts.cut(op.pull(starts), 0) + cuts.cut(op.pull(ends), 1)


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
    """The windows of a pooling op: one strided slice of the padded input per place in the window."""

    def __init__(self, op, z, y):
        size, self.strides = op.get_attr("ksize"), op.get_attr("strides")
        self.shape, self.out = tf.shape(z), tf.shape(y)
        self.rank = len(size)
        inner, outer = z.shape.as_list(), y.shape.as_list()
        padding = op.get_attr("padding")
        if padding == b"EXPLICIT":
            flat = op.get_attr("explicit_paddings")
            before = [flat[2 * i] for i in range(self.rank)]
        elif padding == b"SAME":
            # The smaller half comes first.
            total = [
                tf.maximum((self.out[i] - 1) * s + k - self.shape[i], 0)
                if None in (inner[i], outer[i])
                else max((outer[i] - 1) * s + k - inner[i], 0)
                for i, (s, k) in enumerate(zip(self.strides, size))
            ]
            before = [t // 2 for t in total]
        else:
            before = [0] * self.rank
        self.before = before
        self.places = list(np.ndindex(*size))
        # Room for every window, and for what strides leave over at the end.
        self.after = [
            tf.maximum((self.out[i] - 1) * s + k - before[i] - self.shape[i], 0)
            for i, (s, k) in enumerate(zip(self.strides, size))
        ]
        self.pads = tf.stack([tf.stack([b, a]) for b, a in zip(before, self.after)])
        self.padded = self.shape + tf.reduce_sum(self.pads, axis=1)

    def split(self, z):
        padded = tf.pad(z, self.pads, constant_values=z.dtype.min)
        return [self._at(padded, place) for place in self.places]

    def _at(self, padded, place):
        begin = tf.constant(place)
        end = begin + (self.out - 1) * self.strides + 1
        return tf.strided_slice(padded, begin, end, self.strides)

    def join(self, parts):
        total = []
        for place, part in zip(self.places, parts):
            begin = tf.constant(place)
            end = begin + (self.out - 1) * self.strides + 1
            total.append(
                tf.raw_ops.StridedSliceGrad(
                    shape=self.padded, begin=begin, end=end, strides=self.strides, dy=part
                )
            )
        return tf.slice(tf.add_n(total), tf.stack(self.before), self.shape)


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
            p = tf.nn.softmax((1 - points) * z0 + points * z1)
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


_SMOOTH = _types(
    """
    Softplus Softsign Sigmoid Tanh Erf Erfc Sin Cos Tan Exp Expm1 Log Log1p Sinh Cosh Asin Acos Atan
    Asinh Acosh Atanh Lgamma Digamma
    """
)

# op type -> rule(op, other, grads). What is not listed gets the mean of its gradient at both ends.
SECANT_RULES = {
    **dict.fromkeys((t for t, slots in AFFINE.items() if slots not in ("all", "one")), _linear),
    **dict.fromkeys(("AddN", "Pack", "ConcatV2", "BiasAddGrad"), _linear),
    **dict.fromkeys(_SMOOTH, _elementwise(_smooth_slope)),
    **dict.fromkeys(("Elu", "Selu"), _elementwise(_bent_slope)),
    "Relu": _elementwise(_relu_slope),
    "Relu6": _elementwise(_relu6_slope),
    "LeakyRelu": _elementwise(_leaky_relu_slope),
    "Abs": _elementwise(_abs_slope),
    "Sqrt": _elementwise(_sqrt_slope),
    "Rsqrt": _elementwise(_rsqrt_slope),
    "Square": _elementwise(lambda op, other: op.inputs[0] + other.inputs[0]),
    **dict.fromkeys(
        ("Reciprocal", "Inv"),
        _elementwise(lambda op, other: -op.outputs[0] * other.outputs[0]),
    ),
    "Pow": _power,
    **dict.fromkeys(("Add", "AddV2"), _sum_rule(1, 1)),
    "Sub": _sum_rule(1, -1),
    "Mul": _product,
    "RealDiv": _quotient,
    "SquaredDifference": _middle,
    "MatMul": _matmul,
    **dict.fromkeys(("BatchMatMul", "BatchMatMulV2", "BatchMatMulV3", "Einsum"), _middle),
    "Maximum": _choice(tf.greater_equal),
    "Minimum": _choice(tf.less_equal),
    "SelectV2": _select,
    **dict.fromkeys(("Max", "Min"), _reduced_choice),
    **dict.fromkeys(("MaxPool", "MaxPool3D"), _pool),
    "Softmax": _softmax(lambda g, p, wp, mean: mean * g - tf.reduce_sum(wp * _row_sum(p * g), axis=0)),
    "LogSoftmax": _softmax(lambda g, p, wp, mean: g - mean * _row_sum(g)),
    "Conv2D": _convolution(tf.raw_ops.Conv2DBackpropInput, *_CONVOLUTION),
    "DepthwiseConv2dNative": _convolution(tf.raw_ops.DepthwiseConv2dNativeBackpropInput, *_CONVOLUTION),
    "Reshape": _reshape,
    **dict.fromkeys(("Identity", "IdentityN"), _pass_on),
    "BiasAdd": lambda op, other, grads: [grads[0], None],
}


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
    # The ends of S intervals; the last point starts none.
    "secant": lambda n: (np.arange(n + 1) / n, np.append(np.full(n, 1 / n), 0)),
}


@functools.lru_cache(maxsize=64)
def quadrature(num_steps, method):
    """Points `[S]` in [0, 1] and weights `[S]` of a rule, ascending, as float64 arrays."""
    points, weights = QUADRATURES[method](num_steps)
    points.flags.writeable = weights.flags.writeable = False
    return points, weights


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
    wide = _wide(grad.dtype)
    shape = tf.shape(stepsize)
    shape = tf.concat([shape[:1] // steps, shape[1:]], 0)
    factors = _factors(stepsize, steps)
    if factors is None:
        total = _add_steps(tf.cast(grad, wide) * tf.cast(stepsize, wide), steps)
    else:
        # Half the work: the weights times the gradients, then once times the change.
        weights, change = factors
        total = tf.reshape(_weighted_sum(grad, weights, steps), shape) * tf.cast(change, wide)
    total = tf.cast(total, grad.dtype)
    if stepsize.shape.rank is not None:
        rows = stepsize.shape.as_list()[0]
        total.set_shape([None if rows is None else rows // steps] + stepsize.shape.as_list()[1:])
    return total


def _weighted_sum(grad, weights, steps):
    """Sum over steps of `weights * grad`, `[S * B, ...]` -> `[1, B * ...]`, in float32 at least."""
    grad = _widen(grad)
    return tf.matmul(tf.reshape(tf.cast(weights, grad.dtype), [1, -1]), tf.reshape(grad, [steps, -1]))


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


def _check_steps(function, num_steps, method):
    if not isinstance(method, str) or method not in QUADRATURES:
        raise ValueError(
            f"{function}: method is {method!r}, expected one of {', '.join(QUADRATURES)}. When in "
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
    if isinstance(value, tf.Variable) or hasattr(value, "numpy"):
        raise TypeError(
            f"{function}: {argument} is {'a variable' if isinstance(value, tf.Variable) else 'eager'}"
            " (it holds a value already), expected a tensor of the graph under construction. Wrap "
            "the call in @tf.function and pass the data as its argument."
        )
    if tf.executing_eagerly():
        raise TypeError(
            f"{function}: {argument} is a graph tensor ({value.name!r}), but the call is made outside "
            "its graph. Make the call inside the same @tf.function or `with graph.as_default():`."
        )
    if not isinstance(value, tf.Tensor):
        raise TypeError(
            f"{function}: {argument} is a {kind}, expected a dense tensor. Convert it first, for "
            "example with tf.sparse.to_dense or RaggedTensor.to_tensor."
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


def _check_recipe(inters, stepsizes, output, num_steps, method, points):
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
                f"expected a multiple of {points} rows for num_steps={num_steps}. Give "
                "linear_interpolation and build_ig the same num_steps and method."
            )
        factors = _factors(stepsize, points)
        weights = None if factors is None else tf.get_static_value(factors[0])
        if weights is not None and bool(np.ravel(weights)[-1] == 0) != (method == "secant"):
            raise ValueError(
                f"build_ig: method is {method!r}, but stepsize holds the weights of another one, "
                "expected those of the same rule. Give linear_interpolation and build_ig the same "
                "num_steps and method."
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
    hint = (
        f"Op {ids[0].name!r} turns it into integers: ids have no gradient. Attribute to the "
        "embedding's output instead, as in integrated_gradients(logits, embedded) with "
        "embedded = tf.gather(table, ids)."
        if ids
        else "Look for tf.stop_gradient, argmax, rounding or comparisons in between."
    )
    return (
        f"{function}: no gradient flows from {names} ({len(ops)} ops in between), expected "
        f"differentiable ops. {hint}"
    )
