#include "path.h"

#include <assert.h>
#include <stdio.h>
#include <string.h>

void path_push_name(struct path *path, const char *name)
{
    assert(path->n < PATH_MAX_SEGMENTS);
    path->segments[path->n].name = name;
    path->segments[path->n++].index = 0;
}

void path_push_index(struct path *path, size_t index)
{
    assert(path->n < PATH_MAX_SEGMENTS);
    path->segments[path->n].name = NULL;
    path->segments[path->n++].index = index;
}

void path_pop(struct path *path)
{
    assert(path->n);
    path->n--;
}

/* "~" is "~0" and "/" is "~1"; returns the length, or 0 when it does not fit */
static size_t segment_text(const char *name, char *out, size_t size)
{
    size_t n = 0;
    for (; *name; name++) {
        if (n + 3 > size)
            return 0;
        if (*name == '~' || *name == '/') {
            out[n++] = '~';
            out[n++] = *name == '~' ? '0' : '1';
        } else {
            out[n++] = *name;
        }
    }
    return n;
}

char *path_text(const struct path *path, char buf[PROBLEM_POINTER_MAX])
{
    size_t n = 0;
    for (size_t i = 0; i < path->n; i++) {
        char number[24], *name = number;
        snprintf(number, sizeof number, "%zu", path->segments[i].index);
        size_t room = PROBLEM_POINTER_MAX - n;
        if (room < 4)
            break;
        size_t k = segment_text(path->segments[i].name ? path->segments[i].name : name,
                                buf + n + 1, room - 2);
        if (k == 0 && path->segments[i].name && path->segments[i].name[0])
            break;
        buf[n] = '/';
        n += k + 1;
    }
    buf[n] = '\0';
    return buf;
}
