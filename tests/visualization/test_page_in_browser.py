"""A page of explanations as a headless Chromium shows it: values, controls, keys, text, the console."""

import gzip
import os
from pathlib import Path

import numpy as np
import pytest
from browser import AGAINST, FOR, MISSING, Screen, numbers
from screen import noise

from igtf import visualization as viz

NAMES = ["zero", "one", "two"]
WIDTHS = {"wide": (1280, 900), "narrow": (390, 844)}
rng = np.random.default_rng(0)
SHOTS = os.environ.get("PICTURES")  # a folder for screenshots, to look at


class Images:
    """Eight images of 6 x 8 pixels with maps for three classes."""

    samples = rng.random([8, 6, 8, 3])
    maps = noise(8, 3, 6, 8)
    maps[1, 0, 2, 3], maps[1, 0, 2, 4], maps[1, 0, 2, 5] = np.nan, np.inf, -np.inf
    scores = rng.dirichlet(np.ones(3), 8)
    truths = np.array([0, 1, 2, 0, 1, 2, 0, 1])
    errors, deltas = np.abs(noise(8, 3, seed=3)) / 50, noise(8, 3, seed=4) / 20
    guesses, sure = scores.argmax(1), scores.max(1)
    limits = [[np.sort(np.abs(m[np.isfinite(m)]))[-1] for m in three] for three in maps]


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    folder = tmp_path_factory.mktemp("pages")
    page = viz.explanation_page(
        Images.samples, Images.maps, Images.scores, NAMES, Images.truths, Images.errors, deltas=Images.deltas,
        path=folder / "images.html", title="Shapes",
    )  # fmt: skip
    return page.path


@pytest.fixture
def screen(driver, path):
    return Screen(driver, path)


def centre(driver, row, column, place=0):
    """Moves the pointer to the middle of a pixel of a map."""
    box = driver.execute_script(
        "const b = document.querySelectorAll('#views canvas')[arguments[0]].getBoundingClientRect();"
        "return [b.x, b.y, b.width, b.height]",
        place,
    )
    x, y = box[0] + (column + 0.5) / 8 * box[2], box[1] + (row + 0.5) / 6 * box[3]
    driver.execute_cdp_cmd("Input.dispatchMouseEvent", {"type": "mouseMoved", "x": x, "y": y})


# Values


def test_values_of_images_are_within_half_a_quantum(screen):
    for n, expected in enumerate(Images.maps):
        maps, _ = screen.sample(n)
        for values, wanted in zip(maps, expected):
            wanted = wanted.ravel()
            finite = np.isfinite(wanted)
            assert (
                np.abs(np.array(values)[finite] - wanted[finite]).max()
                <= np.abs(wanted[finite]).max() / 250 * 1.0001
            )
            np.testing.assert_array_equal(np.array(values)[~finite], wanted[~finite])


def test_the_value_under_the_pointer_is_that_of_the_array(screen):
    screen.open(4)
    screen.press("2")
    for row, column in [(0, 0), (5, 7), (3, 2)]:
        centre(screen.driver, row, column)
        *place, value, off = numbers(screen.text("#readout"))
        assert place == [row, column]
        assert (
            abs(value - Images.maps[4, 2, row, column]) <= off < 1.2 * np.abs(Images.maps[4, 2]).max() / 250
        )


def test_arrows_on_a_map_move_the_place_whose_value_is_shown(screen):
    keys = dict(zip("←→↑↓", "\ue012\ue014\ue013\ue015"))
    screen.open(0)
    screen.run("document.querySelector('#views canvas').focus()")
    screen.press(keys["→"])
    assert numbers(screen.text("#readout"))[:2] == [3, 5]
    screen.press(keys["↓"], keys["←"], keys["←"], keys["↑"], keys["↑"])
    row, column, value, off = numbers(screen.text("#readout"))
    assert (row, column) == (2, 3) and abs(value - Images.maps[0, Images.guesses[0], 2, 3]) <= off
    screen.press(*[keys["↑"]] * 5)
    assert numbers(screen.text("#readout"))[:2] == [0, 3]
    assert screen.text("#name") == "Sample 0"


