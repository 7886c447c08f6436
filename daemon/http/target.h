/* A request target (`/jobs/j1/events?after=3`) taken apart: path segments and parameters,
 * percent-decoded. Pure; bounded; strict, so that nothing further in meets odd bytes. */
#ifndef DAEMON_HTTP_TARGET_H
#define DAEMON_HTTP_TARGET_H

#include <stdbool.h>
#include <stddef.h>

enum { TARGET_MAX = 4096, TARGET_SEGMENTS_MAX = 8, TARGET_PARAMS_MAX = 16 };

struct target {
    char *text; /* owns what the pointers below point into */
    size_t n_segments;
    const char *segments[TARGET_SEGMENTS_MAX]; /* "/" has none */
    size_t n_params;
    struct {
        const char *name, *value; /* value is "" when there is no "=" */
    } params[TARGET_PARAMS_MAX];
};

/* NULL when the target is good, else a sentence that says why not (a constant). Refused: no
 * leading slash, too long or too many parts, a bad escape, control characters or NUL however
 * written, bytes that are not UTF-8, "/" or a dot segment behind an escape, a parameter twice. */
const char *target_parse(struct target *target, const char *raw);

void target_clear(struct target *target);

/* Value of a parameter; NULL when it is absent. */
const char *target_param(const struct target *target, const char *name);

#endif
