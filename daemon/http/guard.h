/* What is wrong with a request before anybody looks at what it asks for: framing that a proxy
 * could read another way, a Host that is not ours (DNS rebinding), an Origin that is not ours
 * (another page in the same browser). Checked on every method, health probes too. */
#ifndef DAEMON_HTTP_GUARD_H
#define DAEMON_HTTP_GUARD_H

#include "http/request.h"

/* Facts of the headers, collected in one pass. */
struct guard_headers {
    unsigned n_content_length, n_transfer_encoding, n_host, n_origin, n_authorization;
    const char *content_length, *transfer_encoding, *host, *origin;
    uint64_t length; /* of the body; 0 when chunked or absent */
    bool chunked;
    bool odd_bytes; /* control characters in a name or a value */
};

void guard_collect(struct MHD_Connection *mhd, struct guard_headers *headers);

/* PROBLEM_NONE, or the problem with a sentence in *why. local: came over the Unix socket, where
 * any host name is fine. allowed: names separated by spaces or commas. bound: the numeric
 * address that the connection came in on. Fills length and chunked. */
enum problem_type guard_check(struct guard_headers *headers, bool http_1_0, bool local,
                              const char *allowed, const char *bound, const char **why);

/* Whether "name:port", "[v6]" and so on names loopback, bound or a name in the list. */
bool guard_host_allowed(const char *host, size_t n, const char *allowed, const char *bound);

#endif
