#!/usr/bin/env python3
"""Writes the seed files of corpus/: valid files, and files that are wrong in one way."""
import gzip
import json
import os
import struct

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
