#!/usr/bin/env python3
"""Random cases of per-sample gradients, computed by PyTorch in float64, one sample at a time.

    draw_cases.py --seed 1 --count 100 --out DIR     writes DIR/*.safetensors and DIR/index.json
    draw_cases.py --seed 1 --count 100 --run build/tests/golden/oracle_grads
                                                     draws, runs every mode, prints TAP

The files are what `oracle_grads` reads: inputs, parameters and target exact in float32, then output,
loss, norm and gradients of each sample. A case's tolerance is ten times the error of PyTorch's own
float32 against its float64, at least 2e-6. Without PyTorch --run prints a SKIP.
"""
import argparse
import json
import os
import random
import struct
import subprocess
import sys
import tempfile

try:
    import torch
    from torch import nn
    from torch.nn import functional as F
except ImportError:
    torch = None

MODES = ("hooks", "functorch", "ew", "ghost", "auto")
NP = {1: "1d", 2: "2d", 3: "3d"}


class Case:
    """A model under construction: nodes are run as they are added, on the whole batch, so that a
    drawer sees shapes."""

    def __init__(self, rng):
        self.rng = rng
        self.batch = rng.choice((1, 2, 3, 5))
        self.inputs, self.data, self.values = [], {}, {}
        self.nodes, self.calls = [], []
        self.modules = nn.ModuleDict()
        self.loss = {}

    def pick(self, *choices):
        return self.rng.choice(choices)

    def maybe(self, attrs, name, *choices, chance=0.5):
        if self.rng.random() < chance:
            attrs[name] = self.pick(*choices)

    def input(self, name, shape, batch_dim=0, ids=None):
        shape = list(shape)
        shape.insert(batch_dim, self.batch)
        if ids is None:
            x, dtype = torch.randn(shape).double(), "f32"
        else:
            x, dtype = torch.randint(ids, shape), "i64"
        return self.give(name, x, dtype, batch_dim)

    def give(self, name, x, dtype, batch_dim=0):
        self.inputs.append({"name": name, "dtype": dtype, "shape": list(x.shape),
                            "batch_dim": batch_dim})
        self.data[name] = self.values[name] = x
        return name

    def node(self, op, sources, call, attrs=None, module=None, roles=None):
        """call(module, *values); parameters are the module's, roles names some otherwise."""
        name = f"n{len(self.nodes)}"
        node = {"id": name, "op": op, "in": list(sources)}
        if attrs:
            node["attrs"] = attrs
        if module is not None:
            with torch.no_grad():
                for p in module.parameters():
                    p.copy_(torch.randn(p.shape) * 0.4 + (p if p.dim() == 1 and (p == 1).all() else 0))
            self.modules[name] = module.double()
            node["params"] = {(roles or {}).get(role, role): f"{name}.{role}"
                              for role, _ in module.named_parameters()}
        self.nodes.append(node)
        self.calls.append(call)
        with torch.no_grad():
            self.values[name] = self.run_node(len(self.nodes) - 1, self.values)
        return name

    def run_node(self, i, values):
        node = self.nodes[i]
        module = self.modules[node["id"]] if node["id"] in self.modules else None
        return self.calls[i](module, *[values[k] for k in node["in"]])

    def output(self, inputs):
        values = dict(inputs)
        for i, node in enumerate(self.nodes):
            values[node["id"]] = self.run_node(i, values)
        return values[self.nodes[-1]["id"]]

    @property
    def last(self):
        return self.nodes[-1]["id"]

    @property
    def shape(self):
        return list(self.values[self.last].shape)


def layer(c, op, sources, module, attrs):
    return c.node(op, sources, lambda m, *x: m(*x), attrs, module)


# ---- one drawer for each family ----

def draw_linear(c):
    lead = [c.pick(1, 2, 3) for _ in range(c.pick(0, 0, 1, 2, 3))]
    i, o = c.pick(1, 3, 8), c.pick(1, 2, 5)
    bias = c.pick(True, False)
    layer(c, "linear", [c.input("x", lead + [i])], nn.Linear(i, o, bias=bias), {"in": i, "out": o})


