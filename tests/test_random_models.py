"""Everything public, held to a float64 reference on random models out of the layers that people use.

    python tests/test_random_models.py 17 20-40 [all] [-v] [without=2,3] [CLAIM...]

`CLAIMS` maps a name to a function of a `Case`, which yields `(what, how far off, how far it may be)`.
"""

import os
import sys
import time
import traceback
import warnings

if __name__ == "__main__":
    import conftest  # noqa: F401 (settings that must stand before TensorFlow is imported)

    sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))))

import functools

import numpy as np
import random_models
import tensorflow as tf
from random_models import ROWS, Model, Reference, Tested

import attribution_methods_tf as methods
import integrated_gradients_tf as ig
from explainer import Explainer

POINTS = {
    "riemann_left": lambda n: (np.arange(n) / n, np.full(n, 1 / n)),
    "riemann_right": lambda n: ((np.arange(n) + 1) / n, np.full(n, 1 / n)),
    "riemann_middle": lambda n: ((np.arange(n) + 0.5) / n, np.full(n, 1 / n)),
    "riemann_trapezoid": lambda n: (
        np.linspace(0, 1, n),
        np.where(np.isin(np.arange(n), [0, n - 1]), 0.5, 1) / (n - 1),
    ),
    "gausslegendre": lambda n: tuple(
        np.array(part) for part in zip(*(((p + 1) / 2, w / 2) for p, w in zip(*np.polynomial.legendre.leggauss(n))))
    ),
}


class Case:
    """A model, what it is compared with, and the weights of its outputs that are explained."""

    def __init__(self, model):
        self.model, self.tested, self.reference = model, Tested(model), Reference(model)
        random = np.random.RandomState([model.number, 7])
        self.random = random
        units = 1 if model.head == "scalar" else 3
        self.classes = random.randint(units, size=ROWS)
        self.weights = np.eye(units)[self.classes]
        if random.rand() < 0.3:
            self.weights = random.normal(size=(ROWS, units))
        self.weights = self.weights.astype(np.float32).astype(np.float64)

    def run(self, make):
        return self.tested.run(make, self.weights.astype(self.model.dtype))

    def weigh(self, parts):
        """`[B, C, ...]` for each input -> `[B, ...]` of the explained sum of outputs."""
        return [np.einsum("bc,bc...->b...", self.weights, part) for part in parts]

    @functools.cached_property
    def integral(self):
        parts, self.uncertain = self.reference.integral()
        return parts

    def sum_over(self, method, steps=50):
        return self.reference.sum_over(*POINTS[method](steps))

    @functools.cached_property
    def rounding(self):
        """How far off float32 is by itself: the same sum over points in both, through TensorFlow alone."""
        if self.model.dtype == "float64":
            return 1e-9
        single = Reference(self.model, np.float32).sum_over(*POINTS["gausslegendre"](50))
        return 10 * error(self.weigh(single), self.weigh(self.sum_over("gausslegendre"))) + 2e-5

    @functools.cached_property
    def change(self):
        return (self.reference.change() * self.weights).sum(1)


def flat(parts):
    return np.concatenate([np.reshape(p, (ROWS, -1)) for p in parts], 1).astype(np.float64)


def row_errors(found, expected):
    """Relative L1 error of every row; rows of next to nothing are measured by the others."""
    found, expected = flat(found), flat(expected)
    scale = np.abs(expected).sum(1)
    floor = 0.05 * scale.mean()
    if floor == 0:
        return np.abs(found).sum(1)
    return np.abs(found - expected).sum(1) / np.maximum(scale, floor)


def error(found, expected):
    return row_errors(found, expected).mean()


def integrated(case, method, steps=50, **options):
    return case.run(
        lambda h, ys, xs, bs, w: ig.integrated_gradients(
            ys, xs, bs, num_steps=steps, method=method, grad_ys=w, **options
        )
    )


# Claims -------------------------------------------------------------------------------------------------


def promise(case, what, found, steps):
    """At the same number of steps, never more than half again as far off as Gauss-Legendre."""
    expected = case.weigh(case.integral)
    other = error(case.weigh(case.sum_over("gausslegendre", steps)), expected)
    most = 1.5 * other + case.rounding + 3 * case.uncertain
    return what, error(found, expected), most


def auto(case):
    yield promise(case, "auto at 50 steps", integrated(case, "auto", 50), 50)


def few(case):
    yield promise(case, "auto at 20 steps", integrated(case, "auto", 20), 20)


