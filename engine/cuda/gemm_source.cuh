/*
 * engine/cuda/gemm_source.cuh - operands of a matrix product on their way into shared memory
 * (private to engine/cuda/)
 *
 * An operand has rows, those of a or the columns that b' has, and steps, over which is summed. In
 * memory its steps lie side by side (INNER) or its rows do (OUTER). In shared memory a piece of it
 * is floats (steps, rows) always, so that a thread reads four rows of a step at a time.
 *
 *   fetch  an OUTER operand's next piece goes there by itself, beside the arithmetic (cp.async)
 *   load   an INNER operand's next piece is taken into registers,
 *   store  and from there put into shared memory, turned, and widened if it is of bf16
 *
 * Which of these does nothing is known when it is compiled, so that a kernel calls all three.
 * Steps past the end are made of a = +0, b = -0: a fused multiply-add of these leaves every sum as it
 * is, -0 too. Rows past the end have any numbers.
 */
#ifndef ENGINE_CUDA_GEMM_SOURCE_CUH
#define ENGINE_CUDA_GEMM_SOURCE_CUH

#include "engine/cuda/launch.cuh"

namespace gemm
{

enum layout { INNER, INNER_BF16, OUTER };

template <layout L> struct number_type {
    using type = float;
};
template <> struct number_type<INNER_BF16> {
    using type = unsigned short; /* the upper half of a float */
};
template <layout L> using number_of = typename number_type<L>::type;

/* Which row's place a row of an INNER operand has at a step. The chunks of a row, which a warp's
 * threads put into shared memory together, then meet different banks, and four rows side by side stay
 * so for those who read. */
template <layout L, int ROWS, int STEPS>
__device__ __forceinline__ constexpr int swapped(int row, int step)
{
    constexpr int chunk = 16 / (int)sizeof(number_of<L>), chunks = STEPS / chunk;
    constexpr int span = ROWS < 32 ? ROWS : 32, ways = chunks < span / 4 ? chunks : span / 4;

    return L == OUTER ? row : row ^ step / chunk % ways * (span / ways);
}

/* Where a thread takes its chunks of an operand's next piece from. A line is what lies side by
 * side: steps of a row, or rows of a step. Chunks of rows past the end are taken from the last row,
 * whatever they are. */
template <layout L, int ROWS, int STEPS, int THREADS, bool WIDE> struct place {
    using number = number_of<L>;
    static constexpr bool is_inner = L != OUTER;
    static constexpr int chunk = WIDE ? 16 / (int)sizeof(number) : 1;
    static constexpr int in_line = (is_inner ? STEPS : ROWS) / chunk;
    static constexpr int lines = is_inner ? ROWS : STEPS;
    static constexpr int n = lines * in_line / THREADS;
    /* Lines in succession, where numbers are made anew anyway and can be put side by side; others
     * would have to be moved first. */
    static constexpr int together = L != INNER_BF16 ? 1 : (n < 4 ? n : 4);
    static constexpr int apart =
        THREADS / in_line * together; /* lines, from those to the next */
    static_assert(THREADS % in_line == 0 && n * THREADS == lines * in_line && n % together == 0,
                  "");

    int line, at; /* in the piece, of chunk 0 */

    __device__ __forceinline__ place()
    {
        line = (int)threadIdx.x / in_line * together;
        at = (int)threadIdx.x % in_line * chunk;
    }

    /* Chunk i's line. */
    __device__ __forceinline__ int line_of(int i) const
    {
        return line + i / together * apart + i % together;
    }
};

/* An operand whose rows of a step lie side by side goes straight to shared memory. */
template <layout L, int ROWS, int STEPS, int THREADS, bool WIDE, bool IS_B>
struct source : place<L, ROWS, STEPS, THREADS, WIDE> {
    using base = place<L, ROWS, STEPS, THREADS, WIDE>;
    const float *from;
    size_t by; /* floats from a chunk to the next one */

    __device__ __forceinline__ void init(const void *operand, size_t first, size_t rows, size_t)
    {
        const size_t row = first + this->at, last = rows - base::chunk;

        by = base::apart * rows;
        from =
            static_cast<const float *>(operand) + this->line * rows + (row < last ? row : last);
    }

    /* Fetches the next piece, of which `left` steps exist. */
    __device__ __forceinline__ void fetch(float *to, unsigned left)
    {
        if (left >= (unsigned)STEPS)
            fetch_steps<true>(to, left);
        else
            fetch_steps<false>(to, left);
    }

