"""The tracker and the loss on rivals, on a model that FSDP2 shards over two processes."""

import os
import socket
import subprocess
import sys

import pytest
import torch
from safetensors.torch import load_file
from tests.hosts import TIED, UNTIED

from borngap.runfolder import read_run


@pytest.fixture(autouse=True)
def one_thread():
    torch.set_num_threads(1)


LOOP = """
import sys, torch, torch.distributed as dist
from pathlib import Path
import borngap
from borngap.context import Context
from borngap.track.tracker import Tracker
from torch.distributed.fsdp import fully_shard

TIED = "docs-gpt2-s"
TEXTS = ["Call this method.", "The method raises an exception.", "No exception is raised.", "It raises an error."]

def run(name, out, shard):
    loaded = borngap.load(name)
    model = shard(loaded.model)
    contexts = [Context("The function raises an", " error", " exception"), Context("Call this", " method", " function")]
    words = {"terms": [("method", "function"), ("exception", "error")], "dataset": TEXTS, "allowed": [3]}
    tracker = Tracker(model, loaded.tokenizer, contexts, every=1, out=Path(out) / name, **words)
    optimiser = torch.optim.AdamW(model.parameters(), lr=1e-3, foreach=False)
    row = torch.tensor([loaded.tokenizer("The function returns a list of keys.")["input_ids"]])
    for step in range(1, 4):
        model(input_ids=row, labels=row).loss.backward()
        optimiser.step()
        optimiser.zero_grad()
        tracker.step(step)
    tracker.finish()
    assert borngap.readout_of(model).tied == (not name.endswith("untied"))

def rivals(method, out, shard):
    # rows shared out among the processes; what a host divides by is counted over all, and FSDP averages gradients
    from peft import LoraConfig, get_peft_model
    from safetensors.torch import save_file

    loaded = borngap.load(TIED)
    torch.manual_seed(0)
    config = LoraConfig(target_modules=["c_attn"], fan_in_fan_out=True)
    model = shard(get_peft_model(loaded.model, config) if method == "lora" else loaded.model)
    rank, world = (dist.get_rank(), dist.get_world_size()) if dist.is_initialized() else (0, 1)
    words = [("method", "function"), ("exception", "error")]
    loss = borngap.RivalLoss(words, loaded.tokenizer, weight=3, margin=2)
    needed = {name: p for name, p in model.named_parameters() if p.requires_grad}
    optimiser = torch.optim.AdamW(needed.values(), lr=1e-2, eps=1e-3, weight_decay=0.0, foreach=False)
    rows = [torch.tensor([loaded.tokenizer(text)["input_ids"]]) for text in TEXTS]
    items = sum(row.shape[1] - 1 for row in rows)
    for _ in range(3):
        for row in rows[rank::world]:
            (loss(model(input_ids=row), row, items) * world).backward()
        optimiser.step()
        optimiser.zero_grad()
    numbers = loss.numbers()
    told = torch.tensor([numbers["rival_loss/" + name] for name in ("targets", "share")])
    whole = {name: getattr(p, "full_tensor", lambda p=p: p)().detach().clone() for name, p in needed.items()}
    Path(out).mkdir(exist_ok=True)
    save_file(whole | {"told": told}, Path(out) / f"{method}-{rank}.safetensors")

def shard(model):
    mesh = torch.distributed.device_mesh.init_device_mesh("cpu", (2,))
    inner = model.get_base_model() if hasattr(model, "get_base_model") else model
    for block in inner.base_model.h:
        fully_shard(block, mesh=mesh)
    return fully_shard(model, mesh=mesh)

if __name__ == "__main__":
    torch.set_num_threads(1)
    dist.init_process_group("gloo")
    for name in sys.argv[2:]:
        run(name, sys.argv[1], shard)
    for method in ("full", "lora"):
        rivals(method, sys.argv[1], shard)
    dist.destroy_process_group()
"""


def test_fsdp2_in_two_processes_gives_the_observables_and_losses_of_the_unsharded_run(tmp_path):
    script = tmp_path / "loop.py"
    script.write_text(LOOP)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, str(script), str(tmp_path / "sharded"), TIED, UNTIED]
    shared = os.environ | {"WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    ranks = [subprocess.Popen(command, env=shared | {"RANK": str(rank)}, stderr=subprocess.PIPE) for rank in range(2)]
    space = {"__name__": "loop"}
    exec(LOOP, space)
    for name in (TIED, UNTIED):
        space["run"](name, tmp_path / "whole", lambda model: model)
    for method in ("full", "lora"):
        space["rivals"](method, tmp_path / "whole", lambda model: model)
    for process in ranks:
        _, errors = process.communicate(timeout=180)
        assert process.returncode == 0, errors.decode()[-3000:]
    for name in (TIED, UNTIED):
        sharded, whole = read_run(tmp_path / "sharded" / name), read_run(tmp_path / "whole" / name)
        assert (
            sharded.steps["step"].to_list() == whole.steps["step"].to_list() == [0, 1, 2, 3] * 7
        )  # contexts and places
        shares = [run.usage.select("step", "success", "first", "over_use") for run in (sharded, whole)]
        assert shares[0].equals(shares[1])
        assert set(whole.usage["success"]) <= {0.0, 0.25, 0.5, 0.75, 1.0}
        assert abs(whole.steps["overlap_drift"][3]) > 1e-5
        for column in sharded.steps.columns[2:]:
            a, b = sharded.steps[column].to_list(), whole.steps[column].to_list()
            assert [x is None for x in a] == [x is None for x in b], column
            a, b = ([x for x in xs if x is not None] for xs in (a, b))
            assert a == pytest.approx(b, rel=2e-4, abs=2e-5), column
        assert [e["outcomes"] for e in sharded.verdicts] == [e["outcomes"] for e in whole.verdicts]
    for method in ("full", "lora"):
        whole = load_file(tmp_path / "whole" / f"{method}-0.safetensors")
        ranks = [load_file(tmp_path / "sharded" / f"{method}-{rank}.safetensors") for rank in range(2)]
        told = whole.pop("told"), [own.pop("told") for own in ranks]
        assert told[0][1] > 0.1, "the term is a part of the loss that counts"
        # places a batch: a process with rows of its own sees its own; one of its rows has none
        assert [float(own[0]) for own in told[1]] == [1.0, 1.0]
        assert whole.keys() == ranks[0].keys()
        for name, value in whole.items():
            assert torch.equal(ranks[0][name], ranks[1][name]), name
            torch.testing.assert_close(ranks[0][name], value, rtol=0, atol=2e-5, msg=name)
