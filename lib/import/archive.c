/* The files of an archive: data.pkl and its tensors, constants.pkl, code on demand. */
#include "import/archive.h"

#include <stdio.h>
#include <string.h>

#include "import/pickle.h"

static int lacks(const struct psg_import *imp, const char *what, struct psg_error *err)
{
    return psg_fail(err, PSG_E_FORMAT, imp->zip.place,
                    "%s: not an archive that torch.jit.save wrote", what);
}

/* The folder that holds data.pkl: all entries lie in one. */
static int find_top(struct psg_import *imp, struct psg_error *err)
{
    for (size_t i = 0; i < imp->zip.n_entries; i++) {
        const char *name = imp->zip.entry[i].name, *slash = strchr(name, '/');
        if (!slash || strcmp(slash + 1, "data.pkl") != 0)
            continue;
        imp->top = im_pool_text(&imp->pool, name, (size_t)(slash - name) + 1);
        return imp->top ? 0 : im_pool_fail(err, imp->zip.place);
    }
    return lacks(imp, "data.pkl is missing", err);
}

static int read_entry(struct psg_import *imp, const char *name, struct zip_entry **ep,
                      struct psg_error *err)
{
    const char *full = im_pool_printf(&imp->pool, "%s%s", imp->top, name);
    if (!full)
        return im_pool_fail(err, imp->zip.place);
    *ep = zip_find(&imp->zip, full);
    return *ep ? zip_read(&imp->zip, *ep, err) : 0;
}

static int read_pickle(struct psg_import *imp, const char *name, struct im_value *v,
                       bool *found, struct psg_error *err)
{
    struct zip_entry *e = NULL;
    int r = read_entry(imp, name, &e, err);
    *found = e != NULL;
    if (r || !e)
        return r;
    return pickle_read(&imp->pool, e->data, (size_t)e->size, e->name, v, err);
}

/* ---- names of the module tree ---- */
static bool same_tensor(const struct im_stored *a, const struct im_stored *b)
{
    return strcmp(a->storage->key, b->storage->key) == 0 && a->offset == b->offset &&
           psg_shape_equal(&a->shape, &b->shape) &&
           memcmp(a->stride, b->stride, sizeof a->stride) == 0;
}

/* Tensors that share their numbers are one parameter: it has the first name. */
static int name_tensor(struct psg_import *imp, struct im_value *v, const char *path,
                       const char *attr, bool buffer, struct psg_error *err)
{
    struct im_stored *s = v->stored;
    if (s->name)
        return 0;
    for (size_t i = 0; i < imp->n_files; i++)
        if (same_tensor(imp->file[i], s)) {
            v->stored = imp->file[i];
            return 0;
        }
    s->name = im_pool_printf(&imp->pool, "%s%s%s", path, *path ? "." : "", attr);
    s->buffer = buffer;
    struct im_stored **at =
        im_pool_grow(&imp->pool, &imp->file, imp->n_files, &imp->file_room, sizeof *at);
    if (!s->name || !at || imp->n_files > 100000)
        return im_pool_fail(err, imp->zip.place);
    *at = s;
    imp->n_files++;
    return 0;
}

/* Every object by its first path; an explicit list of those to do, in order. */
static int name_tree(struct psg_import *imp, struct psg_error *err)
{
    struct im_object *at = imp->module, *last = at;
    int r = 0;
    at->path = "";
    for (; at && r == 0; at = at->next) {
        for (size_t i = 0; at->attrs && r == 0 && i + 1 < at->attrs->n; i += 2) {
            const char *attr = at->attrs->item[i].text->s;
            struct im_value *v = &at->attrs->item[i + 1];
            if (v->kind == IM_STORED)
                r = name_tensor(imp, v, at->path, attr, !v->stored->requires_grad, err);
            if (v->kind != IM_OBJECT || v->object->path)
                continue;
            const char *path =
                im_pool_printf(&imp->pool, "%s%s%s", at->path, *at->path ? "." : "", attr);
            if (!path || strlen(path) > 1000)
                return im_pool_fail(err, imp->zip.place);
            v->object->path = path;
            last->next = v->object;
            last = v->object;
        }
    }
    return r;
}

/* In lists of a module (the flat weights of an LSTM) tensors are those of the attributes. */
static int name_lists(struct psg_import *imp, struct psg_error *err)
{
    int r = 0;
    for (struct im_object *at = imp->module; at && r == 0; at = at->next)
        for (size_t i = 0; at->attrs && i + 1 < at->attrs->n; i += 2) {
            struct im_value *v = &at->attrs->item[i + 1];
            if (v->kind != IM_LIST && v->kind != IM_TUPLE)
                continue;
            for (size_t k = 0; r == 0 && k < v->list->n; k++) {
                char name[300];
                snprintf(name, sizeof name, "%.250s.%zu", at->attrs->item[i].text->s, k);
                struct im_value *item = &v->list->item[k];
                if (item->kind == IM_STORED)
                    r = name_tensor(imp, item, at->path, name, !item->stored->requires_grad,
                                    err);
            }
        }
    return r;
}

