"""Every try, by kind."""

from tries import Try
from tries_hostile import HOSTILE
from tries_machine import MACHINE
from tries_models import MODELS
from tries_numbers import NUMBERS
from tries_places import PLACES
from tries_recipes import RECIPES
from tries_text import TEXT

TABLE: dict[str, list[Try]] = {
    "Text": TEXT,
    "Hostile files": HOSTILE,
    "Machine": MACHINE,
    "Models": MODELS,
    "Recipes": RECIPES,
    "Numbers": NUMBERS,
    "Places and environment": PLACES,
}
