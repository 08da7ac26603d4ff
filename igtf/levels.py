"""How many steps are taken: one number of them, or several, each compared with the one before."""

import math
import numbers

import numpy as np

from integrated_gradients_tf import QUADRATURES, check_steps, quadrature

METHODS = ("auto", "secant", *QUADRATURES)
STEPS = 50  # where nothing else is said
MOST_STEPS = 640  # with a tolerance, where nothing else is said
FEWEST = 5  # steps to begin with

# rule -> every how many points of a finer rule are points of the coarser one, and which are new.
NESTED = {
    "riemann_left": (2, (1,)),
    "riemann_right": (2, (0,)),
    "riemann_middle": (3, (0, 2)),
    "riemann_trapezoid": (2, (1,)),
}


class Levels:
    """Numbers of steps, each to be compared with the one before.

    Attributes:
      counts: the steps of each level, ascending ints; all that there is to do if it is one.
      tolerance: the relative error at which a row needs no further level.
      growth: of each level, how many times as fine as the one before it is.
    """

    def __init__(self, counts, tolerance, method):
        self.counts, self.tolerance, self.method = counts, tolerance, method
        fine = [count - (method == "riemann_trapezoid") for count in counts]
        self.growth = [2.0, *(after / before for before, after in zip(fine, fine[1:]))]

    @property
    def several(self):
        return len(self.counts) > 1

    def rules(self, rule, nested):
        """Points and weights of each level: with `nested`, of points that the one before has not.

        What is left out are the points of the coarser level, whose sum is kept: divided by `growth` it has
        the weights of the finer one.
        """
        full = [quadrature(count, rule) for count in self.counts]
        if not nested or not self.nests:
            return full
        size, new = NESTED[rule]
        return [full[0], *(tuple(v[np.isin(np.arange(len(v)) % size, new)] for v in r) for r in full[1:])]

    @property
    def nests(self):
        """Whether the points of each level are points of the next one."""
        size = NESTED.get(self.method, (0,))[0]
        return self.several and all(growth == size for growth in self.growth[1:])


def find_levels(function, num_steps, method, tolerance, compare):
    """The levels that the arguments of a builder ask for; with `compare`, an error is to be estimated."""
    if tolerance is None:
        steps = check_steps(function, STEPS if num_steps is None else num_steps, method, METHODS)
        if not compare:
            return Levels([steps], None, method)
        _check_two(function, steps, method, "an error")
        return Levels([_coarser(steps, method), steps], 0.0, method)
    if isinstance(tolerance, bool) or not isinstance(tolerance, numbers.Real):
        raise TypeError(
            f"{function}: tolerance is {tolerance!r} of type {type(tolerance).__name__}, expected a number "
            "from 0 to 1: the relative error that attributions may have, such as 0.01."
        )
    if not 0 <= tolerance <= 1:
        raise ValueError(
            f"{function}: tolerance is {tolerance}, expected a number from 0 to 1: the relative error that "
            "attributions may have, such as 0.01."
        )
    steps = check_steps(function, MOST_STEPS if num_steps is None else num_steps, method, METHODS)
    _check_two(function, steps, method, "a tolerance")
    ends = int(method == "riemann_trapezoid")
    growth = NESTED.get(method, (2,))[0]
    times = max(1, math.floor(math.log((steps - ends) / FEWEST, growth) + 1e-9))
    first = (steps - ends) // growth**times
    return Levels([first * growth**i + ends for i in range(times + 1)], float(tolerance), method)


def _check_two(function, steps, method, what):
    least = 3 if method in ("riemann_middle", "riemann_trapezoid") else 2
    if steps < least:
        raise ValueError(
            f"{function}: num_steps is {steps}, expected at least {least} for {what}: attributions of fewer "
            "steps are compared with those of more."
        )


def _coarser(steps, method):
    """About half as many steps, or as many less as points can be used again."""
    ends, size = int(method == "riemann_trapezoid"), NESTED.get(method, (2,))[0]
    fine = steps - ends
    return fine // (size if fine % size == 0 else 2) + ends
