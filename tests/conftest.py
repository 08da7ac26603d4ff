"""Settings that must stand before TensorFlow is imported, and the marks `thin` and `few`."""

import collections
import gc
import itertools
import os

import pytest

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
# Results are compared to rounding, which a GPU's reduced precision (TF32) would blur.
os.environ.setdefault("CUDA_VISIBLE_DEVICES", "-1")
os.environ.setdefault("MPLBACKEND", "Agg")


def pytest_collection_finish():
    """Spares the garbage collector what is imported by now, and graphs half built: a twelfth of all time."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(100_000, 20, 20)


@pytest.hookimpl(tryfirst=True)  # before -m deselects
def pytest_collection_modifyitems(items):
    """Marks as `slow`, which run in `make test-all` only, some cells of a test with parameters.

    `@pytest.mark.thin` keeps every value of every parameter of the test, those of its fixtures included;
    `@pytest.mark.thin(2)` every pair of values of two parameters; `@pytest.mark.few(n)` is for cells that
    are alike: n of them, from the first on in even steps.
    """
    groups = collections.defaultdict(list)
    for item in items:
        marks = {mark.name for mark in item.iter_markers()}
        if marks & {"thin", "few"} and "slow" not in marks:
            groups[item.nodeid.split("[")[0]].append(item)
    for group in groups.values():
        mark = group[0].get_closest_marker("few") or group[0].get_closest_marker("thin")
        if mark.name == "few":
            kept = {i * len(group) // mark.args[0] for i in range(mark.args[0])}
        else:
            cells = [tuple(map(id, item.callspec.params.values())) for item in group]
            kept = covering(cells, *mark.args or [1])
        for number, item in enumerate(group):
            if number not in kept:
                item.add_marker("slow")


def covering(cells, size):
    """The places of some of `cells` in which all combinations of `size` values are that any cell has.

    Taken one by one, always a cell with the most combinations that are new; of several, one with the most
    new combinations of one value more, then, of single values, one whose values were taken least often.
    """
    small, large = (
        [set(itertools.combinations(enumerate(cell), n)) for cell in cells] for n in (size, size + 1)
    )
    missing, seen, taken, kept = set().union(*small), set(), collections.Counter(), set()
    while missing:
        gains = [
            (len(s & missing), len(x - seen), -sum(taken[v] for v in enumerate(cell)) if size == 1 else 0)
            for s, x, cell in zip(small, large, cells)
        ]
        best = gains.index(max(gains))
        kept.add(best)
        missing -= small[best]
        seen |= large[best]
        taken.update(enumerate(cells[best]))
    return kept
