#include "op_draw.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { CHOICES_MAX = 32, TEXT_MAX = 400, DRAWS = 4, TRIES_PER_DRAW = 100 };

struct template
{
    const char *op, *attrs, *inputs;
};

static const struct template templates[] = {
#define DRAW(op, attrs, inputs) { op, attrs, inputs },
#include "op_draws.inc"
#undef DRAW
};

/* Number of alternatives of the choice that starts at text ("{"); *endp: past its "}". */
static int choice_count(const char *text, const char **endp)
{
    const char *end = strchr(text, '}'), *dots = strstr(text, "..");
    *endp = end + 1;
    if (dots && dots < end)
        return atoi(dots + 2) - atoi(text + 1) + 1;
    int n = 1;
    for (const char *p = text; p < end; p++)
        n += *p == ';';
    return n;
}

/* Appends alternative `which` to to. */
static void choice_write(const char *text, int which, char *to)
{
    const char *end = strchr(text, '}'), *dots = strstr(text, "..");
    if (dots && dots < end) {
        sprintf(to + strlen(to), "%d", atoi(text + 1) + which);
        return;
    }
    const char *from = text + 1;
    for (; which > 0; which--)
        from = strchr(from, ';') + 1;
    strncat(to, from, strcspn(from, ";}"));
}

/* Writes the template with its choices made; counts[] gets the numbers of alternatives. */
static int expand(const char *template, const int *pick, int at, int *counts, char *to)
{
    const char *p = template;
    to[0] = '\0';
    while (*p) {
        if (*p == '{') {
            const char *end;
            counts[at] = choice_count(p, &end);
            choice_write(p, pick[at] % counts[at], to);
            at++;
            p = end;
        } else {
            strncat(to, p++, 1);
        }
    }
    return at;
}

struct drawn {
    int pick[CHOICES_MAX], count[CHOICES_MAX], n;
    char attrs[TEXT_MAX], inputs[TEXT_MAX];
};

static void drawn_expand(const struct template *t, struct drawn *d)
{
    d->n = expand(t->attrs, d->pick, 0, d->count, d->attrs);
    d->n = expand(t->inputs, d->pick, d->n, d->count, d->inputs);
}

static bool holds(const struct psg_op *op, const struct drawn *d,
                  const struct psg_backend *be, uint64_t seed, int *statusp, char *why)
{
    return op_laws_hold(op, d->attrs, d->inputs, be, seed, statusp, why);
}

/* Takes the first alternatives wherever the case still fails with them. */
static void make_smaller(const struct psg_op *op, const struct template *t, struct drawn *d,
                         const struct psg_backend *be, uint64_t seed, char *why)
{
    for (int i = 0; i < d->n; i++) {
        for (int pick = 0; pick < d->pick[i] % d->count[i]; pick++) {
            struct drawn smaller = *d;
            char text[WHY_SIZE];
            int status;
            smaller.pick[i] = pick;
            drawn_expand(t, &smaller);
            if (holds(op, &smaller, be, seed, &status, text) || status)
                continue;
            *d = smaller;
            memcpy(why, text, WHY_SIZE);
            break;
        }
    }
}

static bool template_holds(const struct psg_op *op, const struct template *t,
                           const struct psg_backend *be, uint64_t seed, int draws,
                           char *why)
{
    int good = 0;
    for (int try = 0; try < draws * TRIES_PER_DRAW && good < draws; try++) {
        uint64_t state = seed + (uint64_t)try * 7919;
        struct drawn d = { .n = 0 };
        int status;
        for (int i = 0; i < CHOICES_MAX; i++) {
            state = state * 6364136223846793005u + 1442695040888963407u;
            d.pick[i] = (int)(state >> 40);
        }
        drawn_expand(t, &d);
        if (holds(op, &d, be, seed + (uint64_t)try, &status, why)) {
            good++;
            continue;
        }
        if (status)
            continue;
        char text[WHY_SIZE];
        make_smaller(op, t, &d, be, seed + (uint64_t)try, why);
        snprintf(text, sizeof text, "drawn (%.90s | %.60s), OPS_SEED=%llu: %.200s", d.attrs,
                 d.inputs, (unsigned long long)seed, why);
        memcpy(why, text, WHY_SIZE);
        return false;
    }
    if (good == draws)
        return true;
    snprintf(why, WHY_SIZE, "template %.100s is refused nearly always", t->attrs);
    return false;
}

bool op_drawn_laws_hold(const struct psg_op *op, const struct psg_backend *be, char *why)
{
    const char *seed = getenv("OPS_SEED"), *draws = getenv("OPS_DRAWS");
    for (size_t i = 0; i < sizeof templates / sizeof *templates; i++)
        if (strcmp(templates[i].op, op->name) == 0 &&
            !template_holds(op, &templates[i], be,
                            seed ? strtoull(seed, NULL, 10) : 20240501,
                            draws ? atoi(draws) : DRAWS, why))
            return false;
    return true;
}
