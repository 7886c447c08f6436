#ifndef FORMATS_UTF8_H
#define FORMATS_UTF8_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Well-formed UTF-8 (Unicode table 3-7): no overlong forms, no surrogates, at most
 * U+10FFFF. */
bool format_utf8_valid(const char *text, size_t size);
/* Writes code point c (no surrogate, at most U+10FFFF) to out[4]; returns its bytes. */
size_t format_utf8_encode(uint32_t c, char *out);

#endif
