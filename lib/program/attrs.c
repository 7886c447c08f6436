#include "program/attrs.h"

#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"

struct psg_attrs *psg_attrs_new(void)
{
    return calloc(1, sizeof(struct psg_attrs));
}

static void attr_clear(struct attr *a)
{
    if (a->kind == PSG_ATTR_STRING)
        free(a->u.s);
    else if (a->kind == PSG_ATTR_INTS)
        free(a->u.ints);
    else if (a->kind == PSG_ATTR_REALS)
        free(a->u.reals);
    free(a->name);
}

struct psg_attrs *psg_attrs_free(struct psg_attrs *a)
{
    if (!a)
        return NULL;
    for (int i = 0; i < a->n; i++)
        attr_clear(&a->list[i]);
    free(a->list);
    free(a);
    return NULL;
}

void psg_attrs_freep(struct psg_attrs **ap)
{
    *ap = psg_attrs_free(*ap);
}

const struct attr *attrs_find(const struct psg_attrs *a, const char *name)
{
    for (int i = 0; a && i < a->n; i++)
        if (strcmp(a->list[i].name, name) == 0)
            return &a->list[i];
    return NULL;
}

/* Takes over what value owns, also when it fails. */
static int attrs_append(struct psg_attrs *a, const char *name, struct attr value)
{
    value.name = NULL;
    if (attrs_find(a, name)) {
        attr_clear(&value);
        return PSG_E_INVALID;
    }
    value.name = strdup(name);
    struct attr *list = realloc(a->list, ((size_t)a->n + 1) * sizeof *list);
    if (list)
        a->list = list;
    if (!list || !value.name) {
        attr_clear(&value);
        return PSG_E_NOMEM;
    }
    a->list[a->n++] = value;
    return 0;
}

int psg_attrs_int(struct psg_attrs *a, const char *name, int64_t value)
{
    return attrs_append(a, name, (struct attr){ .kind = PSG_ATTR_INT, .n = 1, .u.i = value });
}

int psg_attrs_real(struct psg_attrs *a, const char *name, double value)
{
    return attrs_append(a, name, (struct attr){ .kind = PSG_ATTR_REAL, .n = 1, .u.r = value });
}

int psg_attrs_bool(struct psg_attrs *a, const char *name, bool value)
{
    return attrs_append(a, name, (struct attr){ .kind = PSG_ATTR_BOOL, .n = 1, .u.b = value });
}

int psg_attrs_string(struct psg_attrs *a, const char *name, const char *value)
{
    char *copy = strdup(value);
    if (!copy)
        return PSG_E_NOMEM;
    return attrs_append(a, name, (struct attr){ .kind = PSG_ATTR_STRING, .n = 1, .u.s = copy });
}

/* A copy of n elements; one spare element keeps the empty list apart from failure. */
static void *copy_list(const void *value, int n, size_t size)
{
    void *copy = calloc((size_t)n + 1, size);
    if (copy && n > 0)
        memcpy(copy, value, (size_t)n * size);
    return copy;
}

int psg_attrs_ints(struct psg_attrs *a, const char *name, const int64_t *value, int n)
{
    int64_t *copy = copy_list(value, n, sizeof *copy);
    if (!copy)
        return PSG_E_NOMEM;
    return attrs_append(a, name, (struct attr){ .kind = PSG_ATTR_INTS, .n = n, .u.ints = copy });
}

int psg_attrs_reals(struct psg_attrs *a, const char *name, const double *value, int n)
{
    double *copy = copy_list(value, n, sizeof *copy);
    if (!copy)
        return PSG_E_NOMEM;
    return attrs_append(a, name,
                        (struct attr){ .kind = PSG_ATTR_REALS, .n = n, .u.reals = copy });
}

static int attrs_append_copy(struct psg_attrs *to, const struct attr *from)
{
    switch (from->kind) {
    case PSG_ATTR_INT: return psg_attrs_int(to, from->name, from->u.i);
    case PSG_ATTR_REAL: return psg_attrs_real(to, from->name, from->u.r);
    case PSG_ATTR_BOOL: return psg_attrs_bool(to, from->name, from->u.b);
    case PSG_ATTR_STRING: return psg_attrs_string(to, from->name, from->u.s);
    case PSG_ATTR_INTS: return psg_attrs_ints(to, from->name, from->u.ints, from->n);
    case PSG_ATTR_REALS: return psg_attrs_reals(to, from->name, from->u.reals, from->n);
    }
    return PSG_E_INVALID;
}

struct psg_attrs *attrs_copy(const struct psg_attrs *a)
{
    return attrs_without(a, NULL);
}

struct psg_attrs *attrs_without(const struct psg_attrs *a, const char *name)
{
    _cleanup_(psg_attrs_freep) struct psg_attrs *copy = psg_attrs_new();
    if (!copy)
        return NULL;
    for (int i = 0; a && i < a->n; i++)
        if ((!name || strcmp(a->list[i].name, name) != 0) &&
            attrs_append_copy(copy, &a->list[i]))
            return NULL;
    return steal(&copy);
}
