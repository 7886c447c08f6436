#include "ref.h"

static const struct psg_backend ref_backend = {
    .name = "ref",
    .device_memory = false,
    .gemm = ref_gemm,
    .gemm_batched = ref_gemm_batched,
    .fill = ref_fill,
    .unary = ref_unary,
    .binary = ref_binary,
    .select = ref_select,
    .act = ref_act,
    .act_bwd = ref_act_bwd,
    .narrow = ref_narrow,
    .widen = ref_widen,
    .axpy = ref_axpy,
    .copy = ref_copy,
    .reduce = ref_reduce,
    .argmax = ref_argmax,
    .gather = ref_gather,
    .scatter_add = ref_scatter_add,
    .merge_ids = ref_merge_ids,
    .convert = ref_convert,
    .unfold = ref_unfold,
    .fold = ref_fold,
    .conv_scratch = ref_conv_scratch,
    .conv = ref_conv,
    .conv_bwd_data = ref_conv_bwd_data,
    .conv_bwd_weight = ref_conv_bwd_weight,
    .max_pool = ref_max_pool,
    .max_pool_bwd = ref_max_pool_bwd,
    .avg_pool = ref_avg_pool,
    .avg_pool_bwd = ref_avg_pool_bwd,
    .normalize = ref_normalize,
    .normalize_bwd = ref_normalize_bwd,
    .softmax = ref_softmax,
    .softmax_bwd = ref_softmax_bwd,
    .add_bias = ref_add_bias,
    .sum_rows = ref_sum_rows,
    .cell = ref_cell,
    .cell_bwd = ref_cell_bwd,
    .add_sqnorm = ref_add_sqnorm,
    .add_weighted = ref_add_weighted,
};

const struct psg_backend *psg_backend_ref(void)
{
    return &ref_backend;
}
