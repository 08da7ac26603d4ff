"""Groups of features and sets of baselines, in occlusion and in Shapley values."""

import numpy as np
import pytest
import tensorflow as tf
from group_cases import MASKS, SETS, STARTS, U, X, case, net, occlusion_of_groups, shapley_of_groups, spread
from method_networks import BATCHES, RNG, run
from reference import assert_close, in_function, in_session

import igtf.methods as methods


class TestOcclusionOfGroups:
    @pytest.mark.few(9)
    @BATCHES
    @pytest.mark.parametrize("baselines", SETS)
    @pytest.mark.parametrize("name", MASKS)
    def test_values_equal_a_loop_over_the_groups_in_numpy(self, name, baselines, static):
        masks, starts, sets, whole, count = case(name, baselines)
        phi = occlusion_of_groups(net, (X, U), sets, whole, count)

        def build(x, u, per_group=False):
            xs, options = {"x": x, "u": u}, {"feature_mask": masks, "per_group": per_group}
            return methods.occlusion(net(x, u, tf), xs, baseline=starts, **options)

        result = run(build, X, U, static=static)
        for key, expected in zip("xu", spread(phi, whole, (X, U))):
            assert_close(result[key], expected, 1e-12)
        groups = run(lambda x, u: build(x, u, True), X, U, static=static)
        # The largest id may be in another row, so there may be fewer groups here.
        assert_close(groups, phi[:, : groups.shape[1]], 1e-12)
        assert groups.shape[1] == 1 + max(mask.max() for mask in whole)

    def test_windows_that_tile_are_groups_too(self):
        images = RNG.normal(size=(2, 4, 6, 3))
        f = lambda x: tf.reduce_prod(tf.reduce_mean(x, 3) + 2, [1, 2])  # noqa: E731
        mask = 3 * np.repeat(np.arange(2), 2)[:, None, None] + np.repeat(np.arange(3), 2)[:, None]
        windows = run(lambda x: methods.occlusion(f(x), x, (2, 2, 3), (2, 2, 3)), images)
        groups = run(lambda x: methods.occlusion(f(x), x, feature_mask=mask), images)
        assert_close(groups, windows, 1e-12)

    def test_windows_are_averaged_over_a_set_of_baselines(self):
        f = lambda x: tf.reduce_prod(tf.sin(x) + 2, 1)  # noqa: E731
        of = lambda start: run(lambda x: methods.occlusion(f(x), x, 2, baseline=start), X)  # noqa: E731
        assert_close(of(STARTS), np.mean([of(start) for start in STARTS], 0), 1e-12)


class TestShapleyValuesOfGroups:
    @pytest.mark.few(5)
    @pytest.mark.parametrize("baselines", SETS)
    @pytest.mark.parametrize("name", MASKS)
    def test_orders_converge_to_a_sum_over_coalitions(self, name, baselines):
        masks, starts, sets, whole, count = case(name, baselines)
        phi = shapley_of_groups(net, (X, U), sets, whole, count)

        def build(x, u):
            xs = {"x": x, "u": u}
            return methods.shapley_value_sampling(
                net(x, u, tf), xs, 1000, baselines=starts, seed=1, feature_mask=masks
            )

        result = run(build, X, U)
        for key, expected in zip("xu", spread(phi, whole, (X, U))):
            assert np.abs(result[key] - expected).max() < 0.03
        change = net(X, U) - np.mean(
            [net(*(np.broadcast_to(b, x.shape) for b, x in zip(s, (X, U)))) for s in sets], 0
        )
        assert_close(result["x"].sum(1) + result["u"].sum((1, 2)), change, 1e-12)

    @BATCHES
    def test_additive_models_are_exact_and_groups_get_their_sum(self, static):
        mask = [1, 0, 1, 3, 0]

        def build(x, per_group):
            y = tf.reduce_sum(tf.sin(3 * x), axis=1)
            return methods.shapley_value_sampling(y, x, 2, feature_mask=mask, per_group=per_group)

        parts = np.sin(3 * X)
        sums = np.stack([parts[:, np.equal(mask, g)].sum(1) for g in range(4)], 1)
        assert_close(run(lambda x: build(x, True), X, static=static), sums, 1e-12)
        means = (sums / np.maximum(np.bincount(mask), 1))[:, mask]
        assert_close(run(lambda x: build(x, False), X, static=static), means, 1e-12)


def both(call):
    return pytest.mark.parametrize("method", ["occlusion", "shapley_value_sampling"])(call)


