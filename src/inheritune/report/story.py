"""What a run says in sentences: the verdict, the reference's training, what the controls show. Plain text."""

from collections.abc import Iterator
from dataclasses import dataclass
from statistics import median

from inheritune.records.gap import GapResult
from inheritune.records.guard import Guard
from inheritune.records.result import CAUTION, Control, Result, trained_on
from inheritune.records.token_by_token import TokenByToken
from inheritune.report import words
from inheritune.report.folder import RunFolder
from inheritune.words import EN_DASH, plural

# With fewer training tokens per parameter a reference has much left to learn (compute-optimal is about 20).
WELL_TRAINED = 20
LONGEST_LABEL = 24
GOING_ON = "going on"
_STATES = {
    GOING_ON: "is going on",
    "stopped": "was stopped",
    "killed": "was killed",
    "going on or killed": "is going on or was killed",
}
_REPEATED = "Repeated tokens of an answer, share"


@dataclass(frozen=True)
class Headline:
    """The page's first words. `state` is good, bad or open, and picks colour and mark; `cautions`, if there are any, end the message."""

    state: str
    mark: str
    headline: str
    message: str
    evidence: str
    warned: str = ""
    cautions: str = ""


def verdict(run: RunFolder, state: str | None = None) -> Headline:
    """What the run found; before its end, how far it is, and its `state` as `status` says it, if known."""
    return verdict_of(run.result) if run.result else _unfinished(run, state)


def target_gap(result: Result) -> GapResult | None:
    """The gap of the round that gave the saved target."""
    gaps = [round_.decisive for round_ in result.rounds if round_.blocks == result.target.blocks]
    return gaps[-1] if gaps else None


def verdict_of(result: Result) -> Headline:
    """What a finished run found."""
    state = {"matched": "good", "fitted": "open"}.get(result.outcome, "bad")
    mark = {"good": "✓", "open": EN_DASH}.get(state, "✕")
    message, caution, cautions = result.message.partition(CAUTION)
    warned = f"with {plural(result.cautions, 'caution')}, below" if result.cautions else ""
    return Headline(state, mark, _headline(result), message, evidence(result), warned, caution + cautions)


def _headline(result: Result) -> str:
    blocks = f"{result.target.depth} of {plural(result.reference.depth, 'block')}"
    gap = target_gap(result)
    if result.outcome == "matched":
        better = gap is not None and gap.verdict == "surpassed"
        return f"{blocks} {'do better than the original' if better else 'match the'} reference"
    if result.outcome == "fitted":
        return f"{blocks}, the size that was asked for"
    if result.outcome == "budget_spent":
        return f"The budget was spent before a match; the run reached {blocks}"
    if gap is not None and gap.verdict == "cannot tell":
        return f"It cannot be told whether {blocks} match the reference"
    return f"{blocks} do not match the reference"


def evidence(result: Result) -> str:
    """The gap with its interval, beside the margin and what it was measured on."""
    gap, first, further = target_gap(result), result.validation, result.further
    documents, tokens = (further.documents, further.tokens_in_all) if further else (first.documents, first.tokens)
    measured = (
        f"{plural(documents, 'validation document')} ({words.large_number(tokens)} tokens), paired document by document"
    )
    if gap is None:
        needed = f"A match needs a gap below {result.margin:g} nats per token"
        return f"The saved target was not compared. {needed} on {measured}."
    return (
        f"The gap, target loss minus reference loss, is {words.signed(gap.mean)} nats per token, with a "
        f"{100 * result.gap_confidence:.3g}% interval of {words.signed(gap.low)} to {words.signed(gap.high)}. "
        f"The margin, declared before the run, is {result.margin:g}. The gap was measured on {measured}."
        + (f" The first {first.documents:,} documents could not decide, so the run read more." if further else "")
        + _beside_control(result)
    )


def packing_told(result: Result) -> str:
    """Why a smaller model may take more room, where the reference came from a packed file."""
    before, after = result.reference.footprint, result.target.footprint
    if before is None or after is None or not before.packed:
        return ""
    return (
        "The reference's file is packed and the target's is not, so the target may take more disk space although it is the smaller model."
        " inheritune export --to gguf --quantise can pack the target too."
    )


def speed_told(result: Result) -> str:
    """How the speed was measured, or that it was not."""
    if result.side_by_side is None:
        return "Speed was not measured in this run; inheritune evaluate measures it."
    return (
        "Tokens per second are for one sequence in float32, with transformers on the run's machine. inheritune evaluate measures speed and"
        " memory more closely."
    )


def able(guard: Guard) -> str:
    """The verdict on the guard set, as a sentence."""
    share = f"{100 * guard.tolerance:g}%"
    if not guard.rows:
        return "Cannot tell: there is no item whose choices the tokenizers tell apart"
    if guard.verdict == "cannot tell" and guard.rows[-1].low > -guard.tolerance:
        return "Cannot tell: the reference itself does no better than chance on these items"
    said = {
        "able": f"Able: no task was lost, and at most {share} of all items were lost",
        "lost": f"Lost: {'; '.join(guard.lost)}",
        "cannot tell": f"Cannot tell: no task was surely lost, but more than {share} of all items may be lost",
    }
    return said[guard.verdict]


