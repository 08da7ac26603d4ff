"""Level after level of steps until attributions stop changing, and how far from the truth they still are."""

import numpy as np
import tensorflow as tf

from igtf.arithmetic import epsilon, repeat, right_pad, safe_ratio, sum_features
from igtf.path_integral import PathIntegral
from integrated_gradients_tf import restore_shape, wide_dtype, widen

# Orders of convergence that the last two changes are believed to show, at least and at most.
SLOW, FAST = 3 / 4, 4 / 3
LUCK, FIRST_LUCK = 7 / 4, 9 / 4  # likewise at which a change is not believed to be as small as it is
ROUNDING = 16  # units in the last place of the outputs that attributions may be wrong by anyway


def refine(integral, compute, weights, units=None):
    """Integrates with as many steps as the integral's levels ask for.

    Args:
      integral: a `PathIntegral`.
      compute: what makes attributions of an integral and weights of the outputs: a method of it, in the place
        of which one for sums that go on is taken where points nest.
      weights: one tensor or None per output, and whatever else `compute` takes a row of for each.
      units: the number of columns if `compute` is the jacobian.

    Returns:
      `(attributions, errors, steps)`: a list of `[B, ...]` or `[B, units, ...]`; the estimated relative
      errors, `[B]` or `[B, units]`; the steps taken, `[B]`. The last two are None if there is one level.
    """
    integral.start()
    targets = integral.explained
    if integral.levels.several:
        errors, steps, results = _by_levels(integral, compute, weights, units, targets)
    else:
        errors, steps, results = None, None, compute(integral, weights)
    attributions = []
    for result, target in zip(results, targets):
        shape = target.shape if units is None else _insert(target.shape, units)
        attributions.append(restore_shape(tf.cast(result, target.dtype), shape))
    return attributions, errors, steps


def packed(structure, found, return_error):
    """What a builder returns of what `refine` found."""
    attributions, errors, steps = found
    packed = tf.nest.pack_sequence_as(structure, attributions)
    return (packed, errors, steps) if return_error else packed


def _by_levels(integral, compute, weights, units, targets):
    levels, dtype = integral.levels, wide_dtype(targets[0].dtype)
    counts, estimate = tf.constant(levels.counts), Estimate(levels, integral.secant, dtype)
    floor = _rounding(integral.subgraph, weights, dtype, units)
    rows = tf.shape(targets[0])[:1]
    columns = units
    if integral.nested:  # sums that the levels ahead of one have so far
        compute, columns = PathIntegral.attributions_of_levels, len(levels.counts)

    def zeros(target):
        shape = tf.shape(target)
        shape = shape if columns is None else tf.concat([shape[:1], [columns], shape[1:]], 0)
        static = target.shape if columns is None else _insert(target.shape, columns)
        return restore_shape(tf.zeros(shape, wide_dtype(target.dtype)), static)

    def step(level, errors, gaps, taken, *results):
        *results, density = results if integral.adapts else (*results, None)
        active = _unfinished(errors, levels.tolerance)
        index = tf.where(active)[:, 0] if integral.leaving else None

        def take(values):
            whole = index is None or values is None or values.shape.rank == 0
            return values if whole else tf.gather(values, index)

        def put(old, new):
            if index is None:
                return tf.where(right_pad(active[None], old)[0], new, old)
            return tf.tensor_scatter_nd_update(old, index[:, None], new)

        part = integral.at(level, index, density)
        found = compute(part, [take(weight) for weight in weights])
        old, new = [take(result) for result in results], found
        if integral.nested:
            found = [o + n for o, n in zip(old, new)]
            old, new = ([f[:, at] for f in found] for at in (tf.maximum(level - 1, 0), level))
        change = _sizes([n - o for n, o in zip(new, old)], units, dtype)
        size = tf.maximum(_sizes(new, units, dtype), take(floor))
        gap, jumps = safe_ratio(change, size), take(integral.jumps)
        jumps = jumps if units is None or jumps.shape.rank == 0 else jumps[:, None]
        error = estimate(level, gap, take(gaps), jumps)
        now = tf.fill(tf.shape(error)[:1], level)
        before, after = [errors, gaps, taken, *results], [error, gap, now, *found]
        if integral.adapts:
            before, after = [*before, density], [*after, part.followed()]
        return [put(*pair) for pair in zip(before, after)]

    per_output = rows if units is None else tf.concat([rows, [units]], 0)
    start = [tf.fill(per_output, tf.constant(float("inf"), dtype)), tf.zeros(per_output, dtype)]
    start = [restore_shape(t, _leading(targets[0].shape, units)) for t in start]
    start.append(restore_shape(tf.zeros(rows, tf.int32), targets[0].shape[:1]))
    start += map(zeros, targets)
    errors, _, taken, *results = repeat(
        len(levels.counts),
        step,
        [*start, integral.points.density] if integral.adapts else start,
        lambda errors, *_: tf.reduce_any(_unfinished(errors, levels.tolerance)),
    )
    results = results[: len(targets)]
    if integral.nested:
        results = [tf.gather(result, taken, batch_dims=1) for result in results]
    return errors, tf.gather(counts, taken), results


