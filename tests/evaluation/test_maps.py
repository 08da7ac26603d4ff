"""Sparseness and the pointing game: textbook formulas."""

import doctest
import importlib

import numpy as np
import pytest
import tensorflow as tf
from judged import BOTH, MAP, PIXEL_MAP
from reference import assert_close, in_function, in_session

import igtf as ig


def gini(values):
    """Half the mean difference between all pairs, by the mean: another road than sorting."""
    size = np.abs(values)
    return np.abs(size[:, :, None] - size[:, None]).mean((1, 2)) / (2 * size.mean(1))


@BOTH
def test_sparseness_is_the_mean_difference_of_all_pairs(run):
    assert_close(run(ig.sparseness, MAP), gini(MAP), 1e-12)
    joint = np.concatenate([MAP, PIXEL_MAP.reshape(5, -1)], 1)
    assert_close(run(lambda a, b: ig.sparseness([a, {"b": b}]), MAP, PIXEL_MAP), gini(joint), 1e-12)


def test_sparseness_goes_from_0_to_almost_1():
    rows = np.array([[0, 0, 0, -9.0], [2, 2, -2, 2], [0, 0, 0, 0], [np.nan, 1, 1, 1]])
    np.testing.assert_allclose(in_session(ig.sparseness, rows), [0.75, 0, 0, np.nan], atol=1e-15)
    assert in_session(ig.sparseness, np.array([[5.0]])).tolist() == [0]


@BOTH
def test_the_largest_attribution_hits_or_misses_its_mask(run):
    masks = np.random.default_rng(1).random([5, 6]) < 0.5
    wanted = [float(mask[row.argmax()]) for row, mask in zip(MAP, masks)]
    assert 0 < np.mean(wanted) < 1
    assert run(lambda a: ig.pointing_game(a, masks), MAP).tolist() == wanted
    assert run(ig.pointing_game, MAP, masks.astype(np.int32)).tolist() == wanted


def test_equal_largest_attributions_count_by_their_share():
    maps = np.array([[1.0, 3, 3, 3, 2], [0, 0, 0, 0, 0], [1, 2, np.inf, 0, 0]])
    found = in_session(lambda a: ig.pointing_game(a, [0, 1, 1, 0, 0]), maps)
    np.testing.assert_allclose(found, [2 / 3, 2 / 5, np.nan])


def test_the_largest_of_several_inputs_counts():
    maps = np.array([[1.0, 3], [1, 3]]), np.array([[2.0, 4], [2, 1]])
    found = in_session(lambda a, b: ig.pointing_game([a, b], [[0, 1], [1, 0]]), *maps)
    assert found.tolist() == [0, 1]


@pytest.mark.parametrize(
    "mask, error, message",
    [
        (None, TypeError, "mask is a NoneType, expected an array"),
        ([True] * 5, ValueError, r"mask has shape \(5,\), expected one that broadcasts to \(5, 6\)"),
        (np.ones([1, 1, 6]), ValueError, r"mask has shape \(1, 1, 6\)"),
        (["a"] * 6, TypeError, "mask is a .*, expected an array of Booleans"),
    ],
)
def test_masks_that_do_not_fit_are_refused(mask, error, message):
    with tf.Graph().as_default(), pytest.raises(error, match=f"^pointing_game: {message}"):
        ig.pointing_game(tf.compat.v1.placeholder(tf.float32, [5, 6]), mask)


def test_a_structure_of_maps_wants_one_of_masks():
    with pytest.raises(ValueError, match="^pointing_game: mask is a ndarray, expected one mask in the place"):
        in_function(lambda a: ig.pointing_game([a, a], np.ones(6)), MAP)


@pytest.mark.parametrize("name", ["sparseness", "pointing_game"])
def test_maps_of_unknown_rank_are_refused(name):
    with tf.Graph().as_default(), pytest.raises(ValueError, match=f"^{name}: .*unknown rank"):
        a = tf.compat.v1.placeholder(tf.float32, None)
        getattr(ig, name)(a, *([True] if name == "pointing_game" else []))


@pytest.mark.parametrize("room", ["curves", "fidelity", "highlights", "maps", "robustness"])
def test_the_examples_of_the_docstrings_run(room):
    results = doctest.testmod(importlib.import_module(f"igtf.evaluation.{room}"))
    assert results.attempted and not results.failed
