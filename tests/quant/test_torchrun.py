"""Several processes train one network."""

import json
import os
import subprocess
import sys

import pytest

RECIPE = """
model = "codenet-tiny"
data = "scenes:split=train"
held_out = "scenes:split=test,count=2,size=128"

[pretrain]
lr = 1e-3
phases = [{ size = 64, images = 8, batch = 8 }]

[float]
lr = 1e-3
phases = [{ size = 64, images = 400, batch = 8 }]

[qat]
lr = 1e-4
phases = [{ size = 64, images = 8, batch = 8 }]
"""


@pytest.mark.slow
def test_two_processes_train_one_network_and_only_one_writes(tmp_path):
    recipe = tmp_path / "recipe.toml"
    recipe.write_text(RECIPE)
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
    command += ["-m", "codesign.cli", "train", str(recipe), "-o", str(tmp_path / "run"), "--json"]
    done = subprocess.run(
        command, capture_output=True, text=True, timeout=600, env={**os.environ, "OMP_NUM_THREADS": "1"}
    )
    assert done.returncode == 0, done.stderr
    lines = [json.loads(line) for line in (tmp_path / "run" / "float.log.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines] == [50]  # one writer, and steps count whole batches
    assert (tmp_path / "run" / "float.safetensors").is_file()
    assert json.loads((tmp_path / "run" / "figures.json").read_text())["float"].keys() >= {"ap50", "coco_ap"}


def test_a_batch_that_does_not_divide_is_refused(tmp_path, monkeypatch):
    from quant.models import build, model_config
    from quant.recipe import Phase, Stage
    from quant.train import TrainingError, train

    monkeypatch.setenv("WORLD_SIZE", "3")
    with pytest.raises(
        TrainingError, match=r"^train: batch 8 does not divide among 3 processes\. Change either\.$"
    ):
        train(build(model_config("codenet-tiny")), Stage((Phase(64, 8, 8),), 1.0), None, None, tmp_path, "x")
