"""Whether attributions say by how much the output changes when the input does."""

from collections.abc import Callable
from typing import Any

import numpy as np
import tensorflow as tf

from igtf.evaluation.changes import changed, difference, falls_of_changes, falls_of_subsets, noise
from igtf.evaluation.common import Case, flat_attributions, how_many, in_units, where_known
from igtf.methods.common import seed_of
from igtf.methods.groups import BaselineSet
from integrated_gradients_tf import Baselines, Tensors, as_it_is, flat_inputs, widen

__all__ = ["infidelity", "mu_fidelity"]


@as_it_is
def infidelity(
    ys: Tensors,
    xs: Tensors,
    attributions: Tensors,
    num_samples: int = 64,
    baselines: Baselines = None,
    fraction: float = 0.2,
    stdev: Any = None,
    perturb: Callable | None = None,
    multiply_by_inputs: bool = True,
    normalize: bool = False,
    feature_mask: Any = None,
    num_groups: int | None = None,
    seed: int | None = None,
    grad_ys: Tensors | None = None,
    max_rows: int | None = None,
    name: str = "infidelity",
) -> Tensors:
    """How far attributions are from the fall of the output under random changes: lower is better.

    Yeh et al., https://arxiv.org/abs/1901.09392, definition 2.1: the mean of (I . A - (F(x) - F(x - I)))^2
    over random changes I, where I . A is the fall that the attributions A foretell. Some changes are run at
    a time, so that memory does not grow with their number. Nothing needs a gradient.

    It is fooled by its own changes: what is right for small noise (a gradient) is wrong for features that
    are taken away, and the other way round; and for features at a baseline the network is asked about inputs
    that it has never seen (https://arxiv.org/abs/2202.12270). It is in the units of F, squared. Attributions
    that are all 0 have the mean of the squared falls, and others may well have more.

    Args:
      ys, grad_ys: as for `saliency`; F is the sum of the entries of a row, weighted by `grad_ys`.
      xs, attributions: as for `deletion`.
      num_samples: number of changes. All rows share what is drawn, so that the score of a row does not
        depend on the batch that it is in.
      baselines, feature_mask, num_groups, max_rows: as for `deletion`. A change sets some features to the
        baseline unless one of the next two is given.
      fraction: which share of the features, above 0 and at most 1.
      stdev: adds noise instead: its standard deviation, as for `smoothgrad`.
      perturb: function `(xs, number)` that makes the changed inputs instead, in the structure and shapes of
        `xs`; `number` is a scalar tensor from 0 to `num_samples` - 1.
      multiply_by_inputs: whether attributions are contributions, as those of most methods: slopes times
        `xs - baselines`. `False`: slopes, as the gradient is one.
      normalize: whether to scale the attributions of each row by the factor that is best for them: then
        only their ratios count.
      seed: int: the same draws in every run, in a `Session` as in a `tf.function` (XLA has its own).
        `None`: fresh ones.
      name: name scope of the nodes.

    Returns:
      The scores, `[B]`; 0 is best. NaN in rows whose attributions are not finite.

    Raises:
      TypeError: a tensor is eager or a KerasTensor, `ys` or attributions are not floating, or `perturb`
        is no function.
      ValueError: arguments that do not fit, or not together; rows that are mixed or random.

    >>> @tf.function
    ... def f(x):
    ...     y = 2 * x[:, 0] + x[:, 1]
    ...     return infidelity(y, x, x * [2.0, 1.0], seed=0), infidelity(y, x, x, fraction=1.0)
    >>> [scores.numpy().tolist() for scores in f(tf.constant([[3.0, 2.0]]))]
    [[0.0], [9.0]]
    """
    function = "infidelity"
    case = Case(function, ys, xs, grad_ys)
    flat = flat_attributions(function, xs, case.xs, attributions, feature_mask, num_groups)
    num_samples, fraction = how_many(function, "num_samples", num_samples), _share(function, fraction)
    for argument, value in (("multiply_by_inputs", multiply_by_inputs), ("normalize", normalize)):
        if not isinstance(value, (bool, np.bool_)):
            raise TypeError(f"{function}: {argument} is {value!r}, expected True or False.")
    _check_changes(function, xs, stdev=stdev, perturb=perturb, feature_mask=feature_mask)
    with tf.name_scope(name):
        starts = BaselineSet(function, xs, case.xs, baselines)
        seed = seed_of(function, seed)
        if stdev is not None:
            perturb = noise(function, xs, case.xs, stdev, seed)
        if perturb is not None:
            points = changed(function, xs, case.xs, perturb)
            foretold, falls = falls_of_changes(
                case, flat, starts.mean() if multiply_by_inputs else None, points, num_samples, max_rows
            )
        else:
            if not multiply_by_inputs:
                pairs = zip(flat, case.xs, starts.mean())
                flat = [_shared(a, a * widen(difference(x, b))) for a, x, b in pairs]
            units = in_units(function, xs, case, flat, feature_mask, num_groups)
            foretold, falls = falls_of_subsets(
                case, flat, units, starts, num_samples, fraction, seed, max_rows
            )
        foretold, falls = tf.cast(foretold, tf.float64), tf.cast(falls, tf.float64)
        if normalize:
            best = tf.reduce_sum(foretold * falls, 0), tf.reduce_sum(tf.square(foretold), 0)
            foretold *= tf.math.divide_no_nan(*best)
        scores = tf.reduce_mean(tf.math.squared_difference(foretold, falls), 0)
        return where_known(tf.cast(scores, case.dtype), flat)


