/* CSV after RFC 4180, numbers only: records end with LF or CRLF, fields may be quoted, a
 * quote inside of quotes is doubled. */
#include <errno.h>
#include <locale.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "formats/file.h"

enum { COLUMNS_MAX = 1 << 16, NUMBER_MAX = 64, NAME_MAX_BYTES = 256 };

struct reader {
    const char *at, *end;
    const char *place;
    char delimiter;
    long long line;
    bool line_ended; /* the field just read was the last of its record */
    struct psg_error *err;
};

static int line_fail(const struct reader *in, const char *what)
{
    return psg_fail(in->err, PSG_E_FORMAT, in->place, "line %lld: %s", in->line, what);
}

/* Takes the delimiter or line end after a field. */
static int field_end(struct reader *in)
{
    in->line_ended = true;
    if (in->at == in->end)
        return 0;
    if (*in->at == in->delimiter) {
        in->at++;
        in->line_ended = false;
        return 0;
    }
    if (*in->at == '\r' && in->end - in->at > 1 && in->at[1] == '\n')
        in->at++;
    if (*in->at != '\n')
        return line_fail(in, "text after a quoted field");
    in->at++;
    return 0;
}

/* The next field, unquoted, into out[size] (cut short when longer; *lengthp is its length).
 * A quoted field may hold line ends: the line number is that of its start. */
static int read_field(struct reader *in, char *out, size_t size, size_t *lengthp)
{
    size_t n = 0;
    bool quoted = in->at < in->end && *in->at == '"';
    if (quoted)
        in->at++;
    while (in->at < in->end) {
        char ch = *in->at;
        if (quoted && ch == '"') {
            in->at++;
            if (in->at == in->end || *in->at != '"') {
                quoted = false;
                goto done;
            }
        } else if (!quoted && (ch == in->delimiter || ch == '\n')) {
            break;
        } else if (!quoted && ch == '\r' && in->end - in->at > 1 && in->at[1] == '\n') {
            break;
        }
        if (n + 1 < size)
            out[n] = ch;
        n++;
        in->at++;
    }
    if (quoted)
        return line_fail(in, "a quoted field does not end");
done:
    out[n < size ? n : size - 1] = '\0';
    *lengthp = n;
    return field_end(in);
}

/* Number of lines that the field text between two positions crossed. */
static long long count_lines(const char *from, const char *to)
{
    long long n = 0;
    for (; (from = memchr(from, '\n', (size_t)(to - from))) != NULL; from++)
        n++;
    return n;
}

static bool at_blank_line(const struct reader *in)
{
    return in->at < in->end &&
           (*in->at == '\n' ||
            (*in->at == '\r' && in->end - in->at > 1 && in->at[1] == '\n'));
}

static void skip_blank_lines(struct reader *in)
{
    while (at_blank_line(in)) {
        in->at += *in->at == '\r' ? 2 : 1;
        in->line++;
    }
}

struct layout {
    int64_t n_columns; /* fields of a record */
    int64_t n_features;
    int64_t *slot; /* per field: feature index, -1 unused, -2 label */
    char (*name)[NAME_MAX_BYTES];
};

static void layout_fini(struct layout *l)
{
    free(l->slot);
    free(l->name);
}

/* Counts the fields of the first record, and keeps their text when it is a header. */
static int layout_first_line(struct reader *in, bool header, struct layout *l)
{
    struct reader ahead = *in;
    char text[NAME_MAX_BYTES];
    size_t length;
    int64_t n = 0;
    do {
        int r = read_field(&ahead, text, sizeof text, &length);
        if (r)
            return r;
        if (++n > COLUMNS_MAX)
            return line_fail(in, "more than 65536 columns");
    } while (!ahead.line_ended);
    l->n_columns = n;
    l->slot = calloc((size_t)n, sizeof l->slot[0]);
    l->name = calloc((size_t)n, sizeof l->name[0]);
    if (!l->slot || !l->name)
        return psg_fail(in->err, PSG_E_NOMEM, in->place, "out of memory");
    if (!header)
        return 0;
    const char *from = in->at;
    for (int64_t i = 0; i < n; i++) {
        int r = read_field(in, l->name[i], sizeof l->name[i], &length);
        if (r)
            return r;
        if (length >= sizeof l->name[i])
            return line_fail(in, "a column name is longer than 255 bytes");
    }
    in->line += count_lines(from, in->at);
    return 0;
}

