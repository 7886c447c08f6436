#include <stdlib.h>

#include "import/code.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* Jumps stay inside of the function, slots and constants exist. */
static void check(const struct code_fn *fn)
{
    for (; fn; fn = fn->next) {
        for (size_t i = 0; i < fn->n_ins; i++) {
            const struct code_ins *ins = &fn->ins[i];
            bool jump = ins->op == CODE_JUMP || ins->op == CODE_JUMP_UNLESS;
            bool slot = ins->op == CODE_LOAD || ins->op == CODE_STORE;
            if ((jump && (size_t)ins->a >= fn->n_ins) ||
                (ins->op == CODE_NEXT && (size_t)ins->b >= fn->n_ins) ||
                (slot && ins->a >= fn->n_slots) ||
                (ins->op == CODE_CONST && (size_t)ins->a >= fn->consts.n))
                abort();
        }
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct im_pool pool = { .limit = 16 << 20 };
    struct code_file *file;
    struct psg_error err;
    if (code_compile(&pool, "fuzz.py", "__torch__.fuzz", (const char *)data, size, &file,
                     &err) == 0) {
        check(file->fns);
        for (struct code_class *c = file->classes; c; c = c->next)
            check(c->fns);
    }
    im_pool_free(&pool);
    return 0;
}
