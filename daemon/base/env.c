#include "base/env.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

static uint64_t system_monotonic_ns(const struct env *env)
{
    (void)env;
    struct timespec ts;
    clock_gettime(CLOCK_MONOTONIC, &ts);
    return (uint64_t)ts.tv_sec * 1000000000u + (uint64_t)ts.tv_nsec;
}

static int64_t system_realtime_ms(const struct env *env)
{
    (void)env;
    struct timespec ts;
    clock_gettime(CLOCK_REALTIME, &ts);
    return (int64_t)ts.tv_sec * 1000 + ts.tv_nsec / 1000000;
}

static int system_random(const struct env *env, void *buf, size_t n)
{
    (void)env;
    char *at = buf;
    while (n > 0) {
        ssize_t got = getrandom(at, n, 0);
        if (got < 0 && errno == EINTR)
            continue;
        if (got < 0)
            return -errno;
        at += got;
        n -= (size_t)got;
    }
    return 0;
}

static int system_open(const struct env *env, int dir, const char *name, int flags, mode_t mode)
{
    (void)env;
    int fd;
    do {
        fd = openat(dir, name, flags | O_CLOEXEC, mode);
    } while (fd < 0 && errno == EINTR);
    return fd < 0 ? -errno : fd;
}

static ssize_t system_write(const struct env *env, int fd, const void *buf, size_t n)
{
    (void)env;
    ssize_t put;
    do {
        put = write(fd, buf, n);
    } while (put < 0 && errno == EINTR);
    return put < 0 ? -errno : put;
}

static int system_fsync(const struct env *env, int fd)
{
    (void)env;
    return fsync(fd) < 0 ? -errno : 0;
}

static int system_rename(const struct env *env, int dir, const char *from, const char *to)
{
    (void)env;
    return renameat(dir, from, dir, to) < 0 ? -errno : 0;
}

static int system_unlink(const struct env *env, int dir, const char *name)
{
    (void)env;
    return unlinkat(dir, name, 0) < 0 ? -errno : 0;
}

static const struct env the_system = {
    .monotonic_ns = system_monotonic_ns,
    .realtime_ms = system_realtime_ms,
    .random = system_random,
    .open = system_open,
    .write = system_write,
    .fsync = system_fsync,
    .rename = system_rename,
    .unlink = system_unlink,
};

const struct env *env_system(void)
{
    return &the_system;
}

static int write_all(const struct env *env, int fd, const void *data, size_t n)
{
    const char *at = data;
    while (n > 0) {
        ssize_t put = env->write(env, fd, at, n);
        if (put < 0)
            return (int)put;
        if (put == 0)
            return -EIO;
        at += put;
        n -= (size_t)put;
    }
    return 0;
}

int env_sync_dir(const struct env *env, int dir)
{
    int fd = env->open(env, dir, ".", O_RDONLY | O_DIRECTORY, 0);
    if (fd < 0)
        return fd;
    int r = env->fsync(env, fd);
    close(fd);
    return r;
}

int env_write_file(const struct env *env, int dir, const char *name, const void *data, size_t n,
                   mode_t mode)
{
    char tmp[256];
    int len = snprintf(tmp, sizeof tmp, "%s.tmp", name);
    if (len < 0 || (size_t)len >= sizeof tmp)
        return -ENAMETOOLONG;
    int fd = env->open(env, dir, tmp, O_WRONLY | O_CREAT | O_TRUNC | O_NOFOLLOW, mode);
    if (fd < 0)
        return fd;
    int r = write_all(env, fd, data, n);
    if (r == 0)
        r = env->fsync(env, fd);
    if (close(fd) < 0 && r == 0)
        r = -errno;
    if (r == 0)
        r = env->rename(env, dir, tmp, name);
    if (r < 0) {
        env->unlink(env, dir, tmp);
        return r;
    }
    return env_sync_dir(env, dir);
}

int env_read_file(const struct env *env, int dir, const char *name, size_t max, char **datap,
                  size_t *np)
{
    int fd = env->open(env, dir, name, O_RDONLY | O_NOFOLLOW, 0);
    if (fd < 0)
        return fd;
    struct stat st;
    int r = fstat(fd, &st) < 0 ? -errno : 0;
    if (r == 0 && !S_ISREG(st.st_mode))
        r = -EINVAL;
    if (r == 0 && (uint64_t)st.st_size > max)
        r = -EFBIG;
    char *data = r == 0 ? malloc((size_t)st.st_size + 1) : NULL;
    if (r == 0 && !data)
        r = -ENOMEM;
    size_t n = 0;
    while (r == 0 && n < (size_t)st.st_size) {
        ssize_t got = read(fd, data + n, (size_t)st.st_size - n);
        if (got < 0 && errno == EINTR)
            continue;
        if (got <= 0)
            r = got < 0 ? -errno : -EIO;
        else
            n += (size_t)got;
    }
    close(fd);
    if (r < 0) {
        free(data);
        return r;
    }
    data[n] = '\0';
    *datap = data;
    *np = n;
    return 0;
}

int env_open_dir(const struct env *env, int dir, const char *name)
{
    if (mkdirat(dir, name, 0700) < 0) {
        if (errno != EEXIST)
            return -errno;
    } else {
        int r = env_sync_dir(env, dir);
        if (r < 0)
            return r;
    }
    return env->open(env, dir, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW, 0);
}
