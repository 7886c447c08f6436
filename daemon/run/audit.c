/* audit.json: what a shadow of the job with canaries shows of epsilon. */
#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "proto/text.h"
#include "psg/audit.h"
#include "run/artifact.h"

/* A shadow of more would take longer than many a job. 99.9%: one clean job in a thousand may be
 * accused. */
enum { CANARIES = 8000, STEPS_MAX = 1000 };
#define CONFIDENCE 0.999

/* From the job's secret, but not among the numbers that are released; a restart finds the same. */
static int shadow_key(const struct run_spec *spec, struct psg_key *key)
{
    struct psg_key own;
    uint32_t word[8];
    int r = 0;
    if (spec->has_seed)
        psg_key_from_seed(spec->seed, &own);
    else
        r = run_secret(spec->env, spec->dir, false, &own);
    if (r < 0)
        return r;
    r = psg_rng_fill_u32(&own, PSG_RNG_AUDIT, 0, 0, 0, 8, word, NULL);
    memcpy(key->bytes, word, sizeof key->bytes);
    psg_key_wipe(&own);
    return r < 0 ? -EINVAL : 0;
}

static void put_real(FILE *out, const char *name, double value)
{
    char buf[PROTO_REAL_MAX];
    fprintf(out, ", \"%s\": %s", name, isfinite(value) ? proto_real_text(value, buf) : "null");
}

static void put_bound(FILE *out, const char *name, const struct psg_audit_bound *b)
{
    fprintf(out, ", \"%s\": {\"guesses\": %lld, \"right\": %lld", name,
            (long long)(b->n_hits + b->n_slips), (long long)(b->hits + b->n_slips - b->slips));
    put_real(out, "epsilon", b->epsilon);
}

static int write_report(const struct run_spec *spec, const struct psg_audit_report *report,
                        struct artifact_info *info)
{
    _cleanup_free_ char *text = NULL;
    size_t n = 0;
    FILE *out = open_memstream(&text, &n);
    if (!out)
        return -ENOMEM;
    double shown = fmax(report->bound.epsilon, report->noise.bound.epsilon);
    fprintf(out, "{\"job\": \"%s\", \"verdict\": \"%s\", \"canaries\": %lld, \"steps\": %lld",
            spec->id, report->refuted ? "refuted" : "holds", (long long)report->n_canaries,
            (long long)report->steps);
    put_real(out, "epsilon_claimed", report->claim);
    put_real(out, "epsilon_at_least", shown);
    put_real(out, "delta", spec->delta);
    put_real(out, "confidence", CONFIDENCE);
    put_bound(out, "any_mechanism", &report->bound);
    fputc('}', out);
    if (report->noise.bound.n_hits > 0) {
        put_bound(out, "sampled_gaussian", &report->noise.bound);
        put_real(out, "noise_multiplier_at_most", report->noise.noise_multiplier);
        fputc('}', out);
    }
    fputs("}\n", out);
    bool failed = ferror(out) != 0;
    failed |= fclose(out) != 0;
    return failed ? -ENOMEM : artifact_save(spec, "audit.json", text, n, info);
}

int artifact_audit(const struct run_spec *spec, bool *refutedp, struct artifact_info *info)
{
    struct psg_train_options job = spec->options;
    struct psg_audit_options options = {
        .n_canaries = CANARIES,
        .steps = spec->steps < STEPS_MAX ? spec->steps : STEPS_MAX,
        .delta = spec->delta,
        .confidence = CONFIDENCE,
        .n_threads = job.plan.n_threads,
    };
    struct psg_audit_report report;
    struct psg_error err;
    struct psg_key key;
    int r = shadow_key(spec, &key);
    if (r < 0)
        return r;
    job.units.n = spec->unit == PRIVACY_UNIT_USER; /* the shadow has its own */
    r = psg_audit_shadow(spec->program, &job, &options, &key, &report, &err);
    psg_key_wipe(&key);
    if (r < 0)
        return r == PSG_E_NOMEM ? -ENOMEM : -EINVAL;
    *refutedp = report.refuted;
    return write_report(spec, &report, info);
}
