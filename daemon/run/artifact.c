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
#include "psg/weights.h"

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

static int save_tensors(const struct run_spec *spec, const struct psg_safetensors_item *item,
                        size_t n, const char *name, struct artifact_info *info)
{
    const struct psg_safetensors_meta meta[] = { { "format", "pt" }, { "dpsgd_job", spec->id } };
    _cleanup_free_ void *bytes = NULL;
    size_t size = 0;
    struct psg_error err;
    if (psg_safetensors_pack(item, n, meta, 2, &bytes, &size, &err) < 0)
        return err.status == PSG_E_NOMEM ? -ENOMEM : -EINVAL;
    return artifact_save(spec, name, bytes, size, info);
}

static bool has_adapters(const struct psg_program *program)
{
    for (int i = 0; i < psg_program_n_params(program); i++)
        if (psg_program_is_adapter(program, i))
            return true;
    return false;
}

/* What takes part in the model without its adapters: params, or a copy in *mergedp. */
static int merge_adapters(const struct psg_program *program, const psg_real **paramsp,
                          psg_real **mergedp)
{
    size_t size = (size_t)psg_program_param_size(program) * sizeof(psg_real);
    if (!has_adapters(program))
        return 0;
    *mergedp = malloc(size + 1);
    if (!*mergedp)
        return -ENOMEM;
    memcpy(*mergedp, *paramsp, size);
    psg_lora_merge(program, *mergedp);
    *paramsp = *mergedp;
    return 0;
}

int artifact_model(const struct run_spec *spec, struct psg_trainer *trainer,
                   struct artifact_info *info)
{
    int n = psg_program_n_params(spec->program);
    const psg_real *params = psg_trainer_params(trainer);
    _cleanup_free_ struct psg_safetensors_item *item = calloc((size_t)n + 1, sizeof *item);
    _cleanup_free_ psg_real *merged = NULL;
    size_t n_items = 0;
    if (!item || merge_adapters(spec->program, &params, &merged) < 0)
        return -ENOMEM;
    for (int i = 0; i < n; i++) {
        const struct psg_param_info *p = psg_program_param(spec->program, i);
        if (merged && psg_program_is_adapter(spec->program, i))
            continue;
        item[n_items].name = p->name;
        item[n_items++].array = psg_array_of_real(&p->shape, params + p->offset);
    }
    return save_tensors(spec, item, n_items, "model.safetensors", info);
}

int artifact_adapters(const struct run_spec *spec, struct psg_trainer *trainer,
                      struct artifact_info *info)
{
    enum { NAME_SIZE = 600 };
    int n = psg_program_n_params(spec->program);
    const psg_real *params = psg_trainer_params(trainer);
    size_t n_items = 0;
    if (!has_adapters(spec->program))
        return 0;
    _cleanup_free_ struct psg_safetensors_item *item = calloc((size_t)n + 1, sizeof *item);
    _cleanup_free_ char(*name)[NAME_SIZE] = calloc((size_t)n + 1, sizeof *name);
    if (!item || !name)
        return -ENOMEM;
    for (int i = 0; i < n; i++) {
        const struct psg_param_info *p = psg_program_param(spec->program, i);
        if (!psg_program_is_adapter(spec->program, i))
            continue;
        snprintf(name[n_items], NAME_SIZE, "base_model.model.%s.weight", p->name);
        item[n_items].name = name[n_items];
        item[n_items].array = psg_array_of_real(&p->shape, params + p->offset);
        n_items++;
    }
    int r = save_tensors(spec, item, n_items, "adapter_model.safetensors", info);
    return r < 0 ? r : 1;
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
