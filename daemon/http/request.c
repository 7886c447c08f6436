#include "http/request.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

const char *request_header(const struct request *req, const char *name)
{
    return MHD_lookup_connection_value(req->mhd, MHD_HEADER_KIND, name);
}

bool request_key(const struct request *req, const char **keyp, struct problem *p)
{
    enum { KEY_MAX = 255 };
    const char *key = *keyp = request_header(req, "Idempotency-Key");
    size_t n = 0;
    while (key != NULL && key[n] > ' ' && key[n] <= '~')
        n++;
    if (key == NULL || (n > 0 && n <= KEY_MAX && key[n] == '\0'))
        return true;
    problem_set(p, PROBLEM_BAD_REQUEST,
                "Idempotency-Key: 1 to %d printable characters without spaces", KEY_MAX);
    return false;
}

const char *request_param(const struct request *req, const char *name)
{
    return target_param(&req->target, name);
}

bool request_param_int(const struct request *req, const char *name, int64_t low, int64_t high,
                       int64_t *valuep, struct problem *p)
{
    const char *text = request_param(req, name);
    if (text == NULL)
        return true;
    char *end;
    errno = 0;
    long long value = strtoll(text, &end, 10);
    bool digits = *text >= '0' && *text <= '9';
    if (!digits || *end != '\0' || errno != 0 || value < low || value > high) {
        problem_set(p, PROBLEM_BAD_REQUEST,
                    "parameter %s: expected a whole number from %" PRId64 " to %" PRId64, name,
                    low, high);
        return false;
    }
    *valuep = value;
    return true;
}

bool request_param_flag(const struct request *req, const char *name, bool *valuep,
                        struct problem *p)
{
    const char *text = request_param(req, name);
    *valuep = text != NULL &&
              (*text == '\0' || strcmp(text, "true") == 0 || strcmp(text, "1") == 0);
    if (text == NULL || *valuep || strcmp(text, "false") == 0 || strcmp(text, "0") == 0)
        return true;
    problem_set(p, PROBLEM_BAD_REQUEST, "parameter %s: expected true or false", name);
    return false;
}

bool request_may(const struct request *req, unsigned roles)
{
    return (req->who.role & roles) != 0;
}

const char *request_viewer(const struct request *req)
{
    return req->who.role == AUTH_SUBMITTER ? req->who.owner : NULL;
}
