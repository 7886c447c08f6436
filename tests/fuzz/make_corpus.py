#!/usr/bin/env python3
"""Writes the seed files of corpus/: valid files, and files that are wrong in one way."""
import gzip
import json
import os
import struct
import zipfile
import io

HERE = os.path.join(os.path.dirname(os.path.abspath(__file__)), "corpus")


def put(kind, name, data):
    os.makedirs(os.path.join(HERE, kind), exist_ok=True)
    with open(os.path.join(HERE, kind, name), "wb") as f:
        f.write(data)


def idx(code, dims, data):
    return bytes([0, 0, code, len(dims)]) + b"".join(struct.pack(">I", d) for d in dims) + data


def npy(descr, shape, data, order="False", version=1):
    head = "{'descr': %s, 'fortran_order': %s, 'shape': %s, }" % (descr, order, shape)
    head = head.encode() + b" " * 20 + b"\n"
    size = struct.pack("<H" if version == 1 else "<I", len(head))
    return b"\x93NUMPY" + bytes([version, 0]) + size + head + data


def safetensors(header, data):
    if not isinstance(header, bytes):
        header = json.dumps(header).encode()
    return struct.pack("<Q", len(header)) + header + data


def tensor(dtype, shape, begin, end):
    return {"dtype": dtype, "shape": shape, "data_offsets": [begin, end]}


u8 = idx(8, [2, 3], bytes(range(6)))
put("idx", "u8", u8)
put("idx", "u8.gz", gzip.compress(u8, mtime=0))
put("idx", "f32", idx(13, [2], struct.pack(">2f", 1.5, -2)))
put("idx", "i32.gz", gzip.compress(idx(12, [2], struct.pack(">2i", 1, -2)), mtime=0))
put("idx", "short", u8[:-1])
put("idx", "long", u8 + b"x")
put("idx", "overflow", idx(14, [0xFFFFFFFF] * 4, b""))
put("idx", "bomb.gz", gzip.compress(idx(8, [0x7FFFFFFF], b"\0" * 1000), mtime=0))
put("idx", "cut.gz", gzip.compress(u8, mtime=0)[:-6])
put("idx", "after.gz", gzip.compress(u8, mtime=0) + b"more")
put("idx", "rank", idx(8, [1] * 13, b"x"))
put("idx", "empty", b"")

put("npy", "f4", npy("'<f4'", "(2, 3)", bytes(24)))
put("npy", "f8_v2", npy("'<f8'", "(2,)", bytes(16), version=2))
put("npy", "u1", npy("'|u1'", "(3,)", b"abc"))
put("npy", "scalar", npy("'<i8'", "()", bytes(8)))
put("npy", "fortran", npy("'<f4'", "(2, 3)", bytes(24), order="True"))
put("npy", "big_endian", npy("'>f4'", "(1,)", bytes(4)))
put("npy", "record", npy("[('a', '<f4')]", "(1,)", bytes(4)))
put("npy", "short", npy("'<f4'", "(2, 3)", bytes(23)))
put("npy", "overflow", npy("'<f8'", "(9223372036854775807, 2)", bytes(8)))
put("npy", "negative", npy("'<f8'", "(-1,)", bytes(8)))

put("csv", "header_label", b"\x0aa,b,label\r\n1,2,0\r\n3.5,-4e2,1\r\n")
put("csv", "columns", b"\x06a,b,c\n1,2,3\n4,5,6")
put("csv", "quoted", b'\x02"a","b ""x"""\n"1","2"\n\n')
put("csv", "semicolon", b"\x011;2\n3;4\n")
put("csv", "ragged", b"\x001,2\n3\n")
put("csv", "text", b"\x001,2\n3,four\n")
put("csv", "open_quote", b'\x001,"2\n')
put("csv", "empty", b"\x00")

