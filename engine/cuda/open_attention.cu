/* Attention of many rows, a warp a row and head: what flash attention is to take the place of. */
#include "engine/cuda/open_mma.cuh"

#include "engine/cuda/open.h"

namespace
{

const unsigned block = 128;

/* Block (i, head, run): four rows of a run. */
__global__ void __launch_bounds__(block) forward_kernel(struct open_attention a)
{
    const struct device_run run = a.runs[blockIdx.z];
    const unsigned lane = threadIdx.x % 32, i = blockIdx.x * 4 + threadIdx.x / 32;
    const size_t head = blockIdx.y, g = head / (a.H / a.G), D = a.D;
    float m = -INFINITY, l = 0.0f, o[4] = {0.0f, 0.0f, 0.0f, 0.0f};

    if (i >= run.n)
        return;
    const size_t row = run.row + i;
    const uint16_t *q = a.q + row * a.q_stride + head * D;
    for (unsigned p = 0; p <= run.first + i; p++) {
        const uint16_t *k, *v;
        float s = 0.0f;

        if (a.pages) {
            k = a.pages[run.pages + p / 64] + a.page_at + (g * 64 + p % 64) * D;
            v = k + a.G * 64 * D;
        } else {
            k = a.k + (run.row + p) * a.kv_stride + g * D;
            v = a.v + (run.row + p) * a.kv_stride + g * D;
        }
        for (unsigned c = lane; c < D; c += 32)
            s += bf16_to_f32(q[c]) * bf16_to_f32(k[c]);
        for (int by = 16; by > 0; by /= 2)
            s += __shfl_xor_sync(0xffffffffu, s, by);
        s *= a.scale;
        const float top = fmaxf(m, s), shrink = expf(m - top), x = expf(s - top);
        m = top;
        l = l * shrink + x;
        for (unsigned c = 0; c < D / 32; c++)
            o[c] = o[c] * shrink + x * bf16_to_f32(v[c * 32 + lane]);
    }
    for (unsigned c = 0; c < D / 32; c++)
        a.out[row * a.out_stride + head * D + c * 32 + lane] = bf16_of(o[c] / l);
    if (a.lse && lane == 0)
        a.lse[row * a.H + head] = m + logf(l);
}

} // namespace

void open_attention_forward(struct device *d, const struct open_attention *a)
{
    if (a->n_runs == 0 || !device_is_well(d))
        return;
    LAUNCH(forward_kernel,
           dim3((unsigned)((a->max_n + 3) / 4), (unsigned)a->H, (unsigned)a->n_runs), block, 0,
           d->stream, *a);
    device_launched(d, "attention");
}

void open_attention_backward(struct device *d, const struct open_attention_grad *a)
{
    (void)a;
    (void)err_set(&d->error, ERR_UNSUPPORTED, "no gradient of attention yet");
}
