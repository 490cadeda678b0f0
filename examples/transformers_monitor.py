"""A Hugging Face training that says what is wrong with it; `MonitorCallback` is there to be copied.

    python examples/transformers_monitor.py [--fault rate | --fault constant] [--out monitor.html]

It needs `pip install transformers accelerate`. A GPT-2 of two layers learns a Markov chain: nothing to download.
"""

import argparse
import contextlib
import tempfile
from typing import Any

import torch
from torch import Tensor, nn
from transformers import GPT2Config, GPT2LMHeadModel, PrinterCallback, Trainer, TrainerCallback, TrainingArguments

from steepest.diagnose import Monitor
from steepest.init import Constant, initialize


class MonitorCallback(TrainerCallback):
    """Watches a Trainer; its `monitor` is there from the start of the training on, and after it."""

    def __init__(self) -> None:
        self.hooks = contextlib.ExitStack()

    def on_train_begin(self, *_: Any, model: nn.Module, optimizer: Any, **__: Any) -> None:
        """Begin. The monitor sees each step itself: in on_step_end the gradients are gone."""
        self.close()  # if the Trainer tries anew with smaller batches
        self.monitor = self.hooks.enter_context(Monitor(model, optimizer))

    def on_log(self, _: Any, state: Any, __: Any, logs: dict[str, float], **___: Any) -> None:
        """Tell the monitor the loss of the step just taken; it is logged every `logging_steps`."""
        if "loss" in logs:
            self.monitor.record(state.global_step - 1, logs["loss"])

    def on_train_end(self, *_: Any, **__: Any) -> None:
        """Remove every hook."""
        self.close()

    def close(self) -> None:
        """Remove every hook; for `contextlib.closing`, because a Trainer does not tell its callbacks of an error."""
        self.hooks.close()


def markov_chain(words: int = 24, length: int = 32, number: int = 1024) -> list[dict[str, Tensor]]:
    """Return sentences in which only a few words are likely to follow a word."""
    generator = torch.Generator().manual_seed(0)
    follows = torch.randn(words, words, generator=generator).mul(3).softmax(dim=1)
    text = [torch.randint(words, (number,), generator=generator)]
    for _ in range(length - 1):
        text.append(follows[text[-1]].multinomial(1, generator=generator).flatten())
    return [{"input_ids": sentence, "labels": sentence} for sentence in torch.stack(text, dim=1)]


def gpt2(fault: str | None = None, words: int = 24, length: int = 32) -> GPT2LMHeadModel:
    """Return a small GPT-2."""
    size = {"vocab_size": words, "n_positions": length, "n_embd": 32, "n_layer": 2, "n_head": 2}
    model = GPT2LMHeadModel(GPT2Config(**size, bos_token_id=0, eos_token_id=0))
    scheme = Constant(0.02) if fault == "constant" else "xavier"
    initialize(model, scheme, data=torch.zeros(1, length, dtype=torch.long), depth_scaled=True)
    return model


def train(model: GPT2LMHeadModel, callback: TrainerCallback | None = None, lr: float = 3e-3, **options: Any) -> None:
    """Train for 60 steps."""
    bare = {"report_to": "none", "save_strategy": "no", "disable_tqdm": True, "use_cpu": True}
    size = {"max_steps": 60, "per_device_train_batch_size": 32}
    logs = {"logging_steps": 1, "logging_nan_inf_filter": False}  # the filter would hide a loss that is NaN
    with tempfile.TemporaryDirectory() as folder:
        args = TrainingArguments(folder, learning_rate=lr, **{**bare, **size, **logs, **options})
        trainer = Trainer(model, args, train_dataset=markov_chain(), callbacks=[callback] if callback else None)
        trainer.remove_callback(PrinterCallback)
        trainer.train()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--fault", choices=["rate", "constant"], help="1000 times the rate, or weights of one value")
    parser.add_argument("--out", help="an HTML file for the picture of the run")
    given = parser.parse_args()
    torch.set_num_threads(1)  # more would only wait for one another
    with contextlib.closing(MonitorCallback()) as callback:
        train(gpt2(given.fault), callback, lr=3.0 if given.fault == "rate" else 3e-3)
    print(callback.monitor.diagnosis())
    if given.out:
        callback.monitor.summary().plot().write_html(given.out)
