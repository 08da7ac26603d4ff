"""The sum over the steps of a path, block by block, in constant memory."""

import numbers

import tensorflow as tf

from igtf.arithmetic import map_range, repeat, right_pad
from igtf.backpropagation import Summed, reverse
from igtf.intervals import Intervals, pair_ends
from igtf.path import Path
from igtf.points import Points
from igtf.replay import replay_ops
from igtf.secant.table import SECANT_RULES
from igtf.traversal import ops_between
from integrated_gradients_tf import (
    QUADRATURES,
    add_steps,
    check_steps,
    flat_baselines,
    restore_shape,
    wide_dtype,
    widen,
    with_features,
)

BLOCK_BYTES = 64 * 2**20  # activations of one block, by default
SHORT = 10  # steps below which a block may be twice as large, as each takes a point more
BLOCK_ROWS = 1600  # 50 steps of 32 rows
LONG = 4  # steps of a block that are worth preparations of their own
UNROLLED = 16  # outputs of a jacobian whose backward passes are written out
METHODS = ("auto", "secant", *QUADRATURES)


class PathIntegral:
    """The path of a subgraph from its baselines to `xs`, in blocks of steps."""

    def __init__(self, subgraph, structure, baselines, num_steps, method, max_rows, outputs=1):
        function, auto = subgraph.function, method == "auto"
        num_steps = check_steps(function, num_steps, method, METHODS)
        method = _choose_method(subgraph, method)
        self.subgraph, self.steps = subgraph, num_steps
        self.secant = method == "secant"
        self.method, self.auto = method, auto
        self.starts = flat_baselines(function, structure, subgraph.xs, baselines)
        self.strict = max_rows is not None
        self.limit = self._row_limit(function, max_rows, outputs)

    def _row_limit(self, function, max_rows, outputs):
        subgraph = self.subgraph
        if max_rows is None:
            # An accumulator holds one row for all the steps of a block; several outputs use larger ones.
            size = subgraph.row_bytes + (outputs - 1) * subgraph.frontier_bytes // 32
            return max(1, min(BLOCK_ROWS, (1 + (outputs > 1)) * BLOCK_BYTES // size))
        if isinstance(max_rows, bool) or not isinstance(max_rows, numbers.Integral):
            raise TypeError(
                f"{function}: max_rows is {max_rows!r} of type {type(max_rows).__name__}, expected a "
                "positive int or None."
            )
        least = (2 if self.secant else 1) * (subgraph.rows or 1)
        if max_rows < least:
            raise ValueError(
                f"{function}: max_rows is {max_rows}, expected at least {least}: "
                f"{'both ends of an interval' if self.secant else 'one step'} for a batch of "
                f"{subgraph.rows or 'at least 1'}. Raise it, or pass smaller batches."
            )
        return int(max_rows)

    # Results

    def attributions(self, weights):
        """The attributions to each of `xs`, for one list of output weights."""
        self._start()
        frontier = self.subgraph.frontier
        sums = self._sum(
            [self._zeros(t) for t in frontier],
            lambda block: block.sums(block.seeds(weights), frontier),
        )
        grads = self._pull_back(sums)
        return [self._times_change(i, grad) for i, grad in enumerate(grads)]

    def jacobian(self):
        """The attributions of every column of the output, `[B, C, ...]` to each of `xs`."""
        self._start()
        subgraph, frontier = self.subgraph, self.subgraph.frontier
        units = subgraph.ys[0].shape.as_list()[1]

        def add(block):
            def column(c):
                sums = block.sums(block.seeds([tf.one_hot(c, units)]), frontier)
                return [self._zeros(t) if total is None else total for t, total in zip(frontier, sums)]

            # The first one by itself: what the others can use again must lie outside their loop.
            if units <= UNROLLED:
                columns = [column(c) for c in range(units)]
                return [tf.stack(parts) for parts in zip(*columns)]
            first = column(0)
            rest = map_range(column, 1, units, first)
            return [tf.concat([f[None], r], 0) for f, r in zip(first, rest)]

        sums = self._sum([self._zeros(t, units) for t in frontier], add)
        if subgraph.stackable:
            grads = self._pull_back(sums, units)
        else:
            like = [self._zeros(x) for x in subgraph.xs]
            grads = map_range(lambda c: self._pull_back([s[c] for s in sums]), 0, units, like)
        return [self._times_change(i, grad, units) for i, grad in enumerate(grads)]

    def conductances(self, weights):
        """The conductances of each of the subgraph's layers."""
        self._start()
        layers = self.subgraph.layers

        def add(block):
            adjoints = block.adjoints(block.seeds(weights, weighted=False), layers)
            return [
                None if g is None else add_steps(widen(g) * widen(change), self.per_block)
                for g, change in zip(adjoints, block.changes(layers))
            ]

        sums = self._sum([self._zeros(t) for t in layers], add)
        return [tf.cast(total, t.dtype) for total, t in zip(sums, layers)]

    # Parts

    def _start(self):
        """Nodes that do not depend on the step."""
        subgraph = self.subgraph
        self.path = Path(subgraph, self.starts)
        # With shared ends, K steps take K + 1 points; where rows leave axis 0, two copies of K.
        self.shared = self.secant and subgraph.stacked
        self.per_block = self._steps_per_block()
        known = isinstance(self.per_block, int)
        self.long = self.per_block >= LONG if known else self.limit >= 8 * LONG
        self.points = Points(self.path, self.steps, self.method, self.auto, self.limit)

    def _steps_per_block(self):
        subgraph, ends = self.subgraph, 2 if self.secant and not self.shared else 1
        known = subgraph.rows is not None
        if not subgraph.stackable:
            return 1
        if not known and not self.subgraph.loopable:
            return -(-self.steps // 8)
        larger, smaller = (max, min) if known else (tf.maximum, tf.minimum)
        rows = larger(1, self.path.batch * ends)
        if self.strict:
            most = self.limit // rows - int(self.shared)  # the point that a block shares with the next one
        else:
            most = larger(self.limit // rows, smaller(SHORT, 2 * self.limit // rows))
        blocks = -(-self.steps // smaller(larger(1, most), self.steps))
        return -(-self.steps // blocks)

    def _zeros(self, tensor, units=None):
        shape = tf.shape(tensor)
        zeros = tf.zeros(shape if units is None else tf.concat([[units], shape], 0), wide_dtype(tensor.dtype))
        static = tensor.shape.as_list() if tensor.shape.rank is not None else None
        if static is not None:
            zeros.set_shape(static if units is None else [units] + static)
        return zeros

    def _sum(self, zeros, add):
        """The sum over blocks of what `add(block)` returns, in constant memory."""
        size = self.per_block
        blocks = -(-self.steps // size)
        if isinstance(blocks, int) and (blocks == 1 or not self.subgraph.loopable):
            totals = zeros
            for i in range(blocks):
                with tf.control_dependencies(totals if i else []):
                    totals = _add_all(totals, add(Block(self, i)))
            return totals

        return repeat(blocks, lambda i, *totals: _add_all(totals, add(Block(self, i))), zeros)

    def _pull_back(self, sums, units=None):
        """From the frontier to `xs`, once: the frontier is affine in `xs`."""
        subgraph, base, before = self.subgraph, self.path.base, self.path.before
        if units is not None and subgraph.prefix:
            base = [tf.tile(b, [units] + [1] * (b.shape.rank - 1)) for b in base]
            values = subgraph.values(subgraph.xs, base, units)
            replay_ops(
                subgraph.prefix,
                values,
                subgraph.frontier,
                units if subgraph.rows is not None else None,
                subgraph.axis,
            )
            before = [values.get(t.ref(), t) for t in subgraph.frontier]
        seeds = []
        for total, tensor in zip(sums, before):
            total = total / self.steps
            if units is not None and subgraph.prefix:
                total = tf.reshape(total, tf.shape(tensor))
            seeds.append(tf.cast(total, tensor.dtype))
        if not subgraph.prefix:
            found = {t.ref(): seed for t, seed in zip(subgraph.frontier, seeds)}
            grads = [found.get(x.ref()) for x in subgraph.xs]
        else:
            grads = tf.gradients(before, base, grad_ys=seeds)
        result = []
        for x, grad in zip(subgraph.xs, grads):
            if grad is None:
                grad = self._zeros(x, units)
            elif units is not None and subgraph.prefix:
                grad = tf.reshape(grad, tf.concat([[units], tf.shape(x)], 0))
            result.append(widen(tf.convert_to_tensor(grad)))
        return result

    def _times_change(self, index, grad, units=None):
        x = self.subgraph.xs[index]
        result = tf.cast(grad * (widen(x) - widen(self.path.base[index])), x.dtype)
        if units is None:
            return restore_shape(result, x.shape)
        rank = x.shape.rank
        result = tf.transpose(result, [1, 0, *range(2, rank + 1)])
        return restore_shape(result, [x.shape.as_list()[0], units] + x.shape.as_list()[1:])


def _choose_method(subgraph, method):
    """What `auto` stands for; refuses `secant` where the two ends of an interval differ in shape."""
    auto = method == "auto"
    if method in ("auto", "secant"):
        subgraph.find_kinks()
    if auto:
        method = "secant" if subgraph.kinks and not subgraph.jumps else "gausslegendre"
    if subgraph.shifting is not None and method == "secant":
        if not auto:
            raise ValueError(
                f"{subgraph.function}: method is 'secant', but the shape that op {subgraph.shifting.name!r} "
                f"({subgraph.shifting.type}) returns depends on the values along the path, expected the same "
                "shapes at both ends of an interval. Use 'gausslegendre', or a mask that is multiplied."
            )
        method = "gausslegendre"
    return method


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
                self.intervals = Intervals(
                    made, rows, size, self.weights if integral.long else None, integral.points.switching
                )
                self.ends = [(op, *self.intervals.ends(op)) for op in made]
            else:
                axes = {self.values[t].ref(): a for t, a in subgraph.axis.items() if t in self.values}
                rows = size * subgraph.rows if subgraph.rows is not None and isinstance(size, int) else None
                self.ends = pair_ends(made, after, axes, rows)

    def _run(self, alphas, copies, targets=None):
        """Replays what follows the frontier at `alphas`, a pair of `[copies, 1 or B]`."""
        subgraph = self.integral.subgraph
        values = subgraph.values(subgraph.frontier, self.integral.path.at(alphas, copies), copies)
        ops = subgraph.rest if targets is None else ops_between(targets, subgraph.frontier + subgraph.beside)
        keep = subgraph.ys + subgraph.layers + list(targets or ())
        copies = copies if subgraph.rows is not None else None
        # For gradients alone TensorFlow's own way back through a loop is faster, as it keeps more.
        reversible = self.integral.secant and targets is None
        made = replay_ops(ops, values, keep, copies, subgraph.axis, reversible)
        return values, made

    def seeds(self, weights, weighted=True):
        """Adjoints of the outputs, times the weights of the steps (and `num_steps`)."""
        integral, size, seeds = self.integral, self.integral.per_block, []
        shares = self.weights * integral.steps if weighted else tf.ones_like(self.weights)
        # Shaped as the replayed outputs: reading the original ones would keep their network alive.
        for y, weight in zip(self._replayed(integral.subgraph.ys), weights):
            share = tf.cast(right_pad(shares, y), y.dtype)
            if weight is not None:
                share *= tf.cast(weight, y.dtype)
            rows = tf.shape(y)[0] // (size + integral.shared)
            full = tf.broadcast_to(share, with_features([size, rows], y))
            seeds.append(tf.reshape(full, with_features([size * rows], y)))
        return seeds

    def adjoints(self, seeds, targets):
        """Per target, the adjoint at every step, `[K * B, ...]` or None."""
        ys, at = self._replayed(self.integral.subgraph.ys), self._replayed(targets)
        if self.integral.secant:
            parts = reverse(self.ends, ys, seeds, at, SECANT_RULES)
            return [tf.add_n(p) if p else None for p in parts]
        grads = tf.gradients(ys, at, grad_ys=seeds, stop_gradients=at)
        return [None if g is None else tf.convert_to_tensor(g) for g in grads]

    def sums(self, seeds, targets):
        """Per target, the sum over the steps of its adjoint, `[B, ...]` or None."""
        integral, size = self.integral, self.integral.per_block
        if not integral.shared:
            grads = self.adjoints(seeds, targets)
            return [None if g is None else add_steps(g, size) for g in grads]
        ys, at = self._replayed(integral.subgraph.ys), self._replayed(targets)
        totals = []
        for parts in reverse(self.ends, ys, seeds, at, SECANT_RULES, summed=True):
            steps = [p for p in parts if not isinstance(p, Summed)]
            total = [p.tensor for p in parts if isinstance(p, Summed)]
            total += [add_steps(tf.add_n(steps), size)] if steps else []
            totals.append(tf.add_n(total) if total else None)
        return totals

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


def _add_all(totals, parts):
    return [
        total if part is None else restore_shape(total + tf.cast(part, total.dtype), total.shape)
        for total, part in zip(totals, parts)
    ]
