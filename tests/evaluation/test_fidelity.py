"""Infidelity, mu-fidelity, average drop and increase against loops in NumPy, and closed forms."""

import judged
import numpy as np
import pytest
import tensorflow as tf
from judged import BOTH, MAP, PIXEL_MAP, PIXELS, STARTS, WEIGHTS, X, net, of_pixels
from reference import assert_close, in_function, in_session, normal
from scipy import stats

import igtf as ig

MASKS = {
    "none": None,
    "for all rows": np.array([0, 1, 1, 3, 0, 1]),
    "for each row": np.random.default_rng(0).integers(0, 4, [5, 6]),
}
MASKED = pytest.mark.parametrize("mask", MASKS)
SETS = pytest.mark.parametrize("several", [False, True], ids=["one baseline", "a set"])


def chosen(x):
    return (net(x) * WEIGHTS).sum(1)


def subsets(mask, several, fraction, samples, seed, values=MAP):
    """What attributions foretell, and the falls, both `[samples, B]`."""
    mask = MASKS[mask]
    units = judged.units_of(np.arange(6) if mask is None else mask, X)
    starts, count = STARTS if several else [STARTS[0]], len(units[0])
    foretold, falls = [], []
    for inside in judged.drawn_subsets(count, max(1, round(fraction * count)), samples, seed):
        places = [np.concatenate([u[g] for g in np.flatnonzero(inside)]) for u in units]
        foretold.append([row[p].sum() for row, p in zip(values, places)])
        falls.append(chosen(X) - judged.without(chosen, X, starts, places))
    return np.array(foretold), np.array(falls)


def build(name, mask, several, **options):
    starts = STARTS if several else STARTS[0]

    def judge(x, a, weights):
        return getattr(ig, name)(
            *(net(x, tf), x, a, 16, starts), feature_mask=MASKS[mask], seed=3, grad_ys=weights, **options
        )

    return judge


@pytest.mark.thin
@BOTH
@MASKED
@SETS
@pytest.mark.parametrize("fraction", [0.01, 0.4, 1])
@pytest.mark.parametrize("normalize", [False, True])
def test_infidelity_equals_a_loop_over_its_subsets(run, mask, several, fraction, normalize):
    foretold, falls = subsets(mask, several, fraction, 16, 3)
    scale = (foretold * falls).sum(0) / (foretold**2).sum(0) if normalize else 1
    wanted = ((scale * foretold - falls) ** 2).mean(0)
    found = run(build("infidelity", mask, several, fraction=fraction, normalize=normalize), X, MAP, WEIGHTS)
    np.testing.assert_allclose(found, wanted, rtol=1e-10, atol=1e-13)


@pytest.mark.thin
@BOTH
@MASKED
@SETS
@pytest.mark.parametrize("ranks", [False, True])
def test_mu_fidelity_equals_the_correlation_of_scipy(run, mask, several, ranks):
    foretold, falls = subsets(mask, several, 0.4, 16, 3)
    correlation = stats.spearmanr if ranks else stats.pearsonr
    wanted = [correlation(a, b)[0] for a, b in zip(foretold.T, falls.T)]
    # Sums that are equal but for rounding are ranked by it.
    found = run(build("mu_fidelity", mask, several, fraction=0.4, ranks=ranks), X, MAP, WEIGHTS)
    assert_close(found, wanted, 1e-10)


def test_slopes_count_for_the_change_of_the_input():
    slopes = MAP
    contributions = MAP * (X - STARTS.mean(0))
    judge = lambda x, a, slopes: ig.infidelity(  # noqa: E731
        net(x, tf)[:, 0], x, a, baselines=STARTS, multiply_by_inputs=not slopes, seed=0
    )
    found = in_session(lambda x, a: judge(x, a, True), X, slopes)
    assert_close(found, in_session(lambda x, a: judge(x, a, False), X, contributions), 1e-12)


@BOTH
@pytest.mark.parametrize("slopes", [False, True])
def test_infidelity_under_noise_equals_a_loop(run, slopes):
    start = 0.25
    wanted, falls = [], []
    for number in range(9):
        noise = tf.random.stateless_normal([1, 6], [7, number], alg="philox").numpy()
        noise = np.float64(noise)
        change = -0.3 * noise if slopes else -0.3 * noise / (X - start)
        falls.append(chosen(X) - chosen(X + 0.3 * noise))
        wanted.append((change * MAP).sum(1))
    wanted = ((np.array(wanted) - falls) ** 2).mean(0)

    def judge(x, a, weights):
        return ig.infidelity(
            *(net(x, tf), x, a, 9, start), stdev=0.3, multiply_by_inputs=not slopes, seed=7, grad_ys=weights
        )

    assert_close(run(judge, X, MAP, WEIGHTS), wanted, 1e-10)


