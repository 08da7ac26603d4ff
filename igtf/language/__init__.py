"""Language models: what in a text, or in a prompt, made the model say this.

`TextExplainer(model)` takes the tasks of KerasHub and any callable on ids with a tokenizer.
"""

from igtf.language.cost import Cost
from igtf.language.explanations import GenerationExplanation, LayerScores, TextExplanation
from igtf.language.text_explainer import TextExplainer

__all__ = ["Cost", "GenerationExplanation", "LayerScores", "TextExplainer", "TextExplanation"]
