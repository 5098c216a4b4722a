/* See cublasLt.h. */
#include "cublasLt.h"

struct emulated_lt_desc {
    cublasOperation_t a, b;
};

struct emulated_lt_layout {
    cudaDataType type;
    uint64_t rows, cols;
    int64_t ld;
};

namespace
{

float number(const void *x, const emulated_lt_layout &l, uint64_t row, uint64_t col)
{
    size_t at = (size_t)row + (size_t)col * (size_t)l.ld;
    if (l.type == CUDA_R_32F)
        return static_cast<const float *>(x)[at];
    return __uint_as_float((uint32_t) static_cast<const uint16_t *>(x)[at] << 16);
}

void file(void *x, const emulated_lt_layout &l, uint64_t row, uint64_t col, float v)
{
    size_t at = (size_t)row + (size_t)col * (size_t)l.ld;
    uint32_t u = __float_as_uint(v);
    if (l.type == CUDA_R_32F)
        static_cast<float *>(x)[at] = v;
    else
        static_cast<uint16_t *>(x)[at] = (uint16_t)((u + 0x7fffu + (u >> 16 & 1u)) >> 16);
}

/* What a product must agree on. */
bool fits(const emulated_lt_desc &d, const emulated_lt_layout &a, const emulated_lt_layout &b,
          const emulated_lt_layout &y)
{
    uint64_t a_rows = d.a == CUBLAS_OP_N ? a.rows : a.cols,
             a_cols = d.a == CUBLAS_OP_N ? a.cols : a.rows,
             b_rows = d.b == CUBLAS_OP_N ? b.rows : b.cols,
             b_cols = d.b == CUBLAS_OP_N ? b.cols : b.rows;
    return a_rows == y.rows && b_cols == y.cols && a_cols == b_rows &&
           a.ld >= (int64_t)a.rows && b.ld >= (int64_t)b.rows && y.ld >= (int64_t)y.rows;
}

} // namespace

extern "C" {

cublasStatus_t cublasLtCreate(cublasLtHandle_t *h)
{
    *h = nullptr;
    return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtDestroy(cublasLtHandle_t h)
{
    (void)h;
    return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtMatmulDescCreate(cublasLtMatmulDesc_t *d, cublasComputeType_t compute,
                                        cudaDataType_t scale)
{
    (void)compute;
    (void)scale;
    *d = new emulated_lt_desc{CUBLAS_OP_N, CUBLAS_OP_N};
    return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtMatmulDescSetAttribute(cublasLtMatmulDesc_t d,
                                              cublasLtMatmulDescAttributes_t a, const void *x,
                                              size_t bytes)
{
    (void)bytes;
    memcpy(a == CUBLASLT_MATMUL_DESC_TRANSA ? &d->a : &d->b, x, sizeof(d->a));
    return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtMatmulDescDestroy(cublasLtMatmulDesc_t d)
{
    delete d;
    return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtMatrixLayoutCreate(cublasLtMatrixLayout_t *l, cudaDataType type,
                                          uint64_t rows, uint64_t cols, int64_t ld)
{
    *l = new emulated_lt_layout{type, rows, cols, ld};
    return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtMatrixLayoutDestroy(cublasLtMatrixLayout_t l)
{
    delete l;
    return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtMatmulPreferenceCreate(cublasLtMatmulPreference_t *p)
{
    *p = nullptr;
    return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtMatmulPreferenceSetAttribute(cublasLtMatmulPreference_t p,
                                                    cublasLtMatmulPreferenceAttributes_t a,
                                                    const void *x, size_t bytes)
{
    (void)p;
    (void)a;
    (void)x;
    (void)bytes;
    return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtMatmulPreferenceDestroy(cublasLtMatmulPreference_t p)
{
    (void)p;
    return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtMatmulAlgoGetHeuristic(
    cublasLtHandle_t h, cublasLtMatmulDesc_t d, cublasLtMatrixLayout_t a,
    cublasLtMatrixLayout_t b, cublasLtMatrixLayout_t c, cublasLtMatrixLayout_t y,
    cublasLtMatmulPreference_t p, int n, cublasLtMatmulHeuristicResult_t *found, int *n_found)
{
    (void)h;
    (void)c;
    (void)p;
    *n_found = 0;
    if (!fits(*d, *a, *b, *y) || n < 2)
        return CUBLAS_STATUS_INVALID_VALUE;
    memset(found, 0, 2 * sizeof(*found));
    found[1].algo.data[0] = 1;
    *n_found = 2;
    return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtMatmul(cublasLtHandle_t h, cublasLtMatmulDesc_t d, const void *alpha,
                              const void *A, cublasLtMatrixLayout_t a, const void *B,
                              cublasLtMatrixLayout_t b, const void *beta, const void *C,
                              cublasLtMatrixLayout_t c, void *Y, cublasLtMatrixLayout_t y,
                              const cublasLtMatmulAlgo_t *algo, void *workspace, size_t bytes,
                              cudaStream_t s)
{
    const emulated_lt_desc dd = *d;
    const emulated_lt_layout la = *a, lb = *b, lc = *c, ly = *y;
    const float scale = *static_cast<const float *>(alpha),
                keep = *static_cast<const float *>(beta);
    (void)h;
    (void)algo;
    (void)workspace;
    (void)bytes;
    (void)s;
    if (!fits(dd, la, lb, ly))
        return CUBLAS_STATUS_INVALID_VALUE;
    (void)emulator_enqueue([=] {
        uint64_t depth = dd.a == CUBLAS_OP_N ? la.cols : la.rows;
        for (uint64_t col = 0; col < ly.cols; col++)
            for (uint64_t row = 0; row < ly.rows; row++) {
                float sum = 0.0f;
                for (uint64_t k = 0; k < depth; k++)
                    sum +=
                        (dd.a == CUBLAS_OP_N ? number(A, la, row, k) : number(A, la, k, row)) *
                        (dd.b == CUBLAS_OP_N ? number(B, lb, k, col) : number(B, lb, col, k));
                sum *= scale;
                if (keep != 0.0f)
                    sum += keep * number(C, lc, row, col);
                file(Y, ly, row, col, sum);
            }
        return cudaSuccess;
    });
    return CUBLAS_STATUS_SUCCESS;
}

} /* extern "C" */