@BOTH
def test_changes_of_your_own_are_taken_one_by_one(run):
    changes = normal(11, 5, 6, seed=20)
    wanted = [((change * MAP).sum(1) - (chosen(X) - chosen(X - change))) ** 2 for change in changes]

    def judge(x, a, weights, changes):
        return ig.infidelity(
            *(net(x, tf), x, a, 11),
            perturb=lambda xs, number: xs - changes[number],
            **dict(multiply_by_inputs=False, grad_ys=weights, max_rows=20),
        )

    shape = lambda array: [5 if len(array) == 5 else 11, *array.shape[1:]]  # noqa: E731
    assert_close(run(judge, X, MAP, WEIGHTS, changes, shape=shape), np.mean(wanted, 0), 1e-12)


def test_maps_of_pixels_are_for_the_mean_of_their_channels():
    def judge(x, a):
        return ig.infidelity(of_pixels(x, tf), x, a, stdev=0.1, multiply_by_inputs=False, seed=0)

    shared = np.repeat(PIXEL_MAP / 2, 2, -1)
    assert_close(in_session(judge, PIXELS, PIXEL_MAP), in_session(judge, PIXELS, shared), 1e-12)


@pytest.mark.parametrize("name", ["infidelity", "mu_fidelity"])
def test_groups_that_split_a_pixel_share_its_attribution(name):
    mask = np.arange(12).reshape(2, 3, 2) // np.array(
        [1, 2]
    )  # each channel by itself, or with another pixel's
    judge = lambda x, a: getattr(ig, name)(of_pixels(x, tf), x, a, feature_mask=mask, seed=0)  # noqa: E731
    shared = np.repeat(PIXEL_MAP / 2, 2, -1)
    assert_close(in_session(judge, PIXELS, PIXEL_MAP), in_session(judge, PIXELS, shared), 1e-12)


@pytest.mark.parametrize("options", [{}, dict(stdev=0.2), dict(stdev=0.2, multiply_by_inputs=False)])
def test_of_a_linear_network_the_true_attributions_have_no_infidelity(options):
    w = normal(6, 1, seed=30)
    slopes = options.get("multiply_by_inputs") is False
    truth = np.broadcast_to(w[:, 0], X.shape) if slopes else X * w[:, 0]
    judge = lambda x, a: ig.infidelity(x @ w, x, a, seed=0, **options)  # noqa: E731
    assert in_session(judge, X, truth).max() < 1e-25
    # That of others has a closed form: the mean of the squares of what they miss.
    assert in_session(judge, X, truth + 0.1).min() > 1e-4


def test_of_a_linear_network_the_true_attributions_correlate_fully():
    w = normal(6, 1, seed=30)
    judge = lambda x, a: ig.mu_fidelity(x @ w, x, a, fraction=0.4, seed=0)  # noqa: E731
    assert_close(in_session(judge, X, X * w[:, 0]), np.ones(5), 1e-12)
    assert_close(in_session(judge, X, -2 * X * w[:, 0]), -np.ones(5), 1e-12)


def test_what_does_not_vary_does_not_correlate():
    judge = lambda x, a: ig.mu_fidelity(net(x, tf)[:, 0], x, a, seed=0)  # noqa: E731
    assert in_session(judge, X.astype("f4"), np.full_like(MAP, 0.7, "f4")).tolist() == [0] * 5
    # But for rounding, in numbers and in ranks.
    flat = lambda x: 3 + 5e-7 * tf.reduce_sum(tf.tanh(x), 1)  # noqa: E731
    for ranks in (False, True):
        judge = lambda x, a, ranks=ranks: ig.mu_fidelity(flat(x), x, a, seed=0, ranks=ranks)  # noqa: E731
        assert in_session(judge, X.astype("f4"), MAP.astype("f4")).tolist() == [0] * 5


