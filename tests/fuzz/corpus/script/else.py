def f(x):
  else:
    pass
