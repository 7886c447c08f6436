#!/usr/bin/env python3
"""Random PyTorch models as TorchScript files, with per-sample gradients computed in float64.

    draw_models.py --seed 1 --count 40 --out DIR     writes NAME.trace.pt, NAME.script.pt and
                                                     NAME.safetensors, the reference beside them
    draw_models.py --seed 1 --count 40 --run build/tests/golden/oracle_import
                                                     draws, runs every mode, prints TAP

Each model is a class in a source file of its own, so that scripting sees the code a user would
write: modules, functional calls, views, loops over module lists, arithmetic on sizes. What it is
traced with has another batch size than what the reference was computed on. A model that PyTorch
itself cannot script is there as a trace only. Without PyTorch --run prints a SKIP.
"""
import argparse
import importlib.util
import os
import random
import subprocess
import sys
import tempfile
import warnings

from draw_cases import MODES, write_safetensors

try:
    import torch
    from torch.nn import functional as F
except ImportError:
    torch = None

CLASSES = 3
TRACED_BATCH = 7

ACTIVATIONS = ("F.relu({x})", "torch.tanh({x})", "{x}.sigmoid()", "F.gelu({x})", "F.silu({x})",
               "F.softplus({x})", "F.leaky_relu({x}, 0.1)", "F.elu({x})", "{x} * torch.sigmoid({x})",
               "torch.sin({x})", "F.hardtanh({x}, -0.5, 0.8)", "torch.clamp({x}, min=-0.7)",
               "(1 + {x} ** 2).sqrt()", "F.log_softmax({x}, -1)", "torch.exp(-{x}.abs())", "self.{m}({x})")
MODULES = ("nn.ReLU()", "nn.Tanh()", "nn.GELU()", "nn.SELU()", "nn.Hardswish()", "nn.PReLU()",
           "nn.Softmax(-1)", "nn.Mish()", "nn.Softsign()", "nn.Identity()", "nn.Dropout(0.0)")