def secant(case):
    found = integrated(case, "secant", 30)
    expected = case.weigh(case.integral)
    other = error(case.weigh(case.sum_over("gausslegendre", 30)), expected)
    yield "secant", error(found, expected), max(3 * other, 0.05) + case.rounding
    total = flat(found).sum(1)
    size = np.maximum(np.abs(flat(expected)).sum(1), 0.05 * np.abs(flat(expected)).sum(1).mean() + 1e-30)
    yield "secant's delta", np.max(np.abs(total - case.change) / size), 1e-6 + 10 * case.rounding


def points(case):
    """Point rules are the sum of gradients at their points."""
    method = case.random.choice(list(POINTS))
    found = integrated(case, method, 21)
    yield method, error(found, case.weigh(case.sum_over(method, 21))), case.rounding


def jacobian(case):
    method = case.random.choice(["auto", "auto", *POINTS])
    found = case.run(lambda h, ys, xs, bs, w: ig.integrated_jacobian(ys, xs, bs, num_steps=12, method=method))
    if method != "auto":
        yield f"jacobian, {method}", error(found, case.sum_over(method, 12)), case.rounding
        return
    c = case.random.randint(case.weights.shape[1])
    column = case.run(
        lambda h, ys, xs, bs, w: ig.integrated_gradients(ys[:, c], xs, bs, num_steps=12)
    )
    expected = [part[:, c] for part in case.integral]
    off, other = (error(part, expected) for part in ([f[:, c] for f in found], column))
    yield "jacobian's column, auto", off, 1.5 * other + case.rounding


def recipe(case):
    method = case.random.choice(list(POINTS))
    network = {}

    def make(h, ys, xs, bs, w):
        inter, stepsize, _ = ig.linear_interpolation(xs, 9, bs, method)
        _, again = network["call"](*inter)
        return ig.build_ig(inter, stepsize, again * tf.tile(w, [9, 1]), 9, method)

    if case.model.static:
        return  # the network takes ROWS rows
    found = case.tested.run(make, case.weights.astype(case.model.dtype), network=network)
    yield f"recipe, {method}", error(found, case.weigh(case.sum_over(method, 9))), case.rounding


def path(case):
    grads, outputs, alphas = case.run(
        lambda h, ys, xs, bs, w: ig.path_gradients(ys, xs, bs, num_steps=4, grad_ys=w)
    )
    yield "path_gradients alphas", np.abs(alphas - np.linspace(0, 1, 4)).max(), 1e-6
    for k, alpha in enumerate(np.linspace(0, 1, 4)):
        rows, at = np.arange(ROWS), np.full(ROWS, alpha)
        expected = case.weigh(case.reference.gradients(rows, at))
        yield f"path_gradients at {k}", error([g[k] for g in grads], expected), case.rounding
        y = (case.reference.outputs(rows, at)[1] * case.weights).sum(1)
        size = np.abs(case.reference.outputs(rows, at)[1]).max()
        yield f"path_gradients outputs at {k}", np.abs(outputs[k] - y).max() / size, case.rounding


def basics(case):
    order = np.roll(np.arange(ROWS), 3)
    again, found, saliency, times = case.run(
        lambda h, ys, xs, bs, w: (
            ig.graph_replace([h, ys], xs, [tf.gather(x, order) for x in xs]),
            ig.backpropagate(ys, xs, w, {}),
            methods.saliency(ys, xs, grad_ys=w),
            methods.gradient_times_input(ys, xs, grad_ys=w),
        )
    )
    expected = case.reference.outputs(order, np.ones(ROWS))
    for name, f, e in zip(["hidden tensor", "output"], again, expected):
        yield f"graph_replace, {name}", np.abs(f - e).max() / (np.abs(e).max() + 1e-30), case.rounding
    expected = case.weigh(case.reference.gradients(np.arange(ROWS), np.ones(ROWS)))
    yield "backpropagate", error(found, expected), case.rounding
    yield "saliency", error(saliency, [np.abs(e) for e in expected]), case.rounding
    products = [x * e for x, e in zip(case.reference.xs, expected)]
    yield "gradient_times_input", error(times, products), case.rounding


def delta(case):
    def make(h, ys, xs, bs, w):
        found = ig.integrated_gradients(ys, xs, bs, num_steps=3, method="gausslegendre", grad_ys=w)
        return found, ig.convergence_delta(ys, xs, bs, found, grad_ys=w)

    found, found_delta = case.run(make)
    expected = flat(found).sum(1) - case.change
    size = np.abs(flat(found)).sum(1).max() + np.abs(case.change).max() + 1e-30
    yield "convergence_delta", np.abs(found_delta - expected).max() / size, case.rounding