/* Index of a column by name, or by number from 0. */
static int layout_find(const struct layout *l, const struct reader *in, const char *wanted,
                       int64_t *indexp)
{
    int64_t found = -1;
    for (int64_t i = 0; i < l->n_columns; i++) {
        if (l->name[i][0] && strcmp(l->name[i], wanted) == 0) {
            if (found >= 0)
                return psg_fail(in->err, PSG_E_INVALID, in->place,
                                "two columns are called '%.80s'", wanted);
            found = i;
        }
    }
    if (found < 0 && *wanted >= '0' && *wanted <= '9') {
        char *end;
        long number = strtol(wanted, &end, 10);
        if (*end == '\0' && number < l->n_columns)
            found = number;
    }
    if (found < 0)
        return psg_fail(in->err, PSG_E_INVALID, in->place, "there is no column '%.80s'",
                        wanted);
    *indexp = found;
    return 0;
}

static int layout_select(struct layout *l, const struct reader *in,
                         const struct psg_csv_options *o)
{
    int64_t i, label = -1;
    for (i = 0; i < l->n_columns; i++)
        l->slot[i] = -1;
    if (o->label) {
        int r = layout_find(l, in, o->label, &label);
        if (r)
            return r;
        l->slot[label] = -2;
    }
    for (i = 0; !o->column && i < l->n_columns; i++)
        if (i != label)
            l->slot[i] = l->n_features++;
    for (size_t k = 0; o->column && k < o->n_columns; k++) {
        int r = layout_find(l, in, o->column[k], &i);
        if (r)
            return r;
        if (l->slot[i] != -1)
            return psg_fail(in->err, PSG_E_INVALID, in->place,
                            "column '%.80s' is used twice", o->column[k]);
        l->slot[i] = l->n_features++;
    }
    return 0;
}

static void column_text(const struct layout *l, int64_t column, char *out, size_t size)
{
    if (l->name[column][0])
        snprintf(out, size, "'%.80s'", l->name[column]);
    else
        snprintf(out, size, "%lld", (long long)column);
}

static int parse_number(const struct reader *in, const struct layout *l, int64_t column,
                        const char *text, size_t length, locale_t c_locale, double *valuep)
{
    char which[100], *end = NULL;
    column_text(l, column, which, sizeof which);
    while (*text == ' ') {
        text++;
        length--;
    }
    if (length == 0)
        return psg_fail(in->err, PSG_E_FORMAT, in->place, "line %lld: column %s is empty",
                        in->line, which);
    /* strtod also takes hexadecimal, "inf" and "nan": none of them belongs in a table */
    bool plain = length < NUMBER_MAX && strspn(text, "0123456789+-.eE ") == length;
    if (plain)
        *valuep = strtod_l(text, &end, c_locale);
    while (end && *end == ' ')
        end++;
    if (!end || end == text || *end || !isfinite(*valuep))
        return psg_fail(in->err, PSG_E_FORMAT, in->place,
                        "line %lld: column %s does not hold a number", in->line, which);
    return 0;
}

