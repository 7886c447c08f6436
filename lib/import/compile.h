/* What the compiler's files share: tokens, and the function being written. */
#ifndef IMPORT_COMPILE_H
#define IMPORT_COMPILE_H

#include "import/code.h"

enum token {
    T_END,
    T_LINE, /* end of a logical line; `indent` is the next line's */
    T_NAME,
    T_INT,
    T_REAL,
    T_TEXT,
    T_ARROW, /* -> */
    T_OTHER  /* a single character, in `ch` */
};

struct lexer {
    const char *p, *end;
    int line;  /* of the token */
    int here;  /* line at p */
    int depth; /* open brackets */
    enum token token;
    char ch;
    int indent;       /* of the logical line that p is in */
    const char *text; /* T_NAME: n characters */
    size_t n;
    struct im_value value; /* T_INT, T_REAL, T_TEXT */
};

struct compiler {
    struct im_pool *pool;
    struct code_file *file;
    struct lexer lex;
    struct code_fn *fn;
    struct psg_error *err;
};

/* The next token; an error names file and line. */
int lex_next(struct compiler *c);
int code_fail(struct compiler *c, enum psg_status status, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));
int code_no_memory(struct compiler *c);
static inline bool lex_is(const struct compiler *c, char ch)
{
    return c->lex.token == T_OTHER && c->lex.ch == ch;
}
bool lex_is_name(const struct compiler *c, const char *name);
/* Moves past the character, or says that it was expected. */
int lex_expect(struct compiler *c, char ch);
/* Moves past a type: to the first of the stop characters outside of brackets, or a line end. */
int lex_skip_type(struct compiler *c, const char *stop);

int code_emit(struct compiler *c, enum code_op op, int64_t a, int64_t b);
/* Number of a constant, or an error. */
int code_const(struct compiler *c, struct im_value v);
/* Slot of a local; made when `make`. -1: unknown; other negative numbers: an error. */
enum { CODE_UNKNOWN = -1 };
int code_slot(struct compiler *c, const char *name, size_t n, bool make);
/* One expression; with `list`, several with commas become a tuple. Stops before what it cannot
 * continue with. */
int code_expression(struct compiler *c, bool list);
/* An expression of literals, without code; IM_UNSET where it is anything else. */
int code_literal(struct compiler *c, struct im_value *out);

#endif
