#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "accountant/accountant.h"
#include "accountant/check.h"
#include "accountant/prv.h"
#include "accountant/rdp.h"
#include "base/cleanup.h"

struct psg_accountant {
    enum psg_accountant_kind kind;
    struct psg_dp_event *event;      /* one per (sample_rate, noise_multiplier) */
    double (*rdp)[PSG_RDP_N_ORDERS]; /* one step of event[i]; not for gdp */
    size_t n_events, capacity;
    size_t run;                       /* the event of the last compose */
    int64_t run_steps;                /* its steps since another one was composed */
    double settled[PSG_RDP_N_ORDERS]; /* total of everything before that run */
    double order[PSG_RDP_N_ORDERS];
    struct prv_cache *prv;
    struct psg_dp_event *expected; /* NULL: nothing was said */
    size_t n_expected;
};

static const char *const kind_name[] = {
    [PSG_ACCOUNTANT_RDP] = "rdp",
    [PSG_ACCOUNTANT_GDP] = "gdp",
    [PSG_ACCOUNTANT_PRV] = "prv",
};
enum { N_KINDS = sizeof kind_name / sizeof kind_name[0] };

const char *psg_accountant_kind_name(enum psg_accountant_kind kind)
{
    return (unsigned)kind < N_KINDS ? kind_name[kind] : "unknown";
}

int psg_accountant_kind_parse(const char *name, enum psg_accountant_kind *kindp,
                              struct psg_error *err)
{
    for (unsigned k = 0; k < N_KINDS; k++) {
        if (strcmp(name, kind_name[k]) == 0) {
            *kindp = (enum psg_accountant_kind)k;
            return 0;
        }
    }
    return psg_fail(err, PSG_E_INVALID, "accountant", "no accountant is called '%.40s'",
                    name);
}

int psg_accountant_new(enum psg_accountant_kind kind, struct psg_accountant **accp,
                       struct psg_error *err)
{
    if ((unsigned)kind >= N_KINDS)
        return psg_fail(err, PSG_E_INVALID, "accountant", "no accountant has number %d",
                        (int)kind);
    struct psg_accountant *acc = calloc(1, sizeof *acc);
    if (!acc)
        return psg_fail(err, PSG_E_NOMEM, "accountant", "out of memory");
    acc->kind = kind;
    psg_rdp_orders(acc->order);
    acc->prv = kind == PSG_ACCOUNTANT_PRV ? prv_cache_new() : NULL;
    if (kind == PSG_ACCOUNTANT_PRV && !acc->prv) {
        free(acc);
        return psg_fail(err, PSG_E_NOMEM, "accountant", "out of memory");
    }
    *accp = acc;
    return 0;
}

struct psg_accountant *psg_accountant_free(struct psg_accountant *acc)
{
    if (acc) {
        free(acc->event);
        free(acc->rdp);
        free(acc->expected);
        prv_cache_free(acc->prv);
        free(acc);
    }
    return NULL;
}

static void accountant_freep(struct psg_accountant **accp)
{
    psg_accountant_free(*accp);
}

const struct psg_dp_event *psg_accountant_history(const struct psg_accountant *acc,
                                                  size_t *n_eventsp)
{
    *n_eventsp = acc->n_events;
    return acc->event;
}

static int accountant_grow(struct psg_accountant *acc, struct psg_error *err)
{
    if (acc->n_events < acc->capacity)
        return 0;
    size_t capacity = acc->capacity ? acc->capacity * 2 : 4;
    void *event = reallocarray(acc->event, capacity, sizeof acc->event[0]);
    if (event)
        acc->event = event;
    void *rdp = acc->rdp;
    if (event && acc->kind != PSG_ACCOUNTANT_GDP) {
        rdp = reallocarray(acc->rdp, capacity, sizeof acc->rdp[0]);
        if (rdp)
            acc->rdp = rdp;
    }
    if (!event || (acc->kind != PSG_ACCOUNTANT_GDP && !rdp))
        return psg_fail(err, PSG_E_NOMEM, "accountant", "out of memory");
    acc->capacity = capacity;
    return 0;
}

/* Index of the event with this (q, s), appended with no steps if it is new; negative:
 * error. */
static int accountant_find(struct psg_accountant *acc, double q, double s, size_t *indexp,
                           struct psg_error *err)
{
    for (size_t k = 0; k < acc->n_events; k++) {
        /* the newest first: the same event is composed again and again */
        size_t i = acc->n_events - 1 - k;
        if (acc->event[i].sample_rate == q && acc->event[i].noise_multiplier == s) {
            *indexp = i;
            return 0;
        }
    }
    int r = accountant_grow(acc, err);
    if (r)
        return r;
    size_t i = acc->n_events++;
    acc->event[i] = (struct psg_dp_event){ q, s, 0 };
    if (acc->kind != PSG_ACCOUNTANT_GDP)
        for (int k = 0; k < PSG_RDP_N_ORDERS; k++)
            acc->rdp[i][k] = accountant_rdp_step(q, s, acc->order[k]);
    *indexp = i;
    return 0;
}

