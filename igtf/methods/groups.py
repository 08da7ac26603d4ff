"""Features that are switched together, and sets of baselines to average over."""

import contextlib
import math

import numpy as np
import tensorflow as tf

from igtf.arithmetic import right_pad
from igtf.methods.common import in_dtype_of, per_input, positive, shape_of
from igtf.traversal import asserted
from integrated_gradients_tf import broadcast_like, check_tensor, flat_baselines, pair_up

__all__ = ["BaselineSet", "Groups", "check_options"]

MOST_GROUPS = 1_000_000


class Groups:
    """What a feature mask says: which features belong together.

    Attributes:
      count: the number of groups `G`, with those that no feature is in.
      ids: int32 tensors `[1 or B, ...]`, one for each input, that broadcast to it.
    """

    def __init__(self, function, structure, xs, feature_mask, num_groups=None, per_group=False):
        self._structure, self._xs, self._per_group = structure, xs, per_group
        masks = per_input(function, "feature_mask", structure, feature_mask)
        masks = [_checked(function, *pair) for pair in zip(xs, masks)]
        self.count = _count(function, masks, num_groups)
        self.ids, self._own = [], []  # whether every row has a mask of its own
        for x, mask in zip(xs, masks):
            ids = tf.cast(mask, tf.int32)
            own = ids.shape.as_list()[0] != 1
            if own and None in (ids.shape.as_list()[0], x.shape.as_list()[0]):
                same = tf.equal(tf.shape(ids)[0], tf.shape(x)[0])
                message = (
                    f"{function}: feature_mask has other than the rows of xs {x.name!r}, expected one mask "
                    "for all rows or one for each."
                )
                ids = asserted(same, message, ids)
            if not isinstance(mask, np.ndarray):
                inside = tf.reduce_all((ids >= 0) & (ids < self.count))
                message = (
                    f"{function}: feature_mask has ids that are not from 0 to {self.count - 1}, expected "
                    f"those of num_groups={self.count} groups."
                )
                ids = asserted(inside, message, ids)
            self.ids.append(ids)
            self._own.append(own)

    @property
    def any_own(self):
        """Whether rows have masks of their own."""
        return any(self._own)

    def of_features(self, values):
        """`values [G]` of the groups for the features in them, as `ids`."""
        return [tf.gather(values, ids) for ids in self.ids]

    def spread(self, values):
        """`values [n, 1 or B, G]` of the groups for the features in them: `[n, 1 or B, ...]` as `ids`."""
        parts = []
        for ids, own in zip(self.ids, self._own):
            if not own:
                parts.append(tf.gather(values, ids[0], axis=2))
            elif values.shape[1] == 1:
                parts.append(tf.gather(values[:, 0], ids, axis=1))
            else:
                part = tf.gather(tf.transpose(values, [1, 0, 2]), ids, axis=2, batch_dims=1)
                parts.append(tf.transpose(part, [1, 0, *range(2, part.shape.rank)]))
        return parts

    def sizes(self, dtype):
        """How many features are in each group: `[1 or B, G]`."""
        # A mask with an axis of size 1 stands for all that lies along that axis.
        each = [_size(shape_of(x)[1:]) / _size(shape_of(ids)[1:]) for x, ids in zip(self._xs, self.ids)]
        return self._sums(
            [tf.cast(one, dtype) * tf.ones_like(ids, dtype) for one, ids in zip(each, self.ids)]
        )

    def sums(self, values):
        """What the groups have together of `values [B, ...]` of features: `[B, G]`."""
        parts = []
        for value, ids in zip(values, self.ids):
            shape = tf.broadcast_dynamic_shape(tf.shape(value), tf.shape(ids))
            # A value for all that lies along an axis is shared by the groups along it.
            share = tf.reduce_prod(tf.shape(value)[1:]) / tf.reduce_prod(shape[1:])
            parts.append(tf.broadcast_to(value, shape) * tf.cast(share, value.dtype))
        return self._sums(parts)

    def _sums(self, values):
        total = tf.zeros([1, self.count], values[0].dtype)
        for value, ids in zip(values, self.ids):
            rows = tf.shape(value)[0]
            first = right_pad(self.count * tf.range(tf.cast(rows, tf.int64)), ids)
            inside = tf.broadcast_to(tf.cast(ids, tf.int64) + first, tf.shape(value))
            sums = tf.math.unsorted_segment_sum(
                tf.reshape(value, [-1]), tf.reshape(inside, [-1]), rows * self.count
            )
            total += tf.reshape(sums, [-1, self.count])
        return total

    def attributions(self, totals):
        """Those of groups `[B, G]` as they are, or shared equally by the features of each group."""
        if self._per_group:
            return in_dtype_of(self._xs[0], totals)
        shares = tf.math.divide_no_nan(totals, self.sizes(totals.dtype))
        parts = []
        for x, ids, own in zip(self._xs, self.ids, self._own):
            part = tf.gather(shares, ids, axis=1, batch_dims=1) if own else tf.gather(shares, ids[0], axis=1)
            parts.append(in_dtype_of(x, broadcast_like(part, x)))
        return tf.nest.pack_sequence_as(self._structure, parts)


def check_options(function, feature_mask, num_groups, per_group, **others):
    """Refuses options of masks without one, and beside one `others`, which say otherwise what a group is."""
    if not isinstance(per_group, (bool, np.bool_)):
        raise TypeError(f"{function}: per_group is {per_group!r}, expected True or False.")
    if feature_mask is None:
        for argument, value in (("per_group", per_group or None), ("num_groups", num_groups)):
            if value is not None:
                raise ValueError(
                    f"{function}: {argument} is {value!r} without a feature_mask, expected both. Pass the "
                    "mask that says which features are a group."
                )
        return
    for argument, value in others.items():
        if value is not None:
            raise ValueError(
                f"{function}: {argument} and a feature_mask were given, expected one of them: either says "
                "what is switched together. Leave one out."
            )