class Estimate:
    """What is left of a row's error, from how much its last levels changed it.

    With an error of order p, `growth` times the steps leave growth^-p of it, and so change attributions by
    growth^-p of what the level before changed them by; the changes to come are a geometric series. The
    order is read off the last two changes where there are two, and taken for 1 otherwise. Where gradients
    jump, rules of points have no higher one; and errors are sums of few terms of either sign there, so that
    a small change may be luck: the one before counts as well.
    """

    def __init__(self, levels, secant, dtype):
        def left(order):
            return tf.constant([growth**-order for growth in levels.growth], dtype)

        self.one, self.most = left(1), left(SLOW)
        self.least = left(1 if levels.method in ("riemann_left", "riemann_right") else FAST)
        self.least_of_jumps = self.least if secant else self.one
        luck = zip(levels.growth, [np.inf, np.inf, FIRST_LUCK] + len(levels.growth) * [LUCK])
        self.luck = tf.constant([growth**-order for growth, order in luck], dtype)

    def __call__(self, level, gap, last, jumps):
        least = tf.where(jumps, self.least_of_jumps[level], self.least[level])
        seen = tf.clip_by_value(gap / tf.maximum(last, 1e-30), least, self.most[level])
        left = tf.where(level > 1, seen, self.one[level])
        error = gap * left / (1 - left)
        error = tf.where(jumps, tf.maximum(error, self.luck[level] * last), error)
        return tf.where(level > 0, error, float("inf"))


def _unfinished(errors, tolerance):
    """`[B]`: the rows that need more steps; those of NaN do not."""
    active = errors > tolerance
    return active if active.shape.rank == 1 else tf.reduce_any(active, axis=1)


def _sizes(tensors, units, dtype):
    """The sum of absolute values per row, or per row and column."""
    if units is None:
        return tf.add_n([tf.cast(sum_features(tf.abs(t)), dtype) for t in tensors])
    axes = [tf.range(2, tf.rank(t)) for t in tensors]
    return tf.add_n([tf.cast(tf.reduce_sum(tf.abs(t), axis=a), dtype) for t, a in zip(tensors, axes)])


def _rounding(subgraph, weights, dtype, units):
    """Attributions below this are rounding: `[B]`, `[B, units]`, or a scalar if rows cannot be told apart."""
    sizes = []
    for y, weight in zip(subgraph.ys, weights):
        size = tf.abs(widen(y) if weight is None else widen(y) * widen(weight))
        if not subgraph.aligned:
            size = tf.reduce_sum(size)
        elif units is None:
            size = sum_features(size)
        sizes.append(tf.cast(ROUNDING * epsilon(y.dtype) * size, dtype))
    return tf.stop_gradient(tf.add_n(sizes))


def _leading(shape, units):
    return shape[:1] if units is None else [*shape[:1], units]


def _insert(shape, units):
    return [*shape[:1], units, *shape[1:]] if shape.rank else None
