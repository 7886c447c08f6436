/* Everything the daemon's core asks of the world: clocks, random bytes, files. One constant
 * table of functions; tests pass one of their own whose clock they set and whose n-th
 * operation fails or is the last before a power cut.
 *
 * File names are relative to a directory descriptor and hold no '/'. Functions return 0 (or
 * a descriptor, or a count) or a negative errno. Safe from any thread. */
#ifndef DAEMON_BASE_ENV_H
#define DAEMON_BASE_ENV_H

#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

struct env {
    uint64_t (*monotonic_ns)(const struct env *env);
    int64_t (*realtime_ms)(const struct env *env); /* since 1970, UTC */
    int (*random)(const struct env *env, void *buf, size_t n);
    int (*open)(const struct env *env, int dir, const char *name, int flags, mode_t mode);
    ssize_t (*write)(const struct env *env, int fd, const void *buf, size_t n);
    int (*fsync)(const struct env *env, int fd);
    int (*rename)(const struct env *env, int dir, const char *from, const char *to);
    int (*unlink)(const struct env *env, int dir, const char *name);
    const char *vfs; /* SQLite's file layer by name; NULL: its default */
    void *ctx;       /* the implementation's own */
};

/* The real world. */
const struct env *env_system(void);

/* Creates `name` with exactly these bytes or leaves what was there: temporary file, write,
 * fsync, rename, fsync of the directory. After a failure no temporary file is left unless
 * removing it failed too. -ENOSPC and friends from the write; every error leaves the old
 * file in place, except that of the last step, after which either file may survive a power
 * cut. */
int env_write_file(const struct env *env, int dir, const char *name, const void *data,
                   size_t n, mode_t mode);

/* Reads a whole file of at most `max` bytes into a malloc'ed buffer with a NUL after its
 * end. -EFBIG when it is larger. */
int env_read_file(const struct env *env, int dir, const char *name, size_t max,
                  char **datap, size_t *np);

/* Makes creations, renames and removals in the directory durable. */
int env_sync_dir(const struct env *env, int dir);

/* Opens a directory beneath `dir`, creating it with mode 0700 when missing; the parent is
 * synced. */
int env_open_dir(const struct env *env, int dir, const char *name);

#endif
