/* Memory of a tile: no two buffers that live at the same time overlap, and lives are what they are
 * said to be: a run in which every buffer becomes NaN after its last step gives the same bits. For
 * every net of the table, in every mode, with float32 and with bf16 activations. */
#include <stdlib.h>
#include <string.h>

#include "mode/mode.h"
#include "net_data.h"
#include "suite.h"

static struct psg_plan_options options(int mode, int precision)
{
    return (struct psg_plan_options){ .mode = (enum psg_mode)mode, .tile = 3, .n_threads = 2,
                                      .precision = (enum psg_precision)precision };
}

static void check_places(const struct psg_plan *plan, int64_t *bytesp)
{
    const struct rooms *r = &plan->rooms;
    *bytesp = 0;
    for (int i = 0; i < r->n; i++) {
        const struct base_stay *a = &r->stay[i];
        ck_assert_int_eq(a->offset % BASE_PLACE_ALIGN, 0);
        ck_assert_int_le(a->offset + a->bytes, r->bytes);
        *bytesp += a->bytes;
        for (int j = 0; j < i; j++) {
            const struct base_stay *b = &r->stay[j];
            bool time = a->first <= b->last && b->first <= a->last;
            bool place = a->offset < b->offset + b->bytes && b->offset < a->offset + a->bytes;
            ck_assert_msg(!time || !place || a->bytes == 0 || b->bytes == 0,
                          "buffers %d and %d overlap", i, j);
        }
    }
}

START_TEST(live_buffers_do_not_overlap)
{
    for (int i = 0; net_at(i); i++) {
        struct net_data d;
        int64_t bytes[PSG_PRECISION_COUNT], apart[PSG_PRECISION_COUNT];
        net_data_open(&d, net_at(i), NULL);
        for (int k = 0; k < PSG_PRECISION_COUNT; k++) {
            struct psg_plan *plan = net_data_plan(&d, options(_i, k));
            check_places(plan, &apart[k]);
            bytes[k] = plan->rooms.bytes;
            ck_assert_int_lt(bytes[k], apart[k]);
            psg_plan_free(plan);
        }
        ck_assert_int_le(bytes[PSG_PRECISION_BF16], bytes[PSG_PRECISION_F32]);
        net_data_close(&d);
    }
}
END_TEST

static void run_all(struct net_data *d, struct psg_plan *plan, psg_real *plain,
                    psg_real *evaluated)
{
    struct psg_error err = { 0 };
    double loss;
    int r = psg_plain_sum(plan, d->params, &d->records, plain, &loss, &err);
    if (r == 0)
        r = psg_evaluate(plan, d->params, &d->records, evaluated, evaluated + NET_N, &err);
    ck_assert_msg(r == 0, "%s: %s", err.place, err.text);
    net_data_run(d, plan);
}

START_TEST(nothing_reads_what_has_died)
{
    for (int i = 0; net_at(i); i++)
        for (int k = 0; k < PSG_PRECISION_COUNT; k++) {
            struct net_data a, b;
            net_data_open(&a, net_at(i), NULL);
            net_data_open(&b, net_at(i), NULL);
            size_t size = (size_t)psg_program_trainable_size(a.p) * sizeof(psg_real);
            psg_real eval[2][NET_N * (1 + NET_CLASSES)];
            psg_real *plain[2] = { calloc(1, size), calloc(1, size) };
            struct psg_plan *plan = net_data_plan(&a, options(_i, k));
            struct psg_plan *poisoned = net_data_plan(&b, options(_i, k));
            poisoned->poison = true;
            run_all(&a, plan, plain[0], eval[0]);
            run_all(&b, poisoned, plain[1], eval[1]);
            bool same = memcmp(a.rows, b.rows, NET_N * size) == 0 &&
                        memcmp(a.sum, b.sum, size) == 0 &&
                        memcmp(plain[0], plain[1], size) == 0 &&
                        memcmp(a.loss, b.loss, sizeof a.loss) == 0 &&
                        memcmp(eval[0], eval[1], sizeof eval[0]) == 0;
            ck_assert_msg(same, "net %d (%s), %s", i, net_at(i)->layers[0],
                          psg_precision_name((enum psg_precision)k));
            psg_plan_free(plan);
            psg_plan_free(poisoned);
            net_data_close(&a);
            net_data_close(&b);
            free(plain[0]);
            free(plain[1]);
        }
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("room");
    TCase *tc = tcase_create("room");
    tcase_set_timeout(tc, 120);
    tcase_add_loop_test(tc, live_buffers_do_not_overlap, 0, PSG_MODE_COUNT);
    tcase_add_loop_test(tc, nothing_reads_what_has_died, 0, PSG_MODE_COUNT);
    suite_add_tcase(suite, tc);
    return suite_run(suite);
}
