/* Memory of the emulated GPU: the host may touch it only while a kernel runs or a copy is made.
 * Whoever forgets a copy gets a signal at that very line. */
#include <stdint.h>
#include <string.h>
#include <sys/mman.h>

#include "backend/cuda/cuda.h"
#include "emulate.h"

static const size_t region_size = (size_t)2 << 30; /* of addresses; pages come when used */
static const size_t page = 4096;

static char *region;
static size_t used, n_live;

void emulate_memory(bool readable)
{
    if (used > 0)
        (void)mprotect(region, used, readable ? PROT_READ | PROT_WRITE : PROT_NONE);
}

/* Places are given out one after the other, and all anew when the last one came back. */
void *cuda_alloc(size_t bytes)
{
    if (!region) {
        void *memory = mmap(NULL, region_size, PROT_NONE,
                            MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
        if (memory == MAP_FAILED)
            return NULL;
        region = (char *)memory;
    }
    if (bytes > region_size - used - page)
        return NULL;
    char *at = region + used;
    used += (bytes / page + 1) * page;
    n_live++;
    emulate_memory(true);
    memset(at, 0, bytes);
    emulate_memory(false);
    return at;
}

void cuda_release(void *memory)
{
    if (!memory || --n_live > 0)
        return;
    (void)madvise(region, used, MADV_DONTNEED);
    used = 0;
}

void cuda_upload(size_t bytes, const void *host, void *memory)
{
    emulate_memory(true);
    memcpy(memory, host, bytes);
    emulate_memory(false);
}

void cuda_download(size_t bytes, const void *memory, void *host)
{
    emulate_memory(true);
    memcpy(host, memory, bytes);
    emulate_memory(false);
}

int cuda_wait(struct psg_error *err)
{
    (void)err;
    return 0;
}
