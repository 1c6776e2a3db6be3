"""A diagnosis on disk: `profile.json` and, where the figures can be drawn, its figures."""

from functools import partial
from pathlib import Path

import numpy as np
from torch import Tensor
from transformers import PreTrainedModel

from inheritune.diagnosis.meanmaps import mean_maps, telling_heads
from inheritune.disk.files import whole_file
from inheritune.progress import Tell, silent
from inheritune.records.profile import Profile
from inheritune.words import plural


def write_profile_folder(
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
    with whole_file(folder / "maps.npz") as file:
        np.savez_compressed(file, allow_pickle=False, **maps)
    figures = save_figures(profile.model_dump(), folder, maps, None if against is None else against.model_dump())
    return [folder / "profile.json", folder / "maps.npz", *figures]
