/* Building, transforms and planning with every allocation failing in turn: each failure is
 * reported as PSG_E_NOMEM, nothing crashes, nothing stays allocated. The linker sends the
 * library's allocations here (--wrap). */
#include <stdint.h>
#include <stdlib.h>

#include "psg/graph.h"
#include "suite.h"

void *__real_malloc(size_t size);
void *__real_calloc(size_t n, size_t size);
void *__real_reallocarray(void *p, size_t n, size_t size);
void *__real_aligned_alloc(size_t align, size_t size);
void __real_free(void *p);
void *__wrap_malloc(size_t size);
void *__wrap_calloc(size_t n, size_t size);
void *__wrap_reallocarray(void *p, size_t n, size_t size);
void *__wrap_aligned_alloc(size_t align, size_t size);
void __wrap_free(void *p);

static struct {
    bool on;
    long count, fail_at, live;
} heap;

static bool fails(void)
{
    return heap.on && ++heap.count == heap.fail_at;
}

static void *counted(void *p)
{
    heap.live += heap.on && p;
    return p;
}

void *__wrap_malloc(size_t size)
{
    return fails() ? NULL : counted(__real_malloc(size));
}

void *__wrap_calloc(size_t n, size_t size)
{
    return fails() ? NULL : counted(__real_calloc(n, size));
}

void *__wrap_reallocarray(void *p, size_t n, size_t size)
{
    if (fails())
        return NULL;
    return p ? __real_reallocarray(p, n, size) : counted(__real_reallocarray(p, n, size));
}

void *__wrap_aligned_alloc(size_t align, size_t size)
{
    return fails() ? NULL : counted(__real_aligned_alloc(align, size));
}

void __wrap_free(void *p)
{
    heap.live -= heap.on && p;
    __real_free(p);
}

/* ---- one of everything that allocates ---- */

static psg_value input(struct psg_graph *g, struct psg_shape s)
{
    return psg_graph_input(g, PSG_REAL, &s);
}

static struct psg_graph *model(void)
{
    struct psg_graph *g = psg_graph_new(), *b = psg_graph_new();
    struct psg_shape ids = PSG_SHAPE(3);
    struct psg_dot d = { .n_contract = 1, .contract_a = { 1 } };
    if (!g || !b) {
        psg_graph_free(b);
        return psg_graph_free(g);
    }
    psg_value h = input(b, PSG_SHAPE(4)), x = input(b, PSG_SHAPE(4));
    psg_value w = input(b, PSG_SHAPE(4, 4));
    psg_graph_output(b, psg_g_tanh(b, psg_g_add(b, psg_g_dot(b, w, h, &d), x)));
    psg_graph_set_place(g, "rnn");
    psg_value id = psg_graph_input(g, PSG_I64, &ids), table = input(g, PSG_SHAPE(5, 4));
    psg_value rec = input(g, PSG_SHAPE(4, 4)), out;
    psg_value e = psg_g_gather(g, table, id, 0), zero = psg_g_full(g, &PSG_SHAPE(4), 0);
    e = psg_g_concat(g, (psg_value[]){ e, e }, 2, 0);
    psg_g_scan(g, b, 6, false, &zero, 1, &e, 1, &rec, 1, &out);
    psg_graph_output(g, psg_g_reduce(g, PSG_REDUCE_MAX, psg_g_mul(g, out, out), 1));
    psg_graph_free(b);
    return g;
}

/* 0, or the status of what failed. */
static int whole_way(void)
{
    struct psg_error err = { 0 };
    struct psg_graph *g = model(), *d = NULL, *v = NULL, *s = NULL;
    struct psg_exec *e = NULL;
    int r = g ? psg_graph_check(g, &err) : PSG_E_NOMEM;
    if (!r && !(d = psg_graph_grad(g, (int[]){ 1, 2 }, 2, &err)))
        r = (int)err.status;
    if (!r && !(v = psg_graph_vmap(d, 3, (bool[]){ true, false, false }, &err)))
        r = (int)err.status;
    if (!r && !(s = psg_graph_simplify(v, &err)))
        r = (int)err.status;
    if (!r)
        r = psg_exec_new(s, psg_backend_ref(), &e, &err);
    psg_exec_free(e);
    psg_graph_free(g);
    psg_graph_free(d);
    psg_graph_free(v);
    psg_graph_free(s);
    return r;
}

START_TEST(every_allocation_may_fail)
{
    heap.on = true;
    int ok = whole_way();
    long total = heap.count, leaked = heap.live;
    heap.on = false;
    ck_assert_int_eq(ok, 0);
    ck_assert_int_eq(leaked, 0);
    ck_assert_int_gt(total, 100);
    for (long i = 1; i <= total; i++) {
        heap.count = heap.live = 0;
        heap.fail_at = i;
        heap.on = true;
        int r = whole_way();
        heap.on = false;
        ck_assert_msg(r == PSG_E_NOMEM, "allocation %ld of %ld: status %d", i, total, r);
        ck_assert_msg(heap.live == 0, "allocation %ld of %ld: %ld blocks stay", i, total,
                      heap.live);
    }
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("graph_nomem");
    TCase *tc = tcase_create("allocations");
    tcase_add_test(tc, every_allocation_may_fail);
    suite_add_tcase(suite, tc);
    return suite_run(suite);
}
