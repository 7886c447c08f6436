/* Token bucket: `rate` requests a second on average, `burst` at once. */
#ifndef DAEMON_HTTP_LIMIT_H
#define DAEMON_HTTP_LIMIT_H

#include <stdbool.h>
#include <stdint.h>

struct bucket {
    double level; /* what may be taken */
    uint64_t at_ms; /* when level was true; 0: a new bucket, full */
};

/* Takes one. Otherwise false, with the seconds until the next one in *wait_s (at least 1). */
static inline bool bucket_take(struct bucket *bucket, uint64_t now_ms, uint64_t rate,
                               uint64_t burst, unsigned *wait_s)
{
    double most = (double)burst;
    if (bucket->at_ms == 0)
        bucket->level = most;
    else if (now_ms > bucket->at_ms)
        bucket->level += (double)(now_ms - bucket->at_ms) * (double)rate / 1000;
    if (bucket->level > most)
        bucket->level = most;
    bucket->at_ms = now_ms == 0 ? 1 : now_ms;
    if (bucket->level >= 1) {
        bucket->level -= 1;
        return true;
    }
    *wait_s = 1 + (unsigned)((1 - bucket->level) / (double)rate);
    return false;
}

#endif
