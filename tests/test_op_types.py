"""The table of what is known of op types."""

import collections

import tensorflow as tf

from igtf.op_types import FACTS, TYPES
from igtf.rows.rules import ROW_RULES
from igtf.secant.table import SECANT_RULES


def test_every_type_has_one_entry():
    count = collections.Counter(kind for types in FACTS.values() for kind in types.split())
    assert [kind for kind, entries in count.items() if entries > 1] == []


def test_every_type_is_one_of_tensorflow():
    named = {kind for types in FACTS.values() for kind in types.split()} | set(ROW_RULES) | set(SECANT_RULES)
    assert sorted(kind for kind in named if not hasattr(tf.raw_ops, kind)) == ["Loop"]  # our own


def test_slots_are_those_of_the_entry():
    assert TYPES["affine"]["SelectV2"] == (1, 2) and TYPES["affine"]["Mul"] == "one"
    assert 7 in TYPES["affine"]["ConcatV2"] and TYPES["switches"]["Relu6"] == (0, 6)
    assert 0 not in TYPES["shape_slots"]["If"] and 7 in TYPES["shape_slots"]["If"]
    assert TYPES["kink"]["Relu"] == ""