class Draw:
    """The text of a model under construction, and the shape of one sample where it stands."""

    def __init__(self, rng):
        self.rng, self.init, self.body, self.n = rng, [], [], 0
        self.ids = 0
        start = rng.choice(("vector", "image", "image", "sequence", "sequence", "tokens", "line"))
        self.shape = {"vector": (rng.choice((4, 6, 8)),),
                      "image": (rng.choice((1, 2, 4)), rng.choice((6, 7, 8)), rng.choice((6, 8))),
                      "sequence": (rng.choice((3, 5, 6)), rng.choice((4, 6, 8))),
                      "line": (rng.choice((2, 4)), rng.choice((8, 9))),
                      "tokens": (rng.choice((4, 6)),)}[start]
        self.kind = start
        self.input_shape = self.shape
        if start == "tokens":
            self.ids = rng.choice((7, 11))
            self.embed()

    def pick(self, *choices):
        return self.rng.choice(choices)

    def module(self, text):
        self.n += 1
        self.init.append(f"self.m{self.n} = {text}")
        return f"m{self.n}"

    def do(self, text):
        self.body.append(text)

    def to(self, kind, *shape):
        self.kind, self.shape = kind, shape

    # ---- any shape ----
    def plain(self):
        """Operators that keep the shape of their kind."""
        any_kind = ("x = x.clone()\nx.add_(0.25)", "x = x.mul(2).sub_(x * 0.5)", "x = -x", "x = x / 3 + 1",
                    "x = torch.where(x > 0, x, 0.3 * x)", "x = x.masked_fill(x < -1, -1.0)",
                    "x = torch.maximum(x, -x * 0.1)", "x = x.flip(-1)", "x = torch.roll(x, 1, -1)",
                    "x = x - x.mean(-1, keepdim=True)", "x = x / (1 + x.std(dim=-1, keepdim=True))",
                    "x = x / (1e-3 + x.norm(dim=-1, keepdim=True))", "x = torch.cumsum(x, dim=-1) / 4",
                    "x = F.normalize(x, dim=-1)", "x = x.unsqueeze(1).squeeze(1)", "x = torch.stack([x, x.tanh()]).mean(0)",
                    "x = torch.stack([x, x * x], dim=-1).sum(-1)", "x = torch.log1p(x.abs())", "y = F.relu(x, inplace=False)\nx = x + y",
                    "x = torch.addcmul(x, x, x, value=0.1)", "x = x.pow(3) * 0.1 + x", "x = torch.rsqrt(1 + x * x)",
                    "x = F.layer_norm(x, [x.size(-1)])", "x = torch.lerp(x, x.tanh(), 0.3)", "x = x.view(x.shape)",
                    "x = 1.0 * x", "x = torch.exp(x - x.max(dim=-1, keepdim=True)[0])",
                    "x = torch.sinh(0.3 * x) + torch.erf(x)", "x = torch.logaddexp(x, 0.5 * x)", "x = x.norm(p=3, dim=-1, keepdim=True) + x",
                    "x = x.mul(1.5)\nx.tanh_()", "y = 2 * x\nx = x * 1\nx.sub_(1)\nx = x * y",
                    "x = F.cosine_similarity(x, x + 1, dim=-1).unsqueeze(-1) * x",
                    "if x.size(-1) > 2:\n    x = x * 2\nelse:\n    x = x * 3",
                    "for i in range(2):\n    x = x + 0.1 * i * x.cos()")
        for line in self.pick(*any_kind).split("\n"):
            self.do(line)

    def cut(self):
        """Slices and joins along the first axis of a sample."""
        n = self.shape[0]
        if n < 2:
            return
        rest = self.shape[1:]
        text, size = self.pick(("x = x[:, 1:]", n - 1), ("x = x[:, :-1]", n - 1), ("x = x[:, ::2]", (n + 1) // 2),
                               ("x = x.narrow(1, 0, 1)", 1), ("x = torch.cat([x, x[:, :1]], 1)", n + 1),
                               ("x = torch.cat((x[:, 1:], x[:, 0:1]), dim=1)", n),
                               ("a, b = torch.split(x, [1, %d], dim=1)\nx = b - a" % (n - 1), n - 1),
                               ("x = torch.index_select(x, 1, torch.tensor([0, %d]))" % (n - 1), 2),
                               ("x = x[:, [%d, 0]]" % (n - 1), 2))
        for line in text.split("\n"):
            self.do(line)
        self.to(self.kind, size, *rest)

    def activation(self):
        text = self.pick(*ACTIVATIONS)
        name = self.module(self.pick(*MODULES)) if "{m}" in text else ""
        self.do("x = " + text.format(x="x", m=name))

    # ---- tokens ----
    def embed(self):
        d = self.pick(4, 6)
        if self.rng.random() < 0.3:
            m = self.module(f"nn.EmbeddingBag({self.ids}, {d}, mode='{self.pick('mean', 'sum')}')")
            self.do(f"x = self.{m}(x)")
            self.to("vector", d)
            return
        padding = self.pick("", ", padding_idx=1")
        m = self.module(f"nn.Embedding({self.ids}, {d}{padding})")
        self.do(f"x = self.{m}(x)")
        self.to("sequence", self.shape[0], d)

    # ---- vectors and the last axis of sequences ----
    def linear(self):
        d, o = self.shape[-1], self.pick(4, 6, 8)
        m = self.module(f"nn.Linear({d}, {o}, bias={self.pick(True, True, False)})")
        self.do(f"x = self.{m}(x)")
        self.to(self.kind, *self.shape[:-1], o)

    def layer_norm(self):
        m = self.module(f"nn.LayerNorm({self.shape[-1]})")
        self.do(f"x = self.{m}(x)")

    def residual(self):
        d = self.shape[-1]
        m = self.module(f"nn.Sequential(nn.Linear({d}, 5), nn.Tanh(), nn.Linear(5, {d}))")
        self.do(f"x = x + {self.pick('', '0.5 * ')}self.{m}(x)")

    def loop(self):
        d = self.shape[-1]
        m = self.module(f"nn.ModuleList([nn.Linear({d}, {d}) for _ in range(2)])")
        self.do(f"for layer in self.{m}:\n            x = torch.tanh(layer(x)) + x")

    def tied(self):
        d = self.shape[-1]
        m = self.module(f"nn.Linear({d}, {d})")
        self.do(f"x = self.{m}(torch.tanh(self.{m}(x)))")

    def gate(self):
        d = self.shape[-1]
        m = self.module(f"nn.Linear({d}, {2 * d})")
        self.do(f"a, b = self.{m}(x).chunk(2, dim=-1)")
        self.do("x = a * torch.sigmoid(b)")

    def parameter(self):
        d = self.shape[-1]
        m = self.module(f"nn.Parameter(torch.randn({d}, {d}) / {d})")
        self.do(f"x = {self.pick(f'x @ self.{m}', f'torch.matmul(x, self.{m}.t())', f'F.linear(x, self.{m})')}")

    def scale(self):
        d = self.shape[-1]
        m = self.module(f"nn.Parameter(torch.rand({d}))")
        self.do(f"x = x * (1 + self.{m})")

    def concat(self):
        d = self.shape[-1]
        m = self.module(f"nn.Linear({d}, 2)")
        self.do(f"x = torch.cat([x, self.{m}(x)], dim=-1)")
        self.to(self.kind, *self.shape[:-1], d + 2)

    def split_vector(self):
        d = self.shape[0]
        if d % 2 == 0:
            self.do(f"x = x.{self.pick('view', 'reshape')}(x.size(0), 2, {self.pick(-1, d // 2)})")
            self.to("sequence", 2, d // 2)

    # ---- sequences [T, D] ----
    def recurrent(self):
        kind, h = self.pick("LSTM", "GRU", "RNN"), self.pick(3, 4)
        both, layers = self.pick(False, False, True), self.pick(1, 1, 2)
        m = self.module(f"nn.{kind}({self.shape[1]}, {h}, {layers}, batch_first=True, bidirectional={both})")
        self.do(f"x, _ = self.{m}(x)")
        self.to("sequence", self.shape[0], h * (1 + both))

    def recurrent_time_first(self):
        h = self.pick(3, 4)
        m = self.module(f"nn.GRU({self.shape[1]}, {h})")
        self.do(f"x = self.{m}(x.transpose(0, 1))[0].transpose(0, 1)")
        self.to("sequence", self.shape[0], h)

    def attention(self):
        d = self.shape[1]
        heads = self.pick(1, 2) if d % 2 == 0 else 1
        m = self.module(f"nn.MultiheadAttention({d}, {heads}, batch_first=True)")
        self.do(f"x = self.{m}(x, x, x, need_weights=False)[0]")

    def own_attention(self):
        d = self.shape[1]
        m = self.module(f"nn.Linear({d}, {3 * d})")
        self.do(f"q, k, v = self.{m}(x).split({d}, dim=2)")
        self.do(f"s = torch.bmm(q, k.transpose(1, 2)) / {d} ** 0.5")
        if self.rng.random() < 0.5:
            t = self.shape[0]
            self.do(f"mask = torch.triu(torch.ones({t}, {t}), diagonal=1) > 0")
            self.do("s = s.masked_fill(mask, -1e9)")
        self.do("x = x + torch.softmax(s, dim=-1) @ v")

    def heads(self):
        t, d = self.shape
        if d % 2:
            return
        m = self.module(f"nn.Linear({d}, {d})")
        self.do("B = x.size(0)")
        self.do(f"h = self.{m}(x).view(B, {t}, 2, {d // 2}).permute(0, 2, 1, 3)")
        self.do("h = torch.softmax(h @ h.transpose(-2, -1), -1) @ h")
        self.do(f"x = h.transpose(1, 2).contiguous().view(B, {t}, {d})")

    def encoder(self):
        d = self.shape[1]
        if d % 2:
            return
        first = self.pick(True, False)
        m = self.module(f"nn.TransformerEncoderLayer({d}, 2, 7, dropout=0.0, batch_first=True, "
                        f"norm_first={first})")
        self.do(f"x = self.{m}(x)")

    def position(self):
        t, d = self.shape
        m = self.module(f"nn.Parameter(torch.randn(1, {t}, {d}) / 2)")
        self.do(f"x = x + self.{m}")

    def einsum(self):
        t, d = self.shape
        m = self.module(f"nn.Parameter(torch.randn({d}, 4) / {d})")
        self.do(self.pick(f"x = torch.einsum('btd,de->bte', x, self.{m})",
                          f"x = torch.einsum('nsk,kc->nsc', x, self.{m})"))
        self.to("sequence", t, 4)

    def gram(self):
        t, d = self.shape
        self.do(self.pick("x = torch.einsum('btd,bsd->bts', x, x) / 4", "x = x @ x.transpose(-1, -2) / 4",
                          "x = torch.bmm(x, x.permute(0, 2, 1)) / 4"))
        self.to("sequence", t, t)

    def fold_steps(self):
        t, d = self.shape
        m = self.module(f"nn.Linear({d}, {d})")
        self.do(f"y = x.{self.pick('reshape', 'contiguous().view')}(-1, {d})")
        self.do(f"x = self.{m}(y).view(x.size(0), {t}, {d})")

    def own_recurrence(self):
        t, d = self.shape
        m = self.module(f"nn.Linear({2 * d}, {d})")
        self.do(f"h = torch.zeros(x.size(0), {d})")
        self.do(f"for t in range({t}):\n            h = torch.tanh(self.{m}(torch.cat([x[:, t], h], dim=1)))")
        self.do("x = h")
        self.to("vector", d)

    def transpose(self):
        self.do(f"x = x.{self.pick('transpose(1, 2)', 'permute(0, 2, 1)')}")
        self.to("line", self.shape[1], self.shape[0])

    def reduce(self):
        text, keep = self.pick(("x.mean(dim=1)", 1), ("x[:, -1]", 1), ("x.max(dim=1)[0]", 1),
                               ("x.sum(2)", 0), ("x.flatten(1)", 2), ("torch.mean(x, 1)", 1),
                               ("x.reshape(x.shape[0], -1)", 2), ("x[:, 0, :]", 1))
        self.do("x = " + text)
        t, d = self.shape
        self.to("vector", (t, d, t * d)[keep])

    # ---- lines [C, L] ----
    def conv1d(self):
        c, n = self.shape
        o, k, s = self.pick(3, 4), self.pick(1, 2, 3), self.pick(1, 1, 2)
        if k > n:
            return
        padding = self.pick("0", "1", "'same'") if s == 1 and k == 3 else "0"
        m = self.module(f"nn.Conv1d({c}, {o}, {k}, stride={s}, padding={padding})")
        self.do(f"x = self.{m}(x)")
        self.to("line", o, n if padding != "0" else (n - k) // s + 1)

    def line_norm(self):
        c = self.shape[0]
        if self.shape[1] < 2:
            return
        m = self.module(self.pick(f"nn.GroupNorm(1, {c})", f"nn.InstanceNorm1d({c}, affine=True)"))
        self.do(f"x = self.{m}(x)")

    def line_pool(self):
        if self.shape[1] < 4:
            return
        text = self.pick("F.max_pool1d(x, 2)", "F.avg_pool1d(x, 2)")
        self.do("x = " + text)
        self.to("line", self.shape[0], self.shape[1] // 2)

    # ---- images [C, H, W] ----
    def conv2d(self):
        c, h, w = self.shape
        k, s, p = self.pick(1, 2, 3), self.pick(1, 1, 2), self.pick(0, 1)
        groups = c if c > 1 and self.rng.random() < 0.3 else 1
        o = c * self.pick(1, 2) if groups > 1 else self.pick(2, 4)
        d = 2 if min(h, w) >= 6 and k == 2 and self.rng.random() < 0.3 else 1
        out = [(v + 2 * p - d * (k - 1) - 1) // s + 1 for v in (h, w)]
        if min(out) < 2 or o > 8:
            return
        m = self.module(f"nn.Conv2d({c}, {o}, {k}, stride={s}, padding={p}, dilation={d}, "
                        f"groups={groups}, bias={self.pick(True, False)})")
        self.do(f"x = self.{m}(x)")
        self.to("image", o, *out)

    def image_norm(self):
        c = self.shape[0]
        m = self.module(self.pick(f"nn.GroupNorm({c if c < 3 else 2}, {c})", f"nn.GroupNorm(1, {c})",
                                  f"nn.InstanceNorm2d({c}, affine=True)"))
        self.do(f"x = self.{m}(x)")

    def pool(self):
        c, h, w = self.shape
        text, size = self.pick(("F.max_pool2d(x, 2)", (h // 2, w // 2)),
                               ("F.avg_pool2d(x, 2, stride=1)", (h - 1, w - 1)),
                               ("F.adaptive_avg_pool2d(x, (2, 2))", (2, 2)),
                               ("F.max_pool2d(x, 3, stride=2, padding=1)",
                                ((h - 1) // 2 + 1, (w - 1) // 2 + 1)))
        if min(size) >= 2:
            self.do("x = " + text)
            self.to("image", c, *size)

    def block(self):
        c = self.shape[0]
        m = self.module(f"nn.Sequential(nn.Conv2d({c}, {c}, 3, padding=1), nn.GroupNorm(1, {c}), nn.ReLU())")
        self.do(f"x = F.relu(x + self.{m}(x))")

    def pad(self):
        c, h, w = self.shape
        self.do(f"x = F.pad(x, (1, 0, 0, 1){self.pick('', ', value=0.5')})")
        self.to("image", c, h + 1, w + 1)

    def squeeze_excite(self):
        c = self.shape[0]
        m = self.module(f"nn.Linear({c}, {c})")
        self.do(f"g = torch.sigmoid(self.{m}(x.mean(dim=[2, 3])))")
        self.do("x = x * g.unsqueeze(-1).unsqueeze(-1)" if self.rng.random() < 0.5
                else "x = x * g[:, :, None, None]")

    def leave_image(self):
        c, h, w = self.shape
        way = self.pick("flatten", "mean", "patches", "view")
        if way == "flatten":
            self.do(f"x = {self.pick('torch.flatten(x, 1)', 'x.flatten(start_dim=1)')}")
            self.to("vector", c * h * w)
        elif way == "view":
            self.do(f"x = x.view(-1, {c * h * w})")
            self.to("vector", c * h * w)
        elif way == "mean":
            self.do(f"x = {self.pick('x.mean([-2, -1])', 'x.mean(3).mean(2)', 'F.adaptive_avg_pool2d(x, 1).flatten(1)')}")
            self.to("vector", c)
        else:
            self.do("x = x.flatten(2).transpose(1, 2)")
            self.to("sequence", h * w, c)

    def step(self):
        steps = {"vector": (self.linear, self.layer_norm, self.residual, self.gate, self.loop, self.tied,
                            self.parameter, self.scale, self.concat, self.split_vector),
                 "sequence": (self.linear, self.layer_norm, self.residual, self.gate, self.recurrent,
                              self.recurrent_time_first, self.attention, self.own_attention,
                              self.heads, self.encoder, self.position, self.transpose, self.tied,
                              self.parameter, self.concat, self.reduce, self.loop, self.einsum,
                              self.gram, self.fold_steps, self.own_recurrence),
                 "line": (self.conv1d, self.conv1d, self.line_norm, self.line_pool, self.transpose_back),
                 "image": (self.conv2d, self.conv2d, self.image_norm, self.pool, self.block, self.pad,
                           self.squeeze_excite)}[self.kind]
        self.pick(*steps, *steps, self.plain, self.plain, self.cut)()
        if self.rng.random() < 0.4:
            self.activation()

    def transpose_back(self):
        self.do("x = x.transpose(1, 2)")
        self.to("sequence", self.shape[1], self.shape[0])

    def text(self):
        """The finished source."""
        for _ in range(self.rng.randrange(1, 5)):
            self.step()
        while self.kind != "vector":
            {"image": self.leave_image, "sequence": self.reduce, "line": self.transpose_back}[self.kind]()
        m = self.module(f"nn.Linear({self.shape[0]}, {CLASSES})")
        self.do(f"return self.{m}(x)")
        return ("import torch\nfrom torch import nn\nfrom torch.nn import functional as F\n\n\n"
                "class Model(nn.Module):\n    def __init__(self):\n        super().__init__()\n"
                + "".join(f"        {line}\n" for line in self.init)
                + "\n    def forward(self, x):\n" + "".join(f"        {line}\n" for line in self.body))


def load_model(path):
    spec = importlib.util.spec_from_file_location("drawn_" + os.path.basename(path)[:-3], path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.Model()


def make_input(draw, n):
    if draw.ids:
        return torch.randint(draw.ids, (n, *draw.input_shape))
    return torch.randn(n, *draw.input_shape)


def instance_norm(x, running_mean=None, running_var=None, weight=None, bias=None, use_input_stats=True,
                  momentum=0.1, eps=1e-5):
    """As PyTorch's, whose own backward is wrong where the gradient comes with its axes swapped."""
    axes = list(range(2, x.dim()))
    y = (x - x.mean(axes, keepdim=True)) / (x.var(axes, unbiased=False, keepdim=True) + eps).sqrt()
    shape = [1, -1] + [1] * len(axes)
    return y if weight is None else y * weight.view(shape) + bias.view(shape)


def evaluate(model, x, target):
    """Output, loss, norm and gradients of each sample alone."""
    original, F.instance_norm = F.instance_norm, instance_norm
    try:
        return evaluate_plainly(model, x, target)
    finally:
        F.instance_norm = original


def evaluate_plainly(model, x, target):
    rows, outputs, losses = [], [], []
    for i in range(len(x)):
        model.zero_grad()
        output = model(x[i:i + 1])
        loss = F.cross_entropy(output, target[i:i + 1])
        loss.backward()
        rows.append([torch.zeros_like(p) if p.grad is None else p.grad.clone()
                     for p in model.parameters()])
        outputs.append(output.detach()[0])
        losses.append(loss.detach())
    tensors = {"output": torch.stack(outputs), "loss": torch.stack(losses),
               "norm": torch.stack([sum(g.square().sum() for g in row).sqrt() for row in rows])}
    for k, (name, _) in enumerate(model.named_parameters()):
        tensors["grad." + name] = torch.stack([row[k] for row in rows])
    return tensors


def error_of(rough, exact, least=0.0):
    return (rough - exact).abs().max().item() / max(exact.abs().max().item(), least, 1e-30)


def reference(model, x, target):
    """The numbers in float64, and ten times the errors of PyTorch's own float32: of gradients, and
    of output and loss."""
    rough = evaluate(model, x, target)
    exact = evaluate(model.double(), x if x.dtype == torch.int64 else x.double(), target)
    gradients = [k for k in exact if k.startswith("grad.") and exact[k].numel()]
    overall = max(exact[k].abs().max().item() for k in gradients)
    errors = [error_of(rough[k], exact[k], 0.01 * overall) for k in gradients]
    forward = max(error_of(rough[k], exact[k]) for k in ("output", "loss"))
    return exact, 10 * max(errors + [error_of(rough["norm"], exact["norm"])]), 10 * forward


def make_model(rng, seed, name, folder):
    """One model in all forms that PyTorch makes of it; the number of its files. Drawn again where a
    number of the reference is not finite."""
    torch.manual_seed(seed)
    source = os.path.join(folder, name + ".py")
    while True:
        draw = Draw(rng)
        with open(source, "w", encoding="utf-8") as out:
            out.write(draw.text())
        model = load_model(source).train(rng.random() < 0.5)
        n = rng.choice((2, 3, 4))
        x, target = make_input(draw, n), torch.randint(CLASSES, (n,))
        tensors, tolerance, forward = reference(model, x, target)
        finite = all(torch.isfinite(v).all() for v in tensors.values())
        if finite and tolerance + forward < 1e-3:  # neither in float64 nor in float32 is it noise
            break
    files = {"trace": torch.jit.trace(model.float(), make_input(draw, TRACED_BATCH), check_trace=False)}
    try:
        files["script"] = torch.jit.script(model)
    except (RuntimeError, torch.jit.frontend.NotSupportedError) as e:
        print(f"# {name} is not scripted: {str(e).strip().splitlines()[-1]}", file=sys.stderr)
    for kind, module in files.items():
        torch.jit.save(module, os.path.join(folder, f"{name}.{kind}.pt"))
    tensors.update(input=x, target=target)
    case = {"id": name, "loss": {"kind": "cross_entropy"}, "tolerance": tolerance,
            "output_tolerance": forward}
    write_safetensors(os.path.join(folder, name + ".safetensors"), tensors, case)
    return len(files)


def make_all(seed, count, folder):
    os.makedirs(folder, exist_ok=True)
    rng = random.Random(seed)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return sum(make_model(rng, seed * 10007 + i, f"drawn{i:03d}", folder) for i in range(count))


def run_all(program, seed, count):
    """Every mode over the drawn models, as TAP: one line per mode."""
    failed = 0
    print(f"1..{len(MODES)}")
    with tempfile.TemporaryDirectory(prefix="dpsgd-test-") as folder:
        n_files = make_all(seed, count, folder)
        for i, mode in enumerate(MODES, 1):
            done = subprocess.run([program, folder, "--format", "torchscript", "--mode", mode],
                                  capture_output=True, text=True, check=False)
            lines = done.stdout.strip().splitlines() or [done.stderr.strip()]
            good = done.returncode == 0 and lines[-1] == f"{n_files} passed, 0 failed"
            failed += not good
            print("ok" if good else "not ok", i, f"- {n_files} drawn files, seed {seed}, {mode}")
            if not good:
                print("\n".join("# " + line for line in lines))
    return 1 if failed else 0


def main():
    p = argparse.ArgumentParser(description=__doc__,
                                formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--seed", type=int, default=1)
    p.add_argument("--count", type=int, default=40)
    p.add_argument("--out", help="folder for the files")
    p.add_argument("--run", help="the program oracle_import")
    a = p.parse_args()
    if torch is None:
        print(f"1..0 # SKIP {len(MODES)} cases: PyTorch is not installed")
        return 0
    torch.set_num_threads(1)
    if a.out:
        make_all(a.seed, a.count, a.out)
    return run_all(a.run, a.seed, a.count) if a.run else 0


if __name__ == "__main__":
    sys.exit(main())
