"""How far attributions are from what they would be with endless steps: per row, as tensors."""

from collections.abc import Sequence

import tensorflow as tf

from igtf.arguments import flat_grad_ys
from igtf.arithmetic import sum_features
from igtf.levels import find_levels
from igtf.path_integral import PathIntegral
from igtf.refinement import refine
from igtf.subgraph import Subgraph
from integrated_gradients_tf import (
    Baselines,
    Tensors,
    as_it_is,
    check_structure,
    flat_baselines,
    flat_inputs,
    widen,
)


@as_it_is
def attribution_error(
    ys: Tensors,
    xs: Tensors,
    baselines: Baselines = None,
    num_steps: int = 50,
    method: str = "auto",
    grad_ys: Tensors | None = None,
    per_row: Sequence[tf.Tensor] | None = None,
    max_rows: int | None = None,
    name: str = "attribution_error",
) -> tf.Tensor:
    """How wrong the attributions of so many steps are, feature by feature: an estimate.

    `convergence_delta` compares sums, which errors of single features cancel in, and which are right by
    construction with `"secant"`. This compares the attributions themselves with those of half as many
    steps: half of the steps change them by more than what is left to change, if the error falls at least
    like 1/S.

    Args:
      ys, xs, baselines, num_steps, method, grad_ys, per_row, max_rows: as for `integrated_gradients`, with
        at least 2 steps.
      name: name scope of the nodes.

    Returns:
      `[B]`: per row, the estimated sum of absolute errors over all features of all `xs`, divided by the sum
      of absolute attributions. Where these are all but zero, they are taken for what rounding makes of the
      outputs: 16 units in the last place of the sum of absolute `ys * grad_ys`. 0 if nothing changes, as
      for a baseline equal to `xs`; NaN for a row with a NaN. Beside the attributions, and computed
      with them, it is the second of what `integrated_gradients(..., return_error=True)` returns.

    Raises:
      TypeError, ValueError: as `integrated_gradients`.

    >>> @tf.function
    ... def f(x):
    ...     return attribution_error(x[:, 0] ** 4, x, num_steps=20, method="riemann_left")
    >>> round(f(tf.constant([[3.0]])).numpy().item(), 3)  # the truth is 0.097
    0.107
    """
    function = "attribution_error"
    with tf.name_scope(name):
        subgraph = Subgraph(function, ys, xs, per_row)
        levels = find_levels(function, num_steps, method, None, compare=True)
        integral = PathIntegral(subgraph, xs, baselines, levels, max_rows, nested=True)
        weights = flat_grad_ys(function, subgraph, ys, grad_ys)
        _, errors, _ = refine(integral, PathIntegral.attributions, weights)
    return errors


@as_it_is
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
        subgraph = Subgraph(function, ys, xs, per_row)
        check_structure(function, "attributions", attributions, "xs", xs)
        parts = flat_inputs(function, "attributions", attributions)
        for part, x in zip(parts, subgraph.xs):
            if not part.shape.is_compatible_with(x.shape):
                raise ValueError(
                    f"{function}: attributions have shape {part.shape}, expected {x.shape} as xs."
                )
        weights = flat_grad_ys(function, subgraph, ys, grad_ys)
        starts = subgraph.full_baselines(flat_baselines(function, xs, subgraph.xs, baselines))
        total = sum(sum_features(part) for part in parts)
        before = subgraph.replay(starts)
        with tf.control_dependencies(subgraph.one_per_row()):
            for y, y0, weight in zip(subgraph.ys, before, weights):
                # Summed as one difference, which loses least where F(x) and F(baseline) are close.
                change = widen(y) - widen(y0)
                if weight is not None:
                    change *= tf.cast(weight, change.dtype)
                total -= tf.cast(sum_features(change), total.dtype)
    return total
