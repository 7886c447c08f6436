/* Counters of the HTTP layer and the Prometheus text of everything (GET /metrics). */
#ifndef DAEMON_HTTP_METRICS_H
#define DAEMON_HTTP_METRICS_H

#include <stddef.h>
#include <stdint.h>

struct request;
struct http_server;

enum { METRICS_ROUTES_MAX = 64, METRICS_CODES_MAX = 12, METRICS_BUCKETS = 8 };

struct metrics_route {
    struct {
        unsigned code;
        uint64_t n;
    } codes[METRICS_CODES_MAX];
    uint64_t buckets[METRICS_BUCKETS + 1]; /* the last one: longer than all bounds */
    double seconds;
};

struct metrics {
    struct metrics_route routes[METRICS_ROUTES_MAX + 1]; /* the last one: no route */
    uint64_t logins_failed;
};

/* A request has been answered; index of its route in the table. Streams count when they end,
 * without their duration. */
void metrics_count(struct metrics *metrics, size_t route, unsigned code, double seconds,
                   int is_stream);

/* The whole page, to be freed; NULL when out of memory. */
char *metrics_text(struct http_server *server, size_t *np);

#endif
