/* privacy.json: what left, what it costs by each accountant, and what that rests on. */
#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/cleanup.h"
#include "proto/text.h"
#include "run/artifact.h"

static void put_real(FILE *out, double value)
{
    char buf[PROTO_REAL_MAX];
    fputs(isfinite(value) ? proto_real_text(value, buf) : "null", out);
}

static void put_member(FILE *out, const char *name, double value)
{
    fprintf(out, ", \"%s\": ", name);
    put_real(out, value);
}

static void put_text(FILE *out, const char *name, const char *text)
{
    fprintf(out, ", \"%s\": \"%s\"", name, text);
}

static void put_bool(FILE *out, const char *name, bool value)
{
    fprintf(out, ", \"%s\": %s", name, value ? "true" : "false");
}

static const char *clipping_name(enum psg_clipping clipping)
{
    switch (clipping) {
    case PSG_CLIP_FLAT: return "flat";
    case PSG_CLIP_PER_LAYER: return "per_layer";
    case PSG_CLIP_PER_GROUP: return "per_group";
    case PSG_CLIP_ADAPTIVE: return "adaptive";
    case PSG_CLIP_AUTO_S:
    case PSG_CLIP_AUTO_V: return "automatic";
    }
    return "";
}

/* ---- the mechanism ---- */

static void put_noise(const struct run_spec *spec, FILE *out)
{
    const struct psg_train_options *o = &spec->options;
    put_member(out, "noise_multiplier", spec->noise_multiplier);
    put_text(out, "noise", o->secure_noise ? "discrete_gaussian" : "gaussian");
    put_bool(out, "secure_noise", o->secure_noise);
    put_text(out, "clipping", clipping_name(o->clipping));
    if (o->clipping != PSG_CLIP_PER_LAYER && o->clipping != PSG_CLIP_PER_GROUP)
        put_member(out, "max_grad_norm", o->max_grad_norm.initial);
    put_text(out, "telemetry", telemetry_policy_name(spec->telemetry));
    put_member(out, "telemetry_share", o->telemetry_share);
}

static void put_sampling(const struct run_spec *spec, FILE *out)
{
    const struct psg_train_options *o = &spec->options;
    put_member(out, "sample_rate", spec->sample_rate);
    put_member(out, "expected_batch_size", o->expected_batch_size);
    put_bool(out, "poisson_sampling", spec->poisson_sampling);
    put_text(out, "sampling", !spec->poisson_sampling     ? "shuffled"
                              : o->max_batch_size > 0 ? "truncated_poisson"
                                                      : "poisson");
    put_bool(out, "amplification", spec->poisson_sampling);
    if (o->max_batch_size > 0)
        put_member(out, "max_batch_size", (double)o->max_batch_size);
    put_text(out, "neighbouring", spec->poisson_sampling ? "add_or_remove_one" : "zero_out_one");
    put_text(out, "unit", dataset_unit_name(spec->unit));
}

static void put_history(const struct psg_dp_event *event, size_t n, FILE *out)
{
    fputs(", \"events\": [", out);
    for (size_t i = 0; i < n; i++) {
        fputs(i ? ", {\"sample_rate\": " : "{\"sample_rate\": ", out);
        put_real(out, event[i].sample_rate);
        put_member(out, "noise_multiplier", event[i].noise_multiplier);
        fprintf(out, ", \"steps\": %lld}", (long long)event[i].steps);
    }
    fputs("]", out);
}

/* ---- the accountants ---- */

enum { N_KINDS = PSG_ACCOUNTANT_PRV + 1 };

/* Asked of the whole history at once, so that the same steps always give the same bytes. */
static int ask_accountants(const struct run_spec *spec, const struct psg_dp_event *event, size_t n,
                           struct psg_dp_epsilon answer[N_KINDS])
{
    struct psg_error err;
    int r = 0;
    for (int k = 0; k < N_KINDS && r == 0; k++)
        r = psg_dp_epsilon((enum psg_accountant_kind)k, event, n, spec->accounting_delta,
                           &answer[k], &err);
    return r == 0 ? 0 : r == PSG_E_NOMEM ? -ENOMEM : -EIO;
}

