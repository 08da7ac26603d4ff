"""Model in, numbers out: an Explainer of arrays and data sets."""

from igtf.explainer.explainer import Explainer
from igtf.explainer.explanation import Explanation

__all__ = ["Explainer", "Explanation"]
