"""Which numbers of steps are taken one after the other, and what each adds to the one before."""

import numpy as np
import pytest
from shared_networks import METHODS, RULES

from igtf.levels import NESTED, find_levels, rule_of
from integrated_gradients_tf import quadrature


def levels(num_steps=None, method="auto", tolerance=0.01, compare=False):
    return find_levels("f", num_steps, method, tolerance, compare)


class TestNumbersOfSteps:
    def test_one_unless_an_error_or_a_tolerance_is_asked_for(self):
        assert levels(tolerance=None).counts == [50] and not levels(tolerance=None).several
        assert levels(7, tolerance=None).counts == [7]

    def test_half_as_many_are_compared_with(self):
        assert levels(50, tolerance=None, compare=True).counts == [25, 50]
        assert levels(7, tolerance=None, compare=True).counts == [3, 7]
        assert levels(7, "riemann_trapezoid", None, True).counts == [4, 7]
        assert levels(9, "riemann_middle", None, True).counts == [3, 9]

    def test_they_double_up_to_the_most(self):
        assert levels().counts == [5, 10, 20, 40, 80, 160, 320, 640]
        assert levels(50).counts == [6, 12, 24, 48]
        assert levels(2).counts == [1, 2]
        assert levels(65, "riemann_trapezoid").counts == [9, 17, 33, 65]
        assert levels(640, "riemann_middle").counts == [7, 21, 63, 189, 567]

    @pytest.mark.parametrize("method", ["auto", *METHODS])
    @pytest.mark.parametrize("most", [3, 4, 10, 31, 64, 999, 1_000_000])
    def test_none_is_more_than_the_most_and_each_grows_as_it_says(self, method, most):
        found = levels(most, method)
        assert len(found.counts) > 1 and 1 <= found.counts[0] < 20 and most / 3 < found.counts[-1] <= most
        ends = method == "riemann_trapezoid"
        fine = np.array(found.counts) - ends
        np.testing.assert_allclose(fine[1:] / fine[:-1], found.growth[1:])


class TestNesting:
    @pytest.mark.parametrize("rule", NESTED)
    @pytest.mark.parametrize("most", [10, 81, 200])
    def test_the_points_so_far_are_those_of_the_level_with_its_weights(self, rule, most):
        found = levels(20 if rule == "fejer" else most, "auto" if rule == "fejer" else rule)
        found = found.smooth() if rule == "fejer" else found
        assert found.nests
        points, weights = np.zeros(0), np.zeros([len(found.counts), 0])
        for i, (new, added) in enumerate(found.rules(rule, nested=True)):
            assert not any(np.isclose(point, points, atol=1e-12).any() for point in new)
            points, weights = np.append(points, new), np.append(weights, added, 1)
            full, shares = rule_of(found.counts[i], rule)
            order = np.argsort(points)
            np.testing.assert_allclose(points[order], full, atol=1e-12)
            np.testing.assert_allclose(weights[i][order], shares, atol=1e-12)

    @pytest.mark.parametrize("count", [1, 2, 4, 9, 39, 639])
    def test_fejers_rule_is_exact_for_polynomials_of_as_many_terms(self, count):
        points, weights = rule_of(count, "fejer")
        assert (weights > 0).all() and (np.diff(points) > 0).all()
        for power in range(min(count, 40)):
            np.testing.assert_allclose((weights * points**power).sum(), 1 / (power + 1), atol=1e-13)

    def test_smooth_networks_have_levels_of_fejers_rule(self):
        assert levels().smooth().counts == [4, 9, 19, 39, 79, 159, 319, 639]
        for kept in (levels(12), levels(1_000_000), levels(tolerance=None, compare=True)):
            assert kept.smooth() is kept

    def test_long_ones_are_taken_whole(self):
        assert levels(10_000, "riemann_left").nests and not levels(100_000, "riemann_left").nests

    @pytest.mark.parametrize("method", ["auto", "secant", "gausslegendre"])
    def test_nothing_where_no_point_is_met_again(self, method):
        assert not levels(method=method).nests

    @pytest.mark.parametrize("rule", RULES)
    def test_every_rule_can_be_taken_whole(self, rule):
        found = levels(50, rule)
        for (points, weights), count in zip(found.rules(rule, nested=False), found.counts):
            np.testing.assert_array_equal(points, quadrature(count, rule)[0])
            assert len(weights) == count


class TestRefusals:
    @pytest.mark.parametrize("tolerance", [-0.01, 1.01, np.nan, np.inf])
    def test_tolerances_out_of_range(self, tolerance):
        with pytest.raises(ValueError, match="f: tolerance is .*, expected a number from 0 to 1"):
            levels(tolerance=tolerance)

    @pytest.mark.parametrize("tolerance", ["0.01", True, [0.01], np.ones(1)])
    def test_tolerances_that_are_no_numbers(self, tolerance):
        with pytest.raises(TypeError, match="f: tolerance is .*, expected a number from 0 to 1"):
            levels(tolerance=tolerance)

    def test_numbers_of_any_kind_are_taken(self):
        for tolerance in (0, 1, np.float16(0.5), np.float64(0.1), np.int64(1)):
            assert levels(tolerance=tolerance).tolerance == float(tolerance)

    @pytest.mark.parametrize("method", ["auto", *METHODS])
    def test_too_few_steps_to_compare(self, method):
        least = 3 if method in ("riemann_middle", "riemann_trapezoid") else 2
        for options in (dict(tolerance=0.1), dict(tolerance=None, compare=True)):
            assert levels(least, method, **options).several
            if method != "riemann_trapezoid":
                with pytest.raises(ValueError, match=f"num_steps is {least - 1}, expected at least {least}"):
                    levels(least - 1, method, **options)
