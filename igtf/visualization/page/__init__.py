"""HTML files to look through explanations: arrays in, pages out that open in any browser."""

from igtf.visualization.page.generation import generation_page, generation_view
from igtf.visualization.page.pages import Page, explanation_page

__all__ = ["Page", "explanation_page", "generation_page", "generation_view"]