one = tensor("F32", [2, 2], 0, 16)
put("safetensors", "one", safetensors({"a": one}, bytes(16)))
put("safetensors", "meta", safetensors(
    {"__metadata__": {"case": "x \"y\" \u00e9 \U0001f600"}, "a": one,
     "b": tensor("I64", [1], 16, 24), "c": tensor("BF16", [3], 24, 30),
     "d": tensor("BOOL", [], 30, 31), "e": tensor("F16", [0, 4], 31, 31)}, bytes(31)))
put("safetensors", "none", safetensors(b"{}      ", b""))
put("safetensors", "overlap", safetensors({"a": one, "b": tensor("F32", [2, 2], 8, 24)}, bytes(24)))
put("safetensors", "hole", safetensors({"a": one, "b": tensor("U8", [1], 20, 21)}, bytes(21)))
put("safetensors", "twice", safetensors(
    b'{"a":{"dtype":"U8","shape":[1],"data_offsets":[0,1]},'
    b'"a":{"dtype":"U8","shape":[1],"data_offsets":[1,2]}}', b"xy"))
put("safetensors", "outside", safetensors({"a": one}, bytes(8)))
put("safetensors", "overflow", safetensors(
    {"a": tensor("F64", [1 << 62, 1 << 62], 0, 16)}, bytes(16)))
put("safetensors", "surrogate", safetensors(
    b'{"\\ud83d":{"dtype":"U8","shape":[1],"data_offsets":[0,1]}}', b"x"))
put("safetensors", "nul", safetensors(
    b'{"a\\u0000b":{"dtype":"U8","shape":[1],"data_offsets":[0,1]}}', b"x"))
put("safetensors", "long_header", struct.pack("<Q", 1 << 60) + b"{}")


# ---- model archives ----
def archive(entries, method=zipfile.ZIP_DEFLATED):
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as z:
        for name, data in entries:
            info = zipfile.ZipInfo(name, (1980, 1, 1, 0, 0, 0))
            info.compress_type = method
            z.writestr(info, data)
    return out.getvalue()


two = archive([("m/version", b"3\n"), ("m/code/a.py", b"def f(x):\n  return x\n" * 20)])
put("zip", "deflated", two)
put("zip", "stored", archive([("m/data/0", bytes(range(200)))], zipfile.ZIP_STORED))
put("zip", "empty", archive([]))
put("zip", "cut", two[:-30])
put("zip", "wrong_crc", two.replace(b"3\n", b"4\n"))
put("zip", "bomb", archive([("m/zeros", bytes(8 << 20))]))
put("zip", "many", two[:-22] + struct.pack("<IHHHHIIH", 0x06054b50, 0, 0, 60000, 60000, 96, 0, 0))
put("zip", "zip64_outside", two[:-22] + struct.pack("<IIQI", 0x07064b50, 0, 1 << 60, 1)
    + struct.pack("<IHHHHIIH", 0x06054b50, 0, 0, 65535, 65535, 2**32 - 1, 2**32 - 1, 0))

proto, stop = b"\x80\x02", b"."
tensor_pickle = (proto + b"ctorch._utils\n_rebuild_tensor_v2\n((X\x07\0\0\0storagectorch\n"
                 b"FloatStorage\nX\x01\0\0\x000X\x03\0\0\0cpuK\x06tQK\0K\x02K\x03\x86K\x03K\x01"
                 b"\x86\x88ccollections\nOrderedDict\n)RtR" + stop)
put("pickle", "tensor", tensor_pickle)
put("pickle", "tensor_too_long", tensor_pickle.replace(b"K\x06tQ", b"K\x05tQ"))
put("pickle", "module", proto + b"c__torch__\nM\n)\x81}(X\x08\0\0\0training\x88X\x01\0\0\0xK\x03ub" + stop)
put("pickle", "values", proto + b"(K\x01M\x34\x12J\xff\xff\xff\xffG" + struct.pack(">d", 0.5)
    + b"\x8a\x02\x00\x80N\x88\x89]q\x00(K\x01K\x02eh\x00t" + stop)