def draw_conv(c):
    d = c.pick(1, 1, 2, 2, 2, 3)
    groups = c.pick(1, 1, 2, 3)
    i, o = groups * c.pick(1, 2), groups * c.pick(1, 2)
    k = [c.pick(1, 2, 3, 4) for _ in range(d)]
    options = {}
    c.maybe(options, "dilation", 2, [c.pick(1, 2) for _ in range(d)], chance=0.35)
    mode = c.pick("zeros", "zeros", "reflect", "replicate", "circular")
    if mode == "reflect" and d == 3 and not hasattr(nn, "RMSNorm"):
        mode = "zeros"  # older PyTorch has no reflection in 3d with every shape
    if c.pick(True, False):
        options["padding"] = c.pick("same", "same", "valid")
    else:
        options["stride"] = c.pick(1, 2, 3, [c.pick(1, 2) for _ in range(d)])
        options["padding"] = c.pick(0, 1, 2, [c.pick(0, 1, 2) for _ in range(d)])
    side = [c.pick(7, 8, 9, 10) for _ in range(d)] if d < 3 else [c.pick(5, 6, 7) for _ in range(d)]
    conv = getattr(nn, "Conv" + NP[d])(i, o, k, groups=groups, bias=c.pick(True, False),
                                       padding_mode=mode, **options)
    attrs = {"in": i, "out": o, "kernel_size": k, **options}
    if groups > 1:
        attrs["groups"] = groups
    if mode != "zeros":
        attrs["padding_mode"] = mode
    layer(c, "conv" + NP[d], [c.input("x", [i] + side)], conv, attrs)


def draw_conv_transpose(c):
    d = c.pick(1, 2)
    groups = c.pick(1, 1, 2)
    i, o = groups * c.pick(1, 2), groups * c.pick(1, 2, 3)
    k = [c.pick(2, 3, 4) for _ in range(d)]
    options = {}
    c.maybe(options, "stride", 2, 3, [c.pick(2, 3) for _ in range(d)])
    c.maybe(options, "padding", 1, [c.pick(0, 1) for _ in range(d)])
    c.maybe(options, "dilation", 2, [c.pick(1, 2) for _ in range(d)], chance=0.3)
    if "stride" in options:
        c.maybe(options, "output_padding", 1)
    conv = getattr(nn, "ConvTranspose" + NP[d])(i, o, k, groups=groups, bias=c.pick(True, False),
                                                **options)
    attrs = {"in": i, "out": o, "kernel_size": k, **options}
    if groups > 1:
        attrs["groups"] = groups
    layer(c, "conv_transpose" + NP[d], [c.input("x", [i] + [c.pick(3, 4, 5)] * d)], conv, attrs)


def draw_embedding(c):
    v, dim = c.pick(4, 9, 20), c.pick(1, 3, 6)
    attrs = {"num_embeddings": v, "dim": dim}
    c.maybe(attrs, "padding_idx", 0, v - 1, 2)
    module = nn.Embedding(v, dim, padding_idx=attrs.get("padding_idx"))
    layer(c, "embedding", [c.input("x", [c.pick(1, 2, 6)] * c.pick(1, 1, 2), ids=v)], module, attrs)


class Bag(nn.Module if torch else object):
    """embedding_bag with lengths, from PyTorch's own over the valid tokens of each sample."""
    def __init__(self, v, dim, mode, padding_idx):
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(v, dim))
        self.mode, self.padding_idx = mode, padding_idx

    def forward(self, tokens, extra=None):
        rows = []
        for n, row in enumerate(tokens):
            weights = None
            if extra is not None and extra.dim() == 1:
                row = row[:int(extra[n])]
            elif extra is not None:
                weights = extra[n:n + 1]
            if row.numel() == 0:
                rows.append(self.weight.sum(0, keepdim=True) * 0)
                continue
            rows.append(F.embedding_bag(row[None], self.weight, mode=self.mode,
                                        padding_idx=self.padding_idx, per_sample_weights=weights))
        return torch.cat(rows)


