#include <stdlib.h>

#include "import/zip.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct im_pool pool = { .limit = 64 << 20 };
    struct psg_error err;
    struct zip z;
    if (zip_open(&z, data, size, "fuzz", &pool, &err) == 0)
        for (size_t i = 0; i < z.n_entries; i++)
            if (zip_read(&z, &z.entry[i], &err) == 0 && z.entry[i].data == NULL)
                abort();
    im_pool_free(&pool);
    return 0;
}
