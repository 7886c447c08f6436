#!/usr/bin/env python3
"""Packs the UCI digits, as Debian's python3-sklearn ships them, into digits.bin.gz.

    dpkg-deb --fsys-tarfile python3-sklearn_*_all.deb |
        tar -xO ./usr/lib/python3/dist-packages/sklearn/datasets/data/digits.csv.gz |
        ./digits_extract.py > digits.bin.gz

1,797 records of 65 bytes: 8 x 8 pixels (0 to 16) row by row, then the class (0 to 9). The order is
that of the source; nothing but the encoding is changed."""
import gzip
import sys

records = bytearray()
for line in gzip.decompress(sys.stdin.buffer.read()).decode().splitlines():
    numbers = [int(float(field)) for field in line.split(",")]
    assert len(numbers) == 65 and max(numbers[:64]) <= 16 and numbers[64] < 10
    records += bytes(numbers)
assert len(records) == 1797 * 65
sys.stdout.buffer.write(gzip.compress(bytes(records), 9, mtime=0))