/* One record: counts it when features is NULL, else stores it. */
static int read_record(struct reader *in, const struct layout *l, locale_t c_locale,
                       double *features, double *label)
{
    char text[NUMBER_MAX];
    const char *from = in->at;
    int64_t i = 0;
    do {
        size_t length;
        int r = read_field(in, text, sizeof text, &length);
        if (r)
            return r;
        if (i == l->n_columns)
            return psg_fail(in->err, PSG_E_FORMAT, in->place,
                            "line %lld: more than %lld fields", in->line,
                            (long long)l->n_columns);
        int64_t slot = l->slot[i];
        if (features && slot != -1) {
            double *to = slot == -2 ? label : &features[slot];
            r = parse_number(in, l, i, text, length, c_locale, to);
            if (r)
                return r;
        }
        i++;
    } while (!in->line_ended);
    if (i < l->n_columns)
        return psg_fail(in->err, PSG_E_FORMAT, in->place,
                        "line %lld: %lld fields, the first line has %lld", in->line,
                        (long long)i, (long long)l->n_columns);
    in->line += count_lines(from, in->at);
    skip_blank_lines(in);
    return 0;
}

static int csv_records(struct reader in, const struct layout *l, bool has_label,
                       struct psg_array *features, struct psg_array *label)
{
    int64_t n = 0;
    for (struct reader count = in; count.at < count.end; n++) {
        int r = read_record(&count, l, (locale_t)0, NULL, NULL);
        if (r)
            return r;
    }
    _cleanup_(psg_array_free) struct psg_array x = { 0 };
    _cleanup_(psg_array_free) struct psg_array y = { 0 };
    void *xp = NULL, *yp = NULL;
    struct psg_shape x_shape = PSG_SHAPE(n, l->n_features), y_shape = PSG_SHAPE(n);
    int r = format_array_alloc(PSG_ARRAY_F64, &x_shape, in.place, &x, &xp, in.err);
    if (!r && has_label)
        r = format_array_alloc(PSG_ARRAY_F64, &y_shape, in.place, &y, &yp, in.err);
    if (r)
        return r;
    locale_t c_locale = newlocale(LC_ALL_MASK, "C", (locale_t)0);
    if (!c_locale)
        return psg_fail(in.err, PSG_E_NOMEM, in.place, "out of memory");
    for (int64_t i = 0; !r && i < n; i++)
        r = read_record(&in, l, c_locale, (double *)xp + i * l->n_features,
                        yp ? (double *)yp + i : NULL);
    freelocale(c_locale);
    if (r)
        return r;
    *features = x;
    x.owner = NULL;
    if (has_label) {
        *label = y;
        y.owner = NULL;
    }
    return 0;
}

int psg_csv_decode(const void *bytes, size_t size, const char *place,
                   const struct psg_csv_options *options, struct psg_array *features,
                   struct psg_array *label, struct psg_error *err)
{
    const char *p = bytes;
    struct reader in = { .at = p, .end = p + size, .place = place, .line = 1, .err = err };
    in.delimiter = options->delimiter ? options->delimiter : ',';
    if (strchr("\"\r\n.+-eE0123456789 ", in.delimiter))
        return psg_fail(err, PSG_E_INVALID, place, "'%c' cannot be a delimiter",
                        in.delimiter);
    if (label)
        memset(label, 0, sizeof *label);
    else if (options->label)
        return psg_fail(err, PSG_E_INVALID, place, "a label column, and nowhere to put it");
    if (size >= 3 && memcmp(p, "\xef\xbb\xbf", 3) == 0)
        in.at += 3; /* the mark that spreadsheets write */
    skip_blank_lines(&in);
    if (in.at == in.end)
        return psg_fail(err, PSG_E_FORMAT, place, "the file is empty");
    _cleanup_(layout_fini) struct layout l = { 0 };
    int r = layout_first_line(&in, options->header, &l);
    if (!r)
        r = layout_select(&l, &in, options);
    if (r)
        return r;
    skip_blank_lines(&in);
    return csv_records(in, &l, options->label != NULL, features, label);
}

int psg_csv_read(const char *path, const struct psg_csv_options *options,
                 struct psg_array *features, struct psg_array *label, struct psg_error *err)
{
    const uint8_t *data;
    size_t size;
    _cleanup_(format_owner_freep) struct psg_array_owner *owner = NULL;
    int r = format_file_open(path, &data, &size, &owner, err);
    return r ? r : psg_csv_decode(data, size, path, options, features, label, err);
}
