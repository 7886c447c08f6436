class M(Module):
  __parameters__ = ["weight", ]
  __buffers__ = []
  weight : Tensor
  training : bool
  __annotations__["0"] = __torch__.Other
  padding : Final[Tuple[int, int]] = (3, -1,)
  mode : Final[str] = "ze\"ros\n"
  def forward(self: __torch__.M,
    x: Tensor,
    scale: Optional[float]=None) -> Tuple[Tensor, List[int]]:
    w = self.weight
    layer = getattr(self, "0")
    if torch.__is__(scale, None):
      y = torch.conv2d(x, w, None, [2, 2], annotate(List[int], []), dilation=[1, 1])
    else:
      s = unchecked_cast(float, scale)
      y = torch.mul(x, s)
    a, b, = torch.chunk(y, 2, -1)
    for i in range(3):
      if torch.gt(i, 1):
        pass
      else:
        a = torch.add(a, CONSTANTS.c0)
    n = 0
    while torch.lt(n, 3):
      n = torch.add(n, 1)
    self.weight = w
    d = {"a": -1, "b": -inf}
    return ((layer).forward(a, ), [(torch.size(x))[0], (d)["a"], n])
def helper(x: Tensor) -> Tensor:
  return torch.relu(x)
