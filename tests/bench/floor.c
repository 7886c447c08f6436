#include "floor.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "backend/memory.h"
#include "base/cleanup.h"
#include "program/program.h"
#include "psg/dp.h"

static double now_ms(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec * 1e3 + (double)t.tv_nsec * 1e-6;
}

/* Kernels of a device are queued: the time is there when they are done. */
static double done_ms(const struct psg_backend *be)
{
    if (be->wait && be->wait(NULL))
        return NAN;
    return now_ms();
}

/* best of a few, as everything that disturbs makes them slower */
static double gemm_gflops(const struct psg_backend *be)
{
    enum { ROUNDS = 8 };
    const int64_t n = be->device_memory ? 4096 : 512;
    size_t bytes = (size_t)(n * n) * sizeof(psg_real);
    psg_real *a = memory_new(be, bytes), *b = memory_new(be, bytes), *c = memory_new(be, bytes);
    struct psg_gemm g = { .m = n, .n = n, .k = n, .lda = n, .ldb = n, .ldc = n, .alpha = 1 };
    double best = INFINITY, t = done_ms(be);
    for (int i = 0; a && b && c && i < ROUNDS; i++) {
        be->gemm(&g, a, b, c);
        double end = done_ms(be);
        best = fmin(best, end - t);
        t = end;
    }
    memory_free(be, a);
    memory_free(be, b);
    memory_free(be, c);
    return 2.0 * (double)(n * n * n) / best * 1e-6;
}

/* a copy reads and writes */
static double copy_ms(const struct psg_backend *be, size_t size, char *a, char *b)
{
    double t = now_ms();
    if (be->device_memory) {
        int64_t n = (int64_t)(size / sizeof(psg_real)), one = 1;
        be->copy(&PSG_SHAPE(n), sizeof(psg_real), a, &one, b, &one);
        return done_ms(be) - t;
    }
    memcpy(b, a, size);
    t = now_ms() - t;
    memcpy(a, b + size / 2, 64); /* so that the copy is needed */
    return t;
}

static double gb_per_s(const struct psg_backend *be)
{
    enum { ROUNDS = 5 };
    const size_t size = (size_t)(be->device_memory ? 512 : 32) << 20;
    char *a = memory_new(be, size), *b = memory_new(be, size);
    double best = INFINITY;
    for (int i = 0; a && b && i <= ROUNDS; i++) {
        double t = copy_ms(be, size, a, b);
        best = i > 0 ? fmin(best, t) : best;
    }
    memory_free(be, a);
    memory_free(be, b);
    return best < INFINITY ? 2.0 * (double)size / best * 1e-6 : NAN;
}

static double noise_ns(void)
{
    enum { N = 1 << 15, ROUNDS = 5 };
    _cleanup_free_ psg_real *x = calloc(N, sizeof *x);
    struct psg_key key;
    psg_key_from_seed(1, &key);
    double best = INFINITY;
    for (int i = 0; x && i < ROUNDS; i++) {
        double t = now_ms();
        if (psg_noise_add(&key, 0, 0, 0, N, 1, x, NULL))
            return NAN;
        best = fmin(best, now_ms() - t);
    }
    return best * 1e6 / N;
}

int machine_measure(const struct psg_backend *be, struct machine *m)
{
    *m = (struct machine){ gemm_gflops(be), gb_per_s(be), noise_ns() };
    return isfinite(m->gemm_gflops) && isfinite(m->gb_per_s) && isfinite(m->noise_ns)
               ? 0
               : PSG_E_NOMEM;
}

/* How often a sample uses each weight of a node: positions of a convolution, else the rows in
 * front of the last axis (words, steps). */
static int64_t positions(const struct psg_program *p, const struct node *node)
{
    const struct psg_shape *out = &p->values[node->out[0]].type.shape;
    bool conv = strncmp(node->op->name, "conv", 4) == 0;
    int64_t n = 1;
    for (int i = conv; i < out->rank - !conv; i++)
        n *= out->dim[i];
    return n;
}

/* Products of one sample with a node's matrices, once; attention's two products beside. */
static double products(const struct psg_program *p, const struct node *node)
{
    double macs = 0;
    const struct psg_shape *in = &p->values[node->in[0]].type.shape;
    if (strncmp(node->op->name, "embedding", 9) == 0)
        return 0;
    for (int r = 0; r < node->n_param; r++) {
        const struct psg_param_info *info = &p->params[node->param[r].param].info;
        if (info->shape.rank >= 2)
            macs += (double)info->size * (double)positions(p, node);
    }
    if (strcmp(node->op->name, "multihead_attention") == 0 ||
        strcmp(node->op->name, "transformer_encoder_layer") == 0)
        macs += 2 * (double)in->dim[0] * (double)in->dim[0] * (double)in->dim[1];
    return macs;
}

/* Values of a sample's gradient that may differ from zero. */
static double touched(const struct psg_program *p, const struct node *node)
{
    double n = 0;
    if (strncmp(node->op->name, "embedding", 9) == 0)
        return (double)psg_shape_size(&p->values[node->out[0]].type.shape);
    for (int r = 0; r < node->n_param; r++)
        if (p->params[node->param[r].param].info.trainable)
            n += (double)p->params[node->param[r].param].info.size;
    return n;
}

static bool is_input(const struct psg_program *p, psg_value v)
{
    for (int i = 0; i < p->n_inputs; i++)
        if (p->inputs[i].value == v)
            return true;
    return false;
}

void work_of(const struct psg_program *p, int64_t batch, bool is_private, bool with_update,
             struct work_count *w)
{
    double flops = 0, record = 0;
    double updated = with_update ? (double)p->trainable_size : 0;
    for (int i = 0; i < p->n_nodes; i++) {
        const struct node *node = &p->nodes[i];
        int passes = is_input(p, node->in[0]) ? 2 : 3; /* no gradient of a record */
        flops += 2 * passes * products(p, node);
        flops += is_private ? 4 * touched(p, node) : 0;
    }
    for (int i = 0; i < p->n_inputs; i++)
        record += (double)psg_shape_size(&p->inputs[i].info.type.shape) *
                  (double)psg_dtype_size(p->inputs[i].info.type.dtype);
    *w = (struct work_count){ .flops = flops * (double)batch,
                              .bytes = record * (double)batch + 4 * updated * sizeof(psg_real),
                              .noise = is_private ? updated : 0 };
}

double floor_ms(const struct work_count *w, const struct machine *m, int threads)
{
    double core = w->flops / m->gemm_gflops * 1e-6 + w->noise * m->noise_ns * 1e-6;
    return fmax(core / threads, w->bytes / m->gb_per_s * 1e-6);
}
