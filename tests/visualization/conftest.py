"""One browser for all tests of pages."""

import browser
import pytest


@pytest.fixture(scope="session")
def driver():
    try:
        driver = browser.start()
    except LookupError as reason:
        pytest.skip(str(reason))
    yield driver
    driver.quit()
