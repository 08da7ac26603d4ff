"""How many steps are taken: one number of them, or several, each compared with the one before."""

import functools
import math
import numbers

import numpy as np

from integrated_gradients_tf import QUADRATURES, check_steps, quadrature

METHODS = ("auto", "secant", *QUADRATURES)
STEPS = 50  # where nothing else is said
MOST_STEPS = 640  # with a tolerance, where nothing else is said
FEWEST = 5  # steps to begin with
LONGEST = 10_000  # steps up to which something is kept of each of them: weights of all levels, slopes

# rule -> how many times as many intervals the next rule has whose points are these and new ones, and how
# many points there are beside those of the intervals.
NESTED = {
    "riemann_left": (2, 0),
    "riemann_right": (2, 0),
    "riemann_middle": (3, 0),
    "riemann_trapezoid": (2, 1),
    "fejer": (2, -1),
}


class Levels:
    """Numbers of steps, each to be compared with the one before.

    Attributes:
      counts: the steps of each level, ascending ints; all that there is to do if it is one.
      tolerance: the relative error at which a row needs no further level.
      growth: of each level, how many times as fine as the one before it is.
      adapt: whether the points of a level may follow what the one before met.
    """

    def __init__(self, counts, tolerance, method, adapt=False):
        self.counts, self.tolerance, self.method = counts, tolerance, method
        self.adapt = adapt and len(counts) > 1 and counts[-1] <= LONGEST
        fine = [count - NESTED.get(method, (2, 0))[1] for count in counts]
        self.growth = [2.0, *(after / before for before, after in zip(fine, fine[1:]))]

    @property
    def several(self):
        return len(self.counts) > 1

    @property
    def nests(self):
        """Whether the points of each level are points of the next one."""
        size, _ = NESTED.get(self.method, (0, 0))
        short = self.counts[-1] <= LONGEST
        return self.several and short and all(growth == size for growth in self.growth[1:])

    def smooth(self):
        """The levels of a rule that converges like Gauss-Legendre, and whose points nest."""
        if len(self.counts) < 3 or self.counts[-1] > LONGEST:
            return self
        return Levels(_growing(self.counts[-1], "fejer"), self.tolerance, "fejer")

    def rules(self, rule, nested):
        """Points and weights of each level, arrays `[P]`.

        With `nested`, of the points that the level before has not, whose weights at all levels are given,
        `[levels, P]` (0 at those before).
        """
        full = [rule_of(count, rule) for count in self.counts]
        if not nested:
            return full
        found = []
        for level, (points, _) in enumerate(full):
            new = points if not level else points[_places(points, full[level - 1][0]) < 0]
            weights = np.zeros([len(full), len(new)])
            for later in range(level, len(full)):
                weights[later] = full[later][1][_places(new, full[later][0])]
            found.append((new, weights))
        return found


def _places(points, among):
    """Where each of ascending `points` is `among` others, -1 if it is not."""
    at = np.minimum(np.searchsorted(among, points - 1e-13), len(among) - 1)
    return np.where(np.abs(among[at] - points) < 1e-12, at, -1)


@functools.lru_cache(maxsize=64)
def rule_of(count, rule):
    """Points and weights of a rule in [0, 1], those of users or Fejer's second one, of arrays `[count]`.

    That is the rule of Clenshaw and Curtis without the ends: Waldvogel, https://doi.org/10.1007/s10543-006-0045-4,
    section 2.
    """
    if rule != "fejer":
        return quadrature(count, rule)
    parts, size = np.zeros(2 * count + 2), count + 1
    parts[1:size:2] = 1 / np.arange(1, size, 2)
    angles = np.pi * np.arange(1, size) / size
    sums = -np.fft.fft(parts).imag[1:size]  # of sin(j angle) / j over odd j
    return (1 - np.cos(angles)) / 2, 2 / size * np.sin(angles) * sums


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
    return Levels(_growing(steps, method), float(tolerance), method, adapt=True)


def _growing(most, method):
    """Numbers of steps that end at `most`, or a little below."""
    growth, ends = NESTED.get(method, (2, 0))
    times = max(1, math.floor(math.log((most - ends) / FEWEST, growth) + 1e-9))
    return [(most - ends) // growth**times * growth**i + ends for i in range(times + 1)]


def _check_two(function, steps, method, what):
    least = 3 if method in ("riemann_middle", "riemann_trapezoid") else 2
    if steps < least:
        raise ValueError(
            f"{function}: num_steps is {steps}, expected at least {least} for {what}: attributions of fewer "
            "steps are compared with those of more."
        )


def _coarser(steps, method):
    """About half as many steps, or as many less as points can be used again."""
    size, ends = NESTED.get(method, (2, 0))
    return (steps - ends) // (size if (steps - ends) % size == 0 else 2) + ends
