#include "base/config.h"

#include "base/log.h"

#include <arpa/inet.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/stat.h>
#include <unistd.h>

enum { CONFIG_FILE_MAX = 1 << 20, CONFIG_LINE_MAX = 4096, CONFIG_DROPINS_MAX = 256 };

enum kind { KIND_TEXT, KIND_LIST, KIND_COUNT, KIND_SIZE, KIND_TIME, KIND_FLAG, KIND_CHOICE };

struct key {
    const char *section;
    const char *name;
    enum kind kind;
    size_t offset; /* of the char * or uint64_t in struct config */
    const char *text;
    uint64_t number, low, high;
    const char *words; /* CHOICE */
    bool reload;
    const char *doc;
};

static const struct key keys[CONFIG_N_KEYS] = {
#define ROW_TEXT(kind, s, k, f, def, re, doc)                                                  \
    { #s, #k, kind, offsetof(struct config, f), def, 0, 0, 0, NULL, re, doc },
#define ROW_NUMBER(kind, s, k, f, def, lo, hi, re, doc)                                        \
    { #s, #k, kind, offsetof(struct config, f), NULL, def, lo, hi, NULL, re, doc },
#define CONFIG_TEXT(s, k, f, def, lo, hi, re, doc) ROW_TEXT(KIND_TEXT, s, k, f, def, re, doc)
#define CONFIG_LIST(s, k, f, def, lo, hi, re, doc) ROW_TEXT(KIND_LIST, s, k, f, def, re, doc)
#define CONFIG_COUNT(...) ROW_NUMBER(KIND_COUNT, __VA_ARGS__)
#define CONFIG_SIZE(...) ROW_NUMBER(KIND_SIZE, __VA_ARGS__)
#define CONFIG_TIME(...) ROW_NUMBER(KIND_TIME, __VA_ARGS__)
#define CONFIG_FLAG(...) ROW_NUMBER(KIND_FLAG, __VA_ARGS__)
#define CONFIG_CHOICE(s, k, f, def, list, hi, re, doc)                                         \
    { #s, #k, KIND_CHOICE, offsetof(struct config, f), def, 0, 0, 0, list, re, doc },
#include "base/config.inc"
#undef CONFIG_TEXT
#undef CONFIG_LIST
#undef CONFIG_COUNT
#undef CONFIG_SIZE
#undef CONFIG_TIME
#undef CONFIG_FLAG
#undef CONFIG_CHOICE
};

static const struct unit {
    const char *name;
    uint64_t factor;
} size_units[] = { { "", 1 },
                   { "K", UINT64_C(1) << 10 },
                   { "M", UINT64_C(1) << 20 },
                   { "G", UINT64_C(1) << 30 },
                   { "T", UINT64_C(1) << 40 } },
  time_units[] = { { "ms", 1 },       { "", 1000 },       { "s", 1000 },
                   { "min", 60000 },  { "h", 3600000 },   { "d", 86400000 } };

static int fail(struct config_error *err, const char *place, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));

static int fail(struct config_error *err, const char *place, const char *fmt, ...)
{
    if (err != NULL) {
        va_list args;
        va_start(args, fmt);
        snprintf(err->place, sizeof err->place, "%s", place);
        vsnprintf(err->text, sizeof err->text, fmt, args);
        va_end(args);
    }
    return -EINVAL;
}

static char **text_of(struct config *config, const struct key *key)
{
    return (char **)(void *)((char *)config + key->offset);
}

static uint64_t *number_of(struct config *config, const struct key *key)
{
    return (uint64_t *)(void *)((char *)config + key->offset);
}

static const char *get_text(const struct config *config, const struct key *key)
{
    return *(char *const *)(const void *)((const char *)config + key->offset);
}

static uint64_t get_number(const struct config *config, const struct key *key)
{
    return *(const uint64_t *)(const void *)((const char *)config + key->offset);
}

static bool has_text(const struct key *key)
{
    return key->kind == KIND_TEXT || key->kind == KIND_LIST;
}

/* Index of word in a list of words separated by single spaces, -1 if absent. */
static int word_index(const char *words, const char *word)
{
    size_t n = strlen(word);
    int index = 0;
    for (const char *p = words; *p != '\0'; index++) {
        size_t len = strcspn(p, " ");
        if (len == n && memcmp(p, word, n) == 0)
            return index;
        p += len;
        p += *p == ' ';
    }
    return -1;
}

static void word_at(const char *words, uint64_t index, char *out, size_t size)
{
    const char *p = words;
    for (; index > 0; index--)
        p += strcspn(p, " ") + 1;
    snprintf(out, size, "%.*s", (int)strcspn(p, " "), p);
}

struct config *config_alloc(void)
{
    struct config *config = calloc(1, sizeof *config);
    if (config == NULL)
        return NULL;
    for (size_t i = 0; i < CONFIG_N_KEYS; i++) {
        const struct key *key = &keys[i];
        if (has_text(key)) {
            *text_of(config, key) = strdup(key->text);
            if (*text_of(config, key) == NULL)
                return config_free(config);
        } else if (key->kind == KIND_CHOICE) {
            *number_of(config, key) = (uint64_t)word_index(key->words, key->text);
        } else {
            *number_of(config, key) = key->number;
        }
    }
    return config;
}

struct config *config_free(struct config *config)
{
    if (config == NULL)
        return NULL;
    for (size_t i = 0; i < CONFIG_N_KEYS; i++) {
        if (has_text(&keys[i]))
            free(*text_of(config, &keys[i]));
        free(config->origin[i]);
    }
    free(config);
    return NULL;
}

/* Whole number with a unit; false when it is not one or does not fit. */
static bool parse_number(const char *value, const struct unit *units, size_t n_units,
                         uint64_t *out)
{
    if (*value < '0' || *value > '9')
        return false;
    char *end;
    errno = 0;
    uintmax_t number = strtoumax(value, &end, 10);
    if (errno != 0)
        return false;
    end += strspn(end, " \t");
    for (size_t i = 0; i < n_units; i++)
        if (strcmp(end, units[i].name) == 0)
            return !__builtin_mul_overflow((uint64_t)number, units[i].factor, out);
    return false;
}

static int set_text(struct config *config, const struct key *key, const char *value,
                    const char *place, struct config_error *err)
{
    char *copy = strdup(value);
    if (copy == NULL) {
        fail(err, place, "out of memory");
        return -ENOMEM;
    }
    free(*text_of(config, key));
    *text_of(config, key) = copy;
    return 0;
}

static int set_number(struct config *config, const struct key *key, const char *value,
                      const char *place, struct config_error *err)
{
    uint64_t number = 0;
    bool good = false;
    const char *wanted = "";
    switch (key->kind) {
    case KIND_SIZE:
        good = parse_number(value, size_units, 5, &number);
        wanted = "a size such as 512K or 1M";
        break;
    case KIND_TIME:
        good = parse_number(value, time_units, 6, &number);
        wanted = "a time such as 500ms, 30s or 2min";
        break;
    case KIND_FLAG:
        good = strcasecmp(value, "yes") == 0 || strcasecmp(value, "no") == 0;
        number = strcasecmp(value, "yes") == 0;
        wanted = "yes or no";
        break;
    case KIND_CHOICE: {
        int index = word_index(key->words, value);
        if (index < 0 || *value == '\0')
            return fail(err, place, "%s=%.60s: expected one of: %s", key->name, value,
                        key->words);
        *number_of(config, key) = (uint64_t)index;
        return 0;
    }
    default:
        good = parse_number(value, size_units, 1, &number);
        wanted = "a whole number";
        break;
    }
    if (!good)
        return fail(err, place, "%s=%.60s: expected %s", key->name, value, wanted);
    if (number < key->low || number > key->high)
        return fail(err, place, "%s=%.60s: allowed are %" PRIu64 " to %" PRIu64 "%s",
                    key->name, value, key->low, key->high,
                    key->kind == KIND_TIME   ? " ms"
                    : key->kind == KIND_SIZE ? " bytes"
                                             : "");
    *number_of(config, key) = number;
    return 0;
}

int config_set(struct config *config, enum config_key index, const char *value,
               const char *origin, struct config_error *err)
{
    const struct key *key = &keys[index];
    int r = has_text(key) ? set_text(config, key, value, origin, err)
                          : set_number(config, key, value, origin, err);
    if (r != 0)
        return r;
    char *copy = strdup(origin);
    if (copy == NULL) {
        fail(err, origin, "out of memory");
        return -ENOMEM;
    }
    free(config->origin[index]);
    config->origin[index] = copy;
    return 0;
}

/* One file being read. */
struct parser {
    const char *name;
    size_t number;     /* of the line, from 1 */
    char section[64];  /* empty before the first header */
    size_t seen[CONFIG_N_KEYS];
};

static char *trim(char *text)
{
    text += strspn(text, " \t\r");
    size_t n = strlen(text);
    while (n > 0 && strchr(" \t\r", text[n - 1]) != NULL)
        text[--n] = '\0';
    return text;
}

static int parse_section(struct parser *parser, char *line, const char *place,
                         struct config_error *err)
{
    size_t n = strlen(line);
    if (line[n - 1] != ']' || n < 3)
        return fail(err, place, "a section is written [Name]");
    line[n - 1] = '\0';
    for (size_t i = 0; i < CONFIG_N_KEYS; i++)
        if (strcmp(keys[i].section, line + 1) == 0) {
            snprintf(parser->section, sizeof parser->section, "%s", line + 1);
            return 0;
        }
    return fail(err, place, "unknown section [%.60s]", line + 1);
}

static int parse_key(struct config *config, struct parser *parser, char *line,
                     const char *place, struct config_error *err)
{
    char *equals = strchr(line, '=');
    if (equals == NULL)
        return fail(err, place, "expected Key=Value, a [Section] or a comment");
    *equals = '\0';
    char *name = trim(line), *value = trim(equals + 1);
    if (parser->section[0] == '\0')
        return fail(err, place, "%.60s= stands before the first [Section]", name);
    for (size_t i = 0; i < CONFIG_N_KEYS; i++) {
        if (strcmp(keys[i].section, parser->section) != 0 || strcmp(keys[i].name, name) != 0)
            continue;
        if (parser->seen[i] != 0)
            return fail(err, place, "%s= stands already in line %zu", name, parser->seen[i]);
        parser->seen[i] = parser->number;
        return config_set(config, (enum config_key)i, value, place, err);
    }
    return fail(err, place, "unknown key %.60s= in [%s]", name, parser->section);
}

static int parse_line(struct config *config, struct parser *parser, const char *text,
                      size_t n, struct config_error *err)
{
    char place[sizeof err->place], copy[CONFIG_LINE_MAX];
    snprintf(place, sizeof place, "%.200s:%zu", parser->name, parser->number);
    if (n >= sizeof copy)
        return fail(err, place, "the line is longer than %d bytes", CONFIG_LINE_MAX - 1);
    for (size_t i = 0; i < n; i++)
        if (((unsigned char)text[i] < ' ' && text[i] != '\t' && text[i] != '\r') ||
            text[i] == 0x7f)
            return fail(err, place, "the line holds a control character");
    memcpy(copy, text, n);
    copy[n] = '\0';
    char *line = trim(copy);
    if (*line == '\0' || *line == '#' || *line == ';')
        return 0;
    if (*line == '[')
        return parse_section(parser, line, place, err);
    return parse_key(config, parser, line, place, err);
}

int config_parse(struct config *config, const char *text, size_t n, const char *name,
                 struct config_error *err)
{
    struct parser parser = { .name = name };
    for (size_t at = 0; at < n;) {
        const char *newline = memchr(text + at, '\n', n - at);
        size_t len = newline == NULL ? n - at : (size_t)(newline - text) - at;
        parser.number++;
        int r = parse_line(config, &parser, text + at, len, err);
        if (r != 0)
            return r;
        at += len + 1;
    }
    return 0;
}

static int parse_file(struct config *config, const char *path, struct config_error *err)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0) {
        int r = -errno;
        fail(err, path, "cannot open: %s", strerror(-r));
        return r;
    }
    char *text = malloc(CONFIG_FILE_MAX + 1);
    size_t n = 0;
    int r = text == NULL ? -ENOMEM : 0;
    while (r == 0 && n <= CONFIG_FILE_MAX) {
        ssize_t got = read(fd, text + n, CONFIG_FILE_MAX + 1 - n);
        if (got == 0)
            break;
        if (got < 0 && errno != EINTR)
            r = -errno;
        else if (got > 0)
            n += (size_t)got;
    }
    close(fd);
    if (r != 0)
        fail(err, path, "cannot read: %s", strerror(-r));
    else if (n > CONFIG_FILE_MAX)
        r = fail(err, path, "the file is larger than %d bytes", CONFIG_FILE_MAX);
    else
        r = config_parse(config, text, n, path, err);
    free(text);
    return r;
}