def draw_embedding_bag(c):
    v, dim, length = c.pick(3, 8, 15), c.pick(1, 4), c.pick(1, 4, 7)
    attrs = {"num_embeddings": v, "dim": dim, "mode": c.pick("sum", "mean", "max")}
    c.maybe(attrs, "padding_idx", 0, 2)
    sources = [c.input("x", [length], ids=v)]
    kind = c.pick("", "lengths", "weights")
    if kind == "lengths":
        attrs["lengths"] = True
        sources.append(c.give("lengths", torch.randint(length + 1, [c.batch]), "i64"))
    elif kind == "weights" and attrs["mode"] == "sum":
        attrs["per_sample_weights"] = True
        sources.append(c.input("token_weights", [length]))
    layer(c, "embedding_bag", sources, Bag(v, dim, attrs["mode"], attrs.get("padding_idx")), attrs)


class RMSNorm(nn.Module if torch else object):
    def __init__(self, shape, eps):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(shape))
        self.dims, self.eps = list(range(-len(shape), 0)), eps

    def forward(self, x):
        return x * torch.rsqrt(x.pow(2).mean(self.dims, keepdim=True) + self.eps) * self.weight


def draw_norm(c):
    kind = c.pick("layer_norm", "layer_norm", "rms_norm", "group_norm", "group_norm", "instance_norm")
    eps = c.pick(1e-5, 1e-5, 1e-3)
    if kind in ("layer_norm", "rms_norm"):
        shape = [c.pick(2, 3, 5) for _ in range(c.pick(1, 1, 2, 3))]
        lead = [c.pick(1, 2, 4) for _ in range(c.pick(0, 1, 2))]
        module = nn.LayerNorm(shape, eps=eps) if kind == "layer_norm" else RMSNorm(shape, eps)
        attrs = {"normalized_shape": shape, "eps": eps}
        layer(c, kind, [c.input("x", lead + shape)], module, attrs)
        return
    groups = c.pick(1, 2, 3)
    channels = groups * c.pick(1, 2, 3)
    space = [c.pick(2, 3, 5) for _ in range(c.pick(1, 2, 3))]
    x = c.input("x", [channels] + space)
    attrs = {"num_channels": channels, "eps": eps}
    if kind == "group_norm":
        layer(c, kind, [x], nn.GroupNorm(groups, channels, eps=eps), {"num_groups": groups, **attrs})
    else:
        module = getattr(nn, "InstanceNorm" + NP[len(space)])(channels, eps=eps, affine=True)
        layer(c, kind, [x], module, attrs)


def run_recurrent(module, x, lengths, last):
    """PyTorch's layer on one padded batch; sequence or the last layer's final states."""
    first = module.batch_first
    total = x.shape[1 if first else 0]
    if lengths is not None:
        x = nn.utils.rnn.pack_padded_sequence(x, lengths, first, enforce_sorted=False)
    out, final = module(x)
    if last:
        final = final[0] if isinstance(final, tuple) else final
        return torch.cat(list(final[-2 if module.bidirectional else -1:]), dim=-1)
    if lengths is not None:
        out, _ = nn.utils.rnn.pad_packed_sequence(out, first, total_length=total)
    return out


def draw_recurrent(c):
    op = c.pick("rnn_tanh", "rnn_relu", "gru", "lstm", "gru", "lstm")
    i, h, t = c.pick(1, 3, 5), c.pick(1, 2, 4), c.pick(1, 2, 5)
    attrs = {"input_size": i, "hidden_size": h, "num_layers": c.pick(1, 1, 2, 3),
             "bias": c.pick(True, False), "batch_first": c.pick(True, False),
             "bidirectional": c.pick(True, False)}
    options = {k: attrs[k] for k in ("num_layers", "bias", "batch_first", "bidirectional")}
    if op.startswith("rnn"):
        module = nn.RNN(i, h, nonlinearity=op[4:], **options)
    else:
        module = getattr(nn, op.upper())(i, h, **options)
    sources = [c.input("x", [t, i], 0 if attrs["batch_first"] else 1)]
    if c.pick(True, False):
        attrs["lengths"] = True
        sources.append(c.give("lengths", torch.randint(1, t + 1, [c.batch]), "i64"))
    last = c.pick(True, False)
    attrs["return"] = "last_hidden" if last else "sequence"
    c.node(op, sources, lambda m, x, n=None: run_recurrent(m, x, n, last), attrs, module)
    if not last and not attrs["batch_first"]:
        swap_batch(c)


