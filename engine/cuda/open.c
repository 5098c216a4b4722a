#include "engine/cuda/open.h"

#include <stdlib.h>

#include "base/alloc.h"
#include "base/check.h"
#include "engine/cuda/f32.h"
#include "engine/cuda/open_body.h"

#define SET_NUMBERS                                                                            \
    ((size_t)1 << 24) /* that pass through the scratch at once on their way in */

static size_t bytes(size_t N, size_t K, enum dtype dtype)
{
    CHECK(dtype == DTYPE_BF16);
    if (K == 0 || N > SIZE_MAX / sizeof(uint16_t) / K)
        return SIZE_MAX;
    return N * K * sizeof(uint16_t);
}

static enum dtype keeps(enum dtype dtype)
{
    (void)dtype;
    return DTYPE_BF16;
}

/* f32 numbers of the host, in pieces: the next one is not copied before the last is narrowed, for
 * both are asked of the same stream. */
static void set_from_host(struct device *d, uint16_t *to, const float *from, size_t n)
{
    for (size_t at = 0, part; at < n; at += part) {
        float *there;

        part = n - at < SET_NUMBERS ? n - at : SET_NUMBERS;
        there = device_scratch(d, part * sizeof(float));
        if (!there)
            return;
        device_put(d, there, from + at, part * sizeof(float));
        open_narrow(d, to + at, there, part);
    }
}

/* f16: widened by the host, a piece at a time. */
static void set_from_f16(struct device *d, uint16_t *to, const uint8_t *from, size_t n)
{
    const size_t room = n < SET_NUMBERS ? n : SET_NUMBERS;
    float *wide = xcalloc(room, sizeof(*wide));

    for (size_t at = 0, part; at < n; at += part) {
        part = n - at < room ? n - at : room;
        dtype_widen(wide, from + at * sizeof(uint16_t), DTYPE_F16, part);
        set_from_host(d, to + at, wide, part);
    }
    free(wide);
}

static void set(struct device *d, struct packed *p, const void *W, enum dtype dtype,
                bool is_host)
{
    const size_t n = p->N * p->K;

    if (dtype == DTYPE_BF16 && is_host)
        device_put(d, p->data, W, n * sizeof(uint16_t));
    else if (dtype == DTYPE_BF16)
        device_copy(d, p->data, W, n * sizeof(uint16_t));
    else if (dtype == DTYPE_F16) {
        CHECK(is_host); /* no array of the device is f16 */
        set_from_f16(d, p->data, W, n);
    } else if (is_host)
        set_from_host(d, p->data, W, n);
    else
        open_narrow(d, p->data, W, n);
}

/* y (M, N) f32 = add + x W', x (M, K) bf16. `add` may be y, or NULL. */
static void multiply_forward(struct device *d, float *y, const float *add, const uint16_t *x,
                             const struct packed *W, size_t M)
{
    open_multiply(d, &(struct open_product){.kind = OPEN_FORWARD,
                                            .is_f32 = true,
                                            .M = M,
                                            .N = W->N,
                                            .K = W->K,
                                            .a_stride = W->K,
                                            .b_stride = W->K,
                                            .y_stride = W->N,
                                            .a = x,
                                            .b = W->data,
                                            .y = y,
                                            .add = add});
}

static void forward(struct device *d, const struct product *p, const float *x, size_t M)
{
    const struct packed *W = p->W;
    uint16_t *narrow = device_scratch(d, M * W->K * sizeof(uint16_t));

    if (!narrow)
        return;
    open_narrow(d, narrow, x, M * W->K);
    multiply_forward(d, p->y, p->add, narrow, W, M);
    if (p->bias)
        open_bias(d, p->y, p->bias, M, W->N);
}

/* dx = dy W, or += */
static void multiply_dx(struct device *d, float *dx, const uint16_t *dy, const uint16_t *W,
                        const size_t shape[3], bool is_added)
{
    open_multiply(d, &(struct open_product){.kind = OPEN_DX,
                                            .is_f32 = true,
                                            .M = shape[0],
                                            .N = shape[2],
                                            .K = shape[1],
                                            .a_stride = shape[1],
                                            .b_stride = shape[2],
                                            .y_stride = shape[2],
                                            .a = dy,
                                            .b = W,
                                            .y = dx,
                                            .add = is_added ? dx : NULL});
}

