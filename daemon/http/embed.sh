#!/bin/sh
# embed.sh FILE NAME HEADER OUT: writes a C file OUT that holds FILE's bytes as NAME[], NAME_size.
set -eu
{
  printf '#include "%s"\n\nconst unsigned char %s[] = {\n' "$3" "$2"
  od -An -v -tx1 "$1" | sed 's/ \(..\)/0x\1,/g'
  printf '};\nconst size_t %s_size = sizeof %s;\n' "$2" "$2"
} > "$4"
