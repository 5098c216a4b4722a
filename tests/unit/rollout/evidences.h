/*
 * rollout/evidences.h - evidence made by hand: a claim signed by a worker, weights signed by a
 * trainer
 */
#ifndef EVIDENCES_H
#define EVIDENCES_H

#include "rollout/evidence.h"

#include "unit/rollout/small_world.h"

struct evidence_made {
    struct public_key worker, trainer;
    struct digest run;
    struct buf submission, manifest, weights; /* owned; `v` lends */
    struct evidence v;
};

/* The claim as it stands, against the world's weights. */
void evidence_made_init(struct evidence_made *m, const struct small_world *s,
                        const struct claim *c);
void evidence_made_clear(struct evidence_made *m);

#endif
