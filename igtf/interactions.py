"""Pairs of features: how much of an attribution is due to two of them together."""

from collections.abc import Sequence

import numpy as np
import tensorflow as tf

from igtf.arguments import flat_grad_ys
from igtf.arithmetic import Features, map_range, repeat
from igtf.subgraph import Subgraph
from integrated_gradients_tf import (
    Baselines,
    Tensors,
    as_it_is,
    change_between,
    check_steps,
    flat_baselines,
    point_between,
    quadrature,
    wide_dtype,
)

MOST = 2**24  # interactions of a row that are worth their memory


@as_it_is
def integrated_hessians(
    ys: Tensors,
    xs: Tensors,
    baselines: Baselines = None,
    pairs: Sequence | None = None,
    num_steps: int = 50,
    beta: float = 10.0,
    grad_ys: Tensors | None = None,
    per_row: Sequence[tf.Tensor] | None = None,
    name: str = "integrated_hessians",
) -> tf.Tensor:
    """Which features act together: the attribution of each, split up among all of them.

    Janizek, Sturmfels and Lee, https://arxiv.org/abs/2002.04138: integrated gradients of integrated
    gradients. Interaction (i, j) is what of the attribution of feature i is attributed to j, and the same
    the other way round; (i, i) is what i keeps, all of it if F is a sum over features. Their double integral
    is one over the product of both times, whose density is -log: a single sum of `num_steps` Hessians.

    A ReLU has no curvature but at its kink. As the authors do, networks are explained with
    log(1 + exp(`beta` z)) / `beta` in its place (and likewise for ReLU6, leaky ReLU, absolute value, maximum
    and minimum), which is by log(2) / `beta` higher at the kink and the same far from it. Interactions are
    complete for that network: they sum to its output at `xs` minus that at the baseline. Max pooling stays
    as it is, and counts as linear.

    Args:
      ys, xs, baselines, grad_ys, per_row: as for `integrated_gradients`. All features of a row count
        together, in their order in memory and in that of `xs`, if they are several tensors: `F` of them.
      pairs: `None`, all of them; or numbers of features, 0 to F - 1, whose interactions with all others are
        asked for; or pairs `(i, j)` of such numbers.
      num_steps: the number of Hessians, at the points of Gauss-Legendre in the cube root of the time. A
        chosen feature costs two gradients in each of them, one row of the Hessian.
      beta: how sharply the ReLU bends, above 0. More of it is nearer to the network, and needs more steps.
      name: name scope of the nodes.

    Returns:
      `[B, F, F]`, for chosen features `[B, chosen, F]`, for pairs `[B, pairs]`. The sum over the last axis is
      the integrated gradients of a feature (of the network with soft kinks), to the accuracy of the steps.

    Raises:
      TypeError, ValueError: as `integrated_gradients`; ValueError for features that `xs` have not, an unknown
        number of features, and more interactions than 16.8 million a row.

    >>> @tf.function
    ... def f(x):
    ...     return integrated_hessians(x[:, 0] * x[:, 1] + x[:, 2] ** 2, x)
    >>> f(tf.constant([[3.0, 2.0, 1.0]])).numpy().round(3).tolist()
    [[[1.5, 1.5, 0.0], [1.5, 1.5, 0.0], [0.0, 0.0, 1.0]]]
    """
    function = "integrated_hessians"
    steps = check_steps(function, num_steps)
    if isinstance(beta, bool) or not isinstance(beta, (int, float)) or not 0 < beta < np.inf:
        raise ValueError(f"{function}: beta is {beta!r}, expected a number above 0, such as 10.")
    with tf.name_scope(name):
        subgraph = Subgraph(function, ys, xs, per_row)
        weights = flat_grad_ys(function, subgraph, ys, grad_ys)
        sizes = [x.shape[1:].num_elements() for x in subgraph.xs]
        if None in sizes or not sum(sizes):
            raise ValueError(
                f"{function}: xs have shapes {[x.shape for x in subgraph.xs]}, expected static ones, of at "
                "least one feature."
            )
        count = sum(sizes)
        chosen, columns = _chosen(function, pairs, count)
        starts = subgraph.full_baselines(flat_baselines(function, xs, subgraph.xs, baselines))
        subgraph.check_lengths()
        ends, features = subgraph.xs, Features(subgraph.xs, wide_dtype(subgraph.xs[0].dtype))
        changes = [change_between(*pair) for pair in zip(starts, ends)]
        dtype, numbers = features.dtype, tf.constant(chosen, tf.int32)
        roots, shares = (tf.constant(values, dtype) for values in quadrature(steps, "gausslegendre"))
        instead = _soft(float(beta))

        def step(k, curved, straight):
            time = roots[k] ** 3
            share = -3 * roots[k] ** 2 * tf.math.log(time) * shares[k]
            at = [
                point_between(start, end, change, tf.cast(time, end.dtype), tf.cast(1 - time, end.dtype))
                for start, end, change in zip(starts, ends, changes)
            ]
            made = subgraph.replay(at, instead=instead)
            slopes = tf.gradients(made, at, weights, unconnected_gradients="zero")
            slopes = list(map(tf.convert_to_tensor, slopes))

            def row(i):
                seeds = tf.one_hot(tf.fill(tf.shape(ends[0])[:1], numbers[i]), count, dtype=dtype)
                found = tf.gradients(slopes, at, features.apart(seeds), unconnected_gradients="zero")
                return [features.together(map(tf.convert_to_tensor, found))]

            (rows,) = map_range(row, 0, len(chosen), [straight])
            return curved + share * time * rows, straight + share * features.together(slopes)

        straight = features.together(map(tf.zeros_like, ends))
        curved = tf.tile(straight[None], [len(chosen), 1, 1])
        curved, straight = repeat(steps, step, [curved, straight])
        change = features.together(changes)
        found = tf.transpose(curved, [1, 0, 2]) * change[:, None]
        found *= tf.gather(change, chosen, axis=1)[..., None]
        found += tf.one_hot(chosen, count, dtype=dtype) * (straight * change)[:, None]
        if columns is not None:
            rows = np.searchsorted(chosen, columns[0])
            found = tf.gather(tf.reshape(found, [-1, len(chosen) * count]), rows * count + columns[1], axis=1)
        return tf.cast(found, subgraph.xs[0].dtype)


