/*
 * learn/referee_inside.h - what the referee's files share (private to learn/referee*.c)
 */
#ifndef LEARN_REFEREE_INSIDE_H
#define LEARN_REFEREE_INSIDE_H

#include "learn/referee.h"

struct referee_block {
    struct referee_block *next;
    float numbers[];
};

/* A question being answered. After an error nothing is read any more, and `result` means nothing. */
struct judging {
    const struct referee *r;
    const struct referee_question *q;
    const struct graph_op *op;
    struct tile at; /* of the output */
    size_t n;       /* its numbers */
    float *result;
    struct referee_block *blocks; /* owned */
    enum status st;
    struct err *e;
};

/* Part of a matrix. */
struct region {
    size_t row, col, rows, cols;
};

/* n zeros until the question is answered; NULL after an error. */
float *referee_room(struct judging *j, size_t n);
const struct tiling *referee_shape(const struct judging *j, size_t in);
/* Copies a region of input `in` to rows `stride` apart; leaves them as they are if the input is absent. */
void referee_read(struct judging *j, size_t in, struct region want, float *to, size_t stride);
/* The same into room of its own, dense. */
float *referee_region(struct judging *j, size_t in, struct region want);

void referee_attend(struct judging *j);
void referee_attend_back(struct judging *j);

#endif
