#!/usr/bin/env python3
"""Writes the model files of this folder; needs PyTorch (made with 1.13).

    python3 make_models.py

The weights are PyTorch's usual random ones, drawn with seed 0: nothing was trained."""
import torch
from torch import nn


class Digits(nn.Module):
    """8 x 8 pixels, 10 classes; 3,498 parameters, one of them shared by no layer function."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(1, 16, 3, padding=1)
        self.gain = nn.Parameter(torch.ones(16, 1, 1))
        self.norm = nn.GroupNorm(4, 16)
        self.head = nn.Sequential(nn.Flatten(), nn.Linear(256, 12), nn.Tanh(), nn.Linear(12, 10))

    def forward(self, x):
        x = torch.tanh(self.norm(self.conv(x)) * self.gain)
        x = nn.functional.avg_pool2d(x, 2)
        return self.head(x)


def fashion():
    """28 x 28 pixels, 10 classes; the tanh CNN of Papernot et al. (2020)."""
    return nn.Sequential(
        nn.Conv2d(1, 16, 8, stride=2, padding=3), nn.Tanh(), nn.MaxPool2d(2, 1),
        nn.Conv2d(16, 32, 4, stride=2), nn.Tanh(), nn.MaxPool2d(2, 1), nn.Flatten(),
        nn.Linear(512, 32), nn.Tanh(), nn.Linear(32, 10))


torch.manual_seed(0)
digits = Digits()
torch.jit.script(digits).save("digits.script.pt")
torch.jit.trace(digits, torch.zeros(3, 1, 8, 8)).save("digits.trace.pt")
torch.jit.trace(fashion(), torch.zeros(2, 1, 28, 28)).save("fashion-mnist-cnn.pt")
