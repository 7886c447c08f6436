import torch
from torch import nn
from torch.nn import functional as F


class Model(nn.Module):
    def __init__(self):
        super().__init__()
        self.m1 = nn.Embedding(11, 6)
        self.m2 = nn.ModuleList([nn.Linear(6, 6) for _ in range(2)])
        self.m3 = nn.GRU(6, 4, 1, batch_first=True, bidirectional=False)
        self.m4 = nn.Linear(8, 4)
        self.m5 = nn.Mish()
        self.m6 = nn.Linear(4, 3)

    def forward(self, x):
        x = self.m1(x)
        for layer in self.m2:
            x = torch.tanh(layer(x)) + x
        x, _ = self.m3(x)
        x = F.log_softmax(x, -1)
        h = torch.zeros(x.size(0), 4)
        for t in range(6):
            h = torch.tanh(self.m4(torch.cat([x[:, t], h], dim=1)))
        x = h
        x = self.m5(x)
        return self.m6(x)
