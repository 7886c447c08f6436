/* Formulas of a layer of one's own: each line is a step, the last one the output; what can be read
 * is also used in a program and planned for. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "psg/expr.h"
#include "psg/plan.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void use(struct psg_expr *e)
{
    struct psg_error err;
    struct psg_program *p = psg_program_new();
    const struct psg_op *op = psg_expr_op(e, &err);
    struct psg_plan_options options = { .tile = 2 };
    struct psg_plan *plan = NULL;
    psg_value in[2], out[8];
    if (!p || !op || psg_program_input(p, "x", PSG_REAL, &PSG_SHAPE(3, 4), &in[0], &err) ||
        psg_program_input(p, "ids", PSG_I64, &PSG_SHAPE(2), &in[1], &err))
        abort();
    /* small tensors only: what a formula may make is bounded, and slow long before that */
    if (psg_program_add_op(p, op, "u", in, 2, NULL, NULL, 0, out, NULL, &err) == 0 &&
        psg_shape_size(&psg_program_type(p, out[0])->shape) < 4096 &&
        psg_program_set_output(p, out[0], &err) == 0 && psg_program_check(p, &err) == 0)
        psg_plan_free(psg_plan_new(p, &options, &plan, &err) == 0 ? plan : NULL);
    psg_program_free(p);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct psg_error err;
    struct psg_expr *e = psg_expr_new("fuzz");
    char *text = malloc(size + 1), *save = NULL, *line, *next;
    const char *shape[] = { "3", "size(x, 1)" };
    const double k = 2;
    int r = 0;
    if (!e || !text || psg_expr_input(e, "x", &err) || psg_expr_input(e, "ids", &err) ||
        psg_expr_attr(e, "k", &k, 1, false, &err) ||
        psg_expr_param(e, "w", shape, 2, NULL, &err))
        abort();
    for (size_t i = 0; i < size; i++)
        text[i] = data[i] ? (char)data[i] : '\n';
    text[size] = '\0';
    for (line = strtok_r(text, "\n", &save); line && r == 0; line = next) {
        next = strtok_r(NULL, "\n", &save);
        r = next ? psg_expr_let(e, line, &err) : psg_expr_out(e, line, &err);
        if (r == 0 && !next)
            use(e);
        else if (r && !err.text[0])
            abort();
    }
    free(text);
    psg_expr_free(e);
    return 0;
}
