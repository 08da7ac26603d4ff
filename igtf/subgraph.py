"""The ops between two tensors, and what is known about them."""

import math

import tensorflow as tf

from igtf.arguments import flat_outputs
from igtf.arithmetic import copied
from igtf.copying import function_library, is_call
from igtf.functions import emit
from igtf.op_types import (
    BARRIERS,
    FLAT,
    FRAMES,
    LOOPLESS,
    LOOPS,
    RANKS,
    UNKNOWN,
    carries_gradient,
    gradient_of,
    is_affine,
    is_kink,
    is_linear,
    varying_slots,
)
from igtf.random_draws import is_conditional, is_random, random_above, settle
from igtf.replay import is_layer_norm, replay_ops
from igtf.rows.sizes import COUNT, LOST, Place, steps_outside
from igtf.rows.tracker import RowTracker
from igtf.traversal import (
    asserted,
    find_varying,
    first_met,
    leads_with_rows,
    ops_between,
    row_inputs_above,
    unconnected_message,
)
from integrated_gradients_tf import broadcast_like, check_tensor, flat_inputs


class Subgraph:
    """The ops between `xs` and `ys`, and what is known about them.

    Attributes:
      xs, ys, layers: flat lists of tensors; `layers` are tensors that must stay visible.
      row_inputs: tensors beside `xs` with one entry per row, repeated for every step.
      ops: all ops to replay, dependencies first.
      frontier: the last tensors that are affine in `xs`; interpolation starts there.
      prefix, rest: the ops from `xs` to the frontier and from there to `ys` and `layers`.
      rows: the static batch size, or None.
      stacked: True if every replayed tensor provably keeps the rows step-major on axis 0.
      obstacle: the op that keeps `stacked` from being True, described.
      lost: the op that needs the number of rows, or behind which they cannot be followed, described, or
        None; the path is replayed one step at a time then, which is right whatever the op does.
      aligned: True if the rows of `ys` are those of `xs`, so that each may have points of its own.
    """

    def __init__(self, function, ys, xs, per_row, through=(), explain=True, led=(), held=()):
        self.function = function
        self.xs = flat_inputs(function, "xs", xs, floating=explain)
        self.ys = flat_outputs(function, ys, explain)
        self.layers = list(through)
        self.led = list(led)  # tensors known to have one entry per row
        self.repeated = {}  # row_inputs as checked in the run
        # ref() -> a tensor (a random draw, a switch), and what is read instead at every step
        self.held = {t.ref(): (t, t) for t in held}
        self.switches = {}  # ref() -> what keeps a branch that would mix rows from being taken
        self.rows = next((t.shape.as_list()[0] for t in self.xs if t.shape.rank), None)
        self._inline_calls()
        self._find_row_inputs(per_row)
        self.ops = ops_between(self.ys + self.layers, self.xs + self.beside)
        self._refuse_frames()
        self.varying = find_varying(self.ops, self.xs)
        self.follow_rows(strict=explain)
        self._hold_random(beside=per_row is None)
        if explain:
            self._check_connected()
            self.check_rows()
        self._split()

    # What is there

    def _inline_calls(self):
        """Rebuilds the path once at `xs` where function calls, or one op for many, hide its ops."""
        self._open_calls()
        for hides in (is_call, is_layer_norm):  # a call may hide the other
            ops = ops_between(self.ys + self.layers, self.xs)
            if any(map(hides, ops)):
                values = {x.ref(): x for x in self.xs}
                replay_ops(ops, values, self.ys + self.layers, axis={})  # of the very shapes
                self.ys = [values.get(y.ref(), y) for y in self.ys]
                self.layers = [values.get(t.ref(), t) for t in self.layers]

    def _open_calls(self):
        """Writes out a call that returns some of `xs` and what `ys` are made of, as a SavedModel's may."""
        calls = list(dict.fromkeys(x.op for x in self.xs if is_call(x.op)))
        mine = {x.ref() for x in self.xs}
        others = [t for op in calls for t in op.outputs if t.ref() not in mine]
        targets = self.ys + self.layers
        if not others or not (ops_between(targets, others) or any(t is y for t in others for y in targets)):
            return
        library, values = function_library(), {}
        for op in calls:
            made = []
            outputs = emit(op.type, list(op.inputs), op.node_def.attr, made, op.name, library)
            for old, new in zip(op.outputs, outputs):
                while new.op.type == "Identity" and new.op in made:  # which others inside do not read
                    new = new.op.inputs[0]
                values[old.ref()] = new
        replay_ops(ops_between(targets, [t for op in calls for t in op.outputs]), values, targets)
        self.xs, self.ys, self.layers = (
            [values.get(t.ref(), t) for t in tensors] for tensors in (self.xs, self.ys, self.layers)
        )

    def _find_row_inputs(self, per_row):
        self.row_inputs = self.led
        if per_row is None:
            known = self.xs + self.beside
            ops = ops_between(self.ys + self.layers, self.xs)
            inside = {t.ref() for t in known} | {out.ref() for op in ops for out in op.outputs}
            edge = [t for op in ops for t in op.inputs if t.ref() not in inside]
            if self.led:  # what is computed beside a path has its rows as it is, a broadcast baseline too
                ready = [t for t in edge if t.dtype.is_floating and leads_with_rows(t, self.rows)]
                self.led += [t for t in ready if row_inputs_above([t], self.xs, self.rows)]
                inside.update(t.ref() for t in self.led)
                known, edge = known + self.led, [t for t in edge if t.ref() not in inside]
            self.row_inputs = self.led + row_inputs_above(edge, known, self.rows)
            return
        if not isinstance(per_row, (list, tuple)):
            raise TypeError(
                f"{self.function}: per_row is a {type(per_row).__name__}, expected a list of tensors "
                "with one entry per row; [] for none."
            )
        for tensor in per_row:
            check_tensor(self.function, "per_row", tensor)
            if tensor.shape.rank == 0 or not (
                tensor.shape.rank is None or tensor.shape[:1].is_compatible_with(tf.TensorShape([self.rows]))
            ):
                raise ValueError(
                    f"{self.function}: per_row holds {tensor.name!r} of shape {tensor.shape}, "
                    f"expected [B, ...] with the batch size of xs, {self.xs[0].shape}."
                )
        mine = {t.ref() for t in self.xs + self.beside}
        self.row_inputs = self.led + [t for t in per_row if t.ref() not in mine]

    def _hold_random(self, beside):
        """Random draws: held for the run where all rows share them; off, for sure or in this run; refused.

        With `beside`, draws above the path that lead with the batch dimension count for dropout, too.
        """
        inside = {t.ref() for op in self.ops for t in op.outputs}
        inside.update(t.ref() for t in self.xs + self.beside)
        edge = [t for op in self.ops for t in op.inputs if t.ref() not in inside]
        drawn = [op for op in self.ops if is_random(op)]
        if beside:
            drawn += [op for t in edge for op in random_above(t, self.xs + self.row_inputs, self.rows)]
        for op in dict.fromkeys(drawn):
            out = op.outputs[0]
            fixed = not any(t.ref() in self.varying for t in op.inputs)
            if fixed and out.ref() in inside and self.places.get(out.ref()) is None:
                self.held[out.ref()] = out, out
                continue
            tensor, value, off = settle(op, ops_between(self.ys + self.layers, [out]), self.varying)
            if not fixed or (off is False and not is_conditional(op)):
                raise ValueError(self._random(op))
            if off is not True:
                # Dead where the branch that draws is, and this check with it.
                off = tf.logical_or(off, tf.raw_ops.Size(input=tensor) < 0)
                value = asserted(off, self._random(op), value)
            self.held[tensor.ref()] = tensor, value
        if self.held:
            self.ops = ops_between(self.ys + self.layers, self.xs + self.beside)
            self.varying = find_varying(self.ops, self.xs)
            self.follow_rows(strict=False)

    def _random(self, op):
        return (
            f"{self.function}: the network is random between xs and ys, at op {op.name!r} ({op.type}), "
            "expected the same output for the same row: dropout or noise left on. Call the model with "
            "training=False, or feed what turns it off (keep_prob 1, is_training False). To hold what one "
            "run draws, such as the noise of a sampled code, name it as a tensor with one entry per row: "
            "per_row=[...]."
        )

    @property
    def beside(self):
        """What the path reads beside `xs` and is not replayed: per-row tensors and held draws."""
        return self.row_inputs + [tensor for tensor, _ in self.held.values()]

    def _refuse_frames(self):
        for op in self.ops:
            if op.type in FRAMES:
                raise ValueError(
                    f"{self.function}: the while loop of TensorFlow 1 between xs and ys (op "
                    f"{op.name!r}, {op.type}) cannot be replayed. Build the network after "
                    "tf.compat.v1.enable_control_flow_v2(), or use linear_interpolation and "
                    "build_ig, which run your own code again."
                )

    def _check_connected(self):
        """Some floating, differentiable chain of ops must lead from `xs` to `ys`."""
        smooth, broken = {x.ref() for x in self.xs}, {}
        for op in self.ops:
            outputs = [t.ref() for t in op.outputs if carries_gradient(t)]
            lost = next((broken[t.ref()] for t in op.inputs if t.ref() in broken), None)
            moves = lost is not None or any(t.ref() in smooth for t in op.inputs)
            if op.type in BARRIERS or not outputs or not moves:
                continue
            try:
                if gradient_of(op) is None:
                    continue
            except LookupError:
                lost = lost or op
            if lost is None:
                smooth.update(outputs)
            else:
                broken.update(dict.fromkeys(outputs, lost))
        lost = next((broken[y.ref()] for y in self.ys if y.ref() in broken), None)
        if lost is not None:
            raise ValueError(
                f"{self.function}: op {lost.name!r} ({lost.type}) between xs and ys has no gradient, "
                "expected differentiable ops. Explain what it reads, such as the scores before a non-maximum "
                "suppression."
            )
        if not any(y.ref() in smooth for y in self.ys):
            raise ValueError(unconnected_message(self.function, self.ys, self.xs))

    def check_rows(self):
        for y in self.ys:
            turned = self.axis.get(y.ref())
            if y.shape.rank and not y.shape[:1].is_compatible_with(tf.TensorShape([self.rows])) or turned:
                raise ValueError(
                    f"{self.function}: ys {y.name!r} has shape {y.shape}"
                    f"{f' and its rows on axis {turned}' if turned else ''}, expected [B, ...] with the "
                    f"{'' if self.rows is None else f'{self.rows} '}rows of xs. Explain an output with one "
                    "entry per row."
                )

    def follow_rows(self, strict):
        """Follows the axis that carries the rows; refuses ops that mix them."""
        rows = RowTracker(self.function, self.rows, strict)
        rows.start(self.xs + self.row_inputs)
        rows.switches = self.switches
        rows.numbers = {ref for ref, (_, value) in self.held.items() if value.shape.rank == 0}
        rows.follow(self.ops, self.varying, self.ys + self.layers)
        for tensor, wanted, message in rows.dormant:
            _, value = self.held.get(tensor.ref(), (tensor, tensor))
            size = tf.raw_ops.Size(input=tensor)
            asleep = size < 0 if wanted is None else tf.equal(tf.cast(tensor, tf.bool), wanted)
            self.held[tensor.ref()] = tensor, asserted(asleep, message, value)
            self.switches[tensor.ref()] = wanted
        unranked = [t for t in self.xs + self.row_inputs if t.shape.rank is None]
        self.obstacle = f"{unranked[0].name!r}, of unknown rank" if unranked else rows.obstacle
        self.places = rows.places
        self.axis = {ref: place.axis for ref, place in rows.places.items() if steps_outside(place)}
        at_start = {ref: p for ref, p in rows.places.items() if isinstance(p, Place) and not p.axis}
        self.repeats = {ref: p.outer.number for ref, p in at_start.items() if not p.outer.unknown}
        self.row_axis = {**dict.fromkeys(self.repeats, 0), **self.axis}
        self.row_led = {ref for ref, place in rows.places.items() if place == Place(0)}
        self.lost = f"op {rows.baked[0].name!r}, {rows.baked[0].type}" if rows.baked else None
        for tensor in self.ys + self.layers:
            place = rows.places.get(tensor.ref())
            if isinstance(place, Place) and (place.axis or not steps_outside(place)):
                place = LOST
                rows.origins.setdefault(tensor.ref(), f"op {tensor.op.name!r}, {tensor.op.type}")
            if place in (LOST, COUNT) and self.lost is None:
                self.lost = rows.origins.get(tensor.ref(), f"{tensor.name!r}")
        loops = any(op.type in LOOPS for op in self.ops)  # replayed at one end and at the other
        self.stacked = self.obstacle is None and self.lost is None and not loops
        known = self.rows is not None
        self.aligned = (known or self.lost is None or len(self.xs) == 1) and all(
            y.ref() in self.row_led or self.rows == 1 for y in self.ys
        )

    @property
    def stackable(self):
        """Whether the path can be replayed on several times `B` rows."""
        return self.lost is None

    def _split(self):
        """Finds the frontier: interpolation commutes with affine maps."""
        affine = {x.ref(): x for x in self.xs}
        keep = {t.ref() for t in self.layers}
        for op in self.ops:
            if is_affine(op, self.varying, {r for r in affine if r not in keep}):
                affine.update((t.ref(), t) for t in op.outputs if t.ref() in self.row_led)
        self.frontier = first_met(self.ys + self.layers, affine, self.ops)
        self.prefix = ops_between(self.frontier, self.xs + self.beside)
        self.rest = ops_between(self.ys + self.layers, self.frontier + self.beside)

    # What to do with it

    def check_lengths(self):
        """The batch size; what has its rows too is checked where only the run knows how many."""
        rows = tf.shape(self.xs[0])[0] if self.rows is None else self.rows
        if not self.stackable:
            return rows
        for x in self.xs[1:]:
            if x.shape.rank is None or x.shape.as_list()[0] is None:
                message = (
                    f"{self.function}: {x.name!r} has other than the rows of {self.xs[0].name!r}, expected "
                    "the same number. Rows of several inputs belong together one by one."
                )
                rows = asserted(tf.equal(tf.shape(x)[0], rows), message, rows)
        for row_input in self.row_inputs:
            if self.rows is None or row_input.shape.rank is None or row_input.shape.as_list()[0] is None:
                message = (
                    f"{self.function}: {row_input.name!r} was taken for a tensor with one entry per row, but "
                    f"has other than the rows of xs {self.xs[0].name!r}. Say which tensors have one entry "
                    "per row: per_row=[...], [] for none."
                )
                self.repeated[row_input.ref()] = asserted(
                    tf.equal(tf.shape(row_input)[0], rows), message, row_input
                )
        return rows

    def one_per_row(self):
        """Checks that `ys` have the rows of `xs`, where only the run can tell."""
        rows, checks = tf.shape(self.xs[0])[0], []
        for y in self.ys:
            static = y.shape.as_list()[0] if y.shape.rank else None
            if y.ref() not in self.row_led and (self.rows is None or static != self.rows):
                message = (
                    f"{self.function}: ys {y.name!r} has other than the rows of xs {self.xs[0].name!r}, "
                    "expected one entry per row. Compare the sum over all rows of the one and of the other."
                )
                checks.append(tf.raw_ops.Assert(condition=tf.equal(tf.shape(y)[0], rows), data=[message]))
        return checks

    def same_rows(self, new):
        """`new` in the place of `xs`, checked in the run to be no more rows than theirs."""
        wanted = tf.shape(self.xs[0])[0]
        return [
            asserted(
                tf.equal(tf.shape(value)[0], wanted),
                f"{self.function}: the replacement of {x.name!r} has other than the rows of xs, expected as "
                f"many: rows are lost at {self.lost}, and steps cannot be stacked.",
                value,
            )
            for x, value in zip(self.xs, new)
        ]

    @property
    def shifting(self):
        """An op whose output's shape depends on the values along the path, or None."""
        kinds = {"Where", "Unique", "UniqueV2", "UniqueWithCounts", "DynamicPartition", "ListDiff"}
        return next((op for op in self.rest if op.type in kinds and varying_slots(op, self.varying)), None)

    def find_kinks(self):
        """Finds the ops at which a gradient along the path jumps, and whether it bends between them.

        Those alone that gradients come through: what is behind a barrier may switch as it likes.
        """
        live = {t.ref() for t in self.ys + self.layers}
        reached = []
        for op in reversed(self.rest):
            if op.type not in BARRIERS and any(t.ref() in live for t in op.outputs):
                live.update(t.ref() for t in op.inputs if carries_gradient(t))
                reached.append(op)
        self.reached = reached[::-1]
        self.kinks = [op for op in self.reached if is_kink(op, self.varying)]
        # What is ranked or rounded changes by jumps, which the mean of both ends counts and no gradient does.
        jump = {t.ref() for op in self.rest if op.type in FLAT for t in op.outputs} & self.varying
        self.jumps = any(
            t.ref() in (self.varying if op.type in RANKS else jump) for op in reached for t in op.inputs
        )
        # On a line that nothing breaks, secant is exact through one curved op, and not through two.
        kinks, curved = set(self.kinks), {}  # ref() -> how many curved ops there are on the way to it
        for op in self.reached:
            slots = varying_slots(op, self.varying)
            bends = bool(slots) and op not in kinks and not is_linear(op, self.varying)
            depth = max((curved.get(t.ref(), 0) for t in op.inputs), default=0) + bends
            curved.update((t.ref(), depth) for t in op.outputs)
        self.curved = max((curved.get(t.ref(), 0) for t in self.ys + self.layers), default=0) > 1

    def is_followed(self, tensor):
        """Whether it is known which axis of a tensor carries the rows."""
        return tensor.shape.rank is not None and self.axis.get(tensor.ref(), UNKNOWN) != UNKNOWN

    @property
    def loopable(self):
        """Whether a `tf.while_loop` can hold the ops of the path."""
        return not any(op.type in LOOPLESS for op in self.rest)

    @property
    def tests_equality(self):
        """Whether a value may jump where the path starts or ends, as behind a mask of zeros."""
        return any(op.type in ("Equal", "NotEqual") and varying_slots(op, self.varying) for op in self.rest)

    @property
    def row_bytes(self):
        """What the activations of one row weigh, where shapes are known."""
        return max(sum(_bytes_of_row(self._activations)), 1)

    @property
    def largest_row_bytes(self):
        """What one row of the largest of them weighs."""
        return max([1, *_bytes_of_row(self._activations)])

    @property
    def frontier_bytes(self):
        return sum(_bytes_of_row(self.frontier))

    @property
    def _activations(self):
        return self.frontier + [t for op in self.rest for t in op.outputs]

    def full_baselines(self, starts):
        """Baselines broadcast to the shape of `xs`."""
        return [broadcast_like(start, x) for start, x in zip(starts, self.xs)]

    def replay(self, new, copies=1, instead=None):
        """The tensors of `ys` with `new` in the place of `xs`, and other ops `instead` of some types."""
        values = self.values(self.xs, new, copies)
        # Replacements of an unknown number of rows may be more than a known batch.
        sure = self.rows is None or all(t.shape.rank and t.shape.as_list()[0] for t in new)
        axis = self.row_axis if sure else None
        copies = copies if self.rows is not None else None
        replay_ops(self.ops, values, self.ys, copies, axis, instead=instead)
        return [values.get(y.ref(), y) for y in self.ys]

    def values(self, sources, new, copies=1, row_inputs=None):
        """What a replay reads for original tensors, by their `ref()`."""
        values = {ref: value for ref, (_, value) in self.held.items()}
        values.update((old.ref(), tensor) for old, tensor in zip(sources, new))
        if row_inputs is None:
            row_inputs = [self.repeated.get(t.ref(), t) for t in self.row_inputs]
        for old, value in zip(self.row_inputs, row_inputs):
            if not (isinstance(copies, int) and copies == 1):
                value = copied(value, copies)
                if isinstance(copies, int) and self.rows is not None:
                    value.set_shape([copies * self.rows] + old.shape.as_list()[1:])
            values[old.ref()] = value
        return values


def _bytes_of_row(tensors):
    floats = [t for t in tensors if t.dtype.is_floating and t.shape.rank]
    return [math.prod(n or 32 for n in t.shape.as_list()[1:]) * t.dtype.size for t in floats]
