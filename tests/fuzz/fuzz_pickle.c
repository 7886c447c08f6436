#include <stdlib.h>

#include "import/pickle.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct im_pool pool = { .limit = 16 << 20 };
    struct im_value v;
    struct psg_error err;
    if (pickle_read(&pool, data, size, "fuzz", &v, &err) == 0 && v.kind == IM_MARK)
        abort();
    im_pool_free(&pool);
    return 0;
}
