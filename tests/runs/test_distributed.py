"""Several processes over gloo: the losses of one, through growth, stops, a teacher, controls and another number of processes."""

import fcntl
import json
import os
import re
import signal
import threading
import time
import warnings
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import asdict
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
import torch.distributed as dist
import yaml
from crash import in_a_fork
from launch import as_a_module, launched
from safetensors.numpy import load_file, save_file
from stopping import stopping_at
from tiny import recipe_tree, untrained_model
from torch.distributed.elastic.multiprocessing import DefaultLogsSpecs, Std
from torch.distributed.launcher.api import LaunchConfig, elastic_launch

from inheritune import run
from inheritune.choosing import greedy
from inheritune.choosing.choice import Search
from inheritune.config.sections import Training
from inheritune.decoder import stack
from inheritune.decoder.anatomy import anatomy
from inheritune.disk.files import digest
from inheritune.errors import InputError, Interrupted, WorkerError
from inheritune.evaluation import token_losses
from inheritune.records.entry import NOTHING_SPENT
from inheritune.records.stages import Position
from inheritune.runs import own_rate
from inheritune.runtime import processes, sharded
from inheritune.runtime.device import NAMED
from inheritune.runtime.gradients import GradientSums
from inheritune.runtime.stop import on_request
from inheritune.training import checkpoint, kernels
from inheritune.training.metrics import Metrics
from inheritune.training.objective import TrainingLoss
from inheritune.training.optimizer import Optimizer

# What float32 sums in another order may differ by: of a loss of 3, and of a weight of 0.1 to 1 after 12 steps.
LOSS, WEIGHT = 2e-6, 2e-5


@pytest.fixture(scope="module")
def recipe(gpt2: Path, corpus: Path, tmp_path_factory: pytest.TempPathFactory) -> str:
    """Two rounds of six steps of eight sequences, in micro-batches of two, repaired before and watched meanwhile."""
    tree = recipe_tree(gpt2, corpus / "words.jsonl")
    tree["training"] |= {"micro_batch_size": 2}
    tree["choice"]["heal"], tree["diagnosis"]["watch_every"] = True, 3
    path = tmp_path_factory.mktemp("recipe") / "recipe.yaml"
    path.write_text(yaml.safe_dump(tree))
    return str(path)


