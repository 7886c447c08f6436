/* Records of several lengths in one padded batch: a padded record has the loss, the gradient and
 * the norm of the same record without padding, in every mode, whatever the padding holds. */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "psg/plan.h"
#include "suite.h"

enum { T = 5, N = 6, CLASSES = 3 };

static struct psg_error err;

enum kind { LSTM_LAST, LSTM_SEQUENCE, GRU_ALL, RNN_REVERSE, ATTENTION, ENCODER, TOKENS, KINDS };

struct build {
    struct psg_program *p;
    int64_t t;
    bool padded;
    psg_value length;
};

/* attrs: "name=number ..."; a word instead of a number is a string, true a flag */
static psg_value add(struct build *b, const char *op, const char *path, const psg_value *in, int n,
                     const char *attrs)
{
    char text[200], *save, *item;
    struct psg_attrs *a = psg_attrs_new();
    psg_value out[8];
    snprintf(text, sizeof text, "%s", attrs);
    for (item = strtok_r(text, " ", &save); item; item = strtok_r(NULL, " ", &save)) {
        char *value = strchr(item, '=');
        *value++ = '\0';
        int r = strcmp(value, "true") == 0 ? psg_attrs_bool(a, item, true)
                : strchr("-0123456789", value[0])
                    ? psg_attrs_int(a, item, strtol(value, NULL, 10))
                    : psg_attrs_string(a, item, value);
        ck_assert_int_eq(r, 0);
    }
    int r = psg_program_add(b->p, op, path, in, n, a, NULL, 0, out, NULL, &err);
    ck_assert_msg(r == 0, "%s: %s", err.place, err.text);
    psg_attrs_free(a);
    return out[0];
}

static psg_value add1(struct build *b, const char *op, const char *path, psg_value x,
                      const char *attrs)
{
    return add(b, op, path, &x, 1, attrs);
}

/* with the length behind it where the batch is padded */
static psg_value add_length(struct build *b, const char *op, const char *path, psg_value x,
                            const char *attrs)
{
    return add(b, op, path, (psg_value[]){ x, b->length }, b->padded ? 2 : 1, attrs);
}

static psg_value mean(struct build *b, psg_value x)
{
    return b->padded ? add_length(b, "sequence_mean", "mean", x, "")
                     : add1(b, "mean", "mean", x, "dim=1");
}

static psg_value body(struct build *b, enum kind kind, psg_value x)
{
    char attrs[32];
    psg_value in[4] = { x, x, x, PSG_NONE };
    switch (kind) {
    case LSTM_LAST:
        return add_length(b, "lstm", "r", x,
                          "hidden_size=3 num_layers=2 bidirectional=true return=last_hidden");
    case LSTM_SEQUENCE:
        return mean(b, add_length(b, "lstm", "r", x, "hidden_size=3 bidirectional=true"));
    case GRU_ALL:
        return mean(b, add_length(b, "gru", "r", x, "hidden_size=3 num_layers=2 return=all"));
    case RNN_REVERSE:
        return add_length(b, "rnn_tanh", "r", x,
                          "hidden_size=4 bidirectional=true return=last_hidden");
    case ATTENTION:
    case ENCODER:
        snprintf(attrs, sizeof attrs, "size=%lld", (long long)b->t);
        if (b->padded)
            in[3] = add1(b, "padding_mask", "mask", b->length, attrs);
        if (kind == ENCODER) {
            in[1] = in[3];
            x = add(b, "transformer_encoder_layer", "a", in, b->padded ? 2 : 1,
                    "nhead=2 dim_feedforward=6 dropout=0");
        } else {
            x = add(b, "multihead_attention", "a", in, b->padded ? 4 : 3, "num_heads=2");
        }
        return mean(b, x);
    default: return x;
    }
}

/* ids [T] -> embedding -> body -> logits; TOKENS: a class for each position */
static void build(struct build *b, enum kind kind, int64_t t, bool padded)
{
    psg_value ids, x, y, loss;
    *b = (struct build){ .p = psg_program_new(), .t = t, .padded = padded };
    psg_program_input(b->p, "ids", PSG_I64, &PSG_SHAPE(t), &ids, NULL);
    struct psg_shape target = kind == TOKENS ? PSG_SHAPE(t) : (struct psg_shape){ 0 };
    psg_program_input(b->p, "y", PSG_I64, &target, &y, NULL);
    if (padded && kind != TOKENS)
        psg_program_input(b->p, "length", PSG_I64, &(struct psg_shape){ 0 }, &b->length, NULL);
    x = add1(b, "embedding", "e", ids, "num_embeddings=7 embedding_dim=4");
    x = body(b, kind, x);
    x = add1(b, "linear", "out", x, "out_features=3");
    loss = add(b, "cross_entropy", "loss", (psg_value[]){ x, y }, 2,
               kind != TOKENS ? ""
               : padded       ? "class_dim=2 ignore_index=-100"
                              : "class_dim=2");
    ck_assert_int_eq(psg_program_set_loss(b->p, loss, &err), 0);
    ck_assert_msg(psg_program_check(b->p, &err) == 0, "%s: %s", err.place, err.text);
}

struct batch {
    int64_t ids[N][T], tags[N][T], label[N], length[N];
};

/* lengths 1 to T; padding: what stands behind them */
static void fill(struct batch *b, int64_t padding)
{
    for (int i = 0; i < N; i++) {
        b->length[i] = 1 + i % T;
        b->label[i] = i % CLASSES;
        for (int t = 0; t < T; t++) {
            bool there = t < b->length[i];
            b->ids[i][t] = there ? (2 * i + 3 * t) % 7 : padding;
            b->tags[i][t] = there ? (i + t) % CLASSES : -100;
        }
    }
}

