/* Structured log lines: `ts=... level=info event=request method=GET status=200`.
 *
 * One line is one write(2), at most LOG_LINE_MAX bytes, whatever the values hold: control
 * characters, quotes and bytes that are not UTF-8 are escaped, long values are cut and end in
 * "...". Text that looks like an access token is replaced by "[token]" wherever it appears.
 * Under the systemd journal a line starts with the "<N>" priority and has no time of its own.
 *
 * Thread: log_write may be called from any thread; the level is set by the loop thread only. */
#ifndef DAEMON_BASE_LOG_H
#define DAEMON_BASE_LOG_H

#include <stdbool.h>
#include <stdint.h>
#include <stddef.h>

enum { LOG_LINE_MAX = 2048, LOG_VALUE_MAX = 512 };

/* Values are syslog priorities. */
enum log_level {
    LOG_LEVEL_ERROR = 3,
    LOG_LEVEL_WARNING = 4,
    LOG_LEVEL_NOTICE = 5,
    LOG_LEVEL_INFO = 6,
    LOG_LEVEL_DEBUG = 7
};

struct log {
    int fd;
    int level;    /* lines above this priority number are dropped */
    bool journal; /* the reader is the systemd journal */
};

enum log_kind { LOG_KIND_TEXT, LOG_KIND_INT, LOG_KIND_REAL };

struct log_field {
    const char *key; /* a constant of the program, never user text */
    enum log_kind kind;
    union {
        const char *text; /* may be NULL: the field is left out */
        int64_t integer;
        double real;
    } value;
};

#define LOG_TEXT(k, v) ((struct log_field){ (k), LOG_KIND_TEXT, { .text = (v) } })
#define LOG_INT(k, v) ((struct log_field){ (k), LOG_KIND_INT, { .integer = (int64_t)(v) } })
#define LOG_REAL(k, v) ((struct log_field){ (k), LOG_KIND_REAL, { .real = (v) } })

/* Prepares *log for fd; journal is found out from JOURNAL_STREAM, as systemd documents it. */
void log_init(struct log *log, int fd, enum log_level level);

/* Writes one line; log may be NULL (nothing happens). A full or closed fd loses the line. */
void log_write(const struct log *log, enum log_level level, const char *event,
               const struct log_field *fields, size_t n_fields);

/* Formats what log_write writes, newline included; returns the length, < size. */
size_t log_format(char *buf, size_t size, bool journal, enum log_level level,
                  const char *event, const struct log_field *fields, size_t n_fields);

/* "error" "warning" "notice" "info" "debug"; -1 for anything else. */
int log_level_parse(const char *name);
const char *log_level_name(enum log_level level);

#define log_event(log, level, event, ...)                                                      \
    log_write((log), (level), (event), (const struct log_field[]){ __VA_ARGS__ },              \
              sizeof((const struct log_field[]){ __VA_ARGS__ }) / sizeof(struct log_field))
#define log_error(log, event, ...) log_event(log, LOG_LEVEL_ERROR, event, __VA_ARGS__)
#define log_warning(log, event, ...) log_event(log, LOG_LEVEL_WARNING, event, __VA_ARGS__)
#define log_notice(log, event, ...) log_event(log, LOG_LEVEL_NOTICE, event, __VA_ARGS__)
#define log_info(log, event, ...) log_event(log, LOG_LEVEL_INFO, event, __VA_ARGS__)
#define log_debug(log, event, ...) log_event(log, LOG_LEVEL_DEBUG, event, __VA_ARGS__)

#endif