static int is_dropin(const struct dirent *entry)
{
    size_t n = strlen(entry->d_name);
    return entry->d_name[0] != '.' && n > 5 && strcmp(entry->d_name + n - 5, ".conf") == 0;
}

static int byte_order(const struct dirent **a, const struct dirent **b)
{
    return strcmp((*a)->d_name, (*b)->d_name); /* not alphasort, which follows the locale */
}

int config_load(struct config *config, const char *file, struct config_error *err)
{
    if (file == NULL)
        return 0;
    int r = parse_file(config, file, err);
    if (r != 0)
        return r;
    char folder[4096], path[4096 + 300];
    if (snprintf(folder, sizeof folder, "%s.d", file) >= (int)sizeof folder)
        return fail(err, file, "the name is too long");
    struct dirent **entries = NULL;
    int n = scandir(folder, &entries, is_dropin, byte_order);
    if (n < 0) {
        if (errno == ENOENT)
            return 0;
        r = -errno;
        fail(err, folder, "cannot list: %s", strerror(-r));
        return r;
    }
    if (n > CONFIG_DROPINS_MAX)
        r = fail(err, folder, "more than %d files", CONFIG_DROPINS_MAX);
    for (int i = 0; i < n; i++) {
        if (r == 0) {
            snprintf(path, sizeof path, "%s/%s", folder, entries[i]->d_name);
            r = parse_file(config, path, err);
        }
        free(entries[i]);
    }
    free(entries);
    return r;
}

