#include "psg/import.h"

#include <limits.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "import/archive.h"

/* attempts that together took more steps than any model of reason does are the last ones */
enum { AXES_TRIED = 4, STEPS_AGAIN = 100000 };

struct psg_import *psg_import_free(struct psg_import *imp)
{
    if (!imp)
        return NULL;
    psg_program_free(imp->program);
    im_pool_free(&imp->pool);
    free(imp);
    return NULL;
}

void psg_import_freep(struct psg_import **impp)
{
    *impp = psg_import_free(*impp);
}

/* ---- one attempt with given batch axes ---- */
/* An input as the code sees it: the sample's axes with the batch put in. */
static struct im_tensor *input_tensor(struct im_run *r, const struct psg_import_input *in,
                                      psg_value v, int axis)
{
    struct im_tensor *t = im_pool_take(r->pool, sizeof *t);
    if (!t)
        return NULL;
    *t = (struct im_tensor){ .type = in->dtype == PSG_I64 ? IM_LONG : IM_FLOAT,
                             .source = IM_VALUE,
                             .rank = in->shape.rank,
                             .batch = -1,
                             .inner = 1,
                             .stored = in->shape,
                             .v = v };
    memcpy(t->dim, in->shape.dim, sizeof t->dim);
    im_add_axis(t, axis);
    t->batch = axis;
    t->changes = im_pool_take(r->pool, sizeof(int));
    return t->changes ? t : NULL;
}

static int add_inputs(struct im_run *r, const struct psg_import_options *o, const int *axis,
                      const struct code_fn *forward, struct im_value *args)
{
    for (int i = 0; i < o->n_inputs; i++) {
        const struct psg_import_input *in = &o->inputs[i];
        const char *name = in->name;
        psg_value v;
        if (!name && i + 1 < forward->n_params)
            name = forward->slots.item[i + 1].text->s;
        if (in->shape.rank + 1 >= PSG_MAX_RANK || axis[i] > in->shape.rank)
            return psg_fail(r->err, PSG_E_INVALID, name, "has no such batch axis");
        for (int k = 0; k < in->shape.rank; k++)
            if (in->shape.dim[k] < 1 || in->shape.dim[k] > IM_DIM_MAX)
                return psg_fail(r->err, PSG_E_SHAPE, name, "has an axis of length %lld",
                                (long long)in->shape.dim[k]);
        int status = psg_program_input(r->program, name ? name : "input", in->dtype,
                                       &in->shape, &v, r->err);
        if (status)
            return status;
        struct im_tensor *t = input_tensor(r, in, v, axis[i]);
        if (!t)
            return im_pool_fail(r->err, name);
        args[i] = im_tensor_value(t);
    }
    return 0;
}

/* The first tensor of what forward() returned. */
static const struct im_tensor *first_tensor(const struct im_value *v)
{
    for (int depth = 0; depth < 16; depth++) {
        if (v->kind == IM_TENSOR)
            return v->tensor;
        bool pairs = v->kind == IM_DICT || v->kind == IM_OBJECT;
        const struct im_list *l =
            v->kind == IM_OBJECT ? v->object->attrs
            : v->kind == IM_LIST || v->kind == IM_TUPLE || v->kind == IM_DICT ? v->list
                                                                              : NULL;
        if (!l || l->n < 1 + (size_t)pairs)
            return NULL;
        v = &l->item[pairs];
    }
    return NULL;
}

static int finish(struct im_run *r, const struct im_value *result)
{
    const struct im_tensor *y = first_tensor(result);
    const char *place = r->imp->zip.place;
    if (!y)
        return psg_fail(r->err, PSG_E_UNSUPPORTED, place, "forward() returns no tensor");
    if (y->batch < 0)
        return psg_fail(
            r->err, PSG_E_UNSUPPORTED, place,
            "what forward() returns has no batch axis: no answer for each sample");
    return im_finish(r, y);
}

/* Parameters that the file marks as not trained stay as they are. */
static int freeze(struct psg_import *imp, struct psg_error *err)
{
    int status = 0;
    for (size_t i = 0; i < imp->n_files && status == 0; i++) {
        const struct im_stored *s = imp->file[i];
        if (s->used && !s->requires_grad &&
            psg_program_find_param(imp->program, s->name) >= 0)
            status = psg_program_freeze(imp->program, s->name, err);
    }
    return status;
}

static int attempt(struct psg_import *imp, const struct psg_import_options *o,
                   const int *axis, struct psg_error *err)
{
    struct im_value args[IM_IN_MAX], result;
    struct im_run r = {
        .pool = &imp->pool, .err = err, .imp = imp, .batch = o->example_batch,
        .findings = o->findings
    };
    const struct code_fn *fn;
    const struct code_class *cls;
    r.program = psg_program_new();
    if (!r.program)
        return im_pool_fail(err, imp->zip.place);
    int status = im_find_code(&r, imp->module->class_name, &fn, &cls);
    const struct code_fn *forward =
        status || !cls ? NULL : code_find_fn(cls->fns, "forward");
    if (!status && !forward)
        status = psg_fail(err, PSG_E_FORMAT, imp->zip.place, "the model has no forward()");
    if (!status && o->n_inputs + 1 > forward->n_params)
        status = psg_fail(err, PSG_E_INVALID, imp->zip.place,
                          "forward() takes %d inputs, got %d", forward->n_params - 1,
                          o->n_inputs);
    if (!status)
        status = add_inputs(&r, o, axis, forward, args);
    if (!status)
        status = im_call_forward(&r, imp->module, args, o->n_inputs, &result);
    imp->steps += r.steps;
    if (!status)
        status = finish(&r, &result);
    imp->guessed = r.n_guesses > 0;
    if (status) {
        if (o->findings && !imp->guessed)
            psg_findings_add(o->findings, err, false, NULL);
        psg_program_free(r.program);
        return status;
    }
    imp->program = r.program;
    return freeze(imp, err);
}