def conductance(case):
    case.integral  # noqa: B018 (the panels)
    expected = case.reference.conductance(case.weights)
    method = case.random.choice(["auto", "auto", "gausslegendre"])
    found = case.run(
        lambda h, ys, xs, bs, w: ig.layer_conductance(ys, h, xs, bs, num_steps=50, method=method, grad_ys=w)
    )
    yield f"conductance, {method}", error([found], [expected]), 0.05 + case.rounding


def deeplift(case):
    found = case.run(lambda h, ys, xs, bs, w: methods.deeplift(ys, xs, bs, grad_ys=w))
    size = np.maximum(np.abs(flat(found)).sum(1), np.abs(case.change)) + 1e-30
    off = np.abs(flat(found).sum(1) - case.change)
    yield "deeplift complete", (off / size).max(), 1e-5 + 10 * case.rounding


def explained(case):
    """Arrays in: what the builder gives for the same model."""
    network = case.tested.network
    if network is None or case.tested.tables:
        return  # lives in a graph of its own
    model, xs, starts = getattr(network, "plain", None), case.tested.arrays, case.tested.starts
    if model is None:
        model = lambda xs: network(*(xs if isinstance(xs, (list, tuple)) else [xs]))[1]  # noqa: E731
    one = len(xs) == 1
    arrays, starts = (xs[0], starts and starts[0]) if one else (xs, starts)
    method, steps = str(case.random.choice(["auto", "auto", "gausslegendre"])), 50
    made = Explainer(model, method_options={"num_steps": steps, "method": method}, batch_size=ROWS)
    targets = case.weights.astype(case.model.dtype)
    found, off = made.explain(arrays, targets, starts, return_delta=True, progress=False)
    found = [found] if one else found
    if method == "auto":
        yield promise(case, "Explainer, auto", found, steps)
    else:
        yield f"Explainer, {method}", error(found, case.weigh(case.sum_over(method, steps))), case.rounding
    expected = flat(found).sum(1) - case.change
    size = np.abs(flat(found)).sum(1).max() + np.abs(case.change).max() + 1e-30
    yield f"Explainer's delta, {method}", np.abs(off - expected).max() / size, case.rounding


# What every model is held to, and what they take in turns.
ALWAYS = [auto]
TURNS = [[explained], [jacobian], [conductance], [secant, delta], [points, recipe], [basics, path], [few, deeplift]]
CLAIMS = {f.__name__: f for f in [*ALWAYS, *sum(TURNS, [])]}


def claims_of(number):
    """Names of the claims that a model is held to when not all are asked for."""
    turns = {number % len(TURNS), (number // len(TURNS) + number + 1) % len(TURNS)}
    return [f.__name__ for f in ALWAYS + sum((TURNS[i] for i in sorted(turns)), [])]


def check(number, names=None, verbose=False, **options):
    """What fails for a model: list of texts; and the model, printable."""
    names = claims_of(number) if names is None else names
    model = Model(number, **options)
    failed = []
    try:
        case = Case(model)
        np.testing.assert_array_equal(np.isfinite(flat(case.integral)), True)
    except Exception:
        return [f"the model itself: {traceback.format_exc()[-600:]}"], model
    for name in names:
        begin = time.time()
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                for what, off, most in CLAIMS[name](case):
                    if verbose:
                        print(f"    {what}: {off:.2g} of {most:.2g}")
                    if not off <= most:
                        failed.append(f"{what}: {off:.2g}, expected at most {most:.2g}")
        except Exception as raised:
            text = f"{type(raised).__name__}: {raised}"
            if verbose:
                traceback.print_exc()
            failed.append(f"{name} raised {text if len(text) < 700 else text[:350] + ' ... ' + text[-350:]}")
        if verbose:
            print(f"  {name}: {time.time() - begin:.1f} s")
    return failed, model


def main():
    arguments = sys.argv[1:]
    verbose = "-v" in arguments
    names = [a for a in arguments if a in CLAIMS] or (list(CLAIMS) if "all" in arguments else None)
    without = [int(n) for a in arguments if a.startswith("without=") for n in a[8:].split(",")]
    for argument in arguments:
        if not argument[0].isdigit():
            continue
        first, _, last = argument.partition("-")
        for number in range(int(first), int(last or first) + 1):
            begin = time.time()
            failed, model = check(number, names, verbose, without=without)
            print(f"{number}: {len(failed)} failed, {time.time() - begin:.1f} s", flush=True)
            if failed:
                print("\n".join([str(model), *("  ! " + f for f in failed)]), flush=True)


if __name__ == "__main__":
    main()
