/* The table. */
#include "backend/cuda/cuda.h"

static const struct psg_backend kernels = {
    .name = "cuda",
    .device_memory = false,
    .gemm = cuda_gemm,
    .gemm_batched = cuda_gemm_batched,
    .fill = cuda_fill,
    .unary = cuda_unary,
    .binary = cuda_binary,
    .select = cuda_select,
    .act = cuda_act,
    .act_bwd = cuda_act_bwd,
    .narrow = cuda_narrow,
    .widen = cuda_widen,
    .axpy = cuda_axpy,
    .copy = cuda_copy,
    .reduce = cuda_reduce,
    .argmax = cuda_argmax,
    .gather = cuda_gather,
    .scatter_add = cuda_scatter_add,
    .merge_ids = cuda_merge_ids,
    .convert = cuda_convert,
    .unfold = cuda_unfold,
    .fold = cuda_fold,
    .conv_scratch = cuda_conv_scratch,
    .conv = cuda_conv,
    .conv_bwd_data = cuda_conv_bwd_data,
    .conv_bwd_weight = cuda_conv_bwd_weight,
    .max_pool = cuda_max_pool,
    .max_pool_bwd = cuda_max_pool_bwd,
    .avg_pool = cuda_avg_pool,
    .avg_pool_bwd = cuda_avg_pool_bwd,
    .normalize = cuda_normalize,
    .normalize_bwd = cuda_normalize_bwd,
    .softmax = cuda_softmax,
    .softmax_bwd = cuda_softmax_bwd,
    .add_bias = cuda_add_bias,
    .sum_rows = cuda_sum_rows,
    .cell = cuda_cell,
    .cell_bwd = cuda_cell_bwd,
    .add_sqnorm = cuda_add_sqnorm,
    .add_weighted = cuda_add_weighted,
};

const struct psg_backend *cuda_backend(void)
{
    return &kernels;
}