class TestMasks:
    @both
    def test_masks_may_be_tensors_whose_values_only_the_run_knows(self, method):
        masks = RNG.permutation(np.arange(15) % 3).reshape(3, 5)

        def build(x, mask):
            y = tf.reduce_sum(x**3, 1)
            return getattr(methods, method)(y, x, feature_mask=mask, num_groups=4, per_group=True)

        expected = np.stack([(X**3 * (masks == g)).sum(1) for g in range(4)], 1)
        assert_close(in_session(build, X, masks), expected, 1e-12)
        assert_close(in_function(build, X, masks), expected, 1e-12)
        with pytest.raises(tf.errors.InvalidArgumentError, match="ids that are not from 0 to 3"):
            in_function(build, X, masks + 2)
        with pytest.raises(tf.errors.InvalidArgumentError, match="other than the rows of xs"):
            in_function(build, X[:2], masks)

    @both
    def test_rows_do_not_influence_one_another(self, method):
        build = lambda x: getattr(methods, method)(  # noqa: E731
            tf.reduce_prod(2 + tf.sin(x), 1),
            x,
            feature_mask=[0, 0, 1, 2, 1],
            **({"seed": 1} if "shap" in method else {}),
        )
        assert_close(in_function(build, X[1:]), in_function(build, X)[1:], 1e-12)

    @both
    @pytest.mark.parametrize(
        "mask, error, message",
        [
            ([0, 1, 2], ValueError, r"feature_mask has shape \(3,\), expected \(5,\) as a row of xs"),
            (np.zeros([2, 5], int), ValueError, r"feature_mask has shape \(2, 5\), expected .* each row"),
            (np.zeros([3, 5, 1], int), ValueError, "feature_mask has shape"),
            (np.zeros(5), TypeError, "feature_mask is float64.*expected ints.*astype"),
            (np.zeros(5, bool), TypeError, "feature_mask is bool.*expected ints"),
            ("01123", TypeError, "feature_mask is .*expected ints"),
            ([[0], [1, 2]], TypeError, "feature_mask is .*expected ints"),
            (-np.eye(5, dtype=int)[0], ValueError, "feature_mask has the id -1, expected .* from 0 on"),
            ([0, 1, 2, 3, 10**7], ValueError, "feature_mask has the id 10000000.*np.unique"),
        ],
    )
    def test_wrong_masks_are_refused(self, method, mask, error, message):
        with pytest.raises(error, match=f"^{method}: {message}"):
            run(lambda x: getattr(methods, method)(x, x, feature_mask=mask), X)

    @both
    def test_options_that_do_not_go_together_are_refused(self, method):
        mask, call = [0, 0, 1, 2, 1], getattr(methods, method)
        other = {"occlusion": "strides", "shapley_value_sampling": "sampling_dims"}[method]
        for options, error, message in (
            ({"per_group": True}, ValueError, "per_group is True without a feature_mask"),
            ({"num_groups": 2}, ValueError, "num_groups is 2 without a feature_mask"),
            ({"feature_mask": mask, "per_group": 1}, TypeError, "per_group is 1, expected True or False"),
            ({"feature_mask": mask, "num_groups": 2}, ValueError, "num_groups is 2 and the largest id .* 2"),
            ({"feature_mask": mask, "num_groups": 2.5}, ValueError, "num_groups is 2.5, expected a positive"),
            ({"feature_mask": mask, other: 1}, ValueError, f"{other} and a feature_mask were given"),
        ):
            with pytest.raises(error, match=f"^{method}: {message}"):
                run(lambda x, options=options: call(x, x, **options), X)
        with pytest.raises(ValueError, match="feature_mask is .*expected one in the place of each tensor"):
            run(lambda x: call(x, [x], feature_mask=mask), X)
        with pytest.raises(ValueError, match="values only the run knows.*num_groups"):
            run(lambda x: call(x, x, feature_mask=tf.cast(x, tf.int32)), X)


class TestSetsOfBaselines:
    @both
    @pytest.mark.parametrize(
        "baselines, message",
        [
            (np.zeros([0, 1, 5]), "baselines is an empty set"),
            (np.zeros([2, 1, 4]), "baseline"),
            (np.zeros([2, 2, 5]), "baseline"),
            (np.zeros([2, 1, 1, 5]), "baseline"),
        ],
    )
    def test_those_that_do_not_fit_are_refused(self, method, baselines, message):
        name = "baseline" if method == "occlusion" else "baselines"
        with pytest.raises(ValueError, match=message):
            run(lambda x: getattr(methods, method)(x, x, **{name: baselines}), X)

    def test_sets_of_several_inputs_have_one_number(self):
        with pytest.raises(ValueError, match="sets of baselines have .* entries, expected one number"):
            starts = [np.zeros([2, 1, 5]), np.zeros([3, 1, 2, 2])]
            run(lambda x, u: methods.occlusion(net(x, u, tf), [x, u], baseline=starts), X, U)