def swap_batch(c):
    c.node("permute", [c.last], lambda m, x: x.transpose(0, 1), {"dims": [1, 0, 2]})


def padding_mask(c, length):
    """[B, length] of booleans, true = leave out; the first position always stays."""
    mask = torch.rand(c.batch, length) < 0.4
    mask[:, 0] = False
    return c.give("key_padding_mask", mask, "bool")


def draw_attention(c):
    heads = c.pick(1, 2, 3)
    e = heads * c.pick(1, 2, 4)
    first = c.pick(True, False)
    at = 0 if first else 1
    cross = c.pick(True, False)
    t, s = c.pick(1, 3, 5), c.pick(1, 2, 4)
    attrs = {"embed_dim": e, "num_heads": heads, "bias": c.pick(True, False), "batch_first": first}
    options = dict(attrs)
    c.maybe(options, "add_bias_kv", True, chance=0.3)
    c.maybe(options, "add_zero_attn", True, chance=0.3)
    q = c.input("q", [t, e], at)
    sources = [q, q, q]
    if cross:
        kdim, vdim = c.pick(e, e + 1), c.pick(e, e + 2)
        if (kdim, vdim) != (e, e):
            options.update(kdim=kdim, vdim=vdim)
        sources = [q, c.input("k", [s, kdim], at), c.input("v", [s, vdim], at)]
    attrs = dict(options)
    length = s if cross else t
    if c.pick(True, False):
        attrs["key_padding_mask"] = True
        sources.append(padding_mask(c, length))
    causal = not cross and c.pick(True, False)
    if causal:
        attrs["causal"] = True

    def call(m, q, k, v, mask=None):
        block = torch.triu(torch.ones(t, t, dtype=torch.bool), 1) if causal else None
        return m(q, k, v, key_padding_mask=mask, attn_mask=block, need_weights=False)[0]
    c.node("multihead_attention", sources, call, attrs, nn.MultiheadAttention(**options))
    if not first:
        swap_batch(c)


def draw_encoder(c):
    heads = c.pick(1, 2)
    d, t = heads * c.pick(2, 3), c.pick(1, 3, 5)
    options = {"d_model": d, "nhead": heads, "dim_feedforward": c.pick(1, 4, 9),
               "activation": c.pick("relu", "gelu"), "norm_first": c.pick(True, False),
               "batch_first": c.pick(True, False)}
    attrs = dict(options)
    eps = c.pick(1e-5, 1e-3)
    attrs["eps"] = eps
    sources = [c.input("x", [t, d], 0 if options["batch_first"] else 1)]
    if c.pick(True, False):
        attrs["key_padding_mask"] = True
        sources.append(padding_mask(c, t))
    causal = c.pick(True, False)
    if causal:
        attrs["causal"] = True

    def call(m, x, mask=None):
        block = torch.triu(torch.ones(t, t, dtype=torch.bool), 1) if causal else None
        return m(x, src_mask=block, src_key_padding_mask=mask)
    module = nn.TransformerEncoderLayer(dropout=0.0, layer_norm_eps=eps, **options)
    c.node("transformer_encoder_layer", sources, call, attrs, module)
    if not options["batch_first"]:
        swap_batch(c)


class Affine(nn.Module if torch else object):
    """scale_shift or add_param."""
    def __init__(self, shape, scaled):
        super().__init__()
        if scaled:
            self.scale = nn.Parameter(torch.zeros(shape))
            self.shift = nn.Parameter(torch.zeros(shape))
        else:
            self.value = nn.Parameter(torch.zeros(shape))
        self.scaled = scaled

    def forward(self, x):
        return x * self.scale + self.shift if self.scaled else x + self.value


def draw_small(c):
    kind = c.pick("prelu", "bilinear", "scale_shift", "add_param")
    shape = [c.pick(2, 3, 4) for _ in range(c.pick(1, 2, 3))]
    if kind == "prelu":
        n = c.pick(1, shape[0])
        layer(c, kind, [c.input("x", shape)], nn.PReLU(n), {"num_parameters": n})
    elif kind == "bilinear":
        a, b, o = c.pick(1, 3), c.pick(2, 4), c.pick(1, 3)
        lead = shape[1:]
        layer(c, kind, [c.input("x1", lead + [a]), c.input("x2", lead + [b])],
              nn.Bilinear(a, b, o, bias=c.pick(True, False)), {"in1": a, "in2": b, "out": o})
    else:
        own = [c.pick(n, 1) for n in shape[c.rng.randrange(len(shape)):]]
        layer(c, kind, [c.input("x", shape)], Affine(own, kind == "scale_shift"), {"shape": own})


