#include "http/target.h"

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

static int hex_value(char c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    if (c >= 'a' && c <= 'f')
        return c - 'a' + 10;
    if (c >= 'A' && c <= 'F')
        return c - 'A' + 10;
    return -1;
}

/* Decodes in place; false for a bad escape, an escaped NUL or a control character. */
static bool decode(char *text, bool plus_is_space)
{
    char *out = text;
    for (const char *p = text; *p != '\0'; p++) {
        char c = *p;
        if (c == '%') {
            int high = hex_value(p[1]), low = high < 0 ? -1 : hex_value(p[2]);
            if (low < 0)
                return false;
            c = (char)(high * 16 + low);
            p += 2;
        } else if (c == '+' && plus_is_space) {
            c = ' ';
        }
        if ((unsigned char)c < ' ' || c == 0x7f)
            return false;
        *out++ = c;
    }
    *out = '\0';
    return true;
}

static bool is_utf8(const char *text)
{
    const unsigned char *p = (const unsigned char *)text;
    while (*p != '\0') {
        size_t n;
        uint32_t code, low;
        if (*p < 0x80) {
            p++;
            continue;
        }
        if (*p >= 0xc2 && *p < 0xe0) {
            n = 1, code = *p & 0x1fu, low = 0x80;
        } else if ((*p & 0xf0) == 0xe0) {
            n = 2, code = *p & 0x0fu, low = 0x800;
        } else if (*p >= 0xf0 && *p < 0xf5) {
            n = 3, code = *p & 0x07u, low = 0x10000;
        } else {
            return false;
        }
        for (size_t i = 1; i <= n; i++) {
            if ((p[i] & 0xc0) != 0x80)
                return false;
            code = code << 6 | (p[i] & 0x3fu);
        }
        if (code < low || code > 0x10ffff || (code >= 0xd800 && code < 0xe000))
            return false;
        p += n + 1;
    }
    return true;
}

static const char *parse_path(struct target *target, char *path)
{
    if (path[1] == '\0')
        return NULL;
    for (char *part = path + 1; part != NULL;) {
        char *slash = strchr(part, '/');
        if (slash != NULL)
            *slash = '\0';
        if (target->n_segments == TARGET_SEGMENTS_MAX)
            return "the path has too many parts";
        if (!decode(part, false) || !is_utf8(part))
            return "the path has a bad escape, a control character or is not UTF-8";
        if (strchr(part, '/') != NULL || strcmp(part, ".") == 0 || strcmp(part, "..") == 0)
            return "the path has a dot segment or an escaped slash";
        target->segments[target->n_segments++] = part;
        part = slash == NULL ? NULL : slash + 1;
    }
    return NULL;
}

static const char *parse_query(struct target *target, char *query)
{
    while (query != NULL && *query != '\0') {
        char *end = strchr(query, '&');
        if (end != NULL)
            *end = '\0';
        if (target->n_params == TARGET_PARAMS_MAX)
            return "the query has too many parameters";
        char *equals = strchr(query, '=');
        char *value = query + strlen(query);
        if (equals != NULL) {
            *equals = '\0';
            value = equals + 1;
        }
        if (!decode(query, true) || !decode(value, true) || !is_utf8(query) || !is_utf8(value))
            return "the query has a bad escape, a control character or is not UTF-8";
        if (target_param(target, query) != NULL)
            return "the query has a parameter twice";
        target->params[target->n_params].name = query;
        target->params[target->n_params++].value = value;
        query = end == NULL ? NULL : end + 1;
    }
    return NULL;
}

const char *target_parse(struct target *target, const char *raw)
{
    memset(target, 0, sizeof *target);
    if (raw[0] != '/')
        return "the request target must start with a slash";
    size_t n = strnlen(raw, TARGET_MAX + 1);
    if (n > TARGET_MAX)
        return "the request target is too long";
    target->text = strdup(raw);
    if (target->text == NULL)
        return "out of memory";
    char *query = strchr(target->text, '?');
    if (query != NULL)
        *query++ = '\0';
    const char *why = parse_path(target, target->text);
    return why != NULL ? why : parse_query(target, query);
}

void target_clear(struct target *target)
{
    free(target->text);
    memset(target, 0, sizeof *target);
}

const char *target_param(const struct target *target, const char *name)
{
    for (size_t i = 0; i < target->n_params; i++)
        if (strcmp(target->params[i].name, name) == 0)
            return target->params[i].value;
    return NULL;
}
