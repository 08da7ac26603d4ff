"""Guided integrated gradients: a path that first moves the features to which the network minds least."""

import math
import numbers
from collections.abc import Sequence

import numpy as np
import tensorflow as tf

from igtf.arguments import flat_grad_ys
from igtf.arithmetic import Features, repeat, safe_ratio
from igtf.attributions import integrated_gradients
from igtf.subgraph import Subgraph
from integrated_gradients_tf import Baselines, Tensors, as_it_is, check_steps, flat_baselines

METHODS = ("secant", "riemann_left", "riemann_trapezoid")


@as_it_is
def guided_integrated_gradients(
    ys: Tensors,
    xs: Tensors,
    baselines: Baselines = None,
    num_steps: int = 50,
    fraction: float = 0.25,
    max_dist: float = 0.02,
    method: str = "secant",
    grad_ys: Tensors | None = None,
    per_row: Sequence[tf.Tensor] | None = None,
    name: str = "guided_integrated_gradients",
) -> Tensors:
    """Integrated gradients along a path that the gradients choose, one for each row.

    Kapishnikov et al., https://arxiv.org/abs/2106.09788: in every step, the features of the smallest
    gradients move first, so that the path keeps away from where the network is noisy. `max_dist` holds it
    near the straight line. All rows are walked at once, in constant memory.

    Args:
      ys, xs, baselines, grad_ys, per_row: as for `integrated_gradients`.
      num_steps: number of steps, from 1 on: each takes the same share of the L1 distance to `xs`.
      fraction: share of the features that may move at once, above 0 and at most 1. 1 moves all of them.
      max_dist: how far any feature may be ahead of or behind the straight line, as a share of its way, from
        0 (which is the straight line) to 1 (no limit).
      method: what a feature gets for a move: `"secant"`, its change times the mean slope of the network
        over the move, so that attributions are complete whatever the number of steps;
        `"riemann_left"`, times the gradient before the move, as the authors do; `"riemann_trapezoid"`, times
        the mean of the gradients before and after. The last two take a gradient per step, `"secant"` some
        two and a half.
      name: name scope of the nodes.

    Returns:
      The attributions, in the shape and structure of `xs`.

    Raises:
      TypeError, ValueError: as `integrated_gradients`; ValueError for a fraction or distance out of range.

    >>> @tf.function
    ... def f(x):
    ...     return guided_integrated_gradients(x[:, 0] * x[:, 1] + 5 * x[:, 1], x, num_steps=10, max_dist=1.0)
    >>> f(tf.constant([[3.0, 2.0]])).numpy().round(2).tolist()  # the first one moves first, and alone
    [[0.0, 16.0]]
    """
    function = "guided_integrated_gradients"
    steps = check_steps(function, num_steps, method, METHODS)
    _check_share(function, "fraction", fraction, fraction != 0)
    _check_share(function, "max_dist", max_dist)
    with tf.name_scope(name):
        subgraph = Subgraph(function, ys, xs, per_row)
        weights = flat_grad_ys(function, subgraph, ys, grad_ys)
        starts = subgraph.full_baselines(flat_baselines(function, xs, subgraph.xs, baselines))
        subgraph.check_lengths()
        line = _Line(subgraph.xs, starts, fraction, max_dist)
        together, apart = line.features.together, line.features.apart

        def gradient(point):
            at = apart(point)
            grads = tf.gradients(subgraph.replay(at), at, weights, unconnected_gradients="zero")
            return together(map(tf.convert_to_tensor, grads))

        def step(k, point, slope, total):
            slope = gradient(point) if method != "riemann_trapezoid" else slope
            after = line.move(point, tf.abs(slope), k, steps)
            change, later = after - point, slope
            if method == "secant":
                ends = apart(after)
                made, of_all = subgraph.replay(ends), None
                if grad_ys is not None:
                    of_all = [tf.ones_like(y) if w is None else w for y, w in zip(made, weights)]
                found = integrated_gradients(made, ends, apart(point), 1, "secant", of_all)
                return after, slope, total + together(found)
            if method == "riemann_trapezoid":
                later = gradient(after)
            return after, later, total + change * (slope + later) / 2

        point = line.start
        slope = gradient(point) if method == "riemann_trapezoid" else tf.zeros_like(point)
        *_, total = repeat(steps, step, [point, slope, tf.zeros_like(point)])
        results = [tf.cast(t, x.dtype) for t, x in zip(apart(total), subgraph.xs)]
    return tf.nest.pack_sequence_as(xs, results)


class _Line:
    """The straight way from `starts` to `xs`, all features of a row in one, `[B, features]` in float64.

    The path leaves it by `distance` at most, and moves a `fraction` of the features at once.
    """

    def __init__(self, xs, starts, fraction, distance):
        self.features, self.fraction, self.distance = Features(xs, tf.float64), fraction, float(distance)
        self.start, self.end = self.features.together(starts), self.features.together(xs)
        self.way = self.end - self.start
        self.length = tf.reduce_sum(tf.abs(self.way), axis=1)

    def move(self, point, slope, k, steps):
        """Where `point` is after step `k`: nearer to the end by features of small `slope [B, features]`."""
        share = tf.cast(k + 1, point.dtype) / steps
        low, high = (tf.clip_by_value(share + d, 0, 1) for d in (-self.distance, self.distance))
        latest, first = self.start + low * self.way, self.start + high * self.way
        left, near = self.length * (1 - share), 1e-9 * self.length  # of the way, after this step
        count = point.shape[1]  # a number where it is known: XLA sorts no other share
        if count is None:
            count = tf.cast(tf.shape(point)[1], point.dtype)
        most = self.fraction * (count - 1)
        most = 1 + (tf.cast(most, tf.int32) if tf.is_tensor(most) else int(most))
        gone = tf.where(tf.equal(self.way, 0), high, safe_ratio(point - self.start, self.way))
        point = tf.where(gone < low, latest, point)

        def missing(point):
            return tf.reduce_sum(tf.abs(self.end - point), axis=1) - left

        def more(_, point):
            waiting = tf.not_equal(point, first)
            rest = tf.where(waiting, slope, np.inf)
            moves = waiting & (rest <= -tf.math.top_k(-rest, most).values[:, -1:])  # and what ties
            reach = tf.reduce_sum(tf.where(moves, tf.abs(first - point), 0), axis=1)
            part = tf.where(missing(point) > near, safe_ratio(missing(point), reach), 0)[:, None]
            moved = tf.where(part < 1, point + part * (first - point), first)
            return [tf.where(moves, moved, point)]

        rounds = min(math.ceil(1 / self.fraction), 1000) + 1
        (point,) = repeat(rounds, more, [point], lambda point: tf.reduce_any(missing(point) > near))
        return point


def _check_share(function, argument, value, above=True):
    number = isinstance(value, numbers.Real) and not isinstance(value, bool)
    if not number or not 0 <= value <= 1 or not above:
        raise ValueError(
            f"{function}: {argument} is {value!r}, expected a number from 0 to 1"
            f"{'' if above else ', and above 0'}."
        )
