"""One HTML file to look through explanations: arrays in, a page out that opens in any browser."""

from igtf.visualization.page.pages import Page, explanation_page

__all__ = ["Page", "explanation_page"]
