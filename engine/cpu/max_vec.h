/*
 * engine/cpu/max_vec.h - the highest of a row in vectors of VEC_LANES (private to engine/cpu/)
 *
 * Compilers do not turn this comparison, which passes over NaN, into vector code by themselves.
 */
#include "engine/cpu/table.h"
#include "engine/cpu/vec.h"

#include <math.h>

static float max(const float *x, size_t n)
{
    float m[PACK_LANES];
    VEC lane[PACK_LANES / VEC_LANES];
    size_t i = 0;

    for (size_t v = 0; v < PACK_LANES / VEC_LANES; v++)
        lane[v] = vec_all(-INFINITY);
    for (; i + PACK_LANES <= n; i += PACK_LANES)
        for (size_t v = 0; v < PACK_LANES / VEC_LANES; v++)
            lane[v] = vec_max(vec_load(x + i + v * VEC_LANES), lane[v]);
    for (size_t v = 0; v < PACK_LANES / VEC_LANES; v++)
        vec_store(m + v * VEC_LANES, lane[v]);
    for (size_t j = 0; i + j < n; j++)
        m[j] = x[i + j] > m[j] ? x[i + j] : m[j];
    for (size_t half = PACK_LANES / 2; half > 0; half /= 2)
        for (size_t j = 0; j < half; j++)
            m[j] = m[j + half] > m[j] ? m[j + half] : m[j];
    return m[0];
}
