#include "net_data.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "attrs_text.h"
#include "mode/mode.h"
#include "psg/dp.h"
#include "suite.h"

#define ROW(name, text) { .title = text },
#define NET(in, ...)    { .input = in, .layers = { __VA_ARGS__ } },
#define SCRIPTED(in, file) /* layers alone here */
static const struct net_text nets[] = {
#include "table.inc"
};

static bool own_ops(const struct net_text *net)
{
    for (int i = 0; i < NET_LAYERS_MAX && net->layers[i]; i++)
        if (strstr(net->layers[i], "client_"))
            return true;
    return false;
}

const struct net_text *net_at(int i)
{
    for (size_t k = 0; k < sizeof nets / sizeof *nets; k++)
        if (!nets[k].title && !own_ops(&nets[k]) && i-- == 0)
            return &nets[k];
    return NULL;
}

static psg_value add_layer(struct psg_program *p, const char *line, psg_value v, net_op find,
                           bool last)
{
    char path[64], name[64];
    psg_value in[8], out[8];
    int at = 0, n_in = 1;
    struct psg_error err = { 0 };
    ck_assert_int_ge(sscanf(line, "%63s %63s %n", path, name, &at), 2);
    char *times = strchr(name, '*');
    if (times) {
        n_in = atoi(times + 1);
        *times = '\0';
    }
    for (int i = 0; i < n_in; i++)
        in[i] = v;
    struct psg_attrs *a = attrs_from_text(line + at);
    const struct psg_op *op = find ? find(name, last) : psg_op_find(name);
    ck_assert(a && op);
    ck_assert_msg(psg_program_add_op(p, op, path, in, n_in, a, NULL, 0, out, NULL, &err) == 0,
                  "%s: %s", err.place, err.text);
    psg_attrs_free(a);
    return out[0];
}

static struct psg_program *build(const struct net_text *net, net_op find)
{
    struct psg_program *p = psg_program_new();
    struct psg_shape shape = { 0 }, none = { 0 };
    struct psg_error err = { 0 };
    const char *colon = strchr(net->input, ':');
    psg_value v, in[2];
    char *end;
    ck_assert_ptr_nonnull(p);
    for (const char *s = colon ? colon + 1 : net->input; *s; s = *end ? end + 1 : end)
        shape.dim[shape.rank++] = strtoll(s, &end, 10);
    ck_assert_int_eq(psg_program_input(p, "x", colon ? PSG_I64 : PSG_REAL, &shape, &v, NULL), 0);
    for (int i = 0; i < NET_LAYERS_MAX && net->layers[i]; i++)
        v = add_layer(p, net->layers[i], v, find,
                      i + 1 == NET_LAYERS_MAX || !net->layers[i + 1]);
    in[0] = v;
    ck_assert_int_eq(psg_program_set_output(p, v, NULL), 0);
    ck_assert_int_eq(psg_program_input(p, "target", PSG_I64, &none, &in[1], NULL), 0);
    int r = psg_program_add(p, "cross_entropy", "loss", in, 2, NULL, NULL, 0, &v, NULL, &err);
    if (r == 0)
        r = psg_program_set_loss(p, v, &err);
    if (r == 0)
        r = psg_program_check(p, &err);
    ck_assert_msg(r == 0, "%s: %s", err.place, err.text);
    return p;
}

void net_data_open(struct net_data *d, const struct net_text *net, net_op find)
{
    memset(d, 0, sizeof *d);
    d->p = build(net, find);
    const struct psg_input_info *in = psg_program_input_info(d->p, 0);
    int64_t n = NET_N * psg_shape_size(&in->type.shape);
    size_t n_params = (size_t)psg_program_param_size(d->p) + 1;
    double *u = calloc((size_t)n, sizeof *u);
    d->x = calloc((size_t)n, 8);
    d->params = calloc(n_params, sizeof *d->params);
    d->sum = calloc(n_params, sizeof *d->sum);
    d->rows = calloc(NET_N * n_params, sizeof *d->rows);
    ck_assert(u && d->x && d->params && d->sum && d->rows);
    psg_key_from_seed(8, &d->key);
    ck_assert_int_eq(psg_rng_fill_uniform(&d->key, PSG_RNG_USER, 0, 0, 0, n, u, NULL), 0);
    for (int64_t i = 0; i < n; i++)
        if (in->type.dtype == PSG_I64)
            ((int64_t *)d->x)[i] = (int64_t)(u[i] * (double)in->hi);
        else
            ((double *)d->x)[i] = 2 * u[i] - 1;
    free(u);
    for (int i = 0; i < NET_N; i++)
        d->y[i] = i % NET_CLASSES;
    d->column[0] = (struct psg_column){
        .type = in->type.dtype == PSG_I64 ? PSG_COL_I64 : PSG_COL_F64,
        .data = d->x,
        .stride = (size_t)psg_shape_size(&in->type.shape) * 8
    };
    d->column[1] = (struct psg_column){ .type = PSG_COL_I64, .data = d->y, .stride = 8 };
    psg_program_init_params(d->p, &d->key, d->params);
    d->records = (struct psg_records){ .n = NET_N, .column = d->column, .key = &d->key };
}

void net_data_close(struct net_data *d)
{
    psg_program_free(d->p);
    free(d->params);
    free(d->sum);
    free(d->rows);
    free(d->x);
}

struct psg_plan *net_data_plan(const struct net_data *d, struct psg_plan_options o)
{
    struct psg_plan *plan = NULL;
    struct psg_error err = { 0 };
    /* unchecked: a wrapped op's rules need not equal its lowering to the last bit */
    ck_assert_msg(plan_new_unchecked(d->p, &o, &plan, &err) == 0, "%s: %s", err.place, err.text);
    return plan;
}

static void clip_to_half(const void *arg, int64_t n, int64_t stride, int n_groups,
                         const double *sq, psg_real *weight)
{
    (void)arg;
    for (int g = 0; g < n_groups; g++)
        psg_clip_factors(PSG_CLIP_FLAT, 0.5, n, sq + g * stride, weight + g * stride, NULL, NULL);
}

void net_data_run(struct net_data *d, struct psg_plan *plan)
{
    struct psg_grad_out out = { .rows = d->rows, .sqnorm = d->sq, .loss = d->loss };
    struct psg_sum_options clip = { .weight = clip_to_half };
    struct psg_error err = { 0 };
    int r = psg_clipped_sum(plan, d->params, &d->records, &clip, d->sum, NULL, &err);
    if (r == 0)
        r = psg_grad_sample(plan, d->params, &d->records, &out, &err);
    ck_assert_msg(r == 0, "%s: %s", err.place, err.text);
}
