"""Integrated gradients as nodes of your own TensorFlow graph.

Copy this one file into a project: interpolate, run your network again on the points of the path, and sum
the gradients. Both functions take tensors of a graph under construction (a `tf.compat.v1` graph, or the
graph that `tf.function` traces), add nodes to it and return ordinary tensors: fetch them with the
predictions, train on them, export them. The package `igtf` explains any tensor by any other of a graph
that already exists, without a second copy of the network by hand.

The method is that of Sundararajan, Taly and Yan, "Axiomatic Attribution for Deep Networks",
https://arxiv.org/abs/1703.01365. Equation 1 there: the attribution of feature i is

    (x_i - b_i) * integral over alpha from 0 to 1 of dF(b + alpha * (x - b)) / dx_i

Shapes below: `B` rows in a batch, `S` = `num_steps`, `...` the feature dimensions. Rows are
independent of one another.

Copyright 2026 the IntegratedGradientsTF authors. Licensed under the Apache License, Version 2.0.
"""

import functools
import numbers
from typing import TypeAlias

import numpy as np
import tensorflow as tf

__all__ = ["build_ig", "linear_inpterpolation", "linear_interpolation"]

# AutoGraph would convert every function below when it is called inside a tf.function.
as_it_is = tf.autograph.experimental.do_not_convert
# A tensor, or a list, tuple or dict of tensors.
Tensors: TypeAlias = tf.Tensor | list | tuple | dict
# Likewise; arrays and numbers are converted.
Baselines: TypeAlias = tf.Tensor | np.ndarray | float | list | tuple | dict | None
MAX_STEPS = 1_000_000
PANEL = 128  # Gauss-Legendre nodes in one panel: leggauss(5000) would take 15 s and 300 MiB.


@as_it_is
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
    num_steps = check_steps("linear_interpolation", num_steps, method)
    flat = flat_inputs("linear_interpolation", "x", x)
    points, weights = quadrature(num_steps, method)
    with tf.name_scope(name):
        starts = flat_baselines("linear_interpolation", x, flat, baseline)
        graph = tf.compat.v1.get_default_graph()
        if baseline is None and not graph.building_function:
            # Of unknown shape, so that one row can be fed with or without its batch dimension.
            starts = [tf.compat.v1.placeholder_with_default(b, None, "baseline") for b in starts]
        inter, stepsize = [], []
        for tensor, start in zip(flat, starts):
            start = broadcast_like(start, tensor)
            change = change_between(start, tensor)
            path = point_between(
                start, tensor, change, as_column(points, tensor), as_column(1 - points, tensor)
            )
            inter.append(merge_rows(path, tensor, len(points)))
            step = as_column(weights, tensor) * change
            stepsize.append(merge_rows(step, tensor, len(points)))
    return tuple(tf.nest.pack_sequence_as(x, part) for part in (inter, stepsize, starts))


@as_it_is
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
    num_steps = check_steps("build_ig", num_steps)
    inters = flat_inputs("build_ig", "inter", inter)
    check_structure("build_ig", "stepsize", stepsize, "inter", inter)
    stepsizes = flat_inputs("build_ig", "stepsize", stepsize)
    check_tensor("build_ig", "output", output)
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


@as_it_is
def linear_inpterpolation(sample: Tensors, num_steps: int = 50) -> tuple[Tensors, Tensors, Tensors]:
    """The original spelling and its numbers (left Riemann sum); see `linear_interpolation`."""
    return linear_interpolation(sample, num_steps, method="riemann_left")


# Quadrature: points and weights ------------------------------------------------------------------


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


# Arithmetic of rows and steps --------------------------------------------------------------------


def widen(tensor):
    return tf.cast(tensor, wide_dtype(tensor.dtype))


def point_between(start, end, change, from_start, from_end):
    """Points of the straight path: exact at both ends, and where nothing changes."""
    first = from_start < from_end
    return tf.where(first, start, end) + change * tf.where(first, from_start, -from_end)


def change_between(start, end):
    """`end - start`, and 0 where a mask of -inf is part of both."""
    return tf.where(tf.equal(start, end), tf.zeros([], end.dtype), end - start)


def with_features(leading, like):
    """The shape `[*leading, ...]` with the sizes of `like [B, ...]`; what is static takes few nodes.

    One of `leading` may be a function, which is asked where that size does not follow from the others.
    """
    features = like.shape[1:] if like.shape.rank is not None else tf.TensorShape(None)
    follows = features.is_fully_defined() and 0 not in features.as_list()
    leading = [(-1 if follows else size()) if callable(size) else size for size in leading]
    if features.is_fully_defined():
        return [*leading, *features.as_list()]
    return tf.concat([leading, tf.shape(like)[1:]], 0)


