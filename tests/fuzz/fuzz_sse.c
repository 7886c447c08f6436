/* The client's event-stream parser: fed at once and byte by byte, the same events come out.
 */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "sse.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

struct sum {
    uint64_t hash;
    size_t n;
};

static void add(struct sum *sum, const char *bytes, size_t len)
{
    for (size_t i = 0; i < len; i++)
        sum->hash = (sum->hash ^ (unsigned char)bytes[i]) * 1099511628211u;
    sum->hash = (sum->hash ^ len) * 1099511628211u;
}

static int on_event(const char *event, const char *id, const char *data, size_t len,
                    void *user)
{
    struct sum *sum = user;
    add(sum, event, strlen(event));
    add(sum, id, strlen(id));
    add(sum, data, len);
    sum->n++;
    return 0;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct sse_parser parser;
    struct sum whole = { .n = 0 }, pieces = { .n = 0 };
    const char *bytes = (const char *)data;
    sse_init(&parser);
    int r = sse_feed(&parser, bytes, size, on_event, &whole);
    sse_free(&parser);
    for (size_t i = 0; i < size && r == 0; i++)
        if (sse_feed(&parser, bytes + i, 1, on_event, &pieces))
            abort();
    sse_free(&parser);
    if (r == 0 && (whole.hash != pieces.hash || whole.n != pieces.n))
        abort();
    return 0;
}