def test_what_is_not_finite_is_yellow_and_counted_and_named(screen):
    screen.open(1)
    screen.press("0")
    assert "NaN or infinite: 3" in screen.text("#legend")
    for column, word in [(3, "NaN"), (4, "+∞"), (5, "−∞")]:
        assert list(screen.colour(2, column)) == MISSING
        centre(screen.driver, 2, column)
        assert screen.text("#readout") == f"row 2, column {column}: {word}"
    assert "NaN" in screen.text("#sums tbody")
    screen.press("1")
    assert "NaN" not in screen.text("#legend")


def test_sums_stand_beside_the_change_of_the_output(screen):
    screen.open(3)
    screen.press("1")
    total, change, delta, error, plus, minus = numbers(screen.text("#sums tbody"))
    values = Images.maps[3, 1]
    expected = [np.maximum(values, 0).sum(), np.minimum(values, 0).sum(), values.sum()]
    np.testing.assert_allclose([plus, minus, total], expected, rtol=1e-3)
    np.testing.assert_allclose(
        [change, delta], [values.sum() - Images.deltas[3, 1], Images.deltas[3, 1]], rtol=1e-3
    )
    np.testing.assert_allclose(error, 100 * Images.errors[3, 1], rtol=0.06)
    screen.set("together", True)
    assert [numbers(line)[0] for line in screen.texts("#sums tbody tr")] == pytest.approx(
        list(Images.maps[3].sum((1, 2))), rel=1e-3
    )


# Controls


def paper(n, row, column):
    """The light grey print of a pixel."""
    return 102 + 0.6 * 255 * Images.samples[n, row, column] @ [0.3, 0.59, 0.11]


def mixed(n, k, row, column, strength=1.0, limit=None):
    value = Images.maps[n, k, row, column]
    share = min(1.0, strength * abs(value) / (limit or max(Images.limits[n])))
    return (1 - share) * paper(n, row, column) + share * (FOR if value > 0 else AGAINST)


def test_strength_threshold_sign_and_scale_change_the_colours_as_they_say(screen):
    n, k = 5, 0
    screen.open(n)
    screen.press("0")
    values = Images.maps[n, k]
    places = [
        (0, 1),
        (2, 2),
        np.unravel_index(values.argmax(), values.shape),
        np.unravel_index(values.argmin(), values.shape),
    ]
    places = [(int(row), int(column)) for row, column in places]

    def check(**options):
        for row, column in places:
            expected = mixed(n, k, row, column, **options)
            np.testing.assert_allclose(screen.colour(row, column), expected, atol=4)

    check()
    for strength in (0, 0.5, 4):
        screen.set("strength", strength)
        check(strength=strength)
        assert screen.text("#strength-value") == f"× {strength}"
    screen.set("strength", 1)
    for scale, limit in [
        ("page", np.max(Images.limits)),
        ("map", Images.limits[n][k]),
        ("sample", max(Images.limits[n])),
    ]:
        screen.set("scale", scale)
        check(limit=limit)
        np.testing.assert_allclose(numbers(screen.text("#legend")), [-limit, limit], rtol=1e-3)
    for sign, kept in [("plus", 1), ("minus", -1)]:
        screen.set("sign", sign)
        for row, column in places:
            wanted = mixed(n, k, row, column, strength=float(np.sign(values[row, column]) == kept))
            np.testing.assert_allclose(screen.colour(row, column), wanted, atol=4)
    screen.set("sign", "both")
    screen.set("threshold", 40)
    for row, column in places:
        over = abs(values[row, column]) >= 0.4 * max(Images.limits[n])
        np.testing.assert_allclose(
            screen.colour(row, column), mixed(n, k, row, column, strength=float(over)), atol=4
        )
    screen.set("grey", False)
    screen.set("strength", 0)
    np.testing.assert_allclose(screen.colour(0, 1), 255 * Images.samples[n, 0, 1], atol=2)


