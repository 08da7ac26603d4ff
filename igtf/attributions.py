"""Integrated gradients of any tensor by any other, in a graph that already exists.

The public graph builders, from the checks of what came in to the tensors that go out; the path is
walked in `path_integral`. Shapes below: `B` rows in a batch, `S` = `num_steps`, `...` the feature
dimensions. Rows are independent of one another."""

from collections.abc import Sequence

import tensorflow as tf

from igtf.arguments import flat_grad_ys
from igtf.arithmetic import map_range, sum_features
from igtf.levels import find_levels
from igtf.op_types import LOOPLESS
from igtf.path_integral import PathIntegral
from igtf.refinement import packed, refine
from igtf.subgraph import Subgraph
from integrated_gradients_tf import (
    Baselines,
    Tensors,
    as_it_is,
    change_between,
    check_steps,
    describe,
    flat_baselines,
    point_between,
    quadrature,
    restore_shape,
    wide_dtype,
)


@as_it_is
def integrated_gradients(
    ys: Tensors,
    xs: Tensors,
    baselines: Baselines = None,
    num_steps: int | None = None,
    method: str = "auto",
    grad_ys: Tensors | None = None,
    per_row: Sequence[tf.Tensor] | None = None,
    max_rows: int | None = None,
    tolerance: float | None = None,
    return_error: bool = False,
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
      num_steps: number of steps `S`, 1 to 1,000,000; the most to take if there is a `tolerance`. `None`
        stands for 50, and for 640 with a tolerance.
      method: `"auto"`, `"secant"`, `"gausslegendre"`, `"riemann_left"`, `"riemann_right"`,
        `"riemann_middle"` or `"riemann_trapezoid"`. `"secant"` is complete by construction at any
        number of steps; its points are close where units switch, where what the network divides by
        moves in logarithm and, from 10 steps on, where a softmax moves. `"auto"` takes it for networks
        with kinks (ReLU and its family, max pooling, maximum, absolute value), and Gauss-Legendre for
        smooth ones, for those that rank or round (`tf.sort`, `tf.sign`: their values jump), and for
        rows in which nothing switches; from 10 steps on its nodes are dense where the outputs move.
        From 10 steps on the error of `"auto"` is at most 1.5 times that of `"gausslegendre"` with as
        many steps (mean of 16 rows or more), and most often a small part of it. Where what switches
        hardly counts it may be more, if small: at most 4 % with 10 steps and 0.5 % with 50 (of 300 random
        networks 10; and one whose values jump).
      grad_ys: weights of the entries of `ys`, of its shape and structure. They are evaluated at `xs`
        and held fixed along the path. One-hot rows choose a class per row.
      per_row: tensors beside `xs` with one entry per row (targets to gather, masks), which are
        repeated for every step. `None` detects placeholders and function arguments that lead with
        the batch dimension of `xs`; a list replaces the detection, `[]` means none. A random tensor in
        it, such as the noise of a sampled code, is held as the run draws it.
      max_rows: the most rows to run through the network at once (at least `B`; `2 * B` for
        `"secant"`). `None` adapts to the size of a row.
      tolerance: the relative error that the attributions of a row may have, 0 to 1, such as 0.01: steps
        begin with 5 to 9 and double (`"riemann_middle"`: triple) until the estimated error is at most that,
        or `num_steps` would be exceeded. What one rule of Riemann has summed up, the next one continues.
        Rows that are done cost nothing more where the batch size is open; where it is fixed, or under
        XLA, all rows are run until the last one is done, and keep what they had when they were. Float16
        and bfloat16 cannot be right to less than some units of theirs, 1e-3 and 1e-2.
      return_error: whether to return `(attributions, errors, steps)`: the estimated relative errors `[B]`
        (as `attribution_error`), and how many steps each row took, int32 `[B]`. Without a tolerance it
        costs half as much again, for the attributions of half as many steps to compare with.
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
      ValueError: `tolerance` is not from 0 to 1, or `num_steps` leaves nothing to compare with.
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
    function = "integrated_gradients"
    with tf.name_scope(name):
        subgraph = Subgraph(function, ys, xs, per_row)
        levels = find_levels(function, num_steps, method, tolerance, return_error)
        integral = PathIntegral(subgraph, xs, baselines, levels, max_rows, nested=True)
        weights = flat_grad_ys(function, subgraph, ys, grad_ys)
        return packed(xs, refine(integral, PathIntegral.attributions, weights), return_error)


@as_it_is
def integrated_jacobian(
    ys: tf.Tensor,
    xs: Tensors,
    baselines: Baselines = None,
    num_steps: int | None = None,
    method: str = "auto",
    per_row: Sequence[tf.Tensor] | None = None,
    max_rows: int | None = None,
    tolerance: float | None = None,
    return_error: bool = False,
    name: str = "integrated_jacobian",
) -> Tensors:
    """Attributes every output unit to `xs`: all classes from one forward replay.

    Args:
      ys: tensor `[B, C]` with a static `C`.
      xs, baselines, num_steps, method, per_row, max_rows: as for `integrated_gradients`.
      tolerance, return_error: likewise; errors are those of each column, `[B, C]`, and a row is done when
        all of its columns are.
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
        subgraph = Subgraph(function, ys, xs, per_row)
        if tf.nest.is_nested(ys) or ys.shape.rank != 2 or ys.shape.as_list()[1] is None:
            raise ValueError(
                f"{function}: ys has shape {getattr(ys, 'shape', describe(ys))}, expected one tensor "
                "[B, C] with a static C. Reshape it, or set C with ys.set_shape([None, C])."
            )
        units = ys.shape.as_list()[1]
        levels = find_levels(function, num_steps, method, tolerance, return_error)
        integral = PathIntegral(subgraph, xs, baselines, levels, max_rows, outputs=units)
        found = refine(integral, lambda part, _: part.jacobian(), [None], units)
        return packed(xs, found, return_error)


@as_it_is
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
        subgraph = Subgraph(function, ys, xs, per_row)
        num_steps = check_steps(function, num_steps, "riemann_trapezoid")
        starts = subgraph.full_baselines(flat_baselines(function, xs, subgraph.xs, baselines))
        weights = flat_grad_ys(function, subgraph, ys, grad_ys)
        dtype = wide_dtype(subgraph.xs[0].dtype)
        alphas = tf.constant(quadrature(num_steps, "riemann_trapezoid")[0], dtype)
        changes = [change_between(start, x) for x, start in zip(subgraph.xs, starts)]

        def point(index):
            new = []
            for x, start, change in zip(subgraph.xs, starts, changes):
                alpha = tf.cast(alphas[index], x.dtype)
                new.append(restore_shape(point_between(start, x, change, alpha, 1 - alpha), x.shape))
            made = subgraph.replay(new)
            grads = tf.gradients(made, new, grad_ys=weights)
            grads = [tf.zeros_like(x) if g is None else tf.convert_to_tensor(g) for x, g in zip(new, grads)]
            total = 0
            for y, weight in zip(made, weights):
                total += tf.cast(sum_features(y if weight is None else y * weight), dtype)
            return [*grads, total]

        rows = tf.zeros([tf.shape(subgraph.xs[0])[0]], dtype)
        if any(op.type in LOOPLESS for op in subgraph.ops):
            *grads, outputs = (tf.stack(parts) for parts in zip(*map(point, range(num_steps))))
        else:
            *grads, outputs = map_range(point, 0, num_steps, [*subgraph.xs, rows])
        with tf.control_dependencies(subgraph.one_per_row()):
            outputs = tf.identity(outputs)
    return tf.nest.pack_sequence_as(xs, grads), outputs, alphas
