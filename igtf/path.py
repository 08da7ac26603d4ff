"""The straight path from the baselines to `xs`, and the points on it."""

import tensorflow as tf

from igtf.arithmetic import right_pad
from igtf.replay import replay_ops
from integrated_gradients_tf import change_between, merge_rows, point_between, wide_dtype


class Path:
    """The straight path of a subgraph from the baselines to `xs`, walked at the frontier.

    Attributes:
      base: the baselines in the shape of `xs`.
      before: the frontier at the baselines; `change`: what it gains from there to `xs`.
      batch: the number of rows, an int or a tensor.
    """

    def __init__(self, subgraph, starts):
        self.subgraph = subgraph
        self.base = subgraph.full_baselines(starts)
        values = subgraph.values(subgraph.xs, self.base)
        replay_ops(subgraph.prefix, values, subgraph.frontier, 1, subgraph.axis)
        self.before = [values.get(t.ref(), t) for t in subgraph.frontier]
        self.batch = subgraph.check_lengths()
        self.change = [change_between(start, t) for t, start in zip(subgraph.frontier, self.before)]

    @property
    def dtype(self):
        """Of points and weights."""
        return wide_dtype(self.subgraph.frontier[0].dtype)

    def at(self, alphas, copies):
        """The frontier at `alphas`, a pair of `[copies, 1 or B]`, `[copies * B, ...]` each."""
        new = []
        for tensor, start, change in zip(self.subgraph.frontier, self.before, self.change):
            from_start, from_end = (tf.cast(right_pad(a, tensor), tensor.dtype) for a in alphas)
            path = point_between(start, tensor, change, from_start, from_end)
            new.append(merge_rows(path, tensor, copies))
        return new
