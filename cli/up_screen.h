/*
 * cli/up_screen.h - what a person sees while a network runs
 *
 * On a terminal one calm picture that is drawn over itself: it is cut to the window, follows when
 * that changes its size, and leaves out what does not fit, rows of nodes first (those that were
 * barred last). Elsewhere one line per event: a new version, a node that was barred, a note, a
 * reason to wait that lasts.
 *
 * Texts of the status are not trusted: control characters in them are shown as '?'.
 */
#ifndef CLI_UP_SCREEN_H
#define CLI_UP_SCREEN_H

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

#include "base/bytes.h"

#define SCREEN_BINS       512u
#define SCREEN_TEXT_BYTES 512u

struct screen {
    FILE *to;                    /* borrowed: stderr */
    bool is_terminal;            /* else lines; also where TERM is "dumb" */
    bool is_utf8, has_colour;    /* from the environment */
    unsigned rows, cols;         /* of the window, when it was last drawn */
    unsigned lines;              /* of the last picture */
    struct buf picture;          /* while it is drawn */
    int64_t version;             /* last one seen */
    int64_t stride;              /* versions in a bin of the curve; doubles when it is full */
    double sum[SCREEN_BINS];     /* of their rewards */
    unsigned count[SCREEN_BINS]; /* how many there are */
    double reward, best;         /* newest, highest; NaN before the first */
    size_t n_barred;
    char note[SCREEN_TEXT_BYTES]; /* last one that was told */
    char why[SCREEN_TEXT_BYTES];  /* the reason to wait */
    int64_t why_ms, why_version;  /* since when it holds, and at which version */
    bool was_told;
    int64_t start_ms;
    int64_t first_ms, first_version; /* when versions were first counted; -1: not yet */
    int64_t tokens, tokens_ms;       /* of all workers, at that time */
    double tokens_s;
};

void screen_init(struct screen *s, FILE *to, int64_t now_ms);
void screen_clear(struct screen *s);
/* `status` is what STATUS_ASK gave; NULL: nothing yet. `note` (may be NULL) is what somebody
 * should know: that a process dies again and again. */
void screen_update(struct screen *s, const json_t *status, const char *note, int64_t now_ms);
/* Leaves the last picture standing. */
void screen_end(struct screen *s);

/* Mean reward of what column x of `width` shows; NaN if there is nothing. */
double screen_column(const struct screen *s, unsigned x, unsigned width);
/* "1234", "12.3k", "4.56M": at most six characters. */
void screen_number(char text[16], int64_t n);

#endif