struct grads {
    psg_real *rows, loss[N];
    double sq[N];
    int64_t size;
};

static void run(const struct build *b, enum kind kind, enum psg_mode mode,
                const struct batch *data, int64_t first, int64_t n, struct grads *g)
{
    const size_t row = sizeof data->ids[0];
    const struct psg_column column[3] = {
        { .type = PSG_COL_I64, .data = data->ids[first], .stride = row },
        { .type = PSG_COL_I64,
          .data = kind == TOKENS ? data->tags[first] : &data->label[first],
          .stride = kind == TOKENS ? row : sizeof(int64_t) },
        { .type = PSG_COL_I64, .data = &data->length[first], .stride = sizeof(int64_t) },
    };
    struct psg_plan_options o = { .mode = mode, .tile = 4 };
    struct psg_plan *plan = NULL;
    struct psg_key key;
    psg_key_from_seed(5, &key);
    g->size = psg_program_trainable_size(b->p);
    g->rows = calloc((size_t)(n * g->size), sizeof *g->rows);
    psg_real *params = calloc((size_t)g->size, sizeof *params);
    psg_program_init_params(b->p, &key, params);
    ck_assert_msg(psg_plan_new(b->p, &o, &plan, &err) == 0, "%s: %s", err.place, err.text);
    struct psg_records records = { .n = n, .column = column, .key = &key };
    struct psg_grad_out out = { .rows = g->rows, .loss = g->loss, .sqnorm = g->sq };
    ck_assert_msg(psg_grad_sample(plan, params, &records, &out, &err) == 0, "%s: %s", err.place,
                  err.text);
    psg_plan_free(plan);
    free(params);
}

static void compare(const struct grads *all, int i, const struct grads *one)
{
    ck_assert_int_eq(all->size, one->size);
    ck_assert_double_eq_tol(all->loss[i], one->loss[0], 1e-12);
    ck_assert_double_eq_tol(all->sq[i], one->sq[0], 1e-10 * (1 + one->sq[0]));
    for (int64_t k = 0; k < all->size; k++)
        ck_assert_double_eq_tol(all->rows[i * all->size + k], one->rows[k], 1e-11);
}

START_TEST(padding_contributes_nothing)
{
    enum kind kind = (enum kind)(_i / PSG_MODE_COUNT);
    enum psg_mode mode = (enum psg_mode)(_i % PSG_MODE_COUNT);
    struct batch zeros, noise;
    struct build padded;
    struct grads a, b, one;
    fill(&zeros, 0);
    fill(&noise, 6);
    build(&padded, kind, T, true);
    run(&padded, kind, mode, &zeros, 0, N, &a);
    run(&padded, kind, mode, &noise, 0, N, &b);
    for (int i = 0; i < N; i++) {
        struct build alone;
        build(&alone, kind, zeros.length[i], false);
        run(&alone, kind, mode, &zeros, i, 1, &one);
        ck_assert_double_gt(one.sq[0], 0);
        compare(&a, i, &one);
        compare(&b, i, &one);
        psg_program_free(alone.p);
        free(one.rows);
    }
    free(a.rows);
    free(b.rows);
    psg_program_free(padded.p);
}
END_TEST

/* A record of length 0 has a loss (of the layers behind the sequence) and no gradient before. */
START_TEST(an_empty_record_is_finite)
{
    enum kind kind = (enum kind)(_i / PSG_MODE_COUNT);
    enum psg_mode mode = (enum psg_mode)(_i % PSG_MODE_COUNT);
    struct batch data;
    struct build padded;
    struct grads a;
    fill(&data, 3);
    data.length[2] = 0;
    for (int t = 0; t < T; t++)
        data.tags[2][t] = -100;
    build(&padded, kind, T, true);
    run(&padded, kind, mode, &data, 0, N, &a);
    ck_assert(isfinite(a.loss[2]) && isfinite(a.sq[2]));
    for (int64_t k = 0; k < 7 * 4; k++) /* the embedding's table comes first */
        ck_assert(a.rows[2 * a.size + k] == 0);
    free(a.rows);
    psg_program_free(padded.p);
}
END_TEST

START_TEST(a_length_out_of_range_is_refused)
{
    struct batch data;
    struct build b;
    struct psg_plan_options o = { 0 };
    struct psg_plan *plan = NULL;
    psg_real params[512] = { 0 };
    fill(&data, 0);
    data.length[3] = T + 1;
    build(&b, LSTM_SEQUENCE, T, true);
    ck_assert_int_le(psg_program_param_size(b.p), 512);
    const struct psg_column column[3] = {
        { .type = PSG_COL_I64, .data = data.ids, .stride = sizeof data.ids[0] },
        { .type = PSG_COL_I64, .data = data.label, .stride = 8 },
        { .type = PSG_COL_I64, .data = data.length, .stride = 8 },
    };
    struct psg_records records = { .n = N, .column = column };
    ck_assert_int_eq(psg_plan_new(b.p, &o, &plan, &err), 0);
    ck_assert_int_eq(psg_evaluate(plan, params, &records, NULL, NULL, &err), PSG_E_RANGE);
    ck_assert_str_eq(err.place, "length");
    psg_plan_free(plan);
    psg_program_free(b.p);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("lengths");
    TCase *tc = tcase_create("lengths");
    tcase_add_loop_test(tc, padding_contributes_nothing, 0, KINDS * PSG_MODE_COUNT);
    tcase_add_loop_test(tc, an_empty_record_is_finite, 0, KINDS * PSG_MODE_COUNT);
    tcase_add_test(tc, a_length_out_of_range_is_refused);
    suite_add_tcase(suite, tc);
    return suite_run(suite);
}
