/* Every layer function, its cases and drawn ones, on every backend: the laws of op_laws.h.
 */
#include <stdio.h>
#include <string.h>

#include "backend_cases.h"
#include "op_draw.h"
#include "op_laws.h"
#include "suite.h"

/* One test per layer function and backend, so that each gets its line. */
static void check_op(int i, const struct psg_backend *be)
{
    const struct psg_op *op = psg_op_at(i);
    const char *backend = be->name;
    char why[WHY_SIZE];
    int status;
    ck_assert_msg(op->cases && op->cases[0].attrs, "%s has no cases", op->name);
    ck_assert_msg(!op->grad_sample || (op->norm_sample && op->clipped_sum),
                  "%s has a grad sampler but no norm sampler or clipped sum", op->name);
    for (int k = 0; op->cases[k].attrs; k++)
        ck_assert_msg(op_laws_hold(op, op->cases[k].attrs, op->cases[k].inputs, be,
                                   (uint64_t)k + 1, &status, why),
                      "%s (%s | %s) on %s: %s", op->name, op->cases[k].attrs,
                      op->cases[k].inputs, backend, why);
    ck_assert_msg(op_drawn_laws_hold(op, be, why), "%s on %s: %s", op->name, backend, why);
}

/* the loop index counts backends of all layer functions */
START_TEST(laws)
{
    int n = tested_backends();
    check_op(_i / n, tested_backend(_i % n));
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("ops");
    const char *only = getenv("OPS_ONLY");
    int n = tested_backends();
    for (int i = 0; psg_op_at(i); i++) {
        if (only && strcmp(only, psg_op_at(i)->name) != 0)
            continue;
        TCase *tc = tcase_create(psg_op_at(i)->name);
        tcase_add_loop_test(tc, laws, i * n, (i + 1) * n);
        suite_add_tcase(suite, tc);
    }
    return suite_run(suite);
}
