"""What the outputs are that an Explainer explains, at the inputs and at their baselines."""

import copy
import dataclasses

import numpy as np
import tensorflow as tf

from igtf.arithmetic import sum_features
from igtf.replacement import graph_replace
from integrated_gradients_tf import broadcast_like

__all__ = ["ChosenOutputs", "InPlaceOfMethod", "Outputs", "setup_of", "with_method"]


def setup_of(explainer):
    """What an explainer was told."""
    return explainer._setup


def with_method(explainer, method):
    """An explainer of the same network with another method."""
    other = copy.copy(explainer)
    other._setup = dataclasses.replace(explainer._setup, method=method)
    other._traced, other._reducer = {}, None
    return other


class InPlaceOfMethod:
    """What a `Method` has, so that batches, targets and baselines come to something else as to any."""

    per_group = takes_baselines = True
    complete = draws = maps = on_input_path = integrates = False
    tolerance = None

    def check_call(self, baselines, return_delta, return_error):
        """Any baselines go: what compares with nothing does without."""


class ChosenOutputs(InPlaceOfMethod):
    """The weights of the outputs, `[B, C]`, no column where there are none."""

    name, black_box = "randomization_test", True

    def __call__(self, ys, xs, starts, weights):
        return tf.zeros([tf.shape(tf.nest.flatten(xs)[0])[0], 0]) if weights is None else weights


class Outputs(InPlaceOfMethod):
    """F at the inputs, at the baselines, and the number of the output, `[B, 3]`.

    Attributes:
      takes_baselines: whether there is one baseline for each row to compare with.
    """

    name = "outputs"

    def __init__(self, method, operator):
        self.takes_baselines = method.takes_baselines and not method.draws
        self.black_box, self._of_classes = method.black_box, operator is None

    def __call__(self, ys, xs, starts, weights):
        ys, flat = tf.nest.flatten(ys), tf.nest.flatten(xs)
        starts = [None] * len(flat) if starts is None else tf.nest.flatten(starts)
        before = [tf.zeros_like(x) if s is None else broadcast_like(s, x) for x, s in zip(flat, starts)]
        weights = [None] * len(ys) if weights is None else tf.nest.flatten(weights)

        def total(ys):
            return tf.add_n([sum_features(y if w is None else y * w) for y, w in zip(ys, weights)])

        chosen = -tf.ones_like(total(ys))
        if self._of_classes and len(ys) == 1 and weights[0] is not None and ys[0].shape.rank == 2:
            (weight,) = weights
            sizes = tf.reduce_sum(tf.abs(weight), 1)
            one = tf.equal(tf.reduce_max(weight, 1), 1) & tf.equal(sizes, 1)
            chosen = tf.where(one, tf.cast(tf.argmax(weight, 1), chosen.dtype), chosen)
        base = total(graph_replace(ys, flat, before)) if self.takes_baselines else tf.zeros_like(chosen)
        return tf.stack([total(ys), base, chosen], -1)

    @staticmethod
    def split(found):
        """`[..., 2]`, both ends, and the numbers of the outputs, `[N]`, None where rows have none."""
        chosen = found[..., 2]
        whole = chosen.ndim == 1 and (chosen >= 0).all()
        return found[..., :2], chosen.astype(np.int64) if whole else None