def test_maps_are_chosen_by_buttons_and_digits_and_stand_side_by_side(screen):
    screen.open(2)
    buttons = screen.texts("#classes button")
    assert [text.split()[0] for text in buttons] == NAMES
    np.testing.assert_allclose([numbers(text)[-1] for text in buttons], Images.scores[2], atol=1e-3)
    pressed = "[...document.querySelectorAll('#classes button')].map((b) => b.ariaPressed === 'true')"
    assert np.argmax(screen.run(pressed)) == Images.guesses[2]  # the prediction to begin with
    for k in (2, 0, 1):
        screen.press(str(k)) if k else screen.click("#classes button", 0)
        assert np.argmax(screen.run(pressed)) == k
        assert f"map of {NAMES[k]}" in screen.text("#views")
        label = screen.run("document.querySelector('#views canvas').getAttribute('aria-label')")
        assert NAMES[k] in label
        strongest = np.unravel_index(np.abs(Images.maps[2, k]).argmax(), (6, 8))
        assert f"row {strongest[0]}, column {strongest[1]}" in label
    screen.press("9")  # no such map
    assert np.argmax(screen.run(pressed)) == 1
    screen.press("s")
    assert screen.run("document.querySelectorAll('#views canvas').length") == 3
    for k in range(3):
        np.testing.assert_allclose(screen.colour(1, 1, place=k), mixed(2, k, 1, 1), atol=4)
    centre(screen.driver, 4, 4, place=1)
    found = numbers(screen.text("#readout"))[2:]
    np.testing.assert_allclose(found[::2], Images.maps[2, :, 4, 4], atol=max(found[1::2]))
    screen.press("s")
    assert screen.run("document.querySelectorAll('#views canvas').length") == 1


def shown(screen):
    return [int(text.split()[1]) for text in screen.texts(".card strong")]


def test_the_gallery_sorts_and_filters(screen):
    wrong = Images.guesses != Images.truths
    assert shown(screen) == list(range(8)) and screen.text("#count") == f"8 of 8 samples, {wrong.sum()} wrong"
    orders = {
        "least confidence first": Images.sure,
        "most confidence first": -Images.sure,
        "wrong first": ~wrong,
        "truth": Images.truths,
        "prediction class": Images.guesses,
        "largest error first": -Images.errors[np.arange(8), Images.guesses],
        "order given": np.arange(8),
    }
    assert set(orders) == set(screen.texts("#sort option"))
    for name, key in orders.items():
        screen.set("sort", str(screen.texts("#sort option").index(name)))
        assert shown(screen) == list(np.argsort(key, kind="stable")), name
    for name, of in [("truth", Images.truths), ("guess", Images.guesses)]:
        screen.set(name, "1")
        assert shown(screen) == list(np.flatnonzero(of == 1))
        screen.set(name, "")
    screen.set("wrong", True)
    assert shown(screen) == list(np.flatnonzero(wrong)) and 0 < wrong.sum() < 8
    screen.set("wrong", False)
    low, high = Images.sure.min(), Images.sure.max()
    screen.set("least", 30)
    assert shown(screen) == list(np.flatnonzero(Images.sure >= low + 0.3 * (high - low)))
    assert numbers(screen.text("#least-value")) == [pytest.approx(low + 0.3 * (high - low), rel=1e-2)]
    screen.set("most", 60)
    inside = (Images.sure >= low + 0.3 * (high - low)) & (Images.sure <= low + 0.6 * (high - low))
    assert shown(screen) == list(np.flatnonzero(inside))
    assert screen.text("#count").startswith(f"{inside.sum()} of 8 samples")


