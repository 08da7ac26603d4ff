"""Changes of the input: by how much the output falls, and by how much attributions say that it does."""

import tensorflow as tf

from igtf.arguments import is_int
from igtf.evaluation.common import mean_over, smaller
from igtf.methods.common import normal, shape_of, uniform
from integrated_gradients_tf import flat_baselines, pair_up, restore_shape, widen

__all__ = ["changed", "difference", "falls_of_changes", "falls_of_subsets", "noise"]


def falls_of_subsets(case, flat, units, starts, num_samples, fraction, seed, max_rows):
    """The sums of the attributions of random subsets, and how F falls without each: both `[samples, B]`."""
    size = _size_of_subsets(units.count, fraction)
    sums = tf.cast(units.sums(flat), case.dtype)

    def of(numbers):
        order = tf.map_fn(
            lambda number: tf.argsort(uniform([units.count], seed, number)), numbers, parallel_iterations=1
        )
        inside = restore_shape(order, [None, units.count if is_int(units.count) else None]) < size
        gone = units.spread(inside[:, None])

        def at(number):
            pairs = zip(gone, case.xs, starts.at(number))
            return case.score([tf.where(m, b, x) for m, x, b in pairs])

        foretold = tf.matmul(tf.cast(inside, sums.dtype), sums, transpose_b=True)
        return [foretold, case.before - mean_over(starts, at)]

    return case.for_each(of, num_samples, max_rows, 2)


def falls_of_changes(case, flat, starts, changed, num_samples, max_rows):
    """What attributions foretell for changed inputs, and how far F falls: both `[samples, B]`."""

    def of(numbers):
        points = changed(numbers)
        foretold = 0
        for i, (a, x, point) in enumerate(zip(flat, case.xs, points)):
            step = widen(x) - widen(point)
            if starts is not None:
                step = tf.math.divide_no_nan(step, widen(difference(x, starts[i])))
            step = step * a
            # Along an axis of size 1 attributions are for the mean.
            step *= tf.cast(tf.reduce_prod(tf.shape(a)[1:]) / tf.reduce_prod(tf.shape(x)[1:]), step.dtype)
            foretold += tf.reduce_sum(step, list(range(2, step.shape.rank)))
        return [tf.cast(foretold, case.dtype), case.before - case.score(points)]

    return case.for_each(of, num_samples, max_rows, 2)


def noise(function, xs, flat, stdev, seed):
    """`perturb` that adds normal noise, the same for all rows."""
    stdevs = flat_baselines(function, xs, flat, stdev)

    def perturb(_, number):
        noisy = []
        for i, (x, width) in enumerate(zip(flat, stdevs)):
            drawn = normal([1, *shape_of(x)[1:]], seed, number * len(flat) + i)
            noisy.append(x + width * tf.cast(drawn, x.dtype))
        return tf.nest.pack_sequence_as(xs, noisy)

    return perturb


def changed(function, xs, flat, perturb):
    """Numbers `[n]` to changed inputs `[n, B, ...]`, a list of them."""

    def one(number):
        returned = perturb(xs, number)
        try:
            values = [value for _, value in pair_up(xs, returned)]
            found = [tf.convert_to_tensor(value, x.dtype) for value, x in zip(values, flat)]
        except (ValueError, TypeError, KeyError, RuntimeError) as error:
            raise ValueError(
                f"{function}: perturb returned a {type(returned).__name__}, expected tensors in the "
                f"structure and of the dtypes of xs. It said: {error}"
            ) from None
        for value, x in zip(found, flat):
            if not value.shape.is_compatible_with(x.shape):
                raise ValueError(
                    f"{function}: perturb returned a tensor of shape {value.shape}, expected {x.shape} as xs "
                    f"{x.name!r}. Broadcast what it adds to its inputs."
                )
        return [restore_shape(value, x.shape) for value, x in zip(found, flat)]

    def changed(numbers):
        specs = [tf.TensorSpec(x.shape, x.dtype) for x in flat]
        return tf.map_fn(one, numbers, fn_output_signature=specs, parallel_iterations=1)

    return changed


def _size_of_subsets(count, fraction):
    """One unit at least."""
    if is_int(count):
        return max(1, min(count, round(fraction * count)))
    size = tf.cast(tf.round(fraction * tf.cast(count, tf.float64)), count.dtype)
    return tf.maximum(smaller(size, count), 1)


def difference(x, start):
    return x - tf.cast(start, x.dtype)