def draw_pool(c):
    d = c.pick(1, 2, 3)
    kind = c.pick("max_pool", "avg_pool", "adaptive_avg_pool", "adaptive_max_pool")
    side = [c.pick(5, 6, 7) for _ in range(d)]
    i = c.pick(1, 2)
    conv = getattr(nn, "Conv" + NP[d])(i, 2, [1] * d)
    layer(c, "conv" + NP[d], [c.input("x", [i] + side)], conv,
          {"in": i, "out": 2, "kernel_size": [1] * d})
    if kind.startswith("adaptive"):
        attrs = {"output_size": c.pick(1, 2, [c.pick(1, 2, 3) for _ in range(d)])}
    else:
        attrs = {"kernel_size": c.pick(2, 3, [c.pick(2, 3) for _ in range(d)])}
        c.maybe(attrs, "stride", 1, 2, 3)
        c.maybe(attrs, "padding", 1)
        c.maybe(attrs, "ceil_mode", True)
        if kind == "max_pool":
            c.maybe(attrs, "dilation", 2, chance=0.3)
        else:
            c.maybe(attrs, "count_include_pad", False)
            if d > 1:
                c.maybe(attrs, "divisor_override", 3, chance=0.3)
    function = getattr(F, kind + NP[d])
    c.node(kind + NP[d], [c.last], lambda m, x: function(x, **attrs), attrs)


def draw_activation(c):
    draw_linear(c)
    kind = c.pick("relu", "gelu", "silu", "tanh", "sigmoid", "softplus", "elu", "leaky_relu",
                  "hardswish", "exp", "log_softmax")
    attrs = {}
    if kind == "gelu":
        attrs["approximate"] = c.pick("none", "tanh")
    elif kind == "softplus":
        c.maybe(attrs, "beta", 0.5, 2.0)
        c.maybe(attrs, "threshold", 1.5, 5)
    elif kind == "elu":
        c.maybe(attrs, "alpha", 0.6, 1.7)
    elif kind == "leaky_relu":
        c.maybe(attrs, "negative_slope", 0.1, 0.0)
    elif kind == "log_softmax":
        attrs["dim"] = c.rng.randrange(1, len(c.shape))
    function = getattr(torch if kind in ("tanh", "sigmoid", "exp") else F, kind)
    c.node(kind, [c.last], lambda m, x: function(x, **attrs), attrs)


def draw_stack(c):
    """Some conv layers with norms and activations, a branch, a head with any loss."""
    width = 2 * c.pick(1, 2)
    side = c.pick(6, 7)
    layer(c, "conv2d", [c.input("x", [2, side, side])], nn.Conv2d(2, width, 3, padding=1),
          {"in": 2, "out": width, "kernel_size": [3, 3], "padding": 1})
    for _ in range(c.pick(0, 1, 2)):
        before = c.last
        layer(c, "group_norm", [c.last], nn.GroupNorm(2, width),
              {"num_groups": 2, "num_channels": width})
        c.node("tanh", [c.last], lambda m, x: torch.tanh(x))
        layer(c, "conv2d", [c.last], nn.Conv2d(width, width, 3, padding="same", groups=2, bias=False),
              {"in": width, "out": width, "kernel_size": [3, 3], "padding": "same", "groups": 2})
        join = c.pick("add", "mul", "concat")
        if join == "concat":
            c.node("concat", [before, c.last], lambda m, x, y: torch.cat([x, y], 1), {"dim": 1})
            layer(c, "conv2d", [c.last], nn.Conv2d(2 * width, width, 1),
                  {"in": 2 * width, "out": width, "kernel_size": [1, 1]})
        else:
            function = torch.add if join == "add" else torch.mul
            c.node(join, [before, c.last], lambda m, x, y, f=function: f(x, y))
    c.node("avg_pool2d", [c.last], lambda m, x: F.avg_pool2d(x, 2), {"kernel_size": 2})
    c.node("flatten", [c.last], lambda m, x: x.flatten(1))
    features = c.shape[1]
    layer(c, "linear", [c.last], nn.Linear(features, 4), {"in": features, "out": 4})
    draw_loss(c)


