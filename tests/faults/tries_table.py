"""Every try, by kind."""

from tries import Try
from tries_models import MODELS
from tries_recipes import RECIPES

TABLE: dict[str, list[Try]] = {"Models": MODELS, "Recipes": RECIPES}
