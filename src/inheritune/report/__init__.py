"""Pictures, the HTML page and the model card, made from a run folder's files alone."""
