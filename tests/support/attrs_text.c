#include "attrs_text.h"

#include <ctype.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"

enum { LIST_MAX = 64 };

static bool is_number(const char *text)
{
    return isdigit((unsigned char)*text) || ((*text == '-' || *text == '.') && text[1]);
}

static int set_list(struct psg_attrs *a, const char *name, char *value)
{
    int64_t ints[LIST_MAX];
    double reals[LIST_MAX];
    int n = 0;
    bool real = strpbrk(value, ".e") != NULL;
    char *save = NULL;
    for (char *word = strtok_r(value, ",", &save); word; word = strtok_r(NULL, ",", &save)) {
        if (n == LIST_MAX || !is_number(word))
            return PSG_E_INVALID;
        ints[n] = strtoll(word, NULL, 10);
        reals[n++] = strtod(word, NULL);
    }
    return real ? psg_attrs_reals(a, name, reals, n) : psg_attrs_ints(a, name, ints, n);
}

static int set_one(struct psg_attrs *a, char *word)
{
    char *value = strchr(word, '=');
    if (!value)
        return PSG_E_INVALID;
    *value++ = '\0';
    if (strcmp(value, "true") == 0 || strcmp(value, "false") == 0)
        return psg_attrs_bool(a, word, value[0] == 't');
    if (!is_number(value))
        return psg_attrs_string(a, word, value);
    if (strchr(value, ','))
        return set_list(a, word, value);
    if (strpbrk(value, ".e"))
        return psg_attrs_real(a, word, strtod(value, NULL));
    return psg_attrs_int(a, word, strtoll(value, NULL, 10));
}

struct psg_attrs *attrs_from_text(const char *text)
{
    _cleanup_(psg_attrs_freep) struct psg_attrs *a = psg_attrs_new();
    _cleanup_free_ char *copy = strdup(text);
    char *save = NULL;
    if (!a || !copy)
        return NULL;
    for (char *word = strtok_r(copy, " ", &save); word; word = strtok_r(NULL, " ", &save))
        if (set_one(a, word))
            return NULL;
    return steal(&a);
}
