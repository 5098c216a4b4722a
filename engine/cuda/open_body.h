/*
 * engine/cuda/open_body.h - all layers at once, in class open-cuda (private to engine/cuda/)
 *
 * The members `pass_bytes`, ... of struct device_ops (engine/device_ops.h).
 */
#ifndef ENGINE_CUDA_OPEN_BODY_H
#define ENGINE_CUDA_OPEN_BODY_H

#include "engine/cuda/open.h"

size_t open_body_bytes(const struct model_config *c, size_t rows);
/* What a pass has of open_attention_decode, all layers: for benches. */
void open_body_attention(struct device *d, const struct device_pass *p);
void open_body_forward(struct device *d, const struct device_pass *p);
size_t open_body_train_bytes(const struct model_config *c, size_t rows, bool recompute);
void open_body_train_forward(struct device *d, const struct device_train_pass *p);
void open_body_train_backward(struct device *d, const struct device_train_pass *p);

#endif
