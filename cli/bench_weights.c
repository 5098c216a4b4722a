#include "cli/bench_weights.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"

#define DEVIATION 0.02 /* of the weights */
#define BETA1     0.9
#define MOMENT    0.2 /* of what Adam adds, in units of the rate: 0.85 % of bf16 change at 1e-6 */
#define TWO_PI    6.283185307179586

/* Two draws of N(0, 1) by Box and Muller. */
static void normal_pair(struct rng *r, double out[2])
{
    double u = ((double)rng_u32(r) + 0.5) * 0x1p-32, v = (double)rng_u32(r) * 0x1p-32;
    double radius = sqrt(-2.0 * log(u));

    out[0] = radius * cos(TWO_PI * v);
    out[1] = radius * sin(TWO_PI * v);
}

enum status bench_weights_new(struct bench_weights *s, size_t n, struct err *e)
{
    double z[2];
    enum status st;

    *s = (struct bench_weights){.n = n / 2 * 2, .r = rng_of(1, 1)};
    st = alloc_array(&s->masters, s->n, sizeof(float), "weights", e);
    if (!st)
        st = alloc_array(&s->moment, s->n, sizeof(float), "moments", e);
    for (size_t i = 0; !st && i < s->n; i += 2) {
        normal_pair(&s->r, z);
        s->masters[i] = (float)(DEVIATION * z[0]);
        s->masters[i + 1] = (float)(DEVIATION * z[1]);
        normal_pair(&s->r, z);
        s->moment[i] = (float)(MOMENT * z[0]);
        s->moment[i + 1] = (float)(MOMENT * z[1]);
    }
    return st;
}

void bench_weights_clear(struct bench_weights *s)
{
    free(s->masters);
    free(s->moment);
    *s = (struct bench_weights){0};
}

void bench_weights_step(struct bench_weights *s, double lr)
{
    const double fresh = MOMENT * sqrt(1.0 - BETA1 * BETA1);
    double z[2];

    for (size_t i = 0; i < s->n; i += 2) {
        normal_pair(&s->r, z);
        for (size_t j = 0; j < 2; j++) {
            s->moment[i + j] = (float)(BETA1 * s->moment[i + j] + fresh * z[j]);
            s->masters[i + j] -= (float)(lr * s->moment[i + j]);
        }
    }
}

enum status bench_weights_file(struct buf *out, const struct bench_weights *s, bool is_wide,
                               struct err *e)
{
    size_t width = is_wide ? 4 : 2, bytes = s->n * width;
    char header[160];
    uint8_t *at;
    int n = snprintf(header, sizeof(header),
                     "{\"w\":{\"dtype\":\"%s\",\"shape\":[%zu],\"data_offsets\":[0,%zu]}}",
                     is_wide ? "F32" : "BF16", s->n, bytes);

    n += (int)((8 - n % 8) % 8);
    buf_put_u64(out, (uint64_t)n);
    buf_printf(out, "%-*s", n, header);
    at = buf_extend(out, bytes);
    for (size_t i = 0; at && i < s->n; i++) {
        uint32_t u;

        memcpy(&u, &s->masters[i], sizeof(u));
        u = is_wide ? u : (u + 0x7fff + (u >> 16 & 1)) >> 16;
        memcpy(at + width * i, &u, width);
    }
    return buf_status(out, e);
}
