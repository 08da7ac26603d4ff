"""Some steps of a path: the network replayed on their points, and the way back through it."""

import tensorflow as tf

from igtf.adaptation import sketch
from igtf.arithmetic import right_pad, safe_ratio
from igtf.backpropagation import reverse
from igtf.intervals import Intervals, pair_ends
from igtf.replay import of_replayed, replay_ops
from igtf.secant.table import SECANT_RULES
from igtf.traversal import ops_between
from integrated_gradients_tf import add_steps, split_rows, widen, with_features


class Block:
    """Some steps of an integral: the network replayed on their points."""

    def __init__(self, integral, index):
        self.integral, self.index, subgraph = integral, index, integral.subgraph
        self.alphas, self.weights = integral.points.of_block(index, integral.per_block)
        size = integral.per_block
        if not integral.secant or integral.shared:
            self.values, made = self._run(self.alphas, size + integral.shared)
            self.others = self.values
        else:
            self.values, made = self._run([a[:-1] for a in self.alphas], size)
            switching = True if integral.points.switching is None else integral.points.switching
            ends = [tf.where(switching, a[1:], a[:-1]) for a in self.alphas]
            self.others, after = self._run(ends, size)
        if integral.secant:
            sources = [self.values[t.ref()] for t in subgraph.frontier]
            if integral.shared:
                rows = [self.values[r.ref()] for r in subgraph.row_inputs] + sources
                repeats = of_replayed(subgraph.repeats, self.values)
                self.intervals = Intervals(made, rows, size, integral.points.switching, repeats)
                self.ends = [(op, *self.intervals.ends(op)) for op in made]
            else:
                axes = of_replayed(subgraph.axis, self.values)
                rows = size * subgraph.rows if subgraph.rows is not None and isinstance(size, int) else None
                self.ends = pair_ends(made, after, axes, rows)

    def _run(self, alphas, copies, targets=None):
        """Replays what follows the frontier at `alphas`, a pair of `[copies, 1 or B]`."""
        subgraph = self.integral.subgraph
        values = self.integral.path.at(alphas, copies)
        ops = subgraph.rest if targets is None else ops_between(targets, subgraph.frontier + subgraph.beside)
        keep = subgraph.ys + subgraph.layers + list(targets or ())
        copies = copies if subgraph.rows is not None else None
        # For gradients alone TensorFlow's own way back through a loop is faster, as it keeps more.
        reversible = self.integral.secant and targets is None
        made = replay_ops(ops, values, keep, copies, subgraph.row_axis, reversible)
        return values, made

    def seeds(self, weights, weighted=True):
        """Adjoints of the outputs, times the weights of the steps (and `num_steps`)."""
        integral, size, seeds = self.integral, self.integral.per_block, []
        shares = tf.ones_like(self.weights[0] if integral.nested else self.weights)
        if weighted:
            shares = self.weights * tf.cast(integral.steps, self.weights.dtype)
        # Shaped as the replayed outputs: reading the original ones would keep their network alive.
        for y, weight in zip(self._replayed(integral.subgraph.ys), weights):
            share = tf.cast(right_pad(shares, y), y.dtype)
            if weight is not None:
                share *= tf.cast(weight, y.dtype)
            rows = tf.shape(y)[0] // (size + integral.shared)
            full = tf.broadcast_to(share, with_features([size, rows], y))
            seeds.append(tf.reshape(full, with_features([size * rows], y)))
        return seeds

    def adjoints(self, seeds, targets, ys=None):
        """Per target, the adjoint at every step, `[K * B, ...]` or None; `seeds` are those of `ys`."""
        ys = self._replayed(self.integral.subgraph.ys if ys is None else ys)
        at = self._replayed(targets)
        if self.integral.secant:
            parts = reverse(self.ends, ys, seeds, at, SECANT_RULES)
            return [tf.add_n(p) if p else None for p in parts]
        grads = tf.gradients(ys, at, grad_ys=seeds, stop_gradients=at)
        return [None if g is None else tf.convert_to_tensor(g) for g in grads]

    def sums(self, seeds, targets, column=0, ys=None):
        """Per target, the sum over the steps of its adjoint, `[B, ...]` or None; then `slopes` of them."""
        integral, grads = self.integral, self.adjoints(seeds, targets, ys)
        sums = [None if g is None else add_steps(g, integral.per_block) for g in grads]
        return sums + self.slopes(grads, integral.path.change, integral.steps, column)

    def slopes(self, parts, times, scale=1, column=0):
        """What each step adds to sums of contributions, by its width: `[longest, B, SKETCHES]` in a list.

        Nothing, unless points follow. The contributions are `parts`, `[K * B, ...]` or None each, `times`
        `[B, ...]`, if these are given, and `scale` times as large.
        """
        integral, size, total = self.integral, self.integral.per_block, 0
        if not integral.adapts:
            return []
        for number, part in enumerate(parts):
            if part is not None:
                start = 1009 * (number + column * len(parts))
                total += sketch(split_rows(part, size), start, times and times[number])
        at, steps = self.index * size + tf.range(size), integral.steps
        width = self.weights[..., None] * tf.cast(scale, self.weights.dtype)
        total = safe_ratio(total, tf.cast(width, total.dtype))
        total = tf.where(at[:, None, None] < steps, total, 0)
        shape = tf.concat([[integral.longest], tf.shape(total)[1:]], 0)
        return [tf.scatter_nd(tf.minimum(at, integral.longest - 1)[:, None], tf.stop_gradient(total), shape)]

    def sums_of_levels(self, seeds, targets):
        """Likewise with the weights of every level, `[levels, B, ...]` or None; `seeds` have none."""
        integral, sums = self.integral, []
        shares = self.weights * tf.cast(integral.steps, self.weights.dtype)
        for grad in self.adjoints(seeds, targets):
            if grad is not None:
                steps = split_rows(widen(grad), integral.per_block)
                flat = tf.reshape(steps, tf.concat([tf.shape(steps)[:2], [-1]], 0))
                weights = tf.cast(shares, flat.dtype)
                if weights.shape[-1] == 1:
                    total = tf.einsum("lk,kbf->lbf", weights[..., 0], flat)
                else:
                    total = tf.einsum("lkb,kbf->lbf", weights, flat)
                grad = tf.reshape(total, tf.concat([tf.shape(total)[:1], tf.shape(steps)[1:]], 0))
            sums.append(grad)
        return sums

    def _replayed(self, tensors):
        return [self.values.get(t.ref(), t) for t in tensors]

    def changes(self, targets):
        """What each target gains over each step, `[K * B, ...]`."""
        integral = self.integral
        if not integral.secant:
            low, high = integral.points.intervals(self.index, integral.per_block)
            before = self._run(low, integral.per_block, targets)[0]
            after = self._run(high, integral.per_block, targets)[0]
        elif integral.shared:
            at = self._replayed(targets)
            return [widen(self.intervals.of(t, 1)) - widen(self.intervals.of(t, 0)) for t in at]
        else:
            before, after = self.values, self.others
        return [widen(after[t.ref()]) - widen(before[t.ref()]) for t in targets]
