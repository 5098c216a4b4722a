/*
 * cli/bench_line.h - how every bench prints a figure: one JSON object a line
 *
 *   {"name": "decode_b32_110m_f32", "value": 812.0, "unit": "tokens/s", "peer": "OpenBLAS",
 *    "peer_value": 199.0, "target": 696.5, "ok": true}
 *
 * peer, peer_value, target and ok are null where there is none.
 */
#ifndef CLI_BENCH_LINE_H
#define CLI_BENCH_LINE_H

#include <stdbool.h>

struct bench_line {
    const char *name;
    double value;
    const char *unit;
    const char *peer;  /* NULL: none */
    double peer_value; /* 0: none */
    double target;     /* 0: none; `ok` tells whether value reaches it */
    bool is_ceiling;   /* the target is what value must not exceed */
};

/* To stdout, at once. */
void bench_line_print(const struct bench_line *l);

#endif
