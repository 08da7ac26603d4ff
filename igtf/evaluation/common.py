"""What the metrics share: the network on several versions of its input, and the units that are switched."""

import tensorflow as tf

from igtf.arithmetic import Features, map_range, repeat
from igtf.methods.common import black_box, copies_per_block, positive, score, shape_of
from igtf.methods.groups import Groups, check_options
from integrated_gradients_tf import (
    check_structure,
    flat_inputs,
    merge_rows,
    restore_shape,
    wide_dtype,
    widen,
    with_features,
)

__all__ = [
    "Case",
    "Entries",
    "flat_attributions",
    "how_many",
    "in_units",
    "mean_over",
    "smaller",
    "where_known",
]

MOST = 1_000_000  # runs of the network


class Case:
    """A network between two tensors, and what it returns for other values of its inputs.

    Attributes:
      xs: the flat inputs.
      dtype: that of the scores.
      before: F(x), `[B]`.
    """

    def __init__(self, function, ys, xs, grad_ys):
        self._subgraph, self._weights = black_box(function, ys, xs, grad_ys)
        self.xs = self._subgraph.xs
        self.dtype = wide_dtype(self._subgraph.ys[0].dtype)

    @property
    def before(self):
        return score(self._subgraph, self._subgraph.ys, self._weights)

    def score(self, points):
        """F at `points [n, B, ...]`, one tensor for each input: `[n, B]`."""
        copies = shape_of(points[0])[0]
        merged = [merge_rows(point, x, copies) for point, x in zip(points, self.xs)]
        outputs = score(self._subgraph, self._subgraph.replay(merged, copies), self._weights, copies)
        return tf.reshape(outputs, [copies, shape_of(self.xs[0])[0]])

    def for_each(self, function, count, max_rows, results=1):
        """What `function(numbers [n])` returns for the numbers below `count`, some of them at a time.

        Args:
          function: returns a list of tensors `[n, B]`.
          count: how many numbers there are.
          max_rows: rows to run at once, or None.
          results: length of that list.

        Returns:
          A list of tensors `[count, B]`. Nothing else is kept of a number once the next ones run.
        """
        rows = self._subgraph.check_lengths()
        most = copies_per_block(self._subgraph, max_rows, rows, count)
        blocks = -(-count // most)
        size = -(-count // blocks)  # as equal as it goes
        known = [value if isinstance(value, int) else None for value in (size, self._subgraph.rows)]

        def block(number):
            # Beyond the last one, which a function may know nothing of, the last one again.
            return function(tf.minimum(number * size + tf.range(size), count - 1))

        found = map_range(block, 0, blocks, [tf.TensorSpec(known, self.dtype)] * results)
        shape = [count if isinstance(count, int) else None, self._subgraph.rows]
        return [restore_shape(tf.reshape(part, [blocks * size, rows])[:count], shape) for part in found]


def mean_over(starts, function):
    """The mean of what `function(number)` returns over a set of baselines."""
    if starts.count == 1:
        return function(0)
    (total,) = repeat(starts.count - 1, lambda i, total: [total + function(i + 1)], [function(0)])
    return total / starts.count


class Entries:
    """The entries of the attributions as units that are switched one by one: the interface of `Groups`.

    An axis of size 1 stands for all that lies along it, as in `[B, H, W, 1]` for pixels.
    """

    any_own = False

    def __init__(self, attributions):
        self._features = Features(attributions, tf.float32)
        sizes = [a.shape[1:].num_elements() for a in attributions]
        self.count = tf.add_n(self._features.sizes) if None in sizes else sum(sizes)

    def spread(self, values):
        leading, like = shape_of(values)[:2], self._features.xs
        parts = [values] if len(like) == 1 else tf.split(values, self._features.sizes, axis=2, num=len(like))
        return [tf.reshape(part, with_features(leading, a)) for part, a in zip(parts, like)]

    def sums(self, values):
        return Features(values, values[0].dtype).together(values)

    def sizes(self, dtype):
        return tf.ones([1, self.count], dtype)


def in_units(function, xs, case, attributions, feature_mask, num_groups):
    """What is switched at once: the groups of a mask, or the entries of the attributions."""
    if feature_mask is None:
        return Entries(attributions)
    return Groups(function, xs, case.xs, feature_mask, num_groups)


def flat_attributions(function, xs, flat, attributions, feature_mask=None, num_groups=None):
    """One floating tensor for each input, that broadcasts to it; options of masks are checked, too."""
    check_options(function, feature_mask, num_groups, False)
    found = flat_inputs(function, "attributions", attributions)
    check_structure(function, "attributions", attributions, "xs", xs)
    for x, a in zip(flat, found):
        ours, theirs = (t.shape.as_list() if t.shape.rank is not None else None for t in (a, x))
        if ours is None or theirs is None:
            unknown = a if ours is None else x
            raise ValueError(
                f"{function}: {'attributions' if ours is None else 'xs'} {unknown.name!r} has unknown rank, "
                "expected a known one, the same for both. Set it with set_shape."
            )
        fits = len(ours) == len(theirs) and ours[0] in (None, theirs[0], *[ours[0]] * (theirs[0] is None))
        if not fits or any(a != 1 and None not in (a, b) and a != b for a, b in zip(ours[1:], theirs[1:])):
            raise ValueError(
                f"{function}: attributions have shape {a.shape}, expected {x.shape} as xs {x.name!r}, or 1 "
                "along axes that features are switched along together, as in [B, H, W, 1] for pixels."
            )
    return [widen(a) for a in found]


def where_known(scores, attributions, columns=False):
    """NaN in the place of scores `[B]`, or `[B, columns]`, of rows whose attributions are not finite."""
    known = tf.ones(tf.shape(attributions[0])[:1], tf.bool)
    for a in attributions:
        finite = tf.math.is_finite(a)
        known &= tf.reduce_all(finite, list(range(1, a.shape.rank)))
    return tf.where(known[:, None] if columns else known, scores, tf.constant(float("nan"), scores.dtype))


def how_many(function, argument, value, least=1):
    """The number of samples or steps, checked."""
    if not least <= positive(function, argument, value) <= MOST:
        raise ValueError(
            f"{function}: {argument} is {value}, expected {least} to {MOST:,}: for each the network runs "
            "once on all rows."
        )
    return int(value)


def smaller(a, b):
    return min(a, b) if isinstance(a, int) and isinstance(b, int) else tf.minimum(a, b)