int psg_accountant_compose(struct psg_accountant *acc, const struct psg_dp_event *event,
                           struct psg_error *err)
{
    int r = accountant_check_event(event, -1, err);
    if (r || accountant_event_is_free(event))
        return r;
    size_t i;
    r = accountant_find(acc, event->sample_rate, event->noise_multiplier, &i, err);
    if (r)
        return r;
    int64_t steps;
    if (__builtin_add_overflow(acc->event[i].steps, event->steps, &steps))
        return psg_fail(err, PSG_E_RANGE, "steps", "more steps than a 64-bit number holds");
    if (i != acc->run) {
        if (acc->kind != PSG_ACCOUNTANT_GDP && acc->run_steps > 0)
            for (int k = 0; k < PSG_RDP_N_ORDERS; k++)
                acc->settled[k] += (double)acc->run_steps * acc->rdp[acc->run][k];
        acc->run = i;
        acc->run_steps = 0;
    }
    acc->run_steps += event->steps;
    acc->event[i].steps = steps;
    return 0;
}

static void accountant_rdp(const struct psg_accountant *acc, double rdp[PSG_RDP_N_ORDERS])
{
    memcpy(rdp, acc->settled, sizeof acc->settled);
    if (acc->run_steps > 0)
        for (int k = 0; k < PSG_RDP_N_ORDERS; k++)
            rdp[k] += (double)acc->run_steps * acc->rdp[acc->run][k];
}

/* Puts a tight answer over the Renyi one, which stays where no grid could be had or where
 * it is the smaller bound. */
static int prv_over_rdp(int r, const struct prv_answer *tight, double *answerp,
                        struct psg_dp_epsilon *out)
{
    if (r == PSG_E_UNSUPPORTED)
        return 0;
    if (r)
        return r;
    if (tight->upper <= *answerp) {
        *answerp = tight->upper;
        out->method = PSG_ACCOUNTANT_PRV;
        out->order = 0;
    }
    out->lower = fmin(tight->lower, *answerp);
    out->estimate = fmin(tight->estimate, *answerp);
    return 0;
}

int accountant_epsilon(struct psg_accountant *acc, double delta, bool with_lower,
                       struct psg_dp_epsilon *out, struct psg_error *err)
{
    int r = accountant_check_delta(delta, err);
    if (r)
        return r;
    *out = (struct psg_dp_epsilon){ .delta = delta, .method = PSG_ACCOUNTANT_RDP };
    if (acc->kind == PSG_ACCOUNTANT_GDP) {
        double mu;
        r = psg_gdp_mu(acc->event, acc->n_events, &mu, err);
        out->method = PSG_ACCOUNTANT_GDP;
        out->epsilon = out->estimate = r ? INFINITY : psg_gdp_epsilon(mu, delta);
        return r;
    }
    double rdp[PSG_RDP_N_ORDERS];
    accountant_rdp(acc, rdp);
    out->epsilon = psg_rdp_epsilon(PSG_RDP_N_ORDERS, acc->order, rdp, delta, &out->order);
    out->estimate = out->epsilon;
    if (acc->kind == PSG_ACCOUNTANT_RDP)
        return 0;
    struct prv_answer tight;
    r = prv_epsilon(acc->prv, acc->event, acc->n_events, delta, with_lower, &tight, err);
    return prv_over_rdp(r, &tight, &out->epsilon, out);
}

int psg_accountant_epsilon(struct psg_accountant *acc, double delta,
                           struct psg_dp_epsilon *out, struct psg_error *err)
{
    return accountant_epsilon(acc, delta, true, out, err);
}

int psg_accountant_expect(struct psg_accountant *acc, const struct psg_dp_event *event,
                          size_t n_events, struct psg_error *err)
{
    int r = accountant_check_events(event, n_events, err);
    if (r)
        return r;
    struct psg_dp_event *copy = calloc(n_events + 1, sizeof *copy);
    if (!copy)
        return psg_fail(err, PSG_E_NOMEM, "accountant", "out of memory");
    if (n_events)
        memcpy(copy, event, n_events * sizeof *copy);
    free(acc->expected);
    acc->expected = copy;
    acc->n_expected = n_events;
    return 0;
}

