/* The route table: routes.inc, one line per endpoint, handlers in route_*.c. */
#ifndef DAEMON_HTTP_ROUTE_H
#define DAEMON_HTTP_ROUTE_H

#include "http/request.h"

extern const struct route routes[];
extern const size_t n_routes;

/* The route for this path and method, its "{}" segments in args. NULL: none; then *allowp has a
 * bit (1 << enum method) for every method that the path does have. */
const struct route *route_find(const struct target *target, int method, const char *args[2],
                               unsigned *allowp);

/* "GET, HEAD, POST" for the bits. */
void route_allow_text(unsigned allow, char *buf, size_t size);

/* "GET" and so on; -1 for a method that no route has. HEAD is GET with *headp. */
int route_method_parse(const char *text, bool *headp);
const char *route_method_name(enum method method);

/* Whether word is one of the words, separated by spaces, of list. */
bool route_has_word(const char *list, const char *word);

#define ROUTE(method, pattern, handler, roles, body, params, offers)                           \
    enum MHD_Result handler(struct request *req);
#include "http/routes.inc"
#undef ROUTE

#endif
