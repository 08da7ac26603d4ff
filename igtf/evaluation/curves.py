"""What the output is while features are taken away, or given back, in the order of their attributions."""

from typing import Any

import tensorflow as tf

from igtf.arithmetic import right_pad
from igtf.evaluation.common import (
    Case,
    flat_attributions,
    how_many,
    in_units,
    mean_over,
    smaller,
    where_known,
)
from igtf.methods.groups import BaselineSet
from integrated_gradients_tf import Baselines, Tensors, as_it_is

__all__ = ["deletion", "insertion"]


@as_it_is
def deletion(
    ys: Tensors,
    xs: Tensors,
    attributions: Tensors,
    baselines: Baselines = None,
    num_steps: int | None = 50,
    feature_mask: Any = None,
    num_groups: int | None = None,
    grad_ys: Tensors | None = None,
    return_curves: bool = False,
    max_rows: int | None = None,
    name: str = "deletion",
) -> Any:
    """The area under the output while features are taken away, the best ones first: lower is better.

    Petsiuk et al., https://arxiv.org/abs/1806.07421, section 4.1: features are set to their baseline in the
    order of their attributions, the largest first, and F is drawn against the share of them that is gone.
    An explanation that knows what the output rests on makes it fall early. Some steps are run at a time, so
    that memory does not grow with their number. Nothing needs a gradient.

    It is fooled by baselines: what is left of an input is none that the network has seen, and may be read
    as anything (https://arxiv.org/abs/2202.12270). Look at `insertion` as well, and at a second baseline,
    such as a blurred input. Areas are in the units of F: compare methods on the same rows and outputs.

    Args:
      ys, grad_ys: as for `saliency`; F is the sum of the entries of a row, weighted by `grad_ys`. Scores
        above 0, such as probabilities, make areas that are easy to read.
      xs: tensor `[B, ...]`, or a list, tuple or dict of such, whose features are ranked together. Integers
        such as ids are welcome.
      attributions: floating tensors in the structure of `xs` and their shape, or 1 along axes that features
        are switched along together, as in `[B, H, W, 1]` for the pixels of images `[B, H, W, 3]`. Equal
        ones are ranked by their place.
      baselines: what features are set to: `None` (zeros), a scalar, or a tensor that broadcasts to `xs`,
        such as a blurred input. With structured `xs`: one scalar for all, or the same structure. One axis
        more than `xs` has, `[K, 1, ...]` or `[K, B, ...]`, makes it a set of `K` baselines: F is the mean
        over them.
      num_steps: into how many equal shares the features are cut, at most as many as there are. `None`:
        one by one.
      feature_mask, num_groups: as for `occlusion`: groups of features that are switched together, ranked by
        the sum of their attributions. Of groups without features nothing is seen.
      return_curves: whether to return the curves, too.
      max_rows: rows to run at once, at least those of the batch; `None` chooses.
      name: name scope of the nodes.

    Returns:
      The areas, `[B]`: by the trapezoidal rule, over the share of features from 0 to 1. With
      `return_curves`, `(areas, curves)`: F after each step, `[B, num_steps + 1]`, the first one F(x), the
      last one F(baseline). NaN in rows whose attributions are not finite.

    Raises:
      TypeError: a tensor is eager or a KerasTensor, `ys` or attributions are not floating, or
        `feature_mask` no ints.
      ValueError: attributions or other arguments that do not fit; rows that are mixed or random.

    >>> @tf.function
    ... def f(x):
    ...     return deletion(2 * x[:, 0] + x[:, 1], x, x, return_curves=True)
    >>> [part.numpy().tolist() for part in f(tf.constant([[3.0, 2.0]]))]
    [[3.0], [[8.0, 2.0, 0.0]]]
    """
    options = dict(baselines=baselines, num_steps=num_steps, feature_mask=feature_mask, num_groups=num_groups)
    return _curve(
        "deletion", ys, xs, attributions, grad_ys, return_curves, max_rows, name, taken=True, **options
    )


