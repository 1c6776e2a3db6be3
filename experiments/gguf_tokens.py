"""How many of the first tokens that llama.cpp chooses from a GGUF file are the ones that transformers chooses, as we load it, in float32.

    python experiments/gguf_tokens.py MODEL.gguf

The result is printed as JSON. llama.cpp's runner is found as `inheritune export` finds it.
"""

import argparse
from pathlib import Path

from inheritune.evaluation.first_tokens import first_tokens, same_tokens
from inheritune.models.llama_cpp import greedy
from inheritune.models.reference import load_reference


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path)
    place = parser.parse_args().model
    loaded = load_reference(str(place), None)
    ours = first_tokens(loaded.model, loaded.tokenizer)
    theirs = greedy(place, [own.prompt for own in ours], len(ours[0].tokens))
    print(same_tokens(ours, theirs).model_dump_json())


if __name__ == "__main__":
    main()
