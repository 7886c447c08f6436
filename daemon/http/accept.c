#include "http/accept.h"

#include <string.h>
#include <strings.h>

/* One element of the header: how well it matches an offer (0 not, 1 any, 2 type, 3 exactly). */
static int match(const char *range, size_t n, const char *offer)
{
    const char *slash = strchr(offer, '/');
    size_t n_type = (size_t)(slash - offer);
    if (n == 3 && memcmp(range, "*/*", 3) == 0)
        return 1;
    if (n == n_type + 2 && strncasecmp(range, offer, n_type + 1) == 0 && range[n - 1] == '*')
        return 2;
    return n == strlen(offer) && strncasecmp(range, offer, n) == 0 ? 3 : 0;
}

/* Quality in thousandths of the parameters "; a=b; q=0.5" up to end; -1 if malformed. */
static int quality(const char *p, const char *end)
{
    while (p < end) {
        p++; /* the semicolon */
        while (p < end && (*p == ' ' || *p == '\t'))
            p++;
        const char *stop = memchr(p, ';', (size_t)(end - p));
        if (stop == NULL)
            stop = end;
        if (stop - p >= 2 && (p[0] == 'q' || p[0] == 'Q') && p[1] == '=') {
            int whole = p[2] - '0', thousandths = 0, unit = 100;
            if (stop - p < 3 || whole < 0 || whole > 1)
                return -1;
            const char *digit = p + 3;
            if (digit < stop && *digit == '.')
                for (digit++; digit < stop && *digit >= '0' && *digit <= '9'; digit++) {
                    thousandths += (*digit - '0') * unit;
                    unit /= 10;
                }
            while (digit < stop && (*digit == ' ' || *digit == '\t'))
                digit++;
            int q = whole * 1000 + thousandths;
            return digit != stop || q > 1000 ? -1 : q;
        }
        p = stop;
    }
    return 1000;
}

/* Quality that the header gives one offer; the most specific element counts. */
static int offer_quality(const char *accept, const char *offer)
{
    int best = 0, q_best = 0;
    for (const char *p = accept; *p != '\0';) {
        p += strspn(p, " \t,");
        const char *end = p + strcspn(p, ",");
        size_t n = strcspn(p, ";, \t");
        const char *params = p + n;
        while (params < end && *params != ';')
            params++;
        int how = n == 0 ? 0 : match(p, n, offer);
        if (how > best) {
            int q = quality(params, end);
            best = how;
            q_best = q < 0 ? 0 : q;
        }
        p = end;
    }
    return q_best;
}

int accept_best(const char *accept, const char *const *offers, size_t n_offers)
{
    if (accept == NULL || *accept == '\0')
        return 0;
    int best = -1, q_best = 0;
    for (size_t i = 0; i < n_offers; i++) {
        int q = offer_quality(accept, offers[i]);
        if (q > q_best) {
            best = (int)i;
            q_best = q;
        }
    }
    return best;
}

bool accept_content_type(const char *header, const char *type)
{
    size_t n = strlen(type);
    if (header == NULL || strncasecmp(header, type, n) != 0)
        return false;
    const char *p = header + n;
    p += strspn(p, " \t");
    if (*p == '\0')
        return true;
    if (*p++ != ';')
        return false;
    p += strspn(p, " \t");
    if (strncasecmp(p, "charset=", 8) != 0)
        return *p == '\0';
    p += 8;
    bool quoted = *p == '"';
    p += quoted;
    if (strncasecmp(p, "utf-8", 5) != 0)
        return false;
    p += 5;
    p += quoted && *p == '"';
    return p[strspn(p, " \t")] == '\0';
}
