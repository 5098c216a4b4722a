/*
 * cli/up_screen.h - what a person sees while a network runs
 *
 * On a terminal one calm picture that is drawn over itself; elsewhere one line per event: a new
 * version, a node that was barred, a reason to wait that lasts.
 */
#ifndef CLI_UP_SCREEN_H
#define CLI_UP_SCREEN_H

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

#define SCREEN_CURVE 4096u

struct screen {
    FILE *to;          /* borrowed: stderr */
    bool is_terminal;
    unsigned lines;    /* of the last picture */
    int64_t version;   /* last one seen */
    double curve[SCREEN_CURVE]; /* reward of version i, NaN where unknown */
    size_t n_barred;
    char why[256];     /* last reason to wait that was told */
    int64_t why_ms;    /* since when it holds */
    bool was_told;
    int64_t start_ms, tokens_ms;
    int64_t tokens;    /* of all workers, at tokens_ms */
    double tokens_s;
};

void screen_init(struct screen *s, FILE *to, int64_t now_ms);
/* `status` is what STATUS_ASK gave. `note` (may be NULL) is one more line, e.g. of a restart. */
void screen_update(struct screen *s, const json_t *status, const char *note, int64_t now_ms);
/* Leaves the last picture standing. */
void screen_end(struct screen *s);

#endif
