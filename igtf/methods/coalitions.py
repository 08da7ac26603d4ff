"""Shapley values as the solution of a weighted regression over coalitions of features."""

import math
from typing import Any

import numpy as np
import tensorflow as tf

from igtf.arithmetic import repeat
from igtf.methods.common import black_box, copies_per_block, positive, score, seed_of, uniform
from igtf.methods.groups import BaselineSet, Groups, check_options
from integrated_gradients_tf import Baselines, Tensors, as_it_is, broadcast_like, merge_rows

__all__ = ["Pairs", "kernel_shap"]

MOST_GROUPS = 4096  # whose regression is a matrix of 128 MiB
MOST_SAMPLES = 2**30
RIDGE = 1e-5  # for fewer coalitions than groups: those that nothing tells apart share equally


@as_it_is
def kernel_shap(
    ys: Tensors,
    xs: Tensors,
    baselines: Baselines = None,
    feature_mask: Any = None,
    num_samples: int = 1024,
    seed: int | None = None,
    grad_ys: Tensors | None = None,
    num_groups: int | None = None,
    per_group: bool = False,
    max_rows: int | None = None,
    name: str = "kernel_shap",
) -> Tensors:
    """Shapley values, by weighted regression over coalitions of features or groups: Kernel SHAP.

    Lundberg and Lee, https://arxiv.org/abs/1705.07874, theorem 2: the network is run on coalitions, which
    keep some groups of features and set the others to the baseline, and a linear function of the groups is
    fitted to its outputs, complete, and with the weights that make its coefficients the Shapley values.
    Exact where all 2^G - 2 coalitions of `G` groups are at most `num_samples` (10 groups, unless given).
    Otherwise the smallest and the largest coalitions are taken completely as far as that goes, and others
    drawn, each with its complement. Memory does not grow with `num_samples`. Nothing needs a gradient.

    Args:
      ys, grad_ys: as for `saliency`.
      xs: tensor `[B, ...]`, or a list, tuple or dict of such, whose features play in one joint game.
        Integers such as ids are welcome.
      baselines: what stands for an absent feature: `None` (zeros), a scalar, or a tensor that
        broadcasts to `xs`. With structured `xs`: one scalar for all, or the same structure. One axis more
        than `xs` has, `[K, 1, ...]` or `[K, B, ...]`, makes it a set of `K` baselines: the output of a
        coalition is the mean over them.
      feature_mask, num_groups, per_group: as for `occlusion`; at most 4,096 groups. Without a mask each
        feature is a group of its own.
      num_samples: number of coalitions, rounded up to an even one; all rows share them. For each, the
        network runs once per baseline.
      seed: int: the same draws in every run, in a `Session` as in a `tf.function` (XLA has its own).
        `None`: fresh ones.
      max_rows: rows to run at once, at least two for each row of the batch; `None` chooses.
      name: name scope of the nodes.

    Returns:
      The attributions, in the shape and structure of `xs`; of the dtype of `ys` for integer `xs`. With a
      `feature_mask`, features share the attribution of their group equally; with `per_group` that of each
      group, `[B, G]`. They sum to F(x) - F(baseline) for any number of samples.

    Raises:
      TypeError: a tensor is eager or a KerasTensor, `ys` is not floating, or `feature_mask` no ints.
      ValueError: more than 4,096 groups, or arguments that do not fit together; rows that are mixed or
        random.

    >>> @tf.function
    ... def f(x):
    ...     return kernel_shap(x[:, 0] * x[:, 1] + x[:, 2], x)
    >>> f(tf.constant([[3.0, 2.0, 5.0]])).numpy().round(4).tolist()
    [[3.0, 3.0, 5.0]]
    """
    function = "kernel_shap"
    subgraph, weights = black_box(function, ys, xs, grad_ys)
    num_samples = positive(function, "num_samples", num_samples)
    if num_samples > MOST_SAMPLES:
        raise ValueError(
            f"{function}: num_samples is {num_samples}, expected at most {MOST_SAMPLES:,}. Pass "
            "a feature_mask with fewer groups where fewer are not enough."
        )
    check_options(function, feature_mask, num_groups, per_group)
    with tf.name_scope(name):
        if feature_mask is None:
            feature_mask = tf.nest.pack_sequence_as(xs, _each_alone(function, subgraph.xs))
        groups = Groups(function, xs, subgraph.xs, feature_mask, num_groups, per_group)
        _check_count(function, groups.count)
        starts = BaselineSet(function, xs, subgraph.xs, baselines)
        pairs = Pairs(groups.count, num_samples, seed_of(function, seed))
        rows = subgraph.check_lengths()
        per_block = copies_per_block(
            subgraph, max_rows, rows, pairs.count, 2, "a coalition and its complement"
        )

        def outputs(points, copies):
            return tf.cast(score(subgraph, subgraph.replay(points, copies), weights, copies), tf.float64)

        def without(number, total):
            points = [broadcast_like(start, x) for start, x in zip(starts.at(number), subgraph.xs)]
            return [total + outputs(points, 1) / starts.count]

        whole = score(subgraph, subgraph.ys, weights)
        full = tf.cast(whole, tf.float64)
        (empty,) = repeat(starts.count, without, [tf.zeros_like(full)])
        change = full - empty

        def of_coalitions(kept, number):
            """F with the groups of each coalition alone, `kept [n, G]` to `[n, B]`."""
            copies = kept.shape.as_list()[0] or tf.shape(kept)[0]
            points = [
                merge_rows(tf.where(tf.gather(kept, ids, axis=1), x, start), x, copies)
                for ids, x, start in zip(groups.ids, subgraph.xs, starts.at(number))
            ]
            return tf.reshape(outputs(points, copies), [copies, rows])

        # Regressed is how far outputs are from what equal shares would make of them.
        present = tf.cast(groups.sizes(tf.float64) > 0, tf.float64)
        equal = present / tf.maximum(tf.reduce_sum(present, 1, keepdims=True), 1)

        def add(run, right, *left):
            kept, weight = pairs.block(run // starts.count, per_block)
            halves = [kept, tf.logical_not(kept)]
            if subgraph.stackable:
                found = of_coalitions(tf.concat(halves, 0), run)
            else:
                found = tf.concat([of_coalitions(half, run) for half in halves], 0)
            kept = tf.cast(tf.concat(halves, 0), tf.float64)
            weight = tf.concat([weight, weight], 0)[:, None] / starts.count
            rest = found - empty - tf.matmul(kept, equal, transpose_b=True) * change
            right += tf.matmul(weight * rest, kept, transpose_a=True)
            return right, *(some + tf.matmul(weight * kept, kept, transpose_a=True) for some in left)

        blocks = -(-pairs.count // per_block)
        zeros = tf.zeros([rows, groups.count], tf.float64)
        left = [] if pairs.exact else [tf.zeros([groups.count] * 2, tf.float64)]
        right, *left = repeat(blocks * starts.count, add, [zeros, *left])
        right = _centred(right, present)
        if pairs.exact:
            further = right / pairs.slope
        else:
            further = _solve(left[0], right, present, groups.any_own)
        total = equal * change[:, None] + further
        return groups.attributions(tf.cast(total, whole.dtype))


def _each_alone(function, xs):
    """Masks in which every feature is a group."""
    masks, first = [], 0
    for x in xs:
        shape = x.shape.as_list()[1:] if x.shape.rank is not None else [None]
        if None in shape:
            raise ValueError(
                f"{function}: xs {x.name!r} has shape {x.shape}, expected static feature dimensions to tell "
                "its features apart. Set them with xs.set_shape before the network is called, or pass a "
                "feature_mask."
            )
        size = math.prod(shape)
        _check_count(function, first + size)
        masks.append(first + np.arange(size, dtype=np.int32).reshape(shape))
        first += size
    return masks


def _check_count(function, count):
    if count > MOST_GROUPS:
        raise ValueError(
            f"{function}: xs has {count:,} features or groups, expected at most {MOST_GROUPS:,}: their "
            "regression has a matrix of that many rows and columns. Pass a feature_mask with fewer groups, "
            "such as patches or segments of an image."
        )


class Pairs:
    """Coalitions, each with its complement, and their weights.

    Attributes:
      count: how many pairs there are.
      exact: whether they are all coalitions but the empty one and that of all.
      slope: then, what the regression of centred values is divided by.
    """

    def __init__(self, groups, num_samples, seed):
        self._groups, self._seed = groups, seed
        mass = [(groups - 1) / (s * (groups - s)) for s in range(1, groups)]
        # The weight of one coalition of each size, that of none and of all among them.
        each = [0.0, *(m / math.comb(groups, s) for s, m in enumerate(mass, 1)), 0.0]
        self._weights = tf.constant(each, tf.float64)
        self.exact = 2**groups - 2 <= num_samples
        if self.exact:
            self.count = 2 ** (groups - 1) - 1
            self.slope = sum(each[s] * math.comb(groups - 2, s - 1) for s in range(1, groups)) or 1.0
            return
        # Pairs of sizes s and groups - s: of the middle one the complements are as large.
        shares = [m * (2 - (2 * s == groups)) for s, m in enumerate(mass[: groups // 2], 1)]
        counts = [math.comb(groups, s) // (1 + (2 * s == groups)) for s in range(1, groups // 2 + 1)]
        left, self._complete = num_samples, []
        for size, count in enumerate(counts):
            # Taken completely where as many draws would fall on them.
            if left * shares[size] < 2 * count * sum(shares[size:]):
                break
            self._complete.append(count)
            left -= 2 * count
        self._drawn = shares[len(self._complete) :]
        draws = max(1, -(-left // 2))
        self._weight = sum(self._drawn) / (2 * draws)
        self.count = sum(self._complete) + draws

    def block(self, number, size):
        """Coalitions `[size, G]`, True for what is kept, and their weights `[size]`, 0 beyond the last."""
        pair = number * size + tf.range(size)
        if self.exact:  # the subsets without the last group, as bits
            kept = (pair[:, None] + 1) // (2 ** np.arange(self._groups, dtype=np.int64)) % 2
            kept = tf.cast(kept, tf.bool)
        else:
            kept = self._draw(pair)
            if self._complete:
                kept = tf.where((pair < sum(self._complete))[:, None], self._enumerate(pair), kept)
        weight = tf.gather(self._weights, tf.reduce_sum(tf.cast(kept, tf.int32), 1))
        if not self.exact:
            weight = tf.where(pair < sum(self._complete), weight, tf.constant(self._weight, tf.float64))
        return kept, tf.where(pair < self.count, weight, tf.zeros([], tf.float64))

    def _enumerate(self, pair):
        """The subsets of 1, 2, ... groups in colexicographic order, which begins without the last group."""
        ends = np.cumsum(self._complete)
        size = 1 + tf.reduce_sum(tf.cast(pair[:, None] >= ends, tf.int32), 1)
        rank = pair - tf.gather(np.r_[0, ends].astype(np.int32), size - 1)
        kept = tf.zeros([tf.shape(pair)[0], self._groups], tf.bool)
        for k in range(len(ends), 0, -1):
            # The largest member is the last one before which there are not more subsets of k than the rank.
            before = [min(math.comb(n, k), 2**31 - 1) for n in range(self._groups)]
            before = tf.constant(before, tf.int32)
            member = tf.reduce_sum(tf.cast(before <= rank[:, None], tf.int32), 1) - 1
            has = size >= k
            kept |= has[:, None] & tf.one_hot(member, self._groups, True, False)
            rank -= tf.where(has, tf.gather(before, tf.maximum(member, 0)), 0)
        return kept

    def _draw(self, pair):
        """Subsets of random size: one draw for each, whatever the block that it is in."""
        numbers = tf.map_fn(
            lambda draw: uniform([1 + self._groups], self._seed, draw),
            pair,
            fn_output_signature=tf.float32,
            parallel_iterations=1,
        )
        ends = np.cumsum(self._drawn[:-1]) / sum(self._drawn)
        size = tf.reduce_sum(tf.cast(numbers[:, :1] >= ends.astype(np.float32), tf.int32), 1)
        return tf.argsort(numbers[:, 1:]) < size[:, None] + 1 + len(self._complete)


def _centred(values, present):
    """`values [..., G]` without what is the same for all groups that are present, 0 for the others."""
    kept = values * present
    count = tf.maximum(tf.reduce_sum(present, -1, keepdims=True), 1)
    return kept - present * tf.reduce_sum(kept, -1, keepdims=True) / count


def _solve(left, right, present, any_own):
    """The least squares `[B, G]` that sum to 0 over the groups that are present; the shortest of several."""
    some = present[:, None]
    left = tf.transpose(_centred(tf.transpose(_centred(left[None], some), [0, 2, 1]), some), [0, 2, 1])
    scale = tf.linalg.trace(left)[:, None, None] / tf.maximum(tf.reduce_sum(some, 2, keepdims=True), 1)
    scale = tf.where(tf.equal(scale, 0), tf.ones_like(scale), scale)
    # Along what is left out, anything that can be solved: the right side is 0 there.
    other = tf.linalg.diag(1 - present + RIDGE) + some * tf.transpose(some, [0, 2, 1])
    factor = tf.linalg.cholesky(left + scale * other)
    right = right[:, :, None] if any_own else tf.transpose(right)[None]
    found = tf.zeros_like(right)
    for _ in range(3):  # takes the ridge out again where the coalitions say something
        found += tf.linalg.cholesky_solve(factor, right - tf.matmul(left, found))
    return found[:, :, 0] if any_own else tf.transpose(found[0])
