"""Words on their background."""

import itertools

import numpy as np
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from screen import noise, pixels

from igtf import visualization as viz

pytestmark = pytest.mark.filterwarnings("error")


def test_names_and_tokens_are_not_taken_for_mathematics():
    names = ["$", "$\\frac$", "a_b^$x$"]
    pixels(viz.bar(names, [1, 2, 3]))
    figure = viz.highlight_text(names, [1, 2, 3], "figure")
    pixels(figure)
    assert [text.get_text() for text in figure.axes[0].texts] == names


def test_html_escapes_tokens():
    tokens = ["<script>alert('x')</script>", "&amp;", '" onclick="', "plain"]
    page = viz.highlight_text(tokens, [1, -1, 0.5, 0])
    assert "<script" not in page and 'onclick="' not in page
    for escaped in ["&lt;script&gt;", "&amp;amp;", "&quot; onclick=&quot;", ">plain<"]:
        assert escaped in page


def test_tokens_have_symmetric_colours_and_readable_ink():
    page = viz.highlight_text(["a", "b", "c", "d"], [2.0, -2.0, 0.0, np.nan])
    for paper, ink in [("#800000", "white"), ("#00004c", "white"), ("#ffd500", "black")]:
        assert f"background: {paper}; color: {ink}" in page
    white = page.split(">c<")[0].rsplit("background: ", 1)[1][:7]
    assert all(int(white[i : i + 2], 16) >= 250 for i in (1, 3, 5))
    assert "\u22122 <span" in page and "</span> +2" in page  # the scale
    assert "NaN or infinite: 1 of 4" in page and 'title="NaN"' in page


def test_several_texts_share_a_scale():
    page = viz.highlight_text([["a", "b"], ["c"]], [[1, 2], [-4]])
    assert page.count("<p ") == 2
    assert page.count("#00004c; color") == 1 and page.count("#800000; color") == 0
    assert viz.highlight_text([["a", "b"], ["c", "d"]], np.ones([2, 2])).count("<p ") == 2


def test_texts_have_labels_and_the_figure_is_as_wide_as_they_need():
    tokens, scores = [["fine"], ["not", "bad", "at", "all"]], [[1], [1, 2, 0, 0]]
    names = ["praise, 0.93", "<blame>, 0.5"]
    page = viz.highlight_text(tokens, scores, labels=names)
    assert page.index("praise, 0.93") < page.index(">fine<") < page.index("&lt;blame&gt;, 0.5")
    plain = viz.highlight_text(tokens, scores, "figure")
    figure = viz.highlight_text(tokens, scores, "figure", labels=names)
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    boxes = {text.get_text(): text.get_window_extent() for text in figure.axes[0].texts}
    assert boxes["praise, 0.93"].x1 < boxes["fine"].x0 and boxes["<blame>, 0.5"].x1 < boxes["not"].x0
    assert abs(boxes["praise, 0.93"].y0 - boxes["fine"].y0) < 8
    assert abs(boxes["fine"].x0 - boxes["not"].x0) < 8
    assert boxes["all"].x1 <= figure.bbox.x1
    wide = viz.highlight_text(["considerably"] * 20, noise(20), "figure")
    sizes = [each.get_size_inches()[0] for each in (plain, figure, wide)]
    assert sizes[0] < 3.5 and sizes[0] <= sizes[1] < sizes[2] <= 8
    with pytest.raises(ValueError, match="labels holds 1 strings; expected 2"):
        viz.highlight_text(tokens, scores, labels="one")


def test_long_texts_wrap_inside_the_figure():
    tokens = ["word", "a", "considerably"] * 40
    figure = viz.highlight_text(tokens, noise(120), "figure")
    screen = figure.bbox
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    boxes = [text.get_window_extent() for text in figure.axes[0].texts]
    assert len({round(box.y0) for box in boxes}) > 3
    assert all(0 <= box.x0 and box.x1 <= screen.x1 and 0 <= box.y0 and box.y1 <= screen.y1 for box in boxes)
    assert figure.get_size_inches()[1] > viz.highlight_text(["a"], [1], "figure").get_size_inches()[1]
    for one, other in itertools.pairwise(boxes):
        assert one.x1 < other.x0 or other.y1 < one.y0 + 5  # beside, or on the next line