put("pickle", "os_system", proto + b"cos\nsystem\nX\x04\0\0\0true\x85R" + stop)
put("pickle", "eval", proto + b"c__builtin__\neval\nX\x01\0\0\x001\x85R" + stop)
put("pickle", "deep", proto + b"(" * 5000 + b"t" * 5000 + stop)
put("pickle", "self", proto + b"]q\x00h\x00a" + stop)
put("pickle", "long_string", proto + b"X\xff\xff\xff\xffabc" + stop)
put("pickle", "inst", proto + b"(ios\nsystem\n" + stop)
put("pickle", "no_stop", proto + b"K\x01")

put("script", "module.py", b'''class M(Module):
  __parameters__ = ["weight", ]
  __buffers__ = []
  weight : Tensor
  training : bool
  __annotations__["0"] = __torch__.Other
  padding : Final[Tuple[int, int]] = (3, -1,)
  mode : Final[str] = "ze\\"ros\\n"
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
''')
put("script", "brackets.py", b"def f(x):\n  return " + b"(" * 3000 + b"\n")
put("script", "nested_if.py", b"def f(x):\n" + b"".join(
    b" " * (i + 1) + b"if x:\n" for i in range(300)))
put("script", "names.py", b"def f(x):\n" + b"".join(b"  a%d = x\n" % i for i in range(9000)))
put("script", "infix.py", b"def f(x):\n  return x + 1\n")
put("script", "else.py", b"def f(x):\n  else:\n    pass\n")
put("script", "lambda.py", b"def f(x):\n  y = lambda: x\n")
put("script", "open_string.py", b"def f(x):\n  return \"abc\n")

# whole models: a module with one parameter w [4, 8], and code
module_pickle = (proto + b"c__torch__\nM\n)\x81}(X\x08\0\0\0training\x88X\x01\0\0\0w"
                 + tensor_pickle[2:-1].replace(b"K\x06tQK\0K\x02K\x03\x86K\x03K\x01",
                                               b"K\x20tQK\0K\x04K\x08\x86K\x08K\x01") + b"ub" + stop)


def torchscript(body, pickle=module_pickle, numbers=bytes(128)):
    code = ("class M(Module):\n  w : Tensor\n  training : bool\n  def forward(self: __torch__.M,\n"
            "    x: Tensor) -> Tensor:\n" + body)
    return archive([("m/data.pkl", pickle), ("m/code/__torch__.py", code.encode()),
                    ("m/data/0", numbers)])


put("import", "linear", torchscript("    return torch.relu(torch.linear(x, self.w, None))\n"))
put("import", "attention", torchscript("""    B = (torch.size(x))[0]
    y = torch.transpose(torch.view(x, [B, 6, 2, 4]), 1, 2)
    s = torch.matmul(y, torch.transpose(y, -2, -1))
    m = torch.eq(torch.tril(torch.ones([6, 6])), 0)
    a = torch.softmax(torch.masked_fill(s, m, -inf), -1)
    return torch.reshape(torch.transpose(torch.matmul(a, y), 1, 2), [B, 48])
"""))
put("import", "loop", torchscript("    while True:\n      x = torch.add(x, 1)\n    return x\n"))
put("import", "recursion", torchscript("    return (self).forward(x, )\n"))
put("import", "big", torchscript("    return torch.add(x, torch.cumsum(torch.full([1073741824], 1), 0))\n"))
put("import", "expand", torchscript("    return torch.expand(torch.unsqueeze(x, 3), [-1, -1, -1, 1073741824])\n"))
put("import", "batch_norm", torchscript(
    "    return torch.batch_norm(x, None, None, None, None, True, 0.1, 1.0e-05, True)\n"))
put("import", "no_numbers", torchscript("    return torch.linear(x, self.w, None)\n", numbers=b""))
put("import", "os_system", torchscript("    return x\n", proto + b"cos\nsystem\nX\x04\0\0\0true\x85R" + stop))
