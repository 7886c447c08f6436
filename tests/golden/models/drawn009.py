import torch
from torch import nn
from torch.nn import functional as F


class Model(nn.Module):
    def __init__(self):
        super().__init__()
        self.m1 = nn.GRU(6, 4, 1, batch_first=True, bidirectional=True)
        self.m2 = nn.ModuleList([nn.Linear(8, 8) for _ in range(2)])
        self.m3 = nn.Sequential(nn.Linear(8, 5), nn.Tanh(), nn.Linear(5, 8))
        self.m4 = nn.Linear(8, 3)

    def forward(self, x):
        x = x @ x.transpose(-1, -2) / 4
        x, _ = self.m1(x)
        x = F.gelu(x)
        for layer in self.m2:
            x = torch.tanh(layer(x)) + x
        x = F.hardtanh(x, -0.5, 0.8)
        x = x + 0.5 * self.m3(x)
        x = F.hardtanh(x, -0.5, 0.8)
        x = torch.mean(x, 1)
        return self.m4(x)