int config_split_listen(const char *listen, char *addr, size_t size, uint16_t *port)
{
    const char *colon = strrchr(listen, ':');
    if (colon == NULL || colon == listen || colon[1] < '0' || colon[1] > '9')
        return -EINVAL;
    const char *start = listen, *end = colon;
    if (*start == '[') {
        if (end[-1] != ']')
            return -EINVAL;
        start++;
        end--;
    } else if (memchr(start, ':', (size_t)(end - start)) != NULL) {
        return -EINVAL; /* a bare IPv6 address: where its port starts is a guess */
    }
    size_t n = (size_t)(end - start);
    char *rest;
    unsigned long number = strtoul(colon + 1, &rest, 10);
    if (n == 0 || n >= size || *rest != '\0' || strlen(colon + 1) > 5 || number > 65535)
        return -EINVAL;
    memcpy(addr, start, n);
    addr[n] = '\0';
    *port = (uint16_t)number;
    return 0;
}

bool config_is_loopback(const char *addr)
{
    struct in_addr v4;
    struct in6_addr v6;
    if (strcmp(addr, "localhost") == 0)
        return true;
    if (inet_pton(AF_INET, addr, &v4) == 1)
        return (ntohl(v4.s_addr) >> 24) == 127;
    return inet_pton(AF_INET6, addr, &v6) == 1 && IN6_IS_ADDR_LOOPBACK(&v6);
}

