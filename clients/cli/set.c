#include "set.h"

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static json_t *value_of(const char *text)
{
    json_t *value = json_loads(text, JSON_DECODE_ANY | JSON_REJECT_DUPLICATES, NULL);
    return value ? value : json_string(text);
}

/* index of a list written in digits; SIZE_MAX: it is something else, or outside */
static size_t index_of(const json_t *list, const char *text)
{
    size_t n = strlen(text);
    if (n == 0 || n > 6 || strspn(text, "0123456789") != n)
        return SIZE_MAX;
    size_t i = strtoul(text, NULL, 10);
    return i < json_array_size(list) ? i : SIZE_MAX;
}

/* the container that a path leads through; borrowed, NULL when there is none */
static json_t *step_into(json_t *at, const char *name)
{
    if (json_is_array(at))
        return json_array_get(at, index_of(at, name));
    if (!json_is_object(at))
        return NULL;
    json_t *next = json_object_get(at, name);
    if (!next || json_is_null(next)) {
        next = json_object();
        json_object_set_new(at, name, next);
        next = json_object_get(at, name);
    }
    return next;
}

static int store(json_t *at, const char *name, json_t *value)
{
    if (json_is_array(at))
        return json_array_set_new(at, index_of(at, name), value);
    if (json_is_object(at))
        return json_object_set_new(at, name, value);
    json_decref(value);
    return -1;
}

int set_apply(json_t *root, const char *assignment, char *text, size_t size)
{
    const char *equals = strchr(assignment, '=');
    char *path = equals ? strndup(assignment, (size_t)(equals - assignment)) : NULL;
    if (!path || !path[0]) {
        snprintf(text, size, "\"%s\" is not PATH=VALUE", assignment);
        free(path);
        return -1;
    }
    json_t *at = root;
    char *name = path, *dot;
    for (; at && (dot = strchr(name, '.')); name = dot + 1) {
        *dot = '\0';
        at = step_into(at, name);
    }
    int r = at ? store(at, name, value_of(equals + 1)) : -1;
    if (r)
        snprintf(text, size, "\"%s\" does not lead to a place in the document", assignment);
    free(path);
    return r;
}