def test_cards_say_what_was_true_what_was_predicted_and_the_error(screen):
    for n, text in enumerate(screen.texts(".card")):
        assert (
            f"truth {NAMES[Images.truths[n]]}\n" in text and f"prediction {NAMES[Images.guesses[n]]} " in text
        )
        assert ("wrong" in text) == (Images.guesses[n] != Images.truths[n])
        *_, sure, error = numbers(text)
        np.testing.assert_allclose(sure, Images.sure[n], atol=1e-3)
        np.testing.assert_allclose(error, 100 * Images.errors[n, Images.guesses[n]], rtol=0.06)


def test_keys_and_buttons_go_from_sample_to_sample_in_the_order_of_the_gallery(screen):
    right, left, down, escape = "\ue014", "\ue012", "\ue015", "\ue00c"
    screen.set("sort", "2")
    order = shown(screen)
    screen.open(0)
    assert screen.text("#name") == f"Sample {order[0]}" and screen.text("#place") == "1 of 8"
    screen.press(left)  # there is none before it
    screen.press(right, right)
    assert screen.text("#name") == f"Sample {order[2]}"
    screen.click("#previous")
    screen.click("#next")
    screen.press(left)
    assert screen.text("#name") == f"Sample {order[1]}" and screen.text("#place") == "2 of 8"
    screen.run("document.getElementById('strength').focus()")
    screen.press(right)  # moves the slider
    assert screen.text("#name") == f"Sample {order[1]}" and screen.text("#strength-value") == "× 1.25"
    screen.press(escape)
    assert screen.run("document.activeElement.innerText").startswith(f"Sample {order[1]}")
    screen.press(right)
    assert screen.run("document.activeElement.innerText").startswith(f"Sample {order[2]}")
    across = screen.run(
        "getComputedStyle(document.getElementById('cards')).gridTemplateColumns.split(' ').length"
    )
    screen.press(left, left, down)
    assert screen.run("document.activeElement.innerText").startswith(f"Sample {order[min(across, 7)]}")
    screen.press("\ue007")
    assert screen.text("#place") == f"{min(across, 7) + 1} of 8"


def test_a_sample_that_takes_long_does_not_come_over_the_next_one(screen):
    screen.run("decoded.set(3, new Promise((go) => setTimeout(() => go(decode(3)), 300)))")
    screen.run("[openSample(3), openSample(4)]")
    screen.driver.execute_async_script("setTimeout(arguments[0], 600)")
    assert screen.text("#name") == "Sample 4"
    label = screen.run("document.querySelector('#views canvas').getAttribute('aria-label')")
    values = Images.maps[4, Images.guesses[4]]
    assert f"row {np.abs(values).argmax() // 8}, column {np.abs(values).argmax() % 8}" in label


def test_what_a_browser_cannot_show_is_said_once(screen):
    screen.run("document.getElementById('sample-2').textContent = '{'")
    screen.run("decoded.clear()")
    screen.open(2)
    assert screen.text("#message").startswith("This browser cannot show Sample 2: ")
    screen.click("#next")
    assert (
        screen.text("#message") == "" and screen.run("document.querySelectorAll('#views canvas').length") == 1
    )


def touch(driver, kind, *points):
    points = [{"x": x, "y": y} for x, y in points]
    driver.execute_cdp_cmd("Input.dispatchTouchEvent", {"type": kind, "touchPoints": points})


def test_a_finger_swipes_to_the_next_sample_and_reads_values_on_a_map(driver, path):
    screen = Screen(driver, path, *WIDTHS["narrow"])
    screen.open(0)
    for start_, end, name in [(300, 60, "Sample 1"), (60, 300, "Sample 0"), (200, 170, "Sample 0")]:
        touch(driver, "touchStart", (start_, 145))
        touch(driver, "touchMove", (end, 148))
        touch(driver, "touchEnd")
        screen.settle()
        assert screen.text("#name") == name
    box = screen.run("(({x, y, width, height}) => [x, y, width, height])"
                     "(document.querySelector('#views canvas').getBoundingClientRect())")  # fmt: skip
    touch(driver, "touchStart", (box[0] + 2.5 / 8 * box[2], box[1] + 1.5 / 6 * box[3]))
    touch(driver, "touchEnd")
    row, column, value, off = numbers(screen.text("#readout"))
    assert (row, column) == (1, 2) and abs(value - Images.maps[0, Images.guesses[0], 1, 2]) <= off
    assert screen.text("#name") == "Sample 0"


