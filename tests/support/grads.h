/* tests/support/grads.h - train_grads, when nothing may go wrong */
#ifndef TESTS_SUPPORT_GRADS_H
#define TESTS_SUPPORT_GRADS_H

#include "engine/train.h"
#include "support/test.h"

static inline struct weights *host_grads(struct train *t)
{
    struct weights *grads;

    assert_ok(train_grads(&grads, t, NULL), NULL);
    return grads;
}

#endif
