"""The matrix of a prompt and its continuation, and the page that shows the same."""

import json
import re

import numpy as np
import pytest

from igtf.visualization import generation_page, generation_view, token_matrix

PROMPT, ANSWER = ["Its", "capital", "is"], ["Paris", "."]
SCORES = np.array([[0.5, 2.0, -1.0, 9.0, 9.0], [0.1, 0.0, 0.2, -0.4, 9.0]])
LATER = [0.85] * 3


def cells(figure):
    return figure.axes[0].images[0].get_array()


def names(figure):
    axes = figure.axes[0]
    return [[t.get_text() for t in labels] for labels in (axes.get_yticklabels(), axes.get_xticklabels())]


class TestTokenMatrix:
    def test_a_row_has_a_cell_for_each_word_before_it(self):
        figure = token_matrix(PROMPT, ANSWER, SCORES)
        assert names(figure) == [ANSWER, PROMPT + ANSWER]
        found = cells(figure)
        assert found.shape[:2] == (2, 5)
        # What comes later is grey, and does not count for the scale, which ends at 2.
        for row, column in [(0, 3), (0, 4), (1, 4)]:
            assert found[row, column, :3].tolist() == pytest.approx(LATER)
        assert found[0, 1, 0] > found[0, 1, 2] and found[0, 2, 0] < found[0, 2, 2]  # red and blue
        assert figure.axes[1].get_ylim() == pytest.approx((-2, 2))

    def test_a_prompt_alone_has_no_grey_cells_and_no_line(self):
        figure = token_matrix(PROMPT, ANSWER, SCORES[:, :3])
        assert names(figure)[1] == PROMPT and not figure.axes[0].lines
        assert len(token_matrix(PROMPT, ANSWER, SCORES).axes[0].lines) == 1

    def test_of_a_long_prompt_the_largest_columns_are_shown_in_their_order(self):
        figure = token_matrix(PROMPT, ANSWER, SCORES, most=2)
        assert names(figure)[1] == ["capital", "is", *ANSWER]
        assert "1 word of the prompt" in figure.legends[0].get_texts()[0].get_text()

    def test_it_fits_a_page_however_many_words_there_are(self):
        many = [f"word{i}" for i in range(300)]
        figure = token_matrix(many, ANSWER * 10, np.random.RandomState(0).normal(size=[20, 320]))
        assert figure.get_size_inches()[0] < 12 and len(names(figure)[1]) == 60

    def test_it_can_be_drawn_in_given_axes(self):
        figure = token_matrix(PROMPT, ANSWER, SCORES)
        axes = figure.subplots()
        assert token_matrix(PROMPT, ANSWER, SCORES, ax=axes, label="logit") is figure
        assert [axis.get_ylabel() for axis in figure.axes][-1] == "logit"


def held(page):
    """What a page holds, as its script reads it."""
    return json.loads(re.search(r'id="index">(.*?)</script>', page, re.S)[1])


class TestGenerationPage:
    def test_the_page_holds_words_and_scores_of_any_script(self, tmp_path):
        prompt = ["</script>", "שלום", "我", "\\xe2"]
        path = generation_page(
            prompt,
            ["é"],
            [[1, 2, np.nan, -0.5]],
            tmp_path / "a.html",
            outputs=[-0.25],
            rivals=["e"],
            label="logit",
        ).path
        page = path.read_text("utf-8")
        found = held(page)
        assert found["prompt"] == prompt and found["continuation"] == ["é"]
        assert found["scores"] == [[1, 2, "NaN", -0.5]] and found["outputs"] == [-0.25]
        assert found["rivals"] == ["e"] and found["label"] == "logit"
        assert page.count("<script") == 2 and page.count("</script>") == 2

    def test_a_view_is_a_frame_that_runs_nothing_outside(self):
        view = generation_view(PROMPT, ANSWER, SCORES)
        assert view.startswith("<iframe") and 'sandbox="allow-scripts"' in view
        assert view._repr_html_() == view and "http" not in view.replace("http-equiv", "")


@pytest.mark.parametrize("draw", [token_matrix, generation_view])
@pytest.mark.parametrize(
    "arguments, error, message",
    [
        (
            (PROMPT, ANSWER, SCORES[:, :4]),
            ValueError,
            r"scores has shape \(2, 4\); expected \[2, 3\] or \[2, 5\]",
        ),
        (([], ANSWER, SCORES), ValueError, "prompt has no words; expected at least one"),
        ((PROMPT, "Paris", SCORES), TypeError, "continuation is a str; expected a list of strings"),
        ((PROMPT, [1, 2], SCORES), TypeError, "continuation holds 1; expected strings"),
        ((PROMPT, ANSWER, [["a"]]), TypeError, "scores is a list that is no array of real numbers"),
    ],
)
def test_other_arguments_are_refused(draw, arguments, error, message):
    with pytest.raises(error, match=message):
        draw(*arguments)
