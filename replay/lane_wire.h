/*
 * replay/lane_wire.h - what the leading process and those that share its lanes say to each other
 *
 * On the socket of base/helper.h, both ends being the same program on the same machine:
 *
 *   leader  frame SETUP; then for each step frame WORK, f32 weights (all of them, in name order)
 *   worker  frame ANSWER to the setup; for each step frame ANSWER and, if that is OK, f32 gradient
 *
 * A frame is u64 length, bytes; numbers are little-endian, floats behind a frame as they lie in memory.
 *
 * Threads: any.
 */
#ifndef REPLAY_LANE_WIRE_H
#define REPLAY_LANE_WIRE_H

#include <stdbool.h>
#include <stdint.h>

#include "base/bytes.h"
#include "base/status.h"
#include "engine/config.h"
#include "learn/lanes.h"

#define LANE_FRAME_MAX    ((size_t)1 << 32) /* bytes */
#define LANE_KERNEL_BYTES 32

/* How a worker runs. */
struct lane_setup {
    struct model_config config;
    char numerics[LANE_KERNEL_BYTES], kernels[LANE_KERNEL_BYTES];
    char device
        [LANE_KERNEL_BYTES]; /* as device_open takes it; not "cpu": `kernels` says nothing */
    uint32_t threads;
    uint32_t lanes; /* of each worker */
    uint64_t max_rows;
    bool recompute;
};

void lane_setup_encode(struct buf *out, const struct lane_setup *s);
/* ERR_MALFORMED; the errors of model_config_decode. */
MUST_USE enum status lane_setup_decode(struct lane_setup *s, struct bytes in, struct err *e);

/* A step's work, and which lanes of it. */
void lane_work_encode(struct buf *out, const struct learn_work *w, uint32_t first, uint32_t n);

/* One that was decoded. `work` lends from the bytes and from the rest. */
struct lane_work {
    struct learn_work work;
    uint32_t first, n;
    struct learn_seq *seq; /* owned */
    int32_t *tokens;       /* owned */
    float *logprobs;       /* owned; NULL when imitating */
};
/* ERR_MALFORMED, ERR_NO_MEMORY; then nothing is held. */
MUST_USE enum status lane_work_decode(struct lane_work *w, struct bytes in, struct err *e);
void lane_work_clear(struct lane_work *w);

/* How a setup (n = 0) or a step went. */
struct lane_answer {
    enum status st;
    struct err why;
    uint32_t n; /* lanes */
    struct learn_tally tally[LANES_MAX];
};
void lane_answer_encode(struct buf *out, const struct lane_answer *a);
MUST_USE enum status lane_answer_decode(struct lane_answer *a, struct bytes in, struct err *e);

#endif
