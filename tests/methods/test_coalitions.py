"""Kernel SHAP: equal to the Shapley values where all coalitions are taken, near them where they are drawn."""

import math

import numpy as np
import pytest
import tensorflow as tf
from group_cases import MASKS, SETS, U, X, case, net, shapley_of_groups, spread
from method_networks import BATCHES, RNG, run
from reference import as_graph, assert_close, in_function, in_session

import igtf.methods as methods
from igtf.methods.coalitions import Pairs
from igtf.subgraph import Subgraph

WIDE, MIX = RNG.normal(size=(2, 12)), RNG.normal(size=(12, 4))


def wide(x, np=np):
    """Twelve features that interact."""
    h = np.tanh(x @ MIX)
    return h[:, 0] * h[:, 1] + h[:, 2] * h[:, 3]


@pytest.fixture(scope="module")
def of_wide():
    """By all coalitions at once: the weighted mean over them, `[2, 12]`."""
    bits = np.arange(2**12)[:, None] // 2 ** np.arange(12) % 2
    values = np.stack([wide(np.where(bits, row, 0)) for row in WIDE], 1)
    sizes, phi = bits.sum(1), np.zeros([2, 12])
    for i in range(12):
        shares = np.array([1 / (12 * math.comb(11, s)) for s in range(12)])
        with_i, without = bits[:, i] == 1, bits[:, i] == 0
        phi[:, i] = shares[sizes[with_i] - 1] @ values[with_i] - shares[sizes[without]] @ values[without]
    return phi


class TestExact:
    @pytest.mark.few(4)
    @BATCHES
    @pytest.mark.parametrize("baselines", SETS)
    @pytest.mark.parametrize("name", MASKS)
    def test_values_equal_those_over_all_coalitions(self, name, baselines, static):
        masks, starts, sets, whole, count = case(name, baselines)
        phi = shapley_of_groups(net, (X, U), sets, whole, count)

        def build(x, u, per_group=False, **options):
            xs = {"x": x, "u": u}
            return methods.kernel_shap(
                net(x, u, tf), xs, starts, masks, 1 << count, per_group=per_group, **options
            )

        result = run(build, X, U, static=static)
        for key, expected in zip("xu", spread(phi, whole, (X, U))):
            assert_close(result[key], expected, 1e-12)
        groups = run(lambda x, u: build(x, u, True, max_rows=6), X, U, static=static)
        assert_close(groups, phi[:, : groups.shape[1]], 1e-12)

    def test_without_a_mask_every_feature_is_a_group(self, of_wide):
        result = run(lambda x: methods.kernel_shap(wide(x, tf), x, num_samples=4094), WIDE)
        assert_close(result, of_wide, 1e-12)

    def test_ids_may_be_explained_and_the_result_is_that_of_the_output(self):
        table = np.array([0.0, 1.0, 4.0, 9.0])
        build = lambda ids: methods.kernel_shap(tf.reduce_sum(tf.gather(table, ids), 1), ids, 1)  # noqa: E731
        assert_close(run(build, np.array([[3, 0, 2]])), [[8.0, -1.0, 3.0]], 1e-12)

    @BATCHES
    def test_rows_that_cannot_be_stacked_run_one_coalition_at_a_time(self, static):
        def build(x):
            rows = tf.range(tf.shape(x)[0])
            y = tf.reduce_prod(2 + tf.sin(tf.math.unsorted_segment_sum(x, rows, tf.shape(x)[0])), 1)
            assert not Subgraph("test", y, x, None, explain=False).stackable
            return methods.kernel_shap(y, x), methods.kernel_shap(tf.reduce_prod(2 + tf.sin(x), 1), x)

        assert_close(*run(build, X, static=static), 1e-12)