/* The steps composed so far of each expected event; false when others were composed, or more. */
static bool steps_of_expected(const struct psg_accountant *acc, struct psg_dp_event *now)
{
    size_t found = 0;
    for (size_t i = 0; i < acc->n_expected; i++) {
        now[i] = acc->expected[i];
        now[i].steps = 0;
        for (size_t k = 0; k < acc->n_events; k++)
            if (acc->event[k].sample_rate == now[i].sample_rate &&
                acc->event[k].noise_multiplier == now[i].noise_multiplier) {
                now[i].steps = acc->event[k].steps;
                found++;
            }
        if (now[i].steps > acc->expected[i].steps)
            return false;
    }
    return found == acc->n_events;
}

int psg_accountant_epsilon_bound(struct psg_accountant *acc, double delta,
                                 struct psg_dp_epsilon *out, struct psg_error *err)
{
    if (acc->kind != PSG_ACCOUNTANT_PRV || !acc->expected || !(delta > 0 && delta < 1))
        return accountant_epsilon(acc, delta, false, out, err);
    _cleanup_free_ struct psg_dp_event *now = calloc(acc->n_expected + 1, sizeof *now);
    struct prv_answer tight = { 0 };
    int r = PSG_E_UNSUPPORTED;
    if (now && steps_of_expected(acc, now))
        r = prv_epsilon_along(acc->prv, acc->expected, now, acc->n_expected, delta, &tight.upper,
                              err);
    if (r == PSG_E_UNSUPPORTED)
        return accountant_epsilon(acc, delta, false, out, err);
    *out = (struct psg_dp_epsilon){ .delta = delta, .method = PSG_ACCOUNTANT_RDP };
    double rdp[PSG_RDP_N_ORDERS];
    accountant_rdp(acc, rdp);
    out->epsilon = psg_rdp_epsilon(PSG_RDP_N_ORDERS, acc->order, rdp, delta, &out->order);
    tight.estimate = tight.upper;
    return prv_over_rdp(r, &tight, &out->epsilon, out);
}

int psg_accountant_delta(struct psg_accountant *acc, double epsilon,
                         struct psg_dp_epsilon *out, struct psg_error *err)
{
    int r = accountant_check_epsilon(epsilon, err);
    if (r)
        return r;
    *out = (struct psg_dp_epsilon){ .epsilon = epsilon, .method = PSG_ACCOUNTANT_RDP };
    if (acc->kind == PSG_ACCOUNTANT_GDP) {
        double mu;
        r = psg_gdp_mu(acc->event, acc->n_events, &mu, err);
        out->method = PSG_ACCOUNTANT_GDP;
        out->delta = out->estimate = r ? 1 : psg_gdp_delta(mu, epsilon);
        return r;
    }
    double rdp[PSG_RDP_N_ORDERS];
    accountant_rdp(acc, rdp);
    out->delta = psg_rdp_delta(PSG_RDP_N_ORDERS, acc->order, rdp, epsilon, &out->order);
    out->estimate = out->delta;
    if (acc->kind == PSG_ACCOUNTANT_RDP)
        return 0;
    struct prv_answer tight;
    r = prv_delta(acc->prv, acc->event, acc->n_events, epsilon, &tight, err);
    return prv_over_rdp(r, &tight, &out->delta, out);
}

static int accountant_of(enum psg_accountant_kind kind, const struct psg_dp_event *event,
                         size_t n_events, struct psg_accountant **accp,
                         struct psg_error *err)
{
    _cleanup_(accountant_freep) struct psg_accountant *acc = NULL;
    int r = accountant_check_events(event, n_events, err);
    if (!r)
        r = psg_accountant_new(kind, &acc, err);
    for (size_t i = 0; !r && i < n_events; i++)
        r = psg_accountant_compose(acc, &event[i], err);
    if (r)
        return r;
    *accp = steal(&acc);
    return 0;
}

int accountant_ask(enum psg_accountant_kind kind, const struct psg_dp_event *event,
                   size_t n_events, double delta, bool with_lower,
                   struct psg_dp_epsilon *out, struct psg_error *err)
{
    _cleanup_(accountant_freep) struct psg_accountant *acc = NULL;
    int r = accountant_of(kind, event, n_events, &acc, err);
    return r ? r : accountant_epsilon(acc, delta, with_lower, out, err);
}

int psg_dp_epsilon(enum psg_accountant_kind kind, const struct psg_dp_event *event,
                   size_t n_events, double delta, struct psg_dp_epsilon *out,
                   struct psg_error *err)
{
    return accountant_ask(kind, event, n_events, delta, true, out, err);
}

int psg_dp_delta(enum psg_accountant_kind kind, const struct psg_dp_event *event,
                 size_t n_events, double epsilon, struct psg_dp_epsilon *out,
                 struct psg_error *err)
{
    _cleanup_(accountant_freep) struct psg_accountant *acc = NULL;
    int r = accountant_of(kind, event, n_events, &acc, err);
    return r ? r : psg_accountant_delta(acc, epsilon, out, err);
}
