/* The serialized Python subset of a TorchScript archive, compiled to a small stack code.
 *
 *   text --lex.c--> tokens --compile.c, expression.c--> code_fn --vm.c--> operators
 *
 * Compiling and running use stacks of their own: nothing recurses over the input. */
#ifndef IMPORT_CODE_H
#define IMPORT_CODE_H

#include "import/value.h"

enum { CODE_SLOTS_MAX = 8192, CODE_DEPTH_MAX = 200, CODE_ARGS_MAX = 4096 };

enum code_op {
    CODE_CONST,     /* a: constant */
    CODE_CONSTANTS, /* a: number in constants.pkl */
    CODE_LOAD,      /* a: slot */
    CODE_STORE,     /* a: slot */
    CODE_ATTR,      /* a: constant, the name */
    CODE_SET_ATTR,  /* object, value; a: constant, the name */
    CODE_INDEX,     /* container, index */
    CODE_SLICE,     /* container, first, past the last */
    CODE_LIST,      /* a: length */
    CODE_TUPLE,     /* a: length */
    CODE_DICT,      /* a: keys and values together */
    CODE_CALL,      /* function, arguments; a: how many, b: names of the last ones, or -1 */
    CODE_METHOD,    /* object, arguments; the same; c: constant, the name */
    CODE_UNPACK,    /* a: length; the first ends on top */
    CODE_POP,
    CODE_JUMP,        /* a: where to */
    CODE_JUMP_UNLESS, /* a: where to */
    CODE_ITER,        /* list to slot a, its position to slot a + 1 */
    CODE_NEXT,        /* next of slot a, or jump to b */
    CODE_RETURN
};

struct code_ins {
    enum code_op op;
    int32_t a, b, c;
    int32_t line;
};

struct code_file {
    const char *path;   /* "code/__torch__/model.py", for messages */
    const char *prefix; /* "__torch__.model" */
    struct code_fn *fns;
    struct code_class *classes;
    struct code_file *next;
};

struct code_fn {
    const char *name;
    const struct code_file *file;
    int line;
    int n_params, n_slots;
    struct im_list slots; /* names; the parameters come first */
    struct im_list dflt;  /* of each parameter; IM_UNSET: it must be given */
    struct im_list consts;
    struct im_list kwargs; /* lists of names of keyword arguments */
    struct code_ins *ins;
    size_t n_ins, ins_room;
    struct code_fn *next;
};

struct code_class {
    const char *name; /* without prefix */
    const struct code_file *file;
    bool tuple;            /* a NamedTuple: fields are its items in order */
    struct im_list fields; /* names of the declared attributes */
    struct im_list consts; /* name, value, ... of Final attributes */
    struct code_fn *fns;
    struct code_class *next;
};

/* Compiles a file. text need not end with a zero. */
int code_compile(struct im_pool *pool, const char *path, const char *prefix,
                 const char *text, size_t size, struct code_file **filep,
                 struct psg_error *err);
const struct code_fn *code_find_fn(const struct code_fn *list, const char *name);
const struct code_class *code_find_class(const struct code_file *file, const char *name);

#endif
