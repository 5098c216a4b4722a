/*
 * engine/cpu/limits_vec.h - what this CPU can do at best (private to engine/cpu/)
 *
 * Not used by the engine: `muster bench` measures them beside it, in the same run.
 */
#include "engine/cpu/table.h"
#include "engine/cpu/vec.h"

#define PEAK_CHAINS  12u /* more than latency times fma a cycle of any CPU */
#define READ_STREAMS 4u
#define READ_VECS    (64u / sizeof(float) / VEC_LANES) /* of a cache line */
#define READ_AHEAD   1024u                             /* bytes */

static float fma_peak(size_t n)
{
    VEC acc[PEAK_CHAINS], half = vec_all(0.5f), one = vec_all(1.0f);
    float lane[VEC_LANES];

    for (size_t j = 0; j < PEAK_CHAINS; j++)
        acc[j] = vec_zero();
    for (size_t i = 0; i < n; i += PEAK_CHAINS * VEC_LANES)
        for (size_t j = 0; j < PEAK_CHAINS; j++)
            acc[j] = vec_fma(acc[j], half, one);
    for (size_t j = 1; j < PEAK_CHAINS; j++)
        acc[0] = vec_fma(acc[j], one, acc[0]);
    vec_store(lane, acc[0]);
    return lane[0];
}

static float read_floats(const float *x, size_t n)
{
    const size_t line = 64 / sizeof(float), stream = n / READ_STREAMS / line * line;
    VEC acc[READ_STREAMS][READ_VECS];
    float lane[VEC_LANES];

    for (size_t s = 0; s < READ_STREAMS; s++)
        for (size_t v = 0; v < READ_VECS; v++)
            acc[s][v] = vec_zero();
    for (size_t i = 0; i < stream; i += line)
        for (size_t s = 0; s < READ_STREAMS; s++) {
            const float *at = x + s * stream + i;
            PREFETCH((const char *)at + READ_AHEAD);
            for (size_t v = 0; v < READ_VECS; v++)
                acc[s][v] = vec_max(vec_load(at + v * VEC_LANES), acc[s][v]);
        }
    for (size_t s = 0; s < READ_STREAMS; s++)
        for (size_t v = 0; v < READ_VECS; v++)
            acc[0][0] = vec_max(acc[s][v], acc[0][0]);
    vec_store(lane, acc[0][0]);
    return lane[0];
}
