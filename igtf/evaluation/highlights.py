"""What the output is where the input shows what its attributions highlight alone."""

import tensorflow as tf

from igtf.arithmetic import right_pad
from igtf.evaluation.common import Case, flat_attributions, mean_over, where_known
from igtf.methods.groups import BaselineSet
from integrated_gradients_tf import Baselines, Tensors, as_it_is, broadcast_like, flat_inputs

__all__ = ["average_drop_increase"]


@as_it_is
def average_drop_increase(
    ys: Tensors,
    xs: Tensors,
    attributions: Tensors,
    baselines: Baselines = None,
    grad_ys: Tensors | None = None,
    name: str = "average_drop_increase",
) -> tuple[Tensors, Tensors]:
    """What is lost, or gained, where an input shows what its attributions highlight alone.

    Chattopadhyay et al., https://arxiv.org/abs/1710.11063, section 4.1: positive attributions, divided by the
    largest of the row, say how far each feature is from its baseline; what F loses by that, as a share of
    F(x), is the drop (lower is better), and whether it is larger than F(x) is the increase (higher is
    better). The averages are those over a data set.

    It is fooled by attributions that highlight everything: the input itself has no drop at all. Look at
    `sparseness`, too.

    Args:
      ys, grad_ys: as for `saliency`; F has to be above 0, as probabilities are.
      xs: floating tensor `[B, ...]`, or a list, tuple or dict of such.
      attributions, baselines: as for `deletion`.
      name: name scope of the nodes.

    Returns:
      `(drop, increase)`: shares `[B]` from 0 to 1 (above 1 where F falls below 0, NaN where F(x) is not above
      0), and `[B]`, 1 or 0. NaN in rows whose attributions are not finite.

    Raises:
      TypeError, ValueError: as `deletion`; TypeError for integer `xs`.

    >>> @tf.function
    ... def f(x):
    ...     return average_drop_increase(2 * x[:, 0] + x[:, 1], x, tf.constant([[1.0, 0.0]]))
    >>> [part.numpy().tolist() for part in f(tf.constant([[3.0, 2.0]]))]
    [[0.25], [0.0]]
    """
    function = "average_drop_increase"
    flat_inputs(function, "xs", xs)
    case = Case(function, ys, xs, grad_ys)
    flat = flat_attributions(function, xs, case.xs, attributions)
    with tf.name_scope(name):
        starts = BaselineSet(function, xs, case.xs, baselines)
        lit = list(map(tf.nn.relu, flat))
        most = tf.reduce_max([tf.reduce_max(a, list(range(1, a.shape.rank))) for a in lit], 0)
        shares = [tf.math.divide_no_nan(a, right_pad(most, a)) for a in lit]

        def shown(number):
            points = []
            for share, x, start in zip(shares, case.xs, starts.at(number)):
                start = broadcast_like(start, x)
                points.append((start + tf.cast(share, x.dtype) * (x - start))[None])
            return case.score(points)

        before, after = case.before, mean_over(starts, shown)[0]
        drop = tf.nn.relu(before - after) / before
        drop = tf.where(before > 0, drop, tf.constant(float("nan"), drop.dtype))
        increase = tf.cast(after > before, drop.dtype)
        return where_known(drop, flat), where_known(increase, flat)
