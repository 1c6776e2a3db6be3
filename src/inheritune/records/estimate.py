"""What a run will take and give, as data: the object that `inheritune plan --json` prints, and the two lines that `run` begins with."""

from typing import ClassVar

from pydantic import Field

from inheritune.records.entry import Amount, Count, Depth, Entry, JsonFile, Share
from inheritune.records.result import Footprint


class StageEstimate(Entry):
    """A stage of a run: what it reads and computes, its most memory (bytes a process) and what it leaves on the disk at most."""

    name: str
    tokens: Count
    flops: Amount
    seconds: Amount
    memory: Count
    disk: Count = 0


class MemoryEstimate(Entry):
    """Bytes of one process in a training step: the models, what training holds for the target, and the program itself."""

    reference: Count
    weights: Count
    gradients: Count
    states: Count
    activations: Count
    logits: Count
    program: Count


class DepthReach(Entry):
    """What is expected of a depth after one round: the loss of its cut and the gap in nats per token, each with its 80% interval.

    `chance` is that of a gap below the margin, `measured` whether the cut's loss was measured or is that of other models' cuts.
    """

    depth: Depth
    lost: tuple[Amount, Amount, Amount]
    gap: tuple[float, float, float]
    chance: Share
    measured: bool = False


class PlannedModel(Entry):
    """A model by its shape: blocks, parameters, and what it takes."""

    depth: Depth
    parameters: Count
    footprint: Footprint


class Machinery(Entry):
    """What a run is planned for: bytes of memory and disk for each process, and whether the pace was tried.

    `matrix_rate` is in FLOP/s of matrix products at the training's precision, `fp32_rate` in fp32. `shares` are those of a data sheet's
    rate that training may reach, the plan's own and the least; None where products were timed here.
    """

    name: str
    processes: Count
    memory: Count
    disk: Count
    matrix_rate: Amount
    fp32_rate: Amount
    tried: bool
    price: Amount | None = None
    shares: tuple[Share, Share] | None = None


class RunEstimate(JsonFile):
    """A run beforehand: stages with one round, one further round, what the target saves, and what the tokens can buy.

    `cost` is in whatever money the price of a device-hour was given. `advice` says what does not suffice and which setting
    makes it fit; none where all fits. `choice` is how the recipe chooses blocks, None where they are named by hand.
    """

    NAME: ClassVar[str] = "plan.json"
    name: str
    machine: Machinery
    reference: PlannedModel
    target: PlannedModel
    margin: Amount
    round_tokens: Count
    asked_tokens: Count | None = Field(None, description="training.tokens, where a round of whole steps has more.")
    goal: str = "cheapest"
    choice: str | None = "greedy"
    text_tokens: Count | None
    stages: list[StageEstimate]
    further_round: StageEstimate
    most_rounds: Count
    step: MemoryEstimate
    reach: list[DepthReach]
    tokens_for_even: Count | None = Field(
        description="Tokens of a round that give the target an even chance; none: not 2^50."
    )
    fits: bool
    advice: list[str]
    asked_bytes: Count | None = Field(None, description="growth.target.memory.")
    packed_bytes: dict[str, Count] = Field(
        {}, description="About the target's bytes as a GGUF file, by how it is packed."
    )
    seconds_in_all: tuple[Amount, Amount] | None = Field(
        None, description="With one round: as planned, and at the least of `machine.shares`."
    )
    cost_in_all: tuple[Amount, Amount] | None = Field(None, description="What these cost, where a price was given.")

    @property
    def total(self) -> StageEstimate:
        """All stages, with one round."""
        return in_all(self.stages)

    def span(self, seconds: float) -> tuple[float, float]:
        """What is planned, and the most that it may be on a device that was never tried."""
        planned, least = self.machine.shares or (1.0, 1.0)
        return seconds, seconds * planned / least

    def cost(self, seconds: float) -> float | None:
        """The price of all devices for so long."""
        price = self.machine.price
        return None if price is None else price * self.machine.processes * seconds / 3600


def in_all(stages: list[StageEstimate]) -> StageEstimate:
    """Stages together: sums, and the most memory and disk of any."""
    sums = {key: sum(getattr(stage, key) for stage in stages) for key in ("tokens", "flops", "seconds")}
    most = {key: max(getattr(stage, key) for stage in stages) for key in ("memory", "disk")}
    return StageEstimate(name="in all", **sums, **most)
