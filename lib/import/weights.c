/* Weights of a safetensors file into a program's parameters. */
#include "psg/weights.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"

enum { NAME_SIZE = 512 };

/* Greedy: only the last star is ever tried again. */
bool psg_name_matches(const char *pattern, const char *name)
{
    const char *star = NULL, *from = NULL;
    while (*name) {
        if (*pattern == '*') {
            star = pattern++;
            from = name;
        } else if (*pattern == '?' || *pattern == *name) {
            pattern++;
            name++;
        } else if (star) {
            pattern = star + 1;
            name = ++from;
        } else {
            return false;
        }
    }
    while (*pattern == '*')
        pattern++;
    return !*pattern;
}

/* ---- names ---- */

static bool ends_with(const char *name, const char *end)
{
    size_t n = strlen(name), k = strlen(end);
    return n >= k && strcmp(name + n - k, end) == 0;
}

/* The parameter's name that a tensor's name stands for; false: too long for any. */
static bool map_name(const struct psg_weights_options *o, const char *name, char to[NAME_SIZE])
{
    const char *head = "";
    for (int i = 0; i < o->n_rename; i++) {
        size_t n = strlen(o->rename[i].from);
        if (strncmp(name, o->rename[i].from, n) != 0)
            continue;
        head = o->rename[i].to;
        name += n;
        break;
    }
    int n = snprintf(to, NAME_SIZE, "%s%s", head, name);
    if (n < 0 || n >= NAME_SIZE)
        return false;
    if (ends_with(to, ".lora_A.weight") || ends_with(to, ".lora_B.weight"))
        to[strlen(to) - strlen(".weight")] = '\0';
    return true;
}

/* ---- tensors ---- */

static bool is_floating(const struct psg_array *a)
{
    return a->dtype == PSG_ARRAY_F16 || a->dtype == PSG_ARRAY_BF16 ||
           a->dtype == PSG_ARRAY_F32 || a->dtype == PSG_ARRAY_F64;
}

static void find(struct psg_findings *f, enum psg_status status, const char *place,
                 const char *text, const char *remedy)
{
    struct psg_error error;
    char cut[160];
    snprintf(cut, sizeof cut, "%.150s", place);
    psg_fail(&error, status, cut, "%s", text);
    psg_findings_add(f, &error, false, remedy);
}

static int take(const struct psg_param_info *info, const struct psg_array *a, psg_real *params,
                struct psg_findings *f, struct psg_error *err)
{
    char want[96], have[96], text[260];
    if (!psg_shape_equal(&a->shape, &info->shape)) {
        snprintf(text, sizeof text, "the file has shape %s, the model needs %s",
                 psg_shape_text(&a->shape, have, sizeof have),
                 psg_shape_text(&info->shape, want, sizeof want));
        find(f, PSG_E_SHAPE, info->name, text, NULL);
        return 0;
    }
    if (!is_floating(a)) {
        snprintf(text, sizeof text, "the file has %s, a parameter is a floating number",
                 psg_array_dtype_name(a->dtype));
        find(f, PSG_E_SHAPE, info->name, text, NULL);
        return 0;
    }
    if (!params || info->size == 0)
        return 0;
    return psg_array_read_real(a, 0, psg_array_rows(a), params + info->offset, err);
}

static int take_all(const struct psg_program *p, const struct psg_safetensors *file,
                    const struct psg_weights_options *o, bool *seen, psg_real *params,
                    struct psg_findings *f, struct psg_error *err)
{
    int r = 0;
    for (size_t i = 0; r == 0 && i < psg_safetensors_count(file); i++) {
        const struct psg_safetensors_item *item = psg_safetensors_at(file, i);
        char name[NAME_SIZE];
        int at = map_name(o, item->name, name) ? psg_program_find_param(p, name) : -1;
        if (at < 0 && o->strict) {
            find(f, PSG_E_INVALID, item->name, "the file's tensor is not in the model",
                 "rename it, or load with strict false");
        } else if (at >= 0 && seen[at]) {
            find(f, PSG_E_INVALID, item->name, "another tensor of the file is this parameter too",
                 NULL);
        } else if (at >= 0) {
            seen[at] = true;
            r = take(psg_program_param(p, at), &item->array, params, f, err);
        }
    }
    return r;
}

int psg_weights_load(const struct psg_program *p, const struct psg_safetensors *file,
                     const struct psg_weights_options *options, psg_real *params,
                     struct psg_findings *f, struct psg_error *err)
{
    int n = psg_program_n_params(p), n_seen = 0;
    _cleanup_free_ bool *seen = calloc((size_t)n + 1, sizeof *seen);
    if (!seen)
        return psg_fail(err, PSG_E_NOMEM, NULL, "out of memory");
    int r = take_all(p, file, options, seen, params, f, err);
    if (r)
        return r;
    for (int i = 0; i < n; i++) {
        n_seen += seen[i];
        if (!seen[i] && options->strict && !psg_program_is_adapter(p, i))
            find(f, PSG_E_INVALID, psg_program_param(p, i)->name, "the file does not have it",
                 "rename a tensor of the file, or load with strict false");
    }
    if (n_seen == 0 && !options->strict)
        find(f, PSG_E_INVALID, "", "no tensor of the file is a parameter of the model",
             "rename them");
    return 0;
}
