/* The configuration file. What parses must print, and what was printed must parse to the same. */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/config.h"

static char *print(const struct config *config, size_t *n)
{
    char *text = NULL;
    FILE *out = open_memstream(&text, n);
    if (out == NULL)
        abort();
    config_print(config, out);
    if (fclose(out) != 0)
        abort();
    return text;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct config_error err = { "", "" };
    struct config *config = config_alloc(), *again = config_alloc();
    if (config == NULL || again == NULL)
        abort();
    if (config_parse(config, (const char *)data, size, "f", &err) != 0) {
        if (err.place[0] == '\0' || err.text[0] == '\0')
            abort(); /* a refusal names its place */
    } else {
        size_t n = 0, n_again = 0;
        char *text = print(config, &n);
        config_check(config, &err);
        if (config_parse(again, text, n, "f", &err) != 0)
            abort();
        const char *pending;
        if (config_reload(config, again, &pending) != 0 || pending != NULL)
            abort(); /* something differs */
        free(print(again, &n_again));
        free(text);
    }
    config_free(config);
    config_free(again);
    return 0;
}
