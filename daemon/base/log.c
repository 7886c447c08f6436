#include "base/log.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

static const struct {
    enum log_level level;
    const char *name;
} log_names[] = {
    { LOG_LEVEL_ERROR, "error" }, { LOG_LEVEL_WARNING, "warning" },
    { LOG_LEVEL_NOTICE, "notice" }, { LOG_LEVEL_INFO, "info" },
    { LOG_LEVEL_DEBUG, "debug" },
};

int log_level_parse(const char *name)
{
    for (size_t i = 0; i < sizeof log_names / sizeof log_names[0]; i++)
        if (strcmp(name, log_names[i].name) == 0)
            return (int)log_names[i].level;
    return -1;
}

const char *log_level_name(enum log_level level)
{
    for (size_t i = 0; i < sizeof log_names / sizeof log_names[0]; i++)
        if (log_names[i].level == level)
            return log_names[i].name;
    return "info";
}

void log_init(struct log *log, int fd, enum log_level level)
{
    *log = (struct log){ .fd = fd, .level = level };
    const char *stream = getenv("JOURNAL_STREAM"); /* "device:inode" of the journal's socket */
    unsigned long long dev, ino;
    struct stat st;
    if (stream != NULL && sscanf(stream, "%llu:%llu", &dev, &ino) == 2 && fstat(fd, &st) == 0)
        log->journal = st.st_dev == dev && st.st_ino == ino;
}

/* A line under construction; always leaves room for the newline. */
struct line {
    char *buf;
    size_t size;
    size_t len;
    bool full;
};

static void line_put(struct line *line, const char *bytes, size_t n)
{
    if (line->full || n > line->size - 1 - line->len) { /* never half a character */
        line->full = true;
        return;
    }
    memcpy(line->buf + line->len, bytes, n);
    line->len += n;
}

static void line_puts(struct line *line, const char *text)
{
    line_put(line, text, strlen(text));
}

static bool is_token_char(unsigned char c)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
           c == '-' || c == '_';
}

/* Length of the access token that starts at s, 0 if none does. The form is auth's: "dpt_" and
 * 43 characters; a part of one is hidden as well. */
static size_t token_length(const char *s)
{
    if (strncmp(s, "dpt_", 4) != 0)
        return 0;
    size_t n = 4;
    while (is_token_char((unsigned char)s[n]))
        n++;
    return n >= 12 ? n : 0;
}

/* Bytes of the well-formed UTF-8 sequence at s (1 to 4), 0 if it is not one. */
static size_t utf8_length(const unsigned char *s)
{
    size_t n = s[0] < 0x80 ? 1 : s[0] >= 0xc2 && s[0] < 0xe0 ? 2 : (s[0] & 0xf0) == 0xe0 ? 3
               : s[0] >= 0xf0 && s[0] < 0xf5                                             ? 4
                                                                                         : 0;
    for (size_t i = 1; i < n; i++)
        if ((s[i] & 0xc0) != 0x80)
            return 0;
    if (n == 3 && ((s[0] == 0xe0 && s[1] < 0xa0) || (s[0] == 0xed && s[1] > 0x9f)))
        return 0;
    if (n == 4 && ((s[0] == 0xf0 && s[1] < 0x90) || (s[0] == 0xf4 && s[1] > 0x8f)))
        return 0;
    return n;
}

static bool needs_quotes(const char *text)
{
    if (*text == '\0')
        return true;
    for (const unsigned char *p = (const unsigned char *)text; *p != '\0'; p++)
        if (*p <= ' ' || *p == '"' || *p == '=' || *p == '\\' || *p >= 0x7f)
            return true;
    return false;
}

static void line_put_text(struct line *line, const char *text)
{
    size_t start = line->len;
    bool quotes = needs_quotes(text);
    if (quotes)
        line_puts(line, "\"");
    for (const char *p = text; *p != '\0';) {
        if (line->len - start > LOG_VALUE_MAX - 8) {
            line_puts(line, "...");
            break;
        }
        unsigned char c = (unsigned char)*p;
        size_t n = token_length(p);
        if (n > 0) {
            line_puts(line, "[token]");
            p += n;
            continue;
        }
        n = utf8_length((const unsigned char *)p);
        char escaped[8];
        if (c == '"' || c == '\\') {
            snprintf(escaped, sizeof escaped, "\\%c", c);
            line_puts(line, escaped);
            n = 1;
        } else if (c < ' ' || c == 0x7f || n == 0 || (n == 2 && c == 0xc2 && (p[1] & 0x60) == 0)) {
            /* control characters, C1 ones too, and stray bytes */
            snprintf(escaped, sizeof escaped, "\\x%02x", c);
            line_puts(line, escaped);
            n = 1;
        } else {
            line_put(line, p, n);
        }
        p += n;
    }
    if (quotes)
        line_puts(line, "\"");
}

static void line_put_field(struct line *line, const struct log_field *field)
{
    char number[40];
    if (field->kind == LOG_KIND_TEXT && field->value.text == NULL)
        return;
    line_puts(line, " ");
    line_puts(line, field->key);
    line_puts(line, "=");
    switch (field->kind) {
    case LOG_KIND_TEXT:
        line_put_text(line, field->value.text);
        break;
    case LOG_KIND_INT:
        snprintf(number, sizeof number, "%" PRId64, field->value.integer);
        line_puts(line, number);
        break;
    case LOG_KIND_REAL:
        snprintf(number, sizeof number, "%.6g", field->value.real);
        line_puts(line, number);
        break;
    }
}

size_t log_format(char *buf, size_t size, bool journal, enum log_level level,
                  const char *event, const struct log_field *fields, size_t n_fields)
{
    struct line line = { .buf = buf, .size = size > LOG_LINE_MAX ? LOG_LINE_MAX : size };
    char head[64];
    if (journal) {
        snprintf(head, sizeof head, "<%d>", (int)level);
    } else {
        struct timespec now;
        struct tm tm;
        clock_gettime(CLOCK_REALTIME, &now);
        gmtime_r(&now.tv_sec, &tm);
        size_t n = strftime(head, sizeof head, "ts=%Y-%m-%dT%H:%M:%S", &tm);
        snprintf(head + n, sizeof head - n, ".%03ldZ ", now.tv_nsec / 1000000);
    }
    line_puts(&line, head);
    line_puts(&line, "level=");
    line_puts(&line, log_level_name(level));
    line_puts(&line, " event=");
    line_puts(&line, event);
    for (size_t i = 0; i < n_fields; i++)
        line_put_field(&line, &fields[i]);
    line.buf[line.len] = '\n'; /* line_put keeps one byte free */
    return line.len + 1;
}

void log_write(const struct log *log, enum log_level level, const char *event,
               const struct log_field *fields, size_t n_fields)
{
    if (log == NULL || (int)level > log->level)
        return;
    char buf[LOG_LINE_MAX];
    size_t n = log_format(buf, sizeof buf, log->journal, level, event, fields, n_fields);
    ssize_t written = write(log->fd, buf, n);
    (void)written; /* a log that cannot be written must not stop the service */
}