static const char *origin_of(const struct config *config, enum config_key key)
{
    return config->origin[key] != NULL ? config->origin[key] : "default";
}

int config_check(const struct config *config, struct config_error *err)
{
    char addr[256];
    uint16_t port;
    struct in6_addr ip;
    const char *place = origin_of(config, CONFIG_KEY_listen);
    if (config_split_listen(config->listen, addr, sizeof addr, &port) != 0)
        return fail(err, place, "Listen=%.60s: expected ADDRESS:PORT or [ADDRESS]:PORT",
                    config->listen);
    if (strcmp(addr, "localhost") != 0 && inet_pton(AF_INET, addr, &ip) != 1 &&
        inet_pton(AF_INET6, addr, &ip) != 1)
        return fail(err, place, "Listen=%.60s: the address must be numeric or localhost",
                    config->listen);
    bool tls = config->tls_certificate[0] != '\0';
    if (tls != (config->tls_key[0] != '\0'))
        return fail(err, origin_of(config, tls ? CONFIG_KEY_tls_certificate : CONFIG_KEY_tls_key),
                    "TLSCertificate and TLSKey come together");
    if (config_is_loopback(addr))
        return 0;
    if (config->auth_mode == CONFIG_AUTH_NONE)
        return fail(err, origin_of(config, CONFIG_KEY_auth_mode),
                    "Mode=none is for loopback only, and Listen=%.60s is not", config->listen);
    if (!tls)
        return fail(err, place, "Listen=%.60s is not loopback and needs TLSCertificate and "
                    "TLSKey", config->listen);
    return 0;
}