@as_it_is
def insertion(
    ys: Tensors,
    xs: Tensors,
    attributions: Tensors,
    baselines: Baselines = None,
    num_steps: int | None = 50,
    feature_mask: Any = None,
    num_groups: int | None = None,
    grad_ys: Tensors | None = None,
    return_curves: bool = False,
    max_rows: int | None = None,
    name: str = "insertion",
) -> Any:
    """The area under the output while features are given back, the best ones first: higher is better.

    Petsiuk et al., https://arxiv.org/abs/1806.07421, section 4.1: beginning with the baseline, features are
    set to what they are in the order of their attributions, the largest first, and F is drawn against the
    share of them that is there. An explanation that knows what the output rests on makes it rise early.

    It is fooled by what it begins with: a blurred input, whose shapes a network may still know, makes better
    scores than a black one, and single pixels of a photograph on black ground are none that it has seen
    (https://arxiv.org/abs/2202.12270).

    Args:
      ys, xs, attributions, baselines, num_steps, feature_mask, num_groups, grad_ys: as for `deletion`.
      return_curves, max_rows, name: as for `deletion`.

    Returns:
      The areas, `[B]`; with `return_curves`, `(areas, curves)`: F after each step, `[B, num_steps + 1]`, the
      first one F(baseline), the last one F(x). NaN in rows whose attributions are not finite.

    Raises:
      TypeError, ValueError: as `deletion`.

    >>> @tf.function
    ... def f(x):
    ...     return insertion(2 * x[:, 0] + x[:, 1], x, x, return_curves=True)
    >>> [part.numpy().tolist() for part in f(tf.constant([[3.0, 2.0]]))]
    [[5.0], [[0.0, 6.0, 8.0]]]
    """
    options = dict(baselines=baselines, num_steps=num_steps, feature_mask=feature_mask, num_groups=num_groups)
    return _curve(
        "insertion", ys, xs, attributions, grad_ys, return_curves, max_rows, name, taken=False, **options
    )


def _curve(
    function,
    ys,
    xs,
    attributions,
    grad_ys,
    return_curves,
    max_rows,
    name,
    *,
    taken,
    baselines,
    num_steps,
    feature_mask,
    num_groups,
):
    case = Case(function, ys, xs, grad_ys)
    flat = flat_attributions(function, xs, case.xs, attributions, feature_mask, num_groups)
    num_steps = None if num_steps is None else how_many(function, "num_steps", num_steps)
    with tf.name_scope(name):
        units = in_units(function, xs, case, flat, feature_mask, num_groups)
        starts = BaselineSet(function, xs, case.xs, baselines)
        present = units.sizes(tf.float32) > 0  # [1 or B, G]
        ranks = units.spread(_ranks(units.sums(flat), present)[None])  # of features, [1, B, ...]
        counts = tf.reduce_sum(tf.cast(present, tf.int64), 1)
        steps = units.count if num_steps is None else smaller(num_steps, units.count)
        whole = tf.cast(steps, tf.int64)

        def after(numbers):
            """F after steps of these numbers, `[n, B]`."""
            done = (2 * tf.cast(numbers, tf.int64)[:, None] * counts + whole) // (2 * whole)  # to the nearest
            moved = [rank < tf.cast(right_pad(done, rank[0]), rank.dtype) for rank in ranks]

            def at(number):
                pairs = zip(moved, case.xs, starts.at(number))
                return case.score([tf.where(m, *((b, x) if taken else (x, b))) for m, x, b in pairs])

            return [mean_over(starts, at)]

        (curves,) = case.for_each(after, steps + 1, max_rows)
        curves = where_known(tf.transpose(curves), flat, columns=True)
        areas = (tf.reduce_sum(curves, 1) - (curves[:, 0] + curves[:, -1]) / 2) / tf.cast(steps, curves.dtype)
    return (areas, curves) if return_curves else areas


def _ranks(values, present):
    """0 for the largest of `values [B, G]`, 1 for the next; those that are not there come last."""
    low = tf.constant(float("-inf"), values.dtype)
    order = tf.argsort(tf.where(present, values, low), direction="DESCENDING", stable=True)
    return tf.argsort(order, stable=True)
