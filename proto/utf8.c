#include "utf8.h"

#include <stdbool.h>

static bool continues(const char *text, size_t from, size_t to)
{
    for (size_t i = from; i < to; i++)
        if (((unsigned char)text[i] & 0xc0) != 0x80)
            return false;
    return true;
}

size_t utf8_length(const char *text, size_t len)
{
    if (len == 0)
        return 0;
    unsigned char a = (unsigned char)text[0];
    unsigned char b = len > 1 ? (unsigned char)text[1] : 0;
    if (a < 0x80)
        return 1;
    if (a >= 0xc2 && a <= 0xdf)
        return len >= 2 && continues(text, 1, 2) ? 2 : 0;
    if (a >= 0xe0 && a <= 0xef) {
        bool overlong = a == 0xe0 && b < 0xa0, surrogate = a == 0xed && b > 0x9f;
        return len >= 3 && !overlong && !surrogate && continues(text, 1, 3) ? 3 : 0;
    }
    if (a >= 0xf0 && a <= 0xf4) {
        bool overlong = a == 0xf0 && b < 0x90, beyond = a == 0xf4 && b > 0x8f;
        return len >= 4 && !overlong && !beyond && continues(text, 1, 4) ? 4 : 0;
    }
    return 0;
}

size_t utf8_write(char *out, uint32_t code)
{
    if (code < 0x80) {
        out[0] = (char)code;
        return 1;
    }
    if (code < 0x800) {
        out[0] = (char)(0xc0 | code >> 6);
        out[1] = (char)(0x80 | (code & 0x3f));
        return 2;
    }
    if (code < 0x10000) {
        out[0] = (char)(0xe0 | code >> 12);
        out[1] = (char)(0x80 | (code >> 6 & 0x3f));
        out[2] = (char)(0x80 | (code & 0x3f));
        return 3;
    }
    out[0] = (char)(0xf0 | code >> 18);
    out[1] = (char)(0x80 | (code >> 12 & 0x3f));
    out[2] = (char)(0x80 | (code >> 6 & 0x3f));
    out[3] = (char)(0x80 | (code & 0x3f));
    return 4;
}
