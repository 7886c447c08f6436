#include "http/route.h"

#include <stdio.h>
#include <string.h>
#include <strings.h>

const struct route routes[] = {
#define ROUTE(m, pattern, handler, roles, body, params, offers)                                \
    { METHOD_##m, pattern, handler, roles, body, params, offers },
#include "http/routes.inc"
#undef ROUTE
};

const size_t n_routes = sizeof routes / sizeof routes[0];

static const char *const method_names[N_METHODS] = { "GET", "POST", "PATCH", "DELETE" };

int route_method_parse(const char *text, bool *headp)
{
    *headp = strcmp(text, "HEAD") == 0;
    if (*headp)
        return METHOD_GET;
    for (int i = 0; i < N_METHODS; i++)
        if (strcmp(text, method_names[i]) == 0)
            return i;
    return -1;
}

const char *route_method_name(enum method method)
{
    return method_names[method];
}

static bool matches(const char *pattern, const struct target *target, const char *args[2])
{
    size_t i = 0, n_args = 0;
    for (const char *p = pattern + 1; *p != '\0'; i++) {
        size_t n = strcspn(p, "/");
        if (i == target->n_segments)
            return false;
        const char *segment = target->segments[i];
        if (n == 2 && memcmp(p, "{}", 2) == 0) {
            if (*segment == '\0')
                return false;
            args[n_args++] = segment;
        } else if (strlen(segment) != n || memcmp(segment, p, n) != 0) {
            return false;
        }
        p += n;
        p += *p == '/';
    }
    return i == target->n_segments;
}

const struct route *route_find(const struct target *target, int method, const char *args[2],
                               unsigned *allowp)
{
    *allowp = 0;
    for (size_t i = 0; i < n_routes; i++) {
        if (!matches(routes[i].pattern, target, args))
            continue;
        if ((int)routes[i].method == method)
            return &routes[i];
        *allowp |= 1u << routes[i].method;
    }
    return NULL;
}

void route_allow_text(unsigned allow, char *buf, size_t size)
{
    size_t n = 0;
    buf[0] = '\0';
    for (int i = 0; i < N_METHODS && n < size; i++)
        if (allow & 1u << i)
            n += (size_t)snprintf(buf + n, size - n, "%s%s%s", n > 0 ? ", " : "",
                                  method_names[i], i == METHOD_GET ? ", HEAD" : "");
}

bool route_has_word(const char *list, const char *word)
{
    size_t n = strlen(word);
    for (const char *p = list; *p != '\0';) {
        size_t len = strcspn(p, " ");
        if (len == n && memcmp(p, word, n) == 0)
            return true;
        p += len;
        p += *p == ' ';
    }
    return false;
}
