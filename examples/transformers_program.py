"""A Trainer of Transformers as a program that steepest compare runs: a small GPT-2 reads text, byte by byte.

    steepest compare --program examples/transformers_program.py:run --optimizers adamw,muon,scion

It needs `pip install transformers accelerate`. The text is the source of Python's own `argparse`: nothing to download.
"""

import argparse
import inspect
import tempfile

import torch
from torch import Tensor
from transformers import GPT2Config, GPT2LMHeadModel, PrinterCallback, Trainer, TrainingArguments

from steepest.train import Trial, transformers_callback

CONTEXT, STEPS = 32, 60


def windows() -> list[dict[str, Tensor]]:
    """Return windows of the text as bytes, each its own label: the model shifts them."""
    text = torch.tensor(list(inspect.getsource(argparse).encode("ascii", "replace")))
    return [{"input_ids": window, "labels": window} for window in text.unfold(0, CONTEXT, CONTEXT)]


def run(trial: Trial) -> None:
    """Train once."""
    torch.manual_seed(trial.seed)
    size = {"vocab_size": 128, "n_positions": CONTEXT, "n_embd": 32, "n_layer": 2, "n_head": 2}
    model = GPT2LMHeadModel(GPT2Config(**size, bos_token_id=0, eos_token_id=0))
    trial.initialize(model, torch.zeros(1, CONTEXT, dtype=torch.long))
    optimizer = trial.optimizer(model)
    steps = trial.steps or STEPS
    data = windows()
    cut = len(data) * 9 // 10
    with tempfile.TemporaryDirectory() as folder:
        arguments = TrainingArguments(
            folder,
            seed=trial.seed,  # it would be 42 in every run
            max_steps=steps,
            per_device_train_batch_size=16,
            per_device_eval_batch_size=128,
            eval_strategy="steps",
            eval_steps=max(1, steps // 3),
            eval_on_start=True,
            max_grad_norm=1.0,
            save_strategy="no",
            report_to="none",
            disable_tqdm=True,
            use_cpu=True,
        )
        trainer = Trainer(
            model,
            arguments,
            train_dataset=data[:cut],
            eval_dataset=data[cut:],
            optimizers=(optimizer, trial.scheduler(optimizer, steps)),
            callbacks=[transformers_callback(trial)],
        )
        trainer.remove_callback(PrinterCallback)
        trainer.train()
