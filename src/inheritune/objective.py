"""What training minimises, as data: a section of a recipe."""

from typing import Literal

from pydantic import Field, model_validator

from inheritune.section import Section


class Objective(Section):
    """What training minimises: cross-entropy, and terms that a teacher (in `run`, the reference) gives."""

    cross_entropy: float = Field(1.0, ge=0, description="Weight of the cross-entropy with the text.")
    logits: float = Field(0.0, ge=0, description="Weight of the divergence from the teacher's next-token distribution.")
    temperature: float = Field(
        1.0, gt=0, description="Both distributions' temperature; the term is scaled by its square."
    )
    direction: Literal["forward", "reverse"] = Field(
        "forward", description="`forward` is KL(teacher, model), `reverse` is KL(model, teacher)."
    )
    hidden: float = Field(
        0.0, ge=0, description="Weight of the distance from the teacher's hidden states after its blocks."
    )
    hidden_loss: Literal["cosine", "mse"] = Field(
        "mse", description="`mse` is a share of the teacher's mean square, `cosine` is one minus the cosine."
    )
    layers: dict[int, int] | None = Field(
        None,
        description="Block of the model: block of the teacher, for `hidden`; without it every block, at the same share of depth.",
    )

    @property
    def taught(self) -> bool:
        """Whether a teacher is needed."""
        return bool(self.logits or self.hidden)

    @model_validator(mode="after")
    def _something(self) -> "Objective":
        if not (self.cross_entropy or self.taught):
            raise ValueError("one of cross_entropy, logits and hidden must be above 0")
        if any(block < 0 for pair in (self.layers or {}).items() for block in pair):
            raise ValueError("layers names blocks from 0")
        return self