int archive_open(struct psg_import *imp, const uint8_t *bytes, size_t size,
                 const char *place, struct psg_error *err)
{
    struct im_value v = im_none();
    bool found;
    int r = zip_open(&imp->zip, bytes, size, place, &imp->pool, err);
    if (!r)
        r = find_top(imp, err);
    if (!r)
        r = read_pickle(imp, "data.pkl", &v, &found, err);
    if (r)
        return r;
    if (v.kind != IM_OBJECT || !v.object->attrs)
        return lacks(imp, "data.pkl holds no module (was it saved with torch.save?)", err);
    imp->module = v.object;
    imp->constants = im_none();
    if ((r = read_pickle(imp, "constants.pkl", &imp->constants, &found, err)))
        return r;
    r = name_tree(imp, err);
    return r ? r : name_lists(imp, err);
}

/* ---- for the interpreter ---- */
int im_stored_open(struct im_run *r, struct im_stored *s)
{
    struct psg_import *imp = r->imp;
    struct zip_entry *e = NULL;
    bool constant = !s->name;
    if (s->data)
        return 0;
    const char *name = im_pool_printf(&imp->pool, "%s/%s", constant ? "constants" : "data",
                                      s->storage->key);
    if (!name)
        return im_no_memory(r);
    int status = read_entry(imp, name, &e, r->err);
    if (status)
        return status;
    if (!e ||
        e->size / (uint64_t)im_element_size(s->storage->element) < (uint64_t)s->storage->n)
        return im_fail(r, PSG_E_FORMAT, "the numbers of %.100s are missing",
                       s->name ? s->name : s->storage->key);
    s->data = e->data;
    return 0;
}

int im_constant(struct im_run *r, int64_t k, struct im_value *out)
{
    const struct im_value *c = &r->imp->constants;
    if (c->kind != IM_TUPLE || k < 0 || (size_t)k >= c->list->n)
        return im_fail(r, PSG_E_FORMAT, "constants.pkl has no entry %lld", (long long)k);
    *out = c->list->item[k];
    if (out->kind != IM_STORED)
        return 0;
    /* known numbers; one alone is a plain one */
    struct im_stored *s = out->stored;
    struct im_tensor *t = NULL;
    s->buffer = true;
    int status = im_stored_open(r, s);
    if (!status && psg_shape_size(&s->shape) > 1 << 22)
        return im_fail(r, PSG_E_RANGE, "a constant of that size");
    if (!status)
        status = im_tensor_file_numbers(r, s, &t);
    if (status)
        return status;
    if (s->shape.rank == 0)
        *out = t->type == IM_FLOAT  ? im_real(t->data[0])
               : t->type == IM_LONG ? im_int((int64_t)t->data[0])
                                    : im_bool(t->data[0] != 0);
    else
        *out = im_tensor_value(t);
    return 0;
}

/* The compiled file of a module's qualified name "__torch__.a.b". */
static int load_file(struct im_run *r, const char *prefix, struct code_file **filep)
{
    struct psg_import *imp = r->imp;
    for (struct code_file *f = imp->files; f; f = f->next)
        if (strcmp(f->prefix, prefix) == 0) {
            *filep = f;
            return 0;
        }
    *filep = NULL;
    char *path = im_pool_printf(&imp->pool, "code/%s.py", prefix);
    if (!path)
        return im_no_memory(r);
    for (char *c = path + 5; *c && strcmp(c, ".py") != 0; c++)
        *c = *c == '.' ? '/' : *c;
    struct zip_entry *e = NULL;
    int status = read_entry(imp, path, &e, r->err);
    if (status || !e)
        return status;
    status = code_compile(&imp->pool, path, prefix, (const char *)e->data, (size_t)e->size,
                          filep, r->err);
    if (status)
        return status;
    (*filep)->next = imp->files;
    imp->files = *filep;
    return 0;
}

int im_find_code(struct im_run *r, const char *name, const struct code_fn **fnp,
                 const struct code_class **classp)
{
    struct code_file *file = NULL;
    const char *dot = strrchr(name, '.');
    char *prefix = dot ? im_pool_text(r->pool, name, (size_t)(dot - name)) : NULL;
    *fnp = NULL;
    *classp = NULL;
    int status = prefix ? load_file(r, prefix, &file) : 0;
    if (status)
        return status;
    if (file) {
        *fnp = code_find_fn(file->fns, dot + 1);
        *classp = code_find_class(file, dot + 1);
    }
    if (!*fnp && !*classp)
        return im_fail(r, PSG_E_FORMAT, "the code of %.160s is missing", name);
    return 0;
}

int im_training(const struct im_run *r)
{
    return r->imp->training;
}
