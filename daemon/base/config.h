/* The configuration: `[Section]` and `Key=Value` lines, `#` and `;` comments, then the files of
 * the drop-in folder FILE.d in alphabetical order (names ending in .conf). A later value wins.
 * An unknown section or key, a repeated key in one file, a value out of range: nothing starts,
 * and the error names file and line. config.inc lists every key with its default and its unit.
 *
 * A struct config is plain data owned by its creator; nothing here keeps state. */
#ifndef DAEMON_BASE_CONFIG_H
#define DAEMON_BASE_CONFIG_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

enum config_auth { CONFIG_AUTH_TOKEN, CONFIG_AUTH_NONE };

enum config_key {
#define CONFIG_ANY(section, key, field, ...) CONFIG_KEY_##field,
#include "base/config_any.inc"
    CONFIG_N_KEYS
};

struct config {
#define CONFIG_TEXT(section, key, field, ...) char *field;
#define CONFIG_LIST(section, key, field, ...) char *field;
#define CONFIG_COUNT(section, key, field, ...) uint64_t field;
#define CONFIG_SIZE(section, key, field, ...) uint64_t field;
#define CONFIG_TIME(section, key, field, ...) uint64_t field;
#define CONFIG_FLAG(section, key, field, ...) uint64_t field;
#define CONFIG_CHOICE(section, key, field, ...) uint64_t field; /* index in its list */
#include "base/config.inc"
#undef CONFIG_TEXT
#undef CONFIG_LIST
#undef CONFIG_COUNT
#undef CONFIG_SIZE
#undef CONFIG_TIME
#undef CONFIG_FLAG
#undef CONFIG_CHOICE
    char *origin[CONFIG_N_KEYS]; /* "file:line", "command line" or NULL for the default */
};

struct config_error {
    char place[256]; /* file:line, or the option */
    char text[256];
};

/* A new configuration holding the defaults; NULL when out of memory. */
struct config *config_alloc(void);
/* Takes NULL; returns NULL. */
struct config *config_free(struct config *config);

/* Applies the text of one file; name stands in errors. 0, -EINVAL or -ENOMEM with *err filled;
 * after an error the configuration is half applied and only good for config_free. */
int config_parse(struct config *config, const char *text, size_t n, const char *name,
                 struct config_error *err);

/* Applies FILE (NULL: none) and its drop-ins. 0, -EINVAL, -ENOMEM or the errno of a read. */
int config_load(struct config *config, const char *file, struct config_error *err);

/* Sets one key as a line of a file would, for options of the command line. */
int config_set(struct config *config, enum config_key key, const char *value,
               const char *origin, struct config_error *err);

/* Rules between keys: authentication off or TLS missing on an address that is not loopback, a
 * certificate without a key, a listen address that cannot be parsed. 0 or -EINVAL. */
int config_check(const struct config *config, struct config_error *err);

/* Every key with value and, as a comment, where it came from; parses back to the same. */
void config_print(const struct config *config, FILE *out);

/* Copies what may change while running from *next into *config. Names the first key that
 * differs and needs a restart in *pending (a constant), or sets it to NULL. 0 or -ENOMEM. */
int config_reload(struct config *config, const struct config *next, const char **pending);

/* Splits ADDR:PORT, "[v6]:PORT" included; addr takes at most size bytes. 0 or -EINVAL. */
int config_split_listen(const char *listen, char *addr, size_t size, uint16_t *port);

/* True for 127.0.0.0/8, ::1 and "localhost". */
bool config_is_loopback(const char *addr);

/* Log level number of the Log.Level choice. */
int config_log_level(const struct config *config);

#endif
