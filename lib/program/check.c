/* Building that goes on after a mistake, and checks of the whole program: every finding. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "program/program.h"
#include "psg/check.h"

enum { TRIES_MAX = 32 };

static int no_memory(struct psg_error *err, const char *place)
{
    return psg_fail(err, PSG_E_NOMEM, place, "out of memory");
}

/* The attribute that an error is about, or NULL. */
static const struct attr *blamed(const struct psg_attrs *attrs, const char *path,
                                 const struct psg_error *error)
{
    size_t n = strlen(path);
    if (strncmp(error->place, path, n) != 0 || error->place[n] != '.')
        return NULL;
    return attrs_find(attrs, error->place + n + 1);
}

static const struct psg_attr_spec *spec_of(const struct psg_op *op, const char *attr)
{
    for (const struct psg_attr_spec *s = op->attrs; s && s->name; s++)
        if (strcmp(s->name, attr) == 0)
            return s;
    return NULL;
}

/* What to do about an attribute: which ones there are, or to leave out one that only repeats what
 * the input says. */
static void add_attr_finding(const struct psg_op *op, const char *attr,
                             const struct psg_error *error, struct psg_findings *f)
{
    char text[160] = "";
    const struct psg_attr_spec *spec = spec_of(op, attr);
    if (!spec && attr[0] && op->attrs && op->attrs->name) {
        size_t n = (size_t)snprintf(text, sizeof text, "%.40s takes", op->name);
        for (const struct psg_attr_spec *s = op->attrs; s->name; s++) {
            if (n + strlen(s->name) + 8 > sizeof text) {
                snprintf(text + n, sizeof text - n, ", ...");
                break;
            }
            n += (size_t)snprintf(text + n, sizeof text - n, "%s %s", s == op->attrs ? "" : ",",
                                  s->name);
        }
    } else if (spec && spec->doc && strstr(spec->doc, "when given")) {
        snprintf(text, sizeof text, "leave %.60s out to take what the input has", attr);
    }
    psg_findings_add(f, error, strstr(error->text, "mix samples") != NULL, text);
}

/* ---- when inputs are not known ---- */

/* Runs infer on no inputs to have names and kinds of the attributes checked; other complaints
 * would be about what is not known. */
static void check_names(const struct psg_op *op, const char *path, const struct psg_attrs *attrs,
                        struct psg_findings *f)
{
    _cleanup_(psg_attrs_freep) struct psg_attrs *left = attrs_copy(attrs);
    for (int i = 0; left && i < left->n; i++) {
        struct psg_error error;
        struct attr one = left->list[i];
        struct psg_attrs alone = { .n = 1, .list = &one };
        struct psg_infer_state s = { .op = op, .path = path, .attrs = &alone, .err = &error };
        if (infer_check_names(&s))
            add_attr_finding(op, one.name, &error, f);
    }
}

/* ---- one node, again and again ---- */

/* Adds the node; attributes that are refused are left out and the rest is tried again. */
static int add_leniently(struct psg_program *p, const struct psg_op *op, const char *path,
                         const psg_value *in, int n_in, const struct psg_attrs *attrs,
                         const struct psg_param_use *uses, int n_uses, psg_value *out,
                         struct psg_findings *f, struct psg_error *err)
{
    _cleanup_(psg_attrs_freep) struct psg_attrs *left = attrs_copy(attrs);
    if (!left)
        return no_memory(err, path);
    for (int i = 0; i < TRIES_MAX; i++) {
        struct psg_error error = { 0 };
        int r = psg_program_add_op(p, op, path, in, n_in, left, uses, n_uses, out, NULL, &error);
        if (r == 0)
            return 0;
        if (r == PSG_E_NOMEM)
            return no_memory(err, path);
        const struct attr *bad = blamed(left, path, &error);
        if (!bad) {
            size_t n = strlen(path);
            bool named = strncmp(error.place, path, n) == 0 && error.place[n] == '.';
            const char *rest = named ? error.place + n + 1 : "";
            add_attr_finding(op, spec_of(op, rest) ? rest : "", &error, f);
            return PSG_E_INVALID;
        }
        add_attr_finding(op, bad->name, &error, f);
        struct psg_attrs *rest = attrs_without(left, bad->name);
        psg_attrs_free(left);
        left = rest;
        if (!left)
            return no_memory(err, path);
    }
    return PSG_E_INVALID;
}

static int64_t channels_of(const struct psg_program *p, psg_value v)
{
    const struct psg_shape *s = v == PSG_NONE ? NULL : &p->values[v].type.shape;
    return s && s->rank > 0 ? s->dim[0] : 0;
}

