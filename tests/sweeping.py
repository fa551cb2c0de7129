"""Small sweeps: their plans, their files, and processes beside them."""

from pathlib import Path

from borngap.context import Context
from borngap.sweep import workers
from borngap.sweep.plan import plan_sweep
from borngap.training import Training

MODEL = "docs-gpt2-s"
CONTEXTS = [
    Context("Raise an", " error", " exception"),
    Context("If the key is missing from the", " dictionary", " list"),
]
RATES = (1e-3, 4e-3)


def planned(contexts=CONTEXTS, rates=RATES, seeds=(0,), **settings):
    training = Training(**{"method": "lora", "steps": 3} | settings)
    return plan_sweep(MODEL, contexts, rates, training=training, seeds=seeds)


def files(folder):
    return {path.name: path.read_bytes() for path in Path(folder).iterdir() if path.name != "lock"}


def another_process(program, **names):
    """Run a program in a process that inherits no threads and has the libraries loaded."""
    process = workers.start_context().Process(target=exec, args=(program, names))
    process.start()
    return process
