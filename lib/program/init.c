/* First values of the parameters. */
#include <math.h>

#include "program/program.h"

enum { CHUNK = 256 };

/* Two uniform numbers make one normal number (Box and Muller 1958); speed does not matter. */
static double normal_from(double u, double v)
{
    return sqrt(-2 * log(u)) * cos(2 * M_PI * v);
}

static void init_chunk(const struct psg_key *key, uint32_t tensor, const struct psg_init *init,
                       int64_t first, int64_t n, psg_real *to)
{
    double u[2 * CHUNK];
    psg_rng_fill_uniform(key, PSG_RNG_INIT, 0, tensor, 2 * first, 2 * n, u, NULL);
    for (int64_t i = 0; i < n; i++) {
        if (init->kind == PSG_INIT_UNIFORM)
            to[i] = (psg_real)(init->value * (2 * u[2 * i] - 1));
        else
            to[i] = (psg_real)(init->value * normal_from(u[2 * i], u[2 * i + 1]));
    }
}

static void init_param(const struct psg_param_info *info, uint32_t tensor,
                       const struct psg_key *key, psg_real *to)
{
    for (int64_t at = 0; at < info->size; at += CHUNK) {
        int64_t n = info->size - at < CHUNK ? info->size - at : CHUNK;
        if (info->init.kind == PSG_INIT_CONSTANT)
            for (int64_t i = 0; i < n; i++)
                to[at + i] = (psg_real)info->init.value;
        else
            init_chunk(key, tensor, &info->init, at, n, to + at);
    }
    if (info->init.zero_row > 0 && info->shape.rank > 0 && info->shape.dim[0] > 0) {
        int64_t width = info->size / info->shape.dim[0];
        for (int64_t i = 0; i < width; i++)
            to[(info->init.zero_row - 1) * width + i] = 0;
    }
}

void psg_program_init_params(const struct psg_program *p, const struct psg_key *key,
                             psg_real *params)
{
    for (int i = 0; i < p->n_params; i++)
        init_param(&p->params[i].info, (uint32_t)i, key, params + p->params[i].info.offset);
}
