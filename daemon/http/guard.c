#include "http/guard.h"

#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "base/config.h"

static bool has_odd_bytes(const char *text, size_t n)
{
    for (size_t i = 0; i < n; i++)
        if (((unsigned char)text[i] < ' ' && text[i] != '\t') || text[i] == 0x7f)
            return true;
    return false;
}

static enum MHD_Result collect(void *cls, enum MHD_ValueKind kind, const char *name, size_t n_name,
                               const char *value, size_t n_value)
{
    struct guard_headers *h = cls;
    (void)kind;
    if (value == NULL) {
        value = "";
        n_value = 0;
    }
    h->odd_bytes |= n_name == 0 || has_odd_bytes(name, n_name) || has_odd_bytes(value, n_value) ||
                    memchr(name, ' ', n_name) != NULL;
    if (strcasecmp(name, "Content-Length") == 0) {
        h->n_content_length++;
        h->content_length = value;
    } else if (strcasecmp(name, "Transfer-Encoding") == 0) {
        h->n_transfer_encoding++;
        h->transfer_encoding = value;
    } else if (strcasecmp(name, "Host") == 0) {
        h->n_host++;
        h->host = value;
    } else if (strcasecmp(name, "Origin") == 0) {
        h->n_origin++;
        h->origin = value;
    } else if (strcasecmp(name, "Authorization") == 0) {
        h->n_authorization++;
    }
    return MHD_YES;
}

void guard_collect(struct MHD_Connection *mhd, struct guard_headers *headers)
{
    memset(headers, 0, sizeof *headers);
    MHD_get_connection_values_n(mhd, MHD_HEADER_KIND, collect, headers);
}

/* Reads Content-Length: digits only. */
static bool parse_length(const char *text, uint64_t *length)
{
    size_t n = strspn(text, "0123456789");
    if (n == 0 || n > 19 || text[n] != '\0')
        return false;
    *length = strtoull(text, NULL, 10);
    return true;
}

static bool same_name(const char *host, size_t n, const char *name, size_t n_name)
{
    return n == n_name && strncasecmp(host, name, n) == 0;
}

bool guard_host_allowed(const char *host, size_t n, const char *allowed, const char *bound)
{
    char name[256];
    /* without the port and the brackets */
    if (n > 0 && host[0] == '[') {
        const char *end = memchr(host, ']', n);
        if (end == NULL || (end + 1 < host + n && end[1] != ':'))
            return false;
        n = (size_t)(end - host) - 1;
        host++;
    } else {
        const char *colon = memchr(host, ':', n);
        if (colon != NULL)
            n = (size_t)(colon - host);
    }
    if (n == 0 || n >= sizeof name)
        return false;
    memcpy(name, host, n);
    name[n] = '\0';
    if (strcasecmp(name, "localhost") == 0 || config_is_loopback(name) ||
        same_name(host, n, bound, strlen(bound)))
        return true;
    for (const char *p = allowed; *p != '\0';) {
        size_t len = strcspn(p, " ,\t");
        if (len > 0 && same_name(host, n, p, len))
            return true;
        p += len;
        p += strspn(p, " ,\t");
    }
    return false;
}

static enum problem_type check_framing(struct guard_headers *h, const char **why)
{
    *why = "a header has control characters or an odd name";
    if (h->odd_bytes)
        return PROBLEM_BAD_REQUEST;
    *why = "Content-Length and Transfer-Encoding exclude each other";
    if (h->n_content_length > 0 && h->n_transfer_encoding > 0)
        return PROBLEM_BAD_REQUEST;
    *why = "Content-Length must be given once, in digits";
    if (h->n_content_length > 1 ||
        (h->n_content_length == 1 && !parse_length(h->content_length, &h->length)))
        return PROBLEM_BAD_REQUEST;
    *why = "the only Transfer-Encoding here is chunked, once";
    if (h->n_transfer_encoding > 1 ||
        (h->n_transfer_encoding == 1 && strcasecmp(h->transfer_encoding, "chunked") != 0))
        return PROBLEM_BAD_REQUEST;
    h->chunked = h->n_transfer_encoding == 1;
    *why = "Authorization must be given once";
    if (h->n_authorization > 1)
        return PROBLEM_BAD_REQUEST;
    return PROBLEM_NONE;
}

enum problem_type guard_check(struct guard_headers *h, bool http_1_0, bool local,
                              const char *allowed, const char *bound, const char **why)
{
    enum problem_type type = check_framing(h, why);
    if (type != PROBLEM_NONE)
        return type;
    *why = "Host must be given once";
    if (h->n_host > 1 || (h->n_host == 0 && !http_1_0))
        return PROBLEM_BAD_REQUEST;
    *why = "Host is not a name of this service; [Server] AllowedHosts= lists them";
    if (h->n_host == 1 && !local &&
        !guard_host_allowed(h->host, strlen(h->host), allowed, bound))
        return PROBLEM_MISDIRECTED_REQUEST;
    if (h->n_origin == 0)
        return PROBLEM_NONE;
    /* a page of ours, or of a host that the administrator named */
    *why = "requests from pages of other origins are refused";
    const char *name = strstr(h->origin, "://");
    if (h->n_origin > 1 || name == NULL)
        return PROBLEM_FORBIDDEN;
    name += 3;
    if (h->n_host == 1 && strcasecmp(name, h->host) == 0)
        return PROBLEM_NONE;
    size_t n = strcspn(name, ":");
    for (const char *p = allowed; *p != '\0';) {
        size_t len = strcspn(p, " ,\t");
        if (len > 0 && same_name(name, n, p, len))
            return PROBLEM_NONE;
        p += len;
        p += strspn(p, " ,\t");
    }
    return PROBLEM_FORBIDDEN;
}
