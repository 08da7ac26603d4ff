"""A headless Chromium, if there is one, and what tests (benchmark and examples, too) ask of a page in it."""

import json
import re
import shutil

import numpy as np

FOR, AGAINST, MISSING = np.array([255, 94, 44]), np.array([64, 140, 255]), [255, 213, 0]
NAMES = ("chromium", "chromium-browser", "google-chrome", "chrome")


def start():
    """A driver of the browser. LookupError, which says what is missing, where there is none."""
    try:
        from selenium import webdriver
        from selenium.common.exceptions import WebDriverException
    except ImportError:
        raise LookupError("selenium is not installed: pip install selenium") from None
    driver, failed = shutil.which("chromedriver"), None
    for browser in filter(None, map(shutil.which, NAMES)) if driver else ():
        options = webdriver.ChromeOptions()
        options.binary_location = browser
        for flag in ("--headless=new", "--no-sandbox", "--disable-dev-shm-usage", "--disable-gpu"):
            options.add_argument(flag)
        options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
        try:
            found = webdriver.Chrome(options=options, service=webdriver.ChromeService(driver))
        except WebDriverException as error:  # that of another version
            failed = error
            continue
        found.set_script_timeout(30)
        return found
    raise LookupError(
        f"no Chromium with its driver is installed: apt-get install chromium chromium-driver ({failed})"
    )


class Screen:
    """A page on a screen of some width, light or dark."""

    def __init__(self, driver, path, width=1280, height=900, scheme="light"):
        self.driver = driver
        self.logged()  # what others left there
        size = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 500}
        driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
        scheme = {"features": [{"name": "prefers-color-scheme", "value": scheme}]}
        driver.execute_cdp_cmd("Emulation.setEmulatedMedia", scheme)
        driver.get(path.resolve().as_uri())
        self.settle()

    def run(self, script, *args):
        return self.driver.execute_script(f"return {script}", *args)

    def settle(self):
        """Waits until what is in view is drawn."""
        self.driver.execute_async_script(
            "const done = arguments[0]; const seconds = (n) => new Promise((go) => setTimeout(go, 1000 * n));"
            "const frame = () => Promise.race([new Promise(requestAnimationFrame), seconds(0.3)]);"
            "(async () => { await frame(); await frame(); await seconds(0);"
            " await Promise.allSettled(decoded.values()); await seconds(0); await frame(); done(); })();"
        )

    def text(self, selector):
        return self.run("document.querySelector(arguments[0]).innerText", selector)

    def texts(self, selector):
        return self.run("[...document.querySelectorAll(arguments[0])].map((e) => e.innerText)", selector)

    def click(self, selector, place=0):
        self.driver.find_elements("css selector", selector)[place].click()
        self.settle()

    def press(self, *keys):
        for key in keys:
            self.driver.switch_to.active_element.send_keys(key)
            self.settle()

    def set(self, name, value):
        """Moves a control as a hand does, to a value."""
        self.run(
            "(([id, value]) => { const e = document.getElementById(id);"
            " if (e.type === 'checkbox') e.checked = value; else e.value = value;"
            " e.dispatchEvent(new Event('input', {bubbles: true})); })(arguments)",
            name,
            value,
        )
        self.settle()

    def open(self, number):
        """The sample in this place of the gallery."""
        if self.run("!document.getElementById('detail').hidden"):
            self.click("#back")
        self.click(".card", number)

    def sample(self, number):
        """The maps of a sample as the page decodes them, and its lines."""
        maps, lines = self.driver.execute_async_script(
            "const [number, done] = arguments; const texts = (a) => a.map((v) => Array.from(v, String));"
            "load(number).then((s) => done([texts(s.maps), texts(s.lines ?? [])]));",
            number,
        )
        return [[[float(value) for value in values] for values in part] for part in (maps, lines)]

    def colour(self, row, column, place=0, alpha=False):
        """What a canvas shows at a pixel, `[red, green, blue]`, times the opacity; with `alpha` that, too."""
        *rgb, opacity = self.run(
            "[...document.querySelectorAll('#views canvas')[arguments[2]].getContext('2d')"
            ".getImageData(arguments[1], arguments[0], 1, 1).data]",
            row,
            column,
            place,
        )
        rgb = [part * opacity / 255 for part in rgb]
        return np.array([*rgb, opacity] if alpha else rgb)

    def logged(self):
        """What the console says, and the addresses that were asked for."""
        said = [entry["message"] for entry in self.driver.get_log("browser")]
        entries = [json.loads(entry["message"])["message"] for entry in self.driver.get_log("performance")]
        sent = [e["params"]["request"]["url"] for e in entries if e["method"] == "Network.requestWillBeSent"]
        return said, sent

    def screenshot(self, path):
        self.driver.save_screenshot(str(path))


def numbers(text):
    """The numbers in a text, with the page's own minus and infinity."""
    text = text.replace("\u2212", "-").replace("\u221e", "inf")
    return [float(word) for word in re.findall(r"[+-]?(?:\d+\.?\d*(?:e[+-]?\d+)?|inf|NaN)", text)]