def test_of_several_samples_the_mean_settles():
    judge = lambda samples, seed: in_session(  # noqa: E731
        lambda x, a: ig.infidelity(net(x, tf)[:, 0], x, a, samples, fraction=0.5, seed=seed), X, MAP
    )
    every = [
        (places.sum(), places)
        for places in (np.arange(64)[:, None] // 2 ** np.arange(6) % 2).astype(bool)
        if places.sum() == 3
    ]
    f = lambda x: net(x)[:, 0]  # noqa: E731
    wanted = np.mean([((MAP * p).sum(1) - (f(X) - f(np.where(p, 0, X)))) ** 2 for _, p in every], 0)
    np.testing.assert_allclose(judge(8000, 1), wanted, rtol=0.05)
    assert np.abs(judge(8, 1) - judge(8, 2)).max() > 0.01


@BOTH
@SETS
def test_average_drop_and_increase_equal_their_formulas(run, several):
    f = lambda x: 1 / (1 + np.exp(-chosen(x)))  # noqa: E731
    starts = STARTS if several else STARTS[:1]
    shares = np.maximum(MAP, 0) / np.maximum(MAP, 0).max(1, keepdims=True)
    before, after = f(X), np.mean([f(b + shares * (X - b)) for b in starts], 0)

    def judge(x, a, weights):
        ys = tf.sigmoid(tf.reduce_sum(net(x, tf) * weights, 1))
        return ig.average_drop_increase(ys, x, a, STARTS if several else STARTS[0])

    drop, increase = run(judge, X, MAP, WEIGHTS)
    assert_close(drop, np.maximum(before - after, 0) / before, 1e-12)
    assert increase.tolist() == (after > before).tolist() and 0 < increase.mean() < 1


def test_rows_of_no_positive_output_have_no_drop():
    judge = lambda x, a: ig.average_drop_increase(tf.reduce_sum(x, 1), x, a)  # noqa: E731
    drop, increase = in_session(
        judge, np.array([[1.0, 2.0], [-1.0, -2.0]]), np.array([[0.0, 1.0], [1.0, 0.0]])
    )
    np.testing.assert_allclose(drop, [1 / 3, np.nan])
    assert increase.tolist() == [0, 1]


@pytest.mark.parametrize("name", ["infidelity", "mu_fidelity", "average_drop_increase"])
def test_rows_with_attributions_that_are_not_finite_have_no_score(name):
    a = MAP.copy()
    a[1, 2] = np.nan
    judge = lambda x, a: getattr(ig, name)(tf.nn.softmax(net(x, tf))[:, 0], x, a)  # noqa: E731
    for found in np.atleast_2d(in_function(judge, X, a)):
        assert np.isnan(found).tolist() == [False, True, False, False, False]


@pytest.mark.thin
@BOTH
@pytest.mark.parametrize("name", ["infidelity", "mu_fidelity"])
@pytest.mark.parametrize("options", [{}, dict(stdev=0.1)], ids=["subsets", "noise"])
def test_the_score_of_a_row_depends_on_the_row_alone(run, name, options):
    if name == "mu_fidelity" and options:
        return
    judge = lambda x, a: getattr(ig, name)(net(x, tf)[:, 0], x, a, seed=5, **options)  # noqa: E731
    whole = run(judge, X, MAP)
    assert_close(run(judge, X[3:4], MAP[3:4]), whole[3:4], 1e-12)
    assert_close(run(judge, X[::-1].copy(), MAP[::-1].copy()), whole[::-1], 1e-12)
    assert_close(
        run(lambda x, a: getattr(ig, name)(net(x, tf)[:, 0], x, a, seed=5, max_rows=10, **options), X, MAP),
        whole,
        1e-12,
    )


@pytest.mark.parametrize(
    "name, options, error, message",
    [
        ("infidelity", dict(num_samples=10**7), ValueError, "num_samples is 10000000, expected 1 to 1,000"),
        ("infidelity", dict(fraction=0), ValueError, "fraction is 0, expected a number above 0"),
        ("infidelity", dict(fraction=1.5), ValueError, "fraction is 1.5, expected"),
        ("infidelity", dict(fraction=True), ValueError, "fraction is True, expected"),
        ("infidelity", dict(normalize=1), TypeError, "normalize is 1, expected True or False"),
        ("infidelity", dict(multiply_by_inputs=None), TypeError, "multiply_by_inputs is None"),
        ("infidelity", dict(stdev=1.0, perturb=print), ValueError, "stdev and perturb were given"),
        ("infidelity", dict(stdev=1.0, feature_mask=[0] * 6), ValueError, "stdev and feature_mask were"),
        ("infidelity", dict(perturb=3), TypeError, "perturb is a int, expected a function"),
        (
            "infidelity",
            dict(perturb=lambda x, n: None),
            ValueError,
            "perturb returned a NoneType, exp",
        ),
        (
            "infidelity",
            dict(perturb=lambda x, n: x[:, :2]),
            ValueError,
            r"of shape \(5, 2\), expected \(5, 6\)",
        ),
        ("infidelity", dict(seed=1.5), TypeError, "seed is 1.5"),
        ("mu_fidelity", dict(num_samples=1), ValueError, "num_samples is 1, expected 2 to 1,000,000"),
        ("mu_fidelity", dict(ranks="yes"), TypeError, "ranks is 'yes', expected True or False"),
        ("average_drop_increase", dict(baselines=[1.0, 2.0]), ValueError, "baseline has shape"),
    ],
)
def test_wrong_arguments_are_refused(name, options, error, message):
    with tf.Graph().as_default(), pytest.raises(error, match=f"^{name}: .*{message}"):
        x = tf.compat.v1.placeholder(tf.float32, [5, 6])
        getattr(ig, name)(tf.reduce_sum(x, 1), x, x, **options)


def test_noise_is_for_floating_inputs():
    with tf.Graph().as_default(), pytest.raises(TypeError, match="^infidelity: xs .*int32"):
        x = tf.compat.v1.placeholder(tf.int32, [5, 6])
        a = tf.compat.v1.placeholder(tf.float32, [5, 6])
        ig.infidelity(tf.reduce_sum(tf.cast(x, tf.float32), 1), x, a, stdev=1.0)