/* Two arrays of bf16 in the scratch, each on a boundary of 256 bytes. NULL: the device failed. */
static uint16_t *room_of(struct device *d, size_t a, size_t b, uint16_t **second)
{
    uint16_t *at = device_scratch(d, ((a + 127) / 128 * 128 + b) * sizeof(uint16_t));

    *second = at ? at + (a + 127) / 128 * 128 : NULL;
    return at;
}

// NOLINTNEXTLINE(readability-function-size): as many as the member has
static void dx(struct device *d, float *dx, const float *dy, const float *W, size_t M, size_t N,
               size_t K, bool is_added)
{
    uint16_t *b, *a = room_of(d, M * N, N * K, &b);

    if (!a)
        return;
    open_narrow(d, a, dy, M * N);
    open_narrow(d, b, W, N * K);
    multiply_dx(d, dx, a, b, (size_t[3]){M, N, K}, is_added);
}

static void dx_packed(struct device *d, float *dx, const float *dy, const struct packed *W,
                      size_t M)
{
    uint16_t *a = device_scratch(d, M * W->N * sizeof(uint16_t));

    if (!a)
        return;
    open_narrow(d, a, dy, M * W->N);
    multiply_dx(d, dx, a, W->data, (size_t[3]){M, W->N, W->K}, false);
}

static void dw(struct device *d, float *dW, const float *dy, const float *x, size_t T, size_t N,
               size_t K)
{
    uint16_t *b, *a = room_of(d, T * N, T * K, &b);

    if (!a)
        return;
    open_narrow(d, a, dy, T * N);
    open_narrow(d, b, x, T * K);
    open_multiply(d, &(struct open_product){.kind = OPEN_DW,
                                            .is_f32 = true,
                                            .M = N,
                                            .N = K,
                                            .K = T,
                                            .a_stride = N,
                                            .b_stride = K,
                                            .y_stride = K,
                                            .a = a,
                                            .b = b,
                                            .y = dW,
                                            .add = dW});
}

/* dw in whatever order, unlike that of f32-1, which takes row after row. */
static void norm_backward(struct device *d, float *dx, float *dw, const float *dy,
                          const float *x, const float *w, size_t N, size_t C, float eps)
{
    uint16_t *narrow = device_scratch(d, N * C * sizeof(uint16_t));

    if (!narrow)
        return;
    open_narrow(d, narrow, dy, N * C);
    open_norm_backward(d, dx, dw, NULL, narrow, x, w, N, C, eps);
}

size_t open_padded_rows(size_t rows)
{
    static const size_t few[] = {0, 1, 2, 4, 8, 16, 24, 32, 48, 64};
    size_t step = 8;

    for (size_t i = 0; i < sizeof(few) / sizeof(few[0]); i++)
        if (rows <= few[i])
            return few[i];
    while (16 * step < rows)
        step *= 2;
    return (rows + step - 1) / step * step;
}

/* Of one layer of a page: keys and values in bf16, which take the room of half as many floats. */
static size_t page_floats(const struct attention_shape *s)
{
    return s->G * ATTENTION_PAGE * s->D;
}

/* What goes on within a layer is done by the passes, in bf16; there are no operations for it. */
const struct device_ops device_ops_open = {
    .pass_bytes = open_body_bytes,
    .pass = open_body_forward,
    .pass_attention = open_body_attention,
    .padded_rows = open_padded_rows,
    .graphs_made = open_graphs_made,
    .train_pass_bytes = open_body_train_bytes,
    .train_pass_forward = open_body_train_forward,
    .train_pass_backward = open_body_train_backward,
    .bytes = bytes,
    .keeps = keeps,
    .set = set,
    .forward = forward,
    .dx = dx,
    .dx_packed = dx_packed,
    .dw = dw,
    .bias_backward = open_bias_backward,

    .add = cuda_f32_add,
    .scale = cuda_f32_scale,
    .round_bf16 = cuda_f32_round_bf16,
    .embed = cuda_f32_embed,
    .embed_packed = cuda_f32_embed_packed,
    .embed_backward = cuda_f32_embed_backward,
    .gather = cuda_f32_gather,
    .scatter = cuda_f32_scatter,
    .rmsnorm = cuda_f32_rmsnorm,
    .rmsnorm_backward = norm_backward,

    .page_floats = page_floats,
    .logprob = open_logprob,
    .logprob_backward = open_logprob_backward,
    .sample = open_sample,
    .top = cuda_f32_top,

    .square_sum = cuda_f32_square_sum,
    .adamw = cuda_f32_adamw,
    .not_finite = cuda_f32_not_finite,

    .ways = open_products_ways,
};
