"""Probes close to the ends of the path: what they say counts where a norm moves far, and nowhere else."""

import numpy as np
import pytest
import tensorflow as tf
from reference import as_graph

from igtf.probes import FAR, TAIL, Tails

PLACES = np.array([0, 1e-6, 1e-3, TAIL, 0.3, 0.5, 0.7, 1 - TAIL, 0.999, 1])
LOW, HIGH = [1, 2], [8]  # those of the tails


def look(values, copies, static):
    """What becomes of a unit and a norm, `values [B, places, 2]`."""
    tails = Tails(PLACES, 1)
    blocks = -(-len(PLACES) // copies)

    def build(values):
        def at_block(i):
            at = tf.minimum(i * copies + tf.range(copies), len(PLACES) - 1)
            return tf.gather(tf.transpose(values, [1, 0, 2]), tf.gather(tf.constant(tails.order), at))

        seen = tails.look(at_block, [blocks, copies, tf.shape(values)[0], 2], values.dtype)
        return tf.transpose(seen[: len(PLACES)], [1, 0, 2])

    return as_graph(build, [values], static)


def rows():
    """Norms that move little at both ends, far at the first, far at the last; tails that are on no line."""
    values = np.random.RandomState(0).normal(size=(3, len(PLACES), 2))
    values[..., 1] = 0.9 * FAR * np.cos(9 * PLACES) / 2
    values[1, 0, 1], values[2, -1, 1] = -9, 9
    return values


@pytest.mark.parametrize("static", [True, False], ids=["static", "open"])
@pytest.mark.parametrize("copies", [1, 4, 7, 10])
def test_tails_are_on_a_line_in_rows_whose_norms_hardly_move_there(copies, static):
    values = rows()
    expected = values.copy()
    for at, row_seen in ((LOW, 1), (HIGH, 2)):
        ends = [0, 3] if at is LOW else [7, 9]
        for row in {0, 1, 2} - {row_seen}:
            for unit in (0, 1):
                expected[row, at, unit] = np.interp(PLACES[at], PLACES[ends], values[row, ends, unit])
    np.testing.assert_allclose(look(values, copies, static), expected, rtol=1e-12, atol=1e-12)


def test_nobody_looks_at_tails_that_no_row_needs():
    values = rows()[:1]
    values[:, LOW + HIGH] = np.nan
    values[:, [0, 3], 1] = 0, 1.1 * FAR
    assert np.isnan(look(values, 7, True)[:, LOW]).all()
    values[:, [0, 3], 1] = 0, 0.9 * FAR
    assert np.isfinite(look(values, 7, True)).all()
