"""The straight path from the baselines to `xs`, and the points on it."""

import copy

import tensorflow as tf

from igtf.arithmetic import right_pad
from igtf.replay import replay_ops
from integrated_gradients_tf import change_between, merge_rows, point_between, wide_dtype


class Path:
    """The straight path of a subgraph from the baselines to `xs`, walked at the frontier.

    Attributes:
      xs: where it ends, and `base`, where it starts, in their shape.
      before: the frontier at the baselines, and `after`, at `xs`; `change`: what it gains in between.
      row_inputs: what the subgraph reads beside `xs`, a row for each of theirs.
      batch: the number of rows, an int or a tensor.
    """

    def __init__(self, subgraph, starts):
        self.subgraph = subgraph
        self.xs, self.after = subgraph.xs, subgraph.frontier
        self.base = subgraph.full_baselines(starts)
        values = subgraph.values(subgraph.xs, self.base)
        replay_ops(subgraph.prefix, values, subgraph.frontier, 1, subgraph.row_axis)
        self.before = [values.get(t.ref(), t) for t in subgraph.frontier]
        self.batch = subgraph.check_lengths()
        self.row_inputs = [subgraph.repeated.get(t.ref(), t) for t in subgraph.row_inputs]
        self.change = [change_between(*ends) for ends in zip(self.before, self.after)]

    @property
    def dtype(self):
        """Of points and weights."""
        return wide_dtype(self.subgraph.frontier[0].dtype)

    def of_rows(self, rows):
        """The path of some rows, a tensor of indices."""
        part = copy.copy(self)
        for name in ("xs", "base", "before", "after", "change", "row_inputs"):
            setattr(part, name, [tf.gather(t, rows) for t in getattr(self, name)])
        part.batch = tf.shape(rows)[0]
        return part

    def at(self, alphas, copies):
        """What the rest of the network reads at `alphas`, a pair of `[copies, 1 or B]`.

        By `ref()` of the original tensors: the frontier, `[copies * B, ...]` each, and what is beside it.
        """
        new = []
        for tensor, start, end, change in zip(self.subgraph.frontier, self.before, self.after, self.change):
            from_start, from_end = (tf.cast(right_pad(a, tensor), tensor.dtype) for a in alphas)
            path = point_between(start, end, change, from_start, from_end)
            new.append(merge_rows(path, tensor, copies))
        return self.subgraph.values(self.subgraph.frontier, new, copies, self.row_inputs)