static void put_accountants(const struct psg_dp_epsilon answer[N_KINDS], FILE *out)
{
    fputs(", \"accountants\": {", out);
    for (int k = 0; k < N_KINDS; k++) {
        const struct psg_dp_epsilon *e = &answer[k];
        fprintf(out, "%s\"%s\": {\"epsilon\": ", k ? ", " : "",
                psg_accountant_kind_name((enum psg_accountant_kind)k));
        put_real(out, e->epsilon);
        put_text(out, "kind", k == PSG_ACCOUNTANT_GDP ? "approximation" : "upper_bound");
        if (k == PSG_ACCOUNTANT_RDP)
            put_member(out, "order", e->order);
        if (k == PSG_ACCOUNTANT_PRV) {
            put_member(out, "lower", e->lower);
            put_member(out, "estimate", e->estimate);
            put_text(out, "method", psg_accountant_kind_name(e->method));
        }
        fputs("}", out);
    }
    fputs("}", out);
}

/* ---- what it rests on, for people ---- */

static void put_assumptions(const struct run_spec *spec, FILE *out)
{
    const struct psg_train_options *o = &spec->options;
    const char *unit = dataset_unit_name(spec->unit);
    fprintf(out, ", \"assumptions\": [\"neighbouring datasets differ by %s one %s%s\"",
            spec->poisson_sampling ? "adding or removing" : "replacing", unit,
            spec->poisson_sampling ? "" : " by one whose gradients are zero");
    if (spec->unit == PRIVACY_UNIT_USER)
        fprintf(out,
                ", \"the gradient of a user is the %s all the records under that id, clipped as "
                "one; ids are as the dataset tells them\"",
                o->sum_reduction ? "sum over" : "mean over");
    if (spec->poisson_sampling)
        fprintf(out,
                ", \"every %s joins a step independently with probability sample_rate, and who "
                "joined is never told\"",
                unit);
    else
        fprintf(out,
                ", \"batches are shuffled: each step is counted as if the same %s took part in "
                "all of them, no amplification by sampling is claimed\"",
                unit);
    if (o->max_batch_size > 0)
        fprintf(out,
                ", \"batches above max_batch_size are cut: covered by a 2^-20 share of delta, for "
                "at most %lld %ss\"",
                (long long)o->max_records, unit);
    if (o->max_grad_norm.kind != PSG_SCHEDULE_CONSTANT)
        fputs(", \"the clip bound changes by its schedule and the noise with it, so that their ratio "
              "is the noise multiplier of events\"",
              out);
    if (o->clipping == PSG_CLIP_ADAPTIVE)
        fputs(", \"the count behind the adaptive bound and the gradient are one Gaussian mechanism "
              "with noise_multiplier\"",
              out);
    fputs(", \"the weights of every step may be known: nothing rests on hiding them\"", out);
    if (o->telemetry_share > 0)
        fputs(", \"the telemetry of a step and its gradient are one Gaussian mechanism with "
              "noise_multiplier\"",
              out);
    if (o->secure_noise)
        fputs(", \"noise is a discrete Gaussian on a grid, with its deviation raised for the "
              "rounding; float sums are allowed an error of 2^-23 of the clip bound for each "
              "expected record\"",
              out);
    else
        fputs(", \"noise is Gaussian in exact arithmetic; its floating-point gaps are not "
              "modelled\"",
              out);
    fputs("]", out);
}

static int put_private(const struct run_spec *spec, const struct psg_accountant *accountant,
                       FILE *out)
{
    size_t n = 0;
    const struct psg_dp_event *event = psg_accountant_history(accountant, &n);
    struct psg_dp_epsilon answer[N_KINDS];
    int r = ask_accountants(spec, event, n, answer);
    if (r)
        return r;
    put_member(out, "epsilon", answer[spec->accountant].epsilon);
    put_member(out, "delta", spec->delta);
    put_text(out, "accountant", psg_accountant_kind_name(spec->accountant));
    put_noise(spec, out);
    put_sampling(spec, out);
    put_history(event, n, out);
    put_accountants(answer, out);
    put_assumptions(spec, out);
    return 0;
}

int artifact_privacy(const struct run_spec *spec, const struct psg_accountant *accountant,
                     struct artifact_info *info)
{
    _cleanup_free_ char *text = NULL;
    size_t n = 0;
    FILE *out = open_memstream(&text, &n);
    if (!out)
        return -ENOMEM;
    fprintf(out, "{\"job\": \"%s\", \"dataset\": \"%s\", \"dataset_sha256\": \"%s\"",
            spec->id, spec->dataset_id, spec->dataset_sha256);
    fprintf(out, ", \"private\": %s, \"steps\": %lld", spec->is_private ? "true" : "false",
            (long long)spec->steps);
    int r = spec->is_private ? put_private(spec, accountant, out) : 0;
    fputs("}\n", out);
    bool failed = ferror(out) != 0;
    failed |= fclose(out) != 0;
    if (r == 0)
        r = failed ? -ENOMEM : artifact_save(spec, "privacy.json", text, n, info);
    return r;
}
