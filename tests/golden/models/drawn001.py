import torch
from torch import nn
from torch.nn import functional as F


class Model(nn.Module):
    def __init__(self):
        super().__init__()
        self.m1 = nn.EmbeddingBag(11, 4, mode='mean')
        self.m2 = nn.Linear(4, 8, bias=True)
        self.m3 = nn.Linear(8, 3)

    def forward(self, x):
        x = self.m1(x)
        x = self.m2(x)
        return self.m3(x)