@as_it_is
def mu_fidelity(
    ys: Tensors,
    xs: Tensors,
    attributions: Tensors,
    num_samples: int = 64,
    baselines: Baselines = None,
    fraction: float = 0.2,
    ranks: bool = False,
    feature_mask: Any = None,
    num_groups: int | None = None,
    seed: int | None = None,
    grad_ys: Tensors | None = None,
    max_rows: int | None = None,
    name: str = "mu_fidelity",
) -> Tensors:
    """How well attributions of random subsets go with the fall without them: higher is better.

    Bhatt et al., https://arxiv.org/abs/2005.00631, section 3.3: over random subsets of the features, all
    of one size, the correlation of the sum of their attributions and of F(x) - F(x with the subset at the
    baseline). Some subsets are run at a time, so that memory does not grow with their number. Nothing needs
    a gradient.

    It is fooled by subsets: of large ones all make the output fall alike, of single pixels hardly any does
    (pass a `feature_mask` of patches), and inputs with holes are none that the network has seen
    (https://arxiv.org/abs/2202.12270). It does not see the scale of the attributions.

    Args:
      ys, xs, attributions, baselines, feature_mask, num_groups, grad_ys, max_rows: as for `deletion`.
      num_samples, seed: as for `infidelity`; two subsets at least.
      fraction: the size of the subsets, as a share of the features or groups, above 0 and at most 1.
      ranks: whether to correlate ranks (Spearman) instead of numbers (Pearson).
      name: name scope of the nodes.

    Returns:
      The correlations, `[B]`, from -1 to 1; 0 where one side does not vary. NaN in rows whose attributions
      are not finite.

    Raises:
      TypeError, ValueError: as `deletion`; ValueError for fewer than two subsets.

    >>> @tf.function
    ... def f(x):
    ...     y = 2 * x[:, 0] + x[:, 1]
    ...     right, wrong = x * [2.0, 1.0], -x
    ...     return [mu_fidelity(y, x, a, fraction=0.5, seed=0) for a in (right, wrong)]
    >>> [scores.numpy().round(4).tolist() for scores in f(tf.constant([[3.0, 2.0]]))]
    [[1.0], [-1.0]]
    """
    function = "mu_fidelity"
    case = Case(function, ys, xs, grad_ys)
    flat = flat_attributions(function, xs, case.xs, attributions, feature_mask, num_groups)
    num_samples, fraction = how_many(function, "num_samples", num_samples, 2), _share(function, fraction)
    if not isinstance(ranks, (bool, np.bool_)):
        raise TypeError(f"{function}: ranks is {ranks!r}, expected True or False.")
    with tf.name_scope(name):
        units = in_units(function, xs, case, flat, feature_mask, num_groups)
        starts = BaselineSet(function, xs, case.xs, baselines)
        pair = falls_of_subsets(
            case, flat, units, starts, num_samples, fraction, seed_of(function, seed), max_rows
        )
        (a, of_a), (b, of_b) = (
            _deviations(side, size, ranks) for side, size in zip(pair, (0.0, case.before))
        )
        scores = tf.math.divide_no_nan(tf.reduce_sum(a * b, 0), tf.sqrt(of_a * of_b))
        return where_known(tf.cast(scores, case.dtype), flat)


# Arithmetic -------------------------------------------------------------------------------------------


def _ranked(values):
    """Ranks along axis 0, the mean of them for equal values."""
    columns = tf.transpose(values)
    places = [tf.searchsorted(tf.sort(columns), columns, side) for side in ("left", "right")]
    return tf.transpose(tf.cast(tf.add_n(places), tf.float64) / 2)


def _deviations(values, size, ranks):
    """From the mean along axis 0, and the sum of their squares, 0 where they are but rounding.

    Rounding is that of the values, or of numbers of that `size`, of which they are differences.
    """
    rounding = 8 * np.finfo(values.dtype.as_numpy_dtype).eps
    values, size = tf.cast(values, tf.float64), tf.cast(size, tf.float64)
    varies = tf.square(values - tf.reduce_mean(values, 0)) > rounding**2 * (tf.square(values) + size**2)
    apart = _ranked(values) if ranks else values
    apart -= tf.reduce_mean(apart, 0)
    squares = tf.reduce_sum(tf.square(apart), 0)
    return apart, tf.where(tf.reduce_any(varies, 0), squares, tf.zeros_like(squares))


def _shared(like, values):
    """The mean of `values` along axes of size 1 of `like`."""
    axes = [axis for axis in range(1, like.shape.rank) if like.shape[axis] == 1 != values.shape[axis]]
    return tf.reduce_mean(values, axes, keepdims=True) if axes else values


# Checks -----------------------------------------------------------------------------------------------


def _share(function, fraction):
    number = isinstance(fraction, (int, float, np.integer, np.floating)) and not isinstance(fraction, bool)
    if not number or not 0 < fraction <= 1:
        raise ValueError(
            f"{function}: fraction is {fraction!r}, expected a number above 0 and at most 1, such as 0.2: "
            "the share of the features that is switched at once."
        )
    return float(fraction)


def _check_changes(function, xs, **kinds):
    given = [kind for kind, value in kinds.items() if value is not None]
    if len(given) > 1:
        raise ValueError(
            f"{function}: {given[0]} and {given[1]} were given, expected one of {', '.join(kinds)}: each "
            "says what a change is. Leave one out."
        )
    if kinds["perturb"] is not None and not callable(kinds["perturb"]):
        raise TypeError(
            f"{function}: perturb is a {type(kinds['perturb']).__name__}, expected a function (xs, number) "
            "that returns changed inputs."
        )
    if given and given != ["feature_mask"]:
        flat_inputs(function, "xs", xs)
