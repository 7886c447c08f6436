/* What a client writes into the request's first lines: target, Accept, Content-Type, Host. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "http/accept.h"
#include "http/guard.h"
#include "http/target.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const char *const offers[] = { "application/json", "text/event-stream" };
    struct target target;
    char *text = malloc(size + 1);
    if (text == NULL)
        abort();
    memcpy(text, data, size);
    text[size] = '\0';
    if (target_parse(&target, text) == NULL)
        for (size_t i = 0; i < target.n_segments; i++)
            if (strchr(target.segments[i], '/') != NULL || strcmp(target.segments[i], "..") == 0)
                abort(); /* no path may leave its place */
    target_clear(&target);
    int best = accept_best(text, offers, 2);
    if (best < -1 || best > 1)
        abort();
    accept_content_type(text, "application/json");
    guard_host_allowed(text, strlen(text), "lab.example", "10.0.0.7");
    guard_host_allowed("lab.example", 11, text, "");
    free(text);
    return 0;
}
