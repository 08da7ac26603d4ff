"""Panels of metrics: curves with bands, bars with whiskers."""

import numpy as np
import pytest
from screen import legend, noise

from igtf import visualization as viz

pytestmark = pytest.mark.filterwarnings("error")
SCORES = {
    "deletion": {"a": np.arange(5.0), "b": np.arange(5.0) + 1},
    "sparseness": {"a": [0.2, 0.4], "b": [np.nan, 0.5]},
}
CURVES = {"deletion": {"a": noise(5, 11), "b": noise(5, 11) + 1}}


def test_a_metric_with_curves_has_curves_and_the_others_bars():
    figure = viz.evaluation_plot(SCORES, CURVES, better={"deletion": "lower", "sparseness": None})
    left, right = figure.axes[:2]
    assert [left.get_title(), right.get_title()] == ["deletion (lower is better)", "sparseness"]
    for line, rows in zip(left.lines, CURVES["deletion"].values()):
        np.testing.assert_allclose(line.get_xdata(), np.linspace(0, 1, 11))
        np.testing.assert_allclose(line.get_ydata(), rows.mean(0))
    band = left.collections[0].get_paths()[0].vertices
    rows = CURVES["deletion"]["a"]
    sure = 1.96 * rows.std(0, ddof=1) / np.sqrt(5)
    assert np.isclose(band[:, 1].max(), (rows.mean(0) + sure).max())
    np.testing.assert_allclose([bar.get_width() for bar in right.patches[:2]], [0.3, 0.5])
    assert [label.get_text() for label in right.get_yticklabels()] == ["a", "b"]
    assert [text.get_text() for text in right.texts] == ["0.3", "0.5"]
    assert [text.get_text() for text in left.texts] == ["2", "3"]
    assert legend(figure) == ["a", "b"]


def test_whiskers_hold_the_mean():
    figure = viz.evaluation_plot({"m": {"a": [0.0, 2.0]}})
    (segments,) = [c.get_segments() for c in figure.axes[0].collections]
    np.testing.assert_allclose(segments[0][:, 0], [1 - 1.96, 1 + 1.96])


def test_scores_that_are_all_nan_say_so():
    figure = viz.evaluation_plot({"m": {"a": [np.nan], "b": [1.0]}})
    assert [text.get_text() for text in figure.axes[0].texts] == ["NaN", "1"]


def test_given_axes_are_used():
    figure = viz.figures.Figure()
    axes = figure.subplots(2)
    assert viz.evaluation_plot(SCORES, CURVES, ax=axes) is figure
    assert len(figure.axes) == 2 and axes[0].get_legend() is not None


@pytest.mark.parametrize(
    "scores, curves, error, message",
    [
        ({}, None, ValueError, "scores is empty"),
        ([1], None, TypeError, "scores is a list; expected"),
        ({"m": [1]}, None, TypeError, "scores is a dict; expected"),
        ({"m": {"a": [[1]]}}, None, ValueError, r"scores\['m'\]\['a'\] has shape \(1, 1\); expected \[N\]"),
        ({"m": {"a": ["x"]}}, None, TypeError, r"scores\['m'\]\['a'\] is a list that is no array"),
        (SCORES, {"deletion": {"a": [1.0]}}, ValueError, r"curves\['deletion'\]\['a'\] has shape \(1,\)"),
    ],
)
def test_what_does_not_fit_is_refused(scores, curves, error, message):
    with pytest.raises(error, match=message):
        viz.evaluation_plot(scores, curves)