/* A group_norm with the parameters of the batch_norm. */
static int add_replacement(struct psg_program *p, const char *path, const psg_value *in,
                           const struct psg_attrs *attrs, const struct psg_param_use *uses,
                           int n_uses, psg_value *out)
{
    int64_t channels = channels_of(p, in[0]);
    const struct attr *affine = attrs_find(attrs, "affine");
    _cleanup_(psg_attrs_freep) struct psg_attrs *own = psg_attrs_new();
    if (!own || channels < 1)
        return own ? PSG_E_SHAPE : PSG_E_NOMEM;
    bool positions = psg_shape_size(&p->values[in[0]].type.shape) > channels;
    if (psg_attrs_int(own, "num_groups", psg_group_norm_groups(channels, positions)) ||
        (affine && affine->kind == PSG_ATTR_BOOL && psg_attrs_bool(own, "affine", affine->u.b)))
        return PSG_E_NOMEM;
    return psg_program_add(p, "group_norm", path, in, 1, own, uses, n_uses, out, NULL, NULL);
}

static int add_unprivate(struct psg_program *p, const struct psg_unprivate *known,
                         const char *path, const psg_value *in, int n_in,
                         const struct psg_attrs *attrs, const struct psg_param_use *uses,
                         int n_uses, psg_value *out, struct psg_findings *f,
                         struct psg_error *err)
{
    struct psg_error error;
    psg_fail(&error, PSG_E_UNSUPPORTED, path, "%s mixes samples: %s", known->name, known->why);
    psg_findings_add(f, &error, true, known->remedy);
    if (n_in != 1 || in[0] == PSG_NONE)
        return 0;
    int r = add_replacement(p, path, in, attrs, uses, n_uses, out);
    if (r == PSG_E_NOMEM)
        return no_memory(err, path);
    if (r)
        out[0] = in[0];
    return 0;
}

int psg_check_add(struct psg_program *p, const struct psg_op *op, const char *name,
                  const char *path, const psg_value *in, int n_in,
                  const struct psg_attrs *attrs, const struct psg_param_use *uses, int n_uses,
                  psg_value *out, int n_out, struct psg_findings *f, struct psg_error *err)
{
    bool known = true;
    psg_value made[8];
    for (int i = 0; i < 8; i++)
        made[i] = PSG_NONE;
    for (int i = 0; i < n_in; i++)
        known = known && in[i] != PSG_NONE;
    for (int i = 0; i < n_out; i++)
        out[i] = PSG_NONE;
    const struct psg_unprivate *unprivate = op ? NULL : psg_unprivate_find(name);
    if (!op && !unprivate)
        op = psg_op_find(name);
    int r = 0;
    if (unprivate) {
        r = add_unprivate(p, unprivate, path, in, n_in, attrs, uses, n_uses, made, f, err);
    } else if (!op) {
        struct psg_error error;
        psg_fail(&error, PSG_E_INVALID, path, "there is no layer function %.64s", name);
        psg_findings_add(f, &error, false, NULL);
    } else if (known) {
        r = add_leniently(p, op, path, in, n_in, attrs, uses, n_uses, made, f, err);
    } else {
        check_names(op, path, attrs, f);
    }
    for (int i = 0; i < n_out && i < 8; i++)
        out[i] = made[i];
    return r == PSG_E_NOMEM ? r : 0;
}

/* ---- the whole program ---- */

static void add_unused(const struct psg_program *p, const bool *used, struct psg_findings *f)
{
    for (int i = 0; i < p->n_params; i++) {
        struct psg_error error;
        if (!p->params[i].info.trainable || used[i])
            continue;
        psg_fail(&error, PSG_E_INVALID, p->params[i].name,
                 "this parameter does not reach the loss: it has no gradient");
        psg_findings_add(f, &error, false, "freeze it, remove it, or use its layer's output");
    }
}

int psg_check_program(const struct psg_program *p, struct psg_findings *f, struct psg_error *err)
{
    struct psg_error error;
    _cleanup_free_ bool *used = calloc((size_t)p->n_params + 1, sizeof *used);
    if (!used)
        return no_memory(err, NULL);
    if (p->loss == PSG_NONE && p->output == PSG_NONE) {
        psg_fail(&error, PSG_E_INVALID, NULL, "the program has neither loss nor output");
        psg_findings_add(f, &error, false, NULL);
    }
    psg_value end = p->loss != PSG_NONE ? p->loss : p->output;
    if (end != PSG_NONE) {
        if (program_mark_used(p, end, used))
            return no_memory(err, NULL);
        add_unused(p, used, f);
    }
    bool any = false;
    for (int i = 0; i < p->n_params; i++)
        any = any || p->params[i].info.trainable;
    if (!any) {
        psg_fail(&error, PSG_E_INVALID, NULL, "there is nothing to train");
        psg_findings_add(f, &error, false, "leave at least one parameter trainable");
    }
    for (int i = 0; i < p->n_inputs; i++) {
        const struct psg_input_info *in = &p->inputs[i].info;
        if (in->lo < in->hi)
            continue;
        psg_fail(&error, PSG_E_RANGE, in->name, "no number is legal for all its uses");
        psg_findings_add(f, &error, false, NULL);
    }
    return 0;
}
