def f(x):
  y = lambda: x