    template <bool ALL> __device__ __forceinline__ void fetch_steps(float *to, unsigned left)
    {
        to += this->line * ROWS + this->at;
#pragma unroll
        for (int i = 0; i < base::n; i++, from += by) {
            const int l = this->line_of(i);
            float *p = to + (l - this->line) * ROWS;

            if (!ALL && (unsigned)l >= left) {
#pragma unroll
                for (int c = 0; c < base::chunk; c++)
                    p[c] = IS_B ? -0.0f : 0.0f;
            } else {
                copy_async<WIDE ? 16 : 4>(p, from, true);
            }
        }
    }

    __device__ __forceinline__ void load(unsigned)
    {
    }
    __device__ __forceinline__ void store(float *) const
    {
    }
};

/* One whose steps of a row lie side by side goes by way of registers. */
template <layout L, int ROWS, int STEPS, int THREADS, bool WIDE, bool IS_B>
struct turning_source : place<L, ROWS, STEPS, THREADS, WIDE> {
    using base = place<L, ROWS, STEPS, THREADS, WIDE>;
    static constexpr int words = WIDE ? 4 : 1;
    static constexpr bool is_narrow = sizeof(number_of<L>) == 2;
    const number_of<L> *from[base::n];
    unsigned kept[base::n][words];

    __device__ __forceinline__ void init(const void *operand, size_t first, size_t rows,
                                         size_t steps)
    {
#pragma unroll
        for (int i = 0; i < base::n; i++) {
            const size_t row = first + this->line_of(i);
            from[i] = static_cast<const number_of<L> *>(operand) +
                      (row < rows ? row : rows - 1) * steps + this->at;
        }
    }

    __device__ __forceinline__ void fetch(float *, unsigned)
    {
    }

    /* Takes the next piece, of which `left` steps exist, into registers. */
    __device__ __forceinline__ void load(unsigned left)
    {
        if (left >= (unsigned)STEPS) {
#pragma unroll
            for (int i = 0; i < base::n; i++)
                take(kept[i], from[i]);
        } else {
#pragma unroll
            for (int i = 0; i < base::n; i++) {
#pragma unroll
                for (int c = 0; c < words; c++)
                    kept[i][c] = !IS_B ? 0 : is_narrow ? 0x80008000u : 0x80000000u;
                if ((unsigned)this->at < left)
                    take(kept[i], from[i]);
            }
        }
#pragma unroll
        for (int i = 0; i < base::n; i++)
            from[i] += STEPS;
    }

    static __device__ __forceinline__ void take(unsigned (&to)[words], const number_of<L> *p)
    {
        if constexpr (WIDE) {
            const uint4 x = *reinterpret_cast<const uint4 *>(p);
            to[0] = x.x;
            to[1] = x.y;
            to[2] = x.z;
            to[3] = x.w;
        } else if constexpr (is_narrow) {
            to[0] = *p;
        } else {
            to[0] = __float_as_uint(*p);
        }
    }

    /* Puts it into shared memory. */
    __device__ __forceinline__ void store(float *to) const
    {
        const int first = swapped<L, ROWS, STEPS>(this->line, this->at);

        to += this->at * ROWS;
#pragma unroll
        for (int i = 0; i < base::n; i += base::together) {
            const int away = this->line_of(i) - this->line;
            const int row = base::apart % 32 == 0
                                ? first + away
                                : swapped<L, ROWS, STEPS>(this->line + away, this->at);
#pragma unroll
            for (int c = 0; c < base::chunk; c++)
                put(to + c * ROWS + row, i, c);
        }
    }

    /* Number c of chunks i and following, which are of rows in succession. */
    __device__ __forceinline__ void put(float *to, int i, int c) const
    {
        if constexpr (base::together == 4)
            *reinterpret_cast<float4 *>(to) =
                make_float4(number(i, c), number(i + 1, c), number(i + 2, c), number(i + 3, c));
        else if constexpr (base::together == 2)
            *reinterpret_cast<float2 *>(to) = make_float2(number(i, c), number(i + 1, c));
        else
            *to = number(i, c);
    }

    __device__ __forceinline__ float number(int i, int c) const
    {
        if constexpr (is_narrow)
            return __uint_as_float(c % 2 ? kept[i][c / 2] & 0xffff0000u : kept[i][c / 2] << 16);
        else
            return __uint_as_float(kept[i][c]);
    }
};

template <layout L, int ROWS, int STEPS, int THREADS, bool WIDE, bool IS_B>
struct choose_source {
    using type = turning_source<L, ROWS, STEPS, THREADS, WIDE, IS_B>;
};
template <int ROWS, int STEPS, int THREADS, bool WIDE, bool IS_B>
struct choose_source<OUTER, ROWS, STEPS, THREADS, WIDE, IS_B> {
    using type = source<OUTER, ROWS, STEPS, THREADS, WIDE, IS_B>;
};

} // namespace gemm

#endif
