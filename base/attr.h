/*
 * base/attr.h - the only place where compiler extensions are spelt
 */
#ifndef BASE_ATTR_H
#define BASE_ATTR_H

#if defined(__GNUC__)
#define MUST_USE     __attribute__((warn_unused_result))
#define PRINTF(f, a) __attribute__((format(printf, f, a)))
#define NO_RETURN    __attribute__((noreturn))
#ifdef __CUDACC__
#define ALWAYS_INLINE static __host__ __device__ __forceinline__
#else
#define ALWAYS_INLINE static inline __attribute__((always_inline))
#endif
#define NEVER_INLINE  __attribute__((noinline))
#define THREAD_LOCAL  __thread
#define LIKELY(x)     __builtin_expect(!!(x), 1)
#define UNLIKELY(x)   __builtin_expect(!!(x), 0)
#define PREFETCH(p)   __builtin_prefetch(p)
#define CTZ64(x)      __builtin_ctzll(x) /* x is not 0 */
#define POPCOUNT64(x) __builtin_popcountll(x)
#if defined(__x86_64__)
#define CPU_RELAX() __builtin_ia32_pause()
#define CPU_HAS(s)  __builtin_cpu_supports(s)
#else
#define CPU_RELAX() ((void)0)
#endif
#else
#define MUST_USE
#define PRINTF(f, a)
#define NO_RETURN     _Noreturn
#define ALWAYS_INLINE static inline
#define NEVER_INLINE
#define THREAD_LOCAL _Thread_local
#define LIKELY(x)    (x)
#define UNLIKELY(x)  (x)
#define PREFETCH(p)  ((void)(p))
#define CPU_RELAX()  ((void)0)
#endif

#endif