@pytest.fixture(scope="module")
def alone(recipe: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("alone") / "out"
    run(recipe, out=str(out))
    return out


def losses(out: Path) -> list[float]:
    rows = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
    return [row.get("loss", row.get("val_loss")) for row in rows if row["kind"] in ("step", "validation")]


def watched(out: Path) -> list[list[float]]:
    rows = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
    return [[row["step"], *row["max_rank"]] for row in rows if row["kind"] == "watch"]


def same(out: Path, other: Path) -> None:
    assert losses(out) == pytest.approx(losses(other), abs=LOSS)
    assert len(watched(out)) == 6
    assert all(mine == pytest.approx(right, abs=0.5) for mine, right in zip(watched(out), watched(other), strict=True))
    mine, theirs = (load_file(folder / "model" / "model.safetensors") for folder in (out, other))
    assert mine.keys() == theirs.keys()
    assert max(float(np.abs(mine[name] - theirs[name]).max()) for name in mine) < WEIGHT
    ledgers = [json.loads((folder / "result.json").read_text())["ledger"]["total"] for folder in (out, other)]
    assert [(ledger["tokens"], ledger["flops"]) for ledger in ledgers] == [
        (ledgers[0]["tokens"], ledgers[0]["flops"])
    ] * 2


def test_processes_that_meet_wait_for_the_last_and_not_for_the_main_one_alone(tmp_path: Path) -> None:
    def late() -> None:
        with processes.joined(60):
            time.sleep(0.5 * processes.rank())
            (tmp_path / str(processes.rank())).touch()
            processes.meet()
            assert len(list(tmp_path.iterdir())) == 2

    assert launched(2, late) == [0, 0]


@pytest.mark.parametrize(("cards", "refused"), [(["a", "b"], ""), (["a", "a"], "2 processes have 1 GPUs")])
def test_each_process_takes_its_card_among_those_that_it_sees(
    cards: list[str], refused: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As Slurm binds them: each process sees one, which is a card of its own or, started wrongly, the other's too."""
    taken = list[int]()
    monkeypatch.delenv(NAMED)
    monkeypatch.setattr(processes, "_ON_GPUS", "cuda:gloo")
    for name, fake in {
        "is_available": lambda: True,
        "device_count": lambda: 1,
        "set_device": taken.append,
        "get_device_properties": lambda number: SimpleNamespace(uuid=cards[int(os.environ["RANK"])]),
    }.items():
        monkeypatch.setattr(torch.cuda, name, fake)

    def join() -> None:
        with pytest.raises(InputError, match=refused) if refused else nullcontext(), processes.joined(60):
            assert processes.summed([1.0]) == [2.0]
        assert taken == [0]

    assert launched(2, join) == [0, 0]


@pytest.mark.parametrize("dies", [True, False])
def test_a_sum_on_gpus_that_a_dead_process_keeps_waiting_is_ended_once_torchrun_says_so(
    dies: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In place of a GPU's sum, which no CPU can see fail, an event that nothing but the abort sets; signs of life may be late.

    As of torchrun, the signal comes once the other process is dead: its lock is free then.
    """
    aborted, abort, config = threading.Event(), processes._abort_sums, dist.get_backend_config
    monkeypatch.setattr(processes, "_BEAT", 0.05)
    monkeypatch.setattr(processes, "_LONG_PATIENCE", 1.5 if dies else 6.0)
    monkeypatch.setattr(processes, "_abort_sums", aborted.set)
    monkeypatch.setattr(dist, "get_backend_config", lambda group=None: config(group) if group else "cpu:gloo,cuda:nccl")

    def work() -> None:
        with pytest.raises(WorkerError, match="process 1 of 2") if dies else nullcontext(), processes.joined(60):
            with (tmp_path / "alive").open("w") as alive:
                if processes.rank() == 1:
                    fcntl.flock(alive, fcntl.LOCK_EX)
                processes.summed([1.0])
                if processes.rank() == 1 and dies:
                    os.kill(os.getpid(), signal.SIGKILL)
                if dies:
                    fcntl.flock(alive, fcntl.LOCK_EX)
            with on_request(lambda _: None):
                signal.raise_signal(signal.SIGTERM)
                assert aborted.wait(60 if dies else 7) == dies
            abort()  # what is over gloo stays
            processes.summed([1.0])

    assert launched(2, work) == [0, -signal.SIGKILL if dies else 0]


def test_a_checkpoint_is_hashed_once_by_one_process(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of two that write it together and find it again, also where its folder was moved meanwhile."""
    hashed = list[str]()
    monkeypatch.setattr(checkpoint, "digest", lambda path: hashed.append(path.name) or digest(path))

    def work() -> None:
        with processes.joined(60):
            model = untrained_model("gpt2")
            sharded.shard(model, anatomy(model).blocks)
            checkpoint.save(tmp_path / "a", model, {}, Position(step=3))
            processes.on_main(lambda: (tmp_path / "a").rename(tmp_path / "b"))
            found = processes.found_by_main(lambda: checkpoint.latest(tmp_path / "b"))
            assert found and checkpoint.load(found, model)[1].step == 3
            assert len(hashed) == (2 if processes.is_main() else 0), hashed

    assert launched(2, work) == [0, 0]


def test_the_trials_of_a_rate_stay_until_every_process_has_read_them(tmp_path: Path) -> None:
    """The main process is ahead of the other by half a second at each."""

    def trial(folder: Path, _: Training) -> tuple[Any, Any]:
        processes.on_main(lambda: folder.mkdir(parents=True, exist_ok=True))
        processes.on_main(lambda: (folder / "round").write_text("1"))
        time.sleep(0.5 * processes.rank())
        read = float((folder / "round").read_text())
        return SimpleNamespace(tokens=1, flops=read, seconds=read, val_loss=read), NOTHING_SPENT

    def search() -> None:
        with processes.joined(60):
            own_rate.own_rate(tmp_path, Training(tokens=64, batch_tokens=1, peak_lr=1e-4), trial)

    assert launched(2, search) == [0, 0] and not (tmp_path / "rates").exists()


def test_a_teacher_growth_and_controls_on_several_processes_give_what_one_gives(
    references: Callable[[str], Path], corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two sharded ones until the second round, two that hold all through growth until the control that is taught, too, and one to the end."""
    for name, value in {"_FIRST": (0,), "_LOWEST": 0, "_HIGHEST": 0}.items():  # one rate is tried for a control
        monkeypatch.setattr(own_rate, name, value)
    tree = recipe_tree(references("llama"), corpus / "words.jsonl")
    tree |= {"controls": True, "objective": {"cross_entropy": 0.5, "logits": 0.5, "hidden": 0.1}}
    tree["training"] |= {"tokens": 512, "micro_batch_size": 4}
    recipe, out, right = tmp_path / "recipe.yaml", tmp_path / "out", tmp_path / "alone"
    recipe.write_text(yaml.safe_dump(tree))
    run(str(recipe), out=str(right))

    def part(parallel: str) -> None:
        with pytest.raises(Interrupted):
            run(str(recipe), out=str(out), processes__parallel=parallel)

    for parallel, step, place in (("fsdp", 2, out), ("ddp", 3, out / "controls" / "reference-taught")):
        with monkeypatch.context() as patch:
            patch.setattr(Metrics, "add", stopping_at(step, place))
            assert launched(2, partial(part, parallel)) == [0, 0]
    run(str(recipe), out=str(out))
    controls = [Path("controls") / name for name in ("reference", "reference-taught", "random")]
    for folder in (Path(), *controls):
        assert losses(out / folder) == pytest.approx(losses(right / folder), abs=LOSS), folder
    found, wanted = (json.loads((place / "result.json").read_text()) for place in (out, right))
    assert [own["learning_rate"] for own in found["controls"]] == [own["learning_rate"] for own in wanted["controls"]]
    assert [own["tokens"] for own in found["controls"]] == [1024] * 3
    assert found["ledger"]["total"]["flops"] == wanted["ledger"]["total"]["flops"]


INFLUENCE = [0.3, 0.1, 0.2, 0.5, 0.4, 0.6]


def test_what_is_measured_together_is_what_one_process_measures(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Losses of documents and the greedy choice, to the bit, of five parts on one, two and three processes that share the passes."""
    monkeypatch.setattr(stack, "CHUNK_TOKENS", 32)
    monkeypatch.setattr(token_losses, "_LOGITS_AT_ONCE", 320 * 32)
    tokens_BT = torch.randint(3, 320, (10, 16), generator=torch.Generator().manual_seed(0))
    labels_BT = tokens_BT[:, 1:].numpy()
    profile: Any = SimpleNamespace(layers=[SimpleNamespace(influence=value) for value in INFLUENCE])

    def measured(place: Path) -> None:
        model, ran = untrained_model("llama"), list[int]()
        anatomy(model).blocks[-1].register_forward_hook(lambda _, args, __: ran.append(len(args[0])))
        with processes.joined(60):
            chosen = greedy.order(model, tokens_BT, profile, Search(2, kept=place.with_suffix(".kept")))
            passes = processes.of_all(sum(ran))
            losses_BT = token_losses.label_losses(model, tokens_BT[:, :-1].numpy(), labels_BT)
            seen = {"chosen": asdict(chosen), "losses": losses_BT.tolist(), "passes": sum(passes)}
            assert len(passes) == 1 or max(passes) < sum(passes)
            processes.on_main(lambda: place.write_text(json.dumps(seen)))

    places = {count: tmp_path / f"{count}.json" for count in (1, 2, 3)}
    assert all(launched(count, partial(measured, place)) == [0] * count for count, place in places.items())
    assert len({place.read_text() for place in places.values()}) == 1
    kept = {place.with_suffix(".kept").read_text().count("gone") for place in places.values()}
    assert len(kept) == 1, "one process writes what is kept"


def test_muon_on_a_model_spread_over_processes_takes_the_steps_of_a_whole_one(tmp_path: Path) -> None:
    """Each gathers the pulls and orthogonalises them whole, so that not a bit differs."""
    training = Training(tokens=1, batch_tokens=1, micro_batch_size=1, optimizer="muon", weight_decay=0.5)

    def steps(place: Path) -> None:
        with processes.joined(60):
            model, generator = untrained_model("gpt2"), torch.Generator().manual_seed(0)
            if processes.count() > 1:
                sharded.shard(model, anatomy(model).blocks)
            optimizer = Optimizer(model, training)
            for _ in range(3):
                for parameter in model.parameters():
                    parameter.grad = sharded.part(torch.randn(parameter.shape, generator=generator), parameter)
                optimizer.step(0.01)
            whole = {name: sharded.whole(parameter.detach()) for name, parameter in model.named_parameters()}
            processes.on_main(lambda: save_file({name: tensor.numpy() for name, tensor in whole.items()}, place))

    assert [launched(count, lambda count=count: steps(tmp_path / str(count))) for count in (1, 2)] == [[0], [0, 0]]
    one, two = (load_file(tmp_path / str(count)) for count in (1, 2))
    assert one.keys() == two.keys()
    matrices = [name for name in one if ".h." in name and one[name].ndim == 2]
    assert len(matrices) == 20
    assert all(np.array_equal(one[name], two[name]) for name in matrices)


@pytest.mark.parametrize("family", ["gpt2", "llama"])
def test_gradients_summed_beside_the_pass_have_the_bits_of_those_summed_after_it(
    family: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every bucket is sent before the last micro-batch's pass is over, with a head of its own and with one that is the embeddings."""
    monkeypatch.setattr(processes, "_BUCKET", 2000)
    wanted = Training(tokens=1, batch_tokens=1, micro_batch_size=1)
    batch_BT = torch.randint(0, 320, (6, 17), generator=torch.Generator().manual_seed(0))

    def gradients(beside: bool) -> dict[str, np.ndarray]:
        model = untrained_model(family)
        loss, parameters = TrainingLoss(model, wanted), list(model.parameters())
        sums = GradientSums(parameters, loss.head.alone)
        if beside:
            loss.around_last = sums.beside_pass
        loss.backward(processes.share(batch_BT), batch_BT[:, 1:].numel())
        if beside:
            assert processes.count() == 1 or sums._begun == len(sums._buckets) > 5
            sums.finish()
        else:
            processes.add_others([parameter.grad for parameter in parameters if parameter.grad is not None])
        return {name: p.grad.numpy() for name, p in model.named_parameters() if p.grad is not None}

    def both(place: Path) -> None:
        with processes.joined(60):
            after, beside = gradients(False), gradients(True)
            assert after.keys() == beside.keys() and all(np.array_equal(after[name], beside[name]) for name in after)
            processes.on_main(lambda: save_file(beside, place))

    places = {count: tmp_path / str(count) for count in (1, 2, 3)}
    assert all(launched(count, partial(both, place)) == [0] * count for count, place in places.items())
    one, *others = (load_file(place) for place in places.values())
    for name, right in one.items():
        assert all(np.linalg.norm(right - other[name]) <= 1e-5 * np.linalg.norm(right) for other in others), name


@pytest.mark.parametrize(
    ("family", "precision", "close"), [("gpt2", "fp32", 1e-5), ("llama", "fp32", 1e-5), ("llama", "bf16", 0.02)]
)
def test_a_spread_model_has_the_loss_and_the_gradient_of_a_whole_one(
    family: str, precision: str, close: float, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Summed after each micro-batch or once; its blocks gathered in bf16 where that is the precision; as a share of the gradient's norm.

    The head, of its own or the embeddings, is passed in pieces of eight rows, so that a micro-batch's logits never stand together.
    """
    monkeypatch.setattr(kernels, "_CHUNK", 8 * 320)
    wanted = Training(tokens=1, batch_tokens=1, micro_batch_size=1, precision=precision)  # type: ignore[arg-type]
    batch_BT = torch.randint(0, 320, (6, 17), generator=torch.Generator().manual_seed(0))

    def gradient(once: bool) -> dict[str, torch.Tensor]:
        model = untrained_model(family)
        loss = TrainingLoss(model, wanted)
        assert loss.head.apart
        if processes.count() > 1:
            sharded.shard(model, anatomy(model).blocks, half=precision == "bf16")
        loss.sums_once = once
        own = loss.backward(processes.share(batch_BT), batch_BT[:, 1:].numel())["loss"].item()
        whole = {name: sharded.whole(p.grad) for name, p in model.named_parameters() if p.grad is not None}
        return {"loss": torch.tensor(processes.summed([own])), **whole}

    def both(place: Path) -> None:
        with processes.joined(60), warnings.catch_warnings():
            warnings.filterwarnings("error", "FSDP2")  # a user would read it, and can do nothing
            found = {f"{once} {name}": tensor for once in (False, True) for name, tensor in gradient(once).items()}
            processes.on_main(lambda: save_file({name: tensor.numpy() for name, tensor in found.items()}, place))

    assert [launched(count, lambda count=count: both(tmp_path / str(count))) for count in (1, 2, 3)] == [
        [0],
        [0, 0],
        [0, 0, 0],
    ]
    one, *others = (load_file(tmp_path / str(count)) for count in (1, 2, 3))
    assert len(one) > 20 and all(one.keys() == other.keys() for other in others)
    for name, right in one.items():
        assert all(np.linalg.norm(right - other[name]) <= close * np.linalg.norm(right) for other in others), name


def test_a_run_goes_on_at_another_number_of_processes_and_another_way(
    recipe: str, alone: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Three steps by two sharded processes, the rest of the round by four that hold all, the next one alone, and so on."""
    out = tmp_path / "out"
    for count, parallel, step in ((2, "fsdp", 3), (4, "ddp", 5), (1, "ddp", 8), (2, "fsdp", 10)):

        def part(parallel: str = parallel) -> None:
            with pytest.raises(Interrupted, match=r"stopped after step"):
                run(recipe, out=str(out), processes__parallel=parallel)

        with monkeypatch.context() as patch:
            patch.setattr(Metrics, "add", stopping_at(step))
            assert launched(count, part) == [0] * count
    run(recipe, out=str(out))
    same(out, alone)


@pytest.mark.parametrize(("way", "patience"), [(signal.SIGKILL, 600.0), (signal.SIGSTOP, 20.0)])
def test_a_process_that_dies_or_hangs_ends_the_run_by_name(
    way: signal.Signals, patience: float, recipe: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    original, out, hung = processes.summed, tmp_path / "out", tmp_path / "hung"

    def summed(values: Any) -> list[float]:
        if processes.rank() == 1 and list(out.rglob("step-0000004")):
            hung.write_text(str(os.getpid()))
            os.kill(os.getpid(), way)
        return original(values)

    def part() -> None:
        monkeypatch.setattr(processes, "summed", summed)
        began = time.monotonic()
        try:
            with pytest.raises(WorkerError, match=r"process 1 of 2 .*step-0000004.*same command") as caught:
                run(recipe, out=str(out), processes__timeout_seconds=patience)
            assert caught.value.told_here and time.monotonic() - began < 300
        finally:
            if way is signal.SIGSTOP and hung.exists():  # else it would be waited for without end
                os.kill(int(hung.read_text()), signal.SIGKILL)

    assert launched(2, part) == [0, -signal.SIGKILL]


def test_torchrun_runs_the_command_unchanged_with_the_weights_spread(recipe: str, alone: Path, tmp_path: Path) -> None:
    """torchrun's own agent and the command as `-m inheritune` starts it, in forked processes: imports take longer than the run."""
    out, logs = tmp_path / "out", tmp_path / "logs"
    command = ["inheritune", "run", recipe, "--out", str(out), "--set", "processes.parallel=fsdp"]

    def launch() -> None:
        logs.mkdir()
        wanted = LaunchConfig(
            1, 1, 2, run_id="test", rdzv_backend="c10d", rdzv_endpoint="localhost:0", start_method="fork",
            logs_specs=DefaultLogsSpecs(log_dir=str(logs), redirects=Std.ALL),
        )  # fmt: skip
        elastic_launch(wanted, as_a_module)(command)

    assert in_a_fork(launch) == 0, [path.read_text() for path in logs.rglob("stderr.log")]
    told = "".join(path.read_text() for path in logs.rglob("stdout.log"))
    assert len(re.findall(r"^Round 1", told, re.MULTILINE)) == 1, "one process speaks"
    assert all(list(out.rglob(f"shard-0000{part}-*")) for part in (1, 2)), "each process saves its part"
    same(out, alone)


def test_workers_that_torchrun_starts_again_meet_each_other() -> None:
    """Its agent keeps the store: what workers that died have left there leads nobody astray."""
    store = dist.TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False)
    agent = {"TORCHELASTIC_USE_AGENT_STORE": "True", "MASTER_PORT": str(store.port)}

    def work(attempt: int) -> None:
        os.environ |= {**agent, "TORCHELASTIC_RESTART_COUNT": str(attempt)}
        if os.environ["RANK"] == "1":
            time.sleep(0.5 * attempt)  # the other one looks for it meanwhile
        with processes.joined(60):
            assert processes.summed([processes.rank() + 1.0]) == [3.0]
            if not attempt:
                os._exit(9)

    assert [launched(2, lambda attempt=attempt: work(attempt)) for attempt in (0, 1)] == [[9, 9], [0, 0]]
