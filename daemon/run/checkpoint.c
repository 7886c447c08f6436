#include "run/checkpoint.h"

#include <errno.h>
#include <fcntl.h>
#include <sodium.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/cleanup.h"

const char *const checkpoint_names[2] = { "checkpoint-0", "checkpoint-1" };

/* header; for each tensor its header and n psg_real; lines of metrics; SHA-256 of it all */
struct header {
    char magic[16];
    uint32_t version;
    uint32_t n_tensors;
    uint64_t step;
    double adaptive_bound;
    uint64_t optimizer_step;
    double noise_second_moment;
    int64_t n_metrics, stride, offered;
};

struct tensor_header {
    char name[64];
    int64_t n;
};

enum { VERSION = 1, SHA = 32 };
static const char magic[16] = "dpsgd-checkpoin";
#define CHECKPOINT_MAX ((size_t)1 << 40)

/* ---- metrics ---- */

void metrics_init(struct metrics *metrics)
{
    metrics->n = metrics->offered = 0;
    metrics->stride = 1;
}

void metrics_add(struct metrics *metrics, const struct metric *line, bool keep)
{
    if (!keep && metrics->offered++ % metrics->stride != 0)
        return;
    if (metrics->n == METRICS_MAX) {
        int64_t to = 0;
        for (int64_t i = 0; i < metrics->n; i += 2)
            metrics->line[to++] = metrics->line[i];
        metrics->n = to;
        metrics->stride *= 2;
    }
    metrics->line[metrics->n++] = *line;
}

/* ---- save ---- */

static size_t measure(struct psg_trainer *trainer, const struct metrics *metrics, uint32_t *np)
{
    struct psg_state_tensor t;
    size_t size = sizeof(struct header);
    for (*np = 0; psg_trainer_tensor(trainer, (int)*np, &t); (*np)++)
        size += sizeof(struct tensor_header) + (size_t)t.n * sizeof *t.data;
    return size + (size_t)metrics->n * sizeof *metrics->line + SHA;
}

static char *put(char *at, const void *data, size_t n)
{
    memcpy(at, data, n);
    return at + n;
}

static void pack(char *at, struct psg_trainer *trainer, const struct metrics *metrics,
                 uint32_t n_tensors)
{
    char *start = at;
    struct psg_trainer_state state = psg_trainer_state(trainer);
    struct header h = { .version = VERSION,
                        .n_tensors = n_tensors,
                        .step = state.step,
                        .adaptive_bound = state.adaptive_bound,
                        .optimizer_step = state.optimizer.step,
                        .noise_second_moment = state.optimizer.noise_second_moment,
                        .n_metrics = metrics->n,
                        .stride = metrics->stride,
                        .offered = metrics->offered };
    memcpy(h.magic, magic, sizeof h.magic);
    at = put(at, &h, sizeof h);
    struct psg_state_tensor t;
    for (uint32_t i = 0; i < n_tensors && psg_trainer_tensor(trainer, (int)i, &t); i++) {
        struct tensor_header th = { .n = t.n };
        memcpy(th.name, t.name, sizeof th.name);
        at = put(at, &th, sizeof th);
        at = put(at, t.data, (size_t)t.n * sizeof *t.data);
    }
    at = put(at, metrics->line, (size_t)metrics->n * sizeof *metrics->line);
    crypto_hash_sha256((unsigned char *)at, (unsigned char *)start,
                       (unsigned long long)(at - start));
}

static bool header_of(const char *data, size_t size, struct header *h)
{
    if (size < sizeof *h + SHA)
        return false;
    memcpy(h, data, sizeof *h);
    return memcmp(h->magic, magic, sizeof magic) == 0 && h->version == VERSION;
}

/* the step a file claims to hold, -1 for none: the older of the two is the one to replace */
static int64_t claimed_step(const struct env *env, int dir, const char *name)
{
    struct header h = { .version = 0 };
    int fd = env->open(env, dir, name, O_RDONLY | O_NOFOLLOW, 0);
    if (fd < 0)
        return -1;
    bool ok = pread(fd, &h, sizeof h, 0) == (ssize_t)sizeof h &&
              memcmp(h.magic, magic, sizeof magic) == 0;
    close(fd);
    return ok && h.step < INT64_MAX ? (int64_t)h.step : -1;
}

