#include <string.h>

#include "fuzz_array.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct psg_safetensors *file;
    struct psg_error err;
    if (psg_safetensors_open_bytes(data, size, "fuzz", &file, &err))
        return 0;
    for (size_t i = 0; i < psg_safetensors_count(file); i++) {
        const struct psg_safetensors_item *item = psg_safetensors_at(file, i);
        if (psg_safetensors_find(file, item->name) != &item->array)
            abort();
        fuzz_touch(&item->array);
    }
    psg_safetensors_metadata(file, "case");
    psg_safetensors_close(file);
    return 0;
}