def split_rows(tensor, copies):
    """`[copies * B, ...]` -> `[copies, B, ...]`."""
    split = tf.reshape(tensor, with_features([copies, lambda: tf.shape(tensor)[0] // copies], tensor))
    if tensor.shape.rank is not None:
        rows = tensor.shape.as_list()[0]
        known = rows is not None and isinstance(copies, int)
        fixed = copies if isinstance(copies, int) else None
        split.set_shape([fixed, rows // copies if known else None] + tensor.shape.as_list()[1:])
    return split


def add_steps(grad, steps):
    """`[steps * B, ...]` -> `[B, ...]`, in float32 at least."""
    grad = widen(grad)
    return grad if isinstance(steps, int) and steps == 1 else tf.reduce_sum(split_rows(grad, steps), axis=0)


def merge_rows(tensor, like, copies):
    """`[copies, B, ...]` -> `[copies * B, ...]`."""
    merged = tf.reshape(tensor, with_features([lambda: copies * tf.shape(like)[0]], like))
    if like.shape.rank is not None:
        rows = like.shape.as_list()[0]
        known = rows is not None and isinstance(copies, int)
        merged.set_shape([rows * copies if known else None] + like.shape.as_list()[1:])
    return merged


def as_column(values, tensor):
    """`values [S]` as `[S, 1, ...]`, to broadcast against `tensor [B, ...]`."""
    values = tf.constant(values, tensor.dtype)
    if tensor.shape.rank is not None:
        return tf.reshape(values, [-1] + [1] * tensor.shape.rank)
    return tf.reshape(values, tf.concat([[-1], tf.ones([tf.rank(tensor)], tf.int32)], 0))


def broadcast_like(baseline, x):
    """A baseline in the shape of `x`."""
    return restore_shape(tf.broadcast_to(baseline, tf.shape(x)), x.shape)


def restore_shape(tensor, shape):
    tensor.set_shape(shape)
    return tensor


def _sum_steps(grad, stepsize, steps):
    """Sum over steps of `stepsize * grad`, `[S * B, ...]` -> `[B, ...]`, in float32 at least."""
    factors = _factors(stepsize, steps)
    if grad is None:
        total = tf.zeros_like(stepsize[: tf.shape(stepsize)[0] // steps])
    elif factors is None:
        total = add_steps(widen(grad) * widen(stepsize), steps)
    else:
        # Half the work: the weights times the gradients, then once times the change.
        weights, change = factors
        grad = widen(tf.convert_to_tensor(grad))
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


def wide_dtype(dtype):
    """The type to accumulate in."""
    return tf.float32 if dtype.size < 4 else dtype


# Checks: what came in, what was expected, what to do ---------------------------------------------


def check_steps(function, num_steps, method="gausslegendre", methods=tuple(QUADRATURES)):
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


def check_tensor(function, argument, value):
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


def flat_inputs(function, argument, structure, floating=True):
    """The tensors of a structure, checked: floating and with a batch dimension."""
    flat = tf.nest.flatten(structure)
    if not flat:
        raise ValueError(
            f"{function}: {argument} is {structure!r}, expected at least one tensor. Pass what the "
            "network was called on."
        )
    for value in flat:
        check_tensor(function, argument, value)
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


def check_structure(function, argument, structure, like_argument, like):
    try:
        tf.nest.assert_same_structure(like, structure, check_types=True)
    except (ValueError, TypeError):
        raise ValueError(
            f"{function}: {argument} has the structure {describe(structure)}, expected that of "
            f"{like_argument}, {describe(like)}. Give both the same lists, tuples and keys."
        ) from None


def describe(structure):
    if isinstance(structure, dict):
        return "{" + ", ".join(f"{k!r}: {describe(v)}" for k, v in structure.items()) + "}"
    if isinstance(structure, (list, tuple)):
        inner = ", ".join(describe(v) for v in structure)
        return f"[{inner}]" if isinstance(structure, list) else f"({inner})"
    return type(structure).__name__


def flat_baselines(function, xs, flat, baselines):
    """One tensor per input that broadcasts to it, of its dtype. `None` is a row of zeros."""
    if baselines is None or np.isscalar(baselines) or getattr(baselines, "shape", None) == ():
        values = [baselines] * len(flat)
    elif not tf.nest.is_nested(xs):
        values = [baselines]
    else:
        # Arrays given as nested lists would be taken for structure: compare down to xs only.
        try:
            values = [v for _, v in pair_up(xs, baselines)]
        except (ValueError, TypeError, KeyError):
            raise ValueError(
                f"{function}: baseline has the structure {describe(baselines)}, expected one scalar "
                f"for all or that of the inputs, {describe(xs)}. Give every input its own baseline, "
                "None for zeros."
            ) from None
    return [_baseline(function, x, value) for x, value in zip(flat, values)]


def pair_up(xs, values):
    """Pairs of leaves of `xs` and what stands in the same place in `values`, in nest order."""
    if not tf.nest.is_nested(xs):
        return [(xs, values)]
    if isinstance(xs, dict):
        if not isinstance(values, dict) or set(xs) != set(values):
            raise ValueError
        return [pair for key in sorted(xs) for pair in pair_up(xs[key], values[key])]
    if not isinstance(values, (list, tuple)) or len(xs) != len(values):
        raise ValueError
    return [pair for x, value in zip(xs, values) for pair in pair_up(x, value)]


def _baseline(function, x, value):
    if value is None:
        if x.shape.rank is None:
            return tf.zeros([], x.dtype)
        return tf.zeros(tf.concat([[1], tf.shape(x)[1:]], 0), x.dtype)
    if tf.is_tensor(value) and not isinstance(value, tf.Variable):
        if type(value).__name__ == "KerasTensor":
            check_tensor(function, "baseline", value)
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
            check_tensor(function, "baseline", value)
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
