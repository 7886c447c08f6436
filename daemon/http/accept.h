/* Media type negotiation (RFC 9110, section 12.5.1). Pure. */
#ifndef DAEMON_HTTP_ACCEPT_H
#define DAEMON_HTTP_ACCEPT_H

#include <stdbool.h>
#include <stddef.h>

/* Index of the offer that the Accept header likes best, the first of equals; -1 if it takes
 * none. accept NULL or empty takes anything. A header that makes no sense takes nothing. */
int accept_best(const char *accept, const char *const *offers, size_t n_offers);

/* Whether a Content-Type is this media type, with or without parameters (charset: UTF-8 only). */
bool accept_content_type(const char *header, const char *type);

#endif