class TestDrawn:
    def test_errors_are_those_of_sampling_and_fall_with_the_number_of_samples(self, of_wide):
        def error(num_samples):
            build = lambda x, seed: methods.kernel_shap(wide(x, tf), x, num_samples=num_samples, seed=seed)  # noqa: E731
            found = as_graph(lambda x: [build(x, seed) for seed in range(4)], [WIDE], True)
            return np.sqrt(np.mean((np.stack(found) - of_wide) ** 2)) / np.abs(of_wide).max()

        errors = [error(num_samples) for num_samples in (30, 400, 2000)]
        assert errors[0] > 2 * errors[1] > 4 * errors[2]
        assert errors[1] < 0.05

    @pytest.mark.parametrize("num_samples", [1, 2, 7, 24, 200])
    def test_it_is_complete_for_any_number_of_samples(self, num_samples):
        build = lambda x: methods.kernel_shap(wide(x, tf), x, 0.5, num_samples=num_samples)  # noqa: E731
        assert_close(run(build, WIDE).sum(1), wide(WIDE) - wide(np.full([2, 12], 0.5)), 1e-9)

    @pytest.mark.parametrize("num_samples", [30, 400])
    def test_additive_models_are_exact(self, num_samples):
        # (Of another seed, 30 coalitions may leave two features that no one tells apart.)
        options = dict(num_samples=num_samples, seed=1)
        build = lambda x: methods.kernel_shap(tf.reduce_sum(x**3, 1), x, **options)  # noqa: E731
        assert_close(run(build, WIDE), WIDE**3, 1e-7)

    @pytest.mark.parametrize("num_samples", [30, 400])
    def test_groups_that_a_row_does_not_have_get_nothing(self, num_samples):
        masks = np.stack([np.arange(12), np.arange(12) // 4 * 5])

        def build(x, mask):
            options = {"num_groups": 13, "num_samples": num_samples, "seed": 1}
            return [
                methods.kernel_shap(wide(x, tf), x, None, mask, per_group=each, **options)
                for each in (True, False)
            ]

        groups, features = in_function(build, WIDE, masks)
        assert not groups[0, 12].any() and not np.delete(groups[1], [0, 5, 10]).any()
        assert_close(groups.sum(1), wide(WIDE) - wide(0 * WIDE), 1e-9)
        assert_close(features.sum(1), groups.sum(1), 1e-12)

    def test_blocks_change_no_number(self):
        build = lambda x, rows: methods.kernel_shap(  # noqa: E731
            wide(x, tf), x, num_samples=300, seed=2, max_rows=rows
        )
        expected = run(lambda x: build(x, None), WIDE)
        for rows in (4, 30, 10000):
            assert_close(run(lambda x, rows=rows: build(x, rows), WIDE), expected, 1e-9)
            assert_close(in_session(lambda x, rows=rows: build(x, rows), WIDE), expected, 1e-9)

    def test_rows_do_not_influence_one_another(self):
        build = lambda x: methods.kernel_shap(wide(x, tf), x, num_samples=100, seed=2)  # noqa: E731
        expected = in_function(build, WIDE)
        broken = np.stack([WIDE[1], np.full(12, np.nan), WIDE[0]])
        assert_close(in_function(build, broken)[::2], expected[::-1], 1e-12)

    def test_the_graph_hardly_grows_with_the_number_of_samples(self):
        def nodes(count):
            traced = tf.function(lambda x: methods.kernel_shap(tf.tanh(x), x, num_samples=count))
            return len(traced.get_concrete_function(tf.TensorSpec([None, 40])).graph.get_operations())

        assert nodes(10**6) < nodes(90) + 120


@pytest.mark.few(4)
@pytest.mark.parametrize(
    "groups, num_samples, size",
    [(2, 2, 1), (5, 30, 4), (5, 29, 4), (6, 40, 1), (9, 20, 3), (12, 1000, 100), (12, 4000, 301)],
)
def test_coalitions_are_as_many_as_asked_for_and_the_weights_those_of_the_kernel(groups, num_samples, size):
    @tf.function
    def blocks():
        pairs = Pairs(groups, num_samples, tf.constant([1, 0]))
        blocks = [pairs.block(number, size) for number in range(-(-pairs.count // size))]
        return [tf.concat(parts, 0) for parts in zip(*blocks)], pairs.count, pairs.exact

    (kept, weights), count, exact = blocks()
    assert exact.numpy() == (2**groups - 2 <= num_samples)
    assert 2 * count <= num_samples + num_samples % 2
    kept, weights = kept.numpy()[:count], weights.numpy()
    assert not weights[count:].any()
    weights, sizes = weights[:count], kept.sum(1)
    mass = {s: (groups - 1) / (s * (groups - s)) for s in range(1, groups)}
    np.testing.assert_allclose(2 * weights.sum(), sum(mass.values()))
    both = np.concatenate([kept, ~kept])
    assert set(sizes) <= set(mass)
    for s in mass:
        of_size = both[both.sum(1) == s]
        whole = len(np.unique(of_size, axis=0)) == math.comb(groups, s)
        if exact or s == 1 and num_samples > 2.5 * groups:
            assert whole and len(of_size) == math.comb(groups, s)
            np.testing.assert_allclose(weights[sizes == s], mass[s] / math.comb(groups, s))


class TestRefusals:
    @pytest.mark.parametrize(
        "options, message",
        [
            ({"num_samples": 2**31}, "num_samples is 2147483648, expected at most"),
            ({"max_rows": 3}, "max_rows is 3, expected at least 4: a coalition and its complement"),
            ({"max_rows": 0}, "max_rows is 0, expected a positive int"),
            ({"per_group": True}, "per_group is True without a feature_mask"),
            ({"feature_mask": [5000, *range(11)]}, "xs has 5,001 features or groups, expected at most 4,096"),
        ],
    )
    def test_arguments_that_do_not_fit(self, options, message):
        with pytest.raises(ValueError, match=f"^kernel_shap: {message}"):
            run(lambda x: methods.kernel_shap(x, x, **options), WIDE)

    def test_too_many_features_ask_for_a_mask(self):
        images = np.zeros([1, 64, 64, 3])
        with pytest.raises(ValueError, match="12,288 features or groups.*such as patches or segments"):
            run(lambda x: methods.kernel_shap(x, x), images)

    def test_unknown_features_ask_for_static_ones_or_a_mask(self):
        traced = tf.function(lambda x: methods.kernel_shap(x, x))
        with pytest.raises(ValueError, match="expected static feature dimensions.*or pass a feature_mask"):
            traced.get_concrete_function(tf.TensorSpec([None, None]))