# The page as a whole


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", WIDTHS)
def test_it_fits_every_width_and_scheme_loads_nothing_and_says_nothing(driver, path, width, scheme):
    screen = Screen(driver, path, *WIDTHS[width], scheme)
    back, ink = (
        screen.run(f"getComputedStyle(document.body).{name}") for name in ("backgroundColor", "color")
    )
    assert (np.mean(numbers(back)) > 128 > np.mean(numbers(ink))) == (scheme == "light")
    for place in ("gallery", "detail", "together"):
        if place == "detail":
            screen.open(1)
        if place == "together":
            screen.set("together", True)
        assert screen.run("document.documentElement.scrollWidth") <= WIDTHS[width][0]
        if SHOTS:
            screen.screenshot(Path(SHOTS) / f"page-{place}-{width}-{scheme}.png")
    heights = screen.run(
        "[...document.querySelectorAll('button, select, input[type=range]')].filter((e) => e.offsetParent)"
        ".map((e) => e.offsetHeight)"
    )
    assert min(heights) >= 40  # for a finger
    said, asked = screen.logged()
    assert said == []
    assert {address.split(":")[0] for address in asked} <= {"file", "data"}
    assert [address for address in asked if address.startswith("file:")] == [path.as_uri()]


@pytest.mark.parametrize("name", ["digits", "photographs", "words"])
def test_the_pages_of_the_site_fit_a_phone(driver, tmp_path, name):
    packed = Path(__file__).parents[2] / f"docs/page_{name}.html.gz"
    page = tmp_path / "page.html"
    page.write_bytes(gzip.decompress(packed.read_bytes()))
    screen = Screen(driver, page, *WIDTHS["narrow"])
    for place in ("gallery", "detail"):
        if place == "detail":
            screen.open(1)
        assert screen.run("document.documentElement.scrollWidth") <= WIDTHS["narrow"][0]


def test_everything_has_a_name_for_those_who_do_not_see_it(screen):
    screen.open(0)
    controls = screen.driver.find_elements("css selector", "button, select, input, canvas, #views img")
    assert len([c for c in controls if c.is_displayed()]) > 10
    assert [
        c.get_attribute("id") for c in controls if c.is_displayed() and not c.accessible_name.strip()
    ] == []
    roles = {c.aria_role for c in controls if c.tag_name == "canvas" and c.is_displayed()}
    assert roles <= {"image", "img"} and roles


def test_it_is_the_same_in_the_frame_of_a_notebook(driver, path, tmp_path):
    shown = viz.explanation_page(Images.samples[:2], Images.maps[:2], path=tmp_path / "b.html")._repr_html_()
    (tmp_path / "notebook.html").write_text(f"<!DOCTYPE html><title>n</title>{shown}", "utf-8")
    driver.get((tmp_path / "notebook.html").as_uri())
    driver.switch_to.frame(0)
    driver.find_elements("css selector", ".card")[1].click()
    for _ in range(50):
        if driver.execute_script("return document.querySelector('#views canvas') !== null"):
            break
        driver.execute_async_script("setTimeout(arguments[0], 100)")
    assert driver.execute_script("return document.querySelector('#name').innerText") == "Sample 1"
    assert driver.execute_script("return document.querySelector('#views canvas') !== null")
    assert driver.get_log("browser") == []
    driver.switch_to.default_content()


def test_the_policy_of_the_page_lets_no_other_script_run(screen):
    screen.run(
        "document.body.append(Object.assign(document.createElement('script'), {textContent: 'hacked = 1'}))"
    )
    assert screen.run("typeof hacked") == "undefined"
    assert any("Content Security Policy" in message for message in screen.logged()[0])
