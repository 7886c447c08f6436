/* The list of samplers and ops that a client brought. */
#include <dlfcn.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "mode/mode.h"
#include "program/attrs.h"

struct own_sampler {
    struct psg_grad_sampler s; /* strings are owned */
    char *op, *origin;
};

struct own_op {
    const struct psg_op *op;
    char *origin;
};

struct psg_registry {
    int n_samplers, n_ops;
    struct own_sampler **sampler; /* addresses stay when the list grows */
    struct own_op *op;
    int n_handles; /* of plugins */
    void **handle;
};

struct psg_registry *psg_registry_new(void)
{
    return calloc(1, sizeof(struct psg_registry));
}

static void own_sampler_free(struct own_sampler *own)
{
    if (!own)
        return;
    free(own->op);
    free(own->origin);
    free(own);
}

struct psg_registry *psg_registry_free(struct psg_registry *registry)
{
    if (!registry)
        return NULL;
    for (int i = 0; i < registry->n_samplers; i++)
        own_sampler_free(registry->sampler[i]);
    for (int i = 0; i < registry->n_ops; i++)
        free(registry->op[i].origin);
    free(registry->sampler);
    free(registry->op);
    for (int i = registry->n_handles - 1; i >= 0; i--)
        dlclose(registry->handle[i]);
    free(registry->handle);
    free(registry);
    return NULL;
}

void psg_registry_freep(struct psg_registry **registryp)
{
    *registryp = psg_registry_free(*registryp);
}

const struct psg_grad_sampler *psg_registry_sampler(const struct psg_registry *registry,
                                                    const char *op)
{
    for (int i = 0; registry && i < registry->n_samplers; i++)
        if (strcmp(registry->sampler[i]->op, op) == 0)
            return &registry->sampler[i]->s;
    return NULL;
}

const struct psg_op *psg_registry_op(const struct psg_registry *registry, const char *name)
{
    for (int i = 0; registry && i < registry->n_ops; i++)
        if (strcmp(registry->op[i].op->name, name) == 0)
            return registry->op[i].op;
    return NULL;
}

const char *registry_origin(const struct psg_registry *registry, const struct psg_op *op)
{
    const struct psg_grad_sampler *s = psg_registry_sampler(registry, op->name);
    if (s)
        return s->origin;
    for (int i = 0; registry && i < registry->n_ops; i++)
        if (registry->op[i].op == op)
            return registry->op[i].origin;
    return "the client";
}

int psg_register_grad_sampler(struct psg_registry *registry,
                              const struct psg_grad_sampler *sampler, struct psg_error *err)
{
    if (!sampler->op || !*sampler->op)
        return psg_fail(err, PSG_E_INVALID, "op", "a grad sampler needs the name of its op");
    if (!sampler->grad_sample)
        return psg_fail(err, PSG_E_INVALID, sampler->op, "grad_sample is missing");
    if (psg_registry_sampler(registry, sampler->op))
        return psg_fail(err, PSG_E_INVALID, sampler->op, "this op has a grad sampler already");
    struct own_sampler *own = calloc(1, sizeof *own);
    struct own_sampler **list = reallocarray(registry->sampler,
                                             (size_t)registry->n_samplers + 1, sizeof *list);
    if (list)
        registry->sampler = list;
    if (own) {
        own->op = strdup(sampler->op);
        own->origin = strdup(sampler->origin ? sampler->origin : "the client");
    }
    if (!own || !list || !own->op || !own->origin) {
        own_sampler_free(own);
        return psg_fail(err, PSG_E_NOMEM, sampler->op, "out of memory");
    }
    own->s = *sampler;
    own->s.op = own->op;
    own->s.origin = own->origin;
    list[registry->n_samplers++] = own;
    return 0;
}

int psg_register_op(struct psg_registry *registry, const struct psg_op *op, const char *origin,
                    struct psg_error *err)
{
    if (!op->name || !*op->name)
        return psg_fail(err, PSG_E_INVALID, "name", "an op needs a name");
    if (!op->infer || !op->lower)
        return psg_fail(err, PSG_E_INVALID, op->name, "%s is missing",
                        !op->infer ? "infer" : "lower");
    if (psg_op_find(op->name) || psg_registry_op(registry, op->name))
        return psg_fail(err, PSG_E_INVALID, op->name, "there is an op of this name already");
    _cleanup_free_ char *copy = strdup(origin ? origin : "the client");
    struct own_op *list = reallocarray(registry->op, (size_t)registry->n_ops + 1, sizeof *list);
    if (list)
        registry->op = list;
    if (!copy || !list)
        return psg_fail(err, PSG_E_NOMEM, op->name, "out of memory");
    list[registry->n_ops++] = (struct own_op){ op, steal(&copy) };
    return 0;
}

int registry_keep(struct psg_registry *registry, void *handle, struct psg_error *err)
{
    void **list = reallocarray(registry->handle, (size_t)registry->n_handles + 1, sizeof *list);
    if (!list) {
        dlclose(handle);
        return psg_fail(err, PSG_E_NOMEM, NULL, "out of memory");
    }
    registry->handle = list;
    list[registry->n_handles++] = handle;
    return 0;
}

/* ---- attributes ---- */

int64_t psg_attrs_get_int(const struct psg_attrs *a, const char *name, int64_t dflt)
{
    const struct attr *found = attrs_find(a, name);
    return found && found->kind == PSG_ATTR_INT ? found->u.i : dflt;
}

double psg_attrs_get_real(const struct psg_attrs *a, const char *name, double dflt)
{
    const struct attr *found = attrs_find(a, name);
    if (found && found->kind == PSG_ATTR_INT)
        return (double)found->u.i;
    return found && found->kind == PSG_ATTR_REAL ? found->u.r : dflt;
}

bool psg_attrs_get_bool(const struct psg_attrs *a, const char *name, bool dflt)
{
    const struct attr *found = attrs_find(a, name);
    return found && found->kind == PSG_ATTR_BOOL ? found->u.b : dflt;
}

const char *psg_attrs_get_string(const struct psg_attrs *a, const char *name, const char *dflt)
{
    const struct attr *found = attrs_find(a, name);
    return found && found->kind == PSG_ATTR_STRING ? found->u.s : dflt;
}

const int64_t *psg_attrs_get_ints(const struct psg_attrs *a, const char *name, int *np)
{
    const struct attr *found = attrs_find(a, name);
    *np = 0;
    if (!found || (found->kind != PSG_ATTR_INT && found->kind != PSG_ATTR_INTS))
        return NULL;
    *np = found->n;
    return found->kind == PSG_ATTR_INT ? &found->u.i : found->u.ints;
}