static void print_number(const struct unit *units, size_t n, uint64_t number, FILE *out)
{
    for (size_t i = n; i-- > 0;)
        if (number != 0 && number % units[i].factor == 0) {
            fprintf(out, "%" PRIu64 "%s", number / units[i].factor, units[i].name);
            return;
        }
    fprintf(out, "%" PRIu64, number);
}

void config_print(const struct config *config, FILE *out)
{
    const char *section = "";
    for (size_t i = 0; i < CONFIG_N_KEYS; i++) {
        const struct key *key = &keys[i];
        if (strcmp(section, key->section) != 0)
            fprintf(out, "%s[%s]\n", *section == '\0' ? "" : "\n", key->section);
        section = key->section;
        fprintf(out, "# %s (%s%s)\n%s=", key->doc, origin_of(config, (enum config_key)i),
                key->reload ? "; SIGHUP reloads" : "", key->name);
        char word[64];
        switch (key->kind) {
        case KIND_TEXT:
        case KIND_LIST:
            fputs(get_text(config, key), out);
            break;
        case KIND_SIZE:
            print_number(size_units, 5, get_number(config, key), out);
            break;
        case KIND_TIME:
            print_number(time_units, 6, get_number(config, key), out);
            break;
        case KIND_FLAG:
            fputs(get_number(config, key) ? "yes" : "no", out);
            break;
        case KIND_CHOICE:
            word_at(key->words, get_number(config, key), word, sizeof word);
            fputs(word, out);
            break;
        case KIND_COUNT:
            fprintf(out, "%" PRIu64, get_number(config, key));
            break;
        }
        fputc('\n', out);
    }
}

static bool same(const struct config *a, const struct config *b, const struct key *key)
{
    if (has_text(key))
        return strcmp(get_text(a, key), get_text(b, key)) == 0;
    return get_number(a, key) == get_number(b, key);
}

int config_reload(struct config *config, const struct config *next, const char **pending)
{
    *pending = NULL;
    for (size_t i = 0; i < CONFIG_N_KEYS; i++) {
        const struct key *key = &keys[i];
        if (same(config, next, key))
            continue;
        if (!key->reload) {
            if (*pending == NULL)
                *pending = key->name;
        } else if (!has_text(key)) {
            *number_of(config, key) = get_number(next, key);
        } else if (set_text(config, key, get_text(next, key), "reload", NULL) != 0) {
            return -ENOMEM;
        }
    }
    return 0;
}

int config_log_level(const struct config *config)
{
    return LOG_LEVEL_ERROR + (int)config->log_level; /* the choices are in this order */
}
