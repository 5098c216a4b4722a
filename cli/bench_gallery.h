/*
 * cli/bench_gallery.h - every cheat of the gallery against the check, and honest work likewise
 *
 * Threads: one at a time.
 */
#ifndef CLI_BENCH_GALLERY_H
#define CLI_BENCH_GALLERY_H

#include "cli/bench_world.h"
#include "inference/cheat.h"
#include "rollout/check.h"

/* What a check made of the units of one cheat. */
struct bench_caught {
    uint64_t units;      /* made */
    uint64_t cheated;    /* of them: those that are not what honest work gives */
    uint64_t detected;   /* of those: refused */
    uint64_t otherwise;  /* refused for a reason that the gallery does not name */
    uint64_t honest_off; /* refused though they were honest */
    uint64_t tokens;     /* sampled tokens that the check had seen when it refused, together */
    uint64_t tokens_max;
    uint32_t by[REASON_COUNT];
    /* Of the cheated ones: those that stand out without a model, among as much honest work
     * (ledger/watch.h); by reason. */
    uint32_t seen, seen_by[REASON_COUNT];
};

struct bench_gallery_options {
    size_t units;      /* of each cheat */
    const char *only;  /* one cheat's name; "": all */
    struct pool *pool; /* borrowed */
    bool is_json;
};

/* Prints a line for every cheat and class. ERR_UNSUPPORTED: a class is not on this machine. */
MUST_USE enum status bench_gallery(const struct bench_world *w,
                                   const struct bench_gallery_options *o, struct err *e);

/* Honest work in one class, by mixed provers, each lot checked by verifiers of every kind, until
 * so many chunks were checked. `from`: the first unit; runs that begin far apart add up. */
MUST_USE enum status bench_honest(const struct bench_world *w, enum numerics numerics,
                                  uint64_t from, uint64_t chunks, bool is_json, struct err *e);

#endif
