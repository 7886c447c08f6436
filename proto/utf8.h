/* UTF-8 as RFC 3629 has it: no overlong forms, no surrogates, nothing above U+10FFFF. */
#ifndef PROTO_UTF8_H
#define PROTO_UTF8_H

#include <stddef.h>
#include <stdint.h>

/* Bytes of the character that starts at text, 0 if the len bytes do not start with one. */
size_t utf8_length(const char *text, size_t len);

/* Writes the code point (not a surrogate, at most 0x10FFFF); returns 1 to 4. */
size_t utf8_write(char *out, uint32_t code);

#endif
