#include "run/artifact.h"

#include <errno.h>
#include <math.h>
#include <sodium.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "proto/text.h"
#include "psg/formats.h"

int artifact_save(const struct run_spec *spec, const char *name, const void *data, size_t n,
                  struct artifact_info *info)
{
    unsigned char sha[32];
    int r = env_write_file(spec->env, spec->dir, name, data, n, 0640);
    if (r < 0)
        return r;
    crypto_hash_sha256(sha, data, n);
    *info = (struct artifact_info){ .name = name, .bytes = (int64_t)n };
    sodium_bin2hex(info->sha256, sizeof info->sha256, sha, sizeof sha);
    return 0;
}

/* ---- model ---- */

int artifact_model(const struct run_spec *spec, struct psg_trainer *trainer,
                   struct artifact_info *info)
{
    int n = psg_program_n_params(spec->program);
    _cleanup_free_ struct psg_safetensors_item *item = calloc((size_t)n + 1, sizeof *item);
    if (!item)
        return -ENOMEM;
    const psg_real *params = psg_trainer_params(trainer);
    for (int i = 0; i < n; i++) {
        const struct psg_param_info *p = psg_program_param(spec->program, i);
        item[i].name = p->name;
        item[i].array = psg_array_of_real(&p->shape, params + p->offset);
    }
    const struct psg_safetensors_meta meta[] = { { "format", "pt" }, { "dpsgd_job", spec->id } };
    _cleanup_free_ void *bytes = NULL;
    size_t size = 0;
    struct psg_error err;
    if (psg_safetensors_pack(item, (size_t)n, meta, 2, &bytes, &size, &err) < 0)
        return err.status == PSG_E_NOMEM ? -ENOMEM : -EINVAL;
    return artifact_save(spec, "model.safetensors", bytes, size, info);
}

/* ---- texts ---- */

static void put_real(FILE *out, double value, const char *absent)
{
    char buf[PROTO_REAL_MAX];
    fputs(isfinite(value) ? proto_real_text(value, buf) : absent, out);
}

static int close_text(const struct run_spec *spec, FILE *out, char **textp, const size_t *np,
                      const char *name, struct artifact_info *info)
{
    bool failed = ferror(out) != 0;
    failed |= fclose(out) != 0;
    int r = failed ? -ENOMEM : artifact_save(spec, name, *textp, *np, info);
    free(*textp);
    return r;
}

int artifact_metrics(const struct run_spec *spec, const struct metrics *metrics,
                     struct artifact_info *info)
{
    char *text = NULL;
    size_t n = 0;
    FILE *out = open_memstream(&text, &n);
    if (!out)
        return -ENOMEM;
    fputs("step,loss,clip_fraction,lr,epsilon,eval_loss,eval_accuracy\n", out);
    for (int64_t i = 0; i < metrics->n; i++) {
        const struct metric *m = &metrics->line[i];
        const double value[] = { m->loss,    m->clip_fraction, m->lr,
                                 m->epsilon, m->eval_loss,     m->eval_accuracy };
        fprintf(out, "%lld", (long long)m->step);
        for (size_t k = 0; k < sizeof value / sizeof *value; k++) {
            fputc(',', out);
            put_real(out, value[k], "");
        }
        fputc('\n', out);
    }
    return close_text(spec, out, &text, &n, "metrics.csv", info);
}

int artifact_job(const struct run_spec *spec, struct artifact_info *info)
{
    return artifact_save(spec, "job.json", spec->json, strlen(spec->json), info);
}