int checkpoint_save(const struct env *env, int dir, struct psg_trainer *trainer,
                    const struct metrics *metrics, struct checkpoint_info *info)
{
    uint32_t n_tensors = 0;
    size_t size = measure(trainer, metrics, &n_tensors);
    _cleanup_free_ char *data = malloc(size);
    if (!data)
        return -ENOMEM;
    pack(data, trainer, metrics, n_tensors);
    int slot = claimed_step(env, dir, checkpoint_names[0]) >
               claimed_step(env, dir, checkpoint_names[1]);
    int r = env_write_file(env, dir, checkpoint_names[slot], data, size, 0600);
    if (r < 0)
        return r;
    info->step = (int64_t)psg_trainer_step_number(trainer);
    info->bytes = (int64_t)size;
    sodium_bin2hex(info->sha256, sizeof info->sha256, (unsigned char *)data + size - SHA, SHA);
    return 0;
}

/* ---- load ---- */

/* A file whose parts have been checked against this trainer. */
struct view {
    char *data;
    size_t size;
    struct header h;
    const char *tensors, *metrics;
};

static bool layout_fits(struct view *v, struct psg_trainer *trainer)
{
    const char *at = v->data + sizeof v->h, *end = v->data + v->size - SHA;
    struct psg_state_tensor t;
    v->tensors = at;
    for (uint32_t i = 0; i < v->h.n_tensors; i++) {
        struct tensor_header th;
        if ((size_t)(end - at) < sizeof th || !psg_trainer_tensor(trainer, (int)i, &t))
            return false;
        memcpy(&th, at, sizeof th);
        at += sizeof th;
        if (th.n != t.n || strncmp(th.name, t.name, sizeof th.name) != 0 ||
            (size_t)(end - at) / sizeof *t.data < (size_t)t.n)
            return false;
        at += (size_t)t.n * sizeof *t.data;
    }
    v->metrics = at;
    return !psg_trainer_tensor(trainer, (int)v->h.n_tensors, &t) && v->h.n_metrics >= 0 &&
           v->h.n_metrics <= METRICS_MAX && v->h.stride >= 1 && v->h.offered >= 0 &&
           (size_t)(end - at) == (size_t)v->h.n_metrics * sizeof(struct metric);
}

static bool is_valid(struct view *v, int64_t max_step, struct psg_trainer *trainer)
{
    unsigned char sha[SHA];
    if (!header_of(v->data, v->size, &v->h) || v->h.step > (uint64_t)max_step)
        return false;
    crypto_hash_sha256(sha, (unsigned char *)v->data, v->size - SHA);
    return memcmp(sha, v->data + v->size - SHA, SHA) == 0 && layout_fits(v, trainer);
}

static void restore(const struct view *v, struct psg_trainer *trainer, struct metrics *metrics)
{
    const char *at = v->tensors;
    struct psg_state_tensor t;
    for (int i = 0; psg_trainer_tensor(trainer, i, &t); i++) {
        at += sizeof(struct tensor_header);
        memcpy(t.data, at, (size_t)t.n * sizeof *t.data);
        at += (size_t)t.n * sizeof *t.data;
    }
    struct psg_trainer_state state = { .step = v->h.step,
                                       .adaptive_bound = v->h.adaptive_bound,
                                       .optimizer = { v->h.optimizer_step,
                                                      v->h.noise_second_moment } };
    psg_trainer_set_state(trainer, &state);
    metrics->n = v->h.n_metrics;
    metrics->stride = v->h.stride;
    metrics->offered = v->h.offered;
    memcpy(metrics->line, v->metrics, (size_t)metrics->n * sizeof *metrics->line);
}

int checkpoint_load(const struct env *env, int dir, int64_t max_step,
                    struct psg_trainer *trainer, struct metrics *metrics, bool *foundp)
{
    struct view best = { 0 };
    int r = 0;
    for (int i = 0; i < 2 && r == 0; i++) {
        struct view v = { 0 };
        r = env_read_file(env, dir, checkpoint_names[i], CHECKPOINT_MAX, &v.data, &v.size);
        if (r == 0 && is_valid(&v, max_step, trainer) &&
            (!best.data || v.h.step > best.h.step)) {
            free(best.data);
            best = v;
            v.data = NULL;
        }
        free(v.data);
        r = r == -ENOENT || r == -EFBIG || r == -EINVAL ? 0 : r;
    }
    *foundp = r == 0 && best.data != NULL;
    if (*foundp)
        restore(&best, trainer, metrics);
    free(best.data);
    return r;
}
