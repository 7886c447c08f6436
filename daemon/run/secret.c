#include <errno.h>
#include <fcntl.h>
#include <sodium.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "run/run.h"

static const char secret_name[] = "secret";

static int read_secret(const struct env *env, int dir, struct psg_key *key)
{
    char *data = NULL;
    size_t n = 0;
    int r = env_read_file(env, dir, secret_name, RUN_SECRET_SIZE, &data, &n);
    if (r < 0)
        return r;
    if (n == RUN_SECRET_SIZE)
        memcpy(key->bytes, data, n);
    sodium_memzero(data, n);
    free(data);
    return n == RUN_SECRET_SIZE ? 0 : -EINVAL;
}

int run_secret(const struct env *env, int dir, bool create, struct psg_key *key)
{
    int r = read_secret(env, dir, key);
    if (r != -ENOENT || !create)
        return r;
    r = env->random(env, key->bytes, sizeof key->bytes);
    if (r == 0)
        r = env_write_file(env, dir, secret_name, key->bytes, sizeof key->bytes, 0600);
    return r;
}

static int overwrite_secret(const struct env *env, int dir)
{
    static const char zeros[RUN_SECRET_SIZE];
    int fd = env->open(env, dir, secret_name, O_WRONLY | O_NOFOLLOW, 0);
    if (fd < 0)
        return fd == -ENOENT ? 0 : fd;
    ssize_t put = env->write(env, fd, zeros, sizeof zeros);
    int r = put < 0 ? (int)put : env->fsync(env, fd);
    close(fd);
    return r;
}

int run_wipe(const struct env *env, int dir)
{
    static const char *const names[] = { "secret",       "secret.tmp",       "checkpoint-0",
                                         "checkpoint-1", "checkpoint-0.tmp", "checkpoint-1.tmp" };
    int r = overwrite_secret(env, dir);
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        int u = env->unlink(env, dir, names[i]);
        if (u < 0 && u != -ENOENT && r == 0)
            r = u;
    }
    int s = env_sync_dir(env, dir);
    return r ? r : s;
}