def token_rows(found: TokenByToken) -> Iterator[tuple[str, str, str, str]]:
    """Rows of what was measured token by token: its name, the reference's value, the target's, and the difference."""
    agreed = found.agreement
    for name, one, told in (
        ("KL divergence, nats per token", agreed.divergence, words.plain_interval),
        ("Same next token, share", agreed.same_choice, words.plain_interval),
        ("Loss on rare tokens", agreed.rare, words.interval),
        ("Loss on copied tokens", agreed.copied, words.interval),
    ):
        if one is not None:
            yield name, "", "", told(one)
    for place in found.by_position:
        name = f"Loss at positions {place.first:,}{EN_DASH}{place.last:,}"
        yield name, f"{place.reference_loss:.4f}", f"{place.target_loss:.4f}", words.interval(place.gap)
    if gone := found.going_on:
        for name, each in ((_REPEATED, gone.repeated), (f"Tokens of an answer, at most {gone.most}", gone.length)):
            yield name, f"{each.reference:.3g}", f"{each.model:.3g}", words.interval(each)


def _beside_control(result: Result) -> str:
    control = trained_on(result.controls)
    if control is None:
        return ""
    return f" The target's gap to the reference trained further on the same tokens is {words.interval(control.target)}."


def _unfinished(run: RunFolder, state: str | None) -> Headline:
    curves, stands = run.curves, _STATES.get(state or "", "is going on or was stopped")
    again = "" if state == GOING_ON else " Running the same command again continues from here."
    if (run.path / "result.json").exists():
        message = "Its result.json is damaged or of another version, as the notice below says. This page shows what the other files hold."
        return Headline("open", "…", "This run's result could not be read", message, "")
    if not curves:
        message = f"Nothing has been trained yet. The run {stands}.{again}"
        return Headline("open", "…", "This run has not finished", message, "")
    last = curves[-1]
    tokens = max(point[0] for point in (*last.training, *last.validation, (0.0, 0.0)))
    message = (
        f"The run {stands} in round {last.round}, at {plural(last.depth, 'block')}, "
        f"after {words.large_number(tokens)} tokens of training.{again}"
    )
    standing = ""
    if last.gaps:
        standing = (
            f"At the latest validation, the target's gap to the reference was {words.signed(last.gaps[-1][1])} nats per token. "
            "One validation is not a verdict."
        )
    return Headline("open", "…", "This run has not finished", message, standing)


def reference_training(result: Result) -> str:
    """How long the reference was trained, and what that means for the verdict."""
    reference = result.reference
    if reference.trained_tokens is None:
        return (
            "It is not known here how long the reference was trained. "
            "A reference with much left to learn is easier to match than a fully trained one."
        )
    said = f"The reference was trained on {words.large_number(reference.trained_tokens)} tokens"
    per_parameter = reference.tokens_per_parameter
    if per_parameter is None:
        return said + "."
    said += f", {per_parameter:.3g} per parameter."
    if per_parameter < WELL_TRAINED:
        said += (
            " That is little: such a reference has much left to learn and is easier to match than a fully trained one."
        )
    return said


def spent(result: Result) -> str:
    """What the whole run took, compared with the reference's training if that is known."""
    total = result.ledger.total
    said = f"The run took {words.duration(total.seconds)} and processed {words.large_number(total.tokens)} tokens"
    trained = result.reference.trained_tokens
    if not trained:
        return said + "."
    return f"{said}, {words.percent(total.tokens, trained)} of the number that the reference was trained on."


def pace(run: RunFolder) -> str:
    """The median speed of the training steps, and the share of the machine's rate that it is (MFU); empty if not logged."""
    rates, shares = (
        run.logged("step", "tokens_per_second"),
        [share for share in run.logged("step", "mfu") if share <= 1],
    )
    if not rates:
        return ""
    said = f"Training ran at {median(rates):,.0f} tokens/s, the median of all steps"
    return (
        f"{said}, and used {100 * median(shares):.0f}% of the machine's rate for matrix products (MFU)."
        if shares
        else f"{said}."
    )


def controls(result: Result) -> list[str]:
    """What the controls say about the target; or that they were not run, and what is not known without them."""
    if result.controls is None:
        return [
            "The controls were not run. So it is not known how much of the result comes from the inherited "
            "blocks and how much from training alone: the reference itself, trained further on the same tokens, "
            "might have improved as well.",
            "To find out, run the same recipe with --controls; it costs about as much again.",
        ]
    return [_control(control) for control in result.controls]


def _control(control: Control) -> str:
    said = f"{control_name(control.name)} ends with a gap of {words.interval(control.gap)} to the original reference"
    beside = control.target
    stands = f"Target minus control, on the same documents, is {words.interval(beside)}"
    if beside.low > 0:
        return f"{said}. {stands}: with the same tokens, the control reaches a lower loss."
    return f"{said}. {stands}" + ("." if beside.high < 0 else ": the two cannot be told apart.")


def control_name(name: str) -> str:
    """A control's name for people."""
    known = {
        "reference": "The reference, trained further on the same tokens,",
        "reference-taught": "The reference, trained further on the same tokens and taught by the original reference,",
        "random": "A model of the target's shape, trained on the same tokens from a random start,",
    }
    return known.get(name, f"The control “{name}”")


def control_label(name: str) -> str:
    """A control's name for a figure or a table; long names would leave a figure no room."""
    known = {
        "reference": "reference, more training",
        "reference-taught": "reference, self-taught",
        "random": "random start",
    }
    return known.get(name, name if len(name) <= LONGEST_LABEL else name[: LONGEST_LABEL - 1] + "…")
