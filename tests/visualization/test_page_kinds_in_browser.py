"""Pages of text, tables and series in a headless Chromium, and text of the data that would do harm."""

import numpy as np
import pytest
from browser import AGAINST, FOR, Screen, numbers
from screen import noise

from igtf import visualization as viz

EVIL = [
    "</script><script>hacked=1</script>",
    "<img src=x onerror=hacked=2>",
    '" onclick="hacked=3',
    "&lt;b&gt;",
]
EVIL += ["שלום", "\u202eright to left", "𝒳😀", "a b", "'"]


@pytest.mark.parametrize("kind", ["text", "table", "series"])
def test_values_of_other_kinds_are_those_of_float16(kind, driver, tmp_path):
    samples = {"text": [["a"] * 6] * 2, "table": noise(2, 6), "series": 100 + noise(2, 6, 2)}[kind]
    maps = 1e4 * noise(*np.shape(samples)) ** 5
    maps.flat[:3] = np.nan, np.inf, -np.inf
    screen = Screen(driver, viz.explanation_page(samples, maps, kind=kind, path=tmp_path / "a.html").path)
    for n in range(2):
        (values,), lines = screen.sample(n)
        least = np.abs(maps[n][np.isfinite(maps[n])]).max() * 2**-25
        np.testing.assert_allclose(values, maps[n].ravel(), rtol=2**-11, atol=least)
        if kind == "series":
            np.testing.assert_allclose(np.transpose(lines), samples[n], atol=np.ptp(samples[n]) * 2**-11)
    assert screen.logged()[0] == []


def test_words_stand_with_their_values_and_text_of_the_data_does_no_harm(driver, tmp_path):
    values = np.array([1, -2, 0.5, 0.25, -0.1, 0, np.nan, np.inf, 0.3333])
    page = viz.explanation_page(
        [EVIL, ["not", "bad"]], [values, np.array([-1, 2])], [0.2, 0.9], EVIL[:2], [1, 1], kind="text",
        labels=[EVIL[1], EVIL[4]], title=EVIL[0], path=tmp_path / "words.html",
    )  # fmt: skip
    screen = Screen(driver, page.path)
    assert screen.run("document.title") == screen.text("h1") == EVIL[0]
    assert screen.texts("#truth option") == ["all", *EVIL[:2]]
    screen.open(0)
    assert screen.text("#name") == EVIL[1]
    assert screen.run("[...document.querySelectorAll('#views .word bdi')].map((e) => e.textContent)") == EVIL
    written = ["+1", "−2", "+0.5", "+0.25", "−0.1", "0", "NaN", "+∞", "+0.3333"]
    assert screen.texts("#views .word small") == written
    style = "[...document.querySelectorAll('#views .word')].map((e) => getComputedStyle(e).backgroundColor)"
    colours = screen.run(style)
    assert colours[1] == "rgb(64, 140, 255)" and colours[0].startswith("rgba(255, 94, 44, 0.5")
    assert colours[6] == colours[7] == "rgb(255, 213, 0)" and colours[5].endswith(", 0)")
    screen.set("threshold", 30)
    assert screen.run(style)[2].endswith(", 0)") and not screen.run(style)[0].endswith(", 0)")
    assert screen.run("typeof hacked") == "undefined" and screen.run("document.images.length") == 0
    assert screen.run("document.scripts.length") == 4  # two samples, the index and ours
    assert screen.logged()[0] == []


def test_words_run_from_right_to_left_where_the_text_does(driver, tmp_path):
    texts = [["...", "שלום", "עולם", "A"], ["hello", "שלום"], ["123", "!"], ["مرحبا"]]
    page = viz.explanation_page(
        texts, [np.ones(len(t)) for t in texts], kind="text", path=tmp_path / "a.html"
    )
    screen = Screen(driver, page.path)
    for number, direction in enumerate(["rtl", "ltr", "ltr", "rtl"]):
        screen.open(number)
        assert screen.run("document.querySelector('#views .words').dir") == direction
        lefts = screen.run(
            "[...document.querySelectorAll('#views .word')].map((e) => e.getBoundingClientRect().x)"
        )
        assert lefts == sorted(lefts, reverse=direction == "rtl")


def test_tables_are_bars_in_the_order_of_their_size_or_as_given(driver, tmp_path):
    rows = [[5.1, "<i>blue", 1234567.0, float("nan")], [1.0, "red", 2.0, 3.0]]
    values = np.array([[[0.25, -1, 0.5, np.nan], [1, 2, 3, 4]], noise(2, 4)])
    names = ["size", "<b>colour", "count", "age"]
    page = viz.explanation_page(rows, values, kind="table", feature_names=names, path=tmp_path / "table.html")
    screen = Screen(driver, page.path)
    screen.open(0)
    lines = (
        "[...document.querySelectorAll('#views tbody tr')].map((r) => [...r.cells].map((c) => c.textContent))"
    )
    table = [["size", "5.1", "", "+0.25"], ["<b>colour", "<i>blue", "", "−1"]]
    table += [["count", "1234570", "", "+0.5"], ["age", "NaN", "", "NaN"]]
    assert screen.run(lines) == [table[i] for i in (3, 1, 2, 0)]
    screen.set("sorted", False)
    assert screen.run(lines) == table
    places = "[...document.querySelectorAll('#views .bar i')].map((e) => [e.style.left, e.style.width])"
    screen.set("scale", "map")
    assert screen.run(places) == [["50%", "12.5%"], ["0%", "50%"], ["50%", "25%"], ["50%", "0%"]]
    screen.set("together", True)
    assert len(screen.run(lines)) == 8 and screen.logged()[0] == []


def test_series_are_lines_on_the_colours_of_their_map(driver, tmp_path):
    series, maps = noise(2, 40, 2), noise(2, 40, 2, seed=1)
    series[0, 7, 0] = np.nan
    names = ["heat", "<b>"]
    page = viz.explanation_page(
        series,
        maps,
        [1.5, -2],
        targets=[1, 2],
        kind="series",
        feature_names=names,
        path=tmp_path / "series.html",
    )
    screen = Screen(driver, page.path)
    assert "truth 1\nprediction 1.5" in screen.texts(".card")[0] and "wrong" not in screen.text("#count")
    assert not screen.driver.find_element("id", "wrong").is_displayed()
    screen.open(0)
    assert screen.text("#views").startswith("heat") and "<b>" in screen.text("#views")
    assert screen.logged()[0] == []
    for step in (0, 20, 39):
        share = maps[0, step, 0] / np.abs(maps[0]).max()
        expected = [*abs(share) * (FOR if share > 0 else AGAINST), 255 * abs(share)]
        x = int((step + 0.5) * 1200 / 40)
        # The line crosses one of the ends at most.
        assert min(np.abs(screen.colour(y, x, alpha=True) - expected).max() for y in (0, 219)) <= 4
    screen.run("document.querySelectorAll('#views canvas')[1].focus()")
    screen.press("\ue014")
    step, line, value = (numbers(screen.text("#readout").replace("<b>", ""))[i] for i in (1, 0, 2))
    assert step == 21
    np.testing.assert_allclose([line, value], [series[0, 21, 1], maps[0, 21, 1]], rtol=2e-3)
