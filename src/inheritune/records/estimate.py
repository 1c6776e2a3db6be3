"""The plan of a run, as data: the object that `inheritune plan --json` prints, and what the first two lines of `run` are made from."""

from typing import ClassVar

from pydantic import Field

from inheritune.records.entry import Amount, Count, Depth, Entry, JsonFile, Share
from inheritune.records.result import Footprint


class StageEstimate(Entry):
    """A stage of a run: tokens read, FLOPs and seconds, its peak memory (bytes per process), and the most bytes that it leaves on the disk."""

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

    `chance` is the probability of a gap below the margin. The cut's loss is that of other models' cuts.
    """

    depth: Depth
    lost: tuple[Amount, Amount, Amount]
    gap: tuple[float, float, float]
    chance: Share


class PlannedModel(Entry):
    """A model by its shape: blocks, parameters, and what it takes."""

    depth: Depth
    parameters: Count
    footprint: Footprint


class Machinery(Entry):
    """The machine that a run is planned for: bytes of memory and disk for each process, and whether its pace was tried out.

    `matrix_rate` is in FLOP/s of matrix products at the training's precision, `fp32_rate` in fp32. `shares` are the shares of a data
    sheet's rate that training may reach, as planned and at the least; None where products were timed here.
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
    """The plan of a run: its stages with one round, one further round, what the target saves, and what the tokens can buy.

    `cost` is in whatever money the price of a device-hour was given. `advice` says what does not suffice and which setting
    makes it fit; empty where all fits. `choice` is how the recipe chooses blocks, None where they are named by hand.
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
        """All stages together, with one round."""
        return in_all(self.stages)

    def span(self, seconds: float) -> tuple[float, float]:
        """The planned seconds, and the most that they may be on a device that was never tried."""
        planned, least = self.machine.shares or (1.0, 1.0)
        return seconds, seconds * planned / least

    def cost(self, seconds: float) -> float | None:
        """The price of all devices for so many seconds; None without a price."""
        price = self.machine.price
        return None if price is None else price * self.machine.processes * seconds / 3600


def in_all(stages: list[StageEstimate]) -> StageEstimate:
    """Several stages as one: everything is summed, but memory and disk are the largest of any stage."""
    sums = {key: sum(getattr(stage, key) for stage in stages) for key in ("tokens", "flops", "seconds")}
    most = {key: max(getattr(stage, key) for stage in stages) for key in ("memory", "disk")}
    return StageEstimate(name="in all", **sums, **most)