/* A fresh reading of the archive: an attempt may leave marks in it. */
static int open_and_try(struct psg_import *imp, const uint8_t *bytes, size_t size,
                        const char *place, const struct psg_import_options *o,
                        const int *axis, struct psg_error *err)
{
    psg_program_free(imp->program);
    im_pool_free(&imp->pool);
    *imp = (struct psg_import){ .output = PSG_NONE,
                                .training = o->training,
                                .n_inputs = o->n_inputs,
                                .steps = imp->steps };
    imp->pool.limit = o->memory_limit ? o->memory_limit : (size_t)2 << 30;
    memcpy(imp->batch_axis, axis, (size_t)o->n_inputs * sizeof *axis);
    int status = archive_open(imp, bytes, size, place, err);
    return status ? status : attempt(imp, o, axis, err);
}

/* The next combination of axes for inputs that leave it open; false after the last. */
static bool next_axes(const struct psg_import_options *o, int *axis)
{
    for (int i = 0; i < o->n_inputs; i++) {
        if (o->inputs[i].batch_axis >= 0)
            continue;
        if (axis[i] < o->inputs[i].shape.rank && axis[i] + 1 < AXES_TRIED) {
            axis[i]++;
            return true;
        }
        axis[i] = 0;
    }
    return false;
}

/* Tries other axes until one attempt has nothing to say; keeps the axes of the best one. The
 * status of the last attempt that was made with axis. */
static int try_axes(struct psg_import *imp, const void *bytes, size_t size, const char *name,
                    const struct psg_import_options *o, int *axis, int status, int found)
{
    struct psg_error other;
    int best[IM_IN_MAX], first = o->findings ? psg_findings_count(o->findings) - found : 0;
    int fewest = status ? INT_MAX : found;
    bool again = false;
    memcpy(best, axis, sizeof best);
    for (int k = 0; (status || found) && status != PSG_E_FORMAT && k < 64 && next_axes(o, axis);
         k++) {
        if (o->findings)
            psg_findings_cut(o->findings, first);
        status = open_and_try(imp, bytes, size, name, o, axis, &other);
        found = o->findings ? psg_findings_count(o->findings) - first : 0;
        again = true;
        if (!status && found < fewest) {
            fewest = found;
            memcpy(best, axis, sizeof best);
        }
    }
    if (again && (status || found)) {
        if (o->findings)
            psg_findings_cut(o->findings, first);
        status = open_and_try(imp, bytes, size, name, o, best, &other);
    }
    return status;
}

int psg_import_torchscript(const void *bytes, size_t size, const char *place,
                           const struct psg_import_options *options,
                           struct psg_import **impp, struct psg_error *err)
{
    struct psg_error first = { 0 };
    int axis[IM_IN_MAX] = { 0 };
    if (options->n_inputs < 1 || options->n_inputs > IM_IN_MAX)
        return psg_fail(err, PSG_E_INVALID, place, "a model has 1 to %d inputs", IM_IN_MAX);
    for (int i = 0; i < options->n_inputs; i++)
        axis[i] = options->inputs[i].batch_axis > 0 ? options->inputs[i].batch_axis : 0;
    _cleanup_(psg_import_freep) struct psg_import *imp = calloc(1, sizeof *imp);
    if (!imp)
        return psg_fail(err, PSG_E_NOMEM, place, "out of memory");
    const char *name = place ? place : "model";
    int before = options->findings ? psg_findings_count(options->findings) : 0;
    int status = open_and_try(imp, bytes, size, name, options, axis, &first);
    int found = options->findings ? psg_findings_count(options->findings) - before : 0;
    if ((status || found) && imp->steps < STEPS_AGAIN)
        status = try_axes(imp, bytes, size, name, options, axis, status, found);
    if (status) {
        if (err)
            *err = first;
        return status;
    }
    *impp = steal(&imp);
    return 0;
}

/* ---- reading ---- */
struct psg_program *psg_import_program(const struct psg_import *imp)
{
    return imp->program;
}

struct psg_program *psg_import_take_program(struct psg_import *imp)
{
    return steal(&imp->program);
}

psg_value psg_import_output(const struct psg_import *imp)
{
    return imp->output;
}

int psg_import_batch_axis(const struct psg_import *imp, int input)
{
    return input >= 0 && input < imp->n_inputs ? imp->batch_axis[input] : -1;
}

static const struct im_stored *find_stored(const struct psg_import *imp, const char *name)
{
    for (size_t i = 0; i < imp->n_files; i++)
        if (strcmp(imp->file[i]->name, name) == 0)
            return imp->file[i];
    return NULL;
}

int psg_import_params(const struct psg_import *imp, psg_real *params, struct psg_error *err)
{
    for (int i = 0; i < psg_program_n_params(imp->program); i++) {
        const struct psg_param_info *info = psg_program_param(imp->program, i);
        const struct im_stored *s = find_stored(imp, info->name);
        if (!s || !s->data || !psg_shape_equal(&s->shape, &info->shape))
            return psg_fail(err, PSG_E_INVALID, info->name, "is not a tensor of the file");
        for (int64_t k = 0; k < info->size; k++)
            params[info->offset + k] = (psg_real)im_stored_at(s, k);
    }
    return 0;
}

bool psg_import_guessed(const struct psg_import *imp)
{
    return imp->guessed;
}

const char *psg_import_unused(const struct psg_import *imp, int i)
{
    for (size_t k = 0; k < imp->n_files; k++)
        if (imp->file[k]->requires_grad && !imp->file[k]->used && i-- == 0)
            return imp->file[k]->name;
    return NULL;
}
