/* Rules of a client: bound to the nodes they serve, and called. */
#include <stdlib.h>

#include "mode/mode.h"

struct client *client_rules_free(struct client *c)
{
    if (!c)
        return NULL;
    free(c->in);
    free(c->out);
    free(c->param);
    free(c->role);
    free(c);
    return NULL;
}

static struct client *client_new(const struct psg_program *p, const struct node *node,
                                 const struct psg_grad_sampler *s)
{
    struct client *c = calloc(1, sizeof *c);
    if (!c)
        return NULL;
    c->sampler = s;
    c->in = calloc((size_t)node->n_in + 1, sizeof *c->in);
    c->out = calloc((size_t)node->n_out + 1, sizeof *c->out);
    c->param = calloc((size_t)node->n_param + 1, sizeof *c->param);
    c->role = calloc((size_t)node->n_param + 1, sizeof *c->role);
    if (!c->in || !c->out || !c->param || !c->role)
        return client_rules_free(c);
    for (int j = 0; j < node->n_in; j++)
        c->in[j] = p->values[node->in[j]].type;
    for (int j = 0; j < node->n_out; j++)
        c->out[j] = p->values[node->out[j]].type;
    for (int r = 0; r < node->n_param; r++) {
        c->param[r] = p->params[node->param[r].param].info.shape;
        c->role[r] = node->param[r].role;
    }
    c->about = (struct psg_sampler_call){ .path = node->path,
                                          .n_in = node->n_in,
                                          .n_out = node->n_out,
                                          .n_param = node->n_param,
                                          .in = c->in,
                                          .out = c->out,
                                          .param = c->param,
                                          .role = c->role,
                                          .attrs = node->attrs,
                                          .user = s->user };
    return c;
}

int client_rules_bind(struct psg_plan *plan, struct psg_error *err)
{
    const struct psg_program *p = plan->program;
    for (int i = 0; i < p->n_nodes; i++) {
        const struct psg_grad_sampler *s =
            p->nodes[i].n_param > 0
                ? psg_registry_sampler(plan->registry, p->nodes[i].op->name)
                : NULL;
        if (!s)
            continue;
        struct client *c = plan->tp.node[i].client = client_new(p, &p->nodes[i], s);
        if (!c)
            return psg_fail(err, PSG_E_NOMEM, p->nodes[i].path, "out of memory");
        int64_t room = s->scratch ? s->scratch(&c->about, plan->tile) : 0;
        if (room < 0)
            return psg_fail(err, PSG_E_INVALID, p->nodes[i].path,
                            "the grad sampler of %s asks for %lld numbers of scratch room",
                            s->origin, (long long)room);
        plan->tp.node[i].client_scratch = room;
    }
    return 0;
}

static const struct client *client_of(const struct psg_plan *plan, int node)
{
    return plan->tp.node[node].client;
}

bool rule_has_grad(const struct psg_plan *plan, int node)
{
    return client_of(plan, node) || plan->program->nodes[node].op->grad_sample;
}

bool rule_has_sum(const struct psg_plan *plan, int node)
{
    const struct client *c = client_of(plan, node);
    return c ? c->sampler->clipped_sum != NULL
             : plan->program->nodes[node].op->clipped_sum != NULL;
}

bool rule_has_norm(const struct psg_registry *registry, const struct psg_op *op)
{
    const struct psg_grad_sampler *s = psg_registry_sampler(registry, op->name);
    return s ? s->norm_sample && s->clipped_sum : op->norm_sample && op->clipped_sum;
}

static void client_call(const struct client *c, const struct psg_call *call,
                        void (*rule)(const struct psg_sampler_call *c))
{
    struct psg_sampler_call to = c->about;
    to.call = call;
    rule(&to);
}

void rule_grad_sample(const struct psg_plan *plan, int node, const struct psg_call *call)
{
    const struct client *c = client_of(plan, node);
    if (c)
        client_call(c, call, c->sampler->grad_sample);
    else
        plan->program->nodes[node].op->grad_sample(call);
}

void rule_norm_sample(const struct psg_plan *plan, int node, const struct psg_call *call)
{
    const struct client *c = client_of(plan, node);
    if (c)
        client_call(c, call, c->sampler->norm_sample);
    else
        plan->program->nodes[node].op->norm_sample(call);
}

void rule_clipped_sum(const struct psg_plan *plan, int node, const struct psg_call *call)
{
    const struct client *c = client_of(plan, node);
    if (c)
        client_call(c, call, c->sampler->clipped_sum);
    else
        plan->program->nodes[node].op->clipped_sum(call);
}
