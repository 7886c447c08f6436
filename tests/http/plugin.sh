#!/bin/sh
# Builds the example plugin out of tree by the line of its README: INCLUDE SOURCE OUTPUT [flags].
# The pkg-config file is the one that is installed; only the headers still lie in the tree.
set -e
include=$1 source=$2 output=$3
shift 3
cflags=$(pkg-config --define-variable=includedir="$include" --cflags psg)
exec cc -O2 -shared -fPIC "$@" $cflags -o "$output" "$source"
