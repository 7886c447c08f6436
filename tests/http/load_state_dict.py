#!/usr/bin/env python3
"""The weights that a job leaves load into PyTorch, and mean the same there.

For each architecture: a job trains a few steps on the digits through the daemon, its
model.safetensors goes into the PyTorch module of that architecture with
load_state_dict(strict=True), and PyTorch's loss and accuracy on the test split equal those of the
job's last eval event. The safetensors reader here follows the format's description and shares
nothing with ours. Without PyTorch every case is skipped.

DPSGD_BIN: the daemon. DIGITS: daemon/data/digits.bin.gz. Prints TAP.
"""
import gzip
import json
import os
import signal
import struct
import subprocess
import sys
import tempfile
import time
import urllib.request

try:
    import torch
    from torch import nn
except ImportError:
    torch = None

CASES = {}
DEADLINE_S = 120
LOSS_TOLERANCE = 1e-4  # float32 sums over 357 records, in another order


def case(*layers):
    """The JSON layers of a model; the decorated function builds the same model in PyTorch."""
    def add(build):
        CASES[build.__name__] = (layers, build)
        return build
    return add


@case({"op": "conv2d", "in_channels": 1, "out_channels": 8, "kernel_size": [3, 2], "padding": 1},
      {"op": "group_norm", "num_groups": 4, "num_channels": 8},
      {"op": "relu"},
      {"op": "conv2d", "in_channels": 8, "out_channels": 8, "kernel_size": 3, "groups": 4,
       "padding": "same", "padding_mode": "reflect", "bias": False},
      {"op": "instance_norm2d", "num_features": 8, "affine": True},
      {"op": "prelu", "num_parameters": 8},
      {"op": "max_pool2d", "kernel_size": 2},
      {"op": "conv_transpose2d", "in_channels": 8, "out_channels": 4, "kernel_size": 2, "stride": 2},
      {"op": "flatten"},
      {"op": "linear", "in_features": 256, "out_features": 10})
def convolutions():
    return nn.Sequential(
        nn.Conv2d(1, 8, (3, 2), padding=1), nn.GroupNorm(4, 8), nn.ReLU(),
        nn.Conv2d(8, 8, 3, groups=4, padding="same", padding_mode="reflect", bias=False),
        nn.InstanceNorm2d(8, affine=True), nn.PReLU(8), nn.MaxPool2d(2),
        nn.ConvTranspose2d(8, 4, 2, stride=2), nn.Flatten(), nn.Linear(256, 10))


class Recurrent(nn.Module if torch else object):
    """Rows of the image as steps; the last layer's final states, both directions."""
    def __init__(self, cell, directions):
        super().__init__()
        self.cell = cell
        self.fc = nn.Linear(cell.hidden_size * directions, 10)
        self.directions = directions

    def forward(self, x):
        _, final = self.cell(x.flatten(1, 2))
        final = final[0] if isinstance(final, tuple) else final
        return self.fc(torch.cat(list(final[-self.directions:]), dim=-1))


def recurrent_layers(op, **options):
    directions = 2 if options.get("bidirectional") else 1
    return ({"op": "reshape", "shape": [8, 8]},
            {"op": op, "name": "cell", "hidden_size": 6, "return": "last_hidden", **options},
            {"op": "linear", "name": "fc", "in_features": 6 * directions, "out_features": 10})


@case(*recurrent_layers("lstm", num_layers=2, bidirectional=True))
def lstm():
    return Recurrent(nn.LSTM(8, 6, num_layers=2, bidirectional=True, batch_first=True), 2)


@case(*recurrent_layers("gru", num_layers=2))
def gru():
    return Recurrent(nn.GRU(8, 6, num_layers=2, batch_first=True), 1)


@case({"op": "reshape", "shape": [8, 8]},
      {"op": "layer_norm", "name": "norm", "normalized_shape": 8},
      {"op": "transformer_encoder_layer", "name": "encoder", "d_model": 8, "nhead": 2,
       "dim_feedforward": 12, "dropout": 0},
      {"op": "multihead_attention", "name": "attention", "embed_dim": 8, "num_heads": 4},
      {"op": "flatten"},
      {"op": "linear", "name": "fc", "in_features": 64, "out_features": 10})
def attention():
    class Attention(nn.Module):
        def __init__(self):
            super().__init__()
            self.norm = nn.LayerNorm(8)
            self.encoder = nn.TransformerEncoderLayer(8, 2, 12, dropout=0, batch_first=True)
            self.attention = nn.MultiheadAttention(8, 4, batch_first=True)
            self.fc = nn.Linear(64, 10)

        def forward(self, x):
            x = self.encoder(self.norm(x.flatten(1, 2)))
            x, _ = self.attention(x, x, x, need_weights=False)
            return self.fc(x.flatten(1))
    return Attention()