def draw_head(c):
    layer(c, "linear", [c.input("x", [5])], nn.Linear(5, 6), {"in": 5, "out": 6})
    c.node("tanh", [c.last], lambda m, x: torch.tanh(x))
    layer(c, "linear", [c.last], nn.Linear(6, 4), {"in": 6, "out": 4})
    draw_loss(c)


def draw_tokens(c):
    """Cross entropy per token, with a tied embedding now and then."""
    v, dim = c.pick(4, 7), c.pick(2, 5)
    layer(c, "embedding", [c.input("x", [c.pick(2, 5)], ids=v)], nn.Embedding(v, dim),
          {"num_embeddings": v, "dim": dim})
    layer(c, "linear", [c.last], nn.Linear(dim, v), {"in": dim, "out": v})
    c.loss = {"kind": "cross_entropy", "class_dim": 2, "reduce": c.pick("mean", "sum")}
    c.maybe(c.loss, "ignore_index", 0, 1, -100)
    c.maybe(c.loss, "label_smoothing", 0.1)


# ---- losses of one sample ----

def draw_loss(c):
    kind = c.pick("mse", "cross_entropy", "cross_entropy", "cross_entropy", "nll", "l1", "smooth_l1",
                  "huber", "bce_with_logits", "poisson_nll", "kl_div")
    loss = c.loss = {"kind": kind, "reduce": c.pick("mean", "sum")}
    weights = [0.5, 2.0, 1.25, 0.25]
    if kind == "cross_entropy":
        c.maybe(loss, "label_smoothing", 0.1, 0.3)
        c.maybe(loss, "class_weights", weights)
        if c.pick(True, False, False):
            loss["soft"] = True
        else:
            c.maybe(loss, "ignore_index", 0, 2)
    elif kind == "nll":
        c.maybe(loss, "class_weights", weights)
        c.maybe(loss, "ignore_index", 0, 2)
    elif kind == "smooth_l1":
        c.maybe(loss, "beta", 0.5, 2.0)
    elif kind == "huber":
        c.maybe(loss, "delta", 0.7, 2.0)
    elif kind == "bce_with_logits":
        c.maybe(loss, "pos_weight", [1.0, 3.0, 0.5, 2.0])
    elif kind == "poisson_nll":
        loss["log_input"] = c.pick(True, False)
        c.maybe(loss, "full", True)
        if not loss["log_input"]:
            c.node("softplus", [c.last], lambda m, x: F.softplus(x))
    elif kind == "kl_div":
        c.maybe(loss, "log_target", True)
    if kind in ("nll", "kl_div"):
        c.node("log_softmax", [c.last], lambda m, x: F.log_softmax(x, 1), {"dim": 1})


def draw_target(c, shape):
    """(target, value stored exactly in float32)."""
    loss = c.loss
    if loss["kind"] in ("cross_entropy", "nll") and not loss.get("soft"):
        at = loss.get("class_dim", 1)
        return torch.randint(shape[at], [n for i, n in enumerate(shape) if i != at])
    x = torch.randn(shape)
    if loss["kind"] == "bce_with_logits":
        return (x > 0).double()
    if loss["kind"] == "poisson_nll":
        return torch.poisson(torch.rand(shape) * 4).double()
    if loss.get("soft") or loss["kind"] == "kl_div":
        x = F.log_softmax(x, 1) if loss.get("log_target") else F.softmax(x, 1)
    return x.double()