def _checked(function, x, value):
    """A mask `[1 or B, ...]`: an array, or a tensor where only the run knows its values."""
    if x.shape.rank is None:
        raise ValueError(
            f"{function}: xs {x.name!r} has unknown rank, expected a known one for a feature_mask. Set it "
            "with xs.set_shape before the network is called."
        )
    if isinstance(value, tf.Variable) or (tf.is_tensor(value) and not hasattr(value, "numpy")):
        check_tensor(function, "feature_mask", value)
        static = tf.get_static_value(value)
        value = value if static is None else static
    try:
        value = value if tf.is_tensor(value) and not hasattr(value, "numpy") else np.asarray(value)
        integer = tf.as_dtype(value.dtype).is_integer
    except Exception:  # whatever a library raises for what is no array
        integer = False
    if not integer:
        kind = getattr(value, "dtype", type(value).__name__)
        raise TypeError(
            f"{function}: feature_mask is {getattr(kind, 'name', kind)} for xs {x.name!r}, expected ints: "
            "the number of the group that each feature is in. Convert it with astype(int)."
        )
    shape = tf.TensorShape(value.shape)
    row = shape.rank == x.shape.rank - 1
    whole = tf.TensorShape([1]).concatenate(shape) if row else shape
    if whole.rank != x.shape.rank or any(
        size not in (1, None) and wanted not in (size, None)
        for size, wanted in zip(whole.as_list(), x.shape.as_list())
    ):
        raise ValueError(
            f"{function}: feature_mask has shape {shape}, expected {x.shape[1:]} as a row of xs {x.name!r}, "
            f"or {x.shape} for one mask for each row (an axis of size 1 stands for all along it)."
        )
    return value[None] if row else value


def _count(function, masks, num_groups):
    """The number of groups: as it is given, or the largest id and 1."""
    known = [mask for mask in masks if isinstance(mask, np.ndarray)]
    least = min((int(mask.min()) for mask in known if mask.size), default=0)
    most = max((int(mask.max()) for mask in known if mask.size), default=0)
    if least < 0 or most >= MOST_GROUPS:
        raise ValueError(
            f"{function}: feature_mask has the id {least if least < 0 else most}, expected groups numbered "
            f"from 0 on, below {MOST_GROUPS:,}. Number them with np.unique(mask, return_inverse=True)."
        )
    if num_groups is None and len(known) < len(masks):
        raise ValueError(
            f"{function}: feature_mask is a tensor whose values only the run knows, expected how many "
            "groups there are at most. Pass num_groups=..., or an array as feature_mask."
        )
    count = most + 1 if num_groups is None else positive(function, "num_groups", num_groups)
    if not most < count <= MOST_GROUPS:
        raise ValueError(
            f"{function}: num_groups is {count} and the largest id in feature_mask {most}, expected "
            f"{most + 1} to {MOST_GROUPS:,}. Leave it out where feature_mask is an array."
        )
    return count


def _size(shape):
    """The product of the entries of a shape, 1 at least, as a number or a tensor."""
    if all(isinstance(size, int) for size in shape):
        return float(max(math.prod(shape), 1))
    return tf.cast(tf.reduce_prod(tf.stack(shape)), tf.float32)


class BaselineSet:
    """Baselines to average over: one with one axis more than its tensor of `xs` is a set of `count`."""

    def __init__(self, function, structure, xs, baselines):
        values = [baselines] * len(xs)
        if tf.nest.is_nested(structure) and tf.nest.is_nested(baselines):
            with contextlib.suppress(ValueError, TypeError, KeyError):  # said by flat_baselines
                values = [value for _, value in pair_up(structure, baselines)]
        several = [_rank(value) == (x.shape.rank or 0) + 1 > 1 for x, value in zip(xs, values)]
        if any(several):
            if any(len(value) == 0 for value, some in zip(values, several) if some):
                raise ValueError(
                    f"{function}: baselines is an empty set, expected [K, 1, ...] or [K, B, ...]."
                )
            firsts = [value[0] if some else value for value, some in zip(values, several)]
            baselines = tf.nest.pack_sequence_as(structure, firsts)
        self._plain = flat_baselines(function, structure, xs, baselines)
        self._sets = [
            tf.convert_to_tensor(value, x.dtype) if some else None
            for x, value, some in zip(xs, values, several)
        ]
        counts = {some.shape.as_list()[0] for some in self._sets if some is not None}
        if len(counts) > 1 or None in counts:
            raise ValueError(
                f"{function}: the sets of baselines have {sorted(map(str, counts))} entries, expected one "
                "number that is known: [K, 1, ...] or [K, B, ...] for xs [B, ...], the same K for each input."
            )
        self.count = counts.pop() if counts else 1

    def mean(self):
        """Their mean, one tensor for each input."""
        return [
            plain if some is None else tf.reduce_mean(some, 0) for plain, some in zip(self._plain, self._sets)
        ]

    def at(self, number):
        """The baselines of that number (modulo `count`), one for each input."""
        return [
            plain if some is None else some[number % self.count]
            for plain, some in zip(self._plain, self._sets)
        ]


def _rank(value):
    if tf.is_tensor(value):
        return value.shape.rank
    try:
        return np.ndim(value)
    except Exception:  # ragged lists and what is no array at all
        return None
