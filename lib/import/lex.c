#include <ctype.h>
#include <errno.h>
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "import/compile.h"

int code_fail(struct compiler *c, enum psg_status status, const char *fmt, ...)
{
    char place[160], text[256];
    va_list args;
    va_start(args, fmt);
    vsnprintf(text, sizeof text, fmt, args);
    va_end(args);
    snprintf(place, sizeof place, "%.140s:%d", c->file->path, c->lex.line);
    return psg_fail(c->err, status, place, "%s", text);
}

int code_no_memory(struct compiler *c)
{
    return im_pool_fail(c->err, c->file->path);
}

bool lex_is_name(const struct compiler *c, const char *name)
{
    return c->lex.token == T_NAME && c->lex.n == strlen(name) &&
           memcmp(c->lex.text, name, c->lex.n) == 0;
}

static bool name_char(char ch)
{
    return isalnum((unsigned char)ch) || ch == '_';
}

/* Over blank and comment lines to the next line with something on it. */
static void next_line(struct lexer *l)
{
    while (l->p < l->end) {
        const char *start = l->p;
        while (l->p < l->end && (*l->p == ' ' || *l->p == '\t' || *l->p == '\r'))
            l->p++;
        l->indent = l->p - start > 10000 ? 10000 : (int)(l->p - start);
        if (l->p < l->end && *l->p == '#')
            while (l->p < l->end && *l->p != '\n')
                l->p++;
        if (l->p == l->end || *l->p != '\n')
            return;
        l->p++;
        l->here++;
    }
    l->indent = 0;
}

static int lex_number(struct compiler *c)
{
    struct lexer *l = &c->lex;
    char buf[64];
    size_t n = 0;
    bool real = false;
    while (l->p < l->end && n + 1 < sizeof buf) {
        char ch = *l->p;
        bool sign =
            (ch == '-' || ch == '+') && n > 0 && (buf[n - 1] == 'e' || buf[n - 1] == 'E');
        if (!isdigit((unsigned char)ch) && ch != '.' && ch != 'e' && ch != 'E' && !sign)
            break;
        real |= !isdigit((unsigned char)ch);
        buf[n++] = ch;
        l->p++;
    }
    buf[n] = '\0';
    char *stop;
    errno = 0;
    if (real)
        l->value = im_real(strtod(buf, &stop));
    else
        l->value = im_int(strtoll(buf, &stop, 10));
    if (*stop != '\0' || (!real && errno == ERANGE) || (l->p < l->end && name_char(*l->p)))
        return code_fail(c, PSG_E_FORMAT, "%.40s is not a number that is understood", buf);
    l->token = real ? T_REAL : T_INT;
    return 0;
}

/* One escape behind a backslash; its byte, or -1. */
static int escape(struct lexer *l)
{
    static const char from[] = "nrtabfv\\'\"", to[] = "\n\r\t\a\b\f\v\\'\"";
    char ch = *l->p++;
    if (ch == 'x' && l->end - l->p >= 2) {
        char hex[3] = { l->p[0], l->p[1], 0 };
        char *stop;
        long v = strtol(hex, &stop, 16);
        l->p += 2;
        return *stop == '\0' ? (int)v : -1;
    }
    if (ch >= '0' && ch <= '7') {
        int v = ch - '0';
        for (int i = 0; i < 2 && l->p < l->end && *l->p >= '0' && *l->p <= '7'; i++)
            v = v * 8 + (*l->p++ - '0');
        return v & 0xff;
    }
    const char *at = ch ? strchr(from, ch) : NULL;
    return at ? to[at - from] : -1;
}

static int lex_text(struct compiler *c)
{
    struct lexer *l = &c->lex;
    char quote = *l->p++;
    const char *stop = l->p;
    while (stop < l->end && *stop != quote && *stop != '\n')
        stop += *stop == '\\' && stop + 1 < l->end ? 2 : 1;
    if (stop >= l->end || *stop != quote)
        return code_fail(c, PSG_E_FORMAT, "a string has no end");
    char *copy = im_pool_take(c->pool, (size_t)(stop - l->p) + 1);
    struct im_text *text = im_pool_take(c->pool, sizeof *text);
    if (!copy || !text)
        return code_no_memory(c);
    text->s = copy;
    while (l->p < stop) {
        int ch = (unsigned char)*l->p++;
        if (ch == '\\' && (l->p == stop || (ch = escape(l)) < 0))
            return code_fail(c, PSG_E_FORMAT, "an escape in a string is not understood");
        copy[text->n++] = (char)ch;
    }
    l->p = stop + 1;
    l->value = (struct im_value){ .kind = IM_TEXT, .text = text };
    l->token = T_TEXT;
    return 0;
}

int lex_next(struct compiler *c)
{
    struct lexer *l = &c->lex;
    while (l->p < l->end && (*l->p == ' ' || *l->p == '\t' || *l->p == '\r' ||
                             (*l->p == '\n' && l->depth > 0))) {
        l->here += *l->p == '\n';
        l->p++;
    }
    l->line = l->here;
    if (l->p < l->end && *l->p == '#')
        while (l->p < l->end && *l->p != '\n')
            l->p++;
    if (l->p == l->end) {
        l->token = T_END;
        l->indent = 0;
        return l->depth ? code_fail(c, PSG_E_FORMAT, "a bracket is not closed") : 0;
    }
    char ch = *l->p;
    if (ch == '\n') {
        l->p++;
        l->here++;
        l->token = T_LINE;
        next_line(l);
        return 0;
    }
    if (isdigit((unsigned char)ch) ||
        (ch == '.' && l->end - l->p > 1 && isdigit((unsigned char)l->p[1])))
        return lex_number(c);
    if (ch == '"' || ch == '\'')
        return lex_text(c);
    if (name_char(ch)) {
        l->text = l->p;
        while (l->p < l->end && name_char(*l->p))
            l->p++;
        l->n = (size_t)(l->p - l->text);
        l->token = T_NAME;
        return 0;
    }
    l->p++;
    if (ch == '-' && l->p < l->end && *l->p == '>') {
        l->p++;
        l->token = T_ARROW;
        return 0;
    }
    l->token = T_OTHER;
    l->ch = ch;
    if (strchr("([{", ch) && ch)
        l->depth++;
    else if (ch && strchr(")]}", ch) && --l->depth < 0)
        return code_fail(c, PSG_E_FORMAT, "a bracket is closed that was not open");
    return 0;
}

int lex_expect(struct compiler *c, char ch)
{
    if (!lex_is(c, ch))
        return code_fail(c, PSG_E_FORMAT, "expected '%c'", ch);
    return lex_next(c);
}

int lex_skip_type(struct compiler *c, const char *stop)
{
    int depth = 0;
    for (;;) {
        const struct lexer *l = &c->lex;
        if (l->token == T_END || l->token == T_LINE)
            return 0;
        if (l->token == T_OTHER) {
            if (depth == 0 && strchr(stop, l->ch))
                return 0;
            depth += l->ch == '[' || l->ch == '(';
            depth -= l->ch == ']' || l->ch == ')';
            if (depth < 0)
                return 0;
        }
        int r = lex_next(c);
        if (r)
            return r;
    }
}
