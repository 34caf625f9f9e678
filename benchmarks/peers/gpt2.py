"""A GPT-2 of random weights, as transformers saves it, and with it a tokenizer of whole words."""

from pathlib import Path
from typing import Any

from benchmarks import sizes
from benchmarks.vocabulary import words


def save_gpt2(folder: str) -> None:
    """Make the model, unless it is there."""
    if (Path(folder) / "model.safetensors").exists():
        return
    import torch
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import GPT2Config, GPT2LMHeadModel, PreTrainedTokenizerFast

    vocabulary = [*sizes.SPECIAL, *words()]
    tokenizer = Tokenizer(
        models.WordLevel({word: i for i, word in enumerate(vocabulary)}, unk_token="<unk>")
    )
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    special = {"unk_token": "<unk>", "bos_token": "<s>", "eos_token": "</s>"}
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, **special).save_pretrained(folder)
    torch.manual_seed(0)
    config = GPT2Config(**sizes.GPT2, bos_token_id=1, eos_token_id=2)
    GPT2LMHeadModel(config).save_pretrained(folder)


def load_gpt2(folder: str, threads: int) -> Any:
    """Return the model, to be run in so many threads without gradients."""
    import torch
    from transformers import GPT2LMHeadModel

    save_gpt2(folder)
    torch.set_num_threads(threads)
    return GPT2LMHeadModel.from_pretrained(folder).eval().requires_grad_(False)
