"""Which axis of a tensor carries the rows of the batch."""

import numpy as np
import tensorflow as tf

from igtf.copying import constant_value, function_library, is_concrete
from igtf.functions import call_body
from igtf.op_types import (
    BATCH_NORMS,
    MAKERS,
    OPAQUE,
    SHAPE_SLOTS,
    SHAPES,
    TYPES,
    carries_gradient,
)
from igtf.random_draws import is_conditional, is_random
from igtf.rows.control import baked
from igtf.rows.rules import ROW_RULES
from igtf.rows.sizes import COUNT, LOST, MIX, ROWS, SIZE_RULES, Place, Size, not_shared, product_of
from igtf.rows.structure import gather_nd, made_place
from igtf.traversal import find_varying, ops_between


class RowTracker:
    """Follows the rows from op to op.

    Attributes:
      places: tensor's `ref()` -> `Place`, `COUNT` or `LOST`; none for what all rows share.
      origins: `ref()` of what is lost -> the op that lost it, described.
      obstacle: the first op that does not keep the rows step-major on axis 0 (or in parts of it, a number of
        times), described.
    """

    def __init__(self, function, rows, strict):
        self.function, self.rows, self.strict = function, rows, strict
        self.places, self.origins, self.obstacle = {}, {}, None
        self.numbers = set()  # tensors that are replaced by a number
        self.switches = {}  # `ref()` of the conditions of branches -> their value, where only one will do
        self.dormant = []  # tensor, what it must be if ops that mix rows are not to run (None: dead), message
        self.parts = {}  # `ref()` of what is computed from a slice of the rows alone -> where that is
        self.baked = []  # ops that work for one number of rows only
        self.constants, self.known, self.bodies, self.library = {}, {}, {}, None

    def start(self, tensors):
        self.places.update((t.ref(), Place(0)) for t in tensors)

    def follow(self, ops, varying, keep):
        """Places of the outputs of `ops`; what is not among `varying` is the same at every step."""
        self.varying = varying
        self.followed = {t.ref() for op in ops for t in op.outputs}
        read = {t.ref() for op in ops for t in op.inputs} | {t.ref() for t in keep}
        for op in ops:
            found = self.outputs(op)
            found = found if isinstance(found, list) else [found] * len(op.outputs)
            step_major = True
            for tensor, place in zip(op.outputs, found):
                if place is not None:
                    self.places[tensor.ref()] = place
                if place in (LOST, COUNT):
                    lost = next((o for t in op.inputs if (o := self.origins.get(t.ref()))), None)
                    self.origins[tensor.ref()] = lost or f"op {op.name!r}, {op.type}"
                if tensor.ref() in read:
                    kept = isinstance(place, Place) and not place.axis and not place.outer.unknown
                    step_major &= kept and tensor.shape.rank is not None
            before = any(self.place(t) not in (None, COUNT) for t in op.inputs) and op.type not in SHAPES
            made = not before and any(place not in (None, COUNT) for place in found)
            if made or before and (not step_major or op.type in OPAQUE):
                self.obstacle = self.obstacle or f"op {op.name!r}, {op.type}"

    def place(self, tensor):
        return self.places.get(tensor.ref())

    def outputs(self, op):
        """The place of the outputs of `op`, or a list of theirs."""
        at = [self.place(t) for t in op.inputs]
        if op.type in SHAPES:
            return [COUNT if any(map(not_shared, self.sizes(t) or [None])) else None for t in op.outputs]
        if op.type == "IdentityN":
            return at
        if not any(at):
            return None
        rule = ROW_RULES.get(op.type)
        self.follow_parts(op, at)
        if LOST in at:
            numbered = op.type == "GatherNd" and at[0] != LOST
            return gather_nd(self, op, at) if numbered else LOST
        if not any(isinstance(place, Place) for place in at):
            if op.type in MAKERS or is_random(op):
                return made_place(self, op, at)
            sizes = [self.sizes(t) for t in op.outputs]
            return [COUNT if any(map(not_shared, s or [None])) else None for s in sizes]
        shapes = SHAPE_SLOTS.get(op.type, ())
        if rule is None or any(place == COUNT and i not in shapes for i, place in enumerate(at)):
            return LOST
        if COUNT in at and op.type != "Reshape":  # the shape of all steps, not that of one end of an interval
            self.obstacle = self.obstacle or f"op {op.name!r}, {op.type}"
        found = rule(self, op, at)
        return self.mixed(op, rule, at) if found == MIX else found

    def follow_parts(self, op, at):
        """Rows may be taken apart, computed one by one and put together in their order, and no more."""
        parts = [self.parts[t.ref()] for t in op.inputs if t.ref() in self.parts]
        whole = [t for t, p in zip(op.inputs, at) if isinstance(p, Place) and t.ref() in self.varying]
        joins = op.type in ("ConcatV2", "Pack") and parts == sorted(set(parts))
        if parts and self.strict and (whole or len(set(parts)) > 1 and not joins):
            self.refuse(op)
        if len(set(parts)) == 1:
            self.parts.update((t.ref(), parts[0]) for t in op.outputs)

    def mixed(self, op, rule, at):
        """What an op that works across the rows gives; refused if it matters."""
        varying = [t.ref() in self.varying for t in op.inputs]
        moving = [p if v and carries_gradient(t) else None for t, p, v in zip(op.inputs, at, varying)]
        if not any(isinstance(place, Place) for place in moving):
            # Of per-row tensors beside xs: the same for the rows repeated, or else one step at a time.
            return None if op.type in TYPES["repeatable"] and not any(varying) else LOST
        if not self.strict or (self.rows == 1 and op.type not in BATCH_NORMS):
            return LOST
        beside = [t for t, p, v in zip(op.inputs, at, varying) if isinstance(p, Place) and not v]
        if beside and rule(self, op, [p if v else None for p, v in zip(at, varying)]) != MIX:
            raise ValueError(
                f"{self.function}: {beside[0].name!r} of shape {beside[0].shape} was taken for a tensor with "
                f"one entry per row, but op {op.name!r} ({op.type}) combines every row with all of it. "
                "Say which tensors have one entry per row: per_row=[...], [] for none."
            )
        begin = self.ints(op.inputs[1]) if self.rows and op.type in ("Slice", "StridedSlice") else None
        if begin is not None:
            self.parts.update((t.ref(), tuple(begin)) for t in op.outputs)
            return LOST
        if self.dormant is not None and is_conditional(op):
            self.dormant += [(t, None, self.mixture(op)) for t in op.outputs]
            return LOST
        self.refuse(op)

    def refuse(self, op):
        raise ValueError(self.mixture(op))

    def mixture(self, op):
        return (
            f"{self.function}: op {op.name!r} ({op.type}) between xs and ys mixes the rows of the batch, "
            "expected rows that do not depend on one another. For batch normalization in training mode, "
            "call the model with training=False; explain an output with one entry per row, not a mean or a "
            "loss over the batch; and where rows belong together, as the nodes of one graph, make them one "
            "row, as x[None] does, before the network is called."
        )

    # Sizes

    def static(self, tensor):
        """The value of a tensor that does not depend on what is fed, or None."""
        return constant_value(tensor, self.constants)

    def ints(self, tensor):
        value = self.static(tensor)
        return None if value is None else [int(v) for v in np.ravel(value)]

    def size(self, tensor, axis):
        """The size of an axis of a tensor."""
        place = self.place(tensor)
        if isinstance(place, Place) and place.axis == axis:
            return product_of([place.outer, ROWS, place.inner])
        if tensor.shape.rank is None:
            return None
        if tensor.shape.as_list()[axis] is not None:
            return Size(tensor.shape.as_list()[axis])
        if place in (LOST, COUNT):
            return None
        op = tensor.op
        if op.type == "Reshape":  # whose shape the graph computes, as that of a frozen dense layer
            sizes = self.sizes(op.inputs[1]) or []
            if len(sizes) == tensor.shape.rank and sizes[axis] not in (None, Size(-1)):
                return sizes[axis]
        # Under one name, wherever it comes from.
        if op.type in TYPES["unary"] or op.type in TYPES["broadcasting"] or op.type == "BiasAdd":
            for source in op.inputs:
                known = source.shape.rank == tensor.shape.rank and source.shape.as_list()[axis] is None
                if known and isinstance(self.place(source), Place):
                    return self.size(source, axis)
        return Size(1, (f"{tensor.name} {axis}",))

    def sizes(self, tensor):
        """The entries of an integer tensor as sizes, None for each that is not known; -1 stays a number."""
        if tensor.ref() not in self.known:
            self.known[tensor.ref()] = self.find_sizes(tensor)
        return self.known[tensor.ref()]

    def find_sizes(self, tensor):
        op = tensor.op
        if op.type in ("Shape", "ShapeN", "Size"):
            source = op.inputs[tensor.value_index if op.type == "ShapeN" else 0]
            if source.shape.rank is None:
                return None
            dims = [self.size(source, i) for i in range(source.shape.rank)]
            return [product_of(dims)] if op.type == "Size" else dims
        if not tensor.dtype.is_integer and op.type not in ("Cast", "Identity"):
            return None
        value = self.ints(tensor)
        if value is not None:
            return [Size(v) for v in value]
        rule = SIZE_RULES.get(op.type)
        if rule is not None:
            found = rule(self, op)
            if found is not None:
                return found
        count = tensor.shape.num_elements()
        if self.place(tensor) is None and count is not None and not any(map(self.place, op.inputs)):
            return [Size(1, (f"{tensor.name} of {i}",)) for i in range(count)]
        return None

    # Bodies of loops and branches

    def body(self, op, name, shapes):
        """Inputs, outputs and ops of a function that `op` calls, written out in a graph of its own."""
        key = op, name
        if key not in self.bodies:
            if self.library is None:
                self.library = function_library()
            fdef = self.library.get(op.get_attr(name).name)
            self.bodies[key] = None
            if is_concrete(fdef):
                skipped = len(op.inputs) - len(fdef.signature.input_arg)
                graph = tf.__internal__.FuncGraph("rows")
                with graph.as_default():
                    inputs = [
                        t
                        if t.dtype == tf.resource
                        else tf.compat.v1.placeholder(t.dtype, shape, t.op.name)  # for messages
                        for t, shape in zip(list(op.inputs)[skipped:], shapes)
                    ]
                    made = []
                    outputs = call_body(fdef, inputs, self.library, made)
                self.bodies[key] = inputs, outputs, made, graph
        return self.bodies[key]

    def inside(self, body, places, moves):
        """The places of what a body returns, and whether it varies as the inputs that `moves` tells."""
        inputs, outputs, made, graph = body
        inner = RowTracker(self.function, self.rows, self.strict)
        inner.dormant = None  # no run can be stopped from outside of a body
        for tensor, place in zip(inputs, places):
            if place is not None:
                inner.places[tensor.ref()] = place
        ops = ops_between(outputs, [t for t in inputs if t.ref() in inner.places])
        varying = find_varying(ops, [t for t, moving in zip(inputs, moves) if moving])
        with graph.as_default():
            inner.follow(ops, varying, outputs)
        self.baked += inner.baked
        return [inner.place(t) for t in outputs], [t.ref() in varying for t in outputs]

    def one_each(self, op, tensor, place):
        """Whether what all rows share has an entry for each of so many; `op` is for that number then."""
        dims = tensor.shape.as_list() if self.rows is not None and tensor.shape.rank else []
        fits = place.axis < len(dims) and place == Place(place.axis) and dims[place.axis] == self.rows
        return fits and bool(baked(self, op, place))

    def is_row_number(self, tensor):
        """Whether `tensor` is `tf.range(B)`."""
        while tensor.op.type in ("Cast", "Identity", "ExpandDims", "Reshape"):
            tensor = tensor.op.inputs[0]
        if tensor.op.type != "Range":
            return False
        start, stop, step = tensor.op.inputs
        count = [ROWS if self.rows is None else Size(self.rows)]
        return self.ints(start) == [0] and self.ints(step) == [1] and self.sizes(stop) == count