def sample_loss(loss, output, target):
    """Scalar loss of a batch of one."""
    kind, reduction = loss["kind"], loss["reduce"]
    options = {"reduction": reduction}
    if "class_weights" in loss:
        options["weight"] = torch.tensor(loss["class_weights"], dtype=output.dtype)
    if kind in ("cross_entropy", "nll"):
        if not loss.get("soft"):
            options["ignore_index"] = loss.get("ignore_index", -100)
        if kind == "cross_entropy":
            options["label_smoothing"] = loss.get("label_smoothing", 0.0)
        output = output.movedim(loss.get("class_dim", 1), 1)
        counted = kind == "nll" or not loss.get("soft")
        if counted and (target == loss.get("ignore_index", -100)).all():
            return output.sum() * 0  # PyTorch's mean over no position is 0 / 0
        function = F.cross_entropy if kind == "cross_entropy" else F.nll_loss
        return function(output, target, **options)
    if kind == "bce_with_logits":
        if "pos_weight" in loss:
            options["pos_weight"] = torch.tensor(loss["pos_weight"], dtype=output.dtype)
        return F.binary_cross_entropy_with_logits(output, target, **options)
    if kind == "poisson_nll":
        return F.poisson_nll_loss(output, target, log_input=loss["log_input"],
                                  full=loss.get("full", False), **options)
    if kind == "kl_div":
        options["log_target"] = loss.get("log_target", False)
        return F.kl_div(output, target, **options)
    for name in ("beta", "delta"):
        if name in loss:
            options[name] = loss[name]
    name = {"mse": "mse_loss", "l1": "l1_loss", "smooth_l1": "smooth_l1_loss",
            "huber": "huber_loss"}[kind]
    return getattr(F, name)(output, target, **options)


# ---- evaluation and files ----

def evaluate(c, target, dtype):
    """{tensor name: tensor} of one sample at a time, in dtype."""
    c.modules.to(dtype)
    names = [name for name, _ in c.modules.named_parameters()]
    params = list(c.modules.parameters())
    real = [i["name"] for i in c.inputs if i["dtype"] == "f32"]
    rows = {"output": [], "loss": [], "norm": []}
    for n in range(c.batch):
        x = {}
        for i in c.inputs:
            x[i["name"]] = c.data[i["name"]].narrow(i["batch_dim"], n, 1)
            if i["dtype"] == "f32":
                x[i["name"]] = x[i["name"]].to(dtype).clone().requires_grad_()
        y = c.output(x)
        t = target[n:n + 1]
        loss = sample_loss(c.loss, y, t if t.dtype == torch.int64 else t.to(dtype))
        grads = torch.autograd.grad(loss, params + [x[k] for k in real], allow_unused=True)
        grads = [torch.zeros_like(p) if g is None else g
                 for g, p in zip(grads, params + [x[k] for k in real])]
        own = grads[:len(params)]
        rows["output"].append(y.detach())
        rows["loss"].append(loss.detach().reshape(1))
        rows["norm"].append(torch.sqrt(sum(g.double().pow(2).sum() for g in own)).reshape(1))
        for k, g in zip(names, own):
            rows.setdefault("grad." + k, []).append(g[None])
        for k, g in zip(real, grads[len(params):]):
            rows.setdefault("grad_input." + k, []).append(g)
    at = {"grad_input." + i["name"]: i["batch_dim"] for i in c.inputs}
    return {k: torch.cat(v, at.get(k, 0)).double() for k, v in rows.items()}


def float32_error(exact, rough):
    """Largest error of a gradient, inputs included, in the measure that tolerances use."""
    grads = [k for k in exact if k.startswith("grad")]
    largest = max((float(exact[k].abs().max()) for k in exact
                   if k.startswith("grad.") and exact[k].numel()), default=0.0)
    worst = 0.0
    for k in grads:
        if exact[k].numel():
            scale = max(float(exact[k].abs().max()), 0.01 * largest)
            if scale > 0:
                worst = max(worst, float((exact[k] - rough[k]).abs().max()) / scale)
    return worst


DTYPES = {}
if torch:
    DTYPES = {torch.float32: "F32", torch.float64: "F64", torch.int64: "I64", torch.uint8: "U8"}


def write_safetensors(path, tensors, case):
    header, at, blobs = {"__metadata__": {"case": json.dumps(case, sort_keys=True)}}, 0, []
    for name, x in tensors.items():
        blob = x.contiguous().numpy().tobytes()
        header[name] = {"dtype": DTYPES[x.dtype], "shape": list(x.shape),
                        "data_offsets": [at, at + len(blob)]}
        at += len(blob)
        blobs.append(blob)
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    with open(path, "wb") as out:
        out.write(struct.pack("<Q", len(text)) + text + b"".join(blobs))


