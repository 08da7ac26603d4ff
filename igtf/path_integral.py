"""The sum over the steps of a path, block by block, in constant memory."""

import copy
import numbers

import tensorflow as tf

from igtf.adaptation import SKETCHES, followed
from igtf.arithmetic import map_range, repeat
from igtf.block import Block
from igtf.op_types import LOOPLESS
from igtf.points import Points
from igtf.replay import replay_ops
from igtf.straight_path import Path
from igtf.tensorflow_internals import compiles_with_xla
from integrated_gradients_tf import (
    add_steps,
    flat_baselines,
    restore_shape,
    split_rows,
    wide_dtype,
    widen,
)

# The activations of one block by default, and the largest of them, as what is far from the processor takes
# longer; but each block takes a point more, so that a block of two steps may weigh more.
BLOCK_BYTES, TENSOR_BYTES, PAIR_BYTES = 192 * 2**20, 24 * 2**20, 512 * 2**20
BLOCK_ROWS = 1600  # 50 steps of 32 rows
TELLING = 10  # steps from which on their slopes tell where to put more
UNROLLED = 16  # outputs of a jacobian whose backward passes are written out


class PathIntegral:
    """The path of a subgraph from its baselines to `xs`, in blocks of steps."""

    def __init__(
        self, subgraph, structure, baselines, levels, max_rows, outputs=1, nested=False, explained=None
    ):
        function, method = subgraph.function, levels.method
        self.explained = explained or subgraph.layers or subgraph.xs  # what attributions are of
        self.subgraph = subgraph
        self.auto, self.method = method == "auto", _choose_method(subgraph, method, levels.several)
        nested = nested and subgraph.stackable and all(x.shape.rank for x in subgraph.xs)
        self.levels = levels.smooth() if nested and self.auto and self.method == "gausslegendre" else levels
        self.nested = nested and self.levels.nests  # whether sums of one level are part of the next one's
        self.secant = self.method == "secant"
        self.starts = flat_baselines(function, structure, subgraph.xs, baselines)
        self.strict = max_rows is not None
        self.limit, self.pair_limit = self._row_limits(function, max_rows, outputs)
        if levels.several and not subgraph.loopable:
            loop = next(op for op in subgraph.rest if op.type in LOOPLESS)
            raise ValueError(
                f"{function}: an error was asked for, or a tolerance, expected ops that a tf.while_loop can "
                f"hold: op {loop.name!r} ({loop.type}) is none. Compare with another number of steps."
            )
        self.follows = levels.adapt and self.secant and outputs <= UNROLLED
        # Rows that need no more steps leave, where nothing holds how many there are.
        self.sized = subgraph.rows is not None or compiles_with_xla()
        self.leaving = subgraph.aligned and subgraph.stackable and not self.sized

    def start(self):
        """Nodes that do not depend on the step."""
        self.path = Path(self.subgraph, self.starts)
        # With shared ends, K steps take K + 1 points; where rows leave axis 0, two copies of K.
        self.shared = self.secant and self.subgraph.stacked
        self.points = Points(self.path, self.levels, self.method, self.auto, self.limit, self.nested)
        self.adapts = self.follows and self.points.density is not None  # by slopes of its steps
        self._place(self.levels.counts[-1], inside=False)

    @property
    def jumps(self):
        """Whether gradients may jump along the path, a tensor: `[B]` where rows can be told apart."""
        told, subgraph = self.points.switching, self.subgraph
        return tf.constant(bool(subgraph.kinks or subgraph.jumps)) if told is None else told

    def _place(self, steps, inside):
        """Takes so many steps, inside or outside the loop over levels."""
        self.steps, self.inside = steps, inside
        self.longest = self.levels.counts[-1] if self.sized else steps  # what slopes of steps are kept in
        self.per_block = self._steps_per_block()

    def at(self, level, rows=None, density=None):
        """The integral with the steps of a level, an index of their numbers (a tensor), over some rows.

        Its points are placed by `density`, if that is given.
        """
        part = copy.copy(self)
        part.path = self.path if rows is None else self.path.of_rows(rows)
        part.points = self.points.at(level, part.path, rows, density)
        part._place(part.points.steps, inside=True)
        return part

    def _row_limits(self, function, max_rows, outputs):
        """The most rows of a block, and of a block of two steps."""
        subgraph = self.subgraph
        if max_rows is None:
            # An accumulator holds one row for all the steps of a block; several outputs use larger ones.
            size = subgraph.row_bytes + (outputs - 1) * subgraph.frontier_bytes // 32
            return rows_of_block(subgraph, size), max(1, min(BLOCK_ROWS, PAIR_BYTES // size))
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
        return (min(int(max_rows), 2**31 - 1),) * 2

    # Results

    def attributions(self, weights):
        """The attributions to each of `xs`, for one list of output weights."""
        frontier = self.subgraph.frontier
        sums = self._sum(
            [self.zeros(t) for t in frontier],
            lambda block: block.sums(block.seeds(weights), frontier),
        )
        grads = self._pull_back(sums)
        return self._times_change(grads)

    def attributions_of_levels(self, weights):
        """What the new points of a level add to the attributions at each level, `[B, levels, ...]`."""
        frontier, levels = self.subgraph.frontier, len(self.levels.counts)
        sums = self._sum(
            [self.zeros(t, levels) for t in frontier],
            lambda block: block.sums_of_levels(block.seeds(weights, weighted=False), frontier),
        )
        return self._times_change(self._pull_back(sums, levels), levels)

    def jacobian(self):
        """The attributions of every column of the output, `[B, C, ...]` to each of `xs`."""
        subgraph, frontier = self.subgraph, self.subgraph.frontier
        units = subgraph.ys[0].shape.as_list()[1]

        def add(block):
            def column(c):
                sums = block.sums(block.seeds([tf.one_hot(c, units)]), frontier, c)
                sums[: len(frontier)] = [
                    self.zeros(t) if total is None else total for t, total in zip(frontier, sums)
                ]
                return sums

            # The first one by itself: what the others can use again must lie outside their loop.
            if units <= UNROLLED:
                sums = list(zip(*[column(c) for c in range(units)]))
                stacks = [tf.stack(parts) for parts in sums[: len(frontier)]]
                return stacks + [tf.add_n(slopes) for slopes in sums[len(frontier) :]]
            first = column(0)
            rest = map_range(column, 1, units, first)
            return [tf.concat([f[None], r], 0) for f, r in zip(first, rest)]

        sums = self._sum([self.zeros(t, units) for t in frontier], add)
        if subgraph.stackable:
            grads = self._pull_back(sums, units)
        else:
            like = [self.zeros(x) for x in subgraph.xs]
            grads = map_range(lambda c: self._pull_back([s[c] for s in sums]), 0, units, like)
        return self._times_change(grads, units)

    def conductances(self, weights):
        """The conductances of each of the subgraph's layers."""
        layers = self.subgraph.layers

        def add(block):
            adjoints = block.adjoints(block.seeds(weights, weighted=False), layers)
            parts = [
                None if g is None else widen(g) * widen(change)
                for g, change in zip(adjoints, block.changes(layers))
            ]
            sums = [None if p is None else add_steps(p, self.per_block) for p in parts]
            return sums + block.slopes(parts, None)

        return self._sum([self.zeros(t) for t in layers], add)

    def through_layer(self, *weights):
        """The attributions to each of `xs` of what passes the entries of a layer.

        `weights` are those of the outputs and, last, of the layer's entries, `[B, ...]`.
        """
        *weights, share = weights
        frontier, layers = self.subgraph.frontier, self.subgraph.layers

        def add(block):
            (grad,) = block.adjoints(block.seeds(weights), layers)
            if grad is None:
                return [None] * len(frontier)
            steps = split_rows(grad, self.per_block) * tf.cast(share, grad.dtype)
            return block.sums([tf.reshape(steps, tf.shape(grad))], frontier, ys=layers)

        sums = self._sum([self.zeros(t) for t in frontier], add)
        return self._times_change(self._pull_back(sums))

    # Parts

    def _steps_per_block(self):
        subgraph, ends = self.subgraph, 2 if self.secant and not self.shared else 1
        if not subgraph.stackable:
            return 1
        steps, known = self.steps, subgraph.rows is not None
        if not known and not subgraph.loopable:
            return -(-steps // 8)
        if self.inside and self.sized:  # of one size at all levels
            steps = self.levels.counts[1 if len(self.levels.counts) > 2 else 0]
        larger, smaller = (max, min) if known else (tf.maximum, tf.minimum)
        rows = larger(1, self.path.batch * ends)
        if self.strict:
            most = self.limit // rows - int(self.shared)  # the point that a block shares with the next one
        else:
            most = larger(self.limit // rows, smaller(2, self.pair_limit // rows))
        blocks = -(-steps // smaller(larger(1, most), steps))
        return -(-steps // blocks)

    def zeros(self, tensor, units=None):
        """What sums begin with, in the shape of `tensor` for the rows of the path; `[units, B, ...]`."""
        shape, static = tf.shape(tensor), tensor.shape
        if self.inside and self.leaving:
            shape = tf.concat([[self.path.batch], shape[1:]], 0)
        if units is not None:
            shape, static = tf.concat([[units], shape], 0), [units, *static] if static.rank else None
        return restore_shape(tf.zeros(shape, wide_dtype(tensor.dtype)), static)

    def _sum(self, zeros, add):
        """The sum over blocks of what `add(block)` returns, in constant memory; slopes are kept aside."""
        sums, size = len(zeros), self.per_block
        if self.adapts:
            full = tf.zeros([self.longest, self.path.batch, SKETCHES], self.path.dtype)
            zeros = [*zeros, restore_shape(full, [None, self.subgraph.rows, SKETCHES])]
        blocks = -(-self.steps // size)
        if isinstance(blocks, int) and (blocks == 1 or not self.subgraph.loopable):
            totals = zeros
            for i in range(blocks):
                with tf.control_dependencies(totals if i else []):
                    totals = _add_all(totals, add(Block(self, i)))
        else:
            totals = repeat(blocks, lambda i, *totals: _add_all(totals, add(Block(self, i))), zeros)
        self.slopes = totals[sums:]
        return totals[:sums]

    def followed(self):
        """The density of the next level's points, by the slopes that the sum over this one's steps met."""
        points = self.points
        found = followed(points.probed, points.density, self.slopes[0], self.steps)
        return tf.where(self.steps < TELLING, points.density, found)

    def _pull_back(self, sums, units=None):
        """From the frontier to `xs`, once: the frontier is affine in `xs`."""
        subgraph, path, before = self.subgraph, self.path, self.path.before
        base, copied = path.base, subgraph.prefix and (units is not None or self.inside)
        if copied:
            copies = units or 1
            if units is not None:
                base = [tf.tile(b, [copies] + [1] * (b.shape.rank - 1)) for b in base]
            else:
                base = [tf.identity(b) for b in base]
            values = subgraph.values(subgraph.xs, base, copies, path.row_inputs)
            copies = copies if subgraph.rows is not None else None
            replay_ops(subgraph.prefix, values, subgraph.frontier, copies, subgraph.row_axis)
            before = [values.get(t.ref(), t) for t in subgraph.frontier]
        seeds = []
        for total, tensor in zip(sums, before):
            total = total / tf.cast(self.steps, total.dtype)
            if units is not None and copied:
                total = tf.reshape(total, tf.shape(tensor))
            seeds.append(tf.cast(total, tensor.dtype))
        if not subgraph.prefix:
            found = {t.ref(): seed for t, seed in zip(subgraph.frontier, seeds)}
            grads = [found.get(x.ref()) for x in subgraph.xs]
        else:
            grads = tf.gradients(before, base, grad_ys=seeds)
        result = []
        for x, grad in zip(path.xs, grads):
            if grad is None:
                grad = self.zeros(x, units)
            elif units is not None and copied:
                grad = tf.reshape(grad, tf.concat([[units], tf.shape(x)], 0))
            result.append(widen(tf.convert_to_tensor(grad)))
        return result

    def _times_change(self, grads, units=None):
        """Attributions `[B, ...]`, or `[B, units, ...]` of `[units, B, ...]`, from gradients at `xs`."""
        results = []
        for grad, end, start in zip(grads, self.path.xs, self.path.base):
            result = grad * (widen(end) - widen(start))
            if units is not None:
                result = tf.transpose(result, [1, 0, *range(2, end.shape.rank + 1)])
                result.set_shape([result.shape[0], units, *result.shape[2:]])
            results.append(result)
        return results


def rows_of_block(subgraph, size):
    """The most rows that go through the subgraph at once, by default, if each weighs so many bytes."""
    return max(1, min(BLOCK_ROWS, BLOCK_BYTES // size, TENSOR_BYTES // subgraph.largest_row_bytes))


def _choose_method(subgraph, method, compared):
    """What `auto` stands for; refuses `secant` where the two ends of an interval differ in shape."""
    auto = method == "auto"
    if method in ("auto", "secant") or compared:
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


def _add_all(totals, parts):
    return [
        total if part is None else restore_shape(total + tf.cast(part, total.dtype), total.shape)
        for total, part in zip(totals, parts)
    ]
