"""A diagnosis on disk: `profile.json` and, where the figures can be drawn, its figures."""

from functools import partial
from pathlib import Path

import numpy as np
from torch import Tensor
from transformers import PreTrainedModel

from inheritune.diagnosis.meanmaps import mean_maps, telling_heads
from inheritune.errors import OutputError
from inheritune.progress import Tell, silent
from inheritune.records.profile import Profile
from inheritune.words import plural


def reserve(folder: Path | None) -> None:
    """Make the folder before anything long is run; raises OutputError where it cannot be written."""
    if folder is None:
        return
    try:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / ".writable").touch()
        (folder / ".writable").unlink()
    except OSError as error:
        raise OutputError(f"{folder} cannot be written ({error.strerror}): choose another --out.") from error


def write(
    profile: Profile,
    model: PreTrainedModel,
    tokens_NT: Tensor,
    folder: Path,
    against: Profile | None = None,
    tell: Tell = silent,
) -> list[Path]:
    """Write the profile, the mean maps of three telling heads (`maps.npz`) and every figure; the paths written."""
    from inheritune.report.profile_figures import save_figures

    profile.save(folder / "profile.json")
    heads = telling_heads(profile)
    counting = partial(tell, f"Mean maps of {plural(len(heads), 'head')}")
    maps = {name: map_TT.numpy() for name, map_TT in mean_maps(model, tokens_NT, heads, counting).items()}
    np.savez_compressed(folder / "maps.npz", allow_pickle=False, **maps)
    figures = save_figures(profile.model_dump(), folder, maps, None if against is None else against.model_dump())
    return [folder / "profile.json", folder / "maps.npz", *figures]