def _chosen(function, pairs, count):
    """The features whose rows are needed, and of pairs both features, or None."""
    try:
        numbers = np.arange(count) if pairs is None else np.array(pairs)
    except ValueError:
        numbers = np.array("")
    right = numbers.ndim == 1 or (numbers.ndim == 2 and numbers.shape[1] == 2)
    if not right or not numbers.size or numbers.dtype.kind not in "iu":
        raise ValueError(
            f"{function}: pairs is {pairs!r}, expected None, a list of numbers of features, or a list of "
            "pairs of such, as [(0, 1), (0, 2)]."
        )
    if numbers.min() < 0 or numbers.max() >= count:
        raise ValueError(
            f"{function}: pairs has features {numbers.min()} to {numbers.max()}, expected 0 to {count - 1}, "
            "those of a row of xs."
        )
    chosen, columns = (numbers, None) if numbers.ndim == 1 else (np.unique(numbers[:, 0]), numbers.T)
    if len(chosen) * count > MOST:
        raise ValueError(
            f"{function}: {len(chosen):,} of {count:,} features have {len(chosen) * count:,} interactions a "
            f"row, expected at most {MOST:,}. Choose some: pairs=[...]."
        )
    return chosen, columns


def _soft(beta):
    """Op type -> what stands for it: kinks with a curvature."""

    def above(z):
        return tf.nn.softplus(beta * z) / beta

    def leaky(op, z):
        return op.get_attr("alpha") * z + (1 - op.get_attr("alpha")) * above(z)

    return {
        "Relu": lambda op, z: above(z),
        "Relu6": lambda op, z: above(z) - above(z - 6),
        "LeakyRelu": leaky,
        "Abs": lambda op, z: above(z) + above(-z),
        "Maximum": lambda op, a, b: b + above(a - b) if a.dtype.is_floating else tf.maximum(a, b),
        "Minimum": lambda op, a, b: a - above(a - b) if a.dtype.is_floating else tf.minimum(a, b),
    }