def read_safetensors(raw):
    """{name: tensor}: 8 bytes length, that much JSON, then the data."""
    size = struct.unpack("<Q", raw[:8])[0]
    tensors = {}
    for name, entry in json.loads(raw[8:8 + size]).items():
        if name == "__metadata__":
            continue
        assert entry["dtype"] == "F32", entry
        begin, end = entry["data_offsets"]
        flat = torch.frombuffer(bytearray(raw[8 + size + begin:8 + size + end]),
                                dtype=torch.float32)
        tensors[name] = flat.reshape(entry["shape"])
    return tensors


def digits_test_split(path):
    """Images [357, 1, 8, 8] and classes: of each class every fifth record of the file."""
    raw = gzip.open(path).read()
    seen, images, classes = [0] * 10, [], []
    for at in range(0, len(raw), 65):
        label = raw[at + 64]
        seen[label] += 1
        if seen[label] % 5 == 0:
            images.append(list(raw[at:at + 64]))
            classes.append(label)
    images = torch.tensor(images, dtype=torch.float32).reshape(-1, 1, 8, 8)
    return images / 8 - 1, torch.tensor(classes)


class Daemon:
    """The daemon on loopback, in a state folder of its own, for a with block."""
    def __enter__(self):
        self.folder = tempfile.TemporaryDirectory(prefix="dpsgd-test-")
        state = os.path.join(self.folder.name, "state")
        self.process = subprocess.Popen(
            [os.environ["DPSGD_BIN"], "--state-dir", state, "--listen", "127.0.0.1:0"],
            stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
        line = self.process.stdout.readline()
        while line and not line.startswith("listening on "):
            line = self.process.stdout.readline()
        self.url = "http://" + line.split()[-1]
        with open(os.path.join(state, "admin.token"), encoding="ascii") as token:
            self.auth = "Bearer " + token.read().strip()
        return self

    def __exit__(self, *_):
        self.process.send_signal(signal.SIGTERM)
        self.process.wait(timeout=60)
        self.process.stdout.close()
        self.folder.cleanup()

    def ask(self, path, body=None):
        request = urllib.request.Request(self.url + path, headers={"Authorization": self.auth})
        if body is not None:
            request.data = json.dumps(body).encode()
            request.add_header("Content-Type", "application/json")
        with urllib.request.urlopen(request, timeout=DEADLINE_S) as answer:
            return answer.read()

    def train(self, name, layers):
        """The job's id, once it has succeeded."""
        job = {"name": name, "dataset": "digits", "model": {"layers": list(layers)},
               "loss": "cross_entropy", "optimizer": {"type": "sgd", "lr": 0.05},
               "privacy": {"noise_multiplier": 20, "delta": 1e-5, "max_grad_norm": 1},
               "train": {"batch_size": 256, "steps": 5, "eval_every": 5}}
        job = json.loads(self.ask("/jobs", job))
        deadline = time.monotonic() + DEADLINE_S
        while job["status"] not in ("succeeded", "failed", "cancelled"):
            if time.monotonic() > deadline:
                raise TimeoutError(f"job {job['id']} is still {job['status']}")
            time.sleep(0.05)
            job = json.loads(self.ask("/jobs/" + job["id"]))
        if job["status"] != "succeeded":
            raise RuntimeError(f"job {job['id']}: {json.dumps(job)}")
        return job["id"]

    def last_eval(self, job):
        page = json.loads(self.ask(f"/jobs/{job}/events?limit=1000"))
        return [e for e in page["data"] if e["event"] == "eval"][-1]


def check(daemon, name, images, classes):
    """None, or what differs."""
    layers, build = CASES[name]
    job = daemon.train(name, layers)
    theirs = daemon.last_eval(job)
    module = build()
    module.load_state_dict(
        read_safetensors(daemon.ask(f"/jobs/{job}/artifacts/model.safetensors")), strict=True)
    module.eval()
    with torch.no_grad():
        logits = module(images)
        loss = nn.functional.cross_entropy(logits, classes).item()
        accuracy = (logits.argmax(1) == classes).float().mean().item()
    if abs(loss - theirs["loss"]) > LOSS_TOLERANCE:
        return f"loss {loss} in PyTorch, {theirs['loss']} in the daemon"
    if abs(accuracy - theirs["accuracy"]) > 1.5 / len(classes):  # a near tie may fall either way
        return f"accuracy {accuracy} in PyTorch, {theirs['accuracy']} in the daemon"
    return None


def main():
    names = list(CASES)
    if torch is None:
        print(f"1..0 # SKIP {len(names)} cases: PyTorch is not installed")
        return 0
    print(f"1..{len(names)}")
    images, classes = digits_test_split(os.environ["DIGITS"])
    failed = 0
    with Daemon() as daemon:
        for i, name in enumerate(names, 1):
            try:
                wrong = check(daemon, name, images, classes)
            except (RuntimeError, OSError, TimeoutError) as e:
                wrong = str(e)
                if hasattr(e, "read"):
                    wrong += " " + e.read().decode()
            failed += wrong is not None
            print("ok" if wrong is None else "not ok", i, "-", "load_state_dict", name)
            if wrong:
                print("#", wrong.replace("\n", "\n# "))
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
