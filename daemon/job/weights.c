#include "job/weights.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "psg/weights.h"
#include "run/weights.h"
#include "upload/internal.h"

static void tell(struct problem *p, const struct psg_findings *f)
{
    for (int i = 0; i < psg_findings_count(f); i++) {
        const struct psg_finding *one = psg_findings_at(f, i);
        problem_invalid(p, "/model/weights", error_item_code(one->error.status), "%s%s%s%s%s",
                        one->error.place, one->error.place[0] ? ": " : "", one->error.text,
                        one->remedy[0] ? "; " : "", one->remedy);
    }
}

int weights_compare(const struct weights_spec *weights, const struct psg_program *program,
                    const void *bytes, size_t size, psg_real *params, struct problem *p)
{
    _cleanup_(psg_findings_freep) struct psg_findings *f = psg_findings_new();
    struct psg_error err;
    if (!f)
        return error_nomem(p);
    int r = run_weights_load(weights, program, bytes, size, params, f, &err);
    if (r < 0)
        return error_from_psg(p, "/model/weights/digest", &err);
    tell(p, f);
    return psg_findings_count(f) ? ERROR_REFUSED : 0;
}

/* The blob is what its digest says since it was uploaded, so the header alone is read. */
static int map_blob(const struct uploads *uploads, const struct env *env, const char *digest,
                    void **bytesp, size_t *sizep)
{
    char name[UPLOAD_FILE_SIZE];
    struct stat st;
    blob_file(digest, name);
    int fd = env->open(env, uploads_dir(uploads), name, O_RDONLY | O_CLOEXEC, 0);
    if (fd < 0)
        return fd;
    int r = fstat(fd, &st) < 0 ? -errno : st.st_size < 1 ? -EBADMSG : 0;
    void *bytes = r ? MAP_FAILED : mmap(NULL, (size_t)st.st_size, PROT_READ, MAP_PRIVATE, fd, 0);
    if (r == 0 && bytes == MAP_FAILED)
        r = -errno;
    close(fd);
    if (r)
        return r;
    *bytesp = bytes;
    *sizep = (size_t)st.st_size;
    return 0;
}

int weights_check(const struct weights_spec *weights, const struct psg_program *program,
                  const struct uploads *uploads, const struct env *env, const char *owner,
                  struct problem *p)
{
    void *bytes;
    size_t size;
    if (!weights)
        return 0;
    if (!uploads) {
        problem_invalid(p, "/model/weights", ITEM_UNSUPPORTED, "there are no uploads here");
        return ERROR_REFUSED;
    }
    int r = uploads_require(uploads, weights->digest, owner, "/model/weights/digest", p);
    if (r)
        return r;
    r = map_blob(uploads, env, weights->digest, &bytes, &size);
    if (r == -ENOMEM)
        return error_nomem(p);
    if (r) {
        problem_invalid(p, "/model/weights/digest", ITEM_FILE, "%s", strerror(-r));
        return ERROR_REFUSED;
    }
    r = weights_compare(weights, program, bytes, size, NULL, p);
    munmap(bytes, size);
    return r;
}