DRAWERS = (draw_linear, draw_conv, draw_conv, draw_conv_transpose, draw_embedding,
           draw_embedding_bag, draw_norm, draw_norm, draw_recurrent, draw_recurrent, draw_attention,
           draw_encoder, draw_small, draw_pool, draw_pool, draw_activation, draw_stack, draw_head,
           draw_head, draw_tokens)


def draw_model(rng, drawer):
    """A case, drawn again where PyTorch refuses the options or a sample has no gradient at all."""
    for _ in range(50):
        c = Case(rng)
        try:
            drawer(c)
        except (RuntimeError, ValueError):
            continue
        if all(n > 0 for n in c.shape):
            return c
    raise RuntimeError(f"{drawer.__name__} draws nothing that PyTorch takes")


def make_case(seed, number, folder):
    """Writes one file; returns its line of the index."""
    rng = random.Random(f"{seed}/{number}")
    torch.manual_seed(rng.randrange(1 << 30))
    drawer = DRAWERS[number % len(DRAWERS)]
    c = draw_model(rng, drawer)
    if not c.loss:
        c.loss = {"kind": "mse", "reduce": c.pick("mean", "sum")}
    target = draw_target(c, c.shape)
    if target.dtype != torch.int64:
        target = target.float().double()
    rough = evaluate(c, target, torch.float32)
    exact = evaluate(c, target, torch.float64)
    name = f"{drawer.__name__[5:]}__{number:04d}"
    loss = {k: v for k, v in c.loss.items() if k != "soft"}
    case = {"id": name.replace("__", "/"), "family": drawer.__name__[5:], "batch": c.batch,
            "inputs": c.inputs, "nodes": c.nodes, "output": c.last, "output_batch_dim": 0,
            "loss": loss, "params": [{"name": k, "shape": list(p.shape), "trainable": True}
                                     for k, p in c.modules.named_parameters()]}
    stored = {"bool": torch.uint8, "i64": torch.int64, "f32": torch.float32}
    tensors = {"input." + i["name"]: c.data[i["name"]].to(stored[i["dtype"]]) for i in c.inputs}
    for k, p in c.modules.named_parameters():
        tensors["param." + k] = p.detach().float()
    tensors["target"] = target if target.dtype == torch.int64 else target.float()
    tensors.update(exact)
    path = os.path.join(folder, name + ".safetensors")
    write_safetensors(path, tensors, case)
    error = float32_error(exact, rough)
    return {"file": name + ".safetensors", "id": case["id"], "family": case["family"],
            "ops": [n["op"] for n in c.nodes], "loss": loss["kind"], "batch": c.batch,
            "n_params": sum(p.numel() for p in c.modules.parameters()),
            "float32_grad_error": error, "tolerance": max(10 * error, 2e-6),
            "bytes": os.path.getsize(path)}


def make_all(seed, count, folder):
    os.makedirs(folder, exist_ok=True)
    index = [make_case(seed, number, folder) for number in range(count)]
    with open(os.path.join(folder, "index.json"), "w", encoding="utf-8") as out:
        json.dump(index, out, indent=1)


def run_all(program, seed, count):
    """Every mode over the drawn cases, as TAP: one line per mode and seed."""
    failed = 0
    print(f"1..{len(MODES)}")
    with tempfile.TemporaryDirectory(prefix="dpsgd-test-") as folder:
        make_all(seed, count, folder)
        for i, mode in enumerate(MODES, 1):
            done = subprocess.run([program, folder, "--mode", mode], capture_output=True, text=True,
                                  check=False)
            lines = done.stdout.strip().splitlines() or [done.stderr.strip()]
            good = done.returncode == 0 and lines[-1] == f"{count} passed, 0 failed"
            failed += not good
            print("ok" if good else "not ok", i, f"- {count} drawn cases, seed {seed}, {mode}")
            if not good:
                print("\n".join("# " + line for line in lines))
    return 1 if failed else 0


def main():
    p = argparse.ArgumentParser(description=__doc__,
                                formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--seed", type=int, default=1)
    p.add_argument("--count", type=int, default=100)
    p.add_argument("--out", help="folder for the files")
    p.add_argument("--run", help="the program oracle_grads")
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
